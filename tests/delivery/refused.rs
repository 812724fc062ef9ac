//! The promises about outputs that their topics refuse, against the in-process twin: the stream goes on, every record has
//! one fate, and what stands in for a refused output says why.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::memory::{Accident, Cluster, Shared as Memory, Written};
use crate::stream::{QUICK, assert_exactly_once, cluster, config, origins, record, stream};
use maskwatch::delivery::refusal::{Objection, TopicLimits};
use maskwatch::delivery::session::TRANSACTION_OUTPUTS_MAX;
use maskwatch::pipeline::dead_letter::{DETAIL, OFFSET, REASON, TRUNCATED};
use maskwatch::pipeline::types::Topic;

/// A transaction that holds all records of a test.
const SLOW: &str = "[delivery]\ntransaction_interval_ms = 400";

fn told(topic: &str, bytes_max: Option<usize>, is_compacted: bool) -> (Topic, TopicLimits) {
    let limits = TopicLimits {
        bytes_max,
        is_compacted: Some(is_compacted),
    };
    (Topic::new(topic), limits)
}

fn dead(cluster: &Cluster) -> Vec<&Written> {
    let outputs = cluster.outputs.iter();
    outputs.filter(|output| output.topic == "dead").collect()
}

/// A record whose envelope is long because its key is.
fn long_record(bytes: usize) -> Option<Vec<u8>> {
    Some(format!("{{\"amount\": 2, \"id\": \"{}\"}}", "k".repeat(bytes)).into_bytes())
}

#[test]
fn an_output_that_the_client_refuses_becomes_a_stub_at_once() {
    let mut input: Vec<_> = (0..20).map(|offset| record(0, offset, 2.0)).collect();
    input[5] = long_record(6_000);
    let cluster = Cluster {
        input: vec![input],
        client_bytes_max: Some(4_000),
        ..cluster(0, 0)
    };
    let memory = Memory::new(cluster);
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "dead"), [(0, 5)]);
    assert_eq!(origins(&cluster.outputs, "scores").len(), 19);
    assert_eq!(cluster.sessions.len(), 1, "nothing was aborted");
}

#[test]
fn an_output_that_the_broker_refuses_is_found_and_replaced_and_its_neighbours_are_not() {
    let mut input: Vec<_> = (0..40).map(|offset| record(0, offset, 2.0)).collect();
    input[5] = long_record(6_000);
    input[30] = long_record(7_000);
    let cluster = Cluster {
        input: vec![input],
        record_bytes_max: Some(4_000),
        ..cluster(0, 0)
    };
    let memory = Memory::new(cluster);
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "dead"), [(0, 5), (0, 30)]);
    let dead = cluster
        .outputs
        .iter()
        .find(|output| output.topic == "dead")
        .unwrap();
    assert_eq!(dead.header(REASON), Some("too_large"));
    assert_eq!(dead.payload.len(), 1_024);
    assert_eq!(origins(&cluster.outputs, "scores").len(), 38);
    assert!(cluster.sessions.iter().any(|options| options.alone));
}

#[test]
fn a_stub_that_is_refused_too_does_not_stop_the_stream() {
    let mut input: Vec<_> = (0..20).map(|offset| record(0, offset, 2.0)).collect();
    input[5] = long_record(6_000);
    let cluster = Cluster {
        input: vec![input],
        record_bytes_max: Some(800),
        ..cluster(0, 0)
    };
    let memory = Memory::new(cluster);
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "dead"), []);
    assert_eq!(origins(&cluster.outputs, "scores").len(), 19);
    assert!(cluster.is_done());
}

