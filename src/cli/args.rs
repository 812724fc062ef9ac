//! The command line: every verb and flag, with its help.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Learns from Parquet what normal transactions look like, and flags those in Kafka that do not fit.
#[derive(Debug, Parser)]
#[command(name = "maskwatch", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Trains a model on Parquet files and writes a bundle.
    Train(TrainArguments),
    /// Measures a bundle against labelled Parquet files.
    Evaluate(EvaluateArguments),
    /// Scores a Kafka stream, exactly once; trains first if there is no bundle yet.
    Serve(ServeArguments),
    /// Validates the configuration of `serve`; binds and connects to nothing.
    Check(CheckArguments),
    /// Shows the whole loop on this machine, with no broker installed.
    Demo(DemoArguments),
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
    /// The bundle's folder; a bundle that is there is replaced.
    #[arg(long)]
    pub out: PathBuf,
    /// A training configuration; the defaults suit most data.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The seed of everything random.
    #[arg(long, default_value_t = crate::artifact::DEFAULT_SEED)]
    pub seed: u64,
    /// Leave out rows whose label is 1.
    #[arg(long)]
    pub exclude_labelled: bool,
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
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `maskwatch serve`
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The configuration file; variables MASKWATCH__SECTION__KEY win over it.
    #[arg(long)]
    pub config: PathBuf,
}

/// `maskwatch check`
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file; variables MASKWATCH__SECTION__KEY win over it.
    pub config: PathBuf,
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
}
