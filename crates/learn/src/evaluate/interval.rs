//! A share with what a finite number of rows makes of it.
//!
//! In flow counts, out flows a share with its 95 % interval (Clopper & Pearson 1934): exact, never narrower than it says,
//! also for the handful of alerts that a small group has. Invariant: 0 <= low <= share <= high <= 1.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// How often an interval holds the true share, at least.
pub const CONFIDENCE: f64 = 0.95;

/// A share of rows, and the interval of the probability behind it if rows are independent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Observed, 0..=1.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// `hits` of `rows`, at most all of them; `None` of no row.
    pub fn of(hits: usize, rows: usize) -> Option<Self> {
        if rows == 0 || hits > rows {
            return None;
        }
        let (k, n) = (hits as f64, rows as f64);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let low = match hits {
            0 => 0.0,
            _ => quantile(k, n - k + 1.0, tail)?,
        };
        let high = match rows - hits {
            0 => 1.0,
            _ => quantile(k + 1.0, n - k, 1.0 - tail)?,
        };
        let share = k / n;
        Some(Self {
            share,
            low: low.clamp(0.0, share),
            high: high.clamp(share, 1.0),
        })
    }
}

/// The p quantile of Beta(a, b), by halving: the library's own inverse stops where x no longer changes by 1e-10 or so,
/// which for one alert in a million rows is in the fourth digit.
fn quantile(a: f64, b: f64, p: f64) -> Option<f64> {
    let beta = Beta::new(a, b).ok()?;
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        // Doubles are finite in number, so that the two meet, after about 60 steps unless the quantile is tiny.
        if middle <= low || middle >= high {
            return Some(middle);
        }
        if beta.cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_interval_is_scipys() {
        // SciPy 1.17.1: c = stats.binomtest(k, n).proportion_ci(.95, method="exact"); c.low, c.high
        let expected = [
            (0, 20, 0.0, 0.16843347098308548),
            (20, 20, 0.8315665290169145, 1.0),
            (3, 10, 0.06673951117773447, 0.652452850060008),
            (1, 1_000, 2.5317487491674634e-05, 0.0055589242798499),
            (12, 10_000, 0.0006202063768478915, 0.002095219279371009),
            (0, 1_000_000, 0.0, 3.688872650897376e-06),
            (
                537,
                5_000_000,
                9.850756574252903e-05,
                0.00011687957370918261,
            ),
            (4_999_999, 5_000_000, 0.999998885671988, 0.9999999949364384),
            (
                2_500_000,
                5_000_000,
                0.49956163883560756,
                0.5004383611643924,
            ),
        ];
        for (hits, rows, low, high) in expected {
            let found = Share::of(hits, rows).unwrap();
            assert_eq!(found.share, hits as f64 / rows as f64);
            let near = |found: f64, expected: f64| (found - expected).abs() <= 1e-7 * expected;
            assert!(
                near(found.low, low) && near(found.high, high),
                "{hits} of {rows}: {found:?}"
            );
        }
        assert_eq!(Share::of(0, 0), None);
    }

    proptest! {
        #[test]
        fn the_share_is_within_its_interval(rows in 1usize..200_000, part in 0.0..=1.0f64) {
            let hits = (part * rows as f64) as usize;
            let Share { share, low, high } = Share::of(hits, rows).unwrap();
            prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
            prop_assert!(low < high);
        }
    }
}
