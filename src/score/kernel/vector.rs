//! Elementary functions of vectors: the same polynomials as `model::ops::math` has for numbers, with fused multiply-adds.

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
    const SLOPE: f32 = -1.595_769_1;
    let cubic = simd.splat_f32s(SLOPE * 0.044_715);
    let by_square = simd.mul_add_e_f32s(cubic, simd.mul_f32s(x, x), simd.splat_f32s(SLOPE));
    let e = exp(simd, simd.mul_f32s(by_square, x));
    simd.div_f32s(x, simd.add_f32s(e, simd.splat_f32s(1.0)))
}

/// ln(sum exp(x)) of a non-empty slice, without overflow, over running sums of one vector each.
#[inline(always)]
pub(super) fn log_sum_exp<S: Simd>(simd: S, logits: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(logits);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for &x in vectors {
        largest = simd.max_f32s(largest, x);
    }
    let mut max = simd.reduce_max_f32s(largest);
    for &x in rest {
        max = max.max(x);
    }
    let shift = simd.splat_f32s(max);
    let mut sums = simd.splat_f32s(0.0);
    for &x in vectors {
        sums = simd.add_f32s(sums, exp(simd, simd.sub_f32s(x, shift)));
    }
    let mut sum = simd.reduce_sum_f32s(sums);
    for &x in rest {
        sum += crate::model::ops::math::exp(x - max);
    }
    max + sum.ln()
}
