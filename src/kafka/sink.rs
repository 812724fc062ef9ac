//! The producer that commits outputs and offsets together.
//!
//! Transactional: outputs are in a transaction, and the offsets of their records join it just before its end. Acknowledged
//! (at least once): offsets are committed after everything sent was acknowledged. The invariant: an end of a transaction that
//! is not known to be a commit is never taken for one. A producer is not used again after an output has failed: librdkafka
//! (2.12.1) then leaves a gap in the sequence of its partition, for which the cluster refuses what comes next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use tracing::debug;

use super::client;
use super::clock::Moment;
use super::faults::{Faults, Severity, code_of};
use super::group::GroupConsumer;
use super::headers;
use super::tokens::Tokens;
use super::troubles::Troubles;
use crate::delivery::calls::{BoundedCalls, OnStop};
use crate::delivery::fault::DeliveryFault;
use crate::delivery::refusal::{MARKS_MAX, Objection, RefusedTicket, SendOptions};
use crate::delivery::sink::{Sent, Sink};
use crate::kafka::options::KafkaConfig;
use crate::pipeline::output::OutputRecord;
use crate::pipeline::types::Positions;
use crate::telemetry::heartbeat::Operation;

/// A coordinator that has to finish an earlier transaction first needs some seconds; one that has to be found, more.
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// An abort is a courtesy to those who read the topic: the next session does it too.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where the process is about to end.
const ABORT_TIMEOUT_DRAINING: Duration = Duration::from_millis(200);
/// How long a producer that is replaced may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the reports of outputs that failed together may take to come.
const REPORTS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a full queue may take to make room.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a flush checks whether everything is acknowledged. The binding's own flush, and its commit of a transaction,
/// wait 100 ms for a report instead, and reports come of failures only.
const FLUSH_LOOK: Duration = Duration::from_millis(1);
/// How often offsets are sent to the transaction again where the client says that this may help.
const OFFSETS_ATTEMPTS_MAX: u32 = 3;
/// Outputs after which reports are looked at; they come only of failures.
const SENDS_PER_POLL: usize = 256;

/// Outputs that failed since the producer was made: it is not used again after the first.
#[derive(Debug, Default)]
struct Failures {
    /// Ticket and reason of each; bounded.
    outputs: Vec<(usize, RDKafkaErrorCode)>,
    /// The topic of the first.
    topic: Option<String>,
    /// Topic and code of the first that was refused for what it is. The broker's own words are not to be had: what
    /// `rd_kafka_message_produce_errstr` returns has been freed by then (librdkafka 2.12.1).
    refused: Option<String>,
}

/// The callbacks of the producer.
pub struct OutputContext {
    troubles: Arc<Troubles>,
    failures: Mutex<Failures>,
    failed: AtomicBool,
}

impl OutputContext {
    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for OutputContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.troubles.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.error("producer", &error, reason);
    }
}

impl ProducerContext for OutputContext {
    /// The ticket of the output.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let Err((error, message)) = result else {
            return;
        };
        self.failed.store(true, Ordering::Release);
        let code = code_of(error).unwrap_or(RDKafkaErrorCode::Unknown);
        let mut failures = self.failures();
        if failures.refused.is_none() && objection(code).is_some() {
            failures.refused = Some(format!("the first for topic {}: {code}", message.topic()));
        }
        failures
            .topic
            .get_or_insert_with(|| message.topic().to_owned());
        if failures.outputs.len() < MARKS_MAX {
            failures.outputs.push((ticket, code));
        }
    }
}

/// Whether outputs are in transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At least once.
    Acknowledged,
    /// Between transactions.
    Idle,
    /// In a transaction since then.
    Open { begun: Moment },
    /// The end of a transaction is not known: it is neither committed again nor aborted.
    Unknown,
}

/// What a producer is made of.
struct Recipe {
    kafka: KafkaConfig,
    servers: String,
    options: SendOptions,
    tokens: Option<Arc<Tokens>>,
    transactional_id: Option<String>,
}

