//! The promises about the end of a session and of the stream, against the in-process twin: nothing behind a gap is ever
//! committed, a drain uses the time that it has, and exit code 0 says that nothing in hand was left undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::{Accident, Cluster, Shared as Memory, Written};
use crate::stream::{Amount, QUICK, cluster, config, origins, pipeline, record, stream, stream_of};
use maskwatch::config::StreamConfig;
use maskwatch::delivery::fault::{DeliveryFault, StreamError};
use maskwatch::delivery::refusal::Objection;
use maskwatch::telemetry::Metrics;

/// Rows of a batch here: several portions.
const ROWS: usize = 200;

/// Batches of [`ROWS`] records under `sections`, closed when they are full.
fn large_batches(sections: &str) -> StreamConfig {
    let mut config = config(sections);
    config.batch.rows_max = ROWS;
    config.batch.deadline = Duration::from_millis(200);
    config
}

/// Runs the stream with a scorer that is slower than reading, so that batches wait: those in flight, and a full one.
fn stream_slowly(memory: &Memory, config: &StreamConfig) -> Result<(), StreamError> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let scorer = Arc::new(Amount::slow(Duration::from_millis(30)));
    let pipeline = pipeline(scorer, config, &metrics);
    stream_of(&pipeline, memory, config, &metrics)
}

/// Every record below the committed offset has one output in one of `topics`, and no other record has any.
fn assert_one_each(memory: &Memory, topics: &[&str]) {
    let cluster = memory.lock();
    let next = cluster.committed.values().next().map_or(0, |next| next.0);
    let of = |topic: &&str| origins(&cluster.outputs, topic);
    let mut fates: Vec<i64> = topics
        .iter()
        .flat_map(of)
        .map(|(_, offset)| offset)
        .collect();
    fates.sort_unstable();
    let lost: Vec<_> = (0..next).filter(|offset| !fates.contains(offset)).collect();
    assert!(lost.is_empty(), "lost below {next}: {lost:?}");
    assert!(fates.into_iter().eq(0..next), "doubled, or beyond {next}");
}

fn assert_no_gap(memory: &Memory) {
    assert_one_each(memory, &["scores", "dead"]);
}

fn is_fifth_score(output: &Written) -> bool {
    output.topic == "scores" && origins(std::slice::from_ref(output), "scores")[0].1 % 5 == 0
}

fn is_alert(output: &Written) -> bool {
    output.topic == "alerts"
}

/// Records of which two in the first batch are alerts, the later one at offset 70: in the middle of the batch.
fn two_alerts(records: usize) -> Vec<Option<Vec<u8>>> {
    let amount = |offset| match offset {
        10 | 70 => 5_000.0,
        _ => 2.0,
    };
    (0..records)
        .map(|offset| record(0, offset, amount(offset)))
        .collect()
}

fn is_alone_beyond(cluster: &Cluster, offset: i64) -> bool {
    let is_alone = cluster.sessions.last().is_some_and(|of| of.alone);
    is_alone && cluster.committed.values().any(|next| next.0 >= offset)
}

#[test]
fn what_a_session_leaves_for_want_of_time_is_done_before_what_lies_behind_it() {
    // A fifth of this is the time for a batch: over after its first portion.
    let poll = "[kafka.properties]\n\"max.poll.interval.ms\" = 1\n";
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_fifth_score)),
        ..cluster(1, 9 * ROWS)
    });
    stream_slowly(&memory, &large_batches(&format!("{poll}{QUICK}"))).unwrap();
    assert!(memory.lock().is_done());
    assert_no_gap(&memory);
    assert_eq!(origins(&memory.lock().outputs, "dead").len(), 9 * ROWS / 5);
}

#[test]
fn a_drain_of_a_session_that_was_to_be_replaced_goes_on_where_that_stopped() {
    let memory = Memory::new(Cluster {
        input: vec![two_alerts(9 * ROWS)],
        refuses: Some((Objection::Policy, is_alert)),
        // What is in hand is committed then, and refused.
        at_poll: BTreeMap::from([(500, Accident::Revoke)]),
        // The last suspect is committed, and the rest of its batch is not.
        stop_when: Some(|cluster| is_alone_beyond(cluster, 128)),
        ..cluster(0, 0)
    });
    let config = large_batches("[delivery]\ntransaction_interval_ms = 7000");
    let ended = stream_slowly(&memory, &config);
    assert_one_each(&memory, &["scores"]);
    ended.unwrap();
    let next = memory.lock().committed.values().next().unwrap().0;
    assert!(next >= 2 * ROWS as i64, "what was read is done: {next}");
    assert_eq!(origins(&memory.lock().outputs, "dead"), [(0, 10), (0, 70)]);
}

#[test]
fn a_drain_finds_and_replaces_what_is_refused_in_the_time_that_it_has() {
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_fifth_score)),
        stop_when: Some(|cluster| is_alone_beyond(cluster, 1)),
        ..cluster(1, 9 * ROWS)
    });
    stream_slowly(&memory, &large_batches(QUICK)).unwrap();
    assert_no_gap(&memory);
    let next = memory.lock().committed.values().next().unwrap().0;
    assert!(next >= ROWS as i64, "{next}");
}

fn assert_left_work(ended: Result<(), StreamError>) -> String {
    let error = ended.unwrap_err();
    let StreamError::Fatal(fault) = &error else {
        panic!("{error:?}");
    };
    let is_drain = matches!(
        fault,
        DeliveryFault::DrainFailed { .. } | DeliveryFault::DrainTimedOut { .. }
    );
    assert!(is_drain, "{fault:?}");
    maskwatch::telemetry::logging::chain(&error)
}

#[test]
fn a_drain_that_a_fault_ends_with_work_in_hand_does_not_end_as_one_that_was_done() {
    for accident in [
        Accident::Abort,
        Accident::Unknown { applied: false },
        Accident::Fence,
    ] {
        let memory = Memory::new(Cluster {
            at_commit: BTreeMap::from([(1, accident)]),
            stop_when: Some(|cluster| cluster.commits >= 1),
            ..cluster(1, 2_000)
        });
        let said = assert_left_work(stream(&memory, &config(QUICK)).0);
        assert!(said.contains("the drain failed"), "{said}");
        assert!(said.contains("commit"), "{said}");
        assert_no_gap(&memory);
    }
}

#[test]
fn a_refusal_that_only_another_session_could_settle_ends_a_drain_as_one_with_work_left() {
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_fifth_score)),
        stop_when: Some(|cluster| cluster.commits >= 1),
        ..cluster(1, 100)
    });
    assert_left_work(stream(&memory, &config(QUICK)).0);
    assert!(memory.lock().outputs.is_empty());
    memory.lock().stop_when = None;
    stream(&memory, &config(QUICK)).0.unwrap();
    assert!(memory.lock().is_done());
    assert_no_gap(&memory);
}

#[test]
fn a_drain_whose_time_is_over_amid_refusals_says_so() {
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_fifth_score)),
        stop_when: Some(|cluster| is_alone_beyond(cluster, 1)),
        // The second round of a portion is late.
        commit_takes: Duration::from_millis(100),
        ..cluster(1, ROWS)
    });
    let config = large_batches("[delivery]\ntransaction_interval_ms = 2\ndrain_timeout_ms = 150");
    let said = assert_left_work(stream_slowly(&memory, &config));
    assert!(said.contains("took longer than 150 ms"), "{said}");
    assert_no_gap(&memory);
}
