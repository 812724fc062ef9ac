//! Who may stay connected: a bounded number of connections, of which the one that has been idle for the longest makes room
//! for one that comes.
//!
//! Connections flow in, places flow out. The invariant: probes and scrapes always get a place, however many connections are
//! open that send nothing or send slowly; a connection with a request in hand is never closed to make room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a newcomer waits before it looks for an idle connection again, where all had requests in hand.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is known of a connection.
struct Known {
    /// Since when it has no request in hand; `None` while it has one.
    idle_since: Option<Instant>,
    /// Asks it to close.
    leave: Arc<Notify>,
    /// Whether it was asked already.
    asked: bool,
}

type Table = Mutex<BTreeMap<u64, Known>>;

/// All connections of a server.
pub(super) struct Connections {
    slots: Arc<Semaphore>,
    table: Arc<Table>,
    next: u64,
}

/// A connection's place, given back when it is dropped.
pub(super) struct Place {
    number: u64,
    table: Arc<Table>,
    leave: Arc<Notify>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// A request in hand; over when it is dropped.
pub(super) struct InHand {
    number: u64,
    table: Arc<Table>,
}

fn locked(table: &Table) -> MutexGuard<'_, BTreeMap<u64, Known>> {
    // Whoever panicked while it held the lock has left whole values: each is written in one step.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(max)),
            table: Arc::default(),
            next: 0,
        }
    }

    /// A place for one more; waits only while every connection has a request in hand.
    pub(super) async fn enter(&mut self) -> Place {
        let slot = loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                break Some(slot);
            }
            self.ask_the_idlest_to_leave();
            let left = Arc::clone(&self.slots).acquire_owned();
            // The semaphore is never closed, so that there is a slot in the end.
            if let Ok(slot) = tokio::time::timeout(LOOK_AGAIN, left).await {
                break slot.ok();
            }
        };
        let number = self.next;
        self.next += 1;
        let leave = Arc::new(Notify::new());
        let known = Known {
            idle_since: Some(Instant::now()),
            leave: Arc::clone(&leave),
            asked: false,
        };
        locked(&self.table).insert(number, known);
        Place {
            number,
            table: Arc::clone(&self.table),
            leave,
            _slot: slot,
        }
    }

    fn ask_the_idlest_to_leave(&self) {
        let mut table = locked(&self.table);
        let is_leaving = |known: &Known| known.asked && known.idle_since.is_some();
        if table.values().any(is_leaving) {
            // One that took a request up in the same moment answers it first, and is not waited for.
            return;
        }
        let idle = table
            .values_mut()
            .filter(|known| known.idle_since.is_some())
            .min_by_key(|known| known.idle_since);
        if let Some(known) = idle {
            known.asked = true;
            known.leave.notify_one();
        }
    }
}

impl Place {
    /// Notes that a request is in hand.
    pub(super) fn request(&self) -> InHand {
        if let Some(known) = locked(&self.table).get_mut(&self.number) {
            known.idle_since = None;
        }
        InHand {
            number: self.number,
            table: Arc::clone(&self.table),
        }
    }

    /// Done when the connection is to make room.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Whether no request is in hand.
    pub(super) fn is_idle(&self) -> bool {
        let table = locked(&self.table);
        table
            .get(&self.number)
            .is_none_or(|known| known.idle_since.is_some())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(known) = locked(&self.table).get_mut(&self.number) {
            known.idle_since = Some(Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.table).remove(&self.number);
    }
}
