//! Why a metric has no value.

/// What keeps a metric from being computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// Two columns of one set of rows differ in length.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// The column.
        what: &'static str,
        /// Values it has.
        found: usize,
        /// Values it must have.
        expected: usize,
    },
    /// A score or p-value that cannot be ranked.
    #[error("{what} of row {row} is not a number")]
    NotANumber {
        /// The column.
        what: &'static str,
        /// The row, from 0.
        row: usize,
    },
    /// All rows have one label, or there are none.
    #[error(
        "{positives} of {rows} labelled rows are positive: both classes are needed, at least 1 row of each"
    )]
    OneClass {
        /// Rows with a label.
        rows: usize,
        /// Of these, positive ones.
        positives: usize,
    },
    /// Groups of a field with more values than make groups.
    #[error("'{field}' has more than {limit} values, expected a field with few")]
    GroupValues {
        /// The field.
        field: String,
        /// Values that are told apart at most.
        limit: usize,
    },
    /// `k` of precision at k is zero.
    #[error("k is 0, expected at least 1")]
    ZeroK,
    /// An alert budget that is no share.
    #[error("alert budget is {found}, expected above 0 and at most 1")]
    Budget {
        /// The budget given.
        found: f64,
    },
}
