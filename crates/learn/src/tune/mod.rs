//! Learning from few labels: how much each component of the score counts.
//!
//! In flow rows that people have labelled, with the components of a trained model's score; out flow boosted trees or
//! non-negative weights, or the finding that the score without labels is as good. A module of its own between `evaluate` and `recipe`: it uses
//! labels and the metrics of `evaluate`, but what it makes becomes part of a score, which nothing in `evaluate` may.
//! Labels stop here: model, encoder and reference tables stay as they were trained.
//!
//! Way: `rows` reads labelled and calibration rows and by `identity` sees that they share none, `logistic` solves the convex problem of
//! one strength, `boosting` grows trees and `grove` says how many, `selection` chooses on rows that neither has seen.

mod boosting;
mod error;
mod grove;
mod identity;
pub mod logistic;
mod rows;
mod selection;

pub use boosting::{BoostingError, TREES_MAX};
pub use error::TuneError;
pub use grove::TreeExamples;
pub(crate) use identity::holds;
pub use rows::{
    COMPONENTS_MAX, CalibrationRows, DEFAULT_LABELLED_VALUES_MAX, FRAUDS_MIN, LabelCounts,
    LabelledRows, NORMALS_MIN, Trained, TuneSources, label_schema,
};
pub(crate) use rows::{append, check_moments, label, lacking, taken};
pub use selection::{Examples, Learned, STRENGTHS, learn};
