//! half_split: the usual one-class division of papers on tabular anomalies.

use super::{Split, by_label, one_class};
use maskwatch_core::rng::{Purpose, stream};
use rand::seq::SliceRandom;

/// Shuffles the normal rows by the seed: the first half of them trains, the other half and all anomalies test.
pub fn half_split(labels: &[bool], seed: u64) -> Split {
    let (mut normals, anomalies) = by_label(0..labels.len() as u32, labels);
    normals.shuffle(&mut stream(seed, Purpose::BenchmarkSplit));
    let half = normals.len() / 2;
    one_class(&normals, anomalies, half)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn half_of_the_normals_train_and_every_other_row_tests(
            labels in prop::collection::vec(any::<bool>(), 0..300), seed: u64
        ) {
            let Split { train, test } = half_split(&labels, seed);
            let normals = labels.iter().filter(|&&label| !label).count();
            prop_assert_eq!(train.len(), normals / 2);
            prop_assert!(train.iter().all(|&row| !labels[row as usize]));
            let mut all = [train.clone(), test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(Split { train, test }, half_split(&labels, seed));
        }
    }

    #[test]
    fn another_seed_draws_another_half() {
        assert_ne!(half_split(&[false; 100], 0), half_split(&[false; 100], 1));
    }
}
