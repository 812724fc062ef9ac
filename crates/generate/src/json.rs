//! Payments as JSON, one object each, for a topic or a file of lines.
//!
//! The object has the batch's columns in order; null stays null, moments become RFC 3339 in UTC
//! with milliseconds, numbers the shortest text that reads back as the same f64.

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat};

use super::error::GenerateError;

/// The columns of one batch of payments, ready to be written row by row.
#[derive(Debug)]
pub struct JsonRows<'a> {
    rows: usize,
    /// `"name":` and the column.
    columns: Vec<(String, Column<'a>)>,
}

#[derive(Debug)]
enum Column<'a> {
    Text(&'a StringArray),
    Number(&'a Float64Array),
    Integer(&'a Int64Array),
    Flag(&'a BooleanArray),
    Moment(&'a TimestampMillisecondArray),
}

impl<'a> JsonRows<'a> {
    /// Looks the columns up once for all rows.
    ///
    /// # Errors
    /// [`GenerateError::ColumnType`] for a column of a type that payments do not have.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, GenerateError> {
        let column = |(field, array): (&arrow::datatypes::FieldRef, &'a arrow::array::ArrayRef)| {
            let column = match field.data_type() {
                DataType::Utf8 => Column::Text(array.as_string()),
                DataType::Float64 => Column::Number(array.as_primitive()),
                DataType::Int64 => Column::Integer(array.as_primitive()),
                DataType::Boolean => Column::Flag(array.as_boolean()),
                DataType::Timestamp(TimeUnit::Millisecond, _) => {
                    Column::Moment(array.as_primitive())
                }
                other => {
                    let (column, found) = (field.name().clone(), other.to_string());
                    return Err(GenerateError::ColumnType { column, found });
                }
            };
            Ok((
                format!("{}:", serde_json::Value::from(field.name().as_str())),
                column,
            ))
        };
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        Ok(Self {
            rows: batch.num_rows(),
            columns: columns.map(column).collect::<Result<_, _>>()?,
        })
    }

    /// Appends row `row` as one JSON object without a line end.
    ///
    /// # Errors
    /// [`GenerateError::NoSuchRow`] beyond the batch; [`GenerateError::NoSuchDate`] for a moment
    /// that no calendar holds. `out` then keeps what was there, and the object's beginning is taken
    /// back.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), GenerateError> {
        if row >= self.rows {
            return Err(GenerateError::NoSuchRow {
                row,
                rows: self.rows,
            });
        }
        let start = out.len();
        let written = self.write_object(row, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_object(&self, row: usize, out: &mut Vec<u8>) -> Result<(), GenerateError> {
        let mut separator = b'{';
        for (name, column) in &self.columns {
            out.push(separator);
            separator = b',';
            out.extend_from_slice(name.as_bytes());
            column.write(row, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

impl Column<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), GenerateError> {
        if self.array().is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self {
            Self::Text(texts) => write_value(texts.value(row), out),
            Self::Number(numbers) => write_value(&numbers.value(row), out),
            Self::Integer(numbers) => write_value(&numbers.value(row), out),
            Self::Flag(flags) => write_value(&flags.value(row), out),
            Self::Moment(moments) => {
                let milliseconds = moments.value(row);
                let date = DateTime::from_timestamp_millis(milliseconds)
                    .ok_or(GenerateError::NoSuchDate { row, milliseconds })?;
                write_value(
                    date.to_rfc3339_opts(SecondsFormat::Millis, true).as_str(),
                    out,
                )
            }
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Text(array) => array,
            Self::Number(array) => array,
            Self::Integer(array) => array,
            Self::Flag(array) => array,
            Self::Moment(array) => array,
        }
    }
}

fn write_value<T: serde::Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), GenerateError> {
    serde_json::to_writer(out, value).map_err(|error| {
        GenerateError::Batch(arrow::error::ArrowError::from_external_error(error.into()))
    })
}

/// All rows of a batch of payments, one object a line, each line ended by `\n`.
///
/// # Errors
/// Those of [`JsonRows::new`] and [`JsonRows::write`].
pub fn to_json_lines(batch: &RecordBatch) -> Result<Vec<u8>, GenerateError> {
    /// About the length of a payment.
    const LINE_BYTES: usize = 560;
    let rows = JsonRows::new(batch)?;
    let mut out = Vec::with_capacity(batch.num_rows() * LINE_BYTES);
    for row in 0..batch.num_rows() {
        rows.write(row, &mut out)?;
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, StringArray, TimestampMillisecondArray};
    use serde_json::Value;

    use super::super::{Generator, GeneratorConfig};
    use super::*;

    #[test]
    fn every_line_reads_back_as_its_row() {
        let config = GeneratorConfig {
            customers: 50,
            terminals: 50,
            ..Default::default()
        };
        let batch = Generator::new(&config).unwrap().next_batch(300).unwrap();
        let lines = to_json_lines(&batch).unwrap();
        let text = std::str::from_utf8(&lines).unwrap();
        assert_eq!(text.lines().count(), 300);
        for (row, line) in text.lines().enumerate() {
            let value: Value = serde_json::from_str(line).unwrap();
            let object = value.as_object().unwrap();
            assert_eq!(object.len(), batch.num_columns());
            let amounts: &Float64Array = batch["amount"].as_primitive();
            assert_eq!(object["amount"].as_f64().unwrap(), amounts.value(row));
            assert_eq!(
                object["distance_km"].is_null(),
                batch["distance_km"].is_null(row)
            );
            let moments: &TimestampMillisecondArray = batch["time"].as_primitive();
            let time = object["time"].as_str().unwrap();
            assert!(time.ends_with('Z') && time.len() == 24, "{time}");
            let read = DateTime::parse_from_rfc3339(time).unwrap();
            assert_eq!(read.timestamp_millis(), moments.value(row));
        }
    }

    #[test]
    fn text_is_escaped() {
        let column: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["a\"b\n"]));
        let batch = RecordBatch::try_from_iter([("na\"me", column)]).unwrap();
        assert_eq!(
            to_json_lines(&batch).unwrap(),
            b"{\"na\\\"me\":\"a\\\"b\\n\"}\n"
        );
    }

    #[test]
    fn what_no_payment_holds_is_refused_by_name() {
        let column: arrow::array::ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..]]));
        let batch = RecordBatch::try_from_iter([("raw", column)]).unwrap();
        let message = JsonRows::new(&batch).unwrap_err().to_string();
        assert_eq!(message, "column raw has type Binary, which no payment has");
    }

    #[test]
    fn a_failed_row_leaves_what_was_written_before() {
        let column: arrow::array::ArrayRef =
            Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]));
        let batch = RecordBatch::try_from_iter([("time", column)]).unwrap();
        let rows = JsonRows::new(&batch).unwrap();
        let mut out = b"before".to_vec();
        assert!(matches!(
            rows.write(0, &mut out),
            Err(GenerateError::NoSuchDate { .. })
        ));
        assert!(matches!(
            rows.write(1, &mut out),
            Err(GenerateError::NoSuchRow { .. })
        ));
        assert_eq!(out, b"before");
    }
}
