//! Topics, group and configuration of one test, and the daemon that runs on them.
//!
//! Records flow in, what became of them flows out. Record r lies in partition r mod P at offset
//! r div P, so that every output tells which record it is of.

use super::material::{BUDGET, Record, Records};
use crate::support::start_daemon;
use chrono::{DateTime, Utc};
use maskwatch_testing::daemon::{Daemon, http_post};
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// No step of a test takes longer, unless the machine is in trouble; an acceptance run scores
/// 200,000 records in it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at what is committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Score and library may differ by this much, relative beyond 1.
const SCORE_TOLERANCE: f32 = 1e-5;

/// Topics, group and files of one test.
pub struct Setting {
    pub broker: &'static Broker,
    pub input: String,
    pub scores: String,
    pub alerts: String,
    pub dead: String,
    pub group: String,
    partitions: i32,
    bundle: PathBuf,
    /// Holds the configuration file and whatever else a test needs.
    pub folder: TempDir,
}

impl Setting {
    /// Topics of `partitions` partitions, the input taking large records, for the model in `bundle`.
    pub fn new(stem: &str, partitions: i32, bundle: &Path) -> Self {
        Self::on(Broker::shared(), stem, partitions, bundle)
    }

    /// As [`new`](Self::new), on a cluster of its own (see [`maskwatch_testing::kafka_cluster`]).
    pub fn on(broker: &'static Broker, stem: &str, partitions: i32, bundle: &Path) -> Self {
        let name = |part: &str| broker.unique_name(&format!("{stem}-{part}"));
        let [input, scores, alerts, dead, group] =
            ["in", "scores", "alerts", "dead", "group"].map(name);
        broker.create_topics(&[
            TopicSpec::new(&input, partitions).taking_large_records(),
            TopicSpec::new(&scores, partitions),
            TopicSpec::new(&alerts, 1),
            TopicSpec::new(&dead, 1),
        ]);
        Self {
            broker,
            input,
            scores,
            alerts,
            dead,
            group,
            partitions,
            bundle: bundle.to_owned(),
            folder: TempDir::new().unwrap(),
        }
    }

