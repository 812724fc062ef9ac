//! The second scale of a number: where it lies among the training values, as a normal quantile.
//!
//! In flow the transformed values of fit rows, out flows a function that never falls. The first scale, standard deviations, keeps
//! distances and says little where most values are close together and a few are far away; this one keeps the order.

use crate::rng::ChaCha8Rng;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Values of a field that are kept at most, drawn evenly: the rank of the sample's median is then about half a percent off.
pub(super) const SAMPLE_MAX: usize = 16_384;

/// Beyond the share of the sample on either side that this leaves, a value is far out whatever its rank is: so that a few
/// absurd values move no other one.
const OUTER_SHARE: f64 = 0.0005;

/// Two neighbouring knots are at most this far apart, in standard deviations of a normal, unless no value lies between them.
const KNOT_STEP: f64 = 0.0625;

/// Knots at most, more than [`QuantileScale::fit`] makes: a bound on what is read.
const KNOTS_MAX: usize = 1024;

/// The shares of values that [`QuantileScale::points`] tells of.
const POINTS: [f64; 3] = [0.05, 0.5, 0.95];

/// Deviations beyond which a value is clipped on both scales of a number: whatever lies beyond is "far out". The histogram's
/// range is asinh(2 * 10).
pub const CLIP: f64 = 10.0;

/// An even sample of a stream of numbers: every value is kept with the same probability (Vitter 1985, algorithm R).
#[derive(Debug, Clone)]
pub struct Sample {
    values: Vec<f64>,
    seen: u64,
    rng: ChaCha8Rng,
}

impl Sample {
    /// An empty sample, drawn by `rng`.
    pub fn new(rng: ChaCha8Rng) -> Self {
        Self {
            values: Vec::new(),
            seen: 0,
            rng,
        }
    }

    /// Shows one finite value.
    pub fn observe(&mut self, x: f64) {
        self.seen += 1;
        if self.values.len() < SAMPLE_MAX {
            self.values.push(x);
            return;
        }
        let place = self.rng.random_range(0..self.seen);
        if let Some(kept) = self.values.get_mut(place as usize) {
            *kept = x;
        }
    }

    /// The kept values, ascending.
    pub fn sorted(mut self) -> Vec<f64> {
        self.values.sort_unstable_by(f64::total_cmp);
        self.values
    }
}

/// How many of `rows` sorted values on either side are beyond the outermost that count as ordinary.
pub(super) fn outer(rows: usize) -> usize {
    ((rows as f64 * OUTER_SHARE).ceil() as usize).min(rows.saturating_sub(1) / 2)
}

/// A piecewise linear map from transformed values to normal quantiles, with logarithmic tails.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QuantileScale {
    /// Transformed values, strictly ascending; empty: the field has no such scale, and every value is at 0.
    values: Vec<f64>,
    /// The normal quantile of each, strictly ascending.
    scores: Vec<f64>,
    /// What is one standard deviation beyond the outermost values; > 0.
    unit: f64,
    /// The values that 5 %, 50 % and 95 % of all are at most.
    points: [f64; 3],
}

impl QuantileScale {
    /// The scale of sorted values. Equal values are at the middle of their ranks (van der Waerden 1952). Beyond the outermost
    /// ordinary value y1, at the quantile q1, a value y is at q1 + log(1 + |y - y1| / `unit`) on that side.
    pub fn fit(sorted: &[f64], unit: f64) -> Self {
        let mut scale = Self {
            values: Vec::new(),
            scores: Vec::new(),
            unit,
            points: POINTS.map(|share| {
                let at = (share * sorted.len() as f64).ceil() as usize;
                sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
            }),
        };
        let rows = sorted.len();
        let outer = outer(rows);
        let ordinary = outer..rows - outer;
        let mut start = 0;
        let mut pending: Option<(f64, f64)> = None;
        while start < rows {
            let value = sorted[start];
            let equal = sorted[start..].partition_point(|&x| x <= value);
            let end = start + equal;
            // A run of equal values counts where any of it is ordinary.
            if end > ordinary.start && start < ordinary.end {
                let score = normal_quantile((start + end) as f64 / 2.0 / rows as f64);
                let last = scale.scores.last().copied();
                match last {
                    Some(last) if score - last < KNOT_STEP => pending = Some((value, score)),
                    _ => {
                        // The neighbour below a wide step is kept too, so that the step stays where it is.
                        if let Some(neighbour) = pending.take() {
                            scale.push(neighbour);
                        }
                        scale.push((value, score));
                    }
                }
            }
            start = end;
        }
        if let Some(last) = pending {
            scale.push(last);
        }
        scale
    }

