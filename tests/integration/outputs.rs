//! Records of any bytes, and outputs that their topics refuse, on real Apache Kafka: neither stops the stream, and each
//! leads to a score, to a dead letter, or to a line that says why there is none.

use crate::exactly_once::{Setting, everywhere};
use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::daemon::metric;
use maskwatch_testing::kafka_topics::{HeaderBytes, InputRecord, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a topic that is gone may take to be named: a transaction and its time-out come first.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

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

/// Bytes that no codec makes small.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn good(number: usize) -> InputRecord {
    InputRecord::of(format!("{{\"amount\": 2.5, \"id\": \"0/{number}\"}}"))
        .key(format!("key-{number}"))
        .partition(0)
}

/// `records` in all; of each 80 the first `bad` are 200 KB of no JSON, every other one of which compresses to nothing.
fn burst(records: usize, bad: usize) -> Vec<InputRecord> {
    let of = |number: usize| match number % 80 < bad {
        true if number.is_multiple_of(2) => {
            InputRecord::of(noise(200_000, number as u64)).partition(0)
        }
        true => InputRecord::of(vec![b'x'; 200_000]).partition(0),
        false => good(number),
    };
    (0..records).map(of).collect()
}

/// Every record of a burst has its score or its dead letter, in order, and each dead letter is as large as its topic takes.
fn assert_burst_delivered(setting: &Setting, records: usize, bad: usize, from: i64) {
    let of = |is_bad: bool| -> Vec<i64> {
        let offsets = (0..records).filter(|number| (number % 80 < bad) == is_bad);
        offsets.map(|number| from + number as i64).collect()
    };
    let since = |offsets: Vec<i64>| -> Vec<i64> {
        offsets
            .into_iter()
            .filter(|offset| *offset >= from)
            .collect()
    };
    assert_eq!(since(scored(setting)), of(false));
    let dead = setting.read(&setting.dead);
    let offsets = dead
        .iter()
        .map(|letter| text(letter, "offset").parse().unwrap());
    assert_eq!(since(offsets.collect()), of(true));
    for letter in &dead {
        assert_eq!(text(letter, "reason"), "malformed");
        assert_eq!(text(letter, "truncated"), "200000");
    }
}

#[test]
fn three_hundred_dead_letters_beyond_the_limit_of_their_topic_are_cut_to_it_before_they_are_sent() {
    // The broker undoes the producer's compression, and holds the limit against the result.
    let small = |name: &str| {
        let topic = TopicSpec::new(name, 1).with("max.message.bytes", "100000");
        topic.with("compression.type", "uncompressed")
    };
    let plain = |name: &str| TopicSpec::new(name, 1);
    let setting = Setting::with_specs("burst", plain, plain, small);
    setting.broker.produce(&setting.input, &burst(800, 30));
    let begin = Instant::now();
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 800));
    eprintln!("800 records, 300 of them refused: {:?}", begin.elapsed());
    let metrics = instance.metrics();
    instance.stop().unwrap();
    assert_burst_delivered(&setting, 800, 30, 0);
    for letter in setting.read(&setting.dead) {
        let bytes = letter.payload.unwrap().len();
        assert!((98_000..100_000).contains(&bytes), "{bytes}");
    }
    let aborted = metric(
        &metrics,
        "maskwatch_transactions_total{outcome=\"aborted\"}",
    );
    assert_eq!(aborted, Some(0.0), "the limit was not learned at start");
}

#[test]
fn a_limit_that_is_lowered_while_the_stream_runs_is_learned_from_the_first_refusal() {
    let setting = Setting::new("lowered", 1);
    setting.broker.produce(&setting.input, &burst(80, 0));
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 80));
    let limit = ("max.message.bytes", "100000");
    setting.broker.alter_topic(&setting.dead, limit);
    setting.broker.produce(&setting.input, &burst(160, 40));
    setting.wait_for_offsets(&everywhere(1, 240));
    let metrics = instance.metrics();
    instance.stop().unwrap();
    assert_burst_delivered(&setting, 160, 40, 80);
    let aborted = metric(
        &metrics,
        "maskwatch_transactions_total{outcome=\"aborted\"}",
    );
    assert!(aborted.unwrap() <= 3.0, "{aborted:?} transactions aborted");
}

/// Of `from..to`, each that 7 divides has no key.
fn produce_some_without_keys(setting: &Setting, from: usize, to: usize) {
    let records = (from..to).map(|number| match number % 7 {
        0 => InputRecord {
            key: None,
            ..good(number)
        },
        _ => good(number),
    });
    let records: Vec<_> = records.collect();
    setting.broker.produce(&setting.input, &records);
}

