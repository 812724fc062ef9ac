//! Boosted trees for labelled rows: how many of them, how good they are on rows that chose nothing, and the final ones.
//!
//! In flow inputs and labels of rows, out flow scores of rows that neither grew the trees nor said how many there should be,
//! and at last trees of all rows.

use super::boosting::{self, BoostingError, Grown};
use crate::rng::{Purpose, stream};
use crate::score::Trees;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::ops::Range;

/// Rows up to which all folds say when growing should end; beyond, one is as telling, and costs a fifth.
const ALL_FOLDS_ROWS_MAX: usize = 5_000;
/// Parts that rows are divided into for that.
const FOLDS: usize = 5;

/// Inputs of the trees for labelled rows. n rows, K inputs.
#[derive(Debug, Clone)]
pub struct TreeExamples {
    /// `[n, K]` row-major; NaN where an input is missing.
    pub inputs: Vec<f32>,
    /// K.
    pub columns: usize,
    /// The inputs in which log-odds may not fall.
    pub rising: Range<usize>,
}

impl TreeExamples {
    /// The trees of some rows.
    ///
    /// # Errors
    /// [`BoostingError`].
    pub fn trees(
        &self,
        labels: &[bool],
        rows: &[usize],
        seed: u64,
    ) -> Result<Trees, BoostingError> {
        let rounds = self.rounds(labels, rows, seed)?;
        let fit = self.select(labels, rows);
        boosting::trees(&fit, rounds, self.rising.clone(), seed)
    }

    /// The log-odds of rows `held` by trees of the rows `fit`.
    ///
    /// # Errors
    /// [`BoostingError`].
    pub fn scores(
        &self,
        labels: &[bool],
        (fit, held): (&[usize], &[usize]),
        seed: u64,
    ) -> Result<Vec<f64>, BoostingError> {
        let trees = self.trees(labels, fit, seed)?;
        let inputs = |row: usize| &self.inputs[row * self.columns..][..self.columns];
        let scores = held
            .iter()
            .map(|&row| f64::from(trees.log_odds(inputs(row))));
        Ok(scores.collect())
    }

    /// How many trees serve rows like these: the mean over parts of them that are held back in turn.
    fn rounds(&self, labels: &[bool], rows: &[usize], seed: u64) -> Result<usize, BoostingError> {
        let fold_of = folds(labels, rows, seed);
        let folds = if rows.len() > ALL_FOLDS_ROWS_MAX {
            1
        } else {
            FOLDS
        };
        let mut sum = 0;
        for fold in 0..folds {
            let part = |is_held: bool| {
                let rows = rows.iter().zip(&fold_of);
                let rows = rows.filter(|(_, of)| (**of == fold) == is_held);
                let rows: Vec<usize> = rows.map(|(&row, _)| row).collect();
                self.select(labels, &rows)
            };
            sum += boosting::rounds(&part(false), &part(true), self.rising.clone(), seed)?;
        }
        Ok(sum.div_ceil(folds))
    }

    fn select(&self, labels: &[bool], rows: &[usize]) -> Grown {
        Grown::select(&self.inputs, self.columns, labels, rows)
    }
}

/// The part of each row, with equal shares of both classes; which of the parts has one more is by chance.
fn folds(labels: &[bool], rows: &[usize], seed: u64) -> Vec<usize> {
    let mut rng = stream(seed, Purpose::TuningRounds);
    let mut fold_of = vec![0; rows.len()];
    for class in [true, false] {
        let places = 0..rows.len();
        let mut places: Vec<usize> = places.filter(|&at| labels[rows[at]] == class).collect();
        places.shuffle(&mut rng);
        let first = rng.random_range(0..FOLDS);
        for (i, at) in places.into_iter().enumerate() {
            fold_of[at] = (first + i) % FOLDS;
        }
    }
    fold_of
}
