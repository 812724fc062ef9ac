//! The command line: every verb and flag, with its help.
//!
//! In flow the program's arguments, out flow plain structs, one a verb. What can be judged by the
//! flag alone (ranges, moments) is judged here, so that a slip ends with 2 before anything is read.

use super::models_args::ModelsArguments;
use crate::generate::{DEFAULT_CUSTOMERS, DEFAULT_FRAUD_SHARE, DEFAULT_TERMINALS};
use crate::recipe::DEFAULT_SEED;
use crate::schema::moment_from_text;
use crate::score::{AlertBudget, DEFAULT_ALERT_BUDGET, DEFAULT_BUDGET_SHARE};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Learns from Parquet what normal transactions look like, and flags those in Kafka that do not fit.
#[derive(Debug, Parser)]
#[command(
    name = "maskwatch",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 fine, 1 failed, 2 usage, 64 bad configuration or schema, \
                  65 bad data or bundle, 70 internal."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Infers a commented schema file from Parquet files.
    #[command(
        after_help = "Example:\n  maskwatch init --data payments.parquet --label is_fraud --out payments.toml"
    )]
    Init(InitArguments),
    /// Trains a model on Parquet files and writes a bundle.
    #[command(
        after_help = "Example:\n  maskwatch train --data payments.parquet --schema payments.toml --out model"
    )]
    Train(TrainArguments),
    /// Scores Parquet files: all rows and columns, with score, p-value and alert beside them.
    #[command(
        after_help = "Example:\n  maskwatch score --model model --data later.parquet --out scored.parquet --explain"
    )]
    Score(ScoreArguments),
    /// Measures a bundle against labelled Parquet files.
    #[command(
        after_help = "Example:\n  maskwatch evaluate --model model --data later.parquet --label is_fraud"
    )]
    Evaluate(EvaluateArguments),
    /// Adds a detector that learns from few labelled frauds, and writes a new bundle.
    #[command(
        after_help = "Example:\n  maskwatch tune --model model --data labelled.parquet --calibration later.parquet --out tuned"
    )]
    Tune(TuneArguments),
    /// Replaces the calibration rows of a bundle by newer ones, and writes a new bundle.
    #[command(
        after_help = "Example:\n  maskwatch recalibrate --model model --data newer.parquet --out recalibrated"
    )]
    Recalibrate(RecalibrateArguments),
    /// Scores a Kafka stream, exactly once; trains first if there is no bundle yet.
    #[command(after_help = "Example:\n  maskwatch serve --config serve.toml")]
    Serve(ServeArguments),
    /// Validates the configuration of `serve`; binds and connects to nothing.
    #[command(after_help = "Example:\n  maskwatch check serve.toml")]
    Check(CheckArguments),
    /// Shows the whole loop on this machine, without a broker.
    #[command(after_help = "Example:\n  maskwatch demo --seconds 60 --rate 1000")]
    Demo(DemoArguments),
    /// Writes the model's inner vector (latent) of every row of Parquet files.
    #[command(
        after_help = "Example:\n  maskwatch embed --model model --data later.parquet --out latent.parquet"
    )]
    Embed(EmbedArguments),
    /// Makes synthetic card payments with labelled frauds.
    #[command(
        after_help = "Example:\n  maskwatch generate --out later.parquet --rows 20000 --after payments.parquet"
    )]
    Generate(GenerateArguments),
    /// Shows a bundle: what it has learned, and which alert rates it promises.
    #[command(after_help = "Example:\n  maskwatch inspect model")]
    Inspect(InspectArguments),
    /// Keeps a folder of models, and says which of them serves.
    #[command(after_help = "Example:\n  maskwatch models promote models 3f2a91c07d5e8b64")]
    Models(ModelsArguments),
}

/// `maskwatch init`
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Parquet files, folders or glob patterns. A column that a file lacks is null in its rows.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The column that is 1 for fraud, if there is one; the model will not see it.
    #[arg(long)]
    pub label: Option<String>,
    /// The schema file to write. An existing file is not replaced, because it may have been edited.
    #[arg(long)]
    pub out: PathBuf,
}

