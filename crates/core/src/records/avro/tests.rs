//! What the Avro decoder takes, what it refuses and why, and that a bad message leaves its neighbours alone.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::records::JsonDecoder;

const SCHEMA: &str = r#"
[[field]]
name = "amount"
kind = "numeric"

[[field]]
name = "merchant"
kind = "categorical"

[[field]]
name = "country"
kind = "categorical"
path = "card.country"

[[field]]
name = "at"
kind = "timestamp"

[[field]]
name = "id"
kind = "categorical"
role = "key"
"#;

/// One record with everything that is skipped around what is read.
const WRITER: &str = r#"{"type": "record", "name": "Payment", "namespace": "x", "fields": [
    {"name": "note", "type": ["null", "string"]},
    {"name": "amount", "type": ["null", "double"]},
    {"name": "merchant", "type": {"type": "enum", "name": "M", "symbols": ["food", "fuel"]}},
    {"name": "ok", "type": "boolean"},
    {"name": "card", "type": ["null", {"type": "record", "name": "Card", "fields": [
        {"name": "country", "type": "string"}]}]},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
]}"#;

fn long(value: i64) -> Vec<u8> {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

fn text_bytes(value: &[u8]) -> Vec<u8> {
    [long(value.len() as i64), value.to_vec()].concat()
}

fn framed(id: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    [vec![0], id.to_be_bytes().to_vec(), parts.concat()].concat()
}

/// A message of [`WRITER`] under id 1.
fn payment(amount: Option<f64>, merchant: i64, country: Option<&str>, millis: i64) -> Vec<u8> {
    framed(
        1,
        &[
            long(0),
            amount.map_or(long(0), |amount| {
                [long(1), amount.to_le_bytes().to_vec()].concat()
            }),
            long(merchant),
            vec![1],
            country.map_or(long(0), |country| [long(1), text(country)].concat()),
            [long(2), text("a"), text("b"), long(0)].concat(),
            long(millis),
        ],
    )
}

/// Schemas by id, and how often one was asked for.
#[derive(Clone, Default)]
struct Writers {
    texts: HashMap<u32, String>,
    asked: Arc<AtomicU32>,
    /// Questions that fail first.
    failures: Arc<AtomicU32>,
}

impl WriterSchemas for Writers {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            let (origin, why) = ("test".to_owned(), "down".to_owned());
            return Err(WriterSchemaError::Unavailable {
                id,
                origin,
                attempts: 1,
                why,
            });
        }
        Ok(self.texts.get(&id).map(|text| Arc::from(text.as_str())))
    }
}

fn writers(texts: &[(u32, &str)]) -> Writers {
    let texts = texts
        .iter()
        .map(|(id, text)| (*id, (*text).to_owned()))
        .collect();
    Writers {
        texts,
        ..Writers::default()
    }
}

fn decoder_of(schema: &str, writers: Writers) -> AvroDecoder {
    let schema = Schema::parse(schema, "test").unwrap();
    AvroDecoder::new(
        &schema,
        DecodeLimits {
            record_bytes_max: 4_096,
        },
        Box::new(writers),
    )
}

fn decode<T: AsRef<[u8]>>(messages: &[T]) -> Decoded {
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|bytes| Some(bytes.as_ref())).collect();
    decoder_of(SCHEMA, writers(&[(1, WRITER)]))
        .decode(&payloads)
        .unwrap()
}

/// The one fault of a message of `writer` read by `schema`.
fn fault_of(schema: &str, writer: &str, parts: &[Vec<u8>]) -> (FaultReason, String) {
    let message = framed(1, parts);
    let decoded = decoder_of(schema, writers(&[(1, writer)]))
        .decode(&[Some(&message)])
        .unwrap();
    let fault = decoded.faults.into_iter().next().unwrap();
    (fault.reason, fault.detail)
}

/// The one row of a message of `writer` read by `schema`.
fn row_of(schema: &str, writer: &str, parts: &[Vec<u8>]) -> RecordBatch {
    let message = framed(1, parts);
    let decoded = decoder_of(schema, writers(&[(1, writer)]))
        .decode(&[Some(&message)])
        .unwrap();
    assert_eq!(decoded.faults, []);
    decoded.batch
}

