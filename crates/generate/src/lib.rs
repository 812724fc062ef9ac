//! Synthetic card payments in time order, with planted and labelled frauds.
//!
//! In flows a [`GeneratorConfig`] (seed, sizes, fraud share, start), out flow Arrow batches
//! ([`Generator::next_batch`]), one JSON object a payment ([`JsonRows`]) or a Parquet file
//! ([`write_parquet`]). The same configuration gives the same payments whatever the batch size, and
//! the memory needed depends on the customers and terminals, never on the rows.
//!
//! ```text
//! world (cities, terminals) ─┐
//! customer (habits, state) ──┼─> simulation (one queue of events in time order) -> batch -> json, write
//! rhythm (hours of a week) ──┤
//! scenario (planned frauds) ─┘
//! ```
//!
//! Frauds are meant to be found from the single record, but not by one rule: genuine customers
//! travel, change devices, buy dear things and make bursts of small payments, and some thieves
//! spend exactly as the owner would.

mod batch;
mod config;
mod customer;
mod error;
mod habits;
mod json;
mod origin;
mod payment;
mod rhythm;
mod scenario;
mod simulation;
mod world;
mod write;

pub use batch::{Batches, Generator, payment_schema};
pub use config::{
    DEFAULT_CUSTOMERS, DEFAULT_FRAUD_SHARE, DEFAULT_ROWS, DEFAULT_START_UNIX_S, DEFAULT_TERMINALS,
    GeneratorConfig,
};
pub use error::GenerateError;
pub use json::{JsonRows, to_json_lines};
pub use origin::Origin;
pub use scenario::Scenario;
pub use write::{WriteSummary, write_parquet};

use maskwatch_core::{durable, rng};
