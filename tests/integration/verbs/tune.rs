//! `tune`: few labels make a better bundle, or say that they do not; and what must be refused.

use super::rig::{PAYMENTS, Rig, read, with_column, without_columns, write};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::array::{StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Float32Type, Float64Type};
use serde_json::Value;
use std::fs;
use std::sync::Arc;

/// Rows that train; the rest is labelled, calibrates or is fresh.
const TRAINED: usize = 3_000;
/// Labelled rows: 60 frauds.
const LABELLED: usize = 1_200;

/// Every twentieth payment is a fraud that only its amount tells.
fn is_fraud(row: usize) -> bool {
    row % 20 == 7
}

/// A rig with a bundle that was trained on the first payments, and of the others, in the order of time, `labelled.parquet`,
/// then in turns `calibration.parquet` and `fresh.parquet`.
pub fn rig() -> Rig {
    let rig = Rig::new();
    let payments = read(&rig.path("payments.parquet"));
    let amounts = payments["amount"].as_primitive::<Float64Type>();
    let planted = |row: usize| row >= TRAINED && is_fraud(row);
    let amount = |row: usize| amounts.value(row) * if planted(row) { 30.0 } else { 1.0 };
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values((0..PAYMENTS).map(amount)));
    let labels: ArrayRef = Arc::new(BooleanArray::from_iter(
        (0..PAYMENTS).map(|row| Some(planted(row))),
    ));
    let payments = with_column(&payments, "amount", amounts);
    let payments = with_column(&payments, "is_fraud", labels);
    write(&rig.path("all.parquet"), &payments);
    write(&rig.path("payments.parquet"), &payments.slice(0, TRAINED));
    write(
        &rig.path("labelled.parquet"),
        &payments.slice(TRAINED, LABELLED),
    );
    let rest = |odd: usize| {
        // Frauds stand at odd rows: pairs are dealt out, so that both files have some.
        let rows = (TRAINED + LABELLED..PAYMENTS).filter(|row| row / 20 % 2 == odd);
        let rows = UInt32Array::from_iter_values(rows.map(|row| row as u32));
        take_record_batch(&payments, &rows).unwrap()
    };
    write(&rig.path("calibration.parquet"), &rest(0));
    write(&rig.path("fresh.parquet"), &rest(1));
    rig.init();
    rig.train("schema.toml", "bundle", &[]);
    rig
}

pub const TUNE: &str =
    "tune --model bundle --data labelled.parquet --calibration calibration.parquet --out tuned";

fn precision(rig: &Rig, bundle: &str) -> f64 {
    let line = format!("evaluate --model {bundle} --data fresh.parquet --label is_fraud --json");
    let report: Value = serde_json::from_str(&rig.run(&line).succeeded()).unwrap();
    report["average_precision"].as_f64().unwrap()
}

fn scored(rig: &Rig, bundle: &str, data: &str) -> RecordBatch {
    rig.run(&format!(
        "score --model {bundle} --data {data} --out z.parquet"
    ))
    .succeeded();
    read(&rig.path("z.parquet"))
}

