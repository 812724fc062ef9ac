//! How well scores find what labels mark: ranking metrics, alerts at a budget, and which fields
//! tell; and what simpler methods find of it.
//!
//! In flow scores, p-values, field surprises and labels; out flows an [`EvaluationReport`]. The
//! [`baselines`] take records instead of scores. Labels are used here and never reach a model. Invariant: every number depends only on the rows with a
//! label, and the rest is counted.

pub mod baselines;
mod error;
pub mod metrics;
mod report;

pub use baselines::{
    BaselineComparison, BaselineError, BaselineEvaluation, BaselineFitter, Baselines,
};
pub use error::MetricError;
pub use metrics::{AtBudget, AtK};
pub use report::{
    DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, EvaluationReport, FieldEvaluation, ScoredRows,
};
