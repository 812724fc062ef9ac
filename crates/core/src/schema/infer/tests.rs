//! What `init` writes for whole tables made up for it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::Field as ArrowField;
use proptest::prelude::*;

use super::distinct::hash;
use super::*;
use crate::schema::{Kind, Schema};

fn records(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn inferred(batch: &RecordBatch, label: Option<&str>) -> String {
    whole(std::slice::from_ref(batch), label).text
}

fn whole(batches: &[RecordBatch], label: Option<&str>) -> Inferred {
    let mut inference = Inference::new(batches[0].schema_ref(), label).unwrap();
    for batch in batches {
        inference.add(batch).unwrap();
    }
    inference.finish("x.parquet").unwrap()
}

fn roles(schema: &Schema) -> Vec<(String, String, Kind, Role)> {
    let field = |field: &crate::schema::Field| {
        (
            field.name.clone(),
            field.path.to_string(),
            field.kind,
            field.role,
        )
    };
    schema.fields().iter().map(field).collect()
}

fn floats() -> ArrayRef {
    Arc::new(Float64Array::from(vec![1.0, 2.0, 2.0]))
}

#[test]
fn the_first_moment_is_also_the_time_of_the_record() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]));
    let columns = vec![
        ("paid", Arc::clone(&times)),
        ("event_time", times),
        ("x", floats()),
    ];
    let schema = Schema::parse(&inferred(&records(columns), None), "s").unwrap();
    let expected = [
        ("paid", "paid", Kind::Timestamp, Role::Feature),
        ("event_time_2", "paid", Kind::Timestamp, Role::Time),
        ("event_time", "event_time", Kind::Timestamp, Role::Feature),
        ("x", "x", Kind::Numeric, Role::Feature),
    ];
    let expected = expected.map(|(name, path, kind, role)| (name.into(), path.into(), kind, role));
    assert_eq!(roles(&schema), expected);
}

#[test]
fn nested_and_oddly_named_columns_keep_their_paths() {
    let leaf = |name: &str| Arc::new(ArrowField::new(name, DataType::Float64, true));
    let inner = StructArray::from(vec![(leaf("b"), floats()), (leaf("c.d"), floats())]);
    let columns = vec![
        ("a", Arc::new(inner) as ArrayRef),
        ("a.b", floats()),
        ("say \"hi\"", floats()),
        ("line\nbreak", floats()),
    ];
    let text = inferred(&records(columns), None);
    let schema = Schema::parse(&text, "s").unwrap();
    let places: Vec<(&str, usize)> = schema
        .fields()
        .iter()
        .map(|field| (field.name.as_str(), field.path.segments().len()))
        .collect();
    assert_eq!(
        places,
        [("a.b", 2), ("a.c.d", 2), ("a.b_2", 1), ("say \"hi\"", 1)]
    );
    assert!(
        text.contains("# The column line?break cannot be named"),
        "{text}"
    );
}

#[test]
fn what_no_kind_reads_is_ignored_with_its_reason() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..]; 3]));
    let text = inferred(&records(vec![("blob", bytes), ("x", floats())]), None);
    assert!(
        text.contains(
            "# Values of type Binary are no kind of field.\nname = \"blob\"\nrole = \"ignore\""
        ),
        "{text}"
    );
}

#[test]
fn the_label_is_the_column_asked_for_whatever_it_holds() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = records(vec![("some_id", ids), ("x", floats())]);
    let schema = Schema::parse(&inferred(&batch, Some("some_id")), "s").unwrap();
    assert_eq!(schema.label().unwrap().name, "some_id");
    let error = Inference::new(batch.schema_ref(), Some("fraud"))
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "no column `fraud` for the label; there are `some_id`, `x`"
    );
}

#[test]
fn data_without_a_feature_is_refused_with_every_reason() {
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let batch = records(vec![("some_id", ids)]);
    let mut inference = Inference::new(batch.schema_ref(), None).unwrap();
    inference.add(&batch).unwrap();
    let error = inference.finish("x.parquet").unwrap_err().to_string();
    let start = "no column can be a feature: `some_id`: An identifier, by its name.";
    assert!(error.starts_with(start), "{error}");
}

/// A label of 300 rows, every 20th a fraud.
fn label(fraud: &str, normal: &str) -> ArrayRef {
    let of = |i: usize| if i.is_multiple_of(20) { fraud } else { normal };
    Arc::new((0..300).map(|i| Some(of(i))).collect::<StringArray>())
}

fn ints(of: impl Fn(i64) -> i64) -> ArrayRef {
    Arc::new((0..300).map(|i| Some(of(i))).collect::<Int64Array>())
}

fn amounts() -> ArrayRef {
    Arc::new(
        (0..300)
            .map(|i| Some(f64::from(i % 97) + 0.5))
            .collect::<Float64Array>(),
    )
}

