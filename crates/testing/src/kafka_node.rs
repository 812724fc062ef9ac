//! One broker of a cluster, as a process: formatted once, then started, stopped, killed, frozen.
//!
//! In: where it lies and what it listens on. Out: whether it runs. Invariants: it keeps its ports and
//! its data over every restart, and does not outlive the test process (see [`leash`](crate::leash)).

use crate::kafka_broker::{Broker, CLUSTER_ID, cannot_start_java, java, log_tail};
use crate::leash::Leash;
use crate::signals;
use crate::wait::poll_until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

/// Three start at once, on a machine that may be loaded.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A broker hands its partitions over before it leaves, and waits for a controller that may be electing.
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// Small, as three of them stand beside everything else.
const JAVA_OPTIONS: &str = "-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// A broker of a cluster.
#[derive(Debug)]
pub(super) struct Node {
    /// Kafka's own number of it.
    pub id: i32,
    /// Where clients reach it in plain text.
    pub address: String,
    folder: PathBuf,
    /// None while it is stopped or killed.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    frozen: bool,
    _leash: Leash,
}

impl Node {
    /// A broker that is not started; writes its settings to `folder`, which exists.
    pub fn new(id: i32, address: String, folder: PathBuf, settings: &str) -> Result<Self, String> {
        let node = Self {
            id,
            address,
            folder,
            running: None,
        };
        let path = node.settings();
        fs::write(&path, settings).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(node)
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// Begins to format its storage; `users` are further arguments, as `--add-scram ...`.
    pub fn format(&self, users: &[String]) -> Result<Child, String> {
        java(JAVA_OPTIONS, "kafka.tools.StorageTool", &self.log())?
            .args(["format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(self.settings())
            .args(users)
            .spawn()
            .map_err(cannot_start_java)
    }

    /// The end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        format!("broker {}: {}", self.id, log_tail(&self.log()))
    }

    /// Starts the process, and returns at once; nothing where it runs.
    pub fn spawn(&mut self) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        let child = java(JAVA_OPTIONS, "kafka.Kafka", &self.log())?
            .arg(self.settings())
            .spawn()
            .map_err(cannot_start_java)?;
        let leash = Leash::on(child.id(), None);
        self.running = Some(Running {
            child,
            frozen: false,
            _leash: leash,
        });
        Ok(())
    }

    /// Waits until it answers for itself and is known to the cluster.
    pub fn wait_until_serving(&mut self) -> Result<(), String> {
        let alone = Broker::elsewhere(self.address.clone(), 1);
        let id = self.id;
        let served = poll_until(START_PATIENCE, || {
            let ended = match &mut self.running {
                Some(running) => running.child.try_wait().ok().flatten(),
                None => return Some(Err("was not started".to_owned())),
            };
            if let Some(status) = ended {
                return Some(Err(format!("ended: {status}")));
            }
            let client: BaseConsumer = alone.client_config().create().ok()?;
            let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
            let known = metadata.brokers().iter().any(|broker| broker.id() == id);
            known.then_some(Ok(()))
        });
        match served {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(format!("{why}\n{}", self.log_tail())),
            None => Err(format!(
                "does not serve after {} s\n{}",
                START_PATIENCE.as_secs(),
                self.log_tail()
            )),
        }
    }

    /// Whether its process is there and not frozen.
    pub fn is_serving(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.frozen)
    }

    /// Its process id, where it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// SIGTERM, and waits for the end: it hands over what it leads first.
    pub fn stop(&mut self) -> Result<(), String> {
        self.thaw()?;
        self.signal("TERM")?;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = poll_until(STOP_PATIENCE, || running.child.try_wait().ok().flatten());
        match ended {
            Some(_) => {
                self.running = None;
                Ok(())
            }
            None => Err(format!(
                "does not stop within {} s\n{}",
                STOP_PATIENCE.as_secs(),
                self.log_tail()
            )),
        }
    }

    /// SIGKILL; nothing where it does not run.
    pub fn kill(&mut self) -> Result<(), String> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.child.kill().map_err(|e| e.to_string())?;
        running.child.wait().map_err(|e| e.to_string())?;
        Ok(())
    }

    /// SIGSTOP: its connections stay open, and nothing answers.
    pub fn freeze(&mut self) -> Result<(), String> {
        self.signal("STOP")?;
        if let Some(running) = &mut self.running {
            running.frozen = true;
        }
        Ok(())
    }

    /// SIGCONT; nothing where it is not frozen.
    pub fn thaw(&mut self) -> Result<(), String> {
        if !self.running.as_ref().is_some_and(|running| running.frozen) {
            return Ok(());
        }
        self.signal("CONT")?;
        if let Some(running) = &mut self.running {
            running.frozen = false;
        }
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<(), String> {
        let pid = self.pid().ok_or("does not run")?;
        signals::send(name, pid)
    }
}
