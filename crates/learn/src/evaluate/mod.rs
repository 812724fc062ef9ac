//! How well scores find what labels mark: ranking metrics, alerts at a budget, and which fields
//! tell; the same group by group; and what simpler methods find of it.
//!
//! In flow scores, p-values, field surprises and labels; out flows an [`EvaluationReport`]. The
//! [`baselines`] take records instead of scores. Labels are used here and never reach a model. Invariant: every number depends only on the rows with a
//! label, and the rest is counted.

pub mod baselines;
mod error;
mod groups;
mod interval;
pub mod metrics;
mod report;
mod uniformity;

pub use baselines::{
    BaselineComparison, BaselineError, BaselineEvaluation, BaselineFitter, Baselines,
};
pub use error::MetricError;
pub use groups::{
    GROUP_VALUES_MAX, GROUPS_SHOWN_MAX, Group, GroupAtBudget, Groups, GroupsReport, OtherGroups,
    shown_value,
};
pub use interval::{CONFIDENCE, Share};
pub use metrics::{AtBudget, AtK};
pub use report::{
    DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, EvaluationReport, FieldEvaluation, ScoredRows,
};
pub use uniformity::Uniformity;
