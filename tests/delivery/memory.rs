//! An in-process twin of the cluster that fails on demand: a log with partitions, one consumer group and one producer id.
//!
//! It keeps what Kafka promises and nothing more: a transaction's outputs and offsets appear together or not at all, a newer
//! producer fences the older, a refused output spoils its whole transaction. It also holds the stream to its side: a poll
//! between a revocation and its answer is a bug, and the twin says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use maskwatch::delivery::fault::DeliveryFault;
use maskwatch::delivery::refusal::{Objection, RefusedTicket, SendOptions, TopicLimits};
use maskwatch::delivery::shutdown::Shutdown;
use maskwatch::delivery::sink::{Connector, Sent, Sink};
use maskwatch::delivery::source::{Assigned, Owed, PartitionEnd, Polled, Source};
use maskwatch::pipeline::message::{Incoming, MessageBatch};
use maskwatch::pipeline::output::OutputRecord;
use maskwatch::pipeline::types::{Offset, Partition, Positions, Topic, TopicPartition};

/// The twin's only input topic.
pub const INPUT: &str = "in";
/// Outputs on their way at once where each is sent alone; the first refusal stops those behind them.
const IN_FLIGHT_MAX: usize = 5;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accident {
    /// The commit fails and nothing is visible.
    Abort,
    /// The answer is lost; the commit may have happened.
    Unknown {
        /// Whether it has.
        applied: bool,
    },
    /// The commit never returns.
    Hang,
    /// Somebody else has this instance's name.
    Fence,
    /// The group takes the partitions back, and waits for the answer.
    Revoke,
    /// The group has given the partitions away without asking.
    Lose,
}

/// An output as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Written {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(header, _)| header == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    fn bytes(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
    }
}

/// What a broker has against some outputs, and which.
pub type Refuses = (Objection, fn(&Written) -> bool);

/// The cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    pub input: Vec<Vec<Option<Vec<u8>>>>,
    pub committed: BTreeMap<TopicPartition, Offset>,
    /// What `read_committed` sees.
    pub outputs: Vec<Written>,
    /// Behind how many of them each transaction ended.
    pub ends: Vec<usize>,
    /// By the number of the commit over all sessions, from 0.
    pub at_commit: BTreeMap<u64, Accident>,
    /// By the number of the poll over all sessions, from 0.
    pub at_poll: BTreeMap<u64, Accident>,
    /// Every commit fails.
    pub is_down: bool,
    /// What the group tells of members with this instance's name.
    pub has_member: Option<bool>,
    /// An output topic is missing for so many sessions.
    pub missing_for: usize,
    pub client_bytes_max: Option<usize>,
    pub record_bytes_max: Option<usize>,
    pub batch_bytes_max: Option<usize>,
    /// Topics that take no record without a key.
    pub compacted: Vec<&'static str>,
    /// Something else that a broker has against some outputs; it names their batch only.
    pub refuses: Option<Refuses>,
    /// What the cluster tells of its topics when a session begins.
    pub told: Vec<(Topic, TopicLimits)>,
    /// Of the offsets, each that this divides has no key.
    pub keyless_every: Option<usize>,
    pub is_transactional: bool,
    /// A group without offsets begins at the end.
    pub begins_at_end: bool,
    /// Outputs of the largest transaction.
    pub largest_commit: usize,
    pub sessions: Vec<SendOptions>,
    pub commits: u64,
    pub renewals: u64,
    /// No producer can be made anew within a session.
    pub renewals_fail: bool,
    /// What every commit takes.
    pub commit_takes: Duration,
    /// When a stop is asked for: looked at when a commit is asked for, and when it is done.
    pub stop_when: Option<fn(&Cluster) -> bool>,
    /// What asks for it.
    pub shutdown: Option<Shutdown>,
    pub polls: u64,
}

impl Cluster {
    /// Whether the group has read everything.
    pub fn is_done(&self) -> bool {
        self.input.iter().enumerate().all(|(number, records)| {
            let at = self
                .committed
                .get(&partition(number))
                .map_or(0, |next| next.0);
            at == records.len() as i64
        })
    }

    fn write(&mut self, outputs: &mut Vec<(usize, Written)>, positions: &Positions) {
        self.outputs
            .extend(outputs.drain(..).map(|(_, output)| output));
        self.ends.push(self.outputs.len());
        for (of, next) in positions.iter() {
            self.committed.insert(of.clone(), next);
        }
        self.stop_in_time();
    }

    /// Asks for a stop if it is time.
    fn stop_in_time(&self) {
        if let (Some(is_time), Some(shutdown)) = (self.stop_when, &self.shutdown)
            && is_time(self)
        {
            shutdown.request();
        }
    }

    /// What a broker has against an output.
    pub fn objection(&self, output: &Written) -> Option<Objection> {
        let is_compacted = self.compacted.contains(&output.topic.as_str());
        if self
            .record_bytes_max
            .is_some_and(|most| output.bytes() > most)
        {
            return Some(Objection::Size);
        }
        if is_compacted && output.key.is_none() {
            return Some(Objection::Record);
        }
        let (objection, refuses) = self.refuses?;
        refuses(output).then_some(objection)
    }

