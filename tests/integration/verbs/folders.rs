//! Odd files read as one table: the same rows in one clean file and in a folder of files that differ in all that files of a
//! lake differ in give the same schema, the same model and the same scores.

use super::rig::{PAYMENTS, Rig, read, with_column, without_columns, write};
use super::{p_values, scores};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::array::{Int64Array, NullArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const PARTS: usize = 5;
const PART: usize = PAYMENTS / PARTS;

/// Payments whose numbers fit a Float32, with a column that is null in the first part of the rows and one of whole numbers.
fn payments(rig: &Rig) -> RecordBatch {
    let payments = read(&rig.path("payments.parquet"));
    let amounts = payments["amount"].as_primitive::<Float64Type>().values();
    let coarse = amounts.iter().map(|x| (x * 4.0).round() / 4.0);
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values(coarse));
    let late = (0..PAYMENTS).map(|row| (row >= PART).then_some((row % 90) as i64 * 3));
    let late: ArrayRef = Arc::new(late.collect::<Int64Array>());
    let noted = (0..PAYMENTS).map(|row| Some(["plain", "special", "odd"][row % 3]));
    let noted: ArrayRef = Arc::new(noted.collect::<StringArray>());
    let batch = with_column(&payments, "amount", amounts);
    with_column(&with_column(&batch, "late", late), "noted", noted)
}

fn retyped(batch: &RecordBatch, name: &str, to: DataType) -> RecordBatch {
    with_column(batch, name, cast(&batch[name], &to).unwrap())
}

fn turned(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<usize> = (0..batch.num_columns()).rev().collect();
    batch.project(&columns).unwrap()
}

fn dictionary(of: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(of))
}

/// The same rows as files that agree in nothing but the values.
fn write_odd(folder: &Path, clean: &RecordBatch) {
    fs::create_dir(folder).unwrap();
    let part = |index: usize| clean.slice(index * PART, PART);
    let write = |name: &str, batch: &RecordBatch| write(&folder.join(name), batch);
    let nulls: ArrayRef = Arc::new(NullArray::new(PART));
    let a = with_column(&part(0), "late", nulls);
    write("a.parquet", &retyped(&a, "amount", DataType::Float32));
    let b = retyped(&part(1), "noted", dictionary(DataType::Utf8));
    let b = retyped(&b, "late", DataType::Int16);
    let b = retyped(&b, "amount", DataType::Decimal128(20, 2));
    write("b.parquet", &turned(&b));
    let c = retyped(&part(2), "noted", DataType::LargeUtf8);
    let c = retyped(&c, "late", DataType::UInt32);
    let seconds = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    write("c.parquet", &retyped(&c, "time", seconds));
    let more: ArrayRef = Arc::new(StringArray::from(vec!["more"; PART]));
    let d = with_column(&part(3), "extra", more);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    write("d.parquet", &retyped(&d, "time", micros));
    let e = retyped(&part(4), "noted", DataType::Utf8View);
    write("e.parquet", &retyped(&e, "late", DataType::UInt64));
    // Files without rows say nothing, whatever their types.
    let none = with_column(
        &clean.slice(0, 0),
        "amount",
        Arc::new(StringArray::from(Vec::<&str>::new())),
    );
    write("f.parquet", &none);
    for hidden in ["_SUCCESS", ".a.parquet.crc", "_committed_1"] {
        fs::write(folder.join(hidden), "x").unwrap();
    }
    fs::create_dir(folder.join("_delta_log")).unwrap();
    fs::write(folder.join("_delta_log/0.checkpoint.parquet"), "x").unwrap();
}

