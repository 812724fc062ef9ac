//! The input layer: which of its rows read which field, and how a child's rows follow from the parent's.
//!
//! Rows of the input, as the model concatenates it: numbers of all fields, embeddings of all categories, visibility of
//! all fields, and if the model denoises what is told of noise.

use super::Transfer;
use super::fields::Rescale;
use super::mixes::Mix;
use super::weights::Tensors;
use crate::encode::FieldShape;
use crate::model::inputs::input_numbers;
use std::ops::Range;

/// The rows of the input layer that read one field.
#[derive(Debug)]
pub(super) struct InputRows {
    /// Of its input numbers; also their places in the token of numbers.
    numbers: Range<usize>,
    /// Of its embedding.
    pub(super) embedding: Range<usize>,
    /// Of its visibility.
    visible: usize,
}

/// The rows of every field, `[F]`.
///
/// # Errors
/// If a category has no embedding.
pub(super) fn input_rows(
    shapes: &[FieldShape],
    tensors: &Tensors,
) -> candle_core::Result<Vec<InputRows>> {
    let numbers: usize = shapes.iter().map(|&shape| input_numbers(shape)).sum();
    let (mut number, mut embedded) = (0, numbers);
    let mut rows = Vec::with_capacity(shapes.len());
    for (field, &shape) in shapes.iter().enumerate() {
        let dim = match shape {
            FieldShape::Categorical { .. } => {
                tensors.get(&format!("embedding.{field:04}"))?.columns
            }
            _ => 0,
        };
        rows.push(InputRows {
            numbers: number..number + input_numbers(shape),
            embedding: embedded..embedded + dim,
            visible: field,
        });
        number += input_numbers(shape);
        embedded += dim;
    }
    rows.iter_mut().for_each(|row| row.visible += embedded);
    Ok(rows)
}

/// The child's `rows` rows of the input layer; those of a new field or embedding column are mixes of nothing. What reads the
/// noise is carried over as it is: both models denoise, or neither.
///
/// A number that is standardised anew is absorbed exactly where it is not clipped: with `z = ratio * z' + shift`,
/// `z w = z' (ratio w) + (shift w)`, and the second part goes to the row of visibility, since a hidden number adds nothing.
pub(super) fn row_mixes(transfer: &Transfer, rows: usize) -> Vec<Mix> {
    let mut mixes = vec![Mix::default(); rows];
    let behind_fields = |rows: &[InputRows]| rows.iter().map(|row| row.visible + 1).max();
    let parent = behind_fields(&transfer.parent_rows).unwrap_or(0);
    let child = behind_fields(&transfer.child_rows).unwrap_or(0);
    for (mix, from) in mixes[child..].iter_mut().zip(parent..) {
        *mix = Mix::copy(from);
    }
    for (field, matched) in transfer.matches.iter().enumerate() {
        let Some(matched) = matched else { continue };
        let (from, to) = (
            &transfer.parent_rows[matched.parent],
            &transfer.child_rows[field],
        );
        let Rescale { ratio, shift } = matched.rescale;
        // The first is standardised anew, the second is a rank, which means the same.
        for (i, (from, to)) in from.numbers.clone().zip(to.numbers.clone()).enumerate() {
            let ratio = if i == 0 { ratio as f32 } else { 1.0 };
            mixes[to] = Mix::scaled(from, ratio, 0.0);
        }
        mixes[to.visible] = Mix::copy(from.visible);
        if shift != 0.0 {
            let shifted = from
                .numbers
                .clone()
                .take(1)
                .map(|number| (number, shift as f32));
            mixes[to.visible].terms.extend(shifted);
        }
        if let Some(category) = &transfer.categories[field] {
            for (to, column) in to.embedding.clone().zip(&category.columns) {
                if let Some(column) = column {
                    mixes[to] = Mix::copy(from.embedding.start + column);
                }
            }
        }
    }
    mixes
}

/// The child's token of `columns` numbers: what a hidden number adds stays the same, so the token is divided by the
/// ratio that its row of the input layer is multiplied with.
pub(super) fn token_mixes(transfer: &Transfer, columns: usize) -> Vec<Option<Mix>> {
    let mut mixes = vec![None; columns];
    for (field, matched) in transfer.matches.iter().enumerate() {
        let Some(matched) = matched else { continue };
        let from = transfer.parent_rows[matched.parent].numbers.clone();
        let factor = (1.0 / matched.rescale.ratio) as f32;
        for (i, (from, to)) in from
            .zip(transfer.child_rows[field].numbers.clone())
            .enumerate()
        {
            let factor = if i == 0 { factor } else { 1.0 };
            mixes[to] = Some(Mix::scaled(from, factor, 0.0));
        }
    }
    mixes
}

/// What stands in the place of the parent's hidden `field`: row of the input layer and value; nothing under `drop`.
pub(super) fn token<'t>(
    tensors: &'t Tensors,
    rows: &InputRows,
    field: usize,
) -> impl Iterator<Item = (usize, f32)> + 't {
    let numbers = tensors.find("token.numbers");
    let embedding = tensors.find(&format!("token.{field:04}"));
    let of_numbers = numbers.map(|token| {
        rows.numbers
            .clone()
            .zip(token.row(0)[rows.numbers.clone()].iter())
    });
    let of_embedding = embedding.map(|token| rows.embedding.clone().zip(token.row(0).iter()));
    let both = of_numbers.into_iter().flatten();
    both.chain(of_embedding.into_iter().flatten())
        .map(|(row, &value)| (row, value))
}
