//! The same records through Parquet's canonicaliser, JSON and Avro: bit-identical rows and the same faults.
//!
//! The canonicaliser is the reference; the Avro messages are written by `arrow-avro`, not by the code under test.
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, TimeUnit};
use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::json;

use maskwatch_core::records::*;
use maskwatch_core::schema::Schema;

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

/// Values as foreign writers leave them: none of them is of the type that its field's kind suggests.
const FOREIGN_SCHEMA: &str = r#"
field = [
    { name = "day", kind = "timestamp" },
    { name = "days", kind = "timestamp", unit = "days" },
    { name = "millis", kind = "timestamp", unit = "ms", null_values = ["2026-01-05T00:00:00Z"] },
    { name = "seconds", kind = "timestamp", unit = "s" },
    { name = "since", kind = "timestamp", null_values = ["1970-01-01"] },
    { name = "flag", kind = "boolean", parse = true },
    { name = "word", kind = "boolean", parse = true },
    { name = "code", kind = "categorical" },
    { name = "amount", kind = "numeric", decimal_scale = 2 },
    { name = "price", kind = "numeric", decimal_scale = 3 },
    { name = "single", kind = "categorical" },
    { name = "number", kind = "numeric", null_values = ["-1"] },
]
"#;

/// One record of [`FOREIGN_SCHEMA`].
#[derive(Debug, Clone)]
struct Foreign {
    day: Option<i32>,
    days: Option<i32>,
    millis: Option<f64>,
    seconds: Option<f64>,
    since: Option<i32>,
    flag: Option<i64>,
    word: Option<String>,
    code: Option<f64>,
    amount: Option<Vec<u8>>,
    price: Option<String>,
    single: Option<f32>,
    number: Option<(i32, Vec<u8>)>,
}

/// Mostly whole numbers; some have a fraction, some are beyond what is exact, some are none.
fn float() -> impl Strategy<Value = Option<f64>> {
    let whole = (-4_000_000_000_000_i64..4_000_000_000_000).prop_map(|whole| whole as f64);
    prop::option::of(prop_oneof![4 => whole, 1 => prop::num::f64::ANY])
}

/// Seconds since 1970 with a fraction, as Python's `time.time()` gives them; some are out of the calendar.
fn seconds() -> impl Strategy<Value = Option<f64>> {
    let moments = (-62_167_219_200_000_000..253_402_300_800_000_000_i64)
        .prop_map(|micros| micros as f64 / 1e6);
    let halves = (-4_000_000_000_i64..4_000_000_000).prop_map(|halves| halves as f64 / 2.0);
    prop::option::of(prop_oneof![4 => moments, 1 => halves, 1 => prop::num::f64::ANY])
}

prop_compose! {
    fn foreign()(
        days in (prop::option::of(-700_000..2_900_000_i32), any::<Option<i32>>()),
        floats in (prop_oneof![9 => float(), 1 => Just(Some(1_767_571_200_000.0))], float(), seconds()),
        since in prop::option::of(-1..2_i32),
        flag in prop::option::of(-1..3_i64),
        word in prop::option::of("0|1|true|False|yes"),
        amount in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        price in prop::option::of("[A-Za-z0-9+/]{4}|[0-9]{1,6}|[A-Za-z]{2}=="),
        single in prop::option::of(prop_oneof![
            4 => (-16_777_215..16_777_216_i32).prop_map(|code| code as f32),
            1 => Just(0.5_f32),
        ]),
        number in prop::option::of((
            prop_oneof![9 => -3..4_i32, 1 => Just(i32::MIN), 1 => Just(128)],
            prop_oneof![Just(vec![0xff]), prop::collection::vec(any::<u8>(), 0..20)],
        )),
    ) -> Foreign {
        let ((day, days), (millis, code, seconds)) = (days, floats);
        Foreign { day, days, millis, seconds, since, flag, word, code, amount, price, single, number }
    }
}

