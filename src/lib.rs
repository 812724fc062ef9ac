//! maskwatch learns from Parquet what normal transactions look like, without labels, and flags those that do not fit.

pub mod artifact;
pub mod cli;
pub mod config;
pub mod evaluate;
pub mod features;
pub mod generate;
pub mod http;
pub mod model;
pub mod rng;
pub mod schema;
pub mod score;
pub mod stream;
pub mod telemetry;
pub mod train;
