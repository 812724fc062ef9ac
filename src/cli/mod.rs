//! The verbs: arguments in, files, printed reports and an exit code out.

mod args;
mod check;
mod daemon;
mod demo;
mod demo_tally;
mod evaluate;
mod exit;
mod progress;
mod report;
mod serve;
mod train;

pub use args::{Arguments, Verb};
pub use exit::exit_code;

use std::process::ExitCode;

/// Runs a parsed command line.
///
/// # Errors
/// One chain of causes that names file, column, row, value and limit; [`exit_code`] gives its code.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Train(arguments) => train::run(&arguments),
        Verb::Evaluate(arguments) => evaluate::run(&arguments),
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
    }
}
