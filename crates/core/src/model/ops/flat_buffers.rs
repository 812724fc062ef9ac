//! Passes over flat buffers of parameters and gradients; long ones are shared among the threads in parts.
//!
//! They run once a training step, between the passes of the shards, where the other threads would wait: of the default
//! model on 29 numbers, on one thread, they took an eighth of a step on two.
//! Invariant: how a buffer is cut depends on its length alone, so that no result depends on the number of threads.

use super::simd::{Loop, vectorised};
use rayon::prelude::*;

/// Numbers of a part at most: enough to pay for handing it to another thread.
pub const PART: usize = 1 << 16;

/// Writes `values` over `to`, which must be as long.
pub fn copy(to: &mut [f32], values: &[f32]) {
    in_parts(to, values, |to, values| to.copy_from_slice(values));
}

/// Adds `values` to `sums`, which must be as long.
pub fn add(sums: &mut [f32], values: &[f32]) {
    in_parts(sums, values, |sums, values| {
        sums.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    });
}

/// The sum of the squares: in f64, of each part over eight running sums, then of the parts in their order.
pub fn square_sum(values: &[f32]) -> f64 {
    let parts = values.par_chunks(PART);
    let sums: Vec<f64> = parts.map(|part| vectorised(SquareSum(part))).collect();
    sums.iter().sum()
}

/// Calls `f` with a part of `to` and the same part of `values`; what is one part stays on the calling thread.
fn in_parts(to: &mut [f32], values: &[f32], f: impl Fn(&mut [f32], &[f32]) + Sync) {
    assert_eq!(to.len(), values.len(), "buffers of different lengths");
    if to.len() <= PART {
        return f(to, values);
    }
    let part_len = to.len().div_ceil(to.len().div_ceil(PART));
    let parts = to.par_chunks_mut(part_len).zip(values.par_chunks(part_len));
    parts.for_each(|(to, values)| f(to, values));
}

struct SquareSum<'a>(&'a [f32]);

impl Loop for SquareSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0f64; 8];
        let (chunks, rest) = self.0.as_chunks::<8>();
        for chunk in chunks {
            for (sum, &g) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(g) * f64::from(g);
            }
        }
        for (sum, &g) in sums.iter_mut().zip(rest) {
            *sum += f64::from(g) * f64::from(g);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths of no part, of parts and of a rest.
    fn lengths() -> impl Strategy<Value = usize> {
        (0..3usize, 0..20usize).prop_map(|(parts, rest)| parts * PART + rest)
    }

    #[test]
    fn a_sum_of_squares_is_the_same_at_any_thread_count() {
        let values: Vec<f32> = (0..3 * PART + 7).map(|i| (i as f32).sin()).collect();
        let sum = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| square_sum(&values))
        };
        assert_eq!(sum(1).to_bits(), sum(3).to_bits());
        // The squares of a sine are a half on the mean.
        assert!((sum(1) / values.len() as f64 - 0.5).abs() < 1e-4);
    }

    #[test]
    #[should_panic(expected = "different lengths")]
    fn buffers_of_different_lengths_are_a_defect() {
        copy(&mut [0.0; 3], &[0.0; 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn in_parts_is_the_same_as_at_once(len in lengths()) {
            let values: Vec<f32> = (0..len).map(|i| (i % 1013) as f32 - 500.0).collect();
            let mut copied = vec![f32::NAN; len];
            copy(&mut copied, &values);
            prop_assert_eq!(&copied, &values);
            add(&mut copied, &values);
            prop_assert!(copied.iter().zip(&values).all(|(sum, value)| *sum == 2.0 * value));
            // Whole numbers, whose squares f64 adds up without rounding in any order.
            let at_once: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            prop_assert_eq!(square_sum(&values), at_once);
        }
    }
}
