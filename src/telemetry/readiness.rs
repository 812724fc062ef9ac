//! Whether the daemon does its work: facts from the stream flow in (the model is loaded, partitions
//! are assigned, how far behind it is), one verdict with its reasons flows out to `/readyz`. A
//! daemon that is connected and does nothing is the failure that users of stream processors
//! complain of most; here it is unready as soon as its lag grows while nothing is scored, or as
//! soon as the stream has fallen silent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long the lag may grow with nothing scored. Twice the default transaction timeout (15 s), so
/// that one transaction that times out and is done again is no stall.
pub const DEFAULT_STALL_AFTER_SECONDS: u64 = 30;

/// How long no broker may be reachable: the only one of a small cluster may start again.
const AWAY_AFTER: Duration = Duration::from_secs(5);

/// Stands for a lag that the stream has not reported yet: no lag grows beyond it.
const UNKNOWN_LAG: u64 = u64::MAX;

/// What is known of the way through the input.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// When the stream last reported.
    reported: Instant,
    /// Records done in all, by that report.
    records: u64,
    /// Lag by that report, in records.
    lag: u64,
    /// The latest report at which records were done or the lag did not grow: nothing can be wrong
    /// before it.
    moved: Instant,
    /// Lag at `moved`.
    lag_when_moved: u64,
}

impl Progress {
    fn new(now: Instant, lag: u64, records: u64) -> Self {
        Self {
            reported: now,
            records,
            lag,
            moved: now,
            lag_when_moved: lag,
        }
    }

    fn report(&mut self, now: Instant, lag: u64, records: u64) {
        // A lag that stays above 0 is no stall in itself: the control records of a transactional
        // producer never arrive.
        if records != self.records || lag <= self.lag_when_moved {
            *self = Self::new(now, lag, records);
        } else {
            *self = Self {
                reported: now,
                records,
                lag,
                ..*self
            };
        }
    }

    /// What is wrong at `now`, if anything is.
    fn fault(&self, now: Instant, stall_after: Duration) -> Option<String> {
        let silent = now.saturating_duration_since(self.reported);
        let still = now.saturating_duration_since(self.moved);
        if silent >= stall_after {
            Some(format!(
                "progress: the stream has reported nothing for {} s",
                silent.as_secs()
            ))
        } else if self.lag > self.lag_when_moved && still >= stall_after {
            Some(format!(
                "progress: nothing was scored for {} s while the lag grew from {} to {} records",
                still.as_secs(),
                self.lag_when_moved,
                self.lag
            ))
        } else {
            None
        }
    }
}

/// The facts.
#[derive(Debug, Clone, Default)]
struct State {
    model_id: Option<String>,
    /// Partitions assigned; none before the group's first assignment.
    partitions: Option<usize>,
    /// None before the first assignment and the first report.
    progress: Option<Progress>,
    stopping: bool,
    /// By when the outputs in hand are to be committed; none while nothing is in hand.
    commit_due: Option<Instant>,
    /// Sessions in a row that ended without a commit, and why the last one did.
    failed: Option<(u32, String)>,
    /// What the stream's thread does not come back from.
    stalled: Option<String>,
    /// Since when no broker can be reached, and why the latest connection failed.
    away: Option<(Instant, String)>,
    /// Which model is not taken, and why.
    refused: Option<String>,
}

/// The verdict, as `/readyz` answers it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Nothing is missing.
    pub ready: bool,
    /// What is missing, for a person; each begins with `model`, `partitions`, `progress`,
    /// `brokers`, `delivery`, `stall` or `stopping`.
    pub missing: Vec<String>,
    /// What is worth knowing and no reason to be unready, for a person; each begins with `model`.
    pub notes: Vec<String>,
    /// The loaded model.
    pub model_id: Option<String>,
    /// Number of partitions assigned.
    pub partitions: usize,
    /// Records not yet taken in, by the latest report.
    pub lag_records: Option<u64>,
}

