//! What the benchmarks on Kafka share: a broker, a daemon on it, processor time, and arguments.
//!
//! The broker and the handling of children are those of the integration tests. The invariant: every wait has an end, and
//! no process outlives the benchmark.

#![allow(
    dead_code,
    reason = "each benchmark is a program of its own and uses a part of this"
)]

#[path = "../../tests/integration/support/mod.rs"]
pub mod support;

/// The daemon's consumer and producer, without a daemon.
pub mod ends;

use std::path::Path;
use std::time::{Duration, Instant};

use maskwatch_testing::daemon::{Daemon, http_get, metric};
use maskwatch_testing::free_ports;
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::TopicSpec;
use support::start_daemon;

/// No wait of a benchmark is longer.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Partitions of input and output.
pub const PARTITIONS: i32 = 4;

/// The shipped model, the same with fast scoring, and one as small as useful, for measuring
/// what surrounds it. Its cost does not depend on its weights, so that a few steps of training do.
const MODELS: [(&str, &str); 3] = [
    ("default", ""),
    ("fast", "[views]\nscoring = \"fast\"\n"),
    (
        "small",
        "[model]\nwidth = 32\nblocks = 1\nhistogram_bins = 32\n[views]\nratios = [0.5]\nrounds = 1\n",
    ),
];

/// The value of `--name VALUE` on the command line, else `default`.
pub fn argument(name: &str, default: &str) -> String {
    let mut arguments = std::env::args();
    arguments
        .by_ref()
        .find(|argument| argument == name)
        .and_then(|_| arguments.next())
        .unwrap_or_else(|| default.to_owned())
}

/// The training configuration of the model that `--model` asks for.
pub fn model_config() -> String {
    let name = argument("--model", "default");
    let known = MODELS.iter().find(|(known, _)| *known == name);
    let Some((_, config)) = known else {
        panic!("--model {name}: it is default, fast or small");
    };
    format!("{config}[training]\nsteps = 60\n")
}

/// Ticks a second in which Linux counts processor time for user space, on every machine that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds that a process has used so far, user and system, its ended threads too; in steps of 10 ms.
pub fn processor_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in brackets, which may hold anything; user and system time are the 14th and 15th.
    let (_, rest) = text.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    (ticks(14) + ticks(15)) as f64 / TICKS_PER_SECOND
}

/// The most memory that a process has held, in MiB.
pub fn peak_memory_mib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// Topics and group of one run.
pub struct Topics {
    /// The cluster.
    pub broker: &'static Broker,
    /// Filled by the benchmark.
    pub input: String,
    /// Filled by what is measured.
    pub scores: String,
    /// Of what is measured.
    pub group: String,
}

impl Topics {
    /// New ones, empty.
    pub fn new() -> Self {
        let broker = Broker::shared();
        let input = broker.unique_name("bench-in");
        broker.create_topics(&[TopicSpec::new(&input, PARTITIONS)]);
        Self::on_input(input)
    }

    /// A new output and group on an input that is there.
    pub fn on_input(input: String) -> Self {
        let broker = Broker::shared();
        let [scores, group] = ["bench-scores", "bench-group"].map(|stem| broker.unique_name(stem));
        broker.create_topics(&[TopicSpec::new(&scores, PARTITIONS)]);
        Self {
            broker,
            input,
            scores,
            group,
        }
    }

    /// Processor seconds of the broker so far; none where it is not ours.
    pub fn broker_seconds(&self) -> f64 {
        self.broker.pid().map_or(0.0, processor_seconds)
    }

    /// Starts the daemon of this build on the model in `bundle` with what `more` configures besides, and waits until it is
    /// ready.
    pub fn serve(&self, bundle: &Path, folder: &Path, more: &str) -> Serving {
        let [port] = free_ports();
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{}\"\ninstance_id = \"bench\"\n\
             input_topics = [\"{}\"]\nscores_topic = \"{}\"\n[model]\ndir = {bundle:?}\n\
             [alerts]\nbudget = 0.01\n[http]\nlisten = \"127.0.0.1:{port}\"\n{more}",
            self.broker.bootstrap_servers(),
            self.group,
            self.input,
            self.scores,
        );
        let path = folder.join("maskwatch.toml");
        std::fs::write(&path, text).unwrap();
        let begin = Instant::now();
        let config = path.to_str().unwrap();
        let mut daemon = start_daemon(&["serve", "--config", config], &[]);
        let address = format!("http://127.0.0.1:{port}");
        daemon.wait_for_http(&format!("{address}/readyz"), PATIENCE);
        Serving {
            daemon,
            address,
            ready_after: begin.elapsed(),
        }
    }
}

/// A daemon that is ready.
pub struct Serving {
    /// The child.
    pub daemon: Daemon,
    /// Of its HTTP endpoints.
    pub address: String,
    /// From its start to the first answer of 200 at `/readyz`.
    pub ready_after: Duration,
}

impl Serving {
    /// The value of a series of `/metrics`; 0 where it is not there yet.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = http_get(&format!("{}/metrics", self.address)).unwrap();
        metric(&text, series).unwrap_or(0.0)
    }

    /// Drains it.
    pub fn stop(mut self) {
        self.daemon.terminate();
        assert!(
            self.daemon.wait(PATIENCE).success(),
            "{}",
            self.daemon.log()
        );
    }
}
