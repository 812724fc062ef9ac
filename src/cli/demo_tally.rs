//! What the demonstration counts: payments under way, and what became of them.

use crate::score::p_value_text;
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
    scenario: Option<String>,
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
    pub fn sent(&self, id: &str, scenario: Option<&str>) {
        let payment = Payment {
            at: Instant::now(),
            scenario: scenario.map(str::to_owned),
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

/// What became of the payments.
pub struct Tally {
    begin: Instant,
    seconds: f64,
    sent: u64,
    scored: u64,
    alerts: u64,
    caught: u64,
    latencies: Vec<f32>,
    /// Scenario -> planted, caught.
    scenarios: BTreeMap<String, (u64, u64)>,
    shown: Vec<String>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            seconds: 0.0,
            sent: 0,
            scored: 0,
            alerts: 0,
            caught: 0,
            latencies: Vec::new(),
            scenarios: BTreeMap::new(),
            shown: Vec::new(),
        }
    }

    /// Counts an output envelope; one that comes twice counts once.
    pub fn add(&mut self, envelope: &Value, in_flight: &InFlight) {
        let Some(payment) = envelope["event_id"]
            .as_str()
            .and_then(|id| in_flight.take(id))
        else {
            return;
        };
        let alert = envelope["alert"] == Value::Bool(true);
        self.scored += 1;
        self.latencies.push(payment.at.elapsed().as_secs_f32());
        self.alerts += u64::from(alert);
        if alert && self.shown.len() < SHOWN && payment.scenario.is_some() {
            self.shown
                .push(describe(envelope, payment.scenario.as_deref()));
        }
        if let Some(scenario) = payment.scenario {
            self.caught += u64::from(alert);
            let (planted, caught) = self.scenarios.entry(scenario).or_default();
            *planted += 1;
            *caught += u64::from(alert);
        }
        self.seconds = self.begin.elapsed().as_secs_f64();
    }

    /// Notes how many were sent.
    pub fn close(&mut self, in_flight: &InFlight) {
        self.sent = in_flight.state().sent;
        self.latencies.sort_unstable_by(f32::total_cmp);
    }

    fn latency_ms(&self, quantile: f64) -> f32 {
        let rank = (self.latencies.len() as f64 * quantile) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(rank.min(last))
            .map_or(0.0, |s| s * 1000.0)
    }
}

/// One alert with its reasons, for a person.
fn describe(envelope: &Value, scenario: Option<&str>) -> String {
    let mut text = format!(
        "  {}  score {:.2}  p-value {}  ({})\n",
        envelope["event_id"].as_str().unwrap_or("?"),
        envelope["anomaly_score"].as_f64().unwrap_or(f64::NAN),
        p_value_text(envelope["p_value"].as_f64().unwrap_or(f64::NAN)),
        scenario.unwrap_or("normal"),
    );
    for reason in envelope["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .take(SHOWN)
    {
        let expected = &reason["expected"];
        let expected = match expected["categories"].as_array() {
            Some(categories) => {
                let named = categories.iter().map(|c| {
                    let share = c["probability"].as_f64().unwrap_or(0.0);
                    format!(
                        "{} {:.0} %",
                        c["value"].as_str().unwrap_or("?"),
                        share * 100.0
                    )
                });
                named.collect::<Vec<_>>().join(", ")
            }
            None => format!(
                "{} ({}..{})",
                expected["value"], expected["low"], expected["high"]
            ),
        };
        let field = reason["field"].as_str().unwrap_or("?");
        text += &format!(
            "    {field} = {}, expected {expected}\n",
            reason["observed"]
        );
    }
    text
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: u64, whole: u64| match whole {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
        };
        let planted: u64 = self.scenarios.values().map(|(planted, _)| planted).sum();
        writeln!(
            f,
            "\npayments     {} sent, {} scored",
            self.sent, self.scored
        )?;
        writeln!(
            f,
            "throughput   {:.0} records/s",
            self.scored as f64 / self.seconds.max(1e-9)
        )?;
        writeln!(
            f,
            "latency      p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms (sent to read back)",
            self.latency_ms(0.5),
            self.latency_ms(0.95),
            self.latency_ms(0.99)
        )?;
        writeln!(
            f,
            "alerts       {} ({})",
            self.alerts,
            share(self.alerts, self.scored)
        )?;
        writeln!(f, "frauds       {planted} planted, {} caught", self.caught)?;
        writeln!(f, "precision    {}", share(self.caught, self.alerts))?;
        writeln!(f, "recall       {}", share(self.caught, planted))?;
        for (scenario, (planted, caught)) in &self.scenarios {
            writeln!(f, "  {scenario:<22} {caught} of {planted}")?;
        }
        if !self.shown.is_empty() {
            writeln!(f, "\nsome of the frauds that were caught, and why:")?;
        }
        self.shown.iter().try_for_each(|alert| f.write_str(alert))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn alerts_are_counted_against_the_planted_frauds_and_doubles_once() {
        let in_flight = InFlight::new(10);
        for (id, scenario) in [
            ("a", Some("stolen_card")),
            ("b", None),
            ("c", Some("stolen_card")),
        ] {
            in_flight.sent(id, scenario);
        }
        in_flight.end();
        let mut tally = Tally::new();
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
        let text = tally.to_string();
        assert!(
            text.contains("3 sent, 3 scored") && text.contains("1 of 2"),
            "{text}"
        );
        assert!(
            text.contains("precision    50.0 %") && text.contains("recall       50.0 %"),
            "{text}"
        );
    }
}