#[test]
fn a_topic_smaller_than_a_produce_batch_gets_smaller_batches_and_every_output() {
    let config = config("[delivery]\ntransaction_interval_ms = 40");
    let limit = 40_000;
    let input = vec![(0..1_000).map(|offset| record(0, offset, 2.0)).collect()];
    let memory = Memory::new(Cluster {
        input,
        batch_bytes_max: Some(limit),
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config);
    ended.unwrap();
    assert_exactly_once(&memory, "scores");
    assert_eq!(origins(&memory.lock().outputs, "dead"), []);
}

/// A payload that is no JSON.
fn bad(bytes: usize) -> Option<Vec<u8>> {
    Some(vec![b'x'; bytes])
}

/// 800 records, 300 of them bad ones of 20,000 bytes, in bursts.
fn burst() -> Vec<Option<Vec<u8>>> {
    (0..800)
        .map(|offset| match offset % 80 < 30 {
            true => bad(20_000 + offset),
            false => record(0, offset, 2.0),
        })
        .collect()
}

#[test]
fn a_burst_of_refused_outputs_does_not_end_the_stream() {
    let memory = Memory::new(Cluster {
        input: vec![burst()],
        record_bytes_max: Some(10_000),
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config(SLOW));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "scores").len(), 500);
    assert_eq!(dead(&cluster).len(), 300);
    for letter in dead(&cluster) {
        assert_eq!(letter.header(REASON), Some("malformed"));
        let offset: usize = letter.header(OFFSET).unwrap().parse().unwrap();
        let size = (20_000 + offset).to_string();
        assert_eq!(letter.header(TRUNCATED), Some(size.as_str()));
    }
    assert!(cluster.sessions.len() < 25, "{}", cluster.sessions.len());
}

#[test]
fn where_the_limit_is_told_nothing_is_refused_and_dead_letters_are_cut_to_it() {
    let memory = Memory::new(Cluster {
        input: vec![burst()],
        record_bytes_max: Some(10_000),
        told: vec![told("dead", Some(10_000), false)],
        ..cluster(0, 0)
    });
    let (ended, metrics) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(cluster.sessions.len(), 1, "nothing was aborted");
    assert_eq!(dead(&cluster).len(), 300);
    for letter in dead(&cluster) {
        assert!((9_000..10_000).contains(&letter.payload.len()));
    }
    assert!(
        metrics.contains("maskwatch_refused_outputs_total{cause=\"too_large\",fate=\"nothing\"} 0")
    );
}

#[test]
fn a_record_without_a_key_is_a_dead_letter_where_its_topic_is_compacted_and_others_are_scored() {
    for told in [Vec::new(), vec![told("scores", None, true)]] {
        let was_told = !told.is_empty();
        let memory = Memory::new(Cluster {
            compacted: vec!["scores"],
            keyless_every: Some(3),
            told,
            ..cluster(1, 30)
        });
        let (ended, metrics) = stream(&memory, &config(QUICK));
        ended.unwrap();
        let cluster = memory.lock();
        let scored = origins(&cluster.outputs, "scores");
        assert!(scored.iter().all(|(_, offset)| offset % 3 != 0));
        assert_eq!((scored.len(), dead(&cluster).len()), (20, 10));
        for letter in dead(&cluster) {
            assert_eq!(letter.header(REASON), Some("refused"));
            let detail = letter.header(DETAIL).unwrap();
            assert_eq!(detail, "topic scores: no key, topic is compacted");
            let offset: usize = letter.header(OFFSET).unwrap().parse().unwrap();
            assert_eq!(Some(&letter.payload), record(0, offset, 2.0).as_ref());
        }
        assert_eq!(cluster.sessions.len() == 1, was_told);
        let counted = "maskwatch_refused_outputs_total{cause=\"no_key\",fate=\"dead_letter\"}";
        assert!(metrics.contains(counted));
    }
}

#[test]
fn a_refused_alert_leaves_its_score_where_it_belongs() {
    let input = vec![vec![record(0, 0, 5_000.0), record(0, 1, 2.0)]];
    let memory = Memory::new(Cluster {
        input,
        compacted: vec!["alerts"],
        keyless_every: Some(1),
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "scores"), [(0, 0), (0, 1)]);
    assert_eq!(origins(&cluster.outputs, "alerts"), []);
    assert_eq!(origins(&cluster.outputs, "dead"), [(0, 0)]);
}

