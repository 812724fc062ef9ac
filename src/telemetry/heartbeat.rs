//! Whether the stream's thread still goes on from one operation to the next. The thread writes what it begins, a watchdog
//! and the metrics read how long ago that was. A client's call that never returns shows here, and nowhere else.
//!
//! Two relaxed stores and a reading of the clock: cheap enough for every record.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the stream's thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// The daemon starts: it trains or loads the model. There is no stream yet.
    Start,
    /// Clients are made.
    MakeClients,
    /// The producer is made known to its coordinator.
    InitTransactions,
    /// The cluster is asked about the output topics.
    LookUpOutputs,
    /// The group's offsets are asked for.
    FindOffsets,
    /// The group's members are asked for.
    LookAtGroup,
    /// Messages are read.
    Consume,
    /// Scored batches are waited for.
    Score,
    /// Outputs are handed over.
    Produce,
    /// A transaction begins.
    BeginTransaction,
    /// Offsets join the transaction.
    SendOffsets,
    /// The transaction ends.
    CommitTransaction,
    /// Offsets are committed outside transactions.
    CommitOffsets,
    /// The transaction is taken back.
    AbortTransaction,
    /// Partitions go back to the group.
    GiveBack,
    /// Clients are closed.
    CloseClients,
    /// The pause between two sessions.
    Pause,
    /// The stream has ended.
    End,
    /// All of the daemon has ended, and the process goes on without it.
    Over,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    const ALL: [Self; 19] = [
        Self::Start,
        Self::MakeClients,
        Self::InitTransactions,
        Self::LookUpOutputs,
        Self::FindOffsets,
        Self::LookAtGroup,
        Self::Consume,
        Self::Score,
        Self::Produce,
        Self::BeginTransaction,
        Self::SendOffsets,
        Self::CommitTransaction,
        Self::CommitOffsets,
        Self::AbortTransaction,
        Self::GiveBack,
        Self::CloseClients,
        Self::Pause,
        Self::End,
        Self::Over,
    ];

    /// The operation in words, as messages name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::MakeClients => "make the clients",
            Self::InitTransactions => "init transactions",
            Self::LookUpOutputs => "look up the output topics",
            Self::FindOffsets => "find the group's offsets",
            Self::LookAtGroup => "look at the group's members",
            Self::Consume => "consume",
            Self::Score => "wait for the scoring threads",
            Self::Produce => "produce",
            Self::BeginTransaction => "begin a transaction",
            Self::SendOffsets => "send offsets to the transaction",
            Self::CommitTransaction => "commit the transaction",
            Self::CommitOffsets => "commit offsets",
            Self::AbortTransaction => "abort the transaction",
            Self::GiveBack => "give partitions back",
            Self::CloseClients => "close the clients",
            Self::Pause => "pause between sessions",
            Self::End => "end",
            Self::Over => "over",
        }
    }

    /// Whether there is a stream that could stall.
    pub fn is_streaming(self) -> bool {
        !matches!(self, Self::Start | Self::End | Self::Over)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The sign of life of one thread.
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    /// Milliseconds from `start` to the latest beat.
    beaten_ms: AtomicU64,
    /// The number of the operation, in the order of [`Operation::ALL`].
    operation: AtomicU8,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beaten_ms: AtomicU64::new(0),
            operation: AtomicU8::new(Operation::Start as u8),
        }
    }
}

impl Heartbeat {
    /// The thread goes on to `operation`, or begins it once more.
    pub fn enter(&self, operation: Operation) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.operation.store(operation as u8, Ordering::Relaxed);
        self.beaten_ms.store(now_ms, Ordering::Release);
    }

    /// What the thread is doing, and since when it has not gone on.
    pub fn current(&self) -> (Operation, Duration) {
        let beaten = Duration::from_millis(self.beaten_ms.load(Ordering::Acquire));
        let number = usize::from(self.operation.load(Ordering::Relaxed));
        let operation = Operation::ALL
            .get(number)
            .copied()
            .unwrap_or(Operation::End);
        (operation, self.start.elapsed().saturating_sub(beaten))
    }

    /// Seconds for which a running stream has not gone on; 0 where there is none.
    pub fn silent_seconds(&self) -> f64 {
        let (operation, silent) = self.current();
        if operation.is_streaming() {
            silent.as_secs_f64()
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_operations_agree() {
        for (number, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, number);
        }
    }

    #[test]
    fn a_beat_names_its_operation_and_starts_the_silence_anew() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.current().0, Operation::Start);
        assert_eq!(heartbeat.silent_seconds(), 0.0, "no stream, no silence");
        heartbeat.enter(Operation::SendOffsets);
        std::thread::sleep(Duration::from_millis(30));
        let (operation, silent) = heartbeat.current();
        assert_eq!(operation, Operation::SendOffsets);
        assert!(silent >= Duration::from_millis(25), "{silent:?}");
        heartbeat.enter(Operation::Consume);
        assert!(heartbeat.current().1 < silent);
    }
}
