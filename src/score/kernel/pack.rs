//! From a model and its views to a [`Kernel`]: in flow named parameters, out flow packed layers and plans.

use super::input::{FieldInput, InputLayer, ViewSum};
use super::packed::{Aligned, PackedLinear};
use super::scratch::{Pool, Sizes};
use super::{Blind, FieldPlan, Kernel, Layer, Source};
use crate::features::FieldShape;
use crate::model::ops::simd::Instructions;
use crate::model::ops::tensor_slice;
use crate::model::parameters::Parameters;
use crate::model::{Architecture, MaskedAutoencoder, Masking, Views};
use candle_core::Result;
use std::ops::Range;

/// Variants that pass through the blocks together: with three rows of 192 numbers each they and the weights of a layer
/// stay in a second cache of 512 KiB.
const TILE_VARIANTS: usize = 128;
/// Records of a tile at most, where views are few.
const TILE_RECORDS_MAX: usize = 64;
/// Logits of a head that are held at once, but for at least one record: 1 MiB.
const LOGITS_MAX: usize = 1 << 18;

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
    /// Packs a model for its views; `None` if its architecture has no kernel.
    ///
    /// # Errors
    /// If a parameter is missing, which is a defect.
    pub fn new(
        model: &MaskedAutoencoder,
        views: &Views,
        instructions: Instructions,
    ) -> Result<Option<Self>> {
        if model.config().architecture != Architecture::Mlp {
            return Ok(None);
        }
        let fields = model.shapes().len();
        let blind = |hidden: &[u32]| views.hide() && hidden.len() == fields;
        let lanes = instructions.lanes();
        let live: Vec<&[u32]> = views.iter().map(|view| view.hidden).collect();
        let live: Vec<&[u32]> = live.into_iter().filter(|hidden| !blind(hidden)).collect();
        let input = input_layer(model, &live, lanes)?;
        let layers = layers(model, lanes)?;
        let records = (TILE_VARIANTS / live.len().max(1)).clamp(1, TILE_RECORDS_MAX);
        // Read once for all fields: it is the largest layer.
        let weight = Values::of(model.parameters(), "output.weight")?;
        let bias = Values::of(model.parameters(), "output.bias")?;
        let plan = |field| {
            let columns = model.heads().field(field).outputs();
            let packed = (&weight.data[..], weight.columns);
            let layer = PackedLinear::new(lanes, packed, &bias.data, columns);
            field_plan(model, field, views, &blind, records, layer)
        };
        let plans: Vec<FieldPlan> = (0..fields).map(plan).collect();
        let logits = plans.iter().map(FieldPlan::logits_max).max().unwrap_or(0);
        let log_norms = plans.iter().map(FieldPlan::log_norms_max).max();
        let rows = records * live.len().max(1);
        let wide = layers.iter().map(Layer::inner_stride).max().unwrap_or(0);
        let sizes = Sizes {
            rows,
            stride: input.stride,
            widest: wide,
            fields,
            logits,
            log_norms: log_norms.unwrap_or(0),
            readings: model.heads().readings(),
        };
        let mut kernel = Self {
            instructions,
            input,
            layers,
            fields: plans,
            views: live.len(),
            records,
            rows: (0..rows as u32).collect(),
            pool: Pool::new(sizes),
        };
        kernel.predict_blindly(model);
        Ok(Some(kernel))
    }

    /// Where nothing is visible all records look alike: their logits are worked out here, once.
    fn predict_blindly(&mut self, model: &MaskedAutoencoder) {
        let width = model.config().width;
        let plans: Vec<Blind> = self.pool.with(|scratch| {
            scratch.h.get_mut()[..self.input.stride].copy_from_slice(self.input.nothing.get());
            self.forward(scratch, 1, width);
            let of = |plan: &FieldPlan| {
                let mut logits = vec![0f32; plan.layer.stride];
                let mut log_norms = vec![0f32; plan.softmaxes.len()];
                let latent = scratch.normalised.get();
                self.head(plan, latent, &[0], &mut logits, &mut log_norms);
                logits.truncate(plan.layer.outputs);
                Blind { logits, log_norms }
            };
            self.fields.iter().map(of).collect()
        });
        for (plan, blind) in self.fields.iter_mut().zip(plans) {
            plan.blind = blind;
        }
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

fn input_layer(model: &MaskedAutoencoder, live: &[&[u32]], lanes: usize) -> Result<InputLayer> {
    let (shapes, parameters) = (model.shapes(), model.parameters());
    let weight = Values::of(parameters, "input.weight")?;
    let bias = Values::of(parameters, "input.bias")?;
    let stride = weight.columns.next_multiple_of(2 * lanes);
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
    let padded = |row: &[f32]| {
        let mut row = row.to_vec();
        row.resize(stride, 0.0);
        row
    };
    let mut nothing = padded(&bias.data);
    let mut shift = Vec::with_capacity(shapes.len() * stride);
    let mut fields = Vec::with_capacity(shapes.len());
    let (mut number, mut code) = (0, 0);
    for (field, &shape) in shapes.iter().enumerate() {
        let stand_in = match model.config().masking {
            Masking::Drop => Vec::new(),
            Masking::Token => stand_in(parameters, field, shape, rows[field].clone())?,
        };
        let mut by_visibility = padded(weight.row(visible + field));
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
    let weight: Vec<f32> = (0..visible).flat_map(|r| padded(weight.row(r))).collect();
    Ok(InputLayer {
        weight: Aligned::new(&weight),
        nothing: Aligned::new(&nothing),
        shift: Aligned::new(&shift),
        stride,
        fields,
        views: live.iter().map(|h| view_sum(h, shapes.len())).collect(),
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

fn view_sum(hidden: &[u32], fields: usize) -> ViewSum {
    let subtract = 2 * hidden.len() <= fields;
    let visible = (0..fields as u32).filter(|f| hidden.binary_search(f).is_err());
    ViewSum {
        subtract,
        fields: match subtract {
            true => hidden.to_vec(),
            false => visible.collect(),
        },
    }
}

/// The layers between the first and the heads; a bottleneck is cut to the means of its distributions.
fn layers(model: &MaskedAutoencoder, lanes: usize) -> Result<Vec<Layer>> {
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
    Ok(layers)
}

fn field_plan(
    model: &MaskedAutoencoder,
    field: usize,
    views: &Views,
    blind: &dyn Fn(&[u32]) -> bool,
    records: usize,
    layer: PackedLinear,
) -> FieldPlan {
    let mut sources = Vec::new();
    let mut live_views = Vec::new();
    let mut live = 0;
    let mut counts = vec![0u32; views.strata().len()];
    for view in views.iter() {
        let is_blind = blind(view.hidden);
        if view.reads(field as u32) {
            counts[view.stratum] += 1;
            let source = match is_blind {
                true => Source::Blind,
                false => Source::Live(live_views.len()),
            };
            sources.push((source, view.stratum));
            if !is_blind {
                live_views.push(live);
            }
        }
        live += usize::from(!is_blind);
    }
    let rows = (0..records).flat_map(|t| live_views.iter().map(move |v| (t * live + v) as u32));
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
