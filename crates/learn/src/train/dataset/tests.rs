//! Training data of small files: parts, samples, what is left out.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::train::Unobserved;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use std::collections::BTreeSet;
use std::sync::Arc;

const ROWS: i64 = 1000;

fn schema() -> Schema {
    let text = "[[field]]\nname = \"x\"\nkind = \"numeric\"\n\
                [[field]]\nname = \"fraud\"\nkind = \"boolean\"\nrole = \"label\"\n\
                [[field]]\nname = \"at\"\nkind = \"timestamp\"\nrole = \"time\"\n";
    Schema::parse(text, "test").unwrap()
}

/// Row i has x = i, time i and is a fraud if i is a multiple of 10; in row groups of 300.
fn source(folder: &std::path::Path) -> ParquetSource {
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| i as f64)));
    let fraud: ArrayRef = Arc::new(BooleanArray::from_iter(
        (0..ROWS).map(|i| Some(i % 10 == 0)),
    ));
    let at = TimestampMicrosecondArray::from_iter_values(0..ROWS).with_timezone("UTC");
    let at: ArrayRef = Arc::new(at);
    let batch = RecordBatch::try_from_iter([("x", x), ("fraud", fraud), ("at", at)]).unwrap();
    written(folder, "rows.parquet", &batch)
}

/// The rows of `batch` as the only file of a source, in row groups of 300.
fn written(folder: &std::path::Path, name: &str, batch: &RecordBatch) -> ParquetSource {
    let path = folder.join(name);
    let file = std::fs::File::create(&path).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(300))
        .build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    ParquetSource::open(&[path.display().to_string()]).unwrap()
}

fn dataset(options: DatasetOptions) -> Result<Dataset, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    read(&source(folder.path()), &schema(), &options, &mut Unobserved)
}

fn options() -> DatasetOptions {
    DatasetOptions {
        exclude_labelled: false,
        split: Split::Random,
        head_classes_max: 16,
        fit_bytes_max: DEFAULT_FIT_BYTES_MAX,
        bad_share_max: 0.0,
        seed: 5,
    }
}

/// The data of the same rows, of which every 50th has an `x` that is no number.
fn with_bad_rows(bad_share_max: f64) -> Result<Dataset, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let x = |i: i64| {
        if i % 50 == 7 {
            "bad".to_owned()
        } else {
            i.to_string()
        }
    };
    let x: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(
        (0..ROWS).map(x),
    ));
    let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
    let source = written(folder.path(), "rows.parquet", &batch);
    let text = "[[field]]\nname = \"x\"\nkind = \"numeric\"\nparse = true\n";
    let schema = Schema::parse(text, "test").unwrap();
    let options = DatasetOptions {
        bad_share_max,
        ..options()
    };
    read(&source, &schema, &options, &mut Unobserved)
}

#[test]
fn a_few_bad_rows_are_left_out_and_counted_if_that_is_allowed() {
    let error = with_bad_rows(0.0).unwrap_err().to_string();
    assert!(error.contains("row 7: wrong_type"), "{error}");
    assert!(error.contains("training.skip_bad_rows"), "{error}");
    let error = with_bad_rows(0.019).unwrap_err().to_string();
    assert!(
        error.contains("20 of 1000 rows are bad, over the share of 0.019"),
        "{error}"
    );
    let data = with_bad_rows(0.02).unwrap();
    assert_eq!(data.bad_rows.count, 20);
    let first = data.bad_rows.first.as_deref().unwrap();
    assert!(
        first.contains("rows.parquet, row 7 (from 0): wrong_type"),
        "{first}"
    );
    let parts = [&data.fit, &data.reference, &data.calibration].map(|part| rows(&data, part));
    let kept: BTreeSet<i64> = parts.iter().flatten().copied().collect();
    assert_eq!(kept, (0..ROWS).filter(|i| i % 50 != 7).collect());
    assert_eq!(
        (data.calibration.rows(), data.fingerprint.rows),
        (196, 1000)
    );
}

#[test]
fn the_moments_of_bad_rows_vouch_for_no_others() {
    // Every 50th row is bad, and its moment is the beginning of 1970.
    let is_bad = |i: i64| i % 50 == 7;
    let x = (0..ROWS).map(|i| {
        if is_bad(i) {
            "bad".to_owned()
        } else {
            i.to_string()
        }
    });
    let x: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(x));
    let of_2026 = 1_767_600_000_000_000;
    let at = (0..ROWS).map(|i| if is_bad(i) { i } else { of_2026 + i });
    let at = TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC");
    let batch = RecordBatch::try_from_iter([("x", x), ("at", Arc::new(at) as ArrayRef)]);
    let text = "[[field]]\nname = 'x'\nkind = 'numeric'\nparse = true\n\
                [[field]]\nname = 'at'\nkind = 'timestamp'\n";
    let schema = Schema::parse(text, "test").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = written(folder.path(), "rows.parquet", &batch.unwrap());
    let options = DatasetOptions {
        bad_share_max: 0.02,
        ..options()
    };
    let data = read(&source, &schema, &options, &mut Unobserved).unwrap();
    let mut far: Vec<i64> = Vec::new();
    for batch in source.batches(&schema, ReadOptions::default()) {
        let batch = batch.unwrap();
        let faults = data.encoder.moment_faults(&batch.canonical, &schema, None);
        far.extend(
            faults
                .iter()
                .map(|fault| batch.first_row as i64 + fault.row as i64),
        );
    }
    assert_eq!(far, (0..ROWS).filter(|&i| is_bad(i)).collect::<Vec<_>>());
}

