//! The affine layer y = x W + b as one candle op with its own backward.
//!
//! candle's `matmul` followed by `broadcast_add` needs two passes and sums the bias gradient column by column; here the
//! bias is laid into the result before the product adds to it, and its gradient is one pass over the rows.

use super::product::{Matrix, product};
use super::{cpu_slice, tensor_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// y = x W + b with x `[B, I]`, W `[I, O]`, b `[O]`, y `[B, O]`, all contiguous f32.
///
/// # Errors
/// If a shape does not fit or a tensor is not f32.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.apply_op3(weight, bias, Linear)
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (weight_inputs, outputs) = weight_layout.shape().dims2()?;
        if weight_inputs != inputs || bias_layout.shape().dims1()? != outputs {
            candle_core::bail!(
                "linear: x [{rows}, {inputs}], weight [{weight_inputs}, {outputs}], bias {:?}",
                bias_layout.shape()
            );
        }
        let bias = cpu_slice(bias, bias_layout)?;
        let mut y = Vec::with_capacity(rows * outputs);
        for _ in 0..rows {
            y.extend_from_slice(bias);
        }
        product(
            Matrix::row_major(cpu_slice(x, x_layout)?, rows, inputs),
            Matrix::row_major(cpu_slice(weight, weight_layout)?, inputs, outputs),
            &mut y,
            true,
        );
        Ok((CpuStorage::F32(y), (rows, outputs).into()))
    }

    /// dx = g W^T, dW = x^T g, db = sum of g over the rows.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let outputs = bias.dims1()?;
        let gradient = gradient.contiguous()?;
        let (dx, dw, db) = tensor_slice(&gradient, |g| {
            let g = Matrix::row_major(g, rows, outputs);
            let dx = tensor_slice(weight, |w| {
                let mut dx = vec![0f32; rows * inputs];
                product(
                    g,
                    Matrix::row_major(w, inputs, outputs).transposed(),
                    &mut dx,
                    false,
                );
                Ok(dx)
            })?;
            let dw = tensor_slice(x, |x| {
                let mut dw = vec![0f32; inputs * outputs];
                product(
                    Matrix::row_major(x, rows, inputs).transposed(),
                    g,
                    &mut dw,
                    false,
                );
                Ok(dw)
            })?;
            Ok((dx, dw, column_sums(&gradient, outputs)?))
        })?;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(dx, (rows, inputs), device)?),
            Some(Tensor::from_vec(dw, (inputs, outputs), device)?),
            Some(Tensor::from_vec(db, outputs, device)?),
        ))
    }
}

/// The sum of every column of a contiguous `[B, columns]` tensor, rows added in order.
fn column_sums(tensor: &Tensor, columns: usize) -> Result<Vec<f32>> {
    tensor_slice(tensor, |data| {
        let mut sums = vec![0f32; columns];
        for row in data.chunks_exact(columns.max(1)) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        Ok(sums)
    })
}
