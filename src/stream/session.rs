//! One session, from the first assignment to its end: poll, batch, score, produce, commit.
//!
//! Messages flow from the source through the batcher to the scoring threads, and scored batches from there into the sink, in
//! order. The invariants: an output is committed together with the offset of its record or not at all; positions only cover
//! batches whose outputs were all handed over; nothing of a partition that was given back is ever produced.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info, warn};

use super::batcher::Batcher;
use super::config::Mode;
use super::dead_letter::{self, Form};
use super::delivery::{Carried, Shared};
use super::fault::DeliveryFault;
use super::message::MessageRef;
use super::output::{OutputRecord, Planned, ScoredBatch, Target};
use super::refusal::Substitute;
use super::scoring::{Gone, ScoringLink};
use super::sink::{Sent, Sink};
use super::source::{Assigned, PartitionEnd, Polled, Source};
use super::types::{Offset, Positions, TopicPartition};
use crate::features::FaultReason;
use crate::telemetry::heartbeat::Operation;
use crate::telemetry::metrics::TransactionOutcome;

/// A poll with nothing else to do: how soon a request to stop is noticed.
const POLL_IDLE: Duration = Duration::from_millis(50);
/// A poll while batches are being scored: how soon a scored batch is noticed.
const POLL_BUSY: Duration = Duration::from_millis(1);
/// Messages taken in one go before anything else is looked at.
const MESSAGES_PER_TURN: usize = 64;
/// A wait for the scoring threads while nothing more may be read.
const SCORER_WAIT: Duration = Duration::from_millis(50);
/// Longer than any batch takes to score, shorter than the 300 s in which a consumer must poll (`max.poll.interval.ms`).
const SCORER_STALLED: Duration = Duration::from_secs(60);
/// What may be in hand when partitions are revoked is a few batches; the group waits for this instance meanwhile.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A commit that takes longer than this makes the instance unready: it takes some milliseconds, and some hundred where a
/// broker has just gone.
const COMMIT_LATE: Duration = Duration::from_secs(5);
/// Outputs of a transaction at which it is committed before its time, so that its bookkeeping has a bound.
const TRANSACTION_OUTPUTS_MAX: usize = 1 << 15;

/// How a session ended when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything in hand is committed, and the stream was asked to stop.
    Drained,
    /// Everything sent is committed, and the next session is to send in another way.
    Regroup,
}

/// Whether there is more to read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// There was not, a moment ago.
    Nothing,
    /// A turn's worth was read, or something else came up.
    Perhaps,
}

/// What was handed to the sink since the last commit.
#[derive(Debug)]
struct Open {
    begun: Instant,
    positions: Positions,
    /// The record of each output, by ticket.
    tickets: Vec<(TopicPartition, Offset)>,
    /// Kafka's timestamps of the records, where they have one.
    timestamps_ms: Vec<i64>,
    records: u64,
}

/// A consumer and a producer at work.
pub struct Session<'a, S, K> {
    // The sink goes first when the session is dropped: it may need the consumer until its end.
    sink: K,
    source: S,
    link: &'a mut ScoringLink,
    shared: &'a Shared,
    carried: &'a mut Carried,
    batcher: Batcher,
    /// None while nothing was handed to the sink since the last commit.
    open: Option<Open>,
    /// Where the assigned partitions began: their committed offsets then.
    begun: Positions,
    /// Positions committed by this session.
    committed: Positions,
    /// Set by a commit after which outputs are to be sent in another way.
    regroup: bool,
}

impl<'a, S: Source, K: Sink> Session<'a, S, K> {
    /// A session at its beginning; whatever the scoring threads still hold of an earlier one is forgotten.
    pub fn new(
        source: S,
        sink: K,
        link: &'a mut ScoringLink,
        shared: &'a Shared,
        carried: &'a mut Carried,
    ) -> Self {
        link.forget();
        Self {
            sink,
            source,
            link,
            shared,
            carried,
            batcher: Batcher::new(shared.config.batch),
            open: None,
            begun: Positions::default(),
            committed: Positions::default(),
            regroup: false,
        }
    }

    /// Works until asked to stop, or until a fault.
    ///
    /// # Errors
    /// The fault; what was not committed is abandoned by then.
    pub fn run(mut self) -> Result<End, DeliveryFault> {
        self.work().inspect_err(|fault| self.abandon(fault))
    }

