//! A TOML file that a person wrote: its keys with the lines on which they stand, and everything that is wrong with them.
//!
//! In flows a text, out flow the keys that can be read, and one [`KeyFault`] for each of the others. The schema, the
//! training configuration and the daemon's configuration are all read through it, so that all faults of a file are
//! reported at once and in one form. Checks of values know keys and no lines; [`TomlFile::located`] adds these.
//! Invariant: no fault shows a value of a file that may hold passwords ([`Values::Secret`]).

use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use toml::de::{DeTable, DeValue, Error};
use toml::{Table, Value};

/// Characters of a bad value that a fault shows.
const VALUE_CHARACTERS_MAX: usize = 80;

/// Where a key was written. Faults are sorted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the environment: the name of the variable.
    Variable(String),
    /// In the file: its line, from 1.
    Line(usize),
    /// Nowhere: the key is missing, or the fault is of no file.
    Unknown,
}

/// One fault: where it was written, the key, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFault {
    /// Where the key was written.
    pub origin: Origin,
    /// The key as a person reads it, such as `training.steps`; empty where the fault is of no key.
    pub key: String,
    /// The value found, as TOML, where it is shown at all.
    pub value: Option<String>,
    /// What was expected, with the limit, and what to do.
    pub what: String,
    /// The names from the top of the file to the key; of an array's elements their numbers from 0.
    path: Vec<String>,
}

impl KeyFault {
    /// A fault of a key whose names are joined by dots; a name with a dot of its own stands in quotes.
    pub fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        let key = key.into();
        Self {
            origin: Origin::Unknown,
            path: names(&key),
            key,
            value: None,
            what: what.into(),
        }
    }

    /// A fault of a key with the value that was found.
    pub fn of_value(key: &str, value: impl fmt::Display, what: impl Into<String>) -> Self {
        Self {
            value: Some(value.to_string()),
            ..Self::new(key, what)
        }
    }

    /// A fault of the key at `path`, which a person reads as `key`.
    pub fn at(path: Vec<String>, key: String, what: String) -> Self {
        Self {
            origin: Origin::Unknown,
            key,
            value: None,
            what,
            path,
        }
    }

    /// A fault of an environment variable that sets no key.
    pub fn of_variable(name: &str, what: impl Into<String>) -> Self {
        Self {
            origin: Origin::Variable(name.to_owned()),
            ..Self::new("", what)
        }
    }

    /// The same fault of a key that a person knows under another name.
    pub fn under(self, key: String) -> Self {
        Self {
            path: names(&key),
            key,
            ..self
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Variable(name) => write!(f, "variable {name}: ")?,
            Origin::Line(line) => write!(f, "line {line}: ")?,
            Origin::Unknown => {}
        }
        match (&*self.key, &self.value) {
            ("", _) => write!(f, "{}", self.what),
            (key, Some(value)) => write!(f, "{key} = {value}: {}", self.what),
            (key, None) => write!(f, "{key}: {}", self.what),
        }
    }
}

