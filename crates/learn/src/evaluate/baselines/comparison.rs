//! The baselines' scores of labelled rows, gathered batch by batch, and how well they find what labels mark.

use super::Baselines;
use crate::encode::Records;
use crate::evaluate::error::MetricError;
use crate::evaluate::metrics::{average_precision, roc_auc};
use serde::{Deserialize, Serialize};

/// How well one baseline finds what labels mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineEvaluation {
    /// Of [`Baselines::NAMES`].
    pub name: String,
    /// In 0..=1.
    pub roc_auc: f64,
    /// In 0..=1.
    pub average_precision: f64,
}

/// Gathers the scores of labelled rows under every baseline: 13 bytes a row.
#[derive(Debug)]
pub struct BaselineComparison {
    baselines: Baselines,
    labels: Vec<bool>,
    scores: [Vec<f32>; 3],
}

impl BaselineComparison {
    /// With no row yet.
    pub fn new(baselines: Baselines) -> Self {
        let (labels, scores) = (Vec::new(), Default::default());
        Self {
            baselines,
            labels,
            scores,
        }
    }

    /// Scores a batch; a row whose label is none is left out.
    ///
    /// # Errors
    /// [`MetricError::Length`] where records and labels do not belong together; nothing is added then.
    pub fn push(&mut self, records: &Records, labels: &[Option<bool>]) -> Result<(), MetricError> {
        let (what, found, expected) = ("label", labels.len(), records.rows());
        if found != expected {
            return Err(MetricError::Length {
                what,
                found,
                expected,
            });
        }
        for (all, scores) in self.scores.iter_mut().zip(self.baselines.score(records)) {
            let labelled = scores.into_iter().zip(labels).filter(|row| row.1.is_some());
            all.extend(labelled.map(|row| row.0));
        }
        self.labels.extend(labels.iter().flatten());
        Ok(())
    }

    /// Every method's metrics over the rows so far, in the order of [`Baselines::NAMES`].
    ///
    /// # Errors
    /// Labels of one class.
    pub fn evaluations(&self) -> Result<Vec<BaselineEvaluation>, MetricError> {
        let named = Baselines::NAMES.iter().zip(&self.scores);
        let evaluation = |(name, scores): (&&str, &Vec<f32>)| {
            Ok(BaselineEvaluation {
                name: (*name).to_owned(),
                roc_auc: roc_auc(scores, &self.labels)?,
                average_precision: average_precision(scores, &self.labels)?,
            })
        };
        named.map(evaluation).collect()
    }

    /// Labels and scores of the rows so far, the scores in the order of [`Baselines::NAMES`], `[B]` each.
    pub fn rows(&self) -> (&[bool], &[Vec<f32>; 3]) {
        (&self.labels, &self.scores)
    }
}
