//! A thread beside the stream's that sees it stand still, and sees that a drain ends in time.
//!
//! The sign of life of the stream's thread and the request to stop flow in. A line in the log, a count, `/healthz` and, at
//! last, the end of the process flow out: whoever restarts it starts from the committed offsets, so that nothing is lost.
//! It uses nothing that the stream's thread could hold locked for long: a line in the log, which waits where nobody reads
//! standard error, is written by a thread that nobody waits for.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use tracing::{error, warn};

use super::shutdown::Shutdown;
use crate::telemetry::heartbeat::{Heartbeat, Operation};
use crate::telemetry::{Metrics, Readiness};

/// How often the watchdog checks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a line in the log may take before the watchdog goes on without it.
const LINE_WITHIN: Duration = Duration::from_millis(500);
/// How long `/healthz` says that the stream stands still before the process ends: a probe or a scrape may see it.
const STALL_TOLD_FOR: Duration = Duration::from_secs(5);

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The stream's thread without going on to another operation: `delivery.stall_timeout_ms`.
    pub stall: Duration,
    /// From the request to stop to the end of the process: `delivery.drain_timeout_ms`.
    pub drain: Duration,
}

/// Why the process has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Verdict {
    /// The stream's thread stands still.
    #[error("the stream has been in \"{operation}\" for {} s without going on", silent.as_secs())]
    Stalled {
        /// What it does not come back from.
        operation: Operation,
        /// For how long.
        silent: Duration,
    },
    /// The drain takes too long.
    #[error("the drain is not over after {} ms; the stream is in \"{operation}\"", limit.as_millis())]
    DrainTimedOut {
        /// What the stream's thread is doing.
        operation: Operation,
        /// `delivery.drain_timeout_ms`.
        limit: Duration,
    },
}

/// What the watchdog watches, and where it reports.
#[derive(Clone)]
pub struct Watched {
    /// Written by the stream's thread.
    pub heartbeat: Arc<Heartbeat>,
    /// When it was asked to stop.
    pub shutdown: Shutdown,
    /// Told of a stall.
    pub readiness: Arc<Readiness>,
    /// Counts stalls.
    pub metrics: Arc<Metrics>,
}

/// Starts the watchdog; it calls `end` once, or never, and lives until the daemon is over ([`Operation::Over`]).
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    watched: Watched,
    limits: Limits,
    end: impl FnOnce(Verdict) + Send + 'static,
) -> io::Result<()> {
    let watch = move || {
        let Some(verdict) = watched.watch(limits) else {
            return;
        };
        say(move || {
            error!("{verdict}; the process ends, a restart goes on from the committed offsets");
        });
        end(verdict);
    };
    thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(watch)
        .map(drop)
}

/// Writes a line; waits for it no longer than [`LINE_WITHIN`]. The stream's thread may hang in writing one itself.
pub fn say(line: impl FnOnce() + Send + 'static) {
    let (written, done) = bounded(1);
    let write = move || {
        line();
        // Fails only when it took too long.
        let _ = written.send(());
    };
    if thread::Builder::new()
        .name("watchdog-line".to_owned())
        .spawn(write)
        .is_ok()
    {
        let _ = done.recv_timeout(LINE_WITHIN);
    }
}

/// How far a stall has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Quiet,
    /// Half of the time is over.
    Warned,
    /// The time is over since then.
    Told(Instant),
}

impl Watched {
    /// Looks until the process has to end; `None` where the daemon has ended and the process goes on without it.
    fn watch(&self, limits: Limits) -> Option<Verdict> {
        let mut stage = Stage::Quiet;
        loop {
            thread::sleep(LOOK);
            let (operation, silent) = self.heartbeat.current();
            if operation == Operation::Over {
                return None;
            }
            if let Some(asked) = self.shutdown.requested_at()
                && asked.elapsed() >= limits.drain
            {
                let limit = limits.drain;
                return Some(Verdict::DrainTimedOut { operation, limit });
            }
            stage = self.stage(stage, operation, silent, limits.stall);
            if let Stage::Told(since) = stage
                && since.elapsed() >= STALL_TOLD_FOR.min(limits.stall)
            {
                return Some(Verdict::Stalled { operation, silent });
            }
        }
    }

