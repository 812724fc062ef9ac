//! Bad records go to the dead letters with reason, origin and what came; their neighbours' scores are
//! the same bits as without them.

use super::material::Records;
use super::setting::{Setting, score_of};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};
use maskwatch_testing::kafka_topics::{InputRecord, OutputRecord};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GOOD: usize = 300;

/// Bytes of a dead letter unless configured otherwise.
const KEPT_BYTES_MAX: usize = 900_000;

/// A payload that cannot be scored, and the reason that must be told.
struct Bad {
    payload: Option<Vec<u8>>,
    reason: &'static str,
}

fn bad(payload: impl Into<Vec<u8>>, reason: &'static str) -> Bad {
    let payload = Some(payload.into());
    Bad { payload, reason }
}

/// A bad record as it is produced: with a key, and a header of the producer's own.
fn input(number: usize, bad: &Bad) -> InputRecord {
    let record = InputRecord {
        payload: bad.payload.clone(),
        ..InputRecord::default()
    };
    let key = format!("bad-{number}");
    record.key(key).partition(0).header("trace", "t-1")
}

/// Runs one daemon on `good` with `bad` among them, and one on `good` alone, with further sections
/// `more`. Good records must have the same envelopes but for their offsets, with the library's
/// scores, and bad ones their dead letters.
fn assert_neighbours_untouched(
    records: &Records,
    good: &[Vec<u8>],
    bad: &[Bad],
    more: &str,
    [mixed, alone]: [&Setting; 2],
) {
    let good_input = |number: usize| InputRecord::of(good[number].clone()).partition(0);
    let step = good.len() / (bad.len() + 1);
    let (mut inputs, mut offsets) = (Vec::new(), Vec::new());
    for number in 0..good.len() {
        inputs.push(good_input(number));
        let among = number / step;
        if number % step == 0 && among < bad.len() {
            offsets.push(inputs.len());
            inputs.push(input(among, &bad[among]));
        }
    }
    assert_eq!(offsets.len(), bad.len());
    mixed.broker.produce(&mixed.input, &inputs);
    let only: Vec<_> = (0..good.len()).map(good_input).collect();
    alone.broker.produce(&alone.input, &only);
    let counts = [(mixed, inputs.len()), (alone, only.len())];
    for (setting, count, mut served) in counts.map(|(s, count)| (s, count, s.start(more))) {
        setting.wait_for(&mut served, count);
        served.drain();
    }

    let without = envelopes(alone);
    assert_eq!(without.len(), good.len());
    assert_eq!(envelopes(mixed), without);
    for record in &records.records {
        let score = score_of(&without[record.id.as_ref().unwrap()]);
        assert_eq!(score.to_bits(), record.anomaly_score.to_bits());
    }
    assert_dead_letters(mixed, bad, &offsets);
}

/// The envelopes of a topic by event id, without what differs between topics; numbers keep every bit.
fn envelopes(setting: &Setting) -> BTreeMap<String, Value> {
    let outputs = setting.read(&setting.scores);
    let count = outputs.len();
    let by_id: BTreeMap<String, Value> = outputs
        .iter()
        .map(|output| {
            let mut envelope: Value = serde_json::from_str(output.text()).unwrap();
            for key in ["topic", "offset"] {
                envelope.as_object_mut().unwrap().remove(key).unwrap();
            }
            (envelope["event_id"].as_str().unwrap().to_owned(), envelope)
        })
        .collect();
    assert_eq!(by_id.len(), count, "an event came twice");
    by_id
}

fn header(output: &OutputRecord, name: &str) -> Option<String> {
    let value = output.header(&format!("maskwatch-error-{name}"))?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn assert_dead_letters(setting: &Setting, bad: &[Bad], offsets: &[usize]) {
    let dead = setting.read(&setting.dead);
    let reasons: Vec<_> = dead.iter().map(|output| header(output, "reason")).collect();
    let expected: Vec<_> = bad.iter().map(|bad| Some(bad.reason.to_owned())).collect();
    assert_eq!(reasons, expected);
    for (number, (output, bad)) in dead.iter().zip(bad).enumerate() {
        let about = format!("bad record {number}, {}", bad.reason);
        let tells = |name, expected: String| {
            assert_eq!(header(output, name), Some(expected), "{about}");
        };
        tells("topic", setting.input.clone());
        tells("partition", "0".to_owned());
        tells("offset", offsets[number].to_string());
        assert!(header(output, "detail").is_some(), "{about}");
        assert_eq!(output.key, Some(format!("bad-{number}").into_bytes()));
        assert_eq!(output.header("trace"), Some(&b"t-1"[..]), "{about}");
        let came = bad.payload.as_deref().unwrap_or_default();
        let kept = output
            .payload
            .as_deref()
            .expect("a dead letter is no tombstone");
        let cut = came.len() > KEPT_BYTES_MAX;
        assert!(kept == &came[..came.len().min(KEPT_BYTES_MAX)], "{about}");
        let truncated = cut.then(|| came.len().to_string());
        assert_eq!(header(output, "truncated"), truncated, "{about}");
    }
}

/// A good payment with another amount, as text.
fn with_amount(good: &[u8], amount: &str) -> Vec<u8> {
    let text = std::str::from_utf8(good).unwrap();
    let (before, rest) = text.split_once("\"amount\":").unwrap();
    let (_, after) = rest.split_once(',').unwrap();
    format!("{before}\"amount\":{amount},{after}").into_bytes()
}

fn bad_json(good: &[u8]) -> Vec<Bad> {
    let mut absent: Value = serde_json::from_slice(good).unwrap();
    absent.as_object_mut().unwrap().remove("amount").unwrap();
    let mut moment: Value = serde_json::from_slice(good).unwrap();
    moment["time"] = json!("yesterday");
    let truncated = &good[..good.len() / 2];
    let large = with_amount(good, &format!("1, \"note\": \"{}\"", "x".repeat(10 << 20)));
    let twice = with_amount(good, "1, \"amount\": 2");
    let mut no_utf8 = with_amount(good, "1, \"note\": \"?\"");
    let at = no_utf8.iter().position(|&byte| byte == b'?').unwrap();
    no_utf8[at] = 0xFF;
    vec![
        bad("nonsense", "malformed"),
        bad(truncated, "malformed"),
        bad([good, good].concat(), "malformed"),
        bad(with_amount(good, "\"12.5\""), "wrong_type"),
        bad(with_amount(good, "{\"value\": 1}"), "wrong_type"),
        bad(moment.to_string(), "wrong_type"),
        bad(with_amount(good, "null"), "missing_field"),
        bad(absent.to_string(), "missing_field"),
        bad(with_amount(good, "NaN"), "malformed"),
        bad(with_amount(good, "1e999"), "malformed"),
        bad(twice, "malformed"),
        bad(no_utf8, "malformed"),
        bad(large, "too_large"),
        bad("", "empty"),
        Bad {
            payload: None,
            reason: "tombstone",
        },
    ]
}

#[test]
fn bad_json_becomes_dead_letters_and_its_neighbours_scores_keep_their_bits() {
    let records = Records::payments(GOOD);
    let [mixed, alone] =
        ["bad-json", "good-json"].map(|stem| Setting::new(stem, 1, &records.bundle));
    let good: Vec<_> = records.records.iter().map(|r| r.json.clone()).collect();
    let bad = bad_json(&good[0]);
    assert_neighbours_untouched(&records, &good, &bad, "", [&mixed, &alone]);
}

/// Avro messages in Confluent's framing, by hand: nothing of the decoder under test has a part in it.
pub struct AvroWriter<'a> {
    pub rows: &'a RecordBatch,
}

