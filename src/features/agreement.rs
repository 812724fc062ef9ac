//! The same records through Parquet's canonicaliser, JSON and Avro: bit-identical rows and the same faults.
//!
//! The canonicaliser is the reference; the Avro messages are written by `arrow-avro`, not by the code under test.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, TimeUnit};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::Schema;

const SCHEMA: &str = r#"
field = [
    { name = "id", kind = "categorical", role = "key" },
    { name = "at", kind = "timestamp", role = "time" },
    { name = "fraud", kind = "boolean", role = "label" },
    { name = "amount", kind = "numeric" },
    { name = "count", kind = "numeric", nullable = false },
    { name = "price", kind = "numeric" },
    { name = "merchant", kind = "categorical" },
    { name = "code", kind = "categorical" },
    { name = "present", kind = "boolean" },
    { name = "hour", kind = "timestamp", path = "at" },
    { name = "latitude", kind = "numeric", path = "place.latitude" },
]
"#;

/// One record, as it is before any format.
#[derive(Debug, Clone)]
struct Record {
    id: Option<i64>,
    at: Option<i64>,
    fraud: Option<bool>,
    amount: Option<f64>,
    count: Option<i64>,
    price: Option<i64>,
    merchant: Option<String>,
    code: Option<i32>,
    present: Option<bool>,
    place: Option<Option<f64>>,
}

prop_compose! {
    fn record()(
        ids in (any::<Option<i64>>(), prop::option::of(-62_167_219_200_000_000..253_402_300_799_999_999_i64)),
        flags in any::<(Option<bool>, Option<bool>)>(),
        amount in prop::option::of(prop::num::f64::ANY),
        count in prop::option::weighted(0.9, any::<i64>()),
        price in prop::option::of(-99_999_999_999_i64..99_999_999_999),
        merchant in prop::option::of("\\PC{0,8}"),
        code in any::<Option<i32>>(),
        place in prop::option::of(prop::option::of(-90.0..90.0_f64)),
    ) -> Record {
        let ((id, at), (fraud, present)) = (ids, flags);
        Record { id, at, fraud, amount, count, price, merchant, code, present, place }
    }
}

fn arrow_schema() -> Arc<ArrowSchema> {
    let latitude = Fields::from(vec![ArrowField::new("latitude", DataType::Float64, true)]);
    let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let column = |name: &str, data_type: DataType| ArrowField::new(name, data_type, true);
    Arc::new(ArrowSchema::new(vec![
        column("id", DataType::Int64),
        column("at", moment),
        column("fraud", DataType::Boolean),
        column("amount", DataType::Float64),
        column("count", DataType::Int64),
        column("price", DataType::Decimal128(12, 2)),
        column("merchant", DataType::Utf8),
        column("code", DataType::Int32),
        column("present", DataType::Boolean),
        column("place", DataType::Struct(latitude)),
    ]))
}

fn batch_of(records: &[Record]) -> RecordBatch {
    let schema = arrow_schema();
    let DataType::Struct(latitude) = schema.field(9).data_type().clone() else {
        unreachable!("place is a struct")
    };
    let each = || records.iter();
    let latitudes: Float64Array = each().map(|record| record.place.flatten()).collect();
    let there: NullBuffer = each()
        .map(|record| record.place.is_some())
        .collect::<Vec<_>>()
        .into();
    let at: TimestampMicrosecondArray = each().map(|record| record.at).collect();
    let prices: Decimal128Array = each().map(|record| record.price.map(i128::from)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(each().map(|record| record.id).collect::<Int64Array>()),
        Arc::new(at.with_timezone("+00:00")),
        Arc::new(each().map(|record| record.fraud).collect::<BooleanArray>()),
        Arc::new(each().map(|record| record.amount).collect::<Float64Array>()),
        Arc::new(each().map(|record| record.count).collect::<Int64Array>()),
        Arc::new(prices.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(
            each()
                .map(|record| record.merchant.as_deref())
                .collect::<StringArray>(),
        ),
        Arc::new(each().map(|record| record.code).collect::<Int32Array>()),
        Arc::new(
            each()
                .map(|record| record.present)
                .collect::<BooleanArray>(),
        ),
        Arc::new(StructArray::new(
            latitude,
            vec![Arc::new(latitudes)],
            Some(there),
        )),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

fn json_of(record: &Record) -> Vec<u8> {
    // NaN and infinities are null in JSON as they are in Parquet and Avro.
    let price = record.price.map(|price| price as f64 / 100.0);
    json!({
        "id": record.id, "at": record.at.map(|at| moment_to_text(at).unwrap()),
        "fraud": record.fraud, "amount": record.amount, "count": record.count, "price": price,
        "merchant": record.merchant, "code": record.code, "present": record.present,
        "place": record.place.map(|latitude| json!({ "latitude": latitude })),
    })
    .to_string()
    .into_bytes()
}

fn avro_of(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let mut encoder = WriterBuilder::new(batch.schema().as_ref().clone())
        .with_fingerprint_strategy(FingerprintStrategy::Id(7))
        .build_encoder::<AvroSoeFormat>()
        .unwrap();
    encoder.encode(batch).unwrap();
    encoder.flush().iter().map(|row| row.to_vec()).collect()
}

/// The writer's schema of [`avro_of`].
#[derive(Default)]
struct OneWriter(HashMap<u32, Arc<str>>);

impl WriterSchemas for OneWriter {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        Ok(self.0.get(&id).cloned())
    }
}

/// The reference: good rows, their indices and the faults.
fn canonical(schema: &Schema, batch: &RecordBatch) -> (RecordBatch, Vec<usize>, Vec<RowFault>) {
    let canonical = Canonicaliser::new(schema, &batch.schema(), "test").unwrap();
    let Canonical { batch, faults } = canonical.canonicalise(batch).unwrap();
    let mut good = vec![true; batch.num_rows()];
    faults.iter().for_each(|fault| good[fault.row] = false);
    let rows = (0..good.len()).filter(|&row| good[row]).collect();
    (
        filter_record_batch(&batch, &BooleanArray::from(good)).unwrap(),
        rows,
        faults,
    )
}

proptest! {
    #[test]
    fn a_record_means_the_same_in_parquet_json_and_avro(
        records in prop::collection::vec(record(), 1..30)
    ) {
        let schema = Schema::parse(SCHEMA, "test").unwrap();
        let batch = batch_of(&records);
        let (expected, rows, faults) = canonical(&schema, &batch);

        let texts: Vec<Vec<u8>> = records.iter().map(json_of).collect();
        let payloads: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(&text[..])).collect();
        let json = JsonDecoder::new(&schema, DecodeLimits::default()).decode(&payloads).unwrap();

        let avro_schema = AvroSchema::try_from(batch.schema().as_ref()).unwrap().json_string;
        let writer = Box::new(OneWriter(HashMap::from([(7, Arc::from(avro_schema))])));
        let messages = avro_of(&batch);
        let payloads: Vec<Option<&[u8]>> = messages.iter().map(|bytes| Some(&bytes[..])).collect();
        let avro = AvroDecoder::new(&schema, DecodeLimits::default(), writer).decode(&payloads).unwrap();

        for decoded in [json, avro] {
            prop_assert_eq!(&decoded.batch, &expected);
            prop_assert_eq!(&decoded.payloads, &rows);
            prop_assert_eq!(&decoded.faults, &faults);
        }
    }
}