/// The fields of a schema file without its comments, which name the files.
fn fields(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

fn names(batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

#[test]
fn a_folder_of_odd_files_gives_the_schema_the_model_and_the_scores_of_one_clean_file() {
    let rig = Rig::new();
    let clean = payments(&rig);
    write(&rig.path("clean.parquet"), &clean);
    write_odd(&rig.path("odd"), &clean);

    let mut texts = Vec::new();
    for data in ["clean.parquet", "odd"] {
        let out = format!("{data}.toml");
        rig.run(&format!("init --data {data} --label is_fraud --out {out}"))
            .succeeded();
        texts.push(fields(&fs::read_to_string(rig.path(&out)).unwrap()));
    }
    // The column that only one file has comes last, and the others are the same.
    let extra = texts[1].replace(&texts[0], "");
    assert!(
        texts[1].starts_with(texts[0].trim_end()),
        "{}\n---\n{}",
        texts[0],
        texts[1]
    );
    assert!(extra.contains("\"extra\""), "{extra}");

    for data in ["clean.parquet", "odd"] {
        let line = format!(
            "train --data {data} --schema clean.parquet.toml --config train.toml --out model.{data}"
        );
        rig.run(&line).succeeded();
    }
    assert_eq!(
        rig.model_id("model.clean.parquet"),
        rig.model_id("model.odd")
    );
    fs::rename(rig.path("model.odd"), rig.path("bundle")).unwrap();

    let (one, many) = (rig.score("clean.parquet"), rig.score("odd"));
    assert_eq!(scores(&one), scores(&many));
    assert_eq!(p_values(&one), p_values(&many));
    // All columns in the order of the first file, each in a type that holds every value.
    let mut expected = names(&one);
    expected.insert(clean.num_columns(), "extra".to_owned());
    assert_eq!(names(&many), expected);
    assert_eq!(&many["amount"], &one["amount"]);
    assert_eq!(many["noted"].data_type(), &DataType::LargeUtf8);
    assert_eq!(many["late"].data_type(), &DataType::Decimal128(20, 0));
    assert_eq!(
        &cast(&many["late"], &DataType::Int64).unwrap(),
        &one["late"]
    );
    assert_eq!(many["extra"].null_count(), PAYMENTS - PART);

    let reports = ["clean.parquet", "odd"].map(|data| {
        let line = format!("evaluate --model bundle --data {data} --label is_fraud --json");
        rig.run(&line).succeeded()
    });
    assert_eq!(reports[0], reports[1]);
    let latents = ["clean.parquet", "odd"].map(|data| {
        rig.run(&format!(
            "embed --model bundle --data {data} --out {data}.latents"
        ))
        .succeeded();
        read(&rig.path(&format!("{data}.latents")))
    });
    assert_eq!(latents[0], latents[1]);
}

#[test]
fn types_that_no_column_holds_are_told_with_file_column_and_both_types_by_every_verb() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    fs::create_dir(rig.path("odd")).unwrap();
    write(&rig.path("odd/a.parquet"), &payments.slice(0, 3_000));
    let text = retyped(&payments.slice(3_000, 3_000), "amount", DataType::Utf8);
    write(&rig.path("odd/b.parquet"), &text);
    let told = "odd/b.parquet: column `amount` is Utf8, in odd/a.parquet it is Float64";
    for line in [
        "init --data odd --out s.toml",
        "train --data odd --schema schema.toml --out new",
        "score --model bundle --data odd --out z.parquet",
        "embed --model bundle --data odd --out z.parquet",
        "evaluate --model bundle --data odd --label is_fraud",
        "tune --model bundle --data odd --calibration payments.parquet --out new",
    ] {
        let message = rig.run(line).failed(65);
        assert!(message.contains(told), "{line}: {message}");
        assert_eq!(message.matches("b.parquet").count(), 1, "{line}: {message}");
    }
    // Where the column is not read, it is in nobody's way.
    let label = retyped(
        &payments.slice(3_000, 3_000),
        "payment_id",
        DataType::Binary,
    );
    write(&rig.path("odd/b.parquet"), &label);
    rig.run("train --data odd --schema schema.toml --config train.toml --out new")
        .succeeded();
    let message = rig
        .run("score --model bundle --data odd --out z.parquet")
        .failed(65);
    assert!(
        message.contains("column `payment_id` is Binary"),
        "{message}"
    );
}

/// Rows of a batch by the value of a text column, which the parts lack.
fn by_channel(batch: &RecordBatch) -> BTreeMap<String, RecordBatch> {
    let channels = batch["channel"].as_string::<i32>();
    let mut parts: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let one = batch.slice(row, 1);
        let one = without_columns(&one, &["channel"]);
        parts
            .entry(channels.value(row).to_owned())
            .or_default()
            .push(one);
    }
    let whole = |(channel, rows): (String, Vec<RecordBatch>)| {
        (channel, concat_batches(&rows[0].schema(), &rows).unwrap())
    };
    parts.into_iter().map(whole).collect()
}

