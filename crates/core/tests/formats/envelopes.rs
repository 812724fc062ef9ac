//! Records in the envelopes of Kafka Connect and Debezium, through JSON and Avro: the same rows as alone, the same fates.
//!
//! The envelopes are those that Debezium's and Connect's converters write; the Avro messages are written by hand, so that
//! nothing of the code under test has a part in them.
use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use maskwatch_core::records::*;
use maskwatch_core::schema::{FieldPath, Schema};

const SCHEMA: &str = r#"
field = [
    { name = "id", kind = "categorical", role = "key" },
    { name = "amount", kind = "numeric" },
    { name = "merchant", kind = "categorical" },
]
"#;

fn schema() -> Schema {
    Schema::parse(SCHEMA, "test").unwrap()
}

fn root(paths: &[&str]) -> RecordRoot {
    RecordRoot::new(paths.iter().map(|path| FieldPath::parse(path)).collect())
}

/// What `config/maskwatch.toml` proposes for Debezium and Connect.
fn usual() -> RecordRoot {
    root(&["payload.after", "after", "payload"])
}

fn decode_json<T: AsRef<[u8]>>(root: &RecordRoot, messages: &[T]) -> Decoded {
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_ref())).collect();
    JsonDecoder::new(&schema(), DecodeLimits::default())
        .with_root(root)
        .decode(&payloads)
        .unwrap()
}

/// The fault of one message.
fn fault(root: &RecordRoot, message: impl AsRef<[u8]>) -> (FaultReason, String) {
    let decoded = decode_json(root, &[message.as_ref()]);
    assert_eq!(decoded.batch.num_rows(), 0);
    let fault = decoded.faults.into_iter().next().unwrap();
    (fault.reason, fault.detail)
}

/// What Connect's JSON converter writes with `schemas.enable = true`.
fn connect(payload: &Value) -> Value {
    let field = json!({"type": "double", "optional": true, "field": "amount"});
    json!({"schema": {"type": "struct", "fields": [field], "optional": false}, "payload": payload})
}

fn debezium(operation: &str, before: &Value, after: &Value) -> Value {
    json!({"before": before, "after": after, "op": operation, "ts_ms": 1_767_600_000_000_i64,
        "source": {"connector": "postgresql", "table": "payments", "amount": "not this one"}})
}

#[test]
fn the_record_is_found_in_every_envelope() {
    let record = json!({"id": "a", "amount": 2.5, "merchant": "food"});
    let old = json!({"id": "a", "amount": 1.0, "merchant": "fuel"});
    let messages: Vec<String> = [
        record.clone(),
        connect(&record),
        debezium("c", &Value::Null, &record),
        debezium("u", &old, &record),
        connect(&debezium("u", &old, &record)),
    ]
    .iter()
    .map(Value::to_string)
    .collect();
    let decoded = decode_json(&usual(), &messages);
    assert_eq!(decoded.faults, []);
    let alone = decode_json(&RecordRoot::default(), &[record.to_string()]);
    for row in 0..messages.len() {
        assert_eq!(
            decoded.batch.slice(row, 1),
            alone.batch,
            "{}",
            messages[row]
        );
    }
}

#[test]
fn a_delete_is_a_tombstone_in_every_envelope() {
    let old = json!({"id": "a", "amount": 1.0});
    let delete = debezium("d", &old, &Value::Null);
    let mut without_after = delete.clone();
    without_after.as_object_mut().unwrap().remove("after");
    for (message, why) in [
        (delete.clone(), "`after`"),
        (connect(&delete), "`payload.after`"),
        (without_after.clone(), "`op` beside `after`"),
        (connect(&without_after), "`op` beside `payload.after`"),
        (connect(&Value::Null), "`payload` is null"),
    ] {
        let (reason, detail) = fault(&usual(), message.to_string());
        assert_eq!(reason, FaultReason::Tombstone, "{message}");
        assert!(
            detail.starts_with("a delete: ") && detail.contains(why),
            "{detail}"
        );
    }
    // A field that happens to have the name is no operation on a row.
    let record = json!({"op": "d", "amount": 1.0});
    assert_eq!(decode_json(&usual(), &[record.to_string()]).payloads, [0]);
    let only_payload = root(&["payload"]);
    let message = json!({"op": "d", "payload": {"amount": 1.0}});
    assert_eq!(
        decode_json(&only_payload, &[message.to_string()]).payloads,
        [0]
    );
}

