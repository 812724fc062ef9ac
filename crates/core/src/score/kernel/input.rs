//! The input layer and the first product of the blocks, once a record: in flow encoded records, out flow the rows of the
//! residual stream and what the first block's `up` layer makes of them.
//!
//! Letters: F fields, D width, V views, U the weight of that `up` layer, O its outputs. The input layer is a sum over
//! fields, and the views of a record differ only in which fields are in it:
//!
//! ```text
//! delta(f) = sum of value_j W_j + W_visible(f) - hidden(f)          what a visible field changes; 0 if it is null
//! h(view)  = b + sum of hidden(f) + sum of delta(f) that is visible                     [D]
//!          = h(nothing hidden) - sum of delta(f) that is hidden
//! ```
//!
//! where hidden(f) is what the stand-in of a hidden field adds, nothing without one. For each view the shorter of the two
//! sums is taken. A hidden value cancels in the second up to rounding: some 1e-7 of the largest partial sum is
//! left, and a test holds what comes of it at the heads to 1e-5.
//!
//! With C, which takes the mean off a row, h C U is such a sum too. So every term t of it is stored as `[t | t C U]`, and
//! what is left to do for a view is
//!
//! ```text
//! up(norm(h)) = (h C U) / deviation(h) + its bias                                       [O]
//! ```
//!
//! That costs O additions for each field of the shorter sum instead of D O multiplications and additions. These run at a
//! higher rate, so that by estimate it pays with up to some D / 2 fields in the sum.

use super::normalise::centre;
use super::packed::Aligned;
use super::vector::gelu;
use crate::encode::{FieldShape, Records};
use crate::model::inputs::{day_time_numbers, input_numbers};
use pulp::{Simd, WithSimd};

/// Where a field's values come from, and which rows of the weight they are multiplied by.
#[derive(Debug)]
pub(super) struct FieldInput {
    pub shape: FieldShape,
    /// The field's first slot among a record's numbers.
    pub number: usize,
    /// The field's first slot among a record's codes.
    pub code: usize,
    /// The first row of the weight that belongs to its values.
    pub row: usize,
    /// Numbers that a value becomes.
    pub values: usize,
    /// Of a category: the embeddings, `[codes + 1, values]`.
    pub embedding: Vec<f32>,
}

impl FieldInput {
    /// The inputs of a field of the given shape, `values` numbers wide if it is a category.
    pub fn values_of(shape: FieldShape, embedding: usize) -> usize {
        match shape {
            FieldShape::Categorical { .. } => embedding,
            _ => input_numbers(shape),
        }
    }

    /// What a present value becomes; `numbers` is room for four.
    #[inline(always)]
    fn values<'a>(&'a self, records: &Records, row: usize, numbers: &'a mut [f32; 4]) -> &'a [f32] {
        let codes = records.codes(row);
        match self.shape {
            FieldShape::Numeric => {
                numbers[..2].copy_from_slice(&records.numbers(row)[self.number..self.number + 2]);
            }
            FieldShape::Binary => numbers[0] = records.numbers(row)[self.number],
            FieldShape::Boolean => numbers[0] = codes[self.code] as f32 * 2.0 - 1.0,
            FieldShape::Timestamp => {
                let hour = records.numbers(row)[self.number];
                *numbers = day_time_numbers(hour, codes[self.code + 1]);
            }
            FieldShape::Categorical { .. } => {
                let code = codes[self.code] as usize;
                return &self.embedding[code * self.values..][..self.values];
            }
        }
        &numbers[..self.values]
    }
}

/// How the row of one view is made.
#[derive(Debug)]
pub(super) struct ViewSum {
    /// Whether `fields` are the hidden ones, to be taken from the row with nothing hidden.
    pub subtract: bool,
    /// The fields of the shorter sum, ascending.
    pub fields: Vec<u32>,
    /// What is added where the model is told of noise, `[columns]`.
    pub noise: Option<Aligned>,
}

/// The packed layer. Its rows hold what is added to h, and after it what is added to h C U.
#[derive(Debug)]
pub(super) struct InputLayer {
    /// `[I, columns]`.
    pub weight: Aligned,
    /// The row of nothing visible, `[columns]`.
    pub nothing: Aligned,
    /// W_visible(f) - hidden(f), `[F, columns]`.
    pub shift: Aligned,
    /// Columns of h with their padding, a multiple of two vectors.
    pub stride: usize,
    /// Those and the columns of h C U with theirs.
    pub columns: usize,
    pub fields: Vec<FieldInput>,
    pub views: Vec<ViewSum>,
}

/// Columns of a view's row that are summed at a time, in vectors: they stay in registers while the fields pass by.
const COLUMN_VECTORS: usize = 4;

/// Rows `[V, columns]` of one record.
pub(super) struct RecordRows<'a> {
    pub layer: &'a InputLayer,
    pub records: &'a Records,
    pub row: usize,
    /// `[F + 1, columns]`: room for the deltas and the row with nothing hidden.
    pub deltas: &'a mut [f32],
    pub output: &'a mut [f32],
}

