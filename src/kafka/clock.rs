//! A clock that goes on while the machine is suspended, as the cluster's does meanwhile.
//!
//! `Instant` stands still then on Linux: a transaction that the cluster has ended long ago would look as if it had just begun.

use std::time::Duration;

/// A moment of that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    since_start: Duration,
}

impl Moment {
    /// The present one.
    pub fn now() -> Self {
        Self {
            since_start: since_start(),
        }
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        since_start().saturating_sub(self.since_start)
    }
}

/// Since the machine was started.
#[cfg(target_os = "linux")]
fn since_start() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Since the first call.
#[cfg(not(target_os = "linux"))]
fn since_start() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn while_the_machine_runs_the_clock_goes_as_any_other() {
        let (moment, instant) = (Moment::now(), Instant::now());
        std::thread::sleep(Duration::from_millis(30));
        let least = instant.elapsed();
        assert!(moment.elapsed() >= least, "{least:?}");
        assert!(moment.elapsed() <= least + Duration::from_secs(60));
    }
}