#[test]
fn a_path_that_leads_to_no_object_is_passed_over() {
    for after in [json!(1), json!("x"), json!([{"amount": 1}]), json!(true)] {
        let message = json!({"after": after, "payload": {"amount": 1.0}});
        assert_eq!(
            decode_json(&usual(), &[message.to_string()]).payloads,
            [0],
            "{message}"
        );
    }
}

#[test]
fn what_is_malformed_outside_of_the_record_is_malformed() {
    for message in [
        r#"{"after": {"amount": 1}, "before": {"x": 1, "x": 2}}"#,
        r#"{"after": {"amount": 1}, "before": {"x": 1e999}}"#,
        r#"{"after": {"amount": 1}, "after": {"amount": 2}}"#,
        r#"{"after": {"amount": 1, "amount": 2}}"#,
        r#"{"after": {"amount": 1}} x"#,
        r#"{"after": {"amount": 1}"#,
        r#"[{"after": {"amount": 1}}]"#,
        r#"{"payload": {"x": NaN}, "after": {"amount": 1}}"#,
        "null",
        "",
    ] {
        let message = [message.as_bytes(), b" "].concat();
        let (reason, detail) = fault(&usual(), &message);
        assert_eq!(reason, FaultReason::Malformed, "{detail}");
    }
    // Keys are compared as they mean, not as they are written.
    let escaped = r#"{"\u0061fter": {"amount": 1}}"#;
    assert_eq!(decode_json(&usual(), &[escaped]).payloads, [0]);
}

#[test]
fn the_framing_of_a_schema_registry_is_stripped_from_json() {
    let record = br#"{"amount": 2.5}"#;
    let framed = [&[0, 0, 0, 0, 7][..], record].concat();
    let decoded = decode_json(&RecordRoot::default(), &[&framed[..], record]);
    assert_eq!(decoded.faults, []);
    assert_eq!(decoded.batch.slice(0, 1), decoded.batch.slice(1, 1));
    for (bytes, detail) in [
        (&framed[..3], "3 bytes, magic byte and schema id take 5"),
        (&framed[..5], "EOF"),
        (&[0, 0, 0, 0, 7, b'{', 0xff][..], "invalid utf-8 at byte 6"),
        (&[1, 0, 0, 0, 7, b'{', b'}'][..], "line 1"),
    ] {
        let (reason, found) = fault(&RecordRoot::default(), bytes);
        assert_eq!(reason, FaultReason::Malformed, "{found}");
        assert!(found.contains(detail), "{found}");
    }
    let empty = [&[0, 0, 0, 0, 7][..], br#"{"after": {"amount": 1}}"#].concat();
    let (reason, detail) = fault(&RecordRoot::default(), empty);
    assert_eq!(reason, FaultReason::EmptyRecord);
    assert!(
        detail.contains("`amount` lies at `after.amount`"),
        "{detail}"
    );
}

/// What Connect's Avro converter registers for a Debezium topic.
const WRITER: &str = r#"{"type": "record", "name": "Envelope", "fields": [
    {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": ["null", "double"]},
        {"name": "merchant", "type": ["null", "string"]}]}]},
    {"name": "after", "type": ["null", "Value"]},
    {"name": "op", "type": "string"},
    {"name": "ts_ms", "type": ["null", "long"]}]}"#;

/// A zigzag varint below 64: lengths, branches and the like.
fn small(value: usize) -> Vec<u8> {
    assert!(value < 64);
    vec![(value << 1) as u8]
}

fn text(value: &str) -> Vec<u8> {
    [small(value.len()), value.as_bytes().to_vec()].concat()
}

fn optional(value: Option<Vec<u8>>) -> Vec<u8> {
    value.map_or(small(0), |value| [small(1), value].concat())
}

type Row<'a> = (&'a str, Option<f64>, Option<&'a str>);

fn avro_row((id, amount, merchant): Row<'_>) -> Vec<u8> {
    let amount = amount.map(|amount| amount.to_le_bytes().to_vec());
    [text(id), optional(amount), optional(merchant.map(text))].concat()
}

fn avro_message(before: Option<Row<'_>>, after: Option<Row<'_>>, operation: &str) -> Vec<u8> {
    [
        vec![0, 0, 0, 0, 7],
        optional(before.map(avro_row)),
        optional(after.map(avro_row)),
        text(operation),
        small(0),
    ]
    .concat()
}

