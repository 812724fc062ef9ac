//! Checked `[kafka]`: the cluster, the group, its topics and the client's properties.
//!
//! It stands here because only this room makes clients of it; delivery gets the few facts that it waits by
//! ([`KafkaConfig::client_limits`]). Text that the client takes flows in as checked [`Properties`]; what is not set has the
//! client library's default, and those that something else depends on are constants here.

use std::time::Duration;

use serde::Deserialize;

use super::properties::Properties;
use crate::delivery::options::{ClientLimits, Instance};
use crate::pipeline::options::OutputTopics;

/// Value of `bootstrap_servers` that starts librdkafka's in-process broker.
pub const EMBEDDED: &str = "embedded";
/// librdkafka's transaction timeout unless `properties` says otherwise: how long a killed instance's open transaction may
/// hide what lies behind it.
pub const DEFAULT_TRANSACTION_TIMEOUT_MS: u64 = 15_000;
/// How long the group waits for a silent member unless `properties` says otherwise: a dead instance's partitions move then.
pub const DEFAULT_SESSION_TIMEOUT_MS: u64 = 10_000;
/// librdkafka's `max.poll.interval.ms` unless `properties` says otherwise.
pub const DEFAULT_POLL_INTERVAL_MS: u64 = 300_000;
/// librdkafka's limits of a produce batch and of a message (`batch.size`, `message.max.bytes`) unless `properties` says
/// otherwise.
pub const DEFAULT_BATCH_BYTES: usize = 1_000_000;

/// Where a partition goes on that has no offset to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffsetPolicy {
    /// With the first record that is there.
    Earliest,
    /// With what comes next; records that nobody has read are not skipped where retention has passed the committed offset.
    Latest,
    /// Nowhere: the daemon ends.
    Fail,
}

/// Checked `[kafka]`.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port,...`, or [`EMBEDDED`].
    pub bootstrap_servers: String,
    /// Consumer group, not empty.
    pub group_id: String,
    /// Unique per live instance, not empty.
    pub instance_id: String,
    /// At least one, no duplicates.
    pub input_topics: Vec<String>,
    /// Where outputs go.
    pub outputs: OutputTopics,
    /// Where a group without a committed offset begins: `auto.offset.reset`.
    pub offset_absent: OffsetPolicy,
    /// Where it goes on when the committed offset is gone.
    pub offset_lost: OffsetPolicy,
    /// For librdkafka.
    pub properties: Properties,
}

impl KafkaConfig {
    /// Who this instance is.
    pub fn instance(&self) -> Instance {
        Instance {
            bootstrap_servers: self.bootstrap_servers.clone(),
            group_id: self.group_id.clone(),
            instance_id: self.instance_id.clone(),
        }
    }

    /// What delivery has to know of the clients that are made of this.
    pub fn client_limits(&self) -> ClientLimits {
        ClientLimits {
            batch_bytes: self.batch_bytes(),
            session_timeout: self.session_timeout(),
            poll_interval: self.poll_interval(),
            transaction_timeout: self.transaction_timeout(),
        }
    }

    /// Whether the in-process broker is meant.
    pub fn is_embedded(&self) -> bool {
        self.bootstrap_servers == EMBEDDED
    }

    /// `{group_id}.{instance_id}`.
    pub fn transactional_id(&self) -> String {
        format!("{}.{}", self.group_id, self.instance_id)
    }

    /// Bytes of a produce batch at most, as configured; the client holds to the lower of two properties.
    pub fn batch_bytes(&self) -> usize {
        let of = |key| {
            let set = self.properties.get(key).and_then(|text| text.parse().ok());
            set.unwrap_or(DEFAULT_BATCH_BYTES)
        };
        of("batch.size").min(self.output_bytes_max())
    }

    /// Bytes of an output at most, as configured.
    pub fn output_bytes_max(&self) -> usize {
        let set = self.properties.get("message.max.bytes");
        set.and_then(|text| text.parse().ok())
            .unwrap_or(DEFAULT_BATCH_BYTES)
    }

    /// The session timeout in force: how long the group waits for a silent member.
    pub fn session_timeout(&self) -> Duration {
        let set = self.properties.get("session.timeout.ms");
        let set = set.and_then(|text| text.parse().ok());
        Duration::from_millis(set.unwrap_or(DEFAULT_SESSION_TIMEOUT_MS))
    }

    /// Within what time the consumer must be polled again, or the group takes it for dead.
    pub fn poll_interval(&self) -> Duration {
        let set = self.properties.get("max.poll.interval.ms");
        let set = set.and_then(|text| text.parse().ok());
        Duration::from_millis(set.unwrap_or(DEFAULT_POLL_INTERVAL_MS))
    }

    /// The transaction timeout in force.
    pub fn transaction_timeout(&self) -> Duration {
        let set = self
            .properties
            .get("transaction.timeout.ms")
            .and_then(|text| text.parse().ok());
        Duration::from_millis(set.unwrap_or(DEFAULT_TRANSACTION_TIMEOUT_MS))
    }
}
