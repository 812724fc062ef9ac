//! `maskwatch evaluate`: a bundle against labelled Parquet.

use super::args::EvaluateArguments;
use super::bad_rows::{BadRows, without};
use super::baselines::fit_baselines;
use super::budget_by;
use super::exit::BadData;
use super::group_column::GroupColumn;
use super::label::refuse_feature;
use super::output::refuse_url;
use super::progress::RowsDisplay;
use super::report::{budget_line, print, warn, warn_all};
use crate::Detector;
use crate::bundle::{Seen, seen};
use crate::evaluate::{
    BaselineComparison, DEFAULT_BUDGETS, DEFAULT_KS, Evaluation, EvaluationReport, Groups,
    MetricError, ScoredRows, baselines,
};
use crate::records::{ParquetSource, ReadOptions};
use crate::schema::{Role, Schema};
use crate::score::DEFAULT_ALERT_BUDGET;
use anyhow::Context;
use arrow::array::{AsArray, RecordBatch};
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// Bad bundle or data (65), a label that the model sees or a budget by a field that has no segments (64), anything
/// else (1).
pub fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitCode> {
    refuse_url(&arguments.model, "--model")?;
    let detector = Detector::load(&arguments.model)?;
    let budget = arguments.alert_budget.unwrap_or(DEFAULT_ALERT_BUDGET);
    let detector = budget_by::held(detector, arguments.budget_by.as_deref(), budget)?;
    let features = detector
        .schema()
        .with_roles(&[Role::Feature, Role::Context])?;
    let source = ParquetSource::open(&arguments.data)?;
    refuse_feature(&arguments.label, detector.schema(), &source)?;
    let schema = features.labelled_by(&arguments.label)?;
    require_column(&source, &arguments.label)?;
    let by = arguments.by.as_deref();
    let by = by.map(|field| GroupColumn::find(field, detector.schema(), &schema, &source));
    let schema = match &by {
        Some(by) => by.read_beside(&schema, &source)?,
        None => schema,
    };
    source.check(&schema)?;
    warn_all(&source.notes(&schema));
    warn_if_seen(arguments, &detector, &source);
    let comparison = match &arguments.baselines[..] {
        [] => None,
        training => Some(BaselineComparison::new(fit_baselines(&detector, training)?)),
    };
    let mut gathered = Gathered::new(&detector, &schema, comparison, by);
    gathered.score_all(&detector, &schema, &source, &arguments.label)?;
    let budgets = budgets(arguments.alert_budget);
    let report = gathered.report(&budgets);
    let report = report.with_context(|| arguments.data.join(", "))?;
    let text = match arguments.json {
        true => serde_json::to_string(&report)? + "\n",
        false => {
            let line = |&budget: &f64| budget_line(detector.calibration_rows(), budget);
            let lines: Vec<String> = budgets.iter().map(line).collect();
            let segments = budget_by::table(&detector);
            format!("{report}\n{}\n{segments}", lines.join("\n"))
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Figures on rows that the bundle was made from are too good: it is told, and how rows that it has not seen come about.
fn warn_if_seen(arguments: &EvaluateArguments, detector: &Detector, source: &ParquetSource) {
    let remedy = "measure on later rows";
    match seen(&arguments.model, detector.manifest(), source) {
        Some(Seen::Rows) => warn(&format!(
            "{}: the model was trained on these very rows, so these figures are optimistic; {remedy}",
            source.name()
        )),
        Some(Seen::Path(path)) => warn(&format!(
            "{}: the model was made from a file of this path (run.json). If it still holds those rows, these figures are \
             optimistic; {remedy}",
            path.display()
        )),
        None => {}
    }
}

/// The usual budgets, and the one that was given, ascending.
fn budgets(given: Option<f64>) -> Vec<f64> {
    let mut budgets: Vec<f64> = DEFAULT_BUDGETS.into_iter().chain(given).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    budgets
}

/// What is known of the rows so far.
struct Gathered {
    evaluation: Evaluation,
    comparison: Option<BaselineComparison>,
    groups: Option<(GroupColumn, Groups)>,
}

impl Gathered {
    fn new(
        detector: &Detector,
        schema: &Schema,
        comparison: Option<BaselineComparison>,
        by: Option<GroupColumn>,
    ) -> Self {
        let fields = schema.features().map(|field| field.name.clone());
        Self {
            evaluation: Evaluation::new(fields.collect()),
            comparison,
            groups: by.map(|by| {
                let groups = Groups::new(by.field.clone(), by.redact, detector.sample_rows());
                (by, groups)
            }),
        }
    }

    /// Adds all good rows with their labels, and their groups if there are any; the bad ones are told and left out.
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
            let batch = detector.screen(batch?);
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
        let scores = detector.score_with_fields(good)?;
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
        if let Some((by, groups)) = &mut self.groups {
            let values = by.values(good).into_iter();
            groups.push(values, labels, &detector.samples(good)?)?;
        }
        Ok(())
    }

    fn report(&self, budgets: &[f64]) -> Result<EvaluationReport, MetricError> {
        let mut report = self.evaluation.report(budgets, &DEFAULT_KS)?;
        let comparison = self.comparison.as_ref();
        report.baselines = comparison
            .map(BaselineComparison::evaluations)
            .transpose()?;
        let by = self.groups.as_ref();
        report.by = by
            .map(|(_, groups)| self.evaluation.by(groups, budgets))
            .transpose()?;
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
    match source.columns().index_of(label) {
        Err(_) => Err(BadData(format!(
            "{}: column '{label}' (--label) is missing",
            source.name()
        ))),
        Ok(_) => Ok(()),
    }
}
