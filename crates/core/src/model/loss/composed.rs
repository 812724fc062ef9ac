//! The masked loss composed of candle's own ops: what tests hold the hand-written op to.
//!
//! In flow the latent, the output layer and the true values; out flows the loss with its graph. Every head but those of
//! location and scale and a histogram of bounded loss is a cross entropy: the log-sum-exp of its logits less the expected
//! logit. One matrix of how much each logit is expected serves them all; a row that does not count a field expects none of
//! its logits.
//!
//! Letters: B rows, O outputs, n heads of one kind.

use super::{HiddenTargets, OutputLayer, Sides};
use crate::encode::{FieldShape, HOURS};
use crate::model::heads::{FieldView, Heads, Reading};
use crate::model::likelihood::location_scale::Family;
use crate::model::target::Target;
use candle_core::{Device, Result, Tensor};
use std::ops::Range;

/// What [`masked_loss`](super::masked_loss) is.
///
/// # Errors
/// If a shape does not fit or a tensor is not f32.
pub fn masked_loss(
    output: OutputLayer<'_>,
    latent: &Tensor,
    batch: &HiddenTargets,
) -> Result<Tensor> {
    let (heads, weight) = (output.heads, output.weight);
    Sides::check(
        heads,
        output.positions,
        batch,
        latent.shape(),
        weight.shape(),
    )?;
    let logits = output.logits(latent)?;
    let truth = Truth::new(heads, batch);
    let cross_entropies = truth.cross_entropies(heads, &logits)?;
    let sum = (cross_entropies + truth.bounded_losses(heads, &logits)?)?;
    let sum = (sum + truth.located_losses(heads, &logits)?)?;
    sum / batch.divisor()
}

/// The true values, as matrices `[B, O]` row after row, each entry times the weight of its field in its row.
struct Truth {
    /// O.
    outputs: usize,
    /// How much each logit is expected: the distribution of a softmax, or whether the answer is yes.
    expected: Vec<f32>,
    /// The same of the histograms whose loss is bounded.
    bounded: Vec<f32>,
    /// The weight where a yes/no or a location counts.
    counted: Vec<f32>,
    /// z where a location counts.
    numbers: Vec<f32>,
}

impl Truth {
    fn new(heads: &Heads, batch: &HiddenTargets) -> Self {
        let outputs = heads.outputs();
        let cells = batch.targets.len() / heads.len().max(1) * outputs;
        let mut truth = Self {
            outputs,
            expected: vec![0.0; cells],
            bounded: vec![0.0; cells],
            counted: vec![0.0; cells],
            numbers: vec![0.0; cells],
        };
        for (i, target) in batch.targets.iter().enumerate() {
            let weight = batch.weights[i];
            if weight > 0.0 {
                truth.put(
                    i / heads.len(),
                    heads.field(i % heads.len()),
                    target,
                    weight,
                );
            }
        }
        truth
    }

    fn put(&mut self, row: usize, head: FieldView<'_>, target: &Target, weight: f32) {
        let start = row * self.outputs + head.outputs().start;
        let value = start + head.value_start();
        if value > start {
            self.put_answer(start, matches!(target, Target::Absent), weight);
        }
        match *target {
            Target::Absent | Target::Unseen { .. } | Target::Neither(_) => {}
            Target::Number(number) => {
                for (reading, range) in head.reading_outputs() {
                    let first = start + range.start;
                    let z = number.on(reading.scale());
                    match reading {
                        Reading::Histogram(histogram, _) => {
                            let of_loss = match histogram.gamma() > 0.0 {
                                true => &mut self.bounded,
                                false => &mut self.expected,
                            };
                            let bins = &mut of_loss[first..start + range.end];
                            histogram.smoothed_target(z, bins);
                            bins.iter_mut().for_each(|share| *share *= weight);
                        }
                        Reading::LocationScale(..) => {
                            self.counted[first] = weight;
                            self.numbers[first] = z;
                        }
                    }
                }
            }
            Target::Category { class, .. } => self.expected[value + class as usize] = weight,
            Target::Boolean(outcome) => self.put_answer(value, outcome, weight),
            Target::Timestamp { hour, weekday } => {
                self.expected[value + hour as usize] = weight;
                self.expected[value + HOURS + weekday as usize] = weight;
            }
        }
    }

    fn put_answer(&mut self, at: usize, yes: bool, weight: f32) {
        self.counted[at] = weight;
        self.expected[at] = weight * f32::from(yes);
    }

