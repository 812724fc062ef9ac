//! The checked parts of the configuration that decide what becomes of a record: alerts, reasons, outputs.
//!
//! They stand here because the pipeline is the first that reads them; delivery, Kafka and the command line only pass them on
//! or name them. `config` checks what the user wrote into them.

use serde::Deserialize;

use super::types::Topic;
use crate::score::AlertBudget;

/// Checked `[alerts]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertsConfig {
    /// Which p-values are alerts.
    pub budget: AlertBudget,
    /// The field in whose segments the budget is held, not empty; the model's p-values then are those of the segment.
    pub budget_by: Option<String>,
    /// Which records get reasons.
    pub reasons: ReasonsFor,
    /// Reasons a record at most, at least 1.
    pub reasons_max: usize,
    /// Whether a budget below the smallest p-value of the model is accepted.
    pub allow_unattainable_budget: bool,
}

/// Where outputs go; `None` writes none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputTopics {
    /// Envelopes.
    pub scores: Option<Topic>,
    /// Envelopes of alerts.
    pub alerts: Option<Topic>,
    /// Bad records.
    pub dead_letters: Option<Topic>,
}

/// What the scores topic gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// Every scored record.
    #[default]
    All,
    /// Alerts only.
    Alerts,
}

/// What becomes of a message with a null payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// It is bad data.
    #[default]
    DeadLetter,
    /// It is passed over.
    Skip,
}

/// Which records get reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonsFor {
    /// Alerts.
    #[default]
    Alerts,
    /// Every scored record.
    All,
}
