//! From a model and its views to a [`Kernel`]: in flow named parameters, out flow packed layers and plans.

use super::input::{FieldInput, InputLayer, ViewSum};
use super::packed::{Aligned, PackedLinear, SINGLES_BESIDE};
use super::scratch::{Pool, Sizes};
use super::{Blind, FieldPlan, FirstBlock, Kernel, LatentPlan, Layer, Source};
use crate::encode::FieldShape;
use crate::model::mask::{NO_NOISE, NoiseInputs};
use crate::model::ops::simd::Instructions;
use crate::model::ops::tensor_slice;
use crate::model::parameters::Parameters;
use crate::model::{Architecture, Heads, MaskedAutoencoder, Masking, Views};
use crate::score::latent::LatentDistance;
use crate::score::tensors::readings_of_strata;
use candle_core::Result;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// Variants that pass through the blocks together: with three rows of 192 numbers each they and the weights of a layer
/// stay in a second cache of 512 KiB. (The rows of one record before that, with the deltas that they are made of, take
/// 90 KB of 29 numbers.)
const TILE_VARIANTS: usize = 128;
/// Records of a tile at most, where views are few.
const TILE_RECORDS_MAX: usize = 64;
/// Logits of a head that are held at once, but for at least one record: 1 MiB.
const LOGITS_MAX: usize = 1 << 18;

/// The `up` layer that is a part of the input layer.
const FIRST_UP_WEIGHT: &str = "block.00.up.weight";

/// The values of a parameter with its columns; a vector has one row.
struct Values {
    data: Vec<f32>,
    columns: usize,
}

impl Values {
    fn of(parameters: &Parameters, name: &str) -> Result<Self> {
        let Some(var) = parameters.get(name) else {
            candle_core::bail!("the model has no parameter '{name}'");
        };
        let columns = var.dims().last().copied().unwrap_or(0);
        let data = tensor_slice(var, |data| Ok(data.to_vec()))?;
        Ok(Self { data, columns })
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..][..self.columns]
    }
}

impl Kernel {
    /// Packs a model for its views, and for the distance of its latent if that is measured; `None` if its architecture has no
    /// kernel.
    ///
    /// # Errors
    /// If a parameter is missing, which is a defect.
    pub fn new(
        model: &MaskedAutoencoder,
        views: &Views,
        instructions: Instructions,
        latent: Option<&LatentDistance>,
    ) -> Result<Option<Self>> {
        if model.config().architecture != Architecture::Mlp {
            return Ok(None);
        }
        let fields = model.shapes().len();
        let lanes = instructions.lanes();
        let live = LiveViews::of(views, fields, latent.is_some());
        let (first, layers) = layers(model, lanes)?;
        let input = input_layer(model, &live.views, &first)?;
        let records = (TILE_VARIANTS / live.len().max(1)).clamp(1, TILE_RECORDS_MAX);
        // Read once for all fields: it is the largest layer.
        let weight = Values::of(model.parameters(), "output.weight")?;
        let bias = Values::of(model.parameters(), "output.bias")?;
        let pack = |columns| {
            let weight = (&weight.data[..], weight.columns);
            PackedLinear::new(lanes, weight, &bias.data, columns)
        };
        let plan = |field| {
            let layer = pack(model.heads().field(field).outputs());
            field_plan(model, field, views, &live, records, layer)
        };
        let plans: Vec<FieldPlan> = (0..fields).map(plan).collect();
        let latent = latent.and_then(|distance| latent_plan(distance, &live, lanes, records));
        let whitened = latent.iter().map(|plan| records * plan.whitening.stride);
        let logits = plans.iter().map(FieldPlan::logits_max).chain(whitened);
        let logits = logits.max().unwrap_or(0);
        let log_norms = plans.iter().map(FieldPlan::log_norms_max).max();
        let rows = records * live.len().max(1);
        let widest_inner = layers.iter().map(Layer::inner_stride).max().unwrap_or(0);
        let sizes = Sizes {
            rows,
            stride: input.stride,
            widest: widest_inner.max(first.up_bias.get().len()),
            fields,
            views: live.len(),
            input_columns: input.columns,
            logits,
            log_norms: log_norms.unwrap_or(0),
            readings: model.heads().readings(),
        };
        let mut kernel = Self {
            instructions,
            input,
            first,
            layers,
            fields: plans,
            latent,
            readings: readings_of_strata(views, model.heads()),
            hidden: views.masked(),
            views: live.len(),
            records,
            rows: (0..rows as u32).collect(),
            pool: Pool::new(sizes),
        };
        kernel.predict_blindly(model.heads());
        kernel.leave_out_unread(model.heads(), pack);
        Ok(Some(kernel))
    }

