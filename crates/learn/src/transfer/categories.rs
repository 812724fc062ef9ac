//! A categorical field's embedding: rows matched by value, columns by what they matter.
//!
//! An embedding is as wide as its values are many, so a few values more or less may make it wider or narrower. Where it
//! gets wider, the further columns are fresh, and the input layer does not hear them at first. Where it gets narrower,
//! the columns that add most to the input layer stay: the only part of a transfer that loses something.

use super::weights::{Tensors, Weights};
use crate::encode::ValueEncoder;
use std::ops::Range;

/// How the codes and embedding columns of a child's field follow from the parent's.
#[derive(Debug)]
pub(super) struct CategoryMatch {
    /// The parent's field.
    pub(super) parent: usize,
    /// The parent's code of each code of the child. A value that the parent never saw has the parent's code for such
    /// values: so it is what the parent would have seen, and other fields are predicted as they were.
    codes: Vec<usize>,
    /// The parent's embedding column of each column of the child.
    pub(super) columns: Vec<Option<usize>>,
}

impl CategoryMatch {
    /// The match of the parent's field number `parent`, encoded by `from` and read from rows `rows` of the input layer,
    /// with a child's field that is encoded by `to` and has an embedding of `dim` columns. `None` if they are no
    /// categories.
    ///
    /// # Errors
    /// If the parent has no such parameters.
    pub(super) fn new(
        from: &ValueEncoder,
        to: &ValueEncoder,
        parent: usize,
        rows: &Range<usize>,
        dim: usize,
        tensors: &Tensors,
    ) -> candle_core::Result<Option<Self>> {
        let (ValueEncoder::Categorical(from), ValueEncoder::Categorical(to)) = (from, to) else {
            return Ok(None);
        };
        let code = |code| to.value(code).map_or(0, |value| from.encode(value)) as usize;
        let embedding = tensors.get(&format!("embedding.{parent:04}"))?;
        let first_layer = tensors.get("input.weight")?;
        Ok(Some(Self {
            parent,
            codes: (0..=to.codes()).map(code).collect(),
            columns: matched_columns(embedding, first_layer, rows, dim),
        }))
    }

    /// The child's embedding.
    pub(super) fn embedding(&self, parent: &Weights, fresh: &Weights) -> Vec<f32> {
        let rows = fresh.data.chunks(fresh.columns).zip(&self.codes);
        rows.flat_map(|(fresh, &code)| self.row(parent.row(code), fresh))
            .collect()
    }

    /// The child's value in the place of a hidden one.
    pub(super) fn token(&self, parent: &Weights, fresh: &Weights) -> Vec<f32> {
        self.row(parent.row(0), fresh.row(0)).collect()
    }

    fn row<'r>(&'r self, parent: &'r [f32], fresh: &'r [f32]) -> impl Iterator<Item = f32> + 'r {
        let columns = self.columns.iter().zip(fresh);
        columns.map(|(column, &fresh)| column.map_or(fresh, |column| parent[column]))
    }
}

/// The parent's column of each of the child's `dim` columns, in the parent's order.
fn matched_columns(
    embedding: &Weights,
    first_layer: &Weights,
    rows: &Range<usize>,
    dim: usize,
) -> Vec<Option<usize>> {
    let squares = |numbers: &mut dyn Iterator<Item = f32>| -> f32 { numbers.map(|x| x * x).sum() };
    // The squared Frobenius norm of what the column adds to the input layer over all values.
    let weight = |column: usize| {
        let values = embedding
            .data
            .iter()
            .skip(column)
            .step_by(embedding.columns);
        let read = first_layer.row(rows.start + column).iter();
        squares(&mut values.copied()) * squares(&mut read.copied())
    };
    let weights: Vec<f32> = (0..embedding.columns).map(weight).collect();
    let mut kept: Vec<usize> = (0..embedding.columns).collect();
    kept.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    kept.truncate(dim);
    kept.sort_unstable();
    let kept = kept.into_iter().map(Some);
    kept.chain(std::iter::repeat(None)).take(dim).collect()
}
