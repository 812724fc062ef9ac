//! The manifest: everything of a bundle that is not numbers, and the digests of what is.

use super::fingerprint::DataFingerprint;
use super::settings::{CalibrationConfig, EncoderConfig};
use super::training::TrainingConfig;
use super::validation::Validation;
use crate::encode::{Encoder, FieldTable, TrainedMoments};
use crate::model::{ModelConfig, Views, ViewsConfig};
use crate::schema::Schema;
use crate::score::{CascadeConfig, Combination, ScoreConfig};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The version of the bundle format that this program writes and reads.
pub const FORMAT_VERSION: u64 = 8;
/// Characters of a `model_id`: 64 bits are enough to tell any two models of a user apart.
const MODEL_ID_CHARACTERS: usize = 16;

/// What p-values of a bundle are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PValueMeaning {
    /// Calibrated on all rows, whatever their labels would be.
    PerRecordLikeTheTrainingData,
    /// Calibrated on rows that are not labelled 1.
    PerNormalRecord,
    /// Calibrated on all rows but the declared share of the most abnormal ones.
    PerPresumedNormalRecord,
    /// Calibrated on all rows of other files than the training's, whatever their labels would be.
    PerRecordLikeTheCalibrationData,
    /// Calibrated anew, on rows of other files that are neither labelled 1 nor were alerts before.
    PerRecordLikeTheRecalibrationData,
}

impl PValueMeaning {
    /// The promise as a sentence for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::PerRecordLikeTheTrainingData => {
                "a budget b flags at most a share b of records like the training data, frauds included"
            }
            Self::PerNormalRecord => "a budget b flags at most a share b of normal records",
            Self::PerPresumedNormalRecord => {
                "a budget b flags about a share b of normal records, as far as the declared contamination is right"
            }
            Self::PerRecordLikeTheCalibrationData => {
                "a budget b flags at most a share b of records like the calibration data, frauds included"
            }
            Self::PerRecordLikeTheRecalibrationData => {
                "a budget b flags at most a share b of records like the newer calibration data, beside those like the rows \
                 left out of it"
            }
        }
    }
}

