//! The command line of the benchmark.

use clap::Parser;
use std::path::PathBuf;

/// Measures detection quality over the sets of a folder, under the protocols that published figures were made with.
#[derive(Debug, Parser)]
#[command(name = "quality", max_term_width = 100)]
pub struct Arguments {
    /// The folder of Parquet files; crates/quality/src/sets.toml names those that are known.
    #[arg(long)]
    pub data: PathBuf,
    /// Only these sets, NAME or NAME/PROTOCOL.
    #[arg(long, value_delimiter = ',')]
    pub sets: Vec<String>,
    /// Only the sets of these families of crates/quality/src/sets.toml.
    #[arg(long, value_delimiter = ',', conflicts_with = "sets")]
    pub families: Vec<String>,
    /// Only these configurations of crates/quality/src/configurations.toml.
    #[arg(long, value_delimiter = ',')]
    pub configurations: Vec<String>,
    /// Configurations of another file of the same form, one of them `default`.
    #[arg(long)]
    pub configurations_file: Option<PathBuf>,
    /// These seeds instead of those of the configurations.
    #[arg(long, value_delimiter = ',')]
    pub seeds: Vec<u64>,
    /// A choice of sets that ends in minutes, with the configuration `default` and seed 0.
    #[arg(long, conflicts_with_all = ["sets", "families", "configurations", "seeds"])]
    pub quick: bool,
    /// Where finished runs are kept; a run that is there is not made again.
    #[arg(long, default_value = "target/quality")]
    pub cache: PathBuf,
    /// A document between whose markers the tables are written.
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Where everything is written as JSON [default: quality.json in the cache].
    #[arg(long)]
    pub json: Option<PathBuf>,
}
