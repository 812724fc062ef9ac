//! What tests do with topics: create one, fill it, read it to its end, and ask what a group has
//! committed.
//!
//! In: records as values. Out: records as values, in the order in which they came (within a
//! partition: by offset). Invariant: a read returns only when every partition was seen at its end,
//! so that a record too many shows as clearly as one too few.

use crate::header_bytes;
use crate::kafka_broker::Broker;
use crate::wait::poll_until;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Requests to a broker on this machine are answered in milliseconds; a loaded one has its reasons.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// One of several looks; the coordinator may be away.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// 200,000 records take a few seconds to be acknowledged.
const PRODUCE_PATIENCE: Duration = Duration::from_secs(120);

/// What a topic that takes "large" records takes: 16 MiB.
pub const LARGE_RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A topic to be created.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    name: String,
    partitions: i32,
    configs: Vec<(String, String)>,
}

/// What runs one request of an admin client.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

impl TopicSpec {
    /// A topic with `partitions` partitions and the broker's own settings.
    pub fn new(name: &str, partitions: i32) -> Self {
        Self {
            name: name.to_owned(),
            partitions,
            configs: Vec::new(),
        }
    }

    /// Sets a topic configuration, as `cleanup.policy`.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.configs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Lets the topic take records of up to [`LARGE_RECORD_BYTES_MAX`] bytes.
    pub fn taking_large_records(self) -> Self {
        self.with("max.message.bytes", &LARGE_RECORD_BYTES_MAX.to_string())
    }
}

/// Name and value of a header; a value may be null.
pub type HeaderBytes = (Vec<u8>, Option<Vec<u8>>);

/// A record to be produced. A payload of `None` is a tombstone; `Some` of nothing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRecord {
    /// `None` leaves the choice to the partitioner (by key, if there is one).
    pub partition: Option<i32>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The payload's bytes.
    pub payload: Option<Vec<u8>>,
    /// Header names and values, in order.
    pub headers: Vec<HeaderBytes>,
}

impl InputRecord {
    /// A record with a payload and nothing else.
    pub fn of(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }

    /// A record without payload, which deletes its key where a topic is compacted.
    pub fn tombstone() -> Self {
        Self::default()
    }

    /// The same record with a key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record, for one partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same record with one header more.
    pub fn header(self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.header_bytes(name, Some(value.into()))
    }

    /// The same record with one header more, whose name may be any bytes and whose value may be null.
    pub fn header_bytes(mut self, name: impl Into<Vec<u8>>, value: Option<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value));
        self
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRecord {
    /// The partition that it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Kafka's timestamp, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The payload's bytes; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Header names and values, in order.
    pub headers: Vec<HeaderBytes>,
}

impl OutputRecord {
    /// The payload as text; panics where there is none or it is no UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        let payload = self.payload.as_deref().expect("a record without payload");
        std::str::from_utf8(payload).expect("a payload that is no UTF-8")
    }

    /// The first header of that name, if its value is not null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let named = |header: &&HeaderBytes| header.0 == name.as_bytes();
        self.headers.iter().find(named)?.1.as_deref()
    }
}

/// Whose records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those outside transactions and of committed ones, up to the first that is still open.
    ReadCommitted,
    /// Everything that lies in the topic, of aborted and open transactions too.
    ReadUncommitted,
}

