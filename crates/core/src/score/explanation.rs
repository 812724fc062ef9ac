//! Why a record is unusual: its most surprising fields, what they held and what was expected of them.

use super::calibration::ReferenceTables;
use super::joint::JointPValue;
use super::labelled::Labelled;
use super::predictive::{expected, expects_null};
use super::supervised::Supervised;
use super::surprise::{SurpriseModel, Surprises, Tile};
use super::types::{Expected, Explain, Reason};
use crate::encode::Records;
use crate::records::{moment_to_text, number_to_json};
use crate::schema::Schema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use candle_core::Result;
use serde_json::Value;

/// A field is a reason if at most this share of the reference records has it as surprising: of ordinary fields one in twenty.
pub const REASON_P_VALUE_MAX: f64 = 0.05;
/// A field is a reason of the trees if it adds at least this much to the log-odds: a tenth more odds.
const CONTRIBUTION_MIN: f64 = 0.1;
/// Bytes of an observed text that an explanation shows.
pub const OBSERVED_BYTES_MAX: usize = 256;
/// What stands for the value of a field with `redact`.
pub const REDACTED: &str = "***";

/// Says why records of a batch are unusual, while the pass that scored them can still be asked.
pub(super) struct Explainer<'a> {
    pub model: &'a SurpriseModel,
    pub reference: &'a ReferenceTables,
    /// The detector that labels made, if they did.
    pub labelled: Option<&'a Labelled>,
    /// Says which fields are redacted.
    pub schema: &'a Schema,
    /// The canonical batch that the records were encoded from.
    pub batch: &'a RecordBatch,
    pub explain: Explain,
}

impl Explainer<'_> {
    /// Whether reasons are asked of a record with this p-value.
    pub fn asks(&self, p_value: f64) -> bool {
        self.explain.reasons_max(p_value) > 0
    }

    /// The fields of a record that stand out, the most unusual first; none where none are asked of a record with this p-value.
    /// The record is number `t` of the tile, in all views, and `row` of the batch. A field stands out if its
    /// p-value is at most [`REASON_P_VALUE_MAX`] and it does not hold what was expected of it. Where no field does, the
    /// list is empty: the record is ordinary, or unusual only as a whole.
    ///
    /// Where boosted trees find the record the more unusual, the fields that speak most for that come first, whether they
    /// stand out or not, with what they add. `parts` are the p-values of both detectors, and the tile's records.
    ///
    /// A value may be rare and expected at once: where the model is less sure than usual, what is likeliest still costs
    /// more than usual. It explains nothing to a person, who reads value and expectation side by side.
    ///
    /// # Errors
    /// If candle fails.
    pub fn reasons(
        &self,
        tile: &mut Tile<'_>,
        (t, row): (usize, usize),
        p_value: f64,
        parts: Option<(JointPValue, &Records)>,
    ) -> Result<Vec<Reason>> {
        let reasons_max = self.explain.reasons_max(p_value);
        let mut reasons: Vec<Reason> = Vec::new();
        if reasons_max == 0 {
            return Ok(reasons);
        }
        let ranked = self.unusual_fields(&tile.surprises, t);
        let telling = parts.map_or_else(Vec::new, |(parts, records)| {
            self.telling_fields(&tile.surprises, records, t, parts)
        });
        let contribution = |field: usize| {
            let of = telling.iter().find(|(telling, _)| *telling == field);
            of.map(|&(_, contribution)| contribution as f32)
        };
        let reference = self.reference;
        let p_value_of = |field| reference.field_p_value(&tile.surprises, t, field);
        let first: Vec<(usize, f64)> = telling.iter().map(|&(f, _)| (f, p_value_of(f))).collect();
        let others = ranked.into_iter();
        let others = others.filter(|&(field, _)| contribution(field).is_none());
        for (field, p_value) in first.into_iter().chain(others) {
            if reasons.len() == reasons_max {
                break;
            }
            let views = tile.logits(t, field)?;
            let surprise = tile.surprises.field(t, field, 0);
            let mut reason = self.reason((row, field), &views, surprise, p_value);
            reason.contribution = contribution(field);
            let head = self.model.model().heads().field(field);
            let stands_out = || !holds_the_expected(&reason) || expects_null(head, &views);
            if reason.contribution.is_some() || stands_out() {
                reasons.push(reason);
            }
        }
        Ok(reasons)
    }

    /// The predicted fields for which the trees hold a record to be like labelled frauds, with what each adds to the log-odds (> 0),
    /// the most telling first. None where the detector without labels finds the record the more unusual, or there are no
    /// trees.
    fn telling_fields(
        &self,
        surprises: &Surprises,
        records: &Records,
        row: usize,
        parts: JointPValue,
    ) -> Vec<(usize, f64)> {
        let labelled = self.labelled.map(|of| (of, of.detector()));
        let Some((labelled, Supervised::Trees(trees))) = labelled else {
            return Vec::new();
        };
        if !labelled.share().leads(parts) {
            return Vec::new();
        }
        let mut inputs = Vec::new();
        let of = (self.reference, surprises);
        labelled.inputs().write(of, records, row, &mut inputs);
        let mut sums = vec![0.0; surprises.axes().fields];
        for (input, contribution) in trees.contributions(&inputs).into_iter().enumerate() {
            if let Some(field) = labelled.inputs().field(input) {
                sums[field] += contribution;
            }
        }
        let mut telling: Vec<(usize, f64)> = sums.into_iter().enumerate().collect();
        // Trees may read the context, of which no value is a reason.
        telling.retain(|&(field, sum)| sum >= CONTRIBUTION_MIN && surprises.is_predicted(field));
        telling.sort_by(|a, b| b.1.total_cmp(&a.1));
        telling
    }

    /// The fields of a record that are rare for themselves, with their p-values, the most unusual first.
    fn unusual_fields(&self, surprises: &Surprises, row: usize) -> Vec<(usize, f64)> {
        let reference = self.reference;
        let fields = (0..surprises.axes().fields).filter(|&field| surprises.is_predicted(field));
        let mut ranked: Vec<(usize, f64, f32)> = fields
            .map(|field| {
                let p_value = reference.field_p_value(surprises, row, field);
                let surprisal = reference.field_surprisal(surprises, row, field);
                (field, p_value, surprisal)
            })
            .filter(|&(_, p_value, _)| p_value <= REASON_P_VALUE_MAX)
            .collect();
        // By surprisal: it goes on where the p-value has come to its least.
        ranked.sort_by(|a, b| b.2.total_cmp(&a.2));
        ranked
            .into_iter()
            .map(|(field, p_value, _)| (field, p_value))
            .collect()
    }

    fn reason(
        &self,
        (row, field): (usize, usize),
        views: &[Vec<f32>],
        surprise: f32,
        p_value: f64,
    ) -> Reason {
        let encoder = &self.model.encoder().fields()[field];
        let of_schema = self.schema.features().nth(field);
        let redact = of_schema.is_some_and(|field| field.redact);
        let (observed, expected) = if redact {
            (Value::from(REDACTED), Expected::Redacted(REDACTED))
        } else {
            let head = self.model.model().heads().field(field);
            let residuals = self.reference.reading(field, 0);
            (
                observed(self.batch, row, &encoder.name),
                expected(encoder, head, views, residuals),
            )
        };
        Reason {
            field: encoder.name.clone(),
            surprise,
            p_value,
            observed,
            expected,
            contribution: None,
        }
    }
}

