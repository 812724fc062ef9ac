//! Parquet at rest: the order of rows, what is refused, and damage.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;

const SCHEMA: &str = "[[field]]\nname='id'\nrole='key'\n\
                      [[field]]\nname='x'\nkind='numeric'\n\
                      [[field]]\nname='c'\nkind='categorical'\npath='n.c'\n\
                      [[field]]\nname='y'\nrole='label'\n";

fn schema() -> Schema {
    Schema::parse(SCHEMA, "s.toml").unwrap()
}

/// Rows `from..to` of a table whose every value follows from the row.
fn table(from: i64, to: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new((from..to).map(Some).collect::<Int64Array>());
    let xs: ArrayRef = Arc::new(
        (from..to)
            .map(|i| Some(i as f64 / 8.0))
            .collect::<Float64Array>(),
    );
    let cs: ArrayRef = Arc::new(
        (from..to)
            .map(|i| Some(format!("c{}", i % 7)))
            .collect::<StringArray>(),
    );
    let nested: ArrayRef = Arc::new(StructArray::from(vec![
        (
            Arc::new(Field::new("unused", DataType::Int64, true)),
            Arc::clone(&ids),
        ),
        (Arc::new(Field::new("c", DataType::Utf8, true)), cs),
    ]));
    let ys: ArrayRef = Arc::new((from..to).map(|i| Some(i % 2)).collect::<Int64Array>());
    let columns = [
        ("y", ys),
        ("n", nested),
        ("spare", Arc::clone(&xs)),
        ("x", xs),
        ("id", ids),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch, row_group_rows: usize) -> String {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_compression(Compression::ZSTD(Default::default()))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    path.display().to_string()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

fn open_error(inputs: &[String]) -> String {
    ParquetSource::open(inputs).unwrap_err().to_string()
}

/// Reads to the end or to the first error.
fn read(inputs: &[String]) -> Result<u64, DataError> {
    let source = ParquetSource::open(inputs)?;
    let schema = schema();
    let mut rows = 0;
    for batch in source.batches(&schema, ReadOptions::default()) {
        rows += batch?.canonical.num_rows() as u64;
    }
    Ok(rows)
}

#[test]
fn files_are_read_in_the_order_of_their_paths_and_rows_keep_their_place() {
    let (_guard, folder) = folder();
    let second = write(&folder.join("b.parquet"), &table(25, 40), 100);
    let first = write(&folder.join("a.parquet"), &table(0, 25), 10);
    let source = ParquetSource::open(&[second, first]).unwrap();
    assert_eq!(source.rows(), 40);
    let schema = schema();
    for keep_raw in [false, true] {
        let mut next = 0;
        for batch in source.batches(
            &schema,
            ReadOptions {
                batch_rows: 7,
                keep_raw,
            },
        ) {
            let batch = batch.unwrap();
            let start = if batch.file == 0 { 0 } else { 25 };
            assert_eq!(start + batch.first_row, next as u64);
            let rows = batch.canonical.num_rows();
            let numbers = batch
                .canonical
                .column(1)
                .as_primitive::<Float64Type>()
                .clone();
            let expected = (next..next + rows).map(|row| Some(row as f64 / 8.0));
            assert!(numbers.iter().eq(expected));
            let categories = batch.canonical.column(2).as_string::<i32>();
            assert_eq!(categories.value(0), format!("c{}", next % 7));
            assert_eq!(batch.raw.is_some(), keep_raw);
            if let Some(raw) = batch.raw {
                assert_eq!(raw, table(next as i64, (next + rows) as i64));
            }
            next += rows;
        }
        assert_eq!(next, 40);
    }
}

#[test]
fn only_the_leaves_of_the_schema_are_decoded() {
    let (_guard, folder) = folder();
    let input = write(&folder.join("a.parquet"), &table(0, 5), 10);
    let source = ParquetSource::open(&[input]).unwrap();
    let schema = schema();
    let batch = source
        .stream(Some(&schema), 10)
        .next()
        .unwrap()
        .unwrap()
        .records;
    let names: Vec<&str> = batch
        .schema_ref()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    assert_eq!(names, ["y", "n", "x", "id"]);
    assert_eq!(batch.column(1).as_struct().column_names(), ["c"]);
}

#[test]
fn inputs_without_files_without_rows_or_given_twice_are_refused() {
    let (_guard, folder) = folder();
    assert_eq!(open_error(&[]), "no Parquet file found in an empty list");
    let full = write(&folder.join("a.parquet"), &table(0, 5), 10);
    let empty = write(&folder.join("b.parquet"), &table(0, 0), 10);
    assert_eq!(
        open_error(std::slice::from_ref(&empty)),
        format!("{empty} has no rows: at least 1 is needed")
    );
    // A shell makes a list of a pattern: an empty file among others is no more than in a folder.
    assert_eq!(read(&[full.clone(), empty]).unwrap(), 5);
    let both = folder.display().to_string();
    assert_eq!(read(std::slice::from_ref(&both)).unwrap(), 5);
    assert_eq!(
        open_error(&[both, full.clone()]),
        format!("{full} is given twice")
    );
}

#[test]
fn a_column_that_some_files_lack_is_null_there_and_one_that_all_lack_is_told() {
    let (_guard, folder) = folder();
    let good = table(0, 5);
    write(
        &folder.join("a.parquet"),
        &good.project(&[0, 1, 4]).unwrap(),
        10,
    );
    let both = folder.display().to_string();
    let schema = schema();
    let source = ParquetSource::open(std::slice::from_ref(&both)).unwrap();
    let error = source.check(&schema).unwrap_err().to_string();
    let numbers = "expected numbers (text needs `parse = true`)";
    let expected = format!(
        "the schema does not fit the data:\n  {both}/a.parquet: field `x`, column `x`: {numbers}, found no `x`"
    );
    assert_eq!(error, expected);

    write(&folder.join("b.parquet"), &good, 10);
    let source = ParquetSource::open(std::slice::from_ref(&both)).unwrap();
    let batches = source.batches(&schema, ReadOptions::default());
    let batches: Vec<SourceBatch> = batches.collect::<Result<_, _>>().unwrap();
    let nulls = batches
        .iter()
        .map(|batch| batch.canonical.column(1).null_count());
    assert_eq!(nulls.collect::<Vec<_>>(), [5, 0]);
    assert_eq!(
        source.notes(&schema),
        [format!(
            "field `x`: 1 of 2 files have no column `x` (the first: {both}/a.parquet); it is null in their rows"
        )]
    );
}

#[test]
fn types_that_do_not_go_together_are_named_with_file_and_column_and_nothing_else_fails() {
    let (_guard, folder) = folder();
    let good = table(0, 5);
    write(&folder.join("a.parquet"), &good, 10);
    let spare: ArrayRef = Arc::new(StringArray::from(vec!["1"; 5]));
    let column = |name: &str, column: &ArrayRef| (name.to_owned(), Arc::clone(column));
    let odd = |x: &ArrayRef, spare: &ArrayRef| {
        let columns = [
            column("x", x),
            column("spare", spare),
            column("n", good.column(1)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    write(&folder.join("b.parquet"), &odd(good.column(3), &spare), 10);
    let schema = schema();
    let both = folder.display().to_string();
    let fault_of = |name: &str| {
        format!("{both}/b.parquet: column `{name}` is Utf8, in {both}/a.parquet it is Float64")
    };
    // A column that nobody reads is in nobody's way.
    assert_eq!(read(std::slice::from_ref(&both)).unwrap(), 10);
    let source = ParquetSource::open(std::slice::from_ref(&both)).unwrap();
    let raw = source.raw_batches(10).next().unwrap().unwrap_err();
    assert!(raw.to_string().contains(&fault_of("spare")), "{raw}");
    let options = ReadOptions {
        keep_raw: true,
        ..ReadOptions::default()
    };
    assert!(source.batches(&schema, options).next().unwrap().is_err());

    write(&folder.join("b.parquet"), &odd(&spare, good.column(3)), 10);
    let error = read(std::slice::from_ref(&both)).unwrap_err().to_string();
    assert!(error.contains(&fault_of("x")), "{error}");
    assert!(!error.contains("spare"), "{error}");
}

#[test]
fn folders_that_name_a_column_give_it_and_hide_one_of_that_name() {
    let (_guard, folder) = folder();
    let days = folder.join("day=2026-01-05");
    let (third, fourth) = (days.join("x=3"), days.join("x=__HIVE_DEFAULT_PARTITION__"));
    for path in [&third, &fourth] {
        std::fs::create_dir_all(path).unwrap();
        write(&path.join("part.parquet"), &table(0, 5), 10);
    }
    let source = ParquetSource::open(&[folder.display().to_string()]).unwrap();
    let schema = schema();
    for options in [false, true].map(|keep_raw| ReadOptions {
        keep_raw,
        ..ReadOptions::default()
    }) {
        let batches = source.batches(&schema, options);
        let batches: Vec<SourceBatch> = batches.collect::<Result<_, _>>().unwrap();
        let numbers = batches[0].canonical.column(1).as_primitive::<Float64Type>();
        assert_eq!(numbers.values(), &[3.0; 5]);
        assert_eq!(batches[1].canonical.column(1).null_count(), 5);
        let keys = batches[1].canonical.column(0).as_string::<i32>();
        assert_eq!(keys.value(4), "4");
        if let Some(raw) = &batches[0].raw {
            let names: Vec<_> = raw
                .schema_ref()
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .collect();
            assert_eq!(names, ["y", "n", "spare", "x", "id", "day"]);
            assert_eq!(raw.column(3).as_primitive::<Int64Type>().values(), &[3; 5]);
            assert_eq!(raw.column(5).data_type(), &DataType::Date32);
        }
    }
    let notes = source.notes(&schema);
    assert!(
        notes[0].starts_with("column `x` is in the files and in the names"),
        "{notes:?}"
    );
}

#[test]
fn columns_of_one_name_are_refused() {
    let (_guard, folder) = folder();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    let schema = arrow::datatypes::Schema::new(vec![field("x"), field("z"), field("x")]);
    let columns = vec![Arc::clone(&column), Arc::clone(&column), column];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let input = write(&folder.join("a.parquet"), &batch, 10);
    let expected = format!("{input} has more than one column named `x`");
    assert_eq!(open_error(&[input]), expected);
}

#[test]
fn a_corrupt_footer_is_named() {
    let (_guard, folder) = folder();
    let input = write(&folder.join("a.parquet"), &table(0, 50), 10);
    let bytes = std::fs::read(&input).unwrap();
    let tail = bytes.len() - 40;
    let mut scrambled = bytes.clone();
    scrambled[tail..bytes.len() - 8].fill(0xff);
    for bad in [&bytes[..bytes.len() / 2], &bytes[..0], b"hello", &scrambled] {
        std::fs::write(&input, bad).unwrap();
        let error = open_error(std::slice::from_ref(&input));
        let expected = format!("{input} is not a Parquet file, or its footer is corrupt: ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_corrupt_page_is_named_by_its_row_group_and_what_stands_before_it_is_read() {
    let (_guard, folder) = folder();
    let input = write(&folder.join("a.parquet"), &table(0, 50), 10);
    let source = ParquetSource::open(std::slice::from_ref(&input)).unwrap();
    let (_, metadata) = super::super::parquet_file::open_footer(Path::new(&input)).unwrap();
    let (start, length) = metadata.metadata().row_group(3).column(5).byte_range();
    let mut bytes = std::fs::read(&input).unwrap();
    let (start, end) = (start as usize, (start + length) as usize);
    bytes[start..end].fill(0xff);
    std::fs::write(&input, bytes).unwrap();
    let schema = schema();
    let mut batches = source.batches(&schema, ReadOptions::default());
    for _ in 0..3 {
        assert_eq!(batches.next().unwrap().unwrap().canonical.num_rows(), 10);
    }
    let error = batches.next().unwrap().unwrap_err().to_string();
    let expected = format!("{input}, row group 3 (of 5, from 0), after row 30: ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn a_bad_label_is_counted_from_the_start_of_the_file() {
    let (_guard, folder) = folder();
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    let good = table(0, 30);
    let labels = (0..30).map(|row| Some(if row == 23 { 7 } else { 0 }));
    columns.push(("y", Arc::new(labels.collect::<Int64Array>())));
    columns.extend([
        ("n", Arc::clone(good.column(1))),
        ("x", Arc::clone(good.column(3))),
    ]);
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let input = write(&folder.join("a.parquet"), &batch, 10);
    let error = read(std::slice::from_ref(&input)).unwrap_err().to_string();
    let place = format!("{input}, column `y`, row 23 (from 0): ");
    assert!(error.starts_with(&place), "{error}");
}

#[test]
fn a_redacted_value_that_no_common_type_holds_does_not_show() {
    let (_keep, folder) = folder();
    let odd: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
    let usual: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    for (name, column) in [("a.parquet", odd), ("b.parquet", usual)] {
        let batch = RecordBatch::try_from_iter([("income", column)]).unwrap();
        write(&folder.join(name), &batch, 10);
    }
    let source = ParquetSource::open(&[folder.display().to_string()]).unwrap();
    let options = ReadOptions {
        keep_raw: true,
        ..ReadOptions::default()
    };
    let error = |redact: bool| {
        let text = format!("[[field]]\nname='income'\nkind='numeric'\nredact={redact}");
        let schema = Schema::parse(&text, "test").unwrap();
        let mut batches = source.batches(&schema, options);
        batches.find_map(Result::err).unwrap().to_string()
    };
    assert!(error(false).contains("9007199254740993 of type"));
    let hidden = error(true);
    assert!(
        hidden.contains("row 0 (from 0): a value (redacted) of type"),
        "{hidden}"
    );
}

#[test]
fn a_file_replaced_while_reading_is_noticed() {
    let (_guard, folder) = folder();
    let path = folder.join("a.parquet");
    let input = write(&path, &table(0, 5), 10);
    let source = ParquetSource::open(&[input]).unwrap();
    write(&path, &table(0, 6), 10);
    let error = source.raw_batches(10).next().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            DataError::RowsChanged {
                expected: 5,
                found: 6,
                ..
            }
        ),
        "{error}"
    );
}

/// No byte that is turned over may bring the reader down: it errs, or reads as many rows.
#[test]
fn damage_anywhere_is_an_error_or_harmless() {
    use rand::RngExt;
    let (_guard, folder) = folder();
    let input = write(&folder.join("a.parquet"), &table(0, 60), 20);
    let sound = std::fs::read(&input).unwrap();
    let mut rng = crate::rng::stream(7, crate::rng::Purpose::Tests);
    let mut panics = 0;
    // Few places make the reader panic: 300 draws of another stream met none.
    for _ in 0..2_000 {
        let mut bytes = sound.clone();
        let place = rng.random_range(0..bytes.len());
        bytes[place] ^= 1 << rng.random_range(0..8);
        std::fs::write(&input, bytes).unwrap();
        match read(std::slice::from_ref(&input)) {
            Ok(rows) => assert_eq!(rows, 60, "byte {place}"),
            Err(error) => panics += usize::from(error.to_string().contains("damaged beyond")),
        }
    }
    assert!(
        panics > 0,
        "the reader no longer panics, so the guard against it goes untested"
    );
}

#[test]
fn keys_are_read_as_text() {
    let (_guard, folder) = folder();
    let input = write(&folder.join("a.parquet"), &table(3, 5), 10);
    let source = ParquetSource::open(&[input]).unwrap();
    let schema = schema();
    let options = ReadOptions {
        keep_raw: true,
        ..ReadOptions::default()
    };
    let batch = source.batches(&schema, options).next().unwrap().unwrap();
    assert_eq!(batch.canonical.column(0).as_string::<i32>().value(0), "3");
    assert_eq!(
        batch
            .raw
            .unwrap()
            .column(4)
            .as_primitive::<Int64Type>()
            .value(0),
        3
    );
    assert!(!batch.canonical.column(0).is_null(0));
}
