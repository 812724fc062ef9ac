//! What scoring says about records: plain values that every output (Kafka, HTTP, Parquet) is written from.
//!
//! Serialised, a [`Reason`] has exactly the keys of the output envelope. Redaction and cutting have already been applied
//! by whoever makes a `Reason`: a writer of outputs can print it as it is.

use super::budget::AlertBudget;
use super::joint::BudgetShare;
use serde::Serialize;

/// Scores of a batch of B records with F feature fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// \[B\]; higher is more abnormal.
    pub anomaly_score: Vec<f32>,
    /// \[B\], in (0, 1]: the share of calibration records (of the same segment, where a budget is held so) that are at
    /// least as abnormal.
    pub p_value: Vec<f64>,
    /// \[B * F\], row-major, fields in schema order; NaN where a field was not predicted.
    pub field_surprise: Vec<f32>,
    /// How many of the records got all views: all of them, unless a cascade scores in two stages.
    pub in_full: usize,
    /// The p-values of both detectors, where labels made a second one.
    pub parts: Option<PartPValues>,
}

/// Of which records reasons are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Explain {
    /// Of none.
    Nothing,
    /// Of those within the budget, at most `reasons_max` each.
    Alerts {
        /// What makes a record an alert.
        budget: AlertBudget,
        /// Reasons of a record.
        reasons_max: usize,
    },
    /// Of all, at most `reasons_max` each.
    All {
        /// Reasons of a record.
        reasons_max: usize,
    },
}

impl Explain {
    /// How many reasons a record with this p-value gets at most.
    pub fn reasons_max(self, p_value: f64) -> usize {
        match self {
            Self::Alerts {
                budget,
                reasons_max,
            } if budget.is_alert(p_value) => reasons_max,
            Self::All { reasons_max } => reasons_max,
            Self::Nothing | Self::Alerts { .. } => 0,
        }
    }
}

/// What is said of a batch of B records.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assessment {
    /// Of every record.
    pub scores: Scores,
    /// \[B\]: the most unusual fields first; empty where none was asked for, or nothing stands out.
    pub reasons: Vec<Vec<Reason>>,
}

/// The p-values of two detectors.
#[derive(Debug, Clone, PartialEq)]
pub struct PartPValues {
    /// How they share the alert budget.
    pub share: BudgetShare,
    /// \[B\], in (0, 1]: of the detector that learned without labels.
    pub unsupervised: Vec<f64>,
    /// \[B\], in (0, 1]: of the one that learned from labels.
    pub supervised: Vec<f64>,
}

/// One of the two detectors of a tuned bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorPart {
    /// The one that learned without labels.
    Unsupervised,
    /// The one that learned from them.
    Supervised,
}

impl DetectorPart {
    /// Its name in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsupervised => "unsupervised",
            Self::Supervised => "supervised",
        }
    }
}

impl PartPValues {
    /// Of no record yet.
    pub fn new(share: BudgetShare) -> Self {
        Self {
            share,
            unsupervised: Vec::new(),
            supervised: Vec::new(),
        }
    }

    /// The detectors that flag record `row` under their shares of the budget: at least one of an alert, none of others.
    pub fn fired(&self, row: usize, budget: AlertBudget) -> Vec<DetectorPart> {
        let parts = [
            (
                DetectorPart::Unsupervised,
                self.unsupervised[row] / self.share.unsupervised(),
            ),
            (
                DetectorPart::Supervised,
                self.supervised[row] / self.share.supervised(),
            ),
        ];
        let fired = parts.into_iter().filter(|&(_, p)| budget.is_alert(p));
        fired.map(|(part, _)| part).collect()
    }
}

/// Why a record is unusual: one field, what it held and what was expected of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// The field's name in the schema.
    pub field: String,
    /// What the value cost when it was predicted: the mean loss under the first reading, nats for the default one. Not
    /// comparable between fields; reasons are ordered by how unusual it is for its field.
    pub surprise: f32,
    /// In (0, 1]: the share of reference records whose same field is at least as surprising.
    pub p_value: f64,
    /// The value as received, cut at 256 bytes; `"***"` for a redacted field.
    pub observed: serde_json::Value,
    /// What the model expected, given the fields that it saw.
    pub expected: Expected,
    /// What the field added to the log-odds of being a labelled fraud: its Shapley value in the boosted trees, > 0. Only in
    /// reasons of the detector that learned from labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contribution: Option<f32>,
}

/// What the model expected of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Expected {
    /// Of a number with more than two values.
    Interval {
        /// The median.
        value: serde_json::Value,
        /// The 5 % point.
        low: serde_json::Value,
        /// The 95 % point.
        high: serde_json::Value,
    },
    /// Of a category, a boolean, a number of two values (as JSON text) or a moment (`"Mon 09h"`, in the field's zone): the likeliest values, likeliest first.
    Categories {
        /// At most three.
        categories: Vec<Category>,
    },
    /// `"***"`: the field is redacted.
    Redacted(&'static str),
}

/// A value and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Category {
    /// Canonical category text.
    pub value: String,
    /// In [0, 1].
    pub probability: f32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn reasons_are_asked_of_alerts_of_all_or_of_none() {
        let budget = AlertBudget::new(0.01).unwrap();
        let reasons_max = 3;
        let alerts = Explain::Alerts {
            budget,
            reasons_max,
        };
        assert_eq!([0.01, 0.02].map(|p| alerts.reasons_max(p)), [3, 0]);
        let all = Explain::All { reasons_max };
        assert_eq!([0.01, 1.0].map(|p| all.reasons_max(p)), [3, 3]);
        assert_eq!(Explain::Nothing.reasons_max(0.0), 0);
    }

    #[test]
    fn a_reason_is_written_with_the_keys_of_the_envelope() {
        let reason = Reason {
            field: "amount".into(),
            surprise: 7.5,
            p_value: 0.001,
            observed: json!(912.5),
            expected: Expected::Interval {
                value: json!(20),
                low: json!(5),
                high: json!(80),
            },
            contribution: None,
        };
        assert_eq!(
            serde_json::to_value(&reason).unwrap(),
            json!({"field": "amount", "surprise": 7.5, "p_value": 0.001, "observed": 912.5,
                   "expected": {"value": 20, "low": 5, "high": 80}})
        );
    }

    #[test]
    fn expected_categories_and_redaction_have_their_own_forms() {
        let categories = Expected::Categories {
            categories: vec![Category {
                value: "DE".into(),
                probability: 0.5,
            }],
        };
        assert_eq!(
            serde_json::to_value(categories).unwrap(),
            json!({"categories": [{"value": "DE", "probability": 0.5}]})
        );
        assert_eq!(
            serde_json::to_value(Expected::Redacted("***")).unwrap(),
            json!("***")
        );
    }
}
