//! The cluster itself: that brokers go and come as they are told, that coordinators are told and move,
//! and that listeners let in whom they should and nobody else.
//!
//! What the daemon does about it is the matter of the other files; here librdkafka's own clients show
//! that the faults are real ones.

use maskwatch_testing::certificates::CLIENT_NAME;
use maskwatch_testing::kafka_cluster::{
    BROKERS, Cluster, ExclusiveCluster, Listener, SCRAM_PASSWORD, SCRAM_USER,
};
use maskwatch_testing::kafka_topics::{InputRecord, Isolation};
use maskwatch_testing::kafka_wire::Resource;
use maskwatch_testing::poll_until;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

/// One of several tries of a client that gets in at last.
const TRY: Duration = Duration::from_secs(10);

/// How long a client that is not let in goes on trying.
const REFUSED_WAIT: Duration = Duration::from_secs(4);

#[test]
fn a_stopped_coordinator_of_a_group_is_followed_by_another_that_knows_its_offsets() {
    let mut cluster = Cluster::exclusively();
    let clients = cluster.clients();
    let (topic, group) = (clients.new_topic("moved", 1), clients.unique_name("group"));
    let consumer: BaseConsumer = clients
        .client_config()
        .set("group.id", &group)
        .create()
        .unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 0, Offset::Offset(5))
        .unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    let first = cluster.group_coordinator(&group);
    assert!(BROKERS.contains(&first));

    cluster.stop(first);
    assert_eq!(cluster.pid(first), None);
    let second = poll_until(PATIENCE, || {
        let now = cluster.group_coordinator(&group);
        (now != first).then_some(now)
    });
    assert!(second.is_some(), "broker {first} still coordinates");
    assert_eq!(
        clients.committed_offsets(&group, &topic),
        BTreeMap::from([(0, 5)])
    );

    cluster.restart(first);
    cluster.wait_until_whole();
    assert!(cluster.pid(first).is_some());
}

#[test]
fn a_killed_coordinator_of_a_transaction_does_not_lose_it() {
    let mut cluster = Cluster::exclusively();
    let clients = cluster.clients();
    let topic = clients.new_topic("killed", 3);
    let id = clients.unique_name("transactions");
    let mut config = clients.producer_config();
    let producer: BaseProducer = config.set("transactional.id", &id).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for partition in 0..3 {
        let record = BaseRecord::<(), str>::to(&topic).partition(partition);
        producer
            .send(record.payload("x"))
            .map_err(|(e, _)| e)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();

    let coordinator = cluster.transaction_coordinator(&id);
    cluster.kill(coordinator);
    // A commit that timed out is asked for again: that is what the protocol allows.
    let committed = poll_until(PATIENCE, || producer.commit_transaction(TRY).ok());
    assert!(committed.is_some(), "the transaction was not committed");

    let read = clients.read_at_least(&topic, Isolation::ReadCommitted, 3, PATIENCE);
    assert_eq!(read.len(), 3);
}

#[test]
fn a_frozen_broker_keeps_its_connections_and_answers_nothing_until_it_is_thawed() {
    let mut cluster = Cluster::exclusively();
    let frozen = BROKERS[1];
    let alone = cluster.clients().client_config();
    let address = cluster.bootstrap_servers(Listener::Plain);
    let address = address.split(',').nth(1).unwrap().to_owned();
    let answers = || {
        let mut config: ClientConfig = alone.clone();
        config.set("bootstrap.servers", &address);
        let client: BaseConsumer = config.create().unwrap();
        client.fetch_metadata(None, Duration::from_secs(3)).is_ok()
    };

    cluster.freeze(frozen);
    assert!(std::net::TcpStream::connect(&address).is_ok());
    assert!(!answers());
    cluster.thaw(frozen);
    assert_eq!(poll_until(PATIENCE, || answers().then_some(())), Some(()));
}

/// What a client that comes in with these properties is told when it asks for the cluster's topics.
fn metadata(
    cluster: &ExclusiveCluster,
    listener: Listener,
    properties: &[(&str, String)],
    patience: Duration,
) -> Result<usize, KafkaError> {
    let client: BaseConsumer = client_config(cluster, listener, properties).create()?;
    let metadata = client.fetch_metadata(None, patience)?;
    Ok(metadata.brokers().len())
}

fn client_config(
    cluster: &ExclusiveCluster,
    listener: Listener,
    properties: &[(&str, String)],
) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers(listener))
        .set("security.protocol", listener.protocol())
        // What is refused here is refused as it should be.
        .set("log_level", "2");
    for (key, value) in properties {
        config.set(*key, value);
    }
    config
}

