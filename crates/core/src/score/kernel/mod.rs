//! The fused scorer: the forward pass of the `mlp` and its heads' surprises, in one pass over a tile of records.
//!
//! In flow encoded [`Records`], out flow surprises. Letters: T records of a tile, F fields, V views that show a record
//! something, S strata, R readings, D width, o logits of a field.
//!
//! ```text
//! input      once a record, corrected for each view        [T * V, D]     `input`
//! blocks     norm, up, gelu, down, added                   [T * V, D]     `normalise`, `product`
//!            the first norm and up come with the input layer              `input`
//! heads      only in the views that read the field         [T * k, o]     `product`
//! surprises  log-sum-exp and one logit                     [T, F, S, R]
//! ```
//!
//! Weights are packed when the model is loaded (`pack`, `packed`), and working memory is reused (`scratch`). A view that
//! hides everything shows the same of every record, so its logits are a constant. Where the distance of the latent is
//! measured, one view hides nothing and is read by no head. Candle's forward is what the result is
//! held against (`tests`). Which vector instructions it takes, a measurement says (`choice`). Invariant: every number is computed from its record alone, in one order, so the tile that a
//! record is in, and its place there, change nothing.

mod choice;
mod input;
mod normalise;
mod pack;
mod packed;
mod product;
mod scratch;
#[cfg(test)]
mod tests;
mod vector;

pub use self::choice::kernel_instructions;
use self::input::{FirstUp, InputLayer, RecordRows};
use self::normalise::{LogNorms, Normalise};
use self::packed::{Aligned, PackedLinear};
use self::product::{Finish, Product};
use self::scratch::{Pool, Scratch, Taken};
use super::distances::Distance;
use super::surprise::Axes;
use crate::encode::{Encoder, Records};
use crate::model::heads::{Predicted, ReadingSet};
use crate::model::ops::simd::Instructions;
use crate::model::{Heads, TargetReader};
use std::ops::Range;

/// A model packed for its views.
#[derive(Debug)]
pub(super) struct Kernel {
    instructions: Instructions,
    input: InputLayer,
    first: FirstBlock,
    /// What follows the first block.
    layers: Vec<Layer>,
    fields: Vec<FieldPlan>,
    /// The distance of latents, if it is measured.
    latent: Option<LatentPlan>,
    /// `[S]`: the readings that each stratum is read by.
    readings: Vec<ReadingSet>,
    /// `[S]`: whether the views of a stratum hide what they read.
    hidden: Vec<bool>,
    /// V.
    views: usize,
    /// T at most.
    records: usize,
    /// 0, 1, 2, ...: each row of a product is made of the same row of its input.
    rows: Vec<u32>,
    pool: Pool,
}

/// The first block, whose `up` layer is a part of the input layer.
#[derive(Debug)]
struct FirstBlock {
    /// D.
    width: usize,
    /// O of `up`.
    up_outputs: usize,
    /// Of `up`, `[O with its padding]`.
    up_bias: Aligned,
    down: PackedLinear,
}

/// What is between the first block and the heads.
#[derive(Debug)]
enum Layer {
    /// h += down(gelu(up(norm(h)))).
    Block {
        up: PackedLinear,
        down: PackedLinear,
    },
    /// h = widen(narrow(norm(h))).
    Bottleneck {
        narrow: PackedLinear,
        widen: PackedLinear,
    },
}

impl Layer {
    fn parts(&self) -> [&PackedLinear; 2] {
        match self {
            Self::Block { up, down } => [up, down],
            Self::Bottleneck { narrow, widen } => [narrow, widen],
        }
    }

    fn inner_stride(&self) -> usize {
        self.parts()[0].stride
    }
}

/// How the distance of a record's latent is worked out: see [`LatentDistance`](super::latent::LatentDistance).
#[derive(Debug)]
struct LatentPlan {
    /// (z - mean) W.
    whitening: PackedLinear,
    /// For each record of a full tile the row of the latent with nothing hidden.
    rows: Vec<u32>,
}

/// Where the logits of a view that reads a field come from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The field's n-th view that shows something.
    Live(usize),
    /// The constant of views that show nothing.
    Blind,
}