/// Of `from..to`, each that 7 divides has a dead letter with its cause, and the others their scores.
fn assert_keyless_are_dead_letters(setting: &Setting, from: i64, to: i64) {
    let (without, with): (Vec<i64>, Vec<i64>) = (from..to).partition(|offset| offset % 7 == 0);
    let scored: Vec<i64> = scored(setting)
        .into_iter()
        .filter(|offset| *offset >= from)
        .collect();
    assert_eq!(scored, with);
    let dead = setting.read(&setting.dead);
    let offsets: Vec<i64> = dead
        .iter()
        .map(|letter| text(letter, "offset").parse().unwrap())
        .collect();
    assert_eq!(offsets, without);
    for (letter, offset) in dead.iter().zip(without) {
        assert_eq!(text(letter, "reason"), "refused");
        let detail = format!("topic {}: no key, topic is compacted", setting.scores);
        assert_eq!(text(letter, "detail"), detail);
        assert_eq!(letter.payload, good(offset as usize).payload);
    }
}

#[test]
fn records_without_a_key_do_not_stop_a_stream_into_a_compacted_topic() {
    let compacted = |name: &str| TopicSpec::new(name, 1).with("cleanup.policy", "compact");
    let plain = |name: &str| TopicSpec::new(name, 1);
    let setting = Setting::with_specs("compacted", plain, compacted, plain);
    produce_some_without_keys(&setting, 0, 100);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 100));
    let metrics = instance.metrics();
    instance.stop().unwrap();
    assert_keyless_are_dead_letters(&setting, 0, 100);
    let refused = "maskwatch_refused_outputs_total{cause=\"no_key\",fate=\"dead_letter\"}";
    assert_eq!(metric(&metrics, refused), Some(15.0));
}

#[test]
fn a_topic_that_becomes_compacted_while_the_stream_runs_names_the_records_that_it_refuses() {
    let setting = Setting::new("becomes", 1);
    produce_some_without_keys(&setting, 0, 70);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 70));
    let policy = ("cleanup.policy", "compact");
    setting.broker.alter_topic(&setting.scores, policy);
    produce_some_without_keys(&setting, 70, 200);
    setting.wait_for_offsets(&everywhere(1, 200));
    instance.stop().unwrap();
    assert_keyless_are_dead_letters(&setting, 70, 200);
}

#[test]
fn of_keyless_and_keyed_records_in_turn_every_keyed_one_is_scored_though_hundreds_are_refused() {
    let setting = Setting::new("in-turn", 1);
    let produce = |from: usize, to: usize| {
        let records = (from..to).map(|number| match number % 2 {
            0 => InputRecord {
                key: None,
                ..good(number)
            },
            _ => good(number),
        });
        setting
            .broker
            .produce(&setting.input, &records.collect::<Vec<_>>());
    };
    // One transaction takes them all, and the topic is compacted only once the stream runs.
    let config = setting.config("a", "[delivery]\ntransaction_interval_ms = 5000");
    produce(0, 10);
    let instance = StreamInstance::start(&config);
    setting.wait_for_offsets(&everywhere(1, 10));
    let policy = ("cleanup.policy", "compact");
    setting.broker.alter_topic(&setting.scores, policy);
    produce(10, 610);
    setting.wait_for_offsets(&everywhere(1, 610));
    instance.stop().unwrap();
    let keyed: Vec<i64> = (0..610).filter(|n| *n < 10 || n % 2 == 1).collect();
    assert_eq!(scored(&setting), keyed);
    assert_eq!(setting.read(&setting.dead).len(), 300);
}

/// Outputs wait in the client for the commit, longer than the topic takes: the broker refuses all. Sent again in small
/// transactions they are young enough.
#[test]
fn outputs_that_had_become_too_old_for_their_topic_are_tried_again_and_written() {
    let old = |name: &str| TopicSpec::new(name, 1).with("message.timestamp.before.max.ms", "2000");
    let plain = |name: &str| TopicSpec::new(name, 1);
    let setting = Setting::with_specs("too-old", plain, old, plain);
    setting.produce(1, 0, 300);
    let slow =
        "[delivery]\ntransaction_interval_ms = 6000\n[kafka.properties]\n\"linger.ms\" = 10000\n";
    let config = setting.config("a", slow);
    let config = config.replace("            properties = {", "            # properties = {");
    let instance = StreamInstance::start(&config);
    setting.wait_for_offsets(&everywhere(1, 300));
    let metrics = instance.metrics();
    instance.stop().unwrap();
    let refused = "maskwatch_sessions_failed_total{reason=\"refused\"}";
    assert_eq!(metric(&metrics, refused), Some(1.0), "none was too old");
    assert_eq!(scored(&setting), (0..300).collect::<Vec<_>>());
    assert_eq!(setting.read(&setting.dead).len(), 0);
}

