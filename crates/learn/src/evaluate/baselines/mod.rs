//! What a masked autoencoder has to be better than: isolation forest, k nearest neighbours and principal components.
//!
//! In flow training records, [`encode`]d batch by batch ([`BaselineFitter`]), then records to score ([`Baselines`]);
//! out flows one anomaly score a method, higher = more abnormal. All three see the same numbers ([`numbers`]), made by the
//! bundle's own encoder, and are fitted to one uniform sample of bounded size. Labels are not seen. Invariant: a record's
//! scores depend on the record, the training records and the seed, never on its batch or the number of threads.

mod comparison;
mod isolation_forest;
mod k_nearest;
mod numbers;
mod principal_components;

pub use comparison::{BaselineComparison, BaselineEvaluation};
pub use isolation_forest::{DEFAULT_TREE_ROWS, DEFAULT_TREES, IsolationForest};
pub use k_nearest::{DEFAULT_NEIGHBOURS, NearestNeighbours};
pub use numbers::{COLUMNS_MAX, NUMBERS_CLIP, NumberColumns, ONE_HOT_VALUES_MAX};
pub use principal_components::{DEFAULT_VARIANCE_SHARE, PrincipalComponents};

use crate::encode::{EncodeError, Encoder, Records};
use crate::rng::{ChaCha8Rng, Purpose, stream};
use arrow::array::RecordBatch;
use rand::RngExt;

/// Training records kept at most: the cost of a nearest neighbour is proportional to it, and beyond it distances to the
/// fifth neighbour shrink by percents only.
pub const DEFAULT_SAMPLE_ROWS_MAX: usize = 100_000;
/// Memory for the numbers of the training records at most, bytes; wide records are kept in smaller number.
pub const DEFAULT_SAMPLE_BYTES_MAX: usize = 256 << 20;

/// The records of a canonical batch as baselines are fitted to and score them.
///
/// # Errors
/// [`EncodeError::NotCanonical`].
pub fn encode(encoder: &Encoder, batch: &RecordBatch) -> Result<Records, EncodeError> {
    encoder.encode_within(batch, NUMBERS_CLIP)
}

/// Why no baseline can be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BaselineError {
    /// The records are too wide.
    #[error(
        "the baselines need {columns} columns of numbers for these records, the limit is {limit}"
    )]
    TooWide {
        /// Columns that the fields become.
        columns: usize,
        /// [`COLUMNS_MAX`].
        limit: usize,
    },
    /// There are too few records to learn from.
    #[error("the baselines have {rows} training rows, expected at least {least}")]
    TooFewRows {
        /// Rows that there are.
        rows: usize,
        /// Rows that are needed.
        least: usize,
    },
    /// The principal components did not converge: a defect, or numbers that are none.
    #[error("the principal components of {columns} columns did not converge")]
    NoComponents {
        /// Columns of the covariance.
        columns: usize,
    },
}

/// Gathers a uniform sample of training records.
#[derive(Debug)]
pub struct BaselineFitter {
    columns: NumberColumns,
    rows_max: usize,
    sample: Records,
    seen: u64,
    seed: u64,
    rng: ChaCha8Rng,
}

impl BaselineFitter {
    /// For records of this encoder; everything random depends on `seed`.
    ///
    /// # Errors
    /// [`BaselineError::TooWide`].
    pub fn new(encoder: &Encoder, seed: u64) -> Result<Self, BaselineError> {
        let columns = NumberColumns::of(encoder)?;
        let fitting = DEFAULT_SAMPLE_BYTES_MAX / (4 * columns.width()).max(1);
        Ok(Self {
            rows_max: DEFAULT_SAMPLE_ROWS_MAX.min(fitting),
            sample: Records::absent(&encoder.shapes(), 0),
            seen: 0,
            seed,
            rng: stream(seed, Purpose::BaselineSample),
            columns,
        })
    }

    /// Offers every record of a batch to the sample (Vitter 1985, algorithm R: every subset equally likely).
    pub fn observe(&mut self, records: &Records) {
        for row in 0..records.rows() {
            self.seen += 1;
            if self.sample.rows() < self.rows_max {
                self.sample.push_row(records, row);
                continue;
            }
            let at = self.rng.random_range(0..self.seen) as usize;
            if at < self.rows_max {
                self.sample.replace_row(at, records, row);
            }
        }
    }

