//! What tests and benchmarks of several packages stand on. Nothing of it is in the product.
//!
//! - a real cluster: one broker for all tests of a run ([`kafka_broker`]), or three that can be stopped, killed and frozen
//!   ([`kafka_cluster`]), with topics ([`kafka_topics`]), certificates and the requests that the binding lacks;
//! - programs as child processes, which never outlive the tests ([`daemon`], [`leash`]);
//! - a stand-in for a model ([`amount`]).
//!
//! Every wait has a deadline, and every failure panics at the caller's line with what was waited for and what was there
//! instead.
//!
//! It uses core alone. What stands to the right of core may use it in tests. Core may not: unit tests of core are another
//! compilation of it, whose types are not the ones here, and they would have to wait for librdkafka. So what only tests of
//! core need, as their writers of Avro, stands beside these. For the same reason nothing here names a type of the daemon.
//! What needs both stands with the tests: the in-process twin of Kafka in `tests/delivery`, the stream with faulty commits in
//! `tests/integration/support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a test"
)]

pub mod amount;
pub mod certificates;
pub mod daemon;
mod header_bytes;
pub mod kafka_broker;
pub mod kafka_cluster;
mod kafka_node;
pub mod kafka_topics;
pub mod kafka_wire;
pub mod leash;
mod signals;
mod wait;

pub use wait::{free_ports, poll_until};
