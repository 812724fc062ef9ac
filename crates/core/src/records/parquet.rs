//! Parquet at rest as a stream of canonical batches, one batch in memory at a time.
//!
//! In flow paths, out flow [`SourceBatch`]es in the order of the files (sorted by path) and of their
//! rows. Files are read row group by row group with a synchronous reader that decodes only the columns
//! of the schema. The files of a source are one table: columns are matched by name, one that a file lacks is null
//! there, types may differ as far as one holds the values of all (`unify`), and folders named `column=value` are
//! columns (`folder_columns`). Invariants: no row is dropped or moved, and no error goes without file and place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::canonical::{Canonicaliser, first_of_each_row};
use super::conform::conform;
use super::error::TypeConflict;
use super::error::{DataError, FileMismatch};
use super::fault::RowFault;
use super::folder_columns::{
    FolderColumn, FolderValue, folder_columns, folder_types, folder_values, with_folder_columns,
};
use super::inputs::files_of;
use super::parquet_file::{FileReader, OpenedFile, SourceFile, open_file};
use super::unify::Unified;
use crate::schema::{Binding, Field, Schema, fit, fit_part};

/// Rows of a batch unless asked otherwise: 30 columns of it fit a second-level cache, and the cost of
/// a batch is spread over enough rows.
pub const DEFAULT_BATCH_ROWS: usize = 8_192;

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Rows of a batch at most (0 counts as 1); a batch never spans row groups.
    pub batch_rows: usize,
    /// Whether the original columns, all of them as [`ParquetSource::columns`] has them, come along.
    pub keep_raw: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            batch_rows: DEFAULT_BATCH_ROWS,
            keep_raw: false,
        }
    }
}

/// Records of one file, in the order in which they stand there.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// Index in [`ParquetSource::files`].
    pub file: usize,
    /// Row of the file (from 0) that is the first of the batch.
    pub first_row: u64,
    /// Every row, canonical; what could not be read is null.
    pub canonical: RecordBatch,
    /// The bad rows of the batch, ascending, at most one fault a row.
    pub faults: Vec<RowFault>,
    /// The same rows with all columns of the source, if asked for.
    pub raw: Option<RecordBatch>,
}

impl SourceBatch {
    /// Adds faults of rows that may have one already: the first of a row stays.
    pub fn add_faults(&mut self, faults: Vec<RowFault>) {
        if !faults.is_empty() {
            let before = std::mem::take(&mut self.faults);
            self.faults = first_of_each_row(before.into_iter().chain(faults).collect());
        }
    }
}

/// Records of one file with all columns of the source, not looked at.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Index in [`ParquetSource::files`].
    pub file: usize,
    /// Row of the file (from 0) that is the first of the batch.
    pub first_row: u64,
    /// The records.
    pub records: RecordBatch,
}

/// Parquet files whose footers were read and are sound.
#[derive(Debug, Clone)]
pub struct ParquetSource {
    files: Vec<SourceFile>,
    unified: Unified,
    /// Columns of files that folders hide.
    hidden: BTreeSet<String>,
}

/// Arrow schemas that are compared with that of a file just opened: the files of a table have one, or take turns.
const SCHEMAS_COMPARED_MAX: usize = 8;

