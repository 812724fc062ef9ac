//! How the values of a number are spread, in one pass and bounded memory.
//!
//! In flow finite values, out flow their quantiles, their extremes with counts, and points with weights that
//! stand for them. The method is that of DDSketch (Masson, Rim & Lee, VLDB 2019): counts in buckets whose
//! borders grow by a constant factor, so that a value is known within one percent of its size. Where there
//! are too many buckets, neighbours are merged in pairs. The invariant: what comes out depends on which
//! values came in, not on their order.

use std::collections::HashMap;

/// Buckets that are kept at most, some 50 KiB. At one percent of error they span 17 decades.
const BUCKETS_MAX: usize = 2_048;

/// The logarithm of the ratio of a bucket's borders, before any merging: about two percent.
const LOG_RATIO: f64 = 0.02;

/// Added to every index, so that the smallest f64 above zero has a positive one.
const OFFSET: i32 = 40_000;

/// The smallest and the largest values that are kept exactly, each with its count.
const EXTREMES_MAX: usize = 8;

/// Counts of values in buckets of constant relative width, and the extremes exactly.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    /// Rows by bucket: 0 for zero, negative for values below zero.
    buckets: HashMap<i32, u64>,
    /// How often neighbours were merged.
    merges: u32,
    count: u64,
    /// The smallest values, ascending.
    lowest: Vec<(f64, u64)>,
    /// The largest values, descending.
    highest: Vec<(f64, u64)>,
}

impl Spread {
    /// Counts a finite value.
    pub fn observe(&mut self, x: f64) {
        self.count += 1;
        let bucket = merged(bucket_of(x), self.merges);
        *self.buckets.entry(bucket).or_insert(0) += 1;
        while self.buckets.len() > BUCKETS_MAX {
            self.merges += 1;
            let buckets = std::mem::take(&mut self.buckets);
            for (bucket, count) in buckets {
                *self.buckets.entry(merged(bucket, 1)).or_insert(0) += count;
            }
        }
        keep(&mut self.lowest, x, |a, b| a < b);
        keep(&mut self.highest, x, |a, b| a > b);
    }

    /// Values seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest values with their counts, ascending; at most eight.
    pub fn lowest(&self) -> &[(f64, u64)] {
        &self.lowest
    }

    /// The largest values with their counts, descending; at most eight.
    pub fn highest(&self) -> &[(f64, u64)] {
        &self.highest
    }

    /// Points that stand for the values, ascending, each with its number of rows. A point is within one percent
    /// of the values that it stands for while there are at most 2,048 buckets; an extreme alone in its bucket is exact.
    pub fn points(&self) -> Points {
        let (Some(&(least, _)), Some(&(most, _))) = (self.lowest.first(), self.highest.first())
        else {
            return Points(Vec::new());
        };
        let mut buckets: Vec<(i32, u64)> = self.buckets.iter().map(|(&b, &n)| (b, n)).collect();
        buckets.sort_unstable();
        // A bucket in which an extreme is alone is that value.
        let alone: HashMap<(i32, u64), f64> = self
            .lowest
            .iter()
            .chain(&self.highest)
            .map(|&(x, rows)| ((merged(bucket_of(x), self.merges), rows), x))
            .collect();
        let point = |(bucket, rows)| match alone.get(&(bucket, rows)) {
            Some(&exact) => (exact, rows),
            None => (middle(bucket, self.merges).clamp(least, most), rows),
        };
        Points(buckets.into_iter().map(point).collect())
    }
}

/// Values with weights, ascending.
#[derive(Debug, Clone)]
pub struct Points(Vec<(f64, u64)>);

impl Points {
    /// The values and their rows, ascending.
    pub fn as_slice(&self) -> &[(f64, u64)] {
        &self.0
    }

    /// Rows of all points.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|(_, rows)| rows).sum()
    }

    /// The value below which the share `p` (0 to 1) of the rows lies; 0 of nothing.
    pub fn quantile(&self, p: f64) -> f64 {
        let target = p * self.rows() as f64;
        let mut below = 0.0;
        for &(value, rows) in &self.0 {
            below += rows as f64;
            if below >= target {
                return value;
            }
        }
        self.0.last().map_or(0.0, |&(value, _)| value)
    }

    /// The points for which `keep` holds.
    pub fn filtered(&self, keep: impl Fn(f64) -> bool) -> Self {
        let kept = self.0.iter().filter(|(value, _)| keep(*value));
        Self(kept.copied().collect())
    }

    /// Every value put through a function that never falls.
    pub fn mapped(&self, map: impl Fn(f64) -> f64) -> Self {
        Self(
            self.0
                .iter()
                .map(|&(value, rows)| (map(value), rows))
                .collect(),
        )
    }
}

