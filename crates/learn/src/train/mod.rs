//! Fitting the model: encoded fit rows in, weights of the lowest held-out loss out.
//!
//! The loop in [`trainer`] knows neither models nor files; [`masked`] gives it the masked objective and those that
//! it is compared with.

mod average;
pub mod dataset;
mod early_stopping;
pub mod masked;
mod optimizer;
pub mod parts;
mod report;
mod schedule;
pub mod shard;
pub mod trainer;
mod trimming;

pub use dataset::{Dataset, DatasetError, DatasetOptions};
pub use masked::MaskedObjective;
pub use parts::{Part, PartAssigner};
pub use report::{FitReport, Progress, TrainObserver, Unobserved};
pub use trainer::{Objective, TrainError, fit};

#[cfg(test)]
mod tests;
