//! Heads that predict a location and, but for the squared error, a log scale of the encoded number z.
//!
//! Outputs are `[location, log_scale]`. The log scale is bounded to -3..=4 so that one field can neither make its
//! density infinite nor give up: beyond a bound only the gradient that leads back in passes.

/// Degrees of freedom of the Student-t head: heavy tails with a finite variance.
const DEGREES: f32 = 4.0;
/// -log of the standard t density's constant with 4 degrees: -(lnGamma(2.5) - lnGamma(2) - ln(4 pi)/2).
const STUDENT_T_CONSTANT: f32 = 0.980_829_3;
/// ln(2 pi) / 2.
const GAUSSIAN_CONSTANT: f32 = 0.918_938_5;
const LOG_SCALE_MIN: f32 = -3.0;
const LOG_SCALE_MAX: f32 = 4.0;

/// A family of distributions around a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Student's t with 4 degrees of freedom: -log density, may be negative.
    StudentT,
    /// Normal: -log density, may be negative.
    Gaussian,
    /// No scale: the squared residual.
    SquaredError,
}

impl Family {
    /// Outputs of the head.
    pub fn outputs(self) -> usize {
        if self == Self::SquaredError { 1 } else { 2 }
    }

    /// The loss of z under `output`, which also is its surprise; adds `weight` times the gradient to `gradient`.
    pub fn loss(self, output: &[f32], z: f32, weight: f32, gradient: Option<&mut [f32]>) -> f32 {
        let residual = output[0] - z;
        let log_scale = self.log_scale(output);
        let precision = match self {
            Self::SquaredError => 1.0,
            _ => (-log_scale).exp(),
        };
        let standardised = residual * precision;
        let (loss, by_location, by_scale) = match self {
            Self::StudentT => {
                let ratio = standardised * standardised / DEGREES;
                let pull = (DEGREES + 1.0) * standardised / DEGREES / (1.0 + ratio);
                let loss = 0.5 * (DEGREES + 1.0) * ratio.ln_1p() + log_scale + STUDENT_T_CONSTANT;
                (loss, pull * precision, 1.0 - pull * standardised)
            }
            Self::Gaussian => {
                let half = 0.5 * standardised * standardised;
                (
                    half + log_scale + GAUSSIAN_CONSTANT,
                    standardised * precision,
                    1.0 - 2.0 * half,
                )
            }
            Self::SquaredError => (residual * residual, 2.0 * residual, 0.0),
        };
        if let Some(gradient) = gradient {
            gradient[0] += weight * by_location;
            if let Some(g) = gradient.get_mut(1)
                && self != Self::SquaredError
            {
                let raw = output[1];
                // Gradient descent moves against the gradient: a positive one lowers the scale.
                let leads_out = (raw <= LOG_SCALE_MIN && by_scale > 0.0)
                    || (raw >= LOG_SCALE_MAX && by_scale < 0.0);
                if !leads_out {
                    *g += weight * by_scale;
                }
            }
        }
        loss
    }

    /// P(Z <= z) under `output`; a step at the location for the squared error.
    pub fn cumulative(self, output: &[f32], z: f32) -> f32 {
        let standardised = (z - output[0]) * (-self.log_scale(output)).exp();
        match self {
            Self::StudentT => {
                // The closed form for 4 degrees of freedom.
                let s = standardised / (DEGREES + standardised * standardised).sqrt();
                0.5 + 0.75 * (s - s.powi(3) / 3.0)
            }
            Self::Gaussian => normal_cumulative(standardised),
            Self::SquaredError => f32::from(z >= output[0]),
        }
    }

    fn log_scale(self, output: &[f32]) -> f32 {
        match self {
            Self::SquaredError => 0.0,
            _ => output[1].clamp(LOG_SCALE_MIN, LOG_SCALE_MAX),
        }
    }
}

/// The standard normal distribution function with an absolute error below 1e-6.
///
/// Abramowitz & Stegun 1964, 26.2.17 (with the error function's series left to seven digits).
fn normal_cumulative(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let density = (-0.5 * x * x).exp() * 0.398_942_3;
    let series =
        0.319_381_54 + t * (-0.356_563_78 + t * (1.781_477_9 + t * (-1.821_256 + t * 1.330_274_5)));
    let upper = density * t * series;
    if x < 0.0 { upper } else { 1.0 - upper }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::likelihood::tests::assert_gradient;

    #[test]
    fn losses_equal_scipys_densities() {
        // SciPy: z, loc, s = 1.3, .4, np.exp(-.5)
        //   -stats.t.logpdf(z, 4, loc, s) -> 1.577196; -stats.norm.logpdf(z, loc, s) -> 1.519843
        let output = [0.4, -0.5];
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
        near(Family::StudentT.loss(&output, 1.3, 1.0, None), 1.577_195_6);
        near(Family::Gaussian.loss(&output, 1.3, 1.0, None), 1.519_842_7);
        near(
            Family::SquaredError.loss(&output[..1], 1.3, 1.0, None),
            0.81,
        );
    }

    #[test]
    fn distribution_functions_equal_scipys() {
        // SciPy: stats.t.cdf(1.5, 4) -> 0.896000; stats.norm.cdf([-2, .5]) -> 0.0227501, 0.6914625
        let near = |a: f32, b: f32| assert!((a - b).abs() < 2e-6, "{a} {b}");
        near(Family::StudentT.cumulative(&[0.0, 0.0], 1.5), 0.896);
        near(Family::Gaussian.cumulative(&[0.0, 0.0], -2.0), 0.022_750_1);
        near(Family::Gaussian.cumulative(&[0.0, 0.0], 0.5), 0.691_462_5);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for family in [Family::StudentT, Family::Gaussian, Family::SquaredError] {
            let output = &[0.4f32, -0.5][..family.outputs()];
            for z in [-3.0, 0.4, 2.0] {
                assert_gradient(output, |output, g| family.loss(output, z, 0.7, g), 0.7);
            }
        }
    }

    #[test]
    fn beyond_its_bounds_the_scale_only_moves_back() {
        let mut gradient = [0.0; 2];
        // An exact hit wants a smaller scale still: blocked at the lower bound.
        Family::StudentT.loss(&[1.0, -5.0], 1.0, 1.0, Some(&mut gradient));
        assert_eq!(gradient[1], 0.0);
        // A miss wants a larger one: passes.
        Family::StudentT.loss(&[1.0, -5.0], 3.0, 1.0, Some(&mut gradient));
        assert!(gradient[1] < 0.0);
    }
}
