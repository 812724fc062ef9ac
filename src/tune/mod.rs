//! Learning from few labels: how much each component of the score counts.
//!
//! In flow rows that people have labelled, as components of a trained model's score; out flow non-negative weights, or
//! the finding that the score without labels is as good. A module of its own between `evaluate` and `artifact`: it uses
//! labels and the metrics of `evaluate`, but what it makes becomes part of a score, which nothing in `evaluate` may.
//! Labels stop here: model, encoder and reference tables stay as they were trained.
//!
//! Way: `rows` reads labelled and calibration rows and by `identity` sees that they share none, `logistic` solves the convex problem of
//! one strength, `selection` chooses the strength on rows that the weights did not see.

mod error;
mod identity;
pub mod logistic;
mod rows;
mod selection;

pub use error::TuneError;
pub use rows::{
    COMPONENTS_MAX, CalibrationRows, DEFAULT_LABELLED_VALUES_MAX, FRAUDS_MIN, LabelCounts,
    LabelledRows, NORMALS_MIN, Trained, TuneSources, label_schema,
};
pub use selection::{Examples, Learned, STRENGTHS, Validation, ValidationSplit, learn};
