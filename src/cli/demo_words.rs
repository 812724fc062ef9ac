//! An alert of the demonstration in plain words.
//!
//! In flow an output envelope and what is known of the payment, out flow lines that need no knowledge of the model.

use super::demo_tally::Truth;
use crate::score::{number_text, share_text};
use chrono::DateTime;
use serde_json::Value;

/// Reasons that are shown of an alert.
const REASONS: usize = 3;
/// Categories that are shown of an expectation, if they are likely enough to help.
const CATEGORIES: usize = 2;
const PROBABILITY_MIN: f64 = 0.05;

/// An alert that may be shown.
pub struct Shown {
    /// Its anomaly score.
    pub score: f64,
    /// Some lines.
    pub text: String,
}

/// The alert with its reasons, for a person.
pub fn shown(envelope: &Value, truth: &Truth) -> Shown {
    let scenario = truth
        .scenario
        .as_deref()
        .unwrap_or("normal")
        .replace('_', " ");
    let mut text = format!(
        "  {scenario}: {}; {}\n",
        truth.words,
        rarity(&envelope["p_value"])
    );
    let reasons = envelope["reasons"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if reasons.is_empty() {
        text += "    no single field stands out; it is unusual as a whole\n";
    }
    for reason in reasons.iter().take(REASONS) {
        let field = reason["field"].as_str().unwrap_or("?");
        text += &format!(
            "    {field} is {}; expected {}\n",
            value(&reason["observed"]),
            expected(&reason["expected"])
        );
    }
    Shown {
        score: envelope["anomaly_score"]
            .as_f64()
            .unwrap_or(f64::NEG_INFINITY),
        text,
    }
}

fn rarity(p_value: &Value) -> String {
    match p_value.as_f64() {
        Some(p) if p > 0.0 => format!("as unusual as one payment in {}", round(1.0 / p)),
        _ => "unusual".to_owned(),
    }
}

/// Two digits and zeros.
fn round(count: f64) -> f64 {
    let unit = 10_f64.powf((count.max(1.0).log10().floor() - 1.0).max(0.0));
    (count / unit).round() * unit
}

fn expected(expected: &Value) -> String {
    let Some(categories) = expected["categories"].as_array() else {
        return match expected.as_str() {
            Some(redacted) => redacted.to_owned(),
            None => format!(
                "{} to {}",
                value(&expected["low"]),
                value(&expected["high"])
            ),
        };
    };
    let likely = categories.iter().enumerate().filter(|(at, category)| {
        *at == 0
            || category["probability"]
                .as_f64()
                .is_some_and(|p| p >= PROBABILITY_MIN)
    });
    let named = likely.take(CATEGORIES).map(|(_, category)| {
        let share = category["probability"].as_f64().unwrap_or(0.0);
        format!("{} ({})", value(&category["value"]), share_text(share))
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "missing".to_owned(),
        // As an expected moment is told: the day of the week and the hour are what the model sees of it.
        Value::String(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(moment) => moment.format("%a %Hh").to_string(),
            Err(_) => text.clone(),
        },
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), number_text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_alert_is_told_in_words_that_need_no_model() {
        let envelope = json!({
            "event_id": "a", "p_value": 0.000_249_98, "anomaly_score": 4.5,
            "reasons": [
                {"field": "time", "observed": "2026-02-04T03:25:03.006Z",
                 "expected": {"categories": [{"value": "Sat 17h", "probability": 0.024},
                                             {"value": "Fri 17h", "probability": 0.023}]}},
                {"field": "amount_ratio", "observed": 9.3127,
                 "expected": {"value": 0.9, "low": 0.04411, "high": 2.8}},
                {"field": "device", "observed": null,
                 "expected": {"categories": [{"value": "ios", "probability": 0.5},
                                             {"value": "android", "probability": 0.4}]}},
                {"field": "never shown", "observed": 1, "expected": {"low": 0, "high": 2}},
            ],
        });
        let truth = Truth {
            scenario: Some("account_takeover".to_owned()),
            words: "812.40 EUR, online".to_owned(),
        };
        let shown = shown(&envelope, &truth);
        assert_eq!(
            shown.text,
            "  account takeover: 812.40 EUR, online; as unusual as one payment in 4000\n\
             \x20   time is Wed 03h; expected Sat 17h (2.4 %)\n\
             \x20   amount_ratio is 9.31; expected 0.0441 to 2.8\n\
             \x20   device is missing; expected ios (50 %) or android (40 %)\n"
        );
        assert_eq!(shown.score, 4.5);
    }

    #[test]
    fn an_alert_without_a_field_that_stands_out_says_so() {
        let envelope =
            json!({"event_id": "a", "p_value": 0.01, "anomaly_score": 4.5, "reasons": []});
        assert_eq!(
            shown(&envelope, &Truth::default()).text,
            "  normal: ; as unusual as one payment in 100\n\
             \x20   no single field stands out; it is unusual as a whole\n"
        );
    }
}
