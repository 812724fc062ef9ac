//! The masked loss: what the hidden fields of some rows cost, the output layer included, as one candle op.
//!
//! In flow the latent, the output layer and the true values; out flow the loss and its gradient in all three tensors,
//! made in the same pass by the heads' own formulas. A field's head reads only the rows that count the field, about half
//! of them where mask ratios are spread over 0..1; the logits of the others never exist. Fields are summed in their
//! order: the result is the same at any thread count.
//!
//! Letters: B rows, P positions of a row, F fields, D width, O outputs, n rows that count a field, o outputs of the field,
//! R readings.

#[cfg(any(test, feature = "testing"))]
mod composed;

use super::heads::{FieldView, Heads};
#[cfg(any(test, feature = "testing"))]
use super::ops::composed as composed_ops;
use super::ops::product::{Matrix, product, product_into_columns};
use super::ops::{LinearBuffers, cpu_slice, tensor_slice};
use super::target::Target;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// What some rows of a batch hide and what the truth is.
#[derive(Debug, Clone)]
pub struct HiddenTargets {
    /// `[B * F]`: the true values.
    pub targets: Vec<Target>,
    /// `[B * F]`: how much the loss of the field counts: 1 for a hidden one, or for all where nothing is hidden; less for one
    /// that is seen through noise; 0 for those that are seen as they are.
    pub weights: Vec<f32>,
    /// What the sum is divided by: the weights of the whole batch, of which these rows may be a part.
    pub counted: f64,
}

impl HiddenTargets {
    /// What sums are divided by, where nothing counts as well.
    fn divisor(&self) -> f64 {
        match self.counted > 0.0 {
            true => self.counted,
            false => 1.0,
        }
    }
}

/// The output layer and which rows of the latent its heads read.
#[derive(Debug, Clone, Copy)]
pub struct OutputLayer<'a> {
    /// Which columns belong to which field.
    pub heads: &'a Arc<Heads>,
    /// `[D, O]`.
    pub weight: &'a Tensor,
    /// `[O]`.
    pub bias: &'a Tensor,
    /// Where the gradients of weight and bias go, if not into the graph.
    pub buffers: Option<&'a LinearBuffers>,
    /// P: 1, or at least F, of which field f reads position f.
    pub positions: usize,
}

impl OutputLayer<'_> {
    /// The logits of all heads, `[B, O]`, from the latent `[B * P, D]`, by candle's own ops: also of the rows that no loss
    /// counts.
    ///
    /// # Errors
    /// If a shape does not fit.
    pub fn logits(&self, latent: &Tensor) -> Result<Tensor> {
        if self.positions == 1 {
            return latent.matmul(self.weight)?.broadcast_add(self.bias);
        }
        let (rows, width) = latent.dims2()?;
        let by_row = latent.reshape((rows / self.positions, self.positions, width))?;
        let of_field = |field: usize| {
            let columns = self.heads.field(field).outputs();
            let weight = self.weight.narrow(1, columns.start, columns.len())?;
            let read = by_row.narrow(1, field, 1)?.squeeze(1)?; // [B, D]
            read.contiguous()?.matmul(&weight.contiguous()?)
        };
        let fields = (0..self.heads.len()).map(of_field);
        let fields = fields.collect::<Result<Vec<_>>>()?;
        Tensor::cat(&fields, 1)?.broadcast_add(self.bias)
    }
}

/// The weighted loss of the fields of B rows that count, summed and divided by `batch.counted`, a scalar tensor, from the
/// latent `[B * P, D]`.
///
/// A field's loss is the sum over its readings. 0 if nothing is hidden. Tests hold it to `composed.rs`, the
/// same of candle's own ops.
///
/// # Errors
/// If a shape does not fit or a tensor is not contiguous f32.
pub fn masked_loss(
    output: OutputLayer<'_>,
    latent: &Tensor,
    batch: HiddenTargets,
) -> Result<Tensor> {
    #[cfg(any(test, feature = "testing"))]
    if composed_ops::is_forced() {
        return composed::masked_loss(output, latent, &batch);
    }
    let op = MaskedLoss {
        heads: Arc::clone(output.heads),
        positions: output.positions,
        batch,
        buffers: output.buffers.cloned(),
        gradients: Mutex::default(),
    };
    latent.apply_op3(output.weight, output.bias, op)
}

