//! One fault of a configuration, as every check of a value reports it.
//!
//! It stands here because the client's properties are the first that are checked; `config` collects these faults with its own.

use std::fmt;

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Section and key.
    pub key: String,
    /// What is wrong with it: the value found and what was expected; never a secret.
    pub why: String,
}

impl ConfigFault {
    /// The fault `why` of `key`.
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}
