//! `maskwatch evaluate`: a bundle against labelled Parquet.

use super::args::EvaluateArguments;
use super::exit::BadData;
use super::report::print;
use crate::artifact::Detector;
use crate::evaluate::{DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, ScoredRows};
use crate::features::{ParquetSource, ReadOptions, RowFault};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad bundle or data (65), a label that the model sees (64), anything else (1).
pub fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitCode> {
    let detector = Detector::load(&arguments.model)?;
    let schema = detector.schema().labelled_by(&arguments.label)?;
    let source = ParquetSource::open(&arguments.data)?;
    require_column(&source, &arguments.label)?;
    let fields = detector
        .schema()
        .features()
        .map(|field| field.name.clone())
        .collect();
    let mut evaluation = Evaluation::new(fields);
    let mut bad_rows = 0;
    for batch in source.batches(&schema, ReadOptions::default()) {
        let batch = batch?;
        bad_rows += batch.faults.len();
        let good = without(&batch.canonical, &batch.faults)?;
        let scores = detector.score(&good)?;
        let rows = ScoredRows {
            anomaly_score: &scores.anomaly_score,
            p_value: &scores.p_value,
            field_surprise: &scores.field_surprise,
        };
        evaluation.push(rows, &labels(&good, &arguments.label))?;
    }
    if bad_rows > 0 {
        tracing::warn!(bad_rows, "rows that cannot be scored are left out");
    }
    let report = evaluation.report(&DEFAULT_BUDGETS, &DEFAULT_KS)?;
    let text = match arguments.json {
        true => serde_json::to_string(&report)? + "\n",
        false => report.to_string(),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of a canonical batch that have no fault.
///
/// # Errors
/// If Arrow fails: a defect.
pub fn without(batch: &RecordBatch, faults: &[RowFault]) -> anyhow::Result<RecordBatch> {
    if faults.is_empty() {
        return Ok(batch.clone());
    }
    let mut keep = vec![true; batch.num_rows()];
    faults.iter().for_each(|fault| keep[fault.row] = false);
    Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
}

fn labels(batch: &RecordBatch, name: &str) -> Vec<Option<bool>> {
    let column = batch
        .column_by_name(name)
        .and_then(|column| column.as_boolean_opt());
    column.map_or_else(
        || vec![None; batch.num_rows()],
        |labels| labels.iter().collect(),
    )
}

fn require_column(source: &ParquetSource, label: &str) -> Result<(), BadData> {
    let lacks = |file: &&crate::features::SourceFile| file.schema().index_of(label).is_err();
    match source.files().iter().find(lacks) {
        Some(file) => Err(BadData(format!(
            "{}: column '{label}' (--label) is missing",
            file.path().display()
        ))),
        None => Ok(()),
    }
}