/// What [`masked_loss`] is, without a gradient, and not rounded to f32.
///
/// # Errors
/// If a shape does not fit or a tensor is not contiguous f32.
pub fn masked_loss_value(
    output: OutputLayer<'_>,
    latent: &Tensor,
    batch: &HiddenTargets,
) -> Result<f64> {
    let sums = each_field(output, latent, batch, |head, rows| {
        let losses = rows.iter().map(|(row, logits)| {
            let at = row * output.heads.len() + rows.field;
            let loss = f64::from(head.loss(logits, &batch.targets[at], 1.0, None));
            f64::from(batch.weights[at]) * loss
        });
        losses.sum::<f64>()
    })?;
    Ok(sums.iter().sum::<f64>() / batch.divisor())
}

/// The surprise of each row under each trained reading, `[B * R']` row-major: the sum over its fields that count.
///
/// # Errors
/// If a shape does not fit or a tensor is not contiguous f32.
pub fn row_surprises(
    output: OutputLayer<'_>,
    latent: &Tensor,
    batch: &HiddenTargets,
) -> Result<Vec<f64>> {
    let (fields, readings) = (output.heads.len(), output.heads.trained_readings());
    let by_field = each_field(output, latent, batch, |head, rows| {
        let mut surprises = vec![0f32; rows.records.len() * readings];
        for ((row, logits), out) in rows.iter().zip(surprises.chunks_exact_mut(readings)) {
            head.surprises(logits, &batch.targets[row * fields + rows.field], out);
        }
        (rows.records, surprises)
    })?;
    let mut sums = vec![0f64; batch.weights.len() / fields.max(1) * readings];
    for (records, surprises) in by_field {
        for (row, surprises) in records.into_iter().zip(surprises.chunks_exact(readings)) {
            let sums = &mut sums[row * readings..(row + 1) * readings];
            sums.iter_mut()
                .zip(surprises)
                .for_each(|(sum, &s)| *sum += f64::from(s));
        }
    }
    Ok(sums)
}

/// Calls `f` with every field's head and the rows that count it, on the threads of the pool; results in field order.
fn each_field<T: Send>(
    output: OutputLayer<'_>,
    latent: &Tensor,
    batch: &HiddenTargets,
    f: impl Fn(FieldView<'_>, FieldRows) -> T + Send + Sync,
) -> Result<Vec<T>> {
    let OutputLayer {
        heads,
        weight,
        bias,
        positions,
        ..
    } = output;
    let sides = Sides::check(heads, positions, batch, latent.shape(), weight.shape())?;
    tensor_slice(latent, |latent| {
        tensor_slice(weight, |weight| {
            tensor_slice(bias, |bias| {
                let layer = Layer {
                    heads,
                    latent,
                    weight,
                    bias,
                    sides,
                };
                let fields = (0..heads.len()).into_par_iter();
                let of_field = |field| f(heads.field(field), layer.field_rows(field, batch));
                Ok(fields.map(of_field).collect())
            })
        })
    })
}

/// The sides of a call.
#[derive(Debug, Clone, Copy)]
struct Sides {
    /// P.
    positions: usize,
    /// D.
    width: usize,
    /// O.
    outputs: usize,
}

impl Sides {
    fn check(
        heads: &Heads,
        positions: usize,
        batch: &HiddenTargets,
        latent: &Shape,
        weight: &Shape,
    ) -> Result<Self> {
        let ((rows, width), (inputs, outputs)) = (latent.dims2()?, weight.dims2()?);
        let entries = batch.weights.len();
        let fits = positions > 0
            && (positions == 1 || positions >= heads.len())
            && rows / positions * heads.len() == entries
            && rows % positions == 0
            && entries == batch.targets.len()
            && inputs == width
            && outputs == heads.outputs();
        if !fits {
            candle_core::bail!(
                "masked_loss: latent [{rows}, {width}], {positions} positions, weight [{inputs}, {outputs}], {} fields with \
                 {} outputs, {entries} mask entries, {} targets",
                heads.len(),
                heads.outputs(),
                batch.targets.len()
            );
        }
        Ok(Self {
            positions,
            width,
            outputs,
        })
    }
}

/// The numbers behind an [`OutputLayer`] and a latent.
#[derive(Clone, Copy)]
struct Layer<'a> {
    heads: &'a Heads,
    latent: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    sides: Sides,
}