    /// What a broker refuses of a transaction: single outputs where each is sent alone, whole batches otherwise, but for
    /// invalid records, which it names.
    fn refused(&self, outputs: &[(usize, Written)], options: SendOptions) -> Vec<RefusedTicket> {
        let ticket = |ticket: usize, objection, is_exact| RefusedTicket {
            ticket,
            objection,
            is_exact,
        };
        if options.alone {
            let refused = outputs
                .iter()
                .filter_map(|(of, output)| Some(ticket(*of, self.objection(output)?, false)));
            return refused.take(IN_FLIGHT_MAX).collect();
        }
        let mut batches: BTreeMap<&str, Vec<&(usize, Written)>> = BTreeMap::new();
        for output in outputs {
            batches.entry(&output.1.topic).or_default().push(output);
        }
        let mut refused = Vec::new();
        for batch in batches.values() {
            let all: usize = batch.iter().map(|(_, output)| output.bytes()).sum();
            let bytes = all.min(options.batch_bytes_max.unwrap_or(usize::MAX));
            let mut objections: Vec<Objection> = batch
                .iter()
                .filter_map(|(_, output)| self.objection(output))
                .collect();
            if self.batch_bytes_max.is_some_and(|most| bytes > most) {
                objections.push(Objection::Size);
            }
            let first = objections.iter().find(|of| **of != Objection::Record);
            if let Some(objection) = first {
                refused.extend(batch.iter().map(|(of, _)| ticket(*of, *objection, false)));
            } else {
                let is_exact = objections.len() < batch.len();
                let invalid = batch.iter().filter_map(|(of, output)| {
                    Some(ticket(*of, self.objection(output)?, is_exact))
                });
                refused.extend(invalid);
            }
        }
        refused
    }
}

fn partition(number: usize) -> TopicPartition {
    TopicPartition::new(INPUT, Partition(number as i32))
}

/// The cluster, shared by clients and tests.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    /// As told to the latest session.
    told: Vec<(Topic, TopicLimits)>,
}

impl Shared {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Arc::new(Mutex::new(cluster)),
            told: Vec::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }
}

impl Connector for Shared {
    type Source = MemorySource;
    type Sink = MemorySink;

    fn open(&mut self, options: SendOptions) -> Result<(MemorySource, MemorySink), DeliveryFault> {
        let (session, told) = {
            let mut cluster = self.lock();
            cluster.sessions.push(options);
            if cluster.sessions.len() <= cluster.missing_for {
                return Err(interrupted("look up the output topics"));
            }
            (cluster.sessions.len(), cluster.told.clone())
        };
        self.told = told;
        let source = MemorySource {
            cluster: self.clone(),
            state: Membership::Joining,
        };
        let sink = MemorySink {
            cluster: self.clone(),
            session,
            options,
            open: Vec::new(),
        };
        Ok((source, sink))
    }

    fn limits(&self) -> &[(Topic, TopicLimits)] {
        &self.told
    }

    fn has_member(&mut self) -> Option<bool> {
        self.lock().has_member
    }

    fn owed(&mut self) -> Vec<Owed> {
        let cluster = self.lock();
        let of = |(number, records): (usize, &Vec<_>)| {
            let partition = partition(number);
            let next = cluster.committed.get(&partition).map_or(0, |next| next.0);
            let records = u64::try_from(records.len() as i64 - next).unwrap();
            Owed { partition, records }
        };
        cluster.input.iter().enumerate().map(of).collect()
    }
}

#[derive(Debug)]
enum Membership {
    Joining,
    /// The next offset of each partition.
    Assigned(Vec<usize>),
    Revoked,
}

/// A consumer.
#[derive(Debug)]
pub struct MemorySource {
    cluster: Shared,
    state: Membership,
}

impl MemorySource {
    fn join(&mut self, cluster: &Cluster) -> Polled {
        let partitions: Vec<_> = (0..cluster.input.len()).map(partition).collect();
        let at = |of: &TopicPartition| {
            let begin = match cluster.begins_at_end {
                true => cluster.input[of.partition.0 as usize].len(),
                false => 0,
            };
            cluster
                .committed
                .get(of)
                .map_or(begin, |next: &Offset| next.0 as usize)
        };
        self.state = Membership::Assigned(partitions.iter().map(at).collect());
        let assigned = partitions
            .into_iter()
            .enumerate()
            .map(|(number, partition)| Assigned {
                next: Offset(at(&partition) as i64),
                end: Offset(cluster.input[number].len() as i64),
                lost_from: None,
                is_end_chosen: cluster.begins_at_end && !cluster.committed.contains_key(&partition),
                partition,
            });
        Polled::Assigned(assigned.collect())
    }
}

