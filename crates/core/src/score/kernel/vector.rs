//! Elementary functions of vectors (the same polynomials as `model::ops::math` has for numbers, with fused multiply-adds)
//! and sums over slices.
//!
//! A sum over a slice has 32 running sums: the number at place i is added to the one at i mod 32, and in the end these are
//! added in halves. So vectors of 8 numbers and of 16 give the same bits, which lets the faster of them be chosen.
//! Narrower ones have fewer running sums.

use crate::model::ops::math::{GELU_CUBIC, TWICE_SQRT_2_OVER_PI};
use crate::model::ops::simd::written_out;
use pulp::Simd;

/// e^x with a relative error below 2e-7 for -87 <= x <= 88; beyond that of the nearer end.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    let round = simd.splat_f32s(12_582_912.0);
    let x = simd.min_f32s(
        simd.max_f32s(x, simd.splat_f32s(-87.0)),
        simd.splat_f32s(88.0),
    );
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let mut p = simd.splat_f32s(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let one = simd.splat_f32s(1.0);
    let mantissa = simd.add_f32s(simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), r), one);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let exponent = simd.add_u32s(bits, simd.splat_u32s(127 << 23));
    simd.mul_f32s(mantissa, simd.transmute_f32s_u32s(exponent))
}

/// The tanh form of GELU, x / (1 + e^(-2 sqrt(2/pi) (x + 0.044715 x^3))).
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const SLOPE: f32 = -TWICE_SQRT_2_OVER_PI;
    let cubic = simd.splat_f32s(SLOPE * GELU_CUBIC);
    let by_square = simd.mul_add_e_f32s(cubic, simd.mul_f32s(x, x), simd.splat_f32s(SLOPE));
    let e = exp(simd, simd.mul_f32s(by_square, x));
    simd.div_f32s(x, simd.add_f32s(e, simd.splat_f32s(1.0)))
}

/// What is summed: the numbers of some vectors, and of one more that is not full.
trait Terms<S: Simd> {
    /// Full vectors.
    fn vectors(&self) -> usize;
    /// Whether numbers follow them.
    fn has_rest(&self) -> bool;
    /// `sum` and the numbers of one vector.
    fn add(&self, simd: S, sum: S::f32s, vector: usize) -> S::f32s;
    /// `sum` and the numbers after the full vectors.
    fn add_rest(&self, simd: S, sum: S::f32s) -> S::f32s;
}

#[inline(always)]
fn total<S: Simd>(simd: S, terms: impl Terms<S>) -> f32 {
    if S::F32_LANES >= 16 {
        total_of::<S, 2>(simd, terms)
    } else {
        total_of::<S, 4>(simd, terms)
    }
}

/// With N vectors of running sums.
#[inline(always)]
fn total_of<S: Simd, const N: usize>(simd: S, terms: impl Terms<S>) -> f32 {
    let vectors = terms.vectors();
    let whole = vectors - vectors % N;
    let mut sums = [simd.splat_f32s(0.0); N];
    for first in (0..whole).step_by(N) {
        written_out!(r < N, {
            sums[r] = terms.add(simd, sums[r], first + r);
        });
    }
    written_out!(r < N, {
        if whole + r < vectors {
            sums[r] = terms.add(simd, sums[r], whole + r);
        } else if whole + r == vectors && terms.has_rest() {
            sums[r] = terms.add_rest(simd, sums[r]);
        }
    });
    let mut numbers = [0f32; 16];
    let (halves, _) = S::as_mut_simd_f32s(&mut numbers);
    for r in 0..N / 2 {
        halves[r] = simd.add_f32s(sums[r], sums[r + N / 2]);
    }
    let eight: [f32; 8] = std::array::from_fn(|i| numbers[i] + numbers[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

struct Numbers<'a, S: Simd> {
    vectors: &'a [S::f32s],
    rest: &'a [f32],
}

impl<S: Simd> Terms<S> for Numbers<'_, S> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.vectors.len()
    }

    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    #[inline(always)]
    fn add(&self, simd: S, sum: S::f32s, vector: usize) -> S::f32s {
        simd.add_f32s(sum, self.vectors[vector])
    }

    #[inline(always)]
    fn add_rest(&self, simd: S, sum: S::f32s) -> S::f32s {
        simd.add_f32s(sum, simd.partial_load_f32s(self.rest))
    }
}

struct Products<'a, S: Simd> {
    x: Numbers<'a, S>,
    y: Numbers<'a, S>,
}

impl<S: Simd> Terms<S> for Products<'_, S> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.x.vectors()
    }

    #[inline(always)]
    fn has_rest(&self) -> bool {
        self.x.has_rest()
    }

    #[inline(always)]
    fn add(&self, simd: S, sum: S::f32s, vector: usize) -> S::f32s {
        simd.mul_add_e_f32s(self.x.vectors[vector], self.y.vectors[vector], sum)
    }

    #[inline(always)]
    fn add_rest(&self, simd: S, sum: S::f32s) -> S::f32s {
        let x = simd.partial_load_f32s(self.x.rest);
        simd.mul_add_e_f32s(x, simd.partial_load_f32s(self.y.rest), sum)
    }
}

/// e^(x - shift).
struct Powers<'a, S: Simd> {
    x: Numbers<'a, S>,
    shift: S::f32s,
}