fn one_field(kind: &str) -> String {
    format!("[[field]]\nname = \"v\"\n{kind}\n")
}

fn one_type(avro: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "v", "type": {avro}}}]}}"#)
}

#[test]
fn values_become_their_canonical_form() {
    let batch = decode(&[payment(Some(2.5), 1, Some("NA"), 1_530_446_400_000)]).batch;
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 2.5);
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "fuel");
    assert_eq!(batch.column(2).as_string::<i32>().value(0), "NA");
    let moment = batch
        .column(3)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!(moment, 1_530_446_400_000_000);
    assert_eq!(batch.column(4).null_count(), 1);

    let batch = decode(&[payment(Some(f64::NAN), 0, None, 0)]).batch;
    assert_eq!(
        (batch.column(0).null_count(), batch.column(2).null_count()),
        (1, 1)
    );
}

#[test]
fn logical_types_mean_what_they_say() {
    let numeric = one_field("kind = \"numeric\"");
    let number = |avro: &str, parts: &[Vec<u8>]| {
        row_of(&numeric, &one_type(avro), parts)
            .column(0)
            .as_primitive::<Float64Type>()
            .value(0)
    };
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    assert_eq!(number(decimal, &[long(2), vec![0xfb, 0x2e]]), -12.34);
    let fixed = r#"{"type": "fixed", "name": "F", "size": 3, "logicalType": "decimal", "precision": 5, "scale": 1}"#;
    assert_eq!(number(fixed, &[vec![0, 0, 25]]), 2.5);
    assert_eq!(
        number(decimal, &[long(20), [vec![0; 18], vec![1, 0]].concat()]),
        2.56
    );
    assert_eq!(
        number(
            decimal,
            &[long(20), [vec![0xff; 18], vec![0xff, 0]].concat()]
        ),
        -2.56
    );
    assert_eq!(number("\"float\"", &[0.5_f32.to_le_bytes().to_vec()]), 0.5);
    assert_eq!(number("\"int\"", &[long(-7)]), -7.0);

    let time = one_field("kind = \"timestamp\"\nunit = \"s\"");
    let moment = |avro: &str, count| {
        let batch = row_of(&time, &one_type(avro), &[long(count)]);
        batch
            .column(0)
            .as_primitive::<TimestampMicrosecondType>()
            .value(0)
    };
    assert_eq!(
        moment(r#"{"type": "int", "logicalType": "date"}"#, 2),
        172_800_000_000
    );
    assert_eq!(
        moment(r#"{"type": "long", "logicalType": "timestamp-micros"}"#, 7),
        7
    );
    assert_eq!(
        moment(r#"{"type": "long", "logicalType": "timestamp-nanos"}"#, -1),
        -1
    );
    assert_eq!(moment("\"long\"", 3), 3_000_000);

    let category = one_field("kind = \"categorical\"");
    let uuid = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
    let batch = row_of(&category, &one_type(uuid), &[(0..16).collect()]);
    let uuid = batch.column(0).as_string::<i32>().value(0);
    assert_eq!(uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
}

#[test]
fn bad_framing_and_unknown_writers_have_their_reason() {
    let good = payment(Some(1.0), 0, None, 0);
    let json: &[u8] = b"{\"amount\": 1}";
    let messages = [&good, json, &[0, 0, 1], &framed(9, &[]), &good];
    let decoded = decode(&messages);
    assert_eq!(decoded.payloads, [0, 4]);
    let faults: Vec<_> = decoded
        .faults
        .iter()
        .map(|f| (f.row, f.reason, f.detail.as_str()))
        .collect();
    use FaultReason::{Malformed, UnknownSchema};
    assert_eq!((faults[0].0, faults[0].1), (1, Malformed));
    assert!(faults[0].2.contains("magic byte 0x7b"), "{}", faults[0].2);
    assert_eq!((faults[1].0, faults[1].1), (2, Malformed));
    assert_eq!(faults[2], (3, UnknownSchema, "schema 9 is not known"));
}

#[test]
fn every_cut_and_every_extra_byte_is_malformed() {
    let good = payment(Some(1.0), 0, Some("NA"), 1_000_000);
    for length in 1..good.len() {
        let decoded = decode(&[&good, &good[..length], &good]);
        assert_eq!(decoded.payloads, [0, 2], "{length}");
        assert_eq!(decoded.faults[0].reason, FaultReason::Malformed, "{length}");
    }
    let longer = [good.clone(), vec![0]].concat();
    let decoded = decode(&[&longer, &good]);
    assert_eq!(decoded.payloads, [1]);
    assert!(
        decoded.faults[0].detail.contains("1 bytes left"),
        "{}",
        decoded.faults[0].detail
    );
}

#[test]
fn what_the_writer_cannot_have_written_is_malformed() {
    let numeric = one_field("kind = \"numeric\"");
    let skipped = |avro: &str| {
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "u", "type": {avro}}}, {{"name": "v", "type": "int"}}]}}"#
        )
    };
    let nulls = r#"{"type": "array", "items": "null"}"#;
    let list = r#"["null", {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}]"#;
    for (avro, bytes, detail) in [
        (
            r#"["null", "int"]"#,
            [long(2), long(1)].concat(),
            "branch 2, the writer's schema has 2",
        ),
        (r#"["null", "int"]"#, long(-1), "branch -1"),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["a"]}"#,
            long(1),
            "symbol 1",
        ),
        ("\"boolean\"", vec![2], "0x02 is no boolean"),
        (
            "\"string\"",
            [long(1), vec![0xff]].concat(),
            "invalid utf-8 at byte 6",
        ),
        ("\"bytes\"", long(-1), "length -1 is negative"),
        ("\"bytes\"", long(i64::MAX), "bytes wanted"),
        ("\"int\"", long(1 << 40), "no 32-bit number"),
        (nulls, long(i64::MAX), "values in one message"),
        (nulls, long(i64::MIN), "values in one message"),
        (
            r#"{"type": "array", "items": "int"}"#,
            [long(-1), long(5), long(1), long(0)].concat(),
            "a block of 5 bytes",
        ),
        (list, [vec![2; 1], vec![2; 500]].concat(), "nested deeper"),
    ] {
        // The bad value stands in a field that nobody wants: it is checked all the same.
        let (reason, found) = fault_of(&numeric, &skipped(avro), &[bytes, long(3)]);
        assert_eq!(reason, FaultReason::Malformed, "{avro}: {found}");
        assert!(found.contains(detail), "{avro}: {found}");
    }
    let batch = row_of(&numeric, &skipped(list), &[vec![2, 2, 2, 0], long(3)]);
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 3.0);
}

