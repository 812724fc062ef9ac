//! The histogram head: a softmax over equal bins of asinh(2 z), trained against Gaussian-smoothed targets.
//!
//! The smoothed-target histogram loss of Imani & White 2018 ("Improving Regression Performance with Distributional
//! Losses"). Smoothing makes neighbouring bins share what they learn, and the squashed scale gives the tails bins of
//! their own without starving the centre. The surprise is -log of the true bin's probability.
//!
//! The loss is the cross entropy or, where the training data has frauds that nobody has labelled, one that is bounded: a
//! value that the model holds for unlikely then hardly teaches it.

use crate::encode::numeric::{CLIP, SQUASH, squash, unsquash};
use crate::model::ops::math::{
    add_scaled_softmax, add_softmax, exp, log_sum_exp, scaled_log_sum_exp,
};
use std::ops::Range;

/// Bins of the head: about 0.1 of a standard deviation each at the centre. 64 did best among 24, 64 and 100 on card data.
pub const DEFAULT_BINS: usize = 64;
/// Standard deviation of the target's smoothing, in bins.
pub const DEFAULT_SMOOTHING_BINS: f32 = 1.0;
/// Standard deviations after which the smoothed target is taken as zero; e^-18 of a bin's weight is below f32's reach.
const SMOOTHING_REACH: f32 = 6.0;

/// The bins and the smoothing of a histogram head.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bins: usize,
    limit: f32,
    /// Unnormalised weight of a bin by its distance from the true one.
    kernel: Vec<f32>,
    /// 0: the loss is the cross entropy.
    gamma: f32,
}

impl Histogram {
    /// `bins` >= 2 equal bins of asinh(2 z) over z in -10..=10, targets smoothed by `smoothing_bins` > 0 bins.
    pub fn new(bins: usize, smoothing_bins: f32) -> Self {
        let reach = ((SMOOTHING_REACH * smoothing_bins).ceil() as usize).min(bins - 1);
        let kernel = (0..=reach)
            .map(|d| (-0.5 * (d as f32 / smoothing_bins).powi(2)).exp())
            .collect();
        Self {
            bins,
            limit: (CLIP as f32 * SQUASH).asinh() + 1e-3,
            kernel,
            gamma: 0.0,
        }
    }

    /// The same with another loss: `gamma` >= 0, of which 0 is the cross entropy and 1 the spherical score.
    pub fn with_gamma(self, gamma: f32) -> Self {
        Self { gamma, ..self }
    }

    /// gamma of the loss.
    pub fn gamma(&self) -> f32 {
        self.gamma
    }

    /// Logits of the head.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The bin of z.
    pub fn bin(&self, z: f32) -> usize {
        (self.position(z).max(0.0) as usize).min(self.bins - 1)
    }

    /// Where z lies among the bins, in bins from the lower edge of the first: the inverse of [`edge`](Self::edge), and
    /// outside of 0..=bins for a z outside of -10..=10.
    pub fn position(&self, z: f32) -> f32 {
        (squash(z) + self.limit) / (2.0 * self.limit) * self.bins as f32
    }

    /// z at the lower edge of bin `edge`, 0..=bins, or at a fraction between two edges; within -10..=10.
    pub fn edge(&self, edge: f32) -> f32 {
        let squashed = edge / self.bins as f32 * 2.0 * self.limit - self.limit;
        unsquash(squashed).clamp(-CLIP as f32, CLIP as f32)
    }

    /// -log p(bin of z) in nats, >= 0.
    pub fn surprise(&self, logits: &[f32], z: f32) -> f32 {
        log_sum_exp(logits) - logits[self.bin(z)]
    }

    /// What training makes small; adds `weight` times its gradient to `gradient`.
    pub fn loss(&self, logits: &[f32], z: f32, weight: f32, gradient: Option<&mut [f32]>) -> f32 {
        match self.gamma > 0.0 {
            true => self.bounded_loss(logits, z, weight, gradient),
            false => self.cross_entropy(logits, z, weight, gradient),
        }
    }

