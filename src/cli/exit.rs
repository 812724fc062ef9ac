//! Exit codes with meaning: 1 failed, 2 usage, 64 bad configuration or schema, 65 bad data, 70
//! internal.
//!
//! In flows an error with its causes, out flows one code: that of the first cause whose kind says.

use super::exit_service::service_code;
use crate::BudgetByError;
use crate::bundle::BundleError;
use crate::config::ConfigError;
use crate::evaluate::{BaselineError, MetricError};
use crate::generate::GenerateError;
use crate::kafka::decoders::DecoderError;
use crate::models::ModelsError;
use crate::recipe::{LearnError, TuneFailure};
use crate::records::DataError;
use crate::schema::SchemaError;
use crate::score::ScoreError;
use crate::toml_file::KeyFault;
use crate::train::{DatasetError, TrainError};
use crate::transfer::TransferError;
use crate::tune::TuneError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Failed for a reason outside: a fenced instance, a broker that is gone, a full disk.
pub const FAILED: u8 = 1;
/// The command line is wrong; clap's own code.
pub const USAGE: u8 = 2;
/// A configuration or schema is wrong.
pub const BAD_CONFIGURATION: u8 = 64;
/// Data or a bundle is wrong.
pub const BAD_DATA: u8 = 65;
/// A defect of this program.
pub const INTERNAL: u8 = 70;

/// Everything that is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), joined(faults))]
pub struct ConfigFaults {
    path: PathBuf,
    faults: Vec<KeyFault>,
}

impl ConfigFaults {
    /// Faults of a file.
    pub fn new(path: &Path, faults: Vec<KeyFault>) -> Self {
        Self {
            path: path.to_owned(),
            faults,
        }
    }
}

fn joined(faults: &[KeyFault]) -> String {
    let sentences: Vec<String> = faults.iter().map(KeyFault::to_string).collect();
    sentences.join("; ")
}

/// Data that a verb cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadData(pub String);

/// What a verb will not do, since it would destroy something: a wrong configuration (64).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Errors that do not depend on each other, told at once.
#[derive(Debug, thiserror::Error)]
#[error("{} faults:{}", .0.len(), lines(.0))]
pub struct Several(Vec<anyhow::Error>);

impl Several {
    /// One error as it is, or several as one.
    pub fn of(mut errors: Vec<anyhow::Error>) -> anyhow::Error {
        match (errors.len(), errors.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                errors.extend(last);
                Self(errors).into()
            }
        }
    }
}

fn lines(errors: &[anyhow::Error]) -> String {
    errors.iter().map(|error| format!("\n{error:#}")).collect()
}

/// The exit code of an error: that of the first cause whose kind is known.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(FAILED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let configuration = cause.is::<SchemaError>()
        || cause.is::<ConfigFaults>()
        || cause.is::<Refused>()
        || cause.is::<BudgetByError>()
        || cause.is::<ConfigError>()
        || cause.is::<DecoderError>();
    if configuration {
        return Some(BAD_CONFIGURATION);
    }
    if let Some(Several(errors)) = cause.downcast_ref() {
        // What the user wrote comes before what the data is: it is looked at first.
        return errors
            .iter()
            .map(code)
            .min_by_key(|&code| (code == FAILED, code));
    }
    if let Some(error) = cause.downcast_ref::<GenerateError>() {
        return generate_code(error);
    }
    if let Some(error) = cause.downcast_ref::<BaselineError>() {
        return Some(baseline_code(error));
    }
    if matches!(cause.downcast_ref(), Some(DataError::Url { .. })) {
        return Some(BAD_CONFIGURATION);
    }
    if cause.is::<BadData>() || cause.is::<DataError>() || cause.is::<MetricError>() {
        return Some(BAD_DATA);
    }
    if let Some(error) = cause.downcast_ref::<LearnError>() {
        return learn_code(error);
    }
    if let Some(error) = cause.downcast_ref::<TuneFailure>() {
        return tune_code(error);
    }
    if let Some(error) = cause.downcast_ref::<BundleError>() {
        return bundle_code(error);
    }
    if let Some(error) = cause.downcast_ref::<ModelsError>() {
        return models_code(error);
    }
    if cause.is::<ScoreError>() {
        return Some(INTERNAL);
    }
    service_code(cause)
}

fn baseline_code(error: &BaselineError) -> u8 {
    match error {
        BaselineError::TooWide { .. } | BaselineError::TooFewRows { .. } => BAD_DATA,
        BaselineError::NoComponents { .. } => INTERNAL,
    }
}

fn learn_code(error: &LearnError) -> Option<u8> {
    match error {
        LearnError::Dataset(error) => Some(dataset_code(error)),
        LearnError::Tensor(_) => Some(INTERNAL),
        LearnError::Score(ScoreError::Calibration(_)) => Some(BAD_DATA),
        LearnError::Views(_) => Some(BAD_CONFIGURATION),
        LearnError::Transfer(TransferError::Tensor(_)) => Some(INTERNAL),
        LearnError::Transfer(_) => Some(BAD_CONFIGURATION),
        LearnError::Train(TrainError::TooFewRows { .. }) => Some(BAD_DATA),
        LearnError::Train(TrainError::Diverged { .. }) => Some(BAD_CONFIGURATION),
        LearnError::Train(TrainError::Tensor { .. }) | LearnError::Score(_) => Some(INTERNAL),
        LearnError::Bundle(error) => bundle_code(error),
    }
}

