//! The one form of records that everything after reading sees: a canonical `RecordBatch`.
//!
//! It has one column for every field whose role is not `ignore`, in the order of the schema, named by
//! the field, nullable. Types: numeric Float64 (finite or null), categorical Utf8, boolean Boolean,
//! timestamp Timestamp(Microsecond, "UTC"); a key is always Utf8, a label always Boolean. In flow
//! batches of any layout that fits the schema, out flow the same rows in the same order with the
//! faults of the bad ones.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;

use super::convert::{ConvertError, canonical_type, convert};
use super::error::{DataError, FileMismatch};
use super::fault::{FaultReason, RowFault};
use crate::schema::{Binding, Field, Role, Schema, fit};

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
        let bindings = fit(schema, source).map_err(|mismatches| {
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
    /// [`DataError::ColumnsChanged`] when the batch is not of the announced Arrow schema, and
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
            Some(indices) => convert(field, &descend(batch, indices)?, faults),
            None => Ok(new_null_array(&canonical_type(field), batch.num_rows())),
        }
    }

    fn check_columns(&self, found: &ArrowSchema) -> Result<(), DataError> {
        let columns = |schema: &ArrowSchema| {
            let column =
                |field: &Arc<ArrowField>| format!("{}: {}", field.name(), field.data_type());
            schema
                .fields()
                .iter()
                .map(column)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (announced, fields) = (self.source.fields(), found.fields());
        let same = announced.len() == fields.len()
            && announced.iter().zip(fields).all(|(announced, field)| {
                announced.name() == field.name() && announced.data_type() == field.data_type()
            });
        if same {
            return Ok(());
        }
        let expected = columns(&self.source);
        Err(DataError::ColumnsChanged {
            file: self.origin.clone(),
            expected,
            found: columns(found),
        })
    }

    fn error(&self, field: &Field, error: ConvertError) -> DataError {
        let column = field.path.to_string();
        match error {
            ConvertError::Label { row, value } => DataError::Label {
                file: self.origin.clone(),
                column,
                row: row as u64,
                value,
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

/// The rows of a canonical batch that no source may let through: `missing_field` where a feature with
/// `nullable = false` is null, `empty_record` where every feature is. Ascending, at most one a row.
///
/// Every source of records calls this, so that the rule stands once.
pub fn row_faults(batch: &RecordBatch, schema: &Schema) -> Vec<RowFault> {
    let mut faults = Vec::new();
    let mut present = Some(vec![false; batch.num_rows()]);
    for (field, column) in schema.read_fields().zip(batch.columns()) {
        if field.role != Role::Feature {
            continue;
        }
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        let Some(nulls) = nulls else {
            present = None;
            continue;
        };
        if !field.nullable {
            faults.extend(missing(field, nulls));
        }
        if let Some(present) = &mut present {
            nulls.valid_indices().for_each(|row| present[row] = true);
        }
    }
    let rows = present.unwrap_or_default().into_iter().enumerate();
    faults.extend(
        rows.filter(|(_, present)| !present)
            .map(|(row, _)| RowFault {
                row,
                reason: FaultReason::EmptyRecord,
                detail: "no feature field is present".to_owned(),
            }),
    );
    first_of_each_row(faults)
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
fn first_of_each_row(mut faults: Vec<RowFault>) -> Vec<RowFault> {
    faults.sort_by_key(|fault| fault.row);
    faults.dedup_by_key(|fault| fault.row);
    faults
}

/// The column at the end of `indices`, null wherever a struct on the way is.
fn descend(batch: &RecordBatch, indices: &[usize]) -> Result<ArrayRef, ArrowError> {
    let gone = || ArrowError::SchemaError("a column is not where it was".to_owned());
    let (&top, children) = indices.split_first().ok_or_else(gone)?;
    let mut column = Arc::clone(batch.columns().get(top).ok_or_else(gone)?);
    let mut nulls: Option<NullBuffer> = None;
    for &child in children {
        nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
        let parent = column.as_struct_opt().ok_or_else(gone)?;
        let child = Arc::clone(parent.columns().get(child).ok_or_else(gone)?);
        column = child;
    }
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nullif(&column, &BooleanArray::new(!nulls.inner(), None)),
        None => Ok(column),
    }
}
