//! The shape of the model: what a user may choose, checked before anything is built.

use super::likelihood::Likelihood;
use super::likelihood::histogram::{DEFAULT_BINS, DEFAULT_SMOOTHING_BINS};
use super::mask::{MaskPlan, Scoring};
use crate::toml_file::{KeyFault, KeyFaults};
use serde::{Deserialize, Serialize};

/// Width of the hidden layers: with three blocks about 0.6 million weights on 29 fields.
pub const DEFAULT_WIDTH: usize = 192;
/// Residual blocks.
pub const DEFAULT_BLOCKS: usize = 3;
/// Standard deviation of the noise that the denoising view tells of: a tenth of a number's own.
pub const DEFAULT_DENOISING_LEVEL: f32 = 0.1;
/// Mask ratios at most: each is a stratum with tables of its own.
const RATIOS_MAX: usize = 32;
/// How numbers are read: the likelihood of a histogram sees broken dependence between fields, the squared error how far out
/// a value lies, from a location that unlabelled frauds in the training data hardly move (`docs/notebook`).
pub const DEFAULT_LIKELIHOOD: [Likelihood; 4] = [
    Likelihood::Histogram,
    Likelihood::RobustSquaredError,
    Likelihood::QuantileHistogram,
    Likelihood::QuantileRobustSquaredError,
];
/// gamma of the histogram's loss: the cross entropy, which on clean data finds more (`docs/notebook`).
pub const DEFAULT_HISTOGRAM_GAMMA: f32 = 0.0;
/// Numbers of a category's input embedding at most.
pub const DEFAULT_EMBEDDING_DIM_MAX: usize = 24;
/// Heads of attention: 16 numbers each at the width of 64 that is enough for a token.
pub const DEFAULT_ATTENTION_HEADS: usize = 4;

/// How fields become an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Visible values, embeddings and the visibility mask, concatenated, through residual pre-norm blocks.
    Mlp,
    /// A token a field, through pre-norm blocks of attention.
    Transformer,
}

/// What stands in the place of a hidden value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// A learned value a field.
    Token,
    /// Nothing. `mlp`: zero, which the visibility mask tells from a visible zero. `transformer`: no token attends to it.
    Drop,
}

/// What the model learns to do.
///
/// It is configured with the training, and belongs to the model too: where nothing is hidden there is a bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// To predict hidden fields from visible ones.
    #[default]
    Masked,
    /// To reproduce every field, none hidden, through a bottleneck.
    Autoencoder,
    /// The same through a normal distribution (Kingma & Welling 2014, "Auto-Encoding Variational Bayes").
    Variational,
}

impl ObjectiveKind {
    /// Whether fields are hidden to be predicted.
    pub fn hides_fields(self) -> bool {
        self == Self::Masked
    }
}

/// The `[model]` section of a training configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// How fields become an output.
    pub architecture: Architecture,
    /// What stands in the place of a hidden value.
    pub masking: Masking,
    /// Readings of a number, at least one, none twice.
    pub likelihood: Vec<Likelihood>,
    /// D: width of the hidden layers, 1..=4,096.
    pub width: usize,
    /// Residual blocks, 1..=32.
    pub blocks: usize,
    /// Heads of attention, 1..=64, a divisor of the width; only of the transformer.
    #[serde(rename = "heads")]
    pub attention_heads: usize,
    /// L: width of the bottleneck, 1..=4,096; 0 for [`default_width`](super::bottleneck::default_width). Only where the
    /// objective hides nothing.
    pub bottleneck_width: usize,
    /// Whether the model is told of noise in the visible numbers, and training adds some: only of the `mlp` where the
    /// objective hides fields, see [`denoises`](Self::denoises).
    pub denoising: bool,
    /// Share of hidden units that training removes, 0 <= dropout < 1.
    pub dropout: f32,
    /// Numbers of a category's input embedding at most, 1..=256; only of the mlp, the transformer's are D wide.
    pub embedding_dim_max: usize,
    /// Bins of the histogram reading, 2..=1,024.
    pub histogram_bins: usize,
    /// Smoothing of its targets in bins, > 0.
    pub histogram_smoothing_bins: f32,
    /// gamma of its loss. 0: the cross entropy. 0.01..=3: the loss is bounded, so that a few values that do not fit teach
    /// little; smaller ones would drown in rounding, and larger ones leave next to no gradient of a poor start. Written
    /// only where it is not 0, so that bundles without it are what they were before there was a choice.
    #[serde(skip_serializing_if = "is_zero")]
    pub histogram_gamma: f32,
}

fn is_zero(gamma: &f32) -> bool {
    *gamma == 0.0
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::Mlp,
            masking: Masking::Drop,
            likelihood: DEFAULT_LIKELIHOOD.to_vec(),
            width: DEFAULT_WIDTH,
            blocks: DEFAULT_BLOCKS,
            attention_heads: DEFAULT_ATTENTION_HEADS,
            bottleneck_width: 0,
            denoising: true,
            dropout: 0.0,
            embedding_dim_max: DEFAULT_EMBEDDING_DIM_MAX,
            histogram_bins: DEFAULT_BINS,
            histogram_smoothing_bins: DEFAULT_SMOOTHING_BINS,
            histogram_gamma: DEFAULT_HISTOGRAM_GAMMA,
        }
    }
}

