//! Outputs that the cluster refuses for their size, and how to get past them without losing or doubling anything.
//!
//! A broker refuses a whole produce batch, and a transaction with a refused output can only be aborted, so a refusal says
//! at first only that *something* was too large. Which record it was is found by a session that sends every output alone.
//! That record's outputs are then replaced by a stub, and if even that is refused, by nothing but a line in the log. Where
//! no single output is refused, it was the batch that was too large for the topic, and batches get smaller from then on.
//!
//! The invariant: the memory is bounded, and every round either commits or knows more than the one before.

use std::collections::BTreeMap;

use super::types::{Offset, Positions, TopicPartition};

/// Marks at most: more than a transaction can have outputs, so that all of one can be remembered.
pub const MARKS_MAX: usize = 1 << 16;
/// Commits after which outputs are sent together again although not all suspects were seen: their partition may have
/// gone to another instance.
const LONE_COMMITS_MAX: u32 = 64;
/// The smallest produce batch worth having.
const BATCH_BYTES_MIN: usize = 16 << 10;
/// The client's own limit of a produce batch.
pub const DEFAULT_BATCH_BYTES: usize = 1_000_000;

/// What is sent for a record whose outputs were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute {
    /// A dead letter in its shortest form.
    Stub,
    /// Nothing: the stub was refused too.
    Nothing,
}

/// How the next session sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// Every output in a produce batch of its own.
    pub alone: bool,
    /// Bytes of a produce batch, if lower than what is configured.
    pub batch_bytes_max: Option<usize>,
}

/// What is known of refused outputs; outlives sessions.
#[derive(Debug, Default)]
pub struct Refusals {
    marks: BTreeMap<(TopicPartition, Offset), Substitute>,
    /// While outputs are sent alone: beyond which positions no suspect is left.
    suspects: Option<Positions>,
    /// Whether a session that sent alone met a refusal.
    found: bool,
    lone_commits: u32,
    batch_bytes_max: Option<usize>,
}

impl Refusals {
    /// How the next session has to send.
    pub fn options(&self) -> SendOptions {
        SendOptions {
            alone: self.suspects.is_some(),
            batch_bytes_max: self.batch_bytes_max,
        }
    }

    /// What is sent instead of the outputs of a record; `None` for its own outputs.
    pub fn substitute(&self, partition: &TopicPartition, offset: Offset) -> Option<Substitute> {
        if self.marks.is_empty() {
            return None;
        }
        self.marks.get(&(partition.clone(), offset)).copied()
    }

    /// Learns that a transaction failed because outputs of these records were refused.
    pub fn refused(&mut self, records: &[(TopicPartition, Offset)]) {
        let exact = self.suspects.is_some() || records.len() == 1;
        if exact {
            self.found = true;
            for record in records {
                self.mark(record.clone());
            }
            return;
        }
        let mut suspects = Positions::default();
        for (partition, offset) in records {
            suspects.advance(partition, offset.next());
        }
        self.suspects = Some(suspects);
        self.found = false;
        self.lone_commits = 0;
    }

    /// Marks a record: first for a stub, then for nothing.
    pub fn mark(&mut self, record: (TopicPartition, Offset)) {
        let next = match self.marks.get(&record) {
            None => Substitute::Stub,
            Some(Substitute::Stub | Substitute::Nothing) => Substitute::Nothing,
        };
        if self.marks.len() >= MARKS_MAX {
            // The lowest is forgotten: should it still matter, it is refused and learnt again.
            self.marks.pop_first();
        }
        self.marks.insert(record, next);
    }

    /// Learns what is committed; says whether the session is to be replaced by one that sends outputs together again.
    pub fn committed(&mut self, positions: &Positions) -> bool {
        self.marks.retain(|(partition, offset), _| {
            positions.get(partition).is_none_or(|next| *offset >= next)
        });
        let Some(suspects) = &self.suspects else {
            return false;
        };
        self.lone_commits += 1;
        let passed = suspects
            .iter()
            .all(|(partition, beyond)| positions.get(partition).is_some_and(|at| at >= beyond));
        if !passed && self.lone_commits < LONE_COMMITS_MAX {
            return false;
        }
        if passed && !self.found {
            let batch_bytes = self.batch_bytes_max.unwrap_or(DEFAULT_BATCH_BYTES) / 2;
            self.batch_bytes_max = Some(batch_bytes.max(BATCH_BYTES_MIN));
        }
        self.suspects = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::types::Partition;

    fn record(offset: i64) -> (TopicPartition, Offset) {
        (TopicPartition::new("t", Partition(0)), Offset(offset))
    }

    fn committed(refusals: &mut Refusals, next: i64) -> bool {
        let mut positions = Positions::default();
        positions.advance(&record(0).0, Offset(next));
        refusals.committed(&positions)
    }

    fn substitute(refusals: &Refusals, offset: i64) -> Option<Substitute> {
        refusals.substitute(&record(offset).0, Offset(offset))
    }

    #[test]
    fn a_refused_batch_accuses_nobody_until_its_outputs_are_sent_alone() {
        let mut refusals = Refusals::default();
        refusals.refused(&[record(1), record(2), record(3)]);
        assert!(refusals.options().alone);
        assert_eq!(substitute(&refusals, 2), None);
        refusals.refused(&[record(2)]);
        assert_eq!(substitute(&refusals, 1), None);
        assert_eq!(substitute(&refusals, 2), Some(Substitute::Stub));
        assert!(!committed(&mut refusals, 3), "a suspect is left");
        assert!(committed(&mut refusals, 4));
        assert_eq!(
            refusals.options(),
            SendOptions {
                alone: false,
                batch_bytes_max: None
            }
        );
        assert_eq!(substitute(&refusals, 2), None);
    }

    #[test]
    fn a_refused_stub_is_replaced_by_nothing() {
        let mut refusals = Refusals::default();
        refusals.refused(&[record(2)]);
        refusals.refused(&[record(2)]);
        assert_eq!(substitute(&refusals, 2), Some(Substitute::Nothing));
    }

    #[test]
    fn batches_get_smaller_where_no_single_output_is_refused() {
        let mut refusals = Refusals::default();
        for expected in [500_000, 250_000] {
            refusals.refused(&[record(1), record(2)]);
            assert!(committed(&mut refusals, 9));
            assert_eq!(refusals.options().batch_bytes_max, Some(expected));
        }
        for _ in 0..20 {
            refusals.refused(&[record(1), record(2)]);
            committed(&mut refusals, 9);
        }
        assert_eq!(refusals.options().batch_bytes_max, Some(BATCH_BYTES_MIN));
    }

    #[test]
    fn suspects_that_never_come_back_do_not_slow_the_stream_for_ever() {
        let mut refusals = Refusals::default();
        refusals.refused(&[record(100), record(101)]);
        let commits = (0..).take_while(|_| !committed(&mut refusals, 1)).count();
        assert_eq!(commits, LONE_COMMITS_MAX as usize - 1);
        assert_eq!(
            refusals.options(),
            SendOptions {
                alone: false,
                batch_bytes_max: None
            }
        );
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut refusals = Refusals::default();
        for offset in 0..=MARKS_MAX as i64 {
            refusals.mark(record(offset));
        }
        assert_eq!(refusals.marks.len(), MARKS_MAX);
    }
}
