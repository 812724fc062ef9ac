//! Three Apache Kafka brokers (KRaft; each is a controller too) for tests that take one away.
//!
//! In: `tests/kafka/target/jars`, a Java runtime, `openssl`. Out: addresses, and hands that stop, kill,
//! freeze and start single brokers. Every topic has three copies and takes writes while two are there.
//! Each broker listens four times: plain text, SCRAM over plain text, SCRAM over TLS, and TLS with
//! client certificates. Who comes in plain text may do everything; for others access rules hold.
//! Invariants: one cluster a test process, started by the first test that asks; one test at a time has
//! it ([`Cluster::exclusively`]), and gets it whole.

use crate::certificates::Certificates;
use crate::kafka_broker::Broker;
use crate::kafka_node::Node;
use crate::kafka_wire::{self, Access, Coordinated, Resource, Rule};
use crate::leash::Leash;
use crate::wait::poll_until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs;
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Kafka's numbers of the brokers.
pub const BROKERS: [i32; 3] = [1, 2, 3];

/// The user that SCRAM lets in, by both mechanisms.
pub const SCRAM_USER: &str = "maskwatch";

/// Its password.
pub const SCRAM_PASSWORD: &str = "a right password";

/// Copies that come back have to catch up; elections take seconds.
const WHOLE_PATIENCE: Duration = Duration::from_secs(120);

/// A port that was free may be taken before a broker binds it; more than once is no accident.
const START_ATTEMPTS: usize = 3;

/// Ports that the system gives to nobody by itself. A client that tries again and again to reach a
/// broker that is down must not end up with that broker's port as its own.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Ports of a broker: its listeners, and its controller.
const PORTS_EACH: usize = 5;

static SHARED: OnceLock<Result<Mutex<Cluster>, String>> = OnceLock::new();

/// How a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// No encryption, no name.
    Plain,
    /// SCRAM, or a token that nobody signed, without encryption.
    ScramPlain,
    /// SCRAM over TLS.
    ScramTls,
    /// TLS with a client certificate.
    MutualTls,
}

impl Listener {
    const ALL: [Self; 4] = [
        Self::Plain,
        Self::ScramPlain,
        Self::ScramTls,
        Self::MutualTls,
    ];

    /// As `security.protocol` calls it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Plain => "PLAINTEXT",
            Self::ScramPlain => "SASL_PLAINTEXT",
            Self::ScramTls => "SASL_SSL",
            Self::MutualTls => "SSL",
        }
    }
}

/// Three brokers, some of which may be away.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// The ports of each broker, in the order of [`Listener::ALL`]; the controller's comes last.
    ports: Vec<[u16; PORTS_EACH]>,
    certificates: Certificates,
    /// Never dropped, as topics of tests refer to it.
    clients: &'static Broker,
    _folder: Leash,
}

/// The cluster, for one test.
#[derive(Debug)]
pub struct ExclusiveCluster(MutexGuard<'static, Cluster>);

impl Deref for ExclusiveCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl DerefMut for ExclusiveCluster {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.0
    }
}

impl Cluster {
    /// The cluster of this test run, whole, and nobody else's until the value is dropped.
    ///
    /// The first caller starts it (some 10 s). Others wait for their turn. A test leaves brokers as it
    /// likes: the next one gets them all.
    ///
    /// # Panics
    /// When there is no cluster to be had, with the end of the brokers' logs.
    #[track_caller]
    pub fn exclusively() -> ExclusiveCluster {
        let shared = match SHARED.get_or_init(|| Self::start().map(Mutex::new)) {
            Ok(shared) => shared,
            Err(reason) => panic!("no cluster to test against: {reason}"),
        };
        // A test that failed has left the lock poisoned, and the brokers as a passing one might.
        let mut cluster = shared.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.heal();
        ExclusiveCluster(cluster)
    }

