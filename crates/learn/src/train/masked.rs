//! The masked objective: hide random fields of random rows, predict them from the rest.
//!
//! If the model denoises, the numbers of a part of the rows are all visible and carry noise instead, of which the model is
//! told, and it predicts what they are without (Vincent et al. 2010, *Stacked denoising autoencoders*). A category cannot
//! carry noise: in such a row it is hidden the more likely the more noise there is.
//!
//! The objectives it is compared with differ in two places only: nothing is hidden and every field counts, and a
//! variational model adds its divergence to the loss.

use super::shard::{Shard, shard_rows};
use super::trainer::{Objective, TrainError};
use super::trimming::{self, JUDGED_ROWS};
use crate::bundle::TrainingConfig;
use crate::encode::{Encoder, Records};
use crate::model::inputs::takes_noise;
use crate::model::loss::{HiddenTargets, masked_loss, masked_loss_value, row_surprises};
use crate::model::mask::training_masks;
use crate::model::parameters::Parameters;
use crate::model::{InputBuilder, MaskedAutoencoder, Pass, Target, TargetReader, Views};
use crate::rng::{ChaCha8Rng, Purpose, fork, stream};
use candle_core::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// Fit rows below which nothing is trained.
pub const FIT_ROWS_MIN: usize = 10;

/// The masked autoencoder with its fit rows, its held-out rows and its random streams.
pub struct MaskedObjective<'a> {
    model: &'a MaskedAutoencoder,
    /// One for each shard of a batch.
    pub(super) replicas: Vec<MaskedAutoencoder>,
    encoder: &'a Encoder,
    targets: TargetReader,
    fit: &'a Records,
    held_out: &'a Records,
    held_out_rows: Vec<usize>,
    held_out_hidden: Vec<bool>,
    order: Vec<usize>,
    next: usize,
    steps: usize,
    /// Whether the rows were judged before the latest batch.
    trimmed_now: bool,
    /// What rows are judged by when some are left out.
    judging: Views,
    trimming: ChaCha8Rng,
    config: &'a TrainingConfig,
    batches: ChaCha8Rng,
    masks: ChaCha8Rng,
    dropout: ChaCha8Rng,
    unknown: ChaCha8Rng,
    noise: ChaCha8Rng,
    input_noise: ChaCha8Rng,
    swaps: ChaCha8Rng,
    /// `[F]`: whether a field's numbers carry noise in noised rows; none: no row is noised.
    noised: Option<Vec<bool>>,
    /// The fields that are predicted, ascending; the others are always visible as they are.
    predicted: Vec<u32>,
}

/// What a number counts that is seen through noise: it is easier than a hidden one, and there are twice as many in a row.
const NOISED_WEIGHT: f32 = 0.5;