impl Recipe {
    fn producer(
        &self,
        consumer: &GroupConsumer,
    ) -> Result<Arc<BaseProducer<OutputContext>>, DeliveryFault> {
        let context = OutputContext {
            troubles: Arc::clone(consumer.context().troubles()),
            failures: Mutex::default(),
            failed: AtomicBool::new(false),
        };
        let (kafka, id) = (&self.kafka, self.transactional_id.as_deref());
        let producer = client::producer(kafka, &self.servers, self.options, id)
            .create_with_context(context)
            .map_err(|error| {
                Faults::new(&kafka.properties).creation("make the producer", &error)
            })?;
        let producer = Arc::new(producer);
        if let Some(tokens) = &self.tokens {
            tokens.give_to_producer(&producer);
        }
        Ok(producer)
    }
}

/// The stream's end of the producer.
pub struct KafkaSink {
    recipe: Recipe,
    /// Shared with calls in progress, one at a time; one that was left behind keeps it.
    producer: Arc<BaseProducer<OutputContext>>,
    consumer: Arc<GroupConsumer>,
    calls: BoundedCalls,
    state: State,
    transaction_timeout: Duration,
    sends: usize,
    faults: Faults,
}

impl KafkaSink {
    /// A producer of transactions. Fences every other producer of the same id, and waits until what they left is committed or
    /// aborted.
    ///
    /// # Errors
    /// A fault of making the producer or of its first call.
    pub fn transactional(
        kafka: &KafkaConfig,
        servers: &str,
        options: SendOptions,
        consumer: Arc<GroupConsumer>,
        calls: BoundedCalls,
        tokens: Option<Arc<Tokens>>,
    ) -> Result<Self, DeliveryFault> {
        let id = kafka.transactional_id();
        let sink = Self::new(kafka, servers, options, Some(id), consumer, calls, tokens)?;
        sink.initialise(OnStop::EndAtOnce)?;
        Ok(sink)
    }

    /// Fences whoever has the producer's id.
    fn initialise(&self, on_stop: OnStop) -> Result<(), DeliveryFault> {
        let operation = Operation::InitTransactions;
        let deadline = Instant::now() + INIT_TIMEOUT;
        let producer = Arc::clone(&self.producer);
        let call = move || {
            again_while_retriable(deadline, u32::MAX, |left| producer.init_transactions(left))
        };
        let begin = Instant::now();
        let troubles = Arc::clone(self.consumer.context().troubles());
        let meanwhile = || {
            // Errors of the connection are reported here and nowhere else.
            self.producer.poll(Duration::ZERO);
            troubles.wait(operation, begin)
        };
        let initialised = self
            .calls
            .run(operation, INIT_TIMEOUT, on_stop, call, meanwhile)?;
        match initialised {
            Ok(()) => {
                troubles.let_in();
                Ok(())
            }
            Err(error) if is_retriable(&error) => {
                let cause = troubles.cause();
                Err(self
                    .faults
                    .timed_out(operation.as_str(), INIT_TIMEOUT, cause))
            }
            Err(error) => Err(self.fault(operation.as_str(), &error)),
        }
    }

    /// A producer outside transactions.
    ///
    /// # Errors
    /// [`DeliveryFault::Impossible`]: a property that librdkafka refuses.
    pub fn acknowledged(
        kafka: &KafkaConfig,
        servers: &str,
        options: SendOptions,
        consumer: Arc<GroupConsumer>,
        calls: BoundedCalls,
        tokens: Option<Arc<Tokens>>,
    ) -> Result<Self, DeliveryFault> {
        Self::new(kafka, servers, options, None, consumer, calls, tokens)
    }

