//! dte: the one-class division of Livernoche et al. 2024, so that their tables of 26 methods can be compared with.
//!
//! As their `data_generator.py` does it: a set of more than 50,000 rows is first sampled without replacement, in random
//! order; then the first `round(n / 2)` of the n normal rows train, in the order of the sample or of the file, and the rest
//! and all anomalies test. Python rounds halves to the even number.

use super::{Split, by_label, one_class};
use maskwatch_core::rng::{Purpose, stream};

/// Rows that a set is sampled down to.
pub const ROWS_MAX: usize = 50_000;

/// Divides a set; the seed matters only for one of more than `rows_max` rows.
pub fn dte(labels: &[bool], rows_max: usize, seed: u64) -> Split {
    let rows = labels.len();
    let (normals, anomalies) = if rows > rows_max {
        let mut rng = stream(seed, Purpose::BenchmarkSplit);
        let sample = rand::seq::index::sample(&mut rng, rows, rows_max);
        by_label(sample.into_iter().map(|row| row as u32), labels)
    } else {
        by_label(0..rows as u32, labels)
    };
    let half = half_to_even(normals.len());
    one_class(&normals, anomalies, half)
}

/// n / 2, halves rounded to the even number.
fn half_to_even(n: usize) -> usize {
    let half = n / 2;
    half + (n % 2) * (half % 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_half_of_the_normals_in_file_order_trains() {
        let labels = [true, false, false, true, false, false, false];
        let expected = Split {
            train: vec![1, 2],
            test: vec![0, 3, 4, 5, 6],
        };
        assert_eq!(dte(&labels, ROWS_MAX, 0), expected);
        assert_eq!(dte(&labels, ROWS_MAX, 1), expected);
    }

    #[test]
    fn halves_are_rounded_as_python_rounds_them() {
        // [round(n * .5) for n in range(9)]
        let expected = [0, 0, 1, 2, 2, 2, 3, 4, 4];
        assert_eq!((0..9).map(half_to_even).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn a_large_set_is_sampled_without_replacement_and_trains_on_normals_only(
            labels in prop::collection::vec(any::<bool>(), 60..300), seed: u64
        ) {
            let Split { train, test } = dte(&labels, 50, seed);
            let mut all = [train.clone(), test.clone()].concat();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), 50);
            prop_assert!(train.iter().all(|&row| !labels[row as usize]));
            let normals = all.iter().filter(|&&row| !labels[row as usize]).count();
            prop_assert_eq!(train.len(), half_to_even(normals));
        }
    }

    #[test]
    fn the_training_half_of_a_sampled_set_is_no_matter_of_its_place_in_the_file() {
        let Split { train, .. } = dte(&[false; 10_000], 5_000, 0);
        let early = train.iter().filter(|&&row| row < 5_000).count();
        // Hypergeometric: mean 1,250, deviation 22; five of them.
        assert!((1_140..1_360).contains(&early), "{early}");
    }
}
