//! The masked loss: what the hidden fields of a batch cost under the logits, as one candle op.
//!
//! The loss and its gradient are computed in the same pass over the logits by the heads' own formulas; candle's graph
//! ends at the logits. Rows are shared among the threads of the calling Rayon pool and summed in row order, so that the
//! result is the same at any thread count.

use super::heads::Heads;
use super::ops::{cpu_slice, tensor_slice};
use super::target::Target;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// What a batch hides and what the truth is.
#[derive(Debug, Clone)]
pub struct HiddenTargets {
    /// `[B * F]`: the true values.
    pub targets: Vec<Target>,
    /// `[B * F]`: whether the loss counts the field: the hidden ones, or all where nothing is hidden.
    pub hidden: Vec<bool>,
}

/// The mean loss over all hidden fields of a batch, a scalar tensor, from the logits `[B, O]`.
///
/// A field's loss is the sum over its readings. 0 if nothing is hidden.
///
/// # Errors
/// If the logits are not a contiguous f32 matrix of `B` rows and `O` columns.
pub fn masked_loss(heads: &Arc<Heads>, logits: &Tensor, batch: HiddenTargets) -> Result<Tensor> {
    logits.apply_op1(MaskedLoss {
        heads: Arc::clone(heads),
        batch,
        gradient: OnceLock::new(),
    })
}

/// The surprise of each row under each reading, `[B * R]` row-major: the sum over its hidden fields, from the logits
/// `[B, O]`.
///
/// # Errors
/// If the logits are not a contiguous f32 matrix of `B` rows and `O` columns.
pub fn row_surprises(heads: &Heads, logits: &Tensor, batch: &HiddenTargets) -> Result<Vec<f64>> {
    let (rows, outputs) = logits.dims2()?;
    check_shape(heads, rows, outputs, batch)?;
    let (fields, readings) = (heads.len(), heads.readings());
    let row_sums = |(row, logits): (usize, &[f32])| {
        let (mut sums, mut surprises) = (vec![0f64; readings], vec![0f32; readings]);
        for field in (0..fields).filter(|field| batch.hidden[row * fields + field]) {
            let head = heads.field(field);
            let target = &batch.targets[row * fields + field];
            head.surprises(&logits[head.outputs()], target, &mut surprises);
            sums.iter_mut()
                .zip(&surprises)
                .for_each(|(sum, &s)| *sum += f64::from(s));
        }
        sums
    };
    tensor_slice(logits, |logits| {
        let rows = logits.par_chunks(outputs).enumerate();
        Ok(rows.map(row_sums).collect::<Vec<_>>().concat())
    })
}

struct MaskedLoss {
    heads: Arc<Heads>,
    batch: HiddenTargets,
    /// d loss / d logits, written by the forward pass, read by the backward pass.
    gradient: OnceLock<Vec<f32>>,
}

/// The unweighted loss of one row; adds its weighted gradient.
fn row_loss(
    heads: &Heads,
    batch: &HiddenTargets,
    row: usize,
    logits: &[f32],
    (gradient, weight): (&mut [f32], f32),
) -> f64 {
    let fields = heads.len();
    let mut sum = 0.0;
    for field in (0..fields).filter(|field| batch.hidden[row * fields + field]) {
        let head = heads.field(field);
        let outputs = head.outputs();
        let gradient = &mut gradient[outputs.clone()];
        let target = &batch.targets[row * fields + field];
        sum += f64::from(head.loss(&logits[outputs], target, weight, Some(gradient)));
    }
    sum
}

fn check_shape(heads: &Heads, rows: usize, outputs: usize, batch: &HiddenTargets) -> Result<()> {
    if outputs != heads.outputs() || batch.hidden.len() != rows * heads.len() {
        candle_core::bail!(
            "masked_loss: logits [{rows}, {outputs}], heads have {} outputs, {} mask entries",
            heads.outputs(),
            batch.hidden.len()
        );
    }
    Ok(())
}

impl CustomOp1 for MaskedLoss {
    fn name(&self) -> &'static str {
        "masked_loss"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, outputs) = layout.shape().dims2()?;
        check_shape(&self.heads, rows, outputs, &self.batch)?;
        let logits = cpu_slice(logits, layout)?;
        let count = self.batch.hidden.iter().filter(|&&h| h).count().max(1);
        let weight = 1.0 / count as f32;
        let mut gradient = vec![0f32; rows * outputs];
        let by_row: Vec<f64> = gradient
            .par_chunks_mut(outputs)
            .zip(logits.par_chunks(outputs))
            .enumerate()
            .map(|(row, (gradient, logits))| {
                row_loss(&self.heads, &self.batch, row, logits, (gradient, weight))
            })
            .collect();
        let loss = by_row.iter().sum::<f64>() / count as f64;
        // A second forward pass of the same op would compute the same gradient: nothing is lost if it was set.
        let _ = self.gradient.set(gradient);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, by_loss: &Tensor) -> Result<Option<Tensor>> {
        let Some(gradient) = self.gradient.get() else {
            candle_core::bail!("masked_loss: backward before forward");
        };
        let scale = by_loss.to_scalar::<f32>()?;
        let gradient: Vec<f32> = gradient.iter().map(|g| g * scale).collect();
        Ok(Some(Tensor::from_vec(
            gradient,
            logits.shape(),
            logits.device(),
        )?))
    }
}
