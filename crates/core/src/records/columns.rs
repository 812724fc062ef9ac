//! Columns of canonical values that grow a row at a time and take a row back without a trace.
//!
//! Decoders put the values of one record with [`Columns::put`] and then either [`Columns::commit`] the row (what was not
//! put is null) or [`Columns::roll_back`]. The invariant: between rows every column has exactly as many values as rows
//! were committed, so a fault in the middle of a record cannot move or change a neighbour. What a value may be in a
//! field of which kind stands here once, for JSON and Avro alike.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;

use super::canonical::canonical_schema;
use super::decode_error::DecodeError;
use super::fault::{Fault, FaultReason, shown};
use super::target::Target;
use super::value::{
    SINGLE_EXACT_MAX, decimal_from_base64, decimal_from_bytes, exact_whole, flag_from_text,
    label_from_number, label_from_text, microseconds, microseconds_of_number, moment_from_text,
    moment_to_text,
};
use crate::schema::{Field, Schema, Spelling};

/// Bytes of text one column of a batch may have: Arrow's 32-bit offsets end there.
const TEXT_BYTES_MAX: usize = i32::MAX as usize;

/// A value as a message holds it, before it is known whether its field takes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Null; absent values are not put at all, which means the same.
    Null,
    /// True or false.
    Boolean(bool),
    /// An integer within 64 bits with sign.
    Integer(i64),
    /// An integer beyond that; use [`Value::whole`].
    Whole(i128),
    /// Any other number; NaN and infinities (Avro only) are null.
    Float(f64),
    /// The same in single precision (Avro only), in which large integers are not exact.
    Single(f32),
    /// Text.
    Text(&'a str),
    /// Bytes that no type explains (Avro only).
    Bytes(&'a [u8]),
    /// A UUID that is not written as text.
    Uuid([u8; 16]),
    /// A moment in microseconds since 1970-01-01T00:00:00Z, in the years 0000 to 9999.
    Moment(i64),
    /// Something no field takes; the words name it ("an object").
    Other(&'static str),
}

impl Value<'_> {
    /// An integer of any width.
    pub fn whole(value: i128) -> Self {
        i64::try_from(value).map_or(Self::Whole(value), Self::Integer)
    }
}

/// The values of one column; the variant follows the target.
#[derive(Debug)]
enum Values {
    Number(Vec<f64>),
    Flag(BooleanBufferBuilder),
    Moment(Vec<i64>),
    Text {
        bytes: Vec<u8>,
        ends: Vec<i32>,
        full: bool,
    },
}

impl Values {
    fn new(target: Target) -> Self {
        match target {
            Target::Number { .. } => Self::Number(Vec::new()),
            Target::Flag { .. } | Target::Label => Self::Flag(BooleanBufferBuilder::new(0)),
            Target::Moment { .. } => Self::Moment(Vec::new()),
            Target::Category | Target::Key => Self::Text {
                bytes: Vec::new(),
                ends: vec![0],
                full: false,
            },
        }
    }

    fn reserve(&mut self, rows: usize) {
        match self {
            Self::Number(values) => values.reserve(rows),
            Self::Flag(values) => values.reserve(rows),
            Self::Moment(values) => values.reserve(rows),
            Self::Text { ends, .. } => ends.reserve(rows),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Number(values) => values.push(0.0),
            Self::Flag(values) => values.append(false),
            Self::Moment(values) => values.push(0),
            Self::Text { .. } => self.end_text(),
        }
    }

    /// Ends the text of a row where the bytes end now.
    fn end_text(&mut self) {
        if let Self::Text { bytes, ends, full } = self {
            match i32::try_from(bytes.len()) {
                Ok(end) => ends.push(end),
                Err(_) => {
                    // `finish` refuses the batch; until then the memory stays bounded.
                    *full = true;
                    let end = ends.last().copied().unwrap_or(0);
                    bytes.truncate(end as usize);
                    ends.push(end);
                }
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Number(values) => values.truncate(rows),
            Self::Flag(values) => values.truncate(rows),
            Self::Moment(values) => values.truncate(rows),
            Self::Text { bytes, ends, .. } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
    }
}

/// One column that grows.
#[derive(Debug)]
struct Column {
    name: String,
    target: Target,
    spelling: Spelling,
    redact: bool,
    rows: usize,
    valid: NullBufferBuilder,
    values: Values,
}

impl Column {
    fn new(field: &Field) -> Self {
        let target = Target::of(field);
        Self {
            name: field.name.clone(),
            target,
            spelling: Spelling::of(field),
            redact: field.redact,
            rows: 0,
            valid: NullBufferBuilder::new(0),
            values: Values::new(target),
        }
    }

    fn push_null(&mut self) {
        self.values.push_null();
        self.valid.append_null();
        self.rows += 1;
    }

    fn push_valid(&mut self) {
        self.valid.append_non_null();
        self.rows += 1;
    }

    /// Appends `value`, or says that the column does not take it and appends nothing.
    fn push(&mut self, value: Value<'_>) -> Result<(), ()> {
        let value = match value {
            Value::Single(value) => {
                let value = f64::from(value);
                let is_text = matches!(self.values, Values::Text { .. });
                if is_text && value.is_finite() && value.abs() >= SINGLE_EXACT_MAX {
                    return Err(());
                }
                Value::Float(value)
            }
            value => value,
        };
        let null = match value {
            Value::Null => true,
            Value::Float(value) if !value.is_finite() => self.target.takes_floats(),
            _ => self.spelling.has_nulls() && self.means_null(value),
        };
        if null {
            self.push_null();
            return Ok(());
        }
        match &mut self.values {
            Values::Number(values) => {
                let number = number(value, self.target, &self.spelling);
                values.push(number.ok_or(())?);
            }
            Values::Flag(values) => values.append(flag(value, self.target).ok_or(())?),
            Values::Moment(values) => {
                let micros = moment(value, self.target).ok_or(())?;
                if self.spelling.is_null_moment(micros) {
                    self.push_null();
                    return Ok(());
                }
                values.push(micros);
            }
            Values::Text { bytes, .. } => {
                write_text(value, self.target, bytes)?;
                self.values.end_text();
            }
        }
        self.push_valid();
        Ok(())
    }

    /// Whether the field declares `value` as null, by its text or by its number.
    fn means_null(&self, value: Value<'_>) -> bool {
        match value {
            Value::Text(text) if self.spelling.is_null_text(text) => true,
            Value::Text(_) | Value::Integer(_) | Value::Whole(_) | Value::Float(_)
                if matches!(self.target, Target::Number { .. }) =>
            {
                let number = number(value, self.target, &self.spelling);
                number.is_some_and(|number| self.spelling.is_null_number(number))
            }
            Value::Integer(value) => self.spelling.is_null_integer(value.into()),
            Value::Whole(value) => self.spelling.is_null_integer(value),
            Value::Float(value) => self.spelling.is_null_number(value),
            _ => false,
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, DecodeError> {
        let rows = std::mem::take(&mut self.rows);
        let nulls: Option<NullBuffer> = self.valid.finish();
        let values = std::mem::replace(&mut self.values, Values::new(self.target));
        debug_assert!(nulls.as_ref().is_none_or(|nulls| nulls.len() == rows));
        Ok(match values {
            Values::Number(values) => {
                Arc::new(Float64Array::try_new(ScalarBuffer::from(values), nulls)?)
            }
            Values::Flag(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Moment(values) => Arc::new(
                TimestampMicrosecondArray::try_new(ScalarBuffer::from(values), nulls)?
                    .with_timezone("UTC"),
            ),
            Values::Text { full: true, .. } => {
                let field = self.name.clone();
                return Err(DecodeError::BatchTooLarge {
                    field,
                    limit: TEXT_BYTES_MAX,
                });
            }
            Values::Text {
                bytes,
                ends,
                full: false,
            } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(bytes), nulls)?)
            }
        })
    }
}

/// `value` as f64: integers beyond 2^53 are rounded to the nearest.
fn number(value: Value<'_>, target: Target, spelling: &Spelling) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(value as f64),
        Value::Whole(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        Value::Text(text) => text_number(text, target, spelling),
        Value::Bytes(bytes) => match target {
            Target::Number { decimal_scale, .. } => decimal_from_bytes(bytes, decimal_scale?),
            _ => None,
        },
        _ => None,
    }
}

/// `text` as f64: with a scale it is base64 and never digits, whatever it looks like.
fn text_number(text: &str, target: Target, spelling: &Spelling) -> Option<f64> {
    match target {
        Target::Number {
            decimal_scale: Some(scale),
            ..
        } => decimal_from_base64(text, scale),
        Target::Number { parse: true, .. } => spelling.number(text),
        _ => None,
    }
}

/// `value` as a boolean; a label and a flag with `parse` also take 0 and 1 as numbers or text, and the words.
fn flag(value: Value<'_>, target: Target) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(value),
        _ if target == (Target::Flag { parse: false }) => None,
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Float(value) => label_from_number(value),
        Value::Text(text) if target == Target::Label => label_from_text(text),
        Value::Text(text) => flag_from_text(text),
        _ => None,
    }
}

/// `value` as microseconds since 1970, if it is a moment in the years 0000 to 9999.
fn moment(value: Value<'_>, target: Target) -> Option<i64> {
    match (value, target) {
        (Value::Moment(micros), _) => Some(micros),
        (Value::Text(text), _) => moment_from_text(text),
        (Value::Integer(count), Target::Moment { unit: Some(unit) }) => {
            microseconds(count.into(), unit)
        }
        (Value::Whole(count), Target::Moment { unit: Some(unit) }) => microseconds(count, unit),
        (Value::Float(count), Target::Moment { unit: Some(unit) }) => {
            microseconds_of_number(count, unit)
        }
        _ => None,
    }
}

/// Appends the canonical text of a category or key; appends nothing where `value` is none.
fn write_text(value: Value<'_>, target: Target, bytes: &mut Vec<u8>) -> Result<(), ()> {
    match value {
        Value::Text(text) => bytes.extend_from_slice(text.as_bytes()),
        Value::Integer(value) => write!(bytes, "{value}").map_err(drop)?,
        Value::Whole(value) => write!(bytes, "{value}").map_err(drop)?,
        Value::Float(value) => {
            // 5411.0 is 5411: a column of integers with nulls is a column of floats to a data frame.
            write!(bytes, "{}", exact_whole(value).ok_or(())?).map_err(drop)?;
        }
        Value::Boolean(value) => write!(bytes, "{value}").map_err(drop)?,
        Value::Uuid(uuid) => write_uuid(uuid, bytes).map_err(drop)?,
        Value::Moment(micros) if target == Target::Key => {
            bytes.extend_from_slice(moment_to_text(micros).ok_or(())?.as_bytes());
        }
        Value::Null | Value::Single(_) | Value::Bytes(_) | Value::Moment(_) | Value::Other(_) => {
            return Err(());
        }
    }
    Ok(())
}

/// Appends the 8-4-4-4-12 form in lower case (RFC 9562).
fn write_uuid(uuid: [u8; 16], bytes: &mut Vec<u8>) -> std::io::Result<()> {
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            bytes.push(b'-');
        }
        write!(bytes, "{byte:02x}")?;
    }
    Ok(())
}

