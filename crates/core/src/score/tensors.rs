//! Surprises through the tensor library: for architectures that the kernel does not have, and what the kernel is held
//! against.
//!
//! Letters: T records of a tile, K views, P places of the latent, D width, o logits of a field. Tiles have a fixed size
//! and are padded: every matrix product has the same shape whatever the batch, so a record's score does not depend on its
//! neighbours. Within a tile all T * K variants go through the trunk together; then each field's head reads, at its place,
//! only the variants whose view reads it: those that hide it, or the one that hides nothing.

use super::kernel::Reader;
use crate::encode::Records;
use crate::model::heads::{Derived, Heads, ReadingSet};
use crate::model::likelihood::Scale;
use crate::model::mask::{Denoising, NoiseInputs};
use crate::model::ops::{linear, tensor_slice};
use crate::model::{InputBuilder, MaskedAutoencoder, Stratum, Views};
use candle_core::{Device, Result, Tensor};

/// T: records of a tile. Eight records of 27 views fill a matrix product, and one record alone wastes little.
pub(super) const TILE_ROWS: usize = 8;

/// The views, and the output layer cut by field.
#[derive(Debug)]
pub(super) struct TensorPass {
    views: Vec<(Vec<bool>, NoiseInputs)>,
    /// `[S]`: the readings that each stratum is read by.
    readings: Vec<ReadingSet>,
    /// `[S]`: whether the views of a stratum hide what they read.
    hidden: Vec<bool>,
    fields: Vec<FieldPlan>,
}

/// Which variants of a tile a field's head reads, and with which weights.
#[derive(Debug)]
struct FieldPlan {
    /// Stratum of each view that reads the field.
    strata: Vec<usize>,
    /// Rows of the tile's `[T * K * P, D]` latent: for each record the field's place in the views that read it.
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl TensorPass {
    /// Makes a model ready for its views.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn new(model: &MaskedAutoencoder, views: &Views) -> Result<Self> {
        let fields = model.shapes().len();
        let count = views.len();
        let mut masks = Vec::with_capacity(count);
        let mut reading: Vec<Vec<(usize, usize)>> = vec![Vec::new(); fields];
        for (k, view) in views.iter().enumerate() {
            let mut mask = vec![false; fields];
            view.hidden.iter().for_each(|&f| mask[f as usize] = true);
            masks.push((mask, view.noise()));
            for (field, reading) in reading.iter_mut().enumerate() {
                if view.reads(field as u32) {
                    reading.push((k, view.stratum));
                }
            }
        }
        let plan = |(field, reading): (usize, &Vec<(usize, usize)>)| {
            let (positions, position) = (model.positions(), model.position(field));
            let variants =
                (0..TILE_ROWS).flat_map(|t| reading.iter().map(move |(k, _)| t * count + k));
            let rows: Vec<u32> = variants
                .map(|v| (v * positions + position) as u32)
                .collect();
            let (weight, bias) = model.field_output(field)?;
            Ok(FieldPlan {
                strata: reading.iter().map(|&(_, stratum)| stratum).collect(),
                rows: Tensor::new(rows, &Device::Cpu)?,
                weight,
                bias,
            })
        };
        let plans = reading.iter().enumerate().map(plan);
        Ok(Self {
            fields: plans.collect::<Result<_>>()?,
            views: masks,
            readings: readings_of_strata(views, model.heads()),
            hidden: views.masked(),
        })
    }

    /// The logits of the tile that begins at record `first`, for each field `[T, views that read it, o]`; records beyond
    /// the last repeat it.
    ///
    /// # Errors
    /// If candle fails.
    pub fn tile_logits(
        &self,
        model: &MaskedAutoencoder,
        records: &Records,
        first: usize,
    ) -> Result<Vec<Tensor>> {
        let mut builder = InputBuilder::new(model.shapes(), TILE_ROWS * self.views.len());
        for t in 0..TILE_ROWS {
            let row = (first + t).min(records.rows() - 1);
            for (hidden, noise) in &self.views {
                builder.push(records, row, |field| hidden[field]);
                builder.write_noise(*noise);
            }
        }
        let latent = model.latent(&builder.finish()?, None)?.detach(); // [T * K * P, D]
        let head = |plan: &FieldPlan| {
            linear(
                &latent.index_select(&plan.rows, 0)?,
                &plan.weight,
                &plan.bias,
                None,
            ) // [T * k, o]
        };
        self.fields.iter().map(head).collect()
    }

