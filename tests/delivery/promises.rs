//! The promises of delivery: nothing lost, nothing doubled, order kept, one bad record alone, whatever goes wrong and
//! whenever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maskwatch::delivery::calls::BoundedCalls;
use maskwatch::delivery::fault::StreamError;
use maskwatch::delivery::shutdown::Shutdown;
use maskwatch::delivery::watchdog::{self, Limits, Verdict, Watched};
use maskwatch::delivery::{self, SESSIONS_MAX, Shared};
use maskwatch::pipeline::ScoreOutcome;
use maskwatch::pipeline::dead_letter::{DETAIL, OFFSET, REASON, TRUNCATED};
use maskwatch::pipeline::scoring::{self, SCORING_THREADS};
use maskwatch::pipeline::types::{Offset, Partition, TopicPartition};
use maskwatch::records::FaultReason;
use maskwatch::telemetry::heartbeat::Operation;
use maskwatch::telemetry::{Metrics, Readiness};
use proptest::prelude::*;
use serde_json::Value;

use crate::memory::{Accident, Cluster, Shared as Memory};
use crate::stream::{
    FORGETFUL, QUICK, accidents, assert_exactly_once, by_amount, calls, cluster, config, origins,
    record, stream,
};

#[test]
fn every_record_comes_out_once_in_order_and_a_drain_is_clean() {
    let memory = Memory::new(cluster(3, 200));
    let (ended, metrics) = stream(&memory, &config(QUICK));
    ended.unwrap();
    assert_exactly_once(&memory, "scores");
    assert_eq!(origins(&memory.lock().outputs, "dead"), []);
    assert!(metrics.contains("maskwatch_records_total{outcome=\"scored\",source=\"kafka\"} 600"));
    assert!(
        metrics.contains("maskwatch_end_to_end_seconds_count 600"),
        "{metrics}"
    );
    assert!(metrics.contains("maskwatch_consumer_lag_records{partition=\"0\",topic=\"in\"}"));
}

#[test]
fn records_do_not_wait_for_others_while_nothing_is_being_scored() {
    // Neither full nor due within the test's patience.
    let mut config = config(QUICK);
    config.batch.rows_max = 1_000;
    config.batch.deadline = Duration::from_secs(60);
    let memory = Memory::new(cluster(2, 3));
    let (ended, _) = stream(&memory, &config);
    ended.unwrap();
    assert_exactly_once(&memory, "scores");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_whatever_goes_wrong(
        (commits, polls) in accidents(12, 400),
    ) {
        let cluster = Cluster { at_commit: commits, at_poll: polls, ..cluster(3, 60) };
        let memory = Memory::new(cluster);
        let (ended, _) = stream(&memory, &config(QUICK));
        ended.unwrap();
        assert_exactly_once(&memory, "scores");
    }
}

#[test]
fn an_aborted_transaction_is_done_again_from_the_committed_offsets() {
    let at_commit = BTreeMap::from([
        (0, Accident::Abort),
        (1, Accident::Unknown { applied: false }),
    ]);
    let memory = Memory::new(Cluster {
        at_commit,
        ..cluster(1, 50)
    });
    let (ended, metrics) = stream(&memory, &config(QUICK));
    ended.unwrap();
    assert_exactly_once(&memory, "scores");
    assert_eq!(memory.lock().sessions.len(), 3);
    assert!(
        metrics.contains("maskwatch_transactions_total{outcome=\"aborted\"} 2"),
        "{metrics}"
    );
}

#[test]
fn a_group_that_begins_at_the_end_commits_that_place_before_any_record_comes() {
    let memory = Memory::new(Cluster {
        begins_at_end: true,
        ..cluster(2, 10)
    });
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert!(cluster.is_done(), "{:?}", cluster.committed);
    assert!(cluster.outputs.is_empty());
}

#[test]
fn a_revocation_commits_what_is_in_hand_before_the_partitions_are_given_back() {
    // A transaction interval longer than the test: without the commit at the revocation nothing would be there.
    let config = config("[delivery]\ntransaction_interval_ms = 7000");
    let at_poll = BTreeMap::from([(60, Accident::Revoke)]);
    let memory = Memory::new(Cluster {
        at_poll,
        ..cluster(1, 50)
    });
    let watched = memory.clone();
    let watch = std::thread::spawn(move || {
        let begin = Instant::now();
        while watched.lock().committed.is_empty() && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let cluster = watched.lock();
        let next = cluster.committed.values().next().unwrap().0;
        (next, cluster.outputs.len() as i64)
    });
    let (ended, _) = stream(&memory, &config);
    ended.unwrap();
    let (next, outputs) = watch.join().unwrap();
    assert!(
        next > 0 && next == outputs,
        "{outputs} outputs for offset {next}"
    );
    assert_exactly_once(&memory, "scores");
}

