//! `evaluate --by FIELD`: where the values that make groups stand in the files, and how they are read.
//!
//! In flow the name of a field or column and the files, out flow a schema that reads it beside the rest, and texts of
//! canonical batches. Invariant: whatever role the field has, its values never reach the model by this.

use super::exit::BadData;
use crate::features::ParquetSource;
use crate::schema::{Binding, FieldPath, Role, Schema, fit_part};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};

/// A field whose values make groups.
#[derive(Debug, Clone)]
pub struct GroupColumn {
    /// As it was asked for.
    pub field: String,
    /// Whether its values may not be shown.
    pub redact: bool,
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
        let is_absent = |b: &Binding| Some(b.field) == key && b.column.is_none();
        if bindings.iter().any(is_absent) {
            let (files, path) = (source.name(), &self.path);
            return Err(BadData(format!("{files}: column '{path}' (--by) is missing")).into());
        }
        Ok(schema)
    }

    /// The values of a canonical batch of that schema, as canonical text.
    pub fn values<'a>(&self, batch: &'a RecordBatch) -> Vec<Option<&'a str>> {
        let column = batch.column_by_name(&self.column);
        let texts: Option<&StringArray> = column.and_then(|column| column.as_string_opt());
        let value = |row| texts.filter(|t| t.is_valid(row)).map(|t| t.value(row));
        (0..batch.num_rows()).map(value).collect()
    }
}
