//! The one form of records that everything after reading sees: a canonical `RecordBatch`.
//!
//! It has one column for every field whose role is not `ignore`, in the order of the schema, named by
//! the field, nullable. Types: numeric Float64 (finite or null), categorical Utf8, boolean Boolean,
//! timestamp Timestamp(Microsecond, "UTC"); a key is always Utf8, a label always Boolean. In flow
//! batches of any layout that fits the schema, out flow the same rows in the same order with the
//! faults of the bad ones.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;

use super::convert::{ConvertError, canonical_type, convert};
use super::error::{DataError, FileMismatch, columns_text, same_columns};
use super::fault::{FaultReason, RowFault};
use crate::schema::{Binding, Field, Mismatch, Schema, column_at, fit, fit_part};

/// The Arrow schema of the canonical records of `schema`.
pub fn canonical_schema(schema: &Schema) -> SchemaRef {
    let column = |field: &Field| ArrowField::new(&field.name, canonical_type(field), true);
    Arc::new(ArrowSchema::new(
        schema.read_fields().map(column).collect::<Vec<_>>(),
    ))
}

/// Canonical records with what is wrong with the bad ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    /// The rows that were given, in their order; what could not be read is null.
    pub batch: RecordBatch,
    /// The bad rows, ascending, at most one fault a row.
    pub faults: Vec<RowFault>,
}

/// Turns batches of one Arrow schema into canonical ones.
#[derive(Debug, Clone)]
pub struct Canonicaliser {
    schema: Schema,
    source: ArrowSchema,
    origin: String,
    bindings: Vec<Binding>,
    canonical: SchemaRef,
}

impl Canonicaliser {
    /// For batches of the Arrow schema `source`; `origin` (a file) names them in errors.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] with every missing or mistyped column.
    pub fn new(schema: &Schema, source: &ArrowSchema, origin: &str) -> Result<Self, DataError> {
        Self::bound(schema, source, origin, fit(schema, source))
    }

    /// For batches of one file of several, which may lack what others have: a feature that is absent is null.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] with every mistyped column.
    pub(super) fn of_part(
        schema: &Schema,
        source: &ArrowSchema,
        origin: &str,
    ) -> Result<Self, DataError> {
        Self::bound(schema, source, origin, fit_part(schema, source))
    }

    fn bound(
        schema: &Schema,
        source: &ArrowSchema,
        origin: &str,
        bindings: Result<Vec<Binding>, Vec<Mismatch>>,
    ) -> Result<Self, DataError> {
        let bindings = bindings.map_err(|mismatches| {
            DataError::Mismatch(vec![FileMismatch {
                file: origin.to_owned(),
                mismatches,
            }])
        })?;
        Ok(Self {
            schema: schema.clone(),
            source: source.clone(),
            origin: origin.to_owned(),
            bindings,
            canonical: canonical_schema(schema),
        })
    }