    /// Cuts from the heads what no view that shows something is read from: of views that show nothing the logits are known.
    fn leave_out_unread(&mut self, heads: &Heads, pack: impl Fn(Range<usize>) -> PackedLinear) {
        for (field, plan) in self.fields.iter_mut().enumerate() {
            let head = heads.field(field);
            let live = plan.sources.iter();
            let live = live.filter(|(source, _)| matches!(source, Source::Live(_)));
            let read = live.fold(0, |set, &(_, stratum)| set | self.readings[stratum]);
            let outputs = head.outputs_of(read);
            // A column that stands alone is summed in another order than in a panel. In whole groups each is summed as it is
            // among all columns, so that a record has one score, whichever views it is worked out from.
            let columns = outputs.next_multiple_of(SINGLES_BESIDE);
            if plan.live_views > 0 && columns < plan.layer.outputs {
                let first = head.outputs().start;
                plan.layer = pack(first..first + columns);
                plan.softmaxes.retain(|softmax| softmax.end <= outputs);
            }
        }
    }

    /// Where nothing is visible all records look alike: their logits, and how far out each bin is, are worked out here, once.
    fn predict_blindly(&mut self, heads: &Heads) {
        let mut scratch = self.pool.take();
        let row = &mut scratch.record_rows.get_mut()[..self.input.columns];
        row.copy_from_slice(self.input.nothing.get());
        self.enter(&mut scratch, 0..1);
        self.forward(&mut scratch, 1);
        let latent = scratch.normalised.get();
        let of = |(field, plan): (usize, &FieldPlan)| {
            let mut logits = vec![0f32; plan.layer.stride];
            let mut log_norms = vec![0f32; plan.softmaxes.len()];
            self.head(plan, latent, &[0], &mut logits, &mut log_norms);
            logits.truncate(plan.layer.outputs);
            let tails = heads.field(field).tails(&logits, &log_norms);
            Blind {
                logits,
                log_norms,
                tails,
            }
        };
        let plans: Vec<Blind> = self.fields.iter().enumerate().map(of).collect();
        drop(scratch);
        for (plan, blind) in self.fields.iter_mut().zip(plans) {
            plan.blind = blind;
        }
    }
}

/// What a view that shows something hides, and what it tells of noise.
type LiveView<'a> = (&'a [u32], NoiseInputs);

/// The views that show something, each once: of few fields two views of a plan may be the same.
struct LiveViews<'a> {
    views: Vec<LiveView<'a>>,
    /// For each view of the plan its place among them; `None` if it shows nothing.
    places: Vec<Option<usize>>,
    /// The place of the one that hides nothing and tells of no noise, if that was asked for.
    plain: Option<usize>,
}

impl<'a> LiveViews<'a> {
    fn of(views: &'a Views, fields: usize, with_plain: bool) -> Self {
        let mut live: Vec<LiveView<'a>> = Vec::new();
        let mut known = HashMap::new();
        let mut place = |view: LiveView<'a>| {
            let key = (view.0, view.1.map(f32::to_bits));
            *known.entry(key).or_insert_with(|| {
                live.push(view);
                live.len() - 1
            })
        };
        let places = views.iter().map(|view| {
            let is_live = !views.hides_fields() || view.hidden.len() < fields;
            is_live.then(|| place((view.hidden, view.noise())))
        });
        let places = places.collect();
        let plain = with_plain.then(|| place((&[], NO_NOISE)));
        Self {
            views: live,
            places,
            plain,
        }
    }

    fn len(&self) -> usize {
        self.views.len()
    }
}

/// Where the values of each field stand among the inputs: numbers first, then embeddings, then visibility.
fn value_rows(shapes: &[FieldShape], embeddings: &[usize]) -> (Vec<Range<usize>>, usize) {
    let is_category = |shape: &FieldShape| matches!(shape, FieldShape::Categorical { .. });
    let mut ranges = vec![0..0; shapes.len()];
    let mut at = 0;
    for categories in [false, true] {
        for (field, shape) in shapes.iter().enumerate() {
            if is_category(shape) == categories {
                let values = FieldInput::values_of(*shape, embeddings[field]);
                ranges[field] = at..at + values;
                at += values;
            }
        }
    }
    (ranges, at)
}