    /// The surprises of records `first..first + rows`, at most T of them, into `values` `[rows, F, S, R]`, read from the logits
    /// of their tile.
    ///
    /// # Errors
    /// If candle fails.
    pub fn surprises(
        &self,
        logits: &[Tensor],
        reader: Reader<'_>,
        records: &Records,
        first: usize,
        values: &mut [f32],
    ) -> Result<()> {
        let (strata, readings) = (reader.axes.strata, reader.axes.readings);
        let mut surprise = vec![0f32; readings];
        for (field, plan) in self.fields.iter().enumerate() {
            let head = reader.heads.field(field);
            let outputs = head.outputs().len();
            tensor_slice(&logits[field], |logits| {
                let by_record = logits.chunks_exact(plan.strata.len() * outputs);
                let records_of = values.chunks_exact_mut(reader.axes.per_record());
                for (t, (values, logits)) in records_of.zip(by_record).enumerate() {
                    let (encoder, row) = (reader.encoder, first + t);
                    let target = reader.targets.target(encoder, records, row, field);
                    let sums = &mut values[field * strata * readings..][..strata * readings];
                    sums.fill(0.0);
                    for (logits, &stratum) in logits.chunks_exact(outputs).zip(&plan.strata) {
                        head.surprises(logits, &target, &mut surprise);
                        head.keep_only(self.readings[stratum], &mut surprise);
                        let sums = &mut sums[stratum * readings..(stratum + 1) * readings];
                        sums.iter_mut()
                            .zip(&surprise)
                            .for_each(|(sum, s)| *sum += s);
                    }
                    divide_by_views(sums, &plan.strata, readings);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Of the logits of a tile those of one field of its record `t` in every view that reads it while it is hidden: `[k, o]`.
    ///
    /// # Errors
    /// If candle fails.
    pub fn logits_of(&self, logits: &[Tensor], t: usize, field: usize) -> Result<Vec<Vec<f32>>> {
        let plan = &self.fields[field];
        tensor_slice(&logits[field], |logits| {
            let of_record = logits.len() / TILE_ROWS;
            let of_record = &logits[t * of_record..(t + 1) * of_record];
            let views = of_record.chunks_exact(of_record.len() / plan.strata.len());
            let hidden = views.zip(&plan.strata).filter(|(_, s)| self.hidden[**s]);
            Ok(hidden.map(|(view, _)| view.to_vec()).collect())
        })
    }
}

/// Which readings each stratum is read by, `[S]`: all trained ones, unless the denoising view is read on one scale alone;
/// the tail where most is hidden, the density in the denoising view.
pub(super) fn readings_of_strata(views: &Views, heads: &Heads) -> Vec<ReadingSet> {
    let trained = heads.trained_readings();
    let of_stratum = |stratum: &Stratum| {
        let derived = heads.derived().map(|(derived, _)| match derived {
            Derived::Tail => stratum.hides_most(),
            Derived::Density => stratum.denoising.is_some(),
        });
        let in_deviations = |of: &Denoising| of.in_deviations;
        let in_deviations = stratum.denoising.as_ref().is_some_and(in_deviations);
        let all = std::iter::repeat_n(true, trained)
            .chain(derived)
            .enumerate();
        let read = all.filter(|&(reading, is_read)| {
            is_read && !(in_deviations && heads.scale(reading) == Scale::Quantile)
        });
        read.fold(0, |set, (reading, _)| set | 1 << reading)
    };
    views.strata().iter().map(of_stratum).collect()
}

/// Sums become means over the views of each stratum; NaN where no view of the stratum reads the field.
fn divide_by_views(sums: &mut [f32], strata_of_views: &[usize], readings: usize) {
    for (stratum, sums) in sums.chunks_exact_mut(readings).enumerate() {
        let views = strata_of_views.iter().filter(|&&s| s == stratum).count();
        let mean = if views == 0 {
            f32::NAN
        } else {
            1.0 / views as f32
        };
        sums.iter_mut().for_each(|sum| *sum *= mean);
    }
}