struct OneWriter;

impl WriterSchemas for OneWriter {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        Ok(HashMap::from([(7, Arc::from(WRITER))]).get(&id).cloned())
    }
}

fn decode_avro(root: &RecordRoot, messages: &[Vec<u8>]) -> Decoded {
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(&m[..])).collect();
    AvroDecoder::new(&schema(), DecodeLimits::default(), Box::new(OneWriter))
        .with_root(root)
        .decode(&payloads)
        .unwrap()
}

#[test]
fn avro_envelopes_are_read_as_those_in_json() {
    let old = Some(("a", Some(1.0), Some("fuel")));
    let new = Some(("a", Some(2.5), None));
    let messages = [
        avro_message(None, new, "c"),
        avro_message(old, None, "d"),
        avro_message(old, new, "u"),
        avro_message(old, new, "d"),
    ];
    let decoded = decode_avro(&usual(), &messages);
    assert_eq!(decoded.payloads, [0, 2]);
    let reasons: Vec<_> = decoded.faults.iter().map(|f| (f.row, f.reason)).collect();
    assert_eq!(
        reasons,
        [(1, FaultReason::Tombstone), (3, FaultReason::Tombstone)]
    );
    let record = json!({"id": "a", "amount": 2.5, "merchant": null}).to_string();
    let alone = decode_json(&RecordRoot::default(), &[record]);
    assert_eq!(decoded.batch.slice(0, 1), alone.batch);
    assert_eq!(decoded.batch.slice(1, 1), alone.batch);
    // Every byte of the message is checked, also of what lies behind the record.
    for end in 5..messages[2].len() {
        let cut = messages[2][..end].to_vec();
        let decoded = decode_avro(&usual(), &[cut]);
        assert_eq!(decoded.faults[0].reason, FaultReason::Malformed, "{end}");
    }
    let longer = [&messages[0][..], &[0]].concat();
    let decoded = decode_avro(&usual(), &[longer]);
    assert!(decoded.faults[0].detail.contains("1 bytes left"));
}

#[test]
fn an_avro_envelope_without_a_root_names_it() {
    let message = avro_message(None, Some(("a", Some(2.5), None)), "c");
    let fault = decode_avro(&RecordRoot::default(), &[message])
        .faults
        .remove(0);
    assert_eq!(fault.reason, FaultReason::EmptyRecord);
    assert_eq!(
        fault.detail,
        "no feature field is present: `amount` lies at `after.amount`, `merchant` lies at `after.merchant`; \
         set input.root = [\"after\"]; the message has the keys `before`, `after`, `op`, `ts_ms`"
    );
}

proptest! {
    #[test]
    fn a_record_means_the_same_in_any_envelope(
        records in prop::collection::vec(
            ("[a-z]{1,5}", prop::option::of(-1e6..1e6_f64), prop::option::of("[a-z]{0,5}"), 0..5_usize),
            1..20,
        )
    ) {
        let alone: Vec<String> = records
            .iter()
            .map(|(id, amount, merchant, _)| {
                json!({"id": id, "amount": amount, "merchant": merchant}).to_string()
            })
            .collect();
        let enveloped: Vec<String> = alone
            .iter()
            .zip(&records)
            .map(|(text, (.., how))| {
                let record: Value = serde_json::from_str(text).unwrap();
                let envelope = match how {
                    0 => record,
                    1 => connect(&record),
                    2 => debezium("c", &Value::Null, &record),
                    3 => debezium("u", &json!({"amount": 7}), &record),
                    _ => connect(&debezium("r", &Value::Null, &record)),
                };
                envelope.to_string()
            })
            .collect();
        let expected = decode_json(&RecordRoot::default(), &alone);
        let found = decode_json(&usual(), &enveloped);
        prop_assert_eq!(&found.batch, &expected.batch);
        prop_assert_eq!(&found.payloads, &expected.payloads);
        let messages: Vec<Vec<u8>> = records
            .iter()
            .map(|(id, amount, merchant, _)| {
                avro_message(None, Some((id, *amount, merchant.as_deref())), "u")
            })
            .collect();
        let avro = decode_avro(&usual(), &messages);
        prop_assert_eq!(&avro.batch, &expected.batch);
        prop_assert_eq!(&avro.payloads, &expected.payloads);
    }
}