pub const WRITER_ID: u32 = 7;

impl AvroWriter<'_> {
    /// The writer's schema: the columns of the payments, optional where they may be null.
    pub fn schema(&self) -> Value {
        let schema = self.rows.schema();
        let fields = schema.fields().iter().map(|field| {
            let plain = match field.data_type() {
                DataType::Utf8 => json!("string"),
                DataType::Float64 => json!("double"),
                DataType::Int64 => json!("long"),
                DataType::Boolean => json!("boolean"),
                DataType::Timestamp(..) => {
                    json!({"type": "long", "logicalType": "timestamp-millis"})
                }
                other => panic!("payments have no column of type {other}"),
            };
            let kind = match field.is_nullable() {
                true => json!(["null", plain]),
                false => plain,
            };
            json!({"name": field.name(), "type": kind})
        });
        json!({"type": "record", "name": "Payment", "fields": fields.collect::<Vec<_>>()})
    }

    /// Row `row` in the framing of the schema with this id.
    pub fn message(&self, row: usize, id: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(id.to_be_bytes());
        let schema = self.rows.schema();
        for (field, column) in schema.fields().iter().zip(self.rows.columns()) {
            if field.is_nullable() {
                long(&mut bytes, i64::from(column.is_valid(row)));
            }
            if column.is_valid(row) {
                value(&mut bytes, column.as_ref(), row);
            }
        }
        bytes
    }
}

fn value(bytes: &mut Vec<u8>, column: &dyn Array, row: usize) {
    match column.data_type() {
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            long(bytes, text.len() as i64);
            bytes.extend(text.as_bytes());
        }
        DataType::Float64 => {
            let number = column.as_primitive::<Float64Type>().value(row);
            bytes.extend(number.to_le_bytes());
        }
        DataType::Int64 => long(bytes, column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => bytes.push(u8::from(column.as_boolean().value(row))),
        _ => {
            let moments = column.as_primitive::<TimestampMillisecondType>();
            long(bytes, moments.value(row));
        }
    }
}

/// A zigzag varint.
fn long(bytes: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

#[test]
fn bad_avro_becomes_dead_letters_and_its_neighbours_scores_keep_their_bits() {
    let records = Records::payments(GOOD);
    let [mixed, alone] =
        ["bad-avro", "good-avro"].map(|stem| Setting::new(stem, 1, &records.bundle));
    let writer = AvroWriter {
        rows: &records.rows[0],
    };
    let file = mixed.folder.path().join("payment.avsc");
    std::fs::write(&file, writer.schema().to_string()).unwrap();
    let good: Vec<_> = (0..GOOD)
        .map(|row| writer.message(row, WRITER_ID))
        .collect();
    let wrong_magic = [&[1], &good[0][1..]].concat();
    let trailing = [&good[0][..], &[0]].concat();
    let bad = [
        bad(writer.message(0, 8), "unknown_schema"),
        bad(&good[0][..good[0].len() - 3], "malformed"),
        bad(&good[0][..3], "malformed"),
        bad(wrong_magic, "malformed"),
        bad(trailing, "malformed"),
        bad("{\"amount\": 1}", "malformed"),
        bad([&good[0][..], &vec![0; 10 << 20]].concat(), "too_large"),
        bad("", "empty"),
        Bad {
            payload: None,
            reason: "tombstone",
        },
    ];
    let files =
        format!("[input]\nformat = \"avro\"\nschema_files = {{ {WRITER_ID} = {file:?} }}\n");
    assert_neighbours_untouched(&records, &good, &bad, &files, [&mixed, &alone]);
}
