//! Outputs that the cluster refuses, and how to get past them without losing or doubling anything.
//!
//! A transaction with a refused output can only be aborted. What a topic refuses is learned from three sources, the earliest
//! first: its settings, read when a session begins (its size limit, whether it is compacted); refusals that name a record;
//! and refusals that name a whole produce batch. In the last case the next session sends every output alone and so finds
//! the records (`session/settle.rs`). From then on a refused output is not sent again: a dead letter stands in for it, then a
//! shorter one, then nothing but a line in the log. Where no single output is refused, it was the batch that was too large
//! for the topic, and batches get smaller from then on.
//!
//! What is learned of one output is held against others only where that is certain: an output that is at least as large as
//! a refused one is not sent for a while, and one without a key is not sent to a topic whose settings say that it is
//! compacted. Whatever else a topic refuses is held against that very output only: every other output is tried.
//!
//! The invariant: the memory is bounded, and every round either commits or knows more than the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::pipeline::dead_letter::Room;
use crate::pipeline::output::Part;
use crate::pipeline::types::{Offset, Positions, Topic, TopicPartition};
use crate::telemetry::metrics::RefusalCause;

/// Marks at most: more than a transaction can have outputs, so that all of one can be remembered.
pub const MARKS_MAX: usize = 1 << 16;
/// Commits after which outputs are sent together again although not all suspects were seen. Those that are committed, and
/// those of partitions that have gone to another instance, are forgotten at once; what is left are offsets that never come
/// back, of a topic made anew.
const LONE_COMMITS_MAX: u32 = 4_096;
/// How long after the last refusal that named records outputs are committed in portions: where more such come, their
/// neighbours need no new session.
const IN_PORTIONS_FOR: Duration = Duration::from_secs(60);
/// How long the latest lesson of its kind about a topic is held against outputs that were not sent. Its settings may have
/// changed where they cannot be read. To try again costs one transaction where the broker names records; where it names
/// batches, the next session also sends outputs alone until all of that transaction are committed.
const LESSON_KEPT: Duration = Duration::from_secs(600);
/// The smallest produce batch worth having.
const BATCH_BYTES_MIN: usize = 16 << 10;
/// Lines on refused outputs in a minute: where every output is refused, more say nothing more.
const LINES_PER_MINUTE: u32 = 20;

/// How the next session sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// Every output in a produce batch of its own.
    pub alone: bool,
    /// Bytes of a produce batch, if lower than what is configured.
    pub batch_bytes_max: Option<usize>,
}

/// What a topic takes, as far as the cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicLimits {
    /// Bytes of a produce batch, and so of one output too. The limit is on what is sent, compressed or not; here it is held
    /// to be one on uncompressed outputs, so that what is sent does not hang on how well a record compresses.
    pub bytes_max: Option<usize>,
    /// Whether it is compacted: it then takes no record without a key.
    pub is_compacted: Option<bool>,
}

/// Why the broker refused an output, as its answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// The size of its batch.
    Size,
    /// The record itself.
    Record,
    /// Its timestamp.
    Timestamp,
    /// A rule of the cluster.
    Policy,
}

/// A refused output, by the ticket that it was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedTicket {
    /// As given to [`Sink::send`](super::sink::Sink::send).
    pub ticket: usize,
    /// Why.
    pub objection: Objection,
    /// Whether the broker named this very record, and not its batch.
    pub is_exact: bool,
}

/// A refused output.
#[derive(Debug, Clone)]
pub struct RefusedOutput {
    /// The input record that it is of.
    pub record: (TopicPartition, Offset),
    /// Where it went.
    pub topic: Topic,
    /// Which of the record's outputs.
    pub part: Part,
    /// Its size, [`OutputRecord::bytes`](crate::pipeline::output::OutputRecord::bytes).
    pub bytes: usize,
    /// Whether it had a key.
    pub has_key: bool,
    /// Why it was refused.
    pub objection: Objection,
    /// Whether the broker named this very record.
    pub is_exact: bool,
}

/// What is known of a topic.
#[derive(Debug, Default)]
struct Known {
    settings: TopicLimits,
    /// The size of the smallest output that was refused for its size, and when the latest was.
    refused_size: Option<(usize, Instant)>,
    /// When an output without a key was refused last: dead letters are given one.
    refused_keyless: Option<Instant>,
}

impl Known {
    /// The size from which on outputs are refused, as far as lessons say that are not too old at `now`.
    fn refused_bytes(&self, now: Instant) -> Option<usize> {
        let (bytes, at) = self.refused_size?;
        is_fresh(at, now).then_some(bytes)
    }

    fn needs_key(&self, now: Instant) -> bool {
        let is_learned = self.refused_keyless.is_some_and(|at| is_fresh(at, now));
        is_learned || self.settings.is_compacted == Some(true)
    }

