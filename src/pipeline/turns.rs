//! Whose turn it is on the scoring thread that serves the stream and HTTP: the share of its time that requests get while
//! batches of the stream wait.
//!
//! Times of what was done flow in, a yes or no flows out. The invariant: over any stretch in which batches always wait,
//! requests take at most one part in [`PARTS`] of the thread's time, and one request more.

use std::time::Duration;

/// Of this many parts of the thread's time requests get one, while batches wait: with two threads an eighth of all scoring.
/// A request of one record is answered after a few batches then, and the stream loses little while it catches up.
pub const PARTS: u32 = 4;

/// The account between the stream and HTTP.
#[derive(Debug, Default)]
pub struct Turns {
    /// Time that batches are due before the next request may go ahead of one.
    owed: Duration,
}

impl Turns {
    /// Whether a request may go ahead of a batch that waits.
    pub fn request_goes_first(&self) -> bool {
        self.owed.is_zero()
    }

    /// A request went ahead of a batch and took so long.
    pub fn request_took(&mut self, time: Duration) {
        self.owed += time * (PARTS - 1);
    }

    /// A batch took so long.
    pub fn batch_took(&mut self, time: Duration) {
        self.owed = self.owed.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_a_quarter_of_the_time_whatever_each_takes() {
        for (request_ms, batch_ms) in [(5, 5), (1, 20), (200, 3)] {
            let (request, batch) = (
                Duration::from_millis(request_ms),
                Duration::from_millis(batch_ms),
            );
            let (mut turns, mut of_requests, mut of_batches) =
                (Turns::default(), Duration::ZERO, Duration::ZERO);
            for _ in 0..10_000 {
                if turns.request_goes_first() {
                    turns.request_took(request);
                    of_requests += request;
                } else {
                    turns.batch_took(batch);
                    of_batches += batch;
                }
            }
            assert!(of_requests <= of_batches / (PARTS - 1) + request);
            // A batch is not cut short: its rest is what requests may lose, each time.
            let rounds = of_requests.as_millis() / request.as_millis();
            let lost = batch * u32::try_from(rounds).unwrap_or(u32::MAX);
            assert!(of_requests * (PARTS - 1) + lost >= of_batches);
        }
    }
}
