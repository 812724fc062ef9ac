//! maskwatch learns from Parquet what normal transactions look like, without labels, and flags those that do not fit.
//!
//! It hides fields of a record, predicts them from the fields that it left visible, and measures how surprising the true
//! values are. In flow Parquet files (training, batch scoring) and Kafka messages or HTTP requests (serving); out flow
//! scores with p-values that keep an alert budget, and for every alert what each field was expected to be.
//!
//! # The plan of the house
//!
//! Data flows one way: a crate or module uses only what stands above it. Crate borders and `tests/tidy.rs` keep the plan;
//! `ARCHITECTURE.md` says more.
//!
//! ```text
//!     maskwatch-core            what a record is, the model, its score, the bundle
//!        |         \
//!  maskwatch-learn  maskwatch-generate      data -> bundle; synthetic payments
//! - - - - - - - - - | - - - - - - - - - - - above: synchronous, no network; below: this package
//!    models, telemetry -> pipeline -> delivery -> kafka -> http -> config -> cli
//! ```
//!
//! - [`models`]: a folder of bundles with pointers to the one that serves, and a log of who changed them.
//! - [`telemetry`]: metrics in one table, logs, readiness. Recording cannot fail.
//! - [`pipeline`]: decodes, scores and writes a batch of messages, or the records of a request; the scoring threads.
//! - [`delivery`]: sessions that take messages from a source, and commit outputs and offsets together, exactly once, behind
//!   two small traits that Kafka and an in-process twin implement.
//! - [`kafka`]: both traits with librdkafka; the registry of schemas, tokens, the in-process broker.
//! - [`http`]: `/metrics`, `/healthz`, `/readyz` and `POST /v1/score`, with a bound on everything.
//! - [`config`]: the daemon's file, composed of each room's checked part.
//! - [`cli`]: the verbs, the daemon's start-up and drain, and exit codes.
//!
//! The modules of the other crates are here under their own names, as a program that does all of it needs them together.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod http;
pub mod kafka;
pub mod models;
pub mod pipeline;
pub mod telemetry;

pub use maskwatch_core::{
    BudgetByError, Cause, Detector, Excess, FIRST_RECORDS, FirstRecords, Opening, bundle, durable,
    encode, model, monitor, records, rng, schema, score, toml_file,
};
pub use maskwatch_generate as generate;
pub use maskwatch_learn::{evaluate, recipe, train, transfer, tune};
