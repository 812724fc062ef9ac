//! `maskwatch demo`: the whole loop on one machine, with no broker installed.
//!
//! It generates payments with planted frauds, trains on the first of them, starts the daemon on librdkafka's in-process
//! broker, sends the payments that follow at a steady rate, reads the scores back, scores the same payments as a file,
//! and prints what was found. What it makes stays in a folder, to go on with; the log is a file there.

use super::args::{DemoArguments, ScoreArguments};
use super::daemon::Daemon;
use super::demo_tally::{InFlight, Tally, Truth};
use super::exit_service::Panicked;
use super::progress::{RowsDisplay, TrainingDisplay};
use super::report::print;
use super::score::score_file;
use super::train_config::load_config;
use crate::config::Config;
use crate::delivery::shutdown::Shutdown;
use crate::generate::{
    DEFAULT_CUSTOMERS, DEFAULT_ROWS, Generator, GeneratorConfig, JsonRows, Origin, write_parquet,
};
use crate::kafka::properties::Properties;
use crate::kafka::topics::{self, TopicReader, TopicWriter};
use crate::recipe::{DEFAULT_SEED, Recipe, learn};
use crate::records::ParquetSource;
use crate::schema::Schema;
use crate::score::{AlertBudget, Promise};
use crate::telemetry::logging;
use anyhow::{Context, anyhow};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMillisecondType};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds of payments unless told otherwise: enough for a few dozen frauds at the default rate.
pub const DEFAULT_SECONDS: u64 = 30;
/// Payments a second unless told otherwise: what a small bank sees, and one core scores easily.
pub const DEFAULT_RATE: u32 = 500;
/// How long the consumer may take to get its partitions.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// One alert in a hundred: twice the share of planted frauds, so that most of them have room.
const BUDGET: f64 = 0.01;
/// Payments under way at most; the in-process broker forgets what is older than 5 MB a partition, some 10,000 payments.
const IN_FLIGHT_MAX: usize = 5_000;
/// How long the last scores are waited for.
const LAST_SCORES: Duration = Duration::from_secs(15);
const INPUT: &str = "payments";
const SCORES: &str = "scores";
const PAYMENTS_SCHEMA: &str = include_str!("../../schemas/payments.toml");
const PAYMENTS_TRAINING: &str = include_str!("../../config/payments-train.toml");

/// What the demonstration leaves, by name.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn payments(&self) -> PathBuf {
        self.folder.join("payments.parquet")
    }

    fn later(&self) -> PathBuf {
        self.folder.join("later.parquet")
    }

    fn scored(&self) -> PathBuf {
        self.folder.join("scored.parquet")
    }

    fn schema(&self) -> PathBuf {
        self.folder.join("payments.toml")
    }

    fn training(&self) -> PathBuf {
        self.folder.join("train.toml")
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("demo.log")
    }
}

/// Runs the verb.
///
/// # Errors
/// Whatever stops the loop: a full disk, a daemon that ends by itself.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let files = Files {
        folder: arguments.out.clone(),
    };
    std::fs::create_dir_all(&files.folder)
        .with_context(|| format!("{}: cannot make the folder", files.folder.display()))?;
    logging::init_file(&files.log())?;
    let (generator, calibration_rows) = train(arguments, &files)?;
    let tally = stream(arguments, &files, generator, calibration_rows)?;
    let alerts = score_again(arguments, &files, tally.scored())?;
    print(&tally.to_string())?;
    print(&farewell(&files, &tally, alerts))?;
    Ok(ExitCode::SUCCESS)
}

fn world(arguments: &DemoArguments) -> GeneratorConfig {
    GeneratorConfig {
        seed: arguments.seed,
        ..GeneratorConfig::default()
    }
}

/// Makes the first payments and trains on them; returns the generator of those that follow, and the calibration rows.
fn train(arguments: &DemoArguments, files: &Files) -> anyhow::Result<(Generator, usize)> {
    let data = files.payments();
    let mut generator = Generator::new(&world(arguments))?;
    let written = write_parquet(&mut generator, DEFAULT_ROWS, &data, |_| {})?;
    print(&format!(
        "1  made up {} card payments of {DEFAULT_CUSTOMERS} customers, {} of them frauds\n\
         2  training on them without labels; about a minute\n",
        written.rows, written.frauds
    ))?;
    std::fs::write(files.schema(), PAYMENTS_SCHEMA).context("cannot write the schema")?;
    std::fs::write(files.training(), PAYMENTS_TRAINING).context("cannot write train.toml")?;
    let schema = Schema::load(&files.schema())?;
    let source = ParquetSource::open(&[data.display().to_string()])?;
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &load_config(&files.training())?,
        seed: DEFAULT_SEED,
        exclude_labelled: false,
        from: None,
        out: &files.model(),
    };
    let (manifest, run) = learn(&recipe, &mut TrainingDisplay::new())?;
    let rows = manifest.description.rows;
    print(&format!(
        "   trained in {:.0} s; {} other payments say what is unusual\n",
        run.seconds, rows.calibration
    ))?;
    Ok((
        generator,
        (rows.calibration - rows.presumed_abnormal) as usize,
    ))
}