#[test]
fn a_writer_that_does_not_fit_makes_each_of_its_messages_a_fault() {
    for (kind, avro, expected) in [
        (
            "kind = \"numeric\"",
            "\"string\"",
            "is a string, expected a number",
        ),
        ("kind = \"numeric\"", "\"boolean\"", "is a boolean"),
        (
            "kind = \"numeric\"",
            r#"["null", "string"]"#,
            "is a union of null, a string",
        ),
        ("kind = \"categorical\"", "\"bytes\"", "is bytes"),
        (
            "kind = \"numeric\"",
            "\"bytes\"",
            "is bytes, expected a number",
        ),
        (
            "kind = \"categorical\"",
            r#"{"type": "map", "values": "int"}"#,
            "is a map",
        ),
        (
            "kind = \"boolean\"",
            "\"int\"",
            "is an int, expected true or false",
        ),
        ("kind = \"timestamp\"", "\"long\"", "integers need a `unit`"),
        (
            "kind = \"numeric\"\npath = \"v.x\"",
            "\"int\"",
            "lies below an int, expected a record",
        ),
    ] {
        let (reason, detail) = fault_of(&one_field(kind), &one_type(avro), &[long(0)]);
        assert_eq!(reason, FaultReason::WrongType, "{avro}: {detail}");
        assert!(detail.contains(expected), "{avro}: {detail}");
    }
    let (reason, detail) = fault_of(SCHEMA, r#"{"type": "recor"}"#, &[]);
    assert_eq!(reason, FaultReason::UnknownSchema, "{detail}");
    let (reason, detail) = fault_of(SCHEMA, "\"int\"", &[long(0)]);
    assert_eq!(
        (reason, detail.contains("not a record")),
        (FaultReason::WrongType, true)
    );
}

/// A writer that knows one of the fields of [`SCHEMA`].
const SMALL_WRITER: &str =
    r#"{"type": "record", "name": "P", "fields": [{"name": "amount", "type": "double"}]}"#;

#[test]
fn a_field_that_the_writer_does_not_have_is_null_as_in_json() {
    let amount = 2.5_f64.to_le_bytes().to_vec();
    let batch = row_of(SCHEMA, SMALL_WRITER, &[amount]);
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 2.5);
    let json = JsonDecoder::new(
        &Schema::parse(SCHEMA, "test").unwrap(),
        DecodeLimits::default(),
    )
    .decode(&[Some(b"{\"amount\": 2.5}")])
    .unwrap();
    assert_eq!(batch, json.batch);
}

