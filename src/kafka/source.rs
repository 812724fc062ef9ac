//! The consumer of the group.
//!
//! One `BaseConsumer`, polled by the stream's thread only. A revocation is not answered in the callback: it becomes an event,
//! the session drains and commits, and only then gives the partitions back, so that no commit races the rebalance. The
//! group's metadata is taken when partitions are assigned: what is committed under it is refused by the cluster once the
//! group has moved on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use tracing::{error, warn};

use super::faults::{Faults, code_of};
use super::group::{GroupConsumer, GroupEvent};
use super::headers;
use super::starts::{self, OFFSETS_TIMEOUT, Policies};
use crate::delivery::calls::{BoundedCalls, OnStop};
use crate::delivery::fault::DeliveryFault;
use crate::delivery::source::{Assigned, Polled, Source};
use crate::kafka::options::KafkaConfig;
use crate::pipeline::message::{Incoming, MessageBatch};
use crate::pipeline::types::{Offset, Partition, TopicPartition};
use crate::telemetry::heartbeat::Operation;

/// A static member leaves without telling the group, so that closing takes milliseconds; more than this, and the process
/// goes on without it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
