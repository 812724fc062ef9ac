//! Which of a number's values count for its scales, and which are far from all others: a few absurd ones, and stand-ins as
//! 99999, which stand for no quantity.
//!
//! In flow sorted values, out flows the range of those that count. Both kinds are found by one thing: the first gap, from the
//! middle outwards, that is several times as wide as all that lies inside of it. So a heavy tail, which has no such gap, counts.

use std::ops::Range;

/// A gap is wide if it is more than so many times the range of all values inside of it.
pub(super) const REACH: f64 = 3.0;
/// The same where fewer than [`DISTINCT_MIN`] different values lie inside, which may be counts or codes.
const REACH_OF_FEW: f64 = 100.0;
/// Different values inside from which on their range says something.
const DISTINCT_MIN: usize = 10;
/// Absurd values: at most this share of the rows lies beyond the gap.
const ABSURD_SHARE: f64 = 0.01;
/// The same where few different values lie inside.
const ABSURD_SHARE_OF_FEW: f64 = 0.001;
/// The same needs so many rows: of a few rows none is absurd.
const ROWS_MIN_OF_FEW: usize = 100;
/// Stand-ins: at most so many different values lie beyond the gap, in at most half of the rows.
const STAND_INS_MAX: usize = 3;
/// Times that both ends are looked at, since what lies beyond one end widens the range that the other is held against.
const PASSES: usize = 4;

/// An even sample of a number's values, in order, with those of them that count.
#[derive(Debug)]
pub(super) struct OrderedSample {
    sorted: Vec<f64>,
    ordinary: Range<usize>,
}

impl OrderedSample {
    /// Of values in ascending order.
    pub fn of(sorted: Vec<f64>) -> Self {
        let ordinary = ordinary(&sorted);
        Self { sorted, ordinary }
    }

    /// All values, ascending.
    pub fn all(&self) -> &[f64] {
        &self.sorted
    }

    /// Those that count, ascending.
    pub fn ordinary(&self) -> &[f64] {
        &self.sorted[self.ordinary.clone()]
    }
}

/// The positions of `sorted` whose values count.
fn ordinary(sorted: &[f64]) -> Range<usize> {
    let mut range = 0..sorted.len();
    for _ in 0..PASSES {
        let before = range.clone();
        range.end -= beyond(sorted[range.clone()].iter().copied());
        range.start += beyond(sorted[range.clone()].iter().rev().map(|x| -x));
        if range == before {
            break;
        }
    }
    range
}

/// How many of the largest of ascending values lie beyond the first wide gap above their middle.
fn beyond(values: impl ExactSizeIterator<Item = f64> + Clone) -> usize {
    let rows = values.len();
    let pairs = || values.clone().zip(values.clone().skip(1));
    let mut outside = pairs().filter(|(low, high)| low < high).count() + 1;
    // One value in a hundred on the other side may be absurd too.
    let Some(low) = values.clone().nth(rows / 100) else {
        return 0;
    };
    let mut inside = 0;
    for (at, (inner, outer)) in (1..).zip(pairs()) {
        if !(inner < outer) {
            continue;
        }
        (inside, outside) = (inside + 1, outside - 1);
        if at * 2 >= rows && is_wide(inner - low, outer - inner, inside, inner) {
            let beyond = rows - at;
            let share = match inside < DISTINCT_MIN {
                true => ABSURD_SHARE_OF_FEW,
                false => ABSURD_SHARE,
            };
            let are_enough = inside >= DISTINCT_MIN || rows >= ROWS_MIN_OF_FEW;
            let are_absurd = are_enough && beyond as f64 <= (share * rows as f64).max(1.0);
            let are_stand_ins = inside >= DISTINCT_MIN && outside <= STAND_INS_MAX;
            if are_absurd || are_stand_ins {
                return beyond;
            }
        }
    }
    0
}