/// What a head says where nothing is visible.
#[derive(Debug, Default)]
struct Blind {
    logits: Vec<f32>,
    log_norms: Vec<f32>,
    tails: Vec<Vec<f32>>,
}

/// The head of a field and the rows that it reads.
#[derive(Debug)]
struct FieldPlan {
    /// Of all outputs that views which show something are read from: those of the first readings, if the others are not.
    layer: PackedLinear,
    /// For each record of a full tile the rows of the latent under the views that read the field.
    rows: Vec<u32>,
    /// Those rows of one record.
    live_views: usize,
    /// Records whose logits are held at once.
    head_records: usize,
    /// The views that read the field, in their order, with their strata.
    sources: Vec<(Source, usize)>,
    /// One over the views of each stratum, NaN where none reads the field, `[S]`.
    means: Vec<f32>,
    /// The softmaxes among the layer's logits.
    softmaxes: Vec<Range<usize>>,
    blind: Blind,
}

impl FieldPlan {
    fn logits_max(&self) -> usize {
        self.head_records * self.live_views * self.layer.stride
    }

    fn log_norms_max(&self) -> usize {
        self.head_records * self.live_views * self.softmaxes.len()
    }
}

/// What the surprises of records are read with.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub encoder: &'a Encoder,
    pub targets: &'a TargetReader,
    pub heads: &'a Heads,
    pub axes: Axes,
}

/// Useful floating-point operations of one record, multiplications and additions counted apart: only the products and
/// sums that the views require, not activations, normalisation or padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// The input layer and the `up` layer of the first block, once, and their corrections for each view.
    pub input: u64,
    /// The rest of the blocks, in every view that shows something; equal views count once.
    pub blocks: u64,
    /// The heads, in the different views that read their fields.
    pub heads: u64,
}

impl Operations {
    /// All of them.
    pub fn total(self) -> u64 {
        self.input + self.blocks + self.heads
    }
}

impl Kernel {
    /// What it runs with.
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// T at most.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The cost of a record.
    pub fn operations(&self) -> Operations {
        let product = |layer: &PackedLinear| 2 * (layer.inputs * layer.outputs) as u64;
        let first = &self.first;
        let values = self.input.fields.iter().map(|field| field.values as u64);
        let corrections = self.input.views.iter().map(|view| view.fields.len() as u64);
        let layers = self.layers.iter().flat_map(|layer| layer.parts());
        let heads = self.fields.iter();
        Operations {
            // Each value is multiplied and added; each field is added once more, and to or from the views.
            input: (first.width + first.up_outputs) as u64
                * (2 * values.sum::<u64>() + self.fields.len() as u64 + corrections.sum::<u64>()),
            blocks: self.views as u64 * (product(&first.down) + layers.map(product).sum::<u64>()),
            heads: heads
                .map(|plan| plan.live_views as u64 * product(&plan.layer))
                .sum(),
        }
    }