#[test]
fn a_label_is_known_by_its_name_and_its_values_without_being_asked_for() {
    let every = |n: i64| ints(move |i| i64::from(i % n == 0));
    let bools: ArrayRef = Arc::new(
        (0..300)
            .map(|i| Some(i % 20 == 0))
            .collect::<BooleanArray>(),
    );
    let floats: ArrayRef = Arc::new(
        (0..300)
            .map(|i| Some(f64::from(u8::from(i % 20 == 0))))
            .collect::<Float64Array>(),
    );
    for (name, column) in [
        ("is_fraud", every(20)),
        ("isFraud", every(20)),
        ("Class", every(20)),
        ("label", every(2)),
        ("target", every(20)),
        ("TX_FRAUD", floats),
        ("fraud", bools),
        ("Label", label("fraud", "normal")),
        ("fraudulent", label("Yes", "No")),
        ("chargeback", every(1_000_000)),
        ("is_anomaly", ints(|_| 0)),
    ] {
        let found = whole(&[records(vec![(name, column), ("x", amounts())])], None);
        let schema = Schema::parse(&found.text, "s").unwrap();
        assert_eq!(schema.label().map(|field| field.name.as_str()), Some(name));
        assert!(
            found.text.contains("Known by its name and its values"),
            "{}",
            found.text
        );
        assert_eq!(found.label.unwrap().0, name);
    }
}

#[test]
fn columns_about_the_label_are_never_features() {
    let scenario = ints(|i| if i % 20 == 0 { 1 + i % 3 } else { 0 });
    let flagged = ints(|i| i64::from(i == 40));
    let columns = vec![
        ("isFlaggedFraud", flagged),
        ("Class", ints(|i| i64::from(i % 20 == 0))),
        ("is_fraud", ints(|i| i64::from(i % 20 == 0))),
        ("TX_FRAUD_SCENARIO", Arc::clone(&scenario)),
        ("kind_of", scenario),
        ("attack_cat", label("worm", "normal")),
        ("x", amounts()),
    ];
    let found = whole(&[records(columns)], None);
    let schema = Schema::parse(&found.text, "s").unwrap();
    let features: Vec<&str> = schema.features().map(|field| field.name.as_str()).collect();
    assert_eq!(
        (schema.label().unwrap().name.as_str(), features),
        ("is_fraud", vec!["x"])
    );
    let ignored: Vec<&str> = found
        .ignored
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        ignored,
        [
            "isFlaggedFraud",
            "Class",
            "TX_FRAUD_SCENARIO",
            "kind_of",
            "attack_cat"
        ]
    );
    assert!(
        found.text.contains("the label in disguise"),
        "{}",
        found.text
    );
}

#[test]
fn a_number_named_class_with_many_values_is_no_label_and_odd_labels_are_named() {
    let columns = vec![
        ("class", ints(|i| i % 7)),
        ("target", ints(|i| 1 - 2 * i64::from(i % 20 == 0))),
        ("fraud_score", ints(|i| i % 2)),
        ("x", amounts()),
    ];
    let found = whole(&[records(columns)], None);
    let schema = Schema::parse(&found.text, "s").unwrap();
    assert_eq!(schema.label(), None);
    let features: Vec<&str> = schema.features().map(|field| field.name.as_str()).collect();
    assert_eq!(features, ["class", "fraud_score", "x"]);
    let doubts: Vec<&str> = found.doubts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(doubts, ["class", "target"]);
    assert_eq!(found.ignored[0].0, "target");
}

#[test]
fn a_class_of_two_ordinary_words_is_a_category_and_is_named() {
    let words = |rarer: &'static str, common: &'static str, every: i64| -> ArrayRef {
        let words = (0..300).map(|i| if i % every == 0 { rarer } else { common });
        Arc::new(words.map(Some).collect::<StringArray>())
    };
    let columns = vec![
        ("class", words("business", "economy", 4)),
        ("target", words("sick", "well", 50)),
        ("is_fraud", words("checked", "open", 2)),
        ("x", amounts()),
    ];
    let found = whole(&[records(columns)], None);
    let schema = Schema::parse(&found.text, "s").unwrap();
    let features: Vec<&str> = schema.features().map(|field| field.name.as_str()).collect();
    assert_eq!(features, ["class", "x"]);
    assert_eq!(schema.fields()[0].kind, Kind::Categorical);
    let doubt = "may be a label; its values are business, economy";
    assert_eq!(found.doubts[0], ("class".to_owned(), doubt.to_owned()));
    let ignored: Vec<&str> = found.ignored.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(ignored, ["target", "is_fraud"]);
    let labelled = whole(
        &[records(vec![
            ("class", words("bad", "good", 4)),
            ("x", amounts()),
        ])],
        None,
    );
    assert_eq!(labelled.label.unwrap().0, "class");
}

#[test]
fn a_column_that_only_folders_give_is_named_and_one_of_one_value_is_ignored() {
    let columns = vec![
        ("env", ints(|_| 3)),
        ("channel", ints(|i| i % 3)),
        ("x", amounts()),
    ];
    let batch = records(columns);
    let folders = ["env", "channel"].map(str::to_owned).into();
    let inference = Inference::new(batch.schema_ref(), None).unwrap();
    let mut inference = inference.with_folder_columns(folders);
    inference.add(&batch).unwrap();
    let found = inference.finish("x.parquet").unwrap();
    assert_eq!(found.ignored[0].0, "env");
    assert_eq!(found.ignored.len(), 1);
    assert_eq!(found.doubts[0].0, "channel");
}

