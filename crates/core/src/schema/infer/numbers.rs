//! What is known of the numbers of one column, and what they are evidence for.
//!
//! In flow numbers in the order of the file, out flow the answers that `rules` asks for: is it a running number, a
//! long code, a code in repeated use, a clock. Each answer is one documented rule. Only the question after a clock
//! depends on the order of the rows. Memory is bounded by constants.
//!
//! - A *running number* differs in every row, and its range has at most [`ROOM`] places a row: no quantity
//!   that is drawn at random fills a range without ever coming twice.
//! - A *long code* (card, account, telephone) has one number of digits in 95 % of the rows, nine or more; the largest is
//!   1.2 times the smallest at least, and begins with a digit above 1. Amounts have many widths (Benford's law). Clocks
//!   span a small part of a decade, and moments from 2001 to 2033 begin with a 1 in every unit. A *hash* is a long code
//!   too: 95 % of the rows have 17 digits or more, with any sign, and they are no clock. No quantity is known so finely.
//! - A *code in repeated use* (shop, address, area) has signs, each worth a point: how often neighbouring values occur is
//!   unrelated; there are irregular gaps where most of its rows are; nearly all values have the same number of digits.
//!   A zero, round numbers and prices (multiples of 5, endings in 99) speak against it, a number below zero rules it
//!   out, and so do values over more than two decades, as quantities have.
//! - A *clock* never falls from row to row, but for one step in a thousand, and rises often enough.

use super::super::spread::Spread;
use super::distinct::{Distinct, Kept};

/// Places that the range of a running number has for each of its rows at most.
const ROOM: f64 = 4.0;
/// Rows from which values tell an identifier.
const ROWS_MIN: u64 = 50;
/// Digits of a long code at least.
const LONG_DIGITS_MIN: usize = 9;
/// Digits of a hash at least: an f64 tells integers of up to 15 apart, and those of 16 for the most part.
const HASH_DIGITS_MIN: usize = 17;
/// Steps upwards of a clock at least: a file may be sorted by something that has two values.
const CLOCK_RISES_MIN: u64 = 5;
/// Distinct values from which a code in repeated use can be told, and rows that each has on average.
const CODES_MIN: u64 = 30;
const CODE_ROWS_MIN: u64 = 10;

/// Numbers of one column.
pub(super) struct Numbers {
    /// How they are spread.
    pub(super) spread: Spread,
    /// Smallest and largest, exactly, where they are integers of a column of integers.
    pub(super) integers: Option<(i128, i128)>,
    /// Whether each is a whole number.
    pub(super) whole: bool,
    /// Rows by the number of digits before the point.
    widths: [u64; WIDTHS],
    /// Rows whose value is a multiple of 5 or ends in 99, as prices do.
    round: u64,
    previous: Option<f64>,
    steps: u64,
    rises: u64,
    falls: u64,
}

/// Numbers of digits that are told apart: an i128 has 39.
const WIDTHS: usize = 40;

impl Default for Numbers {
    fn default() -> Self {
        Self {
            spread: Spread::default(),
            integers: None,
            whole: true,
            widths: [0; WIDTHS],
            round: 0,
            previous: None,
            steps: 0,
            rises: 0,
            falls: 0,
        }
    }
}

impl Numbers {
    /// Counts an integer.
    pub(super) fn add_integer(&mut self, value: i128) {
        let (least, most) = self.integers.unwrap_or((value, value));
        self.integers = Some((least.min(value), most.max(value)));
        self.add(value as f64);
    }

    /// Counts a finite number.
    pub(super) fn add(&mut self, value: f64) {
        self.spread.observe(value);
        self.whole &= value.fract() == 0.0;
        let width = if value.abs() < 1.0 {
            1
        } else {
            value.abs().log10().floor() as usize + 1
        };
        self.widths[width.min(WIDTHS - 1)] += 1;
        let round = value % 5.0 == 0.0 || value.abs() % 100.0 == 99.0;
        self.round += u64::from(round);
        if let Some(previous) = self.previous.replace(value) {
            self.steps += 1;
            self.rises += u64::from(value > previous);
            self.falls += u64::from(value < previous);
        }
    }

    fn range(&self) -> Option<(f64, f64)> {
        Some((
            self.spread.lowest().first()?.0,
            self.spread.highest().first()?.0,
        ))
    }

    /// Whether every row has a number of its own from a range with little room for more.
    pub(super) fn is_running_number(&self, distinct: &Distinct) -> bool {
        let rows = self.spread.count() as f64;
        let room = self.range().map_or(0.0, |(least, most)| most - least + 1.0);
        // Beyond the exact range the count is an estimate, so a few in a hundred may be missing.
        let unique = distinct.count() as f64 > 0.95 * rows;
        self.whole && unique && self.spread.count() >= ROWS_MIN && room <= ROOM * rows
    }

