//! What a record is, the model, its score and the bundle: all that scoring needs.
//!
//! In flow Parquet files, JSON and Avro messages, and a bundle's folder; out flow scores with p-values, alerts that keep a
//! budget, and for every alert what each field was expected to be. Everything here is synchronous: no network, no
//! runtime, no command line. `examples/score.rs` is the whole of it in one short function.
//!
//! Data flows one way: a module uses only modules above it.
//!
//! ```text
//!   durable   rng  toml_file      files written whole; what is random; what a person wrote
//!                     |
//!                  schema        what a record is
//!                     |
//!                  records        bytes -> canonical batches
//!                     |
//!                  encode         canonical batches -> numbers
//!                     |
//!                   model         hidden fields -> predictions, losses, surprises
//!                     |
//!                   score         surprises -> score, p-value, reasons
//!                     |
//!                   bundle        manifest, weights, calibration: saved whole, loaded whole or refused
//!                     |
//!                  detector       a loaded bundle
//!                     |
//!          first_records monitor  whether what comes first, and later, is like the training data
//! ```
//!
//! # Letters
//!
//! B records, F feature fields, K views, S strata (mask ratios), R readings of a number, D width of the model.

pub mod bundle;
mod detector;
pub mod durable;
pub mod encode;
mod first_records;
pub mod model;
pub mod monitor;
pub mod records;
pub mod rng;
pub mod schema;
pub mod score;
pub mod toml_file;

pub use detector::{BudgetByError, Detector};
pub use first_records::{Cause, Excess, FIRST_RECORDS, FirstRecords, Opening};
