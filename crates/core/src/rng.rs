//! Every random draw of the product, seeded.
//!
//! A *purpose* (weights, masks, the split of rows, ...) has its own ChaCha stream of the one user seed, so that adding a
//! draw for one purpose never shifts another's, and the same seed gives the same bundle on every machine and at any
//! thread count. No other module creates a generator.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; the number is the ChaCha stream and must never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Which training rows are fit, reference and calibration rows.
    Split = 1,
    /// Initial weights.
    Initialisation = 2,
    /// Which rows make a training batch.
    Batches = 3,
    /// Which fields a training batch hides.
    Masks = 4,
    /// The views that scoring uses for every record.
    Views = 5,
    /// Which units dropout removes.
    Dropout = 6,
    /// Which category codes training replaces by `unknown`.
    UnknownCategories = 7,
    /// The masks under which the held-out loss is measured.
    HeldOutMasks = 8,
    /// Customers, terminals and payments of `generate`.
    Generation = 9,
    /// Which fit rows are kept where not all fit into memory.
    FitSample = 10,
    /// What training draws at the bottleneck of a variational autoencoder.
    BottleneckNoise = 13,
    /// What training judges of the rows that it may leave out, under which views, and which unusual ones stay.
    Trimming = 21,
    /// Which labelled rows validate a tuning where none is the latest.
    TuningFolds = 15,
    /// Which visible values of a training batch are swapped, and with which rows.
    SwapNoise = 17,
    /// The trees of the isolation forest that a model is compared with.
    Baselines = 11,
    /// Which rows a quality benchmark trains and tests on.
    BenchmarkSplit = 12,
    /// Which rows a quality benchmark takes of a set that is too large for its protocol.
    BenchmarkSample = 14,
    /// The times by which the latest rows are found.
    TimeSample = 16,
    /// Which labelled frauds a tuning takes of too many.
    TuningFrauds = 18,
    /// Which normal rows a tuning takes of too many.
    TuningNormals = 19,
    /// Which calibration rows a tuning takes of too many.
    TuningCalibration = 20,
    /// Which rows the baselines are fitted to where there are too many.
    BaselineSample = 22,
    /// Which rows of a training batch carry noise, how much, and which of their categories are hidden.
    InputNoise = 24,
    /// Which fit rows a bundle keeps, to measure how near the nearest is.
    Neighbours = 25,
    /// Which labelled rows end the growing of trees.
    TuningRounds = 26,
    /// Which values of a number its quantiles are taken of.
    Quantiles = 27,
    /// The order of equal scores where a stream's scores are ranked.
    RankTies = 28,
    /// Which rows a recalibration takes of too many.
    Recalibration = 29,
    /// What unit tests draw.
    #[cfg(any(test, feature = "testing"))]
    Tests = 23,
}

/// The random stream of `purpose` under `seed`. Two draws of one program never share a purpose: they would be the same numbers,
/// so that what one leaves to chance would be known to the other (`tests/tidy.rs` looks for it).
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// A generator of its own for one part of what `rng` is for, so that parts may draw at the same time.
pub fn fork(rng: &mut ChaCha8Rng) -> ChaCha8Rng {
    ChaCha8Rng::from_rng(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_is_fixed_by_seed_and_purpose() {
        let draw = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(draw(7, Purpose::Masks), draw(7, Purpose::Masks));
        assert_ne!(draw(7, Purpose::Masks), draw(8, Purpose::Masks));
        assert_ne!(draw(7, Purpose::Masks), draw(7, Purpose::Views));
    }

    #[test]
    fn forks_follow_from_their_stream_and_differ() {
        let forks = || {
            let mut rng = stream(7, Purpose::Dropout);
            [fork(&mut rng).next_u64(), fork(&mut rng).next_u64()]
        };
        let [one, two] = forks();
        assert_eq!(forks(), [one, two]);
        assert_ne!(one, two);
    }
}
