//! `maskwatch evaluate`: a bundle against labelled Parquet.

use super::args::EvaluateArguments;
use super::bad_rows::{BadRows, without};
use super::baselines::fit_baselines;
use super::exit::BadData;
use super::progress::RowsDisplay;
use super::report::{budget_line, print, warn};
use crate::artifact::Detector;
use crate::evaluate::{
    BaselineComparison, DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, EvaluationReport, MetricError,
    ScoredRows, baselines,
};
use crate::features::{ParquetSource, ReadOptions};
use crate::schema::{Role, Schema};
use anyhow::Context;
use arrow::array::{AsArray, RecordBatch};
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad bundle or data (65), a label that the model sees (64), anything else (1).
pub fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitCode> {
    let detector = Detector::load(&arguments.model)?;
    let features = detector.schema().with_roles(&[Role::Feature])?;
    let schema = features.labelled_by(&arguments.label)?;
    let source = ParquetSource::open(&arguments.data)?;
    require_column(&source, &arguments.label)?;
    let baselines = match &arguments.baselines[..] {
        [] => None,
        training => Some(fit_baselines(&detector, training)?),
    };
    let mut gathered = Gathered {
        evaluation: Evaluation::new(schema.features().map(|f| f.name.clone()).collect()),
        comparison: baselines.map(BaselineComparison::new),
    };
    gathered.score_all(&detector, &schema, &source, &arguments.label)?;
    let report = gathered.report();
    let report = report.with_context(|| arguments.data.join(", "))?;
    let text = match arguments.json {
        true => serde_json::to_string(&report)? + "\n",
        false => {
            let lines =
                DEFAULT_BUDGETS.map(|budget| budget_line(detector.calibration_rows(), budget));
            format!("{report}\n{}\n", lines.join("\n"))
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of the rows so far.
struct Gathered {
    evaluation: Evaluation,
    comparison: Option<BaselineComparison>,
}

impl Gathered {
    /// Adds all good rows with their labels; the bad ones are told and left out.
    fn score_all(
        &mut self,
        detector: &Detector,
        schema: &Schema,
        source: &ParquetSource,
        label: &str,
    ) -> anyhow::Result<()> {
        let mut display = RowsDisplay::new("scoring", source.rows());
        let (mut bad, mut rows) = (BadRows::default(), 0);
        for batch in source.batches(schema, ReadOptions::default()) {
            let batch = batch?;
            bad.observe(source, &batch);
            let good = without(&batch.canonical, &batch.faults)?;
            self.score(detector, &good, &labels(&good, label))?;
            rows += batch.canonical.num_rows() as u64;
            display.at(rows);
        }
        drop(display);
        if let Some(summary) = bad.summary(rows, "cannot be scored and are left out") {
            warn(&summary);
        }
        Ok(())
    }

    fn score(
        &mut self,
        detector: &Detector,
        good: &RecordBatch,
        labels: &[Option<bool>],
    ) -> anyhow::Result<()> {
        let scores = detector.score(good)?;
        let scored = ScoredRows {
            anomaly_score: &scores.anomaly_score,
            p_value: &scores.p_value,
            field_surprise: &scores.field_surprise,
        };
        self.evaluation.push(scored, labels)?;
        if let Some(comparison) = &mut self.comparison {
            let encoder = detector.scorer().model().encoder();
            comparison.push(&baselines::encode(encoder, good)?, labels)?;
        }
        Ok(())
    }

    fn report(&self) -> Result<EvaluationReport, MetricError> {
        let mut report = self.evaluation.report(&DEFAULT_BUDGETS, &DEFAULT_KS)?;
        let baselines = self
            .comparison
            .as_ref()
            .map(BaselineComparison::evaluations);
        report.baselines = baselines.transpose()?;
        Ok(report)
    }
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
