//! `maskwatch demo`: the whole loop on one machine, with no broker installed.
//!
//! It generates payments with planted frauds, trains on the first of them, starts the daemon on librdkafka's in-process
//! broker, sends the payments that follow at a steady rate, reads the scores back, and prints what was caught. All it
//! writes goes into a temporary folder.

use super::daemon::Daemon;
use super::demo_tally::{InFlight, Tally};
use super::exit_service::Panicked;
use super::report::print;
use crate::artifact::{Recipe, TrainConfig, learn};
use crate::config::Config;
use crate::features::ParquetSource;
use crate::generate::{Generator, GeneratorConfig, JsonRows, write_parquet};
use crate::schema::Schema;
use crate::stream::kafka::topics::{TopicReader, TopicWriter};
use crate::stream::properties::Properties;
use crate::stream::shutdown::Shutdown;
use crate::telemetry::logging::{self, LogFormat};
use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds of payments unless told otherwise: enough for a few dozen frauds at the default rate.
pub const DEFAULT_SECONDS: u64 = 30;
/// Payments a second unless told otherwise: what a small bank sees, and one core scores easily.
pub const DEFAULT_RATE: u32 = 500;
/// Payments that the model learns from.
const TRAINING_ROWS: u64 = 60_000;
/// Customers and terminals: few enough for the training payments to span several weeks, so that every hour and weekday
/// that follows was seen.
const CUSTOMERS: usize = 1_000;
const TERMINALS: usize = 500;
/// How long the consumer may take to get its partitions.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Optimiser steps: half the default, so that the demonstration starts within a minute.
const TRAINING_STEPS: usize = 1200;
/// One alert in two hundred: the share of planted frauds.
const BUDGET: f64 = 0.005;
/// Payments under way at most; the in-process broker forgets what is older than 5 MB a partition, some 10,000 payments.
const IN_FLIGHT_MAX: usize = 5_000;
/// How long the last scores are waited for.
const LAST_SCORES: Duration = Duration::from_secs(15);
const INPUT: &str = "payments";
const SCORES: &str = "scores";
const PAYMENTS_SCHEMA: &str = include_str!("../../schemas/payments.toml");

