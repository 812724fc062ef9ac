//! Which calibration rows are labelled rows.
//!
//! In flow labelled rows, as digests of what tells them apart; out flows the labelled row that another row is, if any.
//! Two rows of equal features cannot be told apart without a key: they count as one, so that a doubt is a refusal.

use crate::bundle::{ROW_DIGEST_BYTES, row_digest};
use crate::records::{ParquetSource, SourceBatch};
use crate::schema::{Field, Role, Schema, fit_part};
use arrow::array::{Array, ArrayRef, RecordBatch};
use std::collections::HashMap;

type Digest = [u8; ROW_DIGEST_BYTES];

/// A row of a source.
#[derive(Debug, Clone, Copy)]
pub struct RowPosition {
    /// Index in the source's files.
    pub file: usize,
    /// Row of the file, from 0.
    pub row: u64,
}

impl RowPosition {
    /// Of a row of a batch.
    pub fn new(batch: &SourceBatch, row: usize) -> Self {
        Self {
            file: batch.file,
            row: batch.first_row + row as u64,
        }
    }
}

/// What tells the labelled rows that are kept from others.
///
/// A key tells, where the schema has one, all files hold it and no two labelled rows share it. Otherwise all that is known
/// of a row does: its features, and key and time where all files hold them.
#[derive(Debug, Clone)]
pub struct Identities {
    key: Option<String>,
    values: Vec<String>,
    by_key: HashMap<Digest, RowPosition>,
    by_values: HashMap<Digest, RowPosition>,
    /// Whether two labelled rows share a key, or one has none.
    ambiguous: bool,
}

/// The columns that identify a row, and the digests of the labelled rows in them.
pub struct KnownRows<'a> {
    columns: Vec<&'a str>,
    digests: &'a HashMap<Digest, RowPosition>,
    /// What identifies a row, for a message.
    pub identified_by: &'static str,
}

impl KnownRows<'_> {
    /// The columns of a canonical batch.
    pub fn columns<'b>(&self, batch: &'b RecordBatch) -> Vec<&'b ArrayRef> {
        let columns = self.columns.iter();
        columns
            .filter_map(|name| batch.column_by_name(name))
            .collect()
    }

    /// Which labelled row a row of such columns is, if any.
    pub fn find(&self, columns: &[&ArrayRef], row: usize) -> Option<RowPosition> {
        self.digests.get(&row_digest(columns, row)).copied()
    }
}

impl Identities {
    /// Of no row yet, of sources that are read by a schema.
    pub fn new(schema: &Schema, sources: &[&ParquetSource]) -> Self {
        let held = |role| {
            let mut files = sources.iter().flat_map(|source| source.files());
            files.all(|file| holds(schema, role, file.schema()))
        };
        let name = |field: &Field| field.name.clone();
        let key = schema.key().filter(|_| held(Role::Key)).map(name);
        let time = schema.time().filter(|_| held(Role::Time)).map(name);
        let values = schema.features().map(name).chain(time).chain(key.clone());
        Self {
            values: values.collect(),
            ambiguous: key.is_none(),
            key,
            by_key: HashMap::new(),
            by_values: HashMap::new(),
        }
    }

    /// Adds a labelled row.
    pub fn add(&mut self, batch: &SourceBatch, row: usize) {
        let position = RowPosition::new(batch, row);
        let batch = &batch.canonical;
        if let Some(key) = self.key.as_ref().and_then(|key| batch.column_by_name(key)) {
            let earlier = self.by_key.insert(row_digest(&[key], row), position);
            self.ambiguous |= earlier.is_some() || key.is_null(row);
        }
        let values = self.values.iter();
        let columns: Vec<_> = values
            .filter_map(|name| batch.column_by_name(name))
            .collect();
        self.by_values
            .entry(row_digest(&columns, row))
            .or_insert(position);
    }

    /// The labelled rows, to be found by what identifies a row, once all of them are known.
    pub fn known_rows(&self) -> KnownRows<'_> {
        match &self.key {
            Some(key) if !self.ambiguous => KnownRows {
                columns: vec![key],
                digests: &self.by_key,
                identified_by: "the key",
            },
            _ => KnownRows {
                columns: self.values.iter().map(String::as_str).collect(),
                digests: &self.by_values,
                identified_by: "all features, and time and key where all files have them; a key of its own for each row \
                          would tell equal rows apart",
            },
        }
    }
}

/// Whether a file of these columns holds the field of a role.
pub fn holds(schema: &Schema, role: Role, columns: &arrow::datatypes::Schema) -> bool {
    let bindings = fit_part(schema, columns).unwrap_or_default();
    bindings
        .iter()
        .any(|b| schema.fields()[b.field].role == role && b.column.is_some())
}
