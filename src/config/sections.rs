//! The text of a configuration taken apart: every key is tried alone, so that one that is wrong hides no other.
//!
//! In flow the text and the variables laid over it, out flow the keys that are sound and a sentence for each other one,
//! with its line or its variable. The invariant: no sentence holds a value of the text, as it may be a password.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, Error};
use toml::{Table, Value};

use super::environment::{self, Override};
use super::{
    RawAlerts, RawBatch, RawDelivery, RawHttp, RawInput, RawKafka, RawModel, TrainSection,
};
use crate::kafka::properties::nearest;

/// Whether a section of one key can be read; one for each section that there is.
type Probe = fn(Table) -> Result<(), Error>;

const SECTIONS: [(&str, Probe); 8] = [
    ("kafka", probe::<RawKafka>),
    ("input", probe::<RawInput>),
    ("delivery", probe::<RawDelivery>),
    ("batch", probe::<RawBatch>),
    ("alerts", probe::<RawAlerts>),
    ("http", probe::<RawHttp>),
    ("model", probe::<RawModel>),
    ("train", probe::<TrainSection>),
];

fn probe<T: DeserializeOwned>(section: Table) -> Result<(), Error> {
    section.try_into::<T>().map(drop)
}

/// Where a key was written: names from the top, lines from 1.
type Lines = BTreeMap<Vec<String>, usize>;

/// The keys that can be read, and what is wrong with the others, in the order of the file.
#[derive(Debug)]
pub struct Sound {
    /// Sections with their sound keys.
    pub table: Table,
    /// A sentence for each other key.
    pub faults: Vec<String>,
}

/// Reads the text, lays the variables over it, and tries every key alone.
///
/// # Errors
/// Every position at which the text is not TOML.
pub fn sound(text: &str, overrides: Vec<Override>) -> Result<Sound, Vec<String>> {
    let (spanned, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(text, error)).collect());
    }
    let mut lines = Lines::new();
    note_lines(text, spanned.get_ref(), &mut Vec::new(), &mut lines);
    let table = toml::from_str::<Table>(text).map_err(|error| vec![syntax(text, &error)])?;
    let mut search = Search {
        lines,
        variables: BTreeMap::new(),
        found: Vec::new(),
    };
    let mut given = table;
    for fault in environment::apply(&mut given, &overrides, fits) {
        search.found.push((0, fault));
    }
    for Override { name, path, .. } in overrides {
        search.variables.insert(path, name);
    }
    let table = search.sections(given);
    search.found.sort();
    let faults = search.found.into_iter().map(|(_, fault)| fault).collect();
    Ok(Sound { table, faults })
}

/// Whether the key at this path can have this value.
fn fits(path: &[String], value: &Value) -> bool {
    let probe = |section: &String| SECTIONS.iter().find(|(known, _)| known == section);
    match path {
        [section, key] => {
            probe(section).is_some_and(|(_, probe)| alone(key, value.clone(), *probe).is_ok())
        }
        [section, key, entry] => {
            let one = Table::from_iter([(entry.clone(), value.clone())]);
            probe(section).is_some_and(|(_, probe)| alone(key, Value::Table(one), *probe).is_ok())
        }
        _ => false,
    }
}

/// A text that is not TOML: the line, what the parser says, and what was probably meant.
fn syntax(text: &str, error: &Error) -> String {
    let Some(span) = error.span() else {
        return error.message().to_owned();
    };
    let line = line_of(text, span.start);
    let written = text.lines().nth(line - 1).unwrap_or_default();
    let number = |value: &str| value.trim_end().parse::<f64>().is_ok();
    let is_percentage = written
        .split_once('=')
        .and_then(|(_, value)| value.split_once('%'))
        .is_some_and(|(value, _)| number(value.trim_start()));
    let hint = if is_percentage {
        "; a percentage is written as a share (0.001) or as text (\"0.1%\")"
    } else {
        ""
    };
    format!("line {line}: {}{hint}", error.message())
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.matches('\n').count()
}

fn note_lines(text: &str, table: &DeTable<'_>, path: &mut Vec<String>, lines: &mut Lines) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(table) = value.get_ref() {
            note_lines(text, table, path, lines);
        }
        path.pop();
    }
}