    /// Whether nearly all have the same large number of digits, all over their decade.
    pub(super) fn is_long_code(&self) -> bool {
        let rows = self.spread.count();
        if self.whole && rows >= ROWS_MIN && self.is_hash(rows) {
            return true;
        }
        let width = (0..WIDTHS)
            .max_by_key(|&width| self.widths[width])
            .unwrap_or(0);
        let same = self.widths[width] as f64 >= 0.95 * rows as f64;
        let decade = 10_f64.powi(width as i32 - 1);
        let spans = |(least, most)| least > 0.0 && most >= 1.2 * least && most >= 2.0 * decade;
        let spans = self.range().is_some_and(spans);
        self.whole && rows >= ROWS_MIN && width >= LONG_DIGITS_MIN && same && spans
    }

    /// Whether nearly all of `rows` have more digits than quantities have, over a good part of their range.
    fn is_hash(&self, rows: u64) -> bool {
        let long: u64 = self.widths[HASH_DIGITS_MIN..].iter().sum();
        // Nanoseconds since 1970 have 19 digits, and span a few percent.
        let spans = |(least, most): (f64, f64)| most - least >= 0.2 * least.abs().max(most.abs());
        long as f64 >= 0.95 * rows as f64 && self.range().is_some_and(spans)
    }

    /// Whether the values rise from row to row, so that later records are beyond all of them.
    pub(super) fn is_clock(&self) -> bool {
        let (steps, falls) = (self.steps as f64, self.falls as f64);
        self.steps >= ROWS_MIN && falls <= 0.001 * steps && self.rises >= CLOCK_RISES_MIN
    }

    /// Points for a code in repeated use, or `None` where something rules it out.
    pub(super) fn code_points(&self, distinct: &Distinct) -> Option<i32> {
        let rows = self.spread.count();
        let values = distinct.numbers();
        let (least, _) = self.range()?;
        let repeated = distinct.count().saturating_mul(CODE_ROWS_MIN) <= rows;
        if !self.whole || least < 0.0 || !repeated || (values.len() as u64) < CODES_MIN {
            return None;
        }
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize].value;
        if at(0.95) > 100.0 * at(0.05).max(1.0) {
            return None;
        }
        let mut points = i32::from(are_unrelated(&values)) + i32::from(has_gaps(&values, distinct));
        let width = |value: f64| value.max(1.0).log10().floor() as i32;
        let middle = width(at(0.5));
        let same = values
            .iter()
            .filter(|kept| width(kept.value) == middle)
            .count();
        points += i32::from(middle >= 2 && same as f64 >= 0.95 * values.len() as f64);
        points -= i32::from(least == 0.0);
        points -= i32::from(self.round as f64 > 0.4 * rows as f64);
        Some(points)
    }

    /// Whether it could be how many there are of something: small, from zero or one on.
    pub(super) fn is_small_count(&self, distinct: &Distinct) -> bool {
        self.range()
            .is_some_and(|(least, most)| (0.0..=1.0).contains(&least) && most < 1_000.0)
            && distinct.count() <= 256
    }
}

/// Whether the rows of a value say nothing of the rows of its neighbours: they differ by far more than chance
/// does, and their logarithms are not correlated.
fn are_unrelated(values: &[Kept]) -> bool {
    let pairs = || {
        values
            .windows(2)
            .map(|pair| (pair[0].rows as f64, pair[1].rows as f64))
    };
    let squares: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let sums: f64 = pairs().map(|(a, b)| a + b).sum();
    // Poisson counts of a smooth density differ by the root of their sum: the quotient is near one.
    let dispersed = squares > 5.0 * sums;
    let logs: Vec<(f64, f64)> = pairs().map(|(a, b)| (a.ln(), b.ln())).collect();
    dispersed && correlation(&logs) < 0.3
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (a, b) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for &(x, y) in pairs {
        ab += (x - a) * (y - b);
        aa += (x - a) * (x - a);
        bb += (y - b) * (y - b);
    }
    if aa > 0.0 && bb > 0.0 {
        ab / (aa * bb).sqrt()
    } else {
        0.0
    }
}

