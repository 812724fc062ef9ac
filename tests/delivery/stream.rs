//! What the promises are held with: a scorer that is easy to follow, a configuration, and the stream on the in-process twin
//! until all is read or it ends by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use maskwatch::config::{RawAlerts, RawBatch, RawDelivery, RawKafka, RawStream, StreamConfig};
use maskwatch::delivery::calls::BoundedCalls;
use maskwatch::delivery::fault::StreamError;
use maskwatch::delivery::shutdown::Shutdown;
use maskwatch::delivery::{self, Shared};
use maskwatch::generate::JsonRows;
use maskwatch::kafka::decoders::decoders;
use maskwatch::pipeline::dead_letter::{OFFSET, PARTITION};
use maskwatch::pipeline::exchange::PipelineExchange;
use maskwatch::pipeline::scoring::{self, SCORING_THREADS};
use maskwatch::pipeline::{Pipeline, PipelineOptions, RecordScorer, ScorerFailure};
use maskwatch::records::RecordRoot;
use maskwatch::schema::Schema;
use maskwatch::score::{Assessment, Explain};
use maskwatch::telemetry::{Metrics, ModelFacts, Readiness};
use maskwatch_testing::amount::{self, SCHEMA};
use proptest::prelude::*;
use serde_json::Value;

use crate::memory::{Accident, Cluster, Shared as Memory, Written};

/// The score is the amount, the p-value its reciprocal: 1,000 and more are alerts at a budget of 0.001.
/// Now and then a batch takes longer than those after it.
#[derive(Default)]
pub struct Amount {
    batches: AtomicUsize,
    /// What every batch takes at least.
    pause: Duration,
}

impl Amount {
    /// A scorer that takes at least `pause` for a batch.
    pub fn slow(pause: Duration) -> Self {
        Self {
            batches: AtomicUsize::default(),
            pause,
        }
    }
}

impl RecordScorer for Amount {
    fn model_id(&self) -> &str {
        "amount"
    }

    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure> {
        if self
            .batches
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(3)
        {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(self.pause);
        Ok(amount::assess(batch, explain))
    }
}

pub fn config(sections: &str) -> StreamConfig {
    #[derive(serde::Deserialize)]
    struct File {
        kafka: RawKafka,
        #[serde(default)]
        delivery: RawDelivery,
        batch: RawBatch,
        #[serde(default)]
        alerts: RawAlerts,
    }
    let text = format!(
        r#"
        [kafka]
        bootstrap_servers = "b:1"
        group_id = "g"
        instance_id = "i"
        input_topics = ["in"]
        scores_topic = "scores"
        alerts_topic = "alerts"
        dead_letter_topic = "dead"
        [batch]
        rows_max = 7
        deadline_ms = 1
        {sections}
    "#
    );
    let File {
        kafka,
        delivery,
        batch,
        alerts,
    } = toml::from_str(&text).unwrap();
    let input = Default::default();
    RawStream {
        kafka,
        input,
        delivery,
        batch,
        alerts,
    }
    .check()
    .unwrap()
}

pub const QUICK: &str = "[delivery]\ntransaction_interval_ms = 2";

/// The same in a group that forgets silent members soon.
pub const FORGETFUL: &str = "[kafka.properties]\n\"session.timeout.ms\" = 100\n\"heartbeat.interval.ms\" = 30\n\
    [delivery]\ntransaction_interval_ms = 2";

/// What scores as [`Amount`] does.
pub fn by_amount(config: &StreamConfig, metrics: &Arc<Metrics>) -> Arc<Pipeline> {
    pipeline(Arc::new(Amount::default()), config, metrics)
}

/// What is told of a model of records by [`SCHEMA`].
pub fn facts<'a>(model_id: &'a str, config: &StreamConfig) -> ModelFacts<'a> {
    ModelFacts {
        model_id,
        created_at_unix_s: 0,
        fields: &["amount"],
        alert_budget: config.alerts.budget.share(),
        cascade_share: None,
    }
}

pub fn options(config: &StreamConfig) -> PipelineOptions {
    PipelineOptions {
        alerts: config.alerts.clone(),
        emit: config.delivery.emit,
        root: RecordRoot::default(),
        tombstones: config.delivery.tombstones,
        outputs: config.kafka.outputs.clone(),
    }
}

/// What scores as `scorer` does.
pub fn pipeline(
    scorer: Arc<dyn RecordScorer>,
    config: &StreamConfig,
    metrics: &Arc<Metrics>,
) -> Arc<Pipeline> {
    let schema = Schema::parse(SCHEMA, "schema.toml").unwrap();
    let decoders = decoders(&config.input, &schema).unwrap();
    let of_model = metrics.model(facts(scorer.model_id(), config));
    let pipeline = Pipeline::new(scorer, decoders, &schema, options(config), of_model);
    Arc::new(pipeline)
}

/// Runs the stream until everything is read or it ends by itself; gives back how it ended and its metrics.
pub fn stream(memory: &Memory, config: &StreamConfig) -> (Result<(), StreamError>, String) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let pipeline = by_amount(config, &metrics);
    let ended = stream_of(&pipeline, memory, config, &metrics);
    (ended, metrics.encode().unwrap())
}

