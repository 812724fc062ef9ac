//! `maskwatch score`: Parquet in, the same Parquet with scores out.
//!
//! The rows stream through batch by batch, so memory does not depend on the files. Every row keeps
//! its place, and its score depends on the row and the bundle alone.

use super::args::ScoreArguments;
use super::bad_rows::{BadRows, without};
use super::budget_by;
use super::exit::BadData;
use super::output::{ParquetOutput, parquet_target, refuse_input, refuse_url};
use super::progress::RowsDisplay;
use super::report::{print, warn, warn_all, warn_if_unattainable};
use super::score_columns::{Scored, Wanted, output_schema, with_scores};
use crate::records::{ParquetSource, ReadOptions};
use crate::schema::Role;
use crate::score::{AlertBudget, Assessment, Explain, Promise, count_text};
use crate::{Detector, FIRST_RECORDS, FirstRecords, Opening};
use anyhow::anyhow;
use std::process::ExitCode;

/// Reasons of a row: what the daemon writes by default, and what a person reads.
const REASONS_MAX: usize = 5;

/// What was written.
pub struct Tally {
    /// Rows of the input.
    pub rows: u64,
    /// Rows within the budget.
    pub alerts: u64,
    bad: BadRows,
    /// What the budget promises of their number.
    promise: Promise,
}

impl Tally {
    /// The alerts among the rows that were scored, beside what was promised.
    fn line(&self) -> String {
        let scored = self.scored();
        let rows = format!("{} rows", count_text(scored as u64));
        self.promise.line(self.alerts as usize, scored, &rows)
    }

    fn scored(&self) -> usize {
        (self.rows - self.bad.count()) as usize
    }

    /// What the first rows did not show: the alert rate of all of them is far beyond the promise.
    fn late_excess(&self) -> Option<String> {
        let far = self
            .promise
            .is_far_exceeded(self.alerts as usize, self.scored());
        far.then(|| {
            format!(
                "{}: far more than promised, though the first {} rows were not; look at what changes in the data",
                self.line(),
                count_text(FIRST_RECORDS as u64)
            )
        })
    }
}

/// Runs the verb.
///
/// # Errors
/// Bad bundle or data, or bad rows and `--strict` (65), an output that is an input or no regular file, or a budget by a
/// field that has no segments (64), anything else (1).
pub fn run(arguments: &ScoreArguments) -> anyhow::Result<ExitCode> {
    let (tally, detector) = scored(arguments)?;
    print(&format!(
        "{}: {}; {} rows not scored; model {}\n",
        arguments.out.display(),
        tally.line(),
        tally.bad.count(),
        detector.model_id(),
    ))?;
    match tally
        .bad
        .summary(tally.rows, "could not be scored (column `error` says why)")
    {
        Some(summary) if arguments.strict => Err(BadData(summary).into()),
        Some(summary) => {
            warn(&summary);
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Scores the files and says what was written, as [`run`] does, but prints nothing.
///
/// # Errors
/// As [`run`]; rows that could not be scored are none.
pub fn score_file(arguments: &ScoreArguments) -> anyhow::Result<Tally> {
    Ok(scored(arguments)?.0)
}

fn scored(arguments: &ScoreArguments) -> anyhow::Result<(Tally, Detector)> {
    refuse_url(&arguments.model, "--model")?;
    parquet_target(&arguments.out)?;
    let detector = Detector::load(&arguments.model)?;
    let by = arguments.budget_by.as_deref();
    let detector = budget_by::held(detector, by, arguments.alert_budget)?;
    let budget = AlertBudget::new(arguments.alert_budget).map_err(|e| anyhow!(e))?;
    let source = ParquetSource::open(&arguments.data)?;
    refuse_input(&source, &arguments.out)?;
    warn_if_unattainable(detector.calibration_rows(), budget.share());
    warn_all(&Vec::from_iter(detector.cascade_warning(budget)));
    let tally = write_scores(arguments, &detector, budget, &source)?;
    Ok((tally, detector))
}

fn write_scores(
    arguments: &ScoreArguments,
    detector: &Detector,
    budget: AlertBudget,
    source: &ParquetSource,
) -> anyhow::Result<Tally> {
    // Nothing but features counts for a score, so nothing else may be in the way of one.
    let features = detector
        .schema()
        .with_roles(&[Role::Feature, Role::Context])?;
    source.check(&features)?;
    warn_all(&source.notes(&features));
    let wanted = Wanted {
        explain: arguments.explain,
        parts: detector.scorer().labelled().is_some(),
    };
    let schema = output_schema(source, wanted)?;
    let mut output = ParquetOutput::create(&arguments.out, schema.clone())?;
    let mut display = RowsDisplay::new("scoring", source.rows());
    let first = FirstRecords::new(detector, budget);
    let mut tally = Tally {
        rows: 0,
        alerts: 0,
        bad: BadRows::default(),
        promise: *first.promise(),
    };
    let mut excess = false;
    let explain = match arguments.explain {
        true => Explain::All {
            reasons_max: REASONS_MAX,
        },
        false => Explain::Nothing,
    };
    let options = ReadOptions {
        keep_raw: true,
        ..ReadOptions::default()
    };
    for batch in source.batches(&features, options) {
        // The schema of the features knows nothing of the other columns, which are written too.
        let batch = batch.map_err(|error| error.redacted(detector.schema()))?;
        let batch = detector.screen(batch);
        let good = without(&batch.canonical, &batch.faults)?;
        let Assessment { scores, reasons } = detector.assess(&good, explain)?;
        let alerts: Vec<bool> = scores.p_value.iter().map(|&p| budget.is_alert(p)).collect();
        tally.alerts += alerts.iter().filter(|&&alert| alert).count() as u64;
        excess |= warn_of(first.observe(detector, &good, &scores, &alerts));
        tally.rows += batch.canonical.num_rows() as u64;
        tally.bad.observe(source, &batch);
        let reasons = arguments.explain.then_some(reasons);
        let raw = batch
            .raw
            .as_ref()
            .ok_or_else(|| anyhow!("a batch came without its columns"))?;
        let scored = Scored { scores, reasons };
        output.write(&with_scores(&schema, raw, &batch.faults, scored, budget)?)?;
        display.at(tally.rows);
    }
    output.finish()?;
    excess |= warn_of(first.finish());
    if !excess && let Some(line) = tally.late_excess() {
        warn(&line);
    }
    Ok(tally)
}

/// One line on stderr for each thing that makes the scores doubtful; whether an excess of alerts is among them.
fn warn_of(opening: Option<Opening>) -> bool {
    for line in opening.iter().flat_map(Opening::warnings) {
        warn(&line);
    }
    opening.is_some_and(|opening| opening.excess.is_some())
}