fn foreign_batch(records: &[Foreign]) -> RecordBatch {
    let each = || records.iter();
    let words: StringArray = each().map(|record| record.word.as_deref()).collect();
    let amounts: BinaryArray = each().map(|record| record.amount.as_deref()).collect();
    let prices: StringArray = each().map(|record| record.price.as_deref()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "day",
            Arc::new(each().map(|r| r.day).collect::<Date32Array>()),
        ),
        (
            "days",
            Arc::new(each().map(|r| r.days).collect::<Int32Array>()),
        ),
        (
            "millis",
            Arc::new(each().map(|r| r.millis).collect::<Float64Array>()),
        ),
        (
            "seconds",
            Arc::new(each().map(|r| r.seconds).collect::<Float64Array>()),
        ),
        (
            "since",
            Arc::new(each().map(|r| r.since).collect::<Date32Array>()),
        ),
        (
            "flag",
            Arc::new(each().map(|r| r.flag).collect::<Int64Array>()),
        ),
        ("word", Arc::new(words)),
        (
            "code",
            Arc::new(each().map(|r| r.code).collect::<Float64Array>()),
        ),
        ("amount", Arc::new(amounts)),
        ("price", Arc::new(prices)),
        (
            "single",
            Arc::new(each().map(|r| r.single).collect::<Float32Array>()),
        ),
        ("number", Arc::new(numbers_with_scale(records))),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Decimals as Debezium writes them where a column of the database says nothing of their scale.
fn numbers_with_scale(records: &[Foreign]) -> StructArray {
    let each = || records.iter().map(|record| record.number.as_ref());
    let scales: Int32Array = each()
        .map(|number| Some(number.map_or(0, |n| n.0)))
        .collect();
    let values: BinaryArray = each()
        .map(|number| Some(number.map_or(&[][..], |n| &n.1)))
        .collect();
    let there: Vec<bool> = each().map(|number| number.is_some()).collect();
    let fields = Fields::from(vec![
        ArrowField::new("scale", DataType::Int32, false),
        ArrowField::new("value", DataType::Binary, false),
    ]);
    let parts: Vec<ArrayRef> = vec![Arc::new(scales), Arc::new(values)];
    StructArray::new(fields, parts, Some(there.into()))
}

fn foreign_json(record: &Foreign) -> Vec<u8> {
    // JSON has no days of its own and no bytes: a date is text, bytes are base64.
    let date = |day: Option<i32>| day.map(|day| moment_to_text(i64::from(day) * 86_400_000_000));
    let (day, since) = (date(record.day), date(record.since));
    let amount = record
        .amount
        .as_ref()
        .map(|bytes| BASE64_STANDARD.encode(bytes));
    json!({
        "day": day, "days": record.days, "millis": record.millis,
        "seconds": record.seconds, "since": since, "flag": record.flag,
        "word": record.word, "code": record.code, "amount": amount, "price": record.price, "single": record.single,
        "number": record.number.as_ref().map(|(scale, value)| json!({
            "scale": scale, "value": BASE64_STANDARD.encode(value),
        })),
    })
    .to_string()
    .into_bytes()
}

/// What the three formats make of the same rows: JSON first, Avro second.
fn both(schema: &Schema, texts: &[Vec<u8>], batch: &RecordBatch) -> [Decoded; 2] {
    let payloads: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(&text[..])).collect();
    let json = JsonDecoder::new(schema, DecodeLimits::default())
        .decode(&payloads)
        .unwrap();
    let avro_schema = AvroSchema::try_from(batch.schema().as_ref())
        .unwrap()
        .json_string;
    let writer = Box::new(OneWriter(HashMap::from([(7, Arc::from(avro_schema))])));
    let messages = avro_of(batch);
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|bytes| Some(&bytes[..])).collect();
    let avro = AvroDecoder::new(schema, DecodeLimits::default(), writer)
        .decode(&payloads)
        .unwrap();
    [json, avro]
}

proptest! {
    #[test]
    fn what_foreign_writers_leave_means_the_same_in_parquet_json_and_avro(
        records in prop::collection::vec(foreign(), 1..30)
    ) {
        let schema = Schema::parse(FOREIGN_SCHEMA, "test").unwrap();
        let batch = foreign_batch(&records);
        let (expected, rows, faults) = canonical(&schema, &batch);
        let texts: Vec<Vec<u8>> = records.iter().map(foreign_json).collect();
        let reasons = |faults: &[RowFault]| -> Vec<(usize, FaultReason)> {
            faults.iter().map(|fault| (fault.row, fault.reason)).collect()
        };
        for decoded in both(&schema, &texts, &batch) {
            prop_assert_eq!(&decoded.batch, &expected);
            prop_assert_eq!(&decoded.payloads, &rows);
            // How a value is shown differs between formats; what is wrong with it does not.
            prop_assert_eq!(reasons(&decoded.faults), reasons(&faults));
        }
    }

    #[test]
    fn a_record_means_the_same_in_parquet_json_and_avro(
        records in prop::collection::vec(record(), 1..30)
    ) {
        let schema = Schema::parse(SCHEMA, "test").unwrap();
        let batch = batch_of(&records);
        let (expected, rows, faults) = canonical(&schema, &batch);
        let texts: Vec<Vec<u8>> = records.iter().map(json_of).collect();
        for decoded in both(&schema, &texts, &batch) {
            prop_assert_eq!(&decoded.batch, &expected);
            prop_assert_eq!(&decoded.payloads, &rows);
            // Of an empty record a message has more to say than a row: its keys.
            let mut decoded_faults = decoded.faults;
            for fault in &mut decoded_faults {
                if fault.reason == FaultReason::EmptyRecord {
                    prop_assert!(fault.detail.starts_with("no feature field is present; "));
                    fault.detail.truncate("no feature field is present".len());
                }
            }
            prop_assert_eq!(&decoded_faults, &faults);
        }
    }
}