/// `maskwatch train`
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Parquet files, folders or glob patterns.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The schema file; `maskwatch init` makes one.
    #[arg(long)]
    pub schema: PathBuf,
    /// The bundle's folder. An existing bundle is replaced.
    #[arg(long)]
    pub out: PathBuf,
    /// A training configuration; the defaults suit most data.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The seed of everything random.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// Leave out rows whose label is 1.
    #[arg(long)]
    pub exclude_labelled: bool,
    /// Start training with the weights of this bundle, and take nothing else from it. Fields are
    /// matched by name, categories by value. It may be the folder of `--out`.
    #[arg(long, value_name = "BUNDLE")]
    pub from: Option<PathBuf>,
}

/// `maskwatch score`
#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// The bundle's folder.
    #[arg(long)]
    pub model: PathBuf,
    /// Parquet files, folders or glob patterns. Rows follow each other in the order of the paths. A
    /// column that a file lacks is null in its rows.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The Parquet file to write. An existing file is replaced.
    #[arg(long)]
    pub out: PathBuf,
    /// Add `reasons`: for every scored row at most five fields that stand out, with the expected values.
    /// This takes about twice as long, with a tuned bundle several times.
    #[arg(long)]
    pub explain: bool,
    /// The share of normal records that may be flagged: an alert is a p-value at or below it.
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_ALERT_BUDGET, value_parser = budget_share)]
    pub alert_budget: f64,
    /// Hold the budget in every segment of this field, a categorical or boolean feature. A p-value is
    /// then relative to the calibration rows of the record's own segment.
    #[arg(long, value_name = "FIELD")]
    pub budget_by: Option<String>,
    /// End with 65 if a row could not be scored. The output is still written: its column `error` says
    /// what is wrong with each such row.
    #[arg(long)]
    pub strict: bool,
}

/// `maskwatch evaluate`
#[derive(Debug, Args)]
pub struct EvaluateArguments {
    /// The bundle's folder.
    #[arg(long)]
    pub model: PathBuf,
    /// Parquet files, folders or glob patterns.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The column that is 1 for fraud; rows where it is null are left out.
    #[arg(long)]
    pub label: String,
    /// Report every group of rows with one value of this field, or of this column of the files: alert
    /// rates, precision and recall with intervals, and whether the budget holds in the group.
    #[arg(long, value_name = "FIELD")]
    pub by: Option<String>,
    /// Compute p-values as `score` does with the same flag: relative to the calibration rows of the
    /// record's own segment.
    #[arg(long, value_name = "FIELD")]
    pub budget_by: Option<String>,
    /// One more budget to report. It is also the budget that the segments of --budget-by are made for
    /// [default: 0.001].
    #[arg(long, value_name = "SHARE", value_parser = budget_share)]
    pub alert_budget: Option<f64>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Compare with isolation forest, nearest neighbours and principal components, fitted to these
    /// Parquet files; usually those that the bundle was trained on.
    #[arg(long, num_args = 1..)]
    pub baselines: Vec<String>,
}

/// `maskwatch tune`
#[derive(Debug, Args)]
pub struct TuneArguments {
    /// The folder of the bundle to begin with. It is not changed.
    #[arg(long)]
    pub model: PathBuf,
    /// Labelled Parquet files, folders or glob patterns: at least 10 frauds and 50 normal rows. Rows
    /// without a label are left out.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// Parquet files, folders or glob patterns. p-values will be relative to their rows, and none of
    /// them may be a training row. Rows of --data, and rows labelled 1, are left out.
    #[arg(long, required = true, num_args = 1..)]
    pub calibration: Vec<String>,
    /// The new bundle's folder. An existing bundle is replaced.
    #[arg(long)]
    pub out: PathBuf,
    /// The column that is 1 for fraud [default: that of the bundle's schema].
    #[arg(long)]
    pub label: Option<String>,
    /// The share of the alert budget, above 0 and below 1, for the detector from labels. The rest is for the score
    /// without labels.
    #[arg(long, default_value_t = DEFAULT_BUDGET_SHARE)]
    pub budget_share: f64,
    /// The seed of everything random.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
}

