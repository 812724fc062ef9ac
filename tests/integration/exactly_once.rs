//! Delivery on real Apache Kafka: each record's outputs are there exactly once for those who read
//! committed records, whatever happened on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use maskwatch::delivery::fault::StreamError;
use maskwatch::kafka::properties::Properties;
use maskwatch::kafka::topics::{TopicReader, TopicWriter};
use maskwatch::pipeline::ScoreOutcome;
use serde_json::Value;

use crate::support::stream_instance::{Commit, StreamInstance};
use maskwatch_testing::daemon::metric;
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// Topics and group of one test.
pub struct Setting {
    pub broker: &'static Broker,
    pub input: String,
    pub scores: String,
    pub dead: String,
    pub group: String,
}

impl Setting {
    pub fn new(stem: &str, partitions: i32) -> Self {
        Self::with_topics(
            stem,
            |name| TopicSpec::new(name, partitions),
            |name| TopicSpec::new(name, 1),
        )
    }

    pub fn with_topics(
        stem: &str,
        input_spec: impl Fn(&str) -> TopicSpec,
        scores_spec: impl Fn(&str) -> TopicSpec,
    ) -> Self {
        Self::with_specs(stem, input_spec, scores_spec, |name| {
            TopicSpec::new(name, 1)
        })
    }

    pub fn with_specs(
        stem: &str,
        input_spec: impl Fn(&str) -> TopicSpec,
        scores_spec: impl Fn(&str) -> TopicSpec,
        dead_spec: impl Fn(&str) -> TopicSpec,
    ) -> Self {
        let broker = Broker::shared();
        let name = |part: &str| broker.unique_name(&format!("{stem}-{part}"));
        let [input, scores, dead, group] = ["in", "scores", "dead", "group"].map(name);
        let specs = [input_spec(&input), scores_spec(&scores), dead_spec(&dead)];
        broker.create_topics(&specs);
        Self {
            broker,
            input,
            scores,
            dead,
            group,
        }
    }

    /// The configuration of the instance called `id`; `more` is appended.
    pub fn config(&self, id: &str, more: &str) -> String {
        format!(
            r#"
            [kafka]
            bootstrap_servers = "{}"
            group_id = "{}"
            instance_id = "{id}"
            input_topics = ["{}"]
            scores_topic = "{}"
            dead_letter_topic = "{}"
            properties = {{ "session.timeout.ms" = 6000, "heartbeat.interval.ms" = 500 }}
            {more}
            "#,
            self.broker.bootstrap_servers(),
            self.group,
            self.input,
            self.scores,
            self.dead,
        )
    }

    /// Produces records `from..to` to each of `partitions`.
    pub fn produce(&self, partitions: i32, from: usize, to: usize) {
        let records: Vec<_> = (0..partitions)
            .flat_map(|partition| {
                (from..to).map(move |n| {
                    let json = format!("{{\"amount\": 2.5, \"id\": \"{partition}/{n}\"}}");
                    InputRecord::of(json)
                        .key(format!("key-{n}"))
                        .partition(partition)
                })
            })
            .collect();
        self.broker.produce(&self.input, &records);
    }

    pub fn wait_for_offsets(&self, expected: &BTreeMap<i32, i64>) {
        let committed = || self.broker.committed_offsets(&self.group, &self.input);
        let reached = poll_until(PATIENCE, || (committed() == *expected).then_some(()));
        assert!(
            reached.is_some(),
            "committed {:?}, expected {expected:?}",
            committed()
        );
    }

    pub fn read(&self, topic: &str) -> Vec<OutputRecord> {
        self.broker
            .read_to_end(topic, Isolation::ReadCommitted, PATIENCE)
    }

    /// Each of `count` records of each of `partitions` partitions has one score, in order.
    pub fn assert_scored_exactly_once(&self, partitions: i32, count: i64) {
        let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for output in self.read(&self.scores) {
            let envelope: Value = serde_json::from_str(output.text()).unwrap();
            let (partition, offset) = (&envelope["partition"], envelope["offset"].as_i64());
            found
                .entry(partition.as_i64().unwrap())
                .or_default()
                .push(offset.unwrap());
            let id = envelope["event_id"].as_str().unwrap();
            assert_eq!(id, format!("{partition}/{}", offset.unwrap()));
            assert_eq!(
                output.key,
                Some(format!("key-{}", offset.unwrap()).into_bytes())
            );
        }
        let expected: Vec<i64> = (0..count).collect();
        for partition in 0..i64::from(partitions) {
            assert_eq!(
                found.get(&partition),
                Some(&expected),
                "partition {partition}"
            );
        }
        assert_eq!(found.len(), partitions as usize);
    }
}

pub fn everywhere(partitions: i32, next: i64) -> BTreeMap<i32, i64> {
    (0..partitions).map(|partition| (partition, next)).collect()
}

