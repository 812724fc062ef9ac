//! The one queue of things to come: every customer's next payment and every planned fraud, taken in
//! time order.
//!
//! Invariant: times never go back, and each customer has exactly one own payment in the queue.
//! Frauds are begun as genuine payments go by, so many that their share of all payments is the
//! configured one in the long run. The days before the start are lived through unseen, so that the
//! first payments look like any others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::RngExt;
use rand_distr::Exp1;

use super::config::GeneratorConfig;
use super::customer::{Customer, Ring};
use super::error::GenerateError;
use super::payment::{EntryMode, Payment};
use super::rhythm::{DAY_MS, RHYTHMS, Rhythm};
use super::scenario::{PLAN_SPAN_MS, Planned, Scenario, plan_compromised, plan_for_victim};
use super::world::{World, cumulative, pick};
use crate::rng::{ChaCha8Rng, Purpose, stream};

/// Days lived through before the first payment shown: at least the span of a fraud, so that frauds
/// are under way.
const WARM_UP_MS: i64 = PLAN_SPAN_MS + DAY_MS;
/// Fraudulent payments that become due before the next fraud is begun, mean: about half a fraud.
const MEAN_OWED: f64 = 4.0;
/// A compromised terminal is one at which at least so many customers paid lately.
const PAYERS_MIN: usize = 3;
/// Payments typed in at one terminal that are remembered.
const TYPED_IN_MAX: usize = 100;
/// Victims or terminals looked at before a fraud is put off until the next payment.
const TRIES_MAX: usize = 16;

/// What happens at an event.
#[derive(Debug)]
enum Action {
    /// The customer of that index pays.
    Pay(u32),
    /// A thief pays.
    Defraud(Box<Planned>),
}

/// Ordered by time, then by the order of planning.
#[derive(Debug)]
struct Event {
    time_ms: i64,
    sequence: u64,
    action: Action,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_ms, self.sequence).cmp(&(other.time_ms, other.sequence))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

/// The endless run of payments.
#[derive(Debug)]
pub(super) struct Simulation {
    rng: ChaCha8Rng,
    world: World,
    rhythms: [Rhythm; RHYTHMS],
    customers: Vec<Customer>,
    /// The last payers at each terminal.
    payers: Vec<Ring<12>>,
    /// When the merchant typed a card in at each terminal, within a day of the last time, oldest first.
    typed_in: Vec<VecDeque<i64>>,
    /// The shops of the last payments; never online merchants.
    busy_shops: Ring<64>,
    /// One own payment a customer, and the frauds under way.
    queue: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    number: u64,
    /// Fraudulent payments that one genuine payment makes due.
    owed_each: f64,
    /// Fraudulent payments due and not planned; negative where more are planned than due.
    owed: f64,
    /// At how many the next fraud begins.
    begin_at: f64,
    scenarios: Vec<f64>,
}

impl Simulation {
    /// Builds the world and lives through the warm-up.
    ///
    /// # Errors
    /// [`GenerateError::OutOfRange`] for a bad configuration.
    pub(super) fn new(config: &GeneratorConfig) -> Result<Self, GenerateError> {
        config.check()?;
        let mut rng = stream(config.seed, Purpose::Generation);
        let world = World::new(&mut rng, config.terminals);
        let start_ms = config.start_unix_s * 1_000;
        let now_ms = start_ms - WARM_UP_MS;
        let customers: Vec<_> = (0..config.customers)
            .map(|_| Customer::settled(&mut rng, &world, now_ms))
            .collect();
        let mut simulation = Self {
            payers: vec![Ring::new(); world.terminals.len()],
            typed_in: vec![VecDeque::new(); world.terminals.len()],
            busy_shops: Ring::new(),
            rhythms: Rhythm::all(),
            queue: BinaryHeap::with_capacity(config.customers + 64),
            sequence: 0,
            number: 0,
            owed_each: config.fraud_share / (1.0 - config.fraud_share),
            owed: 0.0,
            begin_at: 0.0,
            scenarios: cumulative(Scenario::ALL.iter().map(|scenario| scenario.weight())),
            rng,
            world,
            customers,
        };
        for customer in 0..config.customers as u32 {
            simulation.schedule(customer, now_ms, None);
        }
        while simulation
            .queue
            .peek()
            .is_some_and(|Reverse(event)| event.time_ms < start_ms)
        {
            simulation.next_payment();
        }
        simulation.number = 0;
        Ok(simulation)
    }