    /// Writes a configuration for the instance `a` with what is given of `[alerts]` and with
    /// sections `more`, and returns its path.
    pub fn config(&self, alerts: &str, more: &str) -> PathBuf {
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{}\"\ninstance_id = \"a\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\nalerts_topic = \"{}\"\n\
             dead_letter_topic = \"{}\"\n[model]\ndir = {:?}\n[alerts]\n{alerts}\n\
             [http]\nlisten = \"127.0.0.1:0\"\n{more}",
            self.broker.bootstrap_servers(),
            self.group,
            self.input,
            self.scores,
            self.alerts,
            self.dead,
            self.bundle,
        );
        let path = self.folder.path().join("maskwatch.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the daemon with an alert budget of [`BUDGET`] and further sections.
    pub fn start(&self, more: &str) -> Served {
        self.start_with(&format!("budget = {BUDGET}"), more)
    }

    /// Starts the daemon with what is given of `[alerts]`, and further sections.
    pub fn start_with(&self, alerts: &str, more: &str) -> Served {
        let config = self.config(alerts, more);
        let arguments = ["serve".as_ref(), "--config".as_ref(), config.as_os_str()];
        Served(start_daemon(&arguments, &[]))
    }

    /// Produces records `from..to`, each where its number says, its key `key-r`.
    pub fn produce(&self, records: &[Record], from: usize, to: usize) {
        let partitions = self.partitions as usize;
        let inputs: Vec<InputRecord> = (from..to)
            .map(|number| {
                InputRecord::of(records[number].json.clone())
                    .key(format!("key-{number}"))
                    .partition((number % partitions) as i32)
            })
            .collect();
        self.broker.produce(&self.input, &inputs);
    }

    /// How many records the group has committed.
    pub fn committed(&self) -> usize {
        let offsets = self.broker.committed_offsets(&self.group, &self.input);
        offsets.values().sum::<i64>() as usize
    }

    /// Waits until the group has committed `count` records.
    #[track_caller]
    pub fn wait_for(&self, served: &mut Served, count: usize) {
        let reached = poll_until(PATIENCE, || {
            // A look starts a client: too many would slow down what is waited for.
            std::thread::sleep(LOOK_INTERVAL);
            let committed = self.committed();
            (committed >= count || !served.0.is_running()).then_some(committed)
        });
        assert_eq!(
            reached,
            Some(count),
            "committed records; the log:\n{}",
            served.0.log()
        );
    }

    /// The committed records of a topic.
    pub fn read(&self, topic: &str) -> Vec<OutputRecord> {
        self.broker
            .read_to_end(topic, Isolation::ReadCommitted, PATIENCE)
    }

    /// The number of the record that an envelope is of.
    pub fn number_of(&self, envelope: &Value) -> usize {
        let [partition, offset] =
            ["partition", "offset"].map(|key| envelope[key].as_u64().unwrap());
        offset as usize * self.partitions as usize + partition as usize
    }

    /// Checks everything that is said of a record, but not how often it is said; returns its number.
    pub fn assert_envelope(&self, output: &OutputRecord, records: &Records) -> usize {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        let number = self.number_of(&envelope);
        let record = &records.records[number];
        let expected_id = record.id.clone().unwrap_or_else(|| {
            format!(
                "{}-{}-{}",
                self.input, envelope["partition"], envelope["offset"]
            )
        });
        assert_eq!(envelope["event_id"], expected_id.as_str());
        assert_eq!(envelope["topic"], self.input.as_str());
        assert_eq!(envelope["model_id"], records.detector.model_id());
        assert_eq!(output.key, Some(format!("key-{number}").into_bytes()));
        let score = score_of(&envelope);
        let expected = record.anomaly_score;
        assert!(
            (score - expected).abs() <= SCORE_TOLERANCE * expected.abs().max(1.0),
            "record {number}: {score}, the library says {expected}"
        );
        let p_value = envelope["p_value"].as_f64().unwrap();
        assert_eq!(p_value, records.p_value(score), "record {number}");
        assert_eq!(envelope["alert"], p_value <= BUDGET, "record {number}");
        let reasons = envelope["reasons"].as_array().unwrap();
        // An alert may be unusual only as a whole.
        assert!(reasons.is_empty() || p_value <= BUDGET, "record {number}");
        number
    }

    /// Each record has one score that is the library's, and each alert, and no other, stands in the
    /// alerts topic too, with its reasons. Returns the number of alerts.
    pub fn assert_exactly_once(&self, records: &Records) -> usize {
        let mut seen = vec![0_u32; records.records.len()];
        let mut alerts = BTreeMap::new();
        for output in self.read(&self.scores) {
            let number = self.assert_envelope(&output, records);
            seen[number] += 1;
            let envelope: Value = serde_json::from_str(output.text()).unwrap();
            if envelope["alert"] == true {
                alerts.insert(number, output.payload);
            }
        }
        let count = |times: fn(u32) -> bool| seen.iter().filter(|&&seen| times(seen)).count();
        let (lost, doubled) = (count(|seen| seen == 0), count(|seen| seen > 1));
        assert_eq!((lost, doubled), (0, 0), "records lost, and doubled");
        let explained = |payload: &Option<Vec<u8>>| {
            let text = payload.as_deref().unwrap_or_default();
            let envelope: Value = serde_json::from_slice(text).unwrap();
            !envelope["reasons"].as_array().unwrap().is_empty()
        };
        assert!(alerts.is_empty() || alerts.values().any(explained));
        let raised = self.read(&self.alerts);
        assert_eq!(raised.len(), alerts.len(), "alerts");
        for output in raised {
            let number = self.assert_envelope(&output, records);
            assert_eq!(Some(&output.payload), alerts.get(&number));
        }
        alerts.len()
    }
}

/// The anomaly score, exactly as it was before it was written.
pub fn score_of(envelope: &Value) -> f32 {
    envelope["anomaly_score"].as_f64().unwrap() as f32
}

/// A running daemon.
pub struct Served(pub Daemon);

impl Served {
    /// The URL of `path`; waits until the daemon listens.
    pub fn url(&mut self, path: &str) -> String {
        self.0.wait_for_log("\"listening\"", PATIENCE);
        let line = log_line(&self.0.log(), "listening").unwrap();
        format!("http://{}{path}", line["address"].as_str().unwrap())
    }

    /// Waits until the daemon has its model and its partitions.
    pub fn wait_until_ready(&mut self) {
        let url = self.url("/readyz");
        self.0.wait_for_http(&url, PATIENCE);
    }

    /// Status and JSON of `POST /v1/score`.
    pub fn score(&mut self, body: &[u8]) -> (u16, Value) {
        let (status, text) = http_post(&self.url("/v1/score"), body).unwrap();
        let json = serde_json::from_str(&text);
        (
            status,
            json.unwrap_or_else(|error| panic!("{error}: {text}")),
        )
    }

    /// Asks for a drain and checks that the daemon leaves as one that was drained.
    #[track_caller]
    pub fn drain(mut self) {
        self.0.terminate();
        let status = self.0.wait(PATIENCE);
        let log = self.0.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log_line(&log, "drained").is_some(), "{log}");
    }

    /// When the model was loaded.
    pub fn loaded_at(&self) -> Option<DateTime<Utc>> {
        let line = log_line(&self.0.log(), "model loaded")?;
        line["timestamp"].as_str()?.parse().ok()
    }
}

/// The first line of a log with this message.
fn log_line(log: &str, message: &str) -> Option<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == message)
}
