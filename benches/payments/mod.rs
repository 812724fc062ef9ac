//! What the benchmarks of the stream are fed with: generated payments as JSON and as Avro, and a bundle that knows them.
//!
//! A seed flows in, records and a model's folder flow out. The invariant: the model was fitted on none of the records.

#![allow(
    dead_code,
    reason = "each benchmark is a program of its own and uses a part of this"
)]

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};
use maskwatch::artifact::{Recipe, TrainConfig, learn};
use maskwatch::features::ParquetSource;
use maskwatch::generate::{Generator, GeneratorConfig, JsonRows, write_parquet};
use maskwatch::schema::Schema;
use maskwatch::train::Unobserved;
use std::path::Path;

/// The Confluent id under which the Avro records name their schema.
pub const AVRO_SCHEMA_ID: u32 = 7;

/// Payments that a model learns from; a fifth of them are calibration rows.
const TRAINING_ROWS: u64 = 5_000;

/// The schema of payments that ships with the project.
pub fn schema() -> Schema {
    let text = include_str!("../../schemas/payments.toml");
    Schema::parse(text, "schemas/payments.toml").unwrap()
}

/// A generator past the rows that a model of [`train`] saw.
pub fn fresh_generator() -> Generator {
    let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
    generator.next_batch(TRAINING_ROWS as usize).unwrap();
    generator
}

/// One JSON object a row.
pub fn json(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let rows = JsonRows::new(batch).unwrap();
    let text = |row| {
        let mut bytes = Vec::new();
        rows.write(row, &mut bytes).unwrap();
        bytes
    };
    (0..batch.num_rows()).map(text).collect()
}

/// Trains the model of `config` (TOML) into `out`. A few steps do: its cost does not depend on its weights.
pub fn train(config: &str, out: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
    let data = folder.path().join("payments.parquet");
    write_parquet(&mut generator, TRAINING_ROWS, &data, |_| {}).unwrap();
    let source = ParquetSource::open(&[data.display().to_string()]).unwrap();
    let config: TrainConfig = toml::from_str(config).unwrap();
    let recipe = Recipe {
        source: &source,
        schema: &schema(),
        config: &config,
        seed: 0,
        exclude_labelled: false,
        from: None,
        out,
    };
    learn(&recipe, &mut Unobserved).unwrap();
}

/// The Avro schema of a batch of payments, every field a union with null.
pub fn avro_schema(batch: &RecordBatch) -> String {
    let field = |field: &arrow::datatypes::FieldRef| {
        let kind = match field.data_type() {
            DataType::Utf8 => serde_json::json!("string"),
            DataType::Float64 => serde_json::json!("double"),
            DataType::Int64 => serde_json::json!("long"),
            DataType::Boolean => serde_json::json!("boolean"),
            DataType::Timestamp(..) => {
                serde_json::json!({"type": "long", "logicalType": "timestamp-millis"})
            }
            other => panic!("payments have no {other}"),
        };
        serde_json::json!({"name": field.name(), "type": ["null", kind]})
    };
    let fields: Vec<_> = batch.schema_ref().fields().iter().map(field).collect();
    serde_json::json!({"type": "record", "name": "payment", "fields": fields}).to_string()
}

/// One message in Confluent framing a row, of the schema that [`avro_schema`] gives.
pub fn avro(batch: &RecordBatch) -> Vec<Vec<u8>> {
    (0..batch.num_rows())
        .map(|row| {
            let mut bytes = vec![0];
            bytes.extend(AVRO_SCHEMA_ID.to_be_bytes());
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
