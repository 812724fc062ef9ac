//! A loaded bundle that scores canonical batches: what stream, HTTP and the verbs use.

use crate::bundle::{self, BundleError, Manifest, PartRows};
use crate::encode::{Records, ValueEncoder};
use crate::model::ops::simd::Instructions;
use crate::records::{RowFault, SourceBatch};
use crate::schema::{Field, Schema};
use crate::score::{
    AlertBudget, Assessment, CascadeConfig, Explain, NO_SEGMENT, Promise, REDACTED,
    SEGMENT_VALUES_MAX, ScoreError, Scorer, Scores, SegmentedScores,
};
use arrow::array::RecordBatch;
use std::path::Path;

/// A budget that is to be held by a field whose segments the bundle does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no budget can be held by '{field}': expected a categorical or boolean feature with at most \
     {SEGMENT_VALUES_MAX} values: {}",
    if possible.is_empty() { "the bundle has none".to_owned() } else { possible.join(", ") }
)]
pub struct BudgetByError {
    /// The field asked for.
    pub field: String,
    /// The fields that a budget can be held by, in schema order.
    pub possible: Vec<String>,
}

/// A schema, its encoder and its scorer under one `model_id`. Immutable; share it between threads.
#[derive(Debug)]
pub struct Detector {
    manifest: Manifest,
    scorer: Scorer,
    created_at_unix_s: u64,
}

