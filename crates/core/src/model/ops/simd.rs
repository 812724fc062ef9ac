//! Which vector instructions the processor has, found out once, and how a loop is compiled for each of them.
//!
//! In flows an operation that is generic over pulp's [`Simd`]; it runs with AVX-512, AVX2 and FMA, NEON, or one number
//! at a time. The build itself stays portable: without this its loops would only use SSE2. Everything
//! that an operation calls must be inlined into it (`#[inline(always)]`), or it is compiled without the instructions.
//! Which of them the scoring kernel takes, `score::kernel` finds out.

use pulp::{Scalar, Simd, WithSimd};
use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
use pulp::aarch64::Neon;
#[cfg(all(any(test, feature = "testing"), target_arch = "x86_64"))]
use pulp::x86::V3_512b;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

/// A set of vector instructions that this processor has.
#[derive(Debug, Clone, Copy)]
pub enum Instructions {
    /// One number at a time, on any processor.
    Portable(Scalar),
    /// 16 numbers as two halves with AVX2, for tests: what AVX-512 does with its width runs where there is none.
    #[cfg(all(any(test, feature = "testing"), target_arch = "x86_64"))]
    Avx2Pairs(V3_512b),
    /// AVX2 and FMA: 8 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2(V3),
    /// AVX-512: 16 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512(V4),
    /// NEON: 4 numbers.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

static WIDEST: LazyLock<Instructions> = LazyLock::new(|| {
    let available = Instructions::available();
    available
        .last()
        .copied()
        .unwrap_or(Instructions::Portable(Scalar))
});

impl Instructions {
    /// The widest that this processor has: plain loops over elements gain by every number of a vector. On an AMD Zen 5 a GELU
    /// took 0.31 ns an element with AVX-512 and 0.62 with AVX2.
    pub fn widest() -> Self {
        *WIDEST
    }

    /// Whether these are of no use but to run wide vectors on a processor without them.
    pub(crate) fn is_for_tests(self) -> bool {
        #[cfg(all(any(test, feature = "testing"), target_arch = "x86_64"))]
        return matches!(self, Self::Avx2Pairs(_));
        #[cfg(not(all(any(test, feature = "testing"), target_arch = "x86_64")))]
        false
    }

    /// All that this processor has, the widest last.
    pub fn available() -> Vec<Self> {
        let mut available = vec![Self::Portable(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            #[cfg(any(test, feature = "testing"))]
            available.extend(V3::try_new().map(|v3| Self::Avx2Pairs(V3_512b(v3))));
            available.extend(V3::try_new().map(Self::Avx2));
            available.extend(V4::try_new().map(Self::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        available.extend(Neon::try_new().map(Self::Neon));
        available
    }

    /// Runs an operation compiled for these instructions.
    #[inline(always)]
    pub fn run<Op: WithSimd>(self, operation: Op) -> Op::Output {
        match self {
            Self::Portable(simd) => Simd::vectorize(simd, operation),
            #[cfg(all(any(test, feature = "testing"), target_arch = "x86_64"))]
            Self::Avx2Pairs(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, operation),
        }
    }

    /// The name that people know them by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable(_) => "portable",
            #[cfg(all(any(test, feature = "testing"), target_arch = "x86_64"))]
            Self::Avx2Pairs(_) => "AVX2 in pairs",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
        }
    }

    /// f32 numbers of one vector.
    pub fn lanes(self) -> usize {
        self.run(Lanes)
    }
}

/// A plain loop over slices, which the compiler vectorises. Implementations mark `run`, and all that it calls in the
/// loop, `#[inline(always)]`: what is not inlined is compiled without the instructions.
///
/// Floats are never contracted into fused operations, nor sums reordered: the result is the same with every set of
/// instructions.
pub trait Loop {
    /// What the loop returns.
    type Output;

    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a plain loop compiled for the widest instructions.
#[inline(always)]
pub fn vectorised<L: Loop>(body: L) -> L::Output {
    Instructions::widest().run(Plain(body))
}

/// Writes the body out for each place below a constant, up to 8 of them. A loop would do the same work, but the compiler keeps
/// an array in registers only if it sees every index of it as a constant early on, and unrolls only short loops early.
macro_rules! written_out {
    ($place:ident < $count:ident, $body:block) => {
        written_out!(@ $place, $count, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $place:ident, $count:ident, $body:block, $($i:literal)*) => {
        $(if $i < $count {
            let $place = $i;
            $body
        })*
    };
}

pub(crate) use written_out;

struct Plain<L>(L);

impl<L: Loop> WithSimd for Plain<L> {
    type Output = L::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> L::Output {
        self.0.run()
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn loops_take_avx_512_where_there_is_avx2_too() {
        let sets = Instructions::available();
        let has = |name| sets.iter().any(|set| set.name() == name);
        let of_loops = match (has("AVX-512"), has("AVX2")) {
            (true, _) => "AVX-512",
            (false, true) => "AVX2",
            (false, false) => "portable",
        };
        assert_eq!(Instructions::widest().name(), of_loops);
    }
}
