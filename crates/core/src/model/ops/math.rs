//! Elementary functions over slices that the compiler turns into vector instructions.
//!
//! The C library's `expf` takes several nanoseconds an element and cannot be inlined into a loop; the polynomials here
//! are branch-free, so a loop over a slice becomes SIMD code. Accuracy is stated with each and tested against `f64`.

use super::simd::{Loop, vectorised};

/// e^x with a relative error below 2e-7 for -87 <= x <= 88; smaller x give e^-87, larger ones e^88.
///
/// Range reduction by a power of two (the rounding to an integer is the addition of 1.5 * 2^23), then the degree-6
/// polynomial of Cephes' `expf` (Moshier, 1989).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    mantissa * f32::from_bits(exponent)
}

/// 2 sqrt(2 / pi): 0.5 (1 + tanh u) = 1 / (1 + e^-2u).
pub const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_1;
/// The weight of the cube in the tanh form of GELU.
pub const GELU_CUBIC: f32 = 0.044_715;

/// GELU in its tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * gelu_gate(x)
}

/// The sigmoid by which GELU weighs its input.
#[inline(always)]
pub fn gelu_gate(x: f32) -> f32 {
    1.0 / (1.0 + exp(-TWICE_SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)))
}

/// ln(sum exp(x)) of a non-empty slice, without overflow.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    scaled_log_sum_exp(logits, 1.0)
}

/// ln(sum exp(scale x)) of a non-empty slice, without overflow; `scale` > 0.
pub fn scaled_log_sum_exp(logits: &[f32], scale: f32) -> f32 {
    let (max, sum) = vectorised(SumExp { logits, scale });
    max + sum.ln()
}

/// Probabilities exp(x - logsumexp(x)) of `logits` into `out` of the same length.
pub fn softmax(logits: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    add_softmax(logits, log_sum_exp(logits), 1.0, out);
}

/// Adds `weight` exp(x - log_norm) to `out`: the gradient of `weight` times a log-sum-exp.
pub fn add_softmax(logits: &[f32], log_norm: f32, weight: f32, out: &mut [f32]) {
    add_scaled_softmax(logits, 1.0, log_norm, weight, out);
}

/// Adds `weight` exp(scale x - log_norm) to `out`.
pub fn add_scaled_softmax(logits: &[f32], scale: f32, log_norm: f32, weight: f32, out: &mut [f32]) {
    vectorised(AddSoftmax {
        logits,
        scale,
        log_norm,
        weight,
        out,
    });
}

/// The largest scaled logit and the sum of exp(scale x - largest).
struct SumExp<'a> {
    logits: &'a [f32],
    scale: f32,
}

impl Loop for SumExp<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run(self) -> (f32, f32) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = self.logits.as_chunks::<LANES>();
        for chunk in chunks {
            for (max, &x) in largest.iter_mut().zip(chunk) {
                *max = max.max(x);
            }
        }
        let max = largest.iter().chain(rest).copied();
        let max = self.scale * max.fold(f32::NEG_INFINITY, f32::max);
        (max, lane_sum(self.logits, |x| exp(self.scale * x - max)))
    }
}

struct AddSoftmax<'a> {
    logits: &'a [f32],
    scale: f32,
    log_norm: f32,
    weight: f32,
    out: &'a mut [f32],
}

impl Loop for AddSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (p, &x) in self.out.iter_mut().zip(self.logits) {
            *p += self.weight * exp(self.scale * x - self.log_norm);
        }
    }
}

/// Running sums of a vectorised sum: a register of 256 bits holds them.
const LANES: usize = 8;

/// The sum of f(x) over eight running sums: one fixed order, whatever the width of the registers.
#[inline(always)]
pub fn lane_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    lanes.iter().sum()
}

/// The sum of x y over eight running sums, as [`lane_sum`].
#[inline(always)]
pub fn lane_dot(xs: &[f32], ys: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += x * y;
    }
    lanes.iter().sum()
}

/// ln(1 + e^x) without overflow, exact to f32 at both ends.
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2e-7, "exp({x}): relative error {error}");
        }
    }

    #[test]
    fn exp_stays_finite_beyond_its_range() {
        assert!(exp(f32::MAX).is_finite() && exp(f32::MIN) > 0.0);
    }

    #[test]
    fn log_sum_exp_survives_large_logits() {
        // numpy: np.logaddexp(1000., 999.) = 1000.3132616875182
        assert!((log_sum_exp(&[1000.0, 999.0]) - 1000.313_3).abs() < 1e-3);
        let many: Vec<f32> = (0..19).map(|i| i as f32 * 0.1).collect();
        let exact = many.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(log_sum_exp(&many)) - exact).abs() < 1e-6);
    }

    #[test]
    fn a_scaled_softmax_is_that_of_the_scaled_logits() {
        let logits: Vec<f32> = (0..1021).map(|i| 40.0 * (i as f32 * 0.7).sin()).collect();
        for scale in [0.5, 1.0, 2.0, 4.0] {
            let scaled: Vec<f32> = logits.iter().map(|x| scale * x).collect();
            let norm = scaled_log_sum_exp(&logits, scale);
            assert_eq!(norm, log_sum_exp(&scaled));
            let (mut found, mut expected) = (vec![1.0; 1021], vec![1.0; 1021]);
            add_scaled_softmax(&logits, scale, norm, 0.3, &mut found);
            add_softmax(&scaled, norm, 0.3, &mut expected);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn softplus_and_sigmoid_hold_at_the_ends() {
        assert_eq!(softplus(200.0), 200.0);
        assert!(softplus(-50.0) > 0.0 && softplus(-50.0) < 1e-20);
        assert_eq!(sigmoid(100.0), 1.0);
        assert!((sigmoid(0.0) - 0.5).abs() < 1e-7);
    }
}
