//! The product of some rows with a packed layer, and what is done to each result while it is in registers.
//!
//! Letters: n rows, I inputs, O outputs. For each panel of the layer, which at the default width stays in the first cache,
//! groups of rows pass by; the sums of a group and a panel stay in vector registers. Invariant: how a result is summed does
//! not depend on the group that its row is in, so a row's results do not depend on the other rows; nor does it depend on the
//! width of a vector, if that is 8 numbers or 16.

use super::packed::PackedLinear;
use super::vector::{dot, gelu};
use crate::model::ops::simd::written_out;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// What becomes of x W + b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is the result.
    Store,
    /// Its GELU is the result.
    Gelu,
    /// It is added to the result.
    Add,
}

/// `output` = finish(rows of `input` times the layer): row i is made of the input's row `rows[i]`.
pub(super) struct Product<'a> {
    pub layer: &'a PackedLinear,
    /// Rows `input_stride` apart, of at least I numbers.
    pub input: &'a [f32],
    pub input_stride: usize,
    /// `[n]`.
    pub rows: &'a [u32],
    /// `[n, stride of the layer]`; columns beyond O stay as they are (`Add`) or are of no meaning (`Store`, `Gelu`).
    pub output: &'a mut [f32],
    pub finish: Finish,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let layer = self.layer;
        let (panel, inputs) = (2 * S::F32_LANES, layer.inputs);
        let panels = layer.panels.get().chunks_exact((panel * inputs).max(1));
        let mut column = 0;
        for weights in panels {
            self.panel::<S, 2>(simd, weights, column);
            column += panel;
        }
        let half = layer.half_panel.get();
        if !half.is_empty() {
            self.panel::<S, 1>(simd, half, column);
            column += S::F32_LANES;
        }
        let single = layer.single_columns.get().chunks_exact(inputs.max(1));
        for weights in single {
            self.column(simd, weights, column);
            column += 1;
        }
    }
}

impl Product<'_> {
    /// A panel of V vectors that begins at `column`. Rows go in groups as equal as can be: a group of one or two rows would
    /// leave half of the arithmetic units waiting.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, weights: &[f32], column: usize) {
        let rows = self.rows.len();
        let groups = rows.div_ceil(group_rows_max::<S>());
        let mut row = 0;
        for group in 0..groups {
            let end = row + (rows - row).div_ceil(groups - group);
            self.rows_of_group::<S, V>(simd, weights, column, row..end);
            row = end;
        }
    }

    /// At most [`group_rows_max`] rows.
    #[inline(always)]
    fn rows_of_group<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        weights: &[f32],
        column: usize,
        rows: Range<usize>,
    ) {
        let row = rows.start;
        match rows.len() {
            8 if group_rows_max::<S>() >= 8 => self.group::<S, V, 8>(simd, weights, column, row),
            7 if group_rows_max::<S>() >= 8 => self.group::<S, V, 7>(simd, weights, column, row),
            6 => self.group::<S, V, 6>(simd, weights, column, row),
            5 => self.group::<S, V, 5>(simd, weights, column, row),
            4 => self.group::<S, V, 4>(simd, weights, column, row),
            3 => self.group::<S, V, 3>(simd, weights, column, row),
            2 => self.group::<S, V, 2>(simd, weights, column, row),
            1 => self.group::<S, V, 1>(simd, weights, column, row),
            _ => {}
        }
    }

    /// M rows, from row `row` on, times a panel of V vectors.
    #[inline(always)]
    fn group<S: Simd, const V: usize, const M: usize>(
        &mut self,
        simd: S,
        weights: &[f32],
        column: usize,
        row: usize,
    ) {
        let inputs = self.layer.inputs;
        let x: [&[f32]; M] = std::array::from_fn(|m| {
            let start = self.rows[row + m] as usize * self.input_stride;
            &self.input[start..start + inputs]
        });
        let sums = sums::<S, V, M>(simd, x, weights);
        let wide = V * S::F32_LANES;
        let (bias, _) = S::as_simd_f32s(&self.layer.bias.get()[column..column + wide]);
        let stride = self.layer.stride;
        for m in 0..M {
            let out = &mut self.output[(row + m) * stride + column..][..wide];
            let (out, _) = S::as_mut_simd_f32s(out);
            for v in 0..V {
                let y = simd.add_f32s(sums[m][v], bias[v]);
                out[v] = match self.finish {
                    Finish::Store => y,
                    Finish::Gelu => gelu(simd, y),
                    Finish::Add => simd.add_f32s(out[v], y),
                };
            }
        }
    }

    /// A column that stands alone, as scalar products.
    #[inline(always)]
    fn column<S: Simd>(&mut self, simd: S, weights: &[f32], column: usize) {
        let inputs = weights.len();
        let bias = self.layer.bias.get()[column];
        for (i, &row) in self.rows.iter().enumerate() {
            let x = &self.input[row as usize * self.input_stride..][..inputs];
            let y = dot(simd, x, weights) + bias;
            let out = &mut self.output[i * self.layer.stride + column];
            *out = match self.finish {
                Finish::Store => y,
                Finish::Gelu => crate::model::ops::math::gelu(y),
                Finish::Add => *out + y,
            };
        }
    }
}

