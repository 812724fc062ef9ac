//! The rules that a schema keeps, whatever form it was read from.
//!
//! In flow fields, out flows every fault at once: names, roles, keys that do not belong to a kind.

use std::collections::{HashMap, HashSet};

use chrono_tz::Tz;

use super::error::broken;
use super::field::{
    DEFAULT_DECIMAL_SEPARATOR, DEFAULT_MAX_CARDINALITY, Field, FieldPath, Kind, Role, Transform,
};
use super::value::DECIMAL_SCALE_MAX;
use crate::toml_file::KeyFault;

/// Fields that a schema may have at most: each costs weights, a calibration table and a metric
/// series.
pub const FIELDS_MAX: usize = 4_096;

/// Null values, and texts to strip, that a field may have at most: each is compared with every value.
const SPELLINGS_MAX: usize = 64;

/// Bytes that each of them may have at most.
const SPELLING_BYTES_MAX: usize = 256;

/// Every broken rule of `fields`. `places` are those of the fields in their file, from 0; empty where there is none.
pub(super) fn check_fields(fields: &[Field], places: &[usize], faults: &mut Vec<KeyFault>) {
    check_whole(fields, faults);
    let mut names = HashSet::new();
    let mut feature_paths: HashMap<&FieldPath, &str> = HashMap::new();
    for (at, field) in fields.iter().enumerate() {
        let mut fault = |key: &str, expected: &str, found: &str| {
            let name = format!("field `{}`", field.name);
            let field = (name, places.get(at).copied());
            faults.push(broken(field, key, expected, found));
        };
        if !names.insert(&field.name) {
            fault("name", "a name of its own", "the name of an earlier field");
        }
        if field.role.is_seen()
            && let Some(earlier) = feature_paths.insert(&field.path, &field.name)
        {
            // A hidden field that stands visible under another name would be predicted from itself.
            let found = format!("that of feature `{earlier}`");
            fault("path", "a path of its own for each feature", &found);
        }
        check_name_and_path(field, &mut fault);
        check_role(field, &mut fault);
        check_kind(field, &mut fault);
        check_spelling(field, &mut fault);
    }
}

fn check_whole(fields: &[Field], faults: &mut Vec<KeyFault>) {
    let mut fault = |key: &str, expected: &str, found: String| {
        faults.push(broken(("schema", None), key, expected, found));
    };
    if fields.len() > FIELDS_MAX {
        let expected = format!("at most {FIELDS_MAX} fields");
        fault("field", &expected, fields.len().to_string());
    }
    if !fields.iter().any(|field| field.role == Role::Feature) {
        fault(
            "field",
            "at least one field with the role `feature`",
            "none".to_owned(),
        );
    }
    for (role, word) in [
        (Role::Key, "key"),
        (Role::Time, "time"),
        (Role::Label, "label"),
    ] {
        let of_role = fields.iter().filter(|field| field.role == role);
        let names: Vec<&str> = of_role.map(|field| field.name.as_str()).collect();
        if names.len() > 1 {
            fault(
                "role",
                &format!("at most one field with the role `{word}`"),
                names.join(", "),
            );
        }
    }
}

fn check_name_and_path(field: &Field, fault: &mut impl FnMut(&str, &str, &str)) {
    if field.name.is_empty() || field.name.chars().any(char::is_control) {
        let found = format!("{:?}", field.name);
        fault("name", "a name without control characters", &found);
    }
    let segments = field.path.segments();
    if segments.is_empty() || segments.iter().any(String::is_empty) {
        let found = format!("`{}`", field.path);
        fault("path", "no empty name between the dots", &found);
    }
}

fn check_role(field: &Field, fault: &mut impl FnMut(&str, &str, &str)) {
    if field.role == Role::Time && field.kind != Kind::Timestamp {
        fault(
            "kind",
            "`timestamp` for the role `time`",
            field.kind.as_str(),
        );
    }
    if field.role == Role::Label && field.kind == Kind::Timestamp {
        fault(
            "kind",
            "`boolean`, `numeric` or `categorical` for the role `label`",
            "timestamp",
        );
    }
    if !field.nullable && matches!(field.role, Role::Key | Role::Time | Role::Label) {
        fault(
            "nullable",
            "true, as key, time and label may be absent",
            "false",
        );
    }
}