/// `maskwatch recalibrate`
#[derive(Debug, Args)]
pub struct RecalibrateArguments {
    /// The folder of the bundle to begin with. It is not changed.
    #[arg(long)]
    pub model: PathBuf,
    /// Newer Parquet files, folders or glob patterns. p-values will be relative to their rows, and none of
    /// them may be a training row.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The new bundle's folder. An existing bundle is replaced.
    #[arg(long)]
    pub out: PathBuf,
    /// The column that is 1 for fraud: such rows are left out [default: that of the bundle's schema, if the
    /// files have it].
    #[arg(long)]
    pub label: Option<String>,
    /// The budget by which rows are alerts of --model. Alerts are left out, unless their label is 0.
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_ALERT_BUDGET, value_parser = budget_share)]
    pub alert_budget: f64,
    /// Keep alerts too. Only then does the alert rate come back to the budget; a wave of fraud must not be
    /// among them.
    #[arg(long)]
    pub keep_alerts: bool,
    /// The seed: which rows are kept where there are more than 100,000.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
}

/// `maskwatch serve`
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `maskwatch check`
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// The daemon's configuration file, with or without its flag.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ConfigFile {
    /// The configuration file. Variables MASKWATCH__SECTION__KEY override it.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, as a flag.
    #[arg(long = "config", value_name = "FILE")]
    flag: Option<PathBuf>,
}

impl ConfigFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        // The group lets exactly one through.
        let given = self.file.as_deref().or(self.flag.as_deref());
        given.unwrap_or(Path::new(""))
    }
}

/// `maskwatch demo`
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Seconds of payments after training.
    #[arg(long, default_value_t = super::demo::DEFAULT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Payments a second.
    #[arg(long, default_value_t = super::demo::DEFAULT_RATE, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// The seed of the payments.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// The folder in which data, schema, bundle, scores and log stay; files of these names are replaced.
    #[arg(long, default_value = "maskwatch-demo")]
    pub out: PathBuf,
}

/// `maskwatch embed`
#[derive(Debug, Args)]
pub struct EmbedArguments {
    /// The bundle's folder.
    #[arg(long)]
    pub model: PathBuf,
    /// Parquet files, folders or glob patterns; rows follow each other in the order of the paths.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    /// The Parquet file to write: the key and time fields of the schema, and `latent`. An existing
    /// file is replaced.
    #[arg(long)]
    pub out: PathBuf,
}

/// `maskwatch generate`
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// Where the payments go.
    #[command(flatten)]
    pub target: GenerateTarget,
    /// What the payments are like.
    #[command(flatten)]
    pub world: WorldArguments,
}

/// Where generated payments go: a file, or a topic.
#[derive(Debug, Args)]
pub struct GenerateTarget {
    /// The Parquet file to write. An existing file is replaced.
    #[arg(long, required_unless_present = "brokers", conflicts_with = "brokers")]
    pub out: Option<PathBuf>,
    /// Payments to make [default: 60000 into a file, without end into a topic].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Write JSON to a topic of this Kafka cluster instead, host:port,...
    #[arg(long, requires = "topic")]
    pub brokers: Option<String>,
    /// The topic.
    #[arg(long, requires = "brokers")]
    pub topic: Option<String>,
    /// Payments a second. Without it, as fast as the cluster takes them.
    #[arg(long, requires = "brokers", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// A librdkafka property, such as security.protocol=SASL_SSL; a value ${env:NAME} or ${file:PATH} stays secret.
    #[arg(long, requires = "brokers", value_name = "KEY=VALUE", value_parser = property)]
    pub property: Vec<(String, String)>,
}

/// The synthetic world: the same values give the same payments.
#[derive(Debug, Args)]
pub struct WorldArguments {
    /// The seed of everything random.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// Customers, 10 to 1,000,000, each with one card.
    #[arg(long, default_value_t = DEFAULT_CUSTOMERS)]
    pub customers: usize,
    /// Terminals, 10 to 1,000,000.
    #[arg(long, default_value_t = DEFAULT_TERMINALS)]
    pub terminals: usize,
    /// Share of payments that are fraud, 0 to 0.2.
    #[arg(long, default_value_t = DEFAULT_FRAUD_SHARE)]
    pub fraud_share: f64,
    /// Timestamp of the first payment, RFC 3339, 1970 to 2200 [default: 2026-01-05T00:00:00Z].
    #[arg(long, value_name = "MOMENT", value_parser = unix_seconds)]
    pub start: Option<i64>,
    /// Payments to leave out at the beginning, 0 to 1,000,000,000 [default: 0 into a file, 60000 into a topic, so that a
    /// topic comes later than the default file].
    #[arg(long, value_name = "PAYMENTS", value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub skip: Option<u64>,
    /// Continue where this file of `generate --out` ends, with the same customers and terminals.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "customers", "terminals", "fraud_share", "start", "skip"])]
    pub after: Option<PathBuf>,
}

