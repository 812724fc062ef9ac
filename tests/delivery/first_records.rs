//! The stream's first records beside those of the training: what is noticed, and that nothing is where they are alike.

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use maskwatch::FIRST_RECORDS;
use maskwatch::pipeline::first_records::FirstRecordsMonitor;
use maskwatch::records::Canonicaliser;
use maskwatch::score::AlertBudget;
use maskwatch::telemetry::Metrics;

use crate::segments::detectors;
use crate::stream::{config, facts};

/// The lines of the two metrics after the first records, each of which `change` has had a hand in.
fn noticed(change: impl Fn(RecordBatch) -> RecordBatch) -> Vec<String> {
    let (detector, _, payments) = detectors();
    let detector = Arc::new(detector);
    let metrics = Arc::new(Metrics::new().unwrap());
    let model = metrics.model(facts(detector.model_id(), &config("")));
    let budget = AlertBudget::new(0.01).unwrap();
    let monitor = FirstRecordsMonitor::new(Arc::clone(&detector), budget, model);
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
        monitor.observe(&batch, &scores, &alerts);
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
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    };
    let mut expected: Vec<String> = lost
        .map(|field| format!("maskwatch_field_absent{{field=\"{field}\",M}} 1"))
        .to_vec();
    expected.sort();
    expected.push("maskwatch_first_records_flooded{M} 1".to_owned());
    assert_eq!(noticed(without), expected);
}
