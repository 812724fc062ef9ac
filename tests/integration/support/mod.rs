//! What the integration tests and the benchmarks on Kafka stand on beside `maskwatch-testing`: the parts that know the daemon.
//!
//! Every wait has a deadline, and every failure panics at the caller's line with what was waited for and what was there
//! instead.

/// The stream inside this process, with a scorer that is easy to follow and commits that go wrong on
/// demand.
pub mod stream_instance;

use std::ffi::OsStr;

use maskwatch_testing::daemon::Daemon;

/// Starts the `maskwatch` binary of this build with arguments and further environment variables.
#[track_caller]
pub fn start_daemon<A: AsRef<OsStr>>(arguments: &[A], environment: &[(&str, &str)]) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_maskwatch"), arguments, environment)
}
