//! `maskwatch generate`: a seed in, synthetic card payments out.

use super::args::{GenerateArguments, GenerateTarget, WorldArguments};
use super::generate_topic;
use super::output::parquet_target;
use super::progress::RowsDisplay;
use super::report::print;
use crate::generate::{
    DEFAULT_ROWS, DEFAULT_START_UNIX_S, Generator, GeneratorConfig, Origin, write_parquet,
};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Payments left out between two looks at the progress.
const SKIP_AT_A_TIME: u64 = 10_000;

/// Runs the verb.
///
/// # Errors
/// A value out of range (2), a name that nothing is written under (64), a file or topic that cannot be written (1).
pub fn run(arguments: &GenerateArguments) -> anyhow::Result<ExitCode> {
    match &arguments.target {
        GenerateTarget {
            out: Some(out),
            rows,
            ..
        } => {
            // Before the payments are made: leaving out the first of them may take minutes.
            parquet_target(out)?;
            let mut generator = generator(arguments)?;
            into_file(&mut generator, out, rows.unwrap_or(DEFAULT_ROWS))
        }
        target => generate_topic::run(&mut generator(arguments)?, target),
    }
}

/// The generator of the world that is asked for, after the payments that are left out.
fn generator(arguments: &GenerateArguments) -> anyhow::Result<Generator> {
    let origin = origin(arguments)?;
    let mut generator = Generator::new(&origin.config)?;
    skip(&mut generator, origin.payments);
    Ok(generator)
}

/// The world, and the payments that are left out at its beginning.
///
/// What goes to a topic comes later than a file of the default length: a model that was trained on the file meets
/// the same customers some weeks on.
fn origin(arguments: &GenerateArguments) -> anyhow::Result<Origin> {
    let world = &arguments.world;
    if let Some(file) = &world.after {
        return Ok(Origin::read(file)?);
    }
    let into_file = arguments.target.out.is_some();
    Ok(Origin {
        config: config(world),
        payments: world.skip.unwrap_or(match into_file {
            true => 0,
            false => DEFAULT_ROWS,
        }),
    })
}

/// Leaves out the first `payments`, and shows how far it is.
fn skip(generator: &mut Generator, payments: u64) {
    let mut display = RowsDisplay::new("leaving out", payments);
    let mut done = 0;
    while done < payments {
        let next = SKIP_AT_A_TIME.min(payments - done);
        generator.skip(next);
        done += next;
        display.at(done);
    }
}

fn into_file(generator: &mut Generator, out: &Path, rows: u64) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut display = RowsDisplay::new("generating", rows);
    let summary = write_parquet(generator, rows, out, |done| display.at(done))?;
    drop(display);
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    print(&format!(
        "{}: {} payments, {} of them frauds (is_fraud), {:.1} MB; {:.0} payments/s\n",
        out.display(),
        summary.rows,
        summary.frauds,
        summary.bytes as f64 / 1e6,
        summary.rows as f64 / seconds,
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The generator's configuration; it checks the ranges itself.
fn config(world: &WorldArguments) -> GeneratorConfig {
    GeneratorConfig {
        seed: world.seed,
        customers: world.customers,
        terminals: world.terminals,
        fraud_share: world.fraud_share,
        start_unix_s: world.start.unwrap_or(DEFAULT_START_UNIX_S),
    }
}
