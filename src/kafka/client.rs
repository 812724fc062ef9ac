//! The properties that consumers and producers are made of: our defaults, the user's on top, delivery's own last.
//!
//! A checked configuration flows in, a client configuration flows out. What the user sets for the other kind of client is
//! left out, so that librdkafka does not warn of it.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::delivery::refusal::SendOptions;
use crate::kafka::oauth;
use crate::kafka::options::{DEFAULT_TRANSACTION_TIMEOUT_MS, KafkaConfig};
use crate::kafka::properties::Properties;

/// How often the client reports where its partitions end; the report of a hundred partitions takes about 1 ms to read.
const STATISTICS_INTERVAL_MS: &str = "2000";

/// Of a consumer, unless the user says otherwise. Each with its reason.
const CONSUMER_DEFAULTS: [(&str, &str); 10] = [
    // A group without offsets starts with what there is: records are missed by choice, never by default.
    ("auto.offset.reset", "earliest"),
    // Eager: all partitions are revoked before any moves, so that one drain settles all that is in hand.
    ("partition.assignment.strategy", "range"),
    ("heartbeat.interval.ms", "3000"),
    // Prefetched at most: 32 MiB or 20,000 messages, whichever is first. Below some 10 MB a record of 10 MB would starve
    // its neighbours.
    ("queued.max.messages.kbytes", "32768"),
    ("queued.min.messages", "20000"),
    // With so small a queue, the default of 1,000 ms between polls would leave the consumer waiting.
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.max.bytes", "16777216"),
    ("max.partition.fetch.bytes", "1048576"),
    // New topics and partitions are noticed within 10 s instead of 5 minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("socket.keepalive.enable", "true"),
];

/// Of a producer, unless the user says otherwise. Each with its reason.
const PRODUCER_DEFAULTS: [(&str, &str); 6] = [
    // Outputs of one scored batch come within a millisecond; waiting longer only delays the commit.
    ("linger.ms", "2"),
    // Envelopes are alike: a third of the bytes, for little processor time.
    ("compression.type", "lz4"),
    // A key's outputs go where Java's producers send that key, so that topics stay co-partitioned.
    ("partitioner", "murmur2_random"),
    // Unacknowledged outputs at most: 64 MiB.
    ("queue.buffering.max.kbytes", "65536"),
    // A batch waits for a commit anyway; acknowledgements are retried until then.
    ("retry.backoff.ms", "50"),
    ("socket.keepalive.enable", "true"),
];

/// How long an empty fetch may wait at the in-process broker, ms. That broker answers an empty fetch only after the whole
/// wait, also where records come meanwhile: with the default of 500 ms a record would lie there for a quarter of a second.
pub const EMBEDDED_FETCH_WAIT: (&str, &str) = ("fetch.wait.max.ms", "20");

/// Beginnings of properties that only consumers know.
const CONSUMER_ONLY: [&str; 12] = [
    "auto.offset.reset",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "queued.",
    "fetch.",
    "max.partition.fetch.bytes",
    "check.crcs",
    "consume.",
    "coordinator.query.interval.ms",
    "allow.auto.create.topics",
];

/// Beginnings of properties that only producers know.
const PRODUCER_ONLY: [&str; 12] = [
    "transaction.timeout.ms",
    "linger.ms",
    "queue.buffering.",
    "compression.",
    "batch.",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "retries",
    "message.send.max.retries",
    "retry.backoff.",
    "sticky.",
    "partitioner",
];

fn is_any(key: &str, beginnings: &[&str]) -> bool {
    beginnings
        .iter()
        .any(|beginning| key.starts_with(beginning))
}

fn client(
    servers: &str,
    defaults: &[(&str, &str)],
    properties: &Properties,
    not_mine: &[&str],
) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (key, value) in defaults {
        client.set(*key, *value);
    }
    // Those of the source of tokens are for us: the library is built without an HTTP client, and refuses them.
    let theirs = |key: &str| !is_any(key, not_mine) && !oauth::OURS.contains(&key);
    for (key, value) in properties.iter().filter(|(key, _)| theirs(key)) {
        client.set(key, value);
    }
    client.set("bootstrap.servers", servers);
    client.set_log_level(RDKafkaLogLevel::Info);
    client
}

/// The consumer of the group.
pub fn consumer(kafka: &KafkaConfig, servers: &str) -> ClientConfig {
    let mut client = client(
        servers,
        &CONSUMER_DEFAULTS,
        &kafka.properties,
        &PRODUCER_ONLY,
    );
    client
        .set("group.id", &kafka.group_id)
        .set("group.instance.id", &kafka.instance_id)
        // A dead instance's partitions move after that time; a restarted one's are its own again at once.
        .set(
            "session.timeout.ms",
            kafka.session_timeout().as_millis().to_string(),
        )
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Where partitions begin is found out by us, as configured; an offset that is lost later ends the session, and the
        // next one finds out again.
        .set("auto.offset.reset", "error")
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    let (key, value) = EMBEDDED_FETCH_WAIT;
    if kafka.is_embedded() && kafka.properties.get(key).is_none() {
        client.set(key, value);
    }
    client
}

