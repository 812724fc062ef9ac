//! Plain clients of one topic: a writer for generated records, a reader for what came of them.
//!
//! They belong to no group and no transaction, so they promise less than the stream: what is written is acknowledged, and
//! what is read is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::client;
use super::preflight::{faults_of_properties, in_words_of};
use super::tokens::Tokens;
use super::troubles::Troubles;
use crate::kafka::properties::{Properties, RawProperty};
use crate::pipeline::types::{Offset, Partition};

/// How long a cluster may take to answer, to make room, or to have a topic that was just used for the first time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a cluster may take to answer for the first time: whoever waits at a terminal has an answer within five seconds.
const FIRST_ANSWER: Duration = Duration::from_secs(4);
/// Between two questions about a topic that is not there yet.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a topic cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// Properties that cannot be used.
    #[error("kafka properties: {why}")]
    Properties {
        /// Each with its key; no value that may be secret.
        why: String,
    },
    /// The cluster, or the client, refuses.
    #[error("topic {topic}: {operation}: {why}")]
    Refused {
        /// Which topic.
        topic: String,
        /// What was being done.
        operation: &'static str,
        /// The client's words.
        why: String,
    },
    /// No broker answers at all.
    #[error("{servers}: no broker answers within {} s: {why}", limit.as_secs())]
    Unreachable {
        /// `host:port,...`.
        servers: String,
        /// What the client met last.
        why: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The topic is not there.
    #[error(
        "topic {topic}: not in the cluster {servers}, and not made by using it: please create it first"
    )]
    Missing {
        /// Which topic.
        topic: String,
        /// `host:port,...`.
        servers: String,
    },
    /// The cluster does not answer.
    #[error("topic {topic}: {operation}: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// Which topic.
        topic: String,
        /// What was being done.
        operation: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// Properties of a reader of the in-process broker: what comes is handed over soon.
///
/// # Errors
/// As [`properties`].
pub fn embedded_properties() -> Result<Properties, TopicError> {
    let (key, value) = client::EMBEDDED_FETCH_WAIT;
    properties(BTreeMap::from([(key.to_owned(), value.to_owned())]))
}

/// Client properties from pairs as a command line gives them; references are resolved as in a configuration.
///
/// # Errors
/// [`TopicError::Properties`] with every fault.
pub fn properties(pairs: BTreeMap<String, String>) -> Result<Properties, TopicError> {
    let raw = pairs
        .into_iter()
        .map(|(key, value)| (key, RawProperty::Text(value)));
    let mut faults = Vec::new();
    let properties = Properties::check(raw.collect(), &mut faults);
    faults.extend(faults_of_properties(&properties));
    if faults.is_empty() {
        return Ok(properties);
    }
    let why: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(TopicError::Properties {
        why: why.join("; "),
    })
}

fn tokens(topic: &str, properties: &Properties) -> Result<Option<Tokens>, TopicError> {
    Tokens::configured(properties).map_err(|why| TopicError::Refused {
        topic: topic.to_owned(),
        operation: "make the source of tokens",
        why,
    })
}

/// The callbacks of both.
#[derive(Debug)]
struct PlainContext {
    /// What the client is called in the log.
    client: &'static str,
    properties: Properties,
    /// Its lines, each once a minute.
    troubles: Troubles,
    /// The first output that failed.
    failure: Arc<Mutex<Option<String>>>,
    /// The first trouble with a broker.
    trouble: Arc<Mutex<Option<String>>>,
}

impl PlainContext {
    fn new(client: &'static str, servers: &str, properties: &Properties) -> Self {
        Self {
            client,
            properties: properties.clone(),
            troubles: Troubles::new(servers, properties),
            failure: Arc::default(),
            trouble: Arc::default(),
        }
    }
}

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.troubles.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.error(self.client, &error, reason);
        let reason = self.properties.blot(reason);
        // That all brokers are down says less than what each of them met.
        if error != KafkaError::Global(RDKafkaErrorCode::AllBrokersDown) {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.get_or_insert(reason);
        }
    }
}

impl ConsumerContext for PlainContext {}

impl ProducerContext for PlainContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| error.to_string());
        }
    }
}

/// Writes records to a topic, in order, without doubling any.
pub struct TopicWriter {
    topic: String,
    producer: Arc<BaseProducer<PlainContext>>,
    /// Of OAUTHBEARER.
    _tokens: Option<Tokens>,
}

