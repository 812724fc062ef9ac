//! The `[training]` section: how the model is fitted, checked before anything runs.

use crate::model::ObjectiveKind;
use crate::toml_file::{KeyFault, KeyFaults};
use serde::{Deserialize, Serialize};

/// Optimiser steps at most; early stopping usually ends sooner on small data.
pub const DEFAULT_STEPS: usize = 2500;
/// Records a step.
pub const DEFAULT_BATCH_ROWS: usize = 256;
/// Peak learning rate.
pub const DEFAULT_LEARNING_RATE: f32 = 1e-3;
/// Steps over which the learning rate rises from zero.
pub const DEFAULT_WARMUP_STEPS: usize = 50;
/// Steps between two evaluations of the held-out loss.
pub const DEFAULT_EVALUATE_EVERY_STEPS: usize = 250;
/// Evaluations without a better held-out loss after which training ends.
pub const DEFAULT_PATIENCE: usize = 4;
/// Reference rows on which the held-out loss is measured at most: its noise is then below what a step changes.
pub const DEFAULT_HELD_OUT_ROWS_MAX: usize = 4096;
/// Share of category codes that training replaces by `unknown`.
pub const DEFAULT_UNKNOWN_SHARE: f32 = 0.01;
/// Weight of the divergence in the loss of a variational autoencoder: 1 is the bound of the likelihood itself.
pub const DEFAULT_KL_WEIGHT: f32 = 1.0;

/// Share of the fit rows that counts as too unusual: none. Where the training data is clean, what is left
/// out are rare normal records, which then look like frauds: 2 % cost 9 points of average precision on card data
/// (`docs/notebook`).
pub const DEFAULT_TRIM: f32 = 0.0;
/// Decay a step of the weights' running average: the schedule ends at a rate of zero, which averages well enough.
pub const DEFAULT_AVERAGE_DECAY: f32 = 0.0;
/// Largest share of bad rows that training leaves out.
pub const SKIP_BAD_ROWS_MAX: f64 = 0.1;
/// Share of a batch's rows whose numbers carry noise instead of being hidden.
pub const DEFAULT_NOISED_SHARE: f32 = 0.5;
/// Smallest and largest standard deviation of that noise, in those of the numbers.
pub const DEFAULT_NOISE: [f32; 2] = [0.05, 2.5];
/// Share of visible values that training swaps with other rows.
pub const DEFAULT_SWAP_NOISE: f32 = 0.0;

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    Adamw,
    /// Adam (Kingma & Ba 2015), weight decay as a part of the gradient.
    Adam,
    /// Gradient descent with a momentum of 0.9, weight decay as a part of the gradient.
    Sgd,
}

/// How the model is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// What the model learns to do.
    pub objective: ObjectiveKind,
    /// Optimiser steps at most, 1..=10,000,000.
    pub steps: usize,
    /// Records a step, 1..=65,536.
    pub batch_rows: usize,
    /// Which optimiser.
    pub optimizer: OptimizerKind,
    /// Peak learning rate, > 0.
    pub learning_rate: f32,
    /// Steps of linear warm-up before the cosine decay to zero.
    pub warmup_steps: usize,
    /// Decoupled for AdamW, a part of the gradient for Adam and SGD; >= 0.
    pub weight_decay: f32,
    /// Norm above which the gradient is scaled down, > 0.
    pub gradient_norm_max: f32,
    /// Smallest and largest mask ratio, 0 <= min <= max <= 1, max > 0; only of the objective `masked`.
    pub mask_ratio: [f32; 2],
    /// Share of a batch's rows whose numbers are all visible and carry noise, while the others are masked, where all fields are
    /// numbers; less by how far they outnumber other fields. 0 <= share < 1; only of a model that denoises.
    pub noised_share: f32,
    /// Smallest and largest standard deviation of that noise, 0 < min <= max <= 100, in those of the numbers; a row's own is
    /// drawn evenly in the logarithm.
    pub noise: [f32; 2],
    /// beta: weight of the divergence beside the losses of the fields (Higgins et al. 2017), 0..=1,000; only of the
    /// objective `variational`.
    pub kl_weight: f32,
    /// Share of category codes replaced by `unknown`, 0 <= share < 1.
    pub unknown_share: f32,
    /// Share of visible values replaced by the same field's value of another fit row, 0 <= share < 1.
    pub swap_noise: f32,
    /// Steps between two evaluations of the held-out loss, >= 1.
    pub evaluate_every_steps: usize,
    /// Evaluations without a better held-out loss after which training ends, >= 1.
    pub patience: usize,
    /// Reference rows of the held-out loss at most, >= 1.
    pub held_out_rows_max: usize,
    /// Share of the fit rows that counts as too unusual, 0 <= share <= 0.5: training leaves nine in ten of them out.
    pub trim: f32,
    /// Decay a step of the running average of the weights, which is what is looked at and kept; 0 <= decay < 1, 0 keeps
    /// the weights themselves.
    pub average_decay: f32,
    /// Share of all rows that may be bad and are then left out, 0 <= share <= 0.1; 0: the first bad row ends training.
    /// Written only where it is not 0, so that bundles of clean data are what they were.
    #[serde(skip_serializing_if = "is_zero")]
    pub skip_bad_rows: f64,
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            objective: ObjectiveKind::Masked,
            steps: DEFAULT_STEPS,
            batch_rows: DEFAULT_BATCH_ROWS,
            optimizer: OptimizerKind::Adamw,
            learning_rate: DEFAULT_LEARNING_RATE,
            warmup_steps: DEFAULT_WARMUP_STEPS,
            weight_decay: 1e-4,
            gradient_norm_max: 1.0,
            mask_ratio: [0.0, 1.0],
            noised_share: DEFAULT_NOISED_SHARE,
            noise: DEFAULT_NOISE,
            kl_weight: DEFAULT_KL_WEIGHT,
            unknown_share: DEFAULT_UNKNOWN_SHARE,
            swap_noise: DEFAULT_SWAP_NOISE,
            evaluate_every_steps: DEFAULT_EVALUATE_EVERY_STEPS,
            patience: DEFAULT_PATIENCE,
            held_out_rows_max: DEFAULT_HELD_OUT_ROWS_MAX,
            trim: DEFAULT_TRIM,
            average_decay: DEFAULT_AVERAGE_DECAY,
            skip_bad_rows: 0.0,
        }
    }
}

