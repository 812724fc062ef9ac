//! What is learned of refused outputs, from which refusals, and for how long.

use super::*;
use crate::pipeline::types::Partition;

const BATCH_BYTES: usize = 1_000_000;

fn refusals() -> Refusals {
    Refusals::new(BATCH_BYTES)
}

fn topic() -> Topic {
    Topic::new("scores")
}

fn record(offset: i64) -> (TopicPartition, Offset) {
    (TopicPartition::new("t", Partition(0)), Offset(offset))
}

/// An output of the record at `offset` that was in a batch of a refused size.
fn output(offset: i64) -> RefusedOutput {
    RefusedOutput {
        record: record(offset),
        topic: topic(),
        part: Part::Scores,
        bytes: 5_000,
        has_key: true,
        objection: Objection::Size,
        is_exact: false,
    }
}

fn outputs(offsets: impl IntoIterator<Item = i64>) -> Vec<RefusedOutput> {
    offsets.into_iter().map(output).collect()
}

fn committed(refusals: &mut Refusals, next: i64) -> bool {
    let mut positions = Positions::default();
    positions.advance(&record(0).0, Offset(next));
    refusals.committed(&positions)
}

/// Why an output of `bytes` at `offset`, with or without a key, is not to be sent.
fn objection(refusals: &Refusals, offset: i64, bytes: usize, key: bool) -> Option<RefusalCause> {
    let of = record(offset);
    refusals.objection((&of.0, of.1), Part::Scores, &topic(), bytes, key)
}

/// As [`objection`], of a small output with a key.
fn objection_to(refusals: &Refusals, offset: i64) -> Option<RefusalCause> {
    objection(refusals, offset, 10, true)
}

#[test]
fn a_refused_batch_accuses_nobody_until_its_outputs_are_sent_alone() {
    let mut refusals = refusals();
    refusals.refused(&outputs(1..=3));
    assert!(refusals.options().alone);
    assert_eq!(objection(&refusals, 2, 100, true), None);
    refusals.refused(&outputs([2]));
    assert_eq!(objection(&refusals, 1, 100, true), None);
    assert_eq!(
        objection(&refusals, 2, 100, true),
        Some(RefusalCause::TooLarge)
    );
    assert!(!committed(&mut refusals, 3), "a suspect is left");
    assert!(committed(&mut refusals, 4));
    assert_eq!(
        refusals.options(),
        SendOptions {
            alone: false,
            batch_bytes_max: None
        }
    );
    assert_eq!(objection(&refusals, 2, 100, true), None);
}

#[test]
fn one_output_of_a_record_is_marked_and_its_others_are_not() {
    let mut refusals = refusals();
    refusals.refused(&outputs([2]));
    let of = record(2);
    let other = |part| refusals.objection((&of.0, of.1), part, &Topic::new("alerts"), 5_000, true);
    assert_eq!(other(Part::Alerts), None);
    assert_eq!(other(Part::Stub), None);
}

#[test]
fn what_is_as_large_as_a_refused_output_is_not_sent_and_half_of_it_is_room() {
    let mut refusals = refusals();
    refusals.refused(&outputs([2]));
    assert_eq!(
        objection(&refusals, 9, 5_000, true),
        Some(RefusalCause::TooLarge)
    );
    assert_eq!(objection(&refusals, 9, 4_999, true), None);
    assert_eq!(refusals.room(&topic()).bytes_max, Some(2_500));
    committed(&mut refusals, 10);
    assert_eq!(
        objection(&refusals, 11, 5_000, true),
        Some(RefusalCause::TooLarge),
        "a topic keeps its limit"
    );
}