impl State {
    /// The verdict at `now`.
    fn report(&self, now: Instant, stall_after: Duration) -> Report {
        let mut missing = Vec::new();
        if self.stopping {
            missing.push("stopping: the daemon is draining".to_owned());
        }
        if self.model_id.is_none() {
            missing.push("model: none is loaded".to_owned());
        }
        match self.partitions {
            None => missing.push("partitions: the group has not assigned any yet".to_owned()),
            Some(0) => missing.push(
                "partitions: the group left none for this instance, or the topics do not exist"
                    .to_owned(),
            ),
            Some(_) => missing.extend(self.progress.and_then(|p| p.fault(now, stall_after))),
        }
        if let Some((since, why)) = &self.away {
            let away = now.saturating_duration_since(*since);
            if away >= AWAY_AFTER {
                let seconds = away.as_secs();
                missing.push(format!(
                    "brokers: none has been reachable for {seconds} s: {why}"
                ));
            }
        }
        if let Some((sessions, why)) = &self.failed {
            missing.push(format!(
                "delivery: {sessions} sessions in a row ended without a commit, the last one: {why}"
            ));
        }
        if let Some(late) = self
            .commit_due
            .map(|due| now.saturating_duration_since(due))
            && !late.is_zero()
        {
            missing.push(format!(
                "delivery: outputs are not committed {} s after their time",
                late.as_secs()
            ));
        }
        if let Some(stalled) = &self.stalled {
            missing.push(format!("stall: {stalled}"));
        }
        Report {
            ready: missing.is_empty(),
            missing,
            notes: self.refused.iter().cloned().collect(),
            model_id: self.model_id.clone(),
            partitions: self.partitions.unwrap_or(0),
            lag_records: self
                .progress
                .map(|p| p.lag)
                .filter(|&lag| lag != UNKNOWN_LAG),
        }
    }

    fn report_progress(&mut self, now: Instant, lag_records: u64, records_total: u64) {
        match &mut self.progress {
            Some(progress) => progress.report(now, lag_records, records_total),
            empty => *empty = Some(Progress::new(now, lag_records, records_total)),
        }
    }

    /// Another share of the partitions: the lag starts anew, and so does the time in which to make
    /// progress.
    fn assigned(&mut self, now: Instant, partitions: usize) {
        let records = self.progress.map_or(0, |progress| progress.records);
        self.progress = Some(Progress::new(now, UNKNOWN_LAG, records));
        self.partitions = Some(partitions);
    }
}

/// The facts, shared: the stream writes, `/readyz` reads.
#[derive(Debug)]
pub struct Readiness {
    stall_after: Duration,
    state: Mutex<State>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new(Duration::from_secs(DEFAULT_STALL_AFTER_SECONDS))
    }
}

impl Readiness {
    /// Unready, until the rest is known. `stall_after`: how long the lag may grow with nothing
    /// scored.
    pub fn new(stall_after: Duration) -> Self {
        Self {
            stall_after,
            state: Mutex::default(),
        }
    }

    /// A model is loaded.
    pub fn model_loaded(&self, model_id: &str) {
        self.state().model_id = Some(model_id.to_owned());
    }

    /// A model that is to serve is refused, in these words, and the loaded one goes on; `None` once that is over. Records are
    /// scored all the same, so that this makes nothing unready.
    pub fn model_refused(&self, why: Option<&str>) {
        self.state().refused = why.map(|why| format!("model: {why}"));
    }

    /// The group has given this instance a share: `partitions` in all from now on, 0 if all were
    /// revoked.
    pub fn partitions_assigned(&self, partitions: usize) {
        self.state().assigned(Instant::now(), partitions);
    }

    /// How far the stream is: `lag_records` over all assigned partitions, and a running total of
    /// the records that were done (scored or dead-lettered). To be called from the loop that
    /// consumes, at least every few seconds and with nothing to do too: silence is taken as a
    /// stall.
    pub fn progress(&self, lag_records: u64, records_total: u64) {
        let now = Instant::now();
        let mut state = self.state();
        let partitions = state.partitions.unwrap_or(0) as u64;
        if state.failed.is_some() && partitions > 0 && lag_records <= partitions {
            // Nothing is left to commit: a marker of a transaction a partition is no record.
            state.failed = None;
        }
        state.report_progress(now, lag_records, records_total);
    }

    /// What the group owes while no session can begin, as [`progress`](Self::progress); that nothing is owed is no sign that
    /// delivery works.
    pub fn owes(&self, lag_records: u64, records_total: u64) {
        self.state()
            .report_progress(Instant::now(), lag_records, records_total);
    }

    /// Outputs are in hand, to be committed within `due_in`.
    pub fn outputs_in_hand(&self, due_in: Duration) {
        self.state().commit_due = Some(Instant::now() + due_in);
    }

    /// What was in hand is committed: delivery works.
    pub fn committed(&self) {
        let mut state = self.state();
        state.commit_due = None;
        state.failed = None;
    }

    /// No broker can be reached, for the reason `why`; `None` once one can. Unready where it lasts, whether there is something
    /// to commit or not.
    pub fn brokers_away(&self, why: Option<String>) {
        let mut state = self.state();
        let since = state.away.take().map(|(since, _)| since);
        state.away = why.map(|why| (since.unwrap_or_else(Instant::now), why));
    }

