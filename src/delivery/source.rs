//! Where messages come from: the one trait that Kafka's consumer and its in-process twin implement.

use std::time::Duration;

use super::fault::DeliveryFault;
use crate::pipeline::message::MessageBatch;
use crate::pipeline::types::{Offset, TopicPartition};

/// What one poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A message was pushed into the batch.
    Message,
    /// Nothing came in time.
    Nothing,
    /// These are this instance's partitions from now on.
    Assigned(Vec<Assigned>),
    /// All partitions are to be given back: finish what is in hand, then call [`Source::release`].
    Revoked,
    /// The ends of assigned partitions, for the lag.
    Ends(Vec<PartitionEnd>),
    /// No broker is connected at present; why the latest connection failed.
    Away(String),
}

/// A partition of this instance, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The first record that is read: the committed offset, where there is one and the log still has it.
    pub next: Offset,
    /// One beyond the last record that may be read at present.
    pub end: Offset,
    /// The committed offset, where the log has lost it: the records from there up to `next` are gone.
    pub lost_from: Option<Offset>,
    /// Whether a policy has chosen the end of the log, as no committed offset says where to go on. Until one does, whoever
    /// comes next would choose a later end, and skip what came in between.
    pub is_end_chosen: bool,
}

/// The end of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionEnd {
    /// The partition.
    pub partition: TopicPartition,
    /// One beyond the last record that may be read.
    pub end: Offset,
}

/// What the group owes of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The partition.
    pub partition: TopicPartition,
    /// Records beyond the committed offset, or beyond where a group without one begins.
    pub records: u64,
}

/// A consumer of the group.
pub trait Source {
    /// Waits up to `timeout` for something; a message goes to the end of `batch`.
    ///
    /// No message of a revoked partition comes after [`Polled::Revoked`], and none of any partition until
    /// [`release`](Self::release) has been called and a new [`Polled::Assigned`] has come.
    ///
    /// # Errors
    /// A fault that ends the session; passing trouble of the network is only logged.
    fn poll(
        &mut self,
        timeout: Duration,
        batch: &mut MessageBatch,
    ) -> Result<Polled, DeliveryFault>;

    /// Gives the partitions back, after [`Polled::Revoked`].
    ///
    /// # Errors
    /// A fault that ends the session.
    fn release(&mut self) -> Result<(), DeliveryFault>;
}
