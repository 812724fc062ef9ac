//! Decimals that carry their own scale: Debezium's `io.debezium.data.VariableScaleDecimal`, a struct of `scale` (an
//! integer) and `value` (the unscaled number in bytes), as connectors write the `NUMBER` of Oracle.
//!
//! In flow Arrow types and columns, out flow numbers. They are known by their two fields: a name may have been lost on the
//! way, and JSON and Parquet have none.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

use super::value::decimal_of_scale;

/// The field with the digits behind the point.
pub const SCALE: &str = "scale";

/// The field with the unscaled number: big-endian two's complement.
pub const VALUE: &str = "value";

/// Whether a column of this type holds decimals that carry their own scale.
pub(crate) fn is_variable_decimal(data_type: &DataType) -> bool {
    let DataType::Struct(fields) = data_type else {
        return false;
    };
    let scale = fields
        .find(SCALE)
        .is_some_and(|(_, field)| field.data_type().is_integer());
    let value = fields
        .find(VALUE)
        .is_some_and(|(_, field)| is_binary(field.data_type()));
    fields.len() == 2 && scale && value
}

/// Whether the type holds bytes.
pub(crate) fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

/// For each row `None` of a null, else the number, or `Some(None)` where scale and value are none.
pub(crate) fn variable_decimals(column: &ArrayRef) -> Result<Vec<Option<Option<f64>>>, ArrowError> {
    let gone = || ArrowError::CastError(format!("{} is no decimal", column.data_type()));
    let decimals = column.as_struct_opt().ok_or_else(gone)?;
    let part = |name| decimals.column_by_name(name).ok_or_else(gone);
    let scales = cast(part(SCALE)?, &DataType::Int64)?;
    let scales = scales.as_primitive::<Int64Type>();
    let values = cast(part(VALUE)?, &DataType::Binary)?;
    let values = values.as_binary::<i32>();
    let number = |row: usize| {
        if decimals.is_null(row) {
            return None;
        }
        let sound = scales.is_valid(row) && values.is_valid(row);
        Some(
            sound
                .then(|| decimal_of_scale(values.value(row), scales.value(row)))
                .flatten(),
        )
    };
    Ok((0..decimals.len()).map(number).collect())
}
