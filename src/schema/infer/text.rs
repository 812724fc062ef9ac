//! The schema file as text: one commented `[[field]]` table a column.
//!
//! In flow the columns with what was decided of each, out flows TOML that parses back to just that.
//! The same data always gives the same text.

use std::collections::HashSet;
use std::fmt::Write;

use toml::Value;

use super::super::field::{Kind, Role, TimeUnit};
use super::rules::Decision;
use super::{Inference, Leaf, Profile};

/// What stands at the head of every file.
const HEAD: &str = "\
# Read it before training: the rules that made it know nothing of what the columns mean.
# `kind`: numeric, categorical, boolean, timestamp (seen as hour of the day and day of the week).
# `role`: feature (the default), key (names the record in outputs), time (the record's own time),
#         label (1 or true for fraud, for evaluation only), ignore (not read).
# Other keys: nullable, transform (none, log1p, asinh), unit (days, s, ms, us, ns), time_zone, parse,
#         max_cardinality, redact, path.
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
    let Decision {
        role,
        kind,
        unit,
        parse,
        reason,
    } = of;
    // An estimate may exceed what there is.
    let distinct = profile.distinct.count().min(profile.present());
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
    if let Some(reason) = reason {
        let _ = writeln!(text, "# {reason}");
    }
    write_place(text, name, leaf);
    match role {
        Role::Ignore => text.push_str("role = \"ignore\"\n"),
        Role::Label => text.push_str("role = \"label\"\n"),
        _ => {}
    }
    if let Some(kind) = kind {
        let _ = writeln!(text, "kind = \"{}\"", kind.as_str());
    }
    write_unit(text, *unit);
    if *parse {
        text.push_str("parse = true\n");
    }
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
}

/// The name, and the path where it is not the name.
fn write_place(text: &mut String, name: &str, leaf: &Leaf) {
    let _ = writeln!(text, "name = {}", quoted(name));
    if leaf.segments.len() > 1 || leaf.segments[0] != name {
        let _ = writeln!(text, "path = {}", path(leaf));
    }
}

fn write_unit(text: &mut String, unit: Option<TimeUnit>) {
    let word = match unit {
        None => return,
        Some(TimeUnit::Days) => "days",
        Some(TimeUnit::S) => "s",
        Some(TimeUnit::Ms) => "ms",
        Some(TimeUnit::Us) => "us",
        Some(TimeUnit::Ns) => "ns",
    };
    let _ = writeln!(text, "unit = \"{word}\"");
}

/// A dotted path, or a list of names where one of them has a dot in it.
fn path(leaf: &Leaf) -> String {
    if leaf.segments.iter().any(|name| name.contains('.')) {
        let names: Vec<String> = leaf.segments.iter().map(|name| quoted(name)).collect();
        format!("[{}]", names.join(", "))
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
