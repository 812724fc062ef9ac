//! One session, from the first assignment to its end: poll, batch, score, produce, commit.
//!
//! Messages flow from the source through the batcher to the scoring threads, and scored batches from there into the sink, in
//! order. The invariants: an output is committed together with the offset of its record or not at all; positions only cover
//! batches whose outputs were all handed over; nothing of a partition that was given back is ever produced.
//!
//! Where outputs were refused, a session commits in portions: see `settle`. A transaction holds outputs of one model: see
//! `exchange`.

mod exchange;
mod settle;

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, error, info};

use self::settle::{Refusal, words};
use super::batcher::Batcher;
use super::batcher::ROWS_MAX_LIMIT;
use super::fault::DeliveryFault;
use super::options::Mode;
use super::shared::{Carried, Shared};
use super::sink::{Sent, Sink};
use super::source::{Assigned, PartitionEnd, Polled, Source};
use crate::pipeline::dead_letter::{self, Form};
use crate::pipeline::message::MessageRef;
use crate::pipeline::output::{OutputRecord, Part, Planned, ScoredBatch, Target};
use crate::pipeline::scoring::{Gone, ScoringLink};
use crate::pipeline::stream_monitor::Watch;
use crate::pipeline::types::{Offset, Positions, Topic, TopicPartition};
use crate::records::FaultReason;
use crate::telemetry::heartbeat::Operation;
use crate::telemetry::metrics::{RefusalCause, RefusedFate, TransactionOutcome};

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
/// Outputs of a transaction at most, so that its bookkeeping has a bound. It is committed before its time where those of
/// the next batch would be more.
pub const TRANSACTION_OUTPUTS_MAX: usize = 1 << 15;
/// A record has two outputs at most: envelopes for scores and alerts, or a dead letter in place of either or both.
const RECORD_OUTPUTS_MAX: usize = 2;
// The outputs of the largest batch are within a transaction's bound, and all of them can be remembered if refused.
const _: () = assert!(ROWS_MAX_LIMIT * RECORD_OUTPUTS_MAX <= TRANSACTION_OUTPUTS_MAX);
const _: () = assert!(TRANSACTION_OUTPUTS_MAX <= super::refusal::MARKS_MAX);

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

/// An output that was handed to the sink.
#[derive(Debug)]
struct Handed {
    record: (TopicPartition, Offset),
    part: Part,
    bytes: usize,
    has_key: bool,
}

