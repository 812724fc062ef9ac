//! Moments that no record of the training is near: the unit of an integer is wrong, or the clock of the writer.
//!
//! Canonical batches flow in, one `wrong_type` fault a bad row flows out. The model would score such a moment by its hour
//! and weekday alone, so nothing else would tell. Batch, stream and HTTP all ask here, so that a record has one fate.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use super::encoder::{Encoder, ValueEncoder};
use super::temporal::{SeenMoments, TrainedMoments};
use crate::records::{FaultReason, RowFault, first_of_each_row};
use crate::schema::{Field, Schema, TimeUnit, YEARS_MAX, microseconds, moment_to_text};

/// How many whole units lie between 1970-01-01T00:00:00Z and a moment.
fn count_of(micros: i64, unit: TimeUnit) -> i128 {
    let micros = i128::from(micros);
    match unit {
        TimeUnit::Days => micros.div_euclid(86_400_000_000),
        TimeUnit::S => micros.div_euclid(1_000_000),
        TimeUnit::Ms => micros.div_euclid(1_000),
        TimeUnit::Us => micros,
        TimeUnit::Ns => micros * 1_000,
    }
}

impl Encoder {
    /// The rows of a canonical batch of `schema` with a moment in a feature, or in the record's own time, that is more than
    /// 20 years away from every one of the training; ascending, one fault a row. `time` is what training saw of the
    /// record's time, if that much is known.
    pub fn moment_faults(
        &self,
        batch: &RecordBatch,
        schema: &Schema,
        time: Option<&TrainedMoments>,
    ) -> Vec<RowFault> {
        let mut faults = Vec::new();
        for (field, encoder) in schema.features().zip(self.fields()) {
            if let ValueEncoder::Timestamp { moments, .. } = &encoder.value {
                faults_of(field, moments, batch, &mut faults);
            }
        }
        if let (Some(field), Some(moments)) = (schema.time(), time) {
            faults_of(field, moments, batch, &mut faults);
        }
        first_of_each_row(faults)
    }
}

fn faults_of(
    field: &Field,
    trained: &TrainedMoments,
    batch: &RecordBatch,
    faults: &mut Vec<RowFault>,
) {
    let column = batch.column_by_name(&field.name);
    let moments = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    // A batch without the column is not canonical: encoding says so.
    let Some(moments) = moments else { return };
    let far = |&row: &usize| moments.is_valid(row) && !trained.seen.is_near(moments.value(row));
    let rows = (0..moments.len()).filter(far);
    faults.extend(rows.map(|row| RowFault {
        row,
        reason: FaultReason::WrongType,
        detail: detail(field, trained, moments.value(row)),
    }));
}

/// What was expected and found, with the unit as the likely cause.
fn detail(field: &Field, trained: &TrainedMoments, micros: i64) -> String {
    let seen = &trained.seen;
    let text = |micros| moment_to_text(micros).unwrap_or_else(|| "no moment".to_owned());
    let of_training = match seen.bounds() {
        Some((first, last)) if !field.redact => {
            format!("the training's, {} to {}", text(first), text(last))
        }
        _ => "the training's".to_owned(),
    };
    let found = match field.redact {
        true => "***".to_owned(),
        false => text(micros),
    };
    let left_out = trained.left_out.iter().find(|group| group.is_near(micros));
    let cause = match left_out {
        Some(group) => format!(
            "training had {} like it and left them out: if it means \"missing\", name it in `null_values`",
            match group.rows {
                1 => "a row".to_owned(),
                rows => format!("{rows} rows"),
            }
        ),
        None => cause(field, seen, micros),
    };
    format!(
        "field `{}`: expected a moment at most {YEARS_MAX} years from {of_training}, found {found}; {cause}",
        field.name,
    )
}