    fn objection(&self, bytes: usize, has_key: bool, now: Instant) -> Option<RefusalCause> {
        if !has_key && self.settings.is_compacted == Some(true) {
            return Some(RefusalCause::NoKey);
        }
        let too_large = self.settings.bytes_max.is_some_and(|most| bytes > most)
            || self
                .refused_bytes(now)
                .is_some_and(|refused| bytes >= refused);
        too_large.then_some(RefusalCause::TooLarge)
    }

    /// Learns that an output of `bytes` was refused for its size. What was learned too long ago has no say.
    fn learn_size(&mut self, bytes: usize, now: Instant) {
        let smallest = self.refused_bytes(now).unwrap_or(usize::MAX);
        self.refused_size = Some((smallest.min(bytes), now));
    }
}

/// Whether what was learned at `at` still counts.
fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < LESSON_KEPT
}

/// What is known of refused outputs; outlives sessions.
#[derive(Debug)]
pub struct Refusals {
    /// Bytes of a produce batch as configured.
    batch_bytes: usize,
    /// Outputs that are not sent again.
    marks: BTreeMap<(TopicPartition, Offset, Part), RefusalCause>,
    /// While outputs are sent alone: beyond which positions no suspect is left.
    suspects: Option<Positions>,
    /// Whether it is known by now why the suspects were refused, or is nothing that smaller batches could cure.
    found: bool,
    lone_commits: u32,
    /// When a broker last named the records that it refuses.
    named: Option<Instant>,
    batch_bytes_max: Option<usize>,
    topics: BTreeMap<Topic, Known>,
    lessons: u64,
    lines: Lines,
}

impl Refusals {
    /// Nothing is known. `batch_bytes`: bytes of a produce batch as configured.
    pub fn new(batch_bytes: usize) -> Self {
        Self {
            batch_bytes,
            marks: BTreeMap::new(),
            suspects: None,
            found: false,
            lone_commits: 0,
            named: None,
            batch_bytes_max: None,
            topics: BTreeMap::new(),
            lessons: 0,
            lines: Lines::default(),
        }
    }

    /// How the next session has to send.
    pub fn options(&self) -> SendOptions {
        SendOptions {
            alone: self.suspects.is_some(),
            batch_bytes_max: self.batch_bytes_max,
        }
    }

    /// Whether the next session commits in portions, so that what is refused costs no new session.
    pub fn in_portions(&self) -> bool {
        self.suspects.is_some() || self.named.is_some()
    }

    /// How often something was learned: a session that ends with more has made progress. The cluster can teach only so much
    /// between two commits: of each output that it is refused, and that batches are.
    pub fn lessons(&self) -> u64 {
        self.lessons
    }

    /// Takes over what the cluster says of the output topics. What was learned of a topic whose settings have changed is
    /// forgotten.
    pub fn set_limits(&mut self, limits: &[(Topic, TopicLimits)]) {
        for (topic, limits) in limits {
            let known = self.topics.entry(topic.clone()).or_default();
            if known.settings != *limits {
                *known = Known {
                    settings: *limits,
                    ..Known::default()
                };
                // The suspects may have been refused for just that.
                self.found = true;
            }
        }
    }

    /// What there is room for in `topic`.
    pub fn room(&self, topic: &Topic) -> Room {
        let Some(known) = self.topics.get(topic) else {
            return Room::default();
        };
        // Half of what was refused: what is cut to it is refused a few times at most, whatever the limit is.
        let now = Instant::now();
        let below = known.refused_bytes(now).map(|refused| refused / 2);
        let bytes_max = [known.settings.bytes_max, below]
            .into_iter()
            .flatten()
            .min();
        Room {
            bytes_max,
            needs_key: known.needs_key(now),
        }
    }

    /// Why an output of a record is not to be sent; `None` if it is.
    pub fn objection(
        &self,
        (partition, offset): (&TopicPartition, Offset),
        part: Part,
        topic: &Topic,
        bytes: usize,
        has_key: bool,
    ) -> Option<RefusalCause> {
        if let Some(known) = self.topics.get(topic)
            && let Some(cause) = known.objection(bytes, has_key, Instant::now())
        {
            return Some(cause);
        }
        if self.marks.is_empty() {
            return None;
        }
        self.marks.get(&(partition.clone(), offset, part)).copied()
    }

