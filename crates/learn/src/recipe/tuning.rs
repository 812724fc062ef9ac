//! From a bundle and labels to a bundle with a second detector that looks for what the labels point at.
//!
//! Model, encoder, views and reference tables are those of the parent; trees or weights are learned from the labelled rows,
//! and the p-values of both detectors rest on calibration rows that nothing was chosen by. The new bundle has a `model_id` of
//! its own, since weights are in its manifest, trees and the calibration in its digests.

use crate::bundle::{self, BundleError, Description, Manifest, PValueMeaning, PartRows, Tuning};
use crate::durable::read_regular;
use crate::records::ParquetSource;
use crate::score::{BudgetShare, ScoreError, Scorer, Supervised, TreeInputs};
use crate::train::TrainObserver;
use crate::tune::{
    BoostingError, CalibrationRows, DEFAULT_LABELLED_VALUES_MAX, Examples, LabelledRows, Learned,
    Trained, TreeExamples, TuneError, TuneSources, label_schema, learn,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of the parent's `run.json` that are read at most: far above what training writes.
const RUN_BYTES_MAX: u64 = 16 << 20;

/// Why no bundle could be tuned.
#[derive(Debug, thiserror::Error)]
pub enum TuneFailure {
    /// The rows cannot be used.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// Trees cannot be grown.
    #[error(transparent)]
    Boosting(#[from] BoostingError),
    /// Scoring failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A bundle cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What to tune, by what, and where to put the result.
#[derive(Debug, Clone, Copy)]
pub struct TuneRecipe<'a> {
    /// The bundle to begin with. If it is tuned itself, what labels made of it is left behind.
    pub model: &'a Path,
    /// Labelled rows.
    pub labelled: &'a ParquetSource,
    /// Rows for the p-values, none of them a labelled or a training row.
    pub calibration: &'a ParquetSource,
    /// The column of the label, unless it is that of the schema.
    pub label: Option<&'a str>,
    /// What the detector that labels make has of the alert budget.
    pub budget_share: BudgetShare,
    /// The seed of folds and samples.
    pub seed: u64,
    /// The new bundle's folder.
    pub out: &'a Path,
}

/// What `run.json` says of a tuning, beside what it says of the training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TuneRun {
    /// The program's version.
    pub version: String,
    /// The labelled files.
    pub labelled_files: Vec<String>,
    /// The calibration files.
    pub calibration_files: Vec<String>,
    /// Wall-clock seconds of the whole.
    pub seconds: f64,
}

/// Makes a tuned bundle.
///
/// # Errors
/// [`TuneFailure`]; no partial bundle is left behind.
pub fn tune(
    recipe: &TuneRecipe<'_>,
    observer: &mut dyn TrainObserver,
) -> Result<(Manifest, TuneRun), TuneFailure> {
    let started = Instant::now();
    bundle::check_target(recipe.out)?;
    let (parent, scorer) = bundle::load(recipe.model)?;
    let schema = label_schema(&parent.description.schema, recipe.label)?;
    let sources = TuneSources {
        schema: &schema,
        labelled: recipe.labelled,
        calibration: recipe.calibration,
        labelled_values_max: DEFAULT_LABELLED_VALUES_MAX,
        seed: recipe.seed,
    };
    sources.check()?;
    let encoder = scorer.model().encoder().clone();
    let components = scorer.reference().components();
    let inputs = TreeInputs::new(&encoder.shapes(), scorer.reference());
    let numbers_of_a_row = components.len() + inputs.len();
    let trained = Trained {
        schema: &parent.description.schema,
        data: &parent.description.data,
        time: parent.description.time.as_ref(),
    };
    observer.stage("reading the labelled rows");
    let labelled =
        sources.read_labelled(&encoder, (components.len(), numbers_of_a_row), trained)?;
    observer.stage("reading the calibration rows");
    let calibration = sources.read_calibration(&encoder, &labelled, trained)?;

    observer.stage("scoring the labelled rows");
    let (values, tree_inputs) = scorer.components_and_inputs(&labelled.records, &inputs)?;
    let (labels, times) = (labelled.labels.clone(), labelled.times.clone());
    let examples = Examples::new(components.len(), &values, labels, times);
    let tree_examples = TreeExamples {
        inputs: tree_inputs,
        columns: inputs.len(),
        rising: inputs.rising(),
    };
    observer.stage("learning from the labels");
    let learned = learn(&components, (&examples, &tree_examples), recipe.seed)?;
    observer.stage("calibrating the scores");
    let detector = learned.detector.clone().map(|of| (of, recipe.budget_share));
    let scorer = scorer.tuned(detector, &calibration.records)?;

    let run = TuneRun {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labelled_files: names(recipe.labelled),
        calibration_files: names(recipe.calibration),
        seconds: started.elapsed().as_secs_f64(),
    };
    let description = describe(recipe, parent, &labelled, &calibration, learned);
    let run_json = run_of(recipe.model, &run);
    let manifest = save(recipe.out, description, &scorer, &run_json)?;
    Ok((manifest, run))
}

fn save(
    out: &Path,
    description: Description,
    scorer: &Scorer,
    run: &Value,
) -> Result<Manifest, TuneFailure> {
    Ok(bundle::save(out, description, scorer, run)?)
}

fn describe(
    recipe: &TuneRecipe<'_>,
    parent: Manifest,
    labelled: &LabelledRows,
    calibration: &CalibrationRows,
    learned: Learned,
) -> Description {
    let tuning = Tuning {
        parent_model_id: parent.model_id,
        combination: match learned.detector {
            Some(Supervised::Combination(combination)) => Some(combination),
            Some(Supervised::Trees(_)) | None => None,
        },
        budget_share: recipe.budget_share.supervised(),
        validation: learned.validation,
        frauds: labelled.counts.frauds,
        normals: labelled.counts.normals,
        unlabelled: labelled.counts.unlabelled,
        kept: labelled.labels.len() as u64,
        labelled_data: labelled.fingerprint.clone(),
        calibration_data: calibration.fingerprint.clone(),
        calibration_excluded: calibration.excluded,
        calibration_shared: calibration.shared,
        seed: recipe.seed,
    };
    Description {
        p_value: match calibration.has_labels {
            true => PValueMeaning::PerNormalRecord,
            false => PValueMeaning::PerRecordLikeTheCalibrationData,
        },
        rows: PartRows {
            calibration: calibration.records.rows() as u64,
            presumed_abnormal: 0,
            ..parent.description.rows
        },
        tuning: Some(tuning),
        recalibration: None,
        ..parent.description
    }
}

/// The paths of the files.
pub(super) fn names(source: &ParquetSource) -> Vec<String> {
    let files = source.files().iter();
    files
        .map(|file| file.path().display().to_string())
        .collect()
}

/// What `run.json` says of a tuning.
fn run_of(model: &Path, run: &TuneRun) -> Value {
    parent_run(
        model,
        "tuning",
        serde_json::to_value(run).unwrap_or_default(),
    )
}

/// The parent's `run.json`, as far as it can be read, with what was made of it beside it under `key`. It is outside of every
/// digest.
pub(super) fn parent_run(model: &Path, key: &str, made: Value) -> Value {
    let bytes = read_regular(&bundle::run_path(model), RUN_BYTES_MAX).ok();
    let parent = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut all = match parent {
        Some(Value::Object(parent)) => parent,
        _ => serde_json::Map::new(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    all.insert("created_at_unix_s".to_owned(), now.into());
    all.insert(key.to_owned(), made);
    Value::Object(all)
}
