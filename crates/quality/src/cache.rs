//! Finished runs on disk, one small JSON file each, so that an interrupted benchmark goes on where it was.
//!
//! A run's file is named by the digest of its key: configuration, description of the set, digest of the data file, seed and
//! protocol, and [`CACHE_VERSION`]. The commit that made it is recorded but is no part of the key: most commits change no
//! result, and a benchmark takes hours. Whoever changes what a run finds (the model, the training, the encoder, the
//! baselines) without changing a configuration raises [`CACHE_VERSION`] by hand.

use crate::protocol::Protocol;
use crate::results::Outcome;
use crate::sets::SetSpec;
use anyhow::Context;
use maskwatch_core::durable::{persist, temporary_sibling};
use maskwatch_learn::recipe::TrainConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Raised by hand when the same key would no longer find the same.
pub const CACHE_VERSION: u32 = 4;
/// Hexadecimal digits of a file's name: 64 bits tell any two runs apart.
const NAME_DIGITS: usize = 16;

/// What a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key<'a> {
    /// [`CACHE_VERSION`].
    pub version: u32,
    /// The set's description, as far as it changes what is divided.
    pub set: &'a SetSpec,
    /// SHA-256 of its file.
    pub data: &'a str,
    /// How it is divided.
    pub protocol: Protocol,
    /// The seed of division and training.
    pub seed: u64,
    /// The whole training configuration; none for the baselines.
    pub train: Option<&'a TrainConfig>,
}

/// The contents of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The commit that made it.
    commit: String,
    /// The key, to be read by people.
    key: serde_json::Value,
    outcome: Outcome,
}

impl Key<'_> {
    /// The key without what only changes when a run is made or how it is shown.
    fn canonical(&self) -> anyhow::Result<serde_json::Value> {
        let mut key = serde_json::to_value(self)?;
        for part in ["protocols", "family", "folder", "seeds"] {
            key["set"].as_object_mut().and_then(|set| set.remove(part));
        }
        Ok(key)
    }

    /// The name of its file.
    fn name(&self) -> anyhow::Result<String> {
        let canonical = serde_json::to_vec(&self.canonical()?)?;
        let digest = Sha256::digest(&canonical);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let Self {
            set,
            protocol,
            seed,
            ..
        } = self;
        let what = self.train.map_or("baselines", |_| "model");
        Ok(format!(
            "{}-{protocol}-{seed}-{what}-{}.json",
            set.name,
            &digits[..NAME_DIGITS]
        ))
    }
}

/// A folder of finished runs.
pub struct Cache {
    folder: PathBuf,
    commit: String,
}

impl Cache {
    /// The cache in a folder, made if it is not there; `commit` is written into new files.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(folder: &Path, commit: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// The commit that new files say.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The run of a key with the commit that made it, if it was made.
    ///
    /// # Errors
    /// If there is a file that cannot be read: it is told rather than made again over it.
    pub fn get(&self, key: &Key<'_>) -> anyhow::Result<Option<(Outcome, String)>> {
        let path = self.folder.join(key.name()?);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let kept: Kept = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: not a run of this program; remove it", path.display()))?;
        Ok(Some((kept.outcome, kept.commit)))
    }

    /// Keeps a run, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put(&self, key: &Key<'_>, outcome: &Outcome) -> anyhow::Result<()> {
        let path = self.folder.join(key.name()?);
        let kept = Kept {
            commit: self.commit.clone(),
            key: key.canonical()?,
            outcome: outcome.clone(),
        };
        let mut sibling = temporary_sibling(&path)?;
        serde_json::to_writer_pretty(&mut sibling, &kept)?;
        sibling.write_all(b"\n")?;
        persist(sibling, &path).with_context(|| path.display().to_string())?;
        Ok(())
    }
}

/// The commit of the sources, with `+` behind it if they were changed since; `unknown` outside of a checkout.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        let output = command
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        let text = output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).ok())
            .flatten()?;
        Some(text.trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => {
            let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
            let clean = changed.is_some_and(|changed| changed.is_empty());
            commit + if clean { "" } else { "+" }
        }
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::results::Rows;
    use crate::sets::Sets;

    fn outcome() -> Outcome {
        let rows = Rows {
            train: 1,
            train_anomalies: 0,
            test: 3,
            test_anomalies: 1,
        };
        Outcome {
            rows,
            rankings: Vec::new(),
            model: None,
            seconds: 0.25,
        }
    }

    /// The key of a run that is like all others.
    fn key<'a>(set: &'a SetSpec, train: &'a TrainConfig) -> Key<'a> {
        Key {
            version: 1,
            set,
            data: "d",
            protocol: Protocol::Dte,
            seed: 0,
            train: Some(train),
        }
    }

    #[test]
    fn a_run_is_found_under_its_key_and_under_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("new"), "abc").unwrap();
        let set = &Sets::shipped().unwrap().set[0];
        let default = TrainConfig::default();
        let key = key(set, &default);
        assert!(cache.get(&key).unwrap().is_none());
        cache.put(&key, &outcome()).unwrap();
        let found = cache.get(&key).unwrap();
        assert_eq!(found, Some((outcome(), "abc".to_owned())));
        let other = SetSpec {
            rows_max: Some(7),
            ..set.clone()
        };
        let mut train = default.clone();
        train.training.steps += 1;
        let others = [
            Key {
                version: 2,
                ..key.clone()
            },
            Key {
                set: &other,
                ..key.clone()
            },
            Key {
                data: "e",
                ..key.clone()
            },
            Key {
                protocol: Protocol::HalfSplit,
                ..key.clone()
            },
            Key {
                seed: 1,
                ..key.clone()
            },
            Key {
                train: None,
                ..key.clone()
            },
            Key {
                train: Some(&train),
                ..key.clone()
            },
        ];
        for other in others {
            assert!(cache.get(&other).unwrap().is_none(), "{other:?}");
        }
    }

    #[test]
    fn how_a_set_is_shown_is_no_part_of_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let set = &Sets::shipped().unwrap().set[0];
        let default = TrainConfig::default();
        cache.put(&key(set, &default), &outcome()).unwrap();
        let shown = SetSpec {
            family: None,
            protocols: Vec::new(),
            ..set.clone()
        };
        assert!(cache.get(&key(&shown, &default)).unwrap().is_some());
    }

    #[test]
    fn a_damaged_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let set = &Sets::shipped().unwrap().set[0];
        let key = Key {
            version: 1,
            set,
            data: "d",
            protocol: Protocol::Dte,
            seed: 0,
            train: None,
        };
        std::fs::write(folder.path().join(key.name().unwrap()), "{}").unwrap();
        assert!(
            cache
                .get(&key)
                .unwrap_err()
                .to_string()
                .contains("remove it")
        );
    }
}
