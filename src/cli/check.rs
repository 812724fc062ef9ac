//! `maskwatch check`: is this configuration one that `serve` would run on? Nothing is bound or connected to.

use super::args::CheckArguments;
use super::budget_by;
use super::report::{budget_line, print};
use super::train_config::load_config;
use crate::artifact::{Detector, MANIFEST, TrainConfig, check_start, check_target};
use crate::config::{Config, TrainSection};
use crate::features::ParquetSource;
use crate::schema::Schema;
use crate::stream::config::{InputConfig, InputFormat};
use crate::stream::decoder::decoders;
use crate::train::dataset::check_roles;
use anyhow::Context;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad configuration or schema (64), a bad bundle or bad training files (65).
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let path = arguments.config.path();
    let config = Config::load(path)?;
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
    if config.model_dir.join(MANIFEST).exists() {
        // All of it, as serve does: a manifest may be sound while the weights beside it are not.
        let detector = Detector::load(&config.model_dir)?;
        let alerts = &config.stream.alerts;
        let detector = budget_by::configured(detector, &config.model_dir, alerts)?;
        decoders(&config.stream.input, detector.schema(), 1)?;
        text += &format!(
            "model: {} in {}\n",
            detector.model_id(),
            config.model_dir.display()
        );
        let budget = config.stream.alerts.budget;
        let warning = if detector.attains(budget) {
            ""
        } else {
            "warning: "
        };
        let line = budget_line(detector.calibration_rows(), budget.share());
        text += &format!("{warning}{line}\n");
        text += &budget_by::table(&detector);
    } else if let Some(section) = &config.train {
        check_training(&config, section)?;
        text += "model: none yet, serve trains one first\n";
    } else {
        text += &format!(
            "warning: no bundle in {} and no [train] section: serve would refuse\n",
            config.model_dir.display()
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
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

fn check_training(config: &Config, section: &TrainSection) -> anyhow::Result<()> {
    let schema = Schema::load(&section.schema)?;
    let training = match &section.config {
        Some(path) => load_config(path)?,
        None => TrainConfig::default(),
    };
    check_roles(&schema, false, training.calibration.split)?;
    if let Some(field) = &config.stream.alerts.budget_by {
        budget_by::check_schema(&config.model_dir, field, &schema)?;
    }
    check_target(&config.model_dir)?;
    if let Some(dir) = &section.from {
        check_start(&Detector::load(dir)?, &training)?;
    }
    decoders(&config.stream.input, &schema, 1)?;
    ParquetSource::open(&section.data)
        .and_then(|source| source.check(&schema))
        .context("train.data")
}
