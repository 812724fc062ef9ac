//! The product of some rows with a packed layer, and what is done to each result while it is in registers.
//!
//! Letters: n rows, I inputs, O outputs. For each panel of the layer, which at the default width stays in the first cache,
//! groups of rows pass by; the sums of a group and a panel fill the vector registers. Invariant: how a result is summed does
//! not depend on the group that its row is in, so a row's results do not depend on the other rows.

use super::packed::PackedLinear;
use super::vector::gelu;
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
    /// A panel of V vectors that begins at `column`.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, weights: &[f32], column: usize) {
        let mut row = 0;
        let rows = self.rows.len();
        if takes_twelve_rows::<S>() {
            while rows - row >= 18 || rows - row == 12 {
                self.group::<S, V, 12>(simd, weights, column, row);
                row += 12;
            }
        }
        while rows - row >= 12 {
            self.group::<S, V, 6>(simd, weights, column, row);
            row += 6;
        }
        // What is left goes in two halves: a group of one or two rows would leave half of the arithmetic units waiting.
        if rows - row > 6 {
            let half = (rows - row).div_ceil(2);
            self.few::<S, V>(simd, weights, column, row..row + half);
            row += half;
        }
        self.few::<S, V>(simd, weights, column, row..rows);
    }

    /// At most six rows.
    #[inline(always)]
    fn few<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        weights: &[f32],
        column: usize,
        rows: Range<usize>,
    ) {
        let row = rows.start;
        match rows.len() {
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

    /// A column that stands alone, as scalar products of two vectors' running sums.
    #[inline(always)]
    fn column<S: Simd>(&mut self, simd: S, weights: &[f32], column: usize) {
        let inputs = weights.len();
        let bias = self.layer.bias.get()[column];
        let (w, w_rest) = S::as_simd_f32s(weights);
        for (i, &row) in self.rows.iter().enumerate() {
            let x = &self.input[row as usize * self.input_stride..][..inputs];
            let (x, x_rest) = S::as_simd_f32s(x);
            let mut sum = [simd.splat_f32s(0.0); 2];
            let pairs = x.as_chunks::<2>().0.iter().zip(w.as_chunks::<2>().0);
            for (x, w) in pairs {
                sum[0] = simd.mul_add_e_f32s(x[0], w[0], sum[0]);
                sum[1] = simd.mul_add_e_f32s(x[1], w[1], sum[1]);
            }
            if x.len() % 2 == 1 {
                let last = x.len() - 1;
                sum[0] = simd.mul_add_e_f32s(x[last], w[last], sum[0]);
            }
            let mut y = simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1])) + bias;
            for (x, w) in x_rest.iter().zip(w_rest) {
                y += x * w;
            }
            let out = &mut self.output[i * self.layer.stride + column];
            *out = match self.finish {
                Finish::Store => y,
                Finish::Gelu => crate::model::ops::math::gelu(y),
                Finish::Add => *out + y,
            };
        }
    }
}

/// Whether a group may have 12 rows: their sums need 24 registers of 32, those of 6 rows 12 of 16; the others hold the
/// panel's vectors. In tests 16 numbers are enough, so that such groups run on processors without 32 registers.
#[inline(always)]
fn takes_twelve_rows<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 || (cfg!(test) && S::F32_LANES == 16)
}

/// Inputs that are taken in one step: one check of bounds a row and step.
const STEP: usize = 4;

/// Sums over the inputs of M rows times a panel of V vectors, each sum in the order of the inputs.
#[inline(always)]
fn sums<S: Simd, const V: usize, const M: usize>(
    simd: S,
    x: [&[f32]; M],
    weights: &[f32],
) -> [[S::f32s; V]; M] {
    let (vectors, _) = S::as_simd_f32s(weights);
    let (inputs, _) = vectors.as_chunks::<V>();
    let (steps, rest) = inputs.as_chunks::<STEP>();
    let x_steps = x.map(|row| row.as_chunks::<STEP>().0);
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    for (i, w) in steps.iter().enumerate() {
        let x = x_steps.map(|row| &row[i]);
        for s in 0..STEP {
            for m in 0..M {
                let x = simd.splat_f32s(x[m][s]);
                for v in 0..V {
                    sums[m][v] = simd.mul_add_e_f32s(x, w[s][v], sums[m][v]);
                }
            }
        }
    }
    let done = steps.len() * STEP;
    for (i, w) in rest.iter().enumerate() {
        for m in 0..M {
            let x = simd.splat_f32s(x[m][done + i]);
            for v in 0..V {
                sums[m][v] = simd.mul_add_e_f32s(x, w[v], sums[m][v]);
            }
        }
    }
    sums
}
