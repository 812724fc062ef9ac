//! The promises of delivery against an in-process twin of Kafka that fails on demand: whatever goes wrong, and whenever.
//!
//! `memory` is the twin, `stream` runs the daemon's own sessions and scoring threads on it. What is claimed of delivery is
//! also tested on a real broker (`tests/integration`); here faults come at every place, in seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Cluster, group and log in memory.
mod memory;
// The stream on it.
mod stream;

// Nothing lost, nothing doubled, order kept.
mod promises;

// Outputs that their topics refuse.
mod refused;

// A request to stop.
mod drain;

// Models that follow each other while the stream runs.
mod exchange;

// A budget that is held by segment.
mod segments;

// The first records beside the training's.
mod first_records;

// The budget and the fields of what is committed.
mod stream_monitor;
