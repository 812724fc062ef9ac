//! What the group owes: lag, readiness and the way on are told from the committed offset.
//!
//! Records, a log whose start is moved past the committed offset, and an output topic that does not exist flow in. The
//! scores that come out, the lag, the counts and the verdict of readiness are looked at. All on real Apache Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use maskwatch::delivery::fault::StreamError;
use serde_json::Value;

use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::daemon::metric;
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, TopicSpec};
use maskwatch_testing::poll_until;

const PATIENCE: Duration = Duration::from_secs(90);

struct Setting {
    broker: &'static Broker,
    input: String,
    scores: String,
    group: String,
}

impl Setting {
    fn new(stem: &str) -> Self {
        let broker = Broker::shared();
        let name = |part: &str| broker.unique_name(&format!("{stem}-{part}"));
        let [input, scores, group] = ["in", "scores", "group"].map(name);
        broker.create_topics(&[TopicSpec::new(&input, 1)]);
        Self {
            broker,
            input,
            scores,
            group,
        }
    }

    fn with_scores(stem: &str) -> Self {
        let setting = Self::new(stem);
        let spec = TopicSpec::new(&setting.scores, 1);
        setting.broker.create_topics(&[spec]);
        setting
    }

    /// The same group and input, with a scores topic that nobody has made.
    fn without_scores(&self) -> Self {
        Self {
            broker: self.broker,
            input: self.input.clone(),
            scores: self.broker.unique_name("nowhere"),
            group: self.group.clone(),
        }
    }

    /// `kafka` and `properties` are keys of those sections.
    fn start(&self, kafka: &str, properties: &str) -> StreamInstance {
        self.start_as("a", kafka, properties)
    }

    /// As [`start`](Self::start), with a name of its own.
    fn start_as(&self, instance: &str, kafka: &str, properties: &str) -> StreamInstance {
        StreamInstance::start(&format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{}\"\ninstance_id = \"{instance}\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\n{kafka}\n\
             [kafka.properties]\n\"session.timeout.ms\" = 6000\n{properties}\n",
            self.broker.bootstrap_servers(),
            self.group,
            self.input,
            self.scores,
        ))
    }

    fn produce(&self, from: i64, to: i64) {
        let records: Vec<_> = (from..to)
            .map(|n| InputRecord::of(format!("{{\"amount\": 2.5, \"id\": \"{n}\"}}")).partition(0))
            .collect();
        self.broker.produce(&self.input, &records);
    }

    fn wait_for_offset(&self, next: i64) {
        let committed = || self.broker.committed_offsets(&self.group, &self.input);
        let expected = BTreeMap::from([(0, next)]);
        let reached = poll_until(PATIENCE, || (committed() == expected).then_some(()));
        assert!(reached.is_some(), "committed {:?}", committed());
    }

    /// The offsets that have a score, in the order of the scores.
    fn scored(&self) -> Vec<i64> {
        let outputs = self
            .broker
            .read_to_end(&self.scores, Isolation::ReadCommitted, PATIENCE);
        let offset = |text: &str| {
            let envelope: Value = serde_json::from_str(text).unwrap();
            envelope["offset"].as_i64().unwrap()
        };
        outputs.iter().map(|output| offset(output.text())).collect()
    }

    fn skipped(&self, instance: &StreamInstance) -> Option<f64> {
        self.of_partition(instance, "maskwatch_skipped_records_total")
    }

    fn lag(&self, instance: &StreamInstance) -> Option<f64> {
        self.of_partition(instance, "maskwatch_consumer_lag_records")
    }

    /// Waits until the instance owes exactly `records`.
    #[track_caller]
    fn wait_for_lag(&self, instance: &StreamInstance, records: f64) {
        let reached = poll_until(PATIENCE, || {
            (self.lag(instance) == Some(records)).then_some(())
        });
        assert!(reached.is_some(), "{:?}", self.lag(instance));
    }

    /// Waits until `/readyz` says that nothing can be delivered because the scores topic is missing.
    #[track_caller]
    fn wait_until_missing(&self, instance: &StreamInstance) {
        let unready = poll_until(Duration::from_secs(30), || {
            let missing = instance.missing();
            missing
                .into_iter()
                .find(|missing| missing.starts_with("delivery") && missing.contains(&self.scores))
        });
        assert!(unready.is_some(), "{:?}", instance.missing());
    }

    fn of_partition(&self, instance: &StreamInstance, name: &str) -> Option<f64> {
        let series = format!("{name}{{partition=\"0\",topic=\"{}\"}}", self.input);
        metric(&instance.metrics(), &series)
    }
}

