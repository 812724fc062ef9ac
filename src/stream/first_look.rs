//! The first records of the stream beside the training's: what is noticed becomes one warning and a metric.
//!
//! In flow scored batches of any scoring thread, out flow log lines and two gauges, once a pipeline.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tracing::{info, warn};

use crate::score::{AlertBudget, Scores};
use crate::telemetry::ModelMetrics;
use crate::{Detector, FirstRecords};

/// Looks at the first records; shared by the scoring threads.
pub struct FirstLook {
    detector: Arc<Detector>,
    records: FirstRecords,
    metrics: Arc<ModelMetrics>,
}

impl FirstLook {
    /// A look at the first records that `detector` scores under `budget`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::new_null_array;

    use super::super::promises::{config, facts};
    use super::super::segments::detectors;
    use super::*;
    use crate::FIRST_RECORDS;
    use crate::records::Canonicaliser;
    use crate::telemetry::Metrics;

    /// The lines of the two metrics after the first records, each of which `change` has had a hand in.
    fn noticed(change: impl Fn(RecordBatch) -> RecordBatch) -> Vec<String> {
        let (detector, _, payments) = detectors();
        let detector = Arc::new(detector);
        let metrics = Arc::new(Metrics::new().unwrap());
        let model = metrics.model(facts(detector.model_id(), &config("")));
        let budget = AlertBudget::new(0.01).unwrap();
        let look = FirstLook::new(Arc::clone(&detector), budget, model);
        let schema = detector.schema();
        let canonicaliser = Canonicaliser::new(schema, &payments.schema(), "payments").unwrap();
        let batch = change(canonicaliser.canonicalise(&payments).unwrap().batch);
        let scores = detector.score(&batch).unwrap();
        let alerts: Vec<bool> = scores.p_value.iter().map(|&p| budget.is_alert(p)).collect();
        let mut seen = 0;
        while seen < FIRST_RECORDS {
            let told = metrics.encode().unwrap();
            assert!(
                !told.contains("\nmaskwatch_first_records_flooded{"),
                "{told}"
            );
            look.observe(&batch, &scores, &alerts);
            seen += batch.num_rows();
        }
        let told = metrics.encode().unwrap();
        let named = ["maskwatch_first_records_flooded", "maskwatch_field_absent"];
        let lines = told
            .lines()
            .filter(|l| named.iter().any(|n| l.starts_with(n)));
        let model = format!("model_id=\"{}\"", detector.model_id());
        lines.map(|line| line.replace(&model, "M")).collect()
    }

    #[test]
    fn a_stream_like_the_training_is_no_news() {
        assert_eq!(
            noticed(|batch| batch),
            ["maskwatch_first_records_flooded{M} 0"]
        );
    }

    #[test]
    fn fields_that_never_come_are_a_metric_each_and_their_alerts_a_flood() {
        let lost = [
            "entry_mode",
            "new_terminal",
            "profile_age_days",
            "merchant_category",
        ];
        let without = |batch: RecordBatch| {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, column)| {
                let column = match lost.contains(&field.name().as_str()) {
                    true => new_null_array(field.data_type(), batch.num_rows()),
                    false => Arc::clone(column),
                };
                (field.name().clone(), column)
            });
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true)))
                .unwrap()
        };
        let mut expected: Vec<String> = lost
            .map(|field| format!("maskwatch_field_absent{{field=\"{field}\",M}} 1"))
            .to_vec();
        expected.sort();
        expected.push("maskwatch_first_records_flooded{M} 1".to_owned());
        assert_eq!(noticed(without), expected);
    }
}
