//! `maskwatch train`: Parquet in, a bundle out.

use super::args::TrainArguments;
use super::budget_by;
use super::exit::Several;
use super::output::refuse_url;
use super::progress::TrainingDisplay;
use super::report::{budget_line, print, warn_all, warn_if_unattainable};
use super::train_config::load_config;
use crate::Detector;
use crate::bundle::{Manifest, check_target};
use crate::recipe::{LearnError, Recipe, Run, TrainConfig, check_start, learn};
use crate::records::ParquetSource;
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
        from,
    } = Inputs::load(arguments)?;
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &config,
        seed: arguments.seed,
        exclude_labelled: arguments.exclude_labelled,
        from: from.as_ref(),
        out: &arguments.out,
    };
    let mut display = TrainingDisplay::new();
    let learned = learn(&recipe, &mut display);
    let has_warned = display.has_warned();
    drop(display);
    let (manifest, run) = learned?;
    let mut text = summary(&arguments.out, &manifest, &run);
    let detector = Detector::load(&arguments.out)?;
    text += &budget_by::possible(&detector, DEFAULT_ALERT_BUDGET);
    print(&text)?;
    let budget = AlertBudget::new(DEFAULT_ALERT_BUDGET).ok();
    warn_all(&Vec::from_iter(
        budget.and_then(|budget| detector.cascade_warning(budget)),
    ));
    let calibration_rows = manifest.description.rows.calibration as usize;
    if !has_warned {
        warn_if_unattainable(calibration_rows, DEFAULT_ALERT_BUDGET);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a training needs, checked.
struct Inputs {
    schema: Schema,
    config: TrainConfig,
    source: ParquetSource,
    from: Option<Detector>,
}

impl Inputs {
    /// Reads everything that can be judged before the first row, and tells all that is wrong with it
    /// at once.
    fn load(arguments: &TrainArguments) -> anyhow::Result<Self> {
        let mut errors: Vec<anyhow::Error> = Vec::new();
        let TrainArguments {
            schema,
            config,
            out,
            from,
            ..
        } = arguments;
        let places = [Some(schema), config.as_ref(), from.as_ref(), Some(out)];
        let flags = ["--schema", "--config", "--from", "--out"];
        for (place, flag) in places.into_iter().zip(flags) {
            kept(
                place.map_or(Ok(()), |place| refuse_url(place, flag)),
                &mut errors,
            );
        }
        if !errors.is_empty() {
            return Err(Several::of(errors));
        }
        let schema = kept(Schema::load(&arguments.schema), &mut errors);
        let config = match &arguments.config {
            Some(path) => kept(load_config(path), &mut errors),
            None => Some(TrainConfig::default()),
        };
        kept(check_target(&arguments.out), &mut errors);
        let source = kept(ParquetSource::open(&arguments.data), &mut errors);
        let from = arguments.from.as_deref().map(Detector::load);
        let from = from.and_then(|parent| kept(parent, &mut errors));
        if let (Some(parent), Some(config)) = (&from, &config) {
            kept(check_start(parent, config), &mut errors);
        }
        if let Some(schema) = &schema {
            // A configuration that could not be read asks for nothing.
            let split = config
                .as_ref()
                .map(|c| c.calibration.split)
                .unwrap_or_default();
            let roles = check_roles(schema, arguments.exclude_labelled, split);
            kept(roles.map_err(LearnError::from), &mut errors);
        }
        if let (Some(schema), Some(source)) = (&schema, &source)
            && kept(source.check(schema), &mut errors).is_some()
        {
            warn_all(&source.notes(schema));
        }
        match (schema, config, source) {
            (Some(schema), Some(config), Some(source)) if errors.is_empty() => Ok(Self {
                schema,
                config,
                source,
                from,
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

/// What was left out as bad, if anything was.
fn bad_rows(run: &Run) -> String {
    match &run.first_bad_row {
        Some(first) => format!(", {} left out as bad (the first: {first})", run.bad_rows),
        None => String::new(),
    }
}

fn summary(out: &Path, manifest: &Manifest, run: &Run) -> String {
    let rows = manifest.description.rows;
    let fit = run.fit;
    let calibration_rows = rows.calibration as usize;
    let mut text = format!(
        "bundle {}  model {}\n\
         rows: {} fit, {} reference, {} calibration, {} left out by label{}\n\
         {} parameters, {} steps (kept step {}), held-out loss {:.4}\n\
         {:.0} rows/s in training, {:.1} s in all\n\
         p-values: {}\n",
        out.display(),
        manifest.model_id,
        rows.fit,
        rows.reference,
        rows.calibration,
        rows.excluded,
        bad_rows(run),
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
