//! Which files the benchmark knows, and how each is divided: `sets.toml`, checked.

use crate::protocol::Protocol;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The column that is 1 for an anomaly unless a set says otherwise.
pub const DEFAULT_LABEL: &str = "label";

/// `sets.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sets {
    /// What the quick benchmark runs.
    pub quick: Vec<Entry>,
    /// What configurations are run on that are not run everywhere.
    pub ablation_sets: Vec<Entry>,
    /// The known sets.
    pub set: Vec<SetSpec>,
    /// Folders whose files are sets that are all alike.
    #[serde(default)]
    pub folder: Vec<Folder>,
}

/// A folder inside of that of the data: each of its Parquet files is a set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The folder's name.
    pub name: String,
    /// How many files it has when it is whole.
    pub files: usize,
    /// What each of its files is but for the name.
    pub each: FolderSet,
}

/// What the sets of a folder have in common.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSet {
    /// How they are divided.
    pub protocols: Vec<Protocol>,
    /// The column that says which rows train.
    pub split: Option<String>,
    /// Their family.
    pub family: String,
    /// The seeds that they are run with; none named: those of the configuration.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

/// One set under one protocol, written `name/protocol`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Entry {
    /// The set's name.
    pub set: String,
    /// How it is divided.
    pub protocol: Protocol,
}

/// One set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSpec {
    /// The file's name without `.parquet`.
    pub name: String,
    /// How it is divided; none: it is not used.
    pub protocols: Vec<Protocol>,
    /// The column that is 1 for an anomaly.
    #[serde(default = "default_label")]
    pub label: String,
    /// Exactly these columns are features, if any is named.
    #[serde(default)]
    pub features: Vec<String>,
    /// These columns are none.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Rows that are used at most.
    pub rows_max: Option<usize>,
    /// The column of moments.
    pub time: Option<String>,
    /// The column of cards.
    pub card: Option<String>,
    /// The column that says `train` or `test` of each row.
    pub split: Option<String>,
    /// Sets of one family get a row with their mean.
    pub family: Option<String>,
    /// The folder that it lies in, inside of that of the data: a set of many, run by the default configuration only
    /// unless others are asked for, and shown by its family.
    #[serde(skip_deserializing)]
    pub folder: Option<String>,
    /// The seeds that it is run with; none named: those of the configuration.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

fn default_label() -> String {
    DEFAULT_LABEL.to_owned()
}

impl SetSpec {
    /// A set that nobody described.
    fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            protocols: vec![Protocol::HalfSplit],
            label: default_label(),
            features: Vec::new(),
            drop: Vec::new(),
            rows_max: None,
            time: None,
            card: None,
            split: None,
            family: None,
            folder: None,
            seeds: Vec::new(),
        }
    }

    /// A file of a folder of sets.
    fn of_folder(name: &str, folder: &Folder) -> Self {
        let FolderSet {
            protocols,
            split,
            family,
            seeds,
        } = folder.each.clone();
        Self {
            protocols,
            split,
            family: Some(family),
            folder: Some(folder.name.clone()),
            seeds,
            ..Self::unknown(name)
        }
    }

    /// Its file in the folder `data`.
    pub fn path(&self, data: &Path) -> PathBuf {
        let file = format!("{}.parquet", self.name);
        match &self.folder {
            Some(folder) => data.join(folder).join(file),
            None => data.join(file),
        }
    }

    /// Its entries: itself under each of its protocols.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.protocols.iter().map(|&protocol| Entry {
            set: self.name.clone(),
            protocol,
        })
    }

    /// Whether the column is seen by the models.
    pub fn is_feature(&self, column: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == column);
        let listed = self.features.is_empty() || named(&self.features);
        let is_split = self.split.as_deref() == Some(column);
        column != self.label && !is_split && listed && !named(&self.drop)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("set {}: {what}", self.name));
            }
        };
        let both = !self.features.is_empty() && !self.drop.is_empty();
        require(!both, "features and drop exclude each other");
        let seen = self.features.contains(&self.label);
        require(!seen, "its label is among the features");
        require(self.rows_max != Some(0), "rows_max = 0: must be at least 1");
        for protocol in &self.protocols {
            let time = self.time.is_some() || !protocol.needs_time();
            require(time, &format!("{protocol} needs the column `time`"));
            let card = self.card.is_some() || !protocol.needs_card();
            require(card, &format!("{protocol} needs the column `card`"));
            let split = self.split.is_some() || !protocol.needs_split();
            require(split, &format!("{protocol} needs the column `split`"));
        }
        faults
    }
}

impl TryFrom<String> for Entry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (set, protocol) = text
            .split_once('/')
            .ok_or(format!("{text}: expected name/protocol"))?;
        let protocol = serde_json::from_value(protocol.into());
        let protocol = protocol.map_err(|e| format!("{text}: {e}"))?;
        Ok(Self {
            set: set.to_owned(),
            protocol,
        })
    }
}

impl From<Entry> for String {
    fn from(entry: Entry) -> Self {
        entry.to_string()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.set, self.protocol)
    }
}

