//! The training loop, whole, on one screen. It knows parameters and losses, nothing of models, files or screens.

use super::average::WeightAverage;
use super::early_stopping::EarlyStopping;
use super::optimizer::{Optimizer, clip_factor};
use super::report::{FitReport, Progress, TrainObserver};
use super::schedule::learning_rate;
use crate::bundle::TrainingConfig;
use crate::model::ops::flat_buffers::{add, copy};
use crate::model::ops::tensor_slice;
use crate::model::parameters::Parameters;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use rayon::prelude::*;
use std::time::Instant;

/// What can be trained.
pub trait Objective: Sync {
    /// Some rows of a training batch with all that was drawn for them.
    type Shard: Send + Sync;

    /// The trainable tensors.
    fn parameters(&self) -> &Parameters;

    /// Sets the trainable tensors from their values, one after the other in name order.
    ///
    /// # Errors
    /// If candle cannot write them.
    fn set_parameters(&self, flat: &[f32]) -> candle_core::Result<()>;

    /// The parameters of the replica that computes the shard of this place in its batch: the same tensors, with buffers in
    /// which a backward pass leaves gradients.
    fn replica(&self, place: usize) -> &Parameters;

    /// The next training batch, cut into shards that can be computed at the same time. How it is cut must not depend on
    /// the number of threads.
    ///
    /// # Errors
    /// If candle cannot compute something that it depends on.
    fn next_batch(&mut self) -> candle_core::Result<Vec<Self::Shard>>;

    /// The share of a shard in the batch's mean loss, a scalar tensor with its graph; the shares add up to the loss. It is
    /// computed by the replica of the shard's place in the batch.
    ///
    /// # Errors
    /// If candle cannot compute it.
    fn shard_loss(&self, place: usize, shard: Self::Shard) -> candle_core::Result<Tensor>;

    /// Whether the latest batch is the first of other rows than before, so that earlier weights are no candidates.
    fn begins_anew(&self) -> bool {
        false
    }

    /// Whether training may end before its last step. Not while something that was declared is still to come: rows that are
    /// to be left out would otherwise be learned after all, and nobody would be told.
    fn may_end_early(&self) -> bool {
        true
    }

    /// The loss on rows that are never trained on, always under the same masks.
    ///
    /// # Errors
    /// If candle cannot compute it.
    fn held_out_loss(&mut self) -> candle_core::Result<f64>;
}

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The tensor library failed: a defect, or memory.
    #[error("step {step}: the tensor library failed")]
    Tensor {
        /// The step, from 1.
        step: usize,
        /// What it said.
        #[source]
        source: candle_core::Error,
    },
    /// The loss became infinite or no number.
    #[error("step {step}: the loss is {loss}; lower training.learning_rate ({learning_rate})")]
    Diverged {
        /// The step, from 1.
        step: usize,
        /// The loss.
        loss: f32,
        /// The configured peak rate.
        learning_rate: f32,
    },
    /// There is nothing to learn from.
    #[error("{part}: {rows} rows; at least {min} are needed")]
    TooFewRows {
        /// Which part of the training rows.
        part: &'static str,
        /// Its rows.
        rows: usize,
        /// The least.
        min: usize,
    },
}