impl TrainingConfig {
    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut faults = KeyFaults::default();
        let mut range = |key: &str, value, max| {
            faults.range(&format!("training.{key}"), value, 1, max);
        };
        range("steps", self.steps, 10_000_000);
        range("batch_rows", self.batch_rows, 65_536);
        range(
            "evaluate_every_steps",
            self.evaluate_every_steps,
            usize::MAX,
        );
        range("patience", self.patience, usize::MAX);
        range("held_out_rows_max", self.held_out_rows_max, 1_000_000);
        let mut number = |key: &str, value: f32, holds: bool, must: &str| {
            faults.require(holds, &format!("training.{key}"), value, must);
        };
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("gradient_norm_max", self.gradient_norm_max),
        ] {
            let holds = value > 0.0 && value.is_finite();
            number(key, value, holds, "must be above 0 and finite");
        }
        for (key, value, max) in [
            ("kl_weight", self.kl_weight, 1000.0),
            ("trim", self.trim, 0.5),
        ] {
            let must = format!("must be within 0..={max}");
            number(key, value, (0.0..=max).contains(&value), &must);
        }
        for (key, value) in [
            ("weight_decay", self.weight_decay),
            ("unknown_share", self.unknown_share),
            ("swap_noise", self.swap_noise),
            ("noised_share", self.noised_share),
            ("average_decay", self.average_decay),
        ] {
            let holds = (0.0..1.0).contains(&value);
            number(key, value, holds, "must be at least 0 and below 1");
        }
        let (skipped, max) = (self.skip_bad_rows, SKIP_BAD_ROWS_MAX);
        faults.require(
            (0.0..=max).contains(&skipped),
            "training.skip_bad_rows",
            skipped,
            &format!("must be within 0..={max}"),
        );
        let [min, max] = self.noise;
        faults.require(
            min > 0.0 && min <= max && max <= 100.0,
            "training.noise",
            format!("[{min}, {max}]"),
            "must be 0 < min <= max <= 100",
        );
        let [min, max] = self.mask_ratio;
        faults.require(
            min >= 0.0 && min <= max && max > 0.0 && max <= 1.0,
            "training.mask_ratio",
            format!("[{min}, {max}]"),
            "must be 0 <= min <= max <= 1 and max > 0",
        );
        faults.into_vec()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_come_together() {
        assert_eq!(TrainingConfig::default().faults(), []);
        let wrong = TrainingConfig {
            steps: 0,
            learning_rate: f32::NAN,
            mask_ratio: [0.5, 0.1],
            kl_weight: f32::NAN,
            swap_noise: 1.0,
            ..TrainingConfig::default()
        };
        assert_eq!(wrong.faults().len(), 5);
    }
}
