//! What the decoders of messages share: limits, results, errors, and where the schemas of Avro writers come from.
//!
//! Payloads flow in, one batch of good rows and one list of faults flow out. The invariant: every payload index is
//! either in [`Decoded::payloads`] or the row of exactly one fault, so that no Kafka offset is lost or counted twice,
//! and a bad payload changes nothing about the rows of its neighbours.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::canonical::row_faults;
use super::columns::Columns;
use super::decode_error::{DecodeError, WriterSchemaError};
use super::fault::{Fault, FaultReason, RowFault};
use crate::schema::Schema;

/// Bytes a message may have unless told otherwise: 1 MiB, what a Kafka broker takes by default.
pub const DEFAULT_RECORD_BYTES_MAX: usize = 1 << 20;

/// What a decoder refuses for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of one message at most; a longer one is `too_large`.
    pub record_bytes_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            record_bytes_max: DEFAULT_RECORD_BYTES_MAX,
        }
    }
}

/// What became of a list of payloads.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The good rows, with the columns of `canonical_schema`; B rows, possibly 0.
    pub batch: RecordBatch,
    /// The payload index of each row of `batch`, ascending; B long.
    pub payloads: Vec<usize>,
    /// The bad payloads, ascending by `row`, which is the payload index; one fault each.
    pub faults: Vec<RowFault>,
}

/// Where the Avro schemas of message writers come from: files, or a schema registry.
pub trait WriterSchemas: Send {
    /// The Avro schema (JSON text) with this Confluent schema id, or `None` if there is none.
    ///
    /// It may block while a registry is asked, for a bounded time.
    ///
    /// # Errors
    /// [`WriterSchemaError`]: unavailable (retriable), refused, or unusable.
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError>;

    /// Is told which ids a batch is going to ask for, each once: a registry is asked for several at a time.
    ///
    /// # Errors
    /// As [`writer_schema`](Self::writer_schema); what came nevertheless is kept.
    fn prepare(&mut self, _ids: &[u32]) -> Result<(), WriterSchemaError> {
        Ok(())
    }
}

/// What every format refuses before it looks inside: no payload, no bytes, too many bytes.
pub(crate) fn screen(payload: Option<&[u8]>, limits: DecodeLimits) -> Result<&[u8], Fault> {
    let limit = limits.record_bytes_max;
    match payload {
        None => Err((
            FaultReason::Tombstone,
            "the message has a null payload".to_owned(),
        )),
        Some([]) => Err((FaultReason::Empty, "the payload has no bytes".to_owned())),
        Some(bytes) if bytes.len() > limit => Err((
            FaultReason::TooLarge,
            format!("{} bytes, the limit is {limit}", bytes.len()),
        )),
        Some(bytes) => Ok(bytes),
    }
}

/// The bytes before the message in the framing of Confluent's serialisers: a zero byte and the schema id.
pub(crate) const FRAMING_BYTES: usize = 5;

/// The schema id in the framing of a message that begins with a zero byte.
///
/// # Errors
/// `malformed` if there are fewer bytes than the framing takes, or another byte comes first.
pub(crate) fn framed_id(bytes: &[u8]) -> Result<u32, Fault> {
    let malformed = |why| Err((FaultReason::Malformed, why));
    match bytes {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [0, ..] => malformed(format!(
            "{} bytes, magic byte and schema id take {FRAMING_BYTES}",
            bytes.len()
        )),
        [first, ..] => malformed(format!(
            "magic byte {first:#04x}, expected 0x00 (the framing of Confluent's serialisers)"
        )),
        [] => malformed("no bytes".to_owned()),
    }
}

/// Reads every payload with `read`, keeping the rows that it accepts, and applies the rules of whole rows.
///
/// `read` puts values into the columns; where it fails, what it put is taken back before the next payload is read.
///
/// # Errors
/// What `read` returns as its outer error, and [`DecodeError`] of [`Columns::finish`].
pub(crate) fn decode_rows<'a>(
    payloads: &[Option<&'a [u8]>],
    limits: DecodeLimits,
    schema: &Schema,
    columns: &mut Columns,
    mut read: impl FnMut(&'a [u8], &mut Columns) -> Result<Result<(), Fault>, DecodeError>,
) -> Result<Decoded, DecodeError> {
    columns.reserve(payloads.len());
    let mut rows = Vec::with_capacity(payloads.len());
    let mut faults = Vec::new();
    for (row, payload) in payloads.iter().enumerate() {
        let outcome = match screen(*payload, limits) {
            Ok(bytes) => read(bytes, columns).inspect_err(|_| columns.clear())?,
            Err(fault) => Err(fault),
        };
        match outcome {
            Ok(()) => {
                columns.commit();
                rows.push(row);
            }
            Err((reason, detail)) => {
                columns.roll_back();
                faults.push(RowFault {
                    row,
                    reason,
                    detail,
                });
            }
        }
    }
    let batch = columns.finish()?;
    // The rules of whole rows: `missing_field` and `empty_record`.
    let incomplete = row_faults(&batch, schema);
    Decoded {
        batch,
        payloads: rows,
        faults,
    }
    .without(incomplete)
}

impl Decoded {
    /// Says of every `empty_record` what `detail` says of the payload with its index.
    pub(crate) fn explain_empty(&mut self, mut detail: impl FnMut(usize) -> Option<String>) {
        let empty = |fault: &&mut RowFault| fault.reason == FaultReason::EmptyRecord;
        for fault in self.faults.iter_mut().filter(empty) {
            if let Some(detail) = detail(fault.row) {
                fault.detail = detail;
            }
        }
    }

    /// Takes rows with a fault out of the batch; `refused` has one fault a row at most, and its rows are those of `batch`.
    ///
    /// # Errors
    /// If Arrow fails: a defect.
    pub fn without(self, refused: Vec<RowFault>) -> Result<Self, DecodeError> {
        if refused.is_empty() {
            return Ok(self);
        }
        let Self {
            batch,
            payloads,
            mut faults,
        } = self;
        let mut keep = vec![true; payloads.len()];
        for fault in refused {
            keep[fault.row] = false;
            faults.push(RowFault {
                row: payloads[fault.row],
                ..fault
            });
        }
        faults.sort_by_key(|fault| fault.row);
        let kept = payloads
            .iter()
            .zip(&keep)
            .filter(|(_, keep)| **keep)
            .map(|(row, _)| *row)
            .collect();
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        Ok(Self {
            batch,
            payloads: kept,
            faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_bytes_or_too_many_is_refused_unread() {
        let limits = DecodeLimits {
            record_bytes_max: 3,
        };
        let reason = |payload| screen(payload, limits).map_err(|(reason, _)| reason);
        assert_eq!(reason(None), Err(FaultReason::Tombstone));
        assert_eq!(reason(Some(b"")), Err(FaultReason::Empty));
        assert_eq!(reason(Some(b"abcd")), Err(FaultReason::TooLarge));
        assert_eq!(reason(Some(b"abc")), Ok(b"abc".as_slice()));
    }
}
