//! A session after outputs were refused: each that a topic refuses is found, and every other one is tried and written.
//!
//! It sends every output alone where brokers named whole batches only. A scored batch is settled in portions of records, each in a transaction of its own. Where outputs are refused, the
//! transaction is taken back, what was refused is remembered, and the portion is sent again without it, by a new producer and
//! the same consumer.
//!
//! The invariants: a round either commits or has found a refused output; nothing is reported or counted of a refused output
//! before what stands in for it is committed. The bound: a round finds all that brokers name, or up to five outputs that
//! were sent alone (those on their way at once), and sends at most [`PORTION_MAX`] records again; and what is committed is
//! never done again.

use std::ops::Range;
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::{Open, Session};
use crate::delivery::fault::DeliveryFault;
use crate::delivery::refusal::{RefusedOutput, RefusedTicket};
use crate::delivery::sink::Sink;
use crate::delivery::source::Source;
use crate::pipeline::message::MessageRef;
use crate::pipeline::output::{Part, ScoredBatch};
use crate::pipeline::types::{Offset, Topic, TopicPartition};
use crate::telemetry::metrics::{RefusalCause, RefusedFate, TransactionOutcome};

/// Records of a portion after one with a refused output: those of a round are done again in each further round.
pub(super) const PORTION_MIN: usize = 64;
/// Records of a portion after several without any: the commit costs little then.
const PORTION_MAX: usize = 1_024;
/// How long one batch is settled by a session at most, and as which part of the time within which the group must be polled
/// (`max.poll.interval.ms`). The next session goes on behind what is committed.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SETTLES_PER_POLL: u32 = 5;

/// A refused output, to be reported once what stands in for it is committed.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    record: (TopicPartition, Offset),
    topic: &'a Topic,
    cause: RefusalCause,
    fate: RefusedFate,
}

impl<'a> Refusal<'a> {
    pub(super) fn of(
        message: &MessageRef<'_>,
        (topic, cause): (&'a Topic, RefusalCause),
        fate: RefusedFate,
    ) -> Self {
        Self {
            record: (message.partition().clone(), message.offset()),
            topic,
            cause,
            fate,
        }
    }
}

impl<S: Source, K: Sink> Session<'_, S, K> {
    /// Commits what is left of a batch in portions, one of them at least. Where it takes too long, outputs may be sent
    /// together again, or a stop is asked for, some is left.
    pub(super) fn settle(&mut self) -> Result<(), DeliveryFault> {
        // A position that was chosen when partitions were assigned has no part in what may be taken back.
        self.commit(self.commit_timeout())?;
        let until = self
            .finish_by
            .unwrap_or_else(|| Instant::now() + self.settle_max());
        while let Some((scored, begin)) = self.rest.take() {
            let settled = self.settle_portion(&scored, begin);
            let next = *settled.as_ref().unwrap_or(&begin);
            if next < scored.input.len() {
                self.rest = Some((scored, next));
            }
            settled?;
            // Only a drain finishes whatever it costs, and so does an answer to the group.
            let is_free = self.finish_by.is_none();
            let is_stopping = is_free && self.shared.shutdown.is_requested();
            let is_replaced = is_free && self.regroup;
            if is_stopping || is_replaced || Instant::now() >= until {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Commits the records of a portion that begins with row `begin`; gives back the row behind it.
    fn settle_portion(
        &mut self,
        scored: &ScoredBatch,
        begin: usize,
    ) -> Result<usize, DeliveryFault> {
        loop {
            let end = (begin + self.portion).min(scored.input.len());
            let lessons = self.carried.refusals.lessons();
            let Err(fault) = self.try_rows(scored, begin..end) else {
                self.portion = (self.portion * 2).min(PORTION_MAX);
                return Ok(end);
            };
            let (DeliveryFault::Refused { outputs, .. }, Some(open)) = (&fault, self.open.take())
            else {
                return Err(fault);
            };
            debug!(%fault, rows = end - begin, "a portion is sent again without what was refused");
            self.learn(&open, outputs);
            self.count_transaction(TransactionOutcome::Aborted, open.begun);
            self.portion = PORTION_MIN;
            let has_learned = self.carried.refusals.lessons() != lessons;
            // Whom to accuse is found out with clients that send alone.
            let is_vague = self.carried.refusals.options().alone && !self.is_alone;
            let is_late = self.finish_by.is_some_and(|by| Instant::now() >= by);
            self.sink.abandon();
            if !has_learned || is_vague || is_late {
                return Err(fault);
            }
            self.sink.renew()?;
        }
    }

    fn try_rows(&mut self, scored: &ScoredBatch, rows: Range<usize>) -> Result<(), DeliveryFault> {
        self.hand_over(scored, rows)?;
        self.commit(self.commit_timeout())
    }

    /// How long one batch is settled before the group is polled.
    fn settle_max(&self) -> Duration {
        SETTLE_MAX.min(self.shared.options.client.poll_interval / SETTLES_PER_POLL)
    }

    /// How long a commit may take: less where a drain or the group waits for it.
    pub(super) fn commit_timeout(&self) -> Duration {
        let timeout = self.shared.options.client.transaction_timeout;
        let left = |by: Instant| by.saturating_duration_since(Instant::now());
        self.finish_by.map_or(timeout, |by| timeout.min(left(by)))
    }

    /// Remembers which of the outputs in `open` were refused.
    pub(super) fn learn(&mut self, open: &Open<'_>, tickets: &[RefusedTicket]) {
        let topics = &self.shared.options.outputs;
        let refused = tickets.iter().filter_map(|refused| {
            let handed = open.outputs.get(refused.ticket)?;
            let topic = match handed.part {
                Part::Scores => topics.scores.clone(),
                Part::Alerts => topics.alerts.clone(),
                Part::Letter | Part::Stub => topics.dead_letters.clone(),
            };
            Some(RefusedOutput {
                record: handed.record.clone(),
                topic: topic?,
                part: handed.part,
                bytes: handed.bytes,
                has_key: handed.has_key,
                objection: refused.objection,
                is_exact: refused.is_exact,
            })
        });
        let refused: Vec<_> = refused.collect();
        self.carried.refusals.refused(&refused);
    }

    /// Counts refused outputs, and reports some.
    pub(super) fn report_refused(&mut self, refusals: &[Refusal<'_>]) {
        for Refusal {
            record: (at, offset),
            topic,
            cause,
            fate,
        } in refusals
        {
            self.shared.metrics.output_refused(*cause, *fate);
            let Some(left_out) = self.carried.refusals.line(Instant::now()) else {
                continue;
            };
            let (offset, cause) = (offset.0, words(*cause));
            match fate {
                RefusedFate::DeadLetter => {
                    warn!(%at, offset, %topic, cause, left_out, "output refused, a dead letter is written instead");
                }
                RefusedFate::Nothing => {
                    error!(%at, offset, %topic, cause, left_out, "output refused, and nothing is written instead");
                }
            }
        }
    }
}

/// A cause for a person.
pub(super) fn words(cause: RefusalCause) -> &'static str {
    match cause {
        RefusalCause::TooLarge => "larger than the topic takes",
        RefusalCause::NoKey => "no key, topic is compacted",
        RefusalCause::Timestamp => "its timestamp is not within what the topic takes",
        RefusalCause::Policy => "against a policy of the cluster",
        RefusalCause::Invalid => "the broker calls the record invalid",
    }
}
