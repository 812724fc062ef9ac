//! One small benchmark, from file to outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::data::DataSet;
use crate::protocol::Protocol;
use crate::run::Prepared;
use crate::sets::{SetSpec, Sets};
use arrow::array::{
    ArrayRef, Float32Array, Int8Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use maskwatch_learn::recipe::TrainConfig;
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows of the small set.
const ROWS: usize = 600;

/// A set in which two numbers agree but for the anomalies, one row in 20.
fn write_small_set(folder: &Path) {
    let is_anomaly = |i: usize| i % 20 == 7;
    let x = |i: usize| ((i * i) as f32).sin();
    let y = move |i: usize| if is_anomaly(i) { -3.0 * x(i) } else { x(i) };
    let columns: [(&str, ArrayRef); 5] = [
        ("x", Arc::new((0..ROWS).map(x).collect::<Float32Array>())),
        (
            "y",
            Arc::new((0..ROWS).map(|i| Some(y(i))).collect::<Float32Array>()),
        ),
        (
            "kind",
            Arc::new(
                (0..ROWS)
                    .map(|i| Some(["a", "b"][i % 2]))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "at",
            Arc::new(
                (0..ROWS as i64)
                    .map(|i| Some(i * 60_000_000))
                    .collect::<TimestampMicrosecondArray>(),
            ),
        ),
        (
            "label",
            Arc::new(
                (0..ROWS)
                    .map(|i| Some(i8::from(is_anomaly(i))))
                    .collect::<Int8Array>(),
            ),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(folder.join("small.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn small_set(keys: &str) -> SetSpec {
    let protocols = "protocols = ['half_split', 'dte', 'time_split', 'time_split_clean']";
    toml::from_str(&format!("name = 'small'\ntime = 'at'\n{protocols}\n{keys}")).unwrap()
}

/// A training of a tenth of a second.
fn small_training() -> TrainConfig {
    let text = "[model]\nwidth = 16\nblocks = 1\n[views]\nratios = [0.35, 1.0]\nrounds = 1\n\
                [training]\nsteps = 60\nevaluate_every_steps = 30\n";
    toml::from_str(text).unwrap()
}

#[test]
fn a_division_is_trained_on_scored_and_found_again_with_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    write_small_set(folder.path());
    let data = DataSet::read(small_set("drop = ['at']"), folder.path()).unwrap();
    let run = |seed| {
        let prepared = Prepared::new(&data, Protocol::HalfSplit, seed).unwrap();
        (
            prepared.run_model(&small_training()).unwrap(),
            prepared.run_baselines().unwrap(),
        )
    };
    let (model, baselines) = run(0);
    assert_eq!((model.rows.train, model.rows.train_anomalies), (285, 0));
    assert_eq!((model.rows.test, model.rows.test_anomalies), (315, 30));
    let report = model.model.as_ref().unwrap();
    assert!(report.training_seconds > 0.0 && report.scoring_records_per_second > 0.0);
    let methods: Vec<&str> = baselines
        .rankings
        .iter()
        .map(|ranking| ranking.method.as_str())
        .collect();
    assert_eq!(methods, maskwatch_learn::evaluate::Baselines::NAMES);
    // The nearest neighbours see broken agreement of two numbers; chance is 30 / 315.
    assert!(
        baselines.rankings[1].average_precision > 0.9,
        "{baselines:?}"
    );
    let again = run(0);
    assert_eq!(again.0.rankings, model.rankings);
    assert_eq!(again.0.model.unwrap().model_id, report.model_id);
    assert_eq!(again.1.rankings, baselines.rankings);
    assert_ne!(run(1).1.rankings, baselines.rankings);
}

#[test]
fn labels_reach_no_training_file_and_only_named_columns_do() {
    let folder = tempfile::tempdir().unwrap();
    write_small_set(folder.path());
    let columns = |keys: &str| -> Vec<String> {
        let data = DataSet::read(small_set(keys), folder.path()).unwrap();
        let schema = data.features(&[0, 5]).unwrap().schema();
        schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    };
    assert_eq!(columns(""), ["x", "y", "kind", "at"]);
    assert_eq!(columns("drop = ['kind', 'at']"), ["x", "y"]);
    assert_eq!(columns("features = ['y']"), ["y"]);
    let unknown = DataSet::read(small_set("drop = ['z']"), folder.path());
    assert!(format!("{:#}", unknown.err().unwrap()).contains("no column `z`"));
}

#[test]
fn contaminated_and_clean_divisions_differ_by_the_anomalies_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_small_set(folder.path());
    let data = DataSet::read(small_set(""), folder.path()).unwrap();
    let dirty = data.split(Protocol::TimeSplit, 0).unwrap();
    let clean = data.split(Protocol::TimeSplitClean, 0).unwrap();
    assert_eq!((dirty.train.len(), clean.train.len()), (300, 285));
    assert_eq!(dirty.test, clean.test);
    let small = DataSet::read(small_set("rows_max = 100"), folder.path()).unwrap();
    let split = small.split(Protocol::Dte, 0).unwrap();
    assert_eq!(split.train.len() + split.test.len(), 100);
}

#[test]
fn a_file_that_nobody_described_is_divided_in_half() {
    let folder = tempfile::tempdir().unwrap();
    write_small_set(folder.path());
    let (found, notes) = Sets::shipped().unwrap().found(folder.path()).unwrap();
    assert_eq!((found.len(), found[0].name.as_str()), (1, "small"));
    assert_eq!(found[0].protocols, [Protocol::HalfSplit]);
    assert!(
        notes.contains(&"adbench_thyroid: no such file".to_owned()),
        "{notes:?}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(Sets::shipped().unwrap().found(empty.path()).is_err());
}

#[test]
fn a_folder_of_sets_divided_by_their_own_column_is_one_family() {
    let folder = tempfile::tempdir().unwrap();
    let many = folder.path().join("odd");
    std::fs::create_dir(&many).unwrap();
    write_small_set(&many);
    let sets = Sets::shipped().unwrap();
    let (found, notes) = sets.found(folder.path()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].family.as_deref(), Some("OddBench"));
    assert_eq!(found[0].protocols, [Protocol::GivenSplit]);
    let whole = format!("odd: 1 of {} files are there", sets.family_size("OddBench"));
    assert!(notes.contains(&whole), "{notes:?}");
    // The small set has no column of parts.
    let missing = DataSet::read(found[0].clone(), folder.path());
    assert!(format!("{:#}", missing.err().unwrap()).contains("no column `split`"));
    let by_kind = SetSpec {
        split: Some("kind".to_owned()),
        ..found[0].clone()
    };
    let data = DataSet::read(by_kind, folder.path()).unwrap();
    let error = data.split(Protocol::GivenSplit, 0).err().unwrap();
    assert!(error.to_string().contains("the split is \"a\""), "{error}");
    let features = data.features(&[0]).unwrap().schema();
    assert!(features.index_of("kind").is_err(), "{features:?}");
}
