//! Records in Avro's binary encoding and Confluent's framing.
//!
//! A batch flows in, its schema and messages flow out. Written from Avro's specification, beside the decoder's own code.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};

/// The Confluent id under which the messages name their schema.
pub const SCHEMA_ID: u32 = 7;

/// The schema of a batch, every field a union with null.
pub fn schema(batch: &RecordBatch) -> String {
    let field = |field: &arrow::datatypes::FieldRef| {
        let kind = match field.data_type() {
            DataType::Utf8 => serde_json::json!("string"),
            DataType::Float64 => serde_json::json!("double"),
            DataType::Int64 => serde_json::json!("long"),
            DataType::Boolean => serde_json::json!("boolean"),
            DataType::Timestamp(..) => {
                serde_json::json!({"type": "long", "logicalType": "timestamp-millis"})
            }
            other => panic!("no column has {other}"),
        };
        serde_json::json!({"name": field.name(), "type": ["null", kind]})
    };
    let fields: Vec<_> = batch.schema_ref().fields().iter().map(field).collect();
    serde_json::json!({"type": "record", "name": "record", "fields": fields}).to_string()
}

/// One message a row, of the schema that [`schema`] gives.
pub fn messages(batch: &RecordBatch) -> Vec<Vec<u8>> {
    (0..batch.num_rows())
        .map(|row| {
            let mut bytes = vec![0];
            bytes.extend(SCHEMA_ID.to_be_bytes());
            for column in batch.columns() {
                put_value(column.as_ref(), row, &mut bytes);
            }
            bytes
        })
        .collect()
}

fn put_value(column: &dyn Array, row: usize, bytes: &mut Vec<u8>) {
    if column.is_null(row) {
        return put_long(0, bytes);
    }
    put_long(1, bytes);
    match column.data_type() {
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            put_long(text.len() as i64, bytes);
            bytes.extend(text.as_bytes());
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            bytes.extend(value.to_le_bytes());
        }
        DataType::Int64 => put_long(column.as_primitive::<Int64Type>().value(row), bytes),
        DataType::Boolean => bytes.push(column.as_boolean().value(row).into()),
        _ => {
            let moment = column.as_primitive::<TimestampMillisecondType>();
            put_long(moment.value(row), bytes);
        }
    }
}

/// Avro's zig-zag integers of variable length.
fn put_long(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        bytes.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}