/// Minimises the objective; at the end its parameters are those of the lowest held-out loss.
///
/// # Errors
/// [`TrainError::Diverged`] if the loss stops being a number; [`TrainError::Tensor`].
pub fn fit(
    objective: &mut impl Objective,
    config: &TrainingConfig,
    observer: &mut dyn TrainObserver,
) -> Result<FitReport, TrainError> {
    let started = Instant::now();
    let mut flat = objective.parameters().to_flat().map_err(tensor(0))?;
    let mut gradient = vec![0f32; flat.len()];
    let mut optimizer = Optimizer::new(config.optimizer, config.weight_decay, flat.len());
    let mut average = WeightAverage::new(config.average_decay, &flat);
    let mut stopping = EarlyStopping::new(config.patience);
    // What training starts from is its first candidate: a warm start is never exchanged for something worse.
    let start = objective.held_out_loss().map_err(tensor(0))?;
    stopping.observe(0, start, || flat.clone());
    let mut held_out_loss = Some(start);
    let (mut step, mut stop) = (0, false);
    while step < config.steps && !stop {
        let rate = learning_rate(
            config.learning_rate,
            step,
            config.warmup_steps,
            config.steps,
        );
        step += 1;
        let loss = loss_and_gradient(objective, &mut gradient).map_err(tensor(step))?;
        if !loss.is_finite() {
            return Err(diverged(step, loss, config));
        }
        if objective.begins_anew() {
            stopping = EarlyStopping::new(config.patience);
        }
        let factor = clip_factor(&gradient, config.gradient_norm_max);
        optimizer.step(&mut flat, &gradient, factor, rate);
        average.observe(&flat);

        let is_evaluation = step % config.evaluate_every_steps == 0 || step == config.steps;
        if is_evaluation {
            let kept = average.weights(&flat);
            set(objective, kept, step)?;
            let held_out = objective.held_out_loss().map_err(tensor(step))?;
            stop = stopping.observe(step, held_out, || kept.to_vec()) && objective.may_end_early();
            held_out_loss = Some(held_out);
        }
        set(objective, &flat, step)?;
        let (steps, rows) = (config.steps, step * config.batch_rows);
        let seconds = started.elapsed().as_secs_f64();
        observer.progress(&Progress {
            step,
            steps,
            rows,
            seconds,
            loss,
            held_out_loss,
            is_evaluation,
        });
    }
    let best = stopping
        .into_best()
        .ok_or(diverged(step, f32::NAN, config))?;
    set(objective, &best.parameters, step)?;
    Ok(FitReport {
        steps: step,
        best_step: best.step,
        held_out_loss: best.loss,
        rows: step * config.batch_rows,
        parameters: best.parameters.len(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The loss of the next batch; its gradient in the parameters' order goes into `gradient`.
///
/// Each shard is a graph of its own on a thread of the Rayon pool: one thread works through all small products of a
/// shard without waiting for another, which sharing every product among the threads would not spare. The shards are
/// summed in their order, so that the result is the same at any thread count.
pub(super) fn loss_and_gradient(
    objective: &mut impl Objective,
    gradient: &mut [f32],
) -> candle_core::Result<f32> {
    let shards = objective.next_batch()?;
    let objective = &*objective;
    let backward = |(place, shard)| {
        let loss = objective.shard_loss(place, shard)?;
        Ok((loss.to_scalar::<f32>()?, loss.backward()?))
    };
    let passes = shards.into_par_iter().enumerate().map(backward);
    let passes: Vec<(f32, GradStore)> = passes.collect::<candle_core::Result<_>>()?;
    let mut start = 0;
    for (name, var) in objective.parameters().iter() {
        let end = start + var.elem_count();
        let mut sum = Sum::new(&mut gradient[start..end]);
        start = end;
        for (place, (_, graph)) in passes.iter().enumerate() {
            add_gradient(objective.replica(place), name, graph, &mut sum)?;
        }
        sum.finish();
    }
    Ok(passes.iter().map(|(share, _)| share).sum())
}

/// Adds what one pass left of a parameter's gradient, in its buffer or in the graph, wherever that is; nothing if it was
/// not used.
fn add_gradient(
    replica: &Parameters,
    name: &str,
    graph: &GradStore,
    sum: &mut Sum<'_>,
) -> candle_core::Result<()> {
    if let Some(buffer) = replica.buffer(name) {
        buffer.take(|part| part.map(|part| sum.add(part)));
    }
    if let Some(part) = replica.get(name).and_then(|var| graph.get(var)) {
        tensor_slice(&part.contiguous()?, |part| {
            sum.add(part);
            Ok(())
        })?;
    }
    Ok(())
}

/// A sum that begins in memory of no particular value: its first summand is written over it, not added to zeros.
struct Sum<'a> {
    memory: &'a mut [f32],
    begun: bool,
}

impl<'a> Sum<'a> {
    fn new(memory: &'a mut [f32]) -> Self {
        Self {
            memory,
            begun: false,
        }
    }

    fn add(&mut self, part: &[f32]) {
        match self.begun {
            true => add(self.memory, part),
            false => copy(self.memory, part),
        }
        self.begun = true;
    }

    /// Zeros if there was nothing to sum.
    fn finish(self) {
        if !self.begun {
            self.memory.fill(0.0);
        }
    }
}

fn set(objective: &impl Objective, flat: &[f32], step: usize) -> Result<(), TrainError> {
    objective.set_parameters(flat).map_err(tensor(step))
}

fn tensor(step: usize) -> impl FnOnce(candle_core::Error) -> TrainError {
    move |source| TrainError::Tensor { step, source }
}

fn diverged(step: usize, loss: f32, config: &TrainingConfig) -> TrainError {
    TrainError::Diverged {
        step,
        loss,
        learning_rate: config.learning_rate,
    }
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn a_sum_of_nothing_is_zero_and_its_first_summand_is_not_added_to_what_was_there() {
        let mut memory = [f32::NAN, f32::INFINITY];
        Sum::new(&mut memory).finish();
        assert_eq!(memory, [0.0, 0.0]);

        let mut memory = [f32::NAN, f32::INFINITY];
        let mut sum = Sum::new(&mut memory);
        sum.add(&[1.0, 2.0]);
        sum.add(&[0.5, -2.0]);
        sum.finish();
        assert_eq!(memory, [1.5, 0.0]);
    }
}