    /// All three methods, fitted to the sample.
    ///
    /// # Errors
    /// [`BaselineError::TooFewRows`]; [`BaselineError::NoComponents`].
    pub fn fit(self) -> Result<Baselines, BaselineError> {
        let rows = self.sample.rows();
        let least = DEFAULT_NEIGHBOURS + 1;
        if rows < least {
            return Err(BaselineError::TooFewRows { rows, least });
        }
        let numbers = self.columns.numbers(&self.sample);
        let width = self.columns.width();
        Ok(Baselines {
            forest: IsolationForest::fit(&numbers, width, self.seed),
            components: PrincipalComponents::fit(&numbers, width, DEFAULT_VARIANCE_SHARE)?,
            neighbours: NearestNeighbours::new(numbers, width, DEFAULT_NEIGHBOURS),
            columns: self.columns,
        })
    }
}

/// The three methods, fitted.
#[derive(Debug)]
pub struct Baselines {
    columns: NumberColumns,
    forest: IsolationForest,
    neighbours: NearestNeighbours,
    components: PrincipalComponents,
}

impl Baselines {
    /// The methods, in the order of [`Self::score`].
    pub const NAMES: [&'static str; 3] = ["isolation_forest", "k_nearest", "principal_components"];

    /// The anomaly scores of B records under each method, `[B]` each; higher is more abnormal.
    pub fn score(&self, records: &Records) -> [Vec<f32>; 3] {
        let numbers = self.columns.numbers(records);
        [
            self.forest.scores(&numbers),
            self.neighbours.distances(&numbers),
            self.components.errors(&numbers),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::EncoderFitter;
    use crate::schema::Schema;
    use arrow::array::{Float64Array, RecordBatch};
    use std::sync::Arc;

    /// An encoder of one number, and records of the given values.
    fn numeric(values: &[f64]) -> (Encoder, Records) {
        let schema = Schema::parse("[[field]]\nname='x'\nkind='numeric'\n", "s").unwrap();
        let column = Arc::new(Float64Array::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter([("x", column as _)]).unwrap();
        let mut fitter = EncoderFitter::new(schema.features(), 8).unwrap();
        fitter.observe(&batch).unwrap();
        let encoder = fitter.finish().unwrap();
        let records = encoder.encode(&batch).unwrap();
        (encoder, records)
    }

    #[test]
    fn the_sample_is_bounded_uniform_and_fixed_by_the_seed() {
        let values: Vec<f64> = (0..4_000).map(f64::from).collect();
        let (encoder, records) = numeric(&values);
        let mut counts = vec![0; 40];
        let sample = |seed| {
            let mut fitter = BaselineFitter::new(&encoder, seed).unwrap();
            fitter.rows_max = 100;
            fitter.observe(&records);
            fitter.sample
        };
        for seed in 0..50 {
            let sample = sample(seed);
            assert_eq!(sample.rows(), 100);
            for row in 0..100 {
                // z goes from -sqrt(3) to sqrt(3) evenly.
                let share = (sample.numbers(row)[0] / 3f32.sqrt() + 1.0) / 2.0;
                counts[((share * 40.0) as usize).min(39)] += 1;
            }
        }
        // 5,000 draws into 40 equal bins: mean 125, deviation 11; five of them.
        assert!(
            counts.iter().all(|c| (c - 125i32).abs() <= 55),
            "{counts:?}"
        );
        assert_eq!(sample(3), sample(3));
    }

    #[test]
    fn every_method_scores_what_lies_far_out_highest() {
        let mut values: Vec<f64> = (0..500).map(|i| f64::from(i % 50)).collect();
        let (encoder, records) = numeric(&values);
        let mut fitter = BaselineFitter::new(&encoder, 1).unwrap();
        fitter.observe(&records);
        let baselines = fitter.fit().unwrap();
        values.push(200.0);
        let column = Arc::new(Float64Array::from(values));
        let batch = RecordBatch::try_from_iter([("x", column as _)]).unwrap();
        let scores = baselines.score(&encode(&encoder, &batch).unwrap());
        for (name, scores) in Baselines::NAMES.iter().zip(scores) {
            if *name == "isolation_forest" {
                // A forest cannot tell what lies beyond all training records from the outermost of them on that side.
                let inner = scores[5..45].iter().copied().fold(0.0, f32::max);
                assert!(scores[500] == scores[49] && scores[500] > inner, "{name}");
                continue;
            }
            let highest = scores[..500].iter().copied().fold(0.0, f32::max);
            assert!(highest < scores[500], "{name}");
        }
    }

    #[test]
    fn too_few_rows_are_refused() {
        let (encoder, records) = numeric(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut fitter = BaselineFitter::new(&encoder, 1).unwrap();
        fitter.observe(&records);
        let error = BaselineError::TooFewRows { rows: 5, least: 6 };
        assert_eq!(fitter.fit().unwrap_err(), error);
    }
}
