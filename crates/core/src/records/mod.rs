//! From bytes to canonical batches: Parquet files, JSON and Avro messages become one canonical `RecordBatch`.
//!
//! Invariant: a bad record is a value, a [`RowFault`] from a closed list of reasons, and never touches its neighbours.

mod avro;
mod canonical;
mod columns;
mod conform;
mod convert;
mod decode;
mod decode_error;
mod empty;
mod error;
mod fault;
mod folder_columns;
mod guard;
mod inference;
mod inputs;
mod json;
mod parquet;
mod parquet_file;
mod paths;
mod root;
mod target;
mod unify;

pub use avro::{AvroDecoder, FileSchemas, FileSchemasError};
pub(crate) use canonical::first_of_each_row;
pub use canonical::{Canonical, Canonicaliser, canonical_schema, row_faults};
pub use decode::{DEFAULT_RECORD_BYTES_MAX, DecodeLimits, Decoded, WriterSchemas};
pub use decode_error::{DecodeError, WriterSchemaError};
pub use error::{DataError, FileMismatch, TypeConflict};
pub use fault::{FaultReason, RowFault, VALUE_SHOWN_BYTES_MAX};
pub(crate) use guard::guarded;
pub use guard::panic_is_guarded;
pub use inference::infer_schema;
pub use inputs::{FILES_MAX, url_remedy};
pub use json::JsonDecoder;
pub use parquet::{
    Batches, DEFAULT_BATCH_ROWS, ParquetSource, RawBatch, RawBatches, ReadOptions, SourceBatch,
};
pub use parquet_file::SourceFile;
pub use root::{ROOTS_MAX, RecordRoot};
pub use unify::Unified;
pub use value::{
    MICROSECONDS_MAX, MICROSECONDS_MIN, flag_from_text, label_from_text, microseconds,
    moment_from_text, moment_to_text, number_from_text, number_to_json,
};

// What one value means is the schema's rule; every decoder here reads by it.
pub use crate::schema::value;
