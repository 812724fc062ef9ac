//! The surprise of every field of a record in the bundle's views.
//!
//! Letters: B records, T records of a tile, F fields, K views, S strata, R readings, D width.
//!
//! Records are scored in tiles, each on one thread: by the kernel where it has the architecture, else through the tensor
//! library. Either keeps what this module promises: a record's surprises depend on the record and the model alone, not on
//! its neighbours.

use super::distances::{Distance, Distances};
use super::kernel::{Kernel, Latents, Operations, Reader, kernel_instructions};
use super::tensors::{TILE_ROWS, TensorPass};
use crate::encode::{Encoder, FieldShape, Records};
use crate::model::ops::simd::Instructions;
use crate::model::ops::tensor_slice;
use crate::model::{InputBuilder, MaskedAutoencoder, TargetReader, Views};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Surprises of B records, `[B, F, S, R]` row-major: the mean over the views of a stratum that read the field; NaN
/// where none does.
#[derive(Debug, Clone)]
pub struct Surprises {
    values: Vec<f32>,
    present: Vec<bool>,
    /// `[B]`.
    distances: Vec<Distance>,
    coverage: Coverage,
    axes: Axes,
}

/// Which strata say something of a field, each `[F * S]`.
#[derive(Debug, Clone)]
struct Coverage {
    /// Whether any view of the stratum reads it.
    read: Arc<[bool]>,
    /// Whether one does that does not show it, by which alone a field is judged for itself.
    hidden: Arc<[bool]>,
}

/// F, S, R and R'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// F.
    pub fields: usize,
    /// S.
    pub strata: usize,
    /// R.
    pub readings: usize,
    /// R': those of them that training fits, the first ones.
    pub trained: usize,
}

impl Axes {
    /// Numbers of a record.
    pub fn per_record(self) -> usize {
        self.fields * self.strata * self.readings
    }
}