impl Isolation {
    fn level(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

impl Broker {
    /// Deletes the records of a partition before `offset`, as retention does.
    #[track_caller]
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self
            .client_config()
            .create()
            .expect("a client that administers");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("an offset");
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_PATIENCE));
        let runtime = runtime();
        let deleted = runtime
            .block_on(admin.delete_records(&list, &options))
            .expect("records are deleted");
        for element in deleted.elements() {
            element
                .error()
                .expect("records of the partition are deleted");
        }
    }

    /// Creates topics and returns once clients can see them.
    #[track_caller]
    pub fn create_topics(&self, specs: &[TopicSpec]) {
        let admin = self.admin();
        let topics: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| new_topic(spec, self.replication()))
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_PATIENCE))
            .operation_timeout(Some(REQUEST_PATIENCE));
        let runtime = runtime();
        let results = runtime.block_on(admin.create_topics(&topics, &options));
        for result in results.expect("the request to create topics") {
            if let Err((name, code)) = result {
                panic!("cannot create topic {name}: {code}");
            }
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client_config().create().expect("an admin client")
    }

    /// Sets one configuration of a topic, and leaves no other.
    #[track_caller]
    pub fn alter_topic(&self, topic: &str, (key, value): (&str, &str)) {
        let admin = self.admin();
        let altered = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let options = AdminOptions::new().request_timeout(Some(REQUEST_PATIENCE));
        let runtime = runtime();
        let results = runtime.block_on(admin.alter_configs(&[altered], &options));
        for result in results.expect("the request to alter a topic") {
            if let Err((_, code)) = result {
                panic!("cannot alter topic {topic}: {code}");
            }
        }
    }

    /// Deletes a topic.
    #[track_caller]
    pub fn delete_topic(&self, topic: &str) {
        let admin = self.admin();
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_PATIENCE))
            .operation_timeout(Some(REQUEST_PATIENCE));
        let runtime = runtime();
        let results = runtime.block_on(admin.delete_topics(&[topic], &options));
        for result in results.expect("the request to delete a topic") {
            if let Err((_, code)) = result {
                panic!("cannot delete topic {topic}: {code}");
            }
        }
    }

    /// Creates one topic of a new name that starts with `stem`, and returns its name.
    #[track_caller]
    pub fn new_topic(&self, stem: &str, partitions: i32) -> String {
        let name = self.unique_name(stem);
        self.create_topics(&[TopicSpec::new(&name, partitions)]);
        name
    }

    /// Produces records in order (within a partition), acknowledged by the broker, once each.
    #[track_caller]
    pub fn produce(&self, topic: &str, records: &[InputRecord]) {
        let producer: BaseProducer<Deliveries> = self
            .producer_config()
            .create_with_context(Deliveries::default())
            .expect("a producer");
        let deadline = Instant::now() + PRODUCE_PATIENCE;
        for record in records {
            enqueue(&producer, topic, record, deadline);
        }
        producer
            .flush(PRODUCE_PATIENCE)
            .expect("the records to be delivered in time");
        let failures = producer
            .context()
            .failures
            .lock()
            .expect("no thread panics with the lock");
        assert!(
            failures.is_empty(),
            "{} records failed, as {}",
            failures.len(),
            failures[0]
        );
    }

    /// The configuration of a producer that keeps order, writes once, and may send large records.
    pub fn producer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", LARGE_RECORD_BYTES_MAX.to_string());
        config
    }

    /// Everything that lies in a topic, from its first record to its end (under
    /// [`Isolation::ReadCommitted`]: to the last stable offset), within `patience`.
    #[track_caller]
    pub fn read_to_end(
        &self,
        topic: &str,
        isolation: Isolation,
        patience: Duration,
    ) -> Vec<OutputRecord> {
        self.read_at_least(topic, isolation, 0, patience)
    }

    /// As [`read_to_end`](Self::read_to_end), but waits until there are at least `count` records.
    ///
    /// It then still reads on to the end of every partition: more than `count` come back where
    /// there are more.
    ///
    /// # Panics
    /// When there are fewer after `patience`, saying how many came and which partitions are not at
    /// their end.
    #[track_caller]
    pub fn read_at_least(
        &self,
        topic: &str,
        isolation: Isolation,
        count: usize,
        patience: Duration,
    ) -> Vec<OutputRecord> {
        let deadline = Instant::now() + patience;
        let (consumer, partitions) = self.reader(topic, isolation);
        let mut unread = partitions.clone();
        let mut records = Vec::new();
        while records.len() < count || !unread.is_empty() {
            assert!(
                Instant::now() < deadline,
                "{topic}: {} of at least {count} records after {patience:?}; not at their end: \
                 partitions {unread:?} of {}",
                records.len(),
                partitions.len(),
            );
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    unread.insert(message.partition());
                    records.push(output_record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                // A broker may be away: the client tries on, and the deadline bounds it.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
                ))) => {}
                Some(Err(error)) => panic!("reading {topic}: {error}"),
            }
        }
        records
    }

    /// The offsets that a group has committed in a topic, by partition; a partition without one is
    /// absent.
    #[track_caller]
    pub fn committed_offsets(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        self.watch_commits(group, topic).offsets()
    }

    /// Something to ask again and again what a group has committed in a topic.
    #[track_caller]
    pub fn watch_commits(&self, group: &str, topic: &str) -> GroupCommits {
        let consumer: BaseConsumer = self
            .client_config()
            .set("group.id", group)
            .create()
            .expect("a consumer");
        let mut asked = TopicPartitionList::new();
        for partition in partitions_of(&consumer, topic) {
            asked.add_partition(topic, partition);
        }
        GroupCommits { consumer, asked }
    }

    /// Something to ask again and again how far a topic has grown.
    #[track_caller]
    pub fn watch_growth(&self, topic: &str) -> TopicGrowth {
        let (consumer, partitions) = self.reader(topic, Isolation::ReadUncommitted);
        TopicGrowth {
            topic: topic.to_owned(),
            consumer,
            partitions,
        }
    }

    /// A consumer outside every group, at the start of all partitions, and those partitions.
    #[track_caller]
    fn reader(&self, topic: &str, isolation: Isolation) -> (BaseConsumer, BTreeSet<i32>) {
        let consumer: BaseConsumer = self
            .client_config()
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation.level())
            .set(
                "fetch.message.max.bytes",
                LARGE_RECORD_BYTES_MAX.to_string(),
            )
            .create()
            .expect("a consumer");
        let partitions = partitions_of(&consumer, topic);
        let mut assignment = TopicPartitionList::new();
        for &partition in &partitions {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("the beginning is a valid offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        (consumer, partitions)
    }
}

