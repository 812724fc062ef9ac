//! Numbers of which the fit rows know two values: a flag written as 0 and 1, a fee that is 0 or 2.50.
//!
//! How far the rarer of two values lies from the mean says only how rare it is: read as a number, a flag that one record in
//! a hundred has is ten standard deviations out, whatever the visible fields say. So such a field is predicted as one of
//! two, while the model's input stays the standardised number: a third value is read for what it is where it is visible,
//! and is one that was never seen where it is predicted.
//!
//! A single third value among the fit rows, or a value seen once only, makes the field an ordinary number.

use super::numeric::NumericEncoder;
use crate::schema::value::number_to_json;
use serde::{Deserialize, Serialize};

/// Values that a field must have had in the fit rows for their being two to say something: a third one with a share of a
/// tenth stays out of 50 rows once in 200 times.
pub const BINARY_VALUES_MIN: u64 = 50;

/// Times that each of the two must have occurred: what occurred once may be anything.
const TIMES_MIN: u64 = 2;

/// How far apart, relative to the larger, two numbers may be and still be the same value: a single-precision 0.1 in a file
/// is another double-precision number than the 0.1 of a JSON record.
const SAME_WITHIN: f64 = 1e-6;

/// Whether two numbers are one value.
fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_WITHIN * a.abs().max(b.abs())
}

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
    /// Adds one finite value; those that differ by less than single precision are one.
    pub fn observe(&mut self, x: f64) {
        if self.others {
            return;
        }
        for seen in [&mut self.first, &mut self.second] {
            // -0 becomes 0.
            let (value, count) = seen.get_or_insert((x + 0.0, 0));
            if is_same(*value, x) {
                *count += 1;
                return;
            }
        }
        self.others = true;
    }

    /// The two values, the smaller first, and how many they were together, if there were exactly two, each repeated, among
    /// at least [`BINARY_VALUES_MIN`].
    fn pair(&self) -> Option<([f64; 2], u64)> {
        let (Some(a), Some(b), false) = (self.first, self.second, self.others) else {
            return None;
        };
        let values = [a.0.min(b.0), a.0.max(b.0)];
        let total = a.1 + b.1;
        let enough = total >= BINARY_VALUES_MIN && a.1.min(b.1) >= TIMES_MIN;
        enough.then_some((values, total))
    }
}

/// The fitted encoding of a number that had two values in the fit rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinaryEncoder {
    /// The standardised number: what the model sees of a visible value.
    pub number: NumericEncoder,
    /// The two values in the field's own unit, ascending.
    pub values: [f64; 2],
    /// The probability that the next value is neither, in (0, 1).
    unseen_mass: f64,
}

impl BinaryEncoder {
    /// The encoding of a number whose values were `seen`; `None` if they were not two, too few, or one once they are
    /// transformed and standardised.
    pub fn fit(number: NumericEncoder, seen: &TwoValues) -> Option<Self> {
        let (values, total) = seen.pair()?;
        let binary = Self {
            number,
            values,
            // As of categories: Good's share of what was seen once, which is nothing here, with one added to either side.
            unseen_mass: 1.0 / (total + 2) as f64,
        };
        let [lower, upper] = binary.encoded();
        (lower < upper).then_some(binary)
    }

    /// [`LOWER`], [`UPPER`] or [`NEITHER`].
    pub fn code(&self, x: f64) -> u32 {
        match self.values {
            [lower, _] if is_same(lower, x) => LOWER,
            [_, upper] if is_same(upper, x) => UPPER,
            _ => NEITHER,
        }
    }

    /// The two values as JSON text with seven digits: enough to tell them apart, and 0.1 where a file held it in single
    /// precision.
    pub fn names(&self) -> [String; 2] {
        self.values.map(|x| {
            let rounded = format!("{x:.6e}").parse().unwrap_or(x);
            number_to_json(rounded).to_string()
        })
    }

    /// Whether the two values are those of another encoding.
    pub fn has_values_of(&self, other: &Self) -> bool {
        let mut pairs = self.values.iter().zip(&other.values);
        pairs.all(|(&a, &b)| is_same(a, b))
    }

    /// The two values standardised and clipped, as the model sees them, ascending.
    pub fn encoded(&self) -> [f32; 2] {
        self.values.map(|x| self.number.encode(x))
    }

    /// What is wrong with it, if it is not what [`Self::fit`] makes.
    pub(super) fn fault(&self) -> Option<String> {
        let [lower, upper] = self.encoded();
        let is_share = self.unseen_mass > 0.0 && self.unseen_mass < 1.0;
        let is_pair = self.values.iter().all(|value| value.is_finite()) && lower < upper;
        let own = (!is_share || !is_pair).then(|| {
            let ([a, b], mass) = (self.values, self.unseen_mass);
            format!("values {a} and {b}, an unseen mass of {mass}")
        });
        self.number.fault().or(own)
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
    use crate::encode::numeric::Moments;
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
        assert_eq!(flag.values.map(f64::to_bits), [0.0, 2.5].map(f64::to_bits));
        let codes = [0.0, -0.0, 2.5, 2.501, 1.0, -2.5].map(|x| flag.code(x));
        assert_eq!(codes, [LOWER, LOWER, UPPER, NEITHER, NEITHER, NEITHER]);
        assert!((flag.unseen_surprise() - 102f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn single_and_double_precision_are_the_same_value() {
        let single = f64::from(0.1f32);
        assert_ne!(single, 0.1);
        let of_files = fitted((0..100).map(|i| if i % 2 == 0 { single } else { -7.0 })).unwrap();
        assert_eq!(
            [-7.0, 0.1, single].map(|x| of_files.code(x)),
            [LOWER, UPPER, UPPER]
        );
        let mixed = fitted((0..99).map(|i| [single, 0.1, -7.0][i % 3])).unwrap();
        assert_eq!(mixed.code(0.1), UPPER);
        assert_eq!(mixed.names(), ["-7", "0.1"]);
    }

    #[test]
    fn one_value_three_values_too_few_and_a_single_one_are_numbers() {
        assert_eq!(fitted([4.0; 100]), None);
        assert_eq!(fitted((0..100).map(|i| f64::from(i % 3))), None);
        assert_eq!(fitted((0..49).map(|i| f64::from(i % 2))), None);
        assert!(fitted((0..50).map(|i| f64::from(i % 2))).is_some());
        let times = |n| fitted((0..100).map(move |i| f64::from(u8::from(i < n))));
        assert!(times(1).is_none() && times(2).is_some());
    }

    #[test]
    fn two_that_are_one_number_up_to_rounding_are_a_constant() {
        assert_eq!(
            fitted((0..100).map(|i| if i % 2 == 0 { 0.3 } else { 0.1 + 0.2 })),
            None
        );
    }
}