fn scram(mechanism: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("sasl.mechanism", mechanism.to_owned()),
        ("sasl.username", SCRAM_USER.to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

fn authority(file: PathBuf) -> (&'static str, String) {
    ("ssl.ca.location", file.display().to_string())
}

fn client_files(files: [PathBuf; 2]) -> [(&'static str, String); 2] {
    let [certificate, key] = files.map(|file| file.display().to_string());
    [
        ("ssl.certificate.location", certificate),
        ("ssl.key.location", key),
    ]
}

#[test]
fn scram_lets_in_who_knows_the_password_and_nobody_else() {
    let cluster = Cluster::exclusively();
    let trusted = authority(cluster.certificates().authority_file());
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for listener in [Listener::ScramPlain, Listener::ScramTls] {
            let mut properties = scram(mechanism, SCRAM_PASSWORD);
            properties.push(trusted.clone());
            let known = metadata(&cluster, listener, &properties, PATIENCE);
            assert_eq!(known, Ok(BROKERS.len()), "{mechanism} {listener:?}");
        }
    }
    let wrong = scram("SCRAM-SHA-256", "a wrong password");
    let refused = metadata(&cluster, Listener::ScramPlain, &wrong, REFUSED_WAIT);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn only_certificates_of_the_cluster_s_authority_are_believed_on_either_side() {
    let cluster = Cluster::exclusively();
    let certificates = cluster.certificates();
    let trusted = authority(certificates.authority_file());
    let ask = |properties: &[(&str, String)], patience| {
        metadata(&cluster, Listener::MutualTls, properties, patience)
    };
    let own = client_files(certificates.client_files());
    let mut properties = own.to_vec();
    properties.push(trusted.clone());
    assert_eq!(ask(&properties, PATIENCE), Ok(BROKERS.len()));

    let nobody = ask(std::slice::from_ref(&trusted), REFUSED_WAIT);
    assert!(nobody.is_err(), "no client certificate: {nobody:?}");
    let mut properties = client_files(certificates.stranger_files()).to_vec();
    properties.push(trusted);
    let stranger = ask(&properties, REFUSED_WAIT);
    assert!(stranger.is_err(), "a stranger's certificate: {stranger:?}");
    let mut properties = own.to_vec();
    properties.push(authority(certificates.stranger_authority_file()));
    let mistaken = ask(&properties, REFUSED_WAIT);
    assert!(mistaken.is_err(), "another authority: {mistaken:?}");
}

/// Keeps what became of the last record.
#[derive(Default)]
struct LastDelivery(Mutex<Option<Result<(), RDKafkaErrorCode>>>);

impl ClientContext for LastDelivery {}

impl ProducerContext for LastDelivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap()),
        };
        *self.0.lock().unwrap() = Some(result);
    }
}

/// The configuration of a client with a certificate.
fn certified(cluster: &ExclusiveCluster) -> ClientConfig {
    let certificates = cluster.certificates();
    let mut properties = client_files(certificates.client_files()).to_vec();
    properties.push(authority(certificates.authority_file()));
    client_config(cluster, Listener::MutualTls, &properties)
}

/// What a producer with a certificate is told when it writes to a topic.
fn write(cluster: &ExclusiveCluster, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let producer: BaseProducer<LastDelivery> = certified(cluster)
        .create_with_context(LastDelivery::default())
        .unwrap();
    let record = BaseRecord::<(), str>::to(topic).payload("x");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    let last = producer.context().0.lock().unwrap().take();
    last.expect("a delivery report")
}

/// What a transactional producer with a certificate is told at its start.
fn begin(cluster: &ExclusiveCluster, id: &str) -> Result<(), RDKafkaErrorCode> {
    let mut config = certified(cluster);
    let producer: BaseProducer = config.set("transactional.id", id).create().unwrap();
    let begun = producer.init_transactions(PATIENCE);
    begun.map_err(|error| error.rdkafka_error_code().unwrap())
}

#[test]
fn what_is_denied_to_one_principal_is_open_to_others() {
    let cluster = Cluster::exclusively();
    let clients = cluster.clients();
    let name = |stem| clients.unique_name(stem);
    let (denied, open) = (clients.new_topic("denied", 1), clients.new_topic("open", 1));
    let id = name("denied-transactions");
    let principal = format!("User:CN={CLIENT_NAME}");
    cluster.deny_writing(&principal, (Resource::Topic, &denied));
    cluster.deny_writing(&principal, (Resource::TransactionalId, &id));

    assert_eq!(write(&cluster, &open), Ok(()));
    assert_eq!(begin(&cluster, &name("transactions")), Ok(()));
    // Brokers learn of a rule within moments.
    let refused =
        |ask: &dyn Fn() -> Result<(), RDKafkaErrorCode>| poll_until(PATIENCE, || ask().err());
    assert_eq!(
        refused(&|| write(&cluster, &denied)),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed)
    );
    assert_eq!(
        refused(&|| begin(&cluster, &id)),
        Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed)
    );
    // Who comes in plain text may do everything.
    clients.produce(&denied, &[InputRecord::of("y")]);
}
