//! When a batch is full or has waited long enough.
//!
//! Messages go in one by one, a [`MessageBatch`] comes out by rows, by bytes or by deadline, whichever is first; earlier
//! where the session has nothing to wait for.

use std::time::{Duration, Instant};

use crate::pipeline::message::MessageBatch;

/// Bytes at which a batch is closed, whatever its rows: four batches in flight then hold some tens of megabytes at most.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Rows of a batch at most; beyond it only latency grows.
pub const ROWS_MAX_LIMIT: usize = 16_384;

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records at most, at least 1.
    pub rows_max: usize,
    /// How long the first message may wait for others, where scoring is busy.
    pub deadline: Duration,
    /// Bytes of a payload that are kept.
    pub payload_bytes_max: usize,
}

/// The batch being filled.
#[derive(Debug)]
pub struct Batcher {
    limits: BatchLimits,
    batch: MessageBatch,
    /// When the first message came; `None` while the batch is empty.
    begun: Option<Instant>,
}

impl Batcher {
    /// An empty batch under `limits`.
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            batch: MessageBatch::new(limits.payload_bytes_max),
            begun: None,
        }
    }

    /// The batch to push into. Call [`note`](Self::note) after each push.
    pub fn batch_mut(&mut self) -> &mut MessageBatch {
        &mut self.batch
    }

    /// Starts the clock if the batch has its first message now.
    pub fn note(&mut self, now: Instant) {
        if self.begun.is_none() && !self.batch.is_empty() {
            self.begun = Some(now);
        }
    }

    /// Whether no more messages may be added.
    pub fn is_full(&self) -> bool {
        self.batch.len() >= self.limits.rows_max || self.batch.bytes() >= BATCH_BYTES_MAX
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// How long the batch may still wait; `None` when it is empty, zero when it is due.
    pub fn wait_left(&self, now: Instant) -> Option<Duration> {
        let begun = self.begun?;
        if self.is_full() {
            return Some(Duration::ZERO);
        }
        Some(
            self.limits
                .deadline
                .saturating_sub(now.saturating_duration_since(begun)),
        )
    }

    /// Whether the batch should be scored now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.wait_left(now).is_some_and(|left| left.is_zero())
    }

    /// Takes what was collected and starts anew, with room for as much again.
    pub fn take(&mut self) -> MessageBatch {
        self.begun = None;
        let next = self.batch.empty_alike();
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::message::Incoming;
    use crate::pipeline::types::{Offset, Partition};

    fn push(batcher: &mut Batcher, payload: &[u8], now: Instant) {
        batcher.batch_mut().push(&Incoming {
            topic: "t",
            partition: Partition(0),
            offset: Offset(0),
            timestamp_ms: None,
            key: None,
            payload: Some(payload),
        });
        batcher.note(now);
    }

    fn batcher(rows_max: usize) -> Batcher {
        Batcher::new(BatchLimits {
            rows_max,
            deadline: Duration::from_millis(10),
            payload_bytes_max: BATCH_BYTES_MAX,
        })
    }

    #[test]
    fn a_batch_is_due_by_rows() {
        let now = Instant::now();
        let mut batcher = batcher(2);
        push(&mut batcher, b"a", now);
        assert!(!batcher.is_due(now));
        push(&mut batcher, b"b", now);
        assert!(batcher.is_due(now) && batcher.is_full());
        assert_eq!(batcher.take().len(), 2);
        assert!(batcher.is_empty() && !batcher.is_due(now));
    }

    #[test]
    fn a_batch_is_due_by_the_deadline_of_its_first_message() {
        let now = Instant::now();
        let mut batcher = batcher(100);
        assert_eq!(batcher.wait_left(now), None);
        push(&mut batcher, b"a", now);
        push(&mut batcher, b"b", now + Duration::from_millis(9));
        assert_eq!(
            batcher.wait_left(now + Duration::from_millis(4)),
            Some(Duration::from_millis(6))
        );
        assert!(batcher.is_due(now + Duration::from_millis(10)));
    }

    #[test]
    fn a_batch_is_due_by_bytes() {
        let now = Instant::now();
        let mut batcher = batcher(100);
        push(&mut batcher, &vec![0; BATCH_BYTES_MAX], now);
        assert!(batcher.is_due(now));
    }
}