    /// The next payment; none only if the queue were empty, which customers keep from happening.
    pub(super) fn next_payment(&mut self) -> Option<Payment> {
        let Reverse(Event {
            time_ms, action, ..
        }) = self.queue.pop()?;
        let (customer, draft, scenario) = match action {
            Action::Defraud(planned) => (planned.customer, planned.draft, Some(planned.scenario)),
            Action::Pay(index) => {
                let customer = &mut self.customers[index as usize];
                let draft = customer.pay(&mut self.rng, &self.world, time_ms);
                self.schedule(index, time_ms, Some(&draft));
                (index, draft, None)
            }
        };
        let stamp = (self.number, time_ms);
        let account = &mut self.customers[customer as usize];
        let mut payment = account.observe(&self.world, stamp, customer, draft, scenario);
        payment.terminal_manual_24h = self.typed_in_before(&payment);
        self.number += 1;
        if scenario.is_none() {
            self.after_genuine(&payment);
        }
        Some(payment)
    }

    /// How often the merchant typed a card in during the day before the payment; then the payment counts too.
    fn typed_in_before(&mut self, payment: &Payment) -> i64 {
        let times = &mut self.typed_in[payment.draft.terminal as usize];
        let day_ago = payment.time_ms - DAY_MS;
        while times.front().is_some_and(|&at| at <= day_ago) {
            times.pop_front();
        }
        let before = times.len() as i64;
        if payment.draft.entry_mode == EntryMode::Manual && times.len() < TYPED_IN_MAX {
            times.push_back(payment.time_ms);
        }
        before
    }

    fn schedule(&mut self, index: u32, now_ms: i64, paid: Option<&super::payment::Draft>) {
        let customer = &mut self.customers[index as usize];
        let rhythm = &self.rhythms[usize::from(customer.habits.rhythm)];
        let time_ms = customer.next_payment_ms(&mut self.rng, &self.world, rhythm, now_ms, paid);
        self.push(time_ms, Action::Pay(index));
    }

    fn push(&mut self, time_ms: i64, action: Action) {
        self.sequence += 1;
        self.queue.push(Reverse(Event {
            time_ms,
            sequence: self.sequence,
            action,
        }));
    }

    fn after_genuine(&mut self, payment: &Payment) {
        let terminal = payment.draft.terminal;
        if payment.distance_km.is_some() {
            self.payers[terminal as usize].insert(payment.customer);
            self.busy_shops.insert(terminal);
        }
        self.owed += self.owed_each;
        if self.owed > self.begin_at {
            self.begin_fraud(payment.time_ms);
        }
    }

    /// Plans one fraud. Where no victim is free it stays owed.
    fn begin_fraud(&mut self, now_ms: i64) {
        let scenario = Scenario::ALL[pick(&self.scenarios, &mut self.rng)];
        let plan = match scenario {
            Scenario::CompromisedTerminal => self.compromise(now_ms),
            _ => self.find_victim(now_ms).map_or_else(Vec::new, |index| {
                let victim = &self.customers[index as usize];
                plan_for_victim(
                    &mut self.rng,
                    &self.world,
                    scenario,
                    (index, victim),
                    now_ms,
                )
            }),
        };
        if plan.is_empty() {
            return;
        }
        self.owed -= plan.len() as f64;
        self.begin_at = MEAN_OWED * (self.rng.sample::<f64, _>(Exp1) - 1.0);
        for planned in plan {
            let victim = &mut self.customers[planned.customer as usize];
            victim.victim_until_ms = victim.victim_until_ms.max(planned.time_ms + 1);
            self.push(planned.time_ms, Action::Defraud(Box::new(planned)));
        }
    }

    fn find_victim(&mut self, now_ms: i64) -> Option<u32> {
        (0..TRIES_MAX)
            .map(|_| self.rng.random_range(0..self.customers.len()))
            .find(|&index| self.customers[index].victim_until_ms <= now_ms)
            .map(|index| index as u32)
    }

    /// A busy shop and those who paid there lately and are not victims yet.
    fn compromise(&mut self, now_ms: i64) -> Vec<Planned> {
        let shops: Vec<u32> = self.busy_shops.iter().collect();
        for _ in 0..TRIES_MAX.min(shops.len()) {
            let terminal = shops[self.rng.random_range(0..shops.len())];
            let payers: Vec<(u32, &Customer)> = self.payers[terminal as usize]
                .iter()
                .map(|index| (index, &self.customers[index as usize]))
                .filter(|(_, customer)| customer.victim_until_ms <= now_ms)
                .collect();
            if payers.len() >= PAYERS_MIN {
                return plan_compromised(&mut self.rng, &self.world, terminal, &payers, now_ms);
            }
        }
        Vec::new()
    }

    /// The places, for naming them in records.
    pub(super) fn world(&self) -> &World {
        &self.world
    }
}
