//! What the JSON decoder takes, what it refuses and why, and that a bad message leaves its neighbours alone.
#![allow(clippy::unwrap_used)]

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::records::RowFault;

const SCHEMA: &str = r#"
[[field]]
name = "amount"
kind = "numeric"
parse = true

[[field]]
name = "count"
kind = "numeric"

[[field]]
name = "merchant"
kind = "categorical"
redact = true

[[field]]
name = "country"
kind = "categorical"
path = "card.country"

[[field]]
name = "present"
kind = "boolean"

[[field]]
name = "hour"
kind = "timestamp"
path = "at"

[[field]]
name = "tick"
kind = "timestamp"
unit = "ms"

[[field]]
name = "id"
kind = "categorical"
role = "key"

[[field]]
name = "event_time"
kind = "timestamp"
role = "time"
path = "at"

[[field]]
name = "fraud"
kind = "numeric"
role = "label"
"#;

fn decoder() -> JsonDecoder {
    let schema = Schema::parse(SCHEMA, "test").unwrap();
    JsonDecoder::new(
        &schema,
        DecodeLimits {
            record_bytes_max: 4_096,
        },
    )
}

fn decode<T: AsRef<[u8]>>(texts: &[T]) -> Decoded {
    let payloads: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(text.as_ref())).collect();
    decoder().decode(&payloads).unwrap()
}

fn fault(text: impl AsRef<[u8]>) -> RowFault {
    let decoded = decode(&[text.as_ref()]);
    assert_eq!(
        decoded.batch.num_rows(),
        0,
        "{}",
        String::from_utf8_lossy(text.as_ref())
    );
    decoded.faults.into_iter().next().unwrap()
}

fn number(batch: &RecordBatch, name: &str) -> Option<f64> {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Float64Type>()
        .iter()
        .next()
        .unwrap()
}

fn text(batch: &RecordBatch, name: &str) -> Option<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().next().unwrap().map(str::to_owned)
}

fn moment(batch: &RecordBatch, name: &str) -> Option<i64> {
    let column = batch.column_by_name(name).unwrap();
    column
        .as_primitive::<TimestampMicrosecondType>()
        .iter()
        .next()
        .unwrap()
}

fn boolean(batch: &RecordBatch, name: &str) -> Option<bool> {
    batch
        .column_by_name(name)
        .unwrap()
        .as_boolean()
        .iter()
        .next()
        .unwrap()
}

#[test]
fn values_become_their_canonical_form() {
    let batch = decode(&[
        r#" {"x": [1, {"y": null}], "amount": "12.5", "count": 9007199254740993,
        "merchant": -7, "card": {"network": "v", "country": "N\u0041"}, "present": true,
        "at": "2018-07-01T14:00:00+02:00", "tick": 1530446400000, "id": 18446744073709551615,
        "fraud": 1.0} "#,
    ])
    .batch;
    assert_eq!(number(&batch, "amount"), Some(12.5));
    assert_eq!(number(&batch, "count"), Some(9_007_199_254_740_992.0));
    assert_eq!(text(&batch, "merchant").as_deref(), Some("-7"));
    assert_eq!(text(&batch, "country").as_deref(), Some("NA"));
    assert_eq!(boolean(&batch, "present"), Some(true));
    let noon = Some(1_530_446_400_000_000);
    assert_eq!([moment(&batch, "hour"), moment(&batch, "tick")], [noon; 2]);
    assert_eq!(moment(&batch, "event_time"), noon);
    assert_eq!(text(&batch, "id").as_deref(), Some("18446744073709551615"));
    assert_eq!(boolean(&batch, "fraud"), Some(true));
}