/// The names of a key such as `kafka.properties."linger.ms"`.
fn names(key: &str) -> Vec<String> {
    let (mut names, mut name, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in key.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => names.push(std::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    names.push(name);
    names
}

/// Collects what is wrong with values, so that all of it is reported at once.
#[derive(Debug, Default)]
pub struct KeyFaults(Vec<KeyFault>);

impl KeyFaults {
    /// Notes a value that does not keep its rule; `must` says the rule with its limits.
    pub fn require(&mut self, holds: bool, key: &str, value: impl fmt::Display, must: &str) {
        if !holds {
            self.0.push(KeyFault::of_value(key, value, must));
        }
    }

    /// Notes a number that is not within `min..=max`.
    pub fn range(&mut self, key: &str, value: usize, min: usize, max: usize) {
        let must = format!("must be within {min}..={max}");
        self.require((min..=max).contains(&value), key, value, &must);
    }

    /// Notes a fault.
    pub fn push(&mut self, fault: KeyFault) {
        self.0.push(fault);
    }

    /// All that was noted, in the order in which it was.
    pub fn into_vec(self) -> Vec<KeyFault> {
        self.0
    }
}

/// Whether faults may show the values of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// They are shown.
    Shown,
    /// They are not: some may be passwords.
    Secret,
}

/// The keys of a text with their origins.
#[derive(Debug, Clone)]
pub struct TomlFile {
    table: Table,
    origins: BTreeMap<Vec<String>, Origin>,
    values: Values,
}

impl TomlFile {
    /// Takes a text apart.
    ///
    /// # Errors
    /// Every line that is not TOML.
    pub fn parse(text: &str, values: Values) -> Result<Self, Vec<KeyFault>> {
        let (spanned, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| syntax(text, error)).collect());
        }
        let table = toml::from_str::<Table>(text).map_err(|error| vec![syntax(text, &error)])?;
        let mut origins = BTreeMap::new();
        note_lines(text, spanned.get_ref(), &mut Vec::new(), &mut origins);
        Ok(Self {
            table,
            origins,
            values,
        })
    }

    /// All keys, sound or not.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// All keys, to lay others over them; see [`set_by`](Self::set_by).
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Notes that a variable set the key at `path`.
    pub fn set_by(&mut self, path: Vec<String>, variable: String) {
        self.origins.insert(path, Origin::Variable(variable));
    }

    /// The sections and keys that `T` can read. Each key is tried alone, so that one that is wrong hides no other: a fault
    /// for each that is unknown or of another type.
    ///
    /// `T` must be readable from no keys at all.
    pub fn sound<T: DeserializeOwned>(&self) -> (Table, Vec<KeyFault>) {
        let mut search = Search {
            file: self,
            read: read::<T>,
            faults: Vec::new(),
        };
        let sound = search.sections();
        (sound, search.faults)
    }

    /// The faults with their lines or variables, in the order of the file. A key that is missing has the line of the table
    /// that lacks it.
    pub fn located(&self, faults: impl IntoIterator<Item = KeyFault>) -> Vec<KeyFault> {
        let mut located: Vec<KeyFault> = faults.into_iter().map(|of| self.locate(of)).collect();
        located.sort_by(|a, b| a.origin.cmp(&b.origin));
        located
    }

    fn locate(&self, fault: KeyFault) -> KeyFault {
        if fault.origin != Origin::Unknown {
            return fault;
        }
        let above = (1..=fault.path.len()).rev();
        let mut known = above.filter_map(|names| self.origins.get(&fault.path[..names]));
        let origin = known.next().cloned().unwrap_or(Origin::Unknown);
        Self::with_origin(fault, origin)
    }

    fn with_origin(fault: KeyFault, origin: Origin) -> KeyFault {
        KeyFault { origin, ..fault }
    }
}

/// Whether `T` can read this value of the key at `path`: a section and a key, and a name where the key is a table.
pub fn can_read<T: DeserializeOwned>(path: &[String], value: &Value) -> bool {
    read::<T>(path, value.clone()).is_ok()
}

fn read<T: DeserializeOwned>(path: &[String], value: Value) -> Result<(), Error> {
    let nested = path.iter().rev().fold(value, |value, name| {
        Value::Table(Table::from_iter([(name.clone(), value)]))
    });
    nested.try_into::<T>().map(drop)
}

