//! Whether p-values are small more often than they may be.
//!
//! In flow p-values of records that should be like the calibration rows, and among how many of those each was ranked; out
//! flows a one-sided Kolmogorov-Smirnov test of P(p <= a) <= a for every a. Invariant: the test takes into account that
//! the calibration rows are a sample too; without that it would reject every bundle once there are rows enough.

use serde::Serialize;

/// How far p-values are on the small side of uniform, and how often chance alone brings them there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Uniformity {
    /// Negative rows that the test is about.
    pub negatives: usize,
    /// The largest excess of the share of p-values up to a over a, over all a, 0..=1 (D+ of Kolmogorov and Smirnov).
    pub distance: f64,
    /// The probability of a distance at least as large if the promise holds: small where it does not.
    pub p_value: f64,
}

impl Uniformity {
    /// The test of `p_values`, whose order is lost; `ranked[i]` of them were ranked among `sample_rows[i]` calibration
    /// rows. Only the first sample may share rows with others. `None` of no p-value.
    ///
    /// The share of p-values up to a varies around a by the sample of records, a (1 - a) / n, and by those of the
    /// calibration rows, a (1 - a) w_i^2 / m_i for the part w_i that ranks among m_i of them. So n is replaced by
    /// 1 / (1 / n + sum of w_i^2 / m_i) in the law of D+, exp(-2 n D^2) (Smirnov 1939; an upper bound by Massart 1990).
    /// With one sample that is n m / (n + m), as in the test of two samples. The part of the first sample adds to the
    /// deviation of the others as if it were wholly correlated with them, which bounds what shared rows can do.
    pub fn test(p_values: &mut [f64], ranked: &[usize], sample_rows: &[usize]) -> Option<Self> {
        let negatives = p_values.len();
        if negatives == 0 {
            return None;
        }
        let n = negatives as f64;
        p_values.sort_unstable_by(f64::total_cmp);
        let excess = p_values.iter().zip(1u32..);
        let excess = excess.map(|(&p, count)| f64::from(count) / n - p);
        let distance = excess.fold(0.0, f64::max);
        let samples = ranked.iter().zip(sample_rows);
        let mut parts = samples.map(|(&rows, &of)| (rows as f64 / n).powi(2) / of.max(1) as f64);
        let first = parts.next().unwrap_or(0.0);
        let calibration = (first.sqrt() + parts.sum::<f64>().sqrt()).powi(2);
        let rows = 1.0 / (1.0 / n + calibration);
        Some(Self {
            negatives,
            distance,
            p_value: (-2.0 * rows * distance * distance).exp(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::score::ConformalScores;
    use rand::RngExt;

    /// `i = np.arange(1, 41); x = ((i * 37) % 101) / 101.`
    fn even() -> Vec<f64> {
        (1..=40)
            .map(|i| f64::from((i * 37) % 101) / 101.0)
            .collect()
    }

    #[test]
    fn the_distance_is_scipys_and_the_law_smirnovs() {
        // SciPy 1.17.1: stats.kstest(x, "uniform", alternative="greater").statistic, and the same of x**2.
        let found = Uniformity::test(&mut even(), &[40], &[1_000]).unwrap();
        assert!((found.distance - 0.019306930693069213).abs() < 1e-15);
        let squares = || -> Vec<f64> { even().into_iter().map(|x| x * x).collect() };
        let found = Uniformity::test(&mut squares(), &[40], &[1_000]).unwrap();
        assert!((found.distance - 0.2584526026860111).abs() < 1e-15);
        // NumPy: n, m = 40, 1000; np.exp(-2 * n * m / (n + m) * 0.2584526026860111**2)
        assert!((found.p_value - 0.005867724936248724).abs() < 1e-12);
        // ne = 1 / (1/40 + (30/40)**2 / 1000 + (10/40)**2 / 50); np.exp(-2 * ne * 0.2584526026860111**2)
        let found = Uniformity::test(&mut squares(), &[0, 30, 10], &[7, 1_000, 50]).unwrap();
        assert!((found.p_value - 0.006856332582910427).abs() < 1e-12);
        // ne = 1 / (1/40 + ((10/40) / 50**.5 + (30/40) / 1000**.5)**2); np.exp(-2 * ne * 0.2584526026860111**2)
        let shared = Uniformity::test(&mut squares(), &[10, 30], &[50, 1_000]).unwrap();
        assert!((shared.p_value - 0.009193298422693208).abs() < 1e-12);
        assert_eq!(Uniformity::test(&mut [], &[0], &[9]), None);
    }

    #[test]
    fn p_values_that_are_too_large_are_no_fault() {
        let mut large: Vec<f64> = even().into_iter().map(f64::sqrt).collect();
        let found = Uniformity::test(&mut large, &[40], &[1_000]).unwrap();
        assert!(found.distance < 0.03 && found.p_value > 0.9, "{found:?}");
        let mut ones = [1.0; 9];
        let found = Uniformity::test(&mut ones, &[9], &[9]).unwrap();
        assert_eq!((found.distance, found.p_value), (0.0, 1.0));
    }

    #[test]
    fn a_kept_promise_is_rejected_no_more_often_than_the_level_says() {
        // 300 records against 200 calibration rows, exchangeable. Taken for independent uniform numbers, they would be
        // rejected in a quarter of all draws at the level 0.05.
        let mut rng = stream(21, Purpose::Tests);
        let draws = 4_000;
        let mut rejected = 0;
        for _ in 0..draws {
            let mut score = || rng.random::<f32>();
            let calibration = (0..200).map(|_| score()).collect();
            let calibration = ConformalScores::new(calibration).unwrap();
            let mut p: Vec<f64> = (0..300).map(|_| calibration.p_value(score())).collect();
            let found = Uniformity::test(&mut p, &[300], &[200]).unwrap();
            rejected += u32::from(found.p_value <= 0.05);
        }
        // Five standard deviations of Binomial(4000, 0.05) are 69.
        assert!((60..=269).contains(&rejected), "{rejected} of {draws}");
    }
}
