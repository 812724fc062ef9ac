//! What can be wrong with a schema file: it cannot be read, is not TOML, or breaks rules.
//!
//! All broken rules of a file are reported together, each with field, key, expected and found.

use std::fmt;

/// One broken rule of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// The field's name, or its place (`field 3`) where it has none, or `schema` for the whole.
    pub field: String,
    /// The key at fault.
    pub key: String,
    /// What the rule asks for.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl SchemaFault {
    pub(super) fn new(
        field: impl Into<String>,
        key: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            key: key.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            key,
            expected,
            found,
        } = self;
        write!(f, "{field}: `{key}`: expected {expected}, found {found}")
    }
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
    /// The text is not TOML.
    #[error("schema {file}, line {line}, column {column}: {message}")]
    Syntax {
        /// The schema file.
        file: String,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in characters, from 1.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// The text is TOML, but breaks rules: all of them are here.
    #[error("schema {file} has {} fault(s){}", faults.len(), lines(faults))]
    Faults {
        /// The schema file.
        file: String,
        /// Every broken rule, in the order of the file.
        faults: Vec<SchemaFault>,
    },
}

/// Each fault on a line of its own.
fn lines(faults: &[SchemaFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