#[test]
fn an_instance_that_a_twin_has_fenced_ends_and_says_so() {
    let at_commit = BTreeMap::from([(0, Accident::Fence)]);
    let memory = Memory::new(Cluster {
        at_commit,
        has_member: Some(true),
        ..cluster(1, 50)
    });
    let (ended, metrics) = stream(&memory, &config(FORGETFUL));
    let error = ended.unwrap_err();
    assert!(matches!(error, StreamError::Fenced { .. }));
    assert!(error.to_string().contains("instance \"i\""), "{error}");
    assert_eq!(memory.lock().outputs, []);
    assert!(metrics.contains("maskwatch_transactions_total{outcome=\"fenced\"} 1"));
    assert_eq!(memory.lock().sessions.len(), 1, "the twin is left alone");
}

#[test]
fn an_instance_that_is_fenced_and_has_no_twin_goes_on_and_nothing_is_lost_or_doubled() {
    let at_commit = BTreeMap::from([(0, Accident::Fence), (1, Accident::Fence)]);
    let memory = Memory::new(Cluster {
        at_commit,
        has_member: Some(false),
        ..cluster(1, 50)
    });
    let (ended, metrics) = stream(&memory, &config(FORGETFUL));
    ended.unwrap();
    assert_exactly_once(&memory, "scores");
    assert_eq!(memory.lock().sessions.len(), 3);
    assert!(metrics.contains("maskwatch_sessions_failed_total{reason=\"fenced\"} 2"));
}

#[test]
fn a_cluster_that_is_down_is_tried_again_and_a_request_to_stop_is_heard_meanwhile() {
    let memory = Memory::new(Cluster {
        is_down: true,
        ..cluster(1, 50)
    });
    let metrics = Arc::new(Metrics::new().unwrap());
    let counts = Arc::clone(&metrics);
    let config = config(QUICK);
    let (mut link, _client, _scorer) =
        scoring::start(by_amount(&config, &metrics), SCORING_THREADS).unwrap();
    let shutdown = Shutdown::new();
    let readiness = Arc::new(Readiness::default());
    let calls = calls(&config, &shutdown);
    let shared = Shared {
        options: config.session_options(),
        metrics,
        readiness,
        shutdown: shutdown.clone(),
        calls,
    };
    let mut connector = memory.clone();
    let stream = std::thread::spawn(move || delivery::run(&mut connector, &mut link, &shared));
    // Nothing is in hand in the pause after a session.
    let four = "maskwatch_sessions_failed_total{reason=\"interrupted\"} 4";
    while !counts.encode().unwrap().contains(four) {
        std::thread::sleep(Duration::from_millis(5));
    }
    shutdown.request();
    stream.join().unwrap().unwrap();
    assert!(memory.lock().sessions.len() < SESSIONS_MAX as usize);
    assert_eq!(memory.lock().outputs, []);
}