#[test]
fn records_come_out_exactly_once_across_aborts_and_restarts() {
    let setting = Setting::new("aborts", 4);
    setting.produce(4, 0, 3_000);
    let config = setting.config(
        "a",
        "[batch]\nrows_max = 100\n[delivery]\ntransaction_interval_ms = 1",
    );
    let commits = [
        Commit::Good,
        Commit::Aborted,
        Commit::Good,
        Commit::LeftOpen,
        Commit::Good,
        Commit::AnswerLost,
        Commit::LeftOpen,
        Commit::LeftOpen,
    ];
    let first = StreamInstance::start_with_faults(&config, &commits);
    setting.wait_for_offsets(&everywhere(4, 3_000));
    let metrics = first.metrics();
    first.stop().unwrap();
    setting.produce(4, 3_000, 4_000);
    let second = StreamInstance::start(&config);
    setting.wait_for_offsets(&everywhere(4, 4_000));
    second.stop().unwrap();

    setting.assert_scored_exactly_once(4, 4_000);
    let aborted = metric(
        &metrics,
        "maskwatch_transactions_total{outcome=\"aborted\"}",
    );
    assert_eq!(aborted, Some(5.0));
    let everything =
        setting
            .broker
            .read_to_end(&setting.scores, Isolation::ReadUncommitted, PATIENCE);
    assert!(
        everything.len() > 16_000,
        "no transaction was aborted with outputs in it"
    );
}

#[test]
fn a_twin_is_fenced_and_the_newer_one_goes_on() {
    let setting = Setting::new("twins", 2);
    setting.produce(2, 0, 200);
    let config = setting.config("same", "");
    let mut older = StreamInstance::start(&config);
    setting.wait_for_offsets(&everywhere(2, 200));

    let newer = StreamInstance::start(&config);
    let fenced = poll_until(PATIENCE, || {
        // The older one notices at its next transaction or heartbeat.
        (!older.is_running()).then_some(())
    });
    assert!(fenced.is_some(), "the older twin is still running");
    let error = older.join().unwrap_err();
    assert!(matches!(error, StreamError::Fenced { .. }), "{error}");
    assert!(error.to_string().contains("instance \"same\""), "{error}");
    setting.produce(2, 200, 400);
    setting.wait_for_offsets(&everywhere(2, 400));
    let fenced = "maskwatch_sessions_failed_total{reason=\"fenced\"}";
    let of_newer = metric(&newer.metrics(), fenced);
    assert_eq!(of_newer, Some(0.0), "nobody fences the newer one back");
    newer.stop().unwrap();

    setting.assert_scored_exactly_once(2, 400);
}

#[test]
fn partitions_move_between_instances_and_every_record_still_comes_out_once() {
    let setting = Setting::new("moves", 4);
    let batches = "[batch]\nrows_max = 50";
    let first = StreamInstance::start(&setting.config("a", batches));
    setting.produce(4, 0, 1_000);
    assert!(poll_until(PATIENCE, || (first.partitions() == 4).then_some(())).is_some());
    let second = StreamInstance::start(&setting.config("b", batches));
    // Records keep coming while the group rebalances.
    for round in 0..20 {
        setting.produce(4, 1_000 + round * 50, 1_050 + round * 50);
        std::thread::sleep(Duration::from_millis(50));
    }
    let shared = poll_until(PATIENCE, || {
        (first.partitions() == 2 && second.partitions() == 2).then_some(())
    });
    assert!(
        shared.is_some(),
        "{} and {} partitions",
        first.partitions(),
        second.partitions()
    );
    setting.wait_for_offsets(&everywhere(4, 2_000));
    first.stop().unwrap();
    setting.produce(4, 2_000, 2_500);
    // The one that left is missed after the session timeout, and its partitions move.
    setting.wait_for_offsets(&everywhere(4, 2_500));
    second.stop().unwrap();

    setting.assert_scored_exactly_once(4, 2_500);
}

#[test]
fn bad_records_go_to_the_dead_letters_and_their_neighbours_are_scored() {
    let large = |name: &str| TopicSpec::new(name, 1).taking_large_records();
    let setting = Setting::with_topics("dead", large, |name| TopicSpec::new(name, 1));
    let good = || InputRecord::of("{\"amount\": 2.5}").partition(0);
    let bad = |payload: Vec<u8>| InputRecord::of(payload).partition(0).header("trace", "t-1");
    let records = [
        good(),
        bad(vec![b'x'; 10 * 1024 * 1024]),
        good(),
        InputRecord::tombstone().key("gone").partition(0),
        bad(Vec::new()),
        bad(b"{\"amount\": NaN}".to_vec()),
        good(),
    ];
    setting.broker.produce(&setting.input, &records);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 7));
    instance.stop().unwrap();

    let scored: Vec<i64> = setting
        .read(&setting.scores)
        .iter()
        .map(|output| serde_json::from_str::<Value>(output.text()).unwrap()["offset"].as_i64())
        .map(Option::unwrap)
        .collect();
    assert_eq!(scored, [0, 2, 6]);
    let dead = setting.read(&setting.dead);
    let header = |output: &OutputRecord, name: &str| {
        let name = format!("maskwatch-error-{name}");
        output
            .header(&name)
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let found: Vec<_> = dead
        .iter()
        .map(|output| {
            (
                header(output, "offset").unwrap(),
                header(output, "reason").unwrap(),
            )
        })
        .collect();
    let expected = [
        ("1", "too_large"),
        ("3", "tombstone"),
        ("4", "empty"),
        ("5", "malformed"),
    ];
    assert_eq!(
        found,
        expected.map(|(offset, reason)| (offset.to_owned(), reason.to_owned()))
    );
    assert_eq!(header(&dead[0], "truncated").as_deref(), Some("10485760"));
    assert_eq!(dead[0].payload.as_ref().unwrap().len(), 900_000);
    assert_eq!(dead[0].header("trace"), Some(&b"t-1"[..]));
    assert_eq!(
        dead[1].payload.as_deref(),
        Some(&[][..]),
        "a dead letter is no tombstone"
    );
    assert_eq!(dead[1].key.as_deref(), Some(&b"gone"[..]));
    assert_eq!(header(&dead[1], "topic"), Some(setting.input.clone()));
}