impl<'a> MaskedObjective<'a> {
    /// Trains `model` on `fit`, watched on `held_out_rows_max` rows of `held_out`, evenly spread over all of them.
    ///
    /// # Errors
    /// [`TrainError::TooFewRows`] if there is next to nothing to learn from, [`TrainError::Tensor`] if candle cannot share
    /// the model's tensors with a replica.
    pub fn new(
        model: &'a MaskedAutoencoder,
        encoder: &'a Encoder,
        fit: &'a Records,
        held_out: &'a Records,
        config: &'a TrainingConfig,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let enough = |part, rows, min| match rows < min {
            true => Err(TrainError::TooFewRows { part, rows, min }),
            false => Ok(()),
        };
        enough("fit rows", fit.rows(), FIT_ROWS_MIN)?;
        enough("reference rows", held_out.rows(), 1)?;
        let batch_rows = config.batch_rows.min(fit.rows());
        let shards = batch_rows.div_ceil(shard_rows(batch_rows));
        let replicas = (0..shards).map(|_| model.replica());
        let replicas = replicas.collect::<candle_core::Result<_>>();
        let replicas = replicas.map_err(|source| TrainError::Tensor { step: 0, source })?;
        let held_out_rows = held_out.rows().min(config.held_out_rows_max);
        let mut rng = stream(seed, Purpose::HeldOutMasks);
        let mut trimming = stream(seed, Purpose::Trimming);
        let predicted: Vec<u32> = encoder.predicted();
        let fields = (0u32..).zip(model.shapes());
        let noised: Vec<bool> = fields
            .map(|(field, &shape)| takes_noise(shape) && predicted.binary_search(&field).is_ok())
            .collect();
        let numbers = model.heads().weight_of_numbers();
        let denoises = model.denoises() && config.noised_share * numbers > 0.0;
        Ok(Self {
            model,
            replicas,
            encoder,
            targets: TargetReader::new(encoder),
            fit,
            held_out,
            held_out_rows: (0..held_out_rows)
                .map(|row| row * held_out.rows() / held_out_rows)
                .collect(),
            held_out_hidden: hidden_fields(
                config,
                held_out_rows,
                (fit.fields(), &predicted),
                &mut rng,
            ),
            order: (0..fit.rows()).collect(),
            next: fit.rows(),
            steps: 0,
            trimmed_now: false,
            judging: trimming::judging_views(config.objective, &predicted, &mut trimming),
            trimming,
            config,
            batches: stream(seed, Purpose::Batches),
            masks: stream(seed, Purpose::Masks),
            dropout: stream(seed, Purpose::Dropout),
            unknown: stream(seed, Purpose::UnknownCategories),
            noise: stream(seed, Purpose::BottleneckNoise),
            input_noise: stream(seed, Purpose::InputNoise),
            noised: denoises.then_some(noised),
            predicted,
            swaps: stream(seed, Purpose::SwapNoise),
        })
    }

    /// The fit rows that training goes on with, ascending: all but those that it left out.
    pub fn kept_rows(&self) -> Vec<usize> {
        let mut rows = self.order.clone();
        rows.sort_unstable();
        rows
    }

    /// The next rows of the current shuffle; a new shuffle when it is used up, so that every row counts equally often.
    fn next_rows(&mut self) -> Vec<usize> {
        let rows = self.config.batch_rows.min(self.order.len());
        let mut batch = Vec::with_capacity(rows);
        while batch.len() < rows {
            if self.next == self.order.len() {
                self.order.shuffle(&mut self.batches);
                self.next = 0;
            }
            let take = (rows - batch.len()).min(self.order.len() - self.next);
            batch.extend_from_slice(&self.order[self.next..self.next + take]);
            self.next += take;
        }
        batch
    }

    /// Leaves out most of the rows that the model finds the most unusual so far; all rows are judged anew each time.
    fn trim(&mut self) -> candle_core::Result<()> {
        let rows = trimming::judged_rows(self.fit.rows(), &mut self.trimming);
        let readings = self.model.heads().trained_readings();
        let mut by_stratum = Vec::new();
        for stratum in self.judging.strata() {
            let mut sums = vec![vec![0f64; rows.len()]; readings];
            for hidden in &stratum.hidden {
                for (chunk, rows) in rows.chunks(JUDGED_ROWS).enumerate() {
                    let surprises = self.view_surprises(rows, hidden)?;
                    for (row, surprises) in surprises.chunks_exact(readings).enumerate() {
                        let at = chunk * JUDGED_ROWS + row;
                        let sums = sums.iter_mut().zip(surprises);
                        sums.for_each(|(sum, surprise)| sum[at] += surprise);
                    }
                }
            }
            // As in scoring: a total is divided by the fields that are present, so that nulls that are not expected raise it.
            for column in &mut sums {
                for (sum, &row) in column.iter_mut().zip(&rows) {
                    let present = self.fit.present(row).iter().filter(|&&p| p).count();
                    *sum /= present.max(1) as f64;
                }
            }
            by_stratum.push(sums);
        }
        let kept = trimming::kept(&by_stratum, self.config.trim, &mut self.trimming);
        self.order = kept.into_iter().map(|at| rows[at]).collect();
        self.next = self.order.len();
        Ok(())
    }

    /// The surprises of fit rows under one view, `[rows * R]`.
    fn view_surprises(&self, rows: &[usize], view: &[u32]) -> candle_core::Result<Vec<f64>> {
        let fields = self.fit.fields();
        let mut hidden = vec![false; rows.len() * fields];
        for mask in hidden.chunks_exact_mut(fields) {
            view.iter().for_each(|&field| mask[field as usize] = true);
        }
        let inputs = self.inputs(self.fit, rows, &hidden).finish()?;
        let pass = self.model.pass(&inputs, None, None)?;
        let targets = self.targets_of(self.fit, rows);
        let batch = self.counted(targets, &hidden, &[]);
        row_surprises(self.model.output_layer(), &pass.latent, &batch)
    }

    /// Targets with what counts of them.
    fn counted(&self, targets: Vec<Target>, hidden: &[bool], levels: &[f32]) -> HiddenTargets {
        let weights = self.weights(hidden, levels);
        HiddenTargets {
            counted: weights.iter().map(|&weight| f64::from(weight)).sum(),
            targets,
            weights,
        }
    }

    /// What the fields of some rows count, `[B * F]`: the hidden ones 1, and all of them where nothing is hidden, to be
    /// reproduced; numbers that carry noise less. `levels` are those of the rows, `[B]`, or none at all.
    fn weights(&self, hidden: &[bool], levels: &[f32]) -> Vec<f32> {
        if !self.config.objective.hides_fields() {
            return vec![1.0; hidden.len()];
        }
        let mut weights: Vec<f32> = hidden.iter().map(|&h| f32::from(h)).collect();
        if let Some(noised) = &self.noised {
            let rows = weights.chunks_exact_mut(noised.len()).zip(levels);
            for (weights, _) in rows.filter(|(_, level)| **level > 0.0) {
                let numbers = weights
                    .iter_mut()
                    .zip(noised)
                    .filter(|(_, noised)| **noised);
                numbers.for_each(|(weight, _)| *weight = NOISED_WEIGHT);
            }
        }
        weights
    }

    /// The standard deviation of the noise of each row, 0 for none; a noised row's `hidden` fields, `[B * F]`, become some of
    /// those that cannot carry noise.
    fn noise_rows(&mut self, hidden: &mut [bool]) -> Vec<f32> {
        let Some(noised) = &self.noised else {
            return Vec::new();
        };
        let rng = &mut self.input_noise;
        // What cannot carry noise learns from masked rows alone, so these are the more the more fields cannot.
        let numbers = self.model.heads().weight_of_numbers();
        let share = self.config.noised_share * numbers;
        let [min, max] = self.config.noise.map(f32::ln);
        let mut levels = Vec::with_capacity(hidden.len() / noised.len());
        for hidden in hidden.chunks_exact_mut(noised.len()) {
            let is_noised = rng.random::<f32>() < share;
            let level = (min + (max - min) * rng.random::<f32>()).exp();
            // The draws come first, so that the random stream does not depend on which rows are noised.
            let draws: Vec<f32> = noised.iter().map(|_| rng.random()).collect();
            levels.push(if is_noised { level } else { 0.0 });
            if is_noised {
                for &field in &self.predicted {
                    let field = field as usize;
                    hidden[field] = !noised[field] && draws[field] < level / (1.0 + level);
                }
            }
        }
        levels
    }

    fn targets_of(&self, records: &Records, rows: &[usize]) -> Vec<Target> {
        let fields = records.fields();
        let mut targets = Vec::with_capacity(rows.len() * fields);
        for &row in rows {
            for field in 0..fields {
                targets.push(self.targets.target(self.encoder, records, row, field));
            }
        }
        targets
    }

    /// The fit row from which each field of each of `rows` is shown, `[B, F]`: mostly its own, else a random one.
    ///
    /// Random rows are those that training goes on with: what it left out lends no values either.
    ///
    /// Swap noise: the corruption of a denoising autoencoder (Vincent et al. 2008) that keeps every field's own
    /// distribution (as in VIME, Yoon et al. 2020, and SCARF, Bahri et al. 2022). Nulls are swapped like values.
    fn swapped_rows(&mut self, rows: &[usize]) -> Vec<usize> {
        let (share, fields) = (self.config.swap_noise, self.fit.fields());
        let mut sources = Vec::with_capacity(rows.len() * fields);
        for &row in rows {
            for _ in 0..fields {
                let swapped = share > 0.0 && self.swaps.random::<f32>() < share;
                sources.push(match swapped {
                    true => self.order[self.swaps.random_range(0..self.order.len())],
                    false => row,
                });
            }
        }
        sources
    }

    /// The inputs of a shard, with swapped values, noise, and category values that are not told.
    fn training_inputs(&self, shard: &mut Shard) -> InputBuilder<'a> {
        let fields = self.fit.fields();
        let mut builder = InputBuilder::new(self.model.shapes(), shard.rows.len());
        for (i, &row) in shard.rows.iter().enumerate() {
            let of_row = i * fields..(i + 1) * fields;
            let mask = &shard.hidden[of_row.clone()];
            match &shard.sources {
                None => builder.push(self.fit, row, |field| mask[field]),
                Some(sources) => {
                    let sources = &sources[of_row];
                    builder.push_mixed(self.fit, |field| sources[field], |field| mask[field]);
                }
            }
            if let Some(&level) = shard.levels.get(i).filter(|level| **level > 0.0) {
                let noised = self.noised.as_deref().unwrap_or_default();
                builder.add_noise(level, noised, || shard.input_noise.sample(StandardNormal));
            }
        }
        let share = self.config.unknown_share;
        builder.drop_codes(|| shard.unknown.random::<f32>() < share);
        builder
    }

    fn inputs(&self, records: &Records, rows: &[usize], hidden: &[bool]) -> InputBuilder<'a> {
        let fields = records.fields();
        let mut builder = InputBuilder::new(self.model.shapes(), rows.len());
        for (i, &row) in rows.iter().enumerate() {
            let mask = &hidden[i * fields..(i + 1) * fields];
            builder.push(records, row, |field| mask[field]);
        }
        builder
    }

    /// The rows of a batch under the masks `hidden`, `[B, F]`, with noise of `levels`, `[B]` or none at all, cut into shards.
    fn shards(&mut self, rows: &[usize], hidden: &[bool], levels: &[f32]) -> Vec<Shard> {
        let fields = self.fit.fields();
        let weights = self.weights(hidden, levels);
        let counted = weights.iter().map(|&weight| f64::from(weight)).sum();
        let shard_rows = shard_rows(rows.len());
        let masks = hidden.chunks(shard_rows * fields);
        let shards = rows.chunks(shard_rows).zip(masks).enumerate();
        let shards = shards.map(|(at, (rows, hidden))| {
            let swaps = self.config.swap_noise > 0.0;
            let levels = levels.iter().skip(at * shard_rows).take(rows.len());
            Shard {
                rows: rows.to_vec(),
                hidden: hidden.to_vec(),
                levels: levels.copied().collect(),
                counted,
                sources: swaps.then(|| self.swapped_rows(rows)),
                unknown: fork(&mut self.unknown),
                dropout: fork(&mut self.dropout),
                noise: fork(&mut self.noise),
                input_noise: fork(&mut self.input_noise),
            }
        });
        shards.collect()
    }
}

