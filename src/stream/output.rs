//! What a scored batch sends where: envelopes and dead letters as places in buffers, turned into records one at a time.
//!
//! The worker plans outputs, the delivery sends them. The invariant: outputs are in the order of their input records, and
//! each names the record that it came from.

use std::borrow::Cow;
use std::ops::Range;

use super::message::MessageBatch;
use super::types::Topic;
use crate::features::FaultReason;

/// Name and value of a header, both of any bytes.
pub type HeaderRef<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// A record to be produced.
#[derive(Debug, Clone)]
pub struct OutputRecord<'a> {
    /// Where to.
    pub topic: &'a Topic,
    /// The input's key.
    pub key: Option<&'a [u8]>,
    /// Never null: an output is no tombstone.
    pub payload: &'a [u8],
    /// Names and values, in order.
    pub headers: Vec<HeaderRef<'a>>,
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
}

impl ScoredBatch {
    /// The JSON at `range`.
    pub fn json(&self, range: &Range<usize>) -> &[u8] {
        self.json.get(range.clone()).unwrap_or_default()
    }
}
