//! Calls of a client that may block for longer than they promise, each with a bound that holds.
//!
//! A call runs on a thread of its own, and the stream's thread waits for it: until its limit, until a drain has to be over,
//! or until `meanwhile` gives up. A call that does not return by then is left behind with the client it belongs to. Some
//! calls of librdkafka ignore their time-out (`rd_kafka_send_offsets_to_transaction`, librdkafka issues 5456 and 5511), and
//! leaving them behind is the one way to go on. The invariant: what is left behind is bounded in number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use tracing::error;

use super::fault::DeliveryFault;
use super::shutdown::Shutdown;
use crate::telemetry::heartbeat::{Heartbeat, Operation};

/// How often a wait checks whether it may go on.
const POLL: Duration = Duration::from_millis(10);
/// How long a call may overrun its own time-out before it is left behind.
const GRACE: Duration = Duration::from_secs(1);
/// Calls left behind at a time, each with a thread and a client of some megabytes. More is no accident of one broker.
const LEFT_BEHIND_MAX: usize = 8;

/// What a request to stop does to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// Nothing is in hand: the wait ends at once.
    EndAtOnce,
    /// Something is in hand: the wait goes on until the drain has to be over.
    FinishFirst,
}

/// Runs calls for a bounded time; clones share the bound, the request to stop and the sign of life.
#[derive(Debug, Clone, Default)]
pub struct BoundedCalls {
    shutdown: Shutdown,
    drain_limit: Duration,
    heartbeat: Arc<Heartbeat>,
    left_behind: Arc<AtomicUsize>,
}

impl BoundedCalls {
    /// Calls that end with `shutdown`, at the latest when four fifths of `drain_limit` are over: the rest is for closing
    /// the clients.
    pub fn new(shutdown: Shutdown, drain_limit: Duration, heartbeat: Arc<Heartbeat>) -> Self {
        Self {
            shutdown,
            drain_limit,
            heartbeat,
            left_behind: Arc::default(),
        }
    }

    /// The stream's thread goes on to `operation`.
    pub fn enter(&self, operation: Operation) {
        self.heartbeat.enter(operation);
    }

    /// Until when a drain may finish what is in hand; `None` while nobody asked to stop.
    pub fn drain_deadline(&self) -> Option<Instant> {
        let asked = self.shutdown.requested_at()?;
        Some(asked + self.drain_limit / 5 * 4)
    }

    /// `deadline`, or the end of the drain if that is earlier.
    pub fn not_beyond_drain(&self, deadline: Instant) -> Instant {
        self.drain_deadline()
            .map_or(deadline, |drain| drain.min(deadline))
    }

