//! A batch of messages as they came from the log: one buffer of bytes and a row of places in it a message.
//!
//! A source pushes into it, the worker decodes its payloads, the delivery reads keys, headers and positions back. The
//! copy is one `memcpy` a message into a buffer that grows once, so that a message needs no allocation of its own. Of a
//! payload longer than `payload_bytes_max` only that many bytes are kept, beside its full length: a batch's memory has
//! a bound whatever is sent.

use std::ops::Range;

use super::types::{Offset, Partition, Positions, TopicPartition};

/// A message as a source hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: Partition,
    /// The position in the partition.
    pub offset: Offset,
    /// Kafka's timestamp in milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// Where some bytes of the batch lie.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

/// A message of the batch, as places in its buffer.
#[derive(Debug, Clone)]
struct Row {
    partition: usize,
    offset: Offset,
    timestamp_ms: Option<i64>,
    key: Option<Span>,
    payload: Option<Span>,
    payload_bytes: usize,
    headers: Range<usize>,
}

/// Messages in the order in which they were read, at most as many as the batcher allows.
#[derive(Debug, Clone)]
pub struct MessageBatch {
    payload_bytes_max: usize,
    partitions: Vec<TopicPartition>,
    rows: Vec<Row>,
    headers: Vec<(Span, Option<Span>)>,
    bytes: Vec<u8>,
}

impl MessageBatch {
    /// An empty batch that keeps at most `payload_bytes_max` bytes of a payload.
    pub fn new(payload_bytes_max: usize) -> Self {
        Self {
            payload_bytes_max,
            partitions: Vec::new(),
            rows: Vec::new(),
            headers: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// An empty batch under the same limit, with room for as much as this one holds.
    pub fn empty_alike(&self) -> Self {
        Self {
            payload_bytes_max: self.payload_bytes_max,
            partitions: Vec::with_capacity(self.partitions.len()),
            rows: Vec::with_capacity(self.rows.len()),
            headers: Vec::with_capacity(self.headers.len()),
            bytes: Vec::with_capacity(self.bytes.len()),
        }
    }

    /// Appends a message.
    pub fn push(&mut self, message: &Incoming<'_>) {
        let partition = self.partition_index(message.topic, message.partition);
        let key = message.key.map(|key| self.store(key));
        let payload = message.payload.map(|payload| {
            let kept = payload.len().min(self.payload_bytes_max);
            self.store(payload.get(..kept).unwrap_or_default())
        });
        self.rows.push(Row {
            partition,
            offset: message.offset,
            timestamp_ms: message.timestamp_ms,
            key,
            payload,
            payload_bytes: message.payload.map_or(0, <[u8]>::len),
            headers: self.headers.len()..self.headers.len(),
        });
    }

    /// Gives the message pushed last one more header; without effect on an empty batch.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        if self.rows.is_empty() {
            return;
        }
        let name = self.store(name);
        let value = value.map(|value| self.store(value));
        self.headers.push((name, value));
        if let Some(row) = self.rows.last_mut() {
            row.headers.end = self.headers.len();
        }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys, headers and kept payloads.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The message at `row`, from 0.
    pub fn get(&self, row: usize) -> Option<MessageRef<'_>> {
        self.rows
            .get(row)
            .map(|row| MessageRef { batch: self, row })
    }

    /// All messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        self.rows.iter().map(|row| MessageRef { batch: self, row })
    }

    /// Moves `positions` beyond the messages at `rows`.
    pub fn advance(&self, rows: Range<usize>, positions: &mut Positions) {
        let mut last: Vec<Option<Offset>> = vec![None; self.partitions.len()];
        for row in self.rows.get(rows).unwrap_or_default() {
            if let Some(last) = last.get_mut(row.partition) {
                *last = (*last).max(Some(row.offset));
            }
        }
        for (partition, last) in self.partitions.iter().zip(last) {
            if let Some(last) = last {
                positions.advance(partition, last.next());
            }
        }
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span {
            start,
            len: bytes.len(),
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.bytes
            .get(span.start..span.start + span.len)
            .unwrap_or_default()
    }

    /// The index of a partition in the batch's table; neighbours mostly share theirs, so the last row's is tried first.
    fn partition_index(&mut self, topic: &str, partition: Partition) -> usize {
        let same =
            |known: &TopicPartition| known.partition == partition && known.topic.as_str() == topic;
        if let Some(row) = self.rows.last()
            && self.partitions.get(row.partition).is_some_and(same)
        {
            return row.partition;
        }
        if let Some(index) = self.partitions.iter().position(same) {
            return index;
        }
        self.partitions.push(TopicPartition::new(topic, partition));
        self.partitions.len() - 1
    }
}