impl ParquetSource {
    /// Opens files, folders and glob patterns. The files are sorted by path, whatever the order of the
    /// inputs, so that the same data gives the same rows in the same order.
    ///
    /// # Errors
    /// An input without files or without rows, a file given twice, a corrupt footer, columns of one
    /// name.
    pub fn open(inputs: &[String]) -> Result<Self, DataError> {
        let mut files: Vec<OpenedFile> = Vec::new();
        let mut seen = HashSet::new();
        let mut schemas: Vec<SchemaRef> = Vec::new();
        for input in inputs {
            for path in files_of(input)? {
                let mut file = open_file(path, &mut seen)?;
                // Files of one table share one schema; 100,000 copies of it would not be small.
                match schemas.iter().position(|schema| *schema == file.own) {
                    Some(at) => file.own = Arc::clone(&schemas[at]),
                    None => schemas.insert(0, Arc::clone(&file.own)),
                }
                schemas.truncate(SCHEMAS_COMPARED_MAX);
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(DataError::NoFiles {
                input: "an empty list".to_owned(),
            });
        }
        if files.iter().all(|file| file.rows == 0) {
            return Err(DataError::NoRows {
                input: inputs.join(", "),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self::of(files))
    }

    /// One table of files in their order.
    fn of(opened: Vec<OpenedFile>) -> Self {
        let values = opened.iter().map(|file| folder_values(&file.path));
        let values: Vec<Vec<FolderValue>> = values.collect();
        let types = folder_types(values.iter().map(Vec::as_slice));
        let mut hidden = BTreeSet::new();
        // Files of one schema below folders of one kind share what they make together.
        let mut shared: HashMap<(usize, Vec<String>), SchemaRef> = HashMap::new();
        let mut files = Vec::with_capacity(opened.len());
        for (OpenedFile { path, rows, own }, values) in opened.iter().zip(&values) {
            let folders: Arc<[FolderColumn]> = folder_columns(values, &types).into();
            let names: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
            let is_hidden = |name: &&String| own.index_of(name).is_ok();
            hidden.extend(names.iter().filter(is_hidden).cloned());
            let schema = shared
                .entry((Arc::as_ptr(own) as usize, names))
                .or_insert_with(|| match folders.is_empty() {
                    true => Arc::clone(own),
                    false => Arc::new(with_folder_columns(own, &folders)),
                });
            files.push(SourceFile {
                path: path.clone(),
                rows: *rows,
                schema: Arc::clone(schema),
                folders,
            });
        }
        Self {
            unified: Unified::of(&files),
            hidden,
            files,
        }
    }

    /// The columns of all files together: those of the first with rows, in its order, then what later ones add.
    pub fn columns(&self) -> &SchemaRef {
        self.unified.schema()
    }

    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// The files, sorted by path; at least one.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Checks that the files fit `schema`, by the footers alone.
    ///
    /// # Errors
    /// [`DataError::Conflict`] with every column that is read and of which two files have types that do not go together,
    /// [`DataError::Mismatch`] with every column that is missing in all files or of another type in one.
    pub fn check(&self, schema: &Schema) -> Result<(), DataError> {
        self.refuse_conflicts(|conflict| {
            let mut fields = schema.read_fields();
            fields.any(|field| overlap(field.path.segments(), &conflict.path))
        })?;
        let mut faulty = Vec::new();
        let mut sound: Option<&SchemaRef> = None;
        for file in self.files.iter().filter(|file| file.rows > 0) {
            if sound.is_some_and(|sound| Arc::ptr_eq(sound, &file.schema)) {
                continue;
            }
            match fit_part(schema, &file.schema) {
                Ok(_) => sound = Some(&file.schema),
                Err(mismatches) => faulty.push(FileMismatch {
                    file: file.name(),
                    mismatches,
                }),
            }
        }
        // What is of another type in one file was told of that file.
        if let (true, Err(mismatches)) = (faulty.is_empty(), fit(schema, self.columns())) {
            faulty.push(FileMismatch {
                file: self.name(),
                mismatches,
            });
        }
        if faulty.is_empty() {
            Ok(())
        } else {
            Err(DataError::Mismatch(faulty))
        }
    }

    fn refuse_conflicts(&self, is_read: impl Fn(&&TypeConflict) -> bool) -> Result<(), DataError> {
        let conflicts = self.unified.conflicts().iter().filter(is_read);
        let conflicts: Vec<TypeConflict> = conflicts.cloned().collect();
        match conflicts.is_empty() {
            true => Ok(()),
            false => Err(DataError::Conflict(conflicts)),
        }
    }

    /// The first file, and how many more there are.
    pub fn name(&self) -> String {
        let first = self
            .files
            .first()
            .map_or_else(String::new, SourceFile::name);
        match self.files.len() {
            0 | 1 => first,
            files => format!("{first} and {} more", files - 1),
        }
    }

    /// What a person should know of how the files are read by `schema`: fields that some files lack, columns that
    /// folders hide.
    pub fn notes(&self, schema: &Schema) -> Vec<String> {
        let files: Vec<&SourceFile> = self.files.iter().filter(|file| file.rows > 0).collect();
        let mut notes = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let lacks = |file: &&&SourceFile| {
                let bindings = fit_part(schema, &file.schema).unwrap_or_default();
                bindings
                    .iter()
                    .any(|Binding { field, column }| *field == index && column.is_none())
            };
            let mut lacking = files.iter().filter(lacks);
            let (first, others) = (lacking.next(), lacking.count());
            if let Some(first) = first.filter(|_| others + 1 < files.len()) {
                notes.push(lacking_note(field, first, others + 1, files.len()));
            }
        }
        let is_read = |name: &&String| {
            let mut fields = schema.read_fields();
            fields.any(|field| field.path.segments() == [(*name).clone()])
        };
        notes.extend(self.hidden.iter().filter(is_read).map(|name| {
            format!(
                "column `{name}` is in the files and in the names of their folders: the folders' values are taken"
            )
        }));
        notes
    }

    /// Columns that only the names of folders give.
    pub fn folder_columns(&self) -> BTreeSet<String> {
        let columns = self.files.iter().flat_map(|file| file.folders.iter());
        columns
            .map(|column| column.name.clone())
            .filter(|name| !self.hidden.contains(name))
            .collect()
    }

    /// The records as `schema` reads them. A source that does not fit gives [`DataError::Mismatch`] as
    /// its first item, with all mismatches of all files; after an error the stream ends.
    pub fn batches<'a>(&'a self, schema: &'a Schema, options: ReadOptions) -> Batches<'a> {
        let projected = if options.keep_raw { None } else { Some(schema) };
        Batches {
            raw: self.stream(projected, options.batch_rows),
            schema,
            keep_raw: options.keep_raw,
            canonicaliser: None,
            checked: false,
        }
    }

    /// The records with all columns of the source, whatever the schema. Files that do not go together give
    /// [`DataError::Conflict`] as the first item; after an error the stream ends.
    pub fn raw_batches(&self, batch_rows: usize) -> RawBatches<'_> {
        self.stream(None, batch_rows)
    }

    fn stream<'a>(&'a self, projected: Option<&'a Schema>, batch_rows: usize) -> RawBatches<'a> {
        let batch_rows = batch_rows.max(1);
        RawBatches {
            source: self,
            projected,
            batch_rows,
            next_file: 0,
            reader: None,
            ended: false,
        }
    }
}

/// Whether two columns are one, or one holds the other.
fn overlap(a: &[String], b: &[String]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

fn lacking_note(field: &Field, first: &SourceFile, lacking: usize, files: usize) -> String {
    let name = field.path.segments().last().map_or("", String::as_str);
    let others = first.schema.fields().iter();
    let similar = others
        .filter(|other| other.name().eq_ignore_ascii_case(name))
        .map(|other| format!("; it has `{}`", other.name()));
    format!(
        "field `{}`: {lacking} of {files} files have no column `{}` (the first: {}{}); it is null in their rows",
        field.name,
        field.path,
        first.name(),
        similar.collect::<String>(),
    )
}

/// The canonical batches of a source; see [`ParquetSource::batches`].
pub struct Batches<'a> {
    raw: RawBatches<'a>,
    schema: &'a Schema,
    keep_raw: bool,
    /// That of the file in hand, with the file's index.
    canonicaliser: Option<(usize, Canonicaliser)>,
    checked: bool,
}

impl Batches<'_> {
    fn check(&mut self) -> Result<(), DataError> {
        if std::mem::replace(&mut self.checked, true) {
            return Ok(());
        }
        if self.keep_raw {
            self.raw.source.refuse_conflicts(|_| true)?;
        }
        self.raw.source.check(self.schema)
    }

