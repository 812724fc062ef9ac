//! What labels were worth, as a bundle keeps it.

use serde::{Deserialize, Serialize};

/// How validation rows were set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationSplit {
    /// The latest rows, at or after a moment that leaves 30 % of the frauds.
    Latest,
    /// Every row once, in five folds with equal shares of both classes.
    Folds,
}

/// What labels made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing was better than the untuned score.
    Untuned,
    /// A weighted mean of components.
    Combination,
    /// Boosted trees.
    Trees,
}

/// What tuning was worth on rows that the weights did not see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// How they were set aside.
    pub split: ValidationSplit,
    /// Rows that validated.
    pub rows: u64,
    /// Of these, frauds.
    pub frauds: u64,
    /// Average precision of the untuned score, 0..=1; the mean over folds.
    pub average_precision_before: f64,
    /// The same of the best combination, itself if none was better. As the best of a short list it is slightly flattered.
    pub average_precision_combination: f64,
    /// The same of the boosted trees.
    pub average_precision_trees: f64,
    /// The same of what was kept.
    pub average_precision_after: f64,
    /// What was kept: the best of the three.
    pub kind: Kind,
    /// The strength of the combination that was kept, if one was.
    pub strength: Option<f64>,
}