/// Serves the payments that follow, on the in-process broker.
fn stream(
    arguments: &DemoArguments,
    files: &Files,
    generator: Generator,
    calibration_rows: usize,
) -> anyhow::Result<Tally> {
    let daemon = Daemon::start(configuration(&files.model())?)?;
    print(&format!(
        "3  serving on the in-process Kafka broker {}, metrics on http://{}/metrics\n",
        daemon.bootstrap_servers(),
        daemon.address()
    ))?;
    let begin = Instant::now();
    while !daemon.is_ready() && !daemon.has_ended() && begin.elapsed() < READY_PATIENCE {
        daemon.shutdown().wait(Duration::from_millis(50));
    }
    print(&format!(
        "4  sending the payments that come next, {} a second, for {} s\n",
        arguments.rate, arguments.seconds
    ))?;
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
    let budget = AlertBudget::new(BUDGET).map_err(|e| anyhow!(e))?;
    let promise = Promise::new(budget, calibration_rows, 0.0);
    let expected = u64::from(arguments.rate) * arguments.seconds;
    let tally = collect(&daemon, &in_flight, Tally::new(promise), expected);
    let shutdown = daemon.shutdown();
    shutdown.request();
    let sent = sender.join().map_err(|_| Panicked("the sender"))?;
    daemon.join()?;
    sent?;
    tally
}

/// Writes the payments of the stream to a file and scores that; returns its alerts.
fn score_again(arguments: &DemoArguments, files: &Files, rows: u64) -> anyhow::Result<u64> {
    let after = Origin::read(&files.payments())?;
    let mut generator = Generator::new(&world(arguments))?;
    generator.skip(after.payments);
    write_parquet(&mut generator, rows, &files.later(), |_| {})?;
    print("5  scoring the same payments as a file\n")?;
    let scored = score_file(&ScoreArguments {
        model: files.model(),
        data: vec![files.later().display().to_string()],
        out: files.scored(),
        explain: false,
        alert_budget: BUDGET,
        budget_by: None,
        strict: true,
    })?;
    Ok(scored.alerts)
}

/// Where everything is, and what to try next.
fn farewell(files: &Files, tally: &Tally, alerts: u64) -> String {
    let folder = files.folder.display();
    let same = match alerts == tally.alerts() {
        true => "the same alerts as in the stream".to_owned(),
        false => format!("{alerts} alerts, where the stream had {}", tally.alerts()),
    };
    format!(
        "\nIn {folder}\n\n\
         \x20 payments.parquet   what the model learned from      payments.toml   its schema\n\
         \x20 later.parquet      what was streamed                train.toml      how it was trained\n\
         \x20 scored.parquet     that with scores: {same}\n\
         \x20 model              the bundle                       demo.log        what the daemon said\n\n\
         Try next\n\n\
         \x20 maskwatch inspect {folder}/model\n\
         \x20 maskwatch evaluate --model {folder}/model --data {folder}/later.parquet --label is_fraud --by fraud_scenario\n\
         \x20 maskwatch init --data YOUR.parquet --out your.toml      (then train, and serve your topic: see README.md)\n"
    )
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
                let id = text(&batch, "payment_id")?.value(row);
                self.in_flight.sent(id, truth(&batch, row)?);
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

fn text<'a>(batch: &'a RecordBatch, name: &str) -> anyhow::Result<&'a arrow::array::StringArray> {
    let column = batch.column_by_name(name);
    let column = column.and_then(|column| column.as_string_opt::<i32>());
    column.with_context(|| format!("generated payments have no text column {name}"))
}

/// The scenario if it is a planted fraud, and the payment in a few words.
fn truth(batch: &RecordBatch, row: usize) -> anyhow::Result<Truth> {
    let scenarios = text(batch, "fraud_scenario")?;
    if scenarios.is_null(row) {
        return Ok(Truth::default());
    }
    let amounts = batch.column_by_name("amount");
    let amounts = amounts.and_then(|column| column.as_primitive_opt::<Float64Type>());
    let times = batch.column_by_name("time");
    let times = times.and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
    let (Some(amounts), Some(times)) = (amounts, times) else {
        anyhow::bail!("generated payments have no amount or time");
    };
    let at = chrono::DateTime::from_timestamp_millis(times.value(row));
    let at = at.map_or_else(String::new, |at| at.format("%a %H:%M").to_string());
    let word = |name: &str| Ok::<_, anyhow::Error>(text(batch, name)?.value(row).replace('_', " "));
    let words = format!(
        "{:.2} {} on {at}, {}, {}",
        amounts.value(row),
        word("currency")?,
        word("merchant_category")?,
        word("channel")?,
    );
    Ok(Truth {
        scenario: Some(scenarios.value(row).to_owned()),
        words,
    })
}

/// Reads scores until every payment has one, or no more come.
fn collect(
    daemon: &Daemon,
    in_flight: &InFlight,
    mut tally: Tally,
    expected: u64,
) -> anyhow::Result<Tally> {
    let properties = topics::embedded_properties()?;
    let mut reader = TopicReader::open(daemon.bootstrap_servers(), &properties, SCORES)?;
    let mut display = RowsDisplay::new("   scored", expected);
    let mut last = Instant::now();
    while !in_flight.is_done() && !daemon.has_ended() {
        match reader.read(Duration::from_millis(50))? {
            Some(record) => {
                last = Instant::now();
                if let Some(payload) = record.payload {
                    tally.add(&serde_json::from_slice(&payload)?, in_flight);
                    display.at(tally.scored());
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
    use crate::records::Canonicaliser;

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
    fn the_shipped_training_configuration_is_one() {
        let config: crate::recipe::TrainConfig = toml::from_str(PAYMENTS_TRAINING).unwrap();
        assert_eq!(config.faults(), []);
    }

    #[test]
    fn the_demonstration_runs_on_a_valid_configuration() {
        let config = configuration(Path::new("a \"quoted\" folder")).unwrap();
        assert!(config.stream.kafka.is_embedded());
        assert_eq!(config.model_dir, Path::new("a \"quoted\" folder"));
    }
}
