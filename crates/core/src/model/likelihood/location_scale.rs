//! Heads that predict a location and, unless it is a mean (`SquaredError`), a log scale of the encoded number z.
//!
//! Outputs are `[location, log_scale]`. The log scale is bounded to -3..=4 so that one field can neither make its
//! density infinite nor give up: beyond a bound only the gradient that leads back in passes.

#[cfg(any(test, feature = "testing"))]
use candle_core::{DType, Result, Tensor};

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
    /// The squared residual from the location of [`StudentT`](Self::StudentT), which is what training fits: an M-estimate,
    /// that a few far values in the fit rows move little (Lange, Little & Taylor 1989, *Robust statistical modeling using
    /// the t distribution*). The mean that the squared error fits is moved by each in proportion to its distance.
    RobustSquaredError,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [
        Self::StudentT,
        Self::Gaussian,
        Self::SquaredError,
        Self::RobustSquaredError,
    ];

    /// Outputs of the head.
    pub fn outputs(self) -> usize {
        if self == Self::SquaredError { 1 } else { 2 }
    }

    /// Whether a surprise is a squared distance, not a -log density.
    pub fn has_squared_surprise(self) -> bool {
        match self {
            Self::SquaredError | Self::RobustSquaredError => true,
            Self::StudentT | Self::Gaussian => false,
        }
    }

    /// How surprising z is under `output`: its loss, but the squared residual where the location is robust.
    pub fn surprise(self, output: &[f32], z: f32) -> f32 {
        match self {
            Self::RobustSquaredError => Self::SquaredError.loss(&output[..1], z, 1.0, None),
            Self::StudentT | Self::Gaussian | Self::SquaredError => self.loss(output, z, 1.0, None),
        }
    }

    /// The loss of z under `output`, what training makes small; adds `weight` times the gradient to `gradient`.
    pub fn loss(self, output: &[f32], z: f32, weight: f32, gradient: Option<&mut [f32]>) -> f32 {
        let residual = output[0] - z;
        let log_scale = self.log_scale(output);
        let precision = match self {
            Self::SquaredError => 1.0,
            _ => (-log_scale).exp(),
        };
        let standardised = residual * precision;
        let (loss, by_location, by_scale) = match self {
            Self::StudentT | Self::RobustSquaredError => {
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

    /// What [`loss`](Self::loss) is, with the same gradient, composed of candle's own ops: of the numbers `z` under the
    /// outputs of their heads, one tensor an output, all of one shape.
    ///
    /// # Errors
    /// If a shape does not fit.
    #[cfg(any(test, feature = "testing"))]
    pub fn composed_loss(self, output: &[Tensor], z: &Tensor) -> Result<Tensor> {
        let residual = (&output[0] - z)?;
        if self == Self::SquaredError {
            return residual.sqr();
        }
        let log_scale = bounded_log_scale(&output[1], &residual)?;
        let square = (residual * log_scale.neg()?.exp()?)?.sqr()?;
        let (square, constant) = match self {
            Self::StudentT | Self::RobustSquaredError => {
                let log = square.affine(1.0 / f64::from(DEGREES), 1.0)?.log()?;
                let exponent = 0.5 * f64::from(DEGREES + 1.0);
                (log.affine(exponent, 0.0)?, STUDENT_T_CONSTANT)
            }
            _ => (square.affine(0.5, 0.0)?, GAUSSIAN_CONSTANT),
        };
        (square + log_scale)?.affine(1.0, f64::from(constant))
    }

    /// P(Z <= z) under `output`; a step at the location for the squared error.
    pub fn cumulative(self, output: &[f32], z: f32) -> f32 {
        let standardised = (z - output[0]) * (-self.log_scale(output)).exp();
        match self {
            Self::StudentT | Self::RobustSquaredError => {
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

/// The log scale within its bounds; beyond one, only the gradient that leads back in passes.
///
/// Of every family with a scale the loss grows with the scale where the standardised residual is below 1.
#[cfg(any(test, feature = "testing"))]
fn bounded_log_scale(raw: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let value = raw.detach();
    let bounded = value.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)?;
    let standardised = (residual.detach().abs()? * bounded.neg()?.exp()?)?;
    let both = |a: Tensor, b: Tensor| a.to_dtype(DType::F32)? * b.to_dtype(DType::F32)?;
    let below = both(value.le(LOG_SCALE_MIN)?, standardised.lt(1f32)?)?;
    let above = both(value.ge(LOG_SCALE_MAX)?, standardised.gt(1f32)?)?;
    let passes = (below + above)?.affine(-1.0, 1.0)?;
    // The difference is zero, and has a gradient.
    bounded + ((raw - value)? * passes)?
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::likelihood::tests::assert_gradient;
    use candle_core::Var;

    /// Where gradient descent puts the location of `values`.
    fn fitted_location(family: Family, values: &[f32]) -> f32 {
        let mut output = [0.0, 0.0];
        for _ in 0..4000 {
            let mut gradient = [0.0; 2];
            for &z in values {
                family.loss(&output, z, 1.0 / values.len() as f32, Some(&mut gradient));
            }
            output
                .iter_mut()
                .zip(gradient)
                .for_each(|(output, g)| *output -= 0.05 * g);
        }
        output[0]
    }

    #[test]
    fn far_values_among_the_fit_rows_move_a_mean_and_hardly_a_robust_location() {
        // NumPy and SciPy: v = np.r_[(np.arange(98) - 48.5) / 48.5, 8, 8]
        //   v.mean() -> 0.16; stats.t.fit(v, fdf=4) -> location 0.005723, scale 0.564915
        let mut values: Vec<f32> = (0..98).map(|i| (i as f32 - 48.5) / 48.5).collect();
        values.extend([8.0, 8.0]);
        let mean = fitted_location(Family::SquaredError, &values);
        let robust = fitted_location(Family::RobustSquaredError, &values);
        assert!((mean - 0.16).abs() < 1e-3, "{mean}");
        assert!((robust - 0.005_723).abs() < 1e-3, "{robust}");
        // So the next value at 8 is more surprising.
        let surprise = |family: Family, location: f32| family.surprise(&[location, 0.0], 8.0);
        assert!(
            surprise(Family::RobustSquaredError, robust) > surprise(Family::SquaredError, mean)
        );
    }

    #[test]
    fn a_robust_location_is_trained_by_students_t_and_read_by_its_squared_residual() {
        let output = [0.4, -0.5];
        let (robust, t) = (Family::RobustSquaredError, Family::StudentT);
        let loss = |family: Family| family.loss(&output, 1.3, 1.0, None);
        assert_eq!(loss(robust), loss(t));
        assert_eq!(robust.surprise(&output, 1.3), (1.3f32 - 0.4).powi(2));
        assert_eq!(t.surprise(&output, 1.3), loss(t));
    }

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
        for family in Family::ALL {
            let output = &[0.4f32, -0.5][..family.outputs()];
            for z in [-3.0, 0.4, 2.0] {
                assert_gradient(output, |output, g| family.loss(output, z, 0.7, g), 0.7);
            }
        }
    }

    #[test]
    fn the_composed_loss_has_the_values_and_gradients_of_the_other() {
        let device = &candle_core::Device::Cpu;
        for family in Family::ALL {
            // Within the bounds, beyond each of them and on them, each near and far from z.
            for (location, scale) in [(0.4f32, -0.5f32), (1.0, -5.0), (1.02, -3.0), (90.0, 4.0)] {
                for z in [-3f32, 1.0, 500.0] {
                    let outputs = [location, scale].map(|x| Var::new(x, device).unwrap());
                    let tensors = outputs.each_ref().map(|x| x.as_tensor().clone());
                    let z_tensor = Tensor::new(z, device).unwrap();
                    let composed = family.composed_loss(&tensors, &z_tensor).unwrap();
                    let gradients = composed.backward().unwrap();
                    let mut expected = [0.0; 2];
                    let loss = family.loss(&[location, scale], z, 1.0, Some(&mut expected));
                    let near = |a: f32, b: f32| {
                        let error = (a - b).abs();
                        assert!(error < 1e-5 * b.abs().max(1.0), "{family:?}, {z}: {a} {b}");
                    };
                    near(composed.to_scalar().unwrap(), loss);
                    for (output, expected) in outputs.iter().zip(expected) {
                        let gradient = gradients.get(output);
                        near(gradient.map_or(0.0, |g| g.to_scalar().unwrap()), expected);
                    }
                }
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