#[test]
fn a_dead_letter_topic_that_is_compacted_takes_records_without_a_key_all_the_same() {
    let compacted = |name: &str| TopicSpec::new(name, 1).with("cleanup.policy", "compact");
    let plain = |name: &str| TopicSpec::new(name, 1);
    let setting = Setting::with_specs("letters", plain, plain, compacted);
    let bad = || InputRecord::of("bad").partition(0);
    let records = [good(0), bad(), good(2), bad().key("k"), good(4)];
    setting.broker.produce(&setting.input, &records);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 5));
    instance.stop().unwrap();
    assert_eq!(scored(&setting), [0, 2, 4]);
    let keys: Vec<_> = setting
        .read(&setting.dead)
        .into_iter()
        .map(|letter| String::from_utf8(letter.key.unwrap()).unwrap())
        .collect();
    assert_eq!(keys, [format!("{}-0-1", setting.input), "k".to_owned()]);
}

#[test]
fn at_least_once_goes_on_after_a_refusal_too_and_loses_nothing() {
    let setting = Setting::new("least-refused", 1);
    produce_some_without_keys(&setting, 0, 70);
    let config = setting.config("a", "[delivery]\nmode = \"at_least_once\"");
    let instance = StreamInstance::start(&config);
    setting.wait_for_offsets(&everywhere(1, 70));
    let policy = ("cleanup.policy", "compact");
    setting.broker.alter_topic(&setting.scores, policy);
    produce_some_without_keys(&setting, 70, 200);
    setting.wait_for_offsets(&everywhere(1, 200));
    instance.stop().unwrap();
    let offsets: BTreeSet<i64> = scored(&setting).into_iter().collect();
    let dead = setting.read(&setting.dead);
    let dead: BTreeSet<i64> = dead
        .iter()
        .map(|letter| text(letter, "offset").parse().unwrap())
        .collect();
    let (without, with): (BTreeSet<i64>, BTreeSet<i64>) =
        (70..200).partition(|offset| offset % 7 == 0);
    assert_eq!(dead, without);
    assert!(offsets.is_superset(&with) && offsets.is_disjoint(&without));
}

/// Waits until what the instance lacks names the topic.
fn wait_until_named(instance: &StreamInstance, topic: &str) {
    let named = poll_until(LONG_PATIENCE, || {
        let missing = instance.missing();
        missing
            .iter()
            .any(|line| line.contains(topic))
            .then_some(())
    });
    assert!(
        named.is_some(),
        "{:?} does not name {topic}",
        instance.missing()
    );
}

#[test]
fn a_missing_output_topic_is_named_and_once_it_is_there_the_stream_goes_on() {
    let setting = Setting::new("missing", 1);
    let late = setting.broker.unique_name("missing-late");
    let setting = Setting {
        scores: late.clone(),
        ..setting
    };
    setting.produce(1, 0, 50);
    let begin = Instant::now();
    let instance = StreamInstance::start(&setting.config("a", ""));
    wait_until_named(&instance, &late);
    eprintln!("a missing topic was named after {:?}", begin.elapsed());
    assert!(
        instance
            .missing()
            .iter()
            .any(|line| line.contains("kafka.scores_topic"))
    );
    setting.broker.create_topics(&[TopicSpec::new(&late, 1)]);
    setting.wait_for_offsets(&everywhere(1, 50));
    instance.stop().unwrap();
    setting.assert_scored_exactly_once(1, 50);
}

#[test]
fn an_output_topic_that_is_deleted_is_named_and_once_it_is_back_the_stream_goes_on() {
    let setting = Setting::new("deleted", 1);
    setting.produce(1, 0, 50);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 50));
    setting.broker.delete_topic(&setting.scores);
    setting.produce(1, 50, 100);
    let begin = Instant::now();
    wait_until_named(&instance, &setting.scores);
    eprintln!("a deleted topic was named after {:?}", begin.elapsed());
    setting
        .broker
        .create_topics(&[TopicSpec::new(&setting.scores, 1)]);
    setting.wait_for_offsets(&everywhere(1, 100));
    instance.stop().unwrap();
    let expected: Vec<i64> = (50..100).collect();
    assert_eq!(scored(&setting), expected);
}
