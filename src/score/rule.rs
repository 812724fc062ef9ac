//! How the totals of strata and readings become the score of a record without labels.
//!
//! In flow -log survivals, one a stratum and reading; out flows the untuned score. Invariant: it never falls when one of
//! them rises.

use crate::model::Likelihood;
use serde::{Deserialize, Serialize};

/// How often a histogram counts for every other reading once. Likelihoods find broken dependence, squared errors find
/// what is far out; on card data the former tell more (`equal_weights` in `benches/quality/configurations.toml`).
pub const DEFAULT_HISTOGRAM_WEIGHT: f32 = 2.0;
/// The exponent of the mean over strata: above 1 the strata in which a record is unusual count more than those in which
/// it is not, for many an anomaly shows at one mask ratio only.
pub const DEFAULT_STRATUM_POWER: f32 = 2.0;

/// The `[score]` section: how surprises are combined without labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreConfig {
    /// Weight of a reading `histogram` where any other has the weight 1, above 0 and at most 100.
    pub histogram_weight: f32,
    /// Exponent of the power mean over strata, 1..=16: 1 is the mean, 16 nearly the largest.
    pub stratum_power: f32,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            histogram_weight: DEFAULT_HISTOGRAM_WEIGHT,
            stratum_power: DEFAULT_STRATUM_POWER,
        }
    }
}

impl ScoreConfig {
    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (weight, power) = (self.histogram_weight, self.stratum_power);
        if !(weight > 0.0 && weight <= 100.0) {
            faults.push(format!(
                "score.histogram_weight = {weight}: must be above 0 and at most 100"
            ));
        }
        if !(1.0..=16.0).contains(&power) {
            faults.push(format!(
                "score.stratum_power = {power}: must be within 1..=16"
            ));
        }
        faults
    }
}

/// The rule of one model: weights of its readings, `[R]`, summing to 1, and the exponent over its strata.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRule {
    weights: Vec<f64>,
    power: f64,
}

impl ScoreRule {
    /// The rule of a model with these readings under a configuration without faults.
    pub fn new(config: &ScoreConfig, readings: &[Likelihood]) -> Self {
        let weight = |reading: &Likelihood| match reading {
            Likelihood::Histogram => f64::from(config.histogram_weight),
            Likelihood::StudentT
            | Likelihood::Gaussian
            | Likelihood::SquaredError
            | Likelihood::RobustSquaredError => 1.0,
        };
        let weights: Vec<f64> = readings.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Self {
            weights: weights.into_iter().map(|weight| weight / sum).collect(),
            power: f64::from(config.stratum_power),
        }
    }

    /// The plain mean over strata and `readings` readings.
    pub fn mean(readings: usize) -> Self {
        Self {
            weights: vec![1.0 / readings as f64; readings],
            power: 1.0,
        }
    }

    /// R.
    pub fn readings(&self) -> usize {
        self.weights.len()
    }

    /// The power mean over `strata` >= 1 strata of the weighted mean over readings of `value(stratum, reading)`, each
    /// >= 0; infinite if one of them is.
    pub fn score(&self, strata: usize, value: impl Fn(usize, usize) -> f32) -> f32 {
        let of_stratum = |stratum: usize| -> f64 {
            let weighed = self.weights.iter().enumerate();
            weighed
                .map(|(reading, weight)| weight * f64::from(value(stratum, reading)))
                .sum()
        };
        let sum: f64 = (0..strata).map(|s| of_stratum(s).powf(self.power)).sum();
        (sum / strata as f64).powf(1.0 / self.power) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: [[f32; 2]; 3] = [[1.0, 4.0], [0.5, 0.25], [3.0, 6.0]];

    #[test]
    fn the_score_is_the_power_mean_of_the_weighted_means() {
        // NumPy: v = np.array([[1, 4], [.5, .25], [3, 6.]]); m = v @ [2 / 3, 1 / 3]; np.mean(m**2)**.5 -> 2.593172
        let rule = ScoreRule::new(
            &ScoreConfig::default(),
            &[Likelihood::Histogram, Likelihood::RobustSquaredError],
        );
        let score = rule.score(3, |s, r| VALUES[s][r]);
        assert!((score - 2.593_172).abs() < 1e-5, "{score}");
        let mean = ScoreRule::mean(2).score(3, |s, r| VALUES[s][r]);
        assert!((mean - 14.75 / 6.0).abs() < 1e-6);
    }

    #[test]
    fn faults_name_key_value_and_limit() {
        let wrong = ScoreConfig {
            histogram_weight: f32::NAN,
            stratum_power: 0.5,
        };
        assert_eq!(wrong.faults().len(), 2, "{:?}", wrong.faults());
        assert!(ScoreConfig::default().faults().is_empty());
    }

    proptest! {
        #[test]
        fn more_surprise_never_lowers_the_score(
            values in prop::collection::vec(0.0..30.0f32, 8), at in 0usize..8, more in 0.0..20.0f32,
            power in 1.0..16.0f32,
        ) {
            let config = ScoreConfig { stratum_power: power, ..ScoreConfig::default() };
            let rule = ScoreRule::new(&config, &[Likelihood::Histogram, Likelihood::StudentT]);
            let before = rule.score(4, |s, r| values[2 * s + r]);
            let raised = |s: usize, r: usize| values[2 * s + r] + if 2 * s + r == at { more } else { 0.0 };
            prop_assert!(rule.score(4, raised) >= before);
        }
    }
}
