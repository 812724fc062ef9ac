//! A loaded bundle that scores canonical batches: what stream, HTTP and the verbs use.

use super::bundle;
use super::error::ArtifactError;
use super::manifest::Manifest;
use crate::features::Records;
use crate::schema::Schema;
use crate::score::{AlertBudget, Reason, ScoreError, Scorer, Scores};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use std::path::Path;
use std::time::UNIX_EPOCH;

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
    /// [`ArtifactError`]: what is off, exactly.
    pub fn load(dir: &Path) -> Result<Self, ArtifactError> {
        let (manifest, scorer) = bundle::load(dir)?;
        // The file's own time: run.json is outside the digests and may have been edited.
        let written = std::fs::metadata(dir.join(bundle::MANIFEST)).and_then(|m| m.modified());
        let since = written
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created_at_unix_s = since.map_or(0, |age| age.as_secs());
        Ok(Self {
            manifest,
            scorer,
            created_at_unix_s,
        })
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

    /// When the bundle was written, seconds since 1970; 0 if the file system does not say.
    pub fn created_at_unix_s(&self) -> u64 {
        self.created_at_unix_s
    }

    /// The scorer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Calibration rows: the smallest p-value is 1 / (n + 1).
    pub fn calibration_rows(&self) -> usize {
        self.scorer.conformal().len()
    }

    /// Whether the bundle can ever flag a record under this budget.
    pub fn attains(&self, budget: AlertBudget) -> bool {
        budget.is_attainable(self.calibration_rows())
    }

    /// Scores every row of a canonical batch; bad rows must have been taken out.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn score(&self, batch: &RecordBatch) -> Result<Scores, ScoreError> {
        self.scorer.score(&self.encode(batch)?)
    }

    /// The most unusual fields of the given rows of a canonical batch, at most `reasons_max` each.
    ///
    /// # Errors
    /// [`ScoreError`] if the batch is not canonical.
    pub fn explain(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        reasons_max: usize,
    ) -> Result<Vec<Vec<Reason>>, ScoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let rows = UInt32Array::from_iter_values(rows.iter().map(|&row| row as u32));
        let batch = take_record_batch(batch, &rows)
            .map_err(|e| ScoreError::Tensor(candle_core::Error::wrap(e)))?;
        let records = self.encode(&batch)?;
        self.scorer
            .explain(self.schema(), &batch, &records, reasons_max)
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