impl Detector {
    /// Loads a bundle.
    ///
    /// # Errors
    /// [`BundleError`]: what is off, exactly.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let (manifest, scorer) = bundle::load(dir)?;
        Ok(Self {
            manifest,
            scorer,
            created_at_unix_s: bundle::created_at_unix_s(dir),
        })
    }

    /// The same detector scoring with the given instructions: for measurements of one set beside another. AVX2 and AVX-512
    /// give the same scores; of others they differ by rounding.
    ///
    /// # Errors
    /// If the tensor library fails.
    pub fn with_instructions(self, instructions: Instructions) -> Result<Self, ScoreError> {
        let views = &self.manifest.description.views;
        let scorer = self.scorer.with_instructions(views, instructions)?;
        Ok(Self { scorer, ..self })
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The schema of its records.
    pub fn schema(&self) -> &Schema {
        &self.manifest.description.schema
    }

    /// The bundle's `model_id`.
    pub fn model_id(&self) -> &str {
        &self.manifest.model_id
    }

    /// When the bundle was made, seconds since 1970: a copy is as old as what it was copied from. 0 if nothing says.
    pub fn created_at_unix_s(&self) -> u64 {
        self.created_at_unix_s
    }

    /// The scorer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Calibration rows n: the smallest p-value is 1 / (n + 1). Of a tuned bundle, whose two detectors share the budget, as
    /// many as one detector would need for a p-value as small.
    pub fn calibration_rows(&self) -> usize {
        self.scorer.effective_rows()
    }

    /// Whether the bundle can ever flag a record under this budget.
    pub fn attains(&self, budget: AlertBudget) -> bool {
        budget.is_attainable(self.calibration_rows())
    }

    /// What a budget promises of the number of alerts. Where it is held by segment, the smallest part of the calibration rows has
    /// the widest law.
    pub fn promise(&self, budget: AlertBudget) -> Promise {
        let rows = self.sample_rows().into_iter();
        let rows = rows.filter(|&rows| budget.is_attainable(rows)).min();
        Promise::new(budget, rows.unwrap_or(0), self.set_apart())
    }

    /// The share of the data that a promise about normal records leaves out: such records may be alerts beyond the budget.
    pub fn set_apart(&self) -> f64 {
        let description = &self.manifest.description;
        match &description.recalibration {
            Some(recalibration) => recalibration.set_apart(),
            None => set_apart(&description.rows),
        }
    }

    /// The features that an alert budget can be held by, in schema order: none where a share of the calibration rows is
    /// presumed abnormal, since that share is not the same in every segment.
    pub fn budget_fields(&self) -> Vec<&Field> {
        if self.manifest.description.rows.presumed_abnormal > 0 {
            return Vec::new();
        }
        let segments = self.scorer.conformal().segments().iter();
        let at = segments.map(|by| by.field);
        at.filter_map(|at| self.schema().features().nth(at))
            .collect()
    }

    /// The same detector with `budget` held in every segment of `field`: p-values are then those of a record's segment,
    /// in batch, stream and HTTP alike.
    ///
    /// # Errors
    /// [`BudgetByError`] if the field is none of [`budget_fields`](Self::budget_fields).
    pub fn with_budget_by(self, field: &str, budget: AlertBudget) -> Result<Self, BudgetByError> {
        let possible = self.budget_fields().into_iter();
        let error = BudgetByError {
            field: field.to_owned(),
            possible: possible.map(|field| field.name.clone()).collect(),
        };
        let known = self.budget_fields().iter().any(|known| known.name == field);
        let at = self.schema().features().position(|f| f.name == field);
        let at = at.filter(|_| known);
        let Self {
            manifest,
            scorer,
            created_at_unix_s,
        } = self;
        let scorer = at.and_then(|at| scorer.with_budget_by(at, budget));
        Ok(Self {
            manifest,
            scorer: scorer.ok_or(error)?,
            created_at_unix_s,
        })
    }

    /// The name of a segment of the field that the budget is held by: the value as canonical text, `"null or unseen"`
    /// for 0; redacted as the field is.
    pub fn segment_name(&self, segmented: &SegmentedScores, code: u8) -> String {
        let at = segmented.field().field();
        let redacted = self.schema().features().nth(at).is_some_and(|f| f.redact);
        match &self.scorer.model().encoder().fields()[at].value {
            _ if code == NO_SEGMENT => "null or unseen".to_owned(),
            _ if redacted => format!("{REDACTED}{code}"),
            ValueEncoder::Boolean => (code > 1).to_string(),
            ValueEncoder::Categorical(values) => {
                values.value(u32::from(code)).unwrap_or_default().to_owned()
            }
            ValueEncoder::Numeric(_) | ValueEncoder::Binary(_) | ValueEncoder::Timestamp { .. } => {
                String::new()
            }
        }
    }

    /// Which calibration rows each row of a canonical batch ranks among, `[B]`, as a place in
    /// [`sample_rows`](Self::sample_rows).
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn samples(&self, batch: &RecordBatch) -> Result<Vec<usize>, ScoreError> {
        let Some(segmented) = self.scorer.segmented() else {
            return Ok(vec![0; batch.num_rows()]);
        };
        let records = self.encode(batch)?;
        Ok((0..records.rows())
            .map(|row| segmented.sample(&records, row))
            .collect())
    }

    /// How many rows each part of the calibration rows has that records rank among: one part, unless a budget is held by
    /// segment.
    pub fn sample_rows(&self) -> Vec<usize> {
        match self.scorer.segmented() {
            Some(segmented) => {
                let rows = segmented.sample_rows().into_iter();
                rows.map(|rows| self.scorer.effective(rows)).collect()
            }
            None => vec![self.calibration_rows()],
        }
    }

    /// The rows of a canonical batch that no decoder can refuse but this model does: moments more than 20 years away from
    /// every one of its training. Ascending, one fault a row.
    pub fn faults(&self, batch: &RecordBatch) -> Vec<RowFault> {
        let encoder = self.scorer.model().encoder();
        let time = self.manifest.description.time.as_ref();
        encoder.moment_faults(batch, self.schema(), time)
    }

    /// The same rows, with [`faults`](Self::faults) among their faults.
    pub fn screen(&self, mut batch: SourceBatch) -> SourceBatch {
        batch.add_faults(self.faults(&batch.canonical));
        batch
    }

    /// Scores every row of a canonical batch; bad rows must have been taken out.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn score(&self, batch: &RecordBatch) -> Result<Scores, ScoreError> {
        self.scorer.score(&self.encode(batch)?)
    }

    /// The same scores, and the most unusual fields of the records that `explain` asks of. A row is encoded once, and its reasons
    /// are read from the pass of the network that scored it.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScoreError> {
        let records = self.encode(batch)?;
        self.scorer.assess(self.schema(), batch, &records, explain)
    }

    /// The same scores and p-values, with the surprises of fields taken from all views of every record: as dear as scoring
    /// without a cascade.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn score_with_fields(&self, batch: &RecordBatch) -> Result<Scores, ScoreError> {
        self.scorer.score_with_fields(&self.encode(batch)?)
    }

    /// The share of the reference rows that get all views; `None` where every record does.
    pub fn cascade_share(&self) -> Option<f64> {
        self.scorer.cascade()?;
        Some(self.manifest.description.cascade.share)
    }

    /// What to say of an alert budget beyond that share, if it is.
    pub fn cascade_warning(&self, budget: AlertBudget) -> Option<String> {
        let share = self.cascade_share()?;
        CascadeConfig { share }.warning(budget.share())
    }

    /// The latent of every row of a canonical batch, all present fields visible: `[B, E]` row-major.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn embed(&self, batch: &RecordBatch) -> Result<Vec<f32>, ScoreError> {
        Ok(self.scorer.model().latents(&self.encode(batch)?)?)
    }

    /// E: numbers of a latent.
    pub fn latent_width(&self) -> usize {
        self.scorer.model().model().embedding_width()
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Records, ScoreError> {
        Ok(self.scorer.model().encoder().encode(batch)?)
    }
}

fn set_apart(rows: &PartRows) -> f64 {
    let all = rows.fit + rows.reference + rows.calibration + rows.unused + rows.excluded;
    let calibration = rows.calibration.max(1) as f64;
    rows.excluded as f64 / all.max(1) as f64 + rows.presumed_abnormal as f64 / calibration
}
