//! Numbers: transformed, standardised by the fit rows' moments, clipped; and the squashed scale of the histogram head.

use super::ordinary::{OrderedSample, REACH};
pub use super::quantiles::CLIP;
use super::quantiles::QuantileScale;
use crate::schema::Transform;
use serde::{Deserialize, Serialize};

/// The factor inside asinh of [`squash`]: linear within half a standard deviation, logarithmic beyond.
pub const SQUASH: f32 = 2.0;

/// asinh(2 z): the scale on which the histogram head has equal bins.
pub fn squash(z: f32) -> f32 {
    (SQUASH * z).asinh()
}

/// The inverse of [`squash`].
pub fn unsquash(squashed: f32) -> f32 {
    squashed.sinh() / SQUASH
}

/// Count, mean and squared deviations in one streaming pass, mergeable.
///
/// Welford 1962 in the parallel form of Chan, Golub & LeVeque 1979.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Moments {
    /// Adds one finite value.
    pub fn observe(&mut self, x: f64) {
        if self.count == 0 {
            (self.min, self.max) = (x, x);
        }
        self.count += 1;
        let delta = x - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (x - self.mean);
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }

    /// Values seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The moments without the pull of values that are far from all others: those of the values that count of an even sample
    /// of the same values, with the range of all. The moments themselves where all values count.
    pub(super) fn robust(self, sample: &OrderedSample) -> Self {
        let ordinary = sample.ordinary();
        let (Some(low), Some(high)) = (ordinary.first(), ordinary.last()) else {
            return self;
        };
        let reach = REACH * (high - low);
        let all_count = ordinary.len() == sample.all().len();
        // Of many rows an absurd value may not be in the sample.
        if all_count && self.min >= low - reach && self.max <= high + reach {
            return self;
        }
        let mut robust = Self::default();
        ordinary.iter().for_each(|&x| robust.observe(x));
        Self {
            min: self.min,
            max: self.max,
            ..robust
        }
    }

    /// The smallest and the largest value, 0 and 0 if none was seen.
    pub fn range(&self) -> (f64, f64) {
        (self.min, self.max)
    }

    fn standard_deviation(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            (self.squares / self.count as f64).sqrt()
        }
    }
}

/// The fitted encoding of a numeric field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumericEncoder {
    /// Applied first.
    pub transform: Transform,
    /// Mean of the transformed fit values.
    pub mean: f64,
    /// Their standard deviation, or the substitute for a constant; > 0.
    pub scale: f64,
    /// Whether no fit value was below zero: then none is ever expected there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_negative: bool,
    /// The second scale.
    pub quantiles: QuantileScale,
    /// The mean of z over all fit values: near 0 where all of them count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mean_z: f64,
}

impl NumericEncoder {
    /// Fits the encoding to the moments of *transformed* values.
    ///
    /// A constant field gets one hundredth of its size (at least 0.01) as its scale, so that a change of a percent is
    /// one standard deviation: a constant's change is a signal.
    pub fn fit(transform: Transform, moments: &Moments) -> Self {
        let deviation = moments.standard_deviation();
        let negligible = 1e-12 * moments.mean.abs();
        let constant = moments.min == moments.max || !(deviation > negligible);
        let scale = if constant {
            0.01 * moments.mean.abs().max(1.0)
        } else {
            deviation
        };
        Self {
            transform,
            mean: moments.mean,
            scale,
            non_negative: moments.min >= 0.0,
            quantiles: QuantileScale::default(),
            mean_z: 0.0,
        }
    }

