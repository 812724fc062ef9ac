//! From data to a bundle: training, tuning by few labels, and how well scores find what labels mark.
//!
//! In flow Parquet files, a schema, a configuration and a seed; out flow a bundle that `maskwatch_core` loads, and
//! reports. Nothing here serves: what scoring needs is in `maskwatch_core`.
//!
//! ```text
//!   settings                       what can be set for a training
//!        |
//!   transfer   train     evaluate      weights over to another encoding; fitting; scores + labels -> metrics
//!        |       |          |
//!        |       |        tune         components, fields + labels -> a second detector
//!        |       |          |
//!        '---  recipe  -----'          data -> bundle
//! ```

pub mod evaluate;
pub mod recipe;
mod settings;
pub mod train;
pub mod transfer;
pub mod tune;

// Paths below read as they do in the crate that these modules come from.
use maskwatch_core::{
    Detector, bundle, durable, encode, model, records, rng, schema, score, toml_file,
};
