//! A uniform sample of a file's rows, in file order.

use maskwatch_core::rng::{Purpose, stream};

/// All rows, or `rows_max` of them drawn by the seed, ascending.
pub fn sampled(rows: usize, rows_max: Option<usize>, seed: u64) -> Vec<u32> {
    match rows_max {
        Some(max) if max < rows => {
            let mut rng = stream(seed, Purpose::BenchmarkSample);
            let sample = rand::seq::index::sample(&mut rng, rows, max);
            let mut sample: Vec<u32> = sample.into_iter().map(|row| row as u32).collect();
            sample.sort_unstable();
            sample
        }
        _ => (0..rows as u32).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_size_and_file_order() {
        assert_eq!(sampled(4, None, 0), [0, 1, 2, 3]);
        assert_eq!(sampled(4, Some(4), 0), [0, 1, 2, 3]);
        let sample = sampled(1_000, Some(100), 0);
        assert_eq!(sample.len(), 100);
        assert!(sample.is_sorted_by(|a, b| a < b));
        assert_ne!(sample, sampled(1_000, Some(100), 1));
    }
}