#[test]
fn records_that_retention_left_are_all_scored_whatever_the_policy_and_the_others_are_counted() {
    for kafka in ["", "offset_lost = \"earliest\"", "offset_lost = \"latest\""] {
        let setting = Setting::with_scores("retention");
        setting.produce(0, 20);
        let first = setting.start(kafka, "");
        setting.wait_for_offset(20);
        assert_eq!(setting.skipped(&first), Some(0.0));
        first.stop().unwrap();

        setting.produce(20, 70);
        setting.broker.delete_records_before(&setting.input, 0, 50);
        let second = setting.start(kafka, "");
        setting.wait_for_offset(70);
        assert_eq!(setting.skipped(&second), Some(30.0), "{kafka}");
        second.stop().unwrap();
        let expected: Vec<i64> = (0..20).chain(50..70).collect();
        assert_eq!(setting.scored(), expected, "{kafka}");
    }
}

#[test]
fn with_fail_a_lost_offset_ends_the_stream_and_is_named() {
    let setting = Setting::with_scores("retention-fail");
    setting.produce(0, 20);
    let first = setting.start("", "");
    setting.wait_for_offset(20);
    first.stop().unwrap();
    setting.produce(20, 70);
    setting.broker.delete_records_before(&setting.input, 0, 50);
    let mut second = setting.start("offset_lost = \"fail\"", "");
    let StreamError::Fatal(fault) = second.join().unwrap_err() else {
        panic!("no new session helps");
    };
    let text = fault.to_string();
    for part in ["committed offset 20", "starts at 50", "30 records"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(setting.scored(), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_group_without_offsets_begins_at_the_end_where_it_is_told_to() {
    let setting = Setting::with_scores("latest");
    setting.produce(0, 10);
    let instance = setting.start("", "\"auto.offset.reset\" = \"latest\"");
    let assigned = poll_until(PATIENCE, || (instance.partitions() == 1).then_some(()));
    assert!(assigned.is_some());
    assert_eq!(setting.lag(&instance), Some(0.0), "nothing is owed");
    setting.produce(10, 15);
    setting.wait_for_offset(15);
    instance.stop().unwrap();
    assert_eq!(setting.scored(), [10, 11, 12, 13, 14]);
}

#[test]
fn what_comes_after_a_group_has_begun_at_the_end_is_not_skipped_by_whoever_comes_next() {
    let setting = Setting::with_scores("latest-restart");
    setting.produce(0, 10);
    let latest = "\"auto.offset.reset\" = \"latest\"";
    let first = setting.start("", latest);
    // No record has come, and the place is committed all the same.
    setting.wait_for_offset(10);
    first.stop().unwrap();
    setting.produce(10, 15);
    let second = setting.start("", latest);
    setting.wait_for_offset(15);
    second.stop().unwrap();
    assert_eq!(setting.scored(), [10, 11, 12, 13, 14]);
}

#[test]
fn a_missing_scores_topic_makes_the_instance_unready_and_the_lag_is_all_that_is_not_committed() {
    let setting = Setting::new("no-scores");
    setting.produce(0, 40);
    let instance = setting.start("", "");
    setting.wait_until_missing(&instance);
    // It is told with the first session that fails, before `/readyz` says so.
    setting.wait_for_lag(&instance, 40.0);
    let failed = "maskwatch_sessions_failed_total{reason=\"interrupted\"}";
    let counted = poll_until(PATIENCE, || {
        metric(&instance.metrics(), failed).filter(|count| *count >= 1.0)
    });
    assert!(counted.is_some(), "{}", instance.metrics());
    assert_eq!(
        setting.lag(&instance),
        Some(40.0),
        "between two sessions too"
    );
    setting.produce(40, 60);
    setting.wait_for_lag(&instance, 60.0);
    let committed = setting
        .broker
        .committed_offsets(&setting.group, &setting.input);
    assert_eq!(committed, BTreeMap::new(), "nothing is done");

    // The topic comes; nothing was lost.
    setting
        .broker
        .create_topics(&[TopicSpec::new(&setting.scores, 1)]);
    setting.wait_for_offset(60);
    setting.wait_for_lag(&instance, 0.0);
    let ready = poll_until(PATIENCE, || {
        let missing = instance.missing();
        (!missing
            .iter()
            .any(|missing| missing.starts_with("delivery")))
        .then_some(())
    });
    assert!(ready.is_some(), "{:?}", instance.missing());
    instance.stop().unwrap();
    assert_eq!(setting.scored(), (0..60).collect::<Vec<_>>());
}

#[test]
fn an_instance_without_its_scores_topic_owes_what_others_have_not_committed_and_takes_nothing_from_them()
 {
    let setting = Setting::with_scores("no-scores-of-one");
    setting.produce(0, 20);
    let well = setting.start_as("well", "", "");
    setting.wait_for_offset(20);
    let lacking = setting.without_scores();
    let second = lacking.start_as("lacking", "", "");
    lacking.wait_until_missing(&second);
    lacking.wait_for_lag(&second, 0.0);
    setting.produce(20, 50);
    setting.wait_for_offset(50);
    assert_eq!(well.partitions(), 1, "the group is as it was");
    assert_eq!(second.partitions(), 0);

    // Nobody is left who could do it.
    well.stop().unwrap();
    setting.produce(50, 80);
    lacking.wait_for_lag(&second, 30.0);
    drop(second);
    assert_eq!(setting.scored(), (0..50).collect::<Vec<_>>());
}
