//! From the input topics to scores, alerts and dead letters, exactly once.
//!
//! ```text
//! Source -> Batcher -> ScoringLink -> [scoring threads: Pipeline] -> ScoringLink -> Sink
//!    \__________________ session, on the stream's thread ______________________/
//! ```
//!
//! `delivery` runs sessions one after the other; a `session` is a consumer and a producer whose offsets and outputs commit
//! together. `kafka` implements both ends; an in-process twin of them, which fails on demand, tests the promises.

pub mod batcher;
pub mod calls;
pub mod config;
pub mod dead_letter;
pub mod decoder;
pub mod delivery;
#[cfg(test)]
mod drain_promises;
pub mod envelope;
pub mod fault;
mod fencing;
pub mod first_look;
pub mod kafka;
#[cfg(test)]
mod memory;
pub mod message;
pub mod oauth;
pub mod output;
pub mod pipeline;
#[cfg(test)]
mod promises;
pub mod properties;
pub mod refusal;
#[cfg(test)]
mod refused_promises;
pub mod scoring;
#[cfg(test)]
mod segments;
pub mod session;
pub mod shutdown;
pub mod sink;
pub mod source;
mod turns;
mod turnstile;
pub mod types;
pub mod watchdog;
