//! Layer normalisation without gain and offset, as one candle op with its own backward.
//!
//! candle's fused layer norm returns no gradient for its input (huggingface/candle#3011), and the layers that follow
//! have weights and biases of their own, so a gain here would add nothing.

#[cfg(any(test, feature = "testing"))]
use super::composed;
use super::math::{lane_dot, lane_sum};
use super::simd::{Loop, vectorised};
use super::{cpu_slice, tensor_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Added to the variance, as in Ba et al. 2016 ("Layer Normalization") and PyTorch's default.
pub const EPSILON: f32 = 1e-5;

/// y = (x - mean) / sqrt(var + 1e-5) over the last axis of x `[B, D]`, with the biased variance.
///
/// # Errors
/// If x is not a contiguous f32 matrix.
pub fn normalize(x: &Tensor) -> Result<Tensor> {
    #[cfg(any(test, feature = "testing"))]
    if composed::is_forced() {
        return composed_of(x);
    }
    x.apply_op1(Normalize)
}

#[cfg(any(test, feature = "testing"))]
fn composed_of(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(1)?; // [B, 1]
    centred.broadcast_div(&variance.affine(1.0, f64::from(EPSILON))?.sqrt()?)
}

struct Normalize;

impl CustomOp1 for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let mut y = cpu_slice(x, layout)?.to_vec();
        vectorised(Forward { width, y: &mut y });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// dx = (g - mean(g) - y mean(g y)) / sqrt(var + 1e-5).
    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let gradient = gradient.contiguous()?;
        let mut dx = tensor_slice(&gradient, |g| Ok(g.to_vec()))?;
        tensor_slice(x, |x| {
            tensor_slice(y, |y| {
                vectorised(Backward {
                    width,
                    x,
                    y,
                    dx: &mut dx,
                });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// Rows of `width` numbers become normalised rows.
struct Forward<'a> {
    width: usize,
    y: &'a mut [f32],
}

impl Loop for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for row in self.y.chunks_exact_mut(self.width.max(1)) {
            let (mean, scale) = moments(row);
            for x in row {
                *x = (*x - mean) * scale;
            }
        }
    }
}

/// dx, the gradient by y, becomes the one by x.
struct Backward<'a> {
    width: usize,
    x: &'a [f32],
    y: &'a [f32],
    dx: &'a mut [f32],
}

impl Loop for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.width.max(1);
        let rows = self.x.chunks_exact(width).zip(self.y.chunks_exact(width));
        for ((x, y), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let (_, scale) = moments(x);
            let mean_g = lane_sum(dx, |g| g) / width as f32;
            let mean_gy = lane_dot(dx, y) / width as f32;
            for (g, &y) in dx.iter_mut().zip(y) {
                *g = (*g - mean_g - y * mean_gy) * scale;
            }
        }
    }
}

/// Mean and 1 / sqrt(variance + epsilon) of a row.
#[inline(always)]
fn moments(row: &[f32]) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = lane_sum(row, |x| x) / n;
    let variance = lane_sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}