/// Whether places are empty between the values of most rows, other than by a regular step.
fn has_gaps(values: &[Kept], distinct: &Distinct) -> bool {
    let rows: u64 = values.iter().map(|kept| kept.rows).sum();
    // The shortest stretch from the 10 % to the 90 % point of the rows.
    let mut below = 0;
    let within = |kept: &&Kept| {
        below += kept.rows;
        below * 10 >= rows && (below - kept.rows) * 10 <= 9 * rows
    };
    let middle: Vec<f64> = values
        .iter()
        .filter(within)
        .map(|kept| kept.value)
        .collect();
    let (Some(first), Some(last)) = (middle.first(), middle.last()) else {
        return false;
    };
    let step = middle
        .windows(2)
        .fold(0.0, |step, pair| greatest_divisor(step, pair[1] - pair[0]));
    let places = (last - first) / step.max(1.0) + 1.0;
    let sampled = distinct.count() as f64 / values.len() as f64;
    middle.len() >= 10 && middle.len() as f64 * sampled < 0.9 * places
}

fn greatest_divisor(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        a
    } else {
        greatest_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::super::distinct::hash;
    use super::*;

    /// Numbers and their distinct values.
    fn column(values: impl IntoIterator<Item = i64>) -> (Numbers, Distinct) {
        let (mut numbers, mut distinct) = (Numbers::default(), Distinct::default());
        for value in values {
            numbers.add_integer(value.into());
            distinct.add(hash(&value.to_le_bytes()), value as f64);
        }
        (numbers, distinct)
    }

    /// Even draws from 0..n, the same at every run.
    fn draws(rows: u64, n: u64) -> impl Iterator<Item = u64> {
        (0..rows).map(move |i| hash(&i.to_le_bytes()) % n)
    }

    /// A normal draw by the central limit.
    fn normals(rows: u64, mean: f64, deviation: f64) -> impl Iterator<Item = i64> {
        (0..rows).map(move |i| {
            let sum: u64 = (0..12)
                .map(|k| hash(&(i * 12 + k).to_le_bytes()) % 1_000_000)
                .sum();
            (mean + deviation * (sum as f64 / 1e6 - 6.0)).round() as i64
        })
    }

    #[test]
    fn running_numbers_are_told_from_quantities_in_any_order() {
        for step in [1, 3] {
            let (numbers, distinct) = column((0..5_000).map(|i| 77_000 + i * step));
            assert!(numbers.is_running_number(&distinct));
        }
        let (numbers, distinct) = column((0..5_000).map(|i| (i * 1_777) % 5_000));
        assert!(numbers.is_running_number(&distinct) && !numbers.is_clock());
        for values in [20_000, 1_000_000, 1_000_000_000] {
            let (numbers, distinct) = column(draws(5_000, values).map(|x| x as i64));
            assert!(!numbers.is_running_number(&distinct), "{values}");
        }
        assert!(!column(0..40).0.is_running_number(&column(0..40).1));
    }

    #[test]
    fn long_codes_are_told_from_amounts_and_clocks() {
        let cards = draws(5_000, 1_900_000_000_000_000).map(|x| 4_000_000_000_000_000 + x as i64);
        assert!(column(cards).0.is_long_code());
        let clock = (0..5_000).map(|i| 1_530_446_400_000 + i * 977);
        let (numbers, _) = column(clock);
        assert!(!numbers.is_long_code() && numbers.is_clock());
        let amounts = draws(5_000, 24)
            .zip(draws(10_000, 997).skip(5_000))
            .map(|(power, x)| ((1 << power) * (1 + x)) as i64 * 1_000);
        assert!(!column(amounts).0.is_long_code());
    }

    #[test]
    fn codes_in_repeated_use_are_told_from_quantities() {
        // Shops: 400 numbers of five digits, some far busier than others.
        let shop = |i: u64| 10_000 + (hash(&i.to_le_bytes()) % 89_000) as i64;
        let shops = draws(40_000, 160_000).map(|x| shop((x as f64).sqrt() as u64));
        let (numbers, distinct) = column(shops);
        assert_eq!(numbers.code_points(&distinct), Some(3));
        let ages = normals(40_000, 45.0, 15.0).map(i64::abs);
        let (numbers, distinct) = column(ages);
        assert!(
            numbers
                .code_points(&distinct)
                .is_none_or(|points| points <= 0)
        );
        let seconds = draws(40_000, 1_000).map(|x| (x * x / 1_000) as i64);
        let (numbers, distinct) = column(seconds);
        assert!(
            numbers
                .code_points(&distinct)
                .is_none_or(|points| points <= 0)
        );
        // Prices: 300 of them, which end in 99, or are round.
        let price = |x: u64| ((x % 150) * 100 + if x.is_multiple_of(3) { 99 } else { 50 }) as i64;
        let (numbers, distinct) = column(draws(40_000, 900).map(price));
        assert!(
            numbers
                .code_points(&distinct)
                .is_none_or(|points| points <= 1)
        );
        let bytes = draws(40_000, 600).map(|x| ((x % 20) << (x % 30)) as i64);
        let (numbers, distinct) = column(bytes);
        assert_eq!(numbers.code_points(&distinct), None);
    }
}