const SPELLED: &str = r#"
field = [
    { name = "id", role = "key", null_values = ["unknown", "5"] },
    { name = "price", kind = "numeric", parse = true, null_values = ["", "N/A", "-999"],
      decimal_separator = ",", thousands_separator = ".", strip = ["€"] },
    { name = "age", kind = "numeric", null_values = ["-1", "2.5"] },
    { name = "count", kind = "numeric", nullable = false, null_values = ["-1"] },
    { name = "code", kind = "categorical", null_values = ["0", "none"] },
    { name = "country", kind = "categorical", null_values = ["none"] },
    { name = "fraud", role = "label", null_values = ["9"] },
]
"#;

prop_compose! {
    /// Texts and numbers of which many are null values, and some are no values at all.
    fn spelled()(
        id in prop::option::of(0..9_i64),
        price in prop::option::of(prop::sample::select(vec![
            "", "N/A", "n/a", "-999", "-999,0", "€ -999", "1.234,50 €", "12", "1,234,5", "1.5", "(3,5)", "x",
        ])),
        age in prop::option::of(prop::sample::select(vec![-1.0, 2.5, 3.0, f64::NAN])),
        count in prop::option::of(-1..2_i64),
        code in prop::option::of(-1..2_i32),
        country in prop::option::of(prop::sample::select(vec!["none", "None", "CH"])),
        fraud in prop::option::of(prop::sample::select(vec![0_i32, 1, 9])),
    ) -> (Vec<Option<i64>>, [Option<&'static str>; 2], Option<f64>, [Option<i32>; 2]) {
        (vec![id, count], [price, country], age, [code, fraud])
    }
}

proptest! {
    #[test]
    fn null_values_and_numbers_in_text_mean_the_same_in_parquet_json_and_avro(
        records in prop::collection::vec(spelled(), 1..40)
    ) {
        let schema = Schema::parse(SPELLED, "test").unwrap();
        let longs = |at: usize| -> ArrayRef { Arc::new(records.iter().map(|r| r.0[at]).collect::<Int64Array>()) };
        let texts = |at: usize| -> ArrayRef { Arc::new(records.iter().map(|r| r.1[at]).collect::<StringArray>()) };
        let ints = |at: usize| -> ArrayRef { Arc::new(records.iter().map(|r| r.3[at]).collect::<Int32Array>()) };
        let ages: ArrayRef = Arc::new(records.iter().map(|r| r.2).collect::<Float64Array>());
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", longs(0), true), ("price", texts(0), true), ("age", ages, true), ("count", longs(1), true),
            ("code", ints(0), true), ("country", texts(1), true), ("fraud", ints(1), true),
        ]).unwrap();
        let (expected, rows, faults) = canonical(&schema, &batch);
        let json: Vec<Vec<u8>> = records.iter().map(|(longs, texts, age, ints)| json!({
            "id": longs[0], "price": texts[0], "age": age, "count": longs[1],
            "code": ints[0], "country": texts[1], "fraud": ints[1],
        }).to_string().into_bytes()).collect();
        let payloads: Vec<Option<&[u8]>> = json.iter().map(|text| Some(&text[..])).collect();
        let json = JsonDecoder::new(&schema, DecodeLimits::default()).decode(&payloads).unwrap();
        let avro_schema = AvroSchema::try_from(batch.schema().as_ref()).unwrap().json_string;
        let writer = Box::new(OneWriter(HashMap::from([(7, Arc::from(avro_schema))])));
        let messages = avro_of(&batch);
        let payloads: Vec<Option<&[u8]>> = messages.iter().map(|bytes| Some(&bytes[..])).collect();
        let avro = AvroDecoder::new(&schema, DecodeLimits::default(), writer).decode(&payloads).unwrap();
        let places = |faults: &[RowFault]| -> Vec<(usize, FaultReason)> {
            faults.iter().map(|fault| (fault.row, fault.reason)).collect()
        };
        for decoded in [json, avro] {
            prop_assert_eq!(&decoded.batch, &expected);
            prop_assert_eq!(&decoded.payloads, &rows);
            prop_assert_eq!(places(&decoded.faults), places(&faults));
        }
    }
}
