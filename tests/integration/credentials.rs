//! Who is not let in says so, in the cluster's words, and ends: wrong credentials, certificates and protocols are told from a
//! cluster that is away.
//!
//! The daemon's own stream against the listeners of a real cluster. A right client works; each wrong one ends with the fault
//! of its first session, exactly once and at least once alike.

use std::path::Path;
use std::time::{Duration, Instant};

use maskwatch::delivery::fault::StreamError;

use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_cluster::{Cluster, Listener, SCRAM_PASSWORD, SCRAM_USER};
use maskwatch_testing::kafka_topics::TopicSpec;
use maskwatch_testing::poll_until;

/// A user is promised 30 s; a machine with other work takes longer to start and to wait.
const LIMIT: Duration = Duration::from_secs(60);

const PATIENCE: Duration = Duration::from_secs(120);

/// Client properties as lines of TOML.
fn lines(pairs: &[(&str, &str)]) -> String {
    let line = |(key, value): &(&str, &str)| format!("\"{key}\" = {value:?}\n");
    pairs.iter().map(line).collect()
}

/// Comes in with a password.
fn scram(password: &str) -> String {
    lines(&[
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", SCRAM_USER),
        ("sasl.password", password),
    ])
}

/// Comes in without a certificate, and believes this authority.
fn tls(authority: &Path) -> String {
    let authority = authority.display().to_string();
    lines(&[
        ("security.protocol", "SSL"),
        ("ssl.ca.location", &authority),
    ])
}

/// Topics of a cluster, for clients of any kind.
struct Topics {
    broker: &'static Broker,
    input: String,
    scores: String,
}

impl Topics {
    fn new(broker: &'static Broker) -> Self {
        let [input, scores] =
            ["in", "scores"].map(|part| broker.unique_name(&format!("credentials-{part}")));
        broker.create_topics(&[TopicSpec::new(&input, 1), TopicSpec::new(&scores, 1)]);
        Self {
            broker,
            input,
            scores,
        }
    }

    fn start(&self, servers: &str, mode: &str, properties: &str) -> StreamInstance {
        let group = self.broker.unique_name("credentials-group");
        StreamInstance::start(&format!(
            "[kafka]\nbootstrap_servers = \"{servers}\"\ngroup_id = \"{group}\"\ninstance_id = \"a\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\n[delivery]\nmode = \"{mode}\"\n\
             [kafka.properties]\n{properties}",
            self.input, self.scores,
        ))
    }
}

#[test]
fn wrong_credentials_certificates_and_protocols_end_the_stream_with_the_clusters_words() {
    let cluster = Cluster::exclusively();
    let topics = Topics::new(cluster.clients());
    let servers = |listener| cluster.bootstrap_servers(listener);
    let (password, certificate) = (Listener::ScramPlain, Listener::MutualTls);

    let right = topics.start(&servers(password), "exactly_once", &scram(SCRAM_PASSWORD));
    let assigned = poll_until(PATIENCE, || (right.partitions() == 1).then_some(()));
    assert!(assigned.is_some(), "the right password is let in");
    right.stop().unwrap();

    let known = cluster.certificates().authority_file();
    let stranger = cluster.certificates().stranger_authority_file();
    let wrong = [
        ("password", password, scram("wrong"), "uthentication"),
        ("authority", certificate, tls(&stranger), "certificate"),
        ("no certificate", certificate, tls(&known), "certificate"),
        ("plain", certificate, String::new(), "security.protocol"),
    ];
    for (what, listener, properties, words) in wrong {
        let modes = ["exactly_once", "at_least_once"];
        let begin = Instant::now();
        // Both at once, as each only waits.
        let instances =
            modes.map(|mode| (mode, topics.start(&servers(listener), mode, &properties)));
        for (mode, mut instance) in instances {
            let ended = poll_until(PATIENCE, || (!instance.is_running()).then_some(()));
            assert!(ended.is_some(), "{what}, {mode}: still running");
            let took = begin.elapsed();
            eprintln!("{what}, {mode}: ended after {took:?}");
            assert!(took < LIMIT, "{what}, {mode}: {took:?}");
            let StreamError::Fatal(fault) = instance.join().unwrap_err() else {
                panic!("{what}, {mode}: not fatal");
            };
            let text = fault.to_string();
            assert!(text.contains(words), "{what}, {mode}: {text}");
        }
    }
}
