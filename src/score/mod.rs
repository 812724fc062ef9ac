//! From a batch of canonical records to scores, p-values and reasons.

mod types;

pub use types::{Category, Expected, Reason, Scores};