    fn new(
        kafka: &KafkaConfig,
        servers: &str,
        options: SendOptions,
        transactional_id: Option<String>,
        consumer: Arc<GroupConsumer>,
        calls: BoundedCalls,
        tokens: Option<Arc<Tokens>>,
    ) -> Result<Self, DeliveryFault> {
        let state = match &transactional_id {
            Some(_) => State::Idle,
            None => State::Acknowledged,
        };
        let recipe = Recipe {
            kafka: kafka.clone(),
            servers: servers.to_owned(),
            options,
            tokens,
            transactional_id,
        };
        Ok(Self {
            producer: recipe.producer(&consumer)?,
            recipe,
            consumer,
            calls,
            state,
            transaction_timeout: kafka.transaction_timeout(),
            sends: 0,
            faults: Faults::new(&kafka.properties),
        })
    }

    /// The fault of a call: what went wrong with outputs before is the cause, and reported instead.
    fn fault(&self, operation: &'static str, error: &KafkaError) -> DeliveryFault {
        // A transaction fails as soon as one output does; the reports that say which come a moment later.
        if self.flush(REPORTS_TIMEOUT).is_err() {
            debug!(operation, "outputs are still on their way");
        }
        let stale = match self.state {
            State::Open { begun } => begun.elapsed() >= self.transaction_timeout,
            State::Acknowledged | State::Idle | State::Unknown => false,
        };
        if let Some((code, text)) = self.producer.client().fatal_error() {
            return self.faults.code(operation, code, text, stale);
        }
        self.failed_outputs()
            .unwrap_or_else(|| self.faults.call(operation, error, stale))
    }

    /// The fault of outputs that failed, if any did.
    fn failed_outputs(&self) -> Option<DeliveryFault> {
        let context = self.producer.context();
        if !context.failed.load(Ordering::Acquire) {
            return None;
        }
        let failures = context.failures();
        let outputs = refused_tickets(&failures.outputs);
        if !outputs.is_empty() {
            let detail = failures.refused.clone().unwrap_or_default();
            return Some(DeliveryFault::Refused { outputs, detail });
        }
        // Outputs that were purged because of another's failure say nothing of their own.
        let purged = [
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::PurgeInflight,
        ];
        let (_, code) = failures
            .outputs
            .iter()
            .find(|(_, code)| !purged.contains(code))
            .or_else(|| failures.outputs.first())?;
        let topic = failures.topic.as_deref().unwrap_or("unknown");
        let count = failures.outputs.len();
        let detail = format!("{count} outputs failed, the first for topic {topic}: {code}");
        Some(self.faults.code("produce", *code, detail, false))
    }