    /// The canonical form of `batch`: the same rows in the same order.
    ///
    /// # Errors
    /// [`DataError::OtherColumns`] when the batch is not of the announced Arrow schema, and
    /// [`DataError::Label`] when a label is neither 0 nor 1 (the row counts from the batch's start).
    pub fn canonicalise(&self, batch: &RecordBatch) -> Result<Canonical, DataError> {
        self.check_columns(batch.schema_ref())?;
        let mut faults = Vec::new();
        let mut columns = Vec::with_capacity(self.bindings.len());
        for binding in &self.bindings {
            let field = &self.schema.fields()[binding.field];
            let column = self.column(field, binding, batch, &mut faults);
            columns.push(column.map_err(|error| self.error(field, error))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let canonical = Arc::clone(&self.canonical);
        let batch = RecordBatch::try_new_with_options(canonical, columns, &options)
            .map_err(|error| self.convert_error("(all)", &error))?;
        faults.extend(row_faults(&batch, &self.schema));
        Ok(Canonical {
            batch,
            faults: first_of_each_row(faults),
        })
    }

    fn column(
        &self,
        field: &Field,
        binding: &Binding,
        batch: &RecordBatch,
        faults: &mut Vec<RowFault>,
    ) -> Result<ArrayRef, ConvertError> {
        match &binding.column {
            Some(indices) => convert(field, &column_at(batch, indices)?, faults),
            None => Ok(new_null_array(&canonical_type(field), batch.num_rows())),
        }
    }

    fn check_columns(&self, found: &ArrowSchema) -> Result<(), DataError> {
        if same_columns(&self.source, found) {
            return Ok(());
        }
        let (file, expected) = (self.origin.clone(), columns_text(&self.source));
        Err(DataError::OtherColumns {
            file,
            expected,
            found: columns_text(found),
        })
    }

    fn error(&self, field: &Field, error: ConvertError) -> DataError {
        let column = field.path.to_string();
        match error {
            ConvertError::Label { row, value } => DataError::Label {
                file: self.origin.clone(),
                column,
                row: row as u64,
                value: match field.redact {
                    true => "a value (redacted)".to_owned(),
                    false => value,
                },
            },
            ConvertError::Arrow(error) => self.convert_error(&column, &error),
        }
    }

    fn convert_error(&self, column: &str, error: &ArrowError) -> DataError {
        let (file, column) = (self.origin.clone(), column.to_owned());
        DataError::Convert {
            file,
            column,
            message: error.to_string(),
        }
    }
}

/// The rows of a canonical batch that no source may let through: `empty_record` where every feature is null,
/// else `missing_field` where one with `nullable = false` is. Ascending, at most one a row.
///
/// Every source of records calls this, so that the rule stands once.
pub fn row_faults(batch: &RecordBatch, schema: &Schema) -> Vec<RowFault> {
    let mut incomplete = Vec::new();
    let mut present = Some(vec![false; batch.num_rows()]);
    for (field, column) in schema.read_fields().zip(batch.columns()) {
        if !field.role.is_seen() {
            continue;
        }
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        let Some(nulls) = nulls else {
            present = None;
            continue;
        };
        if !field.nullable {
            incomplete.extend(missing(field, nulls));
        }
        if let Some(present) = &mut present {
            nulls.valid_indices().for_each(|row| present[row] = true);
        }
    }
    let rows = present.unwrap_or_default().into_iter().enumerate();
    let empty = rows.filter(|(_, present)| !present);
    let empty = empty.map(|(row, _)| RowFault {
        row,
        reason: FaultReason::EmptyRecord,
        detail: "no feature field is present".to_owned(),
    });
    // Where nothing is there, the one field that may not be null says least of why.
    first_of_each_row(empty.chain(incomplete).collect())
}

fn missing<'a>(field: &'a Field, nulls: &'a NullBuffer) -> impl Iterator<Item = RowFault> + 'a {
    let rows = (0..nulls.len()).filter(|&row| nulls.is_null(row));
    rows.map(|row| RowFault {
        row,
        reason: FaultReason::MissingField,
        detail: format!("field `{}` is null or absent and not nullable", field.name),
    })
}

/// The first fault of each row in the order found, rows ascending.
pub(crate) fn first_of_each_row(mut faults: Vec<RowFault>) -> Vec<RowFault> {
    faults.sort_by_key(|fault| fault.row);
    faults.dedup_by_key(|fault| fault.row);
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use arrow::array::{
        Array, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
        FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array,
        StringArray, StringViewArray, StructArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Float64Type, Int32Type, TimeUnit, TimestampMicrosecondType};
    use proptest::prelude::*;

    use super::*;

    fn records(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let columns = columns
            .into_iter()
            .map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn read(schema: &str, columns: Vec<(&str, ArrayRef)>) -> Result<Canonical, DataError> {
        let schema = Schema::parse(schema, "s.toml").unwrap();
        let batch = records(columns);
        Canonicaliser::new(&schema, batch.schema_ref(), "f.parquet")?.canonicalise(&batch)
    }

    fn one(keys: &str, column: ArrayRef) -> Canonical {
        read(
            &format!("[[field]]\nname = 'a'\n{keys}\n"),
            vec![("a", column)],
        )
        .unwrap()
    }

    /// A column beside a sound feature, so that keys and labels can be looked at.
    fn beside(keys: &str, column: ArrayRef) -> Result<Canonical, DataError> {
        let feature: ArrayRef = Arc::new(Int8Array::from(vec![1; column.len()]));
        let schema = format!("[[field]]\nname = 'a'\n{keys}\n[[field]]\nname='f'\nkind='numeric'");
        read(&schema, vec![("a", column), ("f", feature)])
    }

    fn numbers(canonical: &Canonical) -> Vec<Option<f64>> {
        canonical
            .batch
            .column(0)
            .as_primitive::<Float64Type>()
            .iter()
            .collect()
    }

    fn moments(canonical: &Canonical) -> Vec<Option<i64>> {
        canonical
            .batch
            .column(0)
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect()
    }

    fn texts(canonical: &Canonical) -> Vec<Option<String>> {
        let texts = canonical.batch.column(0).as_string::<i32>();
        texts.iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn labels(canonical: &Canonical) -> Vec<Option<bool>> {
        canonical.batch.column(0).as_boolean().iter().collect()
    }

    fn faults(canonical: &Canonical) -> Vec<(usize, &'static str)> {
        canonical
            .faults
            .iter()
            .map(|fault| (fault.row, fault.reason.as_str()))
            .collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn every_number_type_becomes_the_same_float() {
        let integers: ArrayRef = Arc::new(Int8Array::from(vec![Some(1), None, Some(-3)]));
        for to in [
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float16,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(20, 4),
            DataType::Decimal256(40, 2),
        ] {
            let canonical = one("kind = 'numeric'", cast(&integers, &to).unwrap());
            assert_eq!(numbers(&canonical), [Some(1.0), None, Some(-3.0)], "{to}");
        }
        let wide = one(
            "kind = 'numeric'",
            Arc::new(UInt64Array::from(vec![u64::MAX])),
        );
        assert_eq!(numbers(&wide), [Some(u64::MAX as f64)]);
        let cents = Decimal128Array::from(vec![1])
            .with_precision_and_scale(9, 1)
            .unwrap();
        assert_eq!(
            numbers(&one("kind = 'numeric'", Arc::new(cents))),
            [Some(0.1)]
        );
    }

    #[test]
    fn nan_and_the_infinities_are_null() {
        let odd = Float32Array::from(vec![f32::NAN, 1.5, f32::INFINITY, f32::NEG_INFINITY]);
        let canonical = one("kind = 'numeric'", Arc::new(odd));
        assert_eq!(numbers(&canonical), [None, Some(1.5), None, None]);
        assert_eq!(
            faults(&canonical),
            [0, 2, 3].map(|row| (row, "empty_record"))
        );
    }

    #[test]
    fn a_bad_row_leaves_its_neighbours_alone() {
        let column = StringViewArray::from(vec![Some("1"), Some("x"), None, Some("1e999")]);
        let keys = "kind = 'numeric'\nparse = true\nnullable = false";
        let canonical = one(keys, Arc::new(column));
        assert_eq!(numbers(&canonical), [Some(1.0), None, None, None]);
        let expected = [(1, "wrong_type"), (2, "empty_record"), (3, "wrong_type")];
        assert_eq!(faults(&canonical), expected);
        assert_eq!(
            canonical.faults[0].detail,
            "field `a`: expected a number or a number in text, found \"x\""
        );
    }

    #[test]
    fn a_redacted_value_does_not_show_in_the_fault() {
        let column = StringArray::from(vec!["secret"]);
        let canonical = one(
            "kind = 'numeric'\nparse = true\nredact = true",
            Arc::new(column),
        );
        assert_eq!(
            canonical.faults[0].detail,
            "field `a`: expected a number or a number in text, found ***"
        );
    }

    #[test]
    fn category_text_is_canonical_whatever_the_type() {
        let booleans = BooleanArray::from(vec![true, false]);
        let canonical = one("kind = 'categorical'", Arc::new(booleans));
        assert_eq!(texts(&canonical), some(&["true", "false"]));
        let integers = Int64Array::from(vec![i64::MIN, 7]);
        let canonical = one("kind = 'categorical'", Arc::new(integers));
        assert_eq!(texts(&canonical), some(&["-9223372036854775808", "7"]));
        let whole = Decimal128Array::from(vec![-1200])
            .with_precision_and_scale(9, 0)
            .unwrap();
        assert_eq!(
            texts(&one("kind = 'categorical'", Arc::new(whole))),
            some(&["-1200"])
        );
        let values: DictionaryArray<Int32Type> = vec![Some("b"), None, Some(""), Some("b")]
            .into_iter()
            .collect();
        let canonical = one("kind = 'categorical'", Arc::new(values));
        assert_eq!(texts(&canonical)[1], None);
        assert_eq!(
            [0, 2, 3].map(|row| texts(&canonical)[row].clone().unwrap()),
            ["b", "", "b"]
        );
    }

    #[test]
    fn whole_floats_of_data_frames_are_codes_and_moments() {
        let floats = Float64Array::from(vec![Some(5_411.0), None, Some(f64::NAN), Some(1.5)]);
        let canonical = one("kind = 'categorical'", Arc::new(floats));
        assert_eq!(
            texts(&canonical),
            [Some("5411".to_owned()), None, None, None]
        );
        let expected = [(1, "empty_record"), (2, "empty_record"), (3, "wrong_type")];
        assert_eq!(faults(&canonical), expected);
        assert_eq!(
            canonical.faults[2].detail,
            "field `a`: expected text, an integer or a boolean, found 1.5"
        );
        let floats = vec![Some(1.7676e12), Some(f64::NAN), Some(0.5), Some(1e30)];
        let canonical = one(
            "kind = 'timestamp'\nunit = 'ms'",
            Arc::new(Float64Array::from(floats)),
        );
        assert_eq!(
            moments(&canonical),
            [Some(1_767_600_000_000_000), None, Some(500), None]
        );
        assert_eq!(faults(&canonical), [(1, "empty_record"), (3, "wrong_type")]);
    }

    #[test]
    fn a_code_that_single_precision_has_rounded_is_a_fault() {
        let codes = Float32Array::from(vec![Some(5_411.0), Some(16_777_215.0), Some(16_777_217.0)]);
        let canonical = one("kind = 'categorical'", Arc::new(codes));
        let expected = [Some("5411".to_owned()), Some("16777215".to_owned()), None];
        assert_eq!(texts(&canonical), expected);
        assert_eq!(faults(&canonical), [(2, "wrong_type")]);
        let doubles = Float64Array::from(vec![16_777_217.0]);
        let canonical = one("kind = 'categorical'", Arc::new(doubles));
        assert_eq!(texts(&canonical), some(&["16777217"]));
    }

    #[test]
    fn integers_with_and_without_a_sign_in_one_table_are_moments() {
        let counts =
            Decimal128Array::from(vec![Some(1_767_600_000), None, Some(i128::from(u64::MAX))])
                .with_precision_and_scale(20, 0)
                .unwrap();
        let canonical = one("kind = 'timestamp'\nunit = 's'", Arc::new(counts));
        assert_eq!(
            moments(&canonical),
            [Some(1_767_600_000_000_000), None, None]
        );
        assert_eq!(faults(&canonical), [(1, "empty_record"), (2, "wrong_type")]);
    }

    #[test]
    fn epoch_days_are_days() {
        let days: ArrayRef = Arc::new(Int32Array::from(vec![Some(20_458), None]));
        let expected = [Some(1_767_571_200_000_000), None];
        let canonical = one("kind = 'timestamp'\nunit = 'days'", Arc::clone(&days));
        assert_eq!(moments(&canonical), expected);
        // Arrow's own unit wins over the schema's.
        let own = cast(&days, &DataType::Date32).unwrap();
        assert_eq!(
            moments(&one("kind = 'timestamp'\nunit = 's'", own)),
            expected
        );
        let own = cast(&cast(&days, &DataType::Date32).unwrap(), &DataType::Date64).unwrap();
        assert_eq!(
            moments(&one("kind = 'timestamp'\nunit = 's'", own)),
            expected
        );
    }

    #[test]
    fn a_flag_is_read_from_numbers_and_text_under_parse_and_a_bad_one_is_its_rows_fault() {
        let expected = [Some(false), Some(true), None, None];
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(2)])),
            Arc::new(Float64Array::from(vec![0.0, 1.0, f64::NAN, 0.5])),
            Arc::new(StringArray::from(vec![
                Some("0"),
                Some("True"),
                None,
                Some("x"),
            ])),
        ];
        for column in columns {
            let canonical = one("kind = 'boolean'\nparse = true", column);
            assert_eq!(labels(&canonical), expected);
            assert_eq!(faults(&canonical), [(2, "empty_record"), (3, "wrong_type")]);
        }
    }

    #[test]
    fn unscaled_decimals_are_read_from_bytes_and_from_base64() {
        let bytes = BinaryArray::from(vec![
            Some(&[0x04, 0xd2][..]),
            Some(&[0xff]),
            None,
            Some(&[]),
        ]);
        let canonical = one("kind = 'numeric'\ndecimal_scale = 2", Arc::new(bytes));
        assert_eq!(numbers(&canonical), [Some(12.34), Some(-0.01), None, None]);
        assert_eq!(faults(&canonical), [(2, "empty_record"), (3, "wrong_type")]);
        let fixed = FixedSizeBinaryArray::try_from_iter([[0x04, 0xd2]].into_iter()).unwrap();
        let canonical = one("kind = 'numeric'\ndecimal_scale = 2", Arc::new(fixed));
        assert_eq!(numbers(&canonical), [Some(12.34)]);
        let text = StringArray::from(vec!["BNI=", "1234", "12.34"]);
        let canonical = one("kind = 'numeric'\ndecimal_scale = 2", Arc::new(text));
        assert_eq!(numbers(&canonical), [Some(12.34), Some(-26_588.24), None]);
        assert_eq!(faults(&canonical), [(2, "wrong_type")]);
    }

    #[test]
    fn moments_of_every_unit_are_microseconds_rounded_down() {
        let nanoseconds = TimestampNanosecondArray::from(vec![1_999, -1]).with_timezone("+05:00");
        assert_eq!(
            moments(&one("kind = 'timestamp'", Arc::new(nanoseconds))),
            [Some(1), Some(-1)]
        );
        let days = Date32Array::from(vec![Some(1), None]);
        let canonical = one("kind = 'timestamp'", Arc::new(days));
        assert_eq!(moments(&canonical), [Some(86_400_000_000), None]);
        let seconds: ArrayRef = Arc::new(Int64Array::from(vec![2, i64::MAX]));
        let canonical = one("kind = 'timestamp'\nunit = 's'", Arc::clone(&seconds));
        assert_eq!(moments(&canonical), [Some(2_000_000), None]);
        assert_eq!(faults(&canonical), [(1, "wrong_type")]);
        let wide = UInt64Array::from(vec![3, u64::MAX]);
        let canonical = one("kind = 'timestamp'\nunit = 'us'", Arc::new(wide));
        assert_eq!(moments(&canonical), [Some(3), None]);
        assert_eq!(faults(&canonical), [(1, "wrong_type")]);
        let arrow = DataType::Timestamp(TimeUnit::Second, None);
        let own_unit = cast(&seconds.slice(0, 1), &arrow).unwrap();
        assert_eq!(
            moments(&one("kind = 'timestamp'\nunit = 'ns'", own_unit)),
            [Some(2_000_000)]
        );
        let text = StringArray::from(vec!["1970-01-01T00:00:01+00:00", "soon"]);
        let canonical = one("kind = 'timestamp'", Arc::new(text));
        assert_eq!(moments(&canonical), [Some(1_000_000), None]);
        assert_eq!(faults(&canonical), [(1, "wrong_type")]);
    }

    #[test]
    fn a_moment_that_is_declared_null_is_null_in_whatever_form_it_comes() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![0, 1]));
        let columns: [ArrayRef; 4] = [
            Arc::clone(&days),
            cast(&days, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap(),
            Arc::new(StringArray::from(vec!["1970-01-01 00:00:00", "1970-01-02"])),
            Arc::new(Int64Array::from(vec![0, 86_400])),
        ];
        for column in columns {
            let keys = "kind = 'timestamp'\nunit = 's'\nnull_values = ['1970-01-01T00:00:00Z']";
            let canonical = one(keys, column);
            assert_eq!(moments(&canonical), [None, Some(86_400_000_000)]);
            assert_eq!(faults(&canonical), [(0, "empty_record")]);
        }
    }

    #[test]
    fn a_key_is_always_text() {
        let day = Date32Array::from(vec![1]);
        let canonical = beside("role = 'key'", Arc::new(day)).unwrap();
        assert_eq!(texts(&canonical), some(&["1970-01-02T00:00:00Z"]));
        let numbers = UInt64Array::from(vec![u64::MAX]);
        let canonical = beside("role = 'key'\nkind = 'numeric'", Arc::new(numbers)).unwrap();
        assert_eq!(texts(&canonical), some(&["18446744073709551615"]));
    }

    #[test]
    fn a_redacted_label_that_is_none_does_not_show() {
        let bad = Arc::new(StringArray::from(vec!["0", "secret"]));
        let keys = "role = 'label'\npath = 'a'\nredact = true";
        let error = beside(keys, bad).unwrap_err().to_string();
        assert!(
            error.ends_with("row 1 (from 0): expected a label 0 or 1, found a value (redacted)"),
            "{error}"
        );
    }

    #[test]
    fn a_label_is_read_from_numbers_and_text_and_anything_else_is_named() {
        let expected = [Some(false), Some(true), None];
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![Some(0), Some(1), None])),
            Arc::new(Float64Array::from(vec![
                Some(0.0),
                Some(1.0),
                Some(f64::NAN),
            ])),
            Arc::new(StringArray::from(vec![Some("false"), Some("1"), None])),
        ];
        for column in columns {
            assert_eq!(labels(&beside("role = 'label'", column).unwrap()), expected);
        }
        let bad = beside(
            "role = 'label'\npath = 'a'",
            Arc::new(Int64Array::from(vec![0, 2])),
        );
        let expected =
            "f.parquet, column `a`, row 1 (from 0): expected a label 0 or 1, found 2".to_owned();
        assert_eq!(bad.unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_value_below_a_null_struct_is_null_and_not_looked_at() {
        let leaf: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), Some("junk"), None]));
        let fields = vec![ArrowField::new("b", DataType::Utf8, true)].into();
        let nulls = NullBuffer::from(vec![true, false, true]);
        let parent = StructArray::new(fields, vec![leaf], Some(nulls));
        let schema = "[[field]]\nname='x'\npath='a.b'\nkind='numeric'\nparse=true\n\
                      [[field]]\nname='y'\nkind='numeric'";
        let other = Int8Array::from(vec![1, 2, 3]);
        let columns: Vec<(&str, ArrayRef)> = vec![("a", Arc::new(parent)), ("y", Arc::new(other))];
        let canonical = read(schema, columns).unwrap();
        assert_eq!(numbers(&canonical), [Some(1.0), None, None]);
        assert_eq!(canonical.faults, []);
    }

    #[test]
    fn absent_columns_are_null_and_ignored_ones_are_gone() {
        let schema = "[[field]]\nname='k'\nrole='key'\n[[field]]\nname='t'\nrole='time'\n\
                      [[field]]\nname='l'\nrole='label'\n[[field]]\nname='f'\nkind='numeric'\n\
                      [[field]]\nname='i'\nrole='ignore'";
        let column: ArrayRef = Arc::new(Int8Array::from(vec![1, 2]));
        let columns = vec![
            ("i", Arc::clone(&column)),
            ("f", Arc::clone(&column)),
            ("z", column),
        ];
        let batch = read(schema, columns).unwrap().batch;
        let parsed = Schema::parse(schema, "s").unwrap();
        assert_eq!(batch.schema(), canonical_schema(&parsed));
        let nulls: Vec<usize> = batch
            .columns()
            .iter()
            .map(|column| column.null_count())
            .collect();
        assert_eq!(nulls, [2, 2, 2, 0]);
    }

    #[test]
    fn a_batch_of_other_columns_than_announced_is_refused() {
        let schema = Schema::parse("[[field]]\nname='a'\nkind='numeric'", "s").unwrap();
        let announced = records(vec![("a", Arc::new(Int8Array::from(vec![1])))]);
        let other = records(vec![("a", Arc::new(StringArray::from(vec!["1"])))]);
        let reader = Canonicaliser::new(&schema, announced.schema_ref(), "f.parquet").unwrap();
        let error = reader.canonicalise(&other).unwrap_err().to_string();
        assert!(
            error.ends_with("expected a: Int8, found a: Utf8"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn canonical_rows_keep_count_order_and_value(
            rows in prop::collection::vec((any::<i64>(), prop::option::of("[0-9x]{1,3}")), 0..40),
            start in 0_usize..8,
        ) {
            let schema = "[[field]]\nname='n'\nkind='categorical'\n\
                          [[field]]\nname='p'\nkind='numeric'\nparse=true\nnullable=false";
            let schema = Schema::parse(schema, "s").unwrap();
            let keys: Int64Array = rows.iter().map(|(number, _)| Some(*number)).collect();
            let parsed: StringArray = rows.iter().map(|(_, text)| text.clone()).collect();
            let batch = records(vec![("n", Arc::new(keys)), ("p", Arc::new(parsed))]);
            // A slice has offsets that a careless reader forgets.
            let start = start.min(rows.len());
            let batch = batch.slice(start, rows.len() - start);
            let reader = Canonicaliser::new(&schema, batch.schema_ref(), "f").unwrap();
            let canonical = reader.canonicalise(&batch).unwrap();
            prop_assert_eq!(canonical.batch.num_rows(), rows.len() - start);
            let order: Vec<Option<String>> =
                rows[start..].iter().map(|(number, _)| Some(number.to_string())).collect();
            prop_assert_eq!(texts(&canonical), order);
            let good: Vec<bool> = rows[start..]
                .iter()
                .map(|(_, text)| text.as_ref().is_some_and(|text| !text.contains('x')))
                .collect();
            let bad: Vec<usize> = (0..good.len()).filter(|&row| !good[row]).collect();
            let faulty: Vec<usize> = canonical.faults.iter().map(|fault| fault.row).collect();
            prop_assert_eq!(faulty, bad);
        }
    }
}