#[test]
fn absent_and_null_are_the_same() {
    let absent = decode(&[r#"{"count": 1}"#]);
    let null = decode(&[
        r#"{"count": 1, "amount": null, "merchant": null, "card": null, "present": null,
            "at": null, "tick": null, "id": null, "fraud": null}"#,
    ]);
    assert_eq!(absent.batch, null.batch);
    assert_eq!(absent.payloads, [0]);
}

/// Text, reason, and a part of the detail.
const BAD_TEXTS: &[(&str, FaultReason, &str)] = &[
    ("{", FaultReason::Malformed, "line 1 column 1"),
    ("   ", FaultReason::Malformed, "EOF"),
    ("nul", FaultReason::Malformed, "line 1"),
    ("42", FaultReason::Malformed, "single value"),
    ("\"secret\"", FaultReason::Malformed, "single value"),
    ("null", FaultReason::Malformed, "single value"),
    (r#"[{"count": 1}]"#, FaultReason::Malformed, "array"),
    (
        r#"{"count": 1}{"count": 2}"#,
        FaultReason::Malformed,
        "trailing",
    ),
    (r#"{"count": 1} x"#, FaultReason::Malformed, "trailing"),
    (r#"{"count": 1,}"#, FaultReason::Malformed, "trailing comma"),
    (r#"{"count": NaN}"#, FaultReason::Malformed, "line 1"),
    (r#"{"count": Infinity}"#, FaultReason::Malformed, "line 1"),
    (r#"{"count": -Infinity}"#, FaultReason::Malformed, "line 1"),
    (
        r#"{"count": 1e999}"#,
        FaultReason::Malformed,
        "out of range",
    ),
    (
        r#"{"unknown": 1e999, "count": 1}"#,
        FaultReason::Malformed,
        "out of range",
    ),
    (
        r#"{"unknown": NaN, "count": 1}"#,
        FaultReason::Malformed,
        "line 1",
    ),
    (r#"{"count": 01}"#, FaultReason::Malformed, "line 1"),
    (
        r#"{"count": 1, "count": 1}"#,
        FaultReason::Malformed,
        "`count` comes twice",
    ),
    (
        r#"{"count": 1, "\u0063ount": 2}"#,
        FaultReason::Malformed,
        "`count` comes twice",
    ),
    (
        r#"{"card": {"country": "a", "country": "a"}}"#,
        FaultReason::Malformed,
        "`country` comes twice",
    ),
    (
        r#"{"card": {}, "card": {}}"#,
        FaultReason::Malformed,
        "`card` comes twice",
    ),
    (
        r#"{"u": 1, "count": 1, "u": 2}"#,
        FaultReason::Malformed,
        "key twice",
    ),
    (
        r#"{"count": 1, "u": [{"v": 1, "w": 2, "v": 3}]}"#,
        FaultReason::Malformed,
        "key twice",
    ),
    (
        r#"{"count": 1, "u": "\ud800"}"#,
        FaultReason::Malformed,
        "line 1",
    ),
    (
        "{\"count\": 1, \"u\": \"\t\"}",
        FaultReason::Malformed,
        "control character",
    ),
    (
        r#"{"count": "1"}"#,
        FaultReason::WrongType,
        "field `count`: expected a number, found text \"1\"",
    ),
    (r#"{"count": true}"#, FaultReason::WrongType, "found true"),
    (
        r#"{"count": {}}"#,
        FaultReason::WrongType,
        "found an object",
    ),
    (
        r#"{"count": [1]}"#,
        FaultReason::WrongType,
        "found an array",
    ),
    (
        r#"{"amount": "12,5"}"#,
        FaultReason::WrongType,
        "field `amount`",
    ),
    (
        r#"{"amount": "1e999"}"#,
        FaultReason::WrongType,
        "field `amount`",
    ),
    (
        r#"{"merchant": "mmm", "present": 1}"#,
        FaultReason::WrongType,
        "expected true or false, found 1",
    ),
    (
        r#"{"present": "true"}"#,
        FaultReason::WrongType,
        "field `present`",
    ),
    (
        r#"{"card": {"country": 1.5}}"#,
        FaultReason::WrongType,
        "field `country`",
    ),
    (
        r#"{"card": "NA"}"#,
        FaultReason::WrongType,
        "field `country`",
    ),
    (
        r#"{"card": [{"country": "NA"}]}"#,
        FaultReason::WrongType,
        "field `country`",
    ),
    (
        r#"{"count": 1, "at": "yesterday"}"#,
        FaultReason::WrongType,
        "field `hour`",
    ),
    (
        r#"{"count": 1, "at": 1530446400}"#,
        FaultReason::WrongType,
        "integers need a `unit`",
    ),
    (
        r#"{"tick": 1.5e300}"#,
        FaultReason::WrongType,
        "field `tick`",
    ),
    (
        r#"{"tick": 9223372036854775807}"#,
        FaultReason::WrongType,
        "0000 to 9999",
    ),
    (
        r#"{"count": 1, "id": 1.5}"#,
        FaultReason::WrongType,
        "field `id`",
    ),
    (
        r#"{"count": 1, "fraud": 2}"#,
        FaultReason::WrongType,
        "expected 0, 1, true or false, found 2",
    ),
    (
        r#"{"count": "x", "u": 1e999}"#,
        FaultReason::Malformed,
        "out of range",
    ),
    (
        r#"{"id": "a", "fraud": 0}"#,
        FaultReason::EmptyRecord,
        "no feature",
    ),
    ("{}", FaultReason::EmptyRecord, "no feature"),
];

/// Column 0 of one message read by a schema of one field `v`, or the fault.
fn one(keys: &str, value: &str) -> Result<RecordBatch, RowFault> {
    let schema = Schema::parse(&format!("[[field]]\nname = \"v\"\n{keys}\n"), "test").unwrap();
    let message = format!("{{\"v\": {value}}}");
    let decoded = JsonDecoder::new(&schema, DecodeLimits::default())
        .decode(&[Some(message.as_bytes())])
        .unwrap();
    match decoded.faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(decoded.batch),
    }
}

#[test]
fn a_moment_may_be_a_number_of_any_unit_with_or_without_a_fraction() {
    // 2026-01-05T08:00:00Z, or its day.
    let moment_of = |unit: &str, value: &str| {
        let keys = format!("kind = \"timestamp\"\nunit = \"{unit}\"");
        one(&keys, value).map(|batch| moment(&batch, "v"))
    };
    let micros = 1_767_600_000_000_000;
    let day = micros - 8 * 3_600_000_000;
    for (unit, value, expected) in [
        ("ms", "1767600000000", micros),
        ("ms", "1767600000000.0", micros),
        ("ms", "1.7676e12", micros),
        ("s", "1767600000.0", micros),
        ("s", "1767600000.25", micros + 250_000),
        ("s", "1767600000.1234567", micros + 123_457),
        ("ms", "1767600000000.5", micros + 500),
        ("days", "20458.5", day + 12 * 3_600_000_000),
        ("us", "1767600000000000", micros),
        ("ns", "1767600000000000000", micros),
        ("days", "20458", day),
        ("days", "20458.0", day),
    ] {
        assert_eq!(
            moment_of(unit, value),
            Ok(Some(expected)),
            "{unit} of {value}"
        );
    }
    let fault = moment_of("s", "1767600000000.5").unwrap_err();
    assert_eq!(fault.reason, FaultReason::WrongType);
    assert!(
        fault.detail.ends_with("found 1767600000000.5"),
        "{}",
        fault.detail
    );
    let fault = one("kind = \"timestamp\"", "1767600000000.0").unwrap_err();
    assert!(
        fault.detail.ends_with("found 1767600000000.0"),
        "what is shown is what came: {}",
        fault.detail
    );
}

#[test]
fn a_boolean_takes_0_and_1_and_words_under_parse_and_only_then() {
    let parse = "kind = \"boolean\"\nparse = true";
    for (value, expected) in [
        ("0", false),
        ("1", true),
        ("1.0", true),
        ("\"0\"", false),
        ("\"1\"", true),
        ("\"true\"", true),
        ("\"False\"", false),
        ("true", true),
    ] {
        let batch = one(parse, value).unwrap();
        assert_eq!(boolean(&batch, "v"), Some(expected), "{value}");
        if value != "true" {
            let fault = one("kind = \"boolean\"", value).unwrap_err();
            assert_eq!(fault.reason, FaultReason::WrongType, "{value}");
        }
    }
    for value in ["2", "-1", "0.5", "\"yes\"", "\"\"", "[]"] {
        let fault = one(parse, value).unwrap_err();
        assert_eq!(fault.reason, FaultReason::WrongType, "{value}");
    }
}

#[test]
fn a_base64_decimal_is_never_taken_for_digits() {
    let keys = "kind = \"numeric\"\ndecimal_scale = 2";
    let of = |value: &str| one(keys, value).map(|batch| number(&batch, "v"));
    assert_eq!(of("\"BNI=\""), Ok(Some(12.34)));
    assert_eq!(of("\"1234\""), Ok(Some(-26_588.24)));
    // A number says its own value (Debezium's decimal.handling.mode = double).
    assert_eq!(of("12.34"), Ok(Some(12.34)));
    let fault = of("\"12.34\"").unwrap_err();
    assert_eq!(fault.reason, FaultReason::WrongType);
    assert_eq!(
        fault.detail,
        "field `v`: expected a number or an unscaled decimal in base64, found text \"12.34\""
    );
}

#[test]
fn a_whole_float_is_a_category_and_any_other_is_none() {
    let batch = one("kind = \"categorical\"", "5411.0").unwrap();
    assert_eq!(text(&batch, "v").as_deref(), Some("5411"));
    for value in ["1.5", "1e300", "9007199254740994.0"] {
        let fault = one("kind = \"categorical\"", value).unwrap_err();
        assert_eq!(fault.reason, FaultReason::WrongType, "{value}");
    }
}

#[test]
fn bad_texts_have_their_reason() {
    for &(text, reason, detail) in BAD_TEXTS {
        let found = fault(text);
        assert_eq!(found.reason, reason, "{text}: {}", found.detail);
        assert!(found.detail.contains(detail), "{text}: {}", found.detail);
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_malformed_at_their_offset() {
    let found = fault(b"{\"count\": 1, \"u\": \"\xff\"}");
    assert_eq!(found.reason, FaultReason::Malformed);
    assert_eq!(found.detail, "invalid utf-8 at byte 19");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        format!(
            r#"{{"count": 1, "u": {}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(decode(&[nested(120)]).payloads, [0]);
    assert_eq!(fault(nested(200)).reason, FaultReason::Malformed);
    let objects = "{\"a\":".repeat(500);
    assert!(fault(objects).detail.contains("recursion limit"));
}

#[test]
fn a_redacted_value_is_not_in_the_detail() {
    let found = fault(r#"{"merchant": 13.25}"#);
    assert!(found.detail.contains("found ***") && !found.detail.contains("13.25"));
}

#[test]
fn rows_keep_the_order_and_the_index_of_their_payloads() {
    let mut decoder = decoder();
    let long = format!(r#"{{"count": 1, "u": "{}"}}"#, "x".repeat(5_000));
    let payloads: [Option<&[u8]>; 7] = [
        None,
        Some(br#"{"count": 1}"#),
        Some(b""),
        Some(br#"{"amount": 3, "merchant": "m", "count": "bad"}"#),
        Some(long.as_bytes()),
        Some(br#"{}"#),
        Some(br#"{"count": 2}"#),
    ];
    let decoded = decoder.decode(&payloads).unwrap();
    assert_eq!(decoded.payloads, [1, 6]);
    let faults: Vec<_> = decoded
        .faults
        .iter()
        .map(|fault| (fault.row, fault.reason))
        .collect();
    use FaultReason::{Empty, EmptyRecord, Tombstone, TooLarge, WrongType};
    assert_eq!(
        faults,
        [
            (0, Tombstone),
            (2, Empty),
            (3, WrongType),
            (4, TooLarge),
            (5, EmptyRecord)
        ]
    );
    let counts = decoded.batch.column_by_name("count").unwrap();
    assert_eq!(counts.as_primitive::<Float64Type>().values(), &[1.0, 2.0]);
    // What the bad row held before its fault is gone.
    assert_eq!(
        decoded.batch.column_by_name("amount").unwrap().null_count(),
        2
    );
    assert_eq!(text(&decoded.batch, "merchant"), None);
    // And the decoder starts afresh with every call.
    assert_eq!(decoder.decode(&[]).unwrap().batch.num_rows(), 0);
}

#[test]
fn a_field_that_may_not_be_null_is_missing_when_it_is() {
    let strict = SCHEMA.replacen(
        "kind = \"numeric\"",
        "kind = \"numeric\"\nnullable = false",
        1,
    );
    let schema = Schema::parse(&strict, "test").unwrap();
    let mut decoder = JsonDecoder::new(&schema, DecodeLimits::default());
    let payloads = [
        &br#"{"count": 1}"#[..],
        br#"{"amount": 1}"#,
        br#"{"amount": null}"#,
    ];
    let decoded = decoder.decode(&payloads.map(Some)).unwrap();
    assert_eq!(decoded.payloads, [1]);
    let rows: Vec<_> = decoded
        .faults
        .iter()
        .map(|fault| (fault.row, fault.reason))
        .collect();
    assert_eq!(
        rows,
        [
            (0, FaultReason::MissingField),
            (2, FaultReason::EmptyRecord)
        ]
    );
}

/// Good and bad messages, with what is random in them.
fn message() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let good = (
        any::<i64>(),
        "\\PC{0,8}",
        prop::option::of(-1e9..1e9_f64),
        any::<bool>(),
    )
        .prop_map(|(count, merchant, amount, reverse)| {
            let merchant = serde_json::to_string(&merchant).unwrap();
            let amount = amount.map_or("null".to_owned(), |amount| amount.to_string());
            let mut members = [
                format!("\"count\": {count}"),
                format!("\"merchant\": {merchant}"),
                format!("\"amount\": {amount}"),
                format!("\"card\": {{\"country\": {merchant}, \"x\": [{count}]}}"),
            ];
            if reverse {
                members.reverse();
            }
            (true, format!("{{{}}}", members.join(", ")).into_bytes())
        });
    let bad = prop_oneof![
        Just(r#"{"merchant": "abc", "amount": 1, "count": "x"}"#),
        Just(r#"{"card": {"country": "zz"}, "at": 5}"#),
        Just(r#"{"merchant": "abc", "count": 1"#),
        Just(r#"{"merchant": "abc", "count": 1} {}"#),
        Just(r#"{"count": 1, "merchant": "abc", "merchant": "abc"}"#),
        Just("{}"),
    ];
    prop_oneof![2 => good, 1 => bad.prop_map(|text| (false, text.as_bytes().to_vec()))]
}

proptest! {
    #[test]
    fn a_bad_message_leaves_its_neighbours_alone(
        messages in prop::collection::vec(message(), 0..40)
    ) {
        let all: Vec<&[u8]> = messages.iter().map(|(_, text)| text.as_slice()).collect();
        let good: Vec<usize> = (0..messages.len()).filter(|&i| messages[i].0).collect();
        let alone: Vec<&[u8]> = good.iter().map(|&i| all[i]).collect();
        let mixed = decode(&all);
        prop_assert_eq!(&mixed.payloads, &good);
        prop_assert_eq!(mixed.batch, decode(&alone).batch);
        let mut rows: Vec<usize> = mixed.faults.iter().map(|fault| fault.row).collect();
        rows.extend(good);
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..messages.len()).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let good: &[u8] = br#"{"count": 1}"#;
        let decoded = decode(&[good, &bytes, good]);
        prop_assert!(decoded.payloads.contains(&0) && decoded.payloads.contains(&2));
    }
}

#[test]
fn a_decimal_with_its_scale_is_a_number_and_any_other_object_is_none() {
    let number = |value: &str| {
        one("kind = \"numeric\"", value).map(|batch| {
            let numbers = batch.column(0).as_primitive::<Float64Type>();
            numbers.is_valid(0).then(|| numbers.value(0))
        })
    };
    for (value, expected) in [
        ("{\"scale\": 2, \"value\": \"BNI=\"}", 12.34),
        ("{\"value\": \"+y4=\", \"scale\": 2}", -12.34),
        ("{\"scale\": -3, \"value\": \"AQ==\"}", 1_000.0),
        ("{\"scale\": 0.0, \"value\": \"AQ==\"}", 1.0),
    ] {
        assert_eq!(number(value), Ok(Some(expected)), "{value}");
    }
    for value in [
        "{\"scale\": 2}",
        "{\"scale\": \"2\", \"value\": \"BNI=\"}",
        "{\"scale\": 2, \"value\": 1234}",
        "{\"scale\": 2, \"value\": \"12.34\"}",
        "{\"scale\": 128, \"value\": \"BNI=\"}",
        "{\"scale\": 2, \"value\": \"BNI=\", \"unit\": {\"a\": [1]}}",
        "{}",
    ] {
        let fault = number(value).unwrap_err();
        assert_eq!(fault.reason, FaultReason::WrongType, "{value}");
        assert!(
            fault.detail.ends_with("found an object"),
            "{}",
            fault.detail
        );
    }
    let twice = number("{\"scale\": 2, \"scale\": 2, \"value\": \"BNI=\"}").unwrap_err();
    assert_eq!(twice.reason, FaultReason::Malformed);
    // A category is no decimal.
    let fault = one(
        "kind = \"categorical\"",
        "{\"scale\": 0, \"value\": \"AQ==\"}",
    );
    assert_eq!(fault.unwrap_err().reason, FaultReason::WrongType);
}
