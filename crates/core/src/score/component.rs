//! The names of what is measured of a record: one way each in which it may be unusual.
//!
//! A rule combines some of them without labels, a combination any of them with labels. What each is worth in a record is
//! said in `calibration` alone.

use serde::{Deserialize, Serialize};

/// One way in which a record may be unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Component {
    /// The anomaly score that a bundle has without labels.
    Untuned,
    /// The record's total surprise in a stratum under a reading.
    Total {
        /// Index among the S strata.
        stratum: usize,
        /// Index among the R readings.
        reading: usize,
    },
    /// The surprise of the record's most surprising field in a stratum under a reading.
    Largest {
        /// Index among the S strata.
        stratum: usize,
        /// Index among the R readings.
        reading: usize,
    },
    /// The distance of the record's latent from those of fit rows.
    Latent,
    /// The distance to the nearest fit row, with quantities in deviations.
    Nearest,
    /// The same with quantities as normal quantiles.
    NearestQuantile,
    /// The mean surprise of one field under a reading.
    Field {
        /// Index among the F feature fields.
        field: usize,
        /// Index among the R' trained readings.
        reading: usize,
    },
}
