//! The training configuration: what a person may set, in the layout of the file.
//!
//! In flow the sections of a file, out flows a [`TrainConfig`], whose faults are told by [`TrainConfig::faults`]. Settings
//! that only serve comparisons stand together under `[experimental]`; in a bundle's manifest they stand with those that
//! they belong to. Invariant: a key that a file may have had before has an error that says where it is now.

use crate::bundle::{CalibrationConfig, EncoderConfig, TrainingConfig};
use crate::model::{ModelConfig, ViewsConfig};
use crate::score::{CascadeConfig, ScoreConfig};
use crate::toml_file::{KeyFault, KeyFaults};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The section of the settings for comparisons.
const EXPERIMENTAL: &str = "experimental";

/// Its keys, and the section of [`TrainConfig`] that each belongs to.
const EXPERIMENTAL_KEYS: [(&str, &str); 8] = [
    ("masking", "model"),
    ("bottleneck_width", "model"),
    ("plan", "views"),
    ("objective", "training"),
    ("optimizer", "training"),
    ("kl_weight", "training"),
    ("swap_noise", "training"),
    ("average_decay", "training"),
];

/// Keys that are gone: section, key, and what to do.
const GONE: [(&str, &str, &str); 1] = [(
    "training",
    "device",
    "training is always on the processor: leave the key out",
)];

/// The key of a setting as a file writes it, from the section and the key that it has in a manifest.
pub fn written_key(section: &str, key: &str) -> String {
    match EXPERIMENTAL_KEYS.contains(&(key, section)) {
        true => format!("{EXPERIMENTAL}.{key}"),
        false => format!("{section}.{key}"),
    }
}

/// Everything that can be set for a training. Read from the layout of a file, serialised in that of a manifest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct TrainConfig {
    /// The shape of the model.
    pub model: ModelConfig,
    /// How scoring hides fields, if the objective does.
    pub views: ViewsConfig,
    /// How the model is fitted.
    pub training: TrainingConfig,
    /// How records are encoded.
    pub encoder: EncoderConfig,
    /// How surprises become a score.
    pub score: ScoreConfig,
    /// Which records get all views.
    pub cascade: CascadeConfig,
    /// How scores become p-values.
    pub calibration: CalibrationConfig,
}

impl TrainConfig {
    /// What training makes of it: at least the declared contamination is too unusual.
    pub fn effective(&self) -> Self {
        let mut config = self.clone();
        let contamination = self.calibration.contamination as f32;
        config.training.trim = config.training.trim.max(contamination);
        config
    }

    /// Everything that is wrong, each with its key in a file, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut own = KeyFaults::default();
        let contamination = self.calibration.contamination;
        own.require(
            (0.0..=0.5).contains(&contamination),
            "calibration.contamination",
            contamination,
            "must be within 0..=0.5",
        );
        let classes = self.encoder.head_classes_max;
        own.range("encoder.head_classes_max", classes, 1, 65_536);
        let faults = self.model.faults().into_iter();
        let faults = faults.chain(self.views.faults());
        let faults = faults.chain(self.training.faults());
        let faults = faults.chain(self.score.faults());
        let faults = faults.chain(self.cascade.faults());
        let faults = faults.chain(own.into_vec());
        let named = faults.map(|fault| {
            let written = fault.key.split_once('.');
            match written.map(|(section, key)| written_key(section, key)) {
                Some(key) => fault.under(key),
                None => fault,
            }
        });
        named.collect()
    }
}

/// The sections once every key stands in its own; `experimental` is empty by then, and here to be named among the sections.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sections {
    model: ModelConfig,
    views: ViewsConfig,
    training: TrainingConfig,
    encoder: EncoderConfig,
    score: ScoreConfig,
    cascade: CascadeConfig,
    calibration: CalibrationConfig,
    #[serde(rename = "experimental")]
    _experimental: Option<IgnoredAny>,
}

impl TryFrom<Table> for TrainConfig {
    type Error = String;

