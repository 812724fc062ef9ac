//! Fields with the role `context`: the model sees them, and what is normal of the others depends on them, but no value of them is
//! unusual by itself.

use super::rig::{Rig, read, with_column, write};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Float64Type};
use arrow::util::display::array_value_to_string;
use std::fs;
use std::sync::Arc;

const SCHEMA: &str = "[[field]]\nname = \"segment\"\nkind = \"categorical\"\nrole = \"ROLE\"\n\
                      [[field]]\nname = \"amount\"\nkind = \"numeric\"\n\
                      [[field]]\nname = \"distance\"\nkind = \"numeric\"\n";

/// Payments of some 10 in the segment `home`, of some 20 in `abroad`, one payment in three.
fn payments(rows: usize) -> RecordBatch {
    let at = |row: usize, factor: usize| (row * factor % 997) as f64 / 997.0;
    let is_abroad = |row: usize| row % 3 == 1;
    let amount = |row: usize| match is_abroad(row) {
        true => 19.0 + 2.0 * at(row, 389),
        false => 9.0 + 2.0 * at(row, 389),
    };
    let segments = (0..rows).map(|row| if is_abroad(row) { "abroad" } else { "home" });
    table(
        segments.collect(),
        (0..rows).map(amount).collect(),
        (0..rows).map(|row| at(row, 613)).collect(),
    )
}

fn table(segments: Vec<&str>, amounts: Vec<f64>, distances: Vec<f64>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("segment", Arc::new(StringArray::from(segments))),
        ("amount", Arc::new(Float64Array::from(amounts))),
        ("distance", Arc::new(Float64Array::from(distances))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Scores, p-values and reasons of (home, 10), (abroad, 20), (home, 20), (never seen, 10) where the segment has this role.
fn judged(role: &str) -> (Vec<f32>, Vec<f64>, Vec<String>) {
    let rig = Rig::empty();
    fs::write(rig.path("schema.toml"), SCHEMA.replace("ROLE", role)).unwrap();
    let config =
        "[model]\nwidth = 32\nblocks = 1\n[training]\nsteps = 800\nevaluate_every_steps = 100\n";
    fs::write(rig.path("train.toml"), config).unwrap();
    write(&rig.path("payments.parquet"), &payments(6_000));
    rig.train("schema.toml", "bundle", &[]);
    let page = rig.run("inspect bundle").succeeded();
    let shown = format!("segment   categorical  {role}");
    assert!(page.contains(&shown), "{page}");
    let few = table(
        vec!["home", "abroad", "home", "elsewhere"],
        vec![10.0, 20.0, 20.0, 10.0],
        vec![0.4; 4],
    );
    write(&rig.path("few.parquet"), &few);
    rig.run("score --model bundle --data few.parquet --out scored.parquet --explain")
        .succeeded();
    let scored = read(&rig.path("scored.parquet"));
    (
        scored["anomaly_score"]
            .as_primitive::<Float32Type>()
            .values()
            .to_vec(),
        scored["p_value"]
            .as_primitive::<Float64Type>()
            .values()
            .to_vec(),
        (0..scored.num_rows())
            .map(|row| array_value_to_string(&scored["reasons"], row).unwrap())
            .collect(),
    )
}

#[test]
fn what_is_normal_depends_on_the_context_of_which_nothing_is_unusual_by_itself() {
    let (scores, p_values, reasons) = judged("context");
    let [home, abroad, broken, unseen] = scores[..] else {
        panic!("{scores:?}")
    };
    // The same amount is usual in one segment and not in the other.
    assert!(broken > 1.5 * abroad.max(home), "{scores:?}");
    assert!(p_values[2] < 0.01 && p_values[1] > 0.05, "{p_values:?}");
    assert!(reasons[2].contains("field: amount"), "{}", reasons[2]);
    // No segment is a reason, not even one that nobody has seen.
    assert!(
        reasons.iter().all(|text| !text.contains("field: segment")),
        "{reasons:?}"
    );
    // As a feature the same segment is what costs most.
    let (as_feature, _, reasons) = judged("feature");
    assert!(as_feature[3] > unseen, "{as_feature:?} {scores:?}");
    assert!(reasons[3].contains("field: segment"), "{}", reasons[3]);
}

#[test]
fn trees_of_labels_may_read_the_context_which_is_no_reason_of_theirs_either() {
    let rig = Rig::empty();
    let labelled = format!(
        "{}[[field]]\nname = \"is_fraud\"\nrole = \"label\"\n",
        SCHEMA.replace("ROLE", "context")
    );
    fs::write(rig.path("schema.toml"), labelled).unwrap();
    let config =
        "[model]\nwidth = 16\nblocks = 1\n[training]\nsteps = 60\nevaluate_every_steps = 30\n";
    fs::write(rig.path("train.toml"), config).unwrap();
    // Frauds are ordinary amounts of one segment that come from far away: only with the segment can trees tell them.
    let part = |start: usize| {
        let rows = payments(6_000).slice(start, 2_000);
        let far = rows["distance"].as_primitive::<Float64Type>().values();
        let segments = rows["segment"].as_string::<i32>();
        let is_fraud = |row: usize| far[row] > 0.8 && segments.value(row) == "abroad";
        let frauds: ArrayRef = Arc::new(BooleanArray::from_iter(
            (0..rows.num_rows()).map(|row| Some(is_fraud(row))),
        ));
        with_column(&rows, "is_fraud", frauds)
    };
    for (name, start) in [("payments", 0), ("later", 2_000), ("latest", 4_000)] {
        write(&rig.path(&format!("{name}.parquet")), &part(start));
    }
    rig.train("schema.toml", "first", &["--exclude-labelled"]);
    let tuned = "tune --model first --data later.parquet --calibration latest.parquet --out bundle";
    let said = rig.run(tuned).succeeded();
    assert!(said.contains("kept: boosted trees"), "{said}");
    rig.run("score --model bundle --data latest.parquet --out scored.parquet --explain")
        .succeeded();
    let scored = read(&rig.path("scored.parquet"));
    let reasons = (0..scored.num_rows())
        .map(|row| array_value_to_string(&scored["reasons"], row).unwrap())
        .collect::<Vec<_>>();
    let with_trees = reasons
        .iter()
        .filter(|text| text.contains("contribution: ") && !text.contains("contribution: }"));
    assert!(with_trees.count() > 50, "{:?}", &reasons[..20]);
    assert!(reasons.iter().all(|text| !text.contains("field: segment")));
}

#[test]
fn a_schema_of_context_alone_and_objectives_that_hide_nothing_are_refused() {
    let rig = Rig::empty();
    write(&rig.path("payments.parquet"), &payments(200));
    let context = SCHEMA.replace("ROLE", "context");
    fs::write(rig.path("schema.toml"), &context).unwrap();
    fs::write(
        rig.path("train.toml"),
        "[experimental]\nobjective = \"autoencoder\"\n",
    )
    .unwrap();
    let train =
        "train --data payments.parquet --schema schema.toml --config train.toml --out bundle";
    let told = "field `segment` has the role context: experimental.objective must be \"masked\"";
    let message = rig.run(train).failed(64);
    assert!(message.contains(told), "{message}");
    let all = context.replace("\"numeric\"", "\"numeric\"\nrole = \"context\"");
    fs::write(rig.path("schema.toml"), all).unwrap();
    let message = rig.run(train).failed(64);
    assert!(
        message.contains("at least one field with the role `feature`"),
        "{message}"
    );
}
