//! The training configuration file: TOML in, a checked [`TrainConfig`] or all its faults out.
//!
//! Invariant: what is returned has no fault, and a file is reported with everything that is wrong in
//! it, not only with the first.

use super::exit::ConfigFaults;
use crate::bundle::training::SKIP_BAD_ROWS_MAX;
use crate::durable::read_regular_text;
use crate::recipe::TrainConfig;
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// Bytes of a configuration at most: a thousand times what all its keys take.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads a training configuration and checks all of it.
///
/// # Errors
/// [`ConfigFaults`] with everything that is wrong.
pub fn load_config(path: &Path) -> Result<TrainConfig, ConfigFaults> {
    let faults = |faults| ConfigFaults::new(path, faults);
    let text = read_regular_text(path, CONFIG_BYTES_MAX);
    let text = text.map_err(|e| faults(vec![format!("cannot read the file: {e}")]))?;
    parse(&text).map_err(faults)
}

/// The configuration of a text; what it does not say is as by default.
fn parse(text: &str) -> Result<TrainConfig, Vec<String>> {
    let table: Table =
        toml::from_str(text).map_err(|e| vec![e.to_string().trim_end().to_owned()])?;
    let known = known_keys().map_err(|e| vec![e.to_string()])?;
    let mut faults = Vec::new();
    let mut sound = Table::new();
    for (section, given) in table {
        match (known.get(&section), given) {
            (Some(Value::Table(known)), Value::Table(given)) => {
                let keys = sound_keys(&section, given, known, &mut faults);
                sound.insert(section, Value::Table(keys));
            }
            (Some(_), given) => {
                faults.push(format!(
                    "{section}: expected a section, found {}",
                    given.type_str()
                ));
            }
            (None, _) => faults.push(format!("unknown section [{section}]: {}", expected(&known))),
        }
    }
    let config = TrainConfig::deserialize(sound).map_err(|e| vec![e.to_string()])?;
    faults.extend(config.faults());
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}

/// Every section with every key: those of a configuration that leaves out none when it is written.
fn known_keys() -> Result<Table, toml::ser::Error> {
    let mut config = TrainConfig::default();
    // The cross entropy and clean rows are written by leaving their keys out.
    config.model.histogram_gamma = 1.0;
    config.training.skip_bad_rows = SKIP_BAD_ROWS_MAX;
    Table::try_from(config)
}

/// The keys of a section that are known and of the right type; each of the others is a fault.
fn sound_keys(section: &str, given: Table, known: &Table, faults: &mut Vec<String>) -> Table {
    let mut sound = Table::new();
    for (key, value) in given {
        if !known.contains_key(&key) {
            faults.push(format!("unknown key {section}.{key}: {}", expected(known)));
            continue;
        }
        // Alone in a configuration, a value is its own error, and hides no other.
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        let alone = Table::from_iter([(section.to_owned(), Value::Table(alone))]);
        match TrainConfig::deserialize(alone) {
            Ok(_) => {
                sound.insert(key, value);
            }
            Err(error) => {
                // Its other lines name the section once more.
                let error = error.message().to_owned();
                faults.push(format!("{section}.{key} = {value}: {error}"));
            }
        }
    }
    sound
}

fn expected(known: &Table) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    format!("expected one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shipped() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/train.toml")
    }

    #[test]
    fn the_shipped_configuration_names_every_key_with_its_default() {
        assert_eq!(load_config(&shipped()).unwrap(), TrainConfig::default());
        let text = std::fs::read_to_string(shipped()).unwrap();
        let written: Table = toml::from_str(&text).unwrap();
        let defaults = known_keys().unwrap();
        for (section, keys) in &defaults {
            for key in keys.as_table().unwrap().keys() {
                assert!(
                    written[section].get(key).is_some(),
                    "{section}.{key} is not in the file"
                );
            }
        }
    }

    #[test]
    fn every_range_in_the_comments_of_the_shipped_configuration_is_the_checked_one() {
        // A value just outside of what the comment allows must be refused.
        let text = std::fs::read_to_string(shipped()).unwrap();
        let mut checked = 0;
        let mut comment = String::new();
        let mut section = String::new();
        for line in text.lines() {
            if let Some(words) = line.strip_prefix('#') {
                comment.push_str(words);
            } else if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if let Some((key, _)) = line.split_once(" = ") {
                if let Some((_, range)) = comment.split_once("Range: ") {
                    let (low, high) = range.split_once(" to ").unwrap();
                    let high = high.split('.').next().unwrap().replace(',', "");
                    let (low, high): (u64, u64) = (low.parse().unwrap(), high.parse().unwrap());
                    let with = |value: u64| parse(&format!("[{section}]\n{key} = {value}\n"));
                    assert!(with(low).is_ok() && with(high).is_ok(), "{section}.{key}");
                    assert!(with(high + 1).is_err(), "{section}.{key} = {}", high + 1);
                    assert!(
                        low == 0 || with(low - 1).is_err(),
                        "{section}.{key} = {}",
                        low - 1
                    );
                    checked += 1;
                }
                comment.clear();
            } else {
                comment.clear();
            }
        }
        assert_eq!(checked, 15, "ranges read from the comments");
    }

    #[test]
    fn all_faults_of_a_file_are_reported_at_once() {
        let text = "[model]\nwidth = 0\nlikelihood = [\"poisson\"]\ncolour = 1\n\
                    [training]\nsteps = \"many\"\nlearning_rate = 1\n[extra]\nx = 1\n";
        let faults = parse(text).unwrap_err();
        let named = [
            "model.width = 0",
            "model.likelihood",
            "poisson",
            "unknown key model.colour",
            "training.steps = \"many\"",
            "unknown section [extra]: expected one of",
        ];
        for named in named {
            assert!(
                faults.iter().any(|fault| fault.contains(named)),
                "{named}: {faults:#?}"
            );
        }
        assert_eq!(faults.len(), 5, "{faults:#?}");
    }

    #[test]
    fn a_file_whose_reading_may_never_end_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = load_config(&path).unwrap_err().to_string();
        assert!(
            error.contains("is a FIFO, expected a regular file"),
            "{error}"
        );
        let error = crate::schema::Schema::load(&path).unwrap_err();
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains("is no regular file"), "{error}");
    }

    #[test]
    fn a_syntax_error_is_told_with_its_line() {
        let faults = parse("[model]\nwidth = = 3\n").unwrap_err();
        assert!(faults[0].contains("line 2"), "{faults:?}");
        let error = load_config(Path::new("no/such.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no/such.toml: cannot read the file"),
            "{error}"
        );
    }
}
