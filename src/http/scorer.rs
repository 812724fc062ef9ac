//! The seam between HTTP and whatever scores: raw records flow out, one outcome a record flows
//! back, in the same order.

use tokio::sync::oneshot;

use crate::features::FaultReason;

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScoreOutcome {
    /// The output envelope as JSON text, with `topic`, `partition` and `offset` null.
    Scored(String),
    /// The record cannot be scored.
    Bad {
        /// Which of the closed list.
        reason: FaultReason,
        /// Field or byte offset, value and what was expected, for a person.
        detail: String,
    },
}

/// Why records were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: the stream has priority.
    #[error("the scoring queue is full")]
    QueueFull,
    /// Nothing scores: no model is loaded yet, or the daemon is draining.
    #[error("nothing scores at present")]
    Unavailable,
}

/// Takes records to score; shared by all requests.
pub trait RecordScorer: Send + Sync {
    /// Hands over `records`, each the JSON text of one record whatever the stream's format, and
    /// returns at once.
    ///
    /// The receiver is to get one outcome a record, in the order given. If its sender is dropped
    /// instead, the request is answered with 503. A receiver that is closed means that nobody waits
    /// any more (the client left, or the time was up): the records may be dropped unscored.
    ///
    /// # Errors
    /// [`SubmitError`], without waiting: the caller answers 429 or 503.
    fn submit(
        &self,
        records: Vec<Vec<u8>>,
    ) -> Result<oneshot::Receiver<Vec<ScoreOutcome>>, SubmitError>;
}
