//! The one matrix product of the model, on plain slices.
//!
//! It calls the `gemm` crate itself instead of candle's `matmul`, which asks the operating system for the number of
//! cores at every call and adds the bias in a second pass. A caller outside Rayon's pool (training) has the product shared
//! among its threads; a caller inside it (scoring, where each thread has tiles of its own) does not. Every element is
//! summed over k in one order, so that the result is the same at any thread count.

use gemm::Parallelism;
use std::ops::Range;

/// A row-major or column-major matrix over a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The matrix `[rows, columns]` stored row after row in `data`, whose length must be rows * columns.
    pub fn row_major(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(
            data.len(),
            rows * columns,
            "a matrix needs rows * columns numbers"
        );
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The matrix `[rows, columns]` whose rows begin every `row_stride` numbers of `data`: some columns of a wider one.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let needed = rows
            .checked_sub(1)
            .map_or(0, |last| last * row_stride + columns);
        assert!(
            columns <= row_stride && needed <= data.len(),
            "a matrix of {rows} rows every {row_stride} numbers needs {needed} of them"
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transposed matrix; nothing is copied.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `out = a b`, or `out += a b` with `accumulate`; `out` is `[a.rows, b.columns]`, row after row.
///
/// # Panics
/// If the shapes do not fit: a defect of the caller, never of its input.
pub fn product(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], accumulate: bool) {
    let alone = rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1;
    let parallelism = if alone {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    };
    let stride = b.columns;
    product_with(a, b, out, stride, accumulate, parallelism);
}

/// `out = a b` on the calling thread, where the rows of `out` begin every `row_stride` numbers: some columns of a wider
/// matrix, of which the others are left as they are.
///
/// # Panics
/// If the shapes do not fit: a defect of the caller, never of its input.
pub fn product_into_columns(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], row_stride: usize) {
    product_with(a, b, out, row_stride, false, Parallelism::None);
}

fn product_with(
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    row_stride: usize,
    accumulate: bool,
    parallelism: Parallelism,
) {
    assert_eq!(a.columns, b.rows, "the inner sides of a product must agree");
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    assert!(
        b.columns <= row_stride && (a.rows - 1) * row_stride + b.columns <= out.len(),
        "the result of a product must fit"
    );
    #[expect(
        unsafe_code,
        reason = "gemm takes raw pointers; the asserts above and those of `Matrix` keep every access inside the slices"
    )]
    // SAFETY: `Matrix` guarantees that rows and strides stay within its slice, the last row of the result ends within
    // `out`, and `out` is borrowed exclusively, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Copies the contiguous rows of `from` into some columns of the rows of `to`, which has `width` of them.
pub fn put_columns(from: &[f32], to: &mut [f32], width: usize, columns: Range<usize>) {
    if columns.is_empty() {
        return;
    }
    let rows = from.chunks_exact(columns.len());
    for (from, to) in rows.zip(to.chunks_exact_mut(width)) {
        to[columns.clone()].copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand::RngExt;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = stream(seed, Purpose::Initialisation);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn naive(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut out = vec![0f64; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k)
                    .map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]))
                    .sum();
            }
        }
        out
    }

    #[test]
    fn plain_transposed_and_accumulated_products_equal_the_definition() {
        let (m, k, n) = (13, 37, 21);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let expected = naive(&a, &b, m, k, n);
        let mut out = vec![1f32; m * n];
        product(
            Matrix::row_major(&a, m, k),
            Matrix::row_major(&b, k, n),
            &mut out,
            true,
        );
        for (x, e) in out.iter().zip(&expected) {
            assert!((f64::from(*x) - 1.0 - e).abs() < 1e-5);
        }
        let at: Vec<f32> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
        product(
            Matrix::row_major(&at, k, m).transposed(),
            Matrix::row_major(&b, k, n),
            &mut out,
            false,
        );
        for (x, e) in out.iter().zip(&expected) {
            assert!((f64::from(*x) - e).abs() < 1e-5);
        }
    }

    #[test]
    fn columns_of_a_wider_matrix_multiply_as_if_they_stood_alone() {
        let (m, k, n, wide) = (9, 5, 7, 12);
        let (a, b) = (random(m * wide, 7), random(k * n, 8));
        let narrow: Vec<f32> = (0..m * k).map(|i| a[i / k * wide + 3 + i % k]).collect();
        let expected = naive(&narrow, &b, m, k, n);
        let mut out = vec![0f32; m * n];
        product(
            Matrix::strided(&a[3..], m, k, wide),
            Matrix::row_major(&b, k, n),
            &mut out,
            false,
        );
        for (x, e) in out.iter().zip(&expected) {
            assert!((f64::from(*x) - e).abs() < 1e-5);
        }
    }

    #[test]
    fn a_result_among_other_columns_leaves_them_as_they_are() {
        let (m, k, n, wide) = (6, 4, 5, 11);
        let (a, b) = (random(m * k, 9), random(k * n, 10));
        let expected = naive(&a, &b, m, k, n);
        let mut out = vec![7f32; m * wide];
        let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
        product_into_columns(a, b, &mut out[3..], wide);
        for (i, &x) in out.iter().enumerate() {
            match (i % wide).checked_sub(3).filter(|&column| column < n) {
                Some(column) => {
                    assert!((f64::from(x) - expected[i / wide * n + column]).abs() < 1e-5);
                }
                None => assert_eq!(x, 7.0, "{i}"),
            }
        }
        // A product over nothing is zero.
        let nothing = Matrix::row_major(&[], m, 0);
        product_into_columns(nothing, Matrix::row_major(&[], 0, n), &mut out[3..], wide);
        assert_eq!((out[2], out[3], out[3 + n]), (7.0, 0.0, 7.0));
    }

    #[test]
    fn the_result_is_the_same_at_any_thread_count() {
        let (m, k, n) = (512, 192, 300);
        let (a, b) = (random(m * k, 3), random(k * n, 4));
        let run = |parallelism| {
            let mut out = vec![0f32; m * n];
            let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
            product_with(a, b, &mut out, n, false, parallelism);
            out
        };
        let one = run(Parallelism::None);
        for threads in [2, 3, 5] {
            assert!(one == run(Parallelism::Rayon(threads)), "{threads} threads");
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_place_in_the_product() {
        let (m, k, n) = (56, 192, 66);
        let (a, b) = (random(m * k, 5), random(k * n, 6));
        let mut out = vec![0f32; m * n];
        product(
            Matrix::row_major(&a, m, k),
            Matrix::row_major(&b, k, n),
            &mut out,
            false,
        );
        let rotated: Vec<f32> = a[k..].iter().chain(&a[..k]).copied().collect();
        let mut shifted = vec![0f32; m * n];
        product(
            Matrix::row_major(&rotated, m, k),
            Matrix::row_major(&b, k, n),
            &mut shifted,
            false,
        );
        assert_eq!(out[n..], shifted[..(m - 1) * n]);
        assert_eq!(out[..n], shifted[(m - 1) * n..]);
    }
}
