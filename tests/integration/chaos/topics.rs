//! Output topics that are missing, and some that refuse what they get: the stream goes on as soon as
//! it can, says what is wrong, and loses nothing.

use super::arena::{Arena, PARTITIONS, PATIENCE, Setup, url};
use super::counts::{Counts, Place, count};
use crate::serve::material::Records;
use maskwatch_testing::daemon::http_get;
use maskwatch_testing::kafka_topics::{InputRecord, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::BTreeSet;

fn place(number: usize) -> Place {
    let partitions = PARTITIONS as usize;
    ((number % partitions) as i32, (number / partitions) as i64)
}

/// Produces `payloads`, each to where its number says.
fn produce(arena: &Arena, payloads: impl Iterator<Item = Vec<u8>>) {
    let inputs: Vec<InputRecord> = payloads
        .enumerate()
        .map(|(number, payload)| {
            let (partition, _) = place(number);
            InputRecord::of(payload)
                .key(format!("partition-{partition}"))
                .partition(partition)
        })
        .collect();
    arena.clients.produce(&arena.input, &inputs);
}

fn scored(output: &OutputRecord) -> (Place, bool) {
    let envelope: Value = serde_json::from_str(output.text()).unwrap();
    let partition = envelope["partition"].as_i64().unwrap() as i32;
    ((partition, envelope["offset"].as_i64().unwrap()), true)
}

fn dead(output: &OutputRecord) -> (Place, bool) {
    let header = |name: &str| {
        let value = output.header(&format!("maskwatch-error-{name}")).unwrap();
        std::str::from_utf8(value).unwrap().to_owned()
    };
    let place = (
        header("partition").parse().unwrap(),
        header("offset").parse().unwrap(),
    );
    (place, true)
}

#[test]
fn a_missing_scores_topic_is_named_and_not_ready_until_somebody_creates_it() {
    const RECORDS: usize = 60;
    let arena = Arena::bare("missing");
    arena.create_dead_letters();
    let records = Records::payments(RECORDS);
    let payloads = records.records.iter().map(|record| record.json.clone());
    produce(&arena, payloads);
    let mut daemon = arena.start("a", &Setup::default());
    daemon.wait_for_log(&arena.scores, PATIENCE);
    let ready = url(&mut daemon, "/readyz");
    let named = poll_until(PATIENCE, || {
        let (status, body) = http_get(&ready).ok()?;
        (status == 503 && body.contains(&arena.scores)).then_some(())
    });
    assert!(named.is_some(), "{:?}", http_get(&ready));

    arena.create_scores();
    arena.wait_for(&mut daemon, RECORDS);
    daemon.wait_for_http(&ready, PATIENCE);
    let found: Vec<_> = arena.read(&arena.scores).iter().map(scored).collect();
    let expected: BTreeSet<Place> = (0..RECORDS).map(place).collect();
    assert_eq!(count(&found, &expected), Counts::default());
}

#[test]
fn a_dead_letter_topic_that_refuses_three_hundred_letters_gets_stubs_and_no_neighbour_is_lost() {
    const RECORDS: usize = 600;
    const LETTER_BYTES: usize = 30_000;
    let arena = Arena::bare("refusing");
    arena.create_scores();
    let small = TopicSpec::new(&arena.dead, 1).with("max.message.bytes", "20000");
    arena.clients.create_topics(&[small]);
    let records = Records::payments(RECORDS);
    let is_bad = |number: usize| number % 2 == 1;
    let payloads = records.records.iter().enumerate().map(|(number, record)| {
        match is_bad(number) {
            // Text that no codec makes small, and that is no JSON.
            true => (0..LETTER_BYTES as u64 / 16)
                .flat_map(|n| {
                    let mixed = (n + number as u64 * 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    format!("{mixed:016x}").into_bytes()
                })
                .collect(),
            false => record.json.clone(),
        }
    });
    produce(&arena, payloads);
    let mut daemon = arena.start("a", &Setup::default());
    arena.wait_for(&mut daemon, RECORDS);

    let letters = arena.read(&arena.dead);
    assert!(
        letters
            .iter()
            .all(|letter| letter.payload.as_ref().unwrap().len() < 20_000)
    );
    let found: Vec<_> = letters.iter().map(dead).collect();
    let expected = (0..RECORDS).filter(|&number| is_bad(number)).map(place);
    assert_eq!(count(&found, &expected.collect()), Counts::default());
    let found: Vec<_> = arena.read(&arena.scores).iter().map(scored).collect();
    let expected = (0..RECORDS).filter(|&number| !is_bad(number)).map(place);
    assert_eq!(count(&found, &expected.collect()), Counts::default());
}

#[test]
fn a_compacted_scores_topic_refuses_records_without_a_key_and_the_others_are_scored() {
    const RECORDS: usize = 60;
    let arena = Arena::bare("compacted");
    arena.create_dead_letters();
    let compacted = TopicSpec::new(&arena.scores, 1).with("cleanup.policy", "compact");
    arena.clients.create_topics(&[compacted]);
    let records = Records::payments(RECORDS);
    let is_keyless = |number: usize| number % 20 == 7;
    let inputs: Vec<InputRecord> = (0..RECORDS)
        .map(|number| {
            let record = InputRecord::of(records.records[number].json.clone());
            let record = record.partition(place(number).0);
            match is_keyless(number) {
                true => record,
                false => record.key(format!("key-{number}")),
            }
        })
        .collect();
    arena.clients.produce(&arena.input, &inputs);
    let mut daemon = arena.start("a", &Setup::default());
    arena.wait_for(&mut daemon, RECORDS);

    let found: Vec<_> = arena.read(&arena.scores).iter().map(scored).collect();
    let expected = (0..RECORDS).filter(|&number| !is_keyless(number));
    assert_eq!(
        count(&found, &expected.map(place).collect()),
        Counts::default()
    );
    // Each of the others has its fate: a dead letter.
    let found: Vec<_> = arena.read(&arena.dead).iter().map(dead).collect();
    let expected = (0..RECORDS).filter(|&number| is_keyless(number));
    assert_eq!(
        count(&found, &expected.map(place).collect()),
        Counts::default()
    );
}
