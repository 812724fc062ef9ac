//! How well scores find what labels mark: ranking metrics, alerts at a budget, and which fields
//! tell.
//!
//! In flow scores, p-values, field surprises and labels; out flows an [`EvaluationReport`]. Labels
//! are used here and never reach a model. Invariant: every number depends only on the rows with a
//! label, and the rest is counted.

mod error;
pub mod metrics;
mod report;

pub use error::MetricError;
pub use metrics::{AtBudget, AtK};
pub use report::{
    DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, EvaluationReport, FieldEvaluation, ScoredRows,
};
