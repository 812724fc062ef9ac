//! Rows and columns of a child's tensor as weighted sums of the parent's.

use super::weights::Weights;

/// A row or column of the child: weighted rows or columns of the parent, and for a bias a constant.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Mix {
    /// Index in the parent's tensor and weight of each.
    pub(super) terms: Vec<(usize, f32)>,
    /// Added to a bias, never to a weight.
    pub(super) constant: f32,
}

impl Mix {
    /// The parent's `index` as it is.
    pub(super) fn copy(index: usize) -> Self {
        Self::scaled(index, 1.0, 0.0)
    }

    /// `factor` times the parent's `index`, plus `constant`.
    pub(super) fn scaled(index: usize, factor: f32, constant: f32) -> Self {
        Self {
            terms: vec![(index, factor)],
            constant,
        }
    }
}

/// The child's rows; a mix of nothing is a row of zeros.
pub(super) fn mix_rows(parent: &Weights, rows: &[Mix]) -> Vec<f32> {
    let mut data = vec![0f32; rows.len() * parent.columns];
    for (out, mix) in data.chunks_mut(parent.columns.max(1)).zip(rows) {
        for &(row, weight) in &mix.terms {
            let from = parent.row(row).iter();
            out.iter_mut().zip(from).for_each(|(x, w)| *x += weight * w);
        }
    }
    data
}

/// The child's columns; `None` keeps the fresh one. The constants of mixes belong to a bias only.
pub(super) fn mix_columns(
    parent: Option<&Weights>,
    columns: &[Option<Mix>],
    fresh: &Weights,
    bias: bool,
) -> Vec<f32> {
    let mut data = fresh.data.clone();
    let Some(parent) = parent else {
        return data;
    };
    for (row, out) in data.chunks_mut(fresh.columns.max(1)).enumerate() {
        let from = parent.row(row);
        for (x, mix) in out.iter_mut().zip(columns) {
            if let Some(mix) = mix {
                let sum: f32 = mix.terms.iter().map(|&(i, weight)| weight * from[i]).sum();
                *x = sum + if bias { mix.constant } else { 0.0 };
            }
        }
    }
    data
}
