//! The first records of the stream beside the training's: what is noticed becomes one warning and a metric.
//!
//! In flow scored batches of any scoring thread, out flow log lines and two gauges, once a pipeline.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tracing::{info, warn};

use crate::score::{AlertBudget, Scores};
use crate::telemetry::ModelMetrics;
use crate::{Detector, FirstRecords};

/// Compares the first records with the training; shared by the scoring threads.
pub struct FirstRecordsMonitor {
    detector: Arc<Detector>,
    records: FirstRecords,
    metrics: Arc<ModelMetrics>,
}

impl FirstRecordsMonitor {
    /// A monitor of the first records that `detector` scores under `budget`.
    pub fn new(detector: Arc<Detector>, budget: AlertBudget, metrics: Arc<ModelMetrics>) -> Self {
        Self {
            records: FirstRecords::new(&detector, budget),
            detector,
            metrics,
        }
    }

    /// Takes in B good records of the stream with their scores and alerts, `[B]`.
    pub fn observe(&self, batch: &RecordBatch, scores: &Scores, alerts: &[bool]) {
        let Some(opening) = self.records.observe(&self.detector, batch, scores, alerts) else {
            return;
        };
        let absent = opening.absent.iter().map(|(field, _)| field.as_str());
        self.metrics.first_records(opening.is_flooded(), absent);
        for line in opening.warnings() {
            warn!("{line}");
        }
        if opening.excess.is_none() {
            info!("{}", opening.headline());
        }
    }
}