/// A producer that neither reorders nor doubles; transactional if it is given an id.
pub fn producer(
    kafka: &KafkaConfig,
    servers: &str,
    options: SendOptions,
    transactional_id: Option<&str>,
) -> ClientConfig {
    let mut client = client(
        servers,
        &PRODUCER_DEFAULTS,
        &kafka.properties,
        &CONSUMER_ONLY,
    );
    client.set("enable.idempotence", "true");
    // Successes are known from the flush; a report for each would double the cost of producing.
    client.set("delivery.report.only.error", "true");
    if let Some(id) = transactional_id {
        client.set("transactional.id", id);
        let timeout_ms = DEFAULT_TRANSACTION_TIMEOUT_MS.to_string();
        let timeout_ms = kafka
            .properties
            .get("transaction.timeout.ms")
            .unwrap_or(&timeout_ms);
        client.set("transaction.timeout.ms", timeout_ms);
    }
    if let Some(bytes_max) = options.batch_bytes_max {
        client.set("batch.size", bytes_max.to_string());
    }
    if options.alone {
        client.set("batch.num.messages", "1");
    }
    client
}

/// A client that only asks.
pub fn observer(kafka: &KafkaConfig, servers: &str) -> ClientConfig {
    let only = [CONSUMER_ONLY, PRODUCER_ONLY].concat();
    client(servers, &[], &kafka.properties, &only)
}

/// A producer of generated records: outside transactions, idempotent.
pub fn writer(servers: &str, properties: &Properties) -> ClientConfig {
    let mut client = client(servers, &PRODUCER_DEFAULTS, properties, &CONSUMER_ONLY);
    client.set("enable.idempotence", "true");
    client.set("delivery.report.only.error", "true");
    client
}

/// A consumer outside every group. The client wants the name of a group all the same, and commits nothing to it.
pub fn reader(servers: &str, properties: &Properties) -> ClientConfig {
    let mut client = client(servers, &CONSUMER_DEFAULTS, properties, &PRODUCER_ONLY);
    client
        .set("group.id", "maskwatch-reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false");
    client
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::options::OffsetPolicy;
    use crate::kafka::properties::RawProperty;
    use crate::pipeline::options::OutputTopics;

    fn kafka(pairs: &[(&str, &str)]) -> KafkaConfig {
        let raw: BTreeMap<_, _> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), RawProperty::Text((*value).to_owned())))
            .collect();
        let mut faults = Vec::new();
        let properties = Properties::check(raw, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        KafkaConfig {
            bootstrap_servers: "b:1".into(),
            group_id: "g".into(),
            instance_id: "i".into(),
            input_topics: vec!["in".into()],
            outputs: OutputTopics::default(),
            offset_absent: OffsetPolicy::Earliest,
            offset_lost: OffsetPolicy::Earliest,
            properties,
        }
    }

    const TOGETHER: SendOptions = SendOptions {
        alone: false,
        batch_bytes_max: None,
    };

    #[test]
    fn the_users_properties_win_over_defaults_and_reach_their_client() {
        let kafka = kafka(&[
            ("session.timeout.ms", "6000"),
            ("linger.ms", "50"),
            ("ssl.ca.location", "/ca"),
        ]);
        let consumer = consumer(&kafka, "b:1");
        let producer = producer(&kafka, "b:1", TOGETHER, Some("g.i"));
        assert_eq!(consumer.get("session.timeout.ms"), Some("6000"));
        assert_eq!(producer.get("session.timeout.ms"), None);
        assert_eq!(producer.get("linger.ms"), Some("50"));
        assert_eq!(consumer.get("linger.ms"), None);
        assert_eq!(
            (
                consumer.get("ssl.ca.location"),
                producer.get("ssl.ca.location")
            ),
            (Some("/ca"), Some("/ca"))
        );
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
        assert_eq!(producer.get("transaction.timeout.ms"), Some("15000"));
    }

    #[test]
    fn the_in_process_broker_is_asked_again_soon_and_a_real_one_is_not() {
        let (key, wait) = EMBEDDED_FETCH_WAIT;
        let real = kafka(&[]);
        assert_eq!(consumer(&real, "b:1").get(key), None);
        let embedded = |pairs| KafkaConfig {
            bootstrap_servers: "embedded".into(),
            ..kafka(pairs)
        };
        assert_eq!(consumer(&embedded(&[]), "b:1").get(key), Some(wait));
        let own = embedded(&[(key, "300")]);
        assert_eq!(consumer(&own, "b:1").get(key), Some("300"));
    }

    #[test]
    fn librdkafka_knows_every_property_that_is_set() {
        let kafka = kafka(&[]);
        consumer(&kafka, "b:1").create_native_config().unwrap();
        let alone = SendOptions {
            alone: true,
            batch_bytes_max: Some(20_000),
        };
        let producer = producer(&kafka, "b:1", alone, Some("g.i"));
        assert_eq!(producer.get("batch.num.messages"), Some("1"));
        assert_eq!(producer.get("batch.size"), Some("20000"));
        producer.create_native_config().unwrap();
        observer(&kafka, "b:1").create_native_config().unwrap();
    }
}
