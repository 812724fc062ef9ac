//! `maskwatch train`: Parquet in, a bundle out.

use super::args::TrainArguments;
use super::budget_by;
use super::exit::Several;
use super::progress::TrainingDisplay;
use super::report::{budget_line, print, warn_if_unattainable};
use super::train_config::load_config;
use crate::artifact::{
    Detector, LearnError, Manifest, Recipe, Run, TrainConfig, check_target, learn,
};
use crate::features::ParquetSource;
use crate::schema::Schema;
use crate::score::{AlertBudget, DEFAULT_ALERT_BUDGET};
use crate::train::dataset::check_roles;
use std::path::Path;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad configuration or schema (64), bad data (65), anything else (1).
pub fn run(arguments: &TrainArguments) -> anyhow::Result<ExitCode> {
    let Inputs {
        schema,
        config,
        source,
    } = Inputs::load(arguments)?;
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &config,
        seed: arguments.seed,
        exclude_labelled: arguments.exclude_labelled,
        out: &arguments.out,
    };
    let (manifest, run) = learn(&recipe, &mut TrainingDisplay::new())?;
    let mut text = summary(&arguments.out, &manifest, &run);
    text += &budget_by::possible(&Detector::load(&arguments.out)?, DEFAULT_ALERT_BUDGET);
    print(&text)?;
    let calibration_rows = manifest.description.rows.calibration as usize;
    warn_if_unattainable(calibration_rows, DEFAULT_ALERT_BUDGET);
    Ok(ExitCode::SUCCESS)
}

/// What a training needs, checked.
struct Inputs {
    schema: Schema,
    config: TrainConfig,
    source: ParquetSource,
}

impl Inputs {
    /// Reads everything that can be judged before the first row, and tells all that is wrong with it
    /// at once.
    fn load(arguments: &TrainArguments) -> anyhow::Result<Self> {
        let mut errors: Vec<anyhow::Error> = Vec::new();
        let schema = kept(Schema::load(&arguments.schema), &mut errors);
        let config = match &arguments.config {
            Some(path) => kept(load_config(path), &mut errors),
            None => Some(TrainConfig::default()),
        };
        kept(check_target(&arguments.out), &mut errors);
        let source = kept(ParquetSource::open(&arguments.data), &mut errors);
        if let Some(schema) = &schema {
            // A configuration that could not be read asks for nothing.
            let split = config
                .as_ref()
                .map(|c| c.calibration.split)
                .unwrap_or_default();
            let roles = check_roles(schema, arguments.exclude_labelled, split);
            kept(roles.map_err(LearnError::from), &mut errors);
        }
        if let (Some(schema), Some(source)) = (&schema, &source) {
            kept(source.check(schema), &mut errors);
        }
        match (schema, config, source) {
            (Some(schema), Some(config), Some(source)) if errors.is_empty() => Ok(Self {
                schema,
                config,
                source,
            }),
            _ => Err(Several::of(errors)),
        }
    }
}

/// The value, or none with its error put to the others.
fn kept<T, E>(result: Result<T, E>, errors: &mut Vec<anyhow::Error>) -> Option<T>
where
    anyhow::Error: From<E>,
{
    result.map_err(|error| errors.push(error.into())).ok()
}

fn summary(out: &Path, manifest: &Manifest, run: &Run) -> String {
    let rows = manifest.description.rows;
    let fit = run.fit;
    let calibration_rows = rows.calibration as usize;
    let mut text = format!(
        "bundle {}  model {}\n\
         rows: {} fit, {} reference, {} calibration, {} left out by label\n\
         {} parameters, {} steps (kept step {}), held-out loss {:.4}\n\
         {:.0} rows/s in training, {:.1} s in all\n\
         p-values: {}\n",
        out.display(),
        manifest.model_id,
        rows.fit,
        rows.reference,
        rows.calibration,
        rows.excluded,
        fit.parameters,
        fit.steps,
        fit.best_step,
        fit.held_out_loss,
        fit.rows as f64 / fit.seconds.max(1e-9),
        run.seconds,
        manifest.description.p_value.sentence(),
    );
    // The other case is a warning.
    let attains = |budget: AlertBudget| budget.is_attainable(calibration_rows);
    if AlertBudget::new(DEFAULT_ALERT_BUDGET).is_ok_and(attains) {
        text.push_str(&budget_line(calibration_rows, DEFAULT_ALERT_BUDGET));
        text.push('\n');
    }
    text
}