#[test]
fn a_field_that_may_not_be_null_is_missing_in_each_message_of_a_writer_without_it() {
    let schema = SCHEMA.replace(
        "name = \"merchant\"\n",
        "name = \"merchant\"\nnullable = false\n",
    );
    let amount = 2.5_f64.to_le_bytes().to_vec();
    let fault = fault_of(&schema, SMALL_WRITER, &[amount]);
    let expected = "field `merchant` is null or absent and not nullable".to_owned();
    assert_eq!(fault, (FaultReason::MissingField, expected));
    // None of the fields: that is no record of this schema.
    let (reason, _) = fault_of(SCHEMA, &one_type("\"int\""), &[long(1)]);
    assert_eq!(reason, FaultReason::EmptyRecord);
}

#[test]
fn semantic_types_of_connect_and_debezium_mean_what_they_say() {
    // The unit of the schema is seconds: the writer's own wins.
    let time = one_field("kind = \"timestamp\"\nunit = \"s\"");
    let moment = |plain: &str, name: &str, count| {
        let avro = format!(
            r#"["null", {{"type": "{plain}", "connect.version": 1, "connect.name": "{name}"}}]"#
        );
        row_of(&time, &one_type(&avro), &[long(1), long(count)])
            .column(0)
            .as_primitive::<TimestampMicrosecondType>()
            .value(0)
    };
    const DAY: i64 = 86_400_000_000;
    for (plain, name, count, micros) in [
        ("int", "org.apache.kafka.connect.data.Date", 2, 2 * DAY),
        ("int", "io.debezium.time.Date", 20_458, 20_458 * DAY),
        ("long", "org.apache.kafka.connect.data.Timestamp", 7, 7_000),
        ("long", "io.debezium.time.Timestamp", 7, 7_000),
        ("long", "io.debezium.time.MicroTimestamp", 7, 7),
        ("long", "io.debezium.time.NanoTimestamp", 7_000, 7),
        // A name that says nothing about moments leaves the unit to the schema.
        ("long", "com.example.Ticks", 7, 7_000_000),
    ] {
        assert_eq!(moment(plain, name, count), micros, "{name}");
    }
    let zoned = r#"{"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}"#;
    let batch = row_of(
        &time,
        &one_type(zoned),
        &[text("2026-01-05T10:00:00+02:00")],
    );
    let micros = batch
        .column(0)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!(micros, 20_458 * DAY + 8 * 3_600_000_000);
}