/// A received value in words, cut, for the detail of a fault.
fn describe(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Whole(value) => value.to_string(),
        // With its point: `1767600000000` would hide why it is refused.
        Value::Float(value) => format!("{value:?}"),
        Value::Single(value) => format!("{:?}", f64::from(value)),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Text(text) => format!("text {:?}", shown(text)),
        Value::Uuid(_) => "a UUID".to_owned(),
        Value::Moment(micros) => moment_to_text(micros)
            .map_or("a moment".to_owned(), |text| format!("the moment {text}")),
        Value::Other(words) => words.to_owned(),
    }
}

/// Canonical columns under construction, in the order of `canonical_schema`.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
}

impl Columns {
    /// Empty columns, one for every field of `schema` that is read.
    pub fn new(schema: &Schema) -> Self {
        let columns = schema.read_fields().map(Column::new).collect();
        Self {
            columns,
            schema: canonical_schema(schema),
            rows: 0,
        }
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.columns
            .iter_mut()
            .for_each(|column| column.values.reserve(rows));
    }

    /// What `column` takes.
    pub fn target(&self, column: usize) -> Target {
        self.columns[column].target
    }

    /// The name of the field in `column`.
    pub fn name(&self, column: usize) -> &str {
        &self.columns[column].name
    }

    /// Puts the value of the row in hand; at most once a row and column.
    ///
    /// # Errors
    /// A `wrong_type` fault naming field, value (unless redacted) and what was expected.
    pub fn put(&mut self, column: usize, value: Value<'_>) -> Result<(), Fault> {
        debug_assert_eq!(
            self.columns[column].rows, self.rows,
            "one value a row and column"
        );
        let column = &mut self.columns[column];
        column.push(value).map_err(|()| {
            let found = if column.redact {
                "***".to_owned()
            } else {
                describe(value)
            };
            wrong_type(&column.name, &found, column.target.expected())
        })
    }