    /// Waits until every output is acknowledged or has failed, and its report is read. A drain that begins meanwhile ends
    /// the wait when it has to be over.
    fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        while let Err(error) = self.producer.flush(Duration::ZERO) {
            let again = code_of(&error) == Some(RDKafkaErrorCode::OperationTimedOut);
            if !again || Instant::now() >= self.calls.not_beyond_drain(deadline) {
                return Err(error);
            }
            self.producer.poll(FLUSH_LOOK);
        }
        // The reports of failures may lie behind the last acknowledgement.
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), DeliveryFault> {
        if self.state == State::Idle {
            self.calls.enter(Operation::BeginTransaction);
            self.producer
                .begin_transaction()
                .map_err(|error| self.fault("begin a transaction", &error))?;
            self.state = State::Open {
                begun: Moment::now(),
            };
        }
        Ok(())
    }

    fn send_offsets(
        &mut self,
        offsets: &TopicPartitionList,
        deadline: Instant,
    ) -> Result<(), DeliveryFault> {
        let operation = Operation::SendOffsets;
        let Some(metadata) = self.consumer.context().metadata() else {
            return Err(DeliveryFault::Interrupted {
                operation: operation.as_str(),
                detail: "this instance has no partitions any more".to_owned(),
            });
        };
        let (producer, offsets) = (Arc::clone(&self.producer), offsets.clone());
        let send = move || {
            again_while_retriable(deadline, OFFSETS_ATTEMPTS_MAX, |left| {
                producer.send_offsets_to_transaction(&offsets, &metadata, left)
            })
        };
        self.bounded(operation, deadline, send)
    }

    /// Makes a call that is to return by `deadline`. One that does not keeps the producer, and what becomes of the
    /// transaction is not known then.
    fn bounded(
        &mut self,
        operation: Operation,
        deadline: Instant,
        call: impl FnOnce() -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), DeliveryFault> {
        let left = deadline.saturating_duration_since(Instant::now());
        let finish = OnStop::FinishFirst;
        match self.calls.run(operation, left, finish, call, || Ok(())) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let fault = self.fault(operation.as_str(), &error);
                if operation == Operation::CommitTransaction && !is_known_open(&error) {
                    self.state = State::Unknown;
                }
                Err(fault)
            }
            Err(unfinished) => {
                self.state = State::Unknown;
                Err(unfinished)
            }
        }
    }

    fn commit_transaction(
        &mut self,
        offsets: &TopicPartitionList,
        deadline: Instant,
    ) -> Result<(), DeliveryFault> {
        self.begin()?;
        self.send_offsets(offsets, deadline)?;
        let operation = Operation::CommitTransaction;
        self.calls.enter(operation);
        let left = deadline.saturating_duration_since(Instant::now());
        // Where not everything is acknowledged, the end is not asked for.
        self.flush(left)
            .map_err(|error| self.fault(operation.as_str(), &error))?;
        let producer = Arc::clone(&self.producer);
        self.bounded(operation, deadline, move || {
            producer.commit_transaction(deadline.saturating_duration_since(Instant::now()))
        })?;
        self.state = State::Idle;
        Ok(())
    }

    fn commit_acknowledged(
        &mut self,
        offsets: &TopicPartitionList,
        deadline: Instant,
    ) -> Result<(), DeliveryFault> {
        let operation = Operation::CommitOffsets;
        self.calls.enter(operation);
        let left = deadline.saturating_duration_since(Instant::now());
        self.flush(left)
            .map_err(|error| self.fault("flush", &error))?;
        if let Some(fault) = self.failed_outputs() {
            return Err(fault);
        }
        let (consumer, offsets) = (Arc::clone(&self.consumer), offsets.clone());
        let left = deadline.saturating_duration_since(Instant::now());
        let commit = move || consumer.commit(&offsets, CommitMode::Sync);
        self.calls
            .run(operation, left, OnStop::FinishFirst, commit, || Ok(()))?
            .map_err(|error| self.faults.call(operation.as_str(), &error, false))
    }
}

/// Makes a transactional call until it succeeds, until `deadline`, at most `attempts_max` times, as long as the client says
/// that this may help.
fn again_while_retriable(
    deadline: Instant,
    attempts_max: u32,
    call: impl Fn(Duration) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let mut attempts = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let result = call(left);
        attempts += 1;
        match result {
            Err(error) if is_retriable(&error) && attempts < attempts_max && !left.is_zero() => {
                debug!(%error, "again");
            }
            result => return result,
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if Severity::of(error) == Severity::Retriable)
}

/// Whether a commit that failed has certainly left the transaction open. Otherwise the answer may be on its way: the
/// transaction may be committed, now or later.
fn is_known_open(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if Severity::of(error) == Severity::Abort)
}

/// What a broker has against an output that it refuses with this code; `None` if the code says nothing of the output.
fn objection(code: RDKafkaErrorCode) -> Option<Objection> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Some(Objection::Size)
        }
        Code::InvalidRecord => Some(Objection::Record),
        Code::InvalidTimestamp => Some(Objection::Timestamp),
        Code::PolicyViolation => Some(Objection::Policy),
        _ => None,
    }
}

/// The outputs among those that failed that were refused for what they are. Where the broker names the records that it
/// objects to, the client gives their neighbours a code of their own.
fn refused_tickets(failed: &[(usize, RDKafkaErrorCode)]) -> Vec<RefusedTicket> {
    let neighbour = RDKafkaErrorCode::InvalidDifferentRecord;
    let are_named = failed.iter().any(|(_, code)| *code == neighbour);
    let refused = failed.iter().filter_map(|(ticket, code)| {
        let objection = objection(*code)?;
        Some(RefusedTicket {
            ticket: *ticket,
            objection,
            is_exact: are_named && objection != Objection::Size,
        })
    });
    refused.collect()
}

