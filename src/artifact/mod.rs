//! Bundles: how a trained model is made (`recipe`), tuned (`tuning`), kept (`bundle`) and used (`detector`).
//!
//! Invariant: a bundle is whole, and every byte of it that can change a score is digested into its `model_id`.

mod bundle;
mod calibration_file;
#[cfg(test)]
mod comparison;
mod detector;
mod distances_file;
mod error;
mod first_records;
#[cfg(test)]
mod forged;
mod manifest;
mod recipe;
mod seen;
mod trees_file;
mod tuning;
#[cfg(test)]
mod two_stages;
mod weights;

pub use bundle::{
    CALIBRATION, DISTANCES, MANIFEST, RUN, WEIGHTS, check_target, load_manifest, run_path,
};
pub use detector::{BudgetByError, Detector};
pub use error::ArtifactError;
pub use first_records::{Cause, Excess, FIRST_RECORDS, FirstRecords, Opening};
pub use manifest::{Description, FORMAT_VERSION, Manifest, PValueMeaning, PartRows, Tuning};
pub use recipe::{
    CalibrationConfig, DEFAULT_SEED, EncoderConfig, LearnError, Recipe, Run, TrainConfig,
    check_start, learn,
};
pub use seen::{Seen, seen};
pub use tuning::{TuneFailure, TuneRecipe, TuneRun, tune};
