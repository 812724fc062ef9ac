//! One single-node Apache Kafka broker (KRaft), started from the jars that `tests/setup.sh` fetched.
//!
//! In: `tests/kafka/target/jars`, a Java runtime, or `MASKWATCH_TEST_BROKERS`, which names a running
//! cluster that is then used as it is. Out: a bootstrap address. The broker listens on free loopback
//! ports, keeps its data in a temporary folder, and serves every test of this process.
//! Invariant: it ends with this process, and its folder goes with it, even when the process is
//! killed (see [`leash`](crate::leash)). Tests must keep apart by topic, group and transactional id.

use crate::leash::Leash;
use crate::wait::{free_ports, poll_until, tail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Names a running cluster (`host:port,...`) to test against; no broker is started then.
const BROKERS_VARIABLE: &str = "MASKWATCH_TEST_BROKERS";

/// An idle 2-core machine needs 4 s; a loaded one has needed three times that.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// A port that was free may be taken before the broker binds it; more than once is no accident.
const START_ATTEMPTS: usize = 3;

/// Replaces [`JAVA_OPTIONS`], for benchmarks beside a broker that is set up as in production.
const JAVA_OPTIONS_VARIABLE: &str = "MASKWATCH_TEST_JAVA_OPTIONS";

/// Small heap, the compiler and collector that start fastest: a test broker lives for minutes.
const JAVA_OPTIONS: &str = "-Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// Any 16 bytes in URL-safe Base64 will do: this cluster never meets another.
pub(super) const CLUSTER_ID: &str = "bWFza3dhdGNoLXRlc3RzIQ";

static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();

/// A cluster that tests talk to.
#[derive(Debug)]
pub struct Broker {
    bootstrap_servers: String,
    /// Copies of each partition of a topic that a test creates.
    replication: i32,
    /// `None` where the cluster is somebody else's.
    process: Option<BrokerProcess>,
}

/// A running broker of ours. Its owner is a `static`, so the leash is what ends it.
#[derive(Debug)]
struct BrokerProcess {
    child: Child,
    _leash: Leash,
}

impl Broker {
    /// The broker of this test run, started by the first caller and ready when this returns.
    ///
    /// # Panics
    /// When no broker can be had, with the reason and the end of its log, in every test alike: a
    /// test that needs Kafka is never skipped.
    #[track_caller]
    pub fn shared() -> &'static Self {
        match SHARED.get_or_init(Self::start) {
            Ok(broker) => broker,
            Err(reason) => panic!("no Kafka broker to test against: {reason}"),
        }
    }

    /// A cluster that somebody else starts and ends; its topics get `replication` copies.
    pub(super) fn elsewhere(bootstrap_servers: String, replication: i32) -> Self {
        Self {
            bootstrap_servers,
            replication,
            process: None,
        }
    }

    /// Copies of each partition of a topic that a test creates.
    pub(super) fn replication(&self) -> i32 {
        self.replication
    }

    /// `host:port`, or a list of them.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The broker's process, where it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// A name for a topic, group or transactional id that no other test, and no earlier run against
    /// the same cluster, has used.
    pub fn unique_name(&self, stem: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let started_at = chrono::Utc::now().format("%m%d%H%M%S");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{stem}-{started_at}-{}-{count}", std::process::id())
    }

    /// A client configuration that points here and gives up on a lost broker within the tests' time.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_servers());
        config.set("socket.timeout.ms", "20000");
        config
    }

    fn start() -> Result<Self, String> {
        if let Some(servers) = std::env::var(BROKERS_VARIABLE)
            .ok()
            .filter(|s| !s.is_empty())
        {
            let cluster = Self::elsewhere(servers, 1);
            return match poll_until(START_PATIENCE, || cluster.answers().then_some(())) {
                Some(()) => Ok(cluster),
                None => Err(format!(
                    "{BROKERS_VARIABLE}={} is mute",
                    cluster.bootstrap_servers
                )),
            };
        }
        let mut reason = String::new();
        for _ in 0..START_ATTEMPTS {
            match Self::start_own() {
                Ok(broker) => return Ok(broker),
                Err(failure) if failure.contains("Address already in use") => reason = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(reason)
    }

    /// Formats a storage folder, starts a broker on it, and waits until it answers.
    fn start_own() -> Result<Self, String> {
        let options = java_options();
        let folder = TempDir::with_prefix("maskwatch-kafka-").map_err(|e| e.to_string())?;
        let [client_port, controller_port] = free_ports();
        let settings = folder.path().join("server.properties");
        fs::write(
            &settings,
            server_properties(folder.path(), client_port, controller_port),
        )
        .map_err(|e| format!("{}: {e}", settings.display()))?;
        let log = folder.path().join("broker.log");

        let formatted = java(&options, "kafka.tools.StorageTool", &log)?
            .args(["format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(&settings)
            .status()
            .map_err(cannot_start_java)?;
        if !formatted.success() {
            return Err(format!(
                "formatting the storage: {formatted}\n{}",
                log_tail(&log)
            ));
        }
        let child = java(&options, "kafka.Kafka", &log)?
            .arg(&settings)
            .spawn()
            .map_err(cannot_start_java)?;
        // From here on the leash removes the folder: the broker still writes when this process ends.
        let leash = Leash::on(child.id(), Some(&folder.keep()));
        let broker = Self::elsewhere(format!("127.0.0.1:{client_port}"), 1);
        let child = broker.wait_until_ready(child, &log)?;
        Ok(Self {
            process: Some(BrokerProcess {
                child,
                _leash: leash,
            }),
            ..broker
        })
    }

    fn wait_until_ready(&self, mut child: Child, log: &Path) -> Result<Child, String> {
        let outcome = poll_until(START_PATIENCE, || match child.try_wait() {
            Ok(None) => self.answers().then_some(Ok(())),
            Ok(Some(status)) => Some(Err(format!("the broker ended: {status}"))),
            Err(error) => Some(Err(error.to_string())),
        });
        let failure = match outcome {
            Some(Ok(())) => return Ok(child),
            Some(Err(failure)) => failure,
            None => format!("no answer within {} s", START_PATIENCE.as_secs()),
        };
        let _ = child.kill();
        let _ = child.wait();
        let failure = format!("{failure}\n{}", log_tail(log));
        // The leash is let go before it acts, so the folder of a failed start goes here.
        if let Some(folder) = log.parent() {
            let _ = fs::remove_dir_all(folder);
        }
        Err(failure)
    }

    /// Whether the cluster names at least one broker that clients may talk to.
    fn answers(&self) -> bool {
        let client: Result<BaseConsumer, _> = self.client_config().create();
        client
            .and_then(|client| client.fetch_metadata(None, Duration::from_secs(2)))
            .is_ok_and(|metadata| !metadata.brokers().is_empty())
    }
}

fn java_options() -> String {
    std::env::var(JAVA_OPTIONS_VARIABLE).unwrap_or_else(|_| JAVA_OPTIONS.to_owned())
}

/// A command that runs one of Kafka's main classes with the runtime's `options`, its output appended to `log`.
pub(super) fn java(options: &str, class: &str, log: &Path) -> Result<Command, String> {
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/kafka");
    if !rig.join("target/jars").is_dir() {
        return Err("tests/kafka/target/jars is missing: run tests/setup.sh test".to_owned());
    }
    let output = File::options().create(true).append(true).open(log);
    let output = output.map_err(|e| format!("{}: {e}", log.display()))?;
    let errors = output.try_clone().map_err(|e| e.to_string())?;
    let java_home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let program = java_home
        .filter(|java| java.exists())
        .unwrap_or_else(|| "java".into());
    let mut command = Command::new(program);
    command
        .args(options.split_whitespace())
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            rig.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(rig.join("target/jars/*"))
        .arg(class)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    Ok(command)
}

pub(super) fn cannot_start_java(error: std::io::Error) -> String {
    format!("cannot start java: {error} (tests/setup.sh test installs it)")
}

pub(super) fn log_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    format!("the last lines of its log:\n{}", tail(&text, 30))
}

/// The settings of a cluster of one: internal topics without copies, and nothing to wait for.
///
/// `message.max.bytes` keeps Kafka's default of 1 MiB; a test raises it for its own topic (see
/// [`TopicSpec`](crate::kafka_topics::TopicSpec)), so that other topics keep their limit.
fn server_properties(folder: &Path, client_port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{client_port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{client_port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         # A topic that no test created is a test's mistake.\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         # Nobody else will join, and tests of lost members should not wait 6 s for each.\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         # A killed producer's transaction is ended within a second of its time-out, not ten.\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n",
        data = folder.join("data").display(),
    )
}