    /// The gamma cross entropy of the smoothed target t without its logarithm (Fujisawa & Eguchi 2008, *Robust parameter
    /// estimation with a small bias against heavy contamination*; of a conditional distribution Kawashima & Fujisawa 2017,
    /// *Robust and sparse regression via gamma-divergence*), which but for its scale is the pseudospherical score of Gneiting
    /// & Raftery 2007, *Strictly proper scoring rules, prediction, and estimation*: with q = gamma / (1 + gamma) and the
    /// escort distribution r = p^(1 + gamma) / sum p^(1 + gamma),
    ///
    /// ```text
    /// sum over bins of t (1 - r^q) / q, within 0..=1/q
    /// ```
    ///
    /// Its gradient weighs a bin by (1 + gamma) r^q, so that a value that the rest of the record makes unlikely counts
    /// little. It is strictly proper: as the cross entropy, it is least at the distribution of the smoothed targets, with
    /// whatever frauds are among them. What it does to them it does to a model that cannot or has not yet come that far: it
    /// keeps to what is frequent, and the tail of normal values is fitted less closely too. The limit gamma = 0 is the cross
    /// entropy.
    fn bounded_loss(
        &self,
        logits: &[f32],
        z: f32,
        weight: f32,
        gradient: Option<&mut [f32]>,
    ) -> f32 {
        let scale = 1.0 + self.gamma;
        let exponent = self.gamma / scale;
        let log_norm = scaled_log_sum_exp(logits, scale);
        let (reach, target, mass) = self.smoothed(z);
        let credit = |j: usize| target(j) / mass * exp(exponent * (scale * logits[j] - log_norm));
        let sum: f32 = reach.clone().map(credit).sum();
        if let Some(gradient) = gradient {
            add_scaled_softmax(logits, scale, log_norm, weight * scale * sum, gradient);
            for j in reach {
                gradient[j] -= weight * scale * credit(j);
            }
        }
        (1.0 - sum) / exponent
    }

    /// The cross entropy of the smoothed target.
    fn cross_entropy(
        &self,
        logits: &[f32],
        z: f32,
        weight: f32,
        gradient: Option<&mut [f32]>,
    ) -> f32 {
        let log_norm = log_sum_exp(logits);
        let (reach, target, mass) = self.smoothed(z);
        let expected: f32 = reach.clone().map(|j| target(j) * logits[j]).sum::<f32>() / mass;
        if let Some(gradient) = gradient {
            add_softmax(logits, log_norm, weight, gradient);
            for j in reach {
                gradient[j] -= weight * target(j) / mass;
            }
        }
        log_norm - expected
    }

    /// The smoothed target of z, a distribution over the bins, into the zeros of `target`.
    pub fn smoothed_target(&self, z: f32, target: &mut [f32]) {
        let (reach, weight, mass) = self.smoothed(z);
        reach.for_each(|j| target[j] = weight(j) / mass);
    }