/// What a field's head makes of the n rows that count the field.
struct FieldRows {
    field: usize,
    /// Which of the B rows they are, rising.
    records: Vec<usize>,
    /// What the head reads, `[n, D]`.
    latent: Vec<f32>,
    /// `[n, o]`.
    logits: Vec<f32>,
}

impl FieldRows {
    /// The rows and their logits.
    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let outputs = self.logits.len() / self.records.len().max(1);
        let logits = self.logits.chunks_exact(outputs.max(1));
        self.records.iter().copied().zip(logits)
    }
}

impl Layer<'_> {
    fn field_rows(&self, field: usize, batch: &HiddenTargets) -> FieldRows {
        let (fields, width) = (self.heads.len(), self.sides.width);
        let weights = batch.weights.iter().skip(field).step_by(fields).enumerate();
        let counted = weights.filter(|(_, weight)| **weight > 0.0);
        let records: Vec<usize> = counted.map(|(row, _)| row).collect();
        let mut latent = Vec::with_capacity(records.len() * width);
        for &row in &records {
            let at = self.sides.latent_row(row, field) * width;
            latent.extend_from_slice(&self.latent[at..at + width]);
        }
        let columns = self.heads.field(field).outputs();
        let mut logits = self.bias[columns].repeat(records.len());
        let rows = Matrix::row_major(&latent, records.len(), width);
        product(rows, self.columns(field), &mut logits, true);
        FieldRows {
            field,
            records,
            latent,
            logits,
        }
    }

    /// The columns of the weights that are a field's, `[D, o]`.
    fn columns(&self, field: usize) -> Matrix<'_> {
        let (columns, Sides { width, outputs, .. }) =
            (self.heads.field(field).outputs(), self.sides);
        let start = columns.start.min(self.weight.len());
        Matrix::strided(&self.weight[start..], width, columns.len(), outputs)
    }

    /// The loss of a field's rows; its gradients go where they belong in `sum`.
    fn add_gradients(&self, field: usize, batch: &HiddenTargets, sum: &mut Gradients) -> f64 {
        let rows = self.field_rows(field, batch);
        let (head, Sides { width, outputs, .. }) = (self.heads.field(field), self.sides);
        let columns = head.outputs();
        let (n, o) = (rows.records.len(), columns.len());
        let share = 1.0 / batch.divisor() as f32;
        let mut by_logits = vec![0f32; n * o];
        let mut loss = 0.0;
        for ((row, logits), gradient) in rows.iter().zip(by_logits.chunks_exact_mut(o.max(1))) {
            let at = row * self.heads.len() + field;
            let (target, weight) = (&batch.targets[at], batch.weights[at]);
            let unweighted = head.loss(logits, target, weight * share, Some(gradient));
            loss += f64::from(weight) * f64::from(unweighted);
        }
        let by_bias = &mut sum.by_bias[columns.clone()];
        by_bias.fill(0.0);
        for gradient in by_logits.chunks_exact(o.max(1)) {
            by_bias.iter_mut().zip(gradient).for_each(|(b, g)| *b += g);
        }
        let by_logits = Matrix::row_major(&by_logits, n, o);
        let read = Matrix::row_major(&rows.latent, n, width).transposed();
        let by_weight = &mut sum.by_weight[columns.start..];
        product_into_columns(read, by_logits, by_weight, outputs);
        let mut by_latent = vec![0f32; n * width];
        let weights = self.columns(field).transposed();
        product(by_logits, weights, &mut by_latent, false);
        let by_row = by_latent.chunks_exact(width.max(1));
        for (&row, gradient) in rows.records.iter().zip(by_row) {
            let at = self.sides.latent_row(row, field) * width;
            let sum = &mut sum.by_latent[at..at + width];
            sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
        }
        loss
    }
}