/// Rows t `[n, D]` as `[t | t C U]`, D padded to `stride` and the product to `up_stride`. It is done once, so in f64: its
/// rounding would be in every record's surprises.
fn beside_products(rows: &[f32], up: &Values, stride: usize, up_stride: usize) -> Aligned {
    let width = up.data.len() / up.columns;
    let of = |row: &[f32]| {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let mut product = vec![0f64; up.columns];
        for (&x, weights) in row.iter().zip(up.data.chunks_exact(up.columns)) {
            let x = f64::from(x) - mean;
            for (sum, &weight) in product.iter_mut().zip(weights) {
                *sum += x * f64::from(weight);
            }
        }
        let mut both = row.to_vec();
        both.resize(stride, 0.0);
        both.extend(product.iter().map(|&x| x as f32));
        both.resize(stride + up_stride, 0.0);
        both
    };
    let both: Vec<Vec<f32>> = rows.par_chunks_exact(width).map(of).collect();
    Aligned::new(&both.concat())
}

fn input_layer(
    model: &MaskedAutoencoder,
    live: &[LiveView<'_>],
    first: &FirstBlock,
) -> Result<InputLayer> {
    let (shapes, parameters) = (model.shapes(), model.parameters());
    let weight = Values::of(parameters, "input.weight")?;
    let bias = Values::of(parameters, "input.bias")?;
    let up = Values::of(parameters, FIRST_UP_WEIGHT)?;
    let (stride, up_stride) = (first.down.stride, first.up_bias.get().len());
    let mut tables = Vec::with_capacity(shapes.len());
    for (field, shape) in shapes.iter().enumerate() {
        tables.push(match shape {
            FieldShape::Categorical { .. } => {
                Some(Values::of(parameters, &format!("embedding.{field:04}"))?)
            }
            _ => None,
        });
    }
    let widths: Vec<usize> = tables
        .iter()
        .map(|t| t.as_ref().map_or(0, |t| t.columns))
        .collect();
    let (rows, visible) = value_rows(shapes, &widths);
    let mut nothing = bias.data;
    let mut shift = Vec::with_capacity(shapes.len() * weight.columns);
    let mut fields = Vec::with_capacity(shapes.len());
    let (mut number, mut code) = (0, 0);
    for (field, &shape) in shapes.iter().enumerate() {
        let stand_in = match model.config().masking {
            Masking::Drop => Vec::new(),
            Masking::Token => stand_in(parameters, field, shape, rows[field].clone())?,
        };
        let mut by_visibility = weight.row(visible + field).to_vec();
        for (value, row) in stand_in.iter().zip(rows[field].clone()) {
            for (column, &w) in weight.row(row).iter().enumerate() {
                nothing[column] += value * w;
                by_visibility[column] -= value * w;
            }
        }
        shift.extend(by_visibility);
        let table = tables[field].take();
        fields.push(FieldInput {
            shape,
            number,
            code,
            row: rows[field].start,
            values: rows[field].len(),
            embedding: table.map_or_else(Vec::new, |table| table.data),
        });
        number += shape.numbers();
        code += shape.codes();
    }
    let packed = |rows: &[f32]| beside_products(rows, &up, stride, up_stride);
    let sum = |(hidden, noise): &LiveView<'_>| {
        let noise = noise_sums(&weight, visible + shapes.len(), *noise);
        view_sum(hidden, noise.map(|sums| packed(&sums)), shapes.len())
    };
    Ok(InputLayer {
        weight: packed(&weight.data[..visible * weight.columns]),
        nothing: packed(&nothing),
        shift: packed(&shift),
        stride,
        columns: stride + up_stride,
        fields,
        views: live.iter().map(sum).collect(),
    })
}

/// What the two rows of the input layer from `first` on add where the model is told of noise; nothing where it is not.
fn noise_sums(weight: &Values, first: usize, noise: NoiseInputs) -> Option<Vec<f32>> {
    if noise == NO_NOISE {
        return None;
    }
    let mut sums = vec![0f32; weight.columns];
    for (row, input) in (first..).zip(noise) {
        let weights = weight.row(row).iter();
        let terms = sums.iter_mut().zip(weights);
        terms.for_each(|(sum, w)| *sum += input * w);
    }
    Some(sums)
}

