//! `evaluate --baselines`: simpler methods beside the model, fitted to files of the user's.

use super::rig::{Rig, read, with_column, without_columns, write};
use arrow::array::{AsArray, BooleanArray};
use serde_json::Value;
use std::sync::Arc;

const EVALUATE: &str = "evaluate --model bundle --data payments.parquet --label is_fraud";

#[test]
fn baselines_are_reported_where_asked_for_and_change_nothing_else() {
    let rig = Rig::trained();
    let json = |line: &str| -> Value {
        let text = rig.run(&format!("{EVALUATE} --json {line}")).succeeded();
        serde_json::from_str(&text).unwrap()
    };
    let plain = json("");
    assert!(plain.get("baselines").is_none());
    let mut compared = json("--baselines payments.parquet");
    let baselines = compared["baselines"].take();
    compared.as_object_mut().unwrap().remove("baselines");
    assert_eq!(compared, plain);
    let names: Vec<_> = baselines
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["name"])
        .collect();
    assert_eq!(
        names,
        ["isolation_forest", "k_nearest", "principal_components"]
    );
    for baseline in baselines.as_array().unwrap() {
        for metric in ["roc_auc", "average_precision"] {
            let value = baseline[metric].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&value), "{baseline}");
        }
    }
    assert_eq!(json("--baselines payments.parquet")["baselines"], baselines);
    let text = rig
        .run(&format!("{EVALUATE} --baselines payments.parquet"))
        .succeeded();
    let line = text
        .lines()
        .find(|line| line.starts_with("k_nearest"))
        .unwrap();
    let value = baselines[1]["average_precision"].as_f64().unwrap();
    assert!(line.ends_with(&format!("{value:.4}")), "{line}");
}

#[test]
fn baselines_need_no_label_and_never_see_one() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    write(
        &rig.path("bare.parquet"),
        &without_columns(&payments, &["is_fraud"]),
    );
    let turned: BooleanArray = payments["is_fraud"]
        .as_boolean()
        .iter()
        .map(|l| l.map(|l| !l))
        .collect();
    assert_eq!(turned.len(), payments.num_rows());
    write(
        &rig.path("turned.parquet"),
        &with_column(&payments, "is_fraud", Arc::new(turned)),
    );
    let with = |file: &str| {
        rig.run(&format!("{EVALUATE} --baselines {file}"))
            .succeeded()
    };
    assert_eq!(with("bare.parquet"), with("payments.parquet"));
    assert_eq!(with("turned.parquet"), with("payments.parquet"));
}

#[test]
fn training_files_that_cannot_be_used_are_told_with_why() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    write(&rig.path("few.parquet"), &payments.slice(0, 5));
    let told = rig
        .run(&format!("{EVALUATE} --baselines few.parquet"))
        .failed(65);
    assert!(
        told.contains("few.parquet") && told.contains("5 training rows, expected at least 6"),
        "{told}"
    );
    write(
        &rig.path("other.parquet"),
        &without_columns(&payments, &["amount"]),
    );
    let told = rig
        .run(&format!("{EVALUATE} --baselines other.parquet"))
        .failed(65);
    assert!(told.contains("amount"), "{told}");
    rig.run(&format!("{EVALUATE} --baselines no.parquet"))
        .failed(65);
}