/// `decimal_scale` reads text as base64, `parse` reads it as digits: one text cannot be both.
fn check_decimal(field: &Field, fault: &mut impl FnMut(&str, &str, &str)) {
    let Some(scale) = field.decimal_scale else {
        return;
    };
    if field.kind != Kind::Numeric {
        fault("decimal_scale", "kind `numeric`", field.kind.as_str());
    }
    if field.parse {
        let found = "`parse = true`, which reads the same text as digits";
        fault("decimal_scale", "no `parse` beside it", found);
    }
    if scale.unsigned_abs() > DECIMAL_SCALE_MAX {
        let expected = format!("-{DECIMAL_SCALE_MAX} to {DECIMAL_SCALE_MAX}");
        fault("decimal_scale", &expected, &scale.to_string());
    }
}

/// The keys that belong to one kind. An ignored field may keep any: it is easily taken back then.
fn check_kind(field: &Field, fault: &mut impl FnMut(&str, &str, &str)) {
    if field.role == Role::Ignore {
        return;
    }
    let kind = field.kind.as_str();
    if field.transform != Transform::None && field.kind != Kind::Numeric {
        fault("transform", "kind `numeric`", kind);
    }
    if field.parse && !matches!(field.kind, Kind::Numeric | Kind::Boolean) {
        fault("parse", "kind `numeric` or `boolean`", kind);
    }
    check_decimal(field, fault);
    if field.unit.is_some() && field.kind != Kind::Timestamp {
        fault("unit", "kind `timestamp`", kind);
    }
    if field.time_zone != Tz::UTC && field.kind != Kind::Timestamp {
        fault("time_zone", "kind `timestamp`", kind);
    }
    if field.max_cardinality != DEFAULT_MAX_CARDINALITY && field.kind != Kind::Categorical {
        fault("max_cardinality", "kind `categorical`", kind);
    }
    if !(1..=DEFAULT_MAX_CARDINALITY).contains(&field.max_cardinality) {
        let expected = format!("1 to {DEFAULT_MAX_CARDINALITY}");
        fault(
            "max_cardinality",
            &expected,
            &field.max_cardinality.to_string(),
        );
    }
}

/// The keys that say how values are spelled. An ignored field may keep any.
fn check_spelling(field: &Field, fault: &mut impl FnMut(&str, &str, &str)) {
    if field.role == Role::Ignore {
        return;
    }
    for (key, texts) in [("null_values", &field.null_values), ("strip", &field.strip)] {
        if texts.len() > SPELLINGS_MAX {
            let expected = format!("at most {SPELLINGS_MAX} texts");
            fault(key, &expected, &texts.len().to_string());
        }
        if let Some(long) = texts.iter().find(|text| text.len() > SPELLING_BYTES_MAX) {
            let expected = format!("texts of at most {SPELLING_BYTES_MAX} bytes");
            fault(key, &expected, &format!("{} bytes", long.len()));
        }
    }
    let (decimal, thousands) = (field.decimal_separator, field.thousands_separator);
    let reads_text = field.kind == Kind::Numeric && field.parse;
    for (key, is_set) in [
        ("decimal_separator", decimal != DEFAULT_DECIMAL_SEPARATOR),
        ("thousands_separator", thousands.is_some()),
        ("strip", !field.strip.is_empty()),
    ] {
        if is_set && !reads_text {
            fault(
                key,
                "kind `numeric` with `parse = true`",
                field.kind.as_str(),
            );
        }
    }
    let in_numbers = |c: char| c.is_ascii_alphanumeric() || "+-()".contains(c) || c.is_control();
    if in_numbers(decimal) || decimal.is_whitespace() {
        fault(
            "decimal_separator",
            "a mark such as `.` or `,`",
            &format!("{decimal:?}"),
        );
    }
    if let Some(thousands) = thousands.filter(|&c| in_numbers(c) || c == decimal) {
        let expected = "a mark or blank other than `decimal_separator`";
        fault("thousands_separator", expected, &format!("{thousands:?}"));
    }
    if let Some(strip) = field.strip.iter().find(|text| is_part_of_number(text)) {
        fault(
            "strip",
            "texts that are no part of a number",
            &format!("{strip:?}"),
        );
    }
}

/// Whether stripping `text` could change a number's value.
fn is_part_of_number(text: &str) -> bool {
    text.trim().is_empty()
        || text
            .chars()
            .all(|c| c.is_ascii_digit() || "+-.,".contains(c))
}