/// Whether a gap above `inner` is wide beside the range inside of it.
fn is_wide(range: f64, gap: f64, inside: usize, inner: f64) -> bool {
    match inside < DISTINCT_MIN {
        true => gap > REACH_OF_FEW * range.max(0.01 * inner.abs().max(1.0)),
        false => gap > REACH * range,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values from 0 to 100 in tenths, 20,000 of them, and others; how many of each end do not count.
    fn left_out(others: &[f64]) -> (usize, usize) {
        let mut values: Vec<f64> = (0..20_000).map(|i| f64::from(i % 1_001) / 10.0).collect();
        values.extend(others);
        of_ends(values)
    }

    fn of_ends(mut values: Vec<f64>) -> (usize, usize) {
        values.sort_unstable_by(f64::total_cmp);
        let range = ordinary(&values);
        (range.start, values.len() - range.end)
    }

    #[test]
    fn absurd_values_do_not_count_however_they_lie() {
        let near_1e9: Vec<f64> = (0..12).map(|i| 1e9 + f64::from(i)).collect();
        assert_eq!(left_out(&near_1e9), (0, 12));
        assert_eq!(left_out(&[-1e12, 1e9, 1e15, f64::MAX]), (1, 3));
        let spread: Vec<f64> = (0..150).map(|i| 1e5 * f64::from(1 + i)).collect();
        assert_eq!(left_out(&spread), (0, 150));
    }

    #[test]
    fn stand_ins_do_not_count_whatever_lies_between() {
        for rows in [1, 30, 42, 300, 9_000] {
            assert_eq!(left_out(&vec![99_999.0; rows]), (0, rows));
            assert_eq!(left_out(&vec![-9_999.0; rows]), (rows, 0));
        }
        let between = [vec![99_999.0; 60], vec![50_000.0]].concat();
        assert_eq!(left_out(&between), (0, 61));
        let two = [vec![99_998.0; 2_000], vec![99_999.0; 2_000]].concat();
        assert_eq!(left_out(&two), (0, 4_000));
        let both = [vec![-9_999.0; 3_000], vec![999.0; 3_000]].concat();
        assert_eq!(left_out(&both), (3_000, 3_000));
    }

    #[test]
    fn heavy_tails_groups_and_counts_do() {
        // A Pareto tail of exponent 1.5, by its quantiles; NumPy: (1 - p) ** (-1 / 1.5)
        let tail = (0..10_000).map(|i| (1.0 - (f64::from(i) + 0.5) / 1e4).powf(-1.0 / 1.5));
        assert_eq!(of_ends(tail.collect()), (0, 0));
        assert_eq!(left_out(&vec![250.0; 40]), (0, 0));
        // As many rows in a second group, or a group of many values.
        assert_eq!(left_out(&vec![99_999.0; 25_000]), (0, 0));
        let group: Vec<f64> = (0..1_000).map(|i| 1e4 + f64::from(i)).collect();
        assert_eq!(left_out(&group), (0, 0));
        // Notes, and counts of a few values.
        let notes = [vec![10.0; 300], vec![20.0; 300], vec![50.0; 400]].concat();
        assert_eq!(of_ends(notes), (0, 0));
        let counts = [vec![0.0; 9_000], vec![1.0; 900], vec![7.0; 5]].concat();
        assert_eq!(of_ends(counts), (0, 0));
    }

    #[test]
    fn an_absurd_value_beside_a_constant_or_a_few_counts_does_not_count() {
        assert_eq!(of_ends([vec![0.0; 19_999], vec![1e9]].concat()), (0, 1));
        let counts = [vec![0.0; 990], vec![1.0, 2.0, 3.0, 4.0], vec![1e5]].concat();
        assert_eq!(of_ends(counts), (0, 1));
        assert_eq!(of_ends(vec![1.0, 2.0, 1e9]), (0, 0));
        assert_eq!(of_ends(vec![5.0; 10]), (0, 0));
        assert_eq!(of_ends(vec![1.0]), (0, 0));
        assert_eq!(of_ends(Vec::new()), (0, 0));
    }

    proptest! {
        #[test]
        fn some_rows_always_count(mut values in prop::collection::vec(-1e300..1e300f64, 1..200)) {
            values.sort_unstable_by(f64::total_cmp);
            let range = ordinary(&values);
            prop_assert!(!range.is_empty(), "{range:?}");
        }
    }
}
