//! What the integration tests stand on, one concern a file.
//!
//! Nothing here knows what maskwatch computes. Every wait has a deadline, and every failure panics
//! at the caller's line with what was waited for and what was there instead.

/// Certificates of a test run, made by `openssl`.
pub mod certificates;
/// One Apache Kafka broker for all tests of this run, or the cluster of `MASKWATCH_TEST_BROKERS`.
pub mod kafka_broker;
/// Three Apache Kafka brokers that tests stop, kill, freeze and start again, with SCRAM, mTLS and ACLs.
pub mod kafka_cluster;
/// One of those brokers as a process.
mod kafka_node;
/// Topics: create, produce, read to the end, and what a group has committed.
pub mod kafka_topics;
/// The two requests of Kafka's protocol that librdkafka's binding has no call for.
pub mod kafka_wire;

/// Headers of any bytes.
mod header_bytes;

/// The daemon, or any other program, as a child process, and its HTTP endpoints.
pub mod daemon;

/// The stream inside this process, with a scorer that is easy to follow and commits that go wrong on
/// demand.
pub mod stream_instance;

/// Ends children and removes folders even where this process is killed.
pub mod leash;
/// Signals to children, without a program that sends them.
mod signals;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How often a condition that is waited for is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// `N` different TCP ports of the loopback interface that were free a moment ago.
///
/// All are held until the last is known, so that they differ. Another process may still take one
/// before its user binds it, so a caller who starts a server on one must notice that it failed.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("no free loopback port"));
    held.map(|listener| {
        listener
            .local_addr()
            .expect("a bound socket has an address")
            .port()
    })
}

/// Looks every 20 ms until `find` gives a value, and returns it; `None` after `patience`.
///
/// `find` is called at least once, and once more after the time is over.
pub fn poll_until<T>(patience: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let last_look = Instant::now() >= deadline;
        let found = find();
        if found.is_some() || last_look {
            return found;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The last `lines` lines of a log, for an error message.
fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
