//! The daemons of a run, and whoever starts them again.
//!
//! In: names. Out: processes, and what was odd about their ends. Invariant: a name has one process,
//! but for the moments of a twin; a process that ends by itself is followed by another, as under any
//! service manager.

use super::arena::{Arena, PATIENCE, Setup, url};
use crate::support::daemon::Daemon;
use crate::support::poll_until;
use std::time::Duration;

/// Batches and transactions so small that a fault hits the middle of some.
const SECTIONS: &str = "[batch]\nrows_max = 64\n[delivery]\ntransaction_interval_ms = 300\n";

/// The exit code of a daemon that leaves the decision to whoever restarts it.
const GAVE_UP: i32 = 1;

/// Daemons by name.
#[derive(Default)]
pub struct Fleet {
    members: Vec<(String, Daemon)>,
    /// How often a daemon ended by itself, and was started again.
    pub restarts: usize,
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
        let code = newer.wait(PATIENCE).code();
        let log = newer.log();
        let said = log.lines().last().unwrap_or_default().to_owned();
        if code != Some(GAVE_UP) || !said.contains("fenced") {
            self.findings
                .push(format!("{name}: a twin ended with {code:?}: {said}"));
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
    }

    /// Starts again whoever has ended by itself.
    pub fn tend(&mut self, arena: &Arena) {
        for (name, daemon) in &mut self.members {
            if daemon.is_running() {
                continue;
            }
            let code = daemon.wait(Duration::ZERO).code();
            let log = daemon.log();
            let said = log.lines().last().unwrap_or_default();
            eprintln!("chaos: {name} ended with {code:?} and is started again: {said}");
            if code != Some(GAVE_UP) {
                self.findings
                    .push(format!("{name} ended with {code:?}: {said}"));
            }
            self.restarts += 1;
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
    let code = daemon.wait(Duration::ZERO).code();
    let log = daemon.log();
    let said = log.lines().last().unwrap_or_default();
    // A drain that a fault interrupts may end without a commit; it may not end in any other way.
    (code != Some(0) && code != Some(GAVE_UP))
        .then(|| format!("{name} ended with {code:?} after SIGTERM: {said}"))
}
