//! The consumer of the group.
//!
//! One `BaseConsumer`, polled by the stream's thread only. A revocation is not answered in the callback: it becomes an event,
//! the session drains and commits, and only then gives the partitions back, so that no commit races the rebalance. The
//! group's metadata is taken when partitions are assigned: what is committed under it is refused by the cluster once the
//! group has moved on.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::{error, warn};

use super::client;
use super::faults::{Faults, code_of};
use super::headers;
use super::starts::{self, OFFSETS_TIMEOUT, Policies};
use super::statistics::{Seen, read};
use super::troubles::Troubles;
use crate::delivery::calls::{BoundedCalls, OnStop};
use crate::delivery::fault::DeliveryFault;
use crate::delivery::source::{Assigned, PartitionEnd, Polled, Source};
use crate::kafka::options::KafkaConfig;
use crate::pipeline::message::{Incoming, MessageBatch};
use crate::pipeline::types::{Offset, Partition, TopicPartition};
use crate::telemetry::heartbeat::Operation;

/// A static member leaves without telling the group, so that closing takes milliseconds; more than this, and the process
/// goes on without it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What callbacks report to the session.
#[derive(Debug)]
enum GroupEvent {
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
struct Group {
    events: VecDeque<GroupEvent>,
    assigned: BTreeSet<TopicPartition>,
    metadata: Option<Arc<ConsumerGroupMetadata>>,
}

/// The callbacks of the consumer.
pub struct GroupContext {
    troubles: Arc<Troubles>,
    group: Mutex<Group>,
    /// Set when the consumer is being closed: a revocation is then answered at once.
    closing: AtomicBool,
}

impl GroupContext {
    fn new(troubles: Arc<Troubles>) -> Self {
        Self {
            troubles,
            group: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
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

    fn taken(&self, partitions: &[TopicPartition], metadata: Option<ConsumerGroupMetadata>) {
        let mut group = self.group();
        group.assigned = partitions.iter().cloned().collect();
        group.metadata = metadata.map(Arc::new);
    }

    fn forget(&self) {
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

/// The stream's end of the consumer.
pub struct KafkaSource {
    /// Taken when dropped.
    consumer: Option<Arc<GroupConsumer>>,
    topics: Vec<String>,
    /// Since when the group's first offer is waited for; none once it has come.
    joining: Option<Instant>,
    policies: Policies,
    calls: BoundedCalls,
    faults: Faults,
}

impl KafkaSource {
    /// The stream's end of `consumer`.
    pub fn new(consumer: Arc<GroupConsumer>, kafka: &KafkaConfig, calls: BoundedCalls) -> Self {
        Self {
            consumer: Some(consumer),
            topics: kafka.input_topics.clone(),
            joining: Some(Instant::now()),
            policies: Policies::of(kafka),
            calls,
            faults: Faults::new(&kafka.properties),
        }
    }

    /// Joins the group.
    ///
    /// # Errors
    /// A subscription that librdkafka refuses.
    pub fn subscribe(&self) -> Result<(), DeliveryFault> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer()?
            .subscribe(&topics)
            .map_err(|error| self.faults.creation("subscribe", &error))
    }

    fn consumer(&self) -> Result<&Arc<GroupConsumer>, DeliveryFault> {
        self.consumer
            .as_ref()
            .ok_or_else(|| interrupted("closed".to_owned()))
    }

    /// Takes partitions that the group offers, each from where the group left it.
    fn take(&mut self, partitions: Vec<TopicPartition>) -> Result<Polled, DeliveryFault> {
        let operation = Operation::FindOffsets;
        self.joining = None;
        let consumer = self.consumer()?;
        consumer.context().troubles().let_in();
        let (asking, asked) = (Arc::clone(consumer), partitions.clone());
        let deadline = Instant::now() + OFFSETS_TIMEOUT;
        let ask = move || starts::ask(&asking, &asked, deadline);
        let known = self
            .calls
            .run(
                operation,
                OFFSETS_TIMEOUT,
                OnStop::EndAtOnce,
                ask,
                || Ok(()),
            )?
            .map_err(|error| self.faults.call(operation.as_str(), &error, false))?;
        let assigned = known
            .iter()
            .map(|known| self.policies.start_of(known))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|detail| DeliveryFault::Impossible {
                operation: operation.as_str(),
                detail,
            })?;
        let failed = |error| self.faults.call("take partitions", &error, false);
        let mut list = TopicPartitionList::with_capacity(assigned.len());
        for Assigned {
            partition, next, ..
        } in &assigned
        {
            let (topic, number) = (partition.topic.as_str(), partition.partition.0);
            list.add_partition_offset(topic, number, KafkaOffset::Offset(next.0))
                .map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        consumer
            .context()
            .taken(&partitions, consumer.group_metadata());
        Ok(Polled::Assigned(assigned))
    }

    fn event(&mut self, event: GroupEvent) -> Result<Polled, DeliveryFault> {
        match event {
            GroupEvent::Offered(partitions) => self.take(partitions),
            GroupEvent::Revoked => Ok(Polled::Revoked),
            GroupEvent::Ends(ends) => Ok(Polled::Ends(ends)),
            GroupEvent::Away => Ok(Polled::Away(self.consumer()?.context().troubles().away())),
            GroupEvent::Lost => Err(interrupted(
                "the group has given the partitions to others without asking".to_owned(),
            )),
            GroupEvent::Failed(why) => Err(interrupted(why)),
        }
    }

    /// What an error of the consumer means. Trouble of the network passes: the client reconnects by itself.
    fn error(&self, consumer: &GroupConsumer, error: &KafkaError) -> Result<Polled, DeliveryFault> {
        if let Some((code, text)) = consumer.client().fatal_error() {
            return Err(self.faults.code("consume", code, text, false));
        }
        use RDKafkaErrorCode as Code;
        match code_of(error) {
            // A broker that starts again may not know its users for a moment.
            Some(Code::SaslAuthenticationFailed) if consumer.context().troubles().was_let_in() => {
                consumer.context().troubles().note("consumer", error);
                Ok(Polled::Nothing)
            }
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::FencedInstanceId
                | Code::PollExceeded
                | Code::OffsetOutOfRange
                | Code::AutoOffsetReset
                | Code::BadMessage,
            ) => Err(self.faults.call("consume", error, false)),
            _ => {
                consumer.context().troubles().note("consumer", error);
                Ok(Polled::Nothing)
            }
        }
    }
}

fn interrupted(detail: String) -> DeliveryFault {
    DeliveryFault::Interrupted {
        operation: "consume",
        detail,
    }
}

fn push(message: &BorrowedMessage<'_>, batch: &mut MessageBatch) {
    batch.push(&Incoming {
        topic: message.topic(),
        partition: Partition(message.partition()),
        offset: Offset(message.offset()),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        payload: message.payload(),
    });
    if let Some(headers) = message.headers() {
        headers::each(headers, |name, value| batch.push_header(name, value));
    }
}

impl Source for KafkaSource {
    fn poll(
        &mut self,
        timeout: Duration,
        batch: &mut MessageBatch,
    ) -> Result<Polled, DeliveryFault> {
        let consumer = Arc::clone(self.consumer()?);
        let next = || consumer.context().group().events.pop_front();
        if let Some(event) = next() {
            return self.event(event);
        }
        if let Some(since) = self.joining {
            consumer
                .context()
                .troubles()
                .wait(Operation::Consume, since)?;
        }
        match consumer.poll(timeout) {
            None => match next() {
                Some(event) => self.event(event),
                None => Ok(Polled::Nothing),
            },
            Some(Ok(message)) => {
                push(&message, batch);
                Ok(Polled::Message)
            }
            Some(Err(error)) => self.error(&consumer, &error),
        }
    }

    fn release(&mut self) -> Result<(), DeliveryFault> {
        self.calls.enter(Operation::GiveBack);
        let consumer = self.consumer()?;
        consumer.context().forget();
        consumer
            .unassign()
            .map_err(|error| self.faults.call("give partitions back", &error, false))
    }
}

impl Drop for KafkaSource {
    /// Leaves the group, for a bounded time. A revocation that was not answered is answered now: the client would wait for
    /// it for ever otherwise.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        self.calls.enter(Operation::CloseClients);
        consumer.context().closing.store(true, Ordering::Release);
        if let Err(error) = consumer.unassign() {
            warn!(%error, "partitions cannot be given back");
        }
        let operation = Operation::CloseClients;
        let close = move || drop(consumer);
        let finish = OnStop::FinishFirst;
        if let Err(fault) = self
            .calls
            .run(operation, CLOSE_TIMEOUT, finish, close, || Ok(()))
        {
            error!(%fault, "the consumer does not close, the process goes on without it");
        }
    }
}
