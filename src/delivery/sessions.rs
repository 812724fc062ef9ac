//! The whole life of the stream: sessions one after the other, until it is asked to stop or cannot go on.
//!
//! A session is a consumer and a producer that belong together. Whatever goes wrong ends the session, and the next one does
//! what a restarted process would do: fence what was left, read the committed offsets, go on from there. So there is one
//! path of recovery, and `kill -9` takes the same one. Sessions without a commit between are bounded in number, and the
//! pause between them doubles. Who was fenced looks for a twin first (`fencing`). A schema registry that does not
//! answer is waited for without that bound, as brokers are.

use std::time::Duration;

use tracing::{error, info, warn};

use super::fault::{DeliveryFault, Evidence, StreamError};
use super::fencing::Fencings;
use super::options::Instance;
use super::refusal::Refusals;
use super::session::{End, Session};
use super::shared::{Carried, Shared};
use super::sink::Connector;
use crate::pipeline::scoring::ScoringLink;
use crate::pipeline::types::Positions;
use crate::telemetry::heartbeat::Operation;
use crate::telemetry::logging::chain;

/// Sessions in a row that may end without a commit. With the pauses between (some 30 s) and the time-outs of a cluster
/// that does not answer, a daemon survives minutes of outage before it leaves the decision to whoever restarts it.
pub const SESSIONS_MAX: u32 = 10;
/// The pause after the first session that failed; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Sessions in a row that have failed and got no further.
#[derive(Debug, Default)]
struct Streak(u32);

impl Streak {
    /// Counts a session that has ended, whatever its end; says how many there are in a row.
    fn ended(&mut self, has_progressed: bool, ended: &Result<End, DeliveryFault>) -> u32 {
        if has_progressed {
            self.0 = 0;
        }
        if let Err(fault) = ended {
            self.0 += 1;
            if fault.is_outage() {
                // It is waited for without end; a fault of another kind still has a session left after it.
                self.0 = self.0.min(SESSIONS_MAX - 2);
            }
        }
        self.0
    }
}

/// Runs the stream on the calling thread until it is asked to stop.
///
/// # Errors
/// [`StreamError`]: a twin has taken over, given up, or fatal.
pub fn run<C: Connector>(
    connector: &mut C,
    link: &mut ScoringLink,
    shared: &Shared,
) -> Result<(), StreamError> {
    let ended = sessions(connector, link, shared);
    shared.calls.enter(Operation::End);
    ended
}

fn sessions<C: Connector>(
    connector: &mut C,
    link: &mut ScoringLink,
    shared: &Shared,
) -> Result<(), StreamError> {
    let mut carried = Carried {
        refusals: Refusals::new(shared.options.client.batch_bytes),
        records: 0,
        skipped: Positions::default(),
    };
    let mut streak = Streak::default();
    let mut fencings = Fencings::new(shared.options.client.session_timeout);
    while !shared.shutdown.is_requested() {
        let before = carried.progress();
        let ended = one_session(connector, link, shared, &mut carried);
        let attempts = streak.ended(carried.progress() != before, &ended);
        let fault = match ended {
            Ok(End::Drained) => return Ok(()),
            Ok(End::Regroup) => continue,
            Err(DeliveryFault::Stopped { operation }) => {
                info!(operation, "drained, nothing was in hand");
                return Ok(());
            }
            Err(fault) => fault,
        };
        shared.metrics.session_failed(fault.failure());
        shared.readiness.session_failed(&chain(&fault));
        let evidence = match fault {
            DeliveryFault::Fenced { .. } => {
                let (calls, shutdown) = (&shared.calls, &shared.shutdown);
                fencings.judge(calls, shutdown, || connector.has_member())
            }
            _ => None,
        };
        if let Some(last) = last_word(fault, evidence, attempts, &shared.options.instance) {
            error!(error = %chain(&last), "stream ended");
            return Err(last);
        }
        shared.calls.enter(Operation::Pause);
        shared.shutdown.wait(pause(attempts));
    }
    Ok(())
}

