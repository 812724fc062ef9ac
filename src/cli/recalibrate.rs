//! `maskwatch recalibrate`: a bundle and newer rows in, the same model with p-values that rest on these rows out.

use super::args::RecalibrateArguments;
use super::label::refuse_feature;
use super::output::{refuse_parent, refuse_url};
use super::progress::TrainingDisplay;
use super::report::{print, shown_share, warn_all, warn_if_unattainable};
use super::small_data::FewRows;
use crate::Detector;
use crate::bundle::Recalibration;
use crate::recipe::{RecalibrateRecipe, recalibrate};
use crate::records::ParquetSource;
use crate::score::{AlertBudget, Promise, count_text, percentages};
use anyhow::anyhow;
use std::process::ExitCode;

/// Runs the verb.
///
/// # Errors
/// A label that the model sees, or an output that would destroy something (64), bad bundle or data, or too few rows (65),
/// anything else (1).
pub fn run(arguments: &RecalibrateArguments) -> anyhow::Result<ExitCode> {
    let (model, out) = (&arguments.model, &arguments.out);
    refuse_url(model, "--model")?;
    refuse_url(out, "--out")?;
    refuse_parent(model, out)?;
    let parent = Detector::load(model)?;
    let source = ParquetSource::open(&arguments.data)?;
    if let Some(label) = &arguments.label {
        refuse_feature(label, parent.schema(), &source)?;
    }
    warn_all(&source.notes(parent.schema()));
    let rows = usize::try_from(source.rows()).unwrap_or(usize::MAX);
    let few = FewRows {
        rows,
        effective: &|rows| parent.scorer().effective(rows),
        what: "all that --data names",
    };
    let has_warned = few.warn();
    let budget = AlertBudget::new(arguments.alert_budget).map_err(|e| anyhow!(e))?;
    let recipe = RecalibrateRecipe {
        model,
        source: &source,
        label: arguments.label.as_deref(),
        leave_out: (!arguments.keep_alerts).then_some(budget),
        seed: arguments.seed,
        out,
    };
    recalibrate(&recipe, &mut TrainingDisplay::new())?;
    let made = Detector::load(out)?;
    print(&summary(arguments, &parent, &made, budget))?;
    if !has_warned {
        warn_if_unattainable(made.calibration_rows(), budget.share());
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(
    arguments: &RecalibrateArguments,
    parent: &Detector,
    made: &Detector,
    budget: AlertBudget,
) -> String {
    let description = &made.manifest().description;
    let rows = count_text(description.rows.calibration);
    let left_out = description.recalibration.as_ref().map(left_out_line);
    let interval = |promise: Promise| match promise.interval() {
        Some((low, high)) => {
            let [low, high] = percentages([low, high]);
            format!("{low} to {high} %")
        }
        None => "none: too few calibration rows".to_owned(),
    };
    format!(
        "bundle {}  model {}\nrows: {rows} calibration, {}\np-values: {}\nbudget {}: alert rate {} (before: {})\n",
        arguments.out.display(),
        made.model_id(),
        left_out.unwrap_or_default(),
        description.p_value.sentence(),
        shown_share(budget.share()),
        interval(made.promise(budget)),
        interval(parent.promise(budget)),
    )
}

/// What of the files ranks nothing, for a person.
pub fn left_out_line(recalibration: &Recalibration) -> String {
    let alerts = match recalibration.budget {
        Some(budget) => format!(
            "{} as alerts at a budget of {}",
            count_text(recalibration.alerts),
            shown_share(budget)
        ),
        None => "no alert".to_owned(),
    };
    let drawn = match recalibration.judged + recalibration.labelled == recalibration.data.rows {
        true => String::new(),
        false => format!(", {} drawn", count_text(recalibration.judged)),
    };
    format!(
        "{} left out by label, {alerts} (of {} rows{drawn})",
        count_text(recalibration.labelled),
        count_text(recalibration.data.rows),
    )
}
