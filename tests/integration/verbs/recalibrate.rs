//! `maskwatch recalibrate` as a user runs it: newer rows rank the scores of the same model, and what is refused.

use super::rig::Rig;

/// A rig with a bundle, and payments of another year.
fn with_newer() -> Rig {
    let rig = Rig::trained();
    let world = "--rows 4000 --seed 9 --customers 200 --terminals 100";
    rig.run(&format!("generate --out newer.parquet {world}"))
        .succeeded();
    rig
}

const RECALIBRATE: &str = "recalibrate --model bundle --alert-budget 0.01 --data";

#[test]
fn newer_rows_rank_the_scores_of_the_same_model() {
    let rig = with_newer();
    let said = rig
        .run(&format!("{RECALIBRATE} newer.parquet --out again"))
        .succeeded();
    let (before, after) = (rig.model_id("bundle"), rig.model_id("again"));
    assert_ne!(before, after);
    for part in [
        format!("bundle again  model {after}"),
        "left out by label".to_owned(),
        "as alerts at a budget of 0.010 (of 4,000 rows)".to_owned(),
        "like the newer calibration data".to_owned(),
        "alert rate ".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let shown = rig.run("inspect again").succeeded();
    let line = format!("recalibrated  from model {before}: ");
    assert!(shown.contains(&line), "{shown}");
    rig.run("models add models again").succeeded();
    let listed = rig.run("models list models").succeeded();
    assert!(
        listed.contains(&format!("recalibrated from {before}")),
        "{listed}"
    );
    // What was recalibrated can be recalibrated again.
    rig.run("recalibrate --model again --data newer.parquet --out further --keep-alerts")
        .succeeded();
    let scored = "score --model further --data newer.parquet --out scored.parquet";
    let said = rig.run(scored).succeeded();
    assert!(said.contains(" alerts in 4,000 rows"), "{said}");
}

#[test]
fn what_would_break_the_promise_or_the_parent_is_refused() {
    let rig = with_newer();
    let refused = |line: &str, code: i32, why: &str| {
        let ran = rig.run(&format!("{RECALIBRATE} {line}"));
        assert_eq!(ran.code, Some(code), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{line}: {}", ran.stderr);
        assert!(!rig.path("again").exists());
    };
    refused(
        "newer.parquet --out bundle",
        64,
        "is the bundle to begin with",
    );
    refused(
        "newer.parquet --out again --label amount",
        64,
        "is a feature of this bundle",
    );
    refused(
        "newer.parquet --out again --label no_such",
        65,
        "'no_such' (the label) is missing",
    );
    refused(
        "payments.parquet --out again",
        65,
        "the rows that the model was trained on",
    );
    rig.run("generate --out few.parquet --rows 30 --seed 5")
        .succeeded();
    refused("few.parquet --out again", 65, "at least 50 are needed");
}
