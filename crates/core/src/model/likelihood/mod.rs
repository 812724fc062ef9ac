//! What a hidden value costs under a head's outputs, and the gradient of that cost: pure functions over slices. The
//! families of location and scale also take tensors, for other devices than the processor.
//!
//! Training and scoring share them, but where a surprise is another number than the loss, which its docstring says. A
//! surprise is in nats unless said otherwise.

pub mod discrete;
pub mod histogram;
pub mod location_scale;

use serde::{Deserialize, Serialize};

/// How a hidden number is read. A model may have several; each has outputs of its own, and their surprises are compared
/// only after calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// -log probability of the bin of asinh(2 z).
    Histogram,
    /// -log density of Student's t, 4 degrees of freedom.
    StudentT,
    /// -log density of a normal.
    Gaussian,
    /// Squared residual from a predicted mean, in squared standard deviations.
    SquaredError,
    /// Squared residual from the location of Student's t, in squared standard deviations.
    RobustSquaredError,
    /// As [`Histogram`](Self::Histogram), of the normal quantile.
    QuantileHistogram,
    /// As [`RobustSquaredError`](Self::RobustSquaredError), of the normal quantile.
    QuantileRobustSquaredError,
}

/// A scale of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Standard deviations from the mean: distances count.
    Deviation,
    /// The normal quantile of the rank among training values: the order counts.
    Quantile,
}

impl Likelihood {
    /// The scale that it reads.
    pub fn scale(self) -> Scale {
        match self {
            Self::QuantileHistogram | Self::QuantileRobustSquaredError => Scale::Quantile,
            Self::Histogram
            | Self::StudentT
            | Self::Gaussian
            | Self::SquaredError
            | Self::RobustSquaredError => Scale::Deviation,
        }
    }

    /// Whether it reads bins.
    pub fn has_bins(self) -> bool {
        matches!(self, Self::Histogram | Self::QuantileHistogram)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    /// Compares `weight` times the derivative of a loss with what the loss adds to its gradient.
    pub(crate) fn assert_gradient(
        outputs: &[f32],
        loss: impl Fn(&[f32], Option<&mut [f32]>) -> f32,
        weight: f32,
    ) {
        let mut gradient = vec![0f32; outputs.len()];
        loss(outputs, Some(&mut gradient));
        for i in 0..outputs.len() {
            let at = |step: f32| {
                let mut moved = outputs.to_vec();
                moved[i] += step;
                f64::from(loss(&moved, None))
            };
            let numeric = f64::from(weight) * (at(5e-3) - at(-5e-3)) / 1e-2;
            let error = (numeric - f64::from(gradient[i])).abs();
            assert!(
                error < 2e-3 * numeric.abs().max(0.2),
                "{i}: {numeric} {}",
                gradient[i]
            );
        }
    }
}