impl Surprises {
    /// Of given values, with every field present and hidden in every stratum.
    #[cfg(test)]
    pub(super) fn of(axes: Axes, values: Vec<f32>) -> Self {
        let rows = values.len() / axes.per_record();
        Self {
            values,
            present: vec![true; rows * axes.fields],
            distances: vec![Distance::default(); rows],
            coverage: Coverage {
                read: vec![true; axes.fields * axes.strata].into(),
                hidden: vec![true; axes.fields * axes.strata].into(),
            },
            axes,
        }
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
            if !self.coverage.read[field * self.axes.strata + stratum] {
                continue;
            }
            let surprise = self.at(row, field, stratum, reading);
            sum += f64::from(surprise);
            present += u32::from(self.present[row * self.axes.fields + field]);
        }
        (sum / f64::from(present.max(1))) as f32
    }

    /// The surprise of the record's most surprising field in a stratum under a reading.
    pub fn largest(&self, row: usize, stratum: usize, reading: usize) -> f32 {
        let fields = 0..self.axes.fields;
        let read = fields.filter(|field| self.coverage.read[field * self.axes.strata + stratum]);
        let surprises = read.map(|field| self.at(row, field, stratum, reading));
        // A NaN, which an overflow leaves, stays the largest.
        let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
        surprises.reduce(larger).unwrap_or(0.0)
    }

    /// How far the record lies from fit rows.
    pub fn distances(&self, row: usize) -> Distance {
        self.distances[row]
    }

    /// Whether the field is predicted in some view while it is hidden: all but the context.
    pub fn is_predicted(&self, field: usize) -> bool {
        let strata = self.axes.strata;
        self.coverage.hidden[field * strata..(field + 1) * strata].contains(&true)
    }

    /// The mean surprise of a field of a record over the strata that read it while it is hidden.
    pub fn field(&self, row: usize, field: usize, reading: usize) -> f32 {
        self.field_in(0..self.axes.strata, row, field, reading)
    }

    /// The same over some strata, ascending, alone.
    pub(super) fn field_in(
        &self,
        strata: impl IntoIterator<Item = usize>,
        row: usize,
        field: usize,
        reading: usize,
    ) -> f32 {
        let (mut sum, mut count) = (0f64, 0u32);
        for stratum in strata {
            if self.coverage.hidden[field * self.axes.strata + stratum] {
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

/// The model made ready to score in its views. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SurpriseModel {
    encoder: Encoder,
    targets: TargetReader,
    model: MaskedAutoencoder,
    pass: Pass,
    distances: Arc<Distances>,
    coverage: Coverage,
    axes: Axes,
}

/// How a tile is scored.
#[derive(Debug, Clone)]
enum Pass {
    Kernel(Arc<Kernel>),
    Tensors(Arc<TensorPass>),
}

impl SurpriseModel {
    /// Makes a model ready for its views: from here on its weights must not change. It measures no distances; see
    /// [`with_distances`](Self::with_distances).
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn new(encoder: Encoder, model: MaskedAutoencoder, views: &Views) -> Result<Self> {
        Self::made(encoder, model, views, Arc::default())
    }

    /// The same model in other views, measuring the same distances.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn in_views(&self, views: &Views) -> Result<Self> {
        let (encoder, model) = (self.encoder.clone(), self.model.clone());
        Self::made(encoder, model, views, Arc::clone(&self.distances))
    }

    fn made(
        encoder: Encoder,
        model: MaskedAutoencoder,
        views: &Views,
        distances: Arc<Distances>,
    ) -> Result<Self> {
        let latent = distances.latent.as_ref();
        let pass = match Kernel::new(&model, views, kernel_instructions(), latent)? {
            Some(kernel) => Pass::Kernel(Arc::new(kernel)),
            None => Pass::Tensors(Arc::new(TensorPass::new(&model, views)?)),
        };
        let fields = encoder.fields().len();
        let (strata, readings) = (views.strata().len(), model.heads().readings());
        let mut read = vec![false; fields * strata];
        let mut hidden = vec![false; fields * strata];
        for view in views.iter() {
            for field in 0..fields {
                let (at, reads) = (field * strata + view.stratum, view.reads(field as u32));
                read[at] |= reads;
                hidden[at] |= reads && view.denoising.is_none();
            }
        }
        Ok(Self {
            targets: TargetReader::new(&encoder),
            encoder,
            axes: Axes {
                fields,
                strata,
                readings,
                trained: model.heads().trained_readings(),
            },
            model,
            pass,
            distances,
            coverage: Coverage {
                read: read.into(),
                hidden: hidden.into(),
            },
        })
    }

    /// The same model in the same views, which also measures distances.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn with_distances(self, views: &Views, distances: Distances) -> Result<Self> {
        let measured = Self {
            distances: Arc::new(distances),
            ..self
        };
        measured.with_instructions(views, kernel_instructions())
    }

    /// What it measures of a record besides its surprises.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }

    /// The same model scored through the tensor library: what the kernel is held against.
    #[cfg(test)]
    pub(super) fn through_tensors(self, views: &Views) -> Result<Self> {
        let pass = Pass::Tensors(Arc::new(TensorPass::new(&self.model, views)?));
        Ok(Self { pass, ..self })
    }

    /// The same model in the same views, scored by the kernel with the given instructions if its architecture has a kernel:
    /// for measurements of one set of instructions beside another.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn with_instructions(self, views: &Views, instructions: Instructions) -> Result<Self> {
        let latent = self.distances.latent.as_ref();
        let kernel = Kernel::new(&self.model, views, instructions, latent)?;
        let pass = kernel.map(|kernel| Pass::Kernel(Arc::new(kernel)));
        let pass = pass.unwrap_or_else(|| self.pass.clone());
        Ok(Self { pass, ..self })
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

    /// The instructions that score; `None` for an architecture that is scored through the tensor library.
    pub fn instructions(&self) -> Option<Instructions> {
        match &self.pass {
            Pass::Kernel(kernel) => Some(kernel.instructions()),
            Pass::Tensors(_) => None,
        }
    }

    /// What a record costs; not known of an architecture that is scored through the tensor library.
    pub fn operations(&self) -> Option<Operations> {
        match &self.pass {
            Pass::Kernel(kernel) => Some(kernel.operations()),
            Pass::Tensors(_) => None,
        }
    }

    /// The surprises of every record, tile by tile on the threads of Rayon's pool; a single tile on the calling thread.
    ///
    /// # Errors
    /// If candle fails.
    pub fn surprises(&self, records: &Records) -> Result<Surprises> {
        let rows = records.rows();
        let per_record = self.axes.per_record();
        let mut values = vec![0f32; rows * per_record];
        let mut distances = vec![Distance::default(); rows];
        let tile_rows = self.tile_rows();
        let tile = |(tile, (values, distances)): (usize, (&mut [f32], &mut [Distance]))| {
            let pass = self.tile_surprises(records, tile * tile_rows, values, distances);
            pass.map(drop)
        };
        let numbers = (tile_rows * per_record).max(1);
        match rows > tile_rows {
            true => values
                .par_chunks_mut(numbers)
                .zip(distances.par_chunks_mut(tile_rows))
                .enumerate()
                .try_for_each(tile)?,
            false => values
                .chunks_mut(numbers)
                .zip(distances.chunks_mut(tile_rows))
                .enumerate()
                .try_for_each(tile)?,
        }
        Ok(self.of_values(records, 0..rows, values, distances))
    }

    /// What `f` makes of each tile, in order: of many records no more than a tile's surprises are held at once on a thread. On
    /// the threads of Rayon's pool; a single tile on the calling thread.
    ///
    /// # Errors
    /// If candle fails.
    pub(super) fn each_tile<R: Send>(
        &self,
        records: &Records,
        f: impl Fn(Tile<'_>) -> Result<R> + Sync + Send,
    ) -> Result<Vec<R>> {
        let (rows, tile_rows) = (records.rows(), self.tile_rows());
        let of_tile = |tile: usize| {
            let first = tile * tile_rows;
            let rows = first..rows.min(first + tile_rows);
            let mut values = vec![0f32; rows.len() * self.axes.per_record()];
            let mut distances = vec![Distance::default(); rows.len()];
            let pass = self.tile_surprises(records, first, &mut values, &mut distances)?;
            f(Tile {
                surprises: self.of_values(records, rows.clone(), values, distances),
                rows,
                pass,
            })
        };
        match rows > tile_rows {
            true => (0..rows.div_ceil(tile_rows))
                .into_par_iter()
                .map(of_tile)
                .collect(),
            false if rows > 0 => Ok(vec![of_tile(0)?]),
            false => Ok(Vec::new()),
        }
    }

    fn of_values(
        &self,
        records: &Records,
        rows: Range<usize>,
        values: Vec<f32>,
        distances: Vec<Distance>,
    ) -> Surprises {
        let mut present = Vec::with_capacity(rows.len() * self.axes.fields);
        rows.for_each(|row| present.extend_from_slice(records.present(row)));
        Surprises {
            values,
            present,
            distances,
            coverage: self.coverage.clone(),
            axes: self.axes,
        }
    }

    /// T: what suits the caches. A tile is not divided among threads, though some would have nothing to do: each would read
    /// all weights again.
    fn tile_rows(&self) -> usize {
        match &self.pass {
            Pass::Tensors(_) => TILE_ROWS,
            Pass::Kernel(kernel) => kernel.records(),
        }
    }

    /// The surprises and distances of the records from `first` on that `values` `[rows, F, S, R]` and `distances` `[rows]` have
    /// room for. What comes back can be asked for logits.
    fn tile_surprises(
        &self,
        records: &Records,
        first: usize,
        values: &mut [f32],
        distances: &mut [Distance],
    ) -> Result<TilePass<'_>> {
        let reader = Reader {
            encoder: &self.encoder,
            targets: &self.targets,
            heads: self.model.heads(),
            axes: self.axes,
        };
        let pass = match &self.pass {
            Pass::Kernel(kernel) => {
                let latents = kernel.surprises(reader, records, first, values, distances);
                TilePass::Kernel(Box::new(latents))
            }
            Pass::Tensors(pass) => {
                let logits = pass.tile_logits(&self.model, records, first)?;
                pass.surprises(&logits, reader, records, first, values)?;
                if let Some(latent) = &self.distances.latent {
                    let rows = records.select(first..first + distances.len());
                    let latents = self.latents(&rows)?;
                    let latents = latents.chunks_exact(latents.len() / rows.rows().max(1));
                    for (distance, z) in distances.iter_mut().zip(latents) {
                        distance.latent = latent.of(z);
                    }
                }
                TilePass::Tensors(pass, logits)
            }
        };
        if let Some(nearest) = &self.distances.nearest {
            let instructions = self.instructions().unwrap_or_else(Instructions::widest);
            let rows = first..first + distances.len();
            let found = nearest.distances(instructions, records, rows);
            for (distance, nearest) in distances.iter_mut().zip(found) {
                distance.nearest = nearest;
            }
        }
        Ok(pass)
    }

    /// The logits of each field of one record, for each view that reads it while it is hidden: of a pass of its own.
    #[cfg(test)]
    pub(super) fn logits(&self, records: &Records, row: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        let alone = records.select([row]);
        let fields = |mut tile: Tile<'_>| {
            let fields = 0..self.axes.fields;
            let read = fields.map(|field| match tile.surprises.is_predicted(field) {
                true => tile.logits(0, field),
                false => Ok(Vec::new()),
            });
            read.collect::<Result<Vec<_>>>()
        };
        Ok(self.each_tile(&alone, fields)?.remove(0))
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
}

/// A tile of T records: their surprises, and the pass that gave them.
pub(super) struct Tile<'a> {
    /// Of the tile's records.
    pub surprises: Surprises,
    /// Which of the records that were given they are.
    pub rows: Range<usize>,
    pass: TilePass<'a>,
}

/// What a pass over a tile leaves.
enum TilePass<'a> {
    Kernel(Box<Latents<'a>>),
    /// The logits of every field.
    Tensors(&'a TensorPass, Vec<Tensor>),
}

impl Tile<'_> {
    /// The logits of a field of the tile's record `t` in every view that reads it while it is hidden, `[k, o]`, without another
    /// pass.
    ///
    /// # Errors
    /// If candle fails.
    pub fn logits(&mut self, t: usize, field: usize) -> Result<Vec<Vec<f32>>> {
        match &mut self.pass {
            TilePass::Kernel(latents) => Ok(latents.logits(t, field)),
            TilePass::Tensors(pass, logits) => pass.logits_of(logits, t, field),
        }
    }
}
