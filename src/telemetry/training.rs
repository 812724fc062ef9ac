//! Training as metrics: the `train_*` gauges follow the steps and vanish when training ends.

use super::metrics::{Metrics, TrainProgress};
use crate::train::{Progress, TrainObserver};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two log lines at least.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Watches a training for `/metrics` and the log. The gauges vanish when it is dropped.
pub struct TrainingGauges {
    metrics: Arc<Metrics>,
    last_line: Option<Instant>,
}

impl TrainingGauges {
    /// Gauges of a training that is about to begin.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            last_line: None,
        }
    }
}

impl TrainObserver for TrainingGauges {
    fn progress(&mut self, progress: &Progress) {
        let rows_per_second = progress.rows as f64 / progress.seconds.max(1e-9);
        self.metrics.train_progress(&TrainProgress {
            step: progress.step as u64,
            steps: progress.steps as u64,
            loss: f64::from(progress.loss),
            held_out_loss: progress.held_out_loss,
            rows_per_second,
        });
        if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            let Progress {
                step,
                steps,
                loss,
                held_out_loss,
                ..
            } = *progress;
            tracing::info!(
                step,
                steps,
                loss,
                ?held_out_loss,
                rows_per_second,
                "training"
            );
        }
    }

    fn stage(&mut self, stage: &str) {
        tracing::info!("{stage}");
    }

    fn warning(&mut self, warning: &str) {
        tracing::warn!("{warning}");
    }

    fn calibration_rows(&mut self, rows: u64) {
        tracing::info!(calibration_rows = rows, "rows divided");
    }
}

impl Drop for TrainingGauges {
    fn drop(&mut self) {
        self.metrics.train_finished();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_gauges_follow_training_and_vanish_with_it() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut gauges = TrainingGauges::new(Arc::clone(&metrics));
        gauges.progress(&Progress {
            step: 3,
            steps: 10,
            rows: 768,
            seconds: 2.0,
            loss: 1.5,
            held_out_loss: None,
            is_evaluation: false,
        });
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("maskwatch_train_rows_per_second 384")
        );
        drop(gauges);
        assert!(
            !metrics
                .encode()
                .unwrap()
                .contains("maskwatch_train_rows_per_second ")
        );
    }
}