#[test]
fn a_decimal_that_carries_its_scale_is_a_number_as_debezium_writes_it() {
    let numeric = one_field("kind = \"numeric\"");
    let decimal = |fields: &str| {
        format!(
            r#"["null", {{"type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
                "fields": [{fields}], "connect.name": "io.debezium.data.VariableScaleDecimal", "connect.version": 1}}]"#
        )
    };
    let (scale, value) = (
        r#"{"name": "scale", "type": "int"}"#,
        r#"{"name": "value", "type": "bytes"}"#,
    );
    let number = |fields: &str, parts: &[Vec<u8>]| {
        let batch = row_of(&numeric, &one_type(&decimal(fields)), parts);
        batch.column(0).as_primitive::<Float64Type>().value(0)
    };
    let unscaled = text_bytes(&[0x04, 0xd2]);
    let written = number(
        &format!("{scale}, {value}"),
        &[long(1), long(2), unscaled.clone()],
    );
    assert_eq!(written, 12.34);
    let turned = number(&format!("{value}, {scale}"), &[long(1), unscaled, long(-1)]);
    assert_eq!(turned, 12_340.0);
    // A field below it is still to be had by its path.
    let below = one_field("kind = \"numeric\"\npath = \"v.scale\"");
    let avro = one_type(&decimal(&format!("{scale}, {value}")));
    let batch = row_of(&below, &avro, &[long(1), long(2), text_bytes(&[1])]);
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 2.0);
}

#[test]
fn unscaled_decimals_need_a_scale_where_the_writer_has_none() {
    let scaled = one_field("kind = \"numeric\"\ndecimal_scale = 2");
    let number = |schema: &str, avro: &str, parts: &[Vec<u8>]| {
        row_of(schema, &one_type(avro), parts)
            .column(0)
            .as_primitive::<Float64Type>()
            .value(0)
    };
    let bytes = [long(2), vec![0x04, 0xd2]];
    assert_eq!(number(&scaled, "\"bytes\"", &bytes), 12.34);
    let fixed = r#"{"type": "fixed", "name": "F", "size": 2}"#;
    assert_eq!(number(&scaled, fixed, &[vec![0x04, 0xd2]]), 12.34);
    assert_eq!(number(&scaled, "\"string\"", &[text("BNI=")]), 12.34);
    // The writer's own scale wins, in Avro's words and in Connect's.
    let own = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 1}"#;
    assert_eq!(number(&scaled, own, &bytes), 123.4);
    let connect = r#"{"type": "bytes", "connect.name": "org.apache.kafka.connect.data.Decimal",
        "connect.parameters": {"scale": "3"}}"#;
    let plain = one_field("kind = \"numeric\"");
    assert_eq!(number(&plain, connect, &bytes), 1.234);
    let (reason, detail) = fault_of(&scaled, &one_type("\"bytes\""), &[long(0)]);
    assert_eq!(reason, FaultReason::WrongType);
    assert!(detail.ends_with("found 0 bytes"), "{detail}");
}

#[test]
fn whole_floats_are_codes_and_moments_and_flags_take_numbers_under_parse() {
    let double = |number: f64| number.to_le_bytes().to_vec();
    let category = one_field("kind = \"categorical\"");
    let batch = row_of(&category, &one_type("\"double\""), &[double(5_411.0)]);
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "5411");
    let (reason, detail) = fault_of(&category, &one_type("\"double\""), &[double(1.5)]);
    assert_eq!(reason, FaultReason::WrongType, "{detail}");
    let time = one_field("kind = \"timestamp\"\nunit = \"ms\"");
    let batch = row_of(&time, &one_type("\"double\""), &[double(1.7676e12)]);
    let micros = batch
        .column(0)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!(micros, 1_767_600_000_000_000);
    let flag = one_field("kind = \"boolean\"\nparse = true");
    for (avro, parts, expected) in [
        ("\"int\"", vec![long(1)], true),
        ("\"string\"", vec![text("false")], false),
        ("\"double\"", vec![double(1.0)], true),
        ("\"boolean\"", vec![vec![0]], false),
    ] {
        let batch = row_of(&flag, &one_type(avro), &parts);
        assert_eq!(batch.column(0).as_boolean().value(0), expected, "{avro}");
    }
    let (reason, _) = fault_of(&flag, &one_type("\"int\""), &[long(2)]);
    assert_eq!(reason, FaultReason::WrongType);
}

#[test]
fn a_union_of_several_types_is_judged_by_the_value() {
    let numeric = one_field("kind = \"numeric\"");
    let writer = one_type(r#"["null", "string", "long"]"#);
    let batch = row_of(&numeric, &writer, &[long(2), long(5)]);
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 5.0);
    let (reason, detail) = fault_of(&numeric, &writer, &[long(1), text("x")]);
    assert_eq!(reason, FaultReason::WrongType);
    assert_eq!(detail, "field `v`: expected a number, found text \"x\"");
}

