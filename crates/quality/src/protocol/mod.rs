//! How a set is divided into training and test rows: one file a protocol, all of them pure.
//!
//! In flow labels, and where a protocol needs them days, cards and times of all rows of a file; out flows a [`Split`] of
//! row numbers. Every random draw is from the stream of benchmark splits. Invariants: no row is in both parts, and of the
//! protocols that promise clean training rows none is an anomaly.

mod dte;
mod given_split;
mod half_split;
mod handbook;
mod sample;
mod time_split;

pub use dte::{ROWS_MAX, dte};
pub use given_split::given_split;
pub use half_split::half_split;
pub use handbook::{Payments, card_precision, handbook};
pub use sample::sampled;
pub use time_split::time_split;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A way to divide a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Half of the normal rows, drawn by the seed, against the other half and all anomalies.
    HalfSplit,
    /// The first half of the normal rows against the second half and all anomalies, of at most 50,000 rows.
    Dte,
    /// As a column of the file says.
    GivenSplit,
    /// A week of payments with its frauds against a later week.
    Handbook,
    /// The same without the frauds of the training week.
    HandbookClean,
    /// The earlier half of the rows with its anomalies against the later half.
    TimeSplit,
    /// The same without the anomalies of the earlier half.
    TimeSplitClean,
}

impl Protocol {
    /// Whether training rows are left in although they are anomalies.
    pub fn is_contaminated(self) -> bool {
        matches!(self, Self::Handbook | Self::TimeSplit)
    }

    /// Whether it needs a column of moments.
    pub fn needs_time(self) -> bool {
        !matches!(self, Self::HalfSplit | Self::Dte | Self::GivenSplit)
    }

    /// Whether it needs a column that says which rows train.
    pub fn needs_split(self) -> bool {
        matches!(self, Self::GivenSplit)
    }

    /// Whether it needs a column of cards.
    pub fn needs_card(self) -> bool {
        matches!(self, Self::Handbook | Self::HandbookClean)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HalfSplit => "half_split",
            Self::Dte => "dte",
            Self::GivenSplit => "given_split",
            Self::Handbook => "handbook",
            Self::HandbookClean => "handbook_clean",
            Self::TimeSplit => "time_split",
            Self::TimeSplitClean => "time_split_clean",
        })
    }
}

/// The rows of a file that train and those that test, each ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Row numbers in the file.
    pub train: Vec<u32>,
    /// Row numbers in the file.
    pub test: Vec<u32>,
}

impl Split {
    fn new(mut train: Vec<u32>, mut test: Vec<u32>) -> Self {
        train.sort_unstable();
        test.sort_unstable();
        Self { train, test }
    }
}

/// Some rows that are normal in the order of `rows`, and all anomalies among them.
fn by_label(rows: impl IntoIterator<Item = u32>, labels: &[bool]) -> (Vec<u32>, Vec<u32>) {
    rows.into_iter().partition(|&row| !labels[row as usize])
}

/// The first `train` normal rows train; the others and all anomalies test.
fn one_class(normals: &[u32], anomalies: Vec<u32>, train: usize) -> Split {
    let (first, second) = normals.split_at(train);
    Split::new(first.to_vec(), [second, &anomalies].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_written_as_it_is_read() {
        for text in [
            "half_split",
            "dte",
            "handbook",
            "handbook_clean",
            "time_split",
            "time_split_clean",
        ] {
            let protocol: Protocol = serde_json::from_value(text.into()).unwrap();
            assert_eq!(protocol.to_string(), text);
        }
    }
}
