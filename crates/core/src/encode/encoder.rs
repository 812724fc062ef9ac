//! The one encoder: canonical record batches in, [`Records`] out, the same in training, batch, stream and HTTP.
//!
//! It is fitted in one streaming pass over the *fit* rows only, with memory bounded by the schema (moments a number,
//! at most `2 * max_cardinality` counts a category), and is immutable afterwards.

use super::binary::{BinaryEncoder, TwoValues};
use super::categorical::{CategoricalEncoder, FrequentValues};
use super::error::EncodeError;
use super::numeric::{CLIP, Moments, NumericEncoder, apply};
use super::ordinary::OrderedSample;
use super::quantiles::Sample;
use super::records::{FieldShape, Records};
use super::temporal::{TrainedMoments, day_time, far_moments};
use crate::rng::{Purpose, stream};
use crate::schema::{Field, Kind, MomentTally, Role, Schema, Spread, Transform, blinding};
use arrow::array::{Array, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The fitted encoding of one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ValueEncoder {
    /// A standardised number.
    Numeric(NumericEncoder),
    /// A standardised number that is one of two.
    Binary(BinaryEncoder),
    /// A code of a value.
    Categorical(CategoricalEncoder),
    /// True or false.
    Boolean,
    /// Hour and weekday in a zone.
    Timestamp {
        /// Where the hour is read.
        time_zone: Tz,
        /// Where the moments of the training lie, of all its rows.
        #[serde(flatten)]
        moments: TrainedMoments,
    },
}

/// A field with its fitted encoding and how often it was null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldEncoder {
    /// The field's name.
    pub name: String,
    /// How values are encoded.
    pub value: ValueEncoder,
    /// Fit rows seen.
    pub rows: u64,
    /// How many of them were null.
    pub nulls: u64,
    /// Whether the model sees the field and never predicts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub context: bool,
}

impl FieldEncoder {
    /// What the model must know of it.
    pub fn shape(&self) -> FieldShape {
        match &self.value {
            ValueEncoder::Numeric(_) => FieldShape::Numeric,
            ValueEncoder::Binary(_) => FieldShape::Binary,
            ValueEncoder::Categorical(c) => FieldShape::Categorical {
                codes: c.codes(),
                classes: c.classes(),
            },
            ValueEncoder::Boolean => FieldShape::Boolean,
            ValueEncoder::Timestamp { .. } => FieldShape::Timestamp,
        }
    }
}

impl FieldEncoder {
    fn fault(&self, feature: &Field) -> Option<String> {
        if self.name != feature.name {
            return Some(format!("the schema has '{}' in its place", feature.name));
        }
        if self.context != (feature.role == Role::Context) {
            return Some("the schema has another role for it".to_owned());
        }
        if self.nulls >= self.rows {
            return Some(format!("{} of {} rows are null", self.nulls, self.rows));
        }
        let fault = match (&self.value, feature.kind) {
            (ValueEncoder::Numeric(number), Kind::Numeric) => number.fault(),
            (ValueEncoder::Binary(binary), Kind::Numeric) => binary.fault(),
            (ValueEncoder::Categorical(_), Kind::Categorical)
            | (ValueEncoder::Boolean, Kind::Boolean) => None,
            (ValueEncoder::Timestamp { moments, .. }, Kind::Timestamp) => moments.fault(),
            (_, kind) => Some(format!("the schema says {}", kind.as_str())),
        };
        // What is wrong names numbers and moments, which are values or close to them.
        let fault = fault.map(|fault| match feature.redact {
            true => "not what training makes (redacted)".to_owned(),
            false => fault,
        });
        let transform = match &self.value {
            ValueEncoder::Numeric(number) => Some(number.transform),
            ValueEncoder::Binary(binary) => Some(binary.number.transform),
            _ => None,
        };
        let other = transform.filter(|&transform| transform != feature.transform);
        fault.or(other.map(|_| "another transform than the schema's".to_owned()))
    }
}

/// The fitted encoding of a record: its feature fields in schema order (the F axis everywhere).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Encoder {
    fields: Vec<FieldEncoder>,
}

impl Encoder {
    /// The feature fields, in schema order.
    pub fn fields(&self) -> &[FieldEncoder] {
        &self.fields
    }

    /// The shapes of the fields, `[F]`.
    pub fn shapes(&self) -> Vec<FieldShape> {
        self.fields.iter().map(FieldEncoder::shape).collect()
    }