    fn push(&mut self, (value, score): (f64, f64)) {
        self.values.push(value);
        self.scores.push(score);
    }

    /// What is wrong with it, if it is not what [`fit`](Self::fit) makes.
    pub(super) fn fault(&self) -> Option<String> {
        let rises = |numbers: &[f64]| {
            numbers.iter().all(|x| x.is_finite())
                && numbers.windows(2).all(|pair| pair[0] < pair[1])
        };
        let is_sound = self.values.len() == self.scores.len()
            && self.values.len() <= KNOTS_MAX
            && self.points.iter().all(|x| x.is_finite())
            && self.points.is_sorted()
            && self.scores.iter().all(|score| score.abs() <= CLIP)
            && rises(&self.values)
            && rises(&self.scores)
            && (self.values.is_empty() || self.unit.is_finite() && self.unit > 0.0);
        (!is_sound).then(|| "quantiles that do not rise".to_owned())
    }

    /// The values that 5 %, 50 % and 95 % of all fitted ones are at most; none if there is no such scale.
    pub fn points(&self) -> Option<[f64; 3]> {
        (!self.values.is_empty()).then_some(self.points)
    }

    /// The transformed value at a normal quantile, the inverse of [`quantile`](Self::quantile); none if there is no such scale.
    pub fn value(&self, quantile: f64) -> Option<f64> {
        let (first, last) = (self.scores.first()?, self.scores.last()?);
        let beyond = |by: f64| self.unit * by.exp_m1();
        let above = self.scores.partition_point(|&score| score <= quantile);
        Some(match above {
            0 => self.values[0] - beyond(first - quantile),
            _ if above == self.scores.len() => self.values[above - 1] + beyond(quantile - last),
            _ => {
                let (low, high) = (self.scores[above - 1], self.scores[above]);
                let (from, to) = (self.values[above - 1], self.values[above]);
                from + (quantile - low) / (high - low) * (to - from)
            }
        })
    }

    /// The normal quantile of a transformed value, within -10..=10.
    pub fn quantile(&self, y: f64) -> f32 {
        let (Some(&first), Some(&last)) = (self.values.first(), self.values.last()) else {
            return 0.0;
        };
        let (least, most) = (self.scores[0], self.scores[self.scores.len() - 1]);
        let quantile = if y <= first {
            least - ((first - y) / self.unit).ln_1p()
        } else if y >= last {
            most + ((y - last) / self.unit).ln_1p()
        } else {
            let above = self.values.partition_point(|&knot| knot <= y);
            let (from, to) = (self.values[above - 1], self.values[above]);
            let (low, high) = (self.scores[above - 1], self.scores[above]);
            low + (y - from) / (to - from) * (high - low)
        };
        quantile.clamp(-CLIP, CLIP) as f32
    }
}