fn dataset_code(error: &DatasetError) -> u8 {
    match error {
        DatasetError::NoRole { .. } => BAD_CONFIGURATION,
        DatasetError::Arrow(_) => INTERNAL,
        DatasetError::Data(_)
        | DatasetError::BadRow { .. }
        | DatasetError::TooManyBadRows { .. }
        | DatasetError::TooFewRows { .. }
        | DatasetError::Encode { .. }
        | DatasetError::NothingLeft { .. } => BAD_DATA,
    }
}

fn tune_code(error: &TuneFailure) -> Option<u8> {
    match error {
        TuneFailure::Tune(
            TuneError::NoLabel | TuneError::Schema(_) | TuneError::TooManyComponents { .. },
        ) => Some(BAD_CONFIGURATION),
        TuneFailure::Tune(TuneError::Dataset(error)) => Some(dataset_code(error)),
        TuneFailure::Tune(TuneError::Encode(_) | TuneError::Arrow(_)) => Some(INTERNAL),
        TuneFailure::Tune(
            TuneError::LabelMissing { .. }
            | TuneError::Data(_)
            | TuneError::TooFew { .. }
            | TuneError::Shared { .. }
            | TuneError::Trained { .. }
            | TuneError::NothingLeft { .. }
            | TuneError::TooFewLeft { .. },
        ) => Some(BAD_DATA),
        TuneFailure::Score(_) | TuneFailure::Boosting(_) => Some(INTERNAL),
        TuneFailure::Bundle(error) => bundle_code(error),
    }
}

fn bundle_code(error: &BundleError) -> Option<u8> {
    match error {
        // A bundle that is not there, or not all of it, is as bad as a damaged one.
        BundleError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Some(BAD_DATA)
        }
        BundleError::Io { .. } => Some(FAILED),
        BundleError::NotABundle { .. } | BundleError::Target(_) => Some(BAD_CONFIGURATION),
        BundleError::Tensor(_) => Some(INTERNAL),
        BundleError::NoBundle { .. }
        | BundleError::Malformed { .. }
        | BundleError::Version { .. }
        | BundleError::Digest { .. }
        | BundleError::Weights { .. } => Some(BAD_DATA),
    }
}

fn models_code(error: &ModelsError) -> Option<u8> {
    match error {
        ModelsError::Io { .. } | ModelsError::Busy { .. } => Some(FAILED),
        ModelsError::NoFolder { .. }
        | ModelsError::NoModel { .. }
        | ModelsError::Ambiguous { .. }
        | ModelsError::NoPointer { .. }
        | ModelsError::Retired { .. }
        | ModelsError::IsChampion { .. }
        | ModelsError::NothingBefore { .. } => Some(BAD_CONFIGURATION),
        ModelsError::Pointer { .. }
        | ModelsError::OtherName { .. }
        | ModelsError::Journal { .. } => Some(BAD_DATA),
        ModelsError::Bundle(error) => bundle_code(error),
    }
}

fn generate_code(error: &GenerateError) -> Option<u8> {
    match error {
        GenerateError::OutOfRange { .. } => Some(USAGE),
        GenerateError::Target(_) => Some(BAD_CONFIGURATION),
        GenerateError::NotParquet { .. } | GenerateError::NoOrigin { .. } => Some(BAD_DATA),
        GenerateError::Unreadable { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => Some(BAD_DATA),
            _other => Some(FAILED),
        },
        GenerateError::Io { .. } | GenerateError::Parquet { .. } => Some(FAILED),
        GenerateError::Batch(_)
        | GenerateError::ColumnType { .. }
        | GenerateError::NoSuchRow { .. }
        | GenerateError::NoSuchDate { .. } => Some(INTERNAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_code_is_found_below_any_context() {
        let error = anyhow::Error::from(BadData("a.parquet: x".to_owned())).context("score");
        assert_eq!(code(&error), BAD_DATA);
        assert_eq!(code(&anyhow!("the disk is full")), FAILED);
        assert_eq!(
            code(
                &GenerateError::OutOfRange {
                    name: "customers",
                    found: "3".to_owned(),
                    expected: "10 to 1000000".to_owned(),
                }
                .into()
            ),
            USAGE
        );
    }

    #[test]
    fn several_errors_are_told_together_under_the_first_code_that_means_something() {
        let bad_data = || anyhow::Error::from(BadData("a.parquet: x".to_owned()));
        let refused = || anyhow::Error::from(Refused("s.toml: exists".to_owned()));
        let io = || anyhow!("the disk is full");
        let error = Several::of(vec![io(), bad_data(), refused()]);
        assert_eq!(code(&error), BAD_CONFIGURATION);
        let text = format!("{error:#}");
        assert_eq!(
            text,
            "3 faults:\nthe disk is full\na.parquet: x\ns.toml: exists"
        );
        assert_eq!(code(&Several::of(vec![io(), bad_data()])), BAD_DATA);
        assert_eq!(Several::of(vec![bad_data()]).to_string(), "a.parquet: x");
    }
}
