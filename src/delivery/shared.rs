//! What sessions share: what they run on, whom they report to, and what one leaves to the next.
//!
//! The stream's thread is the only one that changes [`Carried`]; what is behind [`Shared`] is read from everywhere.

use std::sync::Arc;

use super::calls::BoundedCalls;
use super::options::SessionOptions;
use super::refusal::Refusals;
use super::shutdown::Shutdown;
use super::source::Owed;
use crate::pipeline::types::Positions;
use crate::telemetry::{Metrics, Readiness};

/// What all sessions share.
pub struct Shared {
    /// What sessions run on.
    pub options: SessionOptions,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` answers.
    pub readiness: Arc<Readiness>,
    /// Asks to drain.
    pub shutdown: Shutdown,
    /// The sign of life of the stream, and the bound of a drain.
    pub calls: BoundedCalls,
}

impl Shared {
    /// Reports the lag of a group that no session could join: it is owed all the same. Nothing is reported where nothing is known.
    pub(super) fn report_owed(&self, owed: &[Owed], records: u64) {
        if owed.is_empty() {
            return;
        }
        let metrics = &self.metrics;
        let name = |of: &Owed| {
            (
                of.partition.topic.as_str().to_owned(),
                of.partition.partition.0,
            )
        };
        metrics.waiting(owed.iter().map(name));
        for of in owed {
            let (topic, partition) = name(of);
            metrics.set_lag(&topic, partition, of.records);
        }
        let total = owed.iter().map(|of| of.records).sum();
        self.readiness.owes(total, records);
    }
}

/// What is known across sessions.
#[derive(Debug)]
pub struct Carried {
    /// Outputs that their topics refused.
    pub refusals: Refusals,
    /// Records whose outputs and offsets are committed.
    pub records: u64,
    /// Up to where records that retention deleted unread are counted; as many as partitions were ever assigned.
    pub skipped: Positions,
}

impl Carried {
    /// What a session has got further with where it differs after it. What was learned of refused outputs is progress too:
    /// the next session gets further.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.records, self.refusals.lessons())
    }
}
