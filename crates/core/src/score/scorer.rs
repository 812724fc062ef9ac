//! The scorer: encoded records in, scores and p-values out. Immutable and shared by every thread.

use super::budget::AlertBudget;
use super::calibration::{ReferenceSample, ReferenceTables, field_surprises};
use super::cascade::{Cascade, CascadeConfig, FirstStage};
use super::conformal::{CalibrationSample, ConformalScores};
use super::explanation::Explainer;
use super::joint::{BudgetShare, JointPValue};
use super::labelled::Labelled;
use super::rule::ScoreRule;
use super::segment::segment_fields;
use super::segmented::SegmentedScores;
use super::supervised::{Supervised, TreeInputs};
use super::surprise::{SurpriseModel, Surprises, Tile};
use super::types::{Assessment, Explain, PartPValues, Reason, Scores};
use crate::encode::Records;
use crate::model::Views;
use crate::model::ops::simd::Instructions;
use crate::schema::Schema;
use arrow::array::RecordBatch;

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
    Encode(#[from] crate::encode::EncodeError),
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
    /// The detector that labels made, if they did.
    labelled: Option<Labelled>,
    /// Which records get all views, where not all do. Beside a second detector, which asks for all views of every record, it
    /// is kept and not used.
    cascade: Option<Cascade>,
}

/// What both detectors say of one record.
struct Judged {
    anomaly_score: f32,
    p_value: f64,
    parts: Option<JointPValue>,
    /// Whether the score rests on all views.
    in_full: bool,
}

/// In which views the surprises of fields are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldViews {
    /// In all.
    All,
    /// In those of the first stage, where there are two: as a record is scored in stages.
    First,
}

/// What is said of the records of a tile.
#[derive(Default)]
struct TileAssessment {
    /// `[T]`.
    judged: Vec<Judged>,
    /// `[T, F]`.
    field_surprise: Vec<f32>,
    /// `[T]`; empty where nobody asks for reasons.
    reasons: Vec<Vec<Reason>>,
}

impl Scorer {
    /// Fits the tables and the threshold of the cascade to the reference rows and ranks the calibration rows; the two must be
    /// disjoint from each other and from the rows that trained the model. `views` are the model's own.
    ///
    /// # Errors
    /// [`ScoreError::Calibration`] if there is no calibration row; [`ScoreError::Tensor`].
    pub fn calibrate(
        model: SurpriseModel,
        rule: ScoreRule,
        (views, cascade): (&Views, CascadeConfig),
        reference: &Records,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let first = match cascade.share > 0.0 {
            true => FirstStage::of(&model, views, &rule)?,
            false => None,
        };
        let mut sample = ReferenceSample::new(model.axes(), rule);
        for_chunks(reference, |chunk| {
            sample.observe(&model.surprises(chunk)?);
            Ok(())
        })?;
        let reference = sample.fit();
        let cascade = first.map(|first| first.fit(&reference, &sample, cascade.share));
        Self::ranked((model, reference), cascade, false, calibration)
    }

    /// The same model and tables ranked by other calibration rows, with a second detector beside them if labels made one.
    /// The rows must be disjoint from those that it was made from, and from all that trained the model.
    ///
    /// # Errors
    /// [`ScoreError::Calibration`] if there is no calibration row or the detector does not fit; [`ScoreError::Tensor`].
    pub fn tuned(
        self,
        labelled: Option<(Supervised, BudgetShare)>,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let shapes = self.model.encoder().shapes();
        let parts = (self.model, self.reference);
        let scorer = Self::ranked(parts, self.cascade, labelled.is_some(), calibration)?;
        let Some((detector, share)) = labelled else {
            return Ok(scorer);
        };
        let inputs = TreeInputs::new(&shapes, &scorer.reference);
        if let Some(fault) = detector.fault(&inputs, &scorer.reference) {
            return Err(ScoreError::Calibration(fault));
        }
        let mut sample = CalibrationSample::new(&shapes);
        let mut room = Vec::new();
        for_chunks(calibration, |chunk| {
            let surprises = scorer.model.surprises(chunk)?;
            let of = (&scorer.reference, &surprises);
            let scores = (0..chunk.rows())
                .map(|row| detector.score(&inputs, of, chunk, (row, &mut room)))
                .collect::<Vec<f32>>();
            sample.observe(&scores, chunk);
            Ok(())
        })?;
        let conformal = sample.finish().map_err(ScoreError::Calibration)?;
        let labelled = Labelled {
            detector,
            inputs,
            share,
            conformal,
            segmented: None,
        };
        Ok(scorer.with_labelled(labelled))
    }