/// `maskwatch inspect`
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The bundle's folder.
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// Show the segments of this field, with their calibration rows and intervals.
    #[arg(long, value_name = "FIELD")]
    pub budget_by: Option<String>,
    /// The alert budget to hold in the segments.
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_ALERT_BUDGET, value_parser = budget_share)]
    pub alert_budget: f64,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn budget_share(text: &str) -> Result<f64, String> {
    AlertBudget::from_text(text).map(AlertBudget::share)
}

fn unix_seconds(text: &str) -> Result<i64, String> {
    let micros = moment_from_text(text).ok_or("not a moment such as 2026-01-05T00:00:00Z")?;
    Ok(micros.div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::generate::{DEFAULT_ROWS, DEFAULT_START_UNIX_S};
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed_and_every_flag_has_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for flag in verb.get_arguments() {
                let name = (verb.get_name(), flag.get_id());
                assert!(flag.get_help().is_some(), "{name:?}");
            }
        }
    }

    #[test]
    fn every_verb_shows_one_example_that_it_takes() {
        for verb in Arguments::command().get_subcommands() {
            let name = verb.get_name();
            let help = verb.get_after_help().unwrap().to_string();
            let lines = help.lines().map(str::trim);
            let examples: Vec<&str> = lines.filter(|l| l.starts_with("maskwatch ")).collect();
            assert_eq!(examples.len(), 1, "{name}: {help}");
            let words: Vec<&str> = examples[0].split(' ').collect();
            assert_eq!(words[1], name);
            let parsed = Arguments::try_parse_from(words);
            assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_value_out_of_range_is_a_usage_error_with_its_limit() {
        let message = |budget: &str| {
            let given = "score --model m --data d --out o --alert-budget";
            let words = std::iter::once("maskwatch")
                .chain(given.split(' '))
                .chain([budget]);
            Arguments::try_parse_from(words).unwrap_err().to_string()
        };
        assert!(message("1.5").contains("above 0 and below 1"));
        assert!(message("NaN").contains("above 0 and below 1"));
        assert!(message("much").contains("not a number"));
    }

    #[test]
    fn a_configuration_is_given_with_or_without_its_flag() {
        let path = |words: &[&str]| {
            let words = std::iter::once(&"maskwatch").chain(words);
            Arguments::try_parse_from(words).map(|arguments| match arguments.verb {
                Verb::Serve(arguments) => arguments.config.path().to_owned(),
                Verb::Check(arguments) => arguments.config.path().to_owned(),
                other => unreachable!("{other:?}"),
            })
        };
        for verb in ["serve", "check"] {
            for words in [&[verb, "c.toml"][..], &[verb, "--config", "c.toml"]] {
                assert_eq!(path(words).unwrap(), Path::new("c.toml"));
            }
            for words in [&[verb][..], &[verb, "a.toml", "--config", "b.toml"]] {
                let error = path(words).unwrap_err();
                assert_eq!(error.exit_code(), 2, "{error}");
                assert!(error.to_string().contains("FILE"), "{error}");
            }
        }
    }

    #[test]
    fn the_shown_default_of_the_rows_is_the_default() {
        let command = Arguments::command();
        let generate = command.find_subcommand("generate").unwrap();
        let shown = DEFAULT_ROWS.to_string();
        let naming = generate
            .get_arguments()
            .filter(|flag| flag.get_help().unwrap().to_string().contains(&shown));
        let naming: Vec<&str> = naming.map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(naming, ["rows", "skip"]);
    }

    #[test]
    fn the_shown_default_of_the_start_is_the_default() {
        assert_eq!(
            unix_seconds("2026-01-05T00:00:00Z"),
            Ok(DEFAULT_START_UNIX_S)
        );
        assert!(unix_seconds("yesterday").is_err());
    }
}
