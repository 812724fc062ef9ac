//! What a record is: fields with kinds and roles, read from a schema file and checked whole.

mod field;

pub use field::{DEFAULT_MAX_CARDINALITY, Field, FieldPath, Kind, Role, TimeUnit, Transform};