    /// The losses of all softmaxes and yes/no heads, summed; a yes/no is a softmax of its logit and 0.
    fn cross_entropies(&self, heads: &Heads, logits: &Tensor) -> Result<Tensor> {
        let expected = Tensor::from_slice(&self.expected, logits.shape(), logits.device())?;
        let mut sum = (logits * &expected)?.sum_all()?.neg()?;
        let mut answers = Vec::new();
        for head in (0..heads.len()).map(|field| heads.field(field)) {
            let start = head.outputs().start;
            // A category without values has no class.
            for range in head
                .softmaxes()
                .into_iter()
                .filter(|range| !range.is_empty())
            {
                let of = |matrix: &Tensor| matrix.narrow(1, start + range.start, range.len());
                let counted = of(&expected)?.sum(1)?; // [B]: the field's weight
                let log_norms = of(logits)?.log_sum_exp(1)?; // [B]
                sum = (sum + (log_norms * counted)?.sum_all()?)?;
            }
            answers.extend((head.value_start() == 1).then_some(start));
            if matches!(head.shape(), FieldShape::Binary | FieldShape::Boolean) {
                answers.push(start + head.value_start());
            }
        }
        if answers.is_empty() {
            return Ok(sum);
        }
        let yes = columns(logits, &answers)?; // [B, n]
        let log_norms = Tensor::stack(&[yes.zeros_like()?, yes], 2)?.log_sum_exp(2)?;
        let counted = self.columns(&self.counted, &answers, logits.device())?;
        sum + (log_norms * counted)?.sum_all()?
    }

    /// The losses of all histograms whose loss is bounded, summed.
    fn bounded_losses(&self, heads: &Heads, logits: &Tensor) -> Result<Tensor> {
        let mut sum = Tensor::zeros((), logits.dtype(), logits.device())?;
        let bounded = bounded_histograms(heads);
        if bounded.is_empty() {
            return Ok(sum);
        }
        let expected = Tensor::from_slice(&self.bounded, logits.shape(), logits.device())?;
        for (columns, gamma) in bounded {
            let exponent = gamma / (1.0 + gamma);
            let of = |matrix: &Tensor| matrix.narrow(1, columns.start, columns.len());
            let scaled = (of(logits)? * (1.0 + gamma))?;
            let log_r = scaled.broadcast_sub(&scaled.log_sum_exp(1)?.unsqueeze(1)?)?;
            let lost = (log_r * exponent)?.exp()?.affine(-1.0, 1.0)?;
            sum = (sum + ((lost * of(&expected)?)?.sum_all()? / exponent)?)?;
        }
        Ok(sum)
    }

    /// The losses of all heads of a location, summed.
    fn located_losses(&self, heads: &Heads, logits: &Tensor) -> Result<Tensor> {
        let device = logits.device();
        let mut sum = Tensor::zeros((), logits.dtype(), device)?;
        for family in Family::ALL {
            let locations = locations(heads, family);
            if locations.is_empty() {
                continue;
            }
            let output = (0..family.outputs()).map(|output| {
                let of_heads: Vec<usize> = locations.iter().map(|first| first + output).collect();
                columns(logits, &of_heads)
            });
            let output = output.collect::<Result<Vec<_>>>()?;
            let z = self.columns(&self.numbers, &locations, device)?;
            let counted = self.columns(&self.counted, &locations, device)?;
            sum = (sum + (family.composed_loss(&output, &z)? * counted)?.sum_all()?)?;
        }
        Ok(sum)
    }

    /// Some columns of one of the matrices, `[B, n]`.
    fn columns(&self, matrix: &[f32], columns: &[usize], device: &Device) -> Result<Tensor> {
        let rows = matrix.chunks_exact(self.outputs);
        let picked = rows.flat_map(|row| columns.iter().map(|&column| row[column]));
        let picked: Vec<f32> = picked.collect();
        Tensor::from_vec(picked, (matrix.len() / self.outputs, columns.len()), device)
    }
}

/// The columns and the gamma of all histograms whose loss is bounded.
fn bounded_histograms(heads: &Heads) -> Vec<(Range<usize>, f64)> {
    let mut bounded = Vec::new();
    for head in (0..heads.len()).map(|field| heads.field(field)) {
        if head.shape() != FieldShape::Numeric {
            continue;
        }
        let start = head.outputs().start;
        bounded.extend(
            head.reading_outputs()
                .filter_map(|(reading, range)| match reading {
                    Reading::Histogram(histogram, _) if histogram.gamma() > 0.0 => {
                        let columns = start + range.start..start + range.end;
                        Some((columns, f64::from(histogram.gamma())))
                    }
                    _ => None,
                }),
        );
    }
    bounded
}

/// The first outputs of all heads of a family.
fn locations(heads: &Heads, family: Family) -> Vec<usize> {
    let mut locations = Vec::new();
    for head in (0..heads.len()).map(|field| heads.field(field)) {
        if head.shape() != FieldShape::Numeric {
            continue;
        }
        let of_family = head.reading_outputs().filter(
            |(reading, _)| matches!(reading, Reading::LocationScale(found, _) if *found == family),
        );
        locations.extend(of_family.map(|(_, range)| head.outputs().start + range.start));
    }
    locations
}

/// Some columns of a matrix, `[B, n]`.
fn columns(matrix: &Tensor, columns: &[usize]) -> Result<Tensor> {
    let columns: Vec<u32> = columns.iter().map(|&column| column as u32).collect();
    let indices = Tensor::from_slice(&columns, columns.len(), matrix.device())?;
    matrix.index_select(&indices, 1)
}
