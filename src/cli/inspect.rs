//! `maskwatch inspect`: a bundle in, a page about it out.
//!
//! The bundle is loaded whole, so that what is shown is what would score. `run.json` is outside of
//! every digest and may be missing or edited: what can be read of it is shown, and nothing depends on
//! it.

use super::args::InspectArguments;
use super::budget_by;
use super::output::refuse_url;
use super::recalibrate::left_out_line;
use super::report::{budget_line, print};
use super::tune::tuning_lines;
use crate::Detector;
use crate::bundle::{Description, run_path};
use crate::durable::read_regular;
use crate::encode::{FieldEncoder, TrainedMoments, ValueEncoder};
use crate::model::Architecture;
use crate::schema::{Field, Role, Transform, moment_to_text, named};
use crate::score::DEFAULT_ALERT_BUDGET;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Budgets whose realised rate is shown: a rare, the default, and a generous one.
const BUDGETS: [f64; 3] = [0.0001, 0.001, 0.01];
/// Bytes of `run.json` that are read at most: far above what training writes.
const RUN_BYTES_MAX: u64 = 16 << 20;
/// Warnings of a training that are shown: as many as it gives.
const WARNINGS_SHOWN_MAX: usize = 21;
/// Training files that are named before the rest is only counted.
const FILES_SHOWN_MAX: usize = 10;

/// Runs the verb.
///
/// # Errors
/// A bundle that is not one, or not whole (65).
pub fn run(arguments: &InspectArguments) -> anyhow::Result<ExitCode> {
    refuse_url(&arguments.model, "DIR")?;
    let detector = Detector::load(&arguments.model)?;
    let (by, budget) = (arguments.budget_by.as_deref(), arguments.alert_budget);
    let detector = budget_by::held(detector, by, budget)?;
    let run = read_run(&arguments.model);
    print(&page(&detector, budget, run.as_ref())?)?;
    Ok(ExitCode::SUCCESS)
}

/// `run.json` if there is one that is JSON.
fn read_run(dir: &Path) -> Option<Value> {
    let text = read_regular(&run_path(dir), RUN_BYTES_MAX).ok()?;
    serde_json::from_slice(&text).ok()
}

fn page(detector: &Detector, budget: f64, run: Option<&Value>) -> Result<String, std::fmt::Error> {
    let description = &detector.manifest().description;
    let mut text = String::new();
    let out = &mut text;
    let created = moment(detector.created_at_unix_s());
    writeln!(out, "model_id     {}", detector.model_id())?;
    writeln!(out, "created      {created}")?;
    if let Some(parent) = &description.from {
        writeln!(
            out,
            "from         {parent} (weights at the start of training)"
        )?;
    }
    writeln!(out, "format       {}", detector.manifest().format_version)?;
    writeln!(
        out,
        "schema       {} fields, sha256 {}",
        description.schema.fields().len(),
        description.schema_sha256
    )?;
    promise(out, detector, budget)?;
    if let Some(tuning) = &description.tuning {
        writeln!(out, "\n{}", tuning_lines(description, tuning))?;
    }
    if let Some(recalibration) = &description.recalibration {
        let parent = &recalibration.parent_model_id;
        let left_out = left_out_line(recalibration);
        writeln!(out, "\nrecalibrated  from model {parent}: {left_out}")?;
    }
    data(out, description)?;
    fields(out, description)?;
    model(out, detector)?;
    match run {
        Some(run) => training(out, run)?,
        None => writeln!(
            out,
            "\ntraining     no report (run.json is missing or no JSON)"
        )?,
    }
    Ok(text)
}

/// When a bundle was made, for a person.
pub fn created(unix_s: u64) -> String {
    moment(unix_s)
}

/// What the p-values of a bundle mean, and which alert rates it promises.
///
/// # Errors
/// None but those of formatting.
pub fn page_of_promise(detector: &Detector) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    promise(&mut text, detector, DEFAULT_ALERT_BUDGET)?;
    Ok(text)
}

fn moment(unix_s: u64) -> String {
    let micros = i64::try_from(unix_s)
        .ok()
        .and_then(|s| s.checked_mul(1_000_000));
    micros
        .and_then(moment_to_text)
        .unwrap_or_else(|| "unknown".to_owned())
}

fn promise(out: &mut String, detector: &Detector, budget: f64) -> std::fmt::Result {
    let meaning = detector.manifest().description.p_value;
    writeln!(out, "\np-values     {}", meaning.sentence())?;
    for shown in BUDGETS {
        let line = budget_line(detector.calibration_rows(), shown);
        writeln!(out, "             {line}")?;
    }
    let by_segment = match detector.scorer().segmented() {
        Some(_) => budget_by::table(detector),
        None => budget_by::possible(detector, budget),
    };
    for line in by_segment.lines() {
        writeln!(out, "             {line}")?;
    }
    Ok(())
}

