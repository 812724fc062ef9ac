//! What the cluster does not allow: the daemon ends and names it, or goes on with what it may do.
//!
//! A client that comes in with a password, and access rules about its topics and its group, flow in.

use super::material::{Record, Records, model};
use super::setting::{PATIENCE, Served};
use crate::outputs::noise;
use crate::support::start_daemon;
use maskwatch_testing::daemon::{http_get, metric};
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_cluster::{Cluster, Listener, SCRAM_PASSWORD, SCRAM_USER};
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, OutputRecord, TopicSpec};
use maskwatch_testing::kafka_wire::{Access, Resource, Rule};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::time::Instant;
use tempfile::TempDir;

/// Topics and group of one daemon, with a configuration.
struct Place {
    input: String,
    scores: String,
    dead: String,
    group: String,
    folder: TempDir,
}

impl Place {
    fn new(broker: &Broker, stem: &str) -> Self {
        Self::with_specs(broker, stem, |scores| scores, |dead| dead)
    }

    fn with_specs(
        broker: &Broker,
        stem: &str,
        scores: impl Fn(TopicSpec) -> TopicSpec,
        letters: impl Fn(TopicSpec) -> TopicSpec,
    ) -> Self {
        let name = broker.unique_name(stem);
        let [input, output, dead, group] =
            ["in", "scores", "dead", "group"].map(|part| format!("{name}-{part}"));
        let specs = [
            TopicSpec::new(&input, 1),
            scores(TopicSpec::new(&output, 1)),
            letters(TopicSpec::new(&dead, 1)),
        ];
        broker.create_topics(&specs);
        Self {
            input,
            scores: output,
            dead,
            group,
            folder: TempDir::new().unwrap(),
        }
    }

    fn start(&self, servers: &str) -> Served {
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{servers}\"\ngroup_id = \"{}\"\ninstance_id = \"a\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\ndead_letter_topic = \"{}\"\n\
             [kafka.properties]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n\
             \"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = \"{SCRAM_USER}\"\n\
             \"sasl.password\" = \"{SCRAM_PASSWORD}\"\n[model]\ndir = {:?}\n[alerts]\nbudget = 0.05\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            self.group,
            self.input,
            self.scores,
            self.dead,
            model().bundle,
        );
        let path = self.folder.path().join("maskwatch.toml");
        std::fs::write(&path, text).unwrap();
        let arguments = ["serve".as_ref(), "--config".as_ref(), path.as_os_str()];
        Served(start_daemon(&arguments, &[]))
    }
}

fn principal() -> String {
    format!("User:{SCRAM_USER}")
}

#[test]
fn a_topic_or_a_group_that_is_denied_ends_the_daemon_with_one_and_the_clusters_words() {
    let cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let servers = cluster.bootstrap_servers(Listener::ScramPlain);
    let ways = [
        (Resource::Topic, Access::Write, "topic authorization failed"),
        (Resource::Topic, Access::Read, "topic authorization failed"),
        (Resource::Group, Access::Read, "group authorization failed"),
    ];
    let begin = Instant::now();
    // All at once, as each only waits.
    let daemons = ways.map(|(kind, access, words)| {
        let place = Place::new(broker, "denied");
        let denied = match (kind, access) {
            (Resource::Group, _) => &place.group,
            (_, Access::Write) => &place.scores,
            _ => &place.input,
        };
        let resource = (kind, denied.as_str());
        cluster.make_rule(&principal(), resource, (Rule::Deny, access));
        let record = InputRecord::of("{}").partition(0);
        broker.produce(&place.input, &[record]);
        (place.start(&servers), words, place)
    });
    for (mut served, words, place) in daemons {
        let status = served.0.wait(PATIENCE);
        let log = served.0.log();
        eprintln!("{words}: ended {:?} after the first began", begin.elapsed());
        assert_eq!(status.code(), Some(1), "{words}: {log}");
        let said = log.lines().last().unwrap_or_default();
        assert!(said.starts_with("maskwatch: error: "), "{log}");
        assert!(said.to_lowercase().contains(words), "{words}: {said}");
        drop(place);
    }
}

#[test]
fn where_settings_cannot_be_read_each_output_is_tried_and_what_is_refused_is_settled_by_few_sessions()
 {
    const RECORDS: usize = 400;
    const LARGE: usize = 40;
    let cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let compacted = |scores: TopicSpec| scores.with("cleanup.policy", "compact");
    let small = |dead: TopicSpec| dead.with("max.message.bytes", "20000");
    let place = Place::with_specs(broker, "unreadable", compacted, small);
    for topic in [&place.scores, &place.dead] {
        // A rule that lets write closes the topic to everything else, as to reading its settings.
        let resource = (Resource::Topic, topic.as_str());
        cluster.make_rule(&principal(), resource, (Rule::Allow, Access::Write));
    }
    let records = Records::payments(RECORDS);
    let input = |(number, record): (usize, &Record)| {
        let input = InputRecord::of(record.json.clone()).partition(0);
        match number % 2 {
            0 => input,
            _ => input.key(format!("key-{number}")),
        }
    };
    let inputs: Vec<_> = records.records.iter().enumerate().map(input).collect();
    let large = |seed: usize| InputRecord::of(noise(30_000, seed as u64)).partition(0);
    let large: Vec<_> = (0..LARGE).map(large).collect();
    let mut served = place.start(&cluster.bootstrap_servers(Listener::ScramPlain));
    let mut count = 0;
    // The second come while the session after the first refusal is at work.
    for wave in [&inputs, &inputs, &large] {
        broker.produce(&place.input, wave);
        count += wave.len();
        let done = poll_until(PATIENCE, || {
            let committed = broker.committed_offsets(&place.group, &place.input);
            assert!(served.0.is_running(), "{}", served.0.log());
            (committed.get(&0) == Some(&(count as i64))).then_some(())
        });
        assert!(done.is_some(), "{}", served.0.log());
    }
    let (_, metrics) = http_get(&served.url("/metrics")).unwrap();
    let read = |topic: &str| broker.read_to_end(topic, Isolation::ReadCommitted, PATIENCE);
    let offset = |output: &OutputRecord| {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        envelope["offset"].as_u64().unwrap() as usize
    };
    let scored: Vec<usize> = read(&place.scores).iter().map(offset).collect();
    let keyed: Vec<usize> = (0..2 * RECORDS).filter(|n| n % 2 == 1).collect();
    assert_eq!(scored, keyed);
    assert_eq!(read(&place.dead).len(), RECORDS + LARGE);
    let count = |series: &str| metric(&metrics, &format!("maskwatch_{series}")).unwrap();
    let (aborted, sessions) = (
        count("transactions_total{outcome=\"aborted\"}"),
        count("sessions_failed_total{reason=\"refused\"}"),
    );
    eprintln!("{aborted} transactions aborted, {sessions} sessions ended");
    // The first refusal of a kind ends its session; whatever comes after is settled by the next one's clients. On a busy machine
    // another may end, as by a batch that takes too long; a session for every few of the 440 refused would be many more.
    assert!(sessions <= 5.0, "{sessions} sessions ended");
    assert!(aborted >= sessions + 2.0, "{aborted} aborted");
    let refused = "refused_outputs_total{cause=\"no_key\",fate=\"dead_letter\"}";
    assert_eq!(count(refused), RECORDS as f64, "each is counted once");
    served.drain();
}
