//! From Parquet to a bundle: read, train, calibrate, save. The one place where training and scoring meet.

mod recalibration;
mod tuning;

pub use crate::settings::TrainConfig;
pub use recalibration::{RecalibrateRecipe, recalibrate};
pub use tuning::{TuneFailure, TuneRecipe, TuneRun, tune};

use crate::Detector;
use crate::bundle::{
    self, BundleError, Description, Manifest, PValueMeaning, PartRows, Split, TrainingConfig,
};
use crate::encode::ValueBins;
use crate::model::inputs::takes_noise;
use crate::model::{Architecture, MaskedAutoencoder, ObjectiveKind, Views, ViewsConfig};
use crate::records::ParquetSource;
use crate::rng::{Purpose, stream};
use crate::schema::{Role, Schema};
use crate::score::{Distances, ScoreError, Scorer, SurpriseModel};
use crate::train::dataset::{self, DEFAULT_FIT_BYTES_MAX};
use crate::train::{
    Dataset, DatasetError, DatasetOptions, FitReport, MaskedObjective, TrainError, TrainObserver,
    fit,
};
use crate::transfer::{Side, TransferError, disagreements, transfer};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The seed of a training unless one is given.
pub const DEFAULT_SEED: u64 = 0;

/// Why no bundle could be made.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The training data cannot be read or used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Calibration failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The views cannot be used.
    #[error("views: {0}")]
    Views(String),
    /// Training cannot start from the given bundle.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The tensor library failed.
    #[error("the tensor library failed")]
    Tensor(#[from] candle_core::Error),
}

/// What to train on and where to put the result.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The training files.
    pub source: &'a ParquetSource,
    /// The schema of their records.
    pub schema: &'a Schema,
    /// A configuration without faults.
    pub config: &'a TrainConfig,
    /// The seed of everything.
    pub seed: u64,
    /// Leave out rows labelled 1.
    pub exclude_labelled: bool,
    /// The bundle whose weights are the start of training; nothing else of it is used.
    pub from: Option<&'a Detector>,
    /// The bundle's folder.
    pub out: &'a Path,
}

/// `run.json`: what is worth knowing of a training but part of no digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Seconds since 1970 at the end of training.
    pub created_at_unix_s: u64,
    /// The program's version.
    pub version: String,
    /// The training files.
    pub files: Vec<String>,
    /// Rows left out because they are bad.
    pub bad_rows: u64,
    /// The first of them, with its place and what is wrong with it.
    pub first_bad_row: Option<String>,
    /// How the fit ended.
    pub fit: FitReport,
    /// Wall-clock seconds of the whole: reading, fitting, calibrating.
    pub seconds: f64,
    /// What made the training data worse than it looked, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Makes a bundle.
///
/// # Errors
/// [`LearnError`]; no partial bundle is left behind.
pub fn learn(
    recipe: &Recipe<'_>,
    observer: &mut dyn TrainObserver,
) -> Result<(Manifest, Run), LearnError> {
    let started = Instant::now();
    let seed = recipe.seed;
    check(recipe)?;
    check_context(recipe.schema, recipe.config.training.objective)?;
    let config = &recipe.config.effective();
    let options = DatasetOptions {
        exclude_labelled: recipe.exclude_labelled,
        split: config.calibration.split,
        head_classes_max: config.encoder.head_classes_max,
        fit_bytes_max: DEFAULT_FIT_BYTES_MAX,
        bad_share_max: config.training.skip_bad_rows,
        seed,
    };
    let data = dataset::read(recipe.source, recipe.schema, &options, observer)?;
    if data.calibration.rows() == 0 {
        let detail = "no calibration rows: no row of the training data has a time".to_owned();
        return Err(ScoreError::Calibration(detail).into());
    }
    if let Some(parent) = recipe.from {
        check_parts(parent, recipe, &data)?;
    }
    let encoder = &data.encoder;
    let training = &config.training;
    let model = MaskedAutoencoder::new(&config.model, training.objective, encoder, seed)?;
    let views = match training.objective.hides_fields() {
        true => draw_views(&config.views, &model, training, seed)?,
        false => Views::nothing_hidden(),
    };
    if let Some(parent) = recipe.from {
        observer.stage(&start_from(
            parent,
            Side {
                encoder,
                model: &model,
            },
        )?);
    }
    observer.stage("training the model");
    let mut objective =
        MaskedObjective::new(&model, encoder, &data.fit, &data.reference, training, seed)?;
    let report = fit(&mut objective, training, observer)?;
    // What training left out is as little normal to the distances as to the weights.
    let kept = objective.kept_rows();
    drop(objective);

    observer.stage("calibrating the scores");
    let surprise = SurpriseModel::new(encoder.clone(), model, &views)?;
    let rows = (&data.fit, &kept[..]);
    let distances = Distances::fit(&config.score, &surprise, recipe.schema, rows, seed)?;
    let surprise = surprise.with_distances(&views, distances)?;
    let rule = bundle::rule_of(&config.score, &config.model, &surprise, &views);
    let stages = (&views, config.cascade);
    let scorer = Scorer::calibrate(surprise, rule, stages, &data.reference, &data.calibration)?
        .presuming_contamination(config.calibration.contamination);

    let run = run_of(recipe, &data, report, started);
    let calibration_rows = scorer.conformal().len() as u64;
    let description = describe(recipe, config, &data, views, calibration_rows);
    Ok((bundle::save(recipe.out, description, &scorer, &run)?, run))
}

