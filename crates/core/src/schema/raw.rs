//! The text form of a schema: TOML with one `[[field]]` table a field.
//!
//! In flows text, out flow [`Field`]s with every default filled in, and every fault of spelling: an
//! unknown key, a value of the wrong type, a missing name. Keys are taken one by one, so that one
//! bad key does not hide the next. Rules between keys and between fields are `check`'s.

use chrono_tz::Tz;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::broken;
use super::field::{
    DEFAULT_DECIMAL_SEPARATOR, DEFAULT_MAX_CARDINALITY, Field, FieldPath, Kind, Role, TimeUnit,
    Transform,
};
use crate::toml_file::{KeyFault, nearest, shown};

/// `path = "a.b"` for nested names, or `path = ["a.b", "c"]` where a name itself holds a dot.
#[derive(Deserialize)]
#[serde(untagged)]
enum PathText {
    Dotted(String),
    Segments(Vec<String>),
}

/// Reads the fields of a parsed TOML document with their places in it, adding what is wrong to `faults`.
pub(super) fn read_fields(mut document: Table, faults: &mut Vec<KeyFault>) -> Vec<(usize, Field)> {
    let mut fault = |key: &str, expected: &str, found: &Value| {
        faults.push(broken(("schema", None), key, expected, shown(found)));
    };
    let tables = match document.remove("field") {
        None => Vec::new(),
        Some(Value::Array(tables)) => tables,
        Some(other) => {
            fault("field", "`[[field]]` tables", &other);
            Vec::new()
        }
    };
    for (key, value) in &document {
        fault(key, "only `[[field]]` tables", value);
    }
    let tables = tables.into_iter().enumerate();
    let read = |(at, table)| Some((at, read_field(at, table, faults)?));
    tables.filter_map(read).collect()
}

fn read_field(at: usize, value: Value, faults: &mut Vec<KeyFault>) -> Option<Field> {
    let place = format!("field {}", at + 1);
    let Value::Table(table) = value else {
        let field = (place, Some(at));
        faults.push(broken(field, "field", "a table", shown(&value)));
        return None;
    };
    let label = match table.get("name") {
        Some(Value::String(name)) if !name.is_empty() => format!("{place} `{name}`"),
        _ => place,
    };
    let mut reader = TableReader {
        table,
        at,
        label,
        known: Vec::new(),
        faults,
    };
    let field = reader.field();
    reader.refuse_unknown_keys();
    field
}

/// Takes the keys of one table out of it, one after the other.
struct TableReader<'a> {
    table: Table,
    /// The place of the field in the file, from 0.
    at: usize,
    label: String,
    /// The keys that were asked for, there or not.
    known: Vec<&'static str>,
    faults: &'a mut Vec<KeyFault>,
}

impl TableReader<'_> {
    /// The field, or `None` when it cannot even be named; every fault is noted either way.
    fn field(&mut self) -> Option<Field> {
        let name: Option<String> = self.required("name", "text");
        let role: Role = self
            .take(
                "role",
                "`feature`, `context`, `key`, `time`, `label` or `ignore`",
            )
            .unwrap_or_default();
        let kind = self.kind(role);
        let path = self.path();
        let nullable = self.take("nullable", "true or false").unwrap_or(true);
        let transform = self.take::<Transform>("transform", "`none`, `log1p` or `asinh`");
        let unit = self.take::<TimeUnit>("unit", "`days`, `s`, `ms`, `us` or `ns`");
        let time_zone = self.take("time_zone", "an IANA time zone such as `Europe/Zurich`");
        let parse = self.take("parse", "true or false").unwrap_or(false);
        let decimal_scale = self.take("decimal_scale", "a whole number");
        let null_values = self.take("null_values", "a list of texts, such as `[\"\", \"N/A\"]`");
        let separator = "one character in quotes";
        let decimal_separator = self.take("decimal_separator", separator);
        let thousands_separator = self.take("thousands_separator", separator);
        let strip = self.take("strip", "a list of texts, such as `[\"$\"]`");
        let max_cardinality = self.take("max_cardinality", "a whole number");
        let redact = self.take("redact", "true or false").unwrap_or(false);
        let name = name?;
        Some(Field {
            path: path.unwrap_or_else(|| FieldPath::top(&name)),
            name,
            kind,
            role,
            nullable,
            transform: transform.unwrap_or_default(),
            unit,
            time_zone: time_zone.unwrap_or(Tz::UTC),
            parse,
            decimal_scale,
            null_values: null_values.unwrap_or_default(),
            decimal_separator: decimal_separator.unwrap_or(DEFAULT_DECIMAL_SEPARATOR),
            thousands_separator,
            strip: strip.unwrap_or_default(),
            max_cardinality: max_cardinality.unwrap_or(DEFAULT_MAX_CARDINALITY),
            redact,
        })
    }

    /// The kind: a feature must say it, the other roles have one that goes without saying.
    fn kind(&mut self, role: Role) -> Kind {
        let expected = "`numeric`, `categorical`, `boolean` or `timestamp`";
        let implied = match role {
            Role::Feature | Role::Context => {
                return self.required("kind", expected).unwrap_or(Kind::Categorical);
            }
            Role::Key | Role::Ignore => Kind::Categorical,
            Role::Time => Kind::Timestamp,
            Role::Label => Kind::Boolean,
        };
        self.take("kind", expected).unwrap_or(implied)
    }

    fn path(&mut self) -> Option<FieldPath> {
        let expected = "text such as `\"a.b\"`, or names such as `[\"a\", \"b\"]`";
        match self.take("path", expected)? {
            PathText::Dotted(text) => Some(FieldPath::parse(&text)),
            PathText::Segments(segments) => {
                let path = FieldPath::from_segments(segments);
                if path.is_none() {
                    self.fault("path", expected, "no names");
                }
                path
            }
        }
    }

    fn required<T: DeserializeOwned>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.fault(key, expected, "nothing");
        }
        self.take(key, expected)
    }

    fn take<T: DeserializeOwned>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let found = shown(&value);
        let taken = value.try_into().ok();
        if taken.is_none() {
            self.fault(key, expected, &found);
        }
        taken
    }

    fn refuse_unknown_keys(mut self) {
        for (key, value) in std::mem::take(&mut self.table) {
            let meant = nearest(&key, self.known.iter().copied());
            let meant = meant.map_or(String::new(), |name| format!(" (did you mean `{name}`?)"));
            self.fault(&key, &format!("no such key{meant}"), &shown(&value));
        }
    }

    fn fault(&mut self, key: &str, expected: &str, found: &str) {
        let field = (&self.label, Some(self.at));
        self.faults.push(broken(field, key, expected, found));
    }
}
