//! Exit codes with meaning: 1 failed, 64 bad configuration or schema, 65 bad data, 70 internal.

use crate::artifact::{ArtifactError, LearnError};
use crate::config::ConfigError;
use crate::evaluate::MetricError;
use crate::features::DataError;
use crate::schema::SchemaError;
use crate::score::ScoreError;
use crate::stream::decoder::DecoderError;
use crate::train::{DatasetError, TrainError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Failed for a reason outside: a fenced instance, a broker that is gone, a full disk.
pub const FAILED: u8 = 1;
/// A configuration or schema is wrong.
pub const BAD_CONFIGURATION: u8 = 64;
/// Data or a bundle is wrong.
pub const BAD_DATA: u8 = 65;
/// A defect of this program.
pub const INTERNAL: u8 = 70;

/// Everything that is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), faults.join("; "))]
pub struct ConfigFaults {
    path: PathBuf,
    faults: Vec<String>,
}

impl ConfigFaults {
    /// Faults of a file.
    pub fn new(path: &Path, faults: Vec<String>) -> Self {
        Self {
            path: path.to_owned(),
            faults,
        }
    }
}

/// Data that a verb cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadData(pub String);

/// The exit code of an error: that of the first cause whose kind is known.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(error.chain().find_map(code_of).unwrap_or(FAILED))
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let configuration = cause.is::<SchemaError>()
        || cause.is::<ConfigFaults>()
        || cause.is::<ConfigError>()
        || cause.is::<DecoderError>();
    if configuration {
        return Some(BAD_CONFIGURATION);
    }
    if cause.is::<BadData>() || cause.is::<DataError>() || cause.is::<MetricError>() {
        return Some(BAD_DATA);
    }
    if let Some(error) = cause.downcast_ref::<LearnError>() {
        return learn_code(error);
    }
    if let Some(error) = cause.downcast_ref::<ArtifactError>() {
        return artifact_code(error);
    }
    cause.downcast_ref::<ScoreError>().map(|_| INTERNAL)
}

fn learn_code(error: &LearnError) -> Option<u8> {
    match error {
        LearnError::Dataset(DatasetError::NoRole { .. }) => Some(BAD_CONFIGURATION),
        LearnError::Dataset(DatasetError::Arrow(_)) | LearnError::Tensor(_) => Some(INTERNAL),
        LearnError::Dataset(_) | LearnError::Score(ScoreError::Calibration(_)) => Some(BAD_DATA),
        LearnError::Train(TrainError::TooFewRows { .. }) => Some(BAD_DATA),
        LearnError::Train(TrainError::Diverged { .. }) => Some(BAD_CONFIGURATION),
        LearnError::Train(TrainError::Tensor { .. }) | LearnError::Score(_) => Some(INTERNAL),
        LearnError::Artifact(error) => artifact_code(error),
    }
}

fn artifact_code(error: &ArtifactError) -> Option<u8> {
    match error {
        ArtifactError::Io { .. } => Some(FAILED),
        ArtifactError::NotABundle { .. } => Some(BAD_CONFIGURATION),
        ArtifactError::Tensor(_) => Some(INTERNAL),
        ArtifactError::Malformed { .. }
        | ArtifactError::Version { .. }
        | ArtifactError::Digest { .. }
        | ArtifactError::Weights { .. } => Some(BAD_DATA),
    }
}
