//! What can be wrong with a schema file: it cannot be read, is not TOML, or breaks rules.
//!
//! All broken rules of a file are reported together, each with field, key, expected and found.

use crate::toml_file::KeyFault;
use std::fmt::Display;

/// A broken rule. `field` is what a person calls the field, or `schema` for the whole; `at` is the field's place in the file,
/// from 0, if it has one.
pub(super) fn broken(
    (field, at): (impl Display, Option<usize>),
    key: &str,
    expected: impl Display,
    found: impl Display,
) -> KeyFault {
    let path = match at {
        Some(at) => vec!["field".to_owned(), at.to_string(), key.to_owned()],
        None => vec![key.to_owned()],
    };
    let what = format!("expected {expected}, found {found}");
    KeyFault::at(path, format!("{field}: `{key}`"), what)
}

/// Why there is no [`Schema`](super::Schema).
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The file cannot be read.
    #[error("cannot read schema {file}")]
    Read {
        /// The schema file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than a schema may be.
    #[error("schema {file} has {bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// The schema file.
        file: String,
        /// Its length.
        bytes: u64,
        /// The limit, [`SCHEMA_BYTES_MAX`](super::SCHEMA_BYTES_MAX).
        limit: u64,
    },
    /// The text is not TOML, or breaks rules: every line or every rule is here.
    #[error("schema {file} has {} fault(s){}", faults.len(), lines(faults))]
    Faults {
        /// The schema file.
        file: String,
        /// In the order of the file, each with its line, field, key, what was expected and what was found.
        faults: Vec<KeyFault>,
    },
}

/// Each fault on a line of its own.
fn lines(faults: &[KeyFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
