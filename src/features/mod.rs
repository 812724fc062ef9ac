//! From records to tensors: bytes and files become one canonical `RecordBatch`, and one fitted encoder reads that.

pub mod categorical;
pub mod encoder;
mod fault;
pub mod numeric;
mod records;
pub mod temporal;

pub use encoder::{EncodeError, Encoder, EncoderFitter, FieldEncoder, ValueEncoder};
pub use fault::{FaultReason, RowFault};
pub use records::{FieldShape, HOURS, Records, WEEKDAYS};