    fn work(&mut self) -> Result<End, DeliveryFault> {
        loop {
            if self.shared.shutdown.is_requested() {
                self.drain()?;
                return Ok(End::Drained);
            }
            self.take_scored(Duration::ZERO)?;
            if self.commit_is_due(Instant::now()) {
                self.commit(self.shared.config.kafka.transaction_timeout())?;
            }
            if self.regroup {
                return Ok(End::Regroup);
            }
            if self.batcher.is_due(Instant::now()) && !self.link.is_full() {
                self.submit()?;
            }
            if self.batcher.is_full() {
                // Back-pressure: nothing is read until the scoring threads have room. The client's heartbeats go on.
                self.take_scored(SCORER_WAIT)?;
            } else if self.read()? == Waiting::Nothing
                && self.link.is_idle()
                && !self.link.is_full()
                && !self.batcher.is_empty()
            {
                // Others may come while these are scored, and are the next batch: batches grow with the load by themselves.
                self.submit()?;
            }
        }
    }

    /// Polls: one wait, then whatever is there already, up to a turn's worth.
    fn read(&mut self) -> Result<Waiting, DeliveryFault> {
        let mut timeout = self.poll_timeout(Instant::now());
        for _ in 0..MESSAGES_PER_TURN {
            self.shared.calls.enter(Operation::Consume);
            match self.source.poll(timeout, self.batcher.batch_mut())? {
                Polled::Message => self.batcher.note(Instant::now()),
                Polled::Nothing => return Ok(Waiting::Nothing),
                Polled::Assigned(partitions) => self.assigned(&partitions),
                Polled::Revoked => {
                    self.give_back()?;
                    break;
                }
                Polled::Ends(ends) => self.report_lag(&ends),
            }
            if self.batcher.is_full() {
                break;
            }
            timeout = Duration::ZERO;
        }
        Ok(Waiting::Perhaps)
    }

    /// How long a poll may block without anything else being late.
    fn poll_timeout(&self, now: Instant) -> Duration {
        if !self.link.is_idle() || self.link.is_full() {
            return POLL_BUSY;
        }
        if !self.batcher.is_empty() {
            return Duration::ZERO;
        }
        let commit = self.open.as_ref().map_or(POLL_IDLE, |open| {
            let age = now.saturating_duration_since(open.begun);
            self.shared
                .config
                .delivery
                .transaction_interval
                .saturating_sub(age)
        });
        POLL_IDLE.min(commit)
    }

    fn submit(&mut self) -> Result<(), DeliveryFault> {
        let batch = self.batcher.take();
        self.link
            .submit(batch)
            .map_err(|Gone| DeliveryFault::ScorerGone)
    }

    /// Produces what the scoring threads have done; waits up to `timeout` for the first.
    fn take_scored(&mut self, timeout: Duration) -> Result<(), DeliveryFault> {
        let mut timeout = timeout;
        self.shared.calls.enter(Operation::Score);
        while let Some(scored) = self
            .link
            .collect(timeout)
            .map_err(|Gone| DeliveryFault::ScorerGone)?
        {
            self.produce(&scored?)?;
            timeout = Duration::ZERO;
        }
        let waited = self.link.in_work();
        if waited > SCORER_STALLED {
            return Err(DeliveryFault::ScorerStalled { waited });
        }
        Ok(())
    }

    fn produce(&mut self, scored: &ScoredBatch) -> Result<(), DeliveryFault> {
        self.open();
        for outputs in scored.outputs.chunk_by(|a, b| a.row() == b.row()) {
            let Some(message) = outputs
                .first()
                .and_then(|first| scored.input.get(first.row()))
            else {
                continue;
            };
            self.produce_record(scored, &message, outputs)?;
        }
        let open = self.open();
        scored.input.advance(&mut open.positions);
        open.records += scored.input.len() as u64;
        open.timestamps_ms.extend(
            scored
                .input
                .iter()
                .filter_map(|message| message.timestamp_ms()),
        );
        Ok(())
    }

    /// Sends all outputs of one record, or what stands in for them if they were refused.
    fn produce_record(
        &mut self,
        scored: &ScoredBatch,
        message: &MessageRef<'_>,
        outputs: &[Planned],
    ) -> Result<(), DeliveryFault> {
        match self
            .carried
            .refusals
            .substitute(message.partition(), message.offset())
        {
            Some(Substitute::Stub) => return self.send_stub(message, outputs),
            Some(Substitute::Nothing) => {
                give_up_output(message);
                return Ok(());
            }
            None => {}
        }
        let shared = self.shared;
        let topics = &shared.config.kafka.outputs;
        let form = Form::Full {
            bytes_max: shared.config.delivery.dead_letter_bytes_max,
        };
        for planned in outputs {
            let record = match planned {
                Planned::Envelope { target, json, .. } => {
                    let topic = match target {
                        Target::Scores => topics.scores.as_ref(),
                        Target::Alerts => topics.alerts.as_ref(),
                    };
                    topic.map(|topic| OutputRecord {
                        topic,
                        key: message.key(),
                        payload: scored.json(json),
                        headers: Vec::new(),
                    })
                }
                Planned::DeadLetter { reason, detail, .. } => {
                    debug!(at = %message.partition(), offset = message.offset().0, %reason, detail, "bad record");
                    let topic = topics.dead_letters.as_ref();
                    topic.map(|topic| dead_letter::record(message, topic, *reason, detail, form))
                }
            };
            if let Some(record) = record
                && self.send(&record, message)? == Sent::TooLarge
            {
                return self.send_stub(message, outputs);
            }
        }
        Ok(())
    }

