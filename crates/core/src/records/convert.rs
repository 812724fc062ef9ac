//! One column of any Arrow type becomes one column of its field's canonical type.
//!
//! In flows an array whose type the schema accepts (`schema::fit`), out flows an array of
//! [`canonical_type`] with the same rows in the same order. What cannot be read becomes null, with a
//! fault that names the row: a bad value never touches its neighbours. Only a bad label is an error.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit as ArrowUnit, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use super::fault::{FaultReason, RowFault};
use super::target::Target;
use super::value::{
    SINGLE_EXACT_MAX, decimal_from_base64, decimal_from_bytes, exact_whole, label_from_number,
    microseconds_of_number,
};
use crate::schema::{
    Field, Kind, Role, Spelling, TimeUnit, decimal_scale, flag_from_text, is_binary, is_text,
    is_variable_decimal, label_from_text, microseconds, moment_from_text, moment_to_text,
    variable_decimals,
};

/// Characters of a bad value that a message shows.
const VALUE_CHARS_MAX: usize = 64;

/// Why a whole column cannot be converted.
pub(super) enum ConvertError {
    /// The label of this row of the batch is neither 0 nor 1.
    Label { row: usize, value: String },
    /// Arrow refuses what the schema's fit allowed.
    Arrow(ArrowError),
}

impl From<ArrowError> for ConvertError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

