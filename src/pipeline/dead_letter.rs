//! A bad record as it goes to the dead-letter topic: what came, and why it was not scored.
//!
//! A message and its fault flow in, an output record flows out. It has the original key, headers and bytes, bounded, plus
//! `maskwatch-error-*` headers. The payload is never null: a tombstone would delete a key from a compacted topic.

use std::borrow::Cow;

use super::message::MessageRef;
use super::output::{HEADER_OVERHEAD, HeaderRef, OutputRecord, Part};
use super::types::Topic;

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

/// The reason of a record whose output was refused by its topic for something else than its size. The others are the faults
/// of records: [`FaultReason`](crate::records::FaultReason).
pub const REFUSED: &str = "refused";

/// Bytes of a detail: enough for a sentence, bounded whatever was received.
const DETAIL_BYTES_MAX: usize = 512;
/// Bytes of payload and of key that a stub keeps: any topic that takes an envelope takes it.
const STUB_BYTES_MAX: usize = 1024;

/// What there is room for in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes of an output.
    pub bytes_max: Option<usize>,
    /// Whether an output must have a key.
    pub needs_key: bool,
}

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

impl Form {
    /// Which output of the record it is.
    pub fn part(self) -> Part {
        match self {
            Self::Full { .. } => Part::Letter,
            Self::Stub => Part::Stub,
        }
    }
}

/// The dead letter of `message` for `topic`, with as much of the payload as there is `room` for.
pub fn record<'a>(
    message: &MessageRef<'a>,
    topic: &'a Topic,
    reason: &'static str,
    detail: &str,
    form: Form,
    room: Room,
) -> OutputRecord<'a> {
    let mut record = OutputRecord {
        topic,
        key: key(message, form, room),
        payload: &[],
        headers: headers(message, reason, detail, form),
    };
    let full_size = message.payload_bytes().to_string();
    let truncated = HEADER_OVERHEAD + TRUNCATED.len() + full_size.len();
    let bytes_max = match form {
        Form::Full { bytes_max } => bytes_max,
        Form::Stub => STUB_BYTES_MAX,
    };
    let left = room.bytes_max.map_or(usize::MAX, |most| {
        most.saturating_sub(record.bytes() + truncated)
    });
    let kept = message.payload().unwrap_or_default();
    record.payload = kept.get(..bytes_max.min(left)).unwrap_or(kept);
    if record.payload.len() < message.payload_bytes() {
        let value = Some(Cow::Owned(full_size.into()));
        record.headers.push((TRUNCATED.as_bytes().into(), value));
    }
    record
}

/// The original key; where the topic takes no record without one, the position of the message stands in for a key that is
/// not there.
fn key<'a>(message: &MessageRef<'a>, form: Form, room: Room) -> Option<Cow<'a, [u8]>> {
    let key = message
        .key()
        .filter(|key| form != Form::Stub || key.len() <= STUB_BYTES_MAX);
    match key {
        Some(key) => Some(Cow::Borrowed(key)),
        None if room.needs_key => {
            let position = format!("{}-{}", message.partition(), message.offset().0);
            Some(Cow::Owned(position.into()))
        }
        None => None,
    }
}

fn headers<'a>(
    message: &MessageRef<'a>,
    reason: &'static str,
    detail: &str,
    form: Form,
) -> Vec<HeaderRef<'a>> {
    let mut headers: Vec<HeaderRef<'a>> = match form {
        Form::Full { .. } => message
            .headers()
            .map(|(name, value)| (Cow::Borrowed(name), value.map(Cow::Borrowed)))
            .collect(),
        Form::Stub => Vec::new(),
    };
    let mut add = |name: &'static str, value: Vec<u8>| {
        headers.push((Cow::Borrowed(name.as_bytes()), Some(Cow::Owned(value))));
    };
    add(REASON, reason.into());
    add(DETAIL, cut(detail).into());
    add(TOPIC, message.partition().topic.as_str().into());
    add(
        PARTITION,
        message.partition().partition.0.to_string().into(),
    );
    add(OFFSET, message.offset().0.to_string().into());
    headers
}

fn cut(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pipeline::message::{Incoming, MessageBatch};
    use crate::pipeline::types::{Offset, Partition};

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
            "malformed",
            "byte 1: expected a quote",
            Form::Full { bytes_max: 900 },
            Room::default(),
        );
        assert_eq!(
            (record.key.as_deref(), record.payload),
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
            "too_large",
            "",
            Form::Full { bytes_max: 3_000 },
            Room::default(),
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
            "too_large",
            &detail,
            Form::Stub,
            Room::default(),
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
        let record = record(&message, &topic, "tombstone", "", form, Room::default());
        assert_eq!(record.payload, b"");
        assert_eq!(header(&record, TRUNCATED), None);
    }

    #[test]
    fn a_dead_letter_is_cut_to_what_its_topic_takes() {
        let batch = batch(b"k", Some(&[b'x'; 5_000]));
        let topic = Topic::new("bad");
        let message = batch.get(0).unwrap();
        for form in [Form::Full { bytes_max: 9_000 }, Form::Stub] {
            for bytes_max in [600, 1_000, 5_200, 5_300, 9_000] {
                let room = Room {
                    bytes_max: Some(bytes_max),
                    needs_key: false,
                };
                let record = record(&message, &topic, "malformed", "byte 1", form, room);
                assert!(record.bytes() <= bytes_max, "{form:?} in {bytes_max}");
                let whole = bytes_max == 9_000 && form != Form::Stub;
                assert_eq!(record.payload.len() == 5_000, whole, "{bytes_max}");
                let truncated = (!whole).then_some("5000");
                assert_eq!(header(&record, TRUNCATED), truncated, "{bytes_max}");
            }
        }
    }

    #[test]
    fn where_a_topic_takes_no_record_without_a_key_the_place_of_the_message_is_one() {
        let mut batch = MessageBatch::new(100);
        batch.push(&Incoming {
            topic: "payments",
            partition: Partition(2),
            offset: Offset(41),
            timestamp_ms: None,
            key: None,
            payload: Some(b"x"),
        });
        let (message, topic) = (batch.get(0).unwrap(), Topic::new("bad"));
        for (needs_key, expected) in [(true, Some(&b"payments-2-41"[..])), (false, None)] {
            let room = Room {
                bytes_max: None,
                needs_key,
            };
            let record = record(&message, &topic, "empty", "", Form::Stub, room);
            assert_eq!(record.key.as_deref(), expected);
        }
    }
}
