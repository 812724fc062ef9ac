//! Every record comes out exactly once with the library's score, whatever happens to the daemon.

use super::material::{Records, is_ulb, number};
use super::setting::{PATIENCE, Served, Setting};
use chrono::{DateTime, Utc};
use maskwatch_testing::kafka_topics::{Isolation, TopicGrowth};
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const PARTITIONS: i32 = 4;

/// Batches and transactions so small that a kill hits the middle of some.
const SMALL_STEPS: &str = "[batch]\nrows_max = 64\n[delivery]\ntransaction_interval_ms = 300\n";

/// Seconds from a moment to a record's timestamp.
fn seconds(from: DateTime<Utc>, to_ms: i64) -> f64 {
    (to_ms - from.timestamp_millis()) as f64 / 1_000.0
}

#[test]
fn every_record_comes_out_once_with_the_librarys_score_and_alerts_with_their_reasons() {
    let records = Records::of_environment(4_000);
    let setting = Setting::new("serve", PARTITIONS, &records.bundle);
    let count = records.records.len();
    setting.produce(&records.records, 0, count);
    let mut served = setting.start("");
    setting.wait_for(&mut served, count);
    let loaded_at = served.loaded_at().unwrap();
    served.drain();

    let alerts = setting.assert_exactly_once(&records);
    assert!(alerts > 0 && alerts < count / 2, "{alerts} alerts");
    assert_eq!(setting.read(&setting.dead).len(), 0);
    let stamps = setting.read(&setting.scores);
    let stamps = stamps.iter().map(|output| output.timestamp_ms.unwrap());
    let (first, last) = (stamps.clone().min().unwrap(), stamps.max().unwrap());
    report_rates(count, seconds(loaded_at, first), seconds(loaded_at, last));
}

/// For whoever runs with `--nocapture`.
fn report_rates(count: usize, first: f64, last: f64) {
    eprintln!(
        "{count} records: first score {first:.3} s after the model was loaded, last after {last:.3} s, \
         {:.0} records/s end to end",
        count as f64 / last
    );
}

#[test]
fn killed_again_and_again_every_record_still_comes_out_once() {
    let records = Records::of_environment(6_000);
    let setting = Setting::new("kills", PARTITIONS, &records.bundle);
    let kills = number("MASKWATCH_TEST_KILLS").unwrap_or(3);
    let more = if is_ulb() { "" } else { SMALL_STEPS };
    let count = records.records.len();
    let portion = count / (kills + 1);
    let growth = setting.broker.watch_growth(&setting.scores);
    let mut loaded = Vec::new();
    let mut served = setting.start(more);
    for kill in 0..kills {
        let produced = (kill + 1) * portion;
        let midway = growth.offsets_given() + portion as i64 / 2;
        setting.produce(&records.records, kill * portion, produced);
        // Every other one at once, within the transaction that was seen; the rest at any moment.
        let delay = Duration::from_millis((kill % 2 * (kill * 83 % 400)) as u64);
        kill_midway(&setting, &mut served, (&growth, midway), produced, delay);
        loaded.extend(served.loaded_at());
        served = setting.start(more);
    }
    setting.produce(&records.records, kills * portion, count);
    setting.wait_for(&mut served, count);
    loaded.extend(served.loaded_at());
    served.drain();

    assert_eq!(
        loaded.len(),
        kills + 1,
        "a daemon was killed before it had its model"
    );
    setting.assert_exactly_once(&records);
    report_restarts(&setting, &loaded, count);
}

/// Kills the daemon `delay` after `growth` shows `offset` records, of open transactions too; or once
/// everything is committed, where it was faster than we looked.
fn kill_midway(
    setting: &Setting,
    served: &mut Served,
    growth: (&TopicGrowth, i64),
    produced: usize,
    delay: Duration,
) {
    let mut looks = 0;
    let reached = poll_until(PATIENCE, || {
        looks += 1;
        let midway = growth.0.offsets_given() >= growth.1;
        // Asked rarely: it takes longer than a transaction is open.
        let all = || looks % 10 == 0 && setting.committed() == produced;
        (midway || all() || !served.0.is_running()).then_some(())
    });
    assert!(
        reached.is_some() && served.0.is_running(),
        "{}",
        served.0.log()
    );
    std::thread::sleep(delay);
    served.0.kill();
}

