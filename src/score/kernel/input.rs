//! The first two layers, once a record: in flow encoded records, out flow the rows of the residual stream, and what the
//! first block's first layer makes of them.
//!
//! Letters: F fields, D width, V views, U the weight of the block's first layer. The input layer is a sum over fields, and the
//! views of a record differ only in which fields are in it:
//!
//! ```text
//! delta(f) = sum of value_j W_j + W_visible(f) - hidden(f)          what a visible field changes; 0 if it is null
//! h(view)  = b + sum of hidden(f) + sum of delta(f) that is visible                     [D]
//!          = h(nothing hidden) - sum of delta(f) that is hidden
//! ```
//!
//! So is h C U, where C takes the mean off a row, if each W is replaced by W C U when the model is packed: the columns of
//! both stand beside each other and are added up together. The first product of the blocks is then a division,
//!
//! ```text
//! norm(h) U = h C U / deviation(h)
//! ```
//!
//! where hidden(f) is what the stand-in of a hidden field adds, nothing without one. For each view the shorter of the two
//! sums is taken. A hidden value cancels in the second up to rounding: some 1e-7 of the largest partial sum is
//! left, and a test holds what comes of it at the heads to 1e-5.

use super::normalise::centre;
use super::packed::{Aligned, PackedLinear};
use super::product::Finish;
use crate::features::{FieldShape, Records};
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
            FieldShape::Numeric => numbers[0] = records.numbers(row)[self.number],
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
}

/// The packed layer. Its rows hold what is added to h, and after it what is added to h C U.
#[derive(Debug)]
pub(super) struct InputLayer {
    /// `[I, wide]`.
    pub weight: Aligned,
    /// The row of nothing visible, `[wide]`.
    pub nothing: Aligned,
    /// W_visible(f) - hidden(f), `[F, wide]`.
    pub shift: Aligned,
    /// Numbers between two rows of h.
    pub stride: usize,
    /// Numbers of a row: `stride`, and the stride of the block's first layer.
    pub wide: usize,
    pub fields: Vec<FieldInput>,
    pub views: Vec<ViewSum>,
}

/// Rows `[V, wide]` of one record.
pub(super) struct RecordRows<'a> {
    pub layer: &'a InputLayer,
    pub records: &'a Records,
    pub row: usize,
    /// `[F + 1, wide]`: room for the deltas and the row with nothing hidden.
    pub deltas: &'a mut [f32],
    pub output: &'a mut [f32],
}

impl WithSimd for RecordRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let fields = layer.fields.len();
        let (deltas, everything) = self.deltas.split_at_mut(fields * layer.wide);
        let present = self.records.present(self.row);
        everything.copy_from_slice(layer.nothing.get());
        let (everything, _) = S::as_mut_simd_f32s(everything);
        let weight = layer.weight.get();
        let (weight, _) = S::as_simd_f32s(weight);
        let (shift, _) = S::as_simd_f32s(layer.shift.get());
        let (deltas, _) = S::as_mut_simd_f32s(deltas);
        let wide = layer.wide / S::F32_LANES;
        for (f, field) in layer.fields.iter().enumerate() {
            let delta = &mut deltas[f * wide..(f + 1) * wide];
            if !present[f] {
                delta.fill(simd.splat_f32s(0.0));
                continue;
            }
            delta.copy_from_slice(&shift[f * wide..(f + 1) * wide]);
            let mut numbers = [0f32; 4];
            let values = field.values(self.records, self.row, &mut numbers);
            for (j, &value) in values.iter().enumerate() {
                let value = simd.splat_f32s(value);
                let row = &weight[(field.row + j) * wide..][..wide];
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
        for (view, row) in layer.views.iter().zip(output.chunks_exact_mut(wide)) {
            row.copy_from_slice(if view.subtract { everything } else { nothing });
            for &f in &view.fields {
                let delta = &deltas[f as usize * wide..][..wide];
                for (h, &delta) in row.iter_mut().zip(delta) {
                    *h = match view.subtract {
                        true => simd.sub_f32s(*h, delta),
                        false => simd.add_f32s(*h, delta),
                    };
                }
            }
        }
    }
}

/// Rows of [`RecordRows`] parted: h, and what the first layer of the first block makes of it.
pub(super) struct FirstProduct<'a> {
    /// `[n, wide]`.
    pub rows: &'a [f32],
    /// D.
    pub width: usize,
    /// Numbers between two rows of h.
    pub stride: usize,
    /// The block's first layer; only its bias is read.
    pub layer: &'a PackedLinear,
    pub finish: Finish,
    /// `[n, stride]`.
    pub h: &'a mut [f32],
    /// `[n, stride of the layer]`.
    pub inner: &'a mut [f32],
}

impl WithSimd for FirstProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (stride, inner_stride) = (self.stride, self.layer.stride);
        let (bias, _) = S::as_simd_f32s(self.layer.bias.get());
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
                *y = self
                    .finish
                    .of(simd, simd.mul_add_e_f32s(x, factor, bias), *y);
            }
        }
    }
}
