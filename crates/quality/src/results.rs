//! What one run found: plain values that the cache keeps and the tables are made of.

use maskwatch_learn::evaluate::AtBudget;
use maskwatch_learn::train::FitReport;
use serde::{Deserialize, Serialize};

/// The name under which the model itself stands among the methods.
pub const MODEL: &str = "maskwatch";
/// Cards looked at a day.
pub const CARDS_A_DAY: usize = 100;
/// Alert budgets that a run reports.
pub const BUDGETS: [f64; 2] = [0.001, 0.01];

/// A metric that tables and bars are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the receiver operating characteristic.
    RocAuc,
    /// Area under precision and recall, without interpolation.
    AveragePrecision,
    /// Share of compromised cards among the 100 that rank highest, mean over days.
    #[serde(rename = "card_precision_100")]
    CardPrecision,
    /// The same, but a card that was found is not looked at again on later days.
    #[serde(rename = "card_precision_100_once")]
    CardPrecisionOnce,
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RocAuc => "ROC AUC",
            Self::AveragePrecision => "AP",
            Self::CardPrecision => "card precision at 100",
            Self::CardPrecisionOnce => "card precision at 100, found cards removed",
        })
    }
}

/// How well one method ranks the test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// [`MODEL`], or the name of a baseline.
    pub method: String,
    /// In 0..=1.
    pub roc_auc: f64,
    /// In 0..=1.
    pub average_precision: f64,
    /// In 0..=1; only where there are cards.
    pub card_precision_100: Option<f64>,
    /// In 0..=1; only where there are cards.
    pub card_precision_100_once: Option<f64>,
}

impl Ranking {
    /// One of its metrics.
    pub fn metric(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::RocAuc => Some(self.roc_auc),
            Metric::AveragePrecision => Some(self.average_precision),
            Metric::CardPrecision => self.card_precision_100,
            Metric::CardPrecisionOnce => self.card_precision_100_once,
        }
    }
}

/// What is known of the model of a run besides its ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The bundle's `model_id`.
    pub model_id: String,
    /// How the fit ended.
    pub fit: FitReport,
    /// Wall-clock seconds of reading, fitting and calibrating.
    pub training_seconds: f64,
    /// Test records scored a second of wall-clock time.
    pub scoring_records_per_second: f64,
    /// Alerts under each of [`BUDGETS`].
    pub at_budget: Vec<AtBudget>,
}

/// How many rows a run had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Training rows.
    pub train: usize,
    /// Anomalies among them; the model does not know which.
    pub train_anomalies: usize,
    /// Test rows.
    pub test: usize,
    /// Anomalies among them.
    pub test_anomalies: usize,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its rows.
    pub rows: Rows,
    /// One of the model, or one a baseline.
    pub rankings: Vec<Ranking>,
    /// Of a run of the model.
    pub model: Option<ModelReport>,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
}