    /// Whether mean and scale are numbers: squares of values beyond about 1e154 overflow.
    pub fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.scale.is_finite()
    }

    /// What is wrong with it, if it is not what [`Self::fit`] makes.
    pub(super) fn fault(&self) -> Option<String> {
        let (mean, scale) = (self.mean, self.scale);
        let is_sound = self.is_finite() && scale > 0.0;
        let fault = (!is_sound).then(|| format!("mean {mean}, scale {scale}"));
        fault.or_else(|| self.quantiles.fault())
    }

    /// z = (t(x) - mean) / scale, clipped to -10..=10, of a finite x.
    pub fn encode(&self, x: f64) -> f32 {
        self.encode_within(x, CLIP)
    }

    /// The same, clipped to -clip..=clip.
    pub fn encode_within(&self, x: f64, clip: f64) -> f32 {
        ((apply(self.transform, x) - self.mean) / self.scale).clamp(-clip, clip) as f32
    }

    /// The quantile of a finite x, within -10..=10.
    pub fn quantile(&self, x: f64) -> f32 {
        self.quantiles.quantile(apply(self.transform, x))
    }

    /// The values in the field's own unit that 5 %, 50 % and 95 % of the fit values that count are at most; none without the
    /// second scale.
    pub fn points(&self) -> Option<[f64; 3]> {
        let points = self.quantiles.points()?;
        Some(points.map(|y| invert(self.transform, y)))
    }

    /// The value in the field's own unit whose normal quantile is q; NaN without the second scale.
    pub fn decode_quantile(&self, q: f32) -> f64 {
        let y = self.quantiles.value(f64::from(q));
        y.map_or(f64::NAN, |y| invert(self.transform, y))
    }

    /// Notes what an even sample of the transformed fit values says beside mean and scale.
    pub(super) fn fit_sample(&mut self, sample: &OrderedSample) {
        self.quantiles = QuantileScale::fit(sample.ordinary(), self.scale);
        let z = |y: &f64| ((y - self.mean) / self.scale).clamp(-CLIP, CLIP);
        let all = sample.all();
        self.mean_z = all.iter().map(z).sum::<f64>() / all.len().max(1) as f64;
    }

    /// The value in the field's own unit whose encoding is z.
    pub fn decode(&self, z: f32) -> f64 {
        invert(self.transform, f64::from(z) * self.scale + self.mean)
    }
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

/// The transform of a finite value.
pub fn apply(transform: Transform, x: f64) -> f64 {
    transform.apply(x)
}

