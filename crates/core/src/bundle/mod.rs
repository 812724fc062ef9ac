//! The bundle: what training leaves and scoring loads.
//!
//! `store` saves and loads the folder, `manifest` says what the model is and was made from, `training` and `settings` are
//! how it was made, `validation` what labels were worth, `fingerprint` what data it saw; the other files hold numbers.
//! Invariant: a bundle is whole, and every byte of it that can change a score is digested into its `model_id`.

mod calibration_file;
mod distances_file;
mod error;
mod fingerprint;
mod manifest;
mod seen;
mod settings;
mod store;
pub mod training;
mod trees_file;
mod validation;
mod weights;

#[cfg(any(test, feature = "testing"))]
pub use calibration_file::write as write_calibration;
pub use error::BundleError;
pub use fingerprint::{DataFingerprint, Fingerprinter, ROW_DIGEST_BYTES, row_digest};
pub use manifest::{
    Description, FORMAT_VERSION, Manifest, PValueMeaning, PartRows, Recalibration, Tuning,
    sha256_hex,
};
pub use seen::{Seen, seen};
pub use settings::{CALIBRATION_ROWS_MAX, CalibrationConfig, EncoderConfig, Split};
pub use store::{
    CALIBRATION, DISTANCES, MANIFEST, RUN, TREES, WEIGHTS, check_target, created_at_unix_s, load,
    load_manifest, rule_of, run_path, save,
};
pub use training::{OptimizerKind, TrainingConfig};
pub use validation::{Kind, Validation, ValidationSplit};
