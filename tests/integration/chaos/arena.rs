//! Topics, group and configurations of one test on three brokers, and daemons that run on them.
//!
//! In: what is to be special about topics, clients and sections. Out: running daemons, and what lies
//! in the topics. Invariant: whoever has an arena has the cluster.

use crate::serve::material::{BUDGET, model};
use crate::support::start_daemon;
use maskwatch_testing::daemon::Daemon;
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_cluster::{Cluster, ExclusiveCluster, Listener};
use maskwatch_testing::kafka_topics::{GroupCommits, Isolation, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Partitions of input and scores.
pub const PARTITIONS: i32 = 6;

/// How long the group waits for a member that is silent.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// No step of a test takes longer, unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Between two looks at what is committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Topics, group and files of one test.
pub struct Arena {
    pub cluster: ExclusiveCluster,
    pub clients: &'static Broker,
    pub input: String,
    pub scores: String,
    pub alerts: String,
    pub dead: String,
    pub group: String,
    /// Holds the configuration files.
    folder: TempDir,
}

/// How the daemon's clients come in, and what else is special about a configuration.
pub struct Setup {
    pub listener: Listener,
    /// Of `[kafka.properties]`.
    pub properties: Vec<(&'static str, String)>,
    /// Further sections, as TOML.
    pub sections: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listener: Listener::Plain,
            properties: Vec::new(),
            sections: "",
        }
    }
}

impl Arena {
    /// Names, and the topics that every test needs: input and alerts.
    pub fn bare(stem: &str) -> Self {
        let cluster = Cluster::exclusively();
        let clients = cluster.clients();
        let name = |part: &str| clients.unique_name(&format!("{stem}-{part}"));
        let [input, scores, alerts, dead, group] =
            ["in", "scores", "alerts", "dead", "group"].map(name);
        clients.create_topics(&[
            TopicSpec::new(&input, PARTITIONS),
            TopicSpec::new(&alerts, 1),
        ]);
        Self {
            cluster,
            clients,
            input,
            scores,
            alerts,
            dead,
            group,
            folder: TempDir::new().unwrap(),
        }
    }

    /// All topics, none of them special.
    pub fn new(stem: &str) -> Self {
        let arena = Self::bare(stem);
        arena.create_scores();
        arena.create_dead_letters();
        arena
    }

    /// Creates the scores topic as it should be.
    pub fn create_scores(&self) {
        let spec = TopicSpec::new(&self.scores, PARTITIONS);
        self.clients.create_topics(&[spec]);
    }

    /// Creates the dead-letter topic as it should be.
    pub fn create_dead_letters(&self) {
        self.clients.create_topics(&[TopicSpec::new(&self.dead, 1)]);
    }

    /// Starts a daemon named `instance`, or a second one of that name.
    pub fn start(&self, instance: &str, setup: &Setup) -> Daemon {
        let config = self.configure(instance, setup);
        start_daemon(
            &["serve".as_ref(), "--config".as_ref(), config.as_os_str()],
            &[],
        )
    }

    fn configure(&self, instance: &str, setup: &Setup) -> PathBuf {
        let properties: String = setup
            .properties
            .iter()
            .map(|(key, value)| format!("{key:?} = {value:?}\n"))
            .collect();
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{servers}\"\ngroup_id = \"{group}\"\n\
             instance_id = \"{instance}\"\ninput_topics = [\"{input}\"]\n\
             scores_topic = \"{scores}\"\nalerts_topic = \"{alerts}\"\n\
             dead_letter_topic = \"{dead}\"\n[kafka.properties]\n\
             \"session.timeout.ms\" = {session}\n\"heartbeat.interval.ms\" = 500\n\
             \"security.protocol\" = \"{protocol}\"\n{properties}\
             [model]\ndir = {bundle:?}\n[alerts]\nbudget = {BUDGET}\n\
             [http]\nlisten = \"127.0.0.1:0\"\n{sections}",
            servers = self.cluster.bootstrap_servers(setup.listener),
            group = self.group,
            input = self.input,
            scores = self.scores,
            alerts = self.alerts,
            dead = self.dead,
            session = SESSION_TIMEOUT.as_millis(),
            protocol = setup.listener.protocol(),
            bundle = model().bundle,
            sections = setup.sections,
        );
        let path = self.folder.path().join(format!("{instance}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The transactional id of an instance, as the daemon makes it.
    pub fn transactional_id(&self, instance: &str) -> String {
        format!("{}.{instance}", self.group)
    }

    /// Something to ask how many input records the group has committed.
    pub fn watch(&self) -> GroupCommits {
        self.clients.watch_commits(&self.group, &self.input)
    }

    /// Waits until `daemon` has committed `count` records, and no more.
    #[track_caller]
    pub fn wait_for(&self, daemon: &mut Daemon, count: usize) {
        let commits = self.watch();
        let reached = poll_until(PATIENCE, || {
            std::thread::sleep(LOOK_INTERVAL);
            let committed = committed(&commits).unwrap_or(0);
            (committed >= count || !daemon.is_running()).then_some(committed)
        });
        assert_eq!(
            reached,
            Some(count),
            "committed; the log:\n{}",
            daemon.log()
        );
    }

    /// The committed records of a topic.
    pub fn read(&self, topic: &str) -> Vec<OutputRecord> {
        self.clients
            .read_to_end(topic, Isolation::ReadCommitted, PATIENCE)
    }
}

/// How many records a group has committed in a topic whose offsets begin at 0; nothing while its
/// coordinator does not answer.
pub fn committed(commits: &GroupCommits) -> Option<usize> {
    let offsets = commits.try_offsets()?;
    Some(offsets.values().sum::<i64>() as usize)
}

/// The URL of a path of a daemon; waits until it listens.
#[track_caller]
pub fn url(daemon: &mut Daemon, path: &str) -> String {
    daemon.wait_for_log("\"listening\"", PATIENCE);
    let log = daemon.log();
    let address = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "listening")
        .and_then(|line| Some(line["address"].as_str()?.to_owned()));
    format!("http://{}{path}", address.expect("an address in the log"))
}
