//! What can be wrong with data at rest: files, footers, columns, pages and labels.
//!
//! Each variant carries the facts that a person needs to find the place. A bad record is no error but
//! a [`RowFault`](super::RowFault).

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema};

use crate::schema::{Field, InferenceError, Mismatch, Schema};

/// Mismatches that a message shows before it only counts the rest.
const MISMATCHES_SHOWN_MAX: usize = 50;

/// A column of which two files have types that no column can hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeConflict {
    /// The column's names from the top.
    pub path: Vec<String>,
    /// The file.
    pub file: String,
    /// The column's type there.
    pub found: DataType,
    /// An earlier file.
    pub earlier: String,
    /// The column's type in that.
    pub expected: DataType,
}

impl fmt::Display for TypeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            file,
            found,
            earlier,
            expected,
        } = self;
        let column = path.join(".");
        write!(
            f,
            "{file}: column `{column}` is {found}, in {earlier} it is {expected}"
        )
    }
}

/// The fields that one file cannot give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMismatch {
    /// The file, or what else the records came from.
    pub file: String,
    /// Every mismatch of that file.
    pub mismatches: Vec<Mismatch>,
}

/// Why data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// An input names no Parquet file.
    #[error("no Parquet file found in {input}")]
    NoFiles {
        /// The input as given.
        input: String,
    },
    /// An input is a URL.
    #[error(
        "{input} is a URL, and URLs are not supported: copy the files to this machine first ({remedy}), then name \
         the folder"
    )]
    Url {
        /// The input as given.
        input: String,
        /// How its scheme is copied from.
        remedy: &'static str,
    },
    /// An input is a device, a FIFO or a socket.
    #[error("{file} is {found}, expected a regular file or a folder")]
    NotRegular {
        /// The input or file.
        file: String,
        /// What it is.
        found: &'static str,
    },
    /// An input is no valid glob pattern.
    #[error("{input} is neither a file or folder nor a pattern: {message}")]
    Pattern {
        /// The input as given.
        input: String,
        /// What is wrong with the pattern.
        message: String,
    },
    /// An input holds more files than are read.
    #[error("{input} brings more than {limit} Parquet files")]
    TooManyFiles {
        /// The input as given.
        input: String,
        /// The limit, [`FILES_MAX`](super::FILES_MAX).
        limit: usize,
    },
    /// A file or folder cannot be opened or read.
    #[error("cannot read {file}")]
    Io {
        /// The file or folder.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has no sound Parquet footer.
    #[error("{file} is not a Parquet file, or its footer is corrupt: {message}")]
    Footer {
        /// The file.
        file: String,
        /// What the reader said.
        message: String,
    },
    /// Two inputs bring the same file.
    #[error("{file} is given twice")]
    DuplicateFile {
        /// The file.
        file: String,
    },
    /// Columns of one name cannot be told apart.
    #[error("{file} has more than one column named {}", quoted(columns))]
    DuplicateColumns {
        /// The file.
        file: String,
        /// The names, each once.
        columns: Vec<String>,
    },
    /// An input has files but not one row.
    #[error("{input} has no rows: at least 1 is needed")]
    NoRows {
        /// The input as given.
        input: String,
    },
    /// Columns are missing or of another type than the schema needs.
    #[error("the schema does not fit the data:{}", mismatch_lines(.0))]
    Mismatch(Vec<FileMismatch>),
    /// Files have types under one name that no column can hold together.
    #[error(
        "the files cannot be read as one table:{}\n  write the odd file again with the type of the others, or read \
         only files that agree",
        reason_lines(.0)
    )]
    Conflict(Vec<TypeConflict>),
    /// A value has no equal in the type that its column has over all files.
    #[error(
        "{file}, column `{column}`, row {row} (from 0): {value} of type {} cannot be held exactly as {}, \
         the type of this column over all files",
        types[0], types[1]
    )]
    Widen {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// The row of the file, from 0.
        row: u64,
        /// The value.
        value: String,
        /// The column's type in the file, and over all files.
        types: Box<[DataType; 2]>,
    },
    /// Records have other columns than announced, or than the file before.
    #[error("{file} has other columns: expected {expected}, found {found}")]
    OtherColumns {
        /// The file.
        file: String,
        /// The columns with their types that were announced.
        expected: String,
        /// The columns with their types that there are.
        found: String,
    },
    /// A file has not the rows that its footer announced when it was opened.
    #[error("{file} changed while it was being read: expected {expected} rows, found {found}")]
    RowsChanged {
        /// The file.
        file: String,
        /// The rows at opening.
        expected: u64,
        /// The rows now.
        found: u64,
    },
    /// A page of a row group cannot be decoded.
    #[error("{file}, row group {row_group} (of {row_groups}, from 0), after row {row}: {message}")]
    RowGroup {
        /// The file.
        file: String,
        /// The row group, from 0.
        row_group: usize,
        /// The row groups of the file.
        row_groups: usize,
        /// Rows of the file read before.
        row: u64,
        /// What the reader said.
        message: String,
    },
    /// A label is neither 0 nor 1.
    #[error(
        "{file}, column `{column}`, row {row} (from 0): expected a label 0 or 1, found {value}"
    )]
    Label {
        /// The file.
        file: String,
        /// The label's column.
        column: String,
        /// The row, from 0: of the file where one is read, else of the batch.
        row: u64,
        /// The value.
        value: String,
    },
    /// Arrow could not convert a column of a type that it should.
    #[error("{file}, column `{column}`: {message}")]
    Convert {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// What Arrow said.
        message: String,
    },
    /// No schema can be inferred.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

