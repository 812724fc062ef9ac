//! From records to tensors: bytes and files become one canonical `RecordBatch`, and one fitted encoder reads that.

#[cfg(test)]
mod agreement;
mod avro;
pub mod binary;
mod canonical;
pub mod categorical;
mod columns;
mod conform;
mod convert;
mod decode;
mod empty;
mod encode_error;
pub mod encoder;
#[cfg(test)]
mod envelopes;
mod error;
mod fault;
mod folder_columns;
mod guard;
mod inference;
mod inputs;
mod json;
mod moment_check;
pub mod numeric;
mod parquet;
mod parquet_file;
mod paths;
pub mod quantiles;
mod records;
mod root;
pub mod temporal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unify;

pub use avro::{AvroDecoder, FileSchemas, FileSchemasError};
pub use canonical::{Canonical, Canonicaliser, canonical_schema, row_faults};
pub use decode::{
    DEFAULT_RECORD_BYTES_MAX, DecodeError, DecodeLimits, Decoded, VALUE_SHOWN_BYTES_MAX,
    WriterSchemaError, WriterSchemas,
};
pub use encode_error::EncodeError;
pub use encoder::{Encoder, EncoderFitter, FieldEncoder, ValueEncoder};
pub use error::{DataError, FileMismatch};
pub use fault::{FaultReason, RowFault};
pub(crate) use guard::guarded;
pub use guard::panic_is_guarded;
pub use inference::infer_schema;
pub use inputs::{FILES_MAX, url_remedy};
pub use json::JsonDecoder;
pub use moment_check::far_moments;
pub use numeric::NumericEncoder;
pub use parquet::{
    Batches, DEFAULT_BATCH_ROWS, ParquetSource, RawBatch, RawBatches, ReadOptions, SourceBatch,
};
pub use parquet_file::SourceFile;
pub use records::{FieldShape, HOURS, Records, WEEKDAYS};
pub use root::{ROOTS_MAX, RecordRoot};
pub use temporal::TrainedMoments;
pub use unify::{TypeConflict, Unified};
pub use value::{
    MICROSECONDS_MAX, MICROSECONDS_MIN, flag_from_text, label_from_text, microseconds,
    moment_from_text, moment_to_text, number_from_text, number_to_json,
};

// What one value means is the schema's rule; every decoder here reads by it.
pub use crate::schema::value;