/// How many rows each part had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRows {
    /// Rows of the fit part.
    pub fit: u64,
    /// Of those, rows kept in memory for training.
    pub fit_kept: u64,
    /// Rows that shaped the score.
    pub reference: u64,
    /// Rows that rank the score.
    pub calibration: u64,
    /// Rows of the calibration part that rank nothing, as they are presumed abnormal.
    pub presumed_abnormal: u64,
    /// Rows left out because of their label.
    pub excluded: u64,
    /// Rows left out because they are bad.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad: u64,
    /// Rows of the latest times beyond the calibration part's limit.
    pub unused: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What the model is and was made from: digested into the `model_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The canonical schema.
    pub schema: Schema,
    /// Its SHA-256.
    pub schema_sha256: String,
    /// The fitted encoder.
    pub encoder: Encoder,
    /// The shape of the model.
    pub model: ModelConfig,
    /// How the views were chosen.
    pub views_config: ViewsConfig,
    /// The views.
    pub views: Views,
    /// How records were encoded.
    pub encoder_config: EncoderConfig,
    /// How it was trained.
    pub training: TrainingConfig,
    /// How surprises become a score where nothing was tuned.
    pub score: ScoreConfig,
    /// Which records get all views.
    pub cascade: CascadeConfig,
    /// How the training's calibration part was chosen and what of it counted; a tuned bundle has other calibration rows.
    pub calibration: CalibrationConfig,
    /// The seed of everything.
    pub seed: u64,
    /// The `model_id` of the bundle whose weights were the start of training, if it was none of its own.
    pub from: Option<String>,
    /// What p-values mean.
    pub p_value: PValueMeaning,
    /// What it was trained on.
    pub data: DataFingerprint,
    /// The parts of the data.
    pub rows: PartRows,
    /// Where the records' own times lay in training, if the schema has any: later ones far from them are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TrainedMoments>,
    /// Where the values of the reference rows lie, a table for each feature that is neither redacted nor a timestamp: what a
    /// stream is compared with.
    pub field_tables: Vec<FieldTable>,
    /// What labels changed; none for a bundle as it was trained.
    pub tuning: Option<Tuning>,
    /// Which newer rows the p-values rest on, if not on those of training or tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalibration: Option<Recalibration>,
}

/// Where newer calibration rows came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalibration {
    /// The `model_id` of the bundle with the older calibration rows.
    pub parent_model_id: String,
    /// All rows of the files.
    pub data: DataFingerprint,
    /// Rows left out, as they are labelled 1.
    pub labelled: u64,
    /// Of the others, the rows that were drawn: all, or 100,000.
    pub judged: u64,
    /// Of these, rows left out, as the parent flags them and nobody labelled them 0.
    pub alerts: u64,
    /// The alert budget by which it flags; none if alerts were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// Of the draw.
    pub seed: u64,
}

impl Recalibration {
    /// The share of the records of this kind that the promise leaves out: they may be alerts beyond the budget.
    pub fn set_apart(&self) -> f64 {
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        let labelled = share(self.labelled, self.data.rows);
        labelled + (1.0 - labelled) * share(self.alerts, self.judged)
    }
}

/// What labels made of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The `model_id` of the bundle that was tuned.
    pub parent_model_id: String,
    /// How components of a record become the number of the detector that labels made; none if labels made trees, which are
    /// in a file of their own, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combination: Option<Combination>,
    /// That detector's share of the alert budget.
    pub budget_share: f64,
    /// What that was worth on labelled rows that had not chosen it.
    pub validation: Validation,
    /// Rows labelled 1.
    pub frauds: u64,
    /// Rows labelled 0.
    pub normals: u64,
    /// Rows without a label: left out.
    pub unlabelled: u64,
    /// Labelled rows that were kept to choose weights by; fewer than there are only beyond the limit of memory.
    pub kept: u64,
    /// All rows of the labelled files.
    pub labelled_data: DataFingerprint,
    /// All rows of the calibration files.
    pub calibration_data: DataFingerprint,
    /// Calibration rows left out, as they are labelled 1.
    pub calibration_excluded: u64,
    /// Calibration rows left out, as they are among the labelled rows.
    pub calibration_shared: u64,
    /// Of the choice of folds, and of rows where there are too many.
    pub seed: u64,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u64,
    /// First 16 hexadecimal digits of the SHA-256 over description, weights and calibration.
    pub model_id: String,
    /// What the model is.
    pub description: Description,
    /// SHA-256 in hexadecimal of every other file that counts.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a description and the contents of the other files, by name.
    ///
    /// # Errors
    /// If the description cannot be written as JSON.
    pub fn new(
        description: Description,
        files: &[(&str, &[u8])],
    ) -> Result<Self, serde_json::Error> {
        let files: BTreeMap<String, String> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), sha256_hex(bytes)))
            .collect();
        let model_id = model_id(&description, &files)?;
        Ok(Self {
            format_version: FORMAT_VERSION,
            model_id,
            description,
            files,
        })
    }

    /// The `model_id` that its contents give.
    ///
    /// # Errors
    /// If the description cannot be written as JSON.
    pub fn computed_model_id(&self) -> Result<String, serde_json::Error> {
        model_id(&self.description, &self.files)
    }
}

fn model_id(
    description: &Description,
    files: &BTreeMap<String, String>,
) -> Result<String, serde_json::Error> {
    let mut digest = Sha256::new();
    digest.update(serde_json::to_vec(description)?);
    for (name, sha256) in files {
        digest.update(format!("\n{name} {sha256}"));
    }
    let mut id = hex(&digest.finalize());
    id.truncate(MODEL_ID_CHARACTERS);
    Ok(id)
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
