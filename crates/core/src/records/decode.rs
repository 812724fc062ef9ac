//! What the decoders of messages share: limits, results, errors, and where the schemas of Avro writers come from.
//!
//! Payloads flow in, one batch of good rows and one list of faults flow out. The invariant: every payload index is
//! either in [`Decoded::payloads`] or the row of exactly one fault, so that no Kafka offset is lost or counted twice,
//! and a bad payload changes nothing about the rows of its neighbours.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use thiserror::Error;

use super::canonical::row_faults;
use super::columns::Columns;
use super::fault::{FaultReason, RowFault};
use crate::schema::Schema;

/// Bytes a message may have unless told otherwise: 1 MiB, what a Kafka broker takes by default.
pub const DEFAULT_RECORD_BYTES_MAX: usize = 1 << 20;

/// Bytes of a received value that a fault's detail shows: enough to recognise it, bounded whatever was sent.
pub const VALUE_SHOWN_BYTES_MAX: usize = 64;

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

/// Why payloads could not be decoded although none of them need be bad.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The schema of a writer could not be had.
    #[error(transparent)]
    WriterSchema(#[from] WriterSchemaError),
    /// The texts of one column do not fit into one batch: the caller gives fewer payloads at once.
    #[error(
        "field \"{field}\": the texts of one batch exceed {limit} bytes, give fewer messages at once"
    )]
    BatchTooLarge {
        /// The schema field.
        field: String,
        /// Bytes a column of a batch may have.
        limit: usize,
    },
    /// The decoded columns do not make a batch: a bug, or memory that ran out.
    #[error("decoded columns do not make a batch: {0}")]
    Batch(#[from] ArrowError),
}

impl DecodeError {
    /// Whether the same payloads may well decode a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::WriterSchema(error) => error.is_retriable(),
            Self::BatchTooLarge { .. } | Self::Batch(_) => false,
        }
    }
}

/// Why the schema behind a Confluent schema id could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriterSchemaError {
    /// Where the schemas are kept does not answer, or answers that it is in trouble. Retriable.
    #[error("schema {id}: {origin} does not answer after {attempts} attempts: {why}")]
    Unavailable {
        /// The schema id asked for.
        id: u32,
        /// Where it was asked for, without credentials.
        origin: String,
        /// How often it was asked for.
        attempts: u32,
        /// What went wrong the last time.
        why: String,
    },
    /// The answer is neither a schema nor that there is none: credentials, an address or a proxy are wrong. Retriable, once
    /// somebody has put that right.
    #[error(
        "schema {id}: {origin} answers with status {status}, which is no answer of a schema registry about a schema \
         (credentials, address or a proxy may be wrong): {why}"
    )]
    Refused {
        /// The schema id asked for.
        id: u32,
        /// Where it was asked for, without credentials.
        origin: String,
        /// The HTTP status.
        status: u16,
        /// What the answer said, cut.
        why: String,
    },
    /// It answers, but too slowly for all the schemas that a batch asks for. What came is kept. Retriable.
    #[error(
        "{origin} answers slowly: {answered} schemas came, {left} more of this batch are asked for next"
    )]
    Slow {
        /// Where they were asked for, without credentials.
        origin: String,
        /// How many came.
        answered: usize,
        /// How many are left.
        left: usize,
    },
    /// There is such a schema, but not one that can be used; its messages are `unknown_schema` faults.
    #[error("schema {id}: {why}")]
    Unusable {
        /// The schema id asked for.
        id: u32,
        /// What is wrong with it.
        why: String,
    },
}

impl WriterSchemaError {
    /// Whether asking again later may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Refused { .. } | Self::Slow { .. } => true,
            Self::Unusable { .. } => false,
        }
    }
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

/// Why one payload is bad; it becomes a [`RowFault`] once its index is known.
pub(crate) type Fault = (FaultReason, String);

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

/// The beginning of a received text, cut at a character boundary to [`VALUE_SHOWN_BYTES_MAX`] bytes.
pub(crate) fn shown(text: &str) -> String {
    if text.len() <= VALUE_SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    format!(
        "{}... ({} bytes)",
        &text[..text.floor_char_boundary(VALUE_SHOWN_BYTES_MAX)],
        text.len()
    )
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

    #[test]
    fn a_long_value_is_shown_cut_between_characters() {
        let text = "é".repeat(100);
        let cut = shown(&text);
        assert!(
            cut.starts_with("éé") && cut.ends_with("... (200 bytes)"),
            "{cut}"
        );
        assert!(cut.len() < VALUE_SHOWN_BYTES_MAX + 20);
        assert_eq!(shown("short"), "short");
    }

    #[test]
    fn only_an_unavailable_registry_is_worth_another_try() {
        let origin = "http://registry".to_owned();
        let why = "status 503".to_owned();
        let unavailable = WriterSchemaError::Unavailable {
            id: 7,
            origin,
            attempts: 3,
            why: why.clone(),
        };
        assert!(DecodeError::from(unavailable).is_retriable());
        assert!(!DecodeError::from(WriterSchemaError::Unusable { id: 7, why }).is_retriable());
    }
}
