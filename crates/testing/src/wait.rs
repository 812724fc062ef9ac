//! Waits with a deadline, free ports, and the ends of logs.

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
pub(crate) fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