/// The type of a field's canonical column: by its role for keys and labels, else by its kind.
pub(super) fn canonical_type(field: &Field) -> DataType {
    match (field.role, field.kind) {
        (Role::Key, _) | (_, Kind::Categorical) if field.role != Role::Label => DataType::Utf8,
        (Role::Label, _) | (_, Kind::Boolean) => DataType::Boolean,
        (_, Kind::Timestamp) => DataType::Timestamp(ArrowUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Float64,
    }
}

/// Converts a column, adding a fault for every value that cannot be read.
pub(super) fn convert(
    field: &Field,
    column: &ArrayRef,
    faults: &mut Vec<RowFault>,
) -> Result<ArrayRef, ConvertError> {
    let plain = match column.data_type() {
        DataType::Null => return Ok(new_null_array(&canonical_type(field), column.len())),
        DataType::Dictionary(_, values) => cast(column, values)?,
        _ => Arc::clone(column),
    };
    let plain = if is_text(plain.data_type()) {
        cast(&plain, &DataType::Utf8)?
    } else {
        plain
    };
    let spelling = Spelling::of(field);
    let plain = without_nulls(field, &spelling, plain)?;
    match (field.role, field.kind) {
        (Role::Label, _) => labels(&plain),
        (Role::Key, _) | (_, Kind::Categorical) => texts(field, &plain, faults),
        (_, Kind::Boolean) => flags(field, &plain, faults),
        (_, Kind::Numeric) => numbers(field, &spelling, &plain, faults),
        (_, Kind::Timestamp) => moments(field, &spelling, &plain, faults),
    }
}

/// The column with the values that its field declares as null taken out; moments, which are no text and no
/// number, are taken out when they are known.
fn without_nulls(
    field: &Field,
    spelling: &Spelling,
    column: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    if !spelling.has_nulls() {
        return Ok(column);
    }
    let is_number = canonical_type(field) == DataType::Float64;
    let nulls: BooleanArray = match column.data_type() {
        DataType::Utf8 => {
            let is_null = |text: &str| {
                let number = || match field.decimal_scale {
                    Some(scale) => decimal_from_base64(text, scale),
                    None => spelling.number(text),
                };
                let is_null = |number| spelling.is_null_number(number);
                spelling.is_null_text(text) || (is_number && number().is_some_and(is_null))
            };
            let texts = column.as_string::<i32>();
            texts.iter().map(|text| text.map(is_null)).collect()
        }
        DataType::UInt64 if !is_number => {
            let values = column.as_primitive::<UInt64Type>().iter();
            let is_null = |value: u64| spelling.is_null_integer(value.into());
            values.map(|value| value.map(is_null)).collect()
        }
        integer if integer.is_integer() && !is_number => {
            let values = cast(&column, &DataType::Int64)?;
            let is_null = |value: i64| spelling.is_null_integer(value.into());
            let values = values.as_primitive::<Int64Type>().iter();
            values.map(|value| value.map(is_null)).collect()
        }
        number if number.is_numeric() => {
            let values = cast(&column, &DataType::Float64)?;
            let is_null = |value: f64| spelling.is_null_number(value);
            let values = values.as_primitive::<Float64Type>().iter();
            values.map(|value| value.map(is_null)).collect()
        }
        _ => return Ok(column),
    };
    nullif(&column, &nulls)
}

/// Float64, every value finite: NaN and the infinities are null.
fn numbers(
    field: &Field,
    spelling: &Spelling,
    column: &ArrayRef,
    faults: &mut Vec<RowFault>,
) -> Result<ArrayRef, ConvertError> {
    let mut read = Reader::new(field, faults);
    if let Some(texts) = column.as_string_opt::<i32>() {
        // With a scale text is base64 and never digits, whatever it looks like.
        let number = |text: &str| match field.decimal_scale {
            Some(scale) => decimal_from_base64(text, scale),
            None => spelling.number(text),
        };
        let numbers = texts
            .iter()
            .enumerate()
            .map(|(row, text)| read.value(row, text, number, |text| format!("{text:?}")));
        return Ok(Arc::new(numbers.collect::<Float64Array>()));
    }
    if is_variable_decimal(column.data_type()) {
        let meant = |number: &f64| !spelling.is_null_number(*number);
        let numbers = variable_decimals(column)?.into_iter().enumerate();
        let numbers = numbers.map(|(row, number)| {
            let number = read.value(row, number, |number| number, |_| shown(column, row));
            number.filter(meant)
        });
        return Ok(Arc::new(numbers.collect::<Float64Array>()));
    }
    if is_binary(column.data_type()) {
        let unscaled = cast(column, &DataType::Binary)?;
        let number = |bytes: &[u8]| decimal_from_bytes(bytes, field.decimal_scale?);
        let numbers = unscaled
            .as_binary::<i32>()
            .iter()
            .enumerate()
            .map(|(row, bytes)| {
                read.value(row, bytes, number, |bytes| format!("{} bytes", bytes.len()))
            });
        return Ok(Arc::new(numbers.collect::<Float64Array>()));
    }
    let floats = cast(column, &DataType::Float64)?;
    let numbers = floats.as_primitive::<Float64Type>();
    if numbers.values().iter().all(|number| number.is_finite()) {
        return Ok(floats);
    }
    let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
    Ok(Arc::new(
        numbers.iter().map(finite).collect::<Float64Array>(),
    ))
}

/// Boolean: from booleans, and with `parse` from numbers 0 and 1 and from text; anything else is a fault.
fn flags(
    field: &Field,
    column: &ArrayRef,
    faults: &mut Vec<RowFault>,
) -> Result<ArrayRef, ConvertError> {
    let mut read = Reader::new(field, faults);
    let flags: BooleanArray = match column.data_type() {
        DataType::Boolean => return Ok(Arc::clone(column)),
        DataType::Utf8 => {
            let rows = column.as_string::<i32>().iter().enumerate();
            rows.map(|(row, text)| {
                read.value(row, text, flag_from_text, |text| format!("{text:?}"))
            })
            .collect()
        }
        _ => {
            let rows = finite(column)?.into_iter().enumerate();
            rows.map(|(row, number)| {
                read.value(row, number, label_from_number, |_| shown(column, row))
            })
            .collect()
        }
    };
    Ok(Arc::new(flags))
}

/// The numbers of a column as f64; null where they are, and where they are not finite.
fn finite(column: &ArrayRef) -> Result<Vec<Option<f64>>, ArrowError> {
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>().iter();
    Ok(numbers
        .map(|number| number.filter(|number| number.is_finite()))
        .collect())
}

/// Utf8: integers in decimal, whole floats as integers, booleans `true` and `false`, moments in RFC 3339, text as it
/// is. A float with a fraction is a fault.
fn texts(
    field: &Field,
    column: &ArrayRef,
    faults: &mut Vec<RowFault>,
) -> Result<ArrayRef, ConvertError> {
    let text: StringArray = match column.data_type() {
        float if float.is_floating() => {
            let mut read = Reader::new(field, faults);
            // Integers below this size are exact in the type; a code that was rounded would be another code.
            let exact = match column.data_type() {
                DataType::Float16 => 2_048.0,
                DataType::Float32 => SINGLE_EXACT_MAX,
                _ => f64::INFINITY,
            };
            let code = |number: f64| {
                let code = exact_whole(number).filter(|_| number.abs() < exact)?;
                Some(code.to_string())
            };
            let rows = finite(column)?.into_iter().enumerate();
            rows.map(|(row, number)| read.value(row, number, code, |number| format!("{number:?}")))
                .collect()
        }
        DataType::Boolean => {
            let word =
                |value: Option<bool>| value.map(|value| if value { "true" } else { "false" });
            column.as_boolean().iter().map(word).collect()
        }
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
            let write = |count: Option<Option<i64>>| count.flatten().and_then(moment_to_text);
            counted(column, None)?.into_iter().map(write).collect()
        }
        _ => return Ok(cast(column, &DataType::Utf8)?),
    };
    Ok(Arc::new(text))
}

