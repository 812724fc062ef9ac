//! `maskwatch tune`: a bundle and some labels in, a bundle with a second detector out.

use super::args::TuneArguments;
use super::exit::{Refused, Several};
use super::inspect::word;
use super::label::refuse_feature;
use super::output::{refuse_parent, refuse_url};
use super::progress::TrainingDisplay;
use super::report::{budget_line, print, shown_share, warn_all, warn_if_unattainable};
use super::small_data::FewRows;
use crate::bundle::{Description, Manifest, Tuning, check_target, load_manifest};
use crate::bundle::{Kind as DetectorKind, ValidationSplit};
use crate::recipe::{TuneFailure, TuneRecipe, TuneRun, tune};
use crate::records::ParquetSource;
use crate::schema::{Kind, Schema};
use crate::score::{AlertBudget, BudgetShare, Combination, Component, DEFAULT_ALERT_BUDGET, Term};
use crate::tune::label_schema;
use std::path::Path;
use std::process::ExitCode;

/// Weights that are shown before the rest is only counted.
const WEIGHTS_SHOWN_MAX: usize = 10;

/// Runs the verb.
///
/// # Errors
/// No label, a label that the model sees, or an output that would destroy something (64), bad bundle
/// or data (65), anything else (1).
pub fn run(arguments: &TuneArguments) -> anyhow::Result<ExitCode> {
    let places = [("--model", &arguments.model), ("--out", &arguments.out)];
    for (flag, place) in places {
        refuse_url(place, flag)?;
    }
    let (labelled, calibration) = sources(arguments)?;
    let budget_share = BudgetShare::new(arguments.budget_share)
        .map_err(|fault| Refused(format!("--budget-share: {fault}")))?;
    let rows = usize::try_from(calibration.rows()).unwrap_or(usize::MAX);
    let few = FewRows {
        rows,
        effective: &|rows| budget_share.effective_rows(rows),
        what: "all that --calibration names",
    };
    let has_warned = few.warn();
    let recipe = TuneRecipe {
        model: &arguments.model,
        labelled: &labelled,
        calibration: &calibration,
        label: arguments.label.as_deref(),
        budget_share,
        seed: arguments.seed,
        out: &arguments.out,
    };
    let (manifest, run) = tune(&recipe, &mut TrainingDisplay::new())?;
    print(&summary(&arguments.out, &manifest, &run))?;
    let calibration_rows = effective_rows(&manifest.description);
    if !has_warned {
        warn_if_unattainable(calibration_rows, DEFAULT_ALERT_BUDGET);
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the files and tells at once all that is wrong before the first row is read.
fn sources(arguments: &TuneArguments) -> anyhow::Result<(ParquetSource, ParquetSource)> {
    let mut errors: Vec<anyhow::Error> = Vec::new();
    let TuneArguments { model, out, .. } = arguments;
    let manifest = match load_manifest(model) {
        Err(error) => {
            errors.push(error.into());
            None
        }
        Ok(manifest) => Some(manifest),
    };
    errors.extend(refuse_parent(model, out).err().map(anyhow::Error::from));
    errors.extend(check_target(out).err().map(anyhow::Error::from));
    let mut open = |inputs: &[String]| match ParquetSource::open(inputs) {
        Ok(source) => Some(source),
        Err(error) => {
            errors.push(error.into());
            None
        }
    };
    let (labelled, calibration) = (open(&arguments.data), open(&arguments.calibration));
    if let Some(manifest) = &manifest {
        let schema = &manifest.description.schema;
        errors.extend(label_error(arguments, schema, labelled.as_ref()));
        for source in [&labelled, &calibration].into_iter().flatten() {
            warn_all(&source.notes(schema));
        }
    }
    match (labelled, calibration) {
        (Some(labelled), Some(calibration)) if errors.is_empty() => Ok((labelled, calibration)),
        _ => Err(Several::of(errors)),
    }
}

/// Why the label is none, if it is none.
fn label_error(
    arguments: &TuneArguments,
    schema: &Schema,
    labelled: Option<&ParquetSource>,
) -> Option<anyhow::Error> {
    let label = arguments.label.as_deref();
    let feature = label.zip(labelled);
    let feature = feature.map(|(label, source)| refuse_feature(label, schema, source));
    if let Some(Err(error)) = feature {
        return Some(error.into());
    }
    let error = label_schema(schema, label).err()?;
    Some(TuneFailure::from(error).into())
}

fn summary(out: &Path, manifest: &Manifest, run: &TuneRun) -> String {
    let description = &manifest.description;
    let mut text = format!("bundle {}  model {}\n", out.display(), manifest.model_id);
    if let Some(tuning) = &description.tuning {
        text.push_str(&tuning_lines(description, tuning));
        let rows = description.rows.calibration;
        let (excluded, shared) = (tuning.calibration_excluded, tuning.calibration_shared);
        text.push_str(&format!(
            "\nrows: {rows} calibration, {excluded} left out by label, {shared} as labelled rows; {:.1} s in all\n",
            run.seconds
        ));
    }
    text.push_str(&format!("p-values: {}\n", description.p_value.sentence()));
    let calibration_rows = effective_rows(description);
    // The other case is a warning.
    let attains = |budget: AlertBudget| budget.is_attainable(calibration_rows);
    if AlertBudget::new(DEFAULT_ALERT_BUDGET).is_ok_and(attains) {
        text.push_str(&budget_line(calibration_rows, DEFAULT_ALERT_BUDGET));
        text.push('\n');
    }
    text
}

/// Calibration rows of one detector whose least p-value would be as small as the bundle's.
fn effective_rows(description: &Description) -> usize {
    let rows = description.rows.calibration as usize;
    let tuning = description.tuning.as_ref();
    let tuning = tuning.filter(|tuning| tuning.validation.kind != DetectorKind::Untuned);
    let share = tuning.and_then(|tuning| BudgetShare::new(tuning.budget_share).ok());
    share.map_or(rows, |share| share.effective_rows(rows))
}

/// What labels changed, for a person: on how many rows, what it was worth, and what counts most.
pub fn tuning_lines(description: &Description, tuning: &Tuning) -> String {
    let validation = &tuning.validation;
    let split = match validation.split {
        ValidationSplit::Latest => "the latest rows",
        ValidationSplit::Folds => "five folds, mean",
    };
    let verdict = match (validation.kind, validation.strength) {
        (DetectorKind::Trees, _) => "kept: boosted trees".to_owned(),
        (DetectorKind::Combination, strength) => {
            format!(
                "kept: weights, strength {}",
                strength.unwrap_or(f64::INFINITY)
            )
        }
        (DetectorKind::Untuned, _) => "nothing did better: the score is the untuned one".to_owned(),
    };
    let kept = match tuning.frauds + tuning.normals {
        all if all == tuning.kept => String::new(),
        _ => format!(" ({} kept)", tuning.kept),
    };
    let mut lines = vec![
        format!(
            "tuned        from model {} on {} rows labelled 1 and {} labelled 0{kept}; {} without a label left out",
            tuning.parent_model_id, tuning.frauds, tuning.normals, tuning.unlabelled
        ),
        format!(
            "validation   {} rows, {} of them labelled 1 ({split}): average precision {:.4} before, {:.4} by weights, {:.4} by trees; {verdict}",
            validation.rows,
            validation.frauds,
            validation.average_precision_before,
            validation.average_precision_combination,
            validation.average_precision_trees,
        ),
    ];
    if let Some(combination) = &tuning.combination {
        lines.push(format!(
            "weights      {}",
            weights(description, combination)
        ));
    }
    if validation.kind != DetectorKind::Untuned {
        let share = shown_share(tuning.budget_share);
        lines.push(format!(
            "budget       {share} of it for what labels teach, the rest for the score without labels; a record that both \
             flag counts once"
        ));
    }
    lines.join("\n")
}

/// The largest weights with what they weigh.
fn weights(description: &Description, combination: &Combination) -> String {
    let mut terms: Vec<&Term> = combination.terms().iter().collect();
    terms.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let shown = terms.iter().take(WEIGHTS_SHOWN_MAX);
    let mut shown: Vec<String> = shown
        .map(|term| format!("{:.3} {}", term.weight, name(description, term.component)))
        .collect();
    if terms.len() > WEIGHTS_SHOWN_MAX {
        shown.push(format!("{} smaller ones", terms.len() - WEIGHTS_SHOWN_MAX));
    }
    shown.join(", ")
}

/// How much a stratum hides, in words.
fn hidden_words(description: &Description, stratum: usize) -> String {
    match description.views.strata().get(stratum) {
        Some(of) if of.denoising.is_some() => "through noise".to_owned(),
        of => format!("at {}", of.map_or(0.0, |of| of.ratio)),
    }
}

fn name(description: &Description, component: Component) -> String {
    let reading = |reading: usize| {
        let likelihood = description.model.likelihood.get(reading);
        // Behind the trained readings come what else is read from them.
        likelihood.map_or_else(|| "tail or density".to_owned(), word)
    };
    match component {
        Component::Untuned => "untuned score".to_owned(),
        Component::Total {
            stratum,
            reading: r,
        } => {
            let hidden = hidden_words(description, stratum);
            format!("total {hidden} ({})", reading(r))
        }
        Component::Largest {
            stratum,
            reading: r,
        } => {
            let hidden = hidden_words(description, stratum);
            format!("largest field {hidden} ({})", reading(r))
        }
        Component::Latent => "distance of the latent".to_owned(),
        Component::Nearest => "distance to the nearest training row".to_owned(),
        Component::NearestQuantile => {
            "distance to the nearest training row, by ranks of values".to_owned()
        }
        Component::Field { field, reading: r } => {
            match description.schema.features().nth(field) {
                // Only numbers have more than one reading.
                Some(field) if field.kind == Kind::Numeric => {
                    format!("{} ({})", field.name, reading(r))
                }
                Some(field) => field.name.clone(),
                None => "?".to_owned(),
            }
        }
    }
}
