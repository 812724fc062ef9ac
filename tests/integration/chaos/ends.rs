//! Why an instance has ended by itself, from what it said last, and whether the plan explains that.
//!
//! In: an exit code and the last line of a log. Out: a [`Cause`]. Invariant: a service manager would
//! start any of them again, so that an end which nobody has planned shows in no count of records; it
//! has to show here.

use super::plan::Step;
use std::fmt;

/// The exit code of a daemon that leaves the decision to whoever restarts it.
const GAVE_UP: i32 = 1;

/// Why an instance has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Somebody else has its name.
    Fenced,
    /// The watchdog has seen the stream stand still.
    Stalled,
    /// A drain took too long, by the stream's own clock or by the watchdog's.
    LateDrain,
    /// A fault has ended a drain with work in hand.
    FailedDrain,
    /// Sessions failed one after the other.
    GaveUp,
    /// Exit code 0, though nobody asked for it.
    Drained,
    /// Anything else: a panic, a fault that no session cures.
    Other,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fenced => "fenced",
            Self::Stalled => "stalled",
            Self::LateDrain => "a drain that took too long",
            Self::FailedDrain => "a drain that failed",
            Self::GaveUp => "gave up",
            Self::Drained => "drained",
            Self::Other => "something else",
        })
    }
}

impl Cause {
    /// The cause behind an exit code and the last line.
    pub fn of(code: Option<i32>, said: &str) -> Self {
        let signs = [
            ("fenced as instance", Self::Fenced),
            ("without going on", Self::Stalled),
            ("the drain is not over", Self::LateDrain),
            ("the drain took longer", Self::LateDrain),
            ("the drain failed", Self::FailedDrain),
            ("gave up after", Self::GaveUp),
        ];
        match code {
            Some(0) => Self::Drained,
            Some(GAVE_UP) => signs
                .iter()
                .find(|(sign, _)| said.contains(sign))
                .map_or(Self::Other, |(_, cause)| *cause),
            _ => Self::Other,
        }
    }

    /// Whether an instance that nobody has asked to stop may end so during a step. A twin is not among
    /// them: whoever starts one waits for its end. No step of any plan lets a stream stand still.
    pub fn is_explained_by(self, step: &Step) -> bool {
        let has_broker_fault = match step {
            Step::Busy { broker, .. } => broker.is_some(),
            Step::Idle => true,
        };
        self == Self::GaveUp && has_broker_fault
    }

    /// Whether an instance may end so after a request to stop: a drain that a fault interrupts ends
    /// without a commit, and says so.
    pub fn may_end_a_drain(self) -> bool {
        matches!(
            self,
            Self::Drained | Self::LateDrain | Self::FailedDrain | Self::GaveUp
        )
    }
}

#[test]
fn an_end_is_told_from_another_by_the_daemons_own_words_and_only_an_outage_explains_one() {
    use super::plan::{BrokerFault, InstanceFault, Target};
    use maskwatch::delivery::fault::{DeliveryFault, Evidence, StreamError};
    use maskwatch::delivery::watchdog::Verdict;
    use maskwatch::telemetry::heartbeat::Operation;
    use std::time::Duration;

    let fault = || DeliveryFault::Interrupted {
        operation: "commit",
        detail: String::new(),
    };
    let limit = Duration::from_secs(60);
    let operation = Operation::Consume;
    let fenced = StreamError::Fenced {
        group_id: "g".to_owned(),
        instance_id: "a".to_owned(),
        evidence: Evidence::Member { after: limit },
        fault: Box::new(fault()),
    };
    let gave_up = StreamError::GaveUp {
        attempts: 10,
        last: fault(),
    };
    let silent = limit;
    let said = [
        (fenced.to_string(), Cause::Fenced),
        (gave_up.to_string(), Cause::GaveUp),
        (
            Verdict::Stalled { operation, silent }.to_string(),
            Cause::Stalled,
        ),
        (
            Verdict::DrainTimedOut { operation, limit }.to_string(),
            Cause::LateDrain,
        ),
        (
            DeliveryFault::DrainTimedOut { limit }.to_string(),
            Cause::LateDrain,
        ),
        (
            DeliveryFault::DrainFailed {
                fault: Box::new(fault()),
            }
            .to_string(),
            Cause::FailedDrain,
        ),
        ("the stream cannot go on".to_owned(), Cause::Other),
    ];
    let away = Some((BrokerFault::Stop, Target::Broker(1)));
    let step = |broker| Step::Busy {
        instance: InstanceFault::Twin,
        of: 0,
        broker,
        delay_ms: 0,
    };
    for (said, cause) in said {
        assert_eq!(Cause::of(Some(1), &said), cause, "{said}");
        assert_eq!(Cause::of(Some(70), &said), Cause::Other);
        let explained = [step(away), step(None), Step::Idle];
        let explained = explained.map(|step| cause.is_explained_by(&step));
        let outage = cause == Cause::GaveUp;
        assert_eq!(explained, [outage, false, outage], "{cause}");
    }
    assert_eq!(Cause::of(Some(0), ""), Cause::Drained);
    assert!(!Cause::Drained.is_explained_by(&Step::Idle));
    assert!(!Cause::Stalled.may_end_a_drain());
}
