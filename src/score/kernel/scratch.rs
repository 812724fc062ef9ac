//! The working memory of a pass: taken, used, and given back, so that the kernel allocates nothing.

use super::packed::Aligned;
use std::sync::Mutex;

/// What one tile needs. Everything in it is overwritten by the next.
#[derive(Debug)]
pub(super) struct Scratch {
    /// `[rows, stride]`: the residual stream.
    pub h: Aligned,
    /// `[rows, stride]`: its normalised form; after the last block the latent.
    pub normalised: Aligned,
    /// `[rows, widest stride]`: between the two layers of a block.
    pub inner: Aligned,
    /// `[F + 1, columns of the input layer]`.
    pub deltas: Aligned,
    /// `[V, columns of the input layer]`, at least one row: what the input layer makes of one record.
    pub record_rows: Aligned,
    /// The logits of one field's head.
    pub logits: Aligned,
    /// The normalisers of their softmaxes.
    pub log_norms: Vec<f32>,
    /// `[R]`.
    pub surprise: Vec<f32>,
}

/// How large they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub rows: usize,
    pub stride: usize,
    pub widest: usize,
    pub fields: usize,
    pub views: usize,
    pub input_columns: usize,
    pub logits: usize,
    pub log_norms: usize,
    pub readings: usize,
}

impl Scratch {
    fn new(sizes: Sizes) -> Self {
        Self {
            h: Aligned::zeros(sizes.rows * sizes.stride),
            normalised: Aligned::zeros(sizes.rows * sizes.stride),
            inner: Aligned::zeros(sizes.rows * sizes.widest),
            deltas: Aligned::zeros((sizes.fields + 1) * sizes.input_columns),
            record_rows: Aligned::zeros(sizes.views.max(1) * sizes.input_columns),
            logits: Aligned::zeros(sizes.logits),
            log_norms: vec![0.0; sizes.log_norms],
            surprise: vec![0.0; sizes.readings],
        }
    }
}

/// One for every thread that has ever scored at the same time.
#[derive(Debug)]
pub(super) struct Pool {
    sizes: Sizes,
    free: Mutex<Vec<Scratch>>,
}

impl Pool {
    pub fn new(sizes: Sizes) -> Self {
        let free = Mutex::default();
        Self { sizes, free }
    }

    /// Calls `f` with a scratch of its own.
    pub fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        // A scratch holds nothing that a panic could leave half done.
        let free = || self.free.lock().unwrap_or_else(|e| e.into_inner());
        let taken = free().pop();
        let mut scratch = taken.unwrap_or_else(|| Scratch::new(self.sizes));
        let result = f(&mut scratch);
        free().push(scratch);
        result
    }
}
