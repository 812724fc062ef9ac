//! Who fenced this instance: a twin that lives, or nobody.
//!
//! The cluster fences a producer when another one takes its transactional id, and a member when another one takes its
//! `group.instance.id`. That is what a twin does, a second process with the same name. But a coordinator that fails over
//! while members come and go fences members that have no twin. The group distinguishes the two: an instance that is
//! fenced stops, and looks whether a member of its name stays in the group for longer than the group waits for a silent one.
//!
//! A fencing flows in; the evidence of a twin flows out, or leave to begin a new session. The invariants: a twin that has
//! joined the group is never fenced back, so that two processes do not fight; and where the cluster does not say, or fences
//! again and again, the number of new sessions is bounded, so that no fight lasts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::calls::BoundedCalls;
use super::fault::Evidence;
use super::shutdown::Shutdown;
use crate::telemetry::heartbeat::Operation;

/// Fencings within [`OFTEN_WITHIN`] after which an instance ends, whatever the group says.
const FENCINGS_MAX: usize = 16;
/// The time in which fencings count together.
const OFTEN_WITHIN: Duration = Duration::from_secs(3_600);
/// A twin that has just fenced the producer joins the group a moment later.
const FIRST_CHECK: Duration = Duration::from_secs(3);
/// Between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Checks in a row that find no member of the name: a coordinator that has just taken over may not know its group yet.
const ABSENT_CHECKS: u32 = 2;
/// What is added to twice the session timeout: answers take their time.
const MARGIN: Duration = Duration::from_secs(5);
/// Where the cluster does not say, a group that waits for longer than this for silent members is not waited for.
const CHECK_FOR_MAX: Duration = Duration::from_secs(90);
/// Where the group does not say, an instance that is fenced again within this many times of a check has a twin.
const AGAIN_WITHIN_CHECKS: u32 = 8;

/// How long a twin is searched for, and how often.
#[derive(Debug, Clone, Copy)]
struct Times {
    first_check: Duration,
    interval: Duration,
    /// A member that is still there after so long is alive.
    alive_after: Duration,
    /// When the check ends where the cluster has never reported a member of the name.
    end: Duration,
    /// When it ends where the cluster has reported one, and says no more.
    end_seen: Duration,
    /// Fenced again within this time: without word from the group, a twin is taken for certain.
    again_within: Duration,
}

impl Times {
    /// In a group that waits for `session_timeout` for a silent member. The wait of one begins anew when a coordinator
    /// takes over, hence twice.
    fn of(session_timeout: Duration) -> Self {
        let alive_after = session_timeout.saturating_mul(2).saturating_add(MARGIN);
        let times = Self {
            first_check: FIRST_CHECK,
            interval: CHECK_INTERVAL,
            alive_after,
            end: alive_after.saturating_add(MARGIN),
            end_seen: alive_after.saturating_add(MARGIN),
            // Two that fence each other each check once between two fencings of the same one.
            again_within: alive_after.saturating_mul(AGAIN_WITHIN_CHECKS),
        };
        if alive_after <= CHECK_FOR_MAX {
            return times;
        }
        // A cluster that does not say will hardly do so later. A member that is seen is waited for all the same: until then
        // nobody knows whether it is alive.
        Self {
            end: FIRST_CHECK,
            again_within: CHECK_FOR_MAX.saturating_mul(AGAIN_WITHIN_CHECKS),
            ..times
        }
    }
}

/// The fencings of one process.
#[derive(Debug)]
pub struct Fencings {
    times: Times,
    /// Of the last [`OFTEN_WITHIN`], at most [`FENCINGS_MAX`].
    seen: VecDeque<Instant>,
}

impl Fencings {
    /// None yet, in a group that waits for `session_timeout` for a silent member.
    pub fn new(session_timeout: Duration) -> Self {
        Self {
            times: Times::of(session_timeout),
            seen: VecDeque::new(),
        }
    }

    /// Finds out who has fenced this instance, whose session is closed. `is_member` asks whether the group has a member of its
    /// name; `None` where the cluster does not say. Returns the evidence of a twin, or `None` where a new session may begin
    /// or a stop was asked for.
    pub fn judge(
        &mut self,
        calls: &BoundedCalls,
        shutdown: &Shutdown,
        mut is_member: impl FnMut() -> Option<bool>,
    ) -> Option<Evidence> {
        let began = Instant::now();
        let before = self.note(began);
        let times = self.seen.len();
        if times >= FENCINGS_MAX {
            return Some(Evidence::Often { times });
        }
        warn!(
            "fenced: this instance stops, and looks whether another process of its name is in the group"
        );
        let (mut absent, mut is_seen) = (0, false);
        let mut pause = self.times.first_check;
        while !shutdown.is_requested() {
            calls.enter(Operation::Pause);
            shutdown.wait(pause);
            pause = self.times.interval;
            let answer = is_member();
            absent = match answer {
                Some(false) => absent + 1,
                Some(true) => 0,
                None => absent,
            };
            if absent >= ABSENT_CHECKS {
                info!(
                    "no other process of this instance's name is in the group, a new session begins"
                );
                return None;
            }
            is_seen |= answer == Some(true);
            let after = began.elapsed();
            if answer == Some(true) && after >= self.times.alive_after {
                return Some(Evidence::Member { after });
            }
            let end = match is_seen {
                true => self.times.end_seen,
                false => self.times.end,
            };
            if answer.is_none() && after >= end {
                let again = before.filter(|before| *before < self.times.again_within);
                return again.map(|after| Evidence::Again { after });
            }
        }
        None
    }

