//! `maskwatch init`: Parquet in, a commented schema file out.

use super::args::InitArguments;
use super::output::{refuse_existing, write_new};
use super::report::print;
use crate::features::{ParquetSource, infer_schema};
use crate::schema::{Role, Schema};
use anyhow::Context;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// A file that is there already (64), bad data (65), anything else (1).
pub fn run(arguments: &InitArguments) -> anyhow::Result<ExitCode> {
    let InitArguments { data, label, out } = arguments;
    refuse_existing(out)?;
    let source = ParquetSource::open(data)?;
    let text = infer_schema(&source, label.as_deref()).with_context(|| data.join(", "))?;
    // What is written is read back first, so that no file is left that `train` would refuse.
    let schema = Schema::parse(&text, &out.display().to_string())?;
    write_new(out, &text)?;
    let fields = |role: Role| schema.fields().iter().filter(|f| f.role == role).count();
    print(&format!(
        "{}: {} features, {} ignored, {} key, {} time, {} label, of {} rows\n\
         Read it before training: its comments say why each column became what it is.\n",
        out.display(),
        fields(Role::Feature),
        fields(Role::Ignore),
        fields(Role::Key),
        fields(Role::Time),
        fields(Role::Label),
        source.rows(),
    ))?;
    Ok(ExitCode::SUCCESS)
}