#[test]
fn what_the_cluster_tells_holds_from_the_first_output_on_and_replaces_what_was_learned() {
    let mut refusals = refusals();
    let limits = |bytes_max| TopicLimits {
        bytes_max: Some(bytes_max),
        is_compacted: Some(true),
    };
    refusals.set_limits(&[(topic(), limits(4_000))]);
    assert_eq!(objection(&refusals, 1, 4_000, true), None);
    assert_eq!(
        objection(&refusals, 1, 4_001, true),
        Some(RefusalCause::TooLarge)
    );
    assert_eq!(
        objection(&refusals, 1, 10, false),
        Some(RefusalCause::NoKey)
    );
    assert!(refusals.room(&topic()).needs_key);
    refusals.refused(&[RefusedOutput {
        bytes: 3_000,
        ..output(2)
    }]);
    assert_eq!(refusals.room(&topic()).bytes_max, Some(1_500));
    refusals.set_limits(&[(topic(), limits(4_000))]);
    assert_eq!(refusals.room(&topic()).bytes_max, Some(1_500), "no news");
    refusals.set_limits(&[(topic(), limits(9_000))]);
    assert_eq!(refusals.room(&topic()).bytes_max, Some(9_000));
}

#[test]
fn an_envelope_without_a_key_that_was_refused_says_nothing_of_others_where_settings_are_not_known()
{
    let mut refusals = refusals();
    let of = |offset: i64| RefusedOutput {
        objection: Objection::Record,
        has_key: false,
        is_exact: true,
        ..output(offset)
    };
    refusals.refused(&[of(2)]);
    assert!(!refusals.options().alone && refusals.in_portions());
    assert_eq!(
        objection(&refusals, 2, 10, false),
        Some(RefusalCause::NoKey)
    );
    assert_eq!(objection(&refusals, 900, 10, false), None);
    let letter = RefusedOutput {
        part: Part::Letter,
        ..of(7)
    };
    assert!(refusals.room(&topic()).needs_key, "dead letters get a key");
    refusals.refused(&[letter]);
    let of = record(7);
    let again = refusals.objection((&of.0, of.1), Part::Letter, &topic(), 10, true);
    assert_eq!(again, None, "with its key it is tried");
}

#[test]
fn sessions_commit_in_portions_for_a_while_after_records_were_named() {
    let mut refusals = refusals();
    refusals.refused(&[RefusedOutput {
        is_exact: true,
        ..output(2)
    }]);
    assert!(!committed(&mut refusals, 3));
    assert!(refusals.in_portions());
    refusals.named = Instant::now().checked_sub(IN_PORTIONS_FOR);
    assert!(committed(&mut refusals, 4), "together again");
    assert!(!refusals.in_portions());
}

#[test]
fn a_topic_that_is_not_compacted_refuses_a_record_without_a_key_for_another_reason() {
    let mut refusals = refusals();
    let told = TopicLimits {
        is_compacted: Some(false),
        ..TopicLimits::default()
    };
    refusals.set_limits(&[(topic(), told)]);
    refusals.refused(&[RefusedOutput {
        objection: Objection::Record,
        has_key: false,
        ..output(2)
    }]);
    assert_eq!(
        objection(&refusals, 2, 10, false),
        Some(RefusalCause::Invalid)
    );
    assert_eq!(objection(&refusals, 3, 10, false), None);
}

#[test]
fn records_that_the_broker_names_are_accused_at_once() {
    let mut refusals = refusals();
    let of = |offset| RefusedOutput {
        objection: Objection::Policy,
        is_exact: true,
        ..output(offset)
    };
    refusals.refused(&[of(4), of(7)]);
    assert!(!refusals.options().alone);
    for (offset, cause) in [(4, Some(RefusalCause::Policy)), (5, None)] {
        assert_eq!(objection(&refusals, offset, 10, true), cause);
    }
}

#[test]
fn however_many_outputs_a_topic_refuses_the_next_is_tried() {
    for objection in [Objection::Timestamp, Objection::Policy, Objection::Record] {
        let mut refusals = refusals();
        let of = |offset| RefusedOutput {
            objection,
            ..output(offset)
        };
        let all: Vec<_> = (0..5_000).map(of).collect();
        refusals.refused(&all);
        for five in all.chunks(5).take(900) {
            refusals.refused(five);
        }
        assert!(objection_to(&refusals, 4_499).is_some());
        assert_eq!(objection_to(&refusals, 4_500), None, "{objection:?}");
    }
}

