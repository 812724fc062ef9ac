//! Why a record is unusual: its most surprising fields, what they held and what was expected of them.

use super::predictive::expected;
use super::scorer::{ScoreError, Scorer};
use super::types::{Expected, Reason};
use crate::features::{Records, moment_to_text, number_to_json};
use crate::schema::Schema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use serde_json::Value;

/// Bytes of an observed text that an explanation shows.
pub const OBSERVED_BYTES_MAX: usize = 256;
/// What stands for the value of a field with `redact`.
pub const REDACTED: &str = "***";

impl Scorer {
    /// The `reasons_max` most unusual fields of each record, the most unusual first.
    ///
    /// `batch` is the canonical batch that `records` were encoded from, with the same rows; `schema` says which fields
    /// are redacted.
    ///
    /// # Errors
    /// [`ScoreError::Tensor`].
    pub fn explain(
        &self,
        schema: &Schema,
        batch: &RecordBatch,
        records: &Records,
        reasons_max: usize,
    ) -> Result<Vec<Vec<Reason>>, ScoreError> {
        let mut explained = Vec::with_capacity(records.rows());
        let surprises = self.model().surprises(records)?;
        for row in 0..records.rows() {
            let surprisal = |field| self.reference().field_surprisal(&surprises, row, field);
            let fields = self.model().axes().fields;
            let mut ranked: Vec<(usize, f32)> =
                (0..fields).map(|field| (field, surprisal(field))).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            ranked.truncate(reasons_max);
            let logits = self.model().logits(records, row)?;
            let mut reasons = Vec::with_capacity(ranked.len());
            for (field, _) in ranked {
                let views: Vec<Vec<f32>> = logits.of(field).map(<[f32]>::to_vec).collect();
                let surprise = surprises.field(row, field, 0);
                let p_value = self.reference().field_p_value(&surprises, row, field);
                let place = Place { batch, row, field };
                reasons.push(self.reason(schema, place, &views, surprise, p_value));
            }
            explained.push(reasons);
        }
        Ok(explained)
    }

    fn reason(
        &self,
        schema: &Schema,
        place: Place<'_>,
        views: &[Vec<f32>],
        surprise: f32,
        p_value: f64,
    ) -> Reason {
        let encoder = &self.model().encoder().fields()[place.field];
        let redact = schema
            .features()
            .nth(place.field)
            .is_some_and(|field| field.redact);
        let (observed, expected) = if redact {
            (Value::from(REDACTED), Expected::Redacted(REDACTED))
        } else {
            let head = self.model().model().heads().field(place.field);
            let residuals = self.reference().reading(place.field, 0);
            (
                place.observed(&encoder.name),
                expected(encoder, head, views, residuals),
            )
        };
        Reason {
            field: encoder.name.clone(),
            surprise,
            p_value,
            observed,
            expected,
        }
    }
}

/// One field of one row.
#[derive(Clone, Copy)]
struct Place<'a> {
    batch: &'a RecordBatch,
    row: usize,
    field: usize,
}

impl Place<'_> {
    /// The value as JSON: numbers and booleans as such, moments as RFC 3339, text cut.
    fn observed(&self, name: &str) -> Value {
        let Some(column) = self.batch.column_by_name(name) else {
            return Value::Null;
        };
        if column.is_null(self.row) {
            return Value::Null;
        }
        match column.data_type() {
            DataType::Float64 => {
                number_to_json(column.as_primitive::<Float64Type>().value(self.row))
            }
            DataType::Boolean => Value::from(column.as_boolean().value(self.row)),
            DataType::Utf8 => Value::from(cut(column.as_string::<i32>().value(self.row))),
            DataType::Timestamp(..) => {
                let micros = column
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(self.row);
                moment_to_text(micros).map_or(Value::Null, Value::from)
            }
            _ => Value::Null,
        }
    }
}

/// The longest beginning of at most [`OBSERVED_BYTES_MAX`] bytes that is text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(OBSERVED_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(200);
        assert_eq!(cut(&text).len(), 256);
        let text = format!("a{text}");
        assert_eq!(cut(&text).len(), 255);
        assert_eq!(cut("short"), "short");
    }
}
