//! One run of everything at once: records flow, instances and brokers go away and come back, and at
//! the end every record has come out once, in order, with the library's score.
//!
//! What goes wrong is a function of a seed (`plan`). `make chaos` runs it for longer:
//! `MASKWATCH_CHAOS_SEED` and `MASKWATCH_CHAOS_SECONDS` say how; without them it is one round of
//! seed 0.

use super::arena::{Arena, PATIENCE, SESSION_TIMEOUT, committed};
use super::counts::{Counts, Place, count};
use super::feeder::{Feeder, is_bad, key_of, number_at, place_of};
use super::fleet::Fleet;
use super::plan::{self, BrokerFault, InstanceFault, Step, Target};
use crate::serve::material::{BUDGET, Records, number};
use crate::serve::setting::score_of;
use maskwatch_testing::kafka_topics::{GroupCommits, OutputRecord};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The instances that are there from the beginning.
const INSTANCES: [&str; 2] = ["a", "b"];

/// Those that come and go.
const GUESTS: [&str; 2] = ["c", "d"];

/// Longer than group and cluster wait for somebody who is silent.
const AWAY: Duration = SESSION_TIMEOUT.saturating_add(Duration::from_secs(3));

/// Nothing flows for so long before a coordinator goes away from an idle group.
const IDLE: Duration = Duration::from_secs(2);

/// Different records; they are taken over and over.
const RECORDS: usize = 1_000;

struct Run {
    arena: Arena,
    fleet: Fleet,
    feeder: Feeder,
    commits: GroupCommits,
    records: Records,
    /// How often each kind of fault was caused.
    faults: BTreeMap<String, usize>,
}

#[test]
fn whatever_happens_to_instances_and_brokers_every_record_comes_out_once_in_order_with_its_score() {
    let seed = number("MASKWATCH_CHAOS_SEED").unwrap_or(0) as u64;
    let seconds = number("MASKWATCH_CHAOS_SECONDS").unwrap_or(0) as u64;
    eprintln!("chaos: seed {seed}, for {seconds} s, at least one round");
    let mut run = Run::begin();
    let began = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || began.elapsed() < Duration::from_secs(seconds) {
        for step in plan::round(seed, rounds, INSTANCES.len()) {
            eprintln!(
                "chaos: {} s, round {rounds}: {step:?}",
                began.elapsed().as_secs()
            );
            run.carry_out(step);
            if !run.fleet.findings.is_empty() {
                break;
            }
        }
        rounds += 1;
        if !run.fleet.findings.is_empty() {
            break;
        }
    }
    let (counts, total) = run.end();
    eprintln!(
        "chaos: seed {seed}, {rounds} rounds in {} s, {total} records, {} ends of an instance by itself",
        began.elapsed().as_secs(),
        run.fleet.ends.values().sum::<usize>()
    );
    for (cause, times) in &run.fleet.ends {
        eprintln!("chaos: {times} x ended by itself: {cause}");
    }
    let (fencings, twins) = run.fleet.fencings;
    eprintln!("chaos: {fencings} x fenced, {twins} x by a planned twin");
    for (fault, times) in &run.faults {
        eprintln!("chaos: {times} x {fault}");
    }
    eprintln!("chaos: {counts}");
    assert_eq!(run.fleet.findings, Vec::<String>::new(), "seed {seed}");
    assert_eq!(counts, Counts::default(), "seed {seed}");
}

impl Run {
    fn begin() -> Self {
        let arena = Arena::new("storm");
        let records = Records::payments(RECORDS);
        let feeder = Feeder::new(&arena, &records.records);
        let mut fleet = Fleet::default();
        for name in INSTANCES {
            fleet.join(&arena, name);
        }
        let commits = arena.watch();
        feeder.flow();
        let mut run = Self {
            arena,
            fleet,
            feeder,
            commits,
            records,
            faults: BTreeMap::new(),
        };
        run.catch_up();
        run
    }

    fn carry_out(&mut self, step: Step) {
        self.fleet.expect(step);
        match step {
            Step::Busy {
                instance,
                of,
                broker,
                delay_ms,
            } => self.busy(instance, INSTANCES[of], broker, delay_ms),
            Step::Idle => self.idle(),
        }
        self.arena.cluster.heal();
        self.catch_up();
    }

    /// Both faults, one after the other, for as long as it takes until they are noticed.
    fn busy(
        &mut self,
        instance: InstanceFault,
        name: &str,
        broker: Option<(BrokerFault, Target)>,
        delay_ms: u64,
    ) {
        self.note(format!("{instance:?} of an instance"));
        let until = Instant::now() + AWAY;
        match instance {
            InstanceFault::Kill => self.fleet.kill_and_follow(&self.arena, name),
            InstanceFault::Freeze => self.fleet.signal(name, "STOP"),
            InstanceFault::Storm => self.fleet.launch(&self.arena, GUESTS[0]),
            // After the broker's fault: one of the two has to end, which takes its time.
            InstanceFault::Twin => {}
        }
        std::thread::sleep(Duration::from_millis(delay_ms));
        if let Some((fault, target)) = broker {
            self.note(format!("{fault:?} of a broker"));
            let id = self.resolve(target, name);
            match fault {
                BrokerFault::Kill => self.arena.cluster.kill(id),
                BrokerFault::Stop => self.arena.cluster.stop(id),
                BrokerFault::Freeze => self.arena.cluster.freeze(id),
            }
        }
        match instance {
            InstanceFault::Twin => self.fleet.double(&self.arena, name),
            InstanceFault::Storm => self.storm(),
            InstanceFault::Kill | InstanceFault::Freeze => {}
        }
        self.hold(until);
        if instance == InstanceFault::Freeze {
            self.fleet.signal(name, "CONT");
        }
    }

