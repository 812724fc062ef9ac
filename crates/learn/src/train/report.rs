//! What training tells those who watch it.

use serde::{Deserialize, Serialize};

/// Where training stands after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps at most.
    pub steps: usize,
    /// Records seen, with repetition.
    pub rows: usize,
    /// Wall-clock seconds since the first step.
    pub seconds: f64,
    /// Loss of the step's batch, a hidden field, summed over readings: in nats, but for squared errors, which are in squared
    /// standard deviations, and a histogram of bounded loss, which has no unit.
    pub loss: f32,
    /// The latest held-out loss, in the same unit.
    pub held_out_loss: Option<f64>,
    /// Whether the held-out loss was measured after this step.
    pub is_evaluation: bool,
}

/// Who watches training: a progress bar, metrics, a test.
pub trait TrainObserver {
    /// Called after every step.
    fn progress(&mut self, progress: &Progress);

    /// Called when a stage before or after the steps begins, with a sentence for a person.
    fn stage(&mut self, _stage: &str) {}

    /// Called with a sentence for a person about what makes the training data worse than it looks.
    fn warning(&mut self, _warning: &str) {}

    /// Called before the first row is learned from, once it is known how many rows will rank the scores.
    fn calibration_rows(&mut self, _rows: u64) {}
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Unobserved;

impl TrainObserver for Unobserved {
    fn progress(&mut self, _progress: &Progress) {}
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Steps done.
    pub steps: usize,
    /// The step whose weights were kept, 0 for those that training started from.
    pub best_step: usize,
    /// Their held-out loss, in the unit of [`Progress::loss`].
    pub held_out_loss: f64,
    /// Records seen, with repetition.
    pub rows: usize,
    /// Trainable numbers.
    pub parameters: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}
