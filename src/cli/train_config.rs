//! The training configuration file: TOML in, a checked [`TrainConfig`] or all its faults out.
//!
//! Invariant: what is returned has no fault, and a file is reported with everything that is wrong in
//! it, not only with the first.

use super::exit::ConfigFaults;
use crate::durable::read_regular_text;
use crate::recipe::TrainConfig;
use crate::toml_file::{KeyFault, TomlFile, Values};
use std::path::Path;

/// Bytes of a configuration at most: a thousand times what all its keys take.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads a training configuration and checks all of it.
///
/// # Errors
/// [`ConfigFaults`] with everything that is wrong.
pub fn load_config(path: &Path) -> Result<TrainConfig, ConfigFaults> {
    let faults = |faults| ConfigFaults::new(path, faults);
    let text = read_regular_text(path, CONFIG_BYTES_MAX);
    let text = text.map_err(|e| {
        faults(vec![KeyFault::new(
            "",
            format!("cannot read the file: {e}"),
        )])
    })?;
    parse(&text).map_err(faults)
}

/// The configuration of a text; what it does not say is as by default.
fn parse(text: &str) -> Result<TrainConfig, Vec<KeyFault>> {
    let file = TomlFile::parse(text, Values::Shown)?;
    let (sound, mut faults) = file.sound::<TrainConfig>();
    let config: TrainConfig = sound
        .try_into()
        .map_err(|error: toml::de::Error| vec![KeyFault::new("", error.message())])?;
    faults.extend(config.faults());
    match faults.is_empty() {
        true => Ok(config),
        false => Err(file.located(faults)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use toml::{Table, Value};

    fn shipped() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/train.toml")
    }

    /// The keys that a section may have, as the error on another one lists them.
    fn known_keys(section: &str) -> Vec<String> {
        let faults = parse(&format!("[{section}]\nno_such_key = 1\n")).unwrap_err();
        let (_, expected) = faults[0].what.split_once("expected ").unwrap();
        let quoted = expected.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    #[test]
    fn the_shipped_configuration_names_every_key_with_its_default() {
        assert_eq!(load_config(&shipped()).unwrap(), TrainConfig::default());
        let text = std::fs::read_to_string(shipped()).unwrap();
        let written: Table = toml::from_str(&text).unwrap();
        let unknown = parse("[no_such_section]\n").unwrap_err();
        let (_, sections) = unknown[0].what.split_once("expected one of ").unwrap();
        let mut count = 0;
        for section in sections.split(", ") {
            let section = section.trim_matches(['[', ']']);
            for key in known_keys(section) {
                assert!(
                    written[section].get(&key).is_some(),
                    "{section}.{key} is not in the file"
                );
                count += 1;
            }
        }
        let keys = written.values().filter_map(Value::as_table).map(Table::len);
        assert_eq!(keys.sum::<usize>(), count);
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
        let faults: Vec<String> = faults.iter().map(KeyFault::to_string).collect();
        let named = [
            "line 2: model.width = 0: must be within 1..=4096",
            "line 3: model.likelihood = [\"poisson\"]: unknown value, expected one of `histogram`",
            "line 4: model.colour: unknown key, expected one of ",
            "line 6: training.steps = \"many\": invalid type",
            "line 8: extra: unknown section, expected one of [model], ",
        ];
        for (fault, named) in faults.iter().zip(named) {
            assert!(fault.starts_with(named), "{named}: {faults:#?}");
        }
        assert_eq!(faults.len(), 5, "{faults:#?}");
    }

    #[test]
    fn a_file_of_an_older_version_is_told_where_its_keys_are_now() {
        let faults = parse("[training]\nsteps = 9\ndevice = \"cpu\"\nobjective = \"masked\"\n");
        let faults: Vec<String> = faults
            .unwrap_err()
            .iter()
            .map(KeyFault::to_string)
            .collect();
        assert_eq!(
            faults,
            [
                "line 3: training.device = \"cpu\": `training.device` is gone; training is always on the processor: \
                 leave the key out",
                "line 4: training.objective = \"masked\": `training.objective` is under [experimental] now; write \
                 `experimental.objective`",
            ]
        );
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
        assert!(faults[0].to_string().starts_with("line 2: "), "{faults:?}");
        let error = load_config(Path::new("no/such.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no/such.toml: cannot read the file"),
            "{error}"
        );
    }
}
