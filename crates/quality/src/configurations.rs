//! The training configurations that are compared: `configurations.toml`, each laid over the defaults and checked.

use crate::sets::Entry;
use anyhow::{Context, bail};
use maskwatch_learn::recipe::TrainConfig;
use serde::Deserialize;
use std::path::Path;
use toml::Table;

/// The configuration that tables, bars and baselines are about.
pub const DEFAULT: &str = "default";

/// A configuration with the seeds that it is run with.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// At least one.
    pub seeds: Vec<u64>,
    /// Whether it is run on every set; others are run on the ablation sets.
    pub everywhere: bool,
    /// Sets that it is run on besides.
    pub also: Vec<Entry>,
    /// Without faults, and with all that follows from it: what a run is kept under names everything that it depends on.
    pub train: TrainConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    configuration: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    about: String,
    seeds: Vec<u64>,
    #[serde(default)]
    everywhere: bool,
    #[serde(default)]
    also: Vec<Entry>,
    /// Read as `maskwatch train --config` reads a file: what is not said is as by default, and an unknown key is refused.
    #[serde(default)]
    train: TrainConfig,
}

/// The configurations that ship with the benchmark, in the order of the file.
///
/// # Errors
/// All that is wrong with the file.
pub fn shipped() -> anyhow::Result<Vec<Configuration>> {
    parse(include_str!("configurations.toml")).context("crates/quality/src/configurations.toml")
}

/// The configurations of a file of the same form.
///
/// # Errors
/// If it cannot be read; all that is wrong with it.
pub fn read(path: &Path) -> anyhow::Result<Vec<Configuration>> {
    let file = || path.display().to_string();
    parse(&std::fs::read_to_string(path).with_context(file)?).with_context(file)
}

fn parse(text: &str) -> anyhow::Result<Vec<Configuration>> {
    let file: File = toml::from_str(text)?;
    let (mut configurations, mut faults) = (Vec::new(), Vec::new());
    for (name, table) in file.configuration {
        let raw: Raw = match table.try_into() {
            Ok(raw) => raw,
            Err(error) => {
                faults.push(format!("{name}: {}", error.to_string().trim_end()));
                continue;
            }
        };
        let Raw {
            about,
            seeds,
            everywhere,
            also,
            train,
        } = raw;
        faults.extend(
            train
                .faults()
                .iter()
                .map(|fault| format!("{name}: {fault}")),
        );
        if seeds.is_empty() {
            faults.push(format!("{name}: seeds = []: at least one is needed"));
        }
        configurations.push(Configuration {
            name,
            about,
            seeds,
            everywhere,
            also,
            train: train.effective(),
        });
    }
    if !configurations
        .iter()
        .any(|configuration| configuration.name == DEFAULT)
    {
        faults.push(format!("there is no configuration `{DEFAULT}`"));
    }
    if !faults.is_empty() {
        bail!(faults.join("; "));
    }
    // A table sorts its names; the one that all others are compared with comes first.
    configurations.sort_by_key(|configuration| configuration.name != DEFAULT);
    Ok(configurations)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configurations_have_no_fault_and_differ() {
        let configurations = shipped().unwrap();
        assert_eq!(configurations[0].name, DEFAULT);
        assert_eq!(configurations[0].train, TrainConfig::default());
        assert_eq!(configurations[0].seeds, [0, 1, 2, 3, 4]);
        for (index, one) in configurations.iter().enumerate() {
            assert!(
                configurations[..index]
                    .iter()
                    .all(|other| other.train != one.train),
                "{}",
                one.name
            );
        }
    }

    #[test]
    fn configurations_are_run_on_known_sets() {
        let sets = crate::sets::Sets::shipped().unwrap();
        for configuration in shipped().unwrap() {
            let unknown: Vec<_> = configuration.also.iter().filter(|e| !sets.has(e)).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", configuration.name);
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "[configuration.a]\nabout = ''\nseeds = []\n[configuration.a.train.model]\nwidth = 0\n\
                    [configuration.b]\nabout = ''\nseeds = [0]\n[configuration.b.train.model]\nheight = 1\n";
        let error = parse(text).unwrap_err().to_string();
        for named in [
            "a: model.width = 0",
            "a: seeds = []",
            "unknown field `height`",
            "no configuration `default`",
        ] {
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
