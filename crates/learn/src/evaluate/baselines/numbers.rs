//! Encoded records as plain columns of numbers, which is what the baselines can read.
//!
//! | field | columns |
//! |---|---|
//! | numeric | z, clipped at a million instead of at the model's ten: how far out a value is is what some methods live on |
//! | boolean | -1 or 1, as the model sees it |
//! | timestamp | sine and cosine of hour and weekday, as the model sees them |
//! | categorical | one for each of its 64 most frequent values, and one for all others: 1 where the record has it, else 0 |
//! | any that was null in the fit rows | one more: 1 where it is null, else 0 |
//!
//! The other columns of a null field are 0. A field that was never null in the fit rows has no column for it: its null
//! looks like its mean.

use super::BaselineError;
use crate::encode::{Encoder, FieldShape, Records};
use crate::model::inputs::day_time_numbers;

/// Values of a category with a column of their own: distances get no better by columns that are almost always 0.
pub const ONE_HOT_VALUES_MAX: usize = 64;
/// Columns at most: the eigenvectors of 2,048 columns take about a minute, and the time grows with the cube.
pub const COLUMNS_MAX: usize = 2_048;

/// Standard deviations beyond which a number is clipped: squares and their sums stay far within f32.
pub const NUMBERS_CLIP: f64 = 1e6;

/// Which columns the fields of an encoder become.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberColumns {
    fields: Vec<FieldColumns>,
    width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct FieldColumns {
    shape: FieldShape,
    /// Columns of the value.
    width: usize,
    /// Whether there is one for null.
    null: bool,
}

impl NumberColumns {
    /// The columns of an encoder's fields, in schema order.
    ///
    /// # Errors
    /// [`BaselineError::TooWide`].
    pub fn of(encoder: &Encoder) -> Result<Self, BaselineError> {
        let field = |field: &crate::encode::FieldEncoder| FieldColumns {
            shape: field.shape(),
            width: value_columns(field.shape()),
            null: field.nulls > 0,
        };
        let fields: Vec<_> = encoder.fields().iter().map(field).collect();
        let columns: usize = fields.iter().map(|f| f.width + usize::from(f.null)).sum();
        if columns > COLUMNS_MAX {
            let limit = COLUMNS_MAX;
            return Err(BaselineError::TooWide { columns, limit });
        }
        let width = columns;
        Ok(Self { fields, width })
    }

    /// W: columns of a record, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The numbers of B records, `[B, W]` row-major.
    pub fn numbers(&self, records: &Records) -> Vec<f32> {
        let mut all = vec![0.0; records.rows() * self.width];
        for (row, out) in all.chunks_exact_mut(self.width).enumerate() {
            self.write(records, row, out);
        }
        all
    }

    /// Writes one record into zeros.
    fn write(&self, records: &Records, row: usize, out: &mut [f32]) {
        let (numbers, codes) = (records.numbers(row), records.codes(row));
        let (mut number, mut code, mut at) = (0, 0, 0);
        for (field, &present) in self.fields.iter().zip(records.present(row)) {
            let own = &mut out[at..at + field.width];
            match field.shape {
                _ if !present => {}
                FieldShape::Numeric | FieldShape::Binary => own[0] = numbers[number],
                FieldShape::Boolean => own[0] = codes[code] as f32 * 2.0 - 1.0,
                FieldShape::Timestamp => {
                    own.copy_from_slice(&day_time_numbers(numbers[number], codes[code + 1]));
                }
                // Code 0 is an unknown value; the known ones follow, the most frequent first.
                FieldShape::Categorical { .. } => match codes[code] as usize {
                    code @ 1.. if code < field.width => own[code - 1] = 1.0,
                    _ => own[field.width - 1] = 1.0,
                },
            }
            at += field.width;
            if field.null {
                out[at] = f32::from(!present);
                at += 1;
            }
            number += field.shape.numbers();
            code += field.shape.codes();
        }
    }
}

