//! How unusual a value is among reference values: -log of the share of them that are at least as large.
//!
//! Within the reference sample this is the empirical survival function, interpolated between at most 1,024 points so
//! that nearby values stay apart; beyond its 90 % point a logarithmic tail keeps extremes apart that no sample reaches.
//! The tables only shape the score: what an alert promises rests on the calibration part alone.

use serde::{Deserialize, Serialize};

/// Points of a table at most: steps of a thousandth.
pub const KNOTS_MAX: usize = 1024;
/// Where the tail begins: beyond it fewer than a tenth of the reference values are left to count.
const TAIL_QUANTILE: f64 = 0.9;

/// The -log survival function of a reference sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SurvivalTable {
    /// Strictly ascending.
    values: Vec<f32>,
    /// -log survival at each value, ascending from 0, nats.
    surprisals: Vec<f32>,
    /// Mean excess over the last value: the unit of the tail, > 0.
    tail_scale: f32,
}

impl SurvivalTable {
    /// The table of a sample; values that are no numbers are left out. An empty sample finds nothing unusual.
    pub fn fit(sample: &[f32]) -> Self {
        Self::fit_until(sample, TAIL_QUANTILE)
    }

    /// As [`fit`](Self::fit), but empirical up to the largest value: for shares that are shown as such. Half of the
    /// points lie beyond the 90 % point, ever closer to the end.
    pub fn fit_whole(sample: &[f32]) -> Self {
        Self::fit_until(sample, 1.0)
    }

    fn fit_until(sample: &[f32], quantile: f64) -> Self {
        let mut sorted: Vec<f32> = sample.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let n = sorted.len();
        if n == 0 {
            return Self {
                values: vec![f32::MAX],
                surprisals: vec![0.0],
                tail_scale: 1.0,
            };
        }
        let (mut values, mut surprisals) = (Vec::new(), Vec::new());
        for rank in knot_ranks(n, quantile) {
            let value = sorted[rank];
            if values.last().is_some_and(|&last| last >= value) {
                continue;
            }
            let below = sorted.partition_point(|&x| x < value);
            values.push(value);
            surprisals.push(-((n - below + 1) as f64 / (n + 1) as f64).ln() as f32);
        }
        let threshold = sorted[((n - 1) as f64 * TAIL_QUANTILE) as usize];
        let largest = sorted[n - 1];
        if quantile >= 1.0 && largest < f32::MAX {
            // However many values tie at the end, as all of a constant field do, what lies beyond was never seen.
            values.push(largest.next_up());
            surprisals.push(((n + 1) as f64).ln() as f32);
        }
        Self {
            values,
            surprisals,
            tail_scale: tail_scale(&sorted, threshold),
        }
    }

    /// The share of reference values that are at least x, in (0, 1], of a table that was fitted whole: never below what
    /// the sample can tell, 1 / (n + 1) of n values.
    pub fn share_at_least(&self, x: f32) -> f64 {
        let last = self.surprisals.last().copied().unwrap_or(0.0);
        f64::from(-self.surprisal(x).min(last)).exp()
    }

    /// -log of the share of reference values that are at least x, nats, >= 0 and never falling in x; infinite for a
    /// NaN, which is never normal.
    pub fn surprisal(&self, x: f32) -> f32 {
        if x.is_nan() {
            return f32::INFINITY;
        }
        let next = self.values.partition_point(|&value| value <= x);
        if next == 0 {
            return 0.0;
        }
        let (value, surprisal) = (self.values[next - 1], self.surprisals[next - 1]);
        if next == self.values.len() {
            return surprisal + ((x - value) / self.tail_scale).ln_1p();
        }
        let share = (x - value) / (self.values[next] - value);
        surprisal + share * (self.surprisals[next] - surprisal)
    }

    /// The value that the share `quantile` of the reference values does not exceed, for quantiles up to 0.9; the tail's
    /// estimate beyond.
    pub fn quantile(&self, quantile: f32) -> f32 {
        let target = -(1.0 - quantile).max(1e-6).ln();
        let next = self.surprisals.partition_point(|&s| s <= target);
        if next == 0 {
            return self.values[0];
        }
        let (value, surprisal) = (self.values[next - 1], self.surprisals[next - 1]);
        if next == self.values.len() {
            return value + (target - surprisal).exp_m1() * self.tail_scale;
        }
        let share = (target - surprisal) / (self.surprisals[next] - surprisal);
        value + share * (self.values[next] - value)
    }

    /// Values, -log survivals and the tail's unit.
    pub fn parts(&self) -> (&[f32], &[f32], f32) {
        (&self.values, &self.surprisals, self.tail_scale)
    }

    /// The table of stored parts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_parts(
        values: Vec<f32>,
        surprisals: Vec<f32>,
        tail_scale: f32,
    ) -> Result<Self, String> {
        if values.is_empty() || values.len() != surprisals.len() || values.len() > KNOTS_MAX {
            let (v, s) = (values.len(), surprisals.len());
            return Err(format!(
                "{v} values and {s} surprisals, expected 1..={KNOTS_MAX} of each"
            ));
        }
        if !values.is_sorted_by(|a, b| a < b) || !surprisals.is_sorted() {
            return Err("values or surprisals are not ascending".to_owned());
        }
        let is_bad = |s: &f32| !(s.is_finite() && *s >= 0.0);
        if !(tail_scale > 0.0) || surprisals.iter().any(is_bad) {
            return Err(format!(
                "tail scale {tail_scale}: must be above 0, surprisals finite and at least 0"
            ));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("value {value}: must be finite"));
        }
        Ok(Self {
            values,
            surprisals,
            tail_scale,
        })
    }
}