impl DataError {
    /// The same error without its value, if it is of a column that a redacted field of `schema` is read from.
    pub fn redacted(mut self, schema: &Schema) -> Self {
        if let Self::Widen { column, value, .. } = &mut self {
            // A column at the top, which the fields of a struct are below.
            let hides =
                |field: &Field| field.redact && field.path.segments().first() == Some(column);
            if schema.fields().iter().any(hides) {
                *value = "a value (redacted)".to_owned();
            }
        }
        self
    }

    /// The same error with the row of a batch counted from the start of its file, where the batch
    /// begins at `first_row`.
    pub(super) fn counted_from(mut self, first_row: u64) -> Self {
        if let Self::Label { row, .. } = &mut self {
            *row += first_row;
        }
        self
    }
}

/// The columns of an Arrow schema with their types, for a message.
pub(super) fn columns_text(schema: &ArrowSchema) -> String {
    let columns = schema.fields().iter().take(MISMATCHES_SHOWN_MAX);
    let column = |field: &Arc<ArrowField>| format!("{}: {}", field.name(), field.data_type());
    let mut text = columns.map(column).collect::<Vec<_>>().join(", ");
    if schema.fields().len() > MISMATCHES_SHOWN_MAX {
        text.push_str(&format!(
            " and {} more",
            schema.fields().len() - MISMATCHES_SHOWN_MAX
        ));
    }
    text
}

/// Whether two Arrow schemas have the same columns, by names and types in their order.
pub(super) fn same_columns(a: &ArrowSchema, b: &ArrowSchema) -> bool {
    let same = |(a, b): (&Arc<ArrowField>, &Arc<ArrowField>)| {
        a.name() == b.name() && a.data_type().equals_datatype(b.data_type())
    };
    a.fields().len() == b.fields().len() && a.fields().iter().zip(b.fields()).all(same)
}

fn quoted(names: &[String]) -> String {
    let shown = names.iter().take(MISMATCHES_SHOWN_MAX);
    let mut text = shown
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MISMATCHES_SHOWN_MAX {
        text.push_str(&format!(" and {} more", names.len() - MISMATCHES_SHOWN_MAX));
    }
    text
}

fn mismatch_lines(files: &[FileMismatch]) -> String {
    let of_file = |file: &FileMismatch| {
        let name = file.file.clone();
        file.mismatches
            .iter()
            .map(move |mismatch| format!("{name}: {mismatch}"))
            .collect::<Vec<_>>()
    };
    reason_lines(&files.iter().flat_map(of_file).collect::<Vec<_>>())
}

/// Each reason on a line of its own, up to a limit.
fn reason_lines<T: fmt::Display>(reasons: &[T]) -> String {
    let shown = reasons.iter().take(MISMATCHES_SHOWN_MAX);
    let mut text: String = shown.map(|reason| format!("\n  {reason}")).collect();
    if reasons.len() > MISMATCHES_SHOWN_MAX {
        text.push_str(&format!(
            "\n  and {} more",
            reasons.len() - MISMATCHES_SHOWN_MAX
        ));
    }
    text
}
