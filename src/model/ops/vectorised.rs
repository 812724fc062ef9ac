//! Loops compiled once for each width of vector registers; the processor's widest is chosen at run time, so that a
//! portable build has the speed of one for this machine.
//!
//! Products and sums are not contracted into fused operations, and no sum depends on the width (see
//! [`lane_sum`](super::math::lane_sum)): the result is the same on every processor.

use pulp::{Arch, Simd, WithSimd};

/// A loop over slices. Implementations mark `run` and all that it calls in the loop `#[inline(always)]`: what is not
/// inlined is compiled for the narrowest registers.
pub trait Loop {
    /// What the loop returns.
    type Output;

    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a loop on the widest registers that it was compiled for.
pub fn vectorised<L: Loop>(body: L) -> L::Output {
    Arch::new().dispatch(Compiled(body))
}

struct Compiled<L>(L);

impl<L: Loop> WithSimd for Compiled<L> {
    type Output = L::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> L::Output {
        self.0.run()
    }
}
