//! The stream goes on where the broker that coordinates its group goes away.
//!
//! Three brokers, one of which is stopped under an idle stream. Then records come, and each has one score. The client's
//! `send_offsets_to_transaction` may then never return (librdkafka issues 5456 and 5511); what holds the stream against it is
//! a bound outside of the client.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::kafka_cluster::{Cluster, Listener};
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, TopicSpec};
use maskwatch_testing::poll_until;

/// A commit may take as long as a transaction may (15 s), and the next session some seconds to join.
const PATIENCE: Duration = Duration::from_secs(120);

/// Records that come after each stop.
const RECORDS: i64 = 50;

/// The call hangs in about every other round.
const ROUNDS: i64 = 2;

#[test]
fn a_coordinator_that_is_stopped_under_an_idle_group_does_not_stop_the_stream() {
    let mut cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let [input, scores, group] =
        ["in", "scores", "group"].map(|part| broker.unique_name(&format!("coordinator-{part}")));
    broker.create_topics(&[TopicSpec::new(&input, 2), TopicSpec::new(&scores, 1)]);
    let config = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{group}\"\ninstance_id = \"a\"\n\
         input_topics = [\"{input}\"]\nscores_topic = \"{scores}\"\n",
        cluster.bootstrap_servers(Listener::Plain)
    );
    let instance = StreamInstance::start(&config);
    let produce = |from: i64| {
        let records: Vec<_> = (0..2)
            .flat_map(|partition| (from..from + RECORDS).map(move |n| (partition, n)))
            .map(|(partition, n)| {
                let json = format!("{{\"amount\": 2.5, \"id\": \"{partition}/{n}\"}}");
                InputRecord::of(json)
                    .key(format!("{n}"))
                    .partition(partition)
            })
            .collect();
        broker.produce(&input, &records);
    };
    let wait_for = |next: i64| {
        let expected = BTreeMap::from([(0, next), (1, next)]);
        let reached = poll_until(PATIENCE, || {
            let committed = broker.committed_offsets(&group, &input);
            assert!(instance.is_running(), "the stream has ended");
            (committed == expected).then_some(())
        });
        assert!(reached.is_some(), "nothing is committed any more");
    };
    produce(0);
    wait_for(RECORDS);
    for round in 1..=ROUNDS {
        // Idle for long enough that the client takes the broker from its list, as it is told of those that are left.
        let coordinator = cluster.group_coordinator(&group);
        cluster.stop(coordinator);
        std::thread::sleep(Duration::from_secs(4));
        produce(round * RECORDS);
        wait_for((round + 1) * RECORDS);
        if round < ROUNDS {
            cluster.restart(coordinator);
            cluster.wait_until_whole();
        }
    }
    instance.stop().unwrap();

    let mut seen: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    for output in broker.read_to_end(&scores, Isolation::ReadCommitted, PATIENCE) {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        let [partition, offset] =
            ["partition", "offset"].map(|key| envelope[key].as_i64().unwrap());
        *seen.entry((partition, offset)).or_default() += 1;
    }
    let once =
        (0..2).flat_map(|partition| (0..(ROUNDS + 1) * RECORDS).map(move |n| ((partition, n), 1)));
    assert_eq!(seen, once.collect());
}