#[test]
fn sixty_labelled_frauds_make_a_bundle_that_finds_more_of_the_later_ones() {
    let rig = rig();
    let before = fs::read(rig.path("bundle/manifest.json")).unwrap();
    let said = rig.run(TUNE).succeeded();
    assert_eq!(fs::read(rig.path("bundle/manifest.json")).unwrap(), before);
    let (parent, tuned) = (rig.model_id("bundle"), rig.model_id("tuned"));
    assert_ne!(parent, tuned);
    let (poor, good) = (precision(&rig, "bundle"), precision(&rig, "tuned"));
    assert!(good > poor + 0.1, "{poor} {good}");

    let page = rig.run("inspect tuned").succeeded();
    let from = format!("from model {parent} on 60 rows labelled 1 and 1140 labelled 0; 0 without");
    let meaning = "a budget b flags at most a share b of normal records";
    for part in [
        &tuned,
        &from,
        "(the latest rows): average precision",
        "kept: boosted trees",
        meaning,
    ] {
        assert!(page.contains(part), "{part}: {page}");
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(page.contains("40 steps"), "{page}");

    // Whoever uses a bundle takes it as any other.
    let kafka = "[kafka]\nbootstrap_servers = \"localhost:1\"\ninput_topics = [\"a\"]\n";
    let serve = format!("{kafka}[alerts]\nbudget = 0.01\n[model]\ndir = \"tuned\"\n");
    fs::write(rig.path("serve.toml"), serve).unwrap();
    let checked = rig.run("check serve.toml").succeeded();
    assert!(
        checked.contains(&format!("model: {tuned} in tuned")),
        "{checked}"
    );
    let line =
        "score --model tuned --data fresh.parquet --out z.parquet --explain --alert-budget 0.05";
    let said = rig.run(line).succeeded();
    assert!(said.contains(&tuned), "{said}");
    let explained = read(&rig.path("z.parquet"));
    assert_eq!(explained["reasons"].null_count(), 0);
    let fired = explained["fired"].as_string::<i32>();
    let alerts = explained["alert"].as_boolean();
    for row in 0..explained.num_rows() {
        assert_eq!(alerts.value(row), !fired.value(row).is_empty(), "row {row}");
    }
    // Labels were about the amount, and the reasons of what they taught begin with it.
    let (reasons, labels) = (
        explained["reasons"].as_list::<i32>(),
        explained["is_fraud"].as_boolean(),
    );
    let (mut told, mut found) = (0, 0);
    for row in (0..explained.num_rows()).filter(|&row| labels.value(row)) {
        found += usize::from(fired.value(row).split(',').any(|of| of == "supervised"));
        let reasons = reasons.value(row);
        let reasons = reasons.as_struct();
        let contributions = reasons.column_by_name("contribution").unwrap();
        let contributions = contributions.as_primitive::<Float32Type>();
        let fields = reasons.column_by_name("field").unwrap().as_string::<i32>();
        let first = !reasons.is_empty() && fields.value(0) == "amount";
        told += usize::from(first && contributions.is_valid(0) && contributions.value(0) > 0.5);
    }
    assert!(found > 30 && told > 20, "{found} {told}");
    assert!(!rig.run("inspect bundle").succeeded().contains("tuned"));
}

#[test]
fn p_values_of_a_tuned_bundle_keep_their_promise_on_fresh_rows() {
    let rig = rig();
    rig.run(TUNE).succeeded();
    let fresh = scored(&rig, "tuned", "fresh.parquet");
    let labels = fresh["is_fraud"].as_boolean();
    let p_values = fresh["p_value"].as_primitive::<Float64Type>().values();
    let normal: Vec<f64> = p_values
        .iter()
        .zip(labels)
        .filter(|(_, label)| *label == Some(false))
        .map(|(p, _)| *p)
        .collect();
    for share in [0.02, 0.1, 0.3] {
        // Fresh and calibration rows are about 850 each: five standard deviations of the difference of two shares.
        let rejected = normal.iter().filter(|&&p| p <= share).count() as f64;
        let bound = 5.0 * (2.0 * share * (1.0 - share) / normal.len() as f64).sqrt();
        let rate = rejected / normal.len() as f64;
        assert!(rate <= share + bound, "{share}: {rate}");
    }
}

#[test]
fn tuning_is_the_same_twice_and_at_any_thread_count() {
    let rig = rig();
    let digested = |name: &str| {
        let files = [
            "manifest.json",
            "weights.safetensors",
            "calibration.parquet",
            "distances.safetensors",
            "trees.safetensors",
        ];
        files.map(|file| fs::read(rig.path(name).join(file)).unwrap())
    };
    rig.run(TUNE).succeeded();
    let first = digested("tuned");
    rig.run_with(TUNE, &[("RAYON_NUM_THREADS", "1")])
        .succeeded();
    assert!(digested("tuned") == first);
    let weights = |name: &str| fs::read(rig.path(name).join("weights.safetensors")).unwrap();
    assert!(weights("bundle") == first[1]);
}

#[test]
fn a_tree_that_was_changed_is_noticed() {
    let rig = rig();
    rig.run(TUNE).succeeded();
    let path = rig.path("tuned/trees.safetensors");
    let mut changed = fs::read(&path).unwrap();
    let at = changed.len() - 400;
    changed[at] ^= 1;
    fs::write(&path, changed).unwrap();
    let message = rig.run("score --model tuned --data fresh.parquet --out z.parquet");
    let message = message.failed(65);
    assert!(message.contains("trees.safetensors"), "{message}");
    fs::remove_file(&path).unwrap();
    let line = "score --model tuned --data fresh.parquet --out z.parquet";
    let message = rig.run(line).failed(65);
    assert!(message.contains("trees.safetensors"), "{message}");
}

#[test]
fn what_is_unusual_without_labels_still_alerts_though_labels_say_nothing_of_it() {
    let rig = rig();
    rig.run(TUNE).succeeded();
    let line = "score --model tuned --data fresh.parquet --alert-budget 0.1 --out z.parquet";
    rig.run(line).succeeded();
    let scored = read(&rig.path("z.parquet"));
    let column = |name: &str| scored[name].as_primitive::<Float64Type>().values().to_vec();
    let unsupervised = column("p_value_unsupervised");
    let supervised = column("p_value_supervised");
    let (alerts, fired) = (
        scored["alert"].as_boolean(),
        scored["fired"].as_string::<i32>(),
    );
    let unusual = (0..scored.num_rows()).filter(|&row| unsupervised[row] <= 0.05);
    let mut unlike = 0;
    for row in unusual {
        assert!(alerts.value(row), "row {row}");
        assert!(fired.value(row).starts_with("unsupervised"), "row {row}");
        unlike += usize::from(supervised[row] > 0.2);
    }
    assert!(unlike > 5, "{unlike}");
}

#[test]
fn what_labels_teach_gets_the_share_of_the_budget_that_was_asked_for() {
    let rig = rig();
    let page = rig.run(&format!("{TUNE} --budget-share 0.8")).succeeded();
    assert!(
        page.contains("budget       0.80 of it for what labels teach"),
        "{page}"
    );
    let scored = scored(&rig, "tuned", "fresh.parquet");
    let column = |name: &str| scored[name].as_primitive::<Float64Type>().values().to_vec();
    let parts = column("p_value_unsupervised")
        .into_iter()
        .zip(column("p_value_supervised"));
    for ((u, s), p) in parts.zip(column("p_value")) {
        let joint = (u / (1.0 - 0.8)).min(s / 0.8).min(1.0);
        assert!((p - joint).abs() < 1e-12, "{u} {s} {p}");
    }
    fs::remove_dir_all(rig.path("tuned")).unwrap();
    let message = rig.run(&format!("{TUNE} --budget-share 1")).failed(64);
    assert!(
        message.contains("--budget-share") && message.contains("below 1"),
        "{message}"
    );
}

#[test]
fn a_budget_held_by_segment_is_shown_as_the_alerts_of_both_detectors_hold_it() {
    let rig = rig();
    // Each detector has a part of the budget only, and a segment must reach the smaller one.
    for (share, needed) in [("0.5", 39), ("0.75", 79)] {
        rig.run(&format!("{TUNE} --budget-share {share}"))
            .succeeded();
        let line = "evaluate --model tuned --data fresh.parquet --label is_fraud \
                    --budget-by channel --alert-budget 0.05";
        let page = rig.run(line).succeeded();
        let headline = page.lines().find(|line| line.contains(" by channel: "));
        let headline = headline.unwrap_or_else(|| panic!("{page}"));
        assert!(
            headline.starts_with("alert budget 0.05 by channel: "),
            "{headline}"
        );
        let rows = format!("rank alone (at least {needed} calibration rows)");
        assert!(headline.contains(&rows), "{headline}");
        // A segment's interval holds the whole budget.
        let own = page.lines().filter(|line| line.contains("  its own "));
        let mut shown = 0;
        for line in own {
            let (low, high) = line
                .split_whitespace()
                .last()
                .unwrap()
                .split_once("..")
                .unwrap();
            let (low, high): (f64, f64) = (low.parse().unwrap(), high.parse().unwrap());
            assert!(low < 0.05 && high > 0.05, "{line}");
            shown += 1;
        }
        assert!(shown > 1, "{page}");
        fs::remove_dir_all(rig.path("tuned")).unwrap();
    }
}

#[test]
fn a_calibration_without_labels_says_so_in_its_promise() {
    let rig = rig();
    let calibration = read(&rig.path("calibration.parquet"));
    let bare = without_columns(&calibration, &["is_fraud"]);
    write(&rig.path("calibration.parquet"), &bare);
    let said = rig.run(TUNE).succeeded();
    assert!(
        said.contains("like the calibration data, frauds included"),
        "{said}"
    );
    assert!(said.contains(&format!(
        "rows: {} calibration, 0 left out",
        bare.num_rows()
    )));
}

#[test]
fn rows_that_would_break_the_promise_are_refused() {
    let rig = rig();
    let refused = |line: &str, code: i32, parts: &[&str]| {
        let before = rig.names();
        let message = rig.run(line).failed(code);
        assert_eq!(rig.names(), before, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    };
    let labelled = read(&rig.path("labelled.parquet"));
    let with = |calibration: &str| TUNE.replace("calibration.parquet", calibration);
    // Labelled rows among the calibration rows are left out and counted.
    fs::create_dir(rig.path("mixed")).unwrap();
    fs::copy(rig.path("calibration.parquet"), rig.path("mixed/a.parquet")).unwrap();
    write(&rig.path("mixed/b.parquet"), &labelled.slice(100, 7));
    let said = rig.run(&with("mixed")).succeeded();
    assert!(said.contains(", 7 as labelled rows"), "{said}");
    fs::remove_dir_all(rig.path("tuned")).unwrap();
    // Unless hardly any other row is left.
    let place =
        "labelled.parquet: row 0 is the labelled row 0 of labelled.parquet, and 1140 calibration";
    refused(
        &with("labelled.parquet"),
        65,
        &[place, "0 rows are left, at least 100"],
    );
    // A labelled fraud among them is left out by its label.
    write(&rig.path("mixed/b.parquet"), &labelled.slice(7, 1));
    rig.run(&with("mixed")).succeeded();
    fs::remove_dir_all(rig.path("tuned")).unwrap();
    // The rows that trained the model.
    refused(
        &with("payments.parquet"),
        65,
        &["payments.parquet: are the rows that the model was trained on"],
    );
    // Some files with the label.
    write(
        &rig.path("mixed/b.parquet"),
        &without_columns(&labelled, &["is_fraud"]),
    );
    refused(
        &with("mixed"),
        65,
        &[
            "b.parquet",
            "'is_fraud' (the label) is missing",
            "of some only",
        ],
    );
}

#[test]
fn labels_that_are_missing_or_too_few_are_refused() {
    let rig = rig();
    let labelled = read(&rig.path("labelled.parquet"));
    let refused = |line: &str, code: i32, parts: &[&str]| {
        let message = rig.run(line).failed(code);
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!rig.path("tuned").exists());
    };
    let with = |data: &str| TUNE.replace("labelled.parquet", data);
    write(&rig.path("few.parquet"), &labelled.slice(0, 180));
    refused(
        &with("few.parquet"),
        65,
        &["few.parquet: 9 rows labelled 1, at least 10 are needed"],
    );
    let ones: ArrayRef = Arc::new(BooleanArray::from(vec![true; LABELLED]));
    write(
        &rig.path("ones.parquet"),
        &with_column(&labelled, "is_fraud", ones),
    );
    refused(
        &with("ones.parquet"),
        65,
        &["ones.parquet: 0 rows labelled 0, at least 50"],
    );
    let nulls: ArrayRef = Arc::new(BooleanArray::new_null(LABELLED));
    write(
        &rig.path("nulls.parquet"),
        &with_column(&labelled, "is_fraud", nulls),
    );
    refused(
        &with("nulls.parquet"),
        65,
        &["0 rows labelled 1", "1200 rows have no label"],
    );
    write(
        &rig.path("bare.parquet"),
        &without_columns(&labelled, &["is_fraud"]),
    );
    refused(
        &with("bare.parquet"),
        65,
        &["bare.parquet: column 'is_fraud' (the label) is missing"],
    );
    let text: ArrayRef = Arc::new(StringArray::from(vec!["maybe"; LABELLED]));
    write(
        &rig.path("text.parquet"),
        &with_column(&labelled, "is_fraud", text),
    );
    refused(&with("text.parquet"), 65, &["text.parquet", "is_fraud"]);
    refused(
        &format!("{TUNE} --label amount"),
        64,
        &["amount", "is a feature of this bundle"],
    );
    refused(
        &TUNE.replace("--out tuned", "--out bundle"),
        64,
        &["is the bundle to begin with"],
    );
    let several = TUNE
        .replace("labelled", "absent")
        .replace("bundle", "nowhere");
    refused(&several, 65, &["2 faults", "absent.parquet", "nowhere"]);
}

#[test]
fn a_label_that_the_schema_does_not_name_must_be_named() {
    let rig = rig();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let unlabelled = schema.replace("role = \"label\"", "role = \"ignore\"");
    fs::write(rig.path("schema.toml"), unlabelled).unwrap();
    rig.train("schema.toml", "bundle", &[]);
    let message = rig.run(TUNE).failed(64);
    for part in ["no field with role \"label\"", "--label"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!rig.path("tuned").exists());
    // The training's own rows are known under whatever schema the label is read.
    let trained = TUNE.replace("calibration.parquet", "payments.parquet");
    let message = rig.run(&format!("{trained} --label is_fraud")).failed(65);
    let refused = "payments.parquet: are the rows that the model was trained on";
    assert!(message.contains(refused), "{message}");
    rig.run(&format!("{TUNE} --label is_fraud")).succeeded();
}
