//! Numbers: transformed, standardised by the fit rows' moments, clipped; and the squashed scale of the histogram head.

use crate::schema::Transform;
use serde::{Deserialize, Serialize};

/// Standard deviations beyond which a value is clipped, as in the prototype's protocol: the histogram's range is
/// asinh(2 * 10), and whatever lies beyond is simply "far out".
pub const CLIP: f64 = 10.0;

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
}

impl NumericEncoder {
    /// Fits the encoding to the moments of *transformed* values.
    ///
    /// A constant field gets one hundredth of its size (at least 0.01) as its scale, so that a change of a percent is
    /// one standard deviation: a constant's change is a signal.
    pub fn fit(transform: Transform, moments: &Moments) -> Self {
        let deviation = moments.standard_deviation();
        let negligible = 1e-12 * moments.min.abs().max(moments.max.abs());
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
        }
    }

    /// Whether mean and scale are numbers: squares of values beyond about 1e154 overflow.
    pub fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.scale.is_finite()
    }

    /// What is wrong with it, if it is not what [`Self::fit`] makes.
    pub(super) fn fault(&self) -> Option<String> {
        let Self { mean, scale, .. } = *self;
        let is_sound = self.is_finite() && scale > 0.0;
        (!is_sound).then(|| format!("mean {mean}, scale {scale}"))
    }

    /// z = (t(x) - mean) / scale, clipped to -10..=10, of a finite x.
    pub fn encode(&self, x: f64) -> f32 {
        self.encode_within(x, CLIP)
    }

    /// The same, clipped to -clip..=clip.
    pub fn encode_within(&self, x: f64, clip: f64) -> f32 {
        ((apply(self.transform, x) - self.mean) / self.scale).clamp(-clip, clip) as f32
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