#[test]
fn suspects_of_a_partition_that_has_gone_do_not_slow_the_others() {
    let mut refusals = refusals();
    let elsewhere = TopicPartition::new("t", Partition(1));
    refusals.refused(&outputs([100, 101]));
    let begins =
        |mine: TopicPartition| move |of: &TopicPartition| (*of == mine).then_some(Offset(7));
    assert!(!refusals.assigned(begins(record(0).0)));
    assert!(refusals.options().alone);
    assert!(refusals.assigned(begins(elsewhere)));
    assert!(!refusals.options().alone);
    assert_eq!(refusals.options().batch_bytes_max, None);
}

/// Refused for their size: outputs of offsets 1 to 3 in partitions 0 and 1.
fn in_two_partitions() -> (Refusals, [TopicPartition; 2]) {
    let partitions = [0, 1].map(|number| TopicPartition::new("t", Partition(number)));
    let of = |(offset, partition): (i64, &TopicPartition)| RefusedOutput {
        record: (partition.clone(), Offset(offset)),
        ..output(offset)
    };
    let mut refusals = refusals();
    let each = partitions.iter();
    let all: Vec<_> = each
        .flat_map(|partition| (1..=3).map(move |offset| of((offset, partition))))
        .collect();
    refusals.refused(&all);
    (refusals, partitions)
}

fn at(partition: &TopicPartition, next: i64) -> Positions {
    let mut positions = Positions::default();
    positions.advance(partition, Offset(next));
    positions
}

#[test]
fn a_suspect_is_passed_once_whatever_later_sessions_and_assignments_commit() {
    let (mut refusals, [first, second]) = in_two_partitions();
    assert!(!refusals.committed(&at(&first, 4)));
    assert!(refusals.options().alone);
    // A session after a rebalance, or a new one, has no commit of the first partition.
    assert!(!refusals.assigned(|_| Some(Offset(2))));
    assert!(!refusals.committed(&at(&second, 3)), "a suspect is left");
    assert!(refusals.committed(&at(&second, 4)));
    assert!(!refusals.options().alone);
    assert_eq!(refusals.options().batch_bytes_max, Some(BATCH_BYTES / 2));
}

#[test]
fn a_suspect_that_was_committed_elsewhere_is_passed_and_nothing_is_taken_from_it() {
    let (mut refusals, [first, second]) = in_two_partitions();
    let begins = |of: &TopicPartition| Some(Offset(if *of == first { 4 } else { 0 }));
    assert!(!refusals.assigned(begins));
    assert!(refusals.committed(&at(&second, 4)));
    assert!(!refusals.options().alone);
    assert_eq!(refusals.options().batch_bytes_max, None);
    let (mut refusals, _) = in_two_partitions();
    assert!(refusals.assigned(|_| Some(Offset(4))), "all are passed");
}

#[test]
fn what_was_learned_long_ago_is_tried_again_and_what_is_told_holds() {
    let begin = Instant::now();
    let mut known = Known {
        settings: TopicLimits {
            bytes_max: Some(9_000),
            is_compacted: None,
        },
        refused_keyless: Some(begin),
        ..Known::default()
    };
    known.learn_size(5_000, begin);
    let soon = begin + LESSON_KEPT / 2;
    let too_large = Some(RefusalCause::TooLarge);
    assert!(known.needs_key(soon));
    assert_eq!(known.objection(6_000, true, soon), too_large);
    let late = begin + LESSON_KEPT;
    assert!(!known.needs_key(late));
    assert_eq!(known.objection(6_000, true, late), None);
    assert_eq!(known.objection(9_001, true, late), too_large);
    known.learn_size(7_000, late);
    assert_eq!(
        known.refused_bytes(late),
        Some(7_000),
        "the old one is gone"
    );
}

