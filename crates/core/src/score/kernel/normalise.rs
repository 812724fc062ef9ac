//! Layer normalisation of rows, and the normalisers of their softmaxes.

use super::vector::{dot, log_sum_exp, sum};
use crate::model::ops::normalize::EPSILON;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// `output` = (x - mean) / sqrt(var + 1e-5) of each row of `input`, biased variance, D numbers of every `stride`.
pub(super) struct Normalise<'a> {
    /// Rows of `stride` numbers, a multiple of a vector; those beyond D are zero.
    pub input: &'a [f32],
    /// As many; those beyond D become zero.
    pub output: &'a mut [f32],
    pub width: usize,
    pub stride: usize,
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.input.chunks_exact(self.stride);
        for (x, y) in rows.zip(self.output.chunks_exact_mut(self.stride)) {
            let factor = simd.splat_f32s(centre(simd, x, y, self.width));
            let (y, _) = S::as_mut_simd_f32s(y);
            for y in y {
                *y = simd.mul_f32s(*y, factor);
            }
        }
    }
}

/// Takes the mean of `x` off its first `width` numbers, into `y`, whose others become 0; one over the deviation,
/// 1 / sqrt(var + 1e-5).
#[inline(always)]
pub(super) fn centre<S: Simd>(simd: S, x: &[f32], y: &mut [f32], width: usize) -> f32 {
    let scale = 1.0 / width as f32;
    let shift = simd.splat_f32s(sum(simd, x) * scale);
    let (x, _) = S::as_simd_f32s(x);
    let (vectors, _) = S::as_mut_simd_f32s(y);
    for (y, &x) in vectors.iter_mut().zip(x) {
        *y = simd.sub_f32s(x, shift);
    }
    y[width..].fill(0.0);
    let variance = dot(simd, y, y) * scale;
    1.0 / (variance + EPSILON).sqrt()
}

/// ln(sum exp) of the ranges of every row: `output` `[n, ranges]`.
pub(super) struct LogNorms<'a> {
    /// Rows of `stride` logits.
    pub logits: &'a [f32],
    pub stride: usize,
    /// The softmaxes of a row, none empty.
    pub ranges: &'a [Range<usize>],
    pub output: &'a mut [f32],
}

impl WithSimd for LogNorms<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.ranges.is_empty() {
            return;
        }
        let rows = self.logits.chunks_exact(self.stride);
        let norms = self.output.chunks_exact_mut(self.ranges.len());
        for (logits, norms) in rows.zip(norms) {
            for (norm, range) in norms.iter_mut().zip(self.ranges) {
                *norm = log_sum_exp(simd, &logits[range.clone()]);
            }
        }
    }
}