/// How far a topic has grown: cheap to ask, so that a test can act in the middle of things.
pub struct TopicGrowth {
    topic: String,
    consumer: BaseConsumer,
    partitions: BTreeSet<i32>,
}

impl TopicGrowth {
    /// How many offsets the topic has given out, over all partitions: records of open and aborted
    /// transactions, and the marks that end transactions, count.
    #[track_caller]
    pub fn offsets_given(&self) -> i64 {
        // A partition that has just been made, or moved, is not led by whom the client knows.
        let asked = |partition| {
            let consumer = &self.consumer;
            poll_until(REQUEST_PATIENCE, || {
                let marks = consumer.fetch_watermarks(&self.topic, partition, REQUEST_PATIENCE);
                marks.ok().map(|(_, end)| end)
            })
        };
        let end = |&partition: &i32| asked(partition).expect("watermarks");
        self.partitions.iter().map(end).sum()
    }
}

/// What a group has committed: cheap to ask, so that progress can be followed closely.
pub struct GroupCommits {
    consumer: BaseConsumer,
    asked: TopicPartitionList,
}

impl GroupCommits {
    /// The committed offsets by partition; a partition without one is absent.
    #[track_caller]
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        // The first group of a new cluster finds its coordinator still loading.
        let committed = poll_until(REQUEST_PATIENCE, || self.try_offsets());
        committed.expect("the group's coordinator to answer")
    }

    /// As [`offsets`](Self::offsets); nothing while the group's coordinator does not answer.
    pub fn try_offsets(&self) -> Option<BTreeMap<i32, i64>> {
        let asked = self.asked.clone();
        let committed = self.consumer.committed_offsets(asked, LOOK_PATIENCE).ok()?;
        let offsets =
            committed
                .elements()
                .into_iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                });
        Some(offsets.collect())
    }
}

fn new_topic(spec: &TopicSpec, replication: i32) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(replication);
    let topic = NewTopic::new(&spec.name, spec.partitions, replication);
    spec.configs
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

#[track_caller]
/// Asked again while the broker that answers has not heard of a topic that was just made.
fn partitions_of(consumer: &BaseConsumer, topic: &str) -> BTreeSet<i32> {
    let mut told = None;
    let metadata = poll_until(REQUEST_PATIENCE, || {
        let metadata = consumer
            .fetch_metadata(Some(topic), REQUEST_PATIENCE)
            .expect("metadata");
        told = metadata.topics()[0].error().map(RDKafkaErrorCode::from);
        told.is_none().then_some(metadata)
    });
    let Some(metadata) = metadata else {
        panic!("topic {topic}: {told:?}");
    };
    let found = &metadata.topics()[0];
    found
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect()
}

/// Hands one record to the producer, waiting where its queue is full.
#[track_caller]
fn enqueue(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    record: &InputRecord,
    deadline: Instant,
) {
    let mut waiting = base_record(topic, record);
    loop {
        match producer.send(waiting) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                assert!(Instant::now() < deadline, "{topic}: not delivered in time");
                producer.poll(Duration::from_millis(10));
                waiting = refused;
            }
            Err((error, _)) => panic!("producing to {topic}: {error}"),
        }
    }
}

/// The record as librdkafka's binding wants it.
pub fn base_record<'a>(topic: &'a str, record: &'a InputRecord) -> BaseRecord<'a, [u8], [u8]> {
    let mut base = BaseRecord::to(topic);
    base.partition = record.partition;
    base.key = record.key.as_deref();
    base.payload = record.payload.as_deref();
    if !record.headers.is_empty() {
        base.headers = Some(header_bytes::written(&record.headers));
    }
    base
}

fn output_record(message: &BorrowedMessage<'_>) -> OutputRecord {
    let headers = message.headers().map(header_bytes::read);
    OutputRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// Collects what the broker refused.
#[derive(Debug, Default)]
struct Deliveries {
    failures: Mutex<Vec<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, _)) = result {
            let mut failures = self
                .failures
                .lock()
                .expect("no thread panics with the lock");
            failures.push(error.to_string());
        }
    }
}