/// Which fields of `rows` rows training hides, `[rows * fields]`: none, or those drawn by the mask ratio.
fn hidden_fields(
    config: &TrainingConfig,
    rows: usize,
    (fields, predicted): (usize, &[u32]),
    rng: &mut ChaCha8Rng,
) -> Vec<bool> {
    let mut hidden = vec![false; rows * fields];
    if !config.objective.hides_fields() {
        return hidden;
    }
    let [min, max] = config.mask_ratio;
    let masks = training_masks(rows, predicted.len(), (min, max), rng);
    let masks = masks.chunks_exact(predicted.len());
    for (hidden, mask) in hidden.chunks_exact_mut(fields).zip(masks) {
        for (&field, &is_hidden) in predicted.iter().zip(mask) {
            hidden[field as usize] = is_hidden;
        }
    }
    hidden
}

impl Objective for MaskedObjective<'_> {
    type Shard = Shard;

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn set_parameters(&self, flat: &[f32]) -> candle_core::Result<()> {
        self.parameters().set_flat(flat)
    }

    fn replica(&self, place: usize) -> &Parameters {
        self.replicas[place].parameters()
    }

    fn next_batch(&mut self) -> candle_core::Result<Vec<Shard>> {
        self.trimmed_now =
            trimming::is_due(self.steps, self.config.steps) && self.config.trim > 0.0;
        if self.trimmed_now {
            self.trim()?;
        }
        self.steps += 1;
        let rows = self.next_rows();
        let mut hidden = hidden_fields(
            self.config,
            rows.len(),
            (self.fit.fields(), &self.predicted),
            &mut self.masks,
        );
        let levels = self.noise_rows(&mut hidden);
        Ok(self.shards(&rows, &hidden, &levels))
    }

    /// The mean loss over the fields that count, of a variational model with its share of the divergence: the negative
    /// evidence lower bound of Kingma & Welling 2014 (equation 3), a field, where every reading is trained by a density.
    fn shard_loss(&self, place: usize, shard: Shard) -> candle_core::Result<Tensor> {
        self.loss_by(&self.replicas[place], shard)
    }

    fn begins_anew(&self) -> bool {
        self.trimmed_now
    }

    fn may_end_early(&self) -> bool {
        let mut to_come = self.steps..self.config.steps;
        self.config.trim <= 0.0 || !to_come.any(|step| trimming::is_due(step, self.config.steps))
    }

    fn held_out_loss(&mut self) -> candle_core::Result<f64> {
        let fields = self.held_out.fields();
        let rows = self.held_out_rows.par_chunks(self.config.batch_rows);
        let masks = self
            .held_out_hidden
            .par_chunks(self.config.batch_rows * fields);
        let chunk = |(rows, hidden): (&[usize], &[bool])| {
            let inputs = self.inputs(self.held_out, rows, hidden).finish()?;
            let pass = self.model.pass(&inputs, None, None)?;
            let targets = self.targets_of(self.held_out, rows);
            let batch = self.counted(targets, hidden, &[]);
            let mut loss = masked_loss_value(self.model.output_layer(), &pass.latent, &batch)?;
            if let Some(divergence) = &pass.divergence {
                let divergence = f64::from(divergence.to_scalar::<f32>()?);
                loss += self.kl_share(batch.counted) * divergence;
            }
            Ok((loss * batch.counted, batch.counted))
        };
        let chunks = rows.zip(masks).map(chunk);
        let chunks: Vec<(f64, f64)> = chunks.collect::<candle_core::Result<_>>()?;
        let sum: f64 = chunks.iter().map(|chunk| chunk.0).sum();
        let count: f64 = chunks.iter().map(|chunk| chunk.1).sum();
        // Every row hides at least one field.
        Ok(sum / count.max(1.0))
    }
}

impl MaskedObjective<'_> {
    /// [`shard_loss`](Objective::shard_loss) by one of the replicas, or by the model itself.
    fn loss_by(&self, model: &MaskedAutoencoder, mut shard: Shard) -> candle_core::Result<Tensor> {
        let inputs = self.training_inputs(&mut shard).finish()?;
        let Pass { latent, divergence } =
            model.pass(&inputs, Some(&mut shard.dropout), Some(&mut shard.noise))?;
        let batch = HiddenTargets {
            counted: shard.counted,
            ..self.counted(
                self.targets_of(self.fit, &shard.rows),
                &shard.hidden,
                &shard.levels,
            )
        };
        let loss = masked_loss(model.output_layer(), &latent, batch)?;
        match divergence {
            Some(divergence) => loss + divergence.affine(self.kl_share(shard.counted), 0.0)?,
            None => Ok(loss),
        }
    }

    /// The weight of the divergence, summed over rows, in a loss that is divided by `counted` fields.
    fn kl_share(&self, counted: f64) -> f64 {
        f64::from(self.config.kl_weight) / counted.max(1.0)
    }
}

#[cfg(test)]
pub(super) mod tests;