    /// Remembers a fencing; how long ago the one before was.
    fn note(&mut self, now: Instant) -> Option<Duration> {
        let since = |at: &Instant| now.saturating_duration_since(*at);
        self.seen.retain(|at| since(at) < OFTEN_WITHIN);
        let before = self.seen.back().map(since);
        self.seen.push_back(now);
        before
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// Milliseconds in place of seconds.
    fn fencings() -> Fencings {
        let ms = Duration::from_millis;
        Fencings {
            times: Times {
                first_check: ms(3),
                interval: ms(1),
                alive_after: ms(60),
                end: ms(80),
                end_seen: ms(80),
                again_within: Duration::from_secs(600),
            },
            seen: VecDeque::new(),
        }
    }

    fn judge(fencings: &mut Fencings, is_member: impl FnMut() -> Option<bool>) -> Option<Evidence> {
        fencings.judge(&BoundedCalls::default(), &Shutdown::new(), is_member)
    }

    #[test]
    fn a_member_that_stays_is_a_twin_and_one_that_goes_is_nobody() {
        let evidence = judge(&mut fencings(), || Some(true));
        let Some(Evidence::Member { after }) = evidence else {
            panic!("{evidence:?}");
        };
        assert!(after >= Duration::from_millis(60));
        // What is left of this instance's own membership goes in the end.
        let mut checks = 0;
        let leaves = || {
            checks += 1;
            Some(checks < 5)
        };
        assert_eq!(judge(&mut fencings(), leaves), None);
        assert_eq!(checks, 6, "one check that finds nobody is not enough");
    }

    #[test]
    fn where_the_cluster_does_not_tell_the_second_fencing_ends_the_instance() {
        let mut fencings = fencings();
        assert_eq!(judge(&mut fencings, || None), None);
        let evidence = judge(&mut fencings, || None);
        let Some(evidence @ Evidence::Again { .. }) = evidence else {
            panic!("{evidence:?}");
        };
        let text = evidence.to_string();
        assert!(text.contains("another process"), "{text}");
        assert!(text.contains("coordinator"), "{text}");
    }

    #[test]
    fn no_fight_is_endless_even_if_the_twin_is_never_in_the_group() {
        let mut fencings = fencings();
        let ended = (1..100).find_map(|times| Some((times, judge(&mut fencings, || Some(false))?)));
        let times = FENCINGS_MAX;
        assert_eq!(ended, Some((times, Evidence::Often { times })));
    }

    /// Of a group that waits for 45 s, a thousandth of the time.
    fn fencings_of_patient_group() -> Fencings {
        let times = Times::of(Duration::from_secs(45));
        assert!(times.end < times.alive_after);
        Fencings {
            times: Times {
                first_check: times.first_check / 1_000,
                interval: times.interval / 1_000,
                alive_after: times.alive_after / 1_000,
                end: times.end / 1_000,
                end_seen: times.end_seen / 1_000,
                again_within: times.again_within,
            },
            seen: VecDeque::new(),
        }
    }

    #[test]
    fn a_member_that_is_seen_is_never_fenced_back_however_long_the_group_waits_for_silent_ones() {
        let evidence = judge(&mut fencings_of_patient_group(), || Some(true));
        assert!(
            matches!(evidence, Some(Evidence::Member { .. })),
            "{evidence:?}"
        );
        // One answer that is lost does not make it nobody.
        let mut checks = 0;
        let answer = || {
            checks += 1;
            (checks != 2).then_some(true)
        };
        let evidence = judge(&mut fencings_of_patient_group(), answer);
        assert!(
            matches!(evidence, Some(Evidence::Member { .. })),
            "{evidence:?}"
        );
        let mut checks = 0;
        let leaves = || {
            checks += 1;
            Some(checks < 5)
        };
        assert_eq!(judge(&mut fencings_of_patient_group(), leaves), None);
        assert_eq!(checks, 6, "one check that finds nobody is not enough");
    }

    #[test]
    fn a_patient_group_whose_cluster_does_not_tell_is_not_waited_for() {
        let mut fencings = fencings_of_patient_group();
        let mut checks = 0;
        let mut mute = || {
            checks += 1;
            None
        };
        assert_eq!(judge(&mut fencings, &mut mute), None);
        assert_eq!(checks, 1);
        // It had reported a member, and says no more.
        let answer = || {
            checks += 1;
            (checks < 4).then_some(true)
        };
        let mut fencings = fencings_of_patient_group();
        let begin = Instant::now();
        assert_eq!(judge(&mut fencings, answer), None);
        assert!(begin.elapsed() >= fencings.times.alive_after);
    }

    #[test]
    fn a_request_to_stop_ends_the_look() {
        let shutdown = Shutdown::new();
        let mut checking = Fencings::new(Duration::from_secs(10));
        let asked = shutdown.clone();
        let stop = move || {
            asked.request();
            Some(true)
        };
        checking.times.first_check = Duration::ZERO;
        let evidence = checking.judge(&BoundedCalls::default(), &shutdown, stop);
        assert_eq!(evidence, None);
    }

    #[test]
    fn a_twin_ends_soon_and_two_that_cannot_see_each_other_end_within_the_time_for_again() {
        for seconds in [0, 1, 6, 10, 45, 60, 300] {
            let times = Times::of(Duration::from_secs(seconds));
            assert!(times.end <= CHECK_FOR_MAX + MARGIN, "{seconds}");
            // A fencing is noticed with the next heartbeat, of which a session timeout holds some.
            let fight = (times.end + Duration::from_secs(seconds)) * 2;
            assert!(times.again_within > fight, "{seconds}: {times:?}");
        }
    }
}