fn data(out: &mut String, description: &Description) -> std::fmt::Result {
    let (rows, data) = (description.rows, &description.data);
    writeln!(
        out,
        "\nrows         {} fit ({} kept in memory), {} reference, {} calibration, {} left out by label, {} as bad",
        rows.fit, rows.fit_kept, rows.reference, rows.calibration, rows.excluded, rows.bad
    )?;
    let calibration = &description.calibration;
    if description.tuning.is_none() && description.recalibration.is_none() {
        // A tuned or recalibrated bundle has calibration rows of its own, which no split chose.
        writeln!(out, "split        {}", word(&calibration.split))?;
    }
    let (share, rows) = (
        calibration.contamination,
        description.rows.presumed_abnormal,
    );
    if rows > 0 {
        writeln!(
            out,
            "contamination  {share}: {rows} calibration rows are presumed abnormal and rank nothing"
        )?;
    }
    writeln!(
        out,
        "data         {} rows, sha256 {}",
        data.rows, data.sha256
    )
}

/// All fields that are read; what was learned of a feature is that of the fit rows.
fn fields(out: &mut String, description: &Description) -> std::fmt::Result {
    let schema = &description.schema;
    let names = schema.read_fields().map(|field| field.name.chars().count());
    let width = names.max().unwrap_or(0).max("field".len());
    writeln!(
        out,
        "\n{:width$}  {:11}  {:7}  {:>7}  learned",
        "field", "kind", "role", "null %"
    )?;
    let mut encoders = description.encoder.fields().iter();
    for field in schema.read_fields() {
        let encoder = (field.role.is_seen()).then(|| encoders.next()).flatten();
        let nulls = encoder.map_or_else(|| "-".to_owned(), null_share);
        let learned = match (encoder, field.role, &description.time) {
            (Some(encoder), ..) => learned(field, encoder),
            (None, Role::Time, Some(time)) => {
                format!("not seen by the model{}", moments_of(field, time))
            }
            _ => "-".to_owned(),
        };
        let (name, kind, role) = (&field.name, field.kind.as_str(), word(&field.role));
        writeln!(
            out,
            "{name:width$}  {kind:11}  {role:7}  {nulls:>7}  {learned}"
        )?;
    }
    let ignored = schema
        .fields()
        .iter()
        .filter(|f| f.role == Role::Ignore)
        .count();
    writeln!(out, "{ignored} more fields are ignored")
}

fn null_share(encoder: &FieldEncoder) -> String {
    format!(
        "{:.2}",
        100.0 * encoder.nulls as f64 / encoder.rows.max(1) as f64
    )
}

fn learned(field: &Field, encoder: &FieldEncoder) -> String {
    let mut text = match &encoder.value {
        ValueEncoder::Numeric(numeric) => {
            let of = match numeric.transform {
                Transform::None => String::new(),
                transform => format!(" of {}", word(&transform)),
            };
            match field.redact {
                // The mean of a field that hardly varies is its value.
                true => format!("mean{of}, scale and quantiles not shown"),
                false => {
                    let points = numeric
                        .points()
                        .map(|points| points.map(|x| format!("{x:.6}")));
                    let points = points.map_or_else(String::new, |[low, middle, high]| {
                        format!("; 5 % {low}, 50 % {middle}, 95 % {high}")
                    });
                    format!(
                        "mean{of} {:.6}, scale {:.6}{points}",
                        numeric.mean, numeric.scale
                    )
                }
            }
        }
        ValueEncoder::Binary(binary) if field.redact => {
            format!("two values, unseen {:.2} nats", binary.unseen_surprise())
        }
        ValueEncoder::Binary(binary) => {
            let [lower, upper] = binary.names();
            format!(
                "{lower} or {upper}, unseen {:.2} nats",
                binary.unseen_surprise()
            )
        }
        ValueEncoder::Categorical(categorical) => format!(
            "{} values, {} classes, unseen {:.2} nats",
            categorical.codes(),
            categorical.classes(),
            categorical.unseen_surprise()
        ),
        ValueEncoder::Boolean => "true or false".to_owned(),
        ValueEncoder::Timestamp { time_zone, moments } => {
            format!(
                "hour and weekday in {time_zone}{}",
                moments_of(field, moments)
            )
        }
    };
    if !field.nullable {
        text.push_str(", never null");
    }
    if field.redact {
        text.push_str(", redacted");
    }
    text
}