/// A message of a batch.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    batch: &'a MessageBatch,
    row: &'a Row,
}

impl<'a> MessageRef<'a> {
    /// Topic and partition.
    pub fn partition(&self) -> &'a TopicPartition {
        // The index was made by `partition_index` of the same batch, so that it is always inside the table.
        &self.batch.partitions[self.row.partition]
    }

    /// The position in the partition.
    pub fn offset(&self) -> Offset {
        self.row.offset
    }

    /// Kafka's timestamp in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.row.timestamp_ms
    }

    /// The key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.row.key.map(|span| self.batch.slice(span))
    }

    /// The payload, at most `payload_bytes_max` bytes of it; `None` is a tombstone.
    pub fn payload(&self) -> Option<&'a [u8]> {
        self.row.payload.map(|span| self.batch.slice(span))
    }

    /// The length of the payload as received, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.row.payload_bytes
    }

    /// Whether the kept payload is only a prefix of what was received.
    pub fn is_cut(&self) -> bool {
        self.row
            .payload
            .is_some_and(|span| span.len < self.row.payload_bytes)
    }

    /// Names and values of the headers, in order; a name may be any bytes.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let batch = self.batch;
        let spans = batch
            .headers
            .get(self.row.headers.clone())
            .unwrap_or_default();
        spans
            .iter()
            .map(move |(name, value)| (batch.slice(*name), value.map(|value| batch.slice(value))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn incoming<'a>(partition: i32, offset: i64, payload: Option<&'a [u8]>) -> Incoming<'a> {
        Incoming {
            topic: "payments",
            partition: Partition(partition),
            offset: Offset(offset),
            timestamp_ms: Some(5),
            key: Some(b"k"),
            payload,
        }
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        let mut batch = MessageBatch::new(100);
        batch.push(&incoming(0, 1, Some(b"first")));
        batch.push_header(b"trace", Some(b"abc"));
        batch.push_header(b"\xFFnone", None);
        batch.push(&incoming(0, 2, None));
        let first = batch.get(0).unwrap();
        assert_eq!(first.payload(), Some(&b"first"[..]));
        assert_eq!(first.key(), Some(&b"k"[..]));
        let headers: Vec<_> = first.headers().collect();
        let expected = [(&b"trace"[..], Some(&b"abc"[..])), (b"\xFFnone", None)];
        assert_eq!(headers, expected);
        let second = batch.get(1).unwrap();
        assert_eq!(second.payload(), None);
        assert_eq!(second.headers().count(), 0);
        assert!(batch.get(2).is_none());
    }

    #[test]
    fn a_long_payload_keeps_a_prefix_and_its_length() {
        let mut batch = MessageBatch::new(4);
        batch.push(&incoming(0, 1, Some(b"123456")));
        batch.push(&incoming(0, 2, Some(b"1234")));
        let long = batch.get(0).unwrap();
        assert_eq!(
            (long.payload(), long.payload_bytes()),
            (Some(&b"1234"[..]), 6)
        );
        assert!(long.is_cut());
        assert!(!batch.get(1).unwrap().is_cut());
        assert!(batch.bytes() <= 10);
    }

    #[test]
    fn positions_are_one_beyond_the_last_message_of_each_partition() {
        let mut batch = MessageBatch::new(10);
        for (partition, offset) in [(0, 4), (1, 9), (0, 5), (1, 12)] {
            batch.push(&incoming(partition, offset, Some(b"x")));
        }
        let mut positions = Positions::default();
        batch.advance(0..batch.len(), &mut positions);
        let found: Vec<_> = positions
            .iter()
            .map(|(of, next)| (of.partition.0, next.0))
            .collect();
        assert_eq!(found, [(0, 6), (1, 13)]);
    }
}
