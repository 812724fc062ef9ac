//! Records in the envelopes of Kafka Connect and Debezium and in the framing of a schema registry are scored as they are
//! alone; deletes are tombstones; what lies deeper than configured is named; a moment in another unit is a bad record.

use super::material::{Record, Records};
use super::setting::{Setting, score_of};
use maskwatch_testing::kafka_topics::{InputRecord, OutputRecord};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const COUNT: usize = 200;

const ROOT: &str = "[input]\nroot = [\"payload.after\", \"after\", \"payload\"]\n";

fn record(record: &Record) -> Value {
    serde_json::from_slice(&record.json).unwrap()
}

/// As Debezium writes a change of a row.
fn debezium(operation: &str, before: &Value, after: &Value) -> Value {
    json!({"before": before, "after": after, "op": operation, "ts_ms": 1_767_600_000_000_i64,
        "source": {"connector": "postgresql", "table": "payments"}})
}

/// As Connect's JSON converter writes it with `schemas.enable = true`.
fn connect(payload: &Value) -> Value {
    json!({"schema": {"type": "struct", "fields": [], "optional": false}, "payload": payload})
}

/// The same record in one of six forms.
fn enveloped(number: usize, alone: &Record) -> Vec<u8> {
    let record = record(alone);
    let message = match number % 6 {
        0 => return alone.json.clone(),
        // The framing of a JSON serialiser with a schema registry: a zero byte and the schema's id.
        1 => return [&[0, 0, 0, 0, 7][..], &alone.json[..]].concat(),
        2 => connect(&record),
        3 => debezium("c", &Value::Null, &record),
        4 => debezium("u", &json!({"amount": -1}), &record),
        _ => connect(&debezium("r", &Value::Null, &record)),
    };
    message.to_string().into_bytes()
}

fn header(output: &OutputRecord, name: &str) -> String {
    let value = output.header(&format!("maskwatch-error-{name}"));
    String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
}

/// The scores of a topic by event id; none comes twice.
fn scores(setting: &Setting) -> BTreeMap<String, f32> {
    let outputs = setting.read(&setting.scores);
    let of = |output: &OutputRecord| {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        let id = envelope["event_id"].as_str().unwrap().to_owned();
        (id, score_of(&envelope))
    };
    let scores: BTreeMap<_, _> = outputs.iter().map(of).collect();
    assert_eq!(scores.len(), outputs.len(), "an event came twice");
    scores
}

#[track_caller]
fn assert_scores(setting: &Setting, records: &Records) {
    let scores = scores(setting);
    assert_eq!(scores.len(), records.records.len());
    for record in &records.records {
        let score = scores[record.id.as_ref().unwrap()];
        assert_eq!(score.to_bits(), record.anomaly_score.to_bits());
    }
}

#[test]
fn records_in_envelopes_score_as_they_do_alone_and_deletes_are_tombstones() {
    let records = Records::payments(COUNT);
    let setting = Setting::new("envelopes", 1, &records.bundle);
    let old = record(&records.records[0]);
    let delete = debezium("d", &old, &Value::Null);
    let mut far = old.clone();
    // Seconds that were taken for milliseconds.
    far["time"] = json!("1970-01-21T11:00:00Z");
    let bad = [
        (delete.clone(), "tombstone", "`after` is null"),
        (connect(&delete), "tombstone", "`payload.after` is null"),
        (connect(&Value::Null), "tombstone", "`payload` is null"),
        (
            json!({"data": {"new": old}}),
            "empty_record",
            "lies at `data.new.",
        ),
        (debezium("u", &old, &far), "wrong_type", "the unit"),
    ];
    let mut inputs = Vec::new();
    for (number, record) in records.records.iter().enumerate() {
        inputs.push(InputRecord::of(enveloped(number, record)).partition(0));
        if let Some((message, ..)) = bad.get(number / 20).filter(|_| number % 20 == 7) {
            inputs.push(InputRecord::of(message.to_string()).partition(0));
        }
    }
    assert_eq!(inputs.len(), COUNT + bad.len());
    setting.broker.produce(&setting.input, &inputs);
    let mut served = setting.start(ROOT);
    setting.wait_for(&mut served, inputs.len());
    assert_scores(&setting, &records);
    let dead = setting.read(&setting.dead);
    assert_eq!(dead.len(), bad.len());
    for (output, (message, reason, detail)) in dead.iter().zip(&bad) {
        assert_eq!(header(output, "reason"), *reason);
        let found = header(output, "detail");
        assert!(found.contains(detail), "{found}");
        // Nothing is lost: the message lies there as it came.
        assert_eq!(output.text(), message.to_string());
    }

    // The same rules over HTTP.
    for number in 0..6 {
        let alone = &records.records[number];
        let body = match number {
            // Only Kafka's serialisers frame.
            1 => alone.json.clone(),
            _ => enveloped(number, alone),
        };
        let (status, answer) = served.score(&body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            score_of(&answer).to_bits(),
            alone.anomaly_score.to_bits(),
            "{number}"
        );
    }
    for (message, reason, detail) in &bad {
        let (status, answer) = served.score(message.to_string().as_bytes());
        assert_eq!(status, 422, "{answer}");
        assert_eq!(answer["error"]["reason"], *reason);
        let found = answer["error"]["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{found}");
    }
    served.drain();
}

#[test]
fn deletes_are_passed_over_as_tombstones_are() {
    let records = Records::payments(20);
    let setting = Setting::new("deletes", 1, &records.bundle);
    let mut inputs = Vec::new();
    for record in &records.records {
        let row = self::record(record);
        let update = debezium("u", &Value::Null, &row);
        let delete = debezium("d", &row, &Value::Null);
        inputs.push(InputRecord::of(update.to_string()).partition(0));
        inputs.push(InputRecord::of(delete.to_string()).key("k").partition(0));
        // What Debezium writes behind a delete, for compacted topics.
        inputs.push(InputRecord::tombstone().key("k").partition(0));
    }
    setting.broker.produce(&setting.input, &inputs);
    let more = format!("{ROOT}[delivery]\ntombstones = \"skip\"\n");
    let mut served = setting.start(&more);
    setting.wait_for(&mut served, inputs.len());
    assert_scores(&setting, &records);
    assert_eq!(setting.read(&setting.dead).len(), 0);
    served.drain();
}

#[test]
fn an_envelope_that_nobody_told_of_says_which_root_to_set() {
    let records = Records::payments(1);
    let setting = Setting::new("untold", 1, &records.bundle);
    let row = record(&records.records[0]);
    let message = connect(&debezium("c", &Value::Null, &row));
    let input = InputRecord::of(message.to_string()).partition(0);
    setting.broker.produce(&setting.input, &[input]);
    let mut served = setting.start("");
    setting.wait_for(&mut served, 1);
    let dead = setting.read(&setting.dead);
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], "reason"), "empty_record");
    let detail = header(&dead[0], "detail");
    assert!(
        detail.contains("set input.root = [\"payload.after\"]")
            && detail.ends_with("the message has the keys `payload`, `schema`"),
        "{detail}"
    );
    served.drain();
}