impl WithSimd for RecordRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let fields = layer.fields.len();
        let (deltas, everything) = self.deltas.split_at_mut(fields * layer.columns);
        let present = self.records.present(self.row);
        everything.copy_from_slice(layer.nothing.get());
        let (everything, _) = S::as_mut_simd_f32s(everything);
        let weight = layer.weight.get();
        let (weight, _) = S::as_simd_f32s(weight);
        let (shift, _) = S::as_simd_f32s(layer.shift.get());
        let (deltas, _) = S::as_mut_simd_f32s(deltas);
        let vectors = layer.columns / S::F32_LANES;
        for (f, field) in layer.fields.iter().enumerate() {
            let delta = &mut deltas[f * vectors..(f + 1) * vectors];
            if !present[f] {
                delta.fill(simd.splat_f32s(0.0));
                continue;
            }
            delta.copy_from_slice(&shift[f * vectors..(f + 1) * vectors]);
            let mut numbers = [0f32; 4];
            let values = field.values(self.records, self.row, &mut numbers);
            for (j, &value) in values.iter().enumerate() {
                let value = simd.splat_f32s(value);
                let row = &weight[(field.row + j) * vectors..][..vectors];
                for (delta, &w) in delta.iter_mut().zip(row) {
                    *delta = simd.mul_add_e_f32s(value, w, *delta);
                }
            }
            for (sum, &delta) in everything.iter_mut().zip(&*delta) {
                *sum = simd.add_f32s(*sum, delta);
            }
        }
        let (nothing, _) = S::as_simd_f32s(layer.nothing.get());
        let (output, _) = S::as_mut_simd_f32s(self.output);
        for (view, row) in layer.views.iter().zip(output.chunks_exact_mut(vectors)) {
            let start = if view.subtract { &*everything } else { nothing };
            let (chunks, rest) = row.as_chunks_mut::<COLUMN_VECTORS>();
            for (chunk, sums) in chunks.iter_mut().enumerate() {
                sum::<S, COLUMN_VECTORS>(simd, view, (start, deltas), chunk * COLUMN_VECTORS, sums);
            }
            for (i, one) in rest.iter_mut().enumerate() {
                let column = vectors - vectors % COLUMN_VECTORS + i;
                sum::<S, 1>(
                    simd,
                    view,
                    (start, deltas),
                    column,
                    std::array::from_mut(one),
                );
            }
            if let Some(noise) = &view.noise {
                let (noise, _) = S::as_simd_f32s(noise.get());
                for (sum, &added) in row.iter_mut().zip(noise) {
                    *sum = simd.add_f32s(*sum, added);
                }
            }
        }
    }
}

/// N vectors of a view's row, from vector `column` on: those of `start`, and the deltas of the view's fields added or taken
/// away in their order.
#[inline(always)]
fn sum<S: Simd, const N: usize>(
    simd: S,
    view: &ViewSum,
    (start, deltas): (&[S::f32s], &[S::f32s]),
    column: usize,
    sums: &mut [S::f32s; N],
) {
    let vectors = start.len();
    sums.copy_from_slice(&start[column..column + N]);
    for &f in &view.fields {
        let delta = &deltas[f as usize * vectors + column..][..N];
        for (sum, &delta) in sums.iter_mut().zip(delta) {
            *sum = match view.subtract {
                true => simd.sub_f32s(*sum, delta),
                false => simd.add_f32s(*sum, delta),
            };
        }
    }
}

/// Rows of [`RecordRows`] split into h, and the result of the first block's `up` layer and GELU.
pub(super) struct FirstUp<'a> {
    /// `[n, stride + O with its padding]`.
    pub rows: &'a [f32],
    /// D.
    pub width: usize,
    /// Columns of h with their padding.
    pub stride: usize,
    /// Of the `up` layer, `[O with its padding]`.
    pub bias: &'a [f32],
    /// `[n, stride]`.
    pub h: &'a mut [f32],
    /// `[n, O with its padding]`.
    pub inner: &'a mut [f32],
}

impl WithSimd for FirstUp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (stride, inner_stride) = (self.stride, self.bias.len());
        let (bias, _) = S::as_simd_f32s(self.bias);
        let rows = self.rows.chunks_exact(stride + inner_stride);
        let h = self.h.chunks_exact_mut(stride);
        let inner = self.inner.chunks_exact_mut(inner_stride);
        for ((row, h), inner) in rows.zip(h).zip(inner) {
            let (row, product) = row.split_at(stride);
            // The centred row is of no further use.
            let factor = simd.splat_f32s(centre(simd, row, h, self.width));
            h.copy_from_slice(row);
            let (product, _) = S::as_simd_f32s(product);
            let (inner, _) = S::as_mut_simd_f32s(inner);
            for ((y, &x), &bias) in inner.iter_mut().zip(product).zip(bias) {
                *y = gelu(simd, simd.mul_add_e_f32s(x, factor, bias));
            }
        }
    }
}
