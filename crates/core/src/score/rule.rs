//! How what is measured of a whole record becomes its score without labels.
//!
//! In flow -log survivals, one a term; out flows the untuned score. Invariant: it never falls when one of them rises.

use super::component::Component;
use crate::model::heads::{Derived, Heads};
use crate::model::likelihood::Scale;
use crate::model::{Likelihood, Stratum, Views};
use crate::toml_file::{KeyFault, KeyFaults};
use serde::{Deserialize, Serialize};

/// How often a histogram counts for every other reading once where fields are seen in context. Likelihoods find broken
/// dependence, squared errors find what is far out; on card data the former tell more (`equal_weights` in
/// `crates/quality/src/configurations.toml`).
pub const DEFAULT_HISTOGRAM_WEIGHT: f32 = 2.0;
/// How often each distance counts.
const DISTANCE_WEIGHT: f64 = 2.0;
/// The exponent of the mean: above 1 the terms by which a record is unusual count more than those by which it is not, for
/// many an anomaly shows in one way only.
pub const DEFAULT_POWER: f32 = 4.0;
/// How much of a number's weight its quantiles have: chosen, as the exponent, by the mean over the families of development sets.
/// More finds more on skewed tables and less on card payments.
const QUANTILE_SHARE: f64 = 0.2;
/// Fit rows that a bundle keeps: with five times as many average precision rises by half a point, and so does the cost.
pub const DEFAULT_NEAREST_ROWS: usize = 4096;
/// Fit rows that a bundle keeps at most: a bound on the cost of a record.
pub const NEAREST_ROWS_MAX: usize = 65_536;

/// The `[score]` section: how surprises and distances are combined without labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreConfig {
    /// Weight of a reading `histogram` where any other has the weight 1, above 0 and at most 100; where everything is hidden
    /// it counts once.
    pub histogram_weight: f32,
    /// Exponent of the power mean over all terms, 1..=16: 1 is the mean, 16 nearly the largest.
    pub power: f32,
    /// Whether the distance of the record's latent from those of fit rows counts; only of the `mlp` with hidden fields.
    pub latent: bool,
    /// Whether the distance to the nearest fit row counts. A bundle then holds rows of the training data, but none of their
    /// redacted fields (`docs/security.md`).
    pub nearest: bool,
    /// How many fit rows are kept for it, 1..=65,536.
    pub nearest_rows: usize,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            histogram_weight: DEFAULT_HISTOGRAM_WEIGHT,
            power: DEFAULT_POWER,
            latent: true,
            nearest: true,
            nearest_rows: DEFAULT_NEAREST_ROWS,
        }
    }
}

impl ScoreConfig {
    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut faults = KeyFaults::default();
        let (weight, power) = (self.histogram_weight, self.power);
        faults.require(
            weight > 0.0 && weight <= 100.0,
            "score.histogram_weight",
            weight,
            "must be above 0 and at most 100",
        );
        let is_power = (1.0..=16.0).contains(&power);
        faults.require(is_power, "score.power", power, "must be within 1..=16");
        let rows = self.nearest_rows;
        faults.range("score.nearest_rows", rows, 1, NEAREST_ROWS_MAX);
        faults.into_vec()
    }
}

/// What a rule is made for.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The views.
    pub views: &'a Views,
    /// The trained readings.
    pub likelihood: &'a [Likelihood],
    /// Their heads, which know what else is read from them.
    pub heads: &'a Heads,
    /// Whether the distance of the latent is measured.
    pub latent: bool,
    /// Whether the nearest fit row is.
    pub nearest: bool,
}

/// The rule of one model: its terms, each with its weight, and the exponent of their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRule {
    terms: Vec<(Component, f64)>,
    power: f64,
}

