//! Why a session or the whole stream ends: what a new session cures, and what nothing cures here.
//!
//! Every fault of the cluster, of the scorer and of the clock becomes one [`DeliveryFault`]; `delivery` matches it
//! exhaustively. The invariant: whatever ends a session, its transaction never commits half.

use std::time::Duration;

pub use super::fencing::Evidence;
use super::pipeline::PipelineError;
use super::refusal::RefusedTicket;
use crate::telemetry::metrics::SessionFailure;

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryFault {
    /// Somebody else has had this instance's name since. `delivery` looks who: a twin that lives ends the stream, and where
    /// nobody is found a new session begins.
    #[error("{operation}: {detail}")]
    Fenced {
        /// What was being done.
        operation: &'static str,
        /// The client's words.
        detail: String,
    },
    /// Aborted, timed out, ended in a way that is not known, or partitions were lost: a new session starts from the
    /// committed offsets.
    #[error("{operation}: {detail}")]
    Interrupted {
        /// What was being done.
        operation: &'static str,
        /// The client's words.
        detail: String,
    },
    /// Topics refuse outputs, for what these are.
    #[error("{} outputs were refused: {detail}", outputs.len())]
    Refused {
        /// Which, and why.
        outputs: Vec<RefusedTicket>,
        /// Topic of the first, and the cluster's words.
        detail: String,
    },
    /// The cluster or the configuration makes it impossible: no session can work.
    #[error("{operation}: {detail}")]
    Impossible {
        /// What was being done.
        operation: &'static str,
        /// The client's words.
        detail: String,
    },
    /// Asked to stop while nothing was in hand: no fault, but the end.
    #[error("{operation}: asked to stop")]
    Stopped {
        /// What was being done.
        operation: &'static str,
    },
    /// A batch could not be scored.
    #[error("a batch could not be scored")]
    Scoring(#[from] PipelineError),
    /// A scoring thread has ended.
    #[error("a scoring thread has ended")]
    ScorerGone,
    /// A batch does not come back from the scoring threads.
    #[error("a batch has been in work for {} s", waited.as_secs())]
    ScorerStalled {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The drain took longer than it may.
    #[error("the drain took longer than {} ms", limit.as_millis())]
    DrainTimedOut {
        /// `delivery.drain_timeout_ms`.
        limit: Duration,
    },
    /// A fault that another session would cure has ended the last one, with work in hand.
    #[error(
        "the drain failed: what was in hand is not committed, and the next start does it again"
    )]
    DrainFailed {
        /// What went wrong.
        #[source]
        fault: Box<DeliveryFault>,
    },
}

impl DeliveryFault {
    /// Whether something outside of the cluster does not answer: it is waited for, as a restart would have to wait too.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Scoring(error) if error.is_retriable())
    }

    /// Whether a new session may do better; after a fencing only where there is no twin.
    pub fn is_curable(&self) -> bool {
        match self {
            Self::Interrupted { .. } | Self::Refused { .. } | Self::Fenced { .. } => true,
            Self::Scoring(error) => error.is_retriable(),
            Self::Stopped { .. }
            | Self::Impossible { .. }
            | Self::ScorerGone
            | Self::ScorerStalled { .. }
            | Self::DrainTimedOut { .. }
            | Self::DrainFailed { .. } => false,
        }
    }
}

impl DeliveryFault {
    /// The fault as the metrics count it.
    pub fn failure(&self) -> SessionFailure {
        match self {
            Self::Fenced { .. } => SessionFailure::Fenced,
            Self::Interrupted { .. } => SessionFailure::Interrupted,
            Self::Refused { .. } => SessionFailure::Refused,
            Self::Impossible { .. } => SessionFailure::Impossible,
            Self::Scoring(_) | Self::ScorerGone | Self::ScorerStalled { .. } => {
                SessionFailure::Scoring
            }
            Self::Stopped { .. } | Self::DrainTimedOut { .. } | Self::DrainFailed { .. } => {
                SessionFailure::Drain
            }
        }
    }
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A twin took over, or very likely did.
    #[error(
        "fenced as instance \"{instance_id}\" of group \"{group_id}\": {evidence}; give every live instance its own \
         kafka.instance_id ({fault})"
    )]
    Fenced {
        /// `kafka.group_id`.
        group_id: String,
        /// `kafka.instance_id`.
        instance_id: String,
        /// What speaks for a twin.
        evidence: Evidence,
        /// What the cluster said.
        fault: Box<DeliveryFault>,
    },
    /// Sessions failed one after the other without a commit between.
    #[error("gave up after {attempts} sessions without a commit")]
    GaveUp {
        /// How many sessions.
        attempts: u32,
        /// Why the last one ended.
        #[source]
        last: DeliveryFault,
    },
    /// No new session can cure it.
    #[error("the stream cannot go on")]
    Fatal(#[source] DeliveryFault),
    /// A scoring thread could not be started.
    #[error("a scoring thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