/// How the distance of latents is worked out, if a view hides nothing.
fn latent_plan(
    distance: &LatentDistance,
    live: &LiveViews<'_>,
    lanes: usize,
    records: usize,
) -> Option<LatentPlan> {
    let plain = live.plain?;
    let (mean, whitening) = distance.parts();
    let width = mean.len();
    let rows = (0..records).map(|t| (t * live.len() + plain) as u32);
    Some(LatentPlan {
        whitening: PackedLinear::new(lanes, (whitening, width), &distance.bias(), 0..width),
        rows: rows.collect(),
    })
}

/// The learned numbers that stand in the place of a hidden value, as many as `rows`.
fn stand_in(
    parameters: &Parameters,
    field: usize,
    shape: FieldShape,
    rows: Range<usize>,
) -> Result<Vec<f32>> {
    let (name, range) = match shape {
        FieldShape::Categorical { .. } => (format!("token.{field:04}"), 0..rows.len()),
        _ => ("token.numbers".to_owned(), rows),
    };
    Ok(Values::of(parameters, &name)?.data[range].to_vec())
}

fn view_sum(hidden: &[u32], noise: Option<Aligned>, fields: usize) -> ViewSum {
    let subtract = 2 * hidden.len() <= fields;
    let visible = (0..fields as u32).filter(|f| hidden.binary_search(f).is_err());
    ViewSum {
        subtract,
        fields: match subtract {
            true => hidden.to_vec(),
            false => visible.collect(),
        },
        noise,
    }
}

/// The layers between the input layer and the heads; a bottleneck is cut to the means of its distributions.
fn layers(model: &MaskedAutoencoder, lanes: usize) -> Result<(FirstBlock, Vec<Layer>)> {
    let parameters = model.parameters();
    let linear = |name: &str, columns: Option<usize>| {
        let weight = Values::of(parameters, &format!("{name}.weight"))?;
        let bias = Values::of(parameters, &format!("{name}.bias"))?;
        let columns = 0..columns.unwrap_or(weight.columns);
        let (data, width) = (&weight.data[..], weight.columns);
        Ok::<_, candle_core::Error>(PackedLinear::new(lanes, (data, width), &bias.data, columns))
    };
    let mut layers = Vec::new();
    let blocks = model.config().blocks;
    for block in 0..=blocks {
        if let Some(width) = model.bottleneck_after(block) {
            layers.push(Layer::Bottleneck {
                narrow: linear("bottleneck.narrow", Some(width))?,
                widen: linear("bottleneck.widen", None)?,
            });
        }
        // A bottleneck may also stand behind the last block.
        if block < blocks {
            layers.push(Layer::Block {
                up: linear(&format!("block.{block:02}.up"), None)?,
                down: linear(&format!("block.{block:02}.down"), None)?,
            });
        }
    }
    let mut layers = layers.into_iter();
    let Some(Layer::Block { up, down }) = layers.next() else {
        candle_core::bail!("the model does not begin with a block");
    };
    let first = FirstBlock {
        width: up.inputs,
        up_outputs: up.outputs,
        up_bias: up.bias,
        down,
    };
    Ok((first, layers.collect()))
}

fn field_plan(
    model: &MaskedAutoencoder,
    field: usize,
    views: &Views,
    live: &LiveViews<'_>,
    records: usize,
    layer: PackedLinear,
) -> FieldPlan {
    let mut sources = Vec::new();
    // Places among the live views of those that read the field, each once.
    let mut live_views: Vec<usize> = Vec::new();
    // Where each live view stands among them.
    let mut read_as = vec![None; live.len()];
    let mut counts = vec![0u32; views.strata().len()];
    for (view, place) in views.iter().zip(&live.places) {
        if !view.reads(field as u32) {
            continue;
        }
        counts[view.stratum] += 1;
        let source = place.map_or(Source::Blind, |place| {
            Source::Live(*read_as[place].get_or_insert_with(|| {
                live_views.push(place);
                live_views.len() - 1
            }))
        });
        sources.push((source, view.stratum));
    }
    let rows =
        (0..records).flat_map(|t| live_views.iter().map(move |v| (t * live.len() + v) as u32));
    let mean = |&count: &u32| match count {
        0 => f32::NAN,
        count => 1.0 / count as f32,
    };
    let numbers = (live_views.len() * layer.stride).max(1);
    FieldPlan {
        rows: rows.collect(),
        live_views: live_views.len(),
        head_records: (LOGITS_MAX / numbers).clamp(1, records),
        layer,
        sources,
        means: counts.iter().map(mean).collect(),
        softmaxes: model.heads().field(field).softmaxes(),
        blind: Blind::default(),
    }
}
