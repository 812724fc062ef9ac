//! One Parquet file: its footer, read and checked, and its rows, row group by row group.
//!
//! In flow a path and the columns to decode, out flow Arrow batches with the row at which each begins.
//! The file is open only while it is read; at most one page a column is decoded ahead of the batch.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::schema::types::SchemaDescriptor;

use super::error::DataError;
use super::guard::guarded;
use crate::schema::{Schema, duplicate_columns};

/// A file of a source, as its footer describes it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    pub(super) schema: SchemaRef,
}

impl SourceFile {
    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Its columns as Arrow sees them.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// One file, read row group by row group.
pub(super) struct FileReader {
    name: String,
    file: File,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    batch_rows: usize,
    /// The row group that `group` reads, or that is next.
    row_group: usize,
    group: Option<ParquetRecordBatchReader>,
    rows_read: u64,
    rows: u64,
}

impl FileReader {
    pub(super) fn open(
        source: &SourceFile,
        projected: Option<&Schema>,
        batch_rows: usize,
    ) -> Result<Self, DataError> {
        let (file, metadata) = open_footer(&source.path)?;
        let found = rows_of(&source.path, &metadata)?;
        if found != source.rows {
            let expected = source.rows;
            return Err(DataError::RowsChanged {
                file: source.name(),
                expected,
                found,
            });
        }
        let mask = projection(metadata.parquet_schema(), projected);
        Ok(Self {
            name: source.name(),
            file,
            metadata,
            mask,
            batch_rows,
            row_group: 0,
            group: None,
            rows_read: 0,
            rows: source.rows,
        })
    }

    /// The next batch with the row of the file at which it begins; `None` after the last.
    pub(super) fn read(&mut self) -> Result<Option<(u64, RecordBatch)>, DataError> {
        while self.row_group < self.metadata.metadata().num_row_groups() {
            if self.group.is_none() {
                self.group = Some(self.start_row_group()?);
            }
            let group = self.group.as_mut();
            let batch = guarded(|| group.and_then(Iterator::next).transpose());
            if let Some(batch) = batch.map_err(|message| self.row_group_error(message))? {
                let first_row = self.rows_read;
                self.rows_read += batch.num_rows() as u64;
                return Ok(Some((first_row, batch)));
            }
            self.group = None;
            self.row_group += 1;
        }
        if self.rows_read == self.rows {
            return Ok(None);
        }
        let (expected, found) = (self.rows, self.rows_read);
        Err(DataError::RowsChanged {
            file: self.name.clone(),
            expected,
            found,
        })
    }

    fn start_row_group(&self) -> Result<ParquetRecordBatchReader, DataError> {
        let file = self.file.try_clone();
        let file = file.map_err(|source| DataError::Io {
            file: self.name.clone(),
            source,
        })?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![self.row_group])
                .with_batch_size(self.batch_rows)
                .with_projection(self.mask.clone());
        guarded(|| builder.build()).map_err(|message| self.row_group_error(message))
    }

    fn row_group_error(&self, message: String) -> DataError {
        DataError::RowGroup {
            file: self.name.clone(),
            row_group: self.row_group,
            row_groups: self.metadata.metadata().num_row_groups(),
            row: self.rows_read,
            message,
        }
    }
}

/// Opens the file at `path`, unless it is one of those `seen`, and reads its footer.
pub(super) fn open_file(
    path: PathBuf,
    seen: &mut HashSet<PathBuf>,
) -> Result<SourceFile, DataError> {
    let name = path.display().to_string();
    let real = path.canonicalize();
    let real = real.map_err(|source| DataError::Io {
        file: name.clone(),
        source,
    })?;
    if !seen.insert(real) {
        return Err(DataError::DuplicateFile { file: name });
    }
    let (_, metadata) = open_footer(&path)?;
    let columns = duplicate_columns(metadata.schema());
    if !columns.is_empty() {
        return Err(DataError::DuplicateColumns {
            file: name,
            columns,
        });
    }
    let rows = rows_of(&path, &metadata)?;
    Ok(SourceFile {
        path,
        rows,
        schema: Arc::clone(metadata.schema()),
    })
}

/// Opens the file at `path` and decodes its footer.
pub(super) fn open_footer(path: &Path) -> Result<(File, ArrowReaderMetadata), DataError> {
    let name = path.display().to_string();
    let file = File::open(path);
    let file = file.map_err(|source| DataError::Io {
        file: name.clone(),
        source,
    })?;
    // The page index serves row selections, which nothing here makes.
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    match guarded(|| ArrowReaderMetadata::load(&file, options)) {
        Ok(metadata) => Ok((file, metadata)),
        Err(message) => Err(DataError::Footer {
            file: name,
            message,
        }),
    }
}

/// Rows by the row groups, which must be those that the footer states for the whole.
fn rows_of(path: &Path, metadata: &ArrowReaderMetadata) -> Result<u64, DataError> {
    let groups = metadata.metadata().row_groups().iter();
    let counted = groups
        .map(|group| group.num_rows())
        .try_fold(0_i64, i64::checked_add);
    let stated = metadata.metadata().file_metadata().num_rows();
    let rows = counted
        .filter(|&rows| rows == stated)
        .and_then(|rows| u64::try_from(rows).ok());
    rows.ok_or_else(|| DataError::Footer {
        file: path.display().to_string(),
        message: format!("it states {stated} rows, its row groups {counted:?}"),
    })
}

/// The leaves that hold the fields of `schema`, or all of them.
fn projection(parquet: &SchemaDescriptor, schema: Option<&Schema>) -> ProjectionMask {
    let Some(schema) = schema else {
        return ProjectionMask::all();
    };
    let paths: HashSet<&[String]> = schema
        .read_fields()
        .map(|field| field.path.segments())
        .collect();
    let leaves = parquet.columns().iter().enumerate();
    let read = leaves.filter(|(_, leaf)| paths.contains(leaf.path().parts()));
    ProjectionMask::leaves(parquet, read.map(|(index, _)| index))
}
