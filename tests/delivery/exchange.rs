//! Models that are exchanged while the stream runs: every record once, and in no transaction outputs of two models.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use maskwatch::config::StreamConfig;
use maskwatch::delivery::refusal::Objection;
use maskwatch::pipeline::scoring::{self, SCORING_THREADS};
use maskwatch::pipeline::{RecordScorer, ScorerFailure};
use maskwatch::score::{Assessment, Explain};
use maskwatch::telemetry::Metrics;
use maskwatch_testing::amount;
use maskwatch_testing::daemon::metric;
use proptest::prelude::*;
use serde_json::Value;

use crate::memory::{Cluster, Shared as Memory, Written};
use crate::stream::{
    QUICK, accidents, assert_exactly_once, cluster, config, origins, pipeline, stream_while,
};

/// Scores by the amount, under a name, and takes its time.
struct Named(String);

impl RecordScorer for Named {
    fn model_id(&self) -> &str {
        &self.0
    }

    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure> {
        std::thread::sleep(Duration::from_micros(200));
        Ok(amount::assess(batch, explain))
    }
}

fn named(number: usize) -> Arc<Named> {
    Arc::new(Named(format!("model-{number:03}")))
}

/// Runs the stream; each time another of `at` outputs are there, the next model is offered. Gives back how many were.
fn exchanging(memory: &Memory, config: &StreamConfig, at: &BTreeSet<usize>) -> (usize, String) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut offered = 0;
    let first = pipeline(named(0), config, &metrics);
    let ended = stream_while(&first, memory, config, &metrics, |exchange| {
        let outputs = memory.lock().outputs.len();
        while at.iter().nth(offered).is_some_and(|at| outputs >= *at) {
            offered += 1;
            exchange.offer(pipeline(named(offered), config, &metrics));
        }
    });
    ended.unwrap();
    (offered, metrics.encode().unwrap())
}

fn model_of(output: &Written) -> Option<String> {
    let envelope: Value = serde_json::from_slice(&output.payload).ok()?;
    Some(envelope["model_id"].as_str()?.to_owned())
}

/// One model a transaction, and none that comes again in a partition after its follower.
fn assert_one_model_a_transaction(memory: &Memory) -> usize {
    let cluster = memory.lock();
    let (mut begin, mut all) = (0, BTreeSet::new());
    for &end in &cluster.ends {
        let models: BTreeSet<String> = cluster.outputs[begin..end]
            .iter()
            .filter_map(model_of)
            .collect();
        assert!(models.len() <= 1, "one transaction has {models:?}");
        all.extend(models);
        begin = end;
    }
    let mut latest: BTreeMap<i64, String> = BTreeMap::new();
    for output in cluster
        .outputs
        .iter()
        .filter(|output| output.topic == "scores")
    {
        let [(partition, _)] = origins(std::slice::from_ref(output), "scores")[..] else {
            panic!("one output has one origin");
        };
        let model = model_of(output).unwrap();
        let before = latest.insert(partition, model.clone());
        assert!(before.is_none_or(|before| before <= model), "{model} again");
    }
    all.len()
}

#[test]
fn models_follow_each_other_in_a_busy_stream_without_a_record_lost_or_doubled() {
    let memory = Memory::new(cluster(3, 2_000));
    let at = (1..20).map(|number| number * 250).collect();
    let (offered, metrics) = exchanging(&memory, &config(QUICK), &at);
    assert_exactly_once(&memory, "scores");
    let models = assert_one_model_a_transaction(&memory);
    assert!(models > 5, "{models} models are no trial");
    let exchanged = metric(
        &metrics,
        "maskwatch_model_swaps_total{result=\"exchanged\"}",
    );
    let exchanged = exchanged.unwrap() as usize;
    assert!(
        (models - 1..=offered).contains(&exchanged),
        "{exchanged} of {offered}"
    );
    let loaded = metrics
        .lines()
        .filter(|line| line.starts_with("maskwatch_model_info{"));
    assert!(loaded.count() <= 1, "the series of a model end with it");
}

#[test]
fn outputs_that_are_refused_do_not_bring_two_models_into_one_transaction() {
    let refuses: fn(&Written) -> bool = |output| {
        let envelope: Value = serde_json::from_slice(&output.payload).unwrap_or_default();
        envelope["offset"]
            .as_i64()
            .is_some_and(|offset| offset % 50 == 7)
    };
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, refuses)),
        ..cluster(2, 300)
    });
    let at = (1..8).map(|number| number * 60).collect();
    let (offered, _) = exchanging(&memory, &config(QUICK), &at);
    let models = assert_one_model_a_transaction(&memory);
    assert!(models > 2, "{models} of {offered}");
    let outputs = memory.lock().outputs.clone();
    let mut all = origins(&outputs, "scores");
    all.extend(origins(&outputs, "dead"));
    all.sort_unstable();
    let expected: Vec<(i64, i64)> = (0..2).flat_map(|p| (0..300).map(move |o| (p, o))).collect();
    assert_eq!(all, expected, "each has its score or its dead letter");
}

#[test]
fn a_request_is_scored_by_the_model_that_stands_and_an_idle_stream_exchanges_at_once() {
    let memory = Memory::new(Cluster {
        input: vec![Vec::new()],
        is_transactional: true,
        ..Cluster::default()
    });
    // Nothing is to be read, so that the stream would end at once; the exchange is looked at beside it.
    let config = config(QUICK);
    let metrics = Arc::new(Metrics::new().unwrap());
    let first = pipeline(named(0), &config, &metrics);
    let started = scoring::start(first, SCORING_THREADS).unwrap();
    let (mut link, client, threads) = started;
    let answered_by = || {
        let request = client.submit(vec![b"{\"amount\": 2}".to_vec()]).unwrap();
        format!("{:?}", request.blocking_recv().unwrap())
    };
    assert!(answered_by().contains("model-000"));
    client
        .exchange()
        .offer(pipeline(named(1), &config, &metrics));
    client
        .exchange()
        .offer(pipeline(named(2), &config, &metrics));
    assert!(answered_by().contains("model-000"), "nobody has taken it");
    link.take_offer();
    assert!(answered_by().contains("model-000"), "it does not stand yet");
    assert_eq!(link.boundary().unwrap().model_id(), "model-002");
    link.stand();
    assert!(link.boundary().is_none());
    assert!(answered_by().contains("model-002"), "the latest offer");
    drop((link, client, memory));
    threads.join(Duration::from_secs(20)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_transaction_has_two_models_whatever_goes_wrong(
        at in prop::collection::btree_set(0_usize..400, 1..8),
        (commits, polls) in accidents(20, 600),
    ) {
        let cluster = Cluster { at_commit: commits, at_poll: polls, ..cluster(3, 150) };
        let memory = Memory::new(cluster);
        exchanging(&memory, &config(QUICK), &at);
        assert_exactly_once(&memory, "scores");
        assert_one_model_a_transaction(&memory);
    }
}