/// What `run.json` says of a training that began at `started`.
fn run_of(recipe: &Recipe<'_>, data: &Dataset, fit: FitReport, started: Instant) -> Run {
    let files = recipe.source.files().iter();
    Run {
        created_at_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| t.as_secs()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: files.map(|f| f.path().display().to_string()).collect(),
        bad_rows: data.bad_rows.count,
        first_bad_row: data.bad_rows.first.clone(),
        fit,
        seconds: started.elapsed().as_secs_f64(),
        warnings: data.warnings.clone(),
    }
}

/// What can be refused before the first row is read: hours may lie between.
fn check(recipe: &Recipe<'_>) -> Result<(), LearnError> {
    bundle::check_target(recipe.out)?;
    match recipe.from {
        Some(parent) => check_start(parent, recipe.config),
        None => Ok(()),
    }
}

/// Whether a training of this configuration can start from the bundle's weights.
///
/// # Errors
/// [`LearnError::Transfer`] with everything in which they do not agree.
pub fn check_start(parent: &Detector, config: &TrainConfig) -> Result<(), LearnError> {
    let description = &parent.manifest().description;
    let mut faults = disagreements(&description.model, &config.model);
    // What has no rule in `model::transfer` is refused before the first row is read.
    if config.model.architecture != Architecture::Mlp {
        faults.push("model.architecture: only \"mlp\" can start from a bundle".to_owned());
    }
    for objective in [description.training.objective, config.training.objective] {
        if !objective.hides_fields() {
            faults
                .push("experimental.objective: only \"masked\" can start from a bundle".to_owned());
            break;
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let parent = parent.model_id().to_owned();
    Err(TransferError::Disagreement { parent, faults }.into())
}

/// Whether the child's calibration rows are rows that the parent was not fitted to, as far as fingerprints can tell: of
/// the same data both must make the same parts.
fn check_parts(
    parent: &Detector,
    recipe: &Recipe<'_>,
    data: &Dataset,
) -> Result<(), TransferError> {
    let before = &parent.manifest().description;
    if before.data != data.fingerprint {
        return Ok(());
    }
    let mut faults = Vec::new();
    let mut same = |what: &str, now: String, then: String| {
        if now != then {
            faults.push(format!(
                "{what} = {now}: must be {then} on the data of the bundle, whose fit rows would calibrate else"
            ));
        }
    };
    let split = |split: Split| format!("{split:?}").to_lowercase();
    same("--seed", recipe.seed.to_string(), before.seed.to_string());
    same(
        "calibration.split",
        split(recipe.config.calibration.split),
        split(before.calibration.split),
    );
    same(
        "rows left out by label",
        data.excluded_rows.to_string(),
        before.rows.excluded.to_string(),
    );
    match faults.is_empty() {
        true => Ok(()),
        false => Err(TransferError::Disagreement {
            parent: parent.model_id().to_owned(),
            faults,
        }),
    }
}

/// Gives the child the parent's weights; the sentence says what was carried over.
fn start_from(parent: &Detector, child: Side<'_>) -> Result<String, TransferError> {
    let model = parent.scorer().model();
    let side = Side {
        encoder: model.encoder(),
        model: model.model(),
    };
    let transferred = transfer(side, child)?;
    Ok(format!(
        "starting from model {}: {}",
        parent.model_id(),
        transferred.sentence()
    ))
}

/// An objective that hides nothing predicts every field that it sees.
fn check_context(schema: &Schema, objective: ObjectiveKind) -> Result<(), LearnError> {
    let mut fields = schema.features();
    match fields.find(|field| field.role == Role::Context && !objective.hides_fields()) {
        Some(field) => Err(LearnError::Views(format!(
            "field `{}` has the role context: experimental.objective must be \"masked\"",
            field.name
        ))),
        None => Ok(()),
    }
}

fn draw_views(
    config: &ViewsConfig,
    model: &MaskedAutoencoder,
    training: &TrainingConfig,
    seed: u64,
) -> Result<Views, LearnError> {
    let fields = model.shapes().len();
    let predicted: Vec<u32> = model
        .heads()
        .predicted()
        .map(|field| field as u32)
        .collect();
    let mut views = Views::draw(
        config.plan,
        config.effective_ratios(),
        config.effective_rounds(),
        predicted.len(),
        &mut stream(seed, Purpose::Views),
    )
    .of_fields(&predicted);
    // A model that has seen no noise does not know what it is told.
    let numbers = model.heads().weight_of_numbers();
    let is_noised = training.noised_share * numbers > 0.0;
    if model.denoises() && is_noised && config.denoising_level > 0.0 {
        let numbers = predicted.iter().copied();
        let numbers = numbers.filter(|&field| takes_noise(model.shapes()[field as usize]));
        let numbers = numbers.collect();
        views = views.with_denoising(config.denoising_level, numbers);
    }
    match views.fault(fields, &predicted) {
        Some(fault) => Err(LearnError::Views(fault)),
        None => Ok(views),
    }
}

/// `config` is what training made of the recipe's; `calibration_rows` are those whose scores rank others.
fn describe(
    recipe: &Recipe<'_>,
    config: &TrainConfig,
    data: &Dataset,
    views: Views,
    calibration_rows: u64,
) -> Description {
    let presumed_abnormal = data.calibration.rows() as u64 - calibration_rows;
    Description {
        schema: recipe.schema.clone(),
        schema_sha256: recipe.schema.digest(),
        encoder: data.encoder.clone(),
        model: config.model.clone(),
        views_config: config.views.clone(),
        views,
        training: config.training.clone(),
        encoder_config: config.encoder.clone(),
        score: config.score,
        cascade: config.cascade,
        calibration: config.calibration,
        seed: recipe.seed,
        from: recipe.from.map(|parent| parent.model_id().to_owned()),
        p_value: match recipe.exclude_labelled {
            _ if config.calibration.contamination > 0.0 => PValueMeaning::PerPresumedNormalRecord,
            true => PValueMeaning::PerNormalRecord,
            false => PValueMeaning::PerRecordLikeTheTrainingData,
        },
        data: data.fingerprint.clone(),
        rows: PartRows {
            fit: data.fit_rows,
            fit_kept: data.fit.rows() as u64,
            reference: data.reference.rows() as u64,
            calibration: calibration_rows,
            presumed_abnormal,
            excluded: data.excluded_rows,
            bad: data.bad_rows.count,
            unused: data.unused_rows,
        },
        time: data.time.clone(),
        field_tables: ValueBins::new(&data.encoder, recipe.schema).tables(&data.reference),
        tuning: None,
        recalibration: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_contamination_is_the_least_that_is_trimmed() {
        let mut config = TrainConfig::default();
        assert_eq!(config.effective(), config);
        config.calibration.contamination = 0.02;
        let effective = config.effective();
        assert_eq!(effective.training.trim, 0.02);
        assert_eq!(effective.effective(), effective);
        config.training.trim = 0.05;
        assert_eq!(config.effective(), config);
    }
}