/// A text that is not TOML: the line, what the parser says, and what was probably meant.
fn syntax(text: &str, error: &Error) -> KeyFault {
    let fault = KeyFault::new("", error.message());
    let Some(span) = error.span() else {
        return fault;
    };
    let line = line_of(text, span.start);
    let written = text.lines().nth(line - 1).unwrap_or_default();
    let number = |value: &str| value.trim_end().parse::<f64>().is_ok();
    let is_percentage = written
        .split_once('=')
        .and_then(|(_, value)| value.split_once('%'))
        .is_some_and(|(value, _)| number(value.trim_start()));
    let hint = match is_percentage {
        true => "; a percentage is written as a share (0.001) or as text (\"0.1%\")",
        false => "",
    };
    KeyFault {
        origin: Origin::Line(line),
        what: format!("{}{hint}", fault.what),
        ..fault
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.matches('\n').count()
}

fn note_lines(
    text: &str,
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    origins: &mut BTreeMap<Vec<String>, Origin>,
) {
    let mut note = |path: &[String], at: usize| {
        origins.insert(path.to_vec(), Origin::Line(line_of(text, at)));
    };
    let mut tables = Vec::new();
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        note(path, key.span().start);
        match value.get_ref() {
            DeValue::Table(table) => tables.push((path.clone(), table)),
            DeValue::Array(array) => {
                for (at, element) in array.iter().enumerate() {
                    path.push(at.to_string());
                    note(path, element.span().start);
                    if let DeValue::Table(table) = element.get_ref() {
                        tables.push((path.clone(), table));
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
    for (mut path, table) in tables {
        note_lines(text, table, &mut path, origins);
    }
}

/// A search for keys that cannot be read.
struct Search<'a> {
    file: &'a TomlFile,
    read: fn(&[String], Value) -> Result<(), Error>,
    faults: Vec<KeyFault>,
}

impl Search<'_> {
    fn sections(&mut self) -> Table {
        let mut sound = Table::new();
        for (name, value) in &self.file.table {
            let path = vec![name.clone()];
            if let Err(error) = (self.read)(&path, Value::Table(Table::new())) {
                let known = |known: &str| format!("[{known}]");
                self.note(&path, None, &described(error.message(), "section", known));
                continue;
            }
            match value {
                Value::Table(keys) => {
                    let keys = self.keys(&path, keys);
                    sound.insert(name.clone(), Value::Table(keys));
                }
                other => {
                    let what = format!("expected a section, as in [{name}]");
                    self.note(&path, Some(other), &what);
                }
            }
        }
        sound
    }

    /// The sound keys of the table at `path`, a section or a table of the user's own names.
    fn keys(&mut self, path: &[String], given: &Table) -> Table {
        let mut sound = Table::new();
        for (key, value) in given {
            let path = [path, std::slice::from_ref(key)].concat();
            let Err(error) = (self.read)(&path, value.clone()) else {
                sound.insert(key.clone(), value.clone());
                continue;
            };
            match value {
                Value::Table(entries) if path.len() < 3 && !is_unknown(error.message()) => {
                    let entries = self.keys(&path, entries);
                    sound.insert(key.clone(), Value::Table(entries));
                }
                _ => {
                    let known = |known: &str| format!("`{known}`");
                    let what = described(error.message(), "key", known);
                    // Of an unknown key the value does not matter.
                    let value = (!is_unknown(error.message())).then_some(value);
                    self.note(&path, value, &what);
                }
            }
        }
        sound
    }

    fn note(&mut self, path: &[String], value: Option<&Value>, what: &str) {
        let fault = KeyFault::at(path.to_vec(), path.join("."), what.to_owned());
        let value = value.filter(|_| self.file.values == Values::Shown);
        let value = value.map(shown);
        self.faults
            .push(self.file.locate(KeyFault { value, ..fault }));
    }
}

/// A value as TOML, cut to a length that a person reads.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn is_unknown(message: &str) -> bool {
    message.starts_with("unknown field")
}

/// What serde says of a key or section, without any value; `known` writes the name of one that there is.
fn described(message: &str, word: &str, known: impl Fn(&str) -> String) -> String {
    // "unknown field `x`, expected `a` or `b`": the nearest of those that there are is named.
    if is_unknown(message) {
        let mut names = message.split('`').skip(1).step_by(2);
        let given = names.next().unwrap_or_default();
        let names: Vec<&str> = names.collect();
        let meant = nearest(given, names.iter().copied());
        let meant = meant.map_or(String::new(), |name| format!(", did you mean `{name}`?"));
        let list: Vec<String> = names.into_iter().map(known).collect();
        let one_of = if list.len() > 1 { "one of " } else { "" };
        return format!(
            "unknown {word}{meant}, expected {one_of}{}",
            list.join(", ")
        );
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

/// The one of `known` that `given` was probably meant to be: at most a third of its letters are wrong.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(given, name);
    let near = known.min_by_key(distance)?;
    (distance(&near) <= given.len().max(3) / 3).then_some(near)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        oven: Oven,
        doors: BTreeMap<String, u8>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Oven {
        heat: u16,
        racks: Vec<String>,
        names: BTreeMap<String, String>,
    }

    fn faults(text: &str, values: Values) -> Vec<String> {
        let file = TomlFile::parse(text, values).unwrap();
        let (_, faults) = file.sound::<File>();
        file.located(faults)
            .iter()
            .map(KeyFault::to_string)
            .collect()
    }

    const WRONG: &str = "doors = 3\n[oven]\nheta = 1\nracks = [1]\nheat = \"hot\"\n\
                         [oven.names]\n\"a.b\" = 1\nc = \"c\"\n[overn]\n";

    #[test]
    fn every_key_that_cannot_be_read_is_reported_with_its_line() {
        assert_eq!(
            faults(WRONG, Values::Shown),
            [
                "line 1: doors = 3: expected a section, as in [doors]",
                "line 3: oven.heta: unknown key, did you mean `heat`?, expected one of `heat`, `racks`, `names`",
                "line 4: oven.racks = [1]: invalid type, expected a string",
                "line 5: oven.heat = \"hot\": invalid type, expected u16",
                "line 7: oven.names.a.b = 1: invalid type, expected a string",
                "line 9: overn: unknown section, did you mean `oven`?, expected one of [oven], [doors]",
            ]
        );
    }

    #[test]
    fn what_is_sound_is_read_all_the_same() {
        let file = TomlFile::parse(WRONG, Values::Shown).unwrap();
        let (sound, _) = file.sound::<File>();
        let read: File = sound.try_into().unwrap();
        assert_eq!((read.oven.heat, read.oven.names["c"].as_str()), (0, "c"));
    }

    #[test]
    fn no_value_of_a_secret_file_is_shown() {
        for fault in faults(WRONG, Values::Secret) {
            assert!(!fault.contains("hot") && !fault.contains("= "), "{fault}");
        }
    }

    #[test]
    fn every_line_that_is_no_toml_is_reported() {
        let text = "[oven]\nheat = = 3\nracks = \n[doors\n";
        let faults = TomlFile::parse(text, Values::Shown).unwrap_err();
        let lines: Vec<&Origin> = faults.iter().map(|fault| &fault.origin).collect();
        for line in [2, 3, 4] {
            assert!(lines.contains(&&Origin::Line(line)), "{faults:?}");
        }
    }

    #[test]
    fn faults_of_values_find_their_lines_and_stand_in_the_order_of_the_file() {
        let text = "[oven]\nheat = 900\n[[shelf]]\nname = 'a'\n[[shelf]]\nname = 'b'\nwidth = 2\n";
        let mut file = TomlFile::parse(text, Values::Shown).unwrap();
        let racks = ["oven", "racks"].map(str::to_owned).to_vec();
        file.set_by(racks, "RACKS".to_owned());
        let path = ["shelf", "1", "width"].map(str::to_owned).to_vec();
        let mut checks = KeyFaults::default();
        checks.push(KeyFault::at(
            path,
            "shelf 2: `width`".to_owned(),
            "wide".to_owned(),
        ));
        checks.push(KeyFault::new("hood", "is missing"));
        checks.range("oven.heat", 900, 0, 300);
        checks.require(false, "oven.racks", "[]", "must not be empty");
        checks.push(KeyFault::new("oven.names.\"a.b\"", "is missing"));
        let located = file.located(checks.into_vec());
        let located: Vec<String> = located.iter().map(KeyFault::to_string).collect();
        assert_eq!(
            located,
            [
                "variable RACKS: oven.racks = []: must not be empty",
                "line 1: oven.names.\"a.b\": is missing",
                "line 2: oven.heat = 900: must be within 0..=300",
                "line 7: shelf 2: `width`: wide",
                "hood: is missing",
            ]
        );
    }

    #[test]
    fn the_names_of_a_key_are_found_whatever_stands_in_quotes() {
        assert_eq!(
            names("kafka.properties.\"a.b\""),
            ["kafka", "properties", "a.b"]
        );
        assert_eq!(names("oven"), ["oven"]);
    }
}
