//! Whether a stream has changed in any way that scores show: a conformal test martingale whose bag grows.
//!
//! In flow scores in the order of the stream. Each is ranked in a [`GrowingBag`], and the rank is bet on (`betting`). The claim
//! is that the scores of calibration rows and stream could have come in any order. A bag that grows learns what has changed,
//! so that the wealth falls again some time after a change that stays.

use super::bag::GrowingBag;
use super::betting::UniformityBets;

/// The test of one bundle's scores. It starts anew with a process and with every exchange of the model.
#[derive(Debug, Clone)]
pub struct ExchangeabilityTest {
    bag: GrowingBag,
    bets: UniformityBets,
}

impl ExchangeabilityTest {
    /// A test that ranks in this bag.
    pub fn new(bag: GrowingBag) -> Self {
        Self {
            bag,
            bets: UniformityBets::new(),
        }
    }

    /// Takes in the score of the next record.
    pub fn observe(&mut self, score: f32) {
        self.bets.observe(self.bag.rank(score));
    }

    /// The wealth after the records so far, > 0: 1 at the start.
    pub fn wealth(&self) -> f64 {
        self.bets.wealth()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::super::horizon::ALARM_WEALTH;
    use super::*;
    use crate::rng::{ChaCha8Rng, Purpose, stream};

    /// Something like a score: -log of a uniform number.
    fn score(rng: &mut ChaCha8Rng) -> f32 {
        -(1.0 - rng.random::<f32>()).ln()
    }

    fn test(rng: &mut ChaCha8Rng, rows: usize) -> ExchangeabilityTest {
        let mut calibration: Vec<f32> = (0..rows).map(|_| score(rng)).collect();
        calibration.sort_unstable_by(f32::total_cmp);
        ExchangeabilityTest::new(GrowingBag::of_calibration(&calibration, 0))
    }

    /// The largest wealth of an undisturbed stream.
    fn largest(seed: u64, rows: usize, records: usize) -> f64 {
        let mut rng = stream(seed, Purpose::Tests);
        let mut test = test(&mut rng, rows);
        let wealths = (0..records).map(|_| {
            test.observe(score(&mut rng));
            test.wealth()
        });
        wealths.fold(0.0, f64::max)
    }

    /// Records of scores that are `times` as large, after `quiet` undisturbed ones, until the alarm.
    fn found_after(times: f32, quiet: usize, seed: u64) -> Option<usize> {
        let mut rng = stream(seed, Purpose::Tests);
        let mut test = test(&mut rng, 12_000);
        for _ in 0..quiet {
            test.observe(score(&mut rng));
        }
        (1..=100_000).find(|_| {
            test.observe(times * score(&mut rng));
            test.wealth() >= ALARM_WEALTH
        })
    }

    #[test]
    fn a_stream_in_no_order_is_quiet() {
        for seed in 0..6 {
            for rows in [1_000, 12_000] {
                let wealth = largest(seed, rows, 50_000);
                assert!(wealth < ALARM_WEALTH, "{seed} {rows}: {wealth}");
            }
        }
    }

    #[test]
    fn scores_that_grow_by_a_tenth_are_found_also_after_a_long_quiet_time() {
        let found: Vec<_> = (0..5).map(|seed| found_after(1.1, 0, seed)).collect();
        assert!(
            found.iter().all(|found| found.is_some_and(|n| n < 20_000)),
            "{found:?}"
        );
        let found: Vec<_> = (0..3).map(|seed| found_after(1.1, 200_000, seed)).collect();
        assert!(
            found.iter().all(|found| found.is_some_and(|n| n < 20_000)),
            "{found:?}"
        );
    }

    #[test]
    #[ignore = "forty million records; its output is in docs/notebook"]
    #[expect(clippy::print_stdout, reason = "its numbers are the result")]
    fn twenty_streams_of_a_million_records_in_no_order_are_quiet() {
        for rows in [1_000, 12_000] {
            let begin = std::time::Instant::now();
            let mut largest: Vec<f64> =
                (0..20).map(|seed| largest(seed, rows, 1_000_000)).collect();
            largest.sort_unstable_by(f64::total_cmp);
            println!(
                "{rows} rows: largest wealths of 20 streams: {largest:.2?}; {:.1} ns a record, its score included",
                begin.elapsed().as_secs_f64() * 50.0
            );
            assert!(largest[19] < ALARM_WEALTH, "{largest:?}");
        }
        for (times, quiet) in [
            (1.05, 0),
            (1.1, 0),
            (1.5, 0),
            (1.05, 1_000_000),
            (1.1, 1_000_000),
            (1.5, 1_000_000),
        ] {
            let mut found: Vec<_> = (0..11)
                .map(|seed| found_after(times, quiet, seed).unwrap_or(usize::MAX))
                .collect();
            found.sort_unstable();
            println!("scores {times} times as large after {quiet} records: found after {found:?}");
        }
    }

    #[test]
    fn the_same_stream_gives_the_same_wealth() {
        let largest = || largest(4, 500, 5_000);
        assert_eq!(largest(), largest());
    }
}
