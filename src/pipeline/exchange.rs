//! The exchange of the pipeline while the stream runs: whoever has a new one offers it, the stream takes it at the beginning of
//! a batch, and it stands from the transaction boundary on at which its first batch comes back.
//!
//! ```text
//! offer -> [stream] take: batches that are handed over from now on carry it
//!                   stand: everything before is committed; requests over HTTP carry it too
//! ```
//!
//! The invariant: an offer that is overtaken by a newer one is dropped, so that there is one at most.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::handle::Pipeline;

#[derive(Debug)]
struct State {
    /// Scores what comes over HTTP.
    standing: RwLock<Arc<Pipeline>>,
    offered: Mutex<Option<Arc<Pipeline>>>,
    /// Whether there is an offer: looked at for every batch.
    is_offered: AtomicBool,
}

/// The place where pipelines are exchanged; clones share it.
#[derive(Debug, Clone)]
pub struct PipelineExchange(Arc<State>);

impl PipelineExchange {
    pub(super) fn new(standing: Arc<Pipeline>) -> Self {
        Self(Arc::new(State {
            standing: RwLock::new(standing),
            offered: Mutex::default(),
            is_offered: AtomicBool::new(false),
        }))
    }

    /// Offers a pipeline that is to follow the one that stands.
    pub fn offer(&self, pipeline: Arc<Pipeline>) {
        let overtaken = self.offered().replace(pipeline);
        self.0.is_offered.store(true, Ordering::Release);
        drop(overtaken);
    }

    /// The pipeline that scores requests: that of the latest transaction boundary.
    pub fn standing(&self) -> Arc<Pipeline> {
        let standing = self.0.standing.read();
        Arc::clone(&standing.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an offer has not been taken.
    pub fn is_offered(&self) -> bool {
        self.0.is_offered.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<Arc<Pipeline>> {
        if !self.is_offered() {
            return None;
        }
        let mut offered = self.offered();
        self.0.is_offered.store(false, Ordering::Release);
        offered.take()
    }

    /// From now on requests are scored by `pipeline`.
    pub(super) fn stand(&self, pipeline: Arc<Pipeline>) {
        let standing = self.0.standing.write();
        *standing.unwrap_or_else(PoisonError::into_inner) = pipeline;
    }

    /// A handle is whole whenever the lock is free.
    fn offered(&self) -> MutexGuard<'_, Option<Arc<Pipeline>>> {
        self.0
            .offered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
