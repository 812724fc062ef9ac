//! Whether a model can follow another one while the stream runs, and that it scores before it has to.
//!
//! In flow a loaded model and the one that serves, out flows what is against the exchange. Invariant: nothing of a model that is
//! refused is seen by a record.

use crate::Detector;
use crate::records::canonical_schema;
use crate::schema::{Field, Schema};
use crate::score::Explain;
use anyhow::{Context, ensure};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Records of the batch that warms a model up: as many as make all threads work.
const WARM_UP_ROWS: usize = 128;
/// Reasons that are asked for then.
const WARM_UP_REASONS: usize = 3;
/// The moment of those records, microseconds since 1970.
const WARM_UP_MOMENT: i64 = 1_767_225_600_000_000;
/// Fields that a line of the log names at most.
const NAMED_MAX: usize = 10;

/// Whether `next` may follow `running`. Says which fields come and go.
///
/// # Errors
/// Another key or time field, since `event_id` and `event_time` of the outputs would change their meaning; no feature in common,
/// since then it is a model of other records.
pub fn check_follows(running: &Schema, next: &Schema) -> anyhow::Result<Option<String>> {
    for (role, running, next) in [
        ("key", running.key(), next.key()),
        ("time", running.time(), next.time()),
    ] {
        let name = |field: Option<&Field>| {
            field.map_or("none".to_owned(), |field| format!("`{}`", field.path))
        };
        let (running, next) = (name(running), name(next));
        ensure!(
            running == next,
            "its {role} field is {next}, that of the running model is {running}; the meaning of `{}` in the outputs would \
             change, which needs a restart",
            if role == "key" {
                "event_id"
            } else {
                "event_time"
            }
        );
    }
    let names = |schema: &Schema| -> BTreeSet<String> {
        schema
            .features()
            .map(|field| field.path.to_string())
            .collect()
    };
    let (running, next) = (names(running), names(next));
    ensure!(
        running.intersection(&next).next().is_some(),
        "it has no feature in common with the running model, so it is a model of other records"
    );
    let listed = |names: Vec<&String>| {
        let shown: Vec<&str> = names
            .iter()
            .take(NAMED_MAX)
            .map(|name| name.as_str())
            .collect();
        let more = names.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", shown.join(", "))
    };
    let added: Vec<&String> = next.difference(&running).collect();
    let removed: Vec<&String> = running.difference(&next).collect();
    let parts = [("new features", added), ("features that are gone", removed)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", listed(names)))
        .collect();
    Ok((!parts.is_empty()).then(|| parts.join("; ")))
}

/// Scores made-up records twice, so that the first real ones find everything in place.
///
/// # Errors
/// A model that cannot score, or gives what is no score.
pub fn warm_up(detector: &Detector) -> anyhow::Result<()> {
    let batch = made_up(detector.schema())?;
    let explain = Explain::All {
        reasons_max: WARM_UP_REASONS,
    };
    for _ in 0..2 {
        let assessed = detector.assess(&batch, explain);
        let scores = assessed.context("it cannot score a made-up record")?.scores;
        let are_scores = scores.anomaly_score.iter().all(|score| score.is_finite());
        let are_p_values = scores.p_value.iter().all(|p| *p > 0.0 && *p <= 1.0);
        ensure!(
            are_scores && are_p_values && scores.p_value.len() == WARM_UP_ROWS,
            "a made-up record has the score {:?} and the p-value {:?}",
            scores.anomaly_score.first(),
            scores.p_value.first()
        );
    }
    Ok(())
}

/// Canonical records with a value in every column.
fn made_up(schema: &Schema) -> anyhow::Result<RecordBatch> {
    let columns = canonical_schema(schema);
    let arrays: Result<Vec<ArrayRef>, arrow::error::ArrowError> = columns
        .fields()
        .iter()
        .map(|column| {
            let rows = 0..WARM_UP_ROWS;
            let made: ArrayRef = match column.data_type() {
                DataType::Boolean => {
                    Arc::new(BooleanArray::from_iter(rows.map(|n| Some(n % 2 == 0))))
                }
                DataType::Utf8 => {
                    Arc::new(StringArray::from_iter(rows.map(|n| Some(n.to_string()))))
                }
                DataType::Timestamp(TimeUnit::Microsecond, _) => {
                    let moments = rows.map(|_| Some(WARM_UP_MOMENT));
                    Arc::new(TimestampMicrosecondArray::from_iter(moments))
                }
                kind if kind.is_numeric() => {
                    Arc::new(Float64Array::from_iter(rows.map(|n| Some(n as f64))))
                }
                kind => new_null_array(kind, WARM_UP_ROWS),
            };
            cast(&made, column.data_type())
        })
        .collect();
    Ok(RecordBatch::try_new(columns, arrays?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn schema(fields: &[(&str, &str)]) -> Schema {
        let fields = fields
            .iter()
            .map(|(name, rest)| format!("[[field]]\nname = \"{name}\"\n{rest}\n"));
        Schema::parse(&fields.collect::<String>(), "schema.toml").unwrap()
    }

    const NUMBER: &str = "kind = \"numeric\"";
    const KEY: &str = "kind = \"categorical\"\nrole = \"key\"";
    const TIME: &str = "kind = \"timestamp\"\nrole = \"time\"";

    #[test]
    fn fields_may_come_and_go_but_not_all_and_outputs_keep_their_meaning() {
        let running = schema(&[
            ("id", KEY),
            ("at", TIME),
            ("amount", NUMBER),
            ("age", NUMBER),
        ]);
        assert_eq!(check_follows(&running, &running).unwrap(), None);
        let next = schema(&[
            ("id", KEY),
            ("at", TIME),
            ("amount", NUMBER),
            ("size", NUMBER),
        ]);
        let told = check_follows(&running, &next).unwrap();
        assert_eq!(
            told.as_deref(),
            Some("new features: size; features that are gone: age")
        );
        for (next, part) in [
            (
                schema(&[("card", KEY), ("at", TIME), ("amount", NUMBER)]),
                "its key field is `card`, that of the running model is `id`",
            ),
            (
                schema(&[("id", KEY), ("amount", NUMBER)]),
                "its time field is none",
            ),
            (
                schema(&[("id", KEY), ("at", TIME), ("weight", NUMBER)]),
                "no feature in common",
            ),
        ] {
            let error = check_follows(&running, &next).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_made_up_record_has_a_value_in_every_column() {
        let text = include_str!("../../schemas/payments.toml");
        let batch = made_up(&Schema::parse(text, "payments.toml").unwrap()).unwrap();
        assert_eq!(batch.num_rows(), WARM_UP_ROWS);
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            assert_eq!(column.null_count(), 0, "{}", field.name());
        }
    }
}