fn value_columns(shape: FieldShape) -> usize {
    match shape {
        FieldShape::Numeric | FieldShape::Binary | FieldShape::Boolean => 1,
        FieldShape::Timestamp => 4,
        FieldShape::Categorical { codes, .. } => (codes as usize).min(ONE_HOT_VALUES_MAX) + 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::EncoderFitter;
    use crate::records::Canonicaliser;
    use crate::schema::Schema;
    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    };
    use std::sync::Arc;

    const SCHEMA: &str = "[[field]]\nname='x'\nkind='numeric'\n[[field]]\nname='c'\nkind='categorical'\n\
        [[field]]\nname='b'\nkind='boolean'\n[[field]]\nname='t'\nkind='timestamp'\nunit='s'\n";

    #[test]
    fn every_kind_has_its_columns_and_only_fields_with_nulls_one_more() {
        let columns: [(&str, ArrayRef); 4] = [
            (
                "x",
                Arc::new(Float64Array::from(vec![Some(1.0), Some(3.0), None, None])),
            ),
            ("c", Arc::new(StringArray::from(vec!["a", "b", "a", "a"]))),
            (
                "b",
                Arc::new(BooleanArray::from(vec![true, false, true, true])),
            ),
            // A Thursday at midnight, at 6, at 12 and at 18.
            (
                "t",
                Arc::new(Int64Array::from(vec![0, 21_600, 43_200, 64_800])),
            ),
        ];
        let schema = Schema::parse(SCHEMA, "s").unwrap();
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let canonicaliser = Canonicaliser::new(&schema, &batch.schema(), "rows").unwrap();
        let batch = canonicaliser.canonicalise(&batch).unwrap().batch;
        let mut fitter = EncoderFitter::new(schema.features(), 8).unwrap();
        fitter.observe(&batch).unwrap();
        let encoder = fitter.finish().unwrap();
        let layout = NumberColumns::of(&encoder).unwrap();
        // x and its null; a, b and others; b; four of t.
        assert_eq!(layout.width(), 2 + 3 + 1 + 4);
        let numbers = layout.numbers(&encoder.encode(&batch).unwrap());
        assert_eq!(numbers[..6], [-1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(numbers[10..16], [1.0, 0.0, 0.0, 1.0, 0.0, -1.0]);
        assert_eq!(numbers[20..22], [0.0, 1.0]);
        let six = &numbers[16..18];
        assert!(
            (six[0] - 1.0).abs() < 1e-6 && six[1].abs() < 1e-6,
            "{six:?}"
        );
    }

    #[test]
    fn values_beyond_the_most_frequent_and_unknown_ones_share_a_column() {
        // Value i comes 101 - i times, so that the order of the codes is 0, 1, 2, ...
        let texts: Vec<String> = (0..100)
            .flat_map(|i| std::iter::repeat_n(format!("v{i:02}"), 101 - i))
            .collect();
        let column = |texts: Vec<String>| {
            let column: ArrayRef = Arc::new(StringArray::from(texts));
            RecordBatch::try_from_iter([("c", column)]).unwrap()
        };
        let schema = Schema::parse("[[field]]\nname='c'\nkind='categorical'\n", "s").unwrap();
        let mut fitter = EncoderFitter::new(schema.features(), 8).unwrap();
        fitter.observe(&column(texts)).unwrap();
        let encoder = fitter.finish().unwrap();
        let layout = NumberColumns::of(&encoder).unwrap();
        assert_eq!(layout.width(), ONE_HOT_VALUES_MAX + 1);
        let place = |text: &str| {
            let records = encoder.encode(&column(vec![text.to_owned()])).unwrap();
            let numbers = layout.numbers(&records);
            assert_eq!(numbers.iter().sum::<f32>(), 1.0);
            numbers.iter().position(|&x| x == 1.0).unwrap()
        };
        let found = ["v00", "v63", "v64", "v99", "never"].map(place);
        assert_eq!(found, [0, 63, 64, 64, 64]);
    }

    #[test]
    fn records_that_are_too_wide_are_refused_with_the_limit() {
        let fields: String = (0..=COLUMNS_MAX)
            .map(|i| format!("[[field]]\nname='b{i}'\nkind='boolean'\n"))
            .collect();
        let schema = Schema::parse(&fields, "s").unwrap();
        let column: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let columns = schema.features().map(|f| (f.name.clone(), column.clone()));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut fitter = EncoderFitter::new(schema.features(), 8).unwrap();
        fitter.observe(&batch).unwrap();
        let error = NumberColumns::of(&fitter.finish().unwrap()).unwrap_err();
        let (columns, limit) = (COLUMNS_MAX + 1, COLUMNS_MAX);
        assert_eq!(error, BaselineError::TooWide { columns, limit });
    }
}