#[test]
fn too_few_rows_are_refused_before_the_encoder_with_the_least() {
    struct NoStage;
    impl TrainObserver for NoStage {
        fn progress(&mut self, _: &crate::train::Progress) {}
        fn calibration_rows(&mut self, rows: u64) {
            panic!("{rows} rows were said to be enough");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..49).map(f64::from)));
    let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
    let source = written(folder.path(), "few.parquet", &batch);
    let schema = Schema::parse("[[field]]\nname = 'x'\nkind = 'numeric'\n", "test").unwrap();
    let error = read(&source, &schema, &options(), &mut NoStage)
        .unwrap_err()
        .to_string();
    let expected = "few.parquet: 49 rows to train on; training needs at least 50";
    assert!(error.ends_with(expected), "{error}");
}

/// The rows of the file that a part holds, told by their value.
fn rows(dataset: &Dataset, records: &Records) -> BTreeSet<i64> {
    let crate::encode::ValueEncoder::Numeric(encoder) = &dataset.encoder.fields()[0].value else {
        panic!("x is a number")
    };
    (0..records.rows())
        .map(|row| encoder.decode(records.numbers(row)[0]).round() as i64)
        .collect()
}

#[test]
fn fit_reference_and_calibration_rows_are_disjoint_and_nothing_is_lost() {
    let data = dataset(options()).unwrap();
    let parts = [&data.fit, &data.reference, &data.calibration].map(|part| rows(&data, part));
    assert_eq!(parts.each_ref().map(BTreeSet::len), [700, 100, 200]);
    let all: BTreeSet<i64> = parts.iter().flatten().copied().collect();
    assert_eq!(all, (0..ROWS).collect());
}

#[test]
fn the_encoder_is_fitted_to_the_fit_rows_alone() {
    let data = dataset(options()).unwrap();
    let fit = rows(&data, &data.fit);
    let mean = fit.iter().sum::<i64>() as f64 / fit.len() as f64;
    let crate::encode::ValueEncoder::Numeric(encoder) = &data.encoder.fields()[0].value else {
        panic!("x is a number")
    };
    assert!((encoder.mean - mean).abs() < 1e-9);
    assert_eq!(data.encoder.fields()[0].rows, 700);
}

#[test]
fn labelled_rows_can_be_left_out_and_never_come_back() {
    let data = dataset(DatasetOptions {
        exclude_labelled: true,
        ..options()
    })
    .unwrap();
    assert_eq!(data.excluded_rows, 100);
    for part in [&data.fit, &data.reference, &data.calibration] {
        assert!(rows(&data, part).iter().all(|row| row % 10 != 0));
    }
    assert_eq!(data.fingerprint.rows, 1000);
}

#[test]
fn the_latest_split_calibrates_on_the_latest_fifth() {
    let data = dataset(DatasetOptions {
        split: Split::Latest,
        ..options()
    })
    .unwrap();
    assert_eq!(rows(&data, &data.calibration), (800..ROWS).collect());
    assert!(rows(&data, &data.reference).iter().all(|&row| row < 800));
}

#[test]
fn fit_rows_beyond_memory_are_sampled_uniformly() {
    // A record of one number takes 8 bytes, 4 a scale, and one for its presence.
    let data = dataset(DatasetOptions {
        fit_bytes_max: 900,
        ..options()
    })
    .unwrap();
    assert_eq!((data.fit.rows(), data.fit_rows), (100, 700));
    let kept = rows(&data, &data.fit);
    let late = kept.iter().filter(|&&row| row >= 500).count();
    assert!(
        (25..=75).contains(&late),
        "{late} of 100 from the later half"
    );
}

#[test]
fn a_selection_sample_keeps_exactly_as_many_as_it_should() {
    for keep in [0, 1, 300, 999, 1000, 5000] {
        let mut sample = SelectionSample::new(1000, keep, 1, Purpose::Tests);
        let taken = (0..1000).filter(|_| sample.take()).count() as u64;
        assert_eq!(taken, keep.min(1000));
    }
}

#[test]
fn a_time_quantile_is_found_in_a_bounded_sample() {
    let mut sample = TimeSample::new(0);
    (0..3_000_000).for_each(|time| sample.observe(time));
    assert_eq!(sample.times.len(), TIME_SAMPLE_ROWS);
    let from = sample.quantile(0.8);
    assert!((from - 2_400_000).abs() < 10_000, "{from}");
}