    /// The fields that are predicted, ascending: all but the context.
    pub fn predicted(&self) -> Vec<u32> {
        let fields = (0u32..).zip(&self.fields);
        fields
            .filter(|(_, field)| !field.context)
            .map(|(index, _)| index)
            .collect()
    }

    /// What of a stored encoder does not go with the schema of its records, or with itself.
    pub fn faults(&self, schema: &Schema) -> Vec<String> {
        let (features, fields) = (schema.features().count(), self.fields.len());
        if features != fields {
            return vec![format!(
                "{fields} fields, the schema has {features} features"
            )];
        }
        let pairs = self.fields.iter().zip(schema.features());
        let fault = |(field, feature): (&FieldEncoder, &Field)| {
            let fault = field.fault(feature)?;
            Some(format!("encoder of field '{}': {fault}", field.name))
        };
        pairs.filter_map(fault).collect()
    }

    /// Encodes every row of a canonical batch.
    ///
    /// # Errors
    /// [`EncodeError::NotCanonical`] if a feature column is absent or has another type.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Records, EncodeError> {
        self.encode_within(batch, CLIP)
    }

    /// As [`encode`](Self::encode), but numbers are clipped to -clip..=clip. For methods that models are compared with: the
    /// clip that suits the model can hide from them how far out a value is.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_within(&self, batch: &RecordBatch, clip: f64) -> Result<Records, EncodeError> {
        let mut records = Records::absent(&self.shapes(), batch.num_rows());
        let (mut number, mut code) = (0, 0);
        for (index, field) in self.fields.iter().enumerate() {
            let mut slots = Slots {
                records: &mut records,
                field: index,
                number,
                code,
                clip,
            };
            slots.fill(field, batch)?;
            number += field.shape().numbers();
            code += field.shape().codes();
        }
        Ok(records)
    }
}

/// Where one field writes.
struct Slots<'a> {
    records: &'a mut Records,
    field: usize,
    number: usize,
    code: usize,
    /// Numbers are clipped to -clip..=clip.
    clip: f64,
}

impl Slots<'_> {
    fn fill(&mut self, field: &FieldEncoder, batch: &RecordBatch) -> Result<(), EncodeError> {
        match &field.value {
            ValueEncoder::Numeric(encoder) => {
                for (row, x) in present(numbers(batch, &field.name)?.iter()) {
                    let z = encoder.encode_within(x, self.clip);
                    self.records.set_number(row, self.number, z);
                    self.records
                        .set_number(row, self.number + 1, encoder.quantile(x));
                    self.records.set_present(row, self.field);
                }
            }
            ValueEncoder::Binary(encoder) => {
                for (row, x) in present(numbers(batch, &field.name)?.iter()) {
                    let z = encoder.number.encode_within(x, self.clip);
                    self.records.set_number(row, self.number, z);
                    self.records.set_code(row, self.code, encoder.code(x));
                    self.records.set_present(row, self.field);
                }
            }
            ValueEncoder::Categorical(encoder) => {
                for (row, text) in present(texts(batch, &field.name)?.iter()) {
                    self.records.set_code(row, self.code, encoder.encode(text));
                    self.records.set_present(row, self.field);
                }
            }
            ValueEncoder::Boolean => {
                for (row, value) in present(booleans(batch, &field.name)?.iter()) {
                    self.records.set_code(row, self.code, u32::from(value));
                    self.records.set_present(row, self.field);
                }
            }
            ValueEncoder::Timestamp { time_zone, moments } => {
                for (row, micros) in present(micros(batch, &field.name)?.iter()) {
                    // Records with such a moment are bad; of a training row it is null.
                    if !moments.seen.is_near(micros) {
                        continue;
                    }
                    let Some(at) = day_time(micros, *time_zone) else {
                        continue;
                    };
                    self.records.set_number(row, self.number, at.hour);
                    self.records.set_code(row, self.code, at.hour as u32);
                    self.records.set_code(row, self.code + 1, at.weekday);
                    self.records.set_present(row, self.field);
                }
            }
        }
        Ok(())
    }
}

/// Collects the statistics of fit rows, batch by batch.
#[derive(Debug)]
pub struct EncoderFitter {
    fields: Vec<FieldFitter>,
    rows: u64,
    head_classes_max: usize,
}

#[derive(Debug)]
struct FieldFitter {
    name: String,
    redact: bool,
    context: bool,
    statistics: Statistics,
    nulls: u64,
}