    fn try_from(mut written: Table) -> Result<Self, String> {
        check_places(&written)?;
        if let Some(Value::Table(keys)) = written.remove(EXPERIMENTAL) {
            for (key, value) in keys {
                let known = EXPERIMENTAL_KEYS.iter().find(|(known, _)| *known == key);
                let Some((_, section)) = known else {
                    let known = EXPERIMENTAL_KEYS.map(|(key, _)| format!("`{key}`"));
                    let known = known.join(", ");
                    return Err(format!("unknown field `{key}`, expected one of {known}"));
                };
                let section = written
                    .entry(*section)
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Some(section) = section.as_table_mut() {
                    section.insert(key, value);
                }
            }
        }
        let sections: Sections = written
            .try_into()
            .map_err(|error| without_experimental(error.message()))?;
        Ok(Self {
            model: sections.model,
            views: sections.views,
            training: sections.training,
            encoder: sections.encoder,
            score: sections.score,
            cascade: sections.cascade,
            calibration: sections.calibration,
        })
    }
}

/// Whether no key stands where it stood once.
fn check_places(written: &Table) -> Result<(), String> {
    let has = |section: &str, key: &str| {
        let section = written.get(section).and_then(Value::as_table);
        section.is_some_and(|section| section.contains_key(key))
    };
    if let Some((section, key, remedy)) = GONE.iter().find(|(section, key, _)| has(section, key)) {
        return Err(format!("`{section}.{key}` is gone; {remedy}"));
    }
    let mut keys = EXPERIMENTAL_KEYS.iter();
    match keys.find(|(key, section)| has(section, key)) {
        Some((key, section)) => Err(format!(
            "`{section}.{key}` is under [{EXPERIMENTAL}] now; write `{EXPERIMENTAL}.{key}`"
        )),
        None => Ok(()),
    }
}

/// What serde says of an unknown key, without the keys that a file has under `[experimental]`.
fn without_experimental(message: &str) -> String {
    let Some((unknown, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let mut expected = expected.to_owned();
    for (key, _) in EXPERIMENTAL_KEYS {
        expected = expected.replace(&format!("`{key}`, "), "");
    }
    format!("{unknown}, expected {expected}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Masking, ObjectiveKind};

    fn read(text: &str) -> Result<TrainConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn settings_for_comparison_stand_together_and_are_kept_where_they_belong() {
        let text = "[experimental]\nmasking = \"token\"\nobjective = \"autoencoder\"\n\
                    kl_weight = 0.5\n[model]\nwidth = 16\n";
        let config = read(text).unwrap();
        assert_eq!(config.model.masking, Masking::Token);
        assert_eq!(config.training.objective, ObjectiveKind::Autoencoder);
        assert_eq!((config.training.kl_weight, config.model.width), (0.5, 16));
        let kept = serde_json::to_value(&config).unwrap();
        assert_eq!(kept["model"]["masking"], "token");
        assert_eq!(kept.get("experimental"), None);
    }

    #[test]
    fn a_key_at_its_old_place_is_refused_with_the_new_one() {
        for (key, section) in EXPERIMENTAL_KEYS {
            let error = read(&format!("[{section}]\n{key} = 1\n")).unwrap_err();
            let new = format!("write `experimental.{key}`");
            assert!(error.contains(&new), "{error}");
        }
        let error = read("[training]\ndevice = \"cpu\"\n").unwrap_err();
        assert_eq!(
            error,
            "`training.device` is gone; training is always on the processor: leave the key out"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_those_that_a_file_may_have_there() {
        let error = read("[views]\nplanet = 1\n").unwrap_err();
        assert!(
            error.contains("`scoring`") && !error.contains("`plan`"),
            "{error}"
        );
        let error = read("[experimental]\nplanet = 1\n").unwrap_err();
        assert!(
            error.contains("`plan`") && !error.contains("`scoring`"),
            "{error}"
        );
        let error = read("[experiment]\n").unwrap_err();
        assert!(error.contains("`experimental`"), "{error}");
    }

    #[test]
    fn faults_name_the_key_of_the_file() {
        let config = read("[experimental]\nkl_weight = 2000.0\n[training]\ntrim = 0.9\n").unwrap();
        let faults: Vec<String> = config.faults().iter().map(KeyFault::to_string).collect();
        assert_eq!(
            faults,
            [
                "experimental.kl_weight = 2000: must be within 0..=1000",
                "training.trim = 0.9: must be within 0..=0.5",
            ]
        );
    }
}
