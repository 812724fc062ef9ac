//! The working memory of a pass: taken, used, and given back, so that the kernel allocates nothing.

use super::packed::Aligned;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

/// What one tile needs. Everything in it is overwritten by the next.
#[derive(Debug, Default)]
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

    /// A scratch for the caller alone, until it is dropped.
    pub fn take(&self) -> Taken<'_> {
        let free = self.free().pop();
        let scratch = free.unwrap_or_else(|| Scratch::new(self.sizes));
        Taken {
            scratch,
            pool: self,
        }
    }

    /// A scratch holds nothing that a panic could leave half done.
    fn free(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A scratch that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    scratch: Scratch,
    pool: &'a Pool,
}

impl Deref for Taken<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.scratch
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let scratch = std::mem::take(&mut self.scratch);
        self.pool.free().push(scratch);
    }
}
