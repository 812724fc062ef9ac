//! From a bundle and newer rows to a bundle whose p-values rest on these rows: the same model with other calibration rows.
//!
//! Nobody moves a threshold but who asks for it here: one that followed the stream by itself would get used to a wave of
//! frauds. Rows that are labelled 1 rank nothing, and neither do rows that the parent flags, unless they are labelled 0: they
//! are left out and counted, and the promise of the budget is about the other records.

use super::tuning::{TuneFailure, names, parent_run};
use crate::Detector;
use crate::bundle::{
    self, CALIBRATION_ROWS_MAX, Fingerprinter, Manifest, PValueMeaning, PartRows, Recalibration,
};
use crate::encode::Records;
use crate::records::ParquetSource;
use crate::rng::Purpose;
use crate::schema::Schema;
use crate::score::{AlertBudget, ScoreError};
use crate::train::TrainObserver;
use crate::train::dataset::{DatasetError, SelectionSample, TRAIN_ROWS_MIN, sound_batches};
use crate::tune::{TuneError, append, check_moments, label, label_schema, lacking, taken};
use arrow::array::RecordBatch;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Rows that are judged at a time.
const CHUNK_ROWS: usize = 1_024;

/// What to recalibrate, by what, and where to put the result.
#[derive(Debug, Clone, Copy)]
pub struct RecalibrateRecipe<'a> {
    /// The bundle to begin with.
    pub model: &'a Path,
    /// Newer rows, none of which trained the model.
    pub source: &'a ParquetSource,
    /// The column of the label, unless it is that of the schema; files may have none.
    pub label: Option<&'a str>,
    /// What makes a row an alert of the parent; `None` keeps alerts.
    pub leave_out: Option<AlertBudget>,
    /// The seed: which rows are kept where there are more than 100,000.
    pub seed: u64,
    /// The new bundle's folder.
    pub out: &'a Path,
}

/// Makes a bundle with other calibration rows.
///
/// # Errors
/// [`TuneFailure`]; no partial bundle is left behind.
pub fn recalibrate(
    recipe: &RecalibrateRecipe<'_>,
    observer: &mut dyn TrainObserver,
) -> Result<Manifest, TuneFailure> {
    let started = Instant::now();
    bundle::check_target(recipe.out)?;
    let parent = Detector::load(recipe.model)?;
    let schema = schema_of(&parent, recipe)?;
    observer.stage("reading the rows");
    let rows = Rows {
        parent: &parent,
        schema: &schema,
        source: recipe.source,
    };
    let census = rows.count()?;
    let sample = rows.read(&census, recipe.seed)?;
    observer.stage("leaving out alerts");
    let kept = match recipe.leave_out {
        Some(budget) => unflagged(&parent, budget, &sample)?,
        None => (0..sample.records.rows()).collect(),
    };
    let read = sample.records.rows();
    let counts = Counts {
        read: census.rows,
        labelled: census.labelled,
        judged: read as u64,
        alerts: (read - kept.len()) as u64,
    };
    rows.check(&counts, kept.len() as u64)?;
    observer.stage("calibrating the scores");
    let calibration = sample.records.select(kept.iter().copied());
    let (mut manifest, scorer) = bundle::load(recipe.model)?;
    let labelled = scorer.labelled();
    let labelled = labelled.map(|of| (of.detector().clone(), of.share()));
    let scorer = scorer.tuned(labelled, &calibration)?;
    let description = &mut manifest.description;
    description.rows = PartRows {
        calibration: calibration.rows() as u64,
        presumed_abnormal: 0,
        ..description.rows
    };
    description.p_value = PValueMeaning::PerRecordLikeTheRecalibrationData;
    description.recalibration = Some(Recalibration {
        parent_model_id: manifest.model_id,
        data: census.fingerprint,
        labelled: counts.labelled,
        judged: counts.judged,
        alerts: counts.alerts,
        budget: recipe.leave_out.map(AlertBudget::share),
        seed: recipe.seed,
    });
    let run = run_of(recipe, started);
    Ok(bundle::save(
        recipe.out,
        manifest.description,
        &scorer,
        &run,
    )?)
}

/// The bundle's schema, with the label in it where one is named or its own is in the files.
fn schema_of(parent: &Detector, recipe: &RecalibrateRecipe<'_>) -> Result<Schema, TuneError> {
    let own = parent.schema();
    let schema = match recipe.label {
        Some(_) => label_schema(own, recipe.label)?,
        None => own.clone(),
    };
    recipe.source.check(&schema)?;
    let has_label = schema.label().is_some();
    let file = lacking(recipe.source, &schema).filter(|_| has_label);
    let some_have = lacking_all(recipe.source, &schema) == Some(false);
    match file {
        // Files without the schema's own label have no known frauds; a column that is named must be there.
        Some(file) if recipe.label.is_some() || some_have => Err(TuneError::LabelMissing {
            file,
            column: schema
                .label()
                .map_or_else(String::new, |field| field.path.to_string()),
            detail: match some_have {
                true => ", other files have it: known frauds would be left out of some only",
                false => "",
            },
        }),
        _ => Ok(schema),
    }
}

/// Whether no file has the schema's label; `None` of no file with rows.
fn lacking_all(source: &ParquetSource, schema: &Schema) -> Option<bool> {
    let mut files = source
        .files()
        .iter()
        .filter(|file| file.rows() > 0)
        .peekable();
    files.peek()?;
    let holds = crate::tune::holds;
    Some(!files.any(|file| holds(schema, crate::schema::Role::Label, file.schema())))
}