impl Source for MemorySource {
    fn poll(
        &mut self,
        timeout: Duration,
        batch: &mut MessageBatch,
    ) -> Result<Polled, DeliveryFault> {
        let shared = self.cluster.clone();
        let mut cluster = shared.lock();
        let poll = cluster.polls;
        cluster.polls += 1;
        let positions = match &mut self.state {
            Membership::Joining => return Ok(self.join(&cluster)),
            Membership::Revoked => panic!("polled before the partitions were given back"),
            Membership::Assigned(positions) => positions,
        };
        match cluster.at_poll.get(&poll) {
            Some(Accident::Revoke) => {
                self.state = Membership::Revoked;
                return Ok(Polled::Revoked);
            }
            Some(Accident::Lose) => {
                return Err(interrupted("consume"));
            }
            _ => {}
        }
        if poll % 97 == 96 {
            let ends = positions
                .iter()
                .enumerate()
                .map(|(number, _)| PartitionEnd {
                    partition: partition(number),
                    end: Offset(cluster.input[number].len() as i64),
                });
            return Ok(Polled::Ends(ends.collect()));
        }
        // Each partition in turn, as far as there is something.
        let count = positions.len().max(1);
        for number in (0..count).map(|step| (poll as usize + step) % count) {
            let Some(payload) = cluster
                .input
                .get(number)
                .and_then(|of| of.get(positions[number]))
            else {
                continue;
            };
            let is_keyless = cluster
                .keyless_every
                .is_some_and(|every| positions[number].is_multiple_of(every));
            batch.push(&Incoming {
                topic: INPUT,
                partition: Partition(number as i32),
                offset: Offset(positions[number] as i64),
                timestamp_ms: Some(1_700_000_000_000),
                key: (!is_keyless).then_some(b"key"),
                payload: payload.as_deref(),
            });
            positions[number] += 1;
            return Ok(Polled::Message);
        }
        drop(cluster);
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
        Ok(Polled::Nothing)
    }

    fn release(&mut self) -> Result<(), DeliveryFault> {
        assert!(
            matches!(self.state, Membership::Revoked),
            "released without a revocation"
        );
        self.state = Membership::Joining;
        Ok(())
    }
}

/// A producer.
#[derive(Debug)]
pub struct MemorySink {
    cluster: Shared,
    /// Newer sessions fence older ones.
    session: usize,
    options: SendOptions,
    open: Vec<(usize, Written)>,
}

fn interrupted(operation: &'static str) -> DeliveryFault {
    DeliveryFault::Interrupted {
        operation,
        detail: "an accident".to_owned(),
    }
}

impl Sink for MemorySink {
    fn send(&mut self, record: &OutputRecord<'_>, ticket: usize) -> Result<Sent, DeliveryFault> {
        let mut cluster = self.cluster.lock();
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_vec(), value.as_deref().unwrap_or_default().to_vec()));
        let written = Written {
            topic: record.topic.to_string(),
            key: record.key.as_deref().map(<[u8]>::to_vec),
            payload: record.payload.to_vec(),
            headers: headers.collect(),
        };
        if cluster
            .client_bytes_max
            .is_some_and(|bytes_max| written.bytes() > bytes_max)
        {
            return Ok(Sent::TooLarge);
        }
        if !cluster.is_transactional {
            cluster.outputs.push(written);
        } else {
            self.open.push((ticket, written));
        }
        Ok(Sent::Accepted)
    }

    fn commit(&mut self, positions: &Positions, _: Duration) -> Result<(), DeliveryFault> {
        let takes = self.cluster.lock().commit_takes;
        std::thread::sleep(takes);
        let mut cluster = self.cluster.lock();
        assert_eq!(
            self.session,
            cluster.sessions.len(),
            "an old session commits"
        );
        let accident = cluster.at_commit.get(&cluster.commits).copied();
        cluster.commits += 1;
        cluster.stop_in_time();
        if cluster.is_down {
            return Err(interrupted("commit"));
        }
        let outputs = cluster.refused(&self.open, self.options);
        if !outputs.is_empty() {
            return Err(DeliveryFault::Refused {
                outputs,
                detail: "as the twin was told".to_owned(),
            });
        }
        cluster.largest_commit = cluster.largest_commit.max(self.open.len());
        match accident {
            Some(Accident::Abort) => Err(interrupted("commit")),
            Some(Accident::Unknown { applied }) => {
                if applied {
                    cluster.write(&mut self.open, positions);
                }
                Err(interrupted("commit"))
            }
            Some(Accident::Hang) => {
                drop(cluster);
                loop {
                    std::thread::sleep(Duration::from_secs(3_600));
                }
            }
            Some(Accident::Fence) => Err(DeliveryFault::Fenced {
                operation: "commit",
                detail: "a newer producer".to_owned(),
            }),
            Some(Accident::Revoke | Accident::Lose) | None => {
                cluster.write(&mut self.open, positions);
                Ok(())
            }
        }
    }

    fn abandon(&mut self) {
        self.open.clear();
    }

    fn renew(&mut self) -> Result<(), DeliveryFault> {
        assert!(self.open.is_empty(), "not abandoned");
        let mut cluster = self.cluster.lock();
        cluster.renewals += 1;
        match cluster.renewals_fail {
            true => Err(interrupted("make the producer anew")),
            false => Ok(()),
        }
    }
}
