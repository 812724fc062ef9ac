//! `maskwatch serve`: the daemon, until a signal or a fault that no new session cures.

use super::args::ServeArguments;
use super::daemon::Daemon;
use super::model_start::load_config;
use crate::telemetry::logging::{self, LogFormat};
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad configuration (64), a bundle that is refused (65), a stream that ended by itself (1).
pub fn run(arguments: &ServeArguments) -> anyhow::Result<ExitCode> {
    let config = load_config(arguments.config.path())?;
    logging::init(LogFormat::Auto)?;
    Daemon::start(config)?.join()?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}