#[test]
fn messages_of_several_writers_keep_their_order() {
    let other = WRITER.replace("\"double\"", "\"long\"");
    let second = |amount: i64| {
        let mut parts = payment(None, 0, None, 0)[5..].to_vec();
        parts.splice(1..2, [long(1), long(amount)].concat());
        framed(2, &[parts])
    };
    let schemas = writers(&[(1, WRITER), (2, &other)]);
    let asked = schemas.asked.clone();
    let mut decoder = decoder_of(SCHEMA, schemas);
    let messages = [
        payment(Some(0.0), 0, None, 0),
        second(1),
        payment(Some(2.0), 0, None, 0),
        framed(3, &[]),
        second(4),
        framed(3, &[]),
    ];
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|bytes| Some(&bytes[..])).collect();
    let decoded = decoder.decode(&payloads).unwrap();
    assert_eq!(decoded.payloads, [0, 1, 2, 4]);
    let amounts = decoded.batch.column(0).as_primitive::<Float64Type>();
    assert_eq!(amounts.values(), &[0.0, 1.0, 2.0, 4.0]);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    // What is known is not asked for again; what was unknown is, once.
    decoder.decode(&payloads).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[test]
fn a_registry_that_fails_leaves_the_decoder_whole() {
    let schemas = Writers {
        failures: Arc::new(1.into()),
        ..writers(&[(1, WRITER)])
    };
    let mut decoder = decoder_of(SCHEMA, schemas);
    let message = payment(Some(1.0), 0, None, 0);
    let payloads = [Some(&message[..]), None];
    assert!(decoder.decode(&payloads).unwrap_err().is_retriable());
    let decoded = decoder.decode(&payloads).unwrap();
    assert_eq!((decoded.payloads, decoded.batch.num_rows()), (vec![0], 1));
}

#[test]
fn plans_are_bounded() {
    let schemas: Vec<(u32, &str)> = (0..PLANS_MAX as u32 + 10).map(|id| (id, WRITER)).collect();
    let mut decoder = decoder_of(SCHEMA, writers(&schemas));
    let body = payment(Some(1.0), 0, None, 0)[5..].to_vec();
    for (id, _) in schemas {
        let message = framed(id, std::slice::from_ref(&body));
        assert_eq!(decoder.decode(&[Some(&message)]).unwrap().payloads, [0]);
        assert!(decoder.plans.known.len() <= PLANS_MAX);
    }
}

/// A good message, or one with bytes changed, cut or added.
fn message() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let country = prop::option::of("\\PC{0,6}");
    let good = (
        prop::option::of(-1e9..1e9_f64),
        0..2_i64,
        country,
        0..4_000_000_000_000_i64,
    )
        .prop_map(|(amount, merchant, country, millis)| {
            payment(amount, merchant, country.as_deref(), millis)
        });
    (good, any::<prop::sample::Index>(), 0..6_u8).prop_map(|(mut bytes, at, how)| {
        let at = at.index(bytes.len());
        match how {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.push(0),
            2 => bytes[0] = 1 + at as u8,
            _ => return (true, bytes),
        }
        (false, bytes)
    })
}

proptest! {
    #[test]
    fn a_bad_message_leaves_its_neighbours_alone(
        messages in prop::collection::vec(message(), 0..40)
    ) {
        let all: Vec<&[u8]> = messages.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        let good: Vec<usize> = (0..messages.len()).filter(|&i| messages[i].0).collect();
        let alone: Vec<&[u8]> = good.iter().map(|&i| all[i]).collect();
        let mixed = decode(&all);
        prop_assert_eq!(&mixed.payloads, &good);
        prop_assert_eq!(mixed.batch, decode(&alone).batch);
        prop_assert_eq!(mixed.faults.len() + good.len(), messages.len());
    }

    #[test]
    fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let good = payment(Some(1.0), 0, Some("NA"), 5);
        let bad = framed(1, &[bytes]);
        let decoded = decode(&[&good, &bad, &good]);
        prop_assert!(decoded.payloads.contains(&0) && decoded.payloads.contains(&2));
    }
}
