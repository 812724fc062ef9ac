//! The bottleneck of an autoencoder: fewer numbers than fields, through which a record must pass.
//!
//! Letters: B records, D width of the model, L width of the bottleneck. With nothing hidden a network could copy its
//! input; through L numbers it can only carry on what fields have in common. A variational one carries a normal
//! distribution instead of a point: training draws from it, scoring takes its mean.

use super::ops::normalize;
use super::parameters::{LinearParameters, Parameters};
use super::trunk::affine;
use candle_core::{Result, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Width of a bottleneck at most, unless it is configured: that of PyOD's autoencoder.
pub const DEFAULT_BOTTLENECK_WIDTH_MAX: usize = 32;

/// L for `fields` fields where it is not configured: half as many, rounded up, at most
/// [`DEFAULT_BOTTLENECK_WIDTH_MAX`].
///
/// What is usual does not follow the data: PyOD's variational autoencoder and that of the DTE benchmark have 2, the Fraud
/// Detection Handbook's autoencoder 20 for 15 inputs, PyOD's 32. Half the fields cannot be a copy and lies among them.
pub fn default_width(fields: usize) -> usize {
    fields.div_ceil(2).clamp(1, DEFAULT_BOTTLENECK_WIDTH_MAX)
}

/// The layers into and out of the bottleneck.
#[derive(Debug, Clone)]
pub(super) struct Bottleneck {
    /// `[D, L]`, or `[D, 2 L]` if variational: mean and log variance.
    narrow: LinearParameters,
    /// `[L, D]`.
    widen: LinearParameters,
    /// L.
    width: usize,
    variational: bool,
}

/// What the bottleneck knows of B records.
pub(super) struct Narrowed {
    /// `[B, L]`.
    mean: Tensor,
    /// `[B, L]`, of a variational one.
    log_variance: Option<Tensor>,
}

impl Bottleneck {
    pub(super) fn declare(
        (d, width): (usize, usize),
        variational: bool,
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let numbers = if variational { 2 * width } else { width };
        Ok(Self {
            narrow: parameters.linear("bottleneck.narrow", (d, numbers), 1.0, rng)?,
            widen: parameters.linear("bottleneck.widen", (width, d), 1.0, rng)?,
            width,
            variational,
        })
    }

    /// L.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// From `[B, D]`.
    pub(super) fn narrow(&self, summary: &Tensor) -> Result<Narrowed> {
        let numbers = affine(&normalize(summary)?, &self.narrow)?;
        if !self.variational {
            return Ok(Narrowed {
                mean: numbers,
                log_variance: None,
            });
        }
        Ok(Narrowed {
            mean: numbers.narrow(1, 0, self.width)?.contiguous()?,
            log_variance: Some(numbers.narrow(1, self.width, self.width)?.contiguous()?),
        })
    }

    /// To `[B, D]`.
    pub(super) fn widen(&self, latent: &Tensor) -> Result<Tensor> {
        affine(latent, &self.widen)
    }
}

impl Narrowed {
    /// The point itself, or the mean of the distribution: `[B, L]`.
    pub(super) fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// A draw: mean + deviation * standard normal noise (Kingma & Welling 2014, section 2.4); the point itself where
    /// there is no distribution.
    pub(super) fn draw(&self, rng: &mut dyn Rng) -> Result<Tensor> {
        let Some(log_variance) = &self.log_variance else {
            return Ok(self.mean.clone());
        };
        let noise: Vec<f32> = (0..self.mean.elem_count())
            .map(|_| StandardNormal.sample(rng))
            .collect();
        let noise = Tensor::from_vec(noise, self.mean.shape(), self.mean.device())?;
        &self.mean + (log_variance.affine(0.5, 0.0)?.exp()? * noise)?
    }

    /// The divergence of the distributions from the standard normal, summed over records and numbers, nats: a scalar
    /// tensor, half the sum of mean^2 + variance - log variance - 1 (Kingma & Welling 2014, appendix B).
    pub(super) fn divergence(&self) -> Result<Option<Tensor>> {
        let Some(log_variance) = &self.log_variance else {
            return Ok(None);
        };
        let spread = (log_variance.exp()? - log_variance)?.affine(1.0, -1.0)?;
        let sum = (self.mean.sqr()? + spread)?.sum_all()?;
        Ok(Some(sum.affine(0.5, 0.0)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use candle_core::{Device, Var};

    fn narrowed(mean: &Var, log_variance: &Var) -> Narrowed {
        Narrowed {
            mean: mean.as_tensor().clone(),
            log_variance: Some(log_variance.as_tensor().clone()),
        }
    }

    fn var(values: [[f32; 2]; 2]) -> Var {
        Var::new(&values, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_divergence_equals_numpys() {
        // NumPy: m = np.array([[.5, -1], [2, 0]]); v = np.array([[0, .7], [-1.2, 0]])
        //   .5 * (m**2 + np.exp(v) - v - 1).sum() -> 3.0324735
        let (mean, log_variance) = (
            var([[0.5, -1.0], [2.0, 0.0]]),
            var([[0.0, 0.7], [-1.2, 0.0]]),
        );
        let divergence = narrowed(&mean, &log_variance).divergence().unwrap();
        let divergence = divergence.unwrap().to_scalar::<f32>().unwrap();
        assert!((divergence - 3.032_473_5).abs() < 1e-5, "{divergence}");
    }

    #[test]
    fn draws_have_the_mean_and_the_deviation_they_are_drawn_with() {
        let rows = 20_000;
        let column = |value: f32| Tensor::full(value, (rows, 1), &Device::Cpu).unwrap();
        let narrowed = Narrowed {
            mean: column(1.5),
            log_variance: Some(column(2.0 * 0.5f32.ln())),
        };
        let mut rng = stream(1, Purpose::BottleneckNoise);
        let draws = narrowed.draw(&mut rng).unwrap().flatten_all().unwrap();
        let draws = draws.to_vec1::<f32>().unwrap();
        let mean = draws.iter().sum::<f32>() / rows as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / rows as f32;
        // Five standard errors: 0.5 / sqrt(20,000) = 0.0035 of the mean, 0.25 of them of the deviation.
        assert!((mean - 1.5).abs() < 0.018, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.0125, "{variance}");
    }

    #[test]
    fn draw_and_divergence_have_the_gradient_of_finite_differences() {
        let parts = [
            var([[0.5, -1.0], [2.0, 0.3]]),
            var([[0.1, 0.7], [-1.2, -0.4]]),
        ];
        let weights = Tensor::new(&[[0.3f32, -2.0], [1.0, 0.7]], &Device::Cpu).unwrap();
        let objective = || {
            let narrowed = narrowed(&parts[0], &parts[1]);
            let drawn = narrowed
                .draw(&mut stream(2, Purpose::BottleneckNoise))
                .unwrap();
            let weighted = (drawn.sqr().unwrap() * &weights)
                .unwrap()
                .sum_all()
                .unwrap();
            (weighted + narrowed.divergence().unwrap().unwrap()).unwrap()
        };
        let gradients = objective().backward().unwrap();
        for part in &parts {
            let gradient = gradients.get(part).unwrap().to_vec2::<f32>().unwrap();
            let values = part.to_vec2::<f32>().unwrap();
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let at = |step: f32| {
                    let mut moved = values.clone();
                    moved[row][column] += step;
                    part.set(&Tensor::new(moved, &Device::Cpu).unwrap())
                        .unwrap();
                    f64::from(objective().to_scalar::<f32>().unwrap())
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                let error = (numeric - f64::from(gradient[row][column])).abs();
                assert!(
                    error < 5e-3 * numeric.abs().max(1.0),
                    "{numeric} {gradient:?}"
                );
            }
            part.set(&Tensor::new(values, &Device::Cpu).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn a_bottleneck_is_half_the_fields_and_never_wide() {
        assert_eq!(
            [1, 2, 3, 6, 29, 64, 500].map(default_width),
            [1, 1, 2, 3, 15, 32, 32]
        );
    }
}