fn kafka_offsets(positions: &Positions) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (of, next) in positions.iter() {
        list.add_partition_offset(
            of.topic.as_str(),
            of.partition.0,
            KafkaOffset::Offset(next.0),
        )?;
    }
    Ok(list)
}

fn kafka_headers(record: &OutputRecord<'_>) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(empty, |headers, (name, value)| {
        headers::with(headers, name, value.as_deref())
    }))
}

impl Sink for KafkaSink {
    fn send(&mut self, record: &OutputRecord<'_>, ticket: usize) -> Result<Sent, DeliveryFault> {
        self.begin()?;
        self.sends += 1;
        if self.sends.is_multiple_of(SENDS_PER_POLL) {
            self.producer.poll(Duration::ZERO);
        }
        let mut message =
            BaseRecord::with_opaque_to(record.topic.as_str(), ticket).payload(record.payload);
        message.key = record.key.as_deref();
        message.headers = kafka_headers(record);
        let deadline = self
            .calls
            .not_beyond_drain(Instant::now() + QUEUE_FULL_TIMEOUT);
        loop {
            let error = match self.producer.send(message) {
                Ok(()) => return Ok(Sent::Accepted),
                Err((error, returned)) => {
                    message = returned;
                    error
                }
            };
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    return Ok(Sent::TooLarge);
                }
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
                    if Instant::now() < deadline =>
                {
                    self.producer.poll(Duration::from_millis(5));
                }
                error => return Err(self.fault("produce", &error)),
            }
        }
    }

    fn commit(&mut self, positions: &Positions, timeout: Duration) -> Result<(), DeliveryFault> {
        let deadline = self.calls.not_beyond_drain(Instant::now() + timeout);
        let offsets = kafka_offsets(positions)
            .map_err(|error| self.faults.call("name the offsets", &error, false))?;
        match self.state {
            State::Acknowledged => self.commit_acknowledged(&offsets, deadline),
            State::Idle | State::Open { .. } => self.commit_transaction(&offsets, deadline),
            State::Unknown => Err(DeliveryFault::Interrupted {
                operation: "commit the transaction",
                detail: "the end of the one before is not known".to_owned(),
            }),
        }
    }

    fn abandon(&mut self) {
        let State::Open { .. } = self.state else {
            return;
        };
        if self.producer.client().fatal_error().is_some() {
            return;
        }
        let operation = Operation::AbortTransaction;
        self.calls.enter(operation);
        let timeout = match self.calls.drain_deadline() {
            Some(_) => ABORT_TIMEOUT_DRAINING,
            None => ABORT_TIMEOUT,
        };
        // Outputs not sent yet need not be, and the abort itself waits until every report has been read.
        self.producer.purge(PurgeConfig::default().queue());
        let producer = Arc::clone(&self.producer);
        let abort = move || producer.abort_transaction(timeout);
        let finish = OnStop::FinishFirst;
        let aborted = self
            .flush(timeout)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                let ended = self.calls.run(operation, timeout, finish, abort, || Ok(()));
                ended.map_err(|fault| fault.to_string())
            })
            .and_then(|ended| ended.map_err(|error| error.to_string()));
        match aborted {
            Ok(()) => self.state = State::Idle,
            Err(why) => {
                debug!(why, "the transaction is left for the next session to abort");
                self.state = State::Unknown;
            }
        }
    }

    fn renew(&mut self) -> Result<(), DeliveryFault> {
        if self.state == State::Unknown {
            return Err(DeliveryFault::Interrupted {
                operation: "make the producer anew",
                detail: "the end of the transaction is not known".to_owned(),
            });
        }
        let next = self.recipe.producer(&self.consumer)?;
        let last = std::mem::replace(&mut self.producer, next);
        self.sends = 0;
        let (operation, finish) = (Operation::CloseClients, OnStop::FinishFirst);
        let close = move || drop(last);
        self.calls
            .run(operation, CLOSE_TIMEOUT, finish, close, || Ok(()))?;
        match self.state {
            State::Acknowledged => Ok(()),
            State::Idle | State::Open { .. } | State::Unknown => {
                self.state = State::Idle;
                // What is left of a batch is in hand.
                self.initialise(OnStop::FinishFirst)
            }
        }
    }
}