fn bucket_of(x: f64) -> i32 {
    if x == 0.0 {
        return 0;
    }
    let index = (x.abs().ln() / LOG_RATIO).ceil() as i32 + OFFSET;
    if x < 0.0 { -index } else { index }
}

/// The bucket after `times` merges of neighbours; zero stays alone.
fn merged(bucket: i32, times: u32) -> i32 {
    let size = bucket.abs();
    let merged = (0..times).fold(size, |size, _| (size + 1) / 2);
    bucket.signum() * merged
}

/// The value in the middle of a bucket, on a logarithmic scale.
fn middle(bucket: i32, merges: u32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let width = 2.0_f64.powi(merges as i32);
    let index = (f64::from(bucket.abs()) - 0.5) * width - f64::from(OFFSET);
    let size = (index * LOG_RATIO).exp().min(f64::MAX);
    size * f64::from(bucket.signum())
}

/// Puts `x` into a list of the foremost values, foremost first. A value that once fell out of it never comes
/// back, so the counts of those that stay are exact.
fn keep(values: &mut Vec<(f64, u64)>, x: f64, before: impl Fn(f64, f64) -> bool) {
    let full = values.len() == EXTREMES_MAX;
    if full && values.last().is_some_and(|&(last, _)| before(last, x)) {
        return;
    }
    match values.iter().position(|&(value, _)| !before(value, x)) {
        Some(at) if values[at].0 == x => values[at].1 += 1,
        Some(at) => values.insert(at, (x, 1)),
        None => values.push((x, 1)),
    }
    values.truncate(EXTREMES_MAX);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut spread = Spread::default();
        values.into_iter().for_each(|x| spread.observe(x));
        spread
    }

    #[test]
    fn quantiles_are_known_within_two_percent() {
        let points = spread((1..=10_000).map(f64::from)).points();
        for (p, expected) in [
            (0.01, 100.0),
            (0.5, 5_000.0),
            (0.999, 9_990.0),
            (1.0, 10_000.0),
        ] {
            let found = points.quantile(p);
            assert!((found / expected - 1.0).abs() < 0.02, "{p}: {found}");
        }
    }

    #[test]
    fn memory_is_bounded_whatever_the_values_are() {
        let values = (-300..300).flat_map(|e| (1..60).map(move |d| f64::from(d) * 10_f64.powi(e)));
        let spread = spread(values);
        assert!(spread.buckets.len() <= BUCKETS_MAX && spread.merges > 0);
        assert_eq!(spread.points().rows(), spread.count());
        let odd = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -0.0];
        for (value, _) in super::tests::spread(odd).points().as_slice() {
            assert!(value.is_finite(), "{value}");
        }
    }

    #[test]
    fn the_extremes_are_exact_with_their_counts() {
        let spread = spread(
            (0..100)
                .map(|i| f64::from(i % 20))
                .chain([1e9, -999.0, -999.0]),
        );
        assert_eq!(spread.highest()[..2], [(1e9, 1), (19.0, 5)]);
        assert_eq!(spread.lowest()[..2], [(-999.0, 2), (0.0, 5)]);
        let points = spread.points();
        assert_eq!(points.as_slice().last(), Some(&(1e9, 1)));
    }

    proptest! {
        #[test]
        fn the_order_of_values_changes_nothing(
            values in prop::collection::vec(prop_oneof![-1e3..1e3_f64, Just(0.0), any::<i32>().prop_map(f64::from)], 1..300)
        ) {
            let forwards = spread(values.iter().copied());
            let backwards = spread(values.iter().rev().copied());
            prop_assert_eq!(forwards.points().0, backwards.points().0);
            prop_assert_eq!(forwards.lowest(), backwards.lowest());
            prop_assert_eq!(forwards.highest(), backwards.highest());
        }
    }
}