impl TopicWriter {
    /// A writer to `topic` of the cluster at `servers`; connects in the background.
    ///
    /// # Errors
    /// [`TopicError::Refused`]: a property that librdkafka refuses.
    pub fn new(servers: &str, properties: &Properties, topic: &str) -> Result<Self, TopicError> {
        let context = PlainContext::new("writer", servers, properties);
        let producer: BaseProducer<PlainContext> = client::writer(servers, properties)
            .create_with_context(context)
            .map_err(|error| refused(topic, "make a producer", properties, &error))?;
        let producer = Arc::new(producer);
        let tokens = tokens(topic, properties)?;
        if let Some(tokens) = &tokens {
            tokens.give_to_producer(&producer);
        }
        Ok(Self {
            topic: topic.to_owned(),
            producer,
            _tokens: tokens,
        })
    }

    /// Waits until a broker of `servers` has answered and knows the topic.
    ///
    /// # Errors
    /// [`TopicError::Unreachable`] with broker and cause, [`TopicError::Missing`], [`TopicError::Refused`].
    pub fn connect(&self, servers: &str) -> Result<(), TopicError> {
        let deadline = Instant::now() + FIRST_ANSWER;
        let mut answered = false;
        while Instant::now() < deadline {
            let client = self.producer.client();
            match client.fetch_metadata(Some(&self.topic), PAUSE * 10) {
                Ok(metadata) => {
                    let topics = metadata.topics().iter();
                    if topics.flat_map(|topic| topic.partitions()).next().is_some() {
                        return Ok(());
                    }
                    answered = true;
                    std::thread::sleep(PAUSE);
                }
                // Hands the client's errors to the context.
                Err(_) => {
                    self.producer.poll(Duration::ZERO);
                }
            }
        }
        let servers = servers.to_owned();
        if answered {
            let topic = self.topic.clone();
            return Err(TopicError::Missing { topic, servers });
        }
        let trouble = &self.producer.context().trouble;
        let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        Err(TopicError::Unreachable {
            servers,
            why: trouble.clone().unwrap_or_else(|| "no answer".to_owned()),
            limit: FIRST_ANSWER,
        })
    }

    /// Hands a record over; waits while the client's queue is full.
    ///
    /// # Errors
    /// [`TopicError`]: this record's, or of an earlier one whose failure is known by now.
    pub fn write(&mut self, key: Option<&[u8]>, payload: &[u8]) -> Result<(), TopicError> {
        let operation = "write";
        let mut record = BaseRecord::to(&self.topic).payload(payload);
        record.key = key;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.producer.send(record) {
                Ok(()) => return self.failure(operation),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if Instant::now() >= deadline {
                        return Err(self.timed_out(operation));
                    }
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(self.refused(operation, &error)),
            }
        }
    }

    /// Waits until every record handed over is acknowledged.
    ///
    /// # Errors
    /// [`TopicError`]: a record that failed, or a cluster that does not answer.
    pub fn flush(&mut self) -> Result<(), TopicError> {
        let operation = "flush";
        match self.producer.flush(PATIENCE) {
            Ok(()) => {
                self.producer.poll(Duration::ZERO);
                self.failure(operation)
            }
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {
                Err(self.timed_out(operation))
            }
            Err(error) => Err(self.refused(operation, &error)),
        }
    }

    fn failure(&self, operation: &'static str) -> Result<(), TopicError> {
        let failure = &self.producer.context().failure;
        match failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(why) => Err(TopicError::Refused {
                topic: self.topic.clone(),
                operation,
                why,
            }),
            None => Ok(()),
        }
    }

    fn refused(&self, operation: &'static str, error: &KafkaError) -> TopicError {
        refused(
            &self.topic,
            operation,
            &self.producer.context().properties,
            error,
        )
    }

    fn timed_out(&self, operation: &'static str) -> TopicError {
        TopicError::TimedOut {
            topic: self.topic.clone(),
            operation,
            limit: PATIENCE,
        }
    }
}

/// A record as a reader hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its position there.
    pub offset: Offset,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Reads all partitions of a topic from their beginnings.
pub struct TopicReader {
    topic: String,
    consumer: Arc<BaseConsumer<PlainContext>>,
    /// Of OAUTHBEARER.
    _tokens: Option<Tokens>,
}

