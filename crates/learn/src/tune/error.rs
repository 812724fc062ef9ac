//! Why nothing can be learned from labels.

use crate::encode::EncodeError;
use crate::records::DataError;
use crate::schema::SchemaError;
use crate::train::DatasetError;

/// What keeps a bundle from being tuned.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Neither the command line nor the schema names a label.
    #[error(
        "no label: the bundle's schema has no field with role \"label\"; name a column (--label)"
    )]
    NoLabel,
    /// The column that is named as the label cannot be one.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A file lacks the label.
    #[error("{file}: column '{column}' (the label) is missing{detail}")]
    LabelMissing {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Why that matters, if it is not plain.
        detail: &'static str,
    },
    /// A file cannot be read or does not fit the schema.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A row is bad.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A class has too few rows to learn from.
    #[error(
        "{files}: {found} {class}, at least {needed} are needed ({unlabelled} rows have no label)"
    )]
    TooFew {
        /// The files.
        files: String,
        /// Frauds or normal rows.
        class: &'static str,
        /// How many there are.
        found: u64,
        /// How many there must be.
        needed: u64,
        /// Rows whose label is null.
        unlabelled: u64,
    },
    /// A model of so many fields that the matrix of its components would not fit.
    #[error(
        "the model's score has {found} components, tuning takes {limit} at most: a schema of fewer fields has fewer"
    )]
    TooManyComponents {
        /// Components.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Rows that are used twice are left out, or p-values would promise too much; and then too few are left.
    #[error(
        "{file}: row {row} is the labelled row {labelled_row} of {labelled_file}, and {shared} calibration rows are \
         labelled rows in all; without them {left} rows are left, at least {needed} are needed (rows are identified by {identified_by})"
    )]
    Shared {
        /// The calibration file.
        file: String,
        /// Its row, from 0.
        row: u64,
        /// The labelled file.
        labelled_file: String,
        /// Its row, from 0.
        labelled_row: u64,
        /// Calibration rows that are labelled rows.
        shared: u64,
        /// Calibration rows that are none.
        left: u64,
        /// How many there must be.
        needed: u64,
        /// What tells rows apart.
        identified_by: &'static str,
    },
    /// The calibration rows trained the model.
    #[error(
        "{files}: are the rows that the model was trained on ({rows} rows, sha256 {sha256}); calibration needs others"
    )]
    Trained {
        /// The files.
        files: String,
        /// Rows.
        rows: u64,
        /// Their digest.
        sha256: String,
    },
    /// Nothing is left to calibrate on.
    #[error("{files}: no row is left to calibrate on: {excluded} of {rows} rows are labelled 1")]
    NothingLeft {
        /// The files.
        files: String,
        /// Rows read.
        rows: u64,
        /// Rows left out.
        excluded: u64,
    },
    /// Too little is left to recalibrate on.
    #[error(
        "{files}: {left} of {rows} rows are left to calibrate on, at least {needed} are needed ({labelled} are labelled 1, \
         {alerts} are alerts of the bundle)"
    )]
    TooFewLeft {
        /// The files.
        files: String,
        /// Rows read.
        rows: u64,
        /// Rows left out by label.
        labelled: u64,
        /// Rows left out as alerts.
        alerts: u64,
        /// Rows left.
        left: u64,
        /// How many there must be.
        needed: u64,
    },
    /// A canonical batch cannot be encoded: a defect.
    #[error("cannot encode the rows of a batch")]
    Encode(#[from] EncodeError),
    /// Arrow failed: a defect.
    #[error("cannot select rows of a batch")]
    Arrow(#[from] arrow::error::ArrowError),
}