    /// Creates topics, produces, reads and asks for offsets, all in plain text.
    pub fn clients(&self) -> &'static Broker {
        self.clients
    }

    /// The addresses of all brokers, for clients that come in by `listener`.
    pub fn bootstrap_servers(&self, listener: Listener) -> String {
        addresses(&self.ports, listener)
    }

    /// Certificates that this cluster knows, and some that it does not.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The process of a broker, where it runs.
    pub fn pid(&self, id: i32) -> Option<u32> {
        self.nodes.iter().find(|node| node.id == id)?.pid()
    }

    /// The broker that coordinates a consumer group at the moment.
    #[track_caller]
    pub fn group_coordinator(&self, group: &str) -> i32 {
        self.coordinator(Coordinated::Group, group)
    }

    /// The broker that coordinates the transactions of an id at the moment.
    #[track_caller]
    pub fn transaction_coordinator(&self, transactional_id: &str) -> i32 {
        self.coordinator(Coordinated::TransactionalId, transactional_id)
    }

    #[track_caller]
    fn coordinator(&self, kind: Coordinated, name: &str) -> i32 {
        let mut last = String::new();
        let found = poll_until(WHOLE_PATIENCE, || {
            let address = self.serving_address();
            match kafka_wire::find_coordinator(&address, kind, name) {
                Ok(id) => Some(id),
                Err(why) => {
                    last = why;
                    None
                }
            }
        });
        found.unwrap_or_else(|| panic!("no coordinator: {last}"))
    }

    /// Denies writing to a resource to a principal: `User:name`, or `User:CN=name` for a certificate.
    /// Every broker learns of it within moments of this call. A resource with a rule is closed to
    /// everybody whom no rule lets in, but not to those in plain text.
    #[track_caller]
    pub fn deny_writing(&self, principal: &str, resource: (Resource, &str)) {
        self.make_rule(principal, resource, (Rule::Deny, Access::Write));
    }

    /// Makes a rule about a resource and a principal, as [`deny_writing`](Self::deny_writing).
    #[track_caller]
    pub fn make_rule(&self, principal: &str, resource: (Resource, &str), rule: (Rule, Access)) {
        let address = self.serving_address();
        if let Err(why) = kafka_wire::make_rule(&address, principal, resource, rule) {
            panic!("no rule: {why}");
        }
    }

    fn serving_address(&self) -> String {
        let serving = self.nodes.iter().find(|node| node.is_serving());
        serving.expect("a broker that serves").address.clone()
    }

    /// SIGTERM: the broker hands over what it leads and leaves. Returns once it is gone.
    #[track_caller]
    pub fn stop(&mut self, id: i32) {
        told(id, self.node(id).stop());
    }

    /// SIGKILL. Returns once it is gone.
    #[track_caller]
    pub fn kill(&mut self, id: i32) {
        told(id, self.node(id).kill());
    }

    /// SIGSTOP: connections to it stay open, and nothing answers.
    #[track_caller]
    pub fn freeze(&mut self, id: i32) {
        told(id, self.node(id).freeze());
    }

    /// SIGCONT.
    #[track_caller]
    pub fn thaw(&mut self, id: i32) {
        told(id, self.node(id).thaw());
    }

    /// Starts a broker that was stopped or killed. Returns once it serves; it may still catch up.
    #[track_caller]
    pub fn restart(&mut self, id: i32) {
        let node = self.node(id);
        told(id, node.spawn().and_then(|()| node.wait_until_serving()));
    }

    /// Starts and thaws whatever is away, and waits until every copy of every partition is in sync.
    #[track_caller]
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            told(node.id, node.thaw());
            told(node.id, node.spawn());
        }
        for node in &mut self.nodes {
            told(node.id, node.wait_until_serving());
        }
        self.wait_until_whole();
    }

    /// Waits until every broker is there and every copy of every partition is in sync.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        let mut last = "nothing".to_owned();
        let whole = poll_until(WHOLE_PATIENCE, || match what_lacks(self.clients) {
            None => Some(()),
            Some(lacking) => {
                last = lacking;
                std::thread::sleep(Duration::from_millis(200));
                None
            }
        });
        assert!(whole.is_some(), "the cluster is not whole: {last}");
    }

    #[track_caller]
    fn node(&mut self, id: i32) -> &mut Node {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        node.expect("one of BROKERS")
    }

    fn start() -> Result<Self, String> {
        let mut reason = String::new();
        for _ in 0..START_ATTEMPTS {
            match Self::start_once() {
                Ok(cluster) => return Ok(cluster),
                Err(failure) if failure.contains("Address already in use") => reason = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(reason)
    }

    fn start_once() -> Result<Self, String> {
        let folder = TempDir::with_prefix("maskwatch-cluster-").map_err(|e| e.to_string())?;
        // From here on the leash removes the folder: brokers still write when this process ends.
        let folder = folder.keep();
        let leash = Leash::on_folder(&folder);
        Self::start_in(&folder, leash).inspect_err(|_| {
            // The leash is let go before it acts.
            let _ = fs::remove_dir_all(&folder);
        })
    }

    /// Formats three storages at once, starts three brokers, and waits until all serve.
    fn start_in(folder: &Path, leash: Leash) -> Result<Self, String> {
        let certificates = Certificates::make(folder)?;
        let ports = ports(BROKERS.len())?;
        let mut nodes = Vec::new();
        for (id, own) in BROKERS.into_iter().zip(&ports) {
            let place = folder.join(format!("broker-{id}"));
            fs::create_dir(&place).map_err(|e| e.to_string())?;
            let settings = settings(id, own, &ports, &place, &certificates);
            let address = format!("127.0.0.1:{}", own[0]);
            nodes.push(Node::new(id, address, place, &settings)?);
        }
        let formatting: Result<Vec<_>, _> = nodes
            .iter()
            .map(|node| node.format(&scram_users()))
            .collect();
        for (mut child, node) in formatting?.into_iter().zip(&nodes) {
            let status = child.wait().map_err(|e| e.to_string())?;
            if !status.success() {
                return Err(format!("formatting: {status}\n{}", node.log_tail()));
            }
        }
        for node in &mut nodes {
            node.spawn()?;
        }
        let started: Result<(), String> = nodes.iter_mut().try_for_each(Node::wait_until_serving);
        if let Err(why) = started {
            for node in &mut nodes {
                // The failure is told; what else goes wrong on the way out is not.
                let _ = node.kill();
            }
            return Err(why);
        }
        let clients = Broker::elsewhere(addresses(&ports, Listener::Plain), BROKERS.len() as i32);
        Ok(Self {
            nodes,
            ports,
            certificates,
            clients: Box::leak(Box::new(clients)),
            _folder: leash,
        })
    }
}

#[track_caller]
fn told(id: i32, outcome: Result<(), String>) {
    if let Err(why) = outcome {
        panic!("broker {id}: {why}");
    }
}

fn addresses(ports: &[[u16; PORTS_EACH]], listener: Listener) -> String {
    let addresses: Vec<String> = ports
        .iter()
        .map(|ports| format!("127.0.0.1:{}", ports[listener as usize]))
        .collect();
    addresses.join(",")
}

/// The first broker or partition that is not as it should be, in words.
fn what_lacks(clients: &Broker) -> Option<String> {
    let client: Result<BaseConsumer, _> = clients.client_config().create();
    let metadata = client.and_then(|client| client.fetch_metadata(None, Duration::from_secs(5)));
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    if metadata.brokers().len() < BROKERS.len() {
        return Some(format!("{} brokers", metadata.brokers().len()));
    }
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            if partition.leader() < 0 || partition.isr().len() < partition.replicas().len() {
                return Some(format!(
                    "{}-{} is led by {} and in sync on {:?}",
                    topic.name(),
                    partition.id(),
                    partition.leader(),
                    partition.isr()
                ));
            }
        }
    }
    None
}

