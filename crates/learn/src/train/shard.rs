//! How a training batch is cut: its shards are computed at the same time, each on a thread.
//!
//! Invariant: the cut depends on the rows alone, never on the number of threads.

use crate::rng::ChaCha8Rng;

/// Rows of a shard at least: enough that packing the weights for a product is little beside the product, and a batch of
/// the default size still occupies two processors.
const SHARD_ROWS_MIN: usize = 128;
/// Shards of a batch at most: each has gradients of its own, as large as the model.
const SHARDS_MAX: usize = 8;

/// Some rows of a training batch.
#[derive(Debug)]
pub struct Shard {
    /// Which of the fit rows.
    pub(super) rows: Vec<usize>,
    /// `[B, F]`.
    pub(super) hidden: Vec<bool>,
    /// `[B]`: the standard deviation of the noise in the numbers of each row; 0: none.
    pub(super) levels: Vec<f32>,
    /// The weights of all fields that count in the whole batch.
    pub(super) counted: f64,
    /// The fit row from which each field is shown, `[B, F]`; none: its own.
    pub(super) sources: Option<Vec<usize>>,
    pub(super) unknown: ChaCha8Rng,
    pub(super) dropout: ChaCha8Rng,
    pub(super) noise: ChaCha8Rng,
    pub(super) input_noise: ChaCha8Rng,
}

/// Rows of each shard of a batch but the last.
pub(super) fn shard_rows(batch_rows: usize) -> usize {
    batch_rows.div_ceil(SHARDS_MAX).max(SHARD_ROWS_MIN)
}