    /// The same scorer with a second detector beside its own.
    pub fn with_labelled(self, labelled: Labelled) -> Self {
        Self {
            labelled: Some(labelled),
            ..self
        }
    }

    /// Ranks the calibration rows by the cascade, unless there is none or all views are asked for of every record.
    fn ranked(
        (model, reference): (SurpriseModel, ReferenceTables),
        cascade: Option<Cascade>,
        in_full: bool,
        calibration: &Records,
    ) -> Result<Self, ScoreError> {
        let mut sample = CalibrationSample::new(&model.encoder().shapes());
        for_chunks(calibration, |chunk| {
            let scores = match cascade.as_ref().filter(|_| !in_full) {
                Some(cascade) => {
                    let found = cascade.scores(&model, &reference, chunk, |_, _, _, _| Ok(()))?;
                    found.scores
                }
                None => {
                    let surprises = model.surprises(chunk)?;
                    let rows = 0..chunk.rows();
                    rows.map(|row| reference.anomaly_score(&surprises, row))
                        .collect()
                }
            };
            sample.observe(&scores, chunk);
            Ok(())
        })?;
        let conformal = sample.finish().map_err(ScoreError::Calibration)?;
        Ok(Self::from_parts(model, reference, conformal).with_cascade(cascade))
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
        let cascade = self.cascade.map(|of| of.with_instructions(instructions));
        Ok(Self {
            model,
            cascade: cascade.transpose()?,
            ..self
        })
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
            labelled: None,
            cascade: None,
        }
    }

    /// The same scorer with these two stages, or with all views for every record.
    pub fn with_cascade(self, cascade: Option<Cascade>) -> Self {
        Self { cascade, ..self }
    }

    /// The same scorer with the alert budget held in every segment of the field at `field` of the axis F: p-values are
    /// then those of a record's segment. `None` if the segments by that field are not known.
    pub fn with_budget_by(self, field: usize, budget: AlertBudget) -> Option<Self> {
        let segmented = self.segmented_by(field, budget)?;
        let labelled = match &self.labelled {
            Some(of) => {
                let by = self.divided(&of.conformal, field, budget)?;
                Some(Labelled {
                    segmented: Some(by),
                    ..of.clone()
                })
            }
            None => None,
        };
        Some(Self {
            segmented: Some(segmented),
            labelled,
            ..self
        })
    }

    /// The calibration scores divided by the field at `field` of the axis F; `None` if the segments by it are not known.
    /// Where labels made a second detector, its scores are divided alike.
    pub fn segmented_by(&self, field: usize, budget: AlertBudget) -> Option<SegmentedScores> {
        self.divided(&self.conformal, field, budget)
    }

    /// Calibration rows that a segment needs to rank alone under a budget.
    pub fn segment_rows_needed(&self, budget: AlertBudget) -> usize {
        budget.part(self.least_part()).rows_needed()
    }

    /// What of a budget a detector has at least: all, unless labels made a second one. A segment must reach as little, so
    /// that both detectors rank a record among the same rows.
    fn least_part(&self) -> f64 {
        let share = self.labelled.as_ref().map(Labelled::share);
        share.map_or(1.0, BudgetShare::least)
    }

    fn divided(
        &self,
        scores: &ConformalScores,
        field: usize,
        budget: AlertBudget,
    ) -> Option<SegmentedScores> {
        let fields = segment_fields(&self.model.encoder().shapes());
        let field = fields.into_iter().find(|by| by.field() == field)?;
        SegmentedScores::new(scores, field, budget, self.least_part())
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

    /// The cascade that scores; `None` where every record gets all views.
    pub fn cascade(&self) -> Option<&Cascade> {
        self.cascade.as_ref().filter(|_| self.labelled.is_none())
    }

    /// The threshold that the bundle keeps, whether it is used or not.
    pub fn kept_threshold(&self) -> Option<f32> {
        self.cascade.as_ref().map(Cascade::threshold)
    }

    /// The detector that labels made, if they did.
    pub fn labelled(&self) -> Option<&Labelled> {
        self.labelled.as_ref()
    }

    /// Calibration rows of one detector whose least p-value would be as small as that of this scorer.
    pub fn effective_rows(&self) -> usize {
        self.effective(self.conformal.len())
    }

    /// The same for a part of the calibration rows.
    pub fn effective(&self, rows: usize) -> usize {
        match &self.labelled {
            Some(labelled) => labelled.share.effective_rows(rows),
            None => rows,
        }
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
        let found = match self.cascade() {
            Some(cascade) => self.assess_in_stages(cascade, records, None)?,
            None => self.assess_in_all_views(records, FieldViews::All, None)?,
        };
        Ok(found.scores)
    }

    /// The same scores and p-values, with the surprises of fields taken from all views of every record, which costs as much as
    /// scoring without a cascade.
    ///
    /// # Errors
    /// [`ScoreError::Tensor`].
    pub fn score_with_fields(&self, records: &Records) -> Result<Scores, ScoreError> {
        let found = self.assess_in_all_views(records, FieldViews::All, None)?;
        Ok(found.scores)
    }

    /// The scores of every record, as [`score`](Self::score) gives them, and reasons where they are asked for, in the same pass
    /// of the network. With a cascade a record that was not scored in full gets its views for its reasons alone; where
    /// reasons of all are asked for, all views are the only pass.
    ///
    /// `batch` is the canonical batch that `records` were encoded from, with the same rows; `schema` says which fields
    /// are redacted.
    ///
    /// # Errors
    /// [`ScoreError::Tensor`].
    pub fn assess(
        &self,
        schema: &Schema,
        batch: &RecordBatch,
        records: &Records,
        explain: Explain,
    ) -> Result<Assessment, ScoreError> {
        let explainer = Explainer {
            model: &self.model,
            reference: &self.reference,
            labelled: self.labelled.as_ref(),
            schema,
            batch,
            explain,
        };
        let explainer = Some(&explainer);
        match (self.cascade(), explain) {
            (Some(_), Explain::All { .. }) => {
                self.assess_in_all_views(records, FieldViews::First, explainer)
            }
            (Some(cascade), _) => self.assess_in_stages(cascade, records, explainer),
            (None, _) => self.assess_in_all_views(records, FieldViews::All, explainer),
        }
    }

    fn assess_in_stages(
        &self,
        cascade: &Cascade,
        records: &Records,
        explainer: Option<&Explainer<'_>>,
    ) -> Result<Assessment, ScoreError> {
        let reasons_of = |tile: &mut Tile<'_>, t: usize, row: usize, score: f32| match explainer {
            Some(explainer) => {
                let p_value = self.p_value(score, records, row);
                explainer.reasons(tile, (t, row), p_value, None)
            }
            None => Ok(Vec::new()),
        };
        let found = cascade.scores(&self.model, &self.reference, records, reasons_of)?;
        let p_values = found.scores.iter().enumerate();
        let p_values = p_values.map(|(row, &score)| self.p_value(score, records, row));
        let scores = Scores {
            p_value: p_values.collect(),
            anomaly_score: found.scores,
            field_surprise: found.field_surprise,
            in_full: found.in_full.len(),
            parts: None,
        };
        let mut reasons = vec![Vec::new(); records.rows()];
        let mut is_in_full = vec![false; records.rows()];
        for (row, of_row) in found.in_full {
            (reasons[row], is_in_full[row]) = (of_row, true);
        }
        if let Some(explainer) = explainer {
            let is_left = |&row: &usize| !is_in_full[row] && explainer.asks(scores.p_value[row]);
            let left: Vec<usize> = (0..records.rows()).filter(is_left).collect();
            let of_left = |tile: &mut Tile<'_>, t: usize, row: usize| {
                explainer.reasons(tile, (t, row), scores.p_value[row], None)
            };
            for (row, of_row) in self.each_of(records, &left, of_left)? {
                reasons[row] = of_row;
            }
        }
        Ok(Assessment { scores, reasons })
    }

    /// What `f` makes of the records at `rows` in all views, given the tile and the record's place in it and among `records`.
    fn each_of<T: Send>(
        &self,
        records: &Records,
        rows: &[usize],
        f: impl Fn(&mut Tile<'_>, usize, usize) -> candle_core::Result<T> + Sync + Send,
    ) -> Result<Vec<(usize, T)>, ScoreError> {
        let chosen = records.select(rows.iter().copied());
        let of_tiles = self.model.each_tile(&chosen, |mut tile| {
            let rows = rows[tile.rows.clone()].iter().enumerate();
            rows.map(|(t, &row)| Ok((row, f(&mut tile, t, row)?)))
                .collect()
        })?;
        let of_tiles: Vec<Vec<(usize, T)>> = of_tiles;
        Ok(of_tiles.into_iter().flatten().collect())
    }

    fn assess_in_all_views(
        &self,
        records: &Records,
        fields: FieldViews,
        explainer: Option<&Explainer<'_>>,
    ) -> Result<Assessment, ScoreError> {
        let first = self.cascade().map(Cascade::first);
        let first = first.filter(|_| fields == FieldViews::First);
        let tiles = self.model.each_tile(records, |mut tile| {
            // Tables and trees read a record of the batch and its surprises at one place.
            let own = records.select(tile.rows.clone());
            let mut room = Vec::new();
            let mut found = TileAssessment::default();
            for t in 0..own.rows() {
                let judged = self.judge(&tile.surprises, &own, t, &mut room);
                if let Some(explainer) = explainer {
                    let places = (t, tile.rows.start + t);
                    let parts = judged.parts.map(|parts| (parts, &own));
                    let reasons = explainer.reasons(&mut tile, places, judged.p_value, parts)?;
                    found.reasons.push(reasons);
                }
                found.judged.push(judged);
                match first {
                    Some(first) => {
                        let fields = first.field_surprises_of_all(&tile.surprises, t);
                        found.field_surprise.extend(fields);
                    }
                    None => found
                        .field_surprise
                        .extend(field_surprises(&tile.surprises, t)),
                }
            }
            Ok(found)
        })?;
        Ok(self.joined(tiles))
    }

    /// Tiles one behind the other.
    fn joined(&self, tiles: Vec<TileAssessment>) -> Assessment {
        let share = self.labelled.as_ref().map(Labelled::share);
        let mut all = Assessment::default();
        let scores = &mut all.scores;
        for tile in tiles {
            for judged in tile.judged {
                scores.anomaly_score.push(judged.anomaly_score);
                scores.p_value.push(judged.p_value);
                scores.in_full += usize::from(judged.in_full);
                if let Some((parts, share)) = judged.parts.zip(share) {
                    let of = scores.parts.get_or_insert_with(|| PartPValues::new(share));
                    of.unsupervised.push(parts.unsupervised);
                    of.supervised.push(parts.supervised);
                }
            }
            scores.field_surprise.extend(tile.field_surprise);
            all.reasons.extend(tile.reasons);
        }
        all
    }

    /// The components of every record, `[B, C]` row-major, in the order of [`ReferenceTables::components`], and the inputs of
    /// trees, `[B, K]` row-major.
    ///
    /// # Errors
    /// [`ScoreError::Tensor`].
    pub fn components_and_inputs(
        &self,
        records: &Records,
        layout: &TreeInputs,
    ) -> Result<(Vec<f32>, Vec<f32>), ScoreError> {
        let components = self.reference().components();
        let mut values = Vec::with_capacity(records.rows() * components.len());
        let mut inputs = Vec::with_capacity(records.rows() * layout.len());
        let mut room = Vec::new();
        self.each_surprises(records, |surprises, chunk| {
            for row in 0..surprises.rows() {
                let value = |&c| self.reference().component(c, surprises, row);
                values.extend(components.iter().map(value));
                layout.write((self.reference(), surprises), chunk, row, &mut room);
                inputs.extend_from_slice(&room);
            }
        })?;
        Ok((values, inputs))
    }

    /// Calls `f` with some records and their surprises after the others, in order.
    fn each_surprises(
        &self,
        records: &Records,
        mut f: impl FnMut(&Surprises, &Records),
    ) -> Result<(), ScoreError> {
        for_chunks(records, |chunk| {
            f(&self.model.surprises(chunk)?, chunk);
            Ok(())
        })
    }

    fn judge(
        &self,
        surprises: &Surprises,
        records: &Records,
        row: usize,
        room: &mut Vec<f32>,
    ) -> Judged {
        let (score, in_full) = match self.cascade() {
            Some(cascade) => cascade.score_of_all(&self.reference, surprises, row),
            None => (self.reference.anomaly_score(surprises, row), true),
        };
        let p_value = self.p_value(score, records, row);
        let Some(labelled) = &self.labelled else {
            return Judged {
                anomaly_score: score,
                p_value,
                parts: None,
                in_full,
            };
        };
        let of = (&self.reference, surprises);
        let like_fraud = labelled
            .detector
            .score(&labelled.inputs, of, records, (row, room));
        let supervised = match &labelled.segmented {
            Some(segmented) => segmented.p_value(like_fraud, records, row),
            None => labelled.conformal.p_value(like_fraud),
        };
        let parts = labelled.share.join(p_value, supervised);
        let conformal = (&self.conformal, &labelled.conformal);
        Judged {
            anomaly_score: labelled.share.rank(conformal, (score, like_fraud)),
            p_value: parts.joint,
            parts: Some(parts),
            in_full,
        }
    }

    /// The p-value of a score of the detector that learned without labels.
    fn p_value(&self, score: f32, records: &Records, row: usize) -> f64 {
        match &self.segmented {
            Some(segmented) => segmented.p_value(score, records, row),
            None => self.conformal.p_value(score),
        }
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