#[test]
fn an_output_that_the_broker_refuses_becomes_a_stub_and_its_neighbours_are_scored() {
    let small = |name: &str| TopicSpec::new(name, 1).with("max.message.bytes", "3000");
    let setting = Setting::with_topics("refused", |name| TopicSpec::new(name, 1), small);
    // Text that no codec makes small.
    let id: String = (0_u64..900)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let records: Vec<_> = (0..60)
        .map(|n| match n {
            20 => InputRecord::of(format!("{{\"amount\": 2.5, \"id\": \"{id}\"}}")),
            n => InputRecord::of(format!("{{\"amount\": 2.5, \"id\": \"0/{n}\"}}")),
        })
        .collect();
    setting.broker.produce(&setting.input, &records);
    let instance = StreamInstance::start(&setting.config("a", ""));
    setting.wait_for_offsets(&everywhere(1, 60));
    instance.stop().unwrap();

    assert_eq!(setting.read(&setting.scores).len(), 59);
    let dead = setting.read(&setting.dead);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("maskwatch-error-offset"), Some(&b"20"[..]));
    assert_eq!(
        dead[0].header("maskwatch-error-reason"),
        Some(&b"too_large"[..])
    );
}

#[test]
fn at_least_once_commits_offsets_after_the_outputs_and_loses_nothing() {
    let setting = Setting::new("acknowledged", 2);
    setting.produce(2, 0, 500);
    let config = setting.config("a", "[delivery]\nmode = \"at_least_once\"");
    let commits = [Commit::Good, Commit::Aborted];
    let instance = StreamInstance::start_with_faults(&config, &commits);
    setting.wait_for_offsets(&everywhere(2, 500));
    setting.produce(2, 500, 1_000);
    setting.wait_for_offsets(&everywhere(2, 1_000));
    let metrics = instance.metrics();
    instance.stop().unwrap();

    let mut found: Vec<_> = setting
        .read(&setting.scores)
        .iter()
        .map(|output| serde_json::from_str::<Value>(output.text()).unwrap())
        .map(|envelope| (envelope["partition"].as_i64(), envelope["offset"].as_i64()))
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 2_000);
    assert_eq!(
        metric(
            &metrics,
            "maskwatch_transactions_total{outcome=\"committed\"}"
        ),
        Some(0.0)
    );
}

#[test]
fn the_embedded_broker_serves_the_whole_way_and_requests_are_answered_meanwhile() {
    let instance = StreamInstance::start(
        "[kafka]\nbootstrap_servers = \"embedded\"\ninput_topics = [\"in\"]\nscores_topic = \"scores\"\n",
    );
    let (servers, properties) = (
        instance.bootstrap_servers().to_owned(),
        Properties::default(),
    );
    let mut writer = TopicWriter::new(&servers, &properties, "in").unwrap();
    for n in 0..100 {
        let json = format!("{{\"amount\": 2.5, \"id\": \"{n}\"}}");
        writer
            .write(Some(json.as_bytes()), json.as_bytes())
            .unwrap();
    }
    writer.flush().unwrap();
    let mut reader = TopicReader::open(&servers, &properties, "scores").unwrap();
    let mut ids: Vec<String> = (0..100)
        .map(|_| {
            reader
                .read(PATIENCE)
                .unwrap()
                .expect("100 scores")
                .payload
                .unwrap()
        })
        .map(|payload| serde_json::from_slice::<Value>(&payload).unwrap()["event_id"].to_string())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
    let request = vec![b"{\"amount\": 7}".to_vec()];
    let outcomes = instance
        .client()
        .submit(request)
        .unwrap()
        .blocking_recv()
        .unwrap();
    assert!(matches!(&outcomes[..], [ScoreOutcome::Scored(json)] if json.contains("7.0")));
    instance.stop().unwrap();
}