    /// Learns that a transaction failed because these outputs were refused.
    pub fn refused(&mut self, outputs: &[RefusedOutput]) {
        let alone = self.suspects.is_some() || outputs.len() == 1;
        let (exact, vague): (Vec<_>, Vec<_>) =
            outputs.iter().partition(|output| alone || output.is_exact);
        for output in &exact {
            self.accuse(output);
        }
        if exact.iter().any(|output| output.is_exact) {
            self.named = Some(Instant::now());
        }
        // A topic that named some records of a batch meant those, and their neighbours were in the way.
        let named: BTreeSet<&Topic> = exact.iter().map(|output| &output.topic).collect();
        let mut suspects = Positions::default();
        for output in vague.iter().filter(|output| !named.contains(&output.topic)) {
            suspects.advance(&output.record.0, output.record.1.next());
        }
        if !suspects.is_empty() {
            self.suspects = Some(suspects);
            self.found = vague
                .iter()
                .all(|output| output.objection != Objection::Size);
            self.lone_commits = 0;
            self.lessons += 1;
        }
    }

    /// Whether the record was refused for want of a key, as far as is known.
    fn lacks_a_key(&self, output: &RefusedOutput) -> bool {
        let known = self.topics.get(&output.topic);
        let compacted = known.and_then(|known| known.settings.is_compacted);
        output.objection == Objection::Record && !output.has_key && compacted != Some(false)
    }

    /// Learns that this very output was refused.
    fn accuse(&mut self, output: &RefusedOutput) {
        self.found = true;
        self.lessons += 1;
        let lacks_a_key = self.lacks_a_key(output);
        let known = self.topics.entry(output.topic.clone()).or_default();
        let cause = match output.objection {
            Objection::Record if lacks_a_key => {
                known.refused_keyless = Some(Instant::now());
                if matches!(output.part, Part::Letter | Part::Stub) {
                    // The topic may take this one once it has a key, which it gets now.
                    return;
                }
                RefusalCause::NoKey
            }
            Objection::Size => {
                known.learn_size(output.bytes, Instant::now());
                RefusalCause::TooLarge
            }
            Objection::Record => RefusalCause::Invalid,
            Objection::Timestamp => RefusalCause::Timestamp,
            Objection::Policy => RefusalCause::Policy,
        };
        if self.marks.len() >= MARKS_MAX {
            // The lowest is forgotten: should it still matter, it is refused and learned again.
            self.marks.pop_first();
        }
        let (partition, offset) = output.record.clone();
        self.marks.insert((partition, offset, output.part), cause);
    }

    /// Learns which partitions this instance has, and where each begins. Suspects of other partitions are for those that have
    /// them now, and what lies before the beginning is committed. Says whether the session is to be replaced by one that
    /// sends outputs together again.
    pub fn assigned(&mut self, begins_at: impl Fn(&TopicPartition) -> Option<Offset>) -> bool {
        let Some(suspects) = &mut self.suspects else {
            return false;
        };
        let before = suspects.len();
        suspects.retain(|of, beyond| begins_at(of).is_some_and(|begin| begin < beyond));
        if suspects.len() < before {
            // What was found of them is not known here: their batch may have been refused for any of them.
            self.found = true;
        }
        let are_gone = suspects.is_empty();
        if are_gone {
            self.suspects = None;
        }
        are_gone
    }

    /// Learns what is committed; says whether the session is to be replaced by one that sends outputs together again.
    pub fn committed(&mut self, positions: &Positions) -> bool {
        self.marks.retain(|(partition, offset, _), _| {
            positions.get(partition).is_none_or(|next| *offset >= next)
        });
        let now = Instant::now();
        let is_over = |named: Instant| now.saturating_duration_since(named) >= IN_PORTIONS_FOR;
        let is_over = self.named.is_some_and(is_over);
        if is_over {
            self.named = None;
        }
        let Some(suspects) = &mut self.suspects else {
            return is_over;
        };
        self.lone_commits += 1;
        // Each is passed once: another session, or a new assignment, knows nothing of the commits before it.
        suspects.retain(|of, beyond| positions.get(of).is_none_or(|at| at < beyond));
        let passed = suspects.is_empty();
        if !passed && self.lone_commits < LONE_COMMITS_MAX {
            return false;
        }
        if passed && !self.found {
            let batch_bytes = self.batch_bytes_max.unwrap_or(self.batch_bytes) / 2;
            self.batch_bytes_max = Some(batch_bytes.max(BATCH_BYTES_MIN.min(self.batch_bytes)));
        }
        self.suspects = None;
        true
    }

    /// Whether a refused output may have a line of its own in the log, and how many were not since the last line.
    pub fn line(&mut self, now: Instant) -> Option<u64> {
        self.lines.next(now)
    }
}

/// Lines that were written lately.
#[derive(Debug, Default)]
struct Lines {
    /// When the minute began.
    begun: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    fn next(&mut self, now: Instant) -> Option<u64> {
        let minute = Duration::from_secs(60);
        if self
            .begun
            .is_none_or(|begun| now.saturating_duration_since(begun) >= minute)
        {
            self.begun = Some(now);
            self.written = 0;
        }
        if self.written >= LINES_PER_MINUTE {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests;
