//! The integration tests: one binary, so that everything is linked once and all tests that need
//! Apache Kafka share one broker, which the first of them starts.
//!
//! Each file holds the tests of one promise. `maskwatch-testing` is what they stand on: a real broker, its
//! topics, and the daemon as a child process. Run one file's tests by its name:
//! `cargo test --test integration kafka_rig`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// The rig itself: that the broker is a real one, and that what it reports can be believed.
mod kafka_rig;

// Delivery: every record once, whatever happens to transactions, instances and single records.
mod exactly_once;

// Records of any bytes, and outputs that their topics refuse: neither stops the stream.
mod outputs;

// The stream goes on where a broker goes away.
mod coordinator;

// An instance that is fenced ends where it has a twin, and goes on where it has none.
mod fencing;

// Who is not let in says so and ends.
mod credentials;

// Tokens of an identity provider let the stream in, and are renewed.
mod oauth;

// What the group owes: lag, readiness and the way on are told from the committed offset.
mod retention;

// The verbs on files: they agree with each other, and refuse what is wrong in an orderly way.
mod verbs;

// README, quickstart and references: the commands work as printed, and outputs follow their JSON Schemas.
mod documents;

// The daemon itself: the binary with a trained model between Kafka and HTTP, killed, drained, fed
// with bad records and misconfigured.
mod serve;

// Three brokers, some of which go away: the rig, and the daemon on it.
mod chaos;

mod support;