/// Timestamp in microseconds UTC; a moment outside the years 0000 to 9999 is a fault.
fn moments(
    field: &Field,
    spelling: &Spelling,
    column: &ArrayRef,
    faults: &mut Vec<RowFault>,
) -> Result<ArrayRef, ConvertError> {
    let mut read = Reader::new(field, faults);
    let meant = |moment: Option<i64>| moment.filter(|&micros| !spelling.is_null_moment(micros));
    let moments: TimestampMicrosecondArray = match column.as_string_opt::<i32>() {
        Some(texts) => {
            let rows = texts.iter().enumerate();
            rows.map(|(row, text)| {
                meant(read.value(row, text, moment_from_text, |text| format!("{text:?}")))
            })
            .collect()
        }
        None => {
            let rows = counted(column, field.unit)?.into_iter().enumerate();
            rows.map(|(row, moment)| {
                meant(read.value(row, moment, |moment| moment, |_| shown(column, row)))
            })
            .collect()
        }
    };
    Ok(Arc::new(moments.with_timezone("UTC")))
}

/// For each row `None` of a null, else the microseconds, or `Some(None)` of a moment out of range.
/// An Arrow type with a unit of its own wins over `unit`.
fn counted(
    column: &ArrayRef,
    unit: Option<TimeUnit>,
) -> Result<Vec<Option<Option<i64>>>, ArrowError> {
    let unit = match column.data_type() {
        DataType::Timestamp(ArrowUnit::Second, _) => TimeUnit::S,
        DataType::Timestamp(ArrowUnit::Millisecond, _) | DataType::Date64 => TimeUnit::Ms,
        DataType::Timestamp(ArrowUnit::Microsecond, _) => TimeUnit::Us,
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => TimeUnit::Ns,
        DataType::Date32 => TimeUnit::Days,
        other => unit.ok_or_else(|| ArrowError::CastError(format!("{other} has no unit")))?,
    };
    let moment = |count: i128| microseconds(count, unit);
    if column.data_type().is_floating() {
        let counts = finite(column)?.into_iter();
        let moment = |count| microseconds_of_number(count, unit);
        return Ok(counts.map(|count| count.map(moment)).collect());
    }
    // A u64 beyond an i64 would turn null in a cast, and go unseen.
    if let Some(counts) = column.as_primitive_opt::<UInt64Type>() {
        return Ok(counts
            .iter()
            .map(|count| count.map(|count| moment(count.into())))
            .collect());
    }
    // Int64 beside UInt64 in one table: decimals of 20 digits.
    if decimal_scale(column.data_type()).is_some() {
        let counts = cast(column, &DataType::Decimal128(38, 0))?;
        let counts = counts.as_primitive::<Decimal128Type>();
        // What has more digits than any moment is no moment, and no null.
        let count = |row| {
            let count = counts.is_valid(row).then(|| counts.value(row));
            column.is_valid(row).then(|| count.and_then(moment))
        };
        return Ok((0..column.len()).map(count).collect());
    }
    let counts = cast(column, &DataType::Int64)?;
    let counts = counts.as_primitive::<Int64Type>();
    Ok(counts
        .iter()
        .map(|count| count.map(|count| moment(count.into())))
        .collect())
}

/// Boolean from booleans, from numbers 0 and 1, or from text.
fn labels(column: &ArrayRef) -> Result<ArrayRef, ConvertError> {
    let mut labels = Vec::with_capacity(column.len());
    let mut push = |row: usize, label: Option<Option<bool>>| match label {
        Some(None) => Err(ConvertError::Label {
            row,
            value: shown(column, row),
        }),
        sound => {
            labels.push(sound.flatten());
            Ok(())
        }
    };
    match column.data_type() {
        DataType::Boolean => return Ok(Arc::clone(column)),
        DataType::Utf8 => {
            for (row, text) in column.as_string::<i32>().iter().enumerate() {
                push(row, text.map(label_from_text))?;
            }
        }
        _ => {
            for (row, number) in finite(column)?.into_iter().enumerate() {
                push(row, number.map(label_from_number))?;
            }
        }
    }
    Ok(Arc::new(BooleanArray::from(labels)))
}

/// Reads values one by one, noting a fault for each that cannot be read.
struct Reader<'a> {
    field: &'a Field,
    expected: &'static str,
    faults: &'a mut Vec<RowFault>,
}

impl<'a> Reader<'a> {
    fn new(field: &'a Field, faults: &'a mut Vec<RowFault>) -> Self {
        Self {
            field,
            expected: Target::of(field).expected(),
            faults,
        }
    }

    fn value<T: Copy, V>(
        &mut self,
        row: usize,
        value: Option<T>,
        read: impl Fn(T) -> Option<V>,
        show: impl Fn(T) -> String,
    ) -> Option<V> {
        let value = value?;
        let meaning = read(value);
        if meaning.is_none() {
            let Self {
                field,
                expected,
                faults,
            } = self;
            // Outputs never show a redacted value, and a fault's detail reaches the dead letters.
            let found = if field.redact {
                "***".to_owned()
            } else {
                cut(&show(value))
            };
            faults.push(RowFault {
                row,
                reason: FaultReason::WrongType,
                detail: format!("field `{}`: expected {expected}, found {found}", field.name),
            });
        }
        meaning
    }
}

fn shown(column: &ArrayRef, row: usize) -> String {
    cut(&array_value_to_string(column, row).unwrap_or_else(|error| error.to_string()))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