impl Drop for KafkaSink {
    /// Closing takes a moment, and more where brokers do not answer; the next session fences whatever is left, so that
    /// nobody waits for it.
    fn drop(&mut self) {
        if Arc::strong_count(&self.producer) > 1 {
            // A call that was left behind closes it, should it ever return.
            return;
        }
        let producer = Arc::clone(&self.producer);
        self.calls.detach(Operation::CloseClients, move || {
            // The stream's own handle goes at once, so that this is the last.
            while Arc::strong_count(&producer) > 1 {
                std::thread::sleep(FLUSH_LOOK);
            }
            drop(producer);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::embedded::EmbeddedBroker;
    use crate::kafka::group;
    use crate::kafka::options::OffsetPolicy;
    use crate::kafka::properties::Properties;
    use crate::pipeline::options::OutputTopics;
    use crate::pipeline::types::Topic;

    #[test]
    fn what_a_broker_refuses_for_itself_is_told_from_what_fails_beside_it() {
        use RDKafkaErrorCode as Code;
        let of = |codes: &[Code]| {
            let failed: Vec<_> = codes.iter().copied().enumerate().collect();
            let refused = refused_tickets(&failed).into_iter();
            refused
                .map(|refused| (refused.ticket, refused.objection, refused.is_exact))
                .collect::<Vec<_>>()
        };
        let (size, record) = (Objection::Size, Objection::Record);
        assert_eq!(
            of(&[Code::PurgeQueue, Code::MessageSizeTooLarge, Code::Unknown]),
            [(1, size, false)]
        );
        assert_eq!(
            of(&[Code::InvalidDifferentRecord, Code::InvalidRecord]),
            [(1, record, true)]
        );
        assert_eq!(
            of(&[Code::InvalidRecord, Code::InvalidRecord]),
            [(0, record, false), (1, record, false)]
        );
        assert_eq!(
            of(&[Code::PolicyViolation, Code::InvalidTimestamp]),
            [
                (0, Objection::Policy, false),
                (1, Objection::Timestamp, false)
            ]
        );
        let others = [
            Code::TopicAuthorizationFailed,
            Code::MessageTimedOut,
            Code::UnknownTopic,
            Code::OutOfOrderSequenceNumber,
        ];
        assert_eq!(of(&others), []);
    }

    #[test]
    fn a_flush_ends_with_nothing_in_flight() {
        let broker = EmbeddedBroker::start(vec![("out".to_owned(), 1)]).unwrap();
        let kafka = KafkaConfig {
            bootstrap_servers: broker.bootstrap_servers().into(),
            group_id: "g".into(),
            instance_id: "i".into(),
            input_topics: vec!["in".into()],
            outputs: OutputTopics::default(),
            offset_absent: OffsetPolicy::Earliest,
            offset_lost: OffsetPolicy::Earliest,
            properties: Properties::check(BTreeMap::new(), &mut Vec::new()),
        };
        let consumer =
            Arc::new(group::consumer(&kafka, broker.bootstrap_servers(), Arc::default()).unwrap());
        let together = SendOptions {
            alone: false,
            batch_bytes_max: None,
        };
        let servers = broker.bootstrap_servers();
        let mut sink = KafkaSink::acknowledged(
            &kafka,
            servers,
            together,
            consumer,
            BoundedCalls::default(),
            None,
        )
        .unwrap();
        let topic = Topic::new("out");
        for ticket in 0..9 {
            let record = OutputRecord {
                topic: &topic,
                key: None,
                payload: b"{}",
                headers: Vec::new(),
            };
            assert_eq!(sink.send(&record, ticket).unwrap(), Sent::Accepted);
            sink.flush(Duration::from_secs(30)).unwrap();
            assert_eq!(sink.producer.in_flight_count(), 0);
        }
    }
}