fn one_session<C: Connector>(
    connector: &mut C,
    link: &mut ScoringLink,
    shared: &Shared,
    carried: &mut Carried,
) -> Result<End, DeliveryFault> {
    let options = carried.refusals.options();
    let (source, sink) = connector.open(options).inspect_err(|fault| {
        // Whoever ends has no lag to report.
        if fault.is_curable() {
            shared.report_owed(&connector.owed(), carried.records);
        }
    })?;
    carried.refusals.set_limits(connector.limits());
    info!(?options, "session opened");
    Session::new(source, sink, link, shared, carried).run()
}

/// The error that ends the stream, or `None` if there is to be another session.
fn last_word(
    fault: DeliveryFault,
    twin: Option<Evidence>,
    attempts: u32,
    instance: &Instance,
) -> Option<StreamError> {
    if let Some(evidence) = twin {
        return Some(StreamError::Fenced {
            group_id: instance.group_id.clone(),
            instance_id: instance.instance_id.clone(),
            evidence,
            fault: Box::new(fault),
        });
    }
    if !fault.is_curable() {
        return Some(StreamError::Fatal(fault));
    }
    if attempts >= SESSIONS_MAX && !fault.is_outage() {
        return Some(StreamError::GaveUp {
            attempts,
            last: fault,
        });
    }
    warn!(error = %chain(&fault), attempts, brokers = instance.bootstrap_servers, "session ended, a new one starts from the committed offsets");
    None
}

/// How long to wait after `attempts` sessions without a commit, from 1.
fn pause(attempts: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{DecodeError, WriterSchemaError};

    #[test]
    fn sessions_without_a_commit_are_bounded_and_a_twin_ends_the_stream_at_once() {
        let instance = Instance {
            bootstrap_servers: "b:1".into(),
            group_id: "g".into(),
            instance_id: "i".into(),
        };
        let interrupted = || DeliveryFault::Interrupted {
            operation: "commit",
            detail: String::new(),
        };
        let fenced = || DeliveryFault::Fenced {
            operation: "commit",
            detail: String::new(),
        };
        assert!(last_word(interrupted(), None, SESSIONS_MAX - 1, &instance).is_none());
        assert!(last_word(fenced(), None, SESSIONS_MAX - 1, &instance).is_none());
        let last = last_word(interrupted(), None, SESSIONS_MAX, &instance);
        assert!(matches!(
            last,
            Some(StreamError::GaveUp {
                attempts: SESSIONS_MAX,
                ..
            })
        ));
        let last = last_word(fenced(), None, SESSIONS_MAX, &instance);
        assert!(matches!(last, Some(StreamError::GaveUp { .. })));
        let after = Duration::from_secs(25);
        let twin = Some(Evidence::Member { after });
        assert!(matches!(
            last_word(fenced(), twin, 1, &instance),
            Some(StreamError::Fenced { .. })
        ));
        let outage = || {
            let error = WriterSchemaError::Unavailable {
                id: 7,
                origin: "http://registry".to_owned(),
                attempts: 3,
                why: "timeout".to_owned(),
            };
            DeliveryFault::Scoring(DecodeError::WriterSchema(error).into())
        };
        assert!(
            last_word(outage(), None, 1_000, &instance).is_none(),
            "it is waited for"
        );
        let gone = last_word(DeliveryFault::ScorerGone, None, 1, &instance);
        assert!(matches!(gone, Some(StreamError::Fatal(_))));
    }

    #[test]
    fn a_session_that_has_committed_ends_the_streak_whatever_its_end() {
        let mut streak = Streak::default();
        let fails = || {
            let (operation, detail) = ("commit", String::new());
            Err(DeliveryFault::Interrupted { operation, detail })
        };
        let fail =
            |streak: &mut Streak, times| (0..times).fold(0, |_, _| streak.ended(false, &fails()));
        assert_eq!(fail(&mut streak, SESSIONS_MAX - 1), SESSIONS_MAX - 1);
        assert_eq!(streak.ended(true, &Ok(End::Regroup)), 0);
        assert_eq!(fail(&mut streak, 3), 3);
        assert_eq!(
            streak.ended(false, &Ok(End::Regroup)),
            3,
            "nothing was committed"
        );
        assert_eq!(streak.ended(true, &fails()), 1);
    }

    #[test]
    fn pauses_double_and_stay_bounded() {
        let pauses: Vec<u128> = (1..=SESSIONS_MAX).map(|n| pause(n).as_millis()).collect();
        assert_eq!(
            pauses,
            [
                100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000
            ]
        );
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
