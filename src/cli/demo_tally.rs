//! What the demonstration counts: payments under way, and what became of them.

use super::demo_words::{Shown, shown};
use crate::delivery::shutdown::Shutdown;
use crate::score::{Promise, count_text, percentages, share_text};
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
    /// When the first was sent.
    first: Option<Instant>,
    /// When it was known that no more will be.
    ended: Option<Instant>,
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
        state.first.get_or_insert(payment.at);
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
        self.state().ended = Some(Instant::now());
    }

    /// Payments sent so far.
    pub fn count(&self) -> u64 {
        self.state().sent
    }

    /// Payments a second while they were sent; 0 before the end.
    pub fn rate(&self) -> f64 {
        let state = self.state();
        match (state.first, state.ended) {
            (Some(first), Some(ended)) => {
                state.sent as f64 / (ended - first).as_secs_f64().max(1e-3)
            }
            _ => 0.0,
        }
    }

    /// Whether no more payments will be sent.
    pub fn has_ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Whether no more payments will be sent and all have their score.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.ended.is_some() && state.payments.is_empty()
    }

    fn take(&self, id: &str) -> Option<Payment> {
        self.state().payments.remove(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the payments.
pub struct Tally {
    promise: Promise,
    sent: u64,
    /// Payments sent a second.
    rate: f64,
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
            sent: 0,
            rate: 0.0,
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
    }

    /// Notes how many were sent.
    pub fn close(&mut self, in_flight: &InFlight) {
        self.sent = in_flight.count();
        self.rate = in_flight.rate();
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
            count_text(self.alerts),
            count_text(self.scored),
            share_text(found as f64 / self.alerts.max(1) as f64),
            count_text(self.alerts - found),
        )
    }

    /// The budget beside what came of it. Alerts are judged among all payments, frauds too: the training rows, which
    /// nobody labelled, had as many.
    fn write_budget(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alerts, scored) = (self.alerts as usize, self.scored as usize);
        let Some((low, high)) = self.promise.interval().filter(|_| scored > 0) else {
            return Ok(());
        };
        let rate = alerts as f64 / scored as f64;
        let at_least = |count| self.promise.chance_of_at_least(count, scored);
        let verdict = if rate > high {
            format!(
                "more than promised; {}",
                by_chance("many", at_least(alerts))
            )
        } else if rate < low {
            let at_most = 1.0 - at_least(alerts + 1);
            format!("less than promised; {}", by_chance("few", at_most))
        } else {
            "as promised".to_owned()
        };
        let [rate, budget, low, high] = percentages([rate, self.promise.budget(), low, high]);
        writeln!(
            f,
            "  alert budget {budget} %: promised {low} to {high} % of all payments, frauds included (90 % interval)"
        )?;
        writeln!(f, "  found {rate} %: {verdict}")?;
        self.write_genuine(f)
    }

    /// The alerts among the payments that are no frauds: those that somebody looks at in vain.
    fn write_genuine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.scenarios.values();
        let (planted, found) =
            counts.fold((0, 0), |(p, c), (planted, found)| (p + planted, c + found));
        let (genuine, alerts) = (self.scored - planted, self.alerts - found);
        writeln!(
            f,
            "  of the {} genuine payments alone {} are alerts ({})",
            count_text(genuine),
            count_text(alerts),
            share_text(alerts as f64 / genuine.max(1) as f64),
        )
    }
}

/// How often chance alone brings a count, where it is not as promised.
fn by_chance(count: &str, chance: f64) -> String {
    match chance {
        c if c > 0.5 => format!("chance alone brings as {count} in most such runs"),
        c if c >= 1e-6 => format!(
            "chance alone brings as {count} in one of {} such runs",
            count_text((1.0 / c).round() as u64)
        ),
        _ => format!("chance alone brings as {count} in less than one of a million such runs"),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWhat was planted and what was found\n")?;
        self.write_frauds(f)?;
        self.write_budget(f)?;
        writeln!(
            f,
            "  {} sent, {:.0} a second, {} scored; half of the scores came back within {:.0} ms, 99 % within {:.0} ms",
            count_text(self.sent),
            self.rate,
            count_text(self.scored),
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
    use crate::score::AlertBudget;
    use serde_json::json;

    fn fraud(scenario: &str) -> Truth {
        Truth {
            scenario: Some(scenario.to_owned()),
            words: "12 EUR".to_owned(),
        }
    }

    fn promise(share: f64, calibration_rows: usize) -> Promise {
        Promise::new(AlertBudget::new(share).unwrap(), calibration_rows, 0.0)
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
        let mut tally = Tally::new(promise(0.005, 12_000));
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
            "  3 sent, ",
            " a second, 3 scored; half of the scores came back within ",
            "stolen card                     2        1     50 %",
            "all                             2        1     50 %",
            "2 alerts in 3 payments: 1 are frauds (50 %), 1 are not",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// What is said of a budget with so many calibration rows.
    fn said(share: f64, rows: usize, scored: u64, alerts: u64, frauds: (u64, u64)) -> String {
        let mut tally = Tally::new(promise(share, rows));
        (tally.scored, tally.alerts) = (scored, alerts);
        tally.scenarios.insert("stolen_card".to_owned(), frauds);
        tally.close(&InFlight::new(1));
        tally.to_string()
    }

    #[test]
    fn a_budget_that_is_not_held_is_said_to_be_exceeded() {
        let verdict = |alerts| said(0.005, 12_000, 10_000, alerts, (0, 0));
        assert!(verdict(50).contains("alert budget 0.50 %: promised 0.40 to 0.61 %"));
        assert!(verdict(50).contains("found 0.50 %: as promised"));
        assert!(verdict(100).contains("found 1.00 %: more than promised; chance alone"));
        assert!(verdict(1).contains("found 0.01 %: less than promised; chance alone"));
        assert!(verdict(1).contains("less than one of a million"));
    }

    #[test]
    fn a_rate_outside_of_the_promise_is_never_rounded_into_it() {
        // 80 of the 15,000 payments were planted, and 60 of them found. SciPy: stats.betabinom.sf(185, 15000, 160, 15841)
        let text = said(0.01, 16_000, 15_000, 186, (80, 60));
        for part in [
            "alert budget 1.00 %: promised 0.87 to 1.13 % of all payments, frauds included",
            "found 1.24 %: more than promised; chance alone brings as many in one of 45 such runs",
            "of the 14,920 genuine payments alone 126 are alerts (0.84 %)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The first count beyond the upper limit, which is 1.1339 %.
        let (_, high) = promise(0.01, 16_000).interval().unwrap();
        let first = (high * 200_000.0).ceil() as u64;
        let close = said(0.01, 16_000, 200_000, first, (0, 0));
        assert!(close.contains("more than promised"), "{close}");
        let between = |from: &str, to: &str| {
            let (_, rest) = close.split_once(from).unwrap();
            rest.split_once(to).unwrap().0.to_owned()
        };
        assert_ne!(between("found ", " %"), between(" to ", " %"), "{close}");
    }
}
