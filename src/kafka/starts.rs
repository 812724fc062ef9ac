//! Where each partition goes on: the group's committed offset, if the log still has it.
//!
//! Committed offsets and the bounds of the logs flow in, one start a partition flows out. The client's own rule
//! (`auto.offset.reset`) knows one answer to "nothing is committed" and to "what is committed is gone", and with `latest` it
//! skips records that are still there. Here the two are distinguished. The invariant: a record that the log still has, at or
//! beyond the committed offset, is never skipped because others before it are gone.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::group::GroupConsumer;
use crate::delivery::source::{Assigned, Owed};
use crate::kafka::options::{KafkaConfig, OffsetPolicy};
use crate::pipeline::types::{Offset, Partition, TopicPartition};

/// How long the cluster may take to give all offsets: a coordinator that loads, or a partition without leader, takes seconds.
pub const OFFSETS_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where only the lag depends on it, and a session is to be begun anew.
pub const OWED_TIMEOUT: Duration = Duration::from_secs(4);
/// A partition whose leader has just changed may give an end that lies behind the one that it gave before, for a moment.
const END_ATTEMPTS: u32 = 4;
/// Between two questions.
const END_PAUSE: Duration = Duration::from_millis(500);

/// What is known of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    partition: TopicPartition,
    /// What the group has committed, if anything.
    committed: Option<i64>,
    /// The first record that the log still has.
    start: i64,
    /// One beyond the last record that may be read.
    end: i64,
}

/// What to do where there is no offset to go on from.
#[derive(Debug, Clone, Copy)]
pub struct Policies {
    /// Nothing is committed.
    absent: OffsetPolicy,
    /// What is committed is not in the log any more.
    lost: OffsetPolicy,
}

impl Policies {
    /// As configured.
    pub fn of(kafka: &KafkaConfig) -> Self {
        Self {
            absent: kafka.offset_absent,
            lost: kafka.offset_lost,
        }
    }

    /// Where a partition goes on.
    ///
    /// # Errors
    /// The policy is not to go on; what is missing, and what would help.
    pub fn start_of(self, known: &Known) -> Result<Assigned, String> {
        let Known {
            partition,
            committed,
            start,
            end,
        } = known;
        let (next, lost_from, is_end_chosen) = match *committed {
            None => match self.absent {
                OffsetPolicy::Earliest => (*start, None, false),
                OffsetPolicy::Latest => (*end, None, true),
                OffsetPolicy::Fail => {
                    return Err(format!(
                        "{partition}: the group has committed no offset, and auto.offset.reset is \"error\""
                    ));
                }
            },
            Some(committed) if committed < *start => match self.lost {
                // What is left of the log was never read: nobody may skip it.
                OffsetPolicy::Earliest | OffsetPolicy::Latest => {
                    (*start, Some(Offset(committed)), false)
                }
                OffsetPolicy::Fail => {
                    return Err(format!(
                        "{partition}: the committed offset {committed} is gone, the log starts at {start}: {} records were \
                         deleted before they were read; kafka.offset_lost = \"earliest\" goes on with what is left",
                        start - committed
                    ));
                }
            },
            Some(committed) if committed > *end => match self.lost {
                OffsetPolicy::Earliest => (*start, None, false),
                OffsetPolicy::Latest => (*end, None, true),
                OffsetPolicy::Fail => {
                    return Err(format!(
                        "{partition}: the committed offset {committed} lies beyond the end of the log, {end}: the topic was \
                         made anew, or has lost records; kafka.offset_lost says where to go on"
                    ));
                }
            },
            Some(committed) => (committed, None, false),
        };
        Ok(Assigned {
            partition: partition.clone(),
            next: Offset(next),
            end: Offset(*end),
            lost_from,
            is_end_chosen,
        })
    }
}

/// What the group owes of every partition of `topics`. `consumer` need not have joined it; blocks until `deadline`.
///
/// # Errors
/// As [`ask`].
pub fn owed(
    consumer: &GroupConsumer,
    topics: &[String],
    policies: Policies,
    deadline: Instant,
) -> Result<Vec<Owed>, KafkaError> {
    let mut partitions = Vec::new();
    for topic in topics {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = consumer.fetch_metadata(Some(topic), left)?;
        // A topic that does not exist has no partitions, and owes nothing.
        let found = answer.topics().iter().flat_map(|found| found.partitions());
        partitions.extend(found.map(|of| TopicPartition::new(topic, Partition(of.id()))));
    }
    let known = ask(consumer, &partitions, deadline)?;
    let owed = known.iter().map(|known| {
        // Where the policy is not to go on, all that is there waits for somebody's decision.
        let next = policies
            .start_of(known)
            .map_or(known.start, |assigned| assigned.next.0);
        Owed {
            partition: known.partition.clone(),
            records: u64::try_from(known.end - next).unwrap_or(0),
        }
    });
    Ok(owed.collect())
}

