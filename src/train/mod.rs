//! Fitting the model: encoded fit rows in, weights of the lowest held-out loss out.
//!
//! The loop in [`trainer`] knows neither models nor files; [`masked`] gives it the masked objective.

pub mod config;
mod early_stopping;
pub mod masked;
mod optimizer;
mod report;
mod schedule;
pub mod trainer;

pub use config::TrainingConfig;
pub use masked::MaskedObjective;
pub use optimizer::OptimizerKind;
pub use report::{FitReport, Progress, TrainObserver, Unobserved};
pub use trainer::{Objective, TrainError, fit};
