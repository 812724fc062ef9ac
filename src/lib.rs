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
//!    telemetry -> stream -> http -> config -> cli
//! ```
//!
//! - [`telemetry`]: metrics in one table, logs, readiness. Recording cannot fail.
//! - [`stream`]: from the input topics to scores, alerts and dead letters, exactly once, behind two small traits that Kafka
//!   and an in-process twin implement.
//! - [`http`]: `/metrics`, `/healthz`, `/readyz` and `POST /v1/score`, with a bound on everything.
//! - [`config`]: the daemon's file, composed of each module's own checked part.
//! - [`cli`]: the verbs, the daemon's start-up and drain, and exit codes.
//!
//! The modules of the other crates are here under their own names, as a program that does all of it needs them together.

pub mod cli;
pub mod config;
pub mod http;
pub mod stream;
pub mod telemetry;

pub use maskwatch_core::{
    BudgetByError, Cause, Detector, Excess, FIRST_RECORDS, FirstRecords, Opening, bundle, durable,
    encode, model, records, rng, schema, score,
};
pub use maskwatch_generate as generate;
pub use maskwatch_learn::{evaluate, recipe, train, transfer, tune};