fn invert(transform: Transform, y: f64) -> f64 {
    match transform {
        Transform::None => y,
        Transform::Log1p => y.abs().exp_m1().copysign(y),
        Transform::Asinh => y.sinh(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_field_without_a_value_below_zero_is_known_as_one() {
        for transform in [Transform::None, Transform::Log1p, Transform::Asinh] {
            assert!(fitted(transform, &[0.0, 3.0]).non_negative);
            assert!(!fitted(transform, &[-0.5, 3.0]).non_negative);
        }
    }

    fn fitted(transform: Transform, values: &[f64]) -> NumericEncoder {
        let mut moments = Moments::default();
        values
            .iter()
            .for_each(|&x| moments.observe(apply(transform, x)));
        NumericEncoder::fit(transform, &moments)
    }

    #[test]
    fn one_pass_moments_equal_numpy_on_a_large_offset() {
        // numpy: x = 1e9 + np.array([4, 7, 13, 16.]); x.mean(), x.std() -> 1000000010.0, 4.743416490252569
        let encoder = fitted(Transform::None, &[4.0, 7.0, 13.0, 16.0].map(|x| 1e9 + x));
        assert_eq!(encoder.mean, 1e9 + 10.0);
        assert!((encoder.scale - 4.743_416_490_252_569).abs() < 1e-9);
    }

    #[test]
    fn a_constant_that_changes_shows() {
        let encoder = fitted(Transform::None, &[5000.0; 10]);
        assert_eq!(encoder.encode(5000.0), 0.0);
        assert!((encoder.encode(5100.0) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn extremes_are_clipped_and_stay_finite() {
        let encoder = fitted(Transform::None, &[0.0, 1.0]);
        assert_eq!(encoder.encode(f64::MAX), 10.0);
        assert_eq!(encoder.encode(f64::MIN), -10.0);
        assert_eq!(encoder.encode_within(15.5, 100.0), 30.0);
        assert_eq!(encoder.encode_within(-1e9, 100.0), -100.0);
    }

    /// Mean and scale of 20,000 amounts from 0 to 100 and `others`.
    fn of_amounts_and(others: &[f64]) -> NumericEncoder {
        let mut sorted: Vec<f64> = (0..20_000).map(|i| f64::from(i % 1_001) / 10.0).collect();
        sorted.extend(others);
        let mut moments = Moments::default();
        sorted.iter().for_each(|&x| moments.observe(x));
        sorted.sort_unstable_by(f64::total_cmp);
        let sample = OrderedSample::of(sorted);
        let mut encoder = NumericEncoder::fit(Transform::None, &moments.robust(&sample));
        encoder.fit_sample(&sample);
        encoder
    }

    #[test]
    fn absurd_values_and_stand_ins_leave_the_scale_of_the_others() {
        let alone = of_amounts_and(&[]);
        // NumPy: of 0, 0.1, ... 100 mean 50 and standard deviation 28.9
        assert!((alone.scale - 28.9).abs() < 0.1 && (alone.mean - 50.0).abs() < 0.2);
        let absurd = [
            vec![1e9],
            vec![-1e12, 1e9, 1e15],
            vec![f64::MAX / 4.0],
            vec![1e6; 39],
        ];
        let stand_ins = [60, 2_000, 15_000].map(|rows| vec![99_999.0; rows]);
        for others in absurd.iter().chain(&stand_ins) {
            let encoder = of_amounts_and(others);
            let ratio = encoder.scale / alone.scale;
            assert!((ratio - 1.0).abs() < 0.01, "{ratio} {}", others.len());
            assert!((encoder.mean - alone.mean).abs() < 0.5);
        }
        // A tail without a gap counts.
        let tail: Vec<f64> = (0..400).map(|i| 100.0 + f64::from(i)).collect();
        assert!(of_amounts_and(&tail).scale > 1.2 * alone.scale);
    }

    #[test]
    fn an_outlier_below_a_stand_in_is_not_taken_for_it() {
        let encoder = of_amounts_and(&[99_999.0; 2_000]);
        let [most, outlier, stand_in] = [100.0, 5_000.0, 99_999.0].map(|x| encoder.quantile(x));
        assert!(most < 4.0 && outlier > most + 4.0 && stand_in > outlier + 1.0);
        // A share of 1 / 11 of the rows is clipped at 10.
        assert!(
            (encoder.mean_z - 10.0 / 11.0).abs() < 0.01,
            "{}",
            encoder.mean_z
        );
    }

    #[test]
    fn a_change_beside_an_almost_constant_number_shows() {
        let sorted = [vec![0.0; 19_999], vec![1e9]].concat();
        let mut moments = Moments::default();
        sorted.iter().for_each(|&x| moments.observe(x));
        let moments = moments.robust(&OrderedSample::of(sorted));
        let encoder = NumericEncoder::fit(Transform::None, &moments);
        assert_eq!((encoder.encode(0.0), encoder.encode(1.0)), (0.0, 10.0));
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding_within_the_clip(
            x in -50.0..50.0f64, transform in prop_oneof![
                Just(Transform::None), Just(Transform::Log1p), Just(Transform::Asinh)]
        ) {
            let encoder = fitted(transform, &[-30.0, -3.0, 1.0, 20.0, 45.0]);
            let back = encoder.decode(encoder.encode(x));
            prop_assert!((back - x).abs() < 1e-4 * x.abs().max(1.0), "{} {}", x, back);
        }

        #[test]
        fn squashing_is_odd_increasing_and_invertible(z in -10.0..10.0f32) {
            prop_assert!((unsquash(squash(z)) - z).abs() < 1e-4);
            prop_assert_eq!(squash(-z), -squash(z));
            prop_assert!(squash(z + 0.1) > squash(z));
        }
    }
}
