//! Reconstruction error of principal components: what the main directions of the training records do not explain.
//!
//! The covariance is summed in f64 over blocks of matrix products, its eigenvectors are nalgebra's. The score of a record is
//! the squared length of what is left of it after its projection is taken away.

use super::BaselineError;
use crate::model::ops::product::{Matrix, product};
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

/// Share of the variance that the components kept explain: what scikit-learn's `PCA(n_components=0.9)` keeps.
pub const DEFAULT_VARIANCE_SHARE: f64 = 0.9;

/// Records of a block: its numbers and their projections stay in the second-level cache.
const BLOCK_ROWS: usize = 512;
/// Iterations an eigenvalue at most; two or three are usual.
const ITERATIONS_PER_COLUMN_MAX: usize = 100;

/// Fitted principal components.
#[derive(Debug)]
pub struct PrincipalComponents {
    /// `[W]`.
    mean: Vec<f32>,
    /// `[K, W]`: orthonormal rows, the direction of the largest variance first.
    components: Vec<f32>,
    width: usize,
}

impl PrincipalComponents {
    /// The fewest components of `numbers`, `[T, width]` row-major, that explain `share` of the variance, but never all:
    /// with all of them nothing would be left of any record.
    ///
    /// # Errors
    /// [`BaselineError::NoComponents`].
    pub fn fit(numbers: &[f32], width: usize, share: f64) -> Result<Self, BaselineError> {
        let mean = mean(numbers, width);
        let covariance = covariance(numbers, &mean);
        let failed = BaselineError::NoComponents { columns: width };
        let iterations = ITERATIONS_PER_COLUMN_MAX * width;
        let eigen = SymmetricEigen::try_new(covariance, f64::EPSILON, iterations).ok_or(failed)?;
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let variance = |&column: &usize| eigen.eigenvalues[column].max(0.0);
        let total: f64 = order.iter().map(variance).sum();
        let mut explained = 0.0;
        let enough = order.iter().take_while(|column| {
            let wanted = explained < share * total;
            explained += variance(column);
            wanted
        });
        let kept = enough.count().min(width - 1);
        let vectors = order[..kept]
            .iter()
            .map(|&at| eigen.eigenvectors.column(at));
        Ok(Self {
            mean,
            components: vectors
                .flat_map(|v| v.iter().map(|&x| x as f32).collect::<Vec<_>>())
                .collect(),
            width,
        })
    }

    /// K: components kept.
    pub fn components(&self) -> usize {
        self.components.len() / self.width
    }

    /// Squared distances of B records, `[B, W]` row-major, from the plane of the components: `[B]`.
    pub fn errors(&self, numbers: &[f32]) -> Vec<f32> {
        let blocks = numbers.par_chunks(BLOCK_ROWS * self.width);
        blocks.flat_map_iter(|block| self.block(block)).collect()
    }

    fn block(&self, numbers: &[f32]) -> Vec<f32> {
        let (rows, kept) = (numbers.len() / self.width, self.components());
        let mut rest = centred(numbers, &self.mean);
        let v = Matrix::row_major(&self.components, kept, self.width);
        let mut projections = vec![0.0; rows * kept];
        product(
            Matrix::row_major(&rest, rows, self.width),
            v.transposed(),
            &mut projections,
            false,
        );
        projections.iter_mut().for_each(|p| *p = -*p);
        product(
            Matrix::row_major(&projections, rows, kept),
            v,
            &mut rest,
            true,
        );
        let squared = |row: &[f32]| row.iter().map(|x| x * x).sum();
        rest.chunks_exact(self.width).map(squared).collect()
    }
}

