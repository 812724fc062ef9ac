//! `evaluate --by FIELD`: where the values that make groups stand in the files, and how they are read.
//!
//! In flow the name of a field or column and the files, out flow a schema that reads it beside the rest, and texts of
//! canonical batches. Invariant: whatever role the field has, its values never reach the model by this.

use super::exit::BadData;
use crate::records::ParquetSource;
use crate::schema::{FieldPath, Kind, Role, Schema, fit_part};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Fields};

/// A field whose values make groups.
#[derive(Debug, Clone)]
pub struct GroupColumn {
    /// As it was asked for.
    pub field: String,
    /// Whether its values may not be shown.
    pub redact: bool,
    /// Whether the bundle reads its values as a quantity, or does not know it.
    may_be_quantity: bool,
    path: FieldPath,
    /// The name of its column in canonical batches.
    column: String,
}

impl GroupColumn {
    /// The field of that name in `schema`, the bundle's; else the column of that name in the files; else the nested one,
    /// with dots between levels. It is to be read beside the fields of `read`.
    pub fn find(field: &str, schema: &Schema, read: &Schema, source: &ParquetSource) -> Self {
        let named = schema.fields().iter().find(|other| other.name == field);
        let path = match named {
            Some(named) => named.path.clone(),
            None if source.columns().index_of(field).is_ok() => FieldPath::top(field),
            None => FieldPath::parse(field),
        };
        let redact = schema.fields().iter().any(|f| f.redact && f.path == path);
        // The field may be a feature or the label too, which have columns of their own.
        let mut column = field.to_owned();
        while read.fields().iter().any(|other| other.name == column) {
            column.push_str(" (--by)");
        }
        Self {
            field: field.to_owned(),
            redact,
            may_be_quantity: named.is_none_or(|named| named.kind == Kind::Numeric),
            path,
            column,
        }
    }

    /// `schema` with the values of the field as a column more.
    ///
    /// # Errors
    /// A path that is none (64), files without the column, or one that holds numbers with a fraction (65).
    pub fn read_beside(&self, schema: &Schema, source: &ParquetSource) -> anyhow::Result<Schema> {
        let schema = schema.keyed_by(&self.column, self.path.clone())?;
        source.check(&schema)?;
        let key = schema.fields().iter().position(|f| f.role == Role::Key);
        // The files fit, as was just checked; a key may be absent for all that.
        let bindings = fit_part(&schema, source.columns()).unwrap_or_default();
        let column = bindings.iter().find(|b| Some(b.field) == key);
        let (files, path) = (source.name(), &self.path);
        let Some(indices) = column.and_then(|column| column.column.as_ref()) else {
            return Err(BadData(format!("{files}: column '{path}' (--by) is missing")).into());
        };
        let found = column_type(source.columns().fields(), indices);
        match found.filter(|found| found.is_floating() && self.may_be_quantity) {
            Some(found) => Err(BadData(format!(
                "{files}: column '{path}' (--by) is {found}, a quantity, which makes no groups: expected text, integers, \
                 booleans or a categorical field of the bundle"
            ))
            .into()),
            None => Ok(schema),
        }
    }

    /// The values of a canonical batch of that schema, as canonical text.
    pub fn values<'a>(&self, batch: &'a RecordBatch) -> Vec<Option<&'a str>> {
        let column = batch.column_by_name(&self.column);
        let texts: Option<&StringArray> = column.and_then(|column| column.as_string_opt());
        let value = |row| texts.filter(|t| t.is_valid(row)).map(|t| t.value(row));
        (0..batch.num_rows()).map(value).collect()
    }
}

/// The type of the column at `indices`: at the top, then of the child in each struct.
fn column_type<'a>(fields: &'a Fields, indices: &[usize]) -> Option<&'a DataType> {
    let (first, rest) = indices.split_first()?;
    let found = fields.get(*first)?.data_type();
    match found {
        DataType::Struct(children) if !rest.is_empty() => column_type(children, rest),
        other => Some(other),
    }
}