    /// Ends the row in hand: what was not put is null.
    pub fn commit(&mut self) {
        for column in &mut self.columns {
            if column.rows == self.rows {
                column.push_null();
            }
        }
        self.rows += 1;
    }

    /// Takes back what was put since the last `commit`.
    pub fn roll_back(&mut self) {
        for column in &mut self.columns {
            if column.rows > self.rows {
                column.rows = self.rows;
                column.valid.truncate(self.rows);
                column.values.truncate(self.rows);
            }
        }
    }

    /// Forgets every row.
    pub fn clear(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            column.rows = 0;
            column.valid = NullBufferBuilder::new(0);
            column.values = Values::new(column.target);
        }
    }

    /// The committed rows as a batch; the columns are empty afterwards, also after an error.
    ///
    /// # Errors
    /// [`DecodeError::BatchTooLarge`] if the texts of a column exceed 32-bit offsets.
    pub fn finish(&mut self) -> Result<RecordBatch, DecodeError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let arrays: Vec<Result<ArrayRef, DecodeError>> =
            self.columns.iter_mut().map(Column::finish).collect();
        self.clear();
        let arrays = arrays.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            arrays,
            &options,
        )?)
    }
}

/// The fault of a field that holds what it does not take.
pub(crate) fn wrong_type(field: &str, found: &str, expected: &str) -> Fault {
    (
        FaultReason::WrongType,
        format!("field `{field}`: expected {expected}, found {found}"),
    )
}
