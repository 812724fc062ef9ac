//! maskwatch learns from Parquet what normal transactions look like, without labels, and flags those that do not fit.
//!
//! It hides fields of a record, predicts them from the fields that it left visible, and measures how surprising the true
//! values are. In flow Parquet files (training, batch scoring) and Kafka messages or HTTP requests (serving); out flow
//! scores with p-values that keep an alert budget, and for every alert what each field was expected to be.
//!
//! # The plan of the house
//!
//! Data flows one way: a module uses only modules above it. `tests/tidy.rs` keeps the plan; `ARCHITECTURE.md` says more.
//!
//! ```text
//!   durable  rng    schema
//!               \   /    \
//!             features   generate
//!                |
//!              model
//!              /   \
//!          train   score      evaluate
//!              \   /          /
//!               tune --------
//!                |
//!             artifact
//! - - - - - - - - | - - - - - - - - - - above: synchronous, no network
//!             telemetry -> stream -> http -> config -> cli
//! ```
//!
//! - [`durable`]: files and folders written whole or not at all.
//! - [`rng`]: every random draw, one seeded stream a purpose.
//! - [`schema`]: what a record is: fields with kinds and roles, checked whole, laid over Arrow schemas, or inferred from
//!   Parquet. The order of its features is the axis F everywhere.
//! - [`features`]: Parquet, JSON and Avro become one canonical `RecordBatch`, and one fitted encoder makes numbers of it. A
//!   bad record is a value with a reason from a closed list.
//! - [`generate`]: synthetic card payments with planted, labelled frauds.
//! - [`model`]: the masked autoencoder as pure maths: inputs, heads and likelihoods, masks, loss, ops with their gradients.
//! - [`train`]: the loop, the masked objective, and the partition of rows into fit, reference and calibration.
//! - [`score`]: surprises under every view, reference tables, conformal p-values, the alert budget, reasons.
//! - [`evaluate`]: how well scores find what labels mark, and how well simpler methods do.
//! - [`tune`]: how much each part of a score counts, learned from few labels.
//! - [`artifact`]: the bundle: made by a recipe, saved atomically, loaded whole or refused, used as a detector.
//! - [`telemetry`]: metrics in one table, logs, readiness. Recording cannot fail.
//! - [`stream`]: from the input topics to scores, alerts and dead letters, exactly once, behind two small traits that Kafka
//!   and an in-process twin implement.
//! - [`http`]: `/metrics`, `/healthz`, `/readyz` and `POST /v1/score`, with a bound on everything.
//! - [`config`]: the daemon's file, composed of each module's own checked part.
//! - [`cli`]: the verbs, the daemon's start-up and drain, and exit codes.
//!
//! # Letters
//!
//! B records, F feature fields, K views, S strata (mask ratios), R readings of a number, D width of the model.

pub mod artifact;
pub mod cli;
pub mod config;
pub mod durable;
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
pub mod tune;