/// What was handed to the sink since the last commit.
#[derive(Debug)]
struct Open<'a> {
    begun: Instant,
    positions: Positions,
    /// By ticket.
    outputs: Vec<Handed>,
    /// Kafka's timestamps of the records, where they have one.
    timestamps_ms: Vec<i64>,
    records: u64,
    /// What the records say to the tests of the stream, with the messages of each batch, in the order of the log.
    watches: Vec<(Watch, Range<usize>)>,
    /// Outputs that are not sent, as their topic refuses them.
    refusals: Vec<Refusal<'a>>,
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
    open: Option<Open<'a>>,
    /// Where the assigned partitions began: their committed offsets then.
    begun: Positions,
    /// Positions committed by this session.
    committed: Positions,
    /// Set by a commit after which outputs are to be sent in another way.
    regroup: bool,
    /// Whether every output is sent alone.
    is_alone: bool,
    /// Whether scored batches are committed in portions.
    in_portions: bool,
    /// Records of the next portion.
    portion: usize,
    /// A scored batch that is committed in portions, up to which row it is. While it is there nothing that comes behind it
    /// may be handed over; where time was short it is left to a drain or to the next session.
    rest: Option<(ScoredBatch, usize)>,
    /// By when what is in hand has to be done, while somebody waits for it.
    finish_by: Option<Instant>,
    /// A model that stands since no partition was assigned: where it begins is told at the next assignment.
    unplaced: Option<String>,
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
        let (is_alone, in_portions) = (
            carried.refusals.options().alone,
            carried.refusals.in_portions(),
        );
        Self {
            sink,
            source,
            link,
            shared,
            carried,
            batcher: Batcher::new(shared.options.batch),
            open: None,
            begun: Positions::default(),
            committed: Positions::default(),
            regroup: false,
            is_alone,
            in_portions,
            portion: settle::PORTION_MIN,
            rest: None,
            finish_by: None,
            unplaced: None,
        }
    }

    /// Works until asked to stop, or until a fault.
    ///
    /// # Errors
    /// The fault; what was not committed is abandoned by then. One that ends a drain with work in hand says so.
    pub fn run(mut self) -> Result<End, DeliveryFault> {
        self.work().map_err(|fault| {
            let is_left = self.has_work() || matches!(fault, DeliveryFault::Scoring(_));
            let deadline = self.shared.calls.drain_deadline();
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            self.abandon(&fault);
            let is_quiet = fault.is_curable() || matches!(fault, DeliveryFault::Stopped { .. });
            if deadline.is_none() || !is_left || !is_quiet {
                return fault;
            }
            // No other session follows, so that this one answers for what is not committed.
            if is_late {
                debug!(%fault, "the drain is over");
                return self.late();
            }
            let fault = Box::new(fault);
            DeliveryFault::DrainFailed { fault }
        })
    }

    /// Whether something was read and is not committed.
    fn has_work(&self) -> bool {
        let is_idle = self.link.is_idle() && self.batcher.is_empty();
        !is_idle || self.open.is_some() || self.rest.is_some()
    }

    fn late(&self) -> DeliveryFault {
        let limit = self.shared.options.delivery.drain_timeout;
        DeliveryFault::DrainTimedOut { limit }
    }

    fn work(&mut self) -> Result<End, DeliveryFault> {
        loop {
            if self.shared.shutdown.is_requested() {
                self.drain()?;
                return Ok(End::Drained);
            }
            self.link.take_offer();
            self.take_scored(Duration::ZERO)?;
            if self.commit_is_due(Instant::now()) {
                self.commit(self.shared.options.client.transaction_timeout)?;
            }
            if self.regroup || self.rest.is_some() {
                if self.shared.shutdown.is_requested() {
                    // No other session follows: the drain does what is left.
                    continue;
                }
                // A batch may have been handed over since the commit that said so.
                self.commit(self.shared.options.client.transaction_timeout)?;
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
                Polled::Ends(ends) => {
                    self.shared.readiness.brokers_away(None);
                    self.report_lag(&ends);
                }
                Polled::Away(why) => self.shared.readiness.brokers_away(Some(why)),
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
                .options
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

    /// Produces what the scoring threads have done; waits up to `timeout` for the first. What comes behind a batch of which
    /// something is left stays where it is.
    fn take_scored(&mut self, timeout: Duration) -> Result<(), DeliveryFault> {
        let mut timeout = timeout;
        if self.rest.is_some() && self.finish_by.is_some() {
            self.settle()?;
        }
        if self.rest.is_some() {
            return Ok(());
        }
        loop {
            // All that another model has scored is committed before anything of this one is handed over.
            self.cross_boundaries()?;
            self.shared.calls.enter(Operation::Score);
            let scored = self.link.collect(timeout);
            let Some(scored) = scored.map_err(|Gone| DeliveryFault::ScorerGone)? else {
                break;
            };
            let scored = scored?;
            if self.in_portions {
                self.rest = Some((scored, 0));
                self.settle()?;
                if self.rest.is_some() {
                    return Ok(());
                }
            } else {
                self.produce(&scored)?;
            }
            timeout = Duration::ZERO;
        }
        let waited = self.link.in_work();
        if waited > SCORER_STALLED {
            return Err(DeliveryFault::ScorerStalled { waited });
        }
        Ok(())
    }

    fn produce(&mut self, scored: &ScoredBatch) -> Result<(), DeliveryFault> {
        let handed = self.open().outputs.len();
        if handed + scored.outputs.len() > TRANSACTION_OUTPUTS_MAX {
            self.commit(self.shared.options.client.transaction_timeout)?;
            self.open();
        }
        self.hand_over(scored, 0..scored.input.len())
    }

    /// Hands the outputs of some records of a batch to the sink.
    fn hand_over(&mut self, scored: &ScoredBatch, rows: Range<usize>) -> Result<(), DeliveryFault> {
        for outputs in scored.outputs_of(&rows).chunk_by(|a, b| a.row() == b.row()) {
            let Some(message) = outputs
                .first()
                .and_then(|first| scored.input.get(first.row()))
            else {
                continue;
            };
            self.produce_record(scored, &message, outputs)?;
        }
        let open = self.open();
        scored.input.advance(rows.clone(), &mut open.positions);
        open.records += rows.len() as u64;
        let watch = scored.watch.clone();
        open.watches
            .extend(watch.map(|watch| (watch, rows.clone())));
        let messages = rows.filter_map(|row| scored.input.get(row));
        let timestamps_ms = messages.filter_map(|message| message.timestamp_ms());
        open.timestamps_ms.extend(timestamps_ms);
        Ok(())
    }

    /// Sends all outputs of one record, or what stands in for those that are refused.
    fn produce_record(
        &mut self,
        scored: &ScoredBatch,
        message: &MessageRef<'_>,
        outputs: &[Planned],
    ) -> Result<(), DeliveryFault> {
        let mut refused = None;
        for planned in outputs {
            match planned {
                Planned::Envelope { target, json, .. } => {
                    let found = self.send_envelope(message, *target, scored.json(json))?;
                    refused = refused.or(found);
                }
                Planned::DeadLetter { reason, detail, .. } => {
                    debug!(at = %message.partition(), offset = message.offset().0, %reason, detail, "bad record");
                    let forms = [self.full(), Form::Stub];
                    self.send_letter(message, (reason.as_str(), detail), &forms, None)?;
                }
            }
        }
        let Some((topic, cause)) = refused else {
            return Ok(());
        };
        if cause == RefusalCause::TooLarge {
            let why = (
                FaultReason::TooLarge.as_str(),
                "the output was refused for its size",
            );
            self.send_letter(message, why, &[Form::Stub], Some((topic, cause)))
        } else {
            let detail = format!("topic {topic}: {}", words(cause));
            let why = (dead_letter::REFUSED, detail.as_str());
            let forms = [self.full(), Form::Stub];
            self.send_letter(message, why, &forms, Some((topic, cause)))
        }
    }

    /// A dead letter with as much as the configuration keeps.
    fn full(&self) -> Form {
        Form::Full {
            bytes_max: self.shared.options.delivery.dead_letter_bytes_max,
        }
    }

    /// Sends an envelope, or says which topic refuses it and why.
    fn send_envelope(
        &mut self,
        message: &MessageRef<'_>,
        target: Target,
        json: &[u8],
    ) -> Result<Option<(&'a Topic, RefusalCause)>, DeliveryFault> {
        let topics = &self.shared.options.outputs;
        let (topic, part) = match target {
            Target::Scores => (topics.scores.as_ref(), Part::Scores),
            Target::Alerts => (topics.alerts.as_ref(), Part::Alerts),
        };
        let Some(topic) = topic else {
            return Ok(None);
        };
        let record = OutputRecord {
            topic,
            key: message.key().map(Cow::Borrowed),
            payload: json,
            headers: Vec::new(),
        };
        let refused = self.offer(&record, message, part)?;
        Ok(refused.map(|cause| (topic, cause)))
    }

    /// Sends a dead letter for `(reason, detail)`, in the first of `forms` that its topic takes, and reports what was
    /// `refused` before.
    fn send_letter(
        &mut self,
        message: &MessageRef<'_>,
        (reason, detail): (&'static str, &str),
        forms: &[Form],
        mut refused: Option<(&'a Topic, RefusalCause)>,
    ) -> Result<(), DeliveryFault> {
        let shared = self.shared;
        let mut fate = RefusedFate::Nothing;
        if let Some(topic) = shared.options.outputs.dead_letters.as_ref() {
            for form in forms {
                let room = self.carried.refusals.room(topic);
                let letter = dead_letter::record(message, topic, reason, detail, *form, room);
                match self.offer(&letter, message, form.part())? {
                    Some(cause) => refused = refused.or(Some((topic, cause))),
                    None => {
                        fate = RefusedFate::DeadLetter;
                        break;
                    }
                }
            }
        }
        if let Some(refused) = refused {
            let refusal = Refusal::of(message, refused, fate);
            self.open().refusals.push(refusal);
        }
        Ok(())
    }

    /// Sends an output, unless it is known to be refused; says why it is.
    fn offer(
        &mut self,
        record: &OutputRecord<'_>,
        message: &MessageRef<'_>,
        part: Part,
    ) -> Result<Option<RefusalCause>, DeliveryFault> {
        let (bytes, has_key) = (record.bytes(), record.key.is_some());
        let of = (message.partition(), message.offset());
        let refusals = &self.carried.refusals;
        if let Some(cause) = refusals.objection(of, part, record.topic, bytes, has_key) {
            return Ok(Some(cause));
        }
        self.shared.calls.enter(Operation::Produce);
        let ticket = self.open().outputs.len();
        match self.sink.send(record, ticket)? {
            Sent::Accepted => {
                let record = (of.0.clone(), of.1);
                self.open().outputs.push(Handed {
                    record,
                    part,
                    bytes,
                    has_key,
                });
                Ok(None)
            }
            Sent::TooLarge => Ok(Some(RefusalCause::TooLarge)),
        }
    }

    fn open(&mut self) -> &mut Open<'a> {
        self.open.get_or_insert_with(|| {
            let interval = self.shared.options.delivery.transaction_interval;
            self.shared
                .readiness
                .outputs_in_hand(interval + COMMIT_LATE);
            Open {
                begun: Instant::now(),
                positions: Positions::default(),
                outputs: Vec::new(),
                timestamps_ms: Vec::new(),
                records: 0,
                watches: Vec::new(),
                refusals: Vec::new(),
            }
        })
    }

    fn commit_is_due(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let age = now.saturating_duration_since(open.begun);
            age >= self.shared.options.delivery.transaction_interval
                || open.outputs.len() >= TRANSACTION_OUTPUTS_MAX
        })
    }

    /// Commits what was handed to the sink, if anything was.
    fn commit(&mut self, timeout: Duration) -> Result<(), DeliveryFault> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        self.shared
            .calls
            .enter(match self.shared.options.delivery.mode {
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
        for (watch, messages) in &open.watches {
            watch.committed(messages);
        }
        self.carried.records += open.records;
        self.report_refused(&open.refusals);
        self.regroup |= self.carried.refusals.committed(&self.committed);
        Ok(())
    }

    fn count_transaction(&self, outcome: TransactionOutcome, begun: Instant) {
        if self.shared.options.delivery.mode == Mode::ExactlyOnce {
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
        let begins_at = |partition: &TopicPartition| {
            let mut all = assigned.iter();
            all.find(|of| of.partition == *partition).map(|of| of.next)
        };
        self.regroup |= self.carried.refusals.assigned(begins_at);
        for of in assigned {
            self.begun.advance(&of.partition, of.next);
            if let Some(from) = of.lost_from {
                self.count_skipped(of, from);
            }
            if of.is_end_chosen {
                self.open().positions.advance(&of.partition, of.next);
            }
        }
        if let Some(model_id) = self.unplaced.take() {
            self.report_first_offsets(&model_id);
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
        let is_finished = self.finish_in_flight(deadline)?;
        self.finish_by = None;
        if !is_finished {
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
        self.finish_by = Some(deadline);
        while self.rest.is_some() || !self.link.is_idle() {
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
        let limit = self.shared.options.delivery.drain_timeout;
        // Counted from the request, however long this thread took to hear it.
        let deadline = self.shared.calls.not_beyond_drain(Instant::now() + limit);
        self.finish_by = Some(deadline);
        self.shared.readiness.stopping();
        info!("draining");
        while !self.batcher.is_empty() {
            if !self.link.is_full() {
                self.submit()?;
            } else if Instant::now() < deadline {
                self.take_scored(SCORER_WAIT)?;
            } else {
                return Err(self.late());
            }
        }
        if !self.finish_in_flight(deadline)? {
            return Err(self.late());
        }
        self.commit(deadline.saturating_duration_since(Instant::now()))?;
        info!(records = self.carried.records, "drained");
        Ok(())
    }

    /// Leaves nothing of an unfinished transaction that can be taken back at once, and remembers what was refused.
    fn abandon(&mut self, fault: &DeliveryFault) {
        if let Some(open) = self.open.take() {
            if let DeliveryFault::Refused { outputs, .. } = fault {
                self.learn(&open, outputs);
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
