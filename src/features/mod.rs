//! From records to tensors: bytes and files become one canonical `RecordBatch`, and one fitted encoder reads that.

mod canonical;
pub mod categorical;
mod convert;
pub mod encoder;
mod error;
mod fault;
mod inputs;
pub mod numeric;
mod parquet;
mod parquet_file;
mod records;
pub mod temporal;
mod value;

pub use canonical::{Canonical, Canonicaliser, canonical_schema, row_faults};
pub use encoder::{EncodeError, Encoder, EncoderFitter, FieldEncoder, ValueEncoder};
pub use error::{DataError, FileMismatch};
pub use fault::{FaultReason, RowFault};
pub use inputs::FILES_MAX;
pub use parquet::{
    Batches, DEFAULT_BATCH_ROWS, ParquetSource, RawBatch, RawBatches, ReadOptions, SourceBatch,
};
pub use parquet_file::SourceFile;
pub use records::{FieldShape, HOURS, Records, WEEKDAYS};
pub use value::{
    MICROSECONDS_MAX, MICROSECONDS_MIN, label_from_text, microseconds, moment_from_text,
    moment_to_text, number_from_text,
};
