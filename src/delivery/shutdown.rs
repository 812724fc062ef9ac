//! The request to stop: set once by a signal or a fatal error elsewhere, read by every loop of the stream.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a wait may sleep before it reads the flag again.
const SLICE: Duration = Duration::from_millis(20);

/// A flag that goes up once and never down; clones share it. It knows when it went up: a drain is counted from there.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<OnceLock<Instant>>);

impl Shutdown {
    /// A flag that is down.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that shares this flag to drain and leave.
    pub fn request(&self) {
        // A second request changes nothing.
        let _ = self.0.set(Instant::now());
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.get().is_some()
    }

    /// When somebody asked.
    pub fn requested_at(&self) -> Option<Instant> {
        self.0.get().copied()
    }

    /// Sleeps for `duration`, less if the flag goes up; says whether it is up.
    pub fn wait(&self, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        while !self.is_requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(SLICE));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_flag_goes_up() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait(Duration::from_millis(1)));
        shutdown.clone().request();
        let begin = Instant::now();
        assert!(shutdown.wait(Duration::from_secs(60)));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_first_request_counts() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.requested_at(), None);
        shutdown.request();
        let first = shutdown.requested_at();
        std::thread::sleep(Duration::from_millis(2));
        shutdown.request();
        assert_eq!(shutdown.requested_at(), first);
    }
}
