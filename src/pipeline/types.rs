//! The words of the log: topic, partition, offset, each a type, so that one cannot be taken for another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A topic's name; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The topic called `name`.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a partition within its topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// The position of a record within its partition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The position after this one: what is committed once this record is done.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition of it.
    pub partition: Partition,
}

impl TopicPartition {
    /// Partition `partition` of the topic called `topic`.
    pub fn new(topic: &str, partition: Partition) -> Self {
        Self {
            topic: Topic::new(topic),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition.0)
    }
}

/// A partition each, the offset of the next record to be read: what a commit stores.
///
/// A position never moves back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(BTreeMap<TopicPartition, Offset>);

impl Positions {
    /// Moves the position of `partition` to `next`, unless it is already beyond.
    pub fn advance(&mut self, partition: &TopicPartition, next: Offset) {
        if let Some(position) = self.0.get_mut(partition) {
            *position = (*position).max(next);
        } else {
            self.0.insert(partition.clone(), next);
        }
    }

    /// The next offset of `partition`, if it is known.
    pub fn get(&self, partition: &TopicPartition) -> Option<Offset> {
        self.0.get(partition).copied()
    }

    /// Whether no partition has a position.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many partitions have a position.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all positions.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets the positions that `is_kept` does not hold for.
    pub fn retain(&mut self, is_kept: impl Fn(&TopicPartition, Offset) -> bool) {
        self.0.retain(|partition, next| is_kept(partition, *next));
    }

    /// Partitions and their next offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.0.iter().map(|(partition, next)| (partition, *next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_never_moves_back() {
        let partition = TopicPartition::new("payments", Partition(3));
        let mut positions = Positions::default();
        positions.advance(&partition, Offset(7).next());
        positions.advance(&partition, Offset(2).next());
        assert_eq!(positions.get(&partition), Some(Offset(8)));
        assert_eq!(positions.len(), 1);
    }

    #[test]
    fn a_partition_is_written_as_kafka_writes_it() {
        assert_eq!(
            TopicPartition::new("payments", Partition(3)).to_string(),
            "payments-3"
        );
    }
}
