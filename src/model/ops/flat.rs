//! Passes over flat buffers as long as the model has parameters, each shared among the threads in parts.
//!
//! They run once a training step, between the passes of the shards: on one thread they were an eighth of the step's time.
//! Invariant: how a buffer is cut depends on its length alone, so that no result depends on the number of threads.

use super::simd::{Loop, vectorised};
use rayon::prelude::*;

/// Numbers of a part at most: enough to pay for handing it to another thread.
pub const PART: usize = 1 << 16;

/// Writes `values` over `to`, which is as long.
pub fn copy(to: &mut [f32], values: &[f32]) {
    in_parts(to, values, |to, values| to.copy_from_slice(values));
}

/// Adds `values` to `sums`, which is as long.
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
    if to.len() <= PART {
        return f(to, values);
    }
    let even = to.len().div_ceil(to.len().div_ceil(PART));
    let parts = to.par_chunks_mut(even).zip(values.par_chunks(even));
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths of no part, of parts and of a rest.
    fn lengths() -> impl Strategy<Value = usize> {
        (0..3usize, 0..20usize).prop_map(|(parts, rest)| parts * PART + rest)
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
