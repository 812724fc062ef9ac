//! The daemons of a run, and whoever starts them again.
//!
//! In: names, and the step of the plan. Out: processes, the causes of their ends, and which of them the
//! plan does not explain. Invariant: a name has one process, but for the moments of a twin; a process
//! that ends by itself is followed by another, as under any service manager.

use super::arena::{Arena, PATIENCE, Setup, url};
use super::ends::Cause;
use super::plan::Step;
use maskwatch_testing::daemon::Daemon;
use maskwatch_testing::poll_until;
use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

/// Batches and transactions so small that a fault hits the middle of some.
const SECTIONS: &str = "[batch]\nrows_max = 64\n[delivery]\ntransaction_interval_ms = 300\n";

/// Daemons by name.
#[derive(Default)]
pub struct Fleet {
    members: Vec<(String, Daemon)>,
    /// What is going on, as planned.
    step: Option<Step>,
    /// How often a daemon ended by itself, and was started again, by cause.
    pub ends: BTreeMap<Cause, usize>,
    /// How often a daemon that has left was fenced, and how many of them were planned twins.
    pub fencings: (usize, usize),
    /// Rebalances, twins, ends: what should not have been, in words.
    pub findings: Vec<String>,
}

impl Fleet {
    fn setup() -> Setup {
        Setup {
            sections: SECTIONS,
            ..Setup::default()
        }
    }

    /// From now on ends are explained by this step or not at all.
    pub fn expect(&mut self, step: Step) {
        self.step = Some(step);
    }

    /// Starts a daemon, and waits until it is ready: it has its model and its share of the partitions.
    pub fn join(&mut self, arena: &Arena, name: &str) {
        let mut daemon = arena.start(name, &Self::setup());
        let ready = url(&mut daemon, "/readyz");
        daemon.wait_for_http(&ready, PATIENCE);
        self.members.push((name.to_owned(), daemon));
    }

    /// Starts a daemon, and does not wait.
    pub fn launch(&mut self, arena: &Arena, name: &str) {
        let daemon = arena.start(name, &Self::setup());
        self.members.push((name.to_owned(), daemon));
    }

    fn member(&mut self, name: &str) -> &mut Daemon {
        let member = self.members.iter_mut().find(|(of, _)| of == name);
        &mut member.expect("a member of the fleet").1
    }

    /// SIGKILL; another one of that name follows at once.
    pub fn kill_and_follow(&mut self, arena: &Arena, name: &str) {
        let follower = arena.start(name, &Self::setup());
        let mut killed = std::mem::replace(self.member(name), follower);
        killed.kill();
        self.fencings.0 += fencings(&killed);
    }

    /// SIGSTOP or SIGCONT (`signal` without `SIG`); nothing where the process has just ended by itself.
    pub fn signal(&mut self, name: &str, signal: &str) {
        let daemon = self.member(name);
        if daemon.is_running() {
            daemon.signal(signal);
        }
    }

    /// Starts a twin, and waits until one of the two has ended; it has to say that it was fenced.
    pub fn double(&mut self, arena: &Arena, name: &str) {
        let mut newer = arena.start(name, &Self::setup());
        let older = self.member(name);
        let newer_ended = poll_until(PATIENCE, || {
            if !older.is_running() {
                return Some(false);
            }
            (!newer.is_running()).then_some(true)
        });
        let Some(newer_ended) = newer_ended else {
            let text = format!("{name}: two of that name run after {PATIENCE:?}");
            self.findings.push(text);
            return;
        };
        if !newer_ended {
            std::mem::swap(older, &mut newer);
        }
        let status = newer.wait(PATIENCE);
        let (cause, said) = end_of(status, &newer);
        self.fencings.0 += fencings(&newer);
        self.fencings.1 += 1;
        if cause != Cause::Fenced {
            self.findings
                .push(format!("{name}: a twin ended with {status}: {said}"));
        }
    }

    /// SIGTERM or SIGKILL, and waits for the end; no other follows.
    pub fn leave(&mut self, name: &str, gracefully: bool) {
        let Some(at) = self.members.iter().position(|(of, _)| of == name) else {
            return;
        };
        let (name, mut daemon) = self.members.remove(at);
        match gracefully && daemon.is_running() {
            true => self.findings.extend(drained(&name, &mut daemon)),
            false => daemon.kill(),
        }
        self.fencings.0 += fencings(&daemon);
    }

    /// Starts again whoever has ended by itself.
    pub fn tend(&mut self, arena: &Arena) {
        for (name, daemon) in &mut self.members {
            if daemon.is_running() {
                continue;
            }
            let status = daemon.wait(Duration::ZERO);
            let (cause, said) = end_of(status, daemon);
            eprintln!("chaos: {name} ended with {status} and is started again: {said}");
            let is_explained = self
                .step
                .as_ref()
                .is_some_and(|step| cause.is_explained_by(step));
            if !is_explained {
                self.findings.push(format!(
                    "{name} ended with {status} ({cause}), which {:?} does not explain: {said}",
                    self.step
                ));
            }
            *self.ends.entry(cause).or_default() += 1;
            self.fencings.0 += fencings(daemon);
            *daemon = arena.start(name, &Self::setup());
        }
    }

    /// Has everybody drain and leave; after a finding they just end.
    pub fn disband(&mut self) {
        let is_well = self.findings.is_empty();
        for (name, daemon) in &mut self.members {
            if is_well && daemon.is_running() {
                self.findings.extend(drained(name, daemon));
            }
            self.fencings.0 += fencings(daemon);
        }
        self.members.clear();
    }

    /// The logs, each to its last `lines` lines.
    pub fn logs(&self, lines: usize) -> String {
        let logs = self.members.iter().map(|(name, daemon)| {
            let log = daemon.log();
            let all: Vec<&str> = log.lines().collect();
            let last = &all[all.len().saturating_sub(lines)..];
            format!("--- {name}\n{}\n", last.join("\n"))
        });
        logs.collect()
    }
}

/// Asks for a drain; what is wrong about it.
fn drained(name: &str, daemon: &mut Daemon) -> Option<String> {
    daemon.terminate();
    let ended = poll_until(PATIENCE, || (!daemon.is_running()).then_some(()));
    if ended.is_none() {
        return Some(format!("{name} does not end after SIGTERM"));
    }
    let status = daemon.wait(Duration::ZERO);
    let (cause, said) = end_of(status, daemon);
    (!cause.may_end_a_drain()).then(|| format!("{name} ended with {status} after SIGTERM: {said}"))
}

/// How often a daemon has looked for a twin.
fn fencings(daemon: &Daemon) -> usize {
    daemon.log().matches("fenced: this instance stops").count()
}

/// Why a daemon has ended, and its last words.
fn end_of(status: ExitStatus, daemon: &Daemon) -> (Cause, String) {
    let log = daemon.log();
    let said = log.lines().last().unwrap_or_default().to_owned();
    (Cause::of(status.code(), &said), said)
}
