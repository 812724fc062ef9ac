//! Formats against each other: the same records, however they are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Parquet, JSON and Avro give the same rows and the same faults.
mod agreement;

// Records in envelopes are what they are alone.
mod envelopes;
