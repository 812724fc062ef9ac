//! Variables `MASKWATCH__SECTION__KEY` laid over the configuration file, and `MASKWATCH__KAFKA__PROPERTIES__NAME` over one of
//! the client's properties.
//!
//! In flow names and texts, out flow paths of keys with every value that a text may mean. The key says which of them it is:
//! `0` is a number for one key and text for another.

use crate::toml_file::{KeyFault, TomlFile};
use std::ffi::OsString;
use toml::{Table, Value};

const PREFIX: &str = "MASKWATCH__";

/// The table whose keys are the client's, with dots where a variable has underscores.
const PROPERTIES: [&str; 2] = ["kafka", "properties"];

/// A variable that sets a key.
#[derive(Debug, PartialEq)]
pub struct Override {
    /// Of the variable.
    pub name: String,
    /// Section and key, and the property's name where the key is that of the client's properties.
    pub path: Vec<String>,
    text: String,
}

impl Override {
    /// What the text may mean, the likeliest first: a value of TOML (a number, `true`, an array, text in quotes), the text as it
    /// stands, a list with a comma between its entries.
    pub fn meanings(&self) -> impl Iterator<Item = Value> {
        let entries = self.text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        let list = entries.map(|entry| Value::String(entry.to_owned()));
        let text = Value::String(self.text.clone());
        toml_value(&self.text)
            .into_iter()
            .chain([text, Value::Array(list.collect())])
    }
}

/// The variables that are meant for this program, of those of the process.
///
/// Others may hold any bytes and are passed over.
///
/// # Errors
/// Each variable of ours whose value is not Unicode.
pub fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Vec<KeyFault>> {
    let (mut ours, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in all {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with(PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => ours.push((name, value)),
            Err(_) => faults.push(KeyFault::of_variable(&name, "its value is not UTF-8")),
        }
    }
    if faults.is_empty() {
        Ok(ours)
    } else {
        Err(faults)
    }
}

/// The overrides among the variables, sorted by name, so that errors do not depend on the environment's order.
pub fn overrides(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut overrides: Vec<Override> = variables
        .filter_map(|(name, text)| {
            let path = name.strip_prefix(PREFIX)?.split("__");
            let mut path: Vec<String> = path.map(str::to_lowercase).collect();
            if let [section, key, property] = &mut path[..]
                && [section.as_str(), key.as_str()] == PROPERTIES
            {
                *property = property.replace('_', ".");
            }
            Some(Override { path, name, text })
        })
        .collect();
    overrides.sort_by(|a, b| a.name.cmp(&b.name));
    overrides
}

/// Lays overrides over a file. A fault for each variable that does not name a key. `fits` says whether a value is one of the
/// key at a path; where no meaning of a text is, the likeliest one is taken, of which whoever reads the key will say what is wrong.
pub fn apply(
    file: &mut TomlFile,
    overrides: &[Override],
    fits: impl Fn(&[String], &Value) -> bool,
) -> Vec<KeyFault> {
    let mut faults = Vec::new();
    for of in overrides {
        let (name, path) = (&of.name, &of.path);
        let is_property = path.len() == 3 && path[..2] == PROPERTIES;
        let Some((key, above)) = path.split_last().filter(|_| path.len() == 2 || is_property)
        else {
            let what = format!("expected {PREFIX}SECTION__KEY, or {PREFIX}KAFKA__PROPERTIES__NAME");
            faults.push(KeyFault::of_variable(name, what));
            continue;
        };
        let mut table = Some(file.table_mut());
        for section in above {
            table = table.and_then(|table| {
                let empty = || Value::Table(Table::new());
                let inner = table.entry(section.clone()).or_insert_with(empty);
                inner.as_table_mut()
            });
        }
        let Some(table) = table else {
            let what = "its section is no table in the file";
            faults.push(KeyFault::of_variable(name, what));
            continue;
        };
        let fitting = of.meanings().find(|value| fits(path, value));
        if let Some(value) = fitting.or_else(|| of.meanings().next()) {
            table.insert(key.clone(), value);
        }
        file.set_by(path.clone(), name.clone());
    }
    faults
}

/// The text as a value of TOML, if it is one.
fn toml_value(text: &str) -> Option<Value> {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let mut alone = parsed.ok().filter(|table| table.len() == 1)?;
    alone.remove("value")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::toml_file::Values;

    #[test]
    fn a_text_means_toml_first_then_itself_then_a_list() {
        let meanings = |text: &str| {
            let variable = ("MASKWATCH__A__B".to_owned(), text.to_owned());
            overrides([variable].into_iter())[0]
                .meanings()
                .collect::<Vec<Value>>()
        };
        let text = |text: &str| Value::String(text.to_owned());
        let list = |entries: &[&str]| Value::Array(entries.iter().map(|e| text(e)).collect());
        for (given, expected) in [
            ("5", vec![Value::Integer(5), text("5"), list(&["5"])]),
            (
                "true",
                vec![Value::Boolean(true), text("true"), list(&["true"])],
            ),
            ("b:1, c:2,", vec![text("b:1, c:2,"), list(&["b:1", "c:2"])]),
            ("\"5\"", vec![text("5"), text("\"5\""), list(&["\"5\""])]),
            (
                "1\nother = 2",
                vec![text("1\nother = 2"), list(&["1\nother = 2"])],
            ),
            ("", vec![text(""), list(&[])]),
        ] {
            assert_eq!(meanings(given), expected, "{given}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_fault_of_ours_and_nobody_elses() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![0xff]);
        let variables = |name: &str| super::variables([(name.into(), odd())].into_iter());
        assert_eq!(variables("LS_COLORS"), Ok(Vec::new()));
        assert!(
            variables("MASKWATCH__MODEL__DIR")
                .is_err_and(|f| f[0].to_string().contains("MODEL__DIR"))
        );
    }

    #[test]
    fn a_variable_without_section_or_key_is_a_fault() {
        for name in [
            "MASKWATCH__KAFKA",
            "MASKWATCH__A__B__C",
            "MASKWATCH__KAFKA__PROPERTIES__A__B",
        ] {
            let overrides = overrides([(name.to_owned(), "1".to_owned())].into_iter());
            let mut file = TomlFile::parse("", Values::Secret).unwrap();
            let faults = apply(&mut file, &overrides, |_, _| true);
            assert!(faults[0].to_string().contains(name), "{faults:?}");
        }
    }
}