/// As [`stream`], with a pipeline of the caller's, on as many threads as the daemon has.
pub fn stream_of(
    pipeline: &Arc<Pipeline>,
    memory: &Memory,
    config: &StreamConfig,
    metrics: &Arc<Metrics>,
) -> Result<(), StreamError> {
    stream_while(pipeline, memory, config, metrics, |_| {})
}

/// As [`stream_of`]; `meanwhile` is called every millisecond.
pub fn stream_while(
    pipeline: &Arc<Pipeline>,
    memory: &Memory,
    config: &StreamConfig,
    metrics: &Arc<Metrics>,
    mut meanwhile: impl FnMut(&PipelineExchange),
) -> Result<(), StreamError> {
    let started = scoring::start(Arc::clone(pipeline), SCORING_THREADS);
    let (mut link, client, scorer) = started.unwrap();
    let shutdown = Shutdown::new();
    memory.lock().shutdown = Some(shutdown.clone());
    let shared = Shared {
        options: config.session_options(),
        metrics: Arc::clone(metrics),
        readiness: Arc::new(Readiness::default()),
        shutdown: shutdown.clone(),
        calls: calls(config, &shutdown),
    };
    let mut connector = memory.clone();
    let stream = std::thread::spawn(move || delivery::run(&mut connector, &mut link, &shared));
    let (begin, exchange) = (Instant::now(), client.exchange());
    while !stream.is_finished() && !memory.lock().is_done() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "stuck: {:?}",
            memory.lock()
        );
        meanwhile(&exchange);
        std::thread::sleep(Duration::from_millis(1));
    }
    shutdown.request();
    let ended = stream.join().unwrap();
    drop(client);
    assert_eq!(scorer.join(Duration::MAX).unwrap(), 0);
    ended
}

pub fn calls(config: &StreamConfig, shutdown: &Shutdown) -> BoundedCalls {
    let drain = config.delivery.drain_timeout;
    BoundedCalls::new(shutdown.clone(), drain, Arc::default())
}

pub fn record(partition: usize, offset: usize, amount: f64) -> Option<Vec<u8>> {
    Some(format!("{{\"amount\": {amount}, \"id\": \"{partition}/{offset}\"}}").into_bytes())
}

/// Accidents of some commits before `commits`, and of some polls before `polls`.
pub fn accidents(
    commits: u64,
    polls: u64,
) -> impl Strategy<Value = (BTreeMap<u64, Accident>, BTreeMap<u64, Accident>)> {
    let at_commit = prop_oneof![
        Just(Accident::Abort),
        Just(Accident::Unknown { applied: false }),
        Just(Accident::Unknown { applied: true }),
    ];
    let at_poll = prop_oneof![Just(Accident::Revoke), Just(Accident::Lose)];
    (
        prop::collection::btree_map(0..commits, at_commit, 0..4),
        prop::collection::btree_map(1..polls, at_poll, 0..4),
    )
}

/// The records of a batch as JSON messages.
pub fn messages(batch: &RecordBatch) -> Vec<Option<Vec<u8>>> {
    let rows = JsonRows::new(batch).unwrap();
    let message = |row| {
        let mut bytes = Vec::new();
        rows.write(row, &mut bytes).unwrap();
        Some(bytes)
    };
    (0..batch.num_rows()).map(message).collect()
}

pub fn cluster(partitions: usize, records: usize) -> Cluster {
    let of = |partition| {
        (0..records)
            .map(move |offset| record(partition, offset, 2.0))
            .collect()
    };
    Cluster {
        input: (0..partitions).map(of).collect(),
        is_transactional: true,
        ..Cluster::default()
    }
}

/// Where each output of a topic came from, in order.
pub fn origins(outputs: &[Written], topic: &str) -> Vec<(i64, i64)> {
    let of_topic = outputs.iter().filter(|output| output.topic == topic);
    let origin = |output: &Written| {
        if let Some(partition) = output.header(PARTITION) {
            let offset = output.header(OFFSET).unwrap();
            return (partition.parse().unwrap(), offset.parse().unwrap());
        }
        let envelope: Value = serde_json::from_slice(&output.payload).unwrap();
        (
            envelope["partition"].as_i64().unwrap(),
            envelope["offset"].as_i64().unwrap(),
        )
    };
    of_topic.map(origin).collect()
}

/// Every record once, in the order of its partition.
pub fn assert_exactly_once(memory: &Memory, topic: &str) {
    let cluster = memory.lock();
    let mut by_partition: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (partition, offset) in origins(&cluster.outputs, topic) {
        by_partition.entry(partition).or_default().push(offset);
    }
    for (number, records) in cluster.input.iter().enumerate() {
        let expected: Vec<i64> = (0..records.len() as i64).collect();
        assert_eq!(
            by_partition.get(&(number as i64)),
            Some(&expected),
            "partition {number}"
        );
    }
}
