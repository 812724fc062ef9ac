//! The scorer: encoded records in, scores and p-values out. Immutable and shared by every thread.

use super::budget::AlertBudget;
use super::calibration::{ReferenceSample, ReferenceTables};
use super::combination::Combination;
use super::conformal::{CalibrationSample, ConformalScores};
use super::rule::ScoreRule;
use super::segment::segment_fields;
use super::segmented::SegmentedScores;
use super::surprise::{SurpriseModel, Surprises};
use super::types::Scores;
use crate::features::Records;
use crate::model::Views;
use crate::model::ops::simd::Instructions;

/// Records whose surprises are held at once while tables or many scores are made: bounds memory to tens of megabytes.
const CHUNK_ROWS: usize = 4096;

/// Why scoring failed.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The tensor library failed: a defect, or memory.
    #[error("the tensor library failed while scoring")]
    Tensor(#[from] candle_core::Error),
    /// A batch is not in canonical form.
    #[error(transparent)]
    Encode(#[from] crate::features::EncodeError),
    /// The calibration part cannot rank anything.
    #[error("calibration: {0}")]
    Calibration(String),
}

/// Model, reference tables and calibration scores.
#[derive(Debug, Clone)]
pub struct Scorer {
    model: SurpriseModel,
    reference: ReferenceTables,
    conformal: ConformalScores,
    /// What p-values are taken from where a budget is held by segment.
    segmented: Option<SegmentedScores>,
}

impl Scorer {
    /// Fits the tables to the reference rows and ranks the calibration rows; the two must be disjoint from each other
    /// and from the rows that trained the model.
    ///
    /// # Errors
    /// [`ScoreError::Calibration`] if there is no calibration row; [`ScoreError::Tensor`].
    pub fn calibrate(
        model: SurpriseModel,
        rule: ScoreRule,
        reference: &Records,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let mut sample = ReferenceSample::new(model.axes(), rule);
        for_chunks(reference, |chunk| {
            sample.observe(&model.surprises(chunk)?);
            Ok(())
        })?;
        Self::ranked(model, sample.fit(), calibration)
    }

    /// The same model and tables under another combination, ranked by other calibration rows. These must be disjoint
    /// from the rows that the combination was chosen by, and from all that trained the model.
    ///
    /// # Errors
    /// [`ScoreError::Calibration`] if there is no calibration row or the combination does not fit;
    /// [`ScoreError::Tensor`].
    pub fn recombined(
        self,
        combination: Combination,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let reference = self.reference.with_combination(combination);
        let reference = reference.map_err(ScoreError::Calibration)?;
        Self::ranked(self.model, reference, calibration)
    }

    fn ranked(
        model: SurpriseModel,
        reference: ReferenceTables,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let mut sample = CalibrationSample::new(&model.encoder().shapes());
        for_chunks(calibration, |chunk| {
            let surprises = model.surprises(chunk)?;
            let scores = (0..chunk.rows()).map(|row| reference.anomaly_score(&surprises, row));
            sample.observe(&scores.collect::<Vec<f32>>(), chunk);
            Ok(())
        })?;
        let conformal = sample.finish().map_err(ScoreError::Calibration)?;
        Ok(Self::from_parts(model, reference, conformal))
    }

    /// The same scorer with p-values relative to presumed normals: the share `contamination` of the calibration rows with
    /// the largest scores ranks nothing.
    pub fn presuming_contamination(self, contamination: f64) -> Self {
        Self {
            conformal: self.conformal.without_largest(contamination),
            ..self
        }
    }

    /// The same scorer with the kernel of the given instructions, for measurements; `views` are the model's own.
    ///
    /// # Errors
    /// If candle fails.
    pub fn with_instructions(
        self,
        views: &Views,
        instructions: Instructions,
    ) -> Result<Self, ScoreError> {
        let model = self.model.with_instructions(views, instructions)?;
        Ok(Self { model, ..self })
    }

    /// The scorer of stored parts; they must belong together.
    pub fn from_parts(
        model: SurpriseModel,
        reference: ReferenceTables,
        conformal: ConformalScores,
    ) -> Self {
        Self {
            model,
            reference,
            conformal,
            segmented: None,
        }
    }

    /// The same scorer with the alert budget held in every segment of the field at `field` of the axis F: p-values are
    /// then those of a record's segment. `None` if the segments by that field are not known.
    pub fn with_budget_by(self, field: usize, budget: AlertBudget) -> Option<Self> {
        let segmented = self.segmented_by(field, budget)?;
        Some(Self {
            segmented: Some(segmented),
            ..self
        })
    }

    /// The calibration scores divided by the field at `field` of the axis F; `None` if the segments by it are not known.
    pub fn segmented_by(&self, field: usize, budget: AlertBudget) -> Option<SegmentedScores> {
        let fields = segment_fields(&self.model.encoder().shapes());
        let field = fields.into_iter().find(|by| by.field() == field)?;
        SegmentedScores::new(&self.conformal, field, budget)
    }

    /// The model with its views.
    pub fn model(&self) -> &SurpriseModel {
        &self.model
    }

    /// The reference tables.
    pub fn reference(&self) -> &ReferenceTables {
        &self.reference
    }

    /// The calibration scores.
    pub fn conformal(&self) -> &ConformalScores {
        &self.conformal
    }

    /// The calibration scores by segment, if a budget is held so.
    pub fn segmented(&self) -> Option<&SegmentedScores> {
        self.segmented.as_ref()
    }

    /// Scores every record.
    ///
    /// # Errors
    /// [`ScoreError::Tensor`].
    pub fn score(&self, records: &Records) -> Result<Scores, ScoreError> {
        let mut scores = Scores::default();
        for_chunks(records, |chunk| {
            let surprises = self.model.surprises(chunk)?;
            for row in 0..chunk.rows() {
                let score = self.reference.anomaly_score(&surprises, row);
                scores.anomaly_score.push(score);
                scores.p_value.push(self.p_value(score, chunk, row));
                scores
                    .field_surprise
                    .extend(self.field_surprises(&surprises, row));
            }
            Ok(())
        })?;
        Ok(scores)
    }

    /// Calls `f` with the surprises of some records after the others, in order.
    pub(super) fn each_surprises(
        &self,
        records: &Records,
        mut f: impl FnMut(&Surprises),
    ) -> Result<(), ScoreError> {
        for_chunks(records, |chunk| {
            f(&self.model.surprises(chunk)?);
            Ok(())
        })
    }

    fn p_value(&self, score: f32, records: &Records, row: usize) -> f64 {
        match &self.segmented {
            Some(segmented) => segmented.p_value(score, records, row),
            None => self.conformal.p_value(score),
        }
    }

    /// The mean surprise of every field of a record under the first reading, `[F]`.
    fn field_surprises(&self, surprises: &Surprises, row: usize) -> impl Iterator<Item = f32> {
        (0..surprises.axes().fields).map(move |field| surprises.field(row, field, 0))
    }
}

fn for_chunks(
    records: &Records,
    mut f: impl FnMut(&Records) -> Result<(), ScoreError>,
) -> Result<(), ScoreError> {
    if records.rows() <= CHUNK_ROWS {
        return if records.rows() == 0 {
            Ok(())
        } else {
            f(records)
        };
    }
    for first in (0..records.rows()).step_by(CHUNK_ROWS) {
        f(&records.select(first..records.rows().min(first + CHUNK_ROWS)))?;
    }
    Ok(())
}
