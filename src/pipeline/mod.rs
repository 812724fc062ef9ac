//! Everything that happens to a batch of messages between reading and sending: decode, score, explain, write.
//!
//! ```text
//! MessageBatch -> [scoring threads: Pipeline = decoder, then model, then envelopes and dead letters] -> ScoredBatch
//! ```
//!
//! Messages flow in and planned outputs flow out, over HTTP single records and their outcomes. A [`Pipeline`] is built once
//! and given with each batch; `exchange` is how another one follows it. The room knows the words of a log (topic, partition, offset: `types`), and no broker. Its
//! invariant: every message has one fate, in the order of the messages, whatever its neighbours are.

pub mod dead_letter;
pub mod decoder;
pub mod envelope;
pub mod exchange;
pub mod first_records;
mod handle;
pub mod message;
pub mod options;
pub mod output;
pub mod scoring;
pub mod stream_monitor;
mod turns;
mod turnstile;
pub mod types;

pub use handle::{
    DecodedBatch, Pipeline, PipelineError, PipelineOptions, RECORD_BYTES_MAX, RecordScorer,
    ScoreOutcome, ScorerFailure,
};
