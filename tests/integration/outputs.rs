//! Records of any bytes, and outputs that their topics refuse, on real Apache Kafka: neither stops the stream, and each
//! leads to a score, to a dead letter, or to a line that says why there is none.

use crate::exactly_once::{Setting, everywhere};
use crate::support::kafka_topics::{HeaderBytes, InputRecord, OutputRecord, TopicSpec};
use crate::support::stream_instance::StreamInstance;
use serde_json::Value;

/// The offsets that the scores of a setting are of, in order.
fn scored(setting: &Setting) -> Vec<i64> {
    let outputs = setting.read(&setting.scores);
    let offset = |output: &OutputRecord| {
        serde_json::from_str::<Value>(output.text()).unwrap()["offset"]
            .as_i64()
            .unwrap()
    };
    outputs.iter().map(offset).collect()
}

fn text(output: &OutputRecord, name: &str) -> String {
    let value = output.header(&format!("maskwatch-error-{name}"));
    let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", output.headers));
    String::from_utf8(value.to_vec()).unwrap()
}

/// Headers as no program of UTF-8 writes them.
fn foreign_headers() -> Vec<Vec<HeaderBytes>> {
    let value = |bytes: &[u8]| Some(bytes.to_vec());
    vec![
        vec![(b"\xFF\xFEtrace".to_vec(), value(b"\x80\x00\x81"))],
        vec![(b"n\xE4me".to_vec(), None), (b"\xC3".to_vec(), value(b""))],
        vec![
            (b"twice".to_vec(), value(b"1")),
            (b"\xFF".to_vec(), value(b"between")),
            (b"twice".to_vec(), value(b"2")),
            (b"".to_vec(), value(b"no name")),
        ],
        vec![(b"\xF8many".to_vec(), value(b"v")); 10_000],
        vec![(vec![b'\xFA'; 40_000], value(&[b'\xFB'; 40_000]))],
    ]
}

#[test]
fn headers_of_any_bytes_never_stop_the_stream_and_reach_the_dead_letters_as_they_are() {
    let large = |name: &str| TopicSpec::new(name, 1).taking_large_records();
    let setting = Setting::with_topics("headers", large, |name| TopicSpec::new(name, 1));
    let with = |payload: &str, headers: &[HeaderBytes]| InputRecord {
        headers: headers.to_vec(),
        ..InputRecord::of(payload).partition(0)
    };
    let mut records = vec![InputRecord::of("{\"amount\": 1}").partition(0)];
    for headers in foreign_headers() {
        records.push(with("{\"amount\": 2}", &headers));
        records.push(with("bad", &headers).key(b"\xFF\x00key".to_vec()));
        records.push(InputRecord::of("{\"amount\": 3}").partition(0).key(""));
    }
    // Beyond what any output of the client may have: its dead letter is a stub.
    let huge = vec![(b"\xFF".to_vec(), Some(vec![b'\xFE'; 2_000_000]))];
    records.push(with("bad", &huge));
    records.push(InputRecord::of("{\"amount\": 4}").partition(0));
    let count = records.len() as i64;

    // The first of two instances, and the one that is started after it.
    for round in 1..=2 {
        setting.broker.produce(&setting.input, &records);
        let instance = StreamInstance::start(&setting.config("a", ""));
        setting.wait_for_offsets(&everywhere(1, round * count));
        instance.stop().unwrap();
    }

    let is_bad = |offset: &i64| records[(offset % count) as usize].payload == Some(b"bad".to_vec());
    let good: Vec<i64> = (0..2 * count).filter(|offset| !is_bad(offset)).collect();
    let bad: Vec<i64> = (0..2 * count).filter(is_bad).collect();
    assert_eq!(scored(&setting), good);
    let dead = setting.read(&setting.dead);
    let offsets: Vec<i64> = dead
        .iter()
        .map(|letter| text(letter, "offset").parse().unwrap())
        .collect();
    assert_eq!(offsets, bad);
    for (letter, offset) in dead.iter().zip(bad) {
        let record = &records[(offset % count) as usize];
        assert_eq!(text(letter, "reason"), "malformed");
        assert_eq!(letter.payload, record.payload);
        assert_eq!(letter.key, record.key);
        let kept: Vec<&HeaderBytes> = letter
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with(b"maskwatch-error-"))
            .collect();
        let expected: Vec<&HeaderBytes> = match record.headers == huge {
            true => Vec::new(),
            false => record.headers.iter().collect(),
        };
        assert!(kept == expected, "record {offset}: {} headers", kept.len());
    }
}
