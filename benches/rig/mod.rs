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

use std::path::Path;
use std::time::Duration;

use support::daemon::Daemon;
use support::free_ports;
use support::kafka_broker::Broker;
use support::kafka_topics::TopicSpec;

/// No wait of a benchmark is longer.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Partitions of input and output.
pub const PARTITIONS: i32 = 4;

/// A model as small as useful, for measuring what surrounds it.
pub const SMALL_MODEL: &str = "[model]\nwidth = 32\nblocks = 1\nhistogram_bins = 32\n\
                               [views]\nratios = [0.5]\nrounds = 1\n[training]\nsteps = 60\n";

/// The shipped model.
pub const DEFAULT_MODEL: &str = "[training]\nsteps = 60\n";

/// The value of `--name VALUE` on the command line, else `default`.
pub fn argument(name: &str, default: &str) -> String {
    let mut arguments = std::env::args();
    arguments
        .by_ref()
        .find(|argument| argument == name)
        .and_then(|_| arguments.next())
        .unwrap_or_else(|| default.to_owned())
}

/// The model that `--model small` or `--model default` asks for.
pub fn model_config() -> &'static str {
    match argument("--model", "default").as_str() {
        "default" => DEFAULT_MODEL,
        "small" => SMALL_MODEL,
        other => panic!("--model {other}: it is default or small"),
    }
}

/// Processor seconds that the live threads of a process have used so far, user and system, to the nanosecond.
pub fn processor_seconds(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = |task: std::fs::DirEntry| -> Option<u64> {
        // A thread may end between the listing and the reading.
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let total: u64 = tasks.flatten().filter_map(nanoseconds).sum();
    total as f64 * 1e-9
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

    /// Records of the input whose offsets the group has committed.
    pub fn committed(&self) -> i64 {
        let offsets = self.broker.committed_offsets(&self.group, &self.input);
        offsets.values().sum()
    }

    /// Starts the daemon of this build on the model in `bundle` with what `more` configures besides, and waits until it is
    /// ready; also returns how long that took.
    pub fn serve(&self, bundle: &Path, folder: &Path, more: &str) -> (Daemon, Duration) {
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
        let begin = std::time::Instant::now();
        let config = path.to_str().unwrap();
        let mut daemon = Daemon::start(&["serve", "--config", config], &[]);
        daemon.wait_for_http(&format!("http://127.0.0.1:{port}/readyz"), PATIENCE);
        (daemon, begin.elapsed())
    }
}
