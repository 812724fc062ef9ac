//! Fitting the model: encoded fit rows in, weights of the lowest held-out loss out.
//!
//! The loop in [`trainer`] knows neither models nor files; [`masked`] gives it the masked objective and those that
//! it is compared with.

mod average;
#[cfg(test)]
mod comparison;
pub mod config;
pub mod dataset;
pub mod device;
mod early_stopping;
mod fingerprint;
pub mod masked;
mod optimizer;
pub mod partition;
mod report;
mod schedule;
pub mod shard;
pub mod trainer;
mod trimming;

pub use config::TrainingConfig;
pub use dataset::{Dataset, DatasetError, DatasetOptions};
pub use device::DeviceKind;
pub use fingerprint::{DataFingerprint, Fingerprinter, ROW_DIGEST_BYTES, row_digest};
pub use masked::MaskedObjective;
pub use optimizer::OptimizerKind;
pub use partition::{Part, Partition, Split};
pub use report::{FitReport, Progress, TrainObserver, Unobserved};
pub use trainer::{Objective, TrainError, fit};
