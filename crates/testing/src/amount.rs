//! A stand-in for a model that is easy to follow: the score of a record is its amount, the p-value the reciprocal of that.
//!
//! Canonical records of [`SCHEMA`] flow in, scores and reasons flow out.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use maskwatch_core::score::{Assessment, Expected, Explain, Reason, Scores};
use serde_json::json;

/// `amount` is the one feature, `id` the key.
pub const SCHEMA: &str = r#"
    [[field]]
    name = "amount"
    kind = "numeric"
    nullable = false
    [[field]]
    name = "id"
    kind = "categorical"
    role = "key"
"#;

/// Scores B records by their amounts: 1,000 and more are alerts at a budget of 0.001. Who gets reasons gets one.
///
/// # Panics
/// Records without amounts.
pub fn assess(batch: &RecordBatch, explain: Explain) -> Assessment {
    let amounts = batch.column_by_name("amount").expect("the schema's field");
    let amounts = amounts.as_primitive::<Float64Type>().values();
    let p_value: Vec<f64> = amounts.iter().map(|amount| 1.0 / amount.max(1.0)).collect();
    let reason = Reason {
        field: "amount".to_owned(),
        surprise: 1.0,
        p_value: 0.5,
        observed: json!(1),
        expected: Expected::Interval {
            value: json!(1),
            low: json!(0),
            high: json!(2),
        },
        contribution: None,
    };
    let reasons = |&p_value: &f64| vec![reason.clone(); explain.reasons_max(p_value).min(1)];
    Assessment {
        reasons: p_value.iter().map(reasons).collect(),
        scores: Scores {
            anomaly_score: amounts.iter().map(|amount| *amount as f32).collect(),
            p_value,
            field_surprise: amounts.iter().map(|amount| *amount as f32).collect(),
            in_full: batch.num_rows(),
            parts: None,
        },
    }
}