    /// The bins that the smoothed target of z reaches, their unnormalised weights, and the sum of these.
    fn smoothed(&self, z: f32) -> (Range<usize>, impl Fn(usize) -> f32, f32) {
        let bin = self.bin(z);
        let first = bin.saturating_sub(self.kernel.len() - 1);
        let reach = first..(bin + self.kernel.len()).min(self.bins);
        let weight = move |j: usize| self.kernel[j.abs_diff(bin)];
        let mass = reach.clone().map(&weight).sum();
        (reach, weight, mass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::likelihood::tests::assert_gradient;
    use proptest::prelude::*;

    #[test]
    fn loss_and_surprise_equal_the_prototypes() {
        // NumPy: n = 8; limit = np.arcsinh(20) + 1e-3; edges = np.sinh(np.linspace(-limit, limit, n + 1)[1:-1]) / 2
        //   o = np.array([.1, -.2, .3, 1, .5, 0, -1, .2]); lp = o - np.log(np.exp(o).sum()); b = (.7 > edges).sum()
        //   t = np.exp(-.5 * (np.arange(n) - b)**2); b, -lp[b], -(t / t.sum() * lp).sum() -> 5, 2.325329, 2.380474
        let histogram = Histogram::new(8, 1.0);
        let logits = [0.1, -0.2, 0.3, 1.0, 0.5, 0.0, -1.0, 0.2];
        assert_eq!(histogram.bin(0.7), 5);
        assert!((histogram.surprise(&logits, 0.7) - 2.325_329).abs() < 1e-5);
        assert!((histogram.loss(&logits, 0.7, 1.0, None) - 2.380_474).abs() < 1e-5);
    }

    #[test]
    fn the_bounded_loss_is_the_pseudospherical_score_of_its_definition() {
        // NumPy, with p = np.exp(o) / np.exp(o).sum() and o, b, t as above, t of sum 1; g = 1 and .5, q = g / (1 + g):
        //   (1 - (t * p**g).sum() / ((p**(1 + g)).sum())**q) / q -> 1.4522342, 1.6929099
        let logits = [0.1, -0.2, 0.3, 1.0, 0.5, 0.0, -1.0, 0.2];
        for (gamma, expected) in [(1.0, 1.452_234_2), (0.5, 1.692_909_9)] {
            let histogram = Histogram::new(8, 1.0).with_gamma(gamma);
            let loss = histogram.loss(&logits, 0.7, 1.0, None);
            assert!((loss - expected).abs() < 1e-5, "{gamma}: {loss}");
            let surprise = histogram.surprise(&logits, 0.7);
            assert!((surprise - 2.325_329).abs() < 1e-5, "{gamma}: {surprise}");
        }
    }

    #[test]
    fn for_small_gamma_it_departs_from_the_cross_entropy_as_its_expansion_says() {
        // NumPy, with o, t and p as in the first test:
        //   f = lambda g: (1 - (t * p**g).sum() / (p**(1 + g)).sum()**(g / (1 + g))) / (g / (1 + g))
        //   h = -(t * np.log(p)).sum(); h, f(.01), (f(.01) - h) / .01 -> 2.380474, 2.355028, -2.544619
        let histogram = Histogram::new(8, 1.0);
        let logits = [0.1, -0.2, 0.3, 1.0, 0.5, 0.0, -1.0, 0.2];
        let of = |gamma| {
            histogram
                .clone()
                .with_gamma(gamma)
                .loss(&logits, 0.7, 1.0, None)
        };
        assert!((of(0.01) - 2.355_028).abs() < 1e-4, "{}", of(0.01));
        assert!(((of(0.01) - of(0.0)) / 0.01 - -2.544_619).abs() < 0.02);
    }

    #[test]
    fn a_value_held_for_unlikely_teaches_little_where_the_loss_is_bounded() {
        // A bin that has e^-9 of the weight of the others together.
        let mut logits = [0.0; 12];
        logits[11] = -9.0 + 11f32.ln();
        let pull = |gamma: f32, z: f32| {
            let mut gradient = [0.0; 12];
            let histogram = Histogram::new(12, 0.1).with_gamma(gamma);
            histogram.loss(&logits, z, 1.0, Some(&mut gradient));
            gradient.iter().map(|g| g * g).sum::<f32>().sqrt()
        };
        assert!(pull(0.0, 10.0) > pull(0.0, 0.0));
        assert!(pull(1.0, 10.0) < 0.02 * pull(1.0, 0.0));
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let logits: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
        for gamma in [0.0, 0.3, 1.0] {
            let histogram = Histogram::new(12, 1.5).with_gamma(gamma);
            for z in [-10.0, -0.3, 0.0, 2.0, 10.0] {
                assert_gradient(&logits, |logits, g| histogram.loss(logits, z, 0.7, g), 0.7);
            }
        }
    }

    proptest! {
        #[test]
        fn the_loss_of_any_gamma_is_least_at_the_distribution_itself(
            logits in prop::collection::vec(-3.0..3.0f32, 12), moved in prop::collection::vec(-1.0..1.0f32, 12),
            gamma in prop_oneof![Just(0.0), 0.01..3.0f32],
        ) {
            // Smoothing so narrow that the target is the bin alone; a number in each bin, by its probability.
            let histogram = Histogram::new(12, 0.05).with_gamma(gamma);
            let mut probabilities = vec![0f32; 12];
            crate::model::ops::math::softmax(&logits, &mut probabilities);
            let expected = |logits: &[f32]| {
                let losses = probabilities.iter().enumerate().map(|(bin, &p)| {
                    f64::from(p) * f64::from(histogram.loss(logits, histogram.edge(bin as f32 + 0.5), 1.0, None))
                });
                losses.sum::<f64>()
            };
            let other: Vec<f32> = logits.iter().zip(&moved).map(|(logit, by)| logit + by).collect();
            // Strictly: by more than rounding wherever it is another distribution. For a large gamma by little.
            let mut others = vec![0f32; 12];
            crate::model::ops::math::softmax(&other, &mut others);
            let apart = probabilities.iter().zip(&others).map(|(p, q)| (p - q).powi(2)).sum::<f32>();
            let gain = expected(&other) - expected(&logits);
            prop_assert!(gain > -1e-5 && (apart < 0.01 || gain > 2e-5), "{} {}", apart, gain);
            let mut gradient = vec![0f32; 12];
            for (bin, &p) in probabilities.iter().enumerate() {
                histogram.loss(&logits, histogram.edge(bin as f32 + 0.5), p, Some(&mut gradient));
            }
            prop_assert!(gradient.iter().all(|g| g.abs() < 1e-5), "{:?}", gradient);
        }

        #[test]
        fn every_number_has_a_bin_whose_edges_enclose_it(z in -10.0..10.0f32, bins in 2usize..200) {
            let histogram = Histogram::new(bins, 1.0);
            let bin = histogram.bin(z);
            prop_assert!(bin < bins);
            prop_assert!(histogram.edge(bin as f32) <= z + 1e-3);
            prop_assert!(histogram.edge(bin as f32 + 1.0) >= z - 1e-3);
        }
    }
}
