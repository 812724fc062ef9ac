//! The surprise of every field of a record in the bundle's views.
//!
//! Letters: B records, T records of a tile, F fields, K views, S strata, R readings, P places of the latent, D width, o
//! logits of a field.
//!
//! Records are scored in tiles of a fixed size, padded: every matrix product has the same shape whatever the batch, so
//! a record's score does not depend on its neighbours. Within a tile all T * K variants go through the trunk together;
//! then each field's head reads, at its place, only the variants whose view reads it: those that hide it, or the one
//! that hides nothing.

use crate::features::{Encoder, FieldShape, Records};
use crate::model::ops::{linear, tensor_slice};
use crate::model::{InputBuilder, MaskedAutoencoder, TargetReader, Views};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// T: records of a tile. Eight records of 27 views fill a matrix product, and one record alone wastes little.
pub const TILE_ROWS: usize = 8;

/// Surprises of B records, `[B, F, S, R]` row-major: the mean over the views of a stratum that read the field; NaN
/// where none does.
#[derive(Debug, Clone)]
pub struct Surprises {
    values: Vec<f32>,
    present: Vec<bool>,
    /// `[F * S]`: whether any view of the stratum reads the field.
    covered: Arc<[bool]>,
    axes: Axes,
}

/// F, S and R.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// F.
    pub fields: usize,
    /// S.
    pub strata: usize,
    /// R.
    pub readings: usize,
}

impl Axes {
    fn per_record(self) -> usize {
        self.fields * self.strata * self.readings
    }
}

impl Surprises {
    fn empty(axes: Axes, covered: Arc<[bool]>) -> Self {
        Self {
            values: Vec::new(),
            present: Vec::new(),
            covered,
            axes,
        }
    }

    /// Of given values, with every field present and hidden in every stratum.
    #[cfg(test)]
    pub(super) fn of(axes: Axes, values: Vec<f32>) -> Self {
        let rows = values.len() / axes.per_record();
        Self {
            values,
            present: vec![true; rows * axes.fields],
            covered: vec![true; axes.fields * axes.strata].into(),
            axes,
        }
    }

    fn append(&mut self, other: &Self) {
        self.values.extend_from_slice(&other.values);
        self.present.extend_from_slice(&other.present);
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.present.len() / self.axes.fields.max(1)
    }

    /// F, S and R.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// The surprise of a field of a record in a stratum under a reading.
    pub fn at(&self, row: usize, field: usize, stratum: usize, reading: usize) -> f32 {
        let Axes {
            strata, readings, ..
        } = self.axes;
        let within = (field * strata + stratum) * readings + reading;
        self.values[row * self.axes.per_record() + within]
    }

    /// The record's surprise in a stratum under a reading: the sum over its fields, null ones too, divided by how many
    /// are present, so that nulls that are not expected raise it.
    pub fn total(&self, row: usize, stratum: usize, reading: usize) -> f32 {
        let (mut sum, mut present) = (0f64, 0u32);
        for field in 0..self.axes.fields {
            if !self.covered[field * self.axes.strata + stratum] {
                continue;
            }
            let surprise = self.at(row, field, stratum, reading);
            sum += f64::from(surprise);
            present += u32::from(self.present[row * self.axes.fields + field]);
        }
        (sum / f64::from(present.max(1))) as f32
    }

    /// The mean surprise of a field of a record over the strata that read it.
    pub fn field(&self, row: usize, field: usize, reading: usize) -> f32 {
        let (mut sum, mut count) = (0f64, 0u32);
        for stratum in 0..self.axes.strata {
            if self.covered[field * self.axes.strata + stratum] {
                sum += f64::from(self.at(row, field, stratum, reading));
                count += 1;
            }
        }
        if count == 0 {
            f32::NAN
        } else {
            (sum / f64::from(count)) as f32
        }
    }
}

