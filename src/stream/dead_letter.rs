//! A bad record as it goes to the dead-letter topic: what came, and why it was not scored.
//!
//! A message and its fault flow in, an output record flows out. It has the original key, headers and bytes, bounded, plus
//! `maskwatch-error-*` headers. The payload is never null: a tombstone would delete a key from a compacted topic.

use std::borrow::Cow;

use super::message::MessageRef;
use super::output::{HeaderRef, OutputRecord};
use super::types::Topic;
use crate::features::FaultReason;

/// Header: which of the closed list of reasons.
pub const REASON: &str = "maskwatch-error-reason";
/// Header: field or byte offset, value and what was expected.
pub const DETAIL: &str = "maskwatch-error-detail";
/// Header: the input topic.
pub const TOPIC: &str = "maskwatch-error-topic";
/// Header: the input partition, in decimal.
pub const PARTITION: &str = "maskwatch-error-partition";
/// Header: the input offset, in decimal.
pub const OFFSET: &str = "maskwatch-error-offset";
/// Header, only where the payload is a prefix: the full size in bytes, in decimal.
pub const TRUNCATED: &str = "maskwatch-error-truncated";

/// Bytes of a detail: enough for a sentence, bounded whatever was received.
const DETAIL_BYTES_MAX: usize = 512;
/// Bytes of payload and of key that a stub keeps: any topic that takes an envelope takes it.
const STUB_BYTES_MAX: usize = 1024;

/// How much of the original is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Key, headers, and this many bytes of the payload at most.
    Full {
        /// Bytes of the payload.
        bytes_max: usize,
    },
    /// A short prefix, no original headers, no long key: what is sent when an output was refused for its size.
    Stub,
}

/// The dead letter of `message` for `topic`.
pub fn record<'a>(
    message: &MessageRef<'a>,
    topic: &'a Topic,
    reason: FaultReason,
    detail: &str,
    form: Form,
) -> OutputRecord<'a> {
    let bytes_max = match form {
        Form::Full { bytes_max } => bytes_max,
        Form::Stub => STUB_BYTES_MAX,
    };
    let kept = message.payload().unwrap_or_default();
    let payload = kept.get(..bytes_max).unwrap_or(kept);
    let mut headers: Vec<HeaderRef<'a>> = match form {
        Form::Full { .. } => message
            .headers()
            .map(|(name, value)| (Cow::Borrowed(name), value.map(Cow::Borrowed)))
            .collect(),
        Form::Stub => Vec::new(),
    };
    let mut tell = |name: &'static str, value: Vec<u8>| {
        headers.push((Cow::Borrowed(name.as_bytes()), Some(Cow::Owned(value))));
    };
    tell(REASON, reason.as_str().into());
    tell(DETAIL, cut(detail).into());
    tell(TOPIC, message.partition().topic.as_str().into());
    tell(
        PARTITION,
        message.partition().partition.0.to_string().into(),
    );
    tell(OFFSET, message.offset().0.to_string().into());
    if payload.len() < message.payload_bytes() {
        tell(TRUNCATED, message.payload_bytes().to_string().into());
    }
    let key = message
        .key()
        .filter(|key| form != Form::Stub || key.len() <= STUB_BYTES_MAX);
    OutputRecord {
        topic,
        key,
        payload,
        headers,
    }
}

fn cut(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::stream::message::{Incoming, MessageBatch};
    use crate::stream::types::{Offset, Partition};

    fn batch(key: &[u8], payload: Option<&[u8]>) -> MessageBatch {
        let mut batch = MessageBatch::new(1 << 20);
        batch.push(&Incoming {
            topic: "payments",
            partition: Partition(2),
            offset: Offset(40),
            timestamp_ms: None,
            key: Some(key),
            payload,
        });
        batch.push_header(b"trace", Some(b"abc"));
        batch.push_header(b"\xFF\xFE", Some(b"\x80"));
        batch
    }

    fn header<'a>(record: &'a OutputRecord<'_>, name: &str) -> Option<&'a str> {
        let named = |header: &&HeaderRef<'_>| *header.0 == *name.as_bytes();
        let (_, value) = record.headers.iter().find(named)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    #[test]
    fn a_dead_letter_holds_what_came_and_says_why() {
        let batch = batch(b"k", Some(b"{nonsense"));
        let topic = Topic::new("bad");
        let record = record(
            &batch.get(0).unwrap(),
            &topic,
            FaultReason::Malformed,
            "byte 1: expected a quote",
            Form::Full { bytes_max: 900 },
        );
        assert_eq!(
            (record.key, record.payload),
            (Some(&b"k"[..]), &b"{nonsense"[..])
        );
        for (name, value) in [
            ("trace", "abc"),
            (REASON, "malformed"),
            (DETAIL, "byte 1: expected a quote"),
            (TOPIC, "payments"),
            (PARTITION, "2"),
            (OFFSET, "40"),
        ] {
            assert_eq!(header(&record, name), Some(value), "{name}");
        }
        assert_eq!(header(&record, TRUNCATED), None);
        let foreign = (Cow::from(&b"\xFF\xFE"[..]), Some(Cow::from(&b"\x80"[..])));
        assert_eq!(record.headers[1], foreign, "a name of any bytes is kept");
    }

    #[test]
    fn a_long_payload_is_cut_and_its_size_told() {
        let batch = batch(b"k", Some(&[b'x'; 5_000]));
        let topic = Topic::new("bad");
        let record = record(
            &batch.get(0).unwrap(),
            &topic,
            FaultReason::TooLarge,
            "",
            Form::Full { bytes_max: 3_000 },
        );
        assert_eq!(record.payload.len(), 3_000);
        assert_eq!(header(&record, TRUNCATED), Some("5000"));
    }

    #[test]
    fn a_stub_is_short_whatever_came() {
        let batch = batch(&[b'k'; 9_000], Some(&[b'x'; 500_000]));
        let topic = Topic::new("bad");
        let detail = "é".repeat(4_000);
        let record = record(
            &batch.get(0).unwrap(),
            &topic,
            FaultReason::TooLarge,
            &detail,
            Form::Stub,
        );
        let headers: usize = record
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()))
            .sum();
        assert!(record.payload.len() + headers < 2_048);
        assert_eq!(record.key, None);
        assert_eq!(header(&record, TRUNCATED), Some("500000"));
        assert_eq!(header(&record, "trace"), None);
    }

    #[test]
    fn a_tombstone_gets_an_empty_payload() {
        let batch = batch(b"k", None);
        let topic = Topic::new("bad");
        let message = batch.get(0).unwrap();
        let form = Form::Full { bytes_max: 10 };
        let record = record(&message, &topic, FaultReason::Tombstone, "", form);
        assert_eq!(record.payload, b"");
        assert_eq!(header(&record, TRUNCATED), None);
    }
}
