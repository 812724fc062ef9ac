//! What is said of one scored record: the JSON envelope of the scores and alerts topics and of HTTP answers.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::types::{Offset, Partition};
use crate::score::{DetectorPart, Reason};

/// The envelope, serialised with exactly these keys in this order.
#[derive(Debug, Clone, Serialize)]
pub struct Envelope<'a> {
    /// The record's key field as text, else `topic-partition-offset`; null over HTTP without a key field.
    pub event_id: Option<Cow<'a, str>>,
    /// Input topic; null over HTTP.
    pub topic: Option<&'a str>,
    /// Input partition; null over HTTP.
    pub partition: Option<Partition>,
    /// Input offset; null over HTTP.
    pub offset: Option<Offset>,
    /// RFC 3339, UTC, milliseconds: the record's time field, else Kafka's timestamp.
    pub event_time: Option<String>,
    /// Which model scored it.
    pub model_id: &'a str,
    /// Higher is more abnormal.
    pub anomaly_score: f32,
    /// In (0, 1]; among the calibration rows of the record's segment where the budget is held by one.
    pub p_value: f64,
    /// Of the detector that learned without labels, in (0, 1]; only where labels made a second one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value_unsupervised: Option<f64>,
    /// Of the detector that learned from labels, in (0, 1]; only where labels made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_value_supervised: Option<f64>,
    /// Which of the two flags the record within its share of the budget; only where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fired: Option<Vec<DetectorPart>>,
    /// Whether the p-value is within the budget.
    pub alert: bool,
    /// Most surprising field first; empty where reasons are not asked for.
    pub reasons: &'a [Reason],
}

impl Envelope<'_> {
    /// Appends the envelope's JSON to `bytes`.
    ///
    /// # Errors
    /// A value that JSON cannot hold; nothing is left behind in `bytes`.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let begin = bytes.len();
        serde_json::to_writer(&mut *bytes, self).inspect_err(|_| bytes.truncate(begin))
    }
}

/// `micros` since 1970 as RFC 3339 in UTC with milliseconds; `None` beyond the years that the calendar of the output knows.
pub fn event_time(micros: i64) -> Option<String> {
    let moment = DateTime::from_timestamp_micros(micros)?;
    Some(moment.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_envelope_has_the_keys_of_the_contract_in_order() {
        let envelope = Envelope {
            event_id: Some("payments-3-17".into()),
            topic: Some("payments"),
            partition: Some(Partition(3)),
            offset: Some(Offset(17)),
            event_time: event_time(1_700_000_000_123_456),
            model_id: "0123456789abcdef",
            anomaly_score: 1.25,
            p_value: 0.001,
            p_value_unsupervised: None,
            p_value_supervised: None,
            fired: None,
            alert: true,
            reasons: &[],
        };
        let mut bytes = Vec::new();
        envelope.write(&mut bytes).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"event_id\":\"payments-3-17\",\"topic\":\"payments\",\"partition\":3,\"offset\":17,\
             \"event_time\":\"2023-11-14T22:13:20.123Z\",\"model_id\":\"0123456789abcdef\",\
             \"anomaly_score\":1.25,\"p_value\":0.001,\"alert\":true,\"reasons\":[]}"
        );
    }

    #[test]
    fn two_detectors_add_their_p_values_and_which_of_them_fired() {
        let envelope = Envelope {
            event_id: None,
            topic: None,
            partition: None,
            offset: None,
            event_time: None,
            model_id: "m",
            anomaly_score: 7.0,
            p_value: 0.001,
            p_value_unsupervised: Some(0.25),
            p_value_supervised: Some(0.0005),
            fired: Some(vec![DetectorPart::Supervised]),
            alert: true,
            reasons: &[],
        };
        let mut bytes = Vec::new();
        envelope.write(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let parts = "\"p_value\":0.001,\"p_value_unsupervised\":0.25,\"p_value_supervised\":0.0005,\
                     \"fired\":[\"supervised\"],\"alert\":true";
        assert!(text.contains(parts), "{text}");
    }

    #[test]
    fn a_moment_outside_the_calendar_has_no_text() {
        assert_eq!(event_time(i64::MAX), None);
        assert_eq!(
            event_time(-1_000).as_deref(),
            Some("1969-12-31T23:59:59.999Z")
        );
    }
}