/// What is known of the origin of each key, and what was found.
struct Search {
    lines: Lines,
    /// Names of variables, by section and key.
    variables: BTreeMap<Vec<String>, String>,
    /// Line and sentence.
    found: Vec<(usize, String)>,
}

impl Search {
    fn sections(&mut self, given: Table) -> Table {
        let mut sound = Table::new();
        for (name, value) in given {
            let Some((_, probe)) = SECTIONS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = SECTIONS.iter().map(|(known, _)| *known).collect();
                let meant = did_you_mean(&name, known.iter().copied());
                let list = known.join("], [");
                self.report(
                    &[&name],
                    &format!("unknown section{meant}, expected one of [{list}]"),
                );
                continue;
            };
            match value {
                Value::Table(keys) => {
                    let keys = self.keys(&name, keys, *probe);
                    sound.insert(name, Value::Table(keys));
                }
                _ => self.report(&[&name], &format!("expected a section, as in [{name}]")),
            }
        }
        sound
    }

    fn keys(&mut self, section: &str, given: Table, probe: Probe) -> Table {
        let mut sound = Table::new();
        for (key, value) in given {
            if let Err(error) = alone(&key, value.clone(), probe) {
                match value {
                    // A table of the user's own keys: each of them is tried alone too.
                    Value::Table(entries) if !is_unknown(error.message()) => {
                        let entries = self.entries(section, &key, entries, probe);
                        sound.insert(key, Value::Table(entries));
                    }
                    _ => self.report(&[section, &key], &without_values(error.message())),
                }
                continue;
            }
            sound.insert(key, value);
        }
        sound
    }

    fn entries(&mut self, section: &str, key: &str, given: Table, probe: Probe) -> Table {
        let mut sound = Table::new();
        for (entry, value) in given {
            let one = Table::from_iter([(entry.clone(), value.clone())]);
            match alone(key, Value::Table(one), probe) {
                Ok(()) => drop(sound.insert(entry, value)),
                Err(error) => {
                    self.report(&[section, key, &entry], &without_values(error.message()))
                }
            }
        }
        sound
    }

    /// A sentence on the key of this path, with where it comes from.
    fn report(&mut self, path: &[&str], what: &str) {
        let owned: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
        let name = path.join(".");
        let fault = match (self.variables.get(&owned), self.lines.get(&owned)) {
            (Some(variable), _) => (0, format!("variable {variable}: {name}: {what}")),
            (None, Some(&line)) => (line, format!("line {line}: {name}: {what}")),
            (None, None) => (0, format!("{name}: {what}")),
        };
        self.found.push(fault);
    }
}

fn alone(key: &str, value: Value, probe: Probe) -> Result<(), Error> {
    probe(Table::from_iter([(key.to_owned(), value)]))
}

fn is_unknown(message: &str) -> bool {
    message.starts_with("unknown field")
}

/// A message without any value of the file.
fn without_values(message: &str) -> String {
    // "unknown field `x`, expected `a` or `b`": the nearest of those that there are is named.
    if is_unknown(message) {
        let mut names = message.split('`').skip(1).step_by(2);
        let given = names.next().unwrap_or_default();
        let rest = message.split_once("expected ").map_or("", |(_, rest)| rest);
        return format!("unknown key{}, expected {rest}", did_you_mean(given, names));
    }
    // "invalid type: integer `7`, expected a string": the value goes, what was expected stays.
    let first = message.lines().next().unwrap_or_default();
    match first.split_once(": ") {
        Some((what @ ("invalid type" | "invalid value"), rest)) => {
            let expected = rest.rsplit_once(", expected ").map_or("", |(_, it)| it);
            format!("{what}, expected {expected}")
        }
        _ => match first.split_once(", expected ") {
            // "unknown variant `x`, expected `json` or `avro`"
            Some((what, expected)) if what.starts_with("unknown variant") => {
                format!("unknown value, expected {expected}")
            }
            _ => first.to_owned(),
        },
    }
}

fn did_you_mean<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(given, known).map_or(String::new(), |name| format!(", did you mean `{name}`?"))
}
