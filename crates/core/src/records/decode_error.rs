//! Why messages cannot be decoded although none of them need be bad: schemas of writers, sizes, defects.

use arrow::error::ArrowError;
use thiserror::Error;

/// Why payloads could not be decoded although none of them need be bad.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The schema of a writer could not be had.
    #[error(transparent)]
    WriterSchema(#[from] WriterSchemaError),
    /// The texts of one column do not fit into one batch: the caller gives fewer payloads at once.
    #[error(
        "field \"{field}\": the texts of one batch exceed {limit} bytes, give fewer messages at once"
    )]
    BatchTooLarge {
        /// The schema field.
        field: String,
        /// Bytes a column of a batch may have.
        limit: usize,
    },
    /// The decoded columns do not make a batch: a bug, or memory that ran out.
    #[error("decoded columns do not make a batch: {0}")]
    Batch(#[from] ArrowError),
}

impl DecodeError {
    /// Whether the same payloads may well decode a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::WriterSchema(error) => error.is_retriable(),
            Self::BatchTooLarge { .. } | Self::Batch(_) => false,
        }
    }
}

/// Why the schema behind a Confluent schema id could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriterSchemaError {
    /// Where the schemas are kept does not answer, or answers that it is in trouble. Retriable.
    #[error("schema {id}: {origin} does not answer after {attempts} attempts: {why}")]
    Unavailable {
        /// The schema id asked for.
        id: u32,
        /// Where it was asked for, without credentials.
        origin: String,
        /// How often it was asked for.
        attempts: u32,
        /// What went wrong the last time.
        why: String,
    },
    /// The answer is neither a schema nor that there is none: credentials, an address or a proxy are wrong. Retriable, once
    /// somebody has put that right.
    #[error(
        "schema {id}: {origin} answers with status {status}, which is no answer of a schema registry about a schema \
         (credentials, address or a proxy may be wrong): {why}"
    )]
    Refused {
        /// The schema id asked for.
        id: u32,
        /// Where it was asked for, without credentials.
        origin: String,
        /// The HTTP status.
        status: u16,
        /// What the answer said, cut.
        why: String,
    },
    /// It answers, but too slowly for all the schemas that a batch asks for. What came is kept. Retriable.
    #[error(
        "{origin} answers slowly: {answered} schemas came, {left} more of this batch are asked for next"
    )]
    Slow {
        /// Where they were asked for, without credentials.
        origin: String,
        /// How many came.
        answered: usize,
        /// How many are left.
        left: usize,
    },
    /// There is such a schema, but not one that can be used; its messages are `unknown_schema` faults.
    #[error("schema {id}: {why}")]
    Unusable {
        /// The schema id asked for.
        id: u32,
        /// What is wrong with it.
        why: String,
    },
}

impl WriterSchemaError {
    /// Whether asking again later may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Refused { .. } | Self::Slow { .. } => true,
            Self::Unusable { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unavailable_registry_is_worth_another_try() {
        let origin = "http://registry".to_owned();
        let why = "status 503".to_owned();
        let unavailable = WriterSchemaError::Unavailable {
            id: 7,
            origin,
            attempts: 3,
            why: why.clone(),
        };
        assert!(DecodeError::from(unavailable).is_retriable());
        assert!(!DecodeError::from(WriterSchemaError::Unusable { id: 7, why }).is_retriable());
    }
}
