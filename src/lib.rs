//! maskwatch learns from Parquet what normal transactions look like, without labels, and flags those that do not fit.

pub mod features;
pub mod rng;
pub mod schema;
pub mod score;
pub mod stream;
pub mod telemetry;
