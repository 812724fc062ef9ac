//! Parquet at rest as a stream of canonical batches, one batch in memory at a time.
//!
//! In flow paths, out flow [`SourceBatch`]es in the order of the files (sorted by path) and of their
//! rows. Files are read row group by row group with a synchronous reader that decodes only the columns
//! of the schema. Invariants: no row is dropped or moved, and no error goes without file and place.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::canonical::Canonicaliser;
use super::error::{DataError, FileMismatch};
use super::fault::RowFault;
use super::inputs::files_of;
use super::parquet_file::{FileReader, SourceFile, open_file};
use crate::schema::{Schema, fit};

/// Rows of a batch unless asked otherwise: 30 columns of it fit a second-level cache, and the cost of
/// a batch is spread over enough rows.
pub const DEFAULT_BATCH_ROWS: usize = 8_192;

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Rows of a batch at most (0 counts as 1); a batch never spans row groups.
    pub batch_rows: usize,
    /// Whether the original columns, all of them in their order, come along.
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
    /// The same rows as they stand in the file, if asked for.
    pub raw: Option<RecordBatch>,
}

/// Records of one file with all their columns, not looked at.
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
}

impl ParquetSource {
    /// Opens files, folders and glob patterns. The files are sorted by path, whatever the order of the
    /// inputs, so that the same data gives the same rows in the same order.
    ///
    /// # Errors
    /// An input without files or without rows, a file given twice, a corrupt footer, columns of one
    /// name.
    pub fn open(inputs: &[String]) -> Result<Self, DataError> {
        let mut files: Vec<SourceFile> = Vec::new();
        let mut seen = HashSet::new();
        for input in inputs {
            let before = files.len();
            for path in files_of(input)? {
                let mut file = open_file(path, &mut seen)?;
                // Files of one table share one schema; 100,000 copies of it would not be small.
                if let Some(earlier) = files.last().filter(|last| last.schema == file.schema) {
                    file.schema = Arc::clone(&earlier.schema);
                }
                files.push(file);
            }
            if files[before..].iter().all(|file| file.rows == 0) {
                return Err(DataError::NoRows {
                    input: input.clone(),
                });
            }
        }
        if files.is_empty() {
            return Err(DataError::NoFiles {
                input: "an empty list".to_owned(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// The files, sorted by path; at least one.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Checks that every file fits `schema`, by the footers alone.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] with every column of every file that is missing or of another type.
    pub fn check(&self, schema: &Schema) -> Result<(), DataError> {
        let mut faulty = Vec::new();
        let mut sound: Option<&SchemaRef> = None;
        for file in &self.files {
            if sound.is_some_and(|sound| Arc::ptr_eq(sound, &file.schema)) {
                continue;
            }
            match fit(schema, &file.schema) {
                Ok(_) => sound = Some(&file.schema),
                Err(mismatches) => faulty.push(FileMismatch {
                    file: file.name(),
                    mismatches,
                }),
            }
        }
        if faulty.is_empty() {
            Ok(())
        } else {
            Err(DataError::Mismatch(faulty))
        }
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

    /// The records with all their columns, whatever the schema; after an error the stream ends.
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
                Canonicaliser::new(self.schema, records.schema_ref(), &name)?
            }
        };
        let canonical = canonicaliser.canonicalise(&records);
        self.canonicaliser = Some((file, canonicaliser));
        let canonical = canonical.map_err(|error| error.counted_from(first_row))?;
        Ok(SourceBatch {
            file,
            first_row,
            canonical: canonical.batch,
            faults: canonical.faults,
            raw: self.keep_raw.then_some(records),
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
            Ok(()) => self.raw.next()?.and_then(|raw| self.canonical(raw)),
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
        let batch = self.advance().transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        batch
    }
}