#[test]
fn what_the_group_owes_is_told_while_no_session_can_begin() {
    let memory = Memory::new(Cluster {
        missing_for: usize::MAX,
        committed: BTreeMap::from([(TopicPartition::new("in", Partition(1)), Offset(20))]),
        ..cluster(2, 50)
    });
    let config = config(QUICK);
    let metrics = Arc::new(Metrics::new().unwrap());
    let readiness = Arc::new(Readiness::default());
    let (mut link, _client, _scorer) =
        scoring::start(by_amount(&config, &metrics), SCORING_THREADS).unwrap();
    let shutdown = Shutdown::new();
    let shared = Shared {
        calls: calls(&config, &shutdown),
        options: config.session_options(),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        shutdown: shutdown.clone(),
    };
    let mut connector = memory.clone();
    let stream = std::thread::spawn(move || delivery::run(&mut connector, &mut link, &shared));
    let begin = Instant::now();
    let is_told = |missing: &String| missing.contains("look up the output topics");
    while !readiness.report().missing.iter().any(is_told) {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing is told");
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = metrics.encode().unwrap();
    for series in [
        "maskwatch_consumer_lag_records{partition=\"0\",topic=\"in\"} 50",
        "maskwatch_consumer_lag_records{partition=\"1\",topic=\"in\"} 30",
    ] {
        assert!(told.contains(series), "{told}");
    }
    assert_eq!(readiness.report().lag_records, Some(80));
    memory.lock().missing_for = 0;
    while !memory.lock().is_done() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    shutdown.request();
    stream.join().unwrap().unwrap();
}

#[test]
fn a_commit_that_never_returns_is_seen_from_outside_and_named() {
    let memory = Memory::new(Cluster {
        at_commit: BTreeMap::from([(0, Accident::Hang)]),
        ..cluster(1, 50)
    });
    let config = config(QUICK);
    let watched = Watched {
        heartbeat: Arc::default(),
        shutdown: Shutdown::new(),
        readiness: Arc::new(Readiness::default()),
        metrics: Arc::new(Metrics::new().unwrap()),
    };
    let limits = Limits {
        stall: Duration::from_secs(1),
        drain: config.delivery.drain_timeout,
    };
    let (tell, told) = std::sync::mpsc::channel();
    let end = move |verdict| {
        let _ = tell.send(verdict);
    };
    watchdog::start(watched.clone(), limits, end).unwrap();
    let pipeline = by_amount(&config, &watched.metrics);
    let (mut link, _client, _scorer) = scoring::start(pipeline, SCORING_THREADS).unwrap();
    let (shutdown, heartbeat) = (watched.shutdown.clone(), Arc::clone(&watched.heartbeat));
    let shared = Shared {
        calls: BoundedCalls::new(shutdown.clone(), limits.drain, heartbeat),
        options: config.session_options(),
        metrics: Arc::clone(&watched.metrics),
        readiness: Arc::clone(&watched.readiness),
        shutdown,
    };
    let mut connector = memory.clone();
    // It never ends; the process of the tests does.
    let _hangs = std::thread::spawn(move || delivery::run(&mut connector, &mut link, &shared));
    let verdict = told.recv_timeout(Duration::from_secs(60)).unwrap();
    let Verdict::Stalled { operation, silent } = verdict else {
        panic!("{verdict}");
    };
    assert_eq!(operation, Operation::CommitTransaction);
    assert!(silent >= limits.stall);
    assert!(watched.readiness.health().is_err());
    assert_eq!(memory.lock().outputs, []);
}

#[test]
fn bad_records_become_dead_letters_and_leave_their_neighbours_alone() {
    let mut input: Vec<_> = (0..20).map(|offset| record(0, offset, 2.0)).collect();
    let bad: [(usize, Option<&[u8]>, &str); 6] = [
        (2, Some(b"{\"amount\": "), "malformed"),
        (3, Some(b"{\"amount\": \"x\"}"), "wrong_type"),
        (7, Some(b"{}"), "empty_record"),
        (9, Some(b""), "empty"),
        (11, None, "tombstone"),
        (12, Some(b"{\"amount\": 1e999}"), "malformed"),
    ];
    for (offset, payload, _) in bad {
        input[offset] = payload.map(<[u8]>::to_vec);
    }
    input[15] = Some(vec![b' '; 2_000_000]);
    let memory = Memory::new(Cluster {
        input: vec![input],
        ..cluster(0, 0)
    });
    let (ended, metrics) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    let dead: Vec<_> = cluster
        .outputs
        .iter()
        .filter(|output| output.topic == "dead")
        .collect();
    let found: Vec<_> = dead
        .iter()
        .map(|output| {
            (
                output.header(OFFSET).unwrap(),
                output.header(REASON).unwrap(),
            )
        })
        .collect();
    let expected = [
        ("2", "malformed"),
        ("3", "wrong_type"),
        ("7", "empty_record"),
        ("9", "empty"),
        ("11", "tombstone"),
        ("12", "malformed"),
        ("15", "too_large"),
    ];
    assert_eq!(found, expected);
    assert_eq!(dead[6].header(TRUNCATED), Some("2000000"));
    assert!(dead[6].header(DETAIL).unwrap().contains("2000000 bytes"));
    assert_eq!(dead[6].payload.len(), 900_000);
    let scored: Vec<i64> = origins(&cluster.outputs, "scores")
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    assert_eq!(scored, [0, 1, 4, 5, 6, 8, 10, 13, 14, 16, 17, 18, 19]);
    assert!(metrics.contains("maskwatch_dead_letters_total{reason=\"tombstone\"} 1"));
}

#[test]
fn tombstones_may_be_passed_over() {
    let input = vec![vec![record(0, 0, 2.0), None, record(0, 2, 2.0)]];
    let memory = Memory::new(Cluster {
        input,
        ..cluster(0, 0)
    });
    let config = config("[delivery]\ntransaction_interval_ms = 2\ntombstones = \"skip\"");
    let (ended, _) = stream(&memory, &config);
    ended.unwrap();
    assert_eq!(origins(&memory.lock().outputs, "scores"), [(0, 0), (0, 2)]);
    assert_eq!(origins(&memory.lock().outputs, "dead"), []);
}

#[test]
fn alerts_go_to_their_topic_with_reasons() {
    let input = vec![vec![
        record(0, 0, 2.0),
        record(0, 1, 5_000.0),
        record(0, 2, 3.0),
    ]];
    let memory = Memory::new(Cluster {
        input,
        ..cluster(0, 0)
    });
    let config = config("[delivery]\ntransaction_interval_ms = 2\nemit = \"alerts\"");
    let (ended, metrics) = stream(&memory, &config);
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "alerts"), [(0, 1)]);
    assert_eq!(
        origins(&cluster.outputs, "scores"),
        [(0, 1)],
        "emit is alerts"
    );
    let alert: Value = serde_json::from_slice(&cluster.outputs[0].payload).unwrap();
    assert_eq!(alert["alert"], true);
    assert_eq!(alert["event_id"], "0/1");
    assert_eq!(alert["event_time"], "2023-11-14T22:13:20.000Z");
    assert_eq!(alert["reasons"][0]["field"], "amount");
    assert_eq!(cluster.outputs[0].key.as_deref(), Some(&b"key"[..]));
    assert!(metrics.contains("maskwatch_alerts_total{model_id=\"amount\"} 1"));
}

