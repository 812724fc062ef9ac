//! The stream as the daemon runs it, inside this process: Kafka on both sides, a scorer that is easy
//! to follow in between.
//!
//! In: a broker, topics, what goes wrong. Out: how the stream ended. Its scorer says that a record's
//! score is its amount and its p-value the reciprocal of that. Invariant: an instance that is
//! dropped is asked to stop and waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use maskwatch::config::{RawAlerts, RawDelivery, RawInput, RawKafka, RawStream, StreamConfig};
use maskwatch::delivery::calls::BoundedCalls;
use maskwatch::delivery::fault::{DeliveryFault, StreamError};
use maskwatch::delivery::refusal::{SendOptions, TopicLimits};
use maskwatch::delivery::shutdown::Shutdown;
use maskwatch::delivery::sink::{Connector, Sent, Sink};
use maskwatch::delivery::source::Owed;
use maskwatch::delivery::{self, Shared};
use maskwatch::kafka::KafkaConnector;
use maskwatch::kafka::decoders::decoders;
use maskwatch::pipeline::output::OutputRecord;
use maskwatch::pipeline::scoring::{self, SCORING_THREADS, ScoringClient};
use maskwatch::pipeline::types::{Positions, Topic};
use maskwatch::pipeline::{Pipeline, PipelineOptions, RecordScorer, ScorerFailure};
use maskwatch::records::RecordRoot;
use maskwatch::schema::Schema;
use maskwatch::score::{Assessment, Explain};
use maskwatch::telemetry::{Metrics, ModelFacts, Readiness};
use maskwatch_testing::amount::{self, SCHEMA};

/// The score is the amount, the p-value its reciprocal.
struct AmountScorer;

impl RecordScorer for AmountScorer {
    fn model_id(&self) -> &str {
        "amount"
    }

    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure> {
        Ok(amount::assess(batch, explain))
    }
}

/// What becomes of a commit, in order; once the list is used up, all go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// As it should.
    Good,
    /// It fails before it is asked for, and the transaction is aborted.
    Aborted,
    /// It fails before it is asked for, and the transaction is left open, as by `kill -9`.
    LeftOpen,
    /// It succeeds, and the answer is lost.
    AnswerLost,
}

/// Real Kafka, whose commits go wrong on demand.
struct FaultyConnector {
    kafka: KafkaConnector,
    /// Shared with the sinks of one session after the other.
    commits: Arc<std::sync::Mutex<VecDeque<Commit>>>,
}

struct FaultySink<K> {
    kafka: K,
    commits: Arc<std::sync::Mutex<VecDeque<Commit>>>,
    leave_open: bool,
}

impl Connector for FaultyConnector {
    type Source = <KafkaConnector as Connector>::Source;
    type Sink = FaultySink<<KafkaConnector as Connector>::Sink>;

    fn open(&mut self, options: SendOptions) -> Result<(Self::Source, Self::Sink), DeliveryFault> {
        let (source, kafka) = self.kafka.open(options)?;
        let commits = Arc::clone(&self.commits);
        Ok((
            source,
            FaultySink {
                kafka,
                commits,
                leave_open: false,
            },
        ))
    }

    fn limits(&self) -> &[(Topic, TopicLimits)] {
        self.kafka.limits()
    }

    fn has_member(&mut self) -> Option<bool> {
        self.kafka.has_member()
    }

    fn owed(&mut self) -> Vec<Owed> {
        self.kafka.owed()
    }
}

impl<K: Sink> Sink for FaultySink<K> {
    fn send(&mut self, record: &OutputRecord<'_>, ticket: usize) -> Result<Sent, DeliveryFault> {
        self.kafka.send(record, ticket)
    }

    fn commit(&mut self, positions: &Positions, timeout: Duration) -> Result<(), DeliveryFault> {
        let commit = self.commits.lock().expect("no panic").pop_front();
        let fault = || DeliveryFault::Interrupted {
            operation: "commit",
            detail: "a test".into(),
        };
        match commit.unwrap_or(Commit::Good) {
            Commit::Good => self.kafka.commit(positions, timeout),
            Commit::Aborted => Err(fault()),
            Commit::LeftOpen => {
                self.leave_open = true;
                // Long enough for outputs to reach the broker, so that there is something to abort.
                std::thread::sleep(Duration::from_millis(100));
                Err(fault())
            }
            Commit::AnswerLost => {
                self.kafka.commit(positions, timeout)?;
                self.leave_open = true;
                Err(fault())
            }
        }
    }

    fn abandon(&mut self) {
        if !self.leave_open {
            self.kafka.abandon();
        }
    }

