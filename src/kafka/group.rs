//! The consumer of the group with its callbacks: what the client says of assignments, lag and connections becomes events.
//!
//! Callbacks run inside a poll, on the thread of whoever polls. The invariant: a revocation is never answered here, unless
//! the consumer is being closed; the session drains and commits first.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tracing::warn;

use super::client;
use super::faults::Faults;
use super::options::KafkaConfig;
use super::statistics::{Seen, read};
use super::troubles::Troubles;
use crate::delivery::fault::DeliveryFault;
use crate::delivery::source::PartitionEnd;
use crate::pipeline::types::{Partition, TopicPartition};

/// What callbacks report to the session.
#[derive(Debug)]
pub(super) enum GroupEvent {
    /// These partitions are this instance's, once it has taken them.
    Offered(Vec<TopicPartition>),
    Revoked,
    Lost,
    Failed(String),
    Ends(Vec<PartitionEnd>),
    /// No broker is connected.
    Away,
}

/// What callbacks write and the session reads. Callbacks run inside `poll`, on the session's own thread.
#[derive(Default)]
pub(super) struct Group {
    pub(super) events: VecDeque<GroupEvent>,
    pub(super) assigned: BTreeSet<TopicPartition>,
    pub(super) metadata: Option<Arc<ConsumerGroupMetadata>>,
}

/// The callbacks of the consumer.
pub struct GroupContext {
    troubles: Arc<Troubles>,
    group: Mutex<Group>,
    /// Set when the consumer is being closed: a revocation is then answered at once.
    pub(super) closing: AtomicBool,
}

impl GroupContext {
    fn new(troubles: Arc<Troubles>) -> Self {
        Self {
            troubles,
            group: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn group(&self) -> MutexGuard<'_, Group> {
        // Whoever panicked while it held the lock has left whole values: each is written in one step.
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, event: GroupEvent) {
        self.group().events.push_back(event);
    }

    /// What was said of connections; shared with the producer of the session.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.troubles
    }

    /// The metadata under which offsets of the present assignment are committed.
    pub fn metadata(&self) -> Option<Arc<ConsumerGroupMetadata>> {
        self.group().metadata.clone()
    }

    fn offer(&self, list: &TopicPartitionList) {
        let partitions = list
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), Partition(element.partition())))
            .collect();
        self.report(GroupEvent::Offered(partitions));
    }

    pub(super) fn taken(
        &self,
        partitions: &[TopicPartition],
        metadata: Option<ConsumerGroupMetadata>,
    ) {
        let mut group = self.group();
        group.assigned = partitions.iter().cloned().collect();
        group.metadata = metadata.map(Arc::new);
    }

    pub(super) fn forget(&self) {
        let mut group = self.group();
        group.assigned.clear();
        group.metadata = None;
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.troubles.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.error("consumer", &error, reason);
    }

    fn stats_raw(&self, report: &[u8]) {
        let mut group = self.group();
        match read(report, &group.assigned) {
            Ok(seen) => {
                // Only the newest counts, and the queue stays short.
                group
                    .events
                    .retain(|event| !matches!(event, GroupEvent::Ends(_) | GroupEvent::Away));
                group.events.push_back(match seen {
                    Seen::Ends(ends) => GroupEvent::Ends(ends),
                    Seen::Away => GroupEvent::Away,
                });
            }
            Err(error) => warn!(%error, "librdkafka's statistics cannot be read"),
        }
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let closing = self.closing.load(Ordering::Acquire);
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if !closing => {
                self.offer(list);
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS if !closing => {
                let lost = consumer.assignment_lost();
                self.report(if lost {
                    GroupEvent::Lost
                } else {
                    GroupEvent::Revoked
                });
            }
            _ => {
                self.forget();
                if let Err(error) = consumer.unassign() {
                    self.report(GroupEvent::Failed(format!("unassign: {error}")));
                } else if !closing {
                    let code = RDKafkaErrorCode::from(event);
                    self.report(GroupEvent::Failed(format!("rebalance: {code}")));
                }
            }
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(100))
    }
}

/// The consumer with its callbacks.
pub type GroupConsumer = BaseConsumer<GroupContext>;

/// A consumer that has not joined its group yet.
///
/// # Errors
/// [`DeliveryFault::Impossible`]: a property that librdkafka refuses.
pub fn consumer(
    kafka: &KafkaConfig,
    servers: &str,
    troubles: Arc<Troubles>,
) -> Result<GroupConsumer, DeliveryFault> {
    client::consumer(kafka, servers)
        .create_with_context(GroupContext::new(troubles))
        .map_err(|error| Faults::new(&kafka.properties).creation("make the consumer", &error))
}