#[test]
fn a_dead_letter_for_a_compacted_topic_has_a_key_whatever_came() {
    let input = vec![(0..10).map(|_| bad(10)).collect()];
    let memory = Memory::new(Cluster {
        input,
        compacted: vec!["dead"],
        keyless_every: Some(2),
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let cluster = memory.lock();
    let keys: Vec<_> = dead(&cluster)
        .iter()
        .map(|letter| String::from_utf8(letter.key.clone().unwrap()).unwrap())
        .collect();
    let expected: Vec<_> = (0..10)
        .map(|offset| match offset % 2 {
            0 => format!("in-0-{offset}"),
            _ => "key".to_owned(),
        })
        .collect();
    assert_eq!(keys, expected);
}

#[test]
fn outputs_that_a_policy_refuses_are_found_and_their_neighbours_are_scored() {
    fn of_two(output: &Written) -> bool {
        output.topic == "scores"
            && [&b"\"offset\":7,"[..], b"\"offset\":31,"]
                .iter()
                .any(|text| output.payload.windows(text.len()).any(|at| at == *text))
    }
    for objection in [Objection::Policy, Objection::Timestamp, Objection::Record] {
        let memory = Memory::new(Cluster {
            refuses: Some((objection, of_two)),
            ..cluster(1, 40)
        });
        let (ended, _) = stream(&memory, &config(SLOW));
        ended.unwrap();
        let cluster = memory.lock();
        assert_eq!(
            origins(&cluster.outputs, "scores").len(),
            38,
            "{objection:?}"
        );
        assert_eq!(origins(&cluster.outputs, "dead"), [(0, 7), (0, 31)]);
        let letter = dead(&cluster)[0];
        assert_eq!(letter.header(REASON), Some("refused"));
        assert_eq!(Some(&letter.payload), record(0, 7, 2.0).as_ref());
    }
}

#[test]
fn a_topic_that_refuses_everything_does_not_stop_the_stream() {
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, |output| output.topic == "scores")),
        ..cluster(1, 600)
    });
    let (ended, metrics) = stream(&memory, &config(SLOW));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "scores"), []);
    assert_eq!(dead(&cluster).len(), 600);
    assert!(metrics.contains("cause=\"policy\",fate=\"dead_letter\""));
}

/// Whether the envelope of a record with an even offset.
fn is_even_score(output: &Written) -> bool {
    output.topic == "scores" && envelope_offset(output).is_some_and(|offset| offset % 2 == 0)
}

/// The offset in an envelope.
fn envelope_offset(output: &Written) -> Option<i64> {
    let envelope: serde_json::Value = serde_json::from_slice(&output.payload).ok()?;
    envelope["offset"].as_i64()
}

#[test]
fn however_many_neighbours_are_refused_a_good_output_is_written_and_the_rounds_are_bounded() {
    let count = 1_200;
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_even_score)),
        ..cluster(1, count)
    });
    let (ended, metrics) = stream(&memory, &config(SLOW));
    ended.unwrap();
    let cluster = memory.lock();
    let scored = origins(&cluster.outputs, "scores");
    let odd = (0..count as i64).filter(|offset| offset % 2 == 1);
    let odd: Vec<_> = odd.map(|offset| (0, offset)).collect();
    assert_eq!(scored, odd);
    assert_eq!(dead(&cluster).len(), count / 2);
    // Five a round, fewer at the end of a portion; and each is told once, however often its portion was sent.
    let rounds = cluster.renewals;
    assert!(rounds as usize <= count / 2 / 5 * 2, "{rounds} rounds");
    assert!(cluster.sessions.len() < 12, "{}", cluster.sessions.len());
    let counted = format!(
        "maskwatch_refused_outputs_total{{cause=\"policy\",fate=\"dead_letter\"}} {}",
        count / 2
    );
    assert!(metrics.contains(&counted), "{metrics}");
}

#[test]
fn where_no_producer_can_be_made_anew_the_next_session_goes_on() {
    let memory = Memory::new(Cluster {
        refuses: Some((Objection::Policy, is_even_score)),
        renewals_fail: true,
        ..cluster(1, 60)
    });
    let (ended, _) = stream(&memory, &config(SLOW));
    ended.unwrap();
    let cluster = memory.lock();
    assert_eq!(origins(&cluster.outputs, "scores").len(), 30);
    assert_eq!(dead(&cluster).len(), 30);
}