impl ScoreRule {
    /// The rule of a model under a configuration without faults.
    ///
    /// At every mask ratio each trained reading counts, the histogram more often; where most is hidden its tail does too; and
    /// where everything is, its most surprising field. The denoising view is read by the histogram and the density. It and
    /// the nearest row count by the weight of numbers ([`Heads::weight_of_numbers`]).
    pub fn new(config: &ScoreConfig, measured: Measured<'_>) -> Self {
        let mut terms = Vec::new();
        for (stratum, of) in measured.views.strata().iter().enumerate() {
            match of.denoising {
                Some(_) => measured.denoising_terms(config, stratum, &mut terms),
                None => measured.masked_terms(config, (stratum, of), &mut terms),
            }
        }
        // How far two records are apart says most where their fields are numbers: categories only differ or not.
        let share = measured.weight_of_numbers();
        let distances = [
            (measured.latent, Component::Latent, 1.0),
            (
                measured.nearest && share > 0.0,
                Component::Nearest,
                share * measured.share(Scale::Deviation),
            ),
            (
                measured.nearest && share > 0.0,
                Component::NearestQuantile,
                share * measured.share(Scale::Quantile),
            ),
        ];
        for (is_measured, component, share) in distances {
            terms.extend(is_measured.then_some((component, share * DISTANCE_WEIGHT)));
        }
        Self::of(terms, f64::from(config.power))
    }

    /// The power mean of these terms.
    pub(crate) fn of(mut terms: Vec<(Component, f64)>, power: f64) -> Self {
        // A term without weight must not count where it is infinite.
        terms.retain(|term| term.1 > 0.0);
        let sum: f64 = terms.iter().map(|term| term.1).sum();
        terms.iter_mut().for_each(|term| term.1 /= sum);
        Self { terms, power }
    }

    /// The power mean of the terms at these places, with the same weights among themselves.
    pub fn part(&self, places: impl Iterator<Item = usize>) -> Self {
        Self::of(places.map(|place| self.terms[place]).collect(), self.power)
    }

    /// The exponent q.
    pub fn power(&self) -> f64 {
        self.power
    }

    /// What it measures of a record, in their order.
    pub fn components(&self) -> impl ExactSizeIterator<Item = Component> {
        self.terms.iter().map(|&(component, _)| component)
    }

    /// The power mean of the values of the terms, `[Q]`, each >= 0; infinite if one of them is.
    pub fn score(&self, values: impl Iterator<Item = f32>) -> f32 {
        let terms = self.terms.iter().zip(values);
        let weighed = terms.map(|((_, weight), value)| weight * f64::from(value).powf(self.power));
        weighed.sum::<f64>().powf(1.0 / self.power) as f32
    }
}