#[derive(Debug)]
enum Statistics {
    Numeric {
        transform: Transform,
        moments: Moments,
        two: TwoValues,
        spread: Box<Spread>,
        /// Of transformed values.
        sample: Box<Sample>,
    },
    Categorical(FrequentValues),
    Boolean,
    Timestamp {
        zone: Tz,
        /// Moments of the rows that statistics are taken of.
        fit: MomentTally,
        /// Moments of all rows; empty if nobody showed them.
        all: MomentTally,
    },
}

impl EncoderFitter {
    /// A fitter of the given feature fields, in schema order.
    ///
    /// # Errors
    /// [`EncodeError::NoFeature`] if there is none.
    pub fn new<'a>(
        features: impl IntoIterator<Item = &'a Field>,
        head_classes_max: usize,
    ) -> Result<Self, EncodeError> {
        let fields: Vec<_> = features.into_iter().map(FieldFitter::new).collect();
        if fields.is_empty() {
            return Err(EncodeError::NoFeature);
        }
        Ok(Self {
            fields,
            rows: 0,
            head_classes_max,
        })
    }

    /// Adds every row of a canonical batch.
    ///
    /// # Errors
    /// [`EncodeError::NotCanonical`] if a feature column is absent or has another type.
    pub fn observe(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        self.rows += batch.num_rows() as u64;
        self.fields
            .iter_mut()
            .try_for_each(|field| field.observe(batch))
    }

    /// Notes the moments of every row of a canonical batch and nothing else: also those of rows that no other statistic is
    /// taken of are moments of the training.
    ///
    /// # Errors
    /// [`EncodeError::NotCanonical`] if a timestamp's column is absent or has another type.
    pub fn observe_moments(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        for field in &mut self.fields {
            if let Statistics::Timestamp { all, .. } = &mut field.statistics {
                let column = micros(batch, &field.name)?;
                column.iter().flatten().for_each(|at| all.observe(at));
            }
        }
        Ok(())
    }

    /// A sentence for each number whose scale a few values make, so that the model cannot tell the others apart, for
    /// each with values that look like "missing", and for each timestamp with a few moments far from all others. Values
    /// of a redacted field are not shown.
    pub fn blinded(&self) -> Vec<String> {
        self.fields
            .iter()
            .filter_map(FieldFitter::blinded)
            .collect()
    }

    /// The fitted encoder.
    ///
    /// # Errors
    /// [`EncodeError::AllNull`] with every feature that never had a value; [`EncodeError::NoRows`];
    /// [`EncodeError::OutOfRange`].
    pub fn finish(self) -> Result<Encoder, EncodeError> {
        let (rows, head_classes_max) = (self.rows, self.head_classes_max);
        if rows == 0 {
            return Err(EncodeError::NoRows);
        }
        let empty = self.fields.iter().filter(|field| field.nulls == rows);
        let empty: Vec<String> = empty.map(|field| field.name.clone()).collect();
        if !empty.is_empty() {
            return Err(EncodeError::AllNull {
                fields: empty,
                rows,
            });
        }
        let fields = self.fields.into_iter();
        Ok(Encoder {
            fields: fields
                .map(|field| field.finish(rows, head_classes_max))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl FieldFitter {
    fn new(field: &Field) -> Self {
        let statistics = match field.kind {
            Kind::Numeric => Statistics::Numeric {
                transform: field.transform,
                moments: Moments::default(),
                two: TwoValues::default(),
                spread: Box::default(),
                sample: Box::new(Sample::new(stream(0, Purpose::Quantiles))),
            },
            Kind::Categorical => {
                Statistics::Categorical(FrequentValues::new(field.max_cardinality))
            }
            Kind::Boolean => Statistics::Boolean,
            Kind::Timestamp => Statistics::Timestamp {
                zone: field.time_zone,
                fit: MomentTally::default(),
                all: MomentTally::default(),
            },
        };
        Self {
            name: field.name.clone(),
            redact: field.redact,
            context: field.role == Role::Context,
            statistics,
            nulls: 0,
        }
    }

    fn observe(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        match &mut self.statistics {
            Statistics::Numeric {
                transform,
                moments,
                two,
                spread,
                sample,
            } => {
                let column = numbers(batch, &self.name)?;
                self.nulls += column.null_count() as u64;
                for x in column.iter().flatten() {
                    let transformed = apply(*transform, x);
                    moments.observe(transformed);
                    sample.observe(transformed);
                    two.observe(x);
                    spread.observe(x);
                }
            }
            Statistics::Categorical(frequent) => {
                let column = texts(batch, &self.name)?;
                self.nulls += column.null_count() as u64;
                column
                    .iter()
                    .flatten()
                    .for_each(|text| frequent.observe(text));
            }
            Statistics::Boolean => {
                self.nulls += booleans(batch, &self.name)?.null_count() as u64;
            }
            Statistics::Timestamp { fit, .. } => {
                let column = micros(batch, &self.name)?;
                self.nulls += column.null_count() as u64;
                column.iter().flatten().for_each(|at| fit.observe(at));
            }
        }
        Ok(())
    }

    fn blinded(&self) -> Option<String> {
        if let Statistics::Timestamp { fit, all, .. } = &self.statistics {
            return far_moments(&self.name, self.redact, shown(all, fit));
        }
        let Statistics::Numeric {
            transform, spread, ..
        } = &self.statistics
        else {
            return None;
        };
        let words = blinding(spread, *transform)?;
        let words = if self.redact {
            "a few extreme values hold its variance or look like \"missing\" (redacted)".to_owned()
        } else {
            words
        };
        Some(format!("field `{}`: {words}", self.name))
    }

    fn finish(self, rows: u64, head_classes_max: usize) -> Result<FieldEncoder, EncodeError> {
        let mut nulls = self.nulls;
        let value = match self.statistics {
            Statistics::Numeric {
                transform,
                moments,
                two,
                sample,
                ..
            } => {
                let sample = OrderedSample::of(sample.sorted());
                let mut encoder = NumericEncoder::fit(transform, &moments.robust(&sample));
                if !encoder.is_finite() {
                    return Err(EncodeError::OutOfRange {
                        field: self.name,
                        range: (!self.redact).then(|| moments.range()),
                        transform,
                    });
                }
                match BinaryEncoder::fit(encoder.clone(), &two) {
                    Some(binary) => ValueEncoder::Binary(binary),
                    None => {
                        encoder.fit_sample(&sample);
                        ValueEncoder::Numeric(encoder)
                    }
                }
            }
            Statistics::Categorical(frequent) => {
                ValueEncoder::Categorical(CategoricalEncoder::fit(frequent, head_classes_max))
            }
            Statistics::Boolean => ValueEncoder::Boolean,
            Statistics::Timestamp { zone, fit, all } => {
                let tally = shown(&all, &fit);
                nulls += fit.rows_far_from(&tally.split().kept);
                ValueEncoder::Timestamp {
                    time_zone: zone,
                    moments: TrainedMoments::of(tally),
                }
            }
        };
        Ok(FieldEncoder {
            name: self.name,
            value,
            rows,
            nulls,
            context: self.context,
        })
    }
}

/// The moments of all rows, or those of the fit rows if nobody showed the others.
fn shown<'a>(all: &'a MomentTally, fit: &'a MomentTally) -> &'a MomentTally {
    match all.rows() {
        0 => fit,
        _ => all,
    }
}

fn present<T>(values: impl Iterator<Item = Option<T>>) -> impl Iterator<Item = (usize, T)> {
    values
        .enumerate()
        .filter_map(|(row, value)| value.map(|value| (row, value)))
}

fn column<'a, A>(
    batch: &'a RecordBatch,
    field: &str,
    expected: &'static str,
    cast: impl Fn(&'a dyn Array) -> Option<&'a A>,
) -> Result<&'a A, EncodeError> {
    let column = batch.column_by_name(field);
    column
        .and_then(|column| cast(column.as_ref()))
        .ok_or_else(|| EncodeError::NotCanonical {
            field: field.to_owned(),
            expected,
            found: column.map_or_else(|| "no column".to_owned(), |c| c.data_type().to_string()),
        })
}

fn numbers<'a>(batch: &'a RecordBatch, field: &str) -> Result<&'a Float64Array, EncodeError> {
    column(batch, field, "Float64", |c| {
        c.as_primitive_opt::<Float64Type>()
    })
}