    /// The result of `call`, which promises to return within `timeout`.
    ///
    /// # Errors
    /// A fault of the wait: the call has not returned, and whatever it holds must not be used again.
    pub fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        timeout: Duration,
        on_stop: OnStop,
        call: impl FnOnce() -> T + Send + 'static,
        mut meanwhile: impl FnMut() -> Result<(), DeliveryFault>,
    ) -> Result<T, DeliveryFault> {
        self.enter(operation);
        let limit = timeout + GRACE;
        let deadline = Instant::now() + limit;
        // Without a buffer: the thread knows whether its result was taken.
        let (give, taken) = bounded(0);
        self.spawn(operation, move |left_behind| {
            if give.send(call()).is_err() {
                left_behind.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        let fault = loop {
            match taken.recv_timeout(POLL) {
                Ok(result) => {
                    self.enter(operation);
                    return Ok(result);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.impossible(operation, "the client panicked".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(fault) = meanwhile() {
                break fault;
            }
            if let Some(fault) = self.stopped(operation, on_stop) {
                break fault;
            }
            if Instant::now() >= deadline {
                let detail = format!(
                    "the client has not returned within {} ms, it is left behind",
                    limit.as_millis()
                );
                break DeliveryFault::Interrupted {
                    operation: operation.as_str(),
                    detail,
                };
            }
        };
        // Counted before the thread can find out.
        self.left_behind.fetch_add(1, Ordering::AcqRel);
        drop(taken);
        Err(fault)
    }

    /// Lets `work` be done by a thread that nobody waits for; until it is done it counts as left behind.
    pub fn detach(&self, operation: Operation, work: impl FnOnce() + Send + 'static) {
        self.left_behind.fetch_add(1, Ordering::AcqRel);
        let spawned = self.spawn(operation, move |left_behind| {
            work();
            left_behind.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(fault) = spawned {
            self.left_behind.fetch_sub(1, Ordering::AcqRel);
            error!(%fault, "cannot be done in the background");
        }
    }

    fn spawn(
        &self,
        operation: Operation,
        work: impl FnOnce(&AtomicUsize) + Send + 'static,
    ) -> Result<(), DeliveryFault> {
        let left_behind = Arc::clone(&self.left_behind);
        let count = left_behind.load(Ordering::Acquire);
        if count > LEFT_BEHIND_MAX {
            let detail = format!("{count} calls of the client have not returned");
            return Err(self.impossible(operation, detail));
        }
        thread::Builder::new()
            .name("client-call".to_owned())
            .spawn(move || work(&left_behind))
            .map(drop)
            .map_err(|error| DeliveryFault::Interrupted {
                operation: operation.as_str(),
                detail: format!("no thread for the call: {error}"),
            })
    }

    fn stopped(&self, operation: Operation, on_stop: OnStop) -> Option<DeliveryFault> {
        let deadline = self.drain_deadline()?;
        match on_stop {
            OnStop::EndAtOnce => Some(DeliveryFault::Stopped {
                operation: operation.as_str(),
            }),
            OnStop::FinishFirst => {
                (Instant::now() >= deadline).then_some(DeliveryFault::DrainTimedOut {
                    limit: self.drain_limit,
                })
            }
        }
    }

    fn impossible(&self, operation: Operation, detail: String) -> DeliveryFault {
        DeliveryFault::Impossible {
            operation: operation.as_str(),
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    fn calls(drain_limit: Duration) -> (BoundedCalls, Shutdown) {
        let shutdown = Shutdown::new();
        let heartbeat = Arc::new(Heartbeat::default());
        let calls = BoundedCalls::new(shutdown.clone(), drain_limit, heartbeat);
        (calls, shutdown)
    }

    /// Runs a call that never returns by itself; the sender lets it go.
    fn hang(calls: &BoundedCalls, on_stop: OnStop) -> (DeliveryFault, mpsc::Sender<()>) {
        let (let_go, held) = mpsc::channel::<()>();
        let hangs = move || {
            let _ = held.recv();
        };
        let timeout = Duration::from_millis(30);
        let fault = calls
            .run(Operation::SendOffsets, timeout, on_stop, hangs, || Ok(()))
            .unwrap_err();
        (fault, let_go)
    }

    #[test]
    fn a_call_that_returns_gives_its_result() {
        let (calls, _) = calls(Duration::from_secs(10));
        let timeout = Duration::from_secs(30);
        let (finish, quiet) = (OnStop::FinishFirst, || Ok(()));
        let result = calls.run(Operation::Consume, timeout, finish, || 7, quiet);
        assert_eq!(result.unwrap(), 7);
        assert_eq!(calls.left_behind.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_call_that_never_returns_is_left_behind_and_a_new_session_may_cure_it() {
        let (calls, _) = calls(Duration::from_secs(10));
        let (fault, let_go) = hang(&calls, OnStop::FinishFirst);
        assert!(fault.is_curable(), "{fault}");
        assert!(fault.to_string().contains("send offsets"), "{fault}");
        assert_eq!(calls.left_behind.load(Ordering::Acquire), 1);
        drop(let_go);
        while calls.left_behind.load(Ordering::Acquire) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn calls_left_behind_are_bounded() {
        let (calls, _) = calls(Duration::from_secs(10));
        calls
            .left_behind
            .store(LEFT_BEHIND_MAX + 1, Ordering::Release);
        let (fault, _let_go) = hang(&calls, OnStop::FinishFirst);
        assert!(!fault.is_curable(), "{fault}");
    }

    #[test]
    fn a_request_to_stop_ends_a_wait_with_nothing_in_hand_at_once_and_any_other_with_the_drain() {
        let (calls, shutdown) = calls(Duration::from_millis(50));
        shutdown.request();
        let (fault, _let_go) = hang(&calls, OnStop::EndAtOnce);
        assert!(matches!(fault, DeliveryFault::Stopped { .. }), "{fault}");
        let (fault, _let_go) = hang(&calls, OnStop::FinishFirst);
        assert!(
            matches!(fault, DeliveryFault::DrainTimedOut { .. }),
            "{fault}"
        );
    }
}