    /// Sends the shortest dead letter in place of outputs that are too large.
    fn send_stub(
        &mut self,
        message: &MessageRef<'_>,
        outputs: &[Planned],
    ) -> Result<(), DeliveryFault> {
        let (reason, detail) = match outputs.first() {
            Some(Planned::DeadLetter { reason, detail, .. }) => (*reason, detail.as_str()),
            Some(Planned::Envelope { .. }) | None => {
                (FaultReason::TooLarge, "the output was refused for its size")
            }
        };
        let shared = self.shared;
        let Some(topic) = shared.config.kafka.outputs.dead_letters.as_ref() else {
            give_up_output(message);
            return Ok(());
        };
        warn!(at = %message.partition(), offset = message.offset().0, "output refused for its size, a stub is sent instead");
        let stub = dead_letter::record(message, topic, reason, detail, Form::Stub);
        if self.send(&stub, message)? == Sent::TooLarge {
            give_up_output(message);
        }
        Ok(())
    }

    fn send(
        &mut self,
        record: &OutputRecord<'_>,
        message: &MessageRef<'_>,
    ) -> Result<Sent, DeliveryFault> {
        self.shared.calls.enter(Operation::Produce);
        let ticket = self.open().tickets.len();
        let sent = self.sink.send(record, ticket)?;
        if sent == Sent::Accepted {
            let origin = (message.partition().clone(), message.offset());
            self.open().tickets.push(origin);
        }
        Ok(sent)
    }

    fn open(&mut self) -> &mut Open {
        self.open.get_or_insert_with(|| {
            let interval = self.shared.config.delivery.transaction_interval;
            self.shared
                .readiness
                .outputs_in_hand(interval + COMMIT_LATE);
            Open {
                begun: Instant::now(),
                positions: Positions::default(),
                tickets: Vec::new(),
                timestamps_ms: Vec::new(),
                records: 0,
            }
        })
    }