impl Sets {
    /// The sets that ship with the benchmark.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn shipped() -> anyhow::Result<Self> {
        Self::parse(include_str!("sets.toml")).context("crates/quality/src/sets.toml")
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let sets: Self = toml::from_str(text)?;
        let mut faults: Vec<String> = sets.set.iter().flat_map(SetSpec::faults).collect();
        let folders = sets.folder.iter();
        let of_folders =
            folders.flat_map(|folder| SetSpec::of_folder(&folder.name, folder).faults());
        faults.extend(of_folders);
        let mut names = HashSet::new();
        let twice = sets.set.iter().filter(|set| !names.insert(&set.name));
        faults.extend(twice.map(|set| format!("set {} is there twice", set.name)));
        let unknown = sets.quick.iter().filter(|entry| !sets.has(entry));
        faults.extend(unknown.map(|entry| format!("quick: there is no {entry}")));
        let unknown = sets.ablation_sets.iter().filter(|entry| !sets.has(entry));
        faults.extend(unknown.map(|entry| format!("ablation_sets: there is no {entry}")));
        if !faults.is_empty() {
            bail!(faults.join("; "));
        }
        Ok(sets)
    }

    /// How many sets a family has when all its files are there.
    pub fn family_size(&self, family: &str) -> usize {
        let named = self.set.iter();
        let named = named.filter(|set| set.family.as_deref() == Some(family));
        let folders = self.folder.iter();
        let folders = folders.filter(|folder| folder.each.family == family);
        named.count() + folders.map(|folder| folder.files).sum::<usize>()
    }

    /// Whether a set with this protocol is described.
    pub fn has(&self, entry: &Entry) -> bool {
        let described =
            |set: &SetSpec| set.name == entry.set && set.protocols.contains(&entry.protocol);
        self.set.iter().any(described)
    }

    /// The sets of which there is a file in the folder, in the order of `sets.toml` and then by name, and a line about each
    /// that is left out.
    ///
    /// # Errors
    /// If the folder cannot be read, or holds none.
    pub fn found(&self, data: &Path) -> anyhow::Result<(Vec<SetSpec>, Vec<String>)> {
        let stems = parquet_stems(data)?;
        let (known, missing): (Vec<_>, Vec<_>) =
            self.set.iter().partition(|set| stems.contains(&set.name));
        let missing = missing.iter().filter(|set| !set.protocols.is_empty());
        let mut notes: Vec<String> = missing
            .map(|set| format!("{}: no such file", set.name))
            .collect();
        let mut found: Vec<SetSpec> = known.into_iter().cloned().collect();
        for stem in stems
            .iter()
            .filter(|stem| !self.set.iter().any(|set| set.name == **stem))
        {
            let spec = SetSpec::unknown(stem);
            match has_column(&spec.path(data), DEFAULT_LABEL)? {
                true => found.push(spec),
                false => notes.push(format!("{stem}: no column `{DEFAULT_LABEL}`")),
            }
        }
        found.retain(|set| !set.protocols.is_empty());
        for folder in &self.folder {
            let path = data.join(&folder.name);
            if !path.is_dir() {
                notes.push(format!("{}: no such folder", folder.name));
                continue;
            }
            let files = parquet_stems(&path)?;
            if files.len() != folder.files {
                let (files, whole) = (files.len(), folder.files);
                notes.push(format!(
                    "{}: {files} of {whole} files are there",
                    folder.name
                ));
            }
            found.extend(files.iter().map(|stem| SetSpec::of_folder(stem, folder)));
        }
        if found.is_empty() {
            bail!(
                "{}: none of the sets of crates/quality/src/sets.toml is there",
                data.display()
            );
        }
        Ok((found, notes))
    }
}

/// The names of the Parquet files of a folder, without their ending, in order.
fn parquet_stems(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut stems = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stems.extend(stem.map(str::to_owned));
        }
    }
    stems.sort();
    Ok(stems)
}

fn has_column(path: &Path, column: &str) -> anyhow::Result<bool> {
    let source = maskwatch_core::records::ParquetSource::open(&[path.display().to_string()])?;
    Ok(source.files()[0].schema().index_of(column).is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sets_have_no_fault() {
        let sets = Sets::shipped().unwrap();
        let handbook = sets
            .set
            .iter()
            .find(|set| set.name.starts_with("handbook_2018"))
            .unwrap();
        assert_eq!(handbook.features.len(), 15);
        assert!(!handbook.is_feature("TX_FRAUD_SCENARIO") && handbook.is_feature("TX_AMOUNT"));
        let adbench = sets
            .set
            .iter()
            .filter(|set| set.family.as_deref() == Some("ADBench"));
        assert_eq!(adbench.count(), 12);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "quick = ['b/dte']\nablation_sets = ['c/dte']\n[[set]]\nname = 'a'\nprotocols = ['handbook']\nfeatures = ['label']\n\
                    drop = ['x']\n[[set]]\nname = 'a'\nprotocols = []\nrows_max = 0\n";
        let error = Sets::parse(text).unwrap_err().to_string();
        let named = [
            "exclude each other",
            "label is among the features",
            "handbook needs the column `time`",
            "handbook needs the column `card`",
            "set a is there twice",
            "rows_max = 0",
            "quick: there is no b/dte",
            "ablation_sets: there is no c/dte",
        ];
        for named in named {
            assert!(error.contains(named), "{named}: {error}");
        }
        assert_eq!(error.split("; ").count(), named.len(), "{error}");
        assert!(Sets::parse("quick = []\nablation_sets = []\nset = []\ncolour = 1\n").is_err());
    }
}