    /// Guests come and go, one in an orderly way and one not.
    fn storm(&mut self) {
        let pause = Duration::from_millis(1_500);
        self.fleet.launch(&self.arena, GUESTS[1]);
        self.hold(Instant::now() + pause);
        self.fleet.leave(GUESTS[0], true);
        self.fleet.launch(&self.arena, GUESTS[0]);
        self.hold(Instant::now() + pause);
        self.fleet.leave(GUESTS[1], false);
        self.hold(Instant::now() + pause);
        self.fleet.leave(GUESTS[0], true);
    }

    /// The coordinator of a group at rest is stopped; records come while it is away.
    fn idle(&mut self) {
        self.note("Stop of the coordinator of an idle group".to_owned());
        let sent = self.feeder.pause();
        self.catch_up_to(sent);
        std::thread::sleep(IDLE);
        let coordinator = self.arena.cluster.group_coordinator(&self.arena.group);
        self.arena.cluster.stop(coordinator);
        self.feeder.flow();
        self.hold(Instant::now() + AWAY);
        self.catch_up();
    }

    fn note(&mut self, fault: String) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn resolve(&self, target: Target, instance: &str) -> i32 {
        let arena = &self.arena;
        match target {
            Target::Broker(id) => id,
            Target::GroupCoordinator => arena.cluster.group_coordinator(&arena.group),
            Target::TransactionCoordinator => {
                let id = arena.transactional_id(instance);
                arena.cluster.transaction_coordinator(&id)
            }
        }
    }

    /// Lets time pass, and starts again whoever ends meanwhile.
    fn hold(&mut self, until: Instant) {
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            self.fleet.tend(&self.arena);
        }
    }

    /// Waits until everything that has been taken by now is committed, while more may come.
    fn catch_up(&mut self) {
        self.catch_up_to(self.feeder.acknowledged());
    }

    fn catch_up_to(&mut self, goal: usize) {
        let mut last = 0;
        let reached = poll_until(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            self.fleet.tend(&self.arena);
            last = committed(&self.commits).unwrap_or(last);
            (last >= goal).then_some(())
        });
        if reached.is_none() {
            let text = format!("{last} of {goal} records are committed after {PATIENCE:?}");
            eprintln!("chaos: {text}\n{}", self.fleet.logs(30));
            self.fleet.findings.push(text);
        }
    }

    /// Lets everything come to rest, and counts. After a finding nobody is waited for.
    fn end(&mut self) -> (Counts, usize) {
        self.arena.cluster.heal();
        let total = self.feeder.pause();
        if self.fleet.findings.is_empty() {
            self.catch_up_to(total);
        }
        self.fleet.disband();
        (self.counts(total), total)
    }

    fn counts(&self, total: usize) -> Counts {
        let places = |belongs: &dyn Fn(usize) -> bool| -> BTreeSet<Place> {
            let numbers = (0..total).filter(|&number| belongs(number));
            numbers.map(place_of).collect()
        };
        let good = |number: usize| !is_bad(number);
        let alert = |number: usize| good(number) && self.expected(number).1;
        let mut counts = Counts::default();
        for (topic, belongs) in [
            (&self.arena.scores, &good as &dyn Fn(usize) -> bool),
            (&self.arena.alerts, &alert),
        ] {
            let outputs = self.arena.read(topic);
            let found: Vec<_> = outputs.iter().map(|of| self.envelope(of)).collect();
            counts += count(&found, &places(belongs));
        }
        let outputs = self.arena.read(&self.arena.dead);
        let found: Vec<_> = outputs.iter().map(dead_letter).collect();
        counts += count(&found, &places(&is_bad));
        counts
    }

    /// Score of a record by the library, and whether it is an alert.
    fn expected(&self, number: usize) -> (f32, bool) {
        let score = self.records.records[number % RECORDS].anomaly_score;
        (score, self.records.p_value(score) <= BUDGET)
    }

    /// The record that an envelope is of, and whether it says what the library says.
    fn envelope(&self, output: &OutputRecord) -> (Place, bool) {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        let partition = envelope["partition"].as_i64().unwrap() as i32;
        let place = (partition, envelope["offset"].as_i64().unwrap());
        let number = number_at(place);
        let (score, alert) = self.expected(number);
        let is_right = !is_bad(number)
            && score_of(&envelope) == score
            && envelope["alert"] == alert
            && envelope["model_id"] == self.records.detector.model_id()
            && output.key == Some(key_of(partition).into_bytes());
        (place, is_right)
    }
}

/// The record that a dead letter is of, and whether it names the reason.
fn dead_letter(output: &OutputRecord) -> (Place, bool) {
    let header = |name: &str| {
        let value = output.header(&format!("maskwatch-error-{name}"));
        String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
    };
    let place = (
        header("partition").parse().unwrap(),
        header("offset").parse().unwrap(),
    );
    (place, header("reason") == "malformed")
}