/// Runs the verb.
///
/// # Errors
/// Whatever stops the loop: a full disk, a daemon that ends by itself.
pub fn run(arguments: &super::args::DemoArguments) -> anyhow::Result<ExitCode> {
    logging::init(LogFormat::Human)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut generator = Generator::new(&GeneratorConfig {
        customers: CUSTOMERS,
        terminals: TERMINALS,
        ..GeneratorConfig::default()
    })?;
    let trained = train(&mut generator, folder.path())?;
    print(&format!(
        "trained on {TRAINING_ROWS} payments, no labels, in {trained:.1} s\n"
    ))?;

    let daemon = Daemon::start(configuration(&folder.path().join("model"))?)?;
    print(&format!(
        "serving on the in-process broker {}, metrics on http://{}/metrics\n",
        daemon.bootstrap_servers(),
        daemon.address()
    ))?;
    let begin = Instant::now();
    while !daemon.is_ready() && !daemon.has_ended() && begin.elapsed() < READY_PATIENCE {
        daemon.shutdown().wait(Duration::from_millis(50));
    }
    let in_flight = Arc::new(InFlight::new(IN_FLIGHT_MAX));
    let sending = Sending {
        servers: daemon.bootstrap_servers().to_owned(),
        rate: arguments.rate,
        duration: Duration::from_secs(arguments.seconds),
        shutdown: daemon.shutdown(),
        in_flight: Arc::clone(&in_flight),
    };
    let sender = std::thread::Builder::new()
        .name("payments".to_owned())
        .spawn(move || sending.run(generator))
        .context("cannot start the thread that sends payments")?;
    let tally = collect(&daemon, &in_flight);
    let shutdown = daemon.shutdown();
    shutdown.request();
    let sent = sender.join().map_err(|_| Panicked("the sender"))?;
    daemon.join()?;
    sent?;
    print(&tally?.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Trains on the generator's first payments; returns the seconds that it took.
fn train(generator: &mut Generator, folder: &Path) -> anyhow::Result<f64> {
    let data = folder.join("payments.parquet");
    write_parquet(generator, TRAINING_ROWS, &data, |_| {})?;
    let schema = Schema::parse(PAYMENTS_SCHEMA, "schemas/payments.toml")?;
    let source = ParquetSource::open(&[data.display().to_string()])?;
    let mut config = TrainConfig::default();
    config.training.steps = TRAINING_STEPS;
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &config,
        seed: crate::artifact::DEFAULT_SEED,
        exclude_labelled: false,
        from: None,
        out: &folder.join("model"),
    };
    let (_, run) = learn(&recipe, &mut super::progress::TrainingDisplay::new())?;
    Ok(run.seconds)
}

fn configuration(model: &Path) -> anyhow::Result<Config> {
    let text = format!(
        "[kafka]\nbootstrap_servers = \"embedded\"\ninstance_id = \"demo\"\ninput_topics = [\"{INPUT}\"]\n\
         scores_topic = \"{SCORES}\"\n[alerts]\nbudget = {BUDGET}\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [model]\ndir = {}\n",
        toml::Value::String(model.display().to_string())
    );
    // The environment of whoever tries the demonstration is not meant for it.
    Ok(Config::parse(Path::new("demo"), &text, std::iter::empty())?)
}

/// The thread that plays the bank.
struct Sending {
    servers: String,
    rate: u32,
    duration: Duration,
    shutdown: Shutdown,
    in_flight: Arc<InFlight>,
}

impl Sending {
    fn run(self, mut generator: Generator) -> anyhow::Result<()> {
        let result = self.send_all(&mut generator);
        self.in_flight.end();
        result
    }

    fn send_all(&self, generator: &mut Generator) -> anyhow::Result<()> {
        let mut writer = TopicWriter::new(&self.servers, &Properties::default(), INPUT)?;
        let begin = Instant::now();
        // A tenth of a second's payments at a time, each batch at its due time.
        let per_batch = (self.rate / 10).max(1);
        let interval = Duration::from_secs_f64(f64::from(per_batch) / f64::from(self.rate));
        let mut due = Duration::ZERO;
        let mut json = Vec::new();
        while begin.elapsed() < self.duration && !self.shutdown.is_requested() {
            let batch = generator.next_batch(per_batch as usize)?;
            let rows = JsonRows::new(&batch)?;
            for row in 0..batch.num_rows() {
                json.clear();
                rows.write(row, &mut json)?;
                let (id, scenario) = truth(&batch, row)?;
                self.in_flight.sent(id, scenario);
                writer.write(Some(id.as_bytes()), &json)?;
            }
            writer.flush()?;
            self.in_flight.wait_for_room(&self.shutdown);
            due += interval;
            self.shutdown.wait(due.saturating_sub(begin.elapsed()));
        }
        Ok(())
    }
}

/// The payment's id, and the scenario if it is a planted fraud.
fn truth(batch: &RecordBatch, row: usize) -> anyhow::Result<(&str, Option<&str>)> {
    let text = |name: &str| {
        let column = batch
            .column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>());
        column.with_context(|| format!("generated payments have no text column {name}"))
    };
    let scenarios = text("fraud_scenario")?;
    let scenario = scenarios.is_valid(row).then(|| scenarios.value(row));
    Ok((text("payment_id")?.value(row), scenario))
}

/// Reads scores until every payment has one, or no more come.
fn collect(daemon: &Daemon, in_flight: &InFlight) -> anyhow::Result<Tally> {
    let mut reader = TopicReader::open(daemon.bootstrap_servers(), &Properties::default(), SCORES)?;
    let mut tally = Tally::new();
    let mut last = Instant::now();
    while !in_flight.is_done() && !daemon.has_ended() {
        match reader.read(Duration::from_millis(50))? {
            Some(record) => {
                last = Instant::now();
                if let Some(payload) = record.payload {
                    tally.add(&serde_json::from_slice(&payload)?, in_flight);
                }
            }
            None if in_flight.has_ended() && last.elapsed() > LAST_SCORES => break,
            None => {}
        }
    }
    tally.close(in_flight);
    Ok(tally)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::features::Canonicaliser;

    #[test]
    fn the_shipped_schema_reads_generated_payments_without_a_fault() {
        let batch = Generator::new(&GeneratorConfig::default())
            .unwrap()
            .next_batch(3_000)
            .unwrap();
        let schema = Schema::parse(PAYMENTS_SCHEMA, "payments").unwrap();
        let canonicaliser = Canonicaliser::new(&schema, &batch.schema(), "payments").unwrap();
        let canonical = canonicaliser.canonicalise(&batch).unwrap();
        assert_eq!(canonical.faults, []);
        assert_eq!(
            canonical.batch["is_fraud"].as_boolean(),
            batch["is_fraud"].as_boolean()
        );
    }

    #[test]
    fn the_demonstration_runs_on_a_valid_configuration() {
        let config = configuration(Path::new("a \"quoted\" folder")).unwrap();
        assert!(config.stream.kafka.is_embedded());
        assert_eq!(config.model_dir, Path::new("a \"quoted\" folder"));
    }
}