    /// A session has ended without having committed anything, for the reason `why`; what it had in hand is done again by
    /// the next. Unready until something is committed, or the next has partitions and nothing is left to commit.
    pub fn session_failed(&self, why: &str) {
        let mut state = self.state();
        state.partitions = None;
        let before = state.failed.take().map_or(0, |(sessions, _)| sessions);
        state.commit_due = None;
        state.failed = Some((before.saturating_add(1), why.to_owned()));
    }

    /// The stream's thread stands still, in these words; `None` once it goes on again.
    pub fn stalled(&self, what: Option<String>) {
        self.state().stalled = what;
    }

    /// Whether the process works at all; what `/healthz` answers.
    ///
    /// # Errors
    /// What stands still: only a restart helps.
    pub fn health(&self) -> Result<(), String> {
        match &self.state().stalled {
            Some(what) => Err(what.clone()),
            None => Ok(()),
        }
    }

    /// The drain has begun: unready for good.
    pub fn stopping(&self) {
        self.state().stopping = true;
    }

    /// The verdict now.
    pub fn report(&self) -> Report {
        self.state().report(Instant::now(), self.stall_after)
    }

    /// The facts. Each is written whole, so those of a thread that panicked are still true.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const STALL_AFTER: Duration = Duration::from_secs(30);

    /// A daemon with a clock of our own: model loaded and partitions assigned at second 0.
    struct Daemon {
        start: Instant,
        state: State,
    }

    impl Daemon {
        fn new() -> Self {
            let start = Instant::now();
            let mut state = State {
                model_id: Some("m".to_owned()),
                ..State::default()
            };
            state.assigned(start, 4);
            Self { start, state }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn progress(&mut self, second: u64, lag: u64, records: u64) {
            let now = self.at(second);
            self.state
                .progress
                .as_mut()
                .unwrap()
                .report(now, lag, records);
        }

        fn missing(&self, second: u64) -> Vec<String> {
            let report = self.state.report(self.at(second), STALL_AFTER);
            assert_eq!(report.ready, report.missing.is_empty());
            report.missing
        }

        fn ready(&self, second: u64) -> bool {
            self.missing(second).is_empty()
        }
    }

    #[test]
    fn what_is_missing_is_said_from_the_start() {
        let report = Readiness::default().report();
        assert!(!report.ready);
        assert_eq!(report.missing.len(), 2, "{:?}", report.missing);
        assert!(report.missing[0].starts_with("model"));
        assert!(report.missing[1].starts_with("partitions"));
    }

    #[test]
    fn a_model_and_an_assignment_make_it_ready_and_stopping_ends_that() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.partitions_assigned(4);
        readiness.progress(12, 0);
        let report = readiness.report();
        assert!(report.ready, "{report:?}");
        assert_eq!((report.partitions, report.lag_records), (4, Some(12)));
        readiness.stopping();
        assert!(readiness.report().missing[0].starts_with("stopping"));
    }