#[test]
fn folders_named_by_a_column_are_that_column() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet")).slice(0, 1_500);
    write(&rig.path("some.parquet"), &payments);
    let parts = by_channel(&payments);
    assert!(parts.len() > 1);
    for (channel, part) in &parts {
        let escaped: String = channel.bytes().map(|b| format!("%{b:02X}")).collect();
        let folder = rig
            .path("lake")
            .join("day=2026-01-05")
            .join(format!("channel={escaped}"));
        fs::create_dir_all(&folder).unwrap();
        write(&folder.join("part-0.parquet"), part);
    }
    let (one, many) = (rig.score("some.parquet"), rig.score("lake"));
    let by_id = |batch: &RecordBatch| -> BTreeMap<String, (Option<u32>, String)> {
        let ids = cast(&batch["payment_id"], &DataType::Utf8).unwrap();
        let ids = ids.as_string::<i32>();
        let channels = batch["channel"].as_string::<i32>();
        let rows = scores(batch).into_iter().enumerate();
        rows.map(|(row, score)| {
            (
                ids.value(row).to_owned(),
                (score, channels.value(row).to_owned()),
            )
        })
        .collect()
    };
    assert_eq!(by_id(&one), by_id(&many));
    assert_eq!(many["day"].data_type(), &DataType::Date32);
    // One folder of the table, named by itself, has the column too.
    let (channel, part) = parts.iter().next().unwrap();
    let escaped: String = channel.bytes().map(|b| format!("%{b:02X}")).collect();
    let alone = rig.score(&format!("lake/day=2026-01-05/channel={escaped}"));
    assert_eq!(alone.num_rows(), part.num_rows());
    assert_eq!(alone["channel"].as_string::<i32>().value(0), channel);
    // `init` sees it, and whole numbers are numbers.
    fs::create_dir_all(rig.path("shops/shop=7")).unwrap();
    fs::create_dir_all(rig.path("shops/shop=__HIVE_DEFAULT_PARTITION__")).unwrap();
    write(&rig.path("shops/shop=7/a.parquet"), &payments);
    write(
        &rig.path("shops/shop=__HIVE_DEFAULT_PARTITION__/a.parquet"),
        &payments,
    );
    rig.run("init --data shops --label is_fraud --out shops.toml")
        .succeeded();
    let text = fs::read_to_string(rig.path("shops.toml")).unwrap();
    assert!(text.contains("name = \"shop\""), "{text}");
    let shops = rig.score("shops");
    let column = shops["shop"].as_primitive::<Int64Type>();
    assert_eq!((column.value(0), column.null_count()), (7, 1_500));
}

#[test]
fn a_few_bad_rows_can_be_left_out_of_training_and_are_told() {
    let rig = Rig::new();
    rig.init();
    let payments = read(&rig.path("payments.parquet"));
    let bad = super::rig::with_nulls(&payments, "amount", &[5, 17, 4_000]);
    write(&rig.path("bad.parquet"), &bad);
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let amount = "name = \"amount\"\n";
    let schema = schema.replace(amount, &format!("{amount}nullable = false\n"));
    fs::write(rig.path("schema.toml"), schema).unwrap();
    let line = "train --data bad.parquet --schema schema.toml --config train.toml --out bundle";
    let message = rig.run(line).failed(65);
    assert!(
        message.contains("bad.parquet: row 5: missing_field"),
        "{message}"
    );
    assert!(message.contains("training.skip_bad_rows"), "{message}");

    let config = fs::read_to_string(rig.path("train.toml")).unwrap();
    let allow = |share: &str| {
        let text = config.replace(
            "[training]\n",
            &format!("[training]\nskip_bad_rows = {share}\n"),
        );
        fs::write(rig.path("train.toml"), text).unwrap();
    };
    allow("0.0004");
    let message = rig.run(line).failed(65);
    assert!(message.contains("3 of 6000 rows are bad"), "{message}");
    allow("0.5");
    let message = rig.run(line).failed(64);
    assert!(
        message.contains("training.skip_bad_rows = 0.5"),
        "{message}"
    );
    allow("0.001");
    let text = rig.run(line).succeeded();
    let told = "3 left out as bad (the first: bad.parquet, row 5 (from 0): missing_field";
    assert!(text.contains(told), "{text}");
    let page = rig.run("inspect bundle").succeeded();
    assert!(page.contains("left out by label, 3 as bad"), "{page}");
    let run = fs::read_to_string(rig.path("bundle/run.json")).unwrap();
    assert!(run.contains("\"bad_rows\": 3"), "{run}");
}