    fn stage(
        &self,
        stage: Stage,
        operation: Operation,
        silent: Duration,
        stall: Duration,
    ) -> Stage {
        let still = operation.is_streaming() && silent >= stall / 2;
        match stage {
            Stage::Quiet if still => {
                say(move || {
                    warn!(%operation, silent_s = silent.as_secs(), stall_timeout_s = stall.as_secs(), "the stream does not go on");
                });
                Stage::Warned
            }
            Stage::Warned if still && silent >= stall => {
                self.metrics.stream_stalled();
                self.readiness.stalled(Some(format!(
                    "the stream has been in \"{operation}\" for over {} s",
                    stall.as_secs()
                )));
                say(move || {
                    error!(%operation, silent_s = silent.as_secs(), "the stream stands still");
                });
                Stage::Told(Instant::now())
            }
            Stage::Quiet | Stage::Warned | Stage::Told(_) if !still => {
                if stage != Stage::Quiet {
                    self.readiness.stalled(None);
                    say(move || warn!(%operation, "the stream goes on again"));
                }
                Stage::Quiet
            }
            unchanged => unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const LIMITS: Limits = Limits {
        stall: Duration::from_millis(300),
        drain: Duration::from_millis(200),
    };

    fn watched() -> (Watched, mpsc::Receiver<Verdict>) {
        let watched = Watched {
            heartbeat: Arc::new(Heartbeat::default()),
            shutdown: Shutdown::new(),
            readiness: Arc::new(Readiness::default()),
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        let (sender, verdicts) = mpsc::channel();
        start(watched.clone(), LIMITS, move |verdict| {
            let _ = sender.send(verdict);
        })
        .unwrap();
        (watched, verdicts)
    }

    #[test]
    fn a_call_that_never_returns_is_named_counted_told_to_probes_and_ends_the_process() {
        let (watched, verdicts) = watched();
        watched.heartbeat.enter(Operation::SendOffsets);
        let verdict = verdicts.recv_timeout(PATIENCE).unwrap();
        assert!(verdict.to_string().contains("send offsets"), "{verdict}");
        assert!(matches!(verdict, Verdict::Stalled { .. }));
        assert!(
            watched
                .readiness
                .health()
                .unwrap_err()
                .contains("send offsets")
        );
        let text = watched.metrics.encode().unwrap();
        assert!(text.contains("maskwatch_stream_stalls_total 1"), "{text}");
    }

    #[test]
    fn a_stream_that_beats_is_left_alone_however_idle_it_is_and_so_is_a_long_training() {
        let (watched, verdicts) = watched();
        let long = LIMITS.stall * 3;
        assert!(verdicts.recv_timeout(long).is_err(), "nothing streams yet");
        let begin = Instant::now();
        while begin.elapsed() < long {
            watched.heartbeat.enter(Operation::Consume);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(verdicts.try_recv().is_err());
        assert_eq!(watched.readiness.health(), Ok(()));
    }

    #[test]
    fn a_line_that_nobody_reads_does_not_hold_the_watchdog() {
        let (let_go, held) = mpsc::channel::<()>();
        let begin = Instant::now();
        say(move || {
            let _ = held.recv();
        });
        assert!(begin.elapsed() >= LINE_WITHIN, "it was waited for");
        drop(let_go);
    }

    #[test]
    fn a_process_that_goes_on_after_its_daemon_is_left_alone() {
        let (watched, verdicts) = watched();
        watched.shutdown.request();
        watched.heartbeat.enter(Operation::Over);
        // The watchdog is gone, and with it whoever could say so.
        let gone = verdicts.recv_timeout(PATIENCE);
        assert_eq!(gone, Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_drain_ends_in_time_whatever_the_stream_does() {
        for operation in [
            Operation::Start,
            Operation::InitTransactions,
            Operation::End,
        ] {
            let (watched, verdicts) = watched();
            watched.heartbeat.enter(operation);
            watched.shutdown.request();
            let verdict = verdicts.recv_timeout(PATIENCE).unwrap();
            let limit = LIMITS.drain;
            assert_eq!(verdict, Verdict::DrainTimedOut { operation, limit });
        }
    }
}