#[test]
fn a_lesson_counts_from_the_latest_of_its_kind_and_not_from_one_of_another() {
    let begin = Instant::now();
    let mut known = Known {
        refused_keyless: Some(begin),
        ..Known::default()
    };
    known.learn_size(5_000, begin);
    let later = begin + LESSON_KEPT - Duration::from_secs(5);
    known.learn_size(4_000, later);
    let after = begin + LESSON_KEPT + Duration::from_secs(5);
    assert!(!known.needs_key(after));
    assert_eq!(known.refused_bytes(after), Some(4_000));
    assert_eq!(known.refused_bytes(later + LESSON_KEPT), None);
}

#[test]
fn every_refusal_teaches_something() {
    let mut refusals = refusals();
    let mut before = refusals.lessons();
    for outputs in [outputs(1..=3), outputs([1]), outputs([2]), outputs([3])] {
        refusals.refused(&outputs);
        assert!(refusals.lessons() > before);
        before = refusals.lessons();
    }
    refusals.refused(&[]);
    assert_eq!(refusals.lessons(), before);
}

#[test]
fn batches_get_smaller_from_the_configured_size_on_where_no_single_output_is_refused() {
    for configured in [1_000_000, 200_000] {
        let mut refusals = Refusals::new(configured);
        for expected in [configured / 2, configured / 4] {
            refusals.refused(&outputs(1..=2));
            assert!(committed(&mut refusals, 9));
            assert_eq!(refusals.options().batch_bytes_max, Some(expected));
        }
        for _ in 0..20 {
            refusals.refused(&outputs(1..=2));
            committed(&mut refusals, 9);
        }
        assert_eq!(refusals.options().batch_bytes_max, Some(BATCH_BYTES_MIN));
    }
    let mut tiny = Refusals::new(5_000);
    tiny.refused(&outputs(1..=2));
    committed(&mut tiny, 9);
    assert_eq!(
        tiny.options().batch_bytes_max,
        Some(5_000),
        "never more than configured"
    );
}

#[test]
fn batches_are_not_halved_where_the_cluster_has_told_a_new_limit_meanwhile() {
    let mut refusals = refusals();
    refusals.refused(&outputs(1..=2));
    let told = TopicLimits {
        bytes_max: Some(100_000),
        is_compacted: None,
    };
    refusals.set_limits(&[(topic(), told)]);
    assert!(committed(&mut refusals, 9));
    assert_eq!(refusals.options().batch_bytes_max, None);
}

#[test]
fn batches_do_not_get_smaller_where_it_was_not_their_size_that_was_refused() {
    let mut refusals = refusals();
    let of = |offset| RefusedOutput {
        objection: Objection::Timestamp,
        ..output(offset)
    };
    refusals.refused(&[of(1), of(2)]);
    assert!(committed(&mut refusals, 9), "each was taken, alone");
    assert_eq!(refusals.options().batch_bytes_max, None);
}

#[test]
fn suspects_that_never_come_back_do_not_slow_the_stream_for_ever() {
    let mut refusals = refusals();
    refusals.refused(&outputs([100, 101]));
    let commits = (0..).take_while(|_| !committed(&mut refusals, 1)).count();
    assert_eq!(commits, LONE_COMMITS_MAX as usize - 1);
    assert_eq!(
        refusals.options(),
        SendOptions {
            alone: false,
            batch_bytes_max: None
        }
    );
}

#[test]
fn the_memory_is_bounded() {
    let mut refusals = refusals();
    let all = outputs(0..=MARKS_MAX as i64);
    refusals.refused(&all);
    refusals.refused(&all);
    assert_eq!(refusals.marks.len(), MARKS_MAX);
}

#[test]
fn lines_have_a_bound_a_minute_and_the_next_says_how_many_were_left_out() {
    let mut refusals = refusals();
    let now = Instant::now();
    let told = (0..100).filter(|_| refusals.line(now).is_some()).count();
    assert_eq!(told, LINES_PER_MINUTE as usize);
    let later = now + Duration::from_secs(61);
    assert_eq!(
        refusals.line(later),
        Some(100 - u64::from(LINES_PER_MINUTE))
    );
    assert_eq!(refusals.line(later), Some(0));
}