#[test]
fn at_least_once_loses_nothing_and_may_repeat() {
    let at_commit = BTreeMap::from([(0, Accident::Abort)]);
    let cluster = Cluster {
        at_commit,
        is_transactional: false,
        ..cluster(2, 60)
    };
    let memory = Memory::new(cluster);
    let config = config("[delivery]\ntransaction_interval_ms = 2\nmode = \"at_least_once\"");
    let (ended, metrics) = stream(&memory, &config);
    ended.unwrap();
    let mut seen = origins(&memory.lock().outputs, "scores");
    let written = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 120);
    assert!(
        written > 120,
        "the aborted commit's outputs were visible already"
    );
    assert!(metrics.contains("maskwatch_transactions_total{outcome=\"committed\"} 0"));
}

#[test]
fn http_says_the_same_as_the_stream_and_faults_keep_their_place() {
    let config = config(QUICK);
    let metrics = Arc::new(Metrics::new().unwrap());
    // Its metrics end with it.
    let pipeline = by_amount(&config, &metrics);
    let started = scoring::start(Arc::clone(&pipeline), SCORING_THREADS);
    let (link, client, threads) = started.unwrap();
    let records = vec![
        record(0, 7, 5_000.0).unwrap(),
        b"{".to_vec(),
        record(0, 8, 2.0).unwrap(),
    ];
    let outcomes = client.submit(records).unwrap().blocking_recv().unwrap();
    let ScoreOutcome::Scored(json) = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    let envelope: Value = serde_json::from_str(json).unwrap();
    assert_eq!(envelope["event_id"], "0/7");
    assert_eq!(envelope["topic"], Value::Null);
    assert_eq!(envelope["alert"], true);
    let malformed = FaultReason::Malformed;
    assert!(matches!(&outcomes[1], ScoreOutcome::Bad { reason, .. } if *reason == malformed));
    assert!(matches!(&outcomes[2], ScoreOutcome::Scored(_)));
    drop((link, client));
    assert_eq!(threads.join(Duration::MAX).unwrap(), 0);
    let text = metrics.encode().unwrap();
    assert!(text.contains("maskwatch_records_total{outcome=\"scored\",source=\"http\"} 2"));
    assert!(
        text.contains("maskwatch_alerts_total{model_id=\"amount\"} 0"),
        "what-if questions do not move the stream's counts"
    );
}