fn mean(numbers: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for row in numbers.chunks_exact(width) {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let rows = (numbers.len() / width).max(1) as f64;
    sums.iter().map(|sum| (sum / rows) as f32).collect()
}

fn centred(numbers: &[f32], mean: &[f32]) -> Vec<f32> {
    let rows = numbers.chunks_exact(mean.len());
    rows.flat_map(|row| row.iter().zip(mean).map(|(x, m)| x - m))
        .collect()
}

/// The covariance `[W, W]`, up to a factor.
fn covariance(numbers: &[f32], mean: &[f32]) -> DMatrix<f64> {
    let width = mean.len();
    let mut sum = DMatrix::zeros(width, width);
    let mut part = vec![0.0; width * width];
    for block in numbers.chunks(BLOCK_ROWS * width) {
        let block = centred(block, mean);
        let x = Matrix::row_major(&block, block.len() / width, width);
        product(x.transposed(), x, &mut part, false);
        sum.iter_mut()
            .zip(&part)
            .for_each(|(sum, &x)| *sum += f64::from(x));
    }
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Row i: a plane in five columns, and a little off it.
    fn rows(first: usize, count: usize) -> Vec<f32> {
        let row = |i: usize| {
            let i = i as f64;
            let (a, b, c) = (
                (i * i).sin() * 3.0,
                (i * i * 1.7).cos() * 2.0,
                (i * i * 0.3).sin() * 0.2,
            );
            [a + 1.0, b - a, 0.5 * b + c, a * 0.1 - c, c + 2.0].map(|x| x as f32)
        };
        (first..first + count).flat_map(row).collect()
    }

    #[test]
    fn errors_agree_with_scikit_learn() {
        // import numpy as np; from sklearn.decomposition import PCA
        // def rows(i):
        //     i = i.astype(float); a, b, c = np.sin(i * i) * 3, np.cos(i * i * 1.7) * 2, np.sin(i * i * .3) * .2
        //     return np.stack([a + 1, b - a, .5 * b + c, a * .1 - c, c + 2], 1).astype(np.float32)
        // p = PCA(n_components=.9, svd_solver="full").fit(rows(np.arange(1000))); q = rows(np.arange(1000, 1004)); q[3, 4] = 5
        // p.n_components_, ((q - p.inverse_transform(p.transform(q))) ** 2).sum(1)
        let fitted = PrincipalComponents::fit(&rows(0, 1_000), 5, 0.9).unwrap();
        assert_eq!(fitted.components(), 2);
        let mut queries = rows(1_000, 4);
        queries[19] = 5.0;
        let found = fitted.errors(&queries);
        let expected: [f32; 4] = [3.402_037_5e-3, 1.548_467_4e-3, 7.544_580_1e-2, 9.001_306_5];
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-4 * expected.max(0.1),
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn one_direction_is_always_left_out() {
        let one: Vec<f32> = (0..50).map(|i| i as f32).collect();
        let fitted = PrincipalComponents::fit(&one, 1, 0.9).unwrap();
        assert_eq!(
            (fitted.components(), fitted.errors(&[24.5, 34.5])),
            (0, vec![0.0, 100.0])
        );
        let equal = PrincipalComponents::fit(&[3.0; 20], 2, 0.9).unwrap();
        assert_eq!(
            (equal.components(), equal.errors(&[3.0, 4.0])),
            (0, vec![1.0])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn components_are_orthonormal_and_errors_never_exceed_the_distance_from_the_mean(
            count in 2..900_usize, first in 0..5_000_usize, share in 0.1..0.999_f64
        ) {
            let numbers = rows(first, count);
            let fitted = PrincipalComponents::fit(&numbers, 5, share).unwrap();
            let vectors: Vec<&[f32]> = fitted.components.chunks(5).collect();
            for (i, a) in vectors.iter().enumerate() {
                for (j, b) in vectors.iter().enumerate() {
                    let dot: f32 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
                    prop_assert!((dot - f32::from(i == j)).abs() < 1e-5);
                }
            }
            let errors = fitted.errors(&numbers);
            let centred = centred(&numbers, &fitted.mean);
            for (error, row) in errors.iter().zip(centred.chunks(5)) {
                let length: f32 = row.iter().map(|x| x * x).sum();
                prop_assert!(*error >= 0.0 && *error <= length * 1.0001 + 1e-6);
            }
            let last = fitted.errors(&numbers[(count - 1) * 5..]);
            prop_assert!((last[0] - errors[count - 1]).abs() <= 1e-5 * errors[count - 1].max(1.0));
        }
    }
}
