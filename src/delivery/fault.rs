//! Why a session or the whole stream ends: what a new session cures, and what nothing cures here.
//!
//! Every fault of the cluster, of the scorer and of the clock becomes one [`DeliveryFault`]; `delivery` matches it
//! exhaustively. The invariant: whatever ends a session, its transaction never commits half.

use std::fmt;
use std::time::Duration;

use super::refusal::RefusedTicket;
use crate::pipeline::PipelineError;
use crate::telemetry::metrics::SessionFailure;

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryFault {
    /// Somebody else has had this instance's name since. `delivery` finds out who: a twin that lives ends the stream, and where
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

/// What speaks for a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A member of this instance's name stays in the group.
    Member {
        /// For how long after the fencing.
        after: Duration,
    },
    /// The cluster does not say anything of the group's members, and this instance was fenced again.
    Again {
        /// How long after the fencing before.
        after: Duration,
    },
    /// This instance was fenced over and over.
    Often {
        /// How often within an hour.
        times: usize,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { after } => write!(
                f,
                "another process has taken over: a member of this name is in the group, {} s after this process has stopped",
                after.as_secs()
            ),
            Self::Again { after } => write!(
                f,
                "fenced again after {} s, and the cluster does not tell of the group's members: either another process of this \
                 name has taken over, or the group's coordinator fails over again and again; if no other process has this \
                 name, a restart goes on",
                after.as_secs()
            ),
            Self::Often { times } => write!(
                f,
                "fenced {times} times within an hour: either another process of this name comes and goes, or the group's \
                 coordinator fails over again and again; if no other process has this name, a restart goes on"
            ),
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
}