impl Measured<'_> {
    /// How much counts what speaks of numbers alone.
    fn weight_of_numbers(&self) -> f64 {
        f64::from(self.heads.weight_of_numbers())
    }

    /// The histograms, one a scale.
    fn histograms(&self) -> impl Iterator<Item = (usize, Scale)> {
        let readings = self.likelihood.iter().enumerate();
        let histograms = readings.filter(|(_, reading)| reading.has_bins());
        histograms.map(|(place, reading)| (place, reading.scale()))
    }

    /// The places of a derived reading among all, one a scale.
    fn derived(&self, wanted: Derived) -> impl Iterator<Item = (usize, Scale)> {
        let derived = self.heads.derived().enumerate();
        let first = self.likelihood.len();
        derived
            .filter(move |&(_, (derived, _))| derived == wanted)
            .map(move |(place, (_, scale))| (first + place, scale))
    }

    /// How much a reading of a scale counts: both scales together as much as one alone.
    fn share(&self, scale: Scale) -> f64 {
        let of_quantiles = match (self.reads(Scale::Deviation), self.reads(Scale::Quantile)) {
            (true, true) => QUANTILE_SHARE,
            (true, false) => 0.0,
            (false, _) => 1.0,
        };
        match scale {
            Scale::Deviation => 1.0 - of_quantiles,
            Scale::Quantile => of_quantiles,
        }
    }

    /// Whether some reading is of this scale.
    fn reads(&self, scale: Scale) -> bool {
        let mut readings = self.likelihood.iter();
        readings.any(|reading| reading.scale() == scale)
    }

    fn masked_terms(
        &self,
        config: &ScoreConfig,
        (stratum, of): (usize, &Stratum),
        terms: &mut Vec<(Component, f64)>,
    ) {
        let in_context = of.ratio < 1.0;
        for (reading, likelihood) in self.likelihood.iter().enumerate() {
            let weight = match likelihood {
                likelihood if likelihood.has_bins() && in_context => {
                    f64::from(config.histogram_weight)
                }
                _ => 1.0,
            };
            let share = self.share(likelihood.scale());
            terms.push((Component::Total { stratum, reading }, share * weight));
        }
        if of.hides_most() {
            for (reading, scale) in self.derived(Derived::Tail) {
                terms.push((Component::Total { stratum, reading }, self.share(scale)));
            }
        }
        if !in_context {
            for (reading, scale) in self.histograms() {
                terms.push((Component::Largest { stratum, reading }, self.share(scale)));
            }
        }
    }

    fn denoising_terms(
        &self,
        config: &ScoreConfig,
        stratum: usize,
        terms: &mut Vec<(Component, f64)>,
    ) {
        let of_numbers = self.weight_of_numbers();
        let mut push = |(reading, scale), weight| {
            let weight = of_numbers * self.share(scale) * weight;
            terms.push((Component::Total { stratum, reading }, weight));
        };
        for histogram in self.histograms() {
            push(histogram, f64::from(config.histogram_weight));
        }
        for density in self.derived(Derived::Density) {
            push(density, 1.0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::EncoderFitter;
    use crate::encode::tests::fee_encoder;
    use crate::model::MaskPlan;
    use crate::model::likelihood::histogram::Histogram;
    use crate::rng::{Purpose, stream};
    use crate::schema::{Field, Kind};
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn total(stratum: usize, reading: usize) -> Component {
        Component::Total { stratum, reading }
    }

    #[test]
    fn the_terms_are_those_of_the_prototype() {
        // prototype noise_and_neighbours.py, WEIGHTS: at .15 histogram 2, squared error 1; at .65 2, 1, tail 1; at 1 each of
        // histogram, squared error, tail and largest 1; the denoising view histogram 2, density 1; both distances 2.
        let likelihood = [Likelihood::Histogram, Likelihood::RobustSquaredError];
        let heads = Heads::new(&fee_encoder(), &likelihood, &Histogram::new(64, 1.0));
        let mut rng = stream(0, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &[0.15, 0.65, 1.0], 1, 1, &mut rng);
        let measured = Measured {
            views: &views.with_denoising(0.1, vec![0]),
            likelihood: &likelihood,
            heads: &heads,
            latent: true,
            nearest: true,
        };
        let rule = ScoreRule::new(&ScoreConfig::default(), measured);
        let largest = Component::Largest {
            stratum: 2,
            reading: 0,
        };
        let expected = [
            (total(0, 0), 2.0),
            (total(0, 1), 1.0),
            (total(1, 0), 2.0),
            (total(1, 1), 1.0),
            (total(1, 2), 1.0),
            (total(2, 0), 1.0),
            (total(2, 1), 1.0),
            (total(2, 2), 1.0),
            (largest, 1.0),
            (total(3, 0), 2.0),
            (total(3, 3), 1.0),
            (Component::Latent, 2.0),
            (Component::Nearest, 2.0),
        ];
        let found: Vec<_> = rule
            .terms
            .iter()
            .map(|&(c, w)| (c, (w * 18.0).round()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_scales_of_a_number_share_what_one_has_alone() {
        let encoder = crate::encode::tests::fee_encoder();
        let weights = |likelihood: &[Likelihood]| {
            let heads = Heads::new(&encoder, likelihood, &Histogram::new(64, 1.0));
            let mut rng = stream(0, Purpose::Views);
            let views = Views::draw(MaskPlan::Balanced, &[0.15, 1.0], 1, 1, &mut rng);
            let measured = Measured {
                views: &views,
                likelihood,
                heads: &heads,
                latent: false,
                nearest: true,
            };
            let rule = ScoreRule::new(&ScoreConfig::default(), measured);
            let terms = rule.terms.iter();
            terms.map(|&(_, weight)| weight).collect::<Vec<f64>>()
        };
        let one = [Likelihood::Histogram, Likelihood::RobustSquaredError];
        let other = [
            Likelihood::QuantileHistogram,
            Likelihood::QuantileRobustSquaredError,
        ];
        let (alone, both) = (weights(&one), weights(&[one, other].concat()));
        assert_eq!(both.len(), 2 * alone.len());
        // One scale alone has all the weight, whichever it is.
        let quantiles_alone = weights(&other);
        assert_eq!(quantiles_alone, alone);
        // .8 and .2 of the histogram at .15: the first reading and the third.
        assert!((both[0] - 0.8 * alone[0]).abs() < 1e-12);
        assert!((both[2] - 0.2 * alone[0]).abs() < 1e-12);
    }

    #[test]
    fn what_speaks_of_numbers_alone_counts_by_how_far_they_outnumber_other_fields() {
        let likelihood = [Likelihood::Histogram];
        let rule = |numbers: usize, categories: usize| {
            let names: Vec<String> = (0..numbers + categories).map(|i| i.to_string()).collect();
            let kind = |i: usize| match i < numbers {
                true => Kind::Numeric,
                false => Kind::Boolean,
            };
            let fields = names
                .iter()
                .enumerate()
                .map(|(i, name)| Field::feature(name, kind(i)));
            let fields: Vec<Field> = fields.collect();
            let column = |i: usize| -> ArrayRef {
                match i < numbers {
                    true => Arc::new(Float64Array::from_iter_values((0..60).map(f64::from))),
                    false => Arc::new(BooleanArray::from_iter(
                        (0..60).map(|row| Some(row % 2 == 0)),
                    )),
                }
            };
            let columns = names.iter().enumerate().map(|(i, name)| (name, column(i)));
            let batch = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
            let mut fitter = EncoderFitter::new(&fields, 6).unwrap();
            fitter.observe(&batch).unwrap();
            let heads = Heads::new(
                &fitter.finish().unwrap(),
                &likelihood,
                &Histogram::new(8, 1.0),
            );
            let mut rng = stream(0, Purpose::Views);
            let views = Views::draw(MaskPlan::Balanced, &[0.5], 1, names.len(), &mut rng);
            let views = views.with_denoising(0.1, (0..numbers as u32).collect());
            let measured = Measured {
                views: &views,
                likelihood: &likelihood,
                heads: &heads,
                latent: true,
                nearest: true,
            };
            let terms = ScoreRule::new(&ScoreConfig::default(), measured).terms;
            let masked = terms[0].1;
            let weighed = terms
                .into_iter()
                .map(|(c, w)| (c, (100.0 * w / masked).round() / 50.0));
            weighed.collect::<Vec<_>>()
        };
        let (latent, nearest) = (Component::Latent, Component::Nearest);
        let all = [
            (total(0, 0), 2.0),
            (total(1, 0), 2.0),
            (latent, 2.0),
            (nearest, 2.0),
        ];
        assert_eq!(rule(4, 0), all);
        let some = [
            (total(0, 0), 2.0),
            (total(1, 0), 1.0),
            (latent, 2.0),
            (nearest, 1.0),
        ];
        assert_eq!(rule(3, 1), some);
        assert_eq!(rule(0, 4), [(total(0, 0), 2.0), (latent, 2.0)]);
    }

    #[test]
    fn the_score_is_the_power_mean_of_the_weighed_terms() {
        // NumPy: v, w = np.array([1, 4, .5]), np.array([2, 1, 1.]); ((w * v**2.5).sum() / w.sum())**.4 -> 2.358677
        let terms = vec![
            (total(0, 0), 2.0),
            (total(0, 1), 1.0),
            (Component::Latent, 1.0),
        ];
        let rule = ScoreRule::of(terms, 2.5);
        let score = rule.score([1.0, 4.0, 0.5].into_iter());
        assert!((score - 2.358_677).abs() < 1e-4, "{score}");
    }

    #[test]
    fn faults_name_key_value_and_limit() {
        let wrong = ScoreConfig {
            histogram_weight: f32::NAN,
            power: 0.5,
            nearest_rows: 0,
            ..ScoreConfig::default()
        };
        assert_eq!(wrong.faults().len(), 3, "{:?}", wrong.faults());
        assert!(ScoreConfig::default().faults().is_empty());
    }

    proptest! {
        #[test]
        fn more_surprise_never_lowers_the_score(
            values in prop::collection::vec(0.0..30.0f32, 8), at in 0usize..8, more in 0.0..20.0f32,
            power in 1.0..16.0f64,
        ) {
            let rule = ScoreRule::of((0..8).map(|s| (total(s, 0), 1.0 + s as f64)).collect(), power);
            let before = rule.score(values.iter().copied());
            let raised = values.iter().enumerate().map(|(i, v)| v + if i == at { more } else { 0.0 });
            prop_assert!(rule.score(raised) >= before);
        }
    }
}
