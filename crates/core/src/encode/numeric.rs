//! Numbers: transformed, standardised by the fit rows' moments, clipped; and the squashed scale of the histogram head.

use super::quantiles::{QuantileScale, outer};
use crate::schema::Transform;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Standard deviations beyond which a value is clipped, as in the prototype's protocol: the histogram's range is
/// asinh(2 * 10), and whatever lies beyond is simply "far out".
pub const CLIP: f64 = 10.0;

/// Values count for mean and deviation as if they lay at most so many times the range of the ordinary ones outside of it.
const REACH: f64 = 2.0;

/// A value that stands for something else than a quantity is that of at least this share of rows, and of so many rows.
const STAND_IN_SHARE: f64 = 0.002;
const STAND_IN_ROWS_MIN: f64 = 3.0;

/// The normal quantile of 95 %, and but for its sign of 5 %.
const FIVE_PERCENT: f64 = 1.644_853_626_951_472_2;

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

    /// The moments without the pull of values that are far from all others. Of `sorted`, a sample of the same values:
    /// a few absurd ones are drawn in (Tukey 1962, "Winsorizing"), and stand-ins as 99999, which stand for no quantity, do not
    /// count. The moments themselves where there are neither, else those of the sample with the range of all values.
    pub fn robust(self, sorted: &[f64]) -> Self {
        let counted = counted(sorted);
        let outer = outer(sorted.len());
        let ordinary = counted.start.max(outer)..counted.end.min(sorted.len() - outer);
        if ordinary.len() < 2 || outer == 0 {
            return self;
        }
        let (low, high) = (sorted[ordinary.start], sorted[ordinary.end - 1]);
        let reach = REACH * (high - low);
        let (low, high) = (low - reach, high + reach);
        if !(high > low) || (self.min >= low && self.max <= high) {
            return self;
        }
        let mut robust = Self::default();
        let drawn_in = sorted[counted].iter().map(|x| x.clamp(low, high));
        drawn_in.for_each(|x| robust.observe(x));
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

/// The places of `sorted` without a stand-in at either end: one value that many rows have, more than [`REACH`] times as far
/// from all ordinary values as their range is wide.
fn counted(sorted: &[f64]) -> Range<usize> {
    let outer = outer(sorted.len());
    let (first, last) = (outer, sorted.len().saturating_sub(outer + 1));
    let (mut from, mut to) = (0, sorted.len());
    if first >= last {
        return from..to;
    }
    let run_min = (sorted.len() as f64 * STAND_IN_SHARE).max(STAND_IN_ROWS_MIN);
    let is_apart = |run: usize, gap: f64, inner: Range<usize>| {
        let range = || sorted[inner.end - 1] - sorted[inner.start];
        run as f64 >= run_min
            && inner.len() > sorted.len() / 2
            && gap > REACH * range()
            && range() > 0.0
    };
    // What only a few rows have, an absurd value, may lie further out than the stand-in and is left out with it.
    let below = sorted.partition_point(|&x| x < sorted[last]);
    let run = sorted.partition_point(|&x| x <= sorted[last]) - below;
    if below > first && is_apart(run, sorted[last] - sorted[below - 1], first..below) {
        to = below;
    }
    let above = sorted.partition_point(|&x| x <= sorted[first]);
    let run = above - sorted.partition_point(|&x| x < sorted[first]);
    let end = to.min(last + 1);
    if above < end && is_apart(run, sorted[above] - sorted[first], above..end) {
        from = above;
    }
    from..to
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

    /// The values in the field's own unit at the 5 %, 50 % and 95 % points of the fit rows; none without the second scale.
    pub fn points(&self) -> Option<[f64; 3]> {
        let at = |quantile| {
            let value = self.quantiles.value(quantile)?;
            Some(invert(self.transform, value))
        };
        Some([at(-FIVE_PERCENT)?, at(0.0)?, at(FIVE_PERCENT)?])
    }

    /// The value in the field's own unit whose encoding is z.
    pub fn decode(&self, z: f32) -> f64 {
        invert(self.transform, f64::from(z) * self.scale + self.mean)
    }
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
        NumericEncoder::fit(Transform::None, &moments.robust(&sorted))
    }

    #[test]
    fn an_absurd_value_leaves_the_scale_of_the_others() {
        let alone = of_amounts_and(&[]);
        // NumPy: of 0, 0.1, ... 100 mean 50 and standard deviation 28.9
        assert!((alone.scale - 28.9).abs() < 0.1 && (alone.mean - 50.0).abs() < 0.2);
        for absurd in [&[1e9][..], &[-1e12, 1e9, 1e15], &[f64::MAX / 4.0]] {
            let encoder = of_amounts_and(absurd);
            assert!(
                (encoder.scale / alone.scale - 1.0).abs() < 0.01,
                "{absurd:?}"
            );
            assert!((encoder.encode(400.0) - alone.encode(400.0)).abs() < 0.2);
        }
        // The order is kept where a tail is heavy: 250 is no absurd amount, and counts as it is.
        let heavy = of_amounts_and(&[250.0; 40]);
        assert!(heavy.scale > 1.01 * alone.scale);
    }

    #[test]
    fn a_stand_in_far_from_all_values_leaves_their_scale() {
        let alone = of_amounts_and(&[]);
        for stand_in in [99_999.0, -9_999.0, 999.0] {
            for rows in [60, 2_000, 15_000] {
                let mut others = vec![stand_in; rows];
                others.push(1e9);
                let encoder = of_amounts_and(&others);
                assert!(
                    (encoder.scale / alone.scale - 1.0).abs() < 0.01,
                    "{stand_in} {rows}"
                );
                assert_eq!(encoder.encode(stand_in).abs(), CLIP as f32);
            }
        }
        let both = of_amounts_and(&[vec![-9_999.0; 300], vec![99_999.0; 300]].concat());
        assert!((both.scale / alone.scale - 1.0).abs() < 0.01);
        // Of two groups as large as each other neither stands for anything else.
        assert!(of_amounts_and(&[99_999.0; 25_000]).scale > 1e4);
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