    #[test]
    fn a_model_that_is_refused_is_noted_and_makes_nothing_unready() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.partitions_assigned(1);
        readiness.progress(0, 0);
        readiness.model_refused(Some("4567 is not whole"));
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.notes, ["model: 4567 is not whole"]);
        readiness.model_refused(None);
        assert!(readiness.report().notes.is_empty());
    }

    #[test]
    fn an_empty_assignment_is_not_ready() {
        let mut daemon = Daemon::new();
        daemon.state.assigned(daemon.start, 0);
        assert!(daemon.missing(1)[0].starts_with("partitions"));
    }

    #[test]
    fn a_lag_that_grows_while_nothing_is_scored_is_a_stall() {
        let mut daemon = Daemon::new();
        daemon.progress(1, 5, 100);
        daemon.progress(10, 50, 100);
        assert!(daemon.ready(30), "29 s are not yet a stall");
        daemon.progress(31, 90, 100);
        let missing = daemon.missing(31);
        assert!(missing[0].contains("from 5 to 90"), "{missing:?}");
    }

    #[test]
    fn records_that_are_scored_end_a_stall() {
        let mut daemon = Daemon::new();
        daemon.progress(1, 5, 100);
        daemon.progress(31, 90, 100);
        assert!(!daemon.ready(31));
        daemon.progress(32, 95, 101);
        assert!(daemon.ready(32));
    }

    #[test]
    fn a_growing_lag_is_no_stall_while_records_are_scored() {
        let mut daemon = Daemon::new();
        for second in 1..200 {
            daemon.progress(second, 1000 * second, second);
            assert!(daemon.ready(second));
        }
    }

    #[test]
    fn a_lag_that_stands_is_no_stall() {
        let mut daemon = Daemon::new();
        for second in 1..200 {
            daemon.progress(second, 4, 100);
            assert!(daemon.ready(second));
        }
    }

    #[test]
    fn the_first_record_after_hours_of_quiet_is_no_stall() {
        let mut daemon = Daemon::new();
        for second in 1..7200 {
            daemon.progress(second, 0, 100);
        }
        daemon.progress(7200, 1, 100);
        assert!(daemon.ready(7200));
    }

    #[test]
    fn a_large_lag_at_the_start_may_grow_for_as_long_as_a_stall_takes() {
        let mut daemon = Daemon::new();
        daemon.progress(2, 1_000_000, 0);
        daemon.progress(31, 1_000_500, 0);
        assert!(daemon.ready(31));
        daemon.progress(32, 1_000_600, 0);
        assert!(!daemon.ready(32));
    }

    #[test]
    fn a_stream_that_falls_silent_is_a_stall() {
        let mut daemon = Daemon::new();
        daemon.progress(10, 0, 100);
        assert!(daemon.ready(39));
        assert!(daemon.missing(40)[0].contains("reported nothing for 30 s"));
    }

    #[test]
    fn sessions_that_end_without_a_commit_make_it_unready_until_one_commits() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.partitions_assigned(2);
        readiness.progress(500, 0);
        assert!(readiness.report().ready);
        for _ in 0..2 {
            readiness.session_failed("produce: unknown topic");
        }
        readiness.partitions_assigned(2);
        readiness.progress(500, 0);
        let missing = readiness.report().missing;
        assert!(
            missing[0].starts_with("delivery: 2 sessions"),
            "{missing:?}"
        );
        assert!(missing[0].contains("unknown topic"), "{missing:?}");
        readiness.committed();
        assert!(readiness.report().ready);
    }

    #[test]
    fn brokers_that_stay_away_make_it_unready_and_that_they_are_back_ends_that() {
        let mut daemon = Daemon::new();
        daemon.progress(1, 0, 100);
        daemon.state.away = Some((daemon.at(2), "Connection refused".to_owned()));
        assert!(daemon.ready(2), "a moment");
        let missing = daemon.missing(12);
        assert_eq!(
            missing,
            ["brokers: none has been reachable for 10 s: Connection refused"]
        );
        let readiness = Readiness::default();
        readiness.brokers_away(Some("first".to_owned()));
        let since = readiness.state().away.clone().unwrap().0;
        readiness.brokers_away(Some("second".to_owned()));
        assert_eq!(
            readiness.state().away,
            Some((since, "second".to_owned())),
            "the time goes on"
        );
        readiness.brokers_away(None);
        assert_eq!(readiness.state().away, None);
    }

    #[test]
    fn a_session_that_has_failed_is_not_forgotten_before_the_next_has_partitions() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.partitions_assigned(2);
        readiness.session_failed("flush: timed out");
        // The next session waits for the group, and its client reports that nothing is assigned.
        readiness.progress(0, 0);
        let missing = readiness.report().missing;
        assert!(
            missing.iter().any(|line| line.starts_with("delivery")),
            "{missing:?}"
        );
    }

    #[test]
    fn a_failed_session_with_nothing_left_to_commit_is_forgotten() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.session_failed("consume: lost");
        readiness.partitions_assigned(2);
        readiness.progress(2, 0);
        assert!(readiness.report().ready, "two markers of transactions");
    }

    #[test]
    fn outputs_that_are_not_committed_in_time_make_it_unready() {
        let readiness = Readiness::default();
        readiness.model_loaded("0123");
        readiness.partitions_assigned(2);
        readiness.outputs_in_hand(Duration::from_secs(60));
        assert!(readiness.report().ready);
        readiness.outputs_in_hand(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(readiness.report().missing[0].starts_with("delivery: outputs"));
        readiness.committed();
        assert!(readiness.report().ready);
    }

    #[test]
    fn a_rebalance_gives_the_stream_its_time_again() {
        let mut daemon = Daemon::new();
        daemon.progress(1, 5, 100);
        daemon.progress(31, 90, 100);
        let now = daemon.at(32);
        daemon.state.assigned(now, 2);
        assert!(daemon.ready(61));
        assert!(!daemon.ready(62), "and then it must have reported");
    }
}
