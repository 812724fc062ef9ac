//! What a scored batch sends where: envelopes and dead letters as places in buffers, turned into records one at a time.
//!
//! The worker plans outputs, the delivery sends them. The invariant: outputs are in the order of their input records, and
//! each names the record that it came from.

use std::borrow::Cow;
use std::ops::Range;

use super::message::MessageBatch;
use super::stream_monitor::Watch;
use super::types::Topic;
use crate::records::FaultReason;

/// Name and value of a header, both of any bytes.
pub type HeaderRef<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// A record to be produced.
#[derive(Debug, Clone)]
pub struct OutputRecord<'a> {
    /// Where to.
    pub topic: &'a Topic,
    /// The input's key, or one that stands in for it where the topic takes no record without.
    pub key: Option<Cow<'a, [u8]>>,
    /// Never null: an output is no tombstone.
    pub payload: &'a [u8],
    /// Names and values, in order.
    pub headers: Vec<HeaderRef<'a>>,
}

/// Bytes of a produce batch beside its records (`RecordBatch` of Kafka's protocol, from base offset to count).
const BATCH_OVERHEAD: usize = 61;
/// Bytes of a record beside what it holds, at most: attributes, and six numbers of variable length.
const RECORD_OVERHEAD: usize = 36;
/// Bytes of a header beside what it holds, at most: two numbers of variable length.
pub(super) const HEADER_OVERHEAD: usize = 10;

impl OutputRecord<'_> {
    /// Bytes in a produce batch of its own, uncompressed, at most some 40 too many.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| {
            HEADER_OVERHEAD + name.len() + value.as_ref().map_or(0, |value| value.len())
        });
        BATCH_OVERHEAD
            + RECORD_OVERHEAD
            + self.key.as_ref().map_or(0, |key| key.len())
            + self.payload.len()
            + headers.sum::<usize>()
    }
}

/// Which of a record's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The envelope in the scores topic.
    Scores,
    /// The envelope in the alerts topic.
    Alerts,
    /// The dead letter.
    Letter,
    /// The dead letter in its shortest form.
    Stub,
}

/// Which topic of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The scores topic.
    Scores,
    /// The alerts topic.
    Alerts,
}

/// What one input record leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// An envelope, whose JSON lies at `json` in the batch's buffer.
    Envelope {
        /// The input record.
        row: usize,
        /// Where to.
        target: Target,
        /// Place in the buffer.
        json: Range<usize>,
    },
    /// A dead letter.
    DeadLetter {
        /// The input record.
        row: usize,
        /// Why it is bad.
        reason: FaultReason,
        /// For a person.
        detail: String,
    },
}

impl Planned {
    /// The input record, as its row in the batch.
    pub fn row(&self) -> usize {
        match self {
            Self::Envelope { row, .. } | Self::DeadLetter { row, .. } => *row,
        }
    }
}

/// A batch with all that it leads to.
#[derive(Debug, Clone)]
pub struct ScoredBatch {
    /// The messages.
    pub input: MessageBatch,
    /// Ascending by row.
    pub outputs: Vec<Planned>,
    /// The JSON of the envelopes.
    pub json: Vec<u8>,
    /// What the records say to the tests of the stream, once they are committed.
    pub watch: Option<Watch>,
}

impl ScoredBatch {
    /// The outputs of the records at `rows`.
    pub fn outputs_of(&self, rows: &Range<usize>) -> &[Planned] {
        let begin = self
            .outputs
            .partition_point(|output| output.row() < rows.start);
        let end = self
            .outputs
            .partition_point(|output| output.row() < rows.end);
        self.outputs.get(begin..end).unwrap_or_default()
    }

    /// The JSON at `range`.
    pub fn json(&self, range: &Range<usize>) -> &[u8] {
        self.json.get(range.clone()).unwrap_or_default()
    }
}
