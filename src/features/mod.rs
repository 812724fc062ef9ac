//! From records to tensors: bytes and files become one canonical `RecordBatch`, and one fitted encoder reads that.

mod fault;

pub use fault::{FaultReason, RowFault};
