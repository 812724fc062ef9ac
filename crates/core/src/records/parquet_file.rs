//! One Parquet file: its footer, read and checked, and its rows, row group by row group.
//!
//! In flow a path and the columns to decode, out flow Arrow batches with the row at which each begins.
//! The file is open only while it is read; at most one page a column is decoded ahead of the batch.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::schema::types::SchemaDescriptor;

use super::error::DataError;
use super::folder_columns::FolderColumn;
use super::guard::guarded;
use crate::schema::{Schema, duplicate_columns};

/// A file of a source, as its footer describes it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    /// Its columns with those of its folders.
    pub(super) schema: SchemaRef,
    /// The columns that it has by its folders.
    pub(super) folders: Arc<[FolderColumn]>,
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

    /// Its columns as Arrow sees them, with those that it has by the names of its folders.
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
    /// Those that are read.
    folders: Vec<FolderColumn>,
    /// The columns in their order.
    schema: SchemaRef,
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
        let mask = projection(metadata.parquet_schema(), projected, &source.folders);
        let is_read = |folder: &&FolderColumn| {
            let mut fields = projected.into_iter().flat_map(Schema::read_fields);
            projected.is_none()
                || fields.any(|field| field.path.segments() == [folder.name.clone()])
        };
        let folders = source.folders.iter().filter(is_read).cloned();
        Ok(Self {
            name: source.name(),
            file,
            metadata,
            mask,
            folders: folders.collect(),
            schema: Arc::clone(&source.schema),
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
                return Ok(Some((first_row, self.with_folders(batch)?)));
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

    /// The batch with the columns of the folders, where they stand among the file's.
    fn with_folders(&self, batch: RecordBatch) -> Result<RecordBatch, DataError> {
        if self.folders.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let (mut fields, mut columns): (Vec<FieldRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for field in self.schema.fields() {
            let folder = self.folders.iter().find(|f| f.name == *field.name());
            if let Some(folder) = folder {
                let values = folder.rows(rows);
                columns.push(values.map_err(|error| self.convert_error(field.name(), &error))?);
                fields.push(Arc::clone(field));
            } else if let Some((at, own)) = batch.schema_ref().fields().find(field.name()) {
                columns.push(Arc::clone(batch.column(at)));
                fields.push(Arc::clone(own));
            }
        }
        let metadata = batch.schema_ref().metadata().clone();
        let schema = ArrowSchema::new_with_metadata(fields, metadata);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let whole = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options);
        whole.map_err(|error| self.convert_error("(all)", &error))
    }

    fn convert_error(&self, column: &str, error: &ArrowError) -> DataError {
        DataError::Convert {
            file: self.name.clone(),
            column: column.to_owned(),
            message: error.to_string(),
        }
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

/// A file whose footer was read, before it is known what all folders say.
pub(super) struct OpenedFile {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    /// Its own columns.
    pub(super) own: SchemaRef,
}

/// Opens the file at `path`, unless it is one of those `seen`, and reads its footer.
pub(super) fn open_file(
    path: PathBuf,
    seen: &mut HashSet<PathBuf>,
) -> Result<OpenedFile, DataError> {
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
    Ok(OpenedFile {
        path,
        rows,
        own: Arc::clone(metadata.schema()),
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

/// The leaves that hold the fields of `schema`, or all of them; not those that a folder hides.
fn projection(
    parquet: &SchemaDescriptor,
    schema: Option<&Schema>,
    folders: &[FolderColumn],
) -> ProjectionMask {
    if schema.is_none() && folders.is_empty() {
        return ProjectionMask::all();
    }
    let paths: Option<HashSet<&[String]>> = schema.map(|schema| {
        let fields = schema.read_fields();
        fields.map(|field| field.path.segments()).collect()
    });
    let is_hidden = |top: &String| folders.iter().any(|folder| folder.name == *top);
    let leaves = parquet.columns().iter().enumerate();
    let read = leaves.filter(|(_, leaf)| {
        let path = leaf.path().parts();
        let is_asked_for = paths.as_ref().is_none_or(|paths| paths.contains(path));
        is_asked_for && !path.first().is_some_and(is_hidden)
    });
    ProjectionMask::leaves(parquet, read.map(|(index, _)| index))
}