#[test]
fn days_are_dates_beside_moments_of_the_same_years() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(
        (0..300).map(|i| 1_767_600_000_000 + i * 60_000),
    ));
    let days = || ints(|i| 20_400 + (i * 7) % 60);
    let beside = vec![("paid", times), ("posting_day", days()), ("age", days())];
    let schema = Schema::parse(&inferred(&records(beside), None), "s").unwrap();
    let kinds: Vec<(&str, Kind)> = schema
        .features()
        .map(|field| (field.name.as_str(), field.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("paid", Kind::Timestamp),
            ("posting_day", Kind::Timestamp),
            ("age", Kind::Numeric)
        ]
    );
    let alone = vec![("posting_day", days()), ("age", days())];
    let schema = Schema::parse(&inferred(&records(alone), None), "s").unwrap();
    assert_eq!(schema.fields()[0].kind, Kind::Numeric);
}

#[test]
fn text_with_markers_and_transforms_are_written_with_their_keys() {
    let prices = (0..300).map(|i| match i {
        7 => "N/A".to_owned(),
        _ => format!("1.{:03},{:02} €", i, i % 100),
    });
    let prices: ArrayRef = Arc::new(prices.map(Some).collect::<StringArray>());
    let mut odd: Vec<f64> = (0..300).map(|i| f64::from(i % 50)).collect();
    odd[3] = 1e9;
    let odd: ArrayRef = Arc::new(Float64Array::from(odd));
    let sentinel = ints(|i| if i % 30 == 0 { -999 } else { 1 + i % 50 });
    let columns = vec![("price", prices), ("odd", odd), ("age", sentinel)];
    let found = whole(&[records(columns)], None);
    for part in [
        "parse = true\ndecimal_separator = \",\"\nthousands_separator = \".\"\nstrip = [\"€\"]\nnull_values = [\"N/A\"]",
        "kind = \"numeric\"\ntransform = \"log1p\"",
        "null_values = [\"-999\"]",
        "1 row of 300 holds 99 % of the variance (1000000000)",
    ] {
        assert!(found.text.contains(part), "{part}\n{}", found.text);
    }
    assert_eq!(found.transformed, [("odd".to_owned(), Transform::Log1p)]);
    let schema = Schema::parse(&found.text, "s").unwrap();
    assert_eq!(schema.fields()[0].thousands_separator, Some('.'));
}

/// What was decided of each column, without the figures of comments.
fn decisions(text: &str) -> Vec<String> {
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    keys.map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_order_of_rows_and_nulls_behind_them_change_no_decision(
        seeds in prop::collection::vec(any::<u32>(), 60..300), shape in 0..8_usize, nulls in 1..40_usize
    ) {
        let of = |seeds: &[Option<u32>]| -> ArrayRef {
            let texts = |write: fn(u32) -> String| -> ArrayRef {
                Arc::new(seeds.iter().map(|seed| seed.map(write)).collect::<StringArray>())
            };
            let numbers = |write: fn(u32) -> i64| -> ArrayRef {
                Arc::new(seeds.iter().map(|seed| seed.map(write)).collect::<Int64Array>())
            };
            match shape {
                0 => numbers(i64::from),
                1 => numbers(|seed| i64::from(seed % 40) * 37 + 1_000),
                2 => numbers(|seed| if seed % 9 == 0 { -999 } else { i64::from(seed % 100) }),
                3 => numbers(|seed| 4_000_000_000_000_000 + i64::from(seed) * 400_000),
                4 => texts(|seed| format!("{},{:02} €", seed % 5_000, seed % 100)),
                5 => texts(|seed| if seed % 50 == 0 { "-".to_owned() } else { format!("{}", seed % 3_000) }),
                6 => texts(|seed| format!("w{}", seed % 90)),
                _ => Arc::new(seeds.iter().map(|seed| seed.map(|s| f64::from(s).exp2().min(1e30))).collect::<Float64Array>()),
            }
        };
        let mut rows: Vec<Option<u32>> = seeds.iter().copied().map(Some).collect();
        let sure = |rows: usize| -> ArrayRef { Arc::new(Float64Array::from(vec![0.5; rows])) };
        let table = |rows: &[Option<u32>]| records(vec![("x", of(rows)), ("sure", sure(rows.len()))]);
        // One order that no number follows: what follows the order is told apart on purpose.
        rows.sort_by_key(|seed| hash(&seed.unwrap_or(0).to_le_bytes()));
        let first = whole(&[table(&rows)], None);
        rows.reverse();
        prop_assert_eq!(decisions(&whole(&[table(&rows)], None).text), decisions(&first.text));
        let (front, back) = rows.split_at(rows.len() / 3);
        prop_assert_eq!(decisions(&whole(&[table(front), table(back)], None).text), decisions(&first.text));
        rows.extend(vec![None; nulls]);
        prop_assert_eq!(decisions(&whole(&[table(&rows)], None).text), decisions(&first.text));
    }
}