/// The span of a field's moments in training, and what does not count in it; nothing of a redacted field.
fn moments_of(field: &Field, moments: &TrainedMoments) -> String {
    let text = |at| moment_to_text(at).unwrap_or_default();
    let bounds = moments.seen.bounds().filter(|_| !field.redact);
    let Some((first, last)) = bounds else {
        return String::new();
    };
    let left_out: u64 = moments.left_out.iter().map(|group| group.rows).sum();
    let left_out = match left_out {
        0 => String::new(),
        rows => format!(", {rows} left out: {}", named(&moments.left_out)),
    };
    format!(", moments from {} to {}{left_out}", text(first), text(last))
}

fn model(out: &mut String, detector: &Detector) -> std::fmt::Result {
    let description = &detector.manifest().description;
    let model = &description.model;
    let likelihood: Vec<String> = model.likelihood.iter().map(word).collect();
    let parameters = detector.scorer().model().model().parameters().count();
    let heads = match model.architecture {
        Architecture::Mlp => String::new(),
        Architecture::Transformer => format!(" of {} attention heads", model.attention_heads),
    };
    writeln!(
        out,
        "\nmodel        {}, width {}, {} blocks{heads}, {parameters} parameters, masking {}, dropout {}, seed {}",
        word(&model.architecture),
        model.width,
        model.blocks,
        word(&model.masking),
        model.dropout,
        description.seed
    )?;
    writeln!(out, "likelihood   {}", likelihood.join(", "))?;
    if model.histogram_gamma > 0.0 {
        let gamma = model.histogram_gamma;
        writeln!(out, "loss         of the histogram bounded, gamma {gamma}")?;
    }
    let trim = description.training.trim;
    if trim > 0.0 {
        writeln!(
            out,
            "trim         {trim} of the fit rows counted as too unusual"
        )?;
    }
    let objective = description.training.objective;
    if !objective.hides_fields() {
        return writeln!(
            out,
            "objective    {}: nothing hidden, a bottleneck of {} numbers",
            word(&objective),
            detector.latent_width()
        );
    }
    views(out, description)?;
    distances(out, detector)?;
    let kernel = detector.scorer().model().instructions();
    if let Some(instructions) = kernel {
        writeln!(
            out,
            "kernel       {} on this processor",
            instructions.name()
        )?;
    }
    if let Some(operations) = detector.scorer().model().operations() {
        writeln!(
            out,
            "cost         {:.1} million operations a record: input {:.1}, blocks {:.1}, heads {:.1}",
            millions(operations.total()),
            millions(operations.input),
            millions(operations.blocks),
            millions(operations.heads)
        )?;
    }
    cascade(out, detector)
}

/// The two stages of scoring, and what a record like the training's costs on average.
fn cascade(out: &mut String, detector: &Detector) -> std::fmt::Result {
    let (scorer, share) = (detector.scorer(), detector.cascade_share());
    let Some((cascade, share)) = scorer.cascade().zip(share) else {
        let why = match scorer.labelled() {
            Some(_) => ", which the detector made from labels asks for",
            None => "",
        };
        return writeln!(out, "cascade      none: every record gets all views{why}");
    };
    let (views, terms) = (cascade.first().views().len(), cascade.first().terms());
    let all = scorer.reference().rule().components().len();
    writeln!(
        out,
        "cascade      share {share}, threshold {:.4}; the first stage has {terms} of {all} terms and {views} of {} views",
        cascade.threshold(),
        detector.manifest().description.views.len()
    )?;
    let first = cascade.first().model().operations();
    let Some((first, full)) = first.zip(scorer.model().operations()) else {
        return Ok(());
    };
    let (first, full) = (millions(first.total()), millions(full.total()));
    writeln!(
        out,
        "             {first:.1} million operations in the first stage, {full:.1} more in full, {:.1} on average",
        first + share * full
    )
}

/// The views, stratum by stratum.
fn views(out: &mut String, description: &Description) -> std::fmt::Result {
    let strata = description.views.strata().iter();
    let strata = strata.map(|stratum| match &stratum.denoising {
        Some(denoising) => format!("one through noise of {}", denoising.level),
        None => format!("{} at {}", stratum.hidden.len(), stratum.ratio),
    });
    let strata: Vec<String> = strata.collect();
    let plan = word(&description.views_config.plan);
    writeln!(
        out,
        "views        {} ({plan}): {}",
        description.views.len(),
        strata.join(", ")
    )
}

/// What a record is measured by besides its fields; no line where there is nothing.
fn distances(out: &mut String, detector: &Detector) -> std::fmt::Result {
    let distances = detector.scorer().model().distances();
    let latent = distances
        .latent
        .as_ref()
        .map(|_| "of the latent".to_owned());
    let nearest = distances.nearest.as_ref();
    let nearest = nearest.map(|rows| {
        let count = rows.len();
        format!("to the nearest of {count} training rows, which the bundle holds")
    });
    let measured: Vec<String> = latent.into_iter().chain(nearest).collect();
    if !measured.is_empty() {
        writeln!(out, "distances    {}", measured.join("; "))?;
    }
    Ok(())
}

fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}

/// The word that files use for a value of a closed list.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => other.map_or_else(|_| "?".to_owned(), |value| value.to_string()),
    }
}

/// What `run.json` says; a key that is missing or of another type is shown as `-`.
fn training(out: &mut String, run: &Value) -> std::fmt::Result {
    let number = |pointer: &str, digits: usize| {
        let number = run.pointer(pointer).and_then(Value::as_f64);
        number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
    };
    writeln!(
        out,
        "\ntraining     {} steps (kept step {}), held-out loss {}, {} s of {} s in all, maskwatch {}",
        number("/fit/steps", 0),
        number("/fit/best_step", 0),
        number("/fit/held_out_loss", 4),
        number("/fit/seconds", 1),
        number("/seconds", 1),
        run.get("version")
            .and_then(Value::as_str)
            .map_or_else(|| "-".to_owned(), printable),
    )?;
    let texts = |key: &str| -> Vec<String> {
        let texts = run.get(key).and_then(Value::as_array).into_iter().flatten();
        texts.filter_map(Value::as_str).map(printable).collect()
    };
    for warning in texts("warnings").iter().take(WARNINGS_SHOWN_MAX) {
        writeln!(out, "warning      {warning}")?;
    }
    let files = texts("files");
    for file in files.iter().take(FILES_SHOWN_MAX) {
        writeln!(out, "             {file}")?;
    }
    if files.len() > FILES_SHOWN_MAX {
        writeln!(
            out,
            "             and {} more files",
            files.len() - FILES_SHOWN_MAX
        )?;
    }
    Ok(())
}

/// Text of an undigested file, without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::encode::{Encoder, EncoderFitter};
    use crate::schema::Kind;
    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn an_odd_report_of_training_is_shown_as_far_as_it_goes() {
        for odd in [
            json!(null),
            json!([1]),
            json!({"fit": 3, "files": "x", "version": 1}),
        ] {
            let mut text = String::new();
            training(&mut text, &odd).unwrap();
            assert!(
                text.contains("training     - steps (kept step -)"),
                "{text}"
            );
        }
        let mut text = String::new();
        let run = json!({"fit": {"steps": 40, "held_out_loss": 1.5}, "files": ["a\u{1b}[2J"]});
        training(&mut text, &run).unwrap();
        assert!(
            text.contains("40 steps (kept step -), held-out loss 1.5000"),
            "{text}"
        );
        assert!(text.contains("a?[2J"), "{text}");
    }

    /// Knows 100 fees, of which 25 are 2.5 and the others 0.
    fn fee_encoder(fee: &Field) -> Encoder {
        let mut fitter = EncoderFitter::new(std::slice::from_ref(fee), 8).unwrap();
        let seen = (0..100).map(|i| if i % 4 == 0 { 2.5 } else { 0.0 });
        let column: ArrayRef = Arc::new(Float64Array::from_iter_values(seen));
        let batch = RecordBatch::try_from_iter([("fee", column)]).unwrap();
        fitter.observe(&batch).unwrap();
        fitter.finish().unwrap()
    }

    #[test]
    fn the_two_values_of_a_number_are_named_unless_it_is_redacted() {
        let mut fee = Field::feature("fee", Kind::Numeric);
        let encoder = fee_encoder(&fee);
        let shown = learned(&fee, &encoder.fields()[0]);
        assert_eq!(shown, "0 or 2.5, unseen 4.62 nats");
        fee.redact = true;
        let shown = learned(&fee, &encoder.fields()[0]);
        assert_eq!(shown, "two values, unseen 4.62 nats, redacted");
        let mut number = encoder.fields()[0].clone();
        if let ValueEncoder::Binary(binary) = number.value {
            number.value = ValueEncoder::Numeric(binary.number);
        }
        let shown = learned(&fee, &number);
        assert_eq!(shown, "mean, scale and quantiles not shown, redacted");
        fee.redact = false;
        assert!(learned(&fee, &number).starts_with("mean 0."));
    }

    #[test]
    fn a_run_that_is_no_json_is_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_run(dir.path()), None);
        std::fs::write(run_path(dir.path()), "{").unwrap();
        assert_eq!(read_run(dir.path()), None);
        std::fs::write(run_path(dir.path()), "{}").unwrap();
        assert_eq!(read_run(dir.path()), Some(json!({})));
    }

    #[test]
    fn a_moment_that_is_none_is_unknown() {
        assert!(moment(1_767_571_200).starts_with("2026-01-05T00:00:00"));
        assert_eq!(moment(u64::MAX), "unknown");
    }
}
