//! The verbs: arguments in, files, printed reports and an exit code out.
//!
//! One file a verb; what they share is how files are written (`output`), how bad rows keep their
//! place (`bad_rows`), how progress is shown and which exit code an error has. Invariant: a verb that
//! fails leaves no file behind that was not there before.

mod args;
mod bad_rows;
mod baselines;
mod budget_by;
mod check;
mod daemon;
mod demo;
mod demo_tally;
mod demo_words;
mod embed;
mod evaluate;
mod exit;
mod exit_service;
mod generate;
mod generate_topic;
mod group_column;
mod init;
mod inspect;
mod label;
mod minutes;
mod model_fit;
mod model_home;
mod model_start;
mod model_watch;
mod models;
mod models_args;
mod output;
mod panics;
mod progress;
mod recalibrate;
mod report;
mod score;
mod score_columns;
mod serve;
mod small_data;
mod train;
mod train_config;
mod tune;

pub use args::{Arguments, Verb};
pub use exit::exit_code;
pub use panics::guard_program;

use std::process::ExitCode;

/// Runs a parsed command line.
///
/// # Errors
/// One chain of causes that names file, column, row, value and limit; [`exit_code`] gives its code.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Init(arguments) => init::run(&arguments),
        Verb::Train(arguments) => train::run(&arguments),
        Verb::Score(arguments) => score::run(&arguments),
        Verb::Evaluate(arguments) => evaluate::run(&arguments),
        Verb::Tune(arguments) => tune::run(&arguments),
        Verb::Recalibrate(arguments) => recalibrate::run(&arguments),
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Embed(arguments) => embed::run(&arguments),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Models(arguments) => models::run(&arguments),
    }
}