#[test]
fn where_no_topic_takes_anything_of_a_record_it_is_counted_and_the_stream_goes_on() {
    let mut input: Vec<_> = (0..20).map(|offset| record(0, offset, 2.0)).collect();
    input[5] = long_record(6_000);
    let memory = Memory::new(Cluster {
        input: vec![input],
        told: vec![
            told("scores", Some(4_000), false),
            told("dead", Some(100), false),
        ],
        ..cluster(0, 0)
    });
    let (ended, metrics) = stream(&memory, &config(QUICK));
    ended.unwrap();
    assert_eq!(origins(&memory.lock().outputs, "scores").len(), 19);
    let counted = "maskwatch_refused_outputs_total{cause=\"too_large\",fate=\"nothing\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_transaction_is_within_its_bound_with_the_largest_batches_and_two_outputs_a_record() {
    let mut config = config("[delivery]\ntransaction_interval_ms = 7000");
    config.batch.rows_max = 16_384;
    config.batch.deadline = Duration::from_millis(100);
    let input = vec![
        (0..50_000)
            .map(|offset| record(0, offset, 5_000.0))
            .collect(),
    ];
    let memory = Memory::new(Cluster {
        input,
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config);
    ended.unwrap();
    for topic in ["scores", "alerts"] {
        assert_exactly_once(&memory, topic);
    }
    let largest = memory.lock().largest_commit;
    assert!(largest > TRANSACTION_OUTPUTS_MAX / 2, "{largest}");
    assert!(largest <= TRANSACTION_OUTPUTS_MAX, "{largest}");
}

/// Records of the property below: more refused ones than any number of in-flight outputs or of a portion.
const RECORDS: usize = 150;

fn is_score(output: &Written) -> bool {
    output.topic == "scores"
}

/// The envelopes of `input` where every topic takes everything.
fn envelopes(input: &[Option<Vec<u8>>], keyless_every: Option<usize>) -> Vec<Written> {
    let memory = Memory::new(Cluster {
        input: vec![input.to_vec()],
        keyless_every,
        ..cluster(0, 0)
    });
    let (ended, _) = stream(&memory, &config(QUICK));
    ended.unwrap();
    let outputs = std::mem::take(&mut memory.lock().outputs);
    outputs.into_iter().filter(is_score).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_has_one_fate_whatever_is_refused(
        at_commit in prop::collection::btree_map(
            0_u64..8,
            prop_oneof![Just(Accident::Abort), Just(Accident::Unknown { applied: true })],
            0..3,
        ),
        large in prop::collection::btree_set(0..RECORDS, 0..8),
        bad_ones in prop::collection::btree_set(0..RECORDS, 0..8),
        record_bytes_max in prop::option::of(3_000_usize..9_000),
        batch_bytes_max in prop::option::of(20_000_usize..40_000),
        keyless_every in prop::option::of(2_usize..5),
        compacted in prop_oneof![Just(vec![]), Just(vec!["scores"]), Just(vec!["dead"]), Just(vec!["scores", "dead"])],
        refuses in prop_oneof![
            Just(None),
            Just(Some((Objection::Policy, is_even_score as fn(&Written) -> bool))),
            Just(Some((Objection::Timestamp, is_even_score as fn(&Written) -> bool))),
            Just(Some((Objection::Record, is_even_score as fn(&Written) -> bool))),
            Just(Some((Objection::Policy, is_score as fn(&Written) -> bool))),
        ],
        at_poll in prop::collection::btree_map(60_u64..900, Just(Accident::Revoke), 0..2),
        renewals_fail in any::<bool>(),
    ) {
        let input = |offset: usize| match (large.contains(&offset), bad_ones.contains(&offset)) {
            (_, true) => bad(8_000),
            (true, false) => long_record(6_000),
            _ => record(0, offset, 2.0),
        };
        let input: Vec<_> = (0..RECORDS).map(input).collect();
        let free = envelopes(&input, keyless_every);
        let memory = Memory::new(Cluster {
            input: vec![input],
            at_commit,
            at_poll,
            refuses,
            renewals_fail,
            record_bytes_max,
            batch_bytes_max,
            keyless_every,
            compacted,
            ..cluster(0, 0)
        });
        let (ended, _) = stream(&memory, &config("[delivery]\ntransaction_interval_ms = 40"));
        ended.unwrap();
        let cluster = memory.lock();
        let mut fates: BTreeMap<i64, u32> = BTreeMap::new();
        for topic in ["scores", "dead"] {
            for (_, offset) in origins(&cluster.outputs, topic) {
                *fates.entry(offset).or_default() += 1;
            }
        }
        let expected: BTreeMap<i64, u32> = (0..RECORDS as i64).map(|offset| (offset, 1)).collect();
        prop_assert_eq!(fates, expected);
        // What its topic would take is there, and is never a dead letter as refused.
        let taken = free.iter().filter(|output| cluster.objection(output).is_none());
        let taken: Vec<_> = taken.map(|output| (0, envelope_offset(output).unwrap())).collect();
        prop_assert_eq!(origins(&cluster.outputs, "scores"), taken);
    }
}
