//! The schema file as text: one commented `[[field]]` table a column.
//!
//! In flow the columns with what was decided of each, out flows TOML that parses back to just that.
//! The same data always gives the same text.

use std::collections::HashSet;
use std::fmt::Write;

use toml::Value;

use super::super::field::{DEFAULT_DECIMAL_SEPARATOR, Kind, Role, TimeUnit, Transform};
use super::decision::Decision;
use super::{Inference, Leaf, Profile};

/// What stands at the head of every file.
const HEAD: &str = "\
# Read it before training: the rules that made it know nothing of what the columns mean.
# `kind`: numeric, categorical, boolean, timestamp (seen as hour of the day and day of the week).
# `role`: feature (the default), key (names the record in outputs), time (the record's own time),
#         label (1 or true for fraud, for evaluation only), ignore (not read).
# Other keys: nullable, transform (none, log1p, asinh), unit (days, s, ms, us, ns), time_zone, parse,
#         null_values, decimal_separator, thousands_separator, strip, max_cardinality, redact, path.
";

/// Writes the file. A column whose name cannot stand in a schema is left out with a comment.
pub(super) fn write(inference: &Inference, decisions: &[Decision], origin: &str) -> String {
    let rows = inference.rows;
    let mut text = format!(
        "# Inferred from {rows} rows of {}.\n{HEAD}",
        printable(origin)
    );
    let mut names = HashSet::new();
    let columns = inference
        .leaves
        .iter()
        .zip(&inference.profiles)
        .zip(decisions);
    // The time field has its name first, so that a column of that name gives way.
    let time = decisions.iter().position(is_time_feature);
    let time_name = time.map(|_| unique("event_time", &reserved(inference)));
    names.extend(time_name.clone());
    for (index, ((leaf, profile), decision)) in columns.enumerate() {
        if !leaf.is_usable() {
            let name = printable(&leaf.name());
            let _ = write!(
                text,
                "\n# The column {name} cannot be named in a schema: left out.\n"
            );
            continue;
        }
        let name = unique(&leaf.name(), &names);
        write_field(&mut text, &name, leaf, profile, decision);
        if let (true, Some(time_name)) = (time == Some(index), &time_name) {
            write_time(&mut text, time_name, leaf, decision);
        }
        names.insert(name);
    }
    text
}

fn write_field(text: &mut String, name: &str, leaf: &Leaf, profile: &Profile, of: &Decision) {
    let distinct = profile.distinct_values();
    let about = if profile.distinct.is_exact() {
        ""
    } else {
        "about "
    };
    let (data_type, nulls) = (leaf.plain_type(), profile.nulls);
    text.push_str("\n[[field]]\n");
    if profile.rows > 0 {
        let _ = writeln!(
            text,
            "# {data_type}: {nulls} null, {about}{distinct} distinct."
        );
    }
    for reason in &of.reasons {
        let _ = writeln!(text, "# {}", printable(reason));
    }
    write_place(text, name, leaf);
    match of.role {
        Role::Ignore => text.push_str("role = \"ignore\"\n"),
        Role::Label => text.push_str("role = \"label\"\n"),
        _ => {}
    }
    if let Some(kind) = of.kind {
        let _ = writeln!(text, "kind = \"{}\"", kind.as_str());
    }
    if of.transform != Transform::None {
        let _ = writeln!(text, "transform = \"{}\"", of.transform.as_str());
    }
    write_unit(text, of.unit);
    write_spelling(text, of);
}

/// How text writes numbers, and what means null.
fn write_spelling(text: &mut String, of: &Decision) {
    let mut null_values = of.null_values.clone();
    if let Some(form) = &of.parse {
        text.push_str("parse = true\n");
        if form.decimal != DEFAULT_DECIMAL_SEPARATOR {
            let decimal = quoted(&form.decimal.to_string());
            let _ = writeln!(text, "decimal_separator = {decimal}");
        }
        if let Some(thousands) = form.thousands {
            let thousands = quoted(&thousands.to_string());
            let _ = writeln!(text, "thousands_separator = {thousands}");
        }
        if !form.strip.is_empty() {
            let _ = writeln!(text, "strip = {}", list(&form.strip));
        }
        null_values.extend(form.null_values.iter().cloned());
    }
    if !null_values.is_empty() {
        let _ = writeln!(text, "null_values = {}", list(&null_values));
    }
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn write_time(text: &mut String, name: &str, leaf: &Leaf, decision: &Decision) {
    let column = printable(&leaf.name());
    let _ = write!(
        text,
        "\n[[field]]\n# {column} once more, as the time of the record.\n"
    );
    let _ = writeln!(text, "name = {}\nrole = \"time\"", quoted(name));
    let _ = writeln!(text, "path = {}", path(leaf));
    write_unit(text, decision.unit);
    write_spelling(text, decision);
}

/// The name, and the path where it is not the name.
fn write_place(text: &mut String, name: &str, leaf: &Leaf) {
    let _ = writeln!(text, "name = {}", quoted(name));
    if leaf.segments.len() > 1 || leaf.segments[0] != name {
        let _ = writeln!(text, "path = {}", path(leaf));
    }
}

fn write_unit(text: &mut String, unit: Option<TimeUnit>) {
    if let Some(unit) = unit {
        let _ = writeln!(text, "unit = \"{}\"", unit.as_str());
    }
}

/// A dotted path, or a list of names where one of them has a dot in it.
fn path(leaf: &Leaf) -> String {
    if leaf.segments.iter().any(|name| name.contains('.')) {
        list(&leaf.segments)
    } else {
        quoted(&leaf.name())
    }
}

fn is_time_feature(decision: &Decision) -> bool {
    decision.role == Role::Feature && decision.kind == Some(Kind::Timestamp)
}

/// The names of all columns, which the time field must not take from them.
fn reserved(inference: &Inference) -> HashSet<String> {
    inference.leaves.iter().map(Leaf::name).collect()
}

/// `name`, with a number behind it if it is taken.
fn unique(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    candidates
        .find(|candidate| !taken.contains(candidate))
        .unwrap_or_default()
}

/// Text for a comment: on one line whatever it holds.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}
