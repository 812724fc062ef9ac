//! Numbers of which the fit rows know two values: a flag written as 0 and 1, a fee that is 0 or 2.50.
//!
//! How far the rarer of two values lies from the mean says only how rare it is: read as a number, a flag that one record in
//! a hundred has is ten standard deviations out, whatever the visible fields say. So such a field is predicted as one of
//! two, while the model's input stays the standardised number: a third value is read for what it is where it is visible,
//! and is one that was never seen where it is predicted.

use super::numeric::NumericEncoder;
use serde::{Deserialize, Serialize};

/// Values that a field must have had in the fit rows for their being two to say something: a third one with a share of a
/// tenth stays out of 50 rows once in 200 times.
pub const BINARY_VALUES_MIN: u64 = 50;

/// The code of a value that is neither of the two.
pub const NEITHER: u32 = 0;
/// The code of the smaller value.
pub const LOWER: u32 = 1;
/// The code of the larger value.
pub const UPPER: u32 = 2;

/// Counts the first two distinct values of a stream, and notices a third.
#[derive(Debug, Clone, Copy, Default)]
pub struct TwoValues {
    first: Option<(f64, u64)>,
    second: Option<(f64, u64)>,
    others: bool,
}

impl TwoValues {
    /// Adds one finite value; 0 and -0 are one.
    pub fn observe(&mut self, x: f64) {
        if self.others {
            return;
        }
        for seen in [&mut self.first, &mut self.second] {
            let (value, count) = seen.get_or_insert((x, 0));
            if *value == x {
                *count += 1;
                return;
            }
        }
        self.others = true;
    }

    /// The two values with their counts, the smaller first, if there were exactly two among at least
    /// [`BINARY_VALUES_MIN`].
    fn pair(&self) -> Option<[(f64, u64); 2]> {
        let (Some(a), Some(b), false) = (self.first, self.second, self.others) else {
            return None;
        };
        let pair = if a.0 < b.0 { [a, b] } else { [b, a] };
        (a.1 + b.1 >= BINARY_VALUES_MIN).then_some(pair)
    }
}

/// The fitted encoding of a number that had two values in the fit rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BinaryEncoder {
    /// The standardised number: what the model sees of a visible value.
    pub number: NumericEncoder,
    /// The two values in the field's own unit, ascending.
    pub values: [f64; 2],
    /// The probability that the next value is neither, in (0, 1).
    unseen_mass: f64,
}

impl BinaryEncoder {
    /// The encoding of a number whose values were `seen`; `None` if they were not two, or too few.
    pub fn fit(number: NumericEncoder, seen: &TwoValues) -> Option<Self> {
        let pair = seen.pair()?;
        // As of categories: Good's share of what was seen once, with one added to either side.
        let once = pair.iter().filter(|(_, count)| *count == 1).count() as f64;
        let total: u64 = pair.iter().map(|(_, count)| count).sum();
        Some(Self {
            number,
            values: pair.map(|(value, _)| value),
            unseen_mass: (once + 1.0) / (total + 2) as f64,
        })
    }

    /// [`LOWER`], [`UPPER`] or [`NEITHER`].
    pub fn code(&self, x: f64) -> u32 {
        match self.values {
            [lower, _] if x == lower => LOWER,
            [_, upper] if x == upper => UPPER,
            _ => NEITHER,
        }
    }

    /// -log of the probability that a value is neither, in nats, > 0.
    pub fn unseen_surprise(&self) -> f32 {
        -self.unseen_mass.ln() as f32
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::features::numeric::Moments;
    use crate::schema::Transform;

    fn fitted(values: impl IntoIterator<Item = f64>) -> Option<BinaryEncoder> {
        let (mut moments, mut seen) = (Moments::default(), TwoValues::default());
        for x in values {
            moments.observe(x);
            seen.observe(x);
        }
        BinaryEncoder::fit(NumericEncoder::fit(Transform::None, &moments), &seen)
    }

    #[test]
    fn two_values_are_told_from_each_other_and_from_all_others() {
        let flag = fitted((0..100).map(|i| if i % 10 == 3 { 2.5 } else { -0.0 })).unwrap();
        assert_eq!(flag.values, [0.0, 2.5]);
        let codes = [0.0, -0.0, 2.5, 2.500_000_1, 1.0, -2.5].map(|x| flag.code(x));
        assert_eq!(codes, [LOWER, LOWER, UPPER, NEITHER, NEITHER, NEITHER]);
        assert!((flag.unseen_surprise() - 102f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_value_seen_once_makes_a_third_likelier() {
        let once = fitted((0..100).map(|i| f64::from(u8::from(i == 7)))).unwrap();
        assert!((once.unseen_surprise() - 51f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn one_value_three_values_and_too_few_of_two_are_numbers() {
        assert_eq!(fitted([4.0; 100]), None);
        assert_eq!(fitted((0..100).map(|i| f64::from(i % 3))), None);
        assert_eq!(fitted((0..49).map(|i| f64::from(i % 2))), None);
        assert!(fitted((0..50).map(|i| f64::from(i % 2))).is_some());
    }
}
