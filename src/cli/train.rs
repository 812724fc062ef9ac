//! `maskwatch train`: Parquet in, a bundle out.

use super::args::TrainArguments;
use super::exit::ConfigFaults;
use super::progress::TrainingDisplay;
use super::report::{budget_line, print};
use crate::artifact::{Manifest, Recipe, Run, TrainConfig, learn};
use crate::features::ParquetSource;
use crate::schema::Schema;
use anyhow::Context;
use std::path::Path;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad configuration or schema (64), bad data (65), anything else (1).
pub fn run(arguments: &TrainArguments) -> anyhow::Result<ExitCode> {
    let schema = Schema::load(&arguments.schema)?;
    let config = match &arguments.config {
        Some(path) => load_config(path)?,
        None => TrainConfig::default(),
    };
    let source = ParquetSource::open(&arguments.data)?;
    source.check(&schema)?;
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &config,
        seed: arguments.seed,
        exclude_labelled: arguments.exclude_labelled,
        out: &arguments.out,
    };
    let (manifest, run) = learn(&recipe, &mut TrainingDisplay::new())?;
    print(&summary(&arguments.out, &manifest, &run))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a training configuration and checks all of it.
///
/// # Errors
/// [`ConfigFaults`] with everything that is wrong.
pub fn load_config(path: &Path) -> anyhow::Result<TrainConfig> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigFaults::new(path, vec![format!("cannot read the file: {e}")]))?;
    let config: TrainConfig = toml::from_str(&text)
        .map_err(|e| ConfigFaults::new(path, vec![e.to_string().trim_end().to_owned()]))?;
    match config.faults() {
        faults if faults.is_empty() => Ok(config),
        faults => Err(ConfigFaults::new(path, faults)).context("training configuration"),
    }
}

fn summary(out: &Path, manifest: &Manifest, run: &Run) -> String {
    let rows = manifest.description.rows;
    let fit = run.fit;
    let calibration_rows = rows.calibration as usize;
    format!(
        "bundle {}  model {}\n\
         rows: {} fit, {} reference, {} calibration, {} left out by label\n\
         {} parameters, {} steps (kept step {}), held-out loss {:.4}\n\
         {:.0} rows/s in training, {:.1} s in all\n\
         p-values: {}\n{}\n",
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
        budget_line(calibration_rows, crate::score::DEFAULT_ALERT_BUDGET),
    )
}