/// Rows of a group at most. With 32 registers 8: their sums and the panel's vectors take 18, and the 8 numbers that are
/// multiplied have room beside them. With 12 rows the compiler reads all 12 numbers before it multiplies, runs out of
/// registers, and sends the sums through memory at every input: three times the time. With 16 registers 6 rows, whose
/// numbers the compiler reads one after the other. In tests 16 numbers are enough, so that groups of 8 run on processors
/// without 32 registers.
#[inline(always)]
fn group_rows_max<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 || (cfg!(test) && S::F32_LANES == 16) {
        8
    } else {
        6
    }
}

/// Sums over the inputs of M rows times a panel of V vectors, each sum in the order of the inputs.
#[inline(always)]
fn sums<S: Simd, const V: usize, const M: usize>(
    simd: S,
    x: [&[f32]; M],
    weights: &[f32],
) -> [[S::f32s; V]; M] {
    let (vectors, _) = S::as_simd_f32s(weights);
    let (panel, _) = vectors.as_chunks::<V>();
    let inputs = panel.len();
    // All slices have the length of the loop, which spares a check of bounds a row and input.
    let x = x.map(|row| &row[..inputs]);
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    for (i, w) in panel.iter().enumerate() {
        written_out!(m < M, {
            let x = simd.splat_f32s(x[m][i]);
            written_out!(v < V, {
                sums[m][v] = simd.mul_add_e_f32s(x, w[v], sums[m][v]);
            });
        });
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::packed::Aligned;
    use super::*;
    use crate::model::ops::simd::Instructions;
    use crate::rng::{Purpose, stream};
    use rand::RngExt;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = stream(seed, Purpose::Initialisation);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// Finished results `[n, O]` where each stood at 0.25.
    fn results(
        set: Instructions,
        (x, rows): (&[f32], &[u32]),
        (weight, bias): (&[f32], &[f32]),
        finish: Finish,
    ) -> Vec<f32> {
        let outputs = bias.len();
        let layer = PackedLinear::new(set.lanes(), (weight, outputs), bias, 0..outputs);
        let mut output = Aligned::new(&vec![0.25; rows.len() * layer.stride]);
        set.run(Product {
            layer: &layer,
            input: x,
            input_stride: weight.len() / outputs,
            rows,
            output: output.get_mut(),
            finish,
        });
        let rows = output.get().chunks_exact(layer.stride);
        rows.flat_map(|row| row[..outputs].to_vec()).collect()
    }

    /// The same by the definition, in double precision.
    fn expected(x: &[f32], weight: &[f32], bias: &[f32], finish: Finish) -> Vec<f64> {
        let outputs = bias.len();
        let of = |column: usize| {
            let terms = x.iter().zip(weight[column..].iter().step_by(outputs));
            let sum: f64 = terms.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            let y = sum + f64::from(bias[column]);
            match finish {
                Finish::Store => y,
                Finish::Gelu => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (y + 0.044_715 * y.powi(3));
                    0.5 * y * (1.0 + inner.tanh())
                }
                Finish::Add => 0.25 + y,
            }
        };
        (0..outputs).map(of).collect()
    }

    #[test]
    fn any_number_of_rows_and_columns_gives_the_definitions_product() {
        for inputs in [1, 7, 40, 192] {
            for outputs in [1, 2, 5, 16, 17, 18, 20, 33, 48, 66, 82, 83] {
                let (weight, bias) = (random(inputs * outputs, 1), random(outputs, 2));
                let x = random(21 * inputs, 3);
                for (n, finish) in (1..=21).zip(
                    [Finish::Store, Finish::Gelu, Finish::Add]
                        .into_iter()
                        .cycle(),
                ) {
                    // In another order than they stand in, one of them twice.
                    let rows: Vec<u32> = (0..n).map(|i| (i * 8 + 3) % 20).collect();
                    check((&x, inputs), &rows, (&weight, &bias), finish);
                }
            }
        }
    }

    fn check(
        (x, inputs): (&[f32], usize),
        rows: &[u32],
        (weight, bias): (&[f32], &[f32]),
        finish: Finish,
    ) {
        let outputs = bias.len();
        let row = |i: usize| &x[rows[i] as usize * inputs..][..inputs];
        let of_rows = (0..rows.len()).flat_map(|i| expected(row(i), weight, bias, finish));
        let of_rows: Vec<f64> = of_rows.collect();
        let mut of_wide: Option<Vec<f32>> = None;
        for set in Instructions::available() {
            let at = format!("{} {inputs} {outputs} {rows:?} {finish:?}", set.name());
            let y = results(set, (x, rows), (weight, bias), finish);
            let room = 1e-5 * (inputs as f64).sqrt();
            let near = |(&y, e): (&f32, &f64)| (f64::from(y) - e).abs() <= room;
            assert!(y.iter().zip(&of_rows).all(near), "{at}");
            // A row alone, and vectors of another width, give the same bits.
            let last = rows.len() - 1;
            let alone = results(set, (x, &rows[last..]), (weight, bias), finish);
            assert!(alone == y[last * outputs..], "{at}");
            if set.lanes() >= 8 {
                assert!(of_wide.get_or_insert_with(|| y.clone()) == &y, "{at}");
            }
        }
    }
}
