//! Which training rows fit the model, which shape the score, and which only rank it: three disjoint parts.

use crate::bundle::CALIBRATION_ROWS_MAX;
use crate::rng::{ChaCha8Rng, Purpose, stream};
use rand::RngExt;

/// Share of the rows that shape the score (early stopping, distributions of surprises, tails).
pub const REFERENCE_SHARE: f64 = 0.1;
/// Reference rows at most: tables of 1,024 points gain nothing from more.
pub const REFERENCE_ROWS_MAX: u64 = 20_000;
/// Share of the rows that only rank the score.
pub const CALIBRATION_SHARE: f64 = 0.2;

/// What a training row is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Weights and encoder.
    Fit,
    /// Early stopping, distributions of surprises, tails.
    Reference,
    /// The final rank; nothing is fitted on it.
    Calibration,
    /// Nothing: a row of the latest times beyond the calibration part's limit.
    Unused,
}

/// Assigns a part to every row in reading order, in memory that does not depend on their number.
///
/// Random: selection sampling (Knuth 1969, algorithm S) gives the exact sizes with every subset equally likely.
#[derive(Debug, Clone)]
pub struct PartAssigner {
    rng: ChaCha8Rng,
    remaining: u64,
    reference: u64,
    calibration: u64,
    latest_from: Option<i64>,
}

impl PartAssigner {
    /// For `rows` rows at random, under `seed`.
    pub fn random(rows: u64, seed: u64) -> Self {
        Self {
            rng: stream(seed, Purpose::Split),
            remaining: rows,
            reference: part_rows(rows, REFERENCE_SHARE, REFERENCE_ROWS_MAX),
            calibration: part_rows(rows, CALIBRATION_SHARE, CALIBRATION_ROWS_MAX),
            latest_from: None,
        }
    }

    /// For `rows` rows whose calibration part is those at or after `from` (microseconds), at most 100,000.
    pub fn latest(rows: u64, from: i64, seed: u64) -> Self {
        Self {
            calibration: CALIBRATION_ROWS_MAX,
            latest_from: Some(from),
            ..Self::random(rows, seed)
        }
    }

    /// The part of the next row, whose time is `time`.
    pub fn next(&mut self, time: Option<i64>) -> Part {
        // One draw a row, whatever becomes of it, keeps the rows behind it independent of its outcome.
        let draw = self.rng.random_range(0..self.remaining.max(1));
        self.remaining = self.remaining.saturating_sub(1);
        if let Some(from) = self.latest_from {
            if time.is_some_and(|time| time >= from) {
                return take(&mut self.calibration, Part::Calibration).unwrap_or(Part::Unused);
            }
        } else if draw < self.calibration {
            return take(&mut self.calibration, Part::Calibration).unwrap_or(Part::Fit);
        }
        let after_calibration = match self.latest_from {
            Some(_) => draw,
            None => draw - self.calibration,
        };
        if after_calibration < self.reference {
            return take(&mut self.reference, Part::Reference).unwrap_or(Part::Fit);
        }
        Part::Fit
    }
}

fn take(left: &mut u64, part: Part) -> Option<Part> {
    *left = left.checked_sub(1)?;
    Some(part)
}

/// Calibration rows of so many training rows.
pub fn calibration_rows(rows: u64) -> u64 {
    part_rows(rows, CALIBRATION_SHARE, CALIBRATION_ROWS_MAX)
}

fn part_rows(rows: u64, share: f64, max: u64) -> u64 {
    ((rows as f64 * share).round() as u64).clamp(u64::from(rows > 0), max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(parts: &[Part], part: Part) -> u64 {
        parts.iter().filter(|&&p| p == part).count() as u64
    }

    fn random(rows: u64, seed: u64) -> Vec<Part> {
        let mut assigner = PartAssigner::random(rows, seed);
        (0..rows).map(|_| assigner.next(None)).collect()
    }

    proptest! {
        #[test]
        fn the_parts_have_their_exact_sizes(rows in 20u64..5000, seed: u64) {
            let parts = random(rows, seed);
            prop_assert_eq!(count(&parts, Part::Calibration), (rows as f64 * 0.2).round() as u64);
            prop_assert_eq!(count(&parts, Part::Reference), (rows as f64 * 0.1).round() as u64);
            prop_assert_eq!(&parts, &random(rows, seed));
        }
    }

    #[test]
    fn large_parts_stop_at_their_limit() {
        let parts = random(700_000, 1);
        assert_eq!(count(&parts, Part::Calibration), 100_000);
        assert_eq!(count(&parts, Part::Reference), 20_000);
    }

    #[test]
    fn every_row_is_as_likely_as_any_other_to_calibrate() {
        // 400 splits of 50 rows: the count of each row is Binomial(400, 0.2), mean 80, deviation 8; five of them.
        let mut counts = [0i32; 50];
        for seed in 0..400 {
            for (count, part) in counts.iter_mut().zip(random(50, seed)) {
                *count += i32::from(part == Part::Calibration);
            }
        }
        assert!(counts.iter().all(|c| (c - 80).abs() <= 40), "{counts:?}");
    }

    #[test]
    fn the_latest_split_calibrates_on_the_latest_rows_only() {
        let mut assigner = PartAssigner::latest(1000, 800, 3);
        for time in 0..1000 {
            let part = assigner.next(Some(time));
            assert_eq!(part == Part::Calibration, time >= 800, "{time}: {part:?}");
        }
        assert_ne!(PartAssigner::latest(10, 0, 0).next(None), Part::Calibration);
    }
}