impl<S: Simd> Terms<S> for Powers<'_, S> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.x.vectors()
    }

    #[inline(always)]
    fn has_rest(&self) -> bool {
        self.x.has_rest()
    }

    #[inline(always)]
    fn add(&self, simd: S, sum: S::f32s, vector: usize) -> S::f32s {
        let x = simd.sub_f32s(self.x.vectors[vector], self.shift);
        simd.add_f32s(sum, exp(simd, x))
    }

    #[inline(always)]
    fn add_rest(&self, simd: S, sum: S::f32s) -> S::f32s {
        let rest = self.x.rest;
        let x = simd.sub_f32s(simd.partial_load_f32s(rest), self.shift);
        // What stands beyond the slice is no part of the sum.
        let mut powers = [0f32; 16];
        simd.partial_store_f32s(&mut powers[..rest.len()], exp(simd, x));
        let (powers, _) = S::as_simd_f32s(&powers);
        simd.add_f32s(sum, powers[0])
    }
}

#[inline(always)]
fn numbers<S: Simd>(x: &[f32]) -> Numbers<'_, S> {
    let (vectors, rest) = S::as_simd_f32s(x);
    Numbers { vectors, rest }
}

/// The sum of some numbers.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, x: &[f32]) -> f32 {
    total(simd, numbers::<S>(x))
}

/// The scalar product of two slices of one length.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let (x, y) = (numbers::<S>(x), numbers::<S>(&y[..x.len()]));
    total(simd, Products { x, y })
}

/// ln(sum exp(x)) of a non-empty slice, without overflow.
#[inline(always)]
pub(super) fn log_sum_exp<S: Simd>(simd: S, logits: &[f32]) -> f32 {
    let x = numbers::<S>(logits);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for &x in x.vectors {
        largest = simd.max_f32s(largest, x);
    }
    let mut max = simd.reduce_max_f32s(largest);
    for &x in x.rest {
        max = max.max(x);
    }
    let shift = simd.splat_f32s(max);
    max + total(simd, Powers { x, shift }).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::simd::Instructions;
    use pulp::WithSimd;

    /// One of the functions, for every number of a slice whose length is a multiple of any vector's.
    struct Each<'a> {
        numbers: &'a mut [f32],
        gelu: bool,
    }

    impl WithSimd for Each<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.numbers);
            assert!(rest.is_empty());
            for x in vectors {
                *x = match self.gelu {
                    true => gelu(simd, *x),
                    false => exp(simd, *x),
                };
            }
        }
    }

    struct Norm<'a>(&'a [f32]);

    impl WithSimd for Norm<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            log_sum_exp(simd, self.0)
        }
    }

    /// The numbers with what a function makes of them, under every set of instructions that this processor has.
    fn each(numbers: &[f32], gelu: bool, check: impl Fn(f32, f32)) {
        for instructions in Instructions::available() {
            let mut results = numbers.to_vec();
            results.resize(numbers.len().next_multiple_of(16), 0.0);
            let numbers_of = Each {
                numbers: &mut results,
                gelu,
            };
            instructions.run(numbers_of);
            numbers.iter().zip(results).for_each(|(&x, y)| check(x, y));
        }
    }

    #[test]
    fn exp_is_accurate_over_its_whole_range_and_stays_finite_beyond() {
        let numbers: Vec<f32> = (-87_000..=88_000).map(|i| i as f32 / 1000.0).collect();
        each(&numbers, false, |x, y| {
            let exact = f64::from(x).exp();
            let error = (f64::from(y) - exact).abs() / exact;
            assert!(error < 2e-7, "exp({x}): relative error {error}");
        });
        each(&[-1e30, -88.0, 89.0, 1e30], false, |x, y| {
            assert!(y > 0.0 && y.is_finite(), "exp({x}) = {y}");
        });
    }

    #[test]
    fn gelu_is_its_tanh_form_over_a_wide_range() {
        let small = (-8_000..=8_000).map(|i| i as f32 / 1000.0);
        let large = (-100..=100).map(|i| i as f32 * 100.0);
        let numbers: Vec<f32> = small.chain(large).collect();
        each(&numbers, true, |x, y| {
            let z = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z * z * z);
            let exact = 0.5 * z * (1.0 + inner.tanh());
            let error = (f64::from(y) - exact).abs();
            assert!(
                error < 1e-6 * z.abs().max(0.1),
                "gelu({x}) = {y}, not {exact}"
            );
        });
    }

    #[test]
    fn a_log_sum_exp_of_any_length_survives_large_and_equal_logits() {
        for instructions in Instructions::available() {
            for length in 1..=40 {
                for largest in [-1000.0, 0.0, 1000.0f32] {
                    let falling: Vec<f32> = (0..length).map(|i| largest - i as f32).collect();
                    let sum: f64 = (0..length).map(|i| (-f64::from(i)).exp()).sum();
                    let error = f64::from(instructions.run(Norm(&falling)) - largest) - sum.ln();
                    assert!(error.abs() < 1e-4, "{length} below {largest}: {error}");
                    let equal = vec![largest; falling.len()];
                    let error = f64::from(instructions.run(Norm(&equal)) - largest)
                        - f64::from(length).ln();
                    assert!(error.abs() < 1e-4, "{length} of {largest}: {error}");
                }
            }
        }
    }
}