impl TopicReader {
    /// A reader of `topic` of the cluster at `servers`; waits until the topic is there.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn open(servers: &str, properties: &Properties, topic: &str) -> Result<Self, TopicError> {
        let context = PlainContext::new("reader", servers, properties);
        let consumer: BaseConsumer<PlainContext> = client::reader(servers, properties)
            .create_with_context(context)
            .map_err(|error| refused(topic, "make a consumer", properties, &error))?;
        let consumer = Arc::new(consumer);
        let tokens = tokens(topic, properties)?;
        if let Some(tokens) = &tokens {
            tokens.give_to_consumer(&consumer);
        }
        let reader = Self {
            topic: topic.to_owned(),
            consumer,
            _tokens: tokens,
        };
        reader.assign()?;
        Ok(reader)
    }

    fn assign(&self) -> Result<(), TopicError> {
        let operation = "find the partitions";
        let deadline = Instant::now() + PATIENCE;
        let mut list = TopicPartitionList::new();
        while list.count() == 0 {
            if Instant::now() >= deadline {
                let topic = self.topic.clone();
                return Err(TopicError::TimedOut {
                    topic,
                    operation,
                    limit: PATIENCE,
                });
            }
            let metadata = self
                .consumer
                .fetch_metadata(Some(&self.topic), PATIENCE)
                .map_err(|error| self.refused(operation, &error))?;
            for partition in metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
            {
                list.add_partition_offset(&self.topic, partition.id(), KafkaOffset::Beginning)
                    .map_err(|error| self.refused(operation, &error))?;
            }
            if list.count() == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        self.consumer
            .assign(&list)
            .map_err(|error| self.refused(operation, &error))
    }

    /// The next record of any partition, in order within each; `None` if none came within `timeout`.
    ///
    /// # Errors
    /// [`TopicError::Refused`]; passing trouble of the network is only logged.
    pub fn read(&mut self, timeout: Duration) -> Result<Option<ReadRecord>, TopicError> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(ReadRecord {
                partition: Partition(message.partition()),
                offset: Offset(message.offset()),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
            })),
            Some(Err(error)) => match self.consumer.client().fatal_error() {
                Some(_) => Err(self.refused("read", &error)),
                None => {
                    let context = self.consumer.context();
                    context.troubles.note(context.client, &error);
                    Ok(None)
                }
            },
        }
    }

    fn refused(&self, operation: &'static str, error: &KafkaError) -> TopicError {
        refused(
            &self.topic,
            operation,
            &self.consumer.context().properties,
            error,
        )
    }
}

fn refused(
    topic: &str,
    operation: &'static str,
    properties: &Properties,
    error: &KafkaError,
) -> TopicError {
    let why = match error {
        // Its own text quotes the value, which may be a secret.
        KafkaError::ClientConfig(_, why, key, _) => {
            format!("property \"{key}\": {}", in_words_of(key, why))
        }
        other => other.to_string(),
    };
    TopicError::Refused {
        topic: topic.to_owned(),
        operation,
        why: properties.blot(&why),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kafka::embedded::EmbeddedBroker;

    #[test]
    fn what_is_written_can_be_read() {
        let broker = EmbeddedBroker::start(vec![("t".to_owned(), 2)]).unwrap();
        let properties = Properties::default();
        let mut writer = TopicWriter::new(broker.bootstrap_servers(), &properties, "t").unwrap();
        for n in 0..20 {
            writer.write(Some(b"k"), format!("{n}").as_bytes()).unwrap();
        }
        writer.flush().unwrap();
        let mut reader = TopicReader::open(broker.bootstrap_servers(), &properties, "t").unwrap();
        let read: Vec<_> = (0..20)
            .map(|_| {
                reader
                    .read(Duration::from_secs(20))
                    .unwrap()
                    .unwrap()
                    .payload
                    .unwrap()
            })
            .collect();
        let written: Vec<_> = (0..20).map(|n| format!("{n}").into_bytes()).collect();
        assert_eq!(read, written, "one key, one partition, one order");
        assert_eq!(reader.read(Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn a_broker_that_is_not_there_is_named_with_the_cause_within_seconds() {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = listener.local_addr().unwrap().to_string();
        drop(listener);
        let writer = TopicWriter::new(&servers, &Properties::default(), "t").unwrap();
        let text = writer.connect(&servers).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("{servers}: no broker answers within 4 s")),
            "{text}"
        );
        assert!(text.contains("Connection refused"), "{text}");
        let broker = EmbeddedBroker::start(vec![("t".to_owned(), 2)]).unwrap();
        let servers = broker.bootstrap_servers();
        let writer = TopicWriter::new(servers, &Properties::default(), "t").unwrap();
        writer.connect(servers).unwrap();
    }

    #[test]
    fn a_refused_property_is_named_and_its_value_is_not() {
        let pairs = [("security.protocol", "ssl"), ("ssl.key.pem", "hunter2")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let properties = properties(pairs.into()).unwrap();
        let Err(error) = TopicWriter::new("127.0.0.1:1", &properties, "t") else {
            unreachable!("librdkafka takes any key");
        };
        let text = error.to_string();
        assert!(
            text.contains("ssl.key.pem") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