/// The model made ready to score: views, and the output layer cut by field.
#[derive(Debug, Clone)]
pub struct SurpriseModel {
    encoder: Encoder,
    targets: TargetReader,
    model: MaskedAutoencoder,
    views: Vec<Vec<bool>>,
    fields: Vec<FieldPlan>,
    covered: Arc<[bool]>,
    axes: Axes,
}

/// Which variants of a tile a field's head reads, and with which weights.
#[derive(Debug, Clone)]
struct FieldPlan {
    /// Stratum of each view that reads the field.
    strata: Vec<usize>,
    /// Rows of the tile's `[T * K * P, D]` latent: for each record the field's place in the views that read it.
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
}

/// The logits of a tile: for each field `[T, views that read it, o]`.
pub(super) struct TileLogits(Vec<Tensor>);

impl SurpriseModel {
    /// Makes a model ready for its views.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn new(encoder: Encoder, model: MaskedAutoencoder, views: &Views) -> Result<Self> {
        let fields = encoder.fields().len();
        let count = views.len();
        let mut masks = Vec::with_capacity(count);
        let mut reading: Vec<Vec<(usize, usize)>> = vec![Vec::new(); fields];
        for (k, view) in views.iter().enumerate() {
            let mut mask = vec![false; fields];
            view.hidden.iter().for_each(|&f| mask[f as usize] = true);
            masks.push(mask);
            for (field, reading) in reading.iter_mut().enumerate() {
                if view.reads(field as u32) {
                    reading.push((k, view.stratum));
                }
            }
        }
        let plan = |(field, reading): (usize, &Vec<(usize, usize)>)| {
            let (places, place) = (model.places(), model.place(field));
            let variants =
                (0..TILE_ROWS).flat_map(|t| reading.iter().map(move |(k, _)| t * count + k));
            let rows: Vec<u32> = variants.map(|v| (v * places + place) as u32).collect();
            let (weight, bias) = model.field_output(field)?;
            Ok(FieldPlan {
                strata: reading.iter().map(|&(_, stratum)| stratum).collect(),
                rows: Tensor::new(rows, &Device::Cpu)?,
                weight,
                bias,
            })
        };
        let plans = reading
            .iter()
            .enumerate()
            .map(plan)
            .collect::<Result<_>>()?;
        let (strata, readings) = (views.strata().len(), model.heads().readings());
        let mut covered = vec![false; fields * strata];
        for (field, reading) in reading.iter().enumerate() {
            reading
                .iter()
                .for_each(|&(_, stratum)| covered[field * strata + stratum] = true);
        }
        Ok(Self {
            targets: TargetReader::new(&encoder),
            encoder,
            model,
            views: masks,
            fields: plans,
            covered: covered.into(),
            axes: Axes {
                fields,
                strata,
                readings,
            },
        })
    }

    /// The fitted encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The model.
    pub fn model(&self) -> &MaskedAutoencoder {
        &self.model
    }

    /// F, S and R.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// The surprises of every record, tile by tile on the threads of Rayon's pool.
    ///
    /// # Errors
    /// If candle fails.
    pub fn surprises(&self, records: &Records) -> Result<Surprises> {
        let tiles: Vec<Surprises> = (0..records.rows().div_ceil(TILE_ROWS))
            .into_par_iter()
            .map(|tile| self.tile_surprises(records, tile * TILE_ROWS))
            .collect::<Result<_>>()?;
        let mut all = Surprises::empty(self.axes, Arc::clone(&self.covered));
        tiles.iter().for_each(|tile| all.append(tile));
        Ok(all)
    }

    /// One vector for every record with all its fields visible, `[B, E]` row-major; see
    /// [`MaskedAutoencoder::embedding`].
    ///
    /// # Errors
    /// If candle fails.
    pub fn latents(&self, records: &Records) -> Result<Vec<f32>> {
        let shapes: &[FieldShape] = self.model.shapes();
        let tiles: Vec<Vec<f32>> = (0..records.rows().div_ceil(TILE_ROWS))
            .into_par_iter()
            .map(|tile| {
                let first = tile * TILE_ROWS;
                let rows = TILE_ROWS.min(records.rows() - first);
                let mut builder = InputBuilder::new(shapes, TILE_ROWS);
                for t in 0..TILE_ROWS {
                    builder.push(records, first + t.min(rows - 1), |_| false);
                }
                let latent = self.model.embedding(&builder.finish()?)?.detach();
                let width = self.model.embedding_width();
                tensor_slice(&latent, |data| Ok(data[..rows * width].to_vec()))
            })
            .collect::<Result<_>>()?;
        Ok(tiles.concat())
    }

    fn tile_surprises(&self, records: &Records, first: usize) -> Result<Surprises> {
        let rows = TILE_ROWS.min(records.rows() - first);
        let logits = self.tile_logits(records, first)?;
        self.surprises_of(&logits, records, first, rows)
    }

    /// The logits of the tile that begins at record `first`; records beyond the last repeat it.
    pub(super) fn tile_logits(&self, records: &Records, first: usize) -> Result<TileLogits> {
        let mut builder = InputBuilder::new(self.model.shapes(), TILE_ROWS * self.views.len());
        for t in 0..TILE_ROWS {
            let row = (first + t).min(records.rows() - 1);
            for hidden in &self.views {
                builder.push(records, row, |field| hidden[field]);
            }
        }
        let latent = self.model.latent(&builder.finish()?, None)?.detach(); // [T * K * P, D]
        let head = |plan: &FieldPlan| {
            linear(
                &latent.index_select(&plan.rows, 0)?,
                &plan.weight,
                &plan.bias,
            ) // [T * k, o]
        };
        Ok(TileLogits(
            self.fields.iter().map(head).collect::<Result<_>>()?,
        ))
    }

    /// The surprises of the first `rows` records of a tile.
    pub(super) fn surprises_of(
        &self,
        logits: &TileLogits,
        records: &Records,
        first: usize,
        rows: usize,
    ) -> Result<Surprises> {
        let Axes {
            fields,
            strata,
            readings,
        } = self.axes;
        let mut values = vec![0f32; rows * self.axes.per_record()];
        let mut surprise = vec![0f32; readings];
        for (field, plan) in self.fields.iter().enumerate() {
            let head = self.model.heads().field(field);
            let outputs = head.outputs().len();
            tensor_slice(&logits.0[field], |logits| {
                let by_record = logits.chunks_exact(plan.strata.len() * outputs);
                for (t, logits) in by_record.take(rows).enumerate() {
                    let target = self
                        .targets
                        .target(&self.encoder, records, first + t, field);
                    let start = t * self.axes.per_record() + field * strata * readings;
                    let sums = &mut values[start..start + strata * readings];
                    for (logits, &stratum) in logits.chunks_exact(outputs).zip(&plan.strata) {
                        head.surprises(logits, &target, &mut surprise);
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
        let present = (0..rows)
            .flat_map(|t| records.present(first + t).iter().copied())
            .collect();
        debug_assert_eq!(fields, self.fields.len());
        Ok(Surprises {
            values,
            present,
            covered: Arc::clone(&self.covered),
            axes: self.axes,
        })
    }

    /// Calls `f` with the logits of every view that reads `field` of record `t` of the tile.
    pub(super) fn each_view(
        &self,
        logits: &TileLogits,
        t: usize,
        field: usize,
        mut f: impl FnMut(&[f32]),
    ) -> Result<()> {
        let outputs = self.model.heads().field(field).outputs().len();
        let views = self.fields[field].strata.len();
        tensor_slice(&logits.0[field], |logits| {
            let record = &logits[t * views * outputs..(t + 1) * views * outputs];
            record.chunks_exact(outputs).for_each(&mut f);
            Ok(())
        })
    }
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
