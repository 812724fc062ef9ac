//! The daemon's one HTTP port: `/metrics`, `/healthz`, `/readyz`, `POST /v1/score`
//! and, with a token, `POST /v1/models/reload`. Requests
//! flow in, text and JSON flow out; records go to whatever implements [`RequestScorer`], so nothing
//! here knows of models or brokers. Everything has a bound: connections, requests at a time, bytes
//! and records of a request, and the time that each step may take.
//!
//! # Security
//! There is neither TLS nor authentication on this port, and the default address
//! ([`DEFAULT_LISTEN`]) is loopback. Whoever reaches it can read the metrics (names of topics and
//! fields, rates), score records of their own, and learn from the answers what values the model
//! expects; nobody can write to Kafka. Only who knows the configured token can have the daemon look for
//! another model in its own folder ([`Reload`]); without a token nobody can. To listen on another address, put a
//! reverse proxy with TLS and authentication in front, or allow only Prometheus and the callers in
//! by network policy. [`bind`] warns when the address is not loopback.

mod body;
mod connections;
mod reload;
mod router;
mod scorer;
mod server;
mod split;
#[cfg(test)]
mod tests;

pub use reload::{ModelReloader, Reload, ReloadBusy, Reloaded};
pub use router::{HttpState, router};
pub use scorer::{RequestScorer, ScoreOutcome, SubmitError};
pub use server::{DEFAULT_LISTEN, HttpError, bind, run};

use std::time::Duration;

/// Bytes of one request: a thousand large records. A record alone is bounded further by the
/// decoder.
pub const DEFAULT_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Records of one request: with the default model, a tenth of a second or two of both of two cores.
pub const DEFAULT_RECORDS_MAX: usize = 1_000;
/// Score requests at a time; with the body limit this bounds their memory.
pub const DEFAULT_REQUESTS_MAX: usize = 16;
/// Connections at a time: probes, scrapes and a pool or two of clients. A newcomer takes the place of the one that has
/// been idle for the longest, so that no number of slow clients keeps a probe or a scrape out.
pub const DEFAULT_CONNECTIONS_MAX: usize = 128;
/// Time to read the head of a request, and to wait for the next: longer than a scrape interval of
/// 15 s, so that Prometheus keeps its connection.
pub const DEFAULT_HEADER_TIMEOUT_MS: u64 = 20_000;
/// Time to read the body of a request.
pub const DEFAULT_BODY_TIMEOUT_MS: u64 = 10_000;
/// Time to wait for scores; the stream has priority.
pub const DEFAULT_SCORE_TIMEOUT_MS: u64 = 5_000;
/// Age at which a connection is closed after the request in hand, which bounds a client that never
/// reads its answer.
pub const DEFAULT_CONNECTION_AGE_MS: u64 = 300_000;
/// Time for requests in hand to end on shutdown.
pub const DEFAULT_SHUTDOWN_TIMEOUT_MS: u64 = 5_000;

/// Every bound of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request's body.
    pub body_bytes_max: usize,
    /// Records of one request.
    pub records_max: usize,
    /// Score requests at a time; beyond that 429.
    pub requests_max: usize,
    /// Connections at a time; beyond that the one that has been idle for the longest is closed.
    pub connections_max: usize,
    /// Time to read the head of a request.
    pub header_timeout: Duration,
    /// Time to read the body of a request.
    pub body_timeout: Duration,
    /// Time to wait for scores.
    pub score_timeout: Duration,
    /// Age at which a connection is closed.
    pub connection_age: Duration,
    /// Time for requests in hand to end, on shutdown and at the end of a connection's age.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: DEFAULT_BODY_BYTES_MAX,
            records_max: DEFAULT_RECORDS_MAX,
            requests_max: DEFAULT_REQUESTS_MAX,
            connections_max: DEFAULT_CONNECTIONS_MAX,
            header_timeout: Duration::from_millis(DEFAULT_HEADER_TIMEOUT_MS),
            body_timeout: Duration::from_millis(DEFAULT_BODY_TIMEOUT_MS),
            score_timeout: Duration::from_millis(DEFAULT_SCORE_TIMEOUT_MS),
            connection_age: Duration::from_millis(DEFAULT_CONNECTION_AGE_MS),
            shutdown_timeout: Duration::from_millis(DEFAULT_SHUTDOWN_TIMEOUT_MS),
        }
    }
}
