//! What goes wrong in a run, and when: a function of the seed and of nothing else.
//!
//! A seed and the number of a round flow in, the steps of the round flow out. Invariant: every round
//! has every kind of fault at least once, so that a short run lacks none.

use maskwatch_testing::kafka_cluster::BROKERS;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The longest time between the fault of an instance and that of a broker.
const DELAY_MS_MAX: u64 = 1_500;

/// What happens to an instance of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceFault {
    /// SIGKILL; another process with its name follows at once.
    Kill,
    /// SIGSTOP for longer than the group waits for a member, then SIGCONT.
    Freeze,
    /// A second process with the same name.
    Twin,
    /// Further instances come, and some of them leave: rebalances, one after the other.
    Storm,
}

/// What happens to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFault {
    /// SIGKILL, and a restart after the cluster has given it up.
    Kill,
    /// SIGTERM: it hands over what it leads; and a restart.
    Stop,
    /// SIGSTOP for longer than the cluster waits for a broker, then SIGCONT.
    Freeze,
}

/// Which broker it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The one with this number.
    Broker(i32),
    /// Whoever coordinates the consumer group at that moment.
    GroupCoordinator,
    /// Whoever coordinates the transactions of the step's instance at that moment.
    TransactionCoordinator,
}

/// One step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// While records flow.
    Busy {
        /// What happens to an instance.
        instance: InstanceFault,
        /// Which of the instances that are there from the beginning, counted from 0.
        of: usize,
        /// What happens to a broker in the same time, if anything.
        broker: Option<(BrokerFault, Target)>,
        /// How long after the fault of the instance.
        delay_ms: u64,
    },
    /// No record flows; the broker that coordinates the group is stopped; then records come.
    Idle,
}

/// The steps of round `round` of a run with `instances` instances.
pub fn round(seed: u64, round: u64, instances: usize) -> Vec<Step> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(round);
    let mut of_instances = [
        InstanceFault::Kill,
        InstanceFault::Freeze,
        InstanceFault::Twin,
        InstanceFault::Storm,
    ];
    let mut of_brokers = [
        Some(BrokerFault::Kill),
        Some(BrokerFault::Stop),
        Some(BrokerFault::Freeze),
        None,
    ];
    of_instances.shuffle(&mut rng);
    of_brokers.shuffle(&mut rng);
    let mut steps: Vec<Step> = of_instances
        .into_iter()
        .zip(of_brokers)
        .map(|(instance, broker)| Step::Busy {
            instance,
            of: rng.random_range(0..instances),
            broker: broker.map(|fault| (fault, target(&mut rng))),
            delay_ms: rng.random_range(0..=DELAY_MS_MAX),
        })
        .collect();
    steps.insert(rng.random_range(0..=steps.len()), Step::Idle);
    steps
}

fn target(rng: &mut impl Rng) -> Target {
    let broker = BROKERS.choose(rng).copied().unwrap_or(BROKERS[0]);
    match rng.random_range(0..3) {
        0 => Target::Broker(broker),
        1 => Target::GroupCoordinator,
        _ => Target::TransactionCoordinator,
    }
}

#[test]
fn a_plan_is_a_function_of_its_seed_and_every_round_has_every_fault() {
    assert_eq!(round(7, 3, 2), round(7, 3, 2));
    assert_ne!(round(7, 3, 2), round(8, 3, 2));
    assert_ne!(round(7, 3, 2), round(7, 4, 2));
    for seed in 0..20 {
        let steps = format!("{:?}", round(seed, seed, 2));
        for fault in [
            "instance: Kill",
            "instance: Freeze",
            "instance: Twin",
            "instance: Storm",
            "Some((Kill",
            "Some((Stop",
            "Some((Freeze",
            "Idle",
        ] {
            assert!(steps.contains(fault), "seed {seed} lacks {fault}: {steps}");
        }
    }
}
