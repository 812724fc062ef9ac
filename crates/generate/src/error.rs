//! What can go wrong while payments are generated: a number out of range, or a file that cannot be
//! written.

use crate::durable::TargetError;
use std::path::PathBuf;

/// A failure of `generate`.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A value of the configuration is out of its range.
    #[error("{name} is {found}, expected {expected}")]
    OutOfRange {
        /// The configuration's key.
        name: &'static str,
        /// The value given.
        found: String,
        /// The range it must be in.
        expected: String,
    },
    /// An Arrow batch could not be built or is not one of payments.
    #[error("batch of payments: {0}")]
    Batch(#[from] arrow::error::ArrowError),
    /// A column of a batch given to [`super::JsonRows`] has a type that payments do not have.
    #[error("column {column} has type {found}, which no payment has")]
    ColumnType {
        /// The column's name.
        column: String,
        /// Its Arrow type.
        found: String,
    },
    /// A row beyond the batch.
    #[error("row {row} asked of a batch of {rows} rows")]
    NoSuchRow {
        /// The row asked for, from 0.
        row: usize,
        /// The rows there are.
        rows: usize,
    },
    /// A moment that has no calendar date.
    #[error("row {row}: {milliseconds} ms since 1970 is no calendar date")]
    NoSuchDate {
        /// The row, from 0.
        row: usize,
        /// The moment.
        milliseconds: i64,
    },
    /// Nothing can be written under the name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The Parquet file could not be written; nothing is left at `path` that was not there before.
    #[error("{}: parquet not written", path.display())]
    Parquet {
        /// The file that was to be.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A file that is to be gone on from cannot be read.
    #[error("{}: cannot read the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is to be gone on from is no Parquet file.
    #[error("{}: not a Parquet file", path.display())]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A file that does not say which world its payments are of.
    #[error(
        "{}: not a file that 'maskwatch generate --out' wrote, so nothing can come after it",
        path.display()
    )]
    NoOrigin {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: cannot write the file", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
