//! Batches of one file become batches of the table that all files are together.
//!
//! In flow batches of a file's own columns, out flow the same rows with the columns of [`Unified`](super::unify), in
//! their order and types; a column that the file lacks is null. Invariant: no value changes. One that the wider type
//! cannot hold exactly is an error that names it, never a rounded number.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Field,
    Int64Type, SchemaRef, TimeUnit, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use super::error::DataError;

/// Integers up to this one are exact in an f64: 2^53.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// Decimal digits of which every number is told from its neighbours as an f64.
const EXACT_DIGITS: u64 = 1_000_000_000_000_000;
/// Days from 1970 that a 64-bit count of nanoseconds reaches.
const NANOSECOND_DAYS_MAX: i32 = 106_751;

/// Why a column cannot be widened.
enum Fault {
    /// The value of this row has no equal in the wider type.
    Value {
        row: usize,
        value: String,
    },
    Arrow(ArrowError),
}

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

/// `batch`, which begins at row `first_row` of `file`, with the columns of `target`.
///
/// # Errors
/// [`DataError::Widen`] where a value would change.
pub(super) fn conform(
    batch: &RecordBatch,
    target: &SchemaRef,
    file: &str,
    first_row: u64,
) -> Result<RecordBatch, DataError> {
    if batch.schema_ref() == target {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(target.fields().len());
    for field in target.fields() {
        let own = batch.column_by_name(field.name());
        let column = column(own, field, rows);
        columns.push(column.map_err(|fault| located(fault, own, field, file, first_row))?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let conformed = RecordBatch::try_new_with_options(Arc::clone(target), columns, &options);
    conformed.map_err(|error| convert_error(file, "(all)", &error))
}

fn located(
    fault: Fault,
    own: Option<&ArrayRef>,
    field: &Field,
    file: &str,
    first_row: u64,
) -> DataError {
    match fault {
        Fault::Value { row, value } => DataError::Widen {
            file: file.to_owned(),
            column: field.name().clone(),
            row: first_row + row as u64,
            value,
            types: Box::new([
                own.map_or(DataType::Null, |own| own.data_type().clone()),
                field.data_type().clone(),
            ]),
        },
        Fault::Arrow(error) => convert_error(file, field.name(), &error),
    }
}

fn convert_error(file: &str, column: &str, error: &ArrowError) -> DataError {
    DataError::Convert {
        file: file.to_owned(),
        column: column.to_owned(),
        message: error.to_string(),
    }
}

fn column(own: Option<&ArrayRef>, target: &Field, rows: usize) -> Result<ArrayRef, Fault> {
    let wider = target.data_type();
    let Some(own) = own.filter(|own| *own.data_type() != DataType::Null) else {
        return Ok(new_null_array(wider, rows));
    };
    if own.data_type() == wider {
        return Ok(Arc::clone(own));
    }
    if let (Some(own), DataType::Struct(fields)) = (own.as_struct_opt(), wider) {
        let child = |field: &Arc<Field>| column(own.column_by_name(field.name()), field, rows);
        let children = fields.iter().map(child).collect::<Result<Vec<_>, _>>()?;
        let whole = StructArray::try_new_with_length(
            fields.clone(),
            children,
            own.nulls().cloned(),
            own.len(),
        );
        return Ok(Arc::new(whole?));
    }
    widen(own, wider)
}

/// The values in a wider type, each exactly.
fn widen(own: &ArrayRef, wider: &DataType) -> Result<ArrayRef, Fault> {
    if let DataType::Dictionary(_, values) = own.data_type() {
        let plain = cast_with_options(own, values, &CastOptions::default())?;
        return match plain.data_type() == wider {
            true => Ok(plain),
            false => widen(&plain, wider),
        };
    }
    let fault = |row: usize| {
        let value = array_value_to_string(own, row);
        let value = value.unwrap_or_else(|error| error.to_string());
        Fault::Value { row, value }
    };
    if let Some(row) = inexact(own, wider) {
        return Err(fault(row));
    }
    // A value beyond the wider type's range becomes null here, and is found below.
    let widened = cast_with_options(own, wider, &CastOptions::default())?;
    if widened.null_count() > own.null_count() {
        let lost = (0..own.len()).find(|&row| own.is_valid(row) && widened.is_null(row));
        return Err(fault(lost.unwrap_or_default()));
    }
    Ok(widened)
}

/// The first row whose value a cast to `wider` would round or wrap.
fn inexact(own: &ArrayRef, wider: &DataType) -> Option<usize> {
    let is_float = wider.is_floating();
    match own.data_type() {
        DataType::Int64 if is_float => {
            let values = own.as_primitive::<Int64Type>();
            first(own, |row| {
                values.value(row).unsigned_abs() > EXACT_INTEGER_MAX
            })
        }
        DataType::UInt64 if is_float => {
            let values = own.as_primitive::<UInt64Type>();
            first(own, |row| values.value(row) > EXACT_INTEGER_MAX)
        }
        DataType::Decimal32(_, _) if is_float => {
            let values = own.as_primitive::<Decimal32Type>();
            first(own, |row| !few_digits(values.value(row).into()))
        }
        DataType::Decimal64(_, _) if is_float => {
            let values = own.as_primitive::<Decimal64Type>();
            first(own, |row| !few_digits(values.value(row).into()))
        }
        DataType::Decimal128(_, _) if is_float => {
            let values = own.as_primitive::<Decimal128Type>();
            first(own, |row| !few_digits(values.value(row)))
        }
        DataType::Decimal256(_, _) if is_float => {
            let values = own.as_primitive::<Decimal256Type>();
            // 39 digits and more are too many even where most of them are zeros.
            first(own, |row| {
                !values.value(row).to_i128().is_some_and(few_digits)
            })
        }
        DataType::Date32 if matches!(wider, DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            let days = own.as_primitive::<Date32Type>();
            first(own, |row| {
                days.value(row).unsigned_abs() > NANOSECOND_DAYS_MAX.unsigned_abs()
            })
        }
        _ => None,
    }
}

fn first(own: &ArrayRef, is_bad: impl Fn(usize) -> bool) -> Option<usize> {
    (0..own.len()).find(|&row| own.is_valid(row) && is_bad(row))
}

/// Whether a decimal has at most 15 digits but for zeros at its end: then it comes back from an f64 as it was.
fn few_digits(mut unscaled: i128) -> bool {
    while unscaled != 0 && unscaled % 10 == 0 {
        unscaled /= 10;
    }
    unscaled.unsigned_abs() < u128::from(EXACT_DIGITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{
        Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
        NullArray, StringArray, TimestampSecondArray,
    };
    use arrow::datatypes::{Float64Type, Int32Type, Schema, TimestampNanosecondType};

    use super::*;

    fn to(wider: DataType, own: ArrayRef) -> Result<ArrayRef, String> {
        let target = Arc::new(Schema::new(vec![Field::new("x", wider, true)]));
        let batch = RecordBatch::try_from_iter_with_nullable([("x", own, true)]).unwrap();
        let conformed = conform(&batch, &target, "f.parquet", 100);
        conformed
            .map(|batch| Arc::clone(batch.column(0)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_stay_the_same_in_a_wider_type() {
        let wide = to(
            DataType::Float64,
            Arc::new(Int64Array::from(vec![Some(-3), None, Some(1 << 53)])),
        );
        let expected = Float64Array::from(vec![Some(-3.0), None, Some(9_007_199_254_740_992.0)]);
        assert_eq!(wide.unwrap().as_primitive::<Float64Type>(), &expected);
        let cents = Decimal128Array::from(vec![1_234, 5]);
        let cents = cents.with_precision_and_scale(38, 2).unwrap();
        let wide = to(DataType::Float64, Arc::new(cents)).unwrap();
        assert_eq!(wide.as_primitive::<Float64Type>().values(), &[12.34, 0.05]);
        let texts: DictionaryArray<Int32Type> =
            vec![Some("b"), None, Some("a")].into_iter().collect();
        let wide = to(DataType::Utf8, Arc::new(texts)).unwrap();
        assert_eq!(
            wide.as_string::<i32>(),
            &StringArray::from(vec![Some("b"), None, Some("a")])
        );
        let ns = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let wide = to(ns.clone(), Arc::new(TimestampSecondArray::from(vec![7])));
        let wide = wide.unwrap();
        assert_eq!(
            wide.as_primitive::<TimestampNanosecondType>().values(),
            &[7_000_000_000]
        );
        let wide = to(ns, Arc::new(Date32Array::from(vec![1]))).unwrap();
        assert_eq!(
            wide.as_primitive::<TimestampNanosecondType>().values(),
            &[86_400_000_000_000]
        );
    }

    #[test]
    fn a_value_that_would_change_is_named_with_its_row() {
        let error = to(
            DataType::Float64,
            Arc::new(Int64Array::from(vec![1, (1 << 53) + 1])),
        );
        assert_eq!(
            error.unwrap_err(),
            "f.parquet, column `x`, row 101 (from 0): 9007199254740993 of type Int64 cannot be held exactly as Float64, \
             the type of this column over all files"
        );
        let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let far = Arc::new(TimestampSecondArray::from(vec![253_402_214_400]));
        assert!(to(ns.clone(), far).unwrap_err().contains("9999-12-31"));
        let far = Arc::new(Date32Array::from(vec![2_932_896]));
        assert!(to(ns, far).unwrap_err().contains("9999-12-31"));
        let long = Decimal128Array::from(vec![1_234_567_890_123_456_789]);
        let long = long.with_precision_and_scale(38, 2).unwrap();
        assert!(to(DataType::Float64, Arc::new(long)).is_err());
    }

    #[test]
    fn columns_are_put_in_order_and_what_is_lacking_is_null() {
        let inner = |kind| Field::new("b", kind, true);
        let two = vec![
            inner(DataType::Int64),
            Field::new("c", DataType::Utf8, true),
        ];
        let target = Arc::new(Schema::new(vec![
            Field::new("late", DataType::Utf8, true),
            Field::new("n", DataType::Struct(two.into()), true),
            Field::new("void", DataType::Boolean, true),
        ]));
        let leaf: ArrayRef = Arc::new(Int32Array::from(vec![4, 5]));
        let nested = StructArray::from(vec![(Arc::new(inner(DataType::Int32)), leaf)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("void", Arc::new(NullArray::new(2))),
            ("n", Arc::new(nested)),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let conformed = conform(&batch, &target, "f", 0).unwrap();
        assert_eq!(conformed.schema_ref(), &target);
        let nested = conformed.column(1).as_struct();
        assert_eq!(
            nested.column(0).as_primitive::<Int64Type>().values(),
            &[4, 5]
        );
        let nulls = [conformed.column(0), nested.column(1), conformed.column(2)];
        assert!(nulls.iter().all(|column| column.null_count() == 2));
    }

    #[test]
    fn a_wide_decimal_that_a_float_would_round_is_refused() {
        use arrow::array::Decimal256Array;
        use arrow::datatypes::i256;
        let of = |unscaled: i128| -> ArrayRef {
            let values = [i256::from_i128(unscaled)];
            let decimals = Decimal256Array::from_iter_values(values);
            Arc::new(decimals.with_precision_and_scale(50, 2).unwrap())
        };
        let exact = widen(&of(1_234_500), &DataType::Float64).ok().unwrap();
        assert_eq!(exact.as_primitive::<Float64Type>().values(), &[12_345.0]);
        for unscaled in [12_345_678_901_234_567, i128::MAX] {
            let widened = widen(&of(unscaled), &DataType::Float64);
            assert!(matches!(widened, Err(Fault::Value { row: 0, .. })));
        }
    }
}