fn scram_users() -> Vec<String> {
    ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .into_iter()
        .flat_map(|mechanism| {
            let user = format!("{mechanism}=[name={SCRAM_USER},password={SCRAM_PASSWORD}]");
            ["--add-scram".to_owned(), user]
        })
        .collect()
}

/// Ports for `brokers` brokers, free a moment ago.
///
/// The place to begin differs from process to process, so that two test runs rarely want the same.
fn ports(brokers: usize) -> Result<Vec<[u16; PORTS_EACH]>, String> {
    let span = usize::from(PORTS.end - PORTS.start);
    let begin = std::process::id() as usize * 97 % span;
    let candidates = (0..span).map(|n| PORTS.start + ((begin + n) % span) as u16);
    // Held until all are known, so that nothing of this process takes one in between.
    let held: Vec<(u16, TcpListener)> = candidates
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(brokers * PORTS_EACH)
        .collect();
    let free: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
    let (chunks, _) = free.as_chunks::<PORTS_EACH>();
    match chunks.len() == brokers {
        true => Ok(chunks.to_vec()),
        false => Err(format!("only {} free ports in {PORTS:?}", free.len())),
    }
}

/// The settings of one broker.
fn settings(
    id: i32,
    own: &[u16; PORTS_EACH],
    all: &[[u16; PORTS_EACH]],
    folder: &Path,
    certificates: &Certificates,
) -> String {
    let controller = PORTS_EACH - 1;
    let voters: Vec<String> = BROKERS
        .into_iter()
        .zip(all)
        .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports[controller]))
        .collect();
    let listeners: Vec<String> = Listener::ALL
        .into_iter()
        .zip(own)
        .map(|(listener, port)| format!("{}://127.0.0.1:{port}", listener.protocol()))
        .collect();
    let listeners = listeners.join(",");
    let logins: String = ["sasl_plaintext", "sasl_ssl"]
        .into_iter()
        .flat_map(|listener| ["256", "512"].map(|bits| (listener, bits)))
        .map(|(listener, bits)| {
            format!(
                "listener.name.{listener}.scram-sha-{bits}.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
            )
        })
        .collect();
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{own_controller}\n\
         advertised.listeners={listeners}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,\
         SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
         # Tokens that nobody signed: what Kafka offers for development, and what a test can make.\n\
         listener.name.sasl_plaintext.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
         listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=\
         org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"broker\";\n\
         {logins}\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={store}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={authority}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n\
         allow.everyone.if.no.acl.found=true\n\
         log.dirs={data}\n\
         {CLUSTER_SETTINGS}",
        voters = voters.join(","),
        own_controller = own[controller],
        store = certificates.broker_store().display(),
        authority = certificates.authority_file().display(),
        data = folder.join("data").display(),
    )
}

/// What does not differ between brokers.
const CLUSTER_SETTINGS: &str = "\
    num.network.threads=2\n\
    num.io.threads=4\n\
    # A topic that no test created is a test's mistake.\n\
    auto.create.topics.enable=false\n\
    min.insync.replicas=2\n\
    offsets.topic.replication.factor=3\n\
    offsets.topic.num.partitions=6\n\
    transaction.state.log.replication.factor=3\n\
    transaction.state.log.min.isr=2\n\
    transaction.state.log.num.partitions=6\n\
    # A broker that is killed or frozen is given up after 6 s.\n\
    broker.session.timeout.ms=6000\n\
    broker.heartbeat.interval.ms=1000\n\
    # Tests of lost members should not wait 6 s for each.\n\
    group.initial.rebalance.delay.ms=0\n\
    group.min.session.timeout.ms=1000\n\
    # A killed producer's transaction is ended within a second of its time-out, not ten.\n\
    transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n";