impl ModelConfig {
    /// Whether a model of this configuration and objective has the inputs that tell it of noise.
    pub fn denoises(&self, objective: ObjectiveKind) -> bool {
        self.denoising && self.architecture == Architecture::Mlp && objective.hides_fields()
    }

    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut faults = KeyFaults::default();
        faults.range("model.width", self.width, 1, 4096);
        faults.range("model.blocks", self.blocks, 1, 32);
        faults.range("model.heads", self.attention_heads, 1, 64);
        faults.range("model.bottleneck_width", self.bottleneck_width, 0, 4096);
        faults.range("model.embedding_dim_max", self.embedding_dim_max, 1, 256);
        faults.range("model.histogram_bins", self.histogram_bins, 2, 1024);
        let (dropout, heads) = (self.dropout, self.attention_heads);
        let is_share = (0.0..1.0).contains(&dropout);
        let must = "must be at least 0 and below 1";
        faults.require(is_share, "model.dropout", dropout, must);
        let divides = heads == 0 || self.width.is_multiple_of(heads);
        let divides = divides || self.architecture != Architecture::Transformer;
        let must = format!("must divide model.width = {}", self.width);
        faults.require(divides, "model.heads", heads, &must);
        let smoothing = self.histogram_smoothing_bins;
        faults.require(
            smoothing > 0.0 && smoothing <= 100.0,
            "model.histogram_smoothing_bins",
            smoothing,
            "must be above 0 and at most 100",
        );
        let gamma = self.histogram_gamma;
        faults.require(
            gamma == 0.0 || (0.01..=3.0).contains(&gamma),
            "model.histogram_gamma",
            gamma,
            "must be 0 or within 0.01..=3",
        );
        let readings = &self.likelihood;
        let must = "at least one reading is needed";
        faults.require(!readings.is_empty(), "model.likelihood", "[]", must);
        for (i, reading) in readings.iter().enumerate() {
            if readings[..i].contains(reading) {
                let what = format!("{reading:?} is named twice");
                faults.push(KeyFault::new("model.likelihood", what));
            }
        }
        faults.into_vec()
    }
}

/// The `[views]` section: how scoring hides fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsConfig {
    /// How the views are chosen.
    pub plan: MaskPlan,
    /// How many there are, where ratios and rounds do not say.
    pub scoring: Scoring,
    /// The standard deviation of the noise that the denoising view tells the model of, in those of the numbers, at most 10;
    /// 0: no such view. Only of a model that was trained with noise.
    pub denoising_level: f32,
    /// Mask ratios, each in (0, 1]; empty: those of `scoring`.
    pub ratios: Vec<f32>,
    /// Times that each field is hidden at each ratio, 1..=64; 0: as many as of `scoring`.
    pub rounds: usize,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        Self {
            plan: MaskPlan::Balanced,
            scoring: Scoring::Full,
            denoising_level: DEFAULT_DENOISING_LEVEL,
            ratios: Vec::new(),
            rounds: 0,
        }
    }
}

impl ViewsConfig {
    /// The mask ratios that views are drawn for.
    pub fn effective_ratios(&self) -> &[f32] {
        match self.ratios.is_empty() {
            true => self.scoring.ratios(),
            false => &self.ratios,
        }
    }

    /// How often each field is hidden at each of them.
    pub fn effective_rounds(&self) -> usize {
        match self.rounds {
            0 => self.scoring.rounds(),
            rounds => rounds,
        }
    }

    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut faults = KeyFaults::default();
        faults.range("views.rounds", self.rounds, 0, 64);
        let level = self.denoising_level;
        faults.require(
            level == 0.0 || (1e-3..=10.0).contains(&level),
            "views.denoising_level",
            level,
            "must be 0 or within 0.001..=10",
        );
        let count = self.ratios.len();
        if count > RATIOS_MAX {
            let what = format!("{count} ratios, at most {RATIOS_MAX} are taken");
            faults.push(KeyFault::new("views.ratios", what));
        }
        for &ratio in &self.ratios {
            if !(ratio > 0.0 && ratio <= 1.0) {
                let what = format!("{ratio} must be above 0 and at most 1");
                faults.push(KeyFault::new("views.ratios", what));
            }
        }
        faults.into_vec()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(ModelConfig::default().faults(), []);
        assert_eq!(ViewsConfig::default().faults(), []);
    }

    #[test]
    fn gamma_is_zero_or_neither_lost_in_rounding_nor_without_gradient() {
        let faults = |histogram_gamma| {
            let config = ModelConfig {
                histogram_gamma,
                ..ModelConfig::default()
            };
            config.faults().len()
        };
        assert_eq!([0.0, 0.01, 3.0].map(faults), [0; 3]);
        assert_eq!([0.009, 3.1, -1.0].map(faults), [1; 3]);
    }

    #[test]
    fn gamma_is_written_only_where_it_is_not_zero() {
        let mut config = ModelConfig::default();
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("gamma"), "{written}");
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&written).unwrap(),
            config
        );
        config.histogram_gamma = 0.5;
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&written).unwrap(),
            config
        );
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = ModelConfig {
            width: 0,
            dropout: f32::NAN,
            likelihood: vec![Likelihood::Gaussian, Likelihood::Gaussian],
            histogram_smoothing_bins: 0.0,
            histogram_gamma: f32::NAN,
            ..ModelConfig::default()
        };
        let faults = config.faults();
        assert_eq!(faults.len(), 5, "{faults:?}");
        let heads = |architecture| ModelConfig {
            architecture,
            width: 30,
            ..ModelConfig::default()
        };
        assert_eq!(heads(Architecture::Mlp).faults(), []);
        assert_eq!(
            heads(Architecture::Transformer).faults()[0].to_string(),
            "model.heads = 4: must divide model.width = 30"
        );
        let views = ViewsConfig {
            ratios: vec![0.0, 1.5],
            ..ViewsConfig::default()
        };
        assert_eq!(views.faults().len(), 2);
    }
}
