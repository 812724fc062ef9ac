//! Variables `MASKWATCH__SECTION__KEY` laid over the configuration file.
//!
//! A value that reads as TOML (a number, `true`, an array, text in quotes) is taken as such; anything else is text as it
//! stands.

use std::ffi::OsString;
use toml::{Table, Value};

const PREFIX: &str = "MASKWATCH__";

/// A variable that sets a key: section, key, value.
#[derive(Debug, PartialEq)]
pub struct Override {
    /// Of the variable.
    pub name: String,
    /// Section and key.
    pub path: Vec<String>,
    value: Value,
}

/// The variables that are meant for this program, of those of the process.
///
/// Others may hold any bytes and are passed over.
///
/// # Errors
/// Each variable of ours whose value is not Unicode.
pub fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Vec<String>> {
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
            Err(_) => faults.push(format!("variable {name}: its value is not UTF-8")),
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
            let path = name
                .strip_prefix(PREFIX)?
                .split("__")
                .map(str::to_lowercase)
                .collect();
            Some(Override {
                path,
                value: value_of(&text),
                name,
            })
        })
        .collect();
    overrides.sort_by(|a, b| a.name.cmp(&b.name));
    overrides
}

/// Lays overrides over a table. A sentence for each variable that does not name a section and a key.
pub fn apply(table: &mut Table, overrides: &[Override]) -> Vec<String> {
    let mut faults = Vec::new();
    for Override { name, path, value } in overrides {
        let [section, key] = path.as_slice() else {
            faults.push(format!("variable {name}: expected {PREFIX}SECTION__KEY"));
            continue;
        };
        let section = table
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        match section.as_table_mut() {
            Some(section) => {
                section.insert(key.clone(), value.clone());
            }
            None => faults.push(format!(
                "variable {name}: its section is no table in the file"
            )),
        }
    }
    faults
}

fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let value = parsed
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut t| t.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_types_and_text_needs_no_quotes() {
        assert_eq!(value_of("5"), Value::Integer(5));
        assert_eq!(value_of("true"), Value::Boolean(true));
        assert_eq!(
            value_of("broker:9092"),
            Value::String("broker:9092".to_owned())
        );
        assert_eq!(value_of("\"5\""), Value::String("5".to_owned()));
        assert_eq!(
            value_of("1\nother = 2"),
            Value::String("1\nother = 2".to_owned())
        );
        assert_eq!(value_of(""), Value::String(String::new()));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_fault_of_ours_and_nobody_elses() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![0xff]);
        let variables = |name: &str| super::variables([(name.into(), odd())].into_iter());
        assert_eq!(variables("LS_COLORS"), Ok(Vec::new()));
        assert!(variables("MASKWATCH__MODEL__DIR").is_err_and(|f| f[0].contains("MODEL__DIR")));
    }

    #[test]
    fn a_variable_without_section_or_key_is_a_fault() {
        for name in ["MASKWATCH__KAFKA", "MASKWATCH__A__B__C"] {
            let overrides = overrides([(name.to_owned(), "1".to_owned())].into_iter());
            let faults = apply(&mut Table::new(), &overrides);
            assert!(faults[0].contains(name), "{faults:?}");
        }
    }
}
