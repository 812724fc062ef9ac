//! The checked parts of the configuration that sessions run on.
//!
//! They stand here because delivery is the first that reads them: what a crash may do, bounds in time, the limits of a batch,
//! and the few facts about group and client that it waits by. Whoever knows the client (`kafka`) gives the facts, and
//! `config` checks what the user wrote.

use std::time::Duration;

use serde::Deserialize;

use super::batcher::BatchLimits;
use crate::pipeline::options::{Emit, OutputTopics, Tombstones};

/// What a crash may do to outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Outputs and offsets commit in one Kafka transaction.
    #[default]
    ExactlyOnce,
    /// Offsets after delivery reports: an output may come twice.
    AtLeastOnce,
}

/// Checked `[delivery]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// What a crash may do.
    pub mode: Mode,
    /// What the scores topic gets.
    pub emit: Emit,
    /// Between commits.
    pub transaction_interval: Duration,
    /// For a drain.
    pub drain_timeout: Duration,
    /// For the stream's thread without going on to another operation; longer than any call that is in order.
    pub stall_timeout: Duration,
    /// Bytes of a bad payload that are kept.
    pub dead_letter_bytes_max: usize,
    /// What becomes of a null payload.
    pub tombstones: Tombstones,
}

/// What delivery has to know of the client, whatever the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of a produce batch at most.
    pub batch_bytes: usize,
    /// How long the group waits for a silent member.
    pub session_timeout: Duration,
    /// Within what time the consumer must be polled again, or the group takes it for dead.
    pub poll_interval: Duration,
    /// How long a transaction may be open.
    pub transaction_timeout: Duration,
}

/// Who this instance is in its group, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The cluster, `host:port,...`.
    pub bootstrap_servers: String,
    /// `kafka.group_id`.
    pub group_id: String,
    /// `kafka.instance_id`.
    pub instance_id: String,
}

/// Everything that sessions run on.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Commits and dead letters.
    pub delivery: DeliveryConfig,
    /// Rows and deadline of a batch.
    pub batch: BatchLimits,
    /// Where outputs go.
    pub outputs: OutputTopics,
    /// Who is fenced, where somebody is.
    pub instance: Instance,
    /// What the client keeps to.
    pub client: ClientLimits,
}
