//! `maskwatch check`: is this configuration one that `serve` would run on? Nothing is bound or connected to.

use super::args::CheckArguments;
use super::budget_by;
use super::exit::Several;
use super::model_home::ModelHome;
use super::model_start::{Model, load_config, prepare};
use super::report::{budget_line, print};
use crate::Detector;
use crate::config::Config;
use crate::kafka::decoders::decoders;
use crate::kafka::decoders::{InputConfig, InputFormat};
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad configuration or schema, no bundle and no training (64), a bad bundle or bad training files (65): all of them at
/// once.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let path = arguments.config.path();
    let config = load_config(path)?;
    let kafka = &config.stream.kafka;
    let mut text = format!(
        "{}: ok\n\
         kafka: {} as {} ({:?})\n\
         input: {} ({})\n",
        path.display(),
        kafka.bootstrap_servers,
        kafka.transactional_id(),
        config.stream.delivery.mode,
        kafka.input_topics.join(", "),
        format_name(&config.stream.input),
    );
    match prepare(&config.model()).map_err(Several::of)? {
        Model::Bundle(detector) => {
            decoders(&config.stream.input, detector.schema())?;
            text += &of_bundle(&config, &detector);
        }
        Model::Training(training) => {
            decoders(&config.stream.input, &training.schema)?;
            text += "model: none yet, serve trains one first\n";
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn of_bundle(config: &Config, detector: &Detector) -> String {
    let (id, dir) = (detector.model_id(), config.model_dir.display());
    let champion = match ModelHome::at(&config.model_dir).is_folder() {
        true => ", its champion",
        false => "",
    };
    let budget = config.stream.alerts.budget;
    let warning = if detector.attains(budget) {
        ""
    } else {
        "warning: "
    };
    let line = budget_line(detector.calibration_rows(), budget.share());
    let cascade = detector.cascade_warning(budget);
    let cascade = cascade.map_or_else(String::new, |line| format!("warning: {line}\n"));
    format!(
        "model: {id} in {dir}{champion}\n{warning}{line}\n{cascade}{}",
        budget_by::table(detector)
    )
}

fn format_name(input: &InputConfig) -> String {
    let format = match &input.format {
        InputFormat::Json => "JSON",
        InputFormat::AvroRegistry { .. } => "Avro, schemas from a registry",
        InputFormat::AvroFiles(_) => "Avro, schemas from files",
    };
    match input.root.is_top() {
        true => format.to_owned(),
        false => format!("{format}, records at {}", input.root),
    }
}
