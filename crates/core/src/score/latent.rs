//! How far a record's latent lies from those of fit rows: the squared Mahalanobis distance (Mahalanobis 1936; of deep features
//! Lee et al. 2018, *A simple unified framework for detecting out-of-distribution samples and adversarial attacks*).
//!
//! ```text
//! d = || (z - mean) W ||^2,   W W' = (S + ridge I)^-1      z: the latent with nothing hidden, [D]
//! ```
//!
//! In flow the latents of fit rows; out flow mean and W, which the kernel applies as one more affine layer.

use nalgebra::DMatrix;

/// Added to every variance: a latent that fit rows hardly move in some direction does not make that direction decide alone.
const RIDGE: f64 = 1e-4;
/// Fit rows that mean and covariance are taken from at most.
pub const LATENT_ROWS: usize = 4096;

/// The mean of the latents of fit rows, and what makes their covariance the unit matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentDistance {
    /// `[D]`.
    mean: Vec<f32>,
    /// W, `[D, D]` row-major.
    whitening: Vec<f32>,
}

impl LatentDistance {
    /// Of latents `[n, width]` row-major, n >= 1; `None` if they hold a value that is not finite.
    pub fn fit(latents: &[f32], width: usize) -> Option<Self> {
        let rows = latents.len() / width;
        let data = DMatrix::from_row_iterator(rows, width, latents.iter().map(|&z| f64::from(z)));
        let mean = data.row_mean();
        let mut centred = data;
        centred.row_iter_mut().for_each(|mut row| row -= &mean);
        let mut covariance = centred.tr_mul(&centred) / rows as f64;
        (0..width).for_each(|d| covariance[(d, d)] += RIDGE);
        // S = L L', so that W = (L^-1)' has W W' = S^-1.
        let lower = covariance.cholesky()?.l();
        let inverse = lower.solve_lower_triangular(&DMatrix::identity(width, width))?;
        let whitening = (0..width * width).map(|i| inverse[(i % width, i / width)] as f32);
        let distance = Self {
            mean: mean.iter().map(|&m| m as f32).collect(),
            whitening: whitening.collect(),
        };
        distance.fault(width).is_none().then_some(distance)
    }

    /// Of stored parts.
    ///
    /// # Errors
    /// What is wrong with them for latents of `width` numbers.
    pub fn from_parts(mean: Vec<f32>, whitening: Vec<f32>, width: usize) -> Result<Self, String> {
        let distance = Self { mean, whitening };
        match distance.fault(width) {
            None => Ok(distance),
            Some(fault) => Err(fault),
        }
    }

    /// Mean and W.
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.whitening)
    }

    /// (z - mean) W as one affine layer: W, and the bias - mean W, which is worked out in f64.
    pub(super) fn bias(&self) -> Vec<f32> {
        let width = self.mean.len();
        let mut bias = vec![0f64; width];
        for (&mean, row) in self.mean.iter().zip(self.whitening.chunks_exact(width)) {
            for (sum, &w) in bias.iter_mut().zip(row) {
                *sum -= f64::from(mean) * f64::from(w);
            }
        }
        bias.into_iter().map(|b| b as f32).collect()
    }

    /// The squared distance of a latent `[D]`, by the definition: what the kernel is held against, and what scores where there
    /// is no kernel.
    pub(super) fn of(&self, latent: &[f32]) -> f32 {
        let width = self.mean.len();
        let mut whitened = vec![0f32; width];
        for ((&z, &mean), row) in latent
            .iter()
            .zip(&self.mean)
            .zip(self.whitening.chunks_exact(width))
        {
            for (sum, &w) in whitened.iter_mut().zip(row) {
                *sum += (z - mean) * w;
            }
        }
        whitened.iter().map(|x| x * x).sum()
    }

    fn fault(&self, width: usize) -> Option<String> {
        let (mean, whitening) = (self.mean.len(), self.whitening.len());
        if mean != width || whitening != width * width {
            return Some(format!(
                "a mean of {mean} numbers and a matrix of {whitening}, expected {width} and {}",
                width * width
            ));
        }
        let mut numbers = self.mean.iter().chain(&self.whitening);
        let is_finite = numbers.all(|x| x.is_finite());
        (!is_finite).then(|| "the distance of latents holds a number that is not finite".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_numpy() {
        // i = np.arange(200); z = np.c_[np.sin(i), np.cos(i * 1.7) + .5 * np.sin(i), np.sin(i * i * .01)].astype(np.float32)
        // d = z - z.mean(0); S = d.T @ d / 200 + 1e-4 * np.eye(3); x = np.array([2, -1, .5]) - z.mean(0)
        // x @ np.linalg.inv(S) @ x, d[7] @ np.linalg.inv(S) @ d[7] -> 16.02848, 2.48957
        let latents: Vec<f32> = (0..200)
            .flat_map(|i| {
                let i = f64::from(i);
                [
                    i.sin(),
                    (i * 1.7).cos() + 0.5 * i.sin(),
                    (i * i * 0.01).sin(),
                ]
            })
            .map(|z| z as f32)
            .collect();
        let distance = LatentDistance::fit(&latents, 3).unwrap();
        let near = |found: f32, expected: f32| {
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
        };
        near(distance.of(&[2.0, -1.0, 0.5]), 16.028_48);
        near(distance.of(&latents[21..24]), 2.489_57);
    }

    #[test]
    fn a_direction_in_which_nothing_moves_is_far_but_finite() {
        let latents: Vec<f32> = (0..50).flat_map(|i| [(i as f32).sin(), 1.0]).collect();
        let distance = LatentDistance::fit(&latents, 2).unwrap();
        assert!(distance.of(&[0.0, 1.0]) < 0.1);
        // A step of .1 is ten deviations of the ridge.
        assert!((distance.of(&[0.0, 1.1]) / 100.0 - 1.0).abs() < 0.05);
        assert_eq!(LatentDistance::fit(&[0.0, f32::NAN], 2), None);
        let stored = LatentDistance::from_parts(vec![0.0; 2], vec![1.0; 3], 2);
        assert!(stored.unwrap_err().contains("expected 2 and 4"));
    }
}
