//! An affine layer a place, as one candle op with its own backward: the heads of a model with a token a field.
//!
//! Place p of a record has the columns `columns[p]` of one weight matrix: the layout of the output layer that all
//! architectures share. Places are independent of each other and shared among the threads of the calling Rayon pool.

use super::product::{Matrix, product, put_columns};
use super::{cpu_slice, tensor_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// y\[b, columns\[p\]\] = x\[b, p\] W\[:, columns\[p\]\] + bias\[columns\[p\]\], y `[B, O]`.
///
/// x is `[B * P, D]`, W `[D, O]`, bias `[O]`, all contiguous f32; `columns` are those of the first places of a record, at
/// most P, which follow each other and together are 0..O. Places beyond them are not read.
///
/// # Errors
/// If a shape does not fit.
pub fn placed_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    places: usize,
    columns: Vec<Range<usize>>,
) -> Result<Tensor> {
    let ((rows, inputs), (weight_inputs, outputs)) = (x.dims2()?, weight.dims2()?);
    let mut end = 0;
    let follow = columns.iter().all(|range| {
        let follows = range.start == end;
        end = range.end;
        follows
    });
    let fits = places > 0 && rows % places == 0 && columns.len() <= places;
    if !(fits && follow && end == outputs && inputs == weight_inputs && bias.dims1()? == outputs) {
        candle_core::bail!(
            "placed_linear: x [{rows}, {inputs}], {places} places, weight [{weight_inputs}, {outputs}], \
             bias {:?}, {} ranges of columns up to {end}",
            bias.dims(),
            columns.len()
        );
    }
    x.apply_op3(weight, bias, PlacedLinear { places, columns })
}

struct PlacedLinear {
    /// P.
    places: usize,
    columns: Vec<Range<usize>>,
}

/// The sides of a call.
#[derive(Clone, Copy)]
struct Sides {
    /// B.
    records: usize,
    /// D.
    inputs: usize,
    /// O.
    outputs: usize,
}

impl PlacedLinear {
    fn sides(&self, x: &Shape, weight: &Shape) -> Result<Sides> {
        let ((rows, inputs), (_, outputs)) = (x.dims2()?, weight.dims2()?);
        Ok(Sides {
            records: rows / self.places,
            inputs,
            outputs,
        })
    }

    /// What the records hold at one place: `[B, D]`.
    fn at_place<'a>(&self, x: &'a [f32], sides: Sides, place: usize) -> Matrix<'a> {
        let Sides {
            records, inputs, ..
        } = sides;
        Matrix::strided(
            x.get(place * inputs..).unwrap_or(&[]),
            records,
            inputs,
            self.places * inputs,
        )
    }

    /// Calls `f` for every place, on the threads of the pool; results in the order of places.
    fn each_place(
        &self,
        f: impl Fn(usize, Range<usize>) -> Vec<f32> + Send + Sync,
    ) -> Vec<Vec<f32>> {
        let columns = self.columns.par_iter().enumerate();
        columns
            .map(|(place, range)| f(place, range.clone()))
            .collect()
    }
}

/// Some columns of a row-major matrix of `width` columns.
fn columns_of(data: &[f32], rows: usize, width: usize, columns: Range<usize>) -> Matrix<'_> {
    let start = columns.start.min(data.len());
    Matrix::strided(&data[start..], rows, columns.len(), width)
}

impl CustomOp3 for PlacedLinear {
    fn name(&self) -> &'static str {
        "placed_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sides = self.sides(x_layout.shape(), weight_layout.shape())?;
        let Sides {
            records,
            inputs,
            outputs,
        } = sides;
        let x = cpu_slice(x, x_layout)?;
        let weight = cpu_slice(weight, weight_layout)?;
        let bias = cpu_slice(bias, bias_layout)?;
        let by_place = self.each_place(|place, columns| {
            let mut y = bias[columns.clone()].repeat(records);
            let weight = columns_of(weight, inputs, outputs, columns);
            product(self.at_place(x, sides, place), weight, &mut y, true);
            y
        });
        let mut y = vec![0f32; records * outputs];
        for (part, columns) in by_place.iter().zip(&self.columns) {
            put_columns(part, &mut y, outputs, columns.clone());
        }
        Ok((CpuStorage::F32(y), (records, outputs).into()))
    }

    /// dx\[:, p\] = g_p W_p^T, dW_p = x_p^T g_p, db = sum of g over the records, with g_p the columns of place p.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sides = self.sides(x.shape(), weight.shape())?;
        let Sides {
            records,
            inputs,
            outputs,
        } = sides;
        let gradient = gradient.contiguous()?;
        let mut by_x = vec![0f32; x.elem_count()];
        let mut by_weight = vec![0f32; weight.elem_count()];
        let mut by_bias = vec![0f32; outputs];
        tensor_slice(&gradient, |g| {
            for row in g.chunks_exact(outputs.max(1)) {
                by_bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            let parts = tensor_slice(weight, |weight| {
                Ok(self.each_place(|_, columns| {
                    let mut part = vec![0f32; records * inputs];
                    let weight = columns_of(weight, inputs, outputs, columns.clone());
                    let g = columns_of(g, records, outputs, columns);
                    product(g, weight.transposed(), &mut part, false);
                    part
                }))
            })?;
            for (place, part) in parts.iter().enumerate() {
                let columns = place * inputs..(place + 1) * inputs;
                put_columns(part, &mut by_x, self.places * inputs, columns);
            }
            let parts = tensor_slice(x, |x| {
                Ok(self.each_place(|place, columns| {
                    let mut part = vec![0f32; inputs * columns.len()];
                    let g = columns_of(g, records, outputs, columns);
                    let x = self.at_place(x, sides, place);
                    product(x.transposed(), g, &mut part, false);
                    part
                }))
            })?;
            for (part, columns) in parts.iter().zip(&self.columns) {
                put_columns(part, &mut by_weight, outputs, columns.clone());
            }
            Ok(())
        })?;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(by_x, x.shape(), device)?),
            Some(Tensor::from_vec(by_weight, weight.shape(), device)?),
            Some(Tensor::from_vec(by_bias, bias.shape(), device)?),
        ))
    }
}