/// Names the unit in which the same integer would be a moment of the training's years.
fn cause(field: &Field, seen: &SeenMoments, micros: i64) -> String {
    let Some(unit) = field.unit else {
        return "the unit of the writer's type is the likely cause".to_owned();
    };
    let count = count_of(micros, unit);
    let fits = |other: &TimeUnit| {
        *other != unit && microseconds(count, *other).is_some_and(|micros| seen.is_near(micros))
    };
    match TimeUnit::ALL.into_iter().find(fits) {
        Some(other) => format!(
            "the unit is the likely cause: an integer of `{}` that was read as `{}`",
            other.as_str(),
            unit.as_str()
        ),
        None => format!(
            "the unit is the likely cause: an integer is read as `{}`",
            unit.as_str()
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::encode::EncoderFitter;
    use crate::records::{DecodeLimits, JsonDecoder};
    use crate::schema::MomentTally;

    fn schema(keys: &str) -> Schema {
        let text = format!(
            "[[field]]\nname='at'\nkind='timestamp'\n{keys}\n[[field]]\nname='x'\nkind='numeric'"
        );
        Schema::parse(&text, "test").unwrap()
    }

    fn batch(schema: &Schema, moments: &[&str]) -> RecordBatch {
        let texts: Vec<String> = moments
            .iter()
            .map(|at| format!("{{\"at\": {at}, \"x\": 1}}"))
            .collect();
        let payloads: Vec<_> = texts.iter().map(|text| Some(text.as_bytes())).collect();
        let decoded = JsonDecoder::new(schema, DecodeLimits::default())
            .decode(&payloads)
            .unwrap();
        assert_eq!(decoded.faults, []);
        decoded.batch
    }

    /// The faults of `moments` for an encoder that has seen January 2026.
    fn faults(keys: &str, moments: &[&str]) -> Vec<(usize, String)> {
        let training = schema("");
        let moments_of_training = ["\"2026-01-01T00:00:00Z\"", "\"2026-01-31T00:00:00Z\""];
        let mut fitter = EncoderFitter::new(training.features(), 16).unwrap();
        fitter
            .observe(&batch(&training, &moments_of_training))
            .unwrap();
        let encoder = fitter.finish().unwrap();
        let schema = schema(keys);
        let faults = encoder.moment_faults(&batch(&schema, moments), &schema, None);
        assert!(
            faults
                .iter()
                .all(|fault| fault.reason == FaultReason::WrongType)
        );
        faults
            .into_iter()
            .map(|fault| (fault.row, fault.detail))
            .collect()
    }

    #[test]
    fn a_moment_in_another_unit_names_the_unit_as_the_likely_cause() {
        for (keys, moment, cause) in [
            ("unit='ms'", "1767600000", "`s` that was read as `ms`"),
            ("unit='ms'", "20458", "`days` that was read as `ms`"),
            ("unit='us'", "1767600000000", "`ms` that was read as `us`"),
            (
                "unit='ns'",
                "1767600000000000",
                "`us` that was read as `ns`",
            ),
            ("unit='ms'", "0", "an integer is read as `ms`"),
            ("", "\"1970-01-01\"", "the unit of the writer's type"),
        ] {
            let found = faults(keys, &["\"2026-02-01\"", moment, "null"]);
            assert_eq!(found.len(), 1, "{keys} {moment}");
            let (row, detail) = &found[0];
            assert_eq!(*row, 1);
            assert!(detail.contains(cause), "{detail}");
            assert!(
                detail.starts_with(
                    "field `at`: expected a moment at most 20 years from the training's, \
                     2026-01-01T00:00:00Z to 2026-01-31T00:00:00Z, found 1970-01-"
                ),
                "{detail}"
            );
        }
    }

    #[test]
    fn later_years_of_the_same_stream_are_no_fault() {
        let moments = ["\"2006-01-02\"", "\"2046-01-01\"", "null"];
        assert_eq!(faults("", &moments), []);
        assert_eq!(faults("", &["\"2005-12-01\"", "\"2046-03-01\""]).len(), 2);
    }

    #[test]
    fn a_lone_moment_of_the_training_vouches_for_none_and_is_null_there() {
        let schema = schema("");
        let mut moments = vec!["\"2026-01-05T10:00:00Z\""; 99];
        moments.push("\"1970-01-01\"");
        let training = batch(&schema, &moments);
        let mut fitter = EncoderFitter::new(schema.features(), 16).unwrap();
        // All rows are shown, and those of the fit part once more.
        fitter.observe_moments(&training).unwrap();
        fitter.observe(&training).unwrap();
        let warnings = fitter.blinded();
        let expected = "field `at`: 1 row has a moment more than 20 years from all others (1970-01-01T00:00:00Z), of 100; \
                        training reads it as null, and refuses later records with one; correct them, or set \
                        `null_values = [\"1970-01-01T00:00:00Z\"]` if it means \"missing\"";
        assert_eq!(warnings, [expected]);
        let encoder = fitter.finish().unwrap();
        let at = &encoder.fields()[0];
        assert_eq!((at.rows, at.nulls), (100, 1));
        assert_eq!(encoder.faults(&schema), Vec::<String>::new());
        let stored = serde_json::to_string(&encoder).unwrap();
        assert_eq!(serde_json::from_str::<Encoder>(&stored).unwrap(), encoder);
        let records = encoder.encode(&training).unwrap();
        assert_eq!(records.present(98), [true, true]);
        assert_eq!(records.present(99), [false, true]);
        let faults = encoder.moment_faults(&training, &schema, None);
        let [fault] = faults.as_slice() else {
            panic!("{faults:?}")
        };
        assert_eq!((fault.row, fault.reason), (99, FaultReason::WrongType));
        assert!(
            fault
                .detail
                .contains("training had a row like it and left them out"),
            "{}",
            fault.detail
        );
    }

    #[test]
    fn the_time_of_a_record_is_checked_though_no_feature_shows_it() {
        let text = "[[field]]\nname='at'\nrole='time'\nkind='timestamp'\nunit='ms'\n\
                    [[field]]\nname='x'\nkind='numeric'";
        let schema = Schema::parse(text, "test").unwrap();
        let mut fitter = EncoderFitter::new(schema.features(), 16).unwrap();
        let training = batch(&schema, &["1767600000000"]);
        fitter.observe(&training).unwrap();
        let encoder = fitter.finish().unwrap();
        let mut tally = MomentTally::default();
        tally.observe(1_767_600_000_000_000);
        let trained = TrainedMoments::of(&tally);
        let records = batch(&schema, &["1767600000000", "1767600000", "null"]);
        let faults = encoder.moment_faults(&records, &schema, Some(&trained));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].row, 1);
        assert!(faults[0].detail.contains("`s` that was read as `ms`"));
        assert_eq!(encoder.moment_faults(&records, &schema, None), []);
    }

    #[test]
    fn a_redacted_moment_does_not_show() {
        let found = faults("unit='ms'\nredact=true", &["1767600000"]);
        assert!(found[0].1.contains("found ***"), "{}", found[0].1);
        assert!(!found[0].1.contains("1970"), "{}", found[0].1);
        assert!(!found[0].1.contains("2026"), "{}", found[0].1);
    }
}
