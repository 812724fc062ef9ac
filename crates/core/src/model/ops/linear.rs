//! The affine layer y = x W + b as one candle op with its own backward.
//!
//! candle's `matmul` followed by `broadcast_add` needs two passes and sums the bias gradient column by column; here the
//! bias is laid into the result before the product adds to it, and its gradient is one pass over the rows.

#[cfg(any(test, feature = "testing"))]
use super::composed;
use super::gradient_buffer::LinearBuffers;
use super::product::{Matrix, product};
use super::{cpu_slice, tensor_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// y = x W + b with x `[B, I]`, W `[I, O]`, b `[O]`, y `[B, O]`, all contiguous f32.
///
/// With `buffers` the gradients of W and b go there, and the graph has none for them.
///
/// # Errors
/// If a shape does not fit or a tensor is not f32.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    buffers: Option<&LinearBuffers>,
) -> Result<Tensor> {
    #[cfg(any(test, feature = "testing"))]
    if composed::is_forced() {
        return x.matmul(weight)?.broadcast_add(bias);
    }
    let op = Linear {
        buffers: buffers.cloned(),
    };
    x.apply_op3(weight, bias, op)
}

struct Linear {
    buffers: Option<LinearBuffers>,
}

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
        let LinearBuffers {
            weight: by_weight,
            bias: by_bias,
        } = self.buffers.clone().unwrap_or_default();
        let mut dw = by_weight.memory(inputs * outputs);
        let mut db = by_bias.memory(outputs);
        // The input layer's input is data, which has no gradient.
        let mut dx = x.track_op().then(|| vec![0f32; rows * inputs]);
        tensor_slice(&gradient, |g| {
            let columns = Matrix::row_major(g, rows, outputs);
            if let Some(dx) = &mut dx {
                tensor_slice(weight, |w| {
                    let w = Matrix::row_major(w, inputs, outputs);
                    product(columns, w.transposed(), dx, false);
                    Ok(())
                })?;
            }
            tensor_slice(x, |x| {
                let x = Matrix::row_major(x, rows, inputs);
                product(x.transposed(), columns, &mut dw, false);
                Ok(())
            })?;
            column_sums(g, &mut db);
            Ok(())
        })?;
        let device = x.device();
        let dx = dx.map(|dx| Tensor::from_vec(dx, (rows, inputs), device));
        if self.buffers.is_some() {
            by_weight.add(dw);
            by_bias.add(db);
            return Ok((dx.transpose()?, None, None));
        }
        Ok((
            dx.transpose()?,
            Some(Tensor::from_vec(dw, (inputs, outputs), device)?),
            Some(Tensor::from_vec(db, outputs, device)?),
        ))
    }
}

/// The sums of the columns of a row-major matrix, into `sums`.
fn column_sums(matrix: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in matrix.chunks_exact(sums.len().max(1)) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}
