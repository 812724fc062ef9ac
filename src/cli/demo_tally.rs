//! What the demonstration counts: payments under way, and what became of them.

use super::demo_words::{Shown, shown};
use crate::evaluate::Share;
use crate::score::{AlertBudget, share_text};
use crate::stream::shutdown::Shutdown;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Alerts that are shown with their reasons.
const SHOWN: usize = 3;

/// Payments that were sent and have no score yet, with the truth about them.
pub struct InFlight {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    payments: HashMap<String, Payment>,
    sent: u64,
    ended: bool,
}

struct Payment {
    at: Instant,
    truth: Truth,
}

/// What is known of a payment that was made up.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// The scenario of a planted fraud.
    pub scenario: Option<String>,
    /// The payment in a few words.
    pub words: String,
}

impl InFlight {
    /// Room for `max` payments.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
        }
    }

    /// A payment is about to be sent.
    pub fn sent(&self, id: &str, truth: Truth) {
        let payment = Payment {
            at: Instant::now(),
            truth,
        };
        let mut state = self.state();
        state.sent += 1;
        state.payments.insert(id.to_owned(), payment);
    }

    /// Waits while there is no room.
    pub fn wait_for_room(&self, shutdown: &Shutdown) {
        while self.state().payments.len() >= self.max {
            if shutdown.wait(Duration::from_millis(10)) {
                return;
            }
        }
    }

    /// No more payments will be sent.
    pub fn end(&self) {
        self.state().ended = true;
    }

    /// Payments sent so far.
    pub fn count(&self) -> u64 {
        self.state().sent
    }

    /// Whether no more payments will be sent.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Whether no more payments will be sent and all have their score.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.ended && state.payments.is_empty()
    }

    fn take(&self, id: &str) -> Option<Payment> {
        self.state().payments.remove(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a budget promises of the bundle at hand.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// The budget.
    pub budget: AlertBudget,
    /// Calibration rows, from which the interval of the realised rate follows.
    pub calibration_rows: usize,
}

/// What became of the payments.
pub struct Tally {
    promise: Promise,
    begin: Instant,
    seconds: f64,
    sent: u64,
    scored: u64,
    alerts: u64,
    latencies: Vec<f32>,
    /// Scenario -> planted, found.
    scenarios: BTreeMap<String, (u64, u64)>,
    /// The most unusual alert of every scenario.
    shown: BTreeMap<String, Shown>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(promise: Promise) -> Self {
        Self {
            promise,
            begin: Instant::now(),
            seconds: 0.0,
            sent: 0,
            scored: 0,
            alerts: 0,
            latencies: Vec::new(),
            scenarios: BTreeMap::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Counts an output envelope; one that comes twice counts once.
    pub fn add(&mut self, envelope: &Value, in_flight: &InFlight) {
        let id = envelope["event_id"].as_str();
        let Some(Payment { at, truth }) = id.and_then(|id| in_flight.take(id)) else {
            return;
        };
        let alert = envelope["alert"] == Value::Bool(true);
        self.scored += 1;
        self.latencies.push(at.elapsed().as_secs_f32());
        self.alerts += u64::from(alert);
        if let Some(scenario) = &truth.scenario {
            let (planted, found) = self.scenarios.entry(scenario.clone()).or_default();
            *planted += 1;
            *found += u64::from(alert);
            if alert {
                let candidate = shown(envelope, &truth);
                let best = self.shown.get(scenario);
                if best.is_none_or(|best| best.score < candidate.score) {
                    self.shown.insert(scenario.clone(), candidate);
                }
            }
        }
        self.seconds = self.begin.elapsed().as_secs_f64();
    }

    /// Notes how many were sent.
    pub fn close(&mut self, in_flight: &InFlight) {
        self.sent = in_flight.count();
        self.latencies.sort_unstable_by(f32::total_cmp);
    }

    /// Payments that were scored.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// Alerts among them.
    pub fn alerts(&self) -> u64 {
        self.alerts
    }

    fn latency_ms(&self, quantile: f64) -> f32 {
        let rank = (self.latencies.len() as f64 * quantile) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(rank.min(last))
            .map_or(0.0, |s| s * 1000.0)
    }

    fn write_frauds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, planted: u64, found: u64| {
            let share = share_text(found as f64 / planted.max(1) as f64);
            writeln!(f, "  {name:<24} {planted:>8} {found:>8} {share:>8}")
        };
        writeln!(
            f,
            "  {:<24} {:>8} {:>8} {:>8}",
            "kind of fraud", "planted", "found", "share"
        )?;
        let (mut planted, mut found) = (0, 0);
        for (scenario, (p, c)) in &self.scenarios {
            row(f, &scenario.replace('_', " "), *p, *c)?;
            (planted, found) = (planted + p, found + c);
        }
        row(f, "all", planted, found)?;
        writeln!(
            f,
            "\n  {} alerts in {} payments: {found} are frauds ({}), {} are not",
            self.alerts,
            self.scored,
            share_text(found as f64 / self.alerts.max(1) as f64),
            self.alerts - found,
        )
    }

    /// The budget beside what came of it. Alerts are judged among all payments, frauds too: the training rows, which
    /// nobody labelled, had as many.
    fn write_budget(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Promise {
            budget,
            calibration_rows,
        } = self.promise;
        let realised = budget.realised_rate(calibration_rows);
        let held = Share::of(self.alerts as usize, self.scored as usize);
        let (Some((low, high)), Some(held)) = (realised, held) else {
            return Ok(());
        };
        let verdict = match (held.low > high, held.high < low) {
            (true, _) => "more than promised",
            (_, true) => "less than promised",
            _ => "as promised",
        };
        writeln!(
            f,
            "  alert budget {}: promised {} to {} of all payments (90 % interval), found {}: {verdict}",
            share_text(budget.share()),
            share_text(low),
            share_text(high),
            share_text(held.share),
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWhat was planted and what was found\n")?;
        self.write_frauds(f)?;
        self.write_budget(f)?;
        writeln!(
            f,
            "  {} sent, {} scored, {:.0} a second; half of them within {:.0} ms, 99 % within {:.0} ms",
            self.sent,
            self.scored,
            self.scored as f64 / self.seconds.max(1e-9),
            self.latency_ms(0.5),
            self.latency_ms(0.99),
        )?;
        let mut shown: Vec<&Shown> = self.shown.values().collect();
        shown.sort_by(|a, b| b.score.total_cmp(&a.score));
        if !shown.is_empty() {
            writeln!(f, "\nSome of the frauds that were found, and why")?;
        }
        shown
            .into_iter()
            .take(SHOWN)
            .try_for_each(|alert| write!(f, "\n{}", alert.text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fraud(scenario: &str) -> Truth {
        Truth {
            scenario: Some(scenario.to_owned()),
            words: "12 EUR".to_owned(),
        }
    }

    fn promise(share: f64) -> Promise {
        Promise {
            budget: AlertBudget::new(share).unwrap(),
            calibration_rows: 12_000,
        }
    }

    #[test]
    fn alerts_are_counted_against_the_planted_frauds_and_doubles_once() {
        let in_flight = InFlight::new(10);
        for (id, truth) in [
            ("a", fraud("stolen_card")),
            ("b", Truth::default()),
            ("c", fraud("stolen_card")),
        ] {
            in_flight.sent(id, truth);
        }
        in_flight.end();
        let mut tally = Tally::new(promise(0.005));
        for (id, alert) in [
            ("a", true),
            ("a", true),
            ("b", true),
            ("c", false),
            ("x", true),
        ] {
            tally.add(&json!({"event_id": id, "alert": alert}), &in_flight);
        }
        tally.close(&in_flight);
        assert!(in_flight.is_done());
        assert_eq!((tally.scored(), tally.alerts()), (3, 2));
        let text = tally.to_string();
        for part in [
            "3 sent, 3 scored",
            "stolen card                     2        1     50 %",
            "all                             2        1     50 %",
            "2 alerts in 3 payments: 1 are frauds (50 %), 1 are not",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_budget_that_is_not_held_is_said_to_be_exceeded() {
        let verdict = |alerts: usize| {
            let mut tally = Tally::new(promise(0.005));
            (tally.scored, tally.alerts) = (10_000, alerts as u64);
            tally.close(&InFlight::new(1));
            tally.to_string()
        };
        assert!(verdict(50).contains("alert budget 0.50 %: promised 0.40 % to 0.61 %"));
        assert!(verdict(50).contains("found 0.50 %: as promised"));
        assert!(verdict(100).contains("found 1.0 %: more than promised"));
        assert!(verdict(1).contains("found 0.01 %: less than promised"));
    }
}