/// The quantile of the standard normal at 0 < p < 1.
fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use proptest::prelude::*;

    /// 0 to 9, four times each, and one 50.
    fn counts() -> QuantileScale {
        let mut values: Vec<f64> = (0..40).map(|i| f64::from(i / 4)).collect();
        values.push(50.0);
        QuantileScale::fit(&values, 3.0)
    }

    #[test]
    fn equal_values_are_at_the_middle_of_their_ranks() {
        // SciPy: norm.ppf((rankdata(x) - .5) / len(x)) at 0, 1, 5 and 9
        let expected = [
            (0.0, -1.656_795),
            (1.0, -1.052_254),
            (5.0, 0.091_835),
            (9.0, 1.452_576),
        ];
        for (y, q) in expected {
            assert!((f64::from(counts().quantile(y)) - q).abs() < 1e-5, "{y}");
        }
        for (y, q) in expected {
            assert!((counts().value(q).unwrap() - y).abs() < 1e-4, "{y}");
        }
        assert_eq!(QuantileScale::default().value(0.0), None);
        // Between two of them it is linear.
        let [low, middle, high] = [5.0, 5.5, 6.0].map(|y| counts().quantile(y));
        assert!((middle - 0.5 * (low + high)).abs() < 1e-6);
    }

    #[test]
    fn beyond_the_ordinary_values_the_order_is_kept() {
        // NumPy: q(9) + np.log1p((50 - 9) / 3) and q(0) - np.log1p(2 / 3)
        assert!((counts().quantile(50.0) - 4.138_154).abs() < 1e-5);
        assert!((counts().quantile(-2.0) + 2.167_620).abs() < 1e-5);
        assert!(counts().quantile(1e3) > counts().quantile(500.0));
        assert_eq!(counts().quantile(f64::MAX), 10.0);
    }

    #[test]
    fn a_sample_is_even_and_bounded() {
        let mut sample = Sample::new(stream(0, Purpose::Tests));
        (0..200_000).for_each(|i| sample.observe(f64::from(i)));
        let sorted = sample.sorted();
        assert_eq!(sorted.len(), SAMPLE_MAX);
        // Of 16,384 even draws a quarter point lies within 1.5 % of its own, some four deviations.
        for (at, expected) in [(4_096, 50_000.0), (8_192, 100_000.0), (12_288, 150_000.0)] {
            assert!((sorted[at] - expected).abs() < 3_000.0, "{}", sorted[at]);
        }
    }

    #[test]
    fn a_scale_that_training_would_not_make_is_refused() {
        let scale = counts();
        assert_eq!(scale.fault(), None);
        assert_eq!(QuantileScale::default().fault(), None);
        let forged = [
            QuantileScale {
                unit: 0.0,
                ..scale.clone()
            },
            QuantileScale {
                scores: scale.scores[1..].to_vec(),
                ..scale.clone()
            },
            QuantileScale {
                values: vec![2.0, 1.0],
                scores: vec![0.0, 1.0],
                unit: 1.0,
                points: [0.0; 3],
            },
            QuantileScale {
                values: vec![1.0, 2.0],
                scores: vec![0.0, f64::NAN],
                unit: 1.0,
                points: [0.0; 3],
            },
        ];
        assert!(forged.iter().all(|scale| scale.fault().is_some()));
        let many: Vec<f64> = (0..2_000).map(|i| f64::from(i) / 250.0).collect();
        let far = QuantileScale {
            values: vec![1.0, 2.0],
            scores: vec![0.0, 11.0],
            ..scale.clone()
        };
        let more = QuantileScale {
            values: many.clone(),
            scores: many,
            ..scale
        };
        assert!(far.fault().is_some() && more.fault().is_some());
    }

    proptest! {
        #[test]
        fn more_is_never_a_lower_quantile(
            mut values in prop::collection::vec(-50..50i32, 1..300), y in -80.0..80.0f64, step in 0.0..40.0f64
        ) {
            values.sort_unstable();
            let sorted: Vec<f64> = values.iter().map(|&x| f64::from(x) / 3.0).collect();
            let scale = QuantileScale::fit(&sorted, 2.0);
            prop_assert_eq!(scale.fault(), None);
            prop_assert!(scale.quantile(y + step) >= scale.quantile(y));
            prop_assert!(scale.quantile(y).abs() <= 10.0);
        }

        #[test]
        fn a_few_absurd_values_move_no_other(shift in 0.0..1e6f64, absurd in 1e7..1e12f64) {
            let ordinary: Vec<f64> = (0..19_995).map(|i| shift + f64::from(i % 977)).collect();
            let fitted = |values: &[f64]| {
                let mut sorted = values.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                let mut moments = super::super::numeric::Moments::default();
                values.iter().for_each(|&x| moments.observe(x));
                let sample = super::super::ordinary::OrderedSample::of(sorted.clone());
                let moments = moments.robust(&sample);
                let encoder = super::super::numeric::NumericEncoder::fit(crate::schema::Transform::None, &moments);
                (QuantileScale::fit(&sorted, encoder.scale), encoder)
            };
            let (scale, encoder) = fitted(&ordinary);
            let (other_scale, other) = fitted(&[&ordinary[..], &[absurd; 5]].concat());
            // The ends are known less exactly than the middle.
            for (y, near) in [(10.0, 0.05), (488.0, 0.02), (950.0, 0.05), (5_000.0, 0.2)] {
                let y = shift + y;
                prop_assert!((scale.quantile(y) - other_scale.quantile(y)).abs() < near);
                let [z, moved] = [&encoder, &other].map(|encoder| encoder.encode(y));
                prop_assert!((z - moved).abs() < 0.05 + 0.05 * z.abs(), "{} {}", z, moved);
            }
        }
    }
}
