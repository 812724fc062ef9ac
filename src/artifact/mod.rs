//! Bundles: how a trained model is made (`recipe`), kept (`bundle`) and used (`detector`).
//!
//! Invariant: a bundle is whole, and every byte of it that can change a score is digested into its `model_id`.

mod bundle;
mod calibration_file;
mod detector;
mod error;
mod manifest;
mod recipe;
mod weights;

pub use bundle::{CALIBRATION, MANIFEST, RUN, WEIGHTS, check_target, load_manifest, run_path};
pub use detector::{BudgetByError, Detector};
pub use error::ArtifactError;
pub use manifest::{Description, FORMAT_VERSION, Manifest, PValueMeaning, PartRows};
pub use recipe::{
    CalibrationConfig, DEFAULT_SEED, EncoderConfig, LearnError, Recipe, Run, TrainConfig, learn,
};