/// The files under a bundle's schema.
struct Rows<'a> {
    parent: &'a Detector,
    schema: &'a Schema,
    source: &'a ParquetSource,
}

/// What a first pass finds.
struct Census {
    rows: u64,
    /// Rows labelled 1.
    labelled: u64,
    fingerprint: bundle::DataFingerprint,
}

/// Rows that are not labelled 1, at most 100,000 of them.
struct Sample {
    records: Records,
    /// Whether each is labelled 0.
    cleared: Vec<bool>,
}

/// What becomes of the rows.
struct Counts {
    read: u64,
    labelled: u64,
    judged: u64,
    alerts: u64,
}

impl Rows<'_> {
    fn count(&self) -> Result<Census, TuneError> {
        let (mut rows, mut labelled) = (0, 0);
        let mut fingerprinter = Fingerprinter::default();
        for batch in sound_batches(self.source, self.schema) {
            let batch = batch?.canonical;
            fingerprinter.observe(&batch);
            rows += batch.num_rows() as u64;
            labelled += (0..batch.num_rows())
                .filter(|&row| self.label(&batch, row) == Some(true))
                .count() as u64;
        }
        let fingerprint = fingerprinter.finish();
        let trained = &self.parent.manifest().description.data;
        if self.is_trained(&fingerprint, trained)? {
            return Err(TuneError::Trained {
                files: self.names(),
                rows: trained.rows,
                sha256: trained.sha256.clone(),
            });
        }
        Ok(Census {
            rows,
            labelled,
            fingerprint,
        })
    }

    /// Whether these are the rows that the model was trained on. Fingerprints are of all columns that are read, so that under
    /// another schema one more pass is needed.
    fn is_trained(
        &self,
        found: &bundle::DataFingerprint,
        trained: &bundle::DataFingerprint,
    ) -> Result<bool, DatasetError> {
        if self.schema == self.parent.schema() || found.rows != trained.rows {
            return Ok(found == trained);
        }
        let mut fingerprinter = Fingerprinter::default();
        for batch in sound_batches(self.source, self.parent.schema()) {
            fingerprinter.observe(&batch?.canonical);
        }
        Ok(fingerprinter.finish() == *trained)
    }

    fn read(&self, census: &Census, seed: u64) -> Result<Sample, TuneError> {
        let unlabelled = census.rows - census.labelled;
        let purpose = Purpose::Recalibration;
        let mut keep = SelectionSample::new(unlabelled, CALIBRATION_ROWS_MAX, seed, purpose);
        let encoder = self.parent.scorer().model().encoder();
        let time = self.parent.manifest().description.time.as_ref();
        let mut sample = Sample {
            records: Records::absent(&encoder.shapes(), 0),
            cleared: Vec::new(),
        };
        for batch in sound_batches(self.source, self.schema) {
            let batch = batch?;
            check_moments(encoder, self.schema, time, self.source, &batch)?;
            let batch = batch.canonical;
            let keeps = |&row: &usize| self.label(&batch, row) != Some(true) && keep.take();
            let rows: Vec<usize> = (0..batch.num_rows()).filter(keeps).collect();
            let cleared = rows
                .iter()
                .map(|&row| self.label(&batch, row) == Some(false));
            sample.cleared.extend(cleared);
            append(
                &mut sample.records,
                &encoder.encode(&taken(&batch, &rows)?)?,
            );
        }
        Ok(sample)
    }

    /// Whether enough is left, as training asks for.
    fn check(&self, counts: &Counts, left: u64) -> Result<(), TuneError> {
        match left >= TRAIN_ROWS_MIN {
            true => Ok(()),
            false => Err(TuneError::TooFewLeft {
                files: self.names(),
                rows: counts.read,
                labelled: counts.labelled,
                alerts: counts.alerts,
                left,
                needed: TRAIN_ROWS_MIN,
            }),
        }
    }

    fn label(&self, batch: &RecordBatch, row: usize) -> Option<bool> {
        label(self.schema, batch, row)
    }

    fn names(&self) -> String {
        names(self.source).join(", ")
    }
}

/// The rows of a sample that the parent does not flag, or that somebody has cleared.
fn unflagged(
    parent: &Detector,
    budget: AlertBudget,
    sample: &Sample,
) -> Result<Vec<usize>, ScoreError> {
    let rows = sample.records.rows();
    let mut kept = Vec::with_capacity(rows);
    for begin in (0..rows).step_by(CHUNK_ROWS) {
        let chunk: Vec<usize> = (begin..rows.min(begin + CHUNK_ROWS)).collect();
        let scores = parent
            .scorer()
            .score(&sample.records.select(chunk.iter().copied()))?;
        let judged = chunk.into_iter().zip(scores.p_value);
        kept.extend(
            judged
                .filter(|&(row, p)| sample.cleared[row] || !budget.is_alert(p))
                .map(|(row, _)| row),
        );
    }
    Ok(kept)
}

/// The parent's `run.json`, as far as it can be read, with the recalibration beside it.
fn run_of(recipe: &RecalibrateRecipe<'_>, started: Instant) -> Value {
    let recalibration = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "files": names(recipe.source),
        "seconds": started.elapsed().as_secs_f64(),
    });
    parent_run(recipe.model, "recalibration", recalibration)
}
