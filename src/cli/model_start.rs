//! From a configuration to the model that it names: what `serve` goes on with, and what `check` tells of.
//!
//! In flows what a configuration says of its model, out flows a loaded bundle, or a training that can begin, or every
//! fault of it. Both verbs take this path, so that `check` refuses what `serve` would refuse, in the same words and with
//! the same code. Invariant: nothing is written here but a folder that is removed again.

use super::budget_by;
use super::exit::{ConfigFaults, Several};
use super::model_home::ModelHome;
use super::report::shown_smallest;
use super::train_config;
use crate::Detector;
use crate::bundle::{MANIFEST, check_target};
use crate::config::{Config, ModelSection, TrainSection};
use crate::pipeline::options::AlertsConfig;
use crate::recipe::{TrainConfig, check_start};
use crate::records::ParquetSource;
use crate::schema::Schema;
use crate::toml_file::KeyFault;
use crate::train::dataset::check_roles;
use crate::train::parts::calibration_rows;
use anyhow::Context;
use std::path::Path;

/// What a configuration names as its model.
pub enum Model {
    /// A bundle that is there, with the budget held as configured.
    Bundle(Box<Detector>),
    /// There is none yet; this training makes it.
    Training(Box<Training>),
}

/// A training of which everything that can be checked before it has been.
pub struct Training {
    /// What a record is.
    pub schema: Schema,
    /// How to train.
    pub config: TrainConfig,
    /// The rows.
    pub source: ParquetSource,
    /// The bundle whose weights are the start.
    pub from: Option<Detector>,
    /// The seed of everything random.
    pub seed: u64,
}

/// The checked configuration of a file. Where it has faults, those of its model are told beside them.
///
/// # Errors
/// Every fault of the configuration (64) and of its model (64 or 65).
pub fn load_config(path: &Path) -> anyhow::Result<Config> {
    Config::load(path).map_err(|error| {
        let of_model = error.model().map(prepare);
        let mut errors = vec![error.into()];
        errors.extend(of_model.and_then(Result::err).into_iter().flatten());
        Several::of(errors)
    })
}

/// Loads the bundle that `section` names, or the champion of the folder that it names, or makes ready to train it where there is none.
///
/// # Errors
/// Everything that is wrong with it: no bundle and no training (64), a folder of models without a champion (64), a bundle that does not load (65), a budget that it
/// cannot reach (64), files, schema, configuration or start of a training that are refused.
pub fn prepare(section: &ModelSection) -> Result<Model, Vec<anyhow::Error>> {
    let alerts = section.alerts.as_ref();
    let home = ModelHome::at(&section.dir);
    if home.is_folder() || section.dir.join(MANIFEST).exists() {
        let detector = home.load(alerts).map_err(|error| vec![error])?;
        return Ok(Model::Bundle(Box::new(detector)));
    }
    let Some(train) = &section.train else {
        let found = match std::fs::metadata(&section.dir) {
            Ok(found) if !found.is_dir() => " but something that is no folder",
            _ => "",
        };
        let what = format!("no bundle there{found}, and no [train] section to make one");
        let fault = KeyFault::new("", what);
        return Err(vec![ConfigFaults::new(&section.dir, vec![fault]).into()]);
    };
    Ok(Model::Training(Box::new(training(
        &section.dir,
        train,
        alerts,
    )?)))
}

/// Keeps what is sound and notes what is not, so that all faults are told at once.
#[derive(Default)]
struct Faults(Vec<anyhow::Error>);

impl Faults {
    fn keep<T>(&mut self, found: anyhow::Result<T>) -> Option<T> {
        found.map_err(|error| self.0.push(error)).ok()
    }
}

fn training(
    dir: &Path,
    section: &TrainSection,
    alerts: Option<&AlertsConfig>,
) -> Result<Training, Vec<anyhow::Error>> {
    let mut faults = Faults::default();
    let schema = faults.keep(Schema::load(&section.schema).map_err(Into::into));
    let config = faults.keep(match &section.config {
        Some(path) => train_config::load_config(path).map_err(Into::into),
        None => Ok(TrainConfig::default()),
    });
    let source = faults.keep(ParquetSource::open(&section.data).context("train.data"));
    faults.keep(check_target(dir).map_err(Into::into));
    let from = section.from.as_deref().map(Detector::load).transpose();
    let from = faults.keep(from.context("train.from")).flatten();
    if let (Some(from), Some(config)) = (&from, &config) {
        faults.keep(check_start(from, config).map_err(Into::into));
    }
    if let (Some(schema), Some(config)) = (&schema, &config) {
        faults.keep(check_roles(schema, false, config.calibration.split).map_err(Into::into));
    }
    if let (Some(schema), Some(source)) = (&schema, &source) {
        faults.keep(source.check(schema).context("train.data"));
    }
    if let (Some(schema), Some(field)) = (&schema, alerts.and_then(|a| a.budget_by.as_ref())) {
        faults.keep(budget_by::check_schema(dir, field, schema).map_err(Into::into));
    }
    if let (Some(source), Some(alerts)) = (&source, alerts) {
        faults.keep(check_budget(&section.schema, source, alerts));
    }
    match (schema, config, source) {
        (Some(schema), Some(config), Some(source)) if faults.0.is_empty() => Ok(Training {
            schema,
            config,
            source,
            from,
            seed: section.seed,
        }),
        _ => Err(faults.0),
    }
}

/// A training may take hours: a budget that it cannot reach is refused before it.
fn check_budget(
    schema: &Path,
    source: &ParquetSource,
    alerts: &AlertsConfig,
) -> anyhow::Result<()> {
    let rows = calibration_rows(source.rows());
    let reaches = alerts
        .budget
        .is_attainable(usize::try_from(rows).unwrap_or(usize::MAX));
    if reaches || alerts.allow_unattainable_budget {
        return Ok(());
    }
    let what = format!(
        "could never be reached: {} rows leave {rows} calibration rows, whose smallest p-value is {}; raise the \
         budget, name more data, or set alerts.allow_unattainable_budget = true",
        source.rows(),
        shown_smallest(usize::try_from(rows).unwrap_or(usize::MAX))
    );
    let fault = KeyFault::of_value("alerts.budget", alerts.budget.share(), what);
    Err(ConfigFaults::new(schema, vec![fault]).into())
}