    /// The surprises of records `first..first + rows`, at most T of them, into `values` `[rows, F, S, R]`, and if it is measured
    /// the distance of their latents into `distances`, `[rows]`. What comes back can still be asked for logits.
    pub fn surprises(
        &self,
        reader: Reader<'_>,
        records: &Records,
        first: usize,
        values: &mut [f32],
        distances: &mut [Distance],
    ) -> Latents<'_> {
        let per_record = reader.axes.per_record();
        let rows = values.len() / per_record.max(1);
        let mut taken = self.pool.take();
        self.latents(&mut taken, records, first, rows);
        let Scratch {
            normalised,
            logits,
            log_norms,
            surprise,
            ..
        } = &mut *taken;
        let latent = normalised.get();
        if let Some(plan) = &self.latent {
            let whitened = &mut logits.get_mut()[..rows * plan.whitening.stride];
            self.measure(plan, latent, whitened, distances);
        }
        for (field, plan) in self.fields.iter().enumerate() {
            for start in (0..rows).step_by(plan.head_records) {
                let end = rows.min(start + plan.head_records);
                let read = &plan.rows[start * plan.live_views..end * plan.live_views];
                let logits = &mut logits.get_mut()[..read.len() * plan.layer.stride];
                let log_norms = &mut log_norms[..read.len() * plan.softmaxes.len()];
                self.head(plan, latent, read, logits, log_norms);
                let chunk = Chunk {
                    records,
                    first: first + start,
                    logits,
                    log_norms,
                };
                let values = &mut values[start * per_record..end * per_record];
                plan.read((reader, &self.readings), field, &chunk, surprise, values);
            }
        }
        Latents {
            kernel: self,
            scratch: taken,
        }
    }

    /// The latents of `rows` records under all views, into `scratch.normalised`.
    fn latents(&self, scratch: &mut Scratch, records: &Records, first: usize, rows: usize) {
        for t in 0..rows {
            self.instructions.run(RecordRows {
                layer: &self.input,
                records,
                row: first + t,
                deltas: scratch.deltas.get_mut(),
                output: scratch.record_rows.get_mut(),
            });
            self.enter(scratch, t * self.views..(t + 1) * self.views);
        }
        self.forward(scratch, rows * self.views);
    }

    /// Splits `scratch.record_rows` into the rows `rows` of the residual stream and of the first block's inner layer.
    fn enter(&self, scratch: &mut Scratch, rows: Range<usize>) {
        let of = |stride: usize| rows.start * stride..rows.end * stride;
        let bias = self.first.up_bias.get();
        self.instructions.run(FirstUp {
            rows: &scratch.record_rows.get()[..rows.len() * self.input.columns],
            width: self.first.width,
            stride: self.input.stride,
            bias,
            h: &mut scratch.h.get_mut()[of(self.input.stride)],
            inner: &mut scratch.inner.get_mut()[of(bias.len())],
        });
    }

    /// The first `rows` rows of `scratch.h` and `scratch.inner` through all that is left, into `scratch.normalised`.
    fn forward(&self, scratch: &mut Scratch, rows: usize) {
        let stride = self.input.stride;
        let ids = &self.rows[..rows];
        let width = self.first.width;
        let h = &mut scratch.h.get_mut()[..rows * stride];
        let normalised = &mut scratch.normalised.get_mut()[..rows * stride];
        let inner = scratch.inner.get_mut();
        self.instructions.run(Product {
            layer: &self.first.down,
            input: inner,
            input_stride: self.first.up_bias.get().len(),
            rows: ids,
            output: h,
            finish: Finish::Add,
        });
        for layer in &self.layers {
            self.normalise(h, normalised, width);
            let [into, out] = layer.parts();
            let (finish_inner, finish) = match layer {
                Layer::Block { .. } => (Finish::Gelu, Finish::Add),
                Layer::Bottleneck { .. } => (Finish::Store, Finish::Store),
            };
            let inner = &mut inner[..rows * into.stride];
            self.instructions.run(Product {
                layer: into,
                input: normalised,
                input_stride: stride,
                rows: ids,
                output: inner,
                finish: finish_inner,
            });
            self.instructions.run(Product {
                layer: out,
                input: inner,
                input_stride: into.stride,
                rows: ids,
                output: h,
                finish,
            });
        }
        self.normalise(h, normalised, width);
    }

    fn normalise(&self, input: &[f32], output: &mut [f32], width: usize) {
        self.instructions.run(Normalise {
            input,
            output,
            width,
            stride: self.input.stride,
        });
    }

    /// The distances of the latents of some records with nothing hidden; `whitened` is room for `[rows, stride]`.
    fn measure(
        &self,
        plan: &LatentPlan,
        latent: &[f32],
        whitened: &mut [f32],
        distances: &mut [Distance],
    ) {
        let layer = &plan.whitening;
        self.instructions.run(Product {
            layer,
            input: latent,
            input_stride: self.input.stride,
            rows: &plan.rows[..distances.len()],
            output: whitened,
            finish: Finish::Store,
        });
        for (distance, row) in distances
            .iter_mut()
            .zip(whitened.chunks_exact(layer.stride))
        {
            distance.latent = row[..layer.outputs].iter().map(|x| x * x).sum();
        }
    }

    /// The logits of a head for the rows `read` of the latent, and their normalisers.
    fn head(
        &self,
        plan: &FieldPlan,
        latent: &[f32],
        read: &[u32],
        logits: &mut [f32],
        log_norms: &mut [f32],
    ) {
        self.logits(plan, latent, read, logits);
        self.instructions.run(LogNorms {
            logits,
            stride: plan.layer.stride,
            ranges: &plan.softmaxes,
            output: log_norms,
        });
    }

    /// The logits of a head for the rows `read` of the latent.
    fn logits(&self, plan: &FieldPlan, latent: &[f32], read: &[u32], logits: &mut [f32]) {
        self.instructions.run(Product {
            layer: &plan.layer,
            input: latent,
            input_stride: self.input.stride,
            rows: read,
            output: logits,
            finish: Finish::Store,
        });
    }
}