/// Prints how soon each daemon wrote its first score (committed or not).
fn report_restarts(setting: &Setting, loaded: &[DateTime<Utc>], count: usize) {
    let all = setting
        .broker
        .read_to_end(&setting.scores, Isolation::ReadUncommitted, PATIENCE);
    let mut stamps: Vec<i64> = all
        .iter()
        .filter_map(|output| output.timestamp_ms)
        .collect();
    stamps.sort_unstable();
    for at in loaded {
        let first = stamps.partition_point(|&stamp| stamp < at.timestamp_millis());
        let first = stamps.get(first).map(|&stamp| seconds(*at, stamp));
        eprintln!("first score {first:?} s after the model was loaded");
    }
    let whole = seconds(loaded[0], stamps[stamps.len() - 1]);
    eprintln!(
        "{count} records and {} kills in {whole:.1} s, {} outputs lay in aborted transactions",
        loaded.len() - 1,
        all.len() - count
    );
}

#[test]
fn a_drained_daemon_leaves_with_zero_and_the_next_one_goes_on_where_it_stopped() {
    let records = Records::payments(6_000);
    let setting = Setting::new("drain", PARTITIONS, &records.bundle);
    setting.produce(&records.records, 0, 5_000);
    let served = setting.start(SMALL_STEPS);
    let growth = setting.broker.watch_growth(&setting.scores);
    let begun = poll_until(PATIENCE, || (growth.offsets_given() > 100).then_some(()));
    assert!(begun.is_some(), "{}", served.0.log());
    // In the middle of its work.
    served.drain();
    let drained = setting.committed();
    assert_eq!(
        setting.read(&setting.scores).len(),
        drained,
        "scores and offsets"
    );

    setting.produce(&records.records, 5_000, 6_000);
    let mut served = setting.start(SMALL_STEPS);
    setting.wait_for(&mut served, 6_000);
    served.drain();
    setting.assert_exactly_once(&records);
}

#[test]
fn an_older_twin_is_fenced_and_exits_with_one_saying_so() {
    let records = Records::payments(2_000);
    let setting = Setting::new("twins", PARTITIONS, &records.bundle);
    setting.produce(&records.records, 0, 1_000);
    let mut older = setting.start("");
    setting.wait_for(&mut older, 1_000);
    let mut newer = setting.start("");
    newer.wait_until_ready();
    let status = older.0.wait(PATIENCE);
    let log = older.0.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let said = log.lines().last().unwrap_or_default();
    assert!(said.starts_with("maskwatch: error: "), "{log}");
    assert!(
        said.contains("fenced") && said.contains("instance \"a\""),
        "{log}"
    );
    setting.produce(&records.records, 1_000, 2_000);
    setting.wait_for(&mut newer, 2_000);
    newer.drain();
    setting.assert_exactly_once(&records);
}

#[test]
fn at_least_once_loses_nothing_when_the_daemon_is_killed() {
    const AT_LEAST_ONCE: &str = "[batch]\nrows_max = 64\n\
        [delivery]\nmode = \"at_least_once\"\ntransaction_interval_ms = 300\n";
    let records = Records::payments(4_000);
    let setting = Setting::new("least", PARTITIONS, &records.bundle);
    setting.produce(&records.records, 0, 2_000);
    let mut served = setting.start(AT_LEAST_ONCE);
    let growth = setting.broker.watch_growth(&setting.scores);
    let delay = Duration::ZERO;
    kill_midway(&setting, &mut served, (&growth, 500), 2_000, delay);
    setting.produce(&records.records, 2_000, 4_000);
    let mut served = setting.start(AT_LEAST_ONCE);
    setting.wait_for(&mut served, 4_000);
    served.drain();

    let outputs = setting.read(&setting.scores);
    let seen: BTreeSet<usize> = outputs
        .iter()
        .map(|output| setting.assert_envelope(output, &records))
        .collect();
    assert_eq!(seen.len(), 4_000);
    eprintln!("{} scores came twice", outputs.len() - seen.len());
}

#[test]
fn with_emit_alerts_the_scores_topic_holds_the_alerts_alone() {
    let records = Records::payments(1_000);
    let setting = Setting::new("emit", 1, &records.bundle);
    setting.produce(&records.records, 0, 1_000);
    let mut served = setting.start("[delivery]\nemit = \"alerts\"\n");
    setting.wait_for(&mut served, 1_000);
    served.drain();

    let scores = setting.read(&setting.scores);
    let numbers: Vec<usize> = scores
        .iter()
        .map(|output| {
            let envelope: Value = serde_json::from_str(output.text()).unwrap();
            assert_eq!(envelope["alert"], true);
            setting.assert_envelope(output, &records)
        })
        .collect();
    let expected: Vec<usize> = (0..1_000)
        .filter(|&number| {
            records.p_value(records.records[number].anomaly_score) <= super::material::BUDGET
        })
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(numbers, expected);
    assert_eq!(setting.read(&setting.alerts).len(), expected.len());
}
