//! Why a record cannot be scored: the closed list that dead letters, outputs and metrics share.

use serde::Serialize;

/// Bytes of a received value that a fault's detail shows: enough to recognise it, bounded whatever was sent.
pub const VALUE_SHOWN_BYTES_MAX: usize = 64;

/// Why a record is bad. The list is a contract: dead-letter headers and metric labels use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultReason {
    /// The bytes are not one well-formed message of the format.
    Malformed,
    /// A field holds a value of another type than its kind.
    WrongType,
    /// A field that may not be null is null or absent.
    MissingField,
    /// The message is longer than the limit.
    TooLarge,
    /// The payload has no bytes.
    Empty,
    /// The message has a null payload.
    Tombstone,
    /// The writer's schema is not known.
    UnknownSchema,
    /// No feature field is present.
    EmptyRecord,
}

impl FaultReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::WrongType,
        Self::MissingField,
        Self::TooLarge,
        Self::Empty,
        Self::Tombstone,
        Self::UnknownSchema,
        Self::EmptyRecord,
    ];

    /// The word used in headers, outputs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::Tombstone => "tombstone",
            Self::UnknownSchema => "unknown_schema",
            Self::EmptyRecord => "empty_record",
        }
    }
}

impl std::fmt::Display for FaultReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One bad record: a value, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// Index of the record in what was given (row of the batch, or index of the payload), from 0.
    pub row: usize,
    /// Which of the closed list.
    pub reason: FaultReason,
    /// Field or byte offset, value and what was expected, for a person.
    pub detail: String,
}

/// Why one payload is bad; it becomes a [`RowFault`] once its index is known.
pub(crate) type Fault = (FaultReason, String);

/// The beginning of a received text, cut at a character boundary to [`VALUE_SHOWN_BYTES_MAX`] bytes.
pub(crate) fn shown(text: &str) -> String {
    if text.len() <= VALUE_SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    format!(
        "{}... ({} bytes)",
        &text[..text.floor_char_boundary(VALUE_SHOWN_BYTES_MAX)],
        text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shown_cut_between_characters() {
        let text = "é".repeat(100);
        let cut = shown(&text);
        assert!(
            cut.starts_with("éé") && cut.ends_with("... (200 bytes)"),
            "{cut}"
        );
        assert!(cut.len() < VALUE_SHOWN_BYTES_MAX + 20);
        assert_eq!(shown("short"), "short");
    }
}