/// The latents of a tile of records under all views: its heads can be asked again without another pass.
#[derive(Debug)]
pub(super) struct Latents<'a> {
    kernel: &'a Kernel,
    scratch: Taken<'a>,
}

impl Latents<'_> {
    /// The logits of one field of record `t` of the tile in every view that reads it while it is hidden, in the views' order:
    /// `[k, o]`. In the denoising view the model sees it, and what it says there is no expectation.
    pub fn logits(&mut self, t: usize, field: usize) -> Vec<Vec<f32>> {
        let kernel = self.kernel;
        let plan = &kernel.fields[field];
        let (stride, outputs) = (plan.layer.stride, plan.layer.outputs);
        let Scratch {
            normalised, logits, ..
        } = &mut *self.scratch;
        let read = &plan.rows[t * plan.live_views..(t + 1) * plan.live_views];
        let live = &mut logits.get_mut()[..read.len() * stride];
        kernel.logits(plan, normalised.get(), read, live);
        let sources = plan.sources.iter();
        let hidden = sources.filter(|(_, stratum)| kernel.hidden[*stratum]);
        let logits = hidden.map(|&(source, _)| match source {
            Source::Live(view) => live[view * stride..][..outputs].to_vec(),
            Source::Blind => plan.blind.logits.clone(),
        });
        logits.collect()
    }
}

/// The logits of one field of some records.
struct Chunk<'a> {
    records: &'a Records,
    first: usize,
    logits: &'a [f32],
    log_norms: &'a [f32],
}

impl FieldPlan {
    /// Reads a chunk's surprises; `surprise` is room for R.
    fn read(
        &self,
        (reader, of_strata): (Reader<'_>, &[ReadingSet]),
        field: usize,
        chunk: &Chunk<'_>,
        surprise: &mut [f32],
        values: &mut [f32],
    ) {
        let Axes {
            strata, readings, ..
        } = reader.axes;
        let head = reader.heads.field(field);
        let (stride, norms) = (self.layer.stride, self.softmaxes.len());
        let per_record = reader.axes.per_record();
        for (t, values) in values.chunks_exact_mut(per_record).enumerate() {
            let row = chunk.first + t;
            let target = reader
                .targets
                .target(reader.encoder, chunk.records, row, field);
            let binned = head.binned(target);
            let sums = &mut values[field * strata * readings..][..strata * readings];
            sums.fill(0.0);
            for &(source, stratum) in &self.sources {
                let predicted = match source {
                    Source::Live(view) => {
                        let at = t * self.live_views + view;
                        Predicted {
                            logits: &chunk.logits[at * stride..][..self.layer.outputs],
                            log_norms: &chunk.log_norms[at * norms..][..norms],
                            tails: &[],
                        }
                    }
                    Source::Blind => Predicted {
                        logits: &self.blind.logits,
                        log_norms: &self.blind.log_norms,
                        tails: &self.blind.tails,
                    },
                };
                head.surprises_at(predicted, (&binned, of_strata[stratum]), surprise);
                let sums = &mut sums[stratum * readings..][..readings];
                sums.iter_mut()
                    .zip(&*surprise)
                    .for_each(|(sum, s)| *sum += s);
            }
            for (sums, mean) in sums.chunks_exact_mut(readings).zip(&self.means) {
                sums.iter_mut().for_each(|sum| *sum *= mean);
            }
        }
    }
}