    fn commit_is_due(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let age = now.saturating_duration_since(open.begun);
            age >= self.shared.config.delivery.transaction_interval
                || open.tickets.len() >= TRANSACTION_OUTPUTS_MAX
        })
    }

    /// Commits what was handed to the sink, if anything was.
    fn commit(&mut self, timeout: Duration) -> Result<(), DeliveryFault> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        self.shared
            .calls
            .enter(match self.shared.config.delivery.mode {
                Mode::ExactlyOnce => Operation::CommitTransaction,
                Mode::AtLeastOnce => Operation::CommitOffsets,
            });
        self.sink.commit(&open.positions, timeout)?;
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        self.count_transaction(TransactionOutcome::Committed, open.begun);
        self.shared.readiness.committed();
        self.shared
            .metrics
            .delivered(&seconds_since(&open.timestamps_ms));
        for (partition, next) in open.positions.iter() {
            self.committed.advance(partition, next);
        }
        self.carried.records += open.records;
        self.regroup |= self.carried.refusals.committed(&self.committed);
        Ok(())
    }

    fn count_transaction(&self, outcome: TransactionOutcome, begun: Instant) {
        if self.shared.config.delivery.mode == Mode::ExactlyOnce {
            self.shared.metrics.transaction(outcome, begun.elapsed());
        }
    }

    fn assigned(&mut self, assigned: &[Assigned]) {
        info!(partitions = assigned.len(), "partitions assigned");
        self.shared.metrics.rebalanced(
            assigned
                .iter()
                .map(|of| (of.partition.topic.as_str(), of.partition.partition.0)),
        );
        self.shared.readiness.partitions_assigned(assigned.len());
        self.begun.clear();
        for of in assigned {
            self.begun.advance(&of.partition, of.next);
            if let Some(from) = of.lost_from {
                self.count_skipped(of, from);
            }
        }
        let ends = assigned.iter().map(|of| PartitionEnd {
            partition: of.partition.clone(),
            end: of.end,
        });
        self.report_lag(&ends.collect::<Vec<_>>());
    }

    /// Counts the records from the committed offset `from` up to where the log starts, each once.
    fn count_skipped(&mut self, of: &Assigned, from: Offset) {
        let counted = self.carried.skipped.get(&of.partition).unwrap_or(from);
        let records = of.next.0.saturating_sub(from.max(counted).0);
        let Ok(records @ 1..) = u64::try_from(records) else {
            return;
        };
        error!(
            at = %of.partition, committed = from.0, log_start = of.next.0, records,
            "records were deleted by retention before they were read; the stream goes on with what is left"
        );
        self.carried.skipped.advance(&of.partition, of.next);
        let (topic, partition) = (of.partition.topic.as_str(), of.partition.partition.0);
        self.shared
            .metrics
            .records_skipped(topic, partition, records);
    }

    /// Finishes what is in hand, commits it, and gives all partitions back. What was read and not yet handed to the scoring
    /// threads is left to whoever gets the partition.
    fn give_back(&mut self) -> Result<(), DeliveryFault> {
        info!("partitions revoked");
        self.batcher.take();
        let deadline = self
            .shared
            .calls
            .not_beyond_drain(Instant::now() + REVOKE_TIMEOUT);
        if !self.finish_in_flight(deadline)? {
            return Err(DeliveryFault::Interrupted {
                operation: "drain before a revocation",
                detail: format!("took longer than {} ms", REVOKE_TIMEOUT.as_millis()),
            });
        }
        self.commit(deadline.saturating_duration_since(Instant::now()))?;
        self.source.release()?;
        self.link.forget();
        // Another instance may move them on from here.
        self.committed.clear();
        self.begun.clear();
        self.shared.metrics.revoked();
        self.shared.readiness.partitions_assigned(0);
        Ok(())
    }

    /// Takes back all that the scoring threads hold; false if it did not come in time.
    fn finish_in_flight(&mut self, deadline: Instant) -> Result<bool, DeliveryFault> {
        while !self.link.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.take_scored(left.min(SCORER_WAIT))?;
        }
        Ok(true)
    }

    /// Finishes the batch in hand and commits.
    fn drain(&mut self) -> Result<(), DeliveryFault> {
        let limit = self.shared.config.delivery.drain_timeout;
        // Counted from the request, however long this thread took to hear it.
        let deadline = self.shared.calls.not_beyond_drain(Instant::now() + limit);
        let late = DeliveryFault::DrainTimedOut { limit };
        self.shared.readiness.stopping();
        info!("draining");
        while !self.batcher.is_empty() {
            if !self.link.is_full() {
                self.submit()?;
            } else if Instant::now() < deadline {
                self.take_scored(SCORER_WAIT)?;
            } else {
                return Err(late);
            }
        }
        if !self.finish_in_flight(deadline)? {
            return Err(late);
        }
        let committed = self.commit(deadline.saturating_duration_since(Instant::now()));
        if committed.is_err() && Instant::now() >= deadline {
            // Whatever the client calls it: what was in hand is not committed, and the exit code says so.
            return Err(late);
        }
        committed?;
        info!(records = self.carried.records, "drained");
        Ok(())
    }

    /// Leaves nothing of an unfinished transaction that can be taken back at once, and remembers what was refused.
    fn abandon(&mut self, fault: &DeliveryFault) {
        if let Some(open) = self.open.take() {
            if let DeliveryFault::Refused { tickets } = fault {
                let records: Vec<_> = tickets
                    .iter()
                    .filter_map(|ticket| open.tickets.get(*ticket).cloned())
                    .collect();
                self.carried.refusals.refused(&records);
            }
            let outcome = match fault {
                DeliveryFault::Fenced { .. } => TransactionOutcome::Fenced,
                _ => TransactionOutcome::Aborted,
            };
            self.count_transaction(outcome, open.begun);
        }
        self.sink.abandon();
        self.link.forget();
    }

    fn report_lag(&self, ends: &[PartitionEnd]) {
        let mut total = 0;
        for PartitionEnd { partition, end } in ends {
            // Never from where the client has read to: what is read and not committed is not done.
            let done = self.committed.get(partition);
            let Some(position) = done.or_else(|| self.begun.get(partition)) else {
                continue;
            };
            let lag = u64::try_from(end.0.saturating_sub(position.0)).unwrap_or(0);
            self.shared
                .metrics
                .set_lag(partition.topic.as_str(), partition.partition.0, lag);
            total += lag;
        }
        self.shared.readiness.progress(total, self.carried.records);
    }
}

fn give_up_output(message: &MessageRef<'_>) {
    error!(at = %message.partition(), offset = message.offset().0, "every output of this record is too large for its topic, none is written");
}

/// Seconds from each timestamp until now.
fn seconds_since(timestamps_ms: &[i64]) -> Vec<f64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    timestamps_ms
        .iter()
        .map(|timestamp| now - *timestamp as f64 / 1_000.0)
        .collect()
}