impl Sides {
    /// The row of the latent that the head of `field` reads of row `row`.
    fn latent_row(self, row: usize, field: usize) -> usize {
        match self.positions {
            1 => row,
            positions => row * positions + field,
        }
    }
}

/// d loss / d latent, weight and bias.
struct Gradients {
    by_latent: Vec<f32>,
    by_weight: Vec<f32>,
    by_bias: Vec<f32>,
}

struct MaskedLoss {
    heads: Arc<Heads>,
    positions: usize,
    batch: HiddenTargets,
    buffers: Option<LinearBuffers>,
    /// Left by the forward pass, taken by the backward pass: they are as large as the layer, and copying takes its time.
    gradients: Mutex<Option<Gradients>>,
}

impl MaskedLoss {
    /// What a forward pass has left; a thread that panicked with it in its hands left it whole.
    fn left(&self) -> std::sync::MutexGuard<'_, Option<Gradients>> {
        self.gradients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of all losses and the gradients, field after field on this thread: shards are what runs in parallel.
    fn run(&self, layer: Layer<'_>) -> (f64, Gradients) {
        let LinearBuffers { weight, bias } = self.buffers.clone().unwrap_or_default();
        let mut sum = Gradients {
            by_latent: vec![0f32; layer.latent.len()],
            by_weight: weight.memory(layer.weight.len()),
            by_bias: bias.memory(layer.bias.len()),
        };
        let fields = 0..self.heads.len();
        let losses = fields.map(|field| layer.add_gradients(field, &self.batch, &mut sum));
        (losses.sum(), sum)
    }
}

impl CustomOp3 for MaskedLoss {
    fn name(&self) -> &'static str {
        "masked_loss"
    }

    fn cpu_fwd(
        &self,
        latent: &CpuStorage,
        latent_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shapes = (latent_layout.shape(), weight_layout.shape());
        let sides = Sides::check(&self.heads, self.positions, &self.batch, shapes.0, shapes.1)?;
        let (loss, gradients) = self.run(Layer {
            heads: &self.heads,
            latent: cpu_slice(latent, latent_layout)?,
            weight: cpu_slice(weight, weight_layout)?,
            bias: cpu_slice(bias, bias_layout)?,
            sides,
        });
        *self.left() = Some(gradients);
        let loss = loss / self.batch.divisor();
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        latent: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _loss: &Tensor,
        by_loss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(gradients) = self.left().take() else {
            candle_core::bail!("masked_loss: a backward pass without a forward pass of its own");
        };
        let scale = by_loss.to_scalar::<f32>()?;
        let scaled = |mut gradient: Vec<f32>| {
            if scale != 1.0 {
                gradient.iter_mut().for_each(|g| *g *= scale);
            }
            gradient
        };
        let tensor = |gradient, of: &Tensor| {
            let gradient = scaled(gradient);
            Tensor::from_vec(gradient, of.shape(), of.device()).map(Some)
        };
        let by_latent = tensor(gradients.by_latent, latent)?;
        if let Some(buffers) = &self.buffers {
            buffers.weight.add(scaled(gradients.by_weight));
            buffers.bias.add(scaled(gradients.by_bias));
            return Ok((by_latent, None, None));
        }
        Ok((
            by_latent,
            tensor(gradients.by_weight, weight)?,
            tensor(gradients.by_bias, bias)?,
        ))
    }
}