    fn renew(&mut self) -> Result<(), DeliveryFault> {
        self.kafka.renew()
    }
}

/// A running stream.
pub struct StreamInstance {
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    client: ScoringClient,
    stream: Option<JoinHandle<Result<(), StreamError>>>,
    bootstrap_servers: String,
}

impl StreamInstance {
    /// Starts a stream configured by `sections` (TOML of `[kafka]`, `[delivery]`, `[batch]`).
    pub fn start(sections: &str) -> Self {
        Self::start_with_faults(sections, &[])
    }

    /// As [`start`](Self::start); its first commits become what `commits` says.
    pub fn start_with_faults(sections: &str, commits: &[Commit]) -> Self {
        // The log of a test that fails is worth having; only the first call finds none set.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let config = check(sections);
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let readiness = Arc::new(Readiness::default());
        let shutdown = Shutdown::new();
        let drain = config.delivery.drain_timeout;
        let calls = BoundedCalls::new(shutdown.clone(), drain, Arc::default());
        let shared = Shared {
            options: config.session_options(),
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            shutdown: shutdown.clone(),
            calls: calls.clone(),
        };
        let started = scoring::start(pipeline(&config, &metrics), SCORING_THREADS);
        let (mut link, client, _) = started.expect("scoring threads");
        let kafka =
            KafkaConnector::new(&config.kafka, &config.delivery, calls).expect("a connector");
        let bootstrap_servers = kafka.bootstrap_servers().to_owned();
        let commits = Arc::new(std::sync::Mutex::new(commits.iter().copied().collect()));
        let mut connector = FaultyConnector { kafka, commits };
        let stream = std::thread::spawn(move || delivery::run(&mut connector, &mut link, &shared));
        let stream = Some(stream);
        Self {
            shutdown,
            metrics,
            readiness,
            client,
            stream,
            bootstrap_servers,
        }
    }

    /// The broker's address, the embedded one's too.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Whether the stream is still running.
    pub fn is_running(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| !stream.is_finished())
    }

    /// What `/metrics` would say.
    pub fn metrics(&self) -> String {
        self.metrics.encode().expect("metrics")
    }

    /// Partitions assigned at present.
    pub fn partitions(&self) -> usize {
        self.readiness.report().partitions
    }

    /// What `/readyz` would say is missing.
    pub fn missing(&self) -> Vec<String> {
        self.readiness.report().missing
    }

    /// The way in for requests.
    pub fn client(&self) -> &ScoringClient {
        &self.client
    }

    /// Asks the stream to drain, and gives back how it ended.
    pub fn stop(mut self) -> Result<(), StreamError> {
        self.shutdown.request();
        self.join()
    }

    /// Waits for a stream that ends by itself.
    pub fn join(&mut self) -> Result<(), StreamError> {
        let stream = self.stream.take().expect("not joined before");
        stream.join().expect("the stream's thread does not panic")
    }
}

impl Drop for StreamInstance {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(stream) = self.stream.take() {
            // Its end is of no interest where nobody asked for it.
            let _ = stream.join();
        }
    }
}

/// The checked configuration of `sections`.
pub fn check(sections: &str) -> StreamConfig {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        kafka: RawKafka,
        #[serde(default)]
        delivery: RawDelivery,
        #[serde(default)]
        batch: maskwatch::config::RawBatch,
    }
    let File {
        kafka,
        delivery,
        batch,
    } = toml::from_str(sections).expect("sections");
    let (input, alerts) = (RawInput::default(), RawAlerts::default());
    let raw = RawStream {
        kafka,
        input,
        delivery,
        batch,
        alerts,
    };
    raw.check().expect("a configuration without faults")
}

fn pipeline(config: &StreamConfig, metrics: &Arc<Metrics>) -> Arc<Pipeline> {
    let schema = Schema::parse(SCHEMA, "schema.toml").expect("a schema");
    let decoders = decoders(&config.input, &schema).expect("decoders");
    let options = PipelineOptions {
        alerts: config.alerts.clone(),
        emit: config.delivery.emit,
        root: RecordRoot::default(),
        tombstones: config.delivery.tombstones,
        outputs: config.kafka.outputs.clone(),
    };
    let of_model = metrics.model(ModelFacts {
        model_id: AmountScorer.model_id(),
        created_at_unix_s: 0,
        fields: &["amount"],
        alert_budget: config.alerts.budget.share(),
        cascade_share: None,
    });
    let scorer = Arc::new(AmountScorer);
    Arc::new(Pipeline::new(scorer, decoders, &schema, options, of_model))
}