/// Ranks of the sorted sample at which the table has points, ascending, at most [`KNOTS_MAX`].
///
/// Evenly spaced up to the quantile; for a quantile of 1, evenly up to 90 % and from there evenly in the logarithm of
/// what is left.
fn knot_ranks(n: usize, quantile: f64) -> Vec<usize> {
    let even = |points: usize, last: usize| {
        let points = points.min(last + 1);
        (0..points).map(move |point| match points {
            1 => last,
            _ => point * last / (points - 1),
        })
    };
    let tail = ((n - 1) as f64 * TAIL_QUANTILE) as usize;
    if quantile < 1.0 {
        return even(KNOTS_MAX, tail).collect();
    }
    // One point more stands beyond the largest value.
    let half = KNOTS_MAX / 2 - 1;
    let left = (n - tail) as f64;
    let upper = (0..half).map(|point| {
        let left = left.powf(1.0 - (point + 1) as f64 / half as f64).round() as usize;
        n - left.max(1)
    });
    let mut ranks: Vec<usize> = even(half, tail).chain(upper).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// The mean excess over the threshold, and never nothing.
fn tail_scale(sorted: &[f32], threshold: f32) -> f32 {
    let over: Vec<f64> = sorted
        .iter()
        .filter(|&&x| x > threshold)
        .map(|&x| f64::from(x - threshold))
        .collect();
    let mean_excess = if over.is_empty() {
        0.0
    } else {
        over.iter().sum::<f64>() / over.len() as f64
    };
    let n = sorted.len() as f64;
    let mean = sorted.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = sorted
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n;
    mean_excess.max(1e-3 * (variance.sqrt() + 1e-6)) as f32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn within_the_sample_it_is_the_empirical_survival() {
        let sample: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let table = SurvivalTable::fit(&sample);
        // NumPy: c = np.arange(100.); -np.log((100 - np.searchsorted(c, 50.) + 1) / 101) -> 0.683219
        assert!((table.surprisal(50.0) - 0.683_219).abs() < 1e-4);
        assert_eq!(table.surprisal(-5.0), 0.0);
        assert!((table.quantile(0.5) - 50.0).abs() < 1.0);
    }

    #[test]
    fn beyond_a_constant_sample_a_value_is_as_rare_as_so_many_rows_can_tell() {
        for (sample, share) in [(vec![0.5; 99], 0.01), (vec![0.0; 9], 0.1)] {
            let table = SurvivalTable::fit_whole(&sample);
            assert_eq!(table.share_at_least(sample[0]), 1.0);
            for beyond in [sample[0] + 0.1, 8.0, f32::MAX] {
                assert!(
                    (table.share_at_least(beyond) - share).abs() < 1e-6,
                    "{beyond}"
                );
            }
        }
    }

    #[test]
    fn beyond_the_sample_extremes_stay_apart() {
        let sample: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        let table = SurvivalTable::fit(&sample);
        assert!(table.surprisal(1e6) > table.surprisal(1e3) + 5.0);
        // At the tail's beginning the two halves meet: a tenth of the values is left.
        assert!((table.surprisal(0.9) - 10f32.ln()).abs() < 0.02);
    }

    #[test]
    fn a_whole_table_gives_the_empirical_share_up_to_the_largest_value() {
        // An exponential sample by quantiles: a log tail from 90 % on would be far off at its end.
        let n = 20_000;
        let sample: Vec<f32> = (0..n)
            .map(|i| -(1.0 - (i as f32 + 0.5) / n as f32).ln())
            .collect();
        let table = SurvivalTable::fit_whole(&sample);
        for (share, tolerance) in [(0.5f64, 0.01), (0.01, 0.02), (0.001, 0.1)] {
            let found = table.share_at_least(-(share.ln()) as f32);
            assert!((found / share - 1.0).abs() < tolerance, "{share}: {found}");
        }
        assert!((table.share_at_least(1e9) * f64::from(n + 1) - 1.0).abs() < 1e-3);
        assert_eq!(table.surprisal(f32::NAN), f32::INFINITY);
    }

    #[test]
    fn a_constant_sample_and_an_empty_one_are_handled() {
        let table = SurvivalTable::fit(&[2.0; 50]);
        assert_eq!(table.surprisal(2.0), 0.0);
        assert!(table.surprisal(2.1) > 5.0);
        assert_eq!(SurvivalTable::fit(&[]).surprisal(1e30), 0.0);
    }

    proptest! {
        #[test]
        fn more_extreme_is_never_less_unusual(
            sample in prop::collection::vec(-100.0..100.0f32, 1..3000),
            a in -200.0..200.0f32, b in -200.0..200.0f32,
        ) {
            let table = SurvivalTable::fit(&sample);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(table.surprisal(low) <= table.surprisal(high));
            let (values, surprisals, scale) = table.parts();
            let stored =
                SurvivalTable::from_parts(values.to_vec(), surprisals.to_vec(), scale).unwrap();
            prop_assert_eq!(stored.surprisal(a), table.surprisal(a));
        }
    }
}