fn texts<'a>(batch: &'a RecordBatch, field: &str) -> Result<&'a StringArray, EncodeError> {
    column(batch, field, "Utf8", |c| c.as_string_opt::<i32>())
}

fn booleans<'a>(batch: &'a RecordBatch, field: &str) -> Result<&'a BooleanArray, EncodeError> {
    column(batch, field, "Boolean", |c| c.as_boolean_opt())
}

fn micros<'a>(
    batch: &'a RecordBatch,
    field: &str,
) -> Result<&'a arrow::array::TimestampMicrosecondArray, EncodeError> {
    column(batch, field, "Timestamp(Microsecond)", |c| {
        c.as_primitive_opt::<TimestampMicrosecondType>()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            (
                "amount",
                Arc::new(Float64Array::from(vec![Some(1.0), None, Some(3.0)])),
            ),
            (
                "country",
                Arc::new(StringArray::from(vec![Some("CH"), Some("CH"), Some("FR")])),
            ),
            (
                "online",
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            ),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![
                    Some(0),
                    None,
                    Some(3_600_000_000),
                ])),
            ),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn fields() -> Vec<Field> {
        [
            ("amount", Kind::Numeric),
            ("country", Kind::Categorical),
            ("online", Kind::Boolean),
            ("at", Kind::Timestamp),
        ]
        .map(|(name, kind)| Field::feature(name, kind))
        .to_vec()
    }

    fn fitted() -> Encoder {
        let fields = fields();
        let mut fitter = EncoderFitter::new(&fields, 1024).unwrap();
        fitter.observe(&batch()).unwrap();
        fitter.finish().unwrap()
    }

    #[test]
    fn every_kind_is_encoded_into_its_slots() {
        let records = fitted().encode(&batch()).unwrap();
        // SciPy: norm.ppf([.25, .75]) -> -0.67448975, 0.67448975
        assert_eq!(records.numbers(0), [-1.0, -0.674_489_74, 0.0]);
        assert_eq!(records.numbers(2), [1.0, 0.674_489_74, 1.0]);
        // Code slots: country, online, hour, weekday (1970-01-01 was a Thursday).
        assert_eq!(records.codes(0), [1, 1, 0, 3]);
        assert_eq!(records.codes(2), [2, 0, 1, 3]);
        assert_eq!(records.present(0), [true; 4]);
        assert_eq!(records.present(1), [false, true, true, false]);
    }

    #[test]
    fn a_number_of_two_values_is_a_standardised_number_and_a_code() {
        let fields = [Field::feature("fee", Kind::Numeric)];
        let mut fitter = EncoderFitter::new(&fields, 1024).unwrap();
        let column = |values: Vec<Option<f64>>| -> RecordBatch {
            let column: ArrayRef = Arc::new(Float64Array::from(values));
            RecordBatch::try_from_iter([("fee", column)]).unwrap()
        };
        let fit = (0..100).map(|i| (i > 9).then_some(if i % 2 == 0 { 3.0 } else { 1.0 }));
        fitter.observe(&column(fit.collect())).unwrap();
        let encoder = fitter.finish().unwrap();
        assert_eq!(encoder.shapes(), [FieldShape::Binary]);
        let stored = serde_json::to_string(&encoder).unwrap();
        assert_eq!(serde_json::from_str::<Encoder>(&stored).unwrap(), encoder);
        let records = encoder
            .encode(&column(vec![Some(1.0), Some(3.0), Some(4.0), None]))
            .unwrap();
        let rows: Vec<_> = (0..4)
            .map(|row| (records.numbers(row)[0], records.codes(row)[0]))
            .collect();
        assert_eq!(rows, [(-1.0, 1), (1.0, 2), (2.0, 0), (0.0, 0)]);
        assert_eq!(records.present(3), [false]);
    }

    #[test]
    fn an_absent_field_leaves_zeros_in_its_slots() {
        let records = fitted().encode(&batch()).unwrap();
        assert_eq!(records.numbers(1), [0.0, 0.0, 0.0]);
        assert_eq!(records.codes(1), [1, 0, 0, 0]);
    }

    #[test]
    fn all_fields_without_any_value_are_refused_by_name_at_once() {
        let fields = ["a", "b", "c"].map(|name| Field::feature(name, Kind::Numeric));
        let mut fitter = EncoderFitter::new(&fields, 1024).unwrap();
        let column =
            |value: Option<f64>| -> ArrayRef { Arc::new(Float64Array::from(vec![value; 2])) };
        let columns = [
            ("a", column(None)),
            ("b", column(Some(1.0))),
            ("c", column(None)),
        ];
        fitter
            .observe(&RecordBatch::try_from_iter(columns).unwrap())
            .unwrap();
        let error = fitter.finish().unwrap_err();
        let fields = vec!["a".to_owned(), "c".to_owned()];
        assert_eq!(error, EncodeError::AllNull { fields, rows: 2 });
        assert!(
            error
                .to_string()
                .starts_with("field 'a', field 'c': all 2 training rows")
        );
    }

    #[test]
    fn a_sentinel_that_no_moments_can_hold_is_refused_by_name() {
        let error = |redact: bool| {
            let mut field = Field::feature("amount", Kind::Numeric);
            field.redact = redact;
            let mut fitter = EncoderFitter::new([&field], 1024).unwrap();
            let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, f64::MAX]));
            fitter
                .observe(&RecordBatch::try_from_iter([("amount", column)]).unwrap())
                .unwrap();
            fitter.finish().unwrap_err().to_string()
        };
        assert_eq!(
            error(false),
            "field 'amount': values from 1e0 to 1.7976931348623157e308 are too large to be standardised (a stand-in for \
             missing values? write null instead, or set transform = \"log1p\")"
        );
        assert_eq!(
            error(true),
            "field 'amount': values (redacted) are too large to be standardised (a stand-in for missing values? write \
             null instead, or set transform = \"asinh\")"
        );
    }

    #[test]
    fn a_number_that_one_value_blinds_is_named_and_a_redacted_one_shows_nothing() {
        let fit = |transform: Transform, redact: bool| {
            let field = Field {
                transform,
                redact,
                ..Field::feature("amount", Kind::Numeric)
            };
            let mut fitter = EncoderFitter::new([&field], 1024).unwrap();
            let values = (0..500).map(|i| if i == 77 { 1e9 } else { f64::from(i % 90) });
            let column: ArrayRef = Arc::new(values.map(Some).collect::<Float64Array>());
            let batch = RecordBatch::try_from_iter([("amount", column)]).unwrap();
            fitter.observe(&batch).unwrap();
            fitter.blinded()
        };
        let words = fit(Transform::None, false);
        assert_eq!(words.len(), 1);
        let start = "field `amount`: 1 row of 500 holds 99 % of the variance (1000000000)";
        assert!(words[0].starts_with(start), "{words:?}");
        assert!(
            words[0].contains("set `transform = \"log1p\"`"),
            "{words:?}"
        );
        assert_eq!(fit(Transform::Log1p, false), Vec::<String>::new());
        let words = fit(Transform::None, true);
        assert!(!words[0].contains("1000000000"), "{words:?}");
    }

    #[test]
    fn a_stored_encoder_that_is_odd_shows_nothing_of_a_redacted_field() {
        for name in ["amount", "at"] {
            let stored = serde_json::to_string(&fitted()).unwrap();
            let forged = stored
                .replace("\"scale\":1.0", "\"scale\":-7777.0")
                .replace("[[0,", "[[7777000000,");
            let encoder: Encoder = serde_json::from_str(&forged).unwrap();
            let faults = |redact: bool| {
                let field = |field: Field| {
                    let (name, kind) = (field.name, field.kind.as_str());
                    format!("[[field]]\nname='{name}'\nkind='{kind}'\nredact={redact}\n")
                };
                let text: String = fields().into_iter().map(field).collect();
                let schema = Schema::parse(&text, "test").unwrap();
                let faults = encoder.faults(&schema).into_iter();
                let mut faults = faults.filter(|fault| fault.contains(&format!("'{name}'")));
                faults.next().unwrap()
            };
            assert!(faults(false).contains("7777"), "{}", faults(false));
            assert!(!faults(true).contains("7777"), "{}", faults(true));
        }
    }

    #[test]
    fn a_column_of_another_type_is_refused_by_name() {
        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let batch = RecordBatch::try_from_iter([("amount", wrong)]).unwrap();
        let error = fitted().encode(&batch).unwrap_err().to_string();
        assert!(
            error.contains("'amount'") && error.contains("Utf8"),
            "{error}"
        );
    }

    #[test]
    fn the_stored_encoder_encodes_the_same() {
        let encoder = fitted();
        let stored = serde_json::to_string(&encoder).unwrap();
        let loaded: Encoder = serde_json::from_str(&stored).unwrap();
        assert_eq!(
            loaded.encode(&batch()).unwrap(),
            encoder.encode(&batch()).unwrap()
        );
    }
}
