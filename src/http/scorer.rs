//! The seam between HTTP and whatever scores: raw records flow out, one outcome a record flows
//! back, in the same order.

use tokio::sync::oneshot;

pub use crate::pipeline::ScoreOutcome;
use crate::pipeline::scoring::ScoringClient;
pub use crate::pipeline::scoring::SubmitError;

/// Takes records to score; shared by all requests.
pub trait RequestScorer: Send + Sync {
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

impl RequestScorer for ScoringClient {
    fn submit(
        &self,
        records: Vec<Vec<u8>>,
    ) -> Result<oneshot::Receiver<Vec<ScoreOutcome>>, SubmitError> {
        ScoringClient::submit(self, records)
    }
}