/// Asks the cluster; blocks until `deadline`.
///
/// # Errors
/// The cluster does not answer, as a whole or of one partition.
pub fn ask(
    consumer: &GroupConsumer,
    partitions: &[TopicPartition],
    deadline: Instant,
) -> Result<Vec<Known>, KafkaError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let list = |offset| -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for of in partitions {
            list.add_partition_offset(of.topic.as_str(), of.partition.0, offset)?;
        }
        Ok(list)
    };
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut attempts = 0;
    loop {
        let committed = consumer.committed_offsets(list(KafkaOffset::Invalid)?, left())?;
        // The protocol's own names for the two ends of a log are moments in time.
        let starts = consumer.offsets_for_times(list(KafkaOffset::Beginning)?, left())?;
        let ends = consumer.offsets_for_times(list(KafkaOffset::End)?, left())?;
        let mut known = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let end = offset_in(&ends, partition)?.unwrap_or(0);
            known.push(Known {
                partition: partition.clone(),
                committed: offset_in(&committed, partition)?,
                start: offset_in(&starts, partition)?.unwrap_or(0).min(end),
                end,
            });
        }
        attempts += 1;
        let settled = known.iter().all(|known| {
            known
                .committed
                .is_none_or(|committed| committed <= known.end)
        });
        if settled || attempts == END_ATTEMPTS || left() <= END_PAUSE {
            return Ok(known);
        }
        std::thread::sleep(END_PAUSE);
    }
}

/// What a list says of a partition; `None` where it has no offset.
fn offset_in(
    list: &TopicPartitionList,
    partition: &TopicPartition,
) -> Result<Option<i64>, KafkaError> {
    let Partition(number) = partition.partition;
    let Some(element) = list.find_partition(partition.topic.as_str(), number) else {
        return Ok(None);
    };
    element.error()?;
    match element.offset() {
        KafkaOffset::Offset(offset) => Ok(Some(offset)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn known(committed: Option<i64>) -> Known {
        Known {
            partition: TopicPartition::new("in", Partition(3)),
            committed,
            start: 100,
            end: 200,
        }
    }

    fn start(policy: OffsetPolicy, committed: Option<i64>) -> Result<(i64, Option<i64>), String> {
        let policies = Policies {
            absent: policy,
            lost: policy,
        };
        let assigned = policies.start_of(&known(committed))?;
        assert_eq!(assigned.end, Offset(200));
        let is_at_end = policy == OffsetPolicy::Latest && assigned.next == assigned.end;
        assert_eq!(
            assigned.is_end_chosen,
            is_at_end && committed != Some(200),
            "only what nobody has committed is to be committed"
        );
        Ok((assigned.next.0, assigned.lost_from.map(|from| from.0)))
    }

    #[test]
    fn a_committed_offset_that_is_there_is_always_kept() {
        for policy in [
            OffsetPolicy::Earliest,
            OffsetPolicy::Latest,
            OffsetPolicy::Fail,
        ] {
            for committed in [100, 150, 200] {
                assert_eq!(start(policy, Some(committed)), Ok((committed, None)));
            }
        }
    }

    #[test]
    fn records_that_are_left_after_retention_passed_the_committed_offset_are_never_skipped() {
        for policy in [OffsetPolicy::Earliest, OffsetPolicy::Latest] {
            assert_eq!(start(policy, Some(40)), Ok((100, Some(40))));
        }
        let why = start(OffsetPolicy::Fail, Some(40)).unwrap_err();
        for part in ["in-3", "40", "100", "60 records", "kafka.offset_lost"] {
            assert!(why.contains(part), "{part} is missing in: {why}");
        }
    }

    #[test]
    fn a_topic_that_was_made_anew_is_read_as_the_policy_says() {
        assert_eq!(start(OffsetPolicy::Earliest, Some(900)), Ok((100, None)));
        assert_eq!(start(OffsetPolicy::Latest, Some(900)), Ok((200, None)));
        assert!(
            start(OffsetPolicy::Fail, Some(900))
                .unwrap_err()
                .contains("900")
        );
    }

    #[test]
    fn a_group_without_offsets_begins_as_auto_offset_reset_says() {
        assert_eq!(start(OffsetPolicy::Earliest, None), Ok((100, None)));
        assert_eq!(start(OffsetPolicy::Latest, None), Ok((200, None)));
        assert!(
            start(OffsetPolicy::Fail, None)
                .unwrap_err()
                .contains("auto.offset.reset")
        );
    }
}
