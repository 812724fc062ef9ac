//! The columns that `score` adds to its input, and the table they make together.
//!
//! In flow raw batches, scores of their good rows and the faults of the bad, out flow batches of the
//! output's Arrow schema with the same rows in the same order.

use super::bad_rows::{fault_text, spread};
use super::exit::BadData;
use crate::records::{ParquetSource, RowFault, SourceFile};
use crate::score::{AlertBudget, PartPValues, Reason, Scores};
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;

/// What is written beside scores.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Reasons.
    pub explain: bool,
    /// What tells two detectors apart: labels made a second one.
    pub parts: bool,
}

/// The columns of a reason; `observed` and `expected` are JSON text, since their types differ from
/// field to field. What a field added to log-odds is told where labels made a detector.
fn reason_fields(parts: bool) -> Fields {
    let mut fields = vec![
        Field::new("field", DataType::Utf8, false),
        Field::new("surprise", DataType::Float32, false),
        Field::new("p_value", DataType::Float64, false),
        Field::new("observed", DataType::Utf8, false),
        Field::new("expected", DataType::Utf8, false),
    ];
    fields.extend(parts.then(|| Field::new("contribution", DataType::Float32, true)));
    Fields::from(fields)
}

fn reason_item(parts: bool) -> FieldRef {
    let fields = DataType::Struct(reason_fields(parts));
    Arc::new(Field::new("item", fields, false))
}

fn added_fields(Wanted { explain, parts }: Wanted) -> Vec<FieldRef> {
    let mut fields = vec![
        Field::new("anomaly_score", DataType::Float32, true),
        Field::new("p_value", DataType::Float64, true),
        Field::new("alert", DataType::Boolean, true),
        Field::new("error", DataType::Utf8, true),
    ];
    if parts {
        fields.extend([
            Field::new("p_value_unsupervised", DataType::Float64, true),
            Field::new("p_value_supervised", DataType::Float64, true),
            Field::new("fired", DataType::Utf8, true),
        ]);
    }
    if explain {
        let list = DataType::List(reason_item(parts));
        fields.push(Field::new("reasons", list, true));
    }
    fields.into_iter().map(Arc::new).collect()
}

/// The Arrow schema of the output: the columns of the input, of all its files together, then the added ones.
///
/// # Errors
/// [`BadData`] with every column that has the name of an added one.
pub fn output_schema(source: &ParquetSource, wanted: Wanted) -> Result<SchemaRef, BadData> {
    let files = source.files();
    let added = added_fields(wanted);
    let mut faults: Vec<String> = files.iter().flat_map(|file| taken(file, &added)).collect();
    if !faults.is_empty() {
        faults.truncate(FAULTS_SHOWN_MAX);
        return Err(BadData(faults.join("; ")));
    }
    let columns = source.columns();
    let fields: Fields = columns.fields().iter().cloned().chain(added).collect();
    Ok(Arc::new(Schema::new_with_metadata(
        fields,
        columns.metadata().clone(),
    )))
}

/// Faults that a message shows: enough to see what is wrong with a folder of files.
const FAULTS_SHOWN_MAX: usize = 20;

fn taken(file: &SourceFile, added: &[FieldRef]) -> Vec<String> {
    let is_taken = |name: &&String| file.schema().column_with_name(name).is_some();
    let names = added.iter().map(|field| field.name()).filter(is_taken);
    let path = file.path().display();
    names
        .map(|name| format!("{path}: column '{name}' has the name of a column that score writes"))
        .collect()
}

/// What scoring said of the good rows of a batch.
pub struct Scored {
    /// One entry a good row.
    pub scores: Scores,
    /// One list a good row, if reasons are wanted.
    pub reasons: Option<Vec<Vec<Reason>>>,
}

/// The rows of `raw` with the added columns; the bad rows have nulls there, and their `error`.
///
/// # Errors
/// If Arrow fails, or a reason cannot be written as JSON: defects.
pub fn with_scores(
    schema: &SchemaRef,
    raw: &RecordBatch,
    faults: &[RowFault],
    scored: Scored,
    budget: AlertBudget,
) -> anyhow::Result<RecordBatch> {
    let rows = raw.num_rows();
    let Scores {
        anomaly_score,
        p_value,
        parts,
        ..
    } = scored.scores;
    let has_parts = schema.column_with_name("p_value_supervised").is_some();
    let p_value = spread(p_value, faults, rows);
    let alert: BooleanArray = p_value
        .iter()
        .map(|p| p.map(|p| budget.is_alert(p)))
        .collect();
    let mut error = vec![None; rows];
    faults
        .iter()
        .for_each(|fault| error[fault.row] = Some(fault_text(fault)));
    let mut columns: Vec<ArrayRef> = raw.columns().to_vec();
    columns.extend([
        Arc::new(Float32Array::from(spread(anomaly_score, faults, rows))) as ArrayRef,
        Arc::new(Float64Array::from(p_value)),
        Arc::new(alert),
        Arc::new(StringArray::from(error)),
    ]);
    if has_parts {
        columns.extend(part_columns(parts, faults, rows, budget));
    }
    if let Some(reasons) = scored.reasons {
        let reasons = spread(reasons, faults, rows);
        columns.push(Arc::new(reasons_column(&reasons, has_parts)?));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// The p-values of both detectors and the names of those that flag the row, with a comma between; a batch without a good row
/// has none.
fn part_columns(
    parts: Option<PartPValues>,
    faults: &[RowFault],
    rows: usize,
    budget: AlertBudget,
) -> [ArrayRef; 3] {
    let fired = |parts: &PartPValues| -> Vec<String> {
        let names = |row| {
            let fired = parts.fired(row, budget);
            let names: Vec<&str> = fired.into_iter().map(|part| part.as_str()).collect();
            names.join(",")
        };
        (0..parts.supervised.len()).map(names).collect()
    };
    let fired = parts.as_ref().map(fired).unwrap_or_default();
    let (unsupervised, supervised) = match parts {
        Some(parts) => (parts.unsupervised, parts.supervised),
        None => (Vec::new(), Vec::new()),
    };
    [
        Arc::new(Float64Array::from(spread(unsupervised, faults, rows))),
        Arc::new(Float64Array::from(spread(supervised, faults, rows))),
        Arc::new(StringArray::from(spread(fired, faults, rows))),
    ]
}

/// One list a row, null for the bad rows.
fn reasons_column(rows: &[Option<Vec<Reason>>], parts: bool) -> anyhow::Result<ListArray> {
    let reasons = || rows.iter().flatten().flatten();
    let text = |of: fn(&Reason) -> serde_json::Result<String>| {
        reasons()
            .map(of)
            .collect::<serde_json::Result<Vec<_>>>()
            .map(StringArray::from)
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(
            reasons().map(|reason| &reason.field),
        )),
        Arc::new(Float32Array::from_iter_values(
            reasons().map(|reason| reason.surprise),
        )),
        Arc::new(Float64Array::from_iter_values(
            reasons().map(|reason| reason.p_value),
        )),
        Arc::new(text(|reason| serde_json::to_string(&reason.observed))?),
        Arc::new(text(|reason| serde_json::to_string(&reason.expected))?),
    ];
    if parts {
        let contributions = reasons().map(|reason| reason.contribution);
        columns.push(Arc::new(Float32Array::from_iter(contributions)));
    }
    let lengths = rows
        .iter()
        .map(|reasons| reasons.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let structs = StructArray::try_new(reason_fields(parts), columns, None)?;
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let list: Result<_, ArrowError> =
        ListArray::try_new(reason_item(parts), offsets, Arc::new(structs), Some(nulls));
    Ok(list?)
}