    fn canonical(&mut self, raw: RawBatch) -> Result<SourceBatch, DataError> {
        let RawBatch {
            file,
            first_row,
            records,
        } = raw;
        let canonicaliser = match self.canonicaliser.take() {
            Some((of, canonicaliser)) if of == file => canonicaliser,
            _ => {
                let name = self.raw.source.files[file].name();
                Canonicaliser::of_part(self.schema, records.schema_ref(), &name)?
            }
        };
        let canonical = canonicaliser.canonicalise(&records);
        self.canonicaliser = Some((file, canonicaliser));
        let canonical = canonical.map_err(|error| error.counted_from(first_row))?;
        let source = self.raw.source;
        let name = || source.files[file].name();
        let raw = self.keep_raw;
        let raw = raw.then(|| conform(&records, source.columns(), &name(), first_row));
        Ok(SourceBatch {
            file,
            first_row,
            canonical: canonical.batch,
            faults: canonical.faults,
            raw: raw.transpose()?,
        })
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<SourceBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.raw.ended {
            return None;
        }
        let batch = match self.check() {
            Ok(()) => match self.raw.advance() {
                Ok(None) => {
                    self.raw.ended = true;
                    return None;
                }
                Ok(Some(raw)) => {
                    let batch = self.canonical(raw);
                    batch.map_err(|error| error.redacted(self.schema))
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.raw.ended |= batch.is_err();
        Some(batch)
    }
}

/// The batches of a source as they are; see [`ParquetSource::raw_batches`].
pub struct RawBatches<'a> {
    source: &'a ParquetSource,
    projected: Option<&'a Schema>,
    batch_rows: usize,
    next_file: usize,
    /// That of file `next_file - 1`, until its last row is read.
    reader: Option<FileReader>,
    ended: bool,
}

impl RawBatches<'_> {
    /// With the columns of the source.
    fn conformed(&self, raw: RawBatch) -> Result<RawBatch, DataError> {
        if self.projected.is_some() {
            return Ok(raw);
        }
        let name = self.source.files[raw.file].name();
        let columns = self.source.columns();
        let records = conform(&raw.records, columns, &name, raw.first_row)?;
        Ok(RawBatch { records, ..raw })
    }

    /// The next records as they stand in their file.
    fn advance(&mut self) -> Result<Option<RawBatch>, DataError> {
        loop {
            if let Some(reader) = &mut self.reader {
                let file = self.next_file - 1;
                if let Some((first_row, records)) = reader.read()? {
                    return Ok(Some(RawBatch {
                        file,
                        first_row,
                        records,
                    }));
                }
                self.reader = None;
            }
            let Some(file) = self.source.files.get(self.next_file) else {
                return Ok(None);
            };
            self.reader = Some(FileReader::open(file, self.projected, self.batch_rows)?);
            self.next_file += 1;
        }
    }
}

impl Iterator for RawBatches<'_> {
    type Item = Result<RawBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = match self.next_file {
            0 => self.source.refuse_conflicts(|_| true),
            _ => Ok(()),
        };
        let batch = batch
            .and_then(|()| self.advance())
            .and_then(|raw| raw.map(|raw| self.conformed(raw)).transpose());
        self.ended = !matches!(batch, Ok(Some(_)));
        batch.transpose()
    }
}

#[cfg(test)]
mod tests;