/// Whether the value is what the reason says was expected: a number within the interval, or the likeliest category. Of
/// moments and of what is redacted nobody can say.
fn holds_the_expected(reason: &Reason) -> bool {
    match &reason.expected {
        Expected::Interval { low, high, .. } => {
            let [low, found, high] = [low, &reason.observed, high].map(Value::as_f64);
            low.zip(high)
                .zip(found)
                .is_some_and(|((low, high), found)| (low..=high).contains(&found))
        }
        Expected::Categories { categories } => {
            let likeliest = categories.first().map(|category| category.value.as_str());
            match &reason.observed {
                Value::String(text) => likeliest == Some(text),
                Value::Bool(truth) => likeliest == Some(if *truth { "true" } else { "false" }),
                Value::Number(number) => {
                    likeliest.and_then(|text| text.parse::<f64>().ok()) == number.as_f64()
                }
                _ => false,
            }
        }
        Expected::Redacted(_) => false,
    }
}

/// The value of a field of a record as JSON: numbers and booleans as such, moments as RFC 3339, text cut.
fn observed(batch: &RecordBatch, row: usize, name: &str) -> Value {
    let Some(column) = batch.column_by_name(name) else {
        return Value::Null;
    };
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Float64 => number_to_json(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Value::from(column.as_boolean().value(row)),
        DataType::Utf8 => Value::from(cut(column.as_string::<i32>().value(row))),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            moment_to_text(micros).map_or(Value::Null, Value::from)
        }
        _ => Value::Null,
    }
}

/// The longest beginning of at most [`OBSERVED_BYTES_MAX`] bytes that is text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(OBSERVED_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::super::types::Category;
    use super::*;
    use serde_json::json;

    fn reason(observed: Value, expected: Expected) -> Reason {
        Reason {
            field: "f".to_owned(),
            surprise: 9.0,
            p_value: 0.0006,
            observed,
            expected,
            contribution: None,
        }
    }

    #[test]
    fn a_value_that_was_expected_is_no_reason_however_unsure_the_model_was() {
        let interval = |observed| {
            let expected = Expected::Interval {
                value: json!(10.37),
                low: json!(2.155_73),
                high: json!(1_653.09),
            };
            holds_the_expected(&reason(observed, expected))
        };
        assert!(interval(json!(76.3)));
        for outside in [json!(2.0), json!(1_654), Value::Null] {
            assert!(!interval(outside.clone()), "{outside}");
        }
        let categories = |observed, likeliest: &str| {
            let category = |value: &str, probability| Category {
                value: value.to_owned(),
                probability,
            };
            let categories = vec![category(likeliest, 0.91), category("other", 0.09)];
            holds_the_expected(&reason(observed, Expected::Categories { categories }))
        };
        assert!(categories(json!("online"), "online"));
        assert!(categories(json!(true), "true"));
        assert!(categories(json!(2.5), "2.5"));
        for (found, likeliest) in [
            (json!("other"), "online"),
            (json!(false), "true"),
            (json!(0), "2.5"),
            (Value::Null, "online"),
        ] {
            assert!(!categories(found.clone(), likeliest), "{found}");
        }
        let redacted = reason(json!(REDACTED), Expected::Redacted(REDACTED));
        assert!(!holds_the_expected(&redacted));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(200);
        assert_eq!(cut(&text).len(), 256);
        let text = format!("a{text}");
        assert_eq!(cut(&text).len(), 255);
        assert_eq!(cut("short"), "short");
    }
}
