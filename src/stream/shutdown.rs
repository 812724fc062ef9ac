//! The request to stop: set once by a signal or a fatal error elsewhere, read by every loop of the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a wait may sleep before it looks at the flag again.
const SLICE: Duration = Duration::from_millis(20);

/// A flag that goes up once and never down; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// A flag that is down.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that shares this flag to drain and leave.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
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
}
