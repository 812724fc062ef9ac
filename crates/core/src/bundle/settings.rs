//! The settings that a bundle keeps of how records were encoded and how its calibration rows were chosen.

use crate::encode::categorical::DEFAULT_HEAD_CLASSES_MAX;
use serde::{Deserialize, Serialize};

/// Calibration rows at most: p-values down to 1e-5.
pub const CALIBRATION_ROWS_MAX: u64 = 100_000;

/// How the calibration part is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Uniformly: calibration and later records are exchangeable as far as the world does not change.
    #[default]
    Random,
    /// The latest rows by the `time` field: sees drift, gives up exact exchangeability.
    Latest,
}

/// The `[encoder]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// Values of a category with a class of their own, 1..=65,536.
    pub head_classes_max: usize,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            head_classes_max: DEFAULT_HEAD_CLASSES_MAX,
        }
    }
}

/// The `[calibration]` section.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationConfig {
    /// How the calibration part is chosen.
    pub split: Split,
    /// Share of the training rows that is presumed abnormal, 0 <= share <= 0.5: of at least as many training leaves
    /// nine in ten out, and as large a share of the calibration rows ranks nothing.
    pub contamination: f64,
}
