//! The running average of the weights: what is looked at and kept, while the optimiser goes on from the last ones.

/// An exponential average of the weights over the steps (Polyak & Juditsky 1992; exponential as in Tarvainen & Valpola
/// 2017): it takes the noise of single batches out of what is kept.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f32,
    steps: i32,
    average: Vec<f32>,
}

impl WeightAverage {
    /// An average with `decay` in 0..1 a step; 0 averages nothing and takes no memory.
    pub fn new(decay: f32, weights: &[f32]) -> Self {
        let average = if decay > 0.0 {
            weights.to_vec()
        } else {
            Vec::new()
        };
        Self {
            decay,
            steps: 0,
            average,
        }
    }

    /// Takes in the weights after a step.
    ///
    /// The decay rises with the steps as (1 + t) / (10 + t), so that the initial weights are soon forgotten.
    pub fn observe(&mut self, weights: &[f32]) {
        self.steps = self.steps.saturating_add(1);
        let t = self.steps as f32;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        for (mean, &weight) in self.average.iter_mut().zip(weights) {
            *mean += (1.0 - decay) * (weight - *mean);
        }
    }

    /// The average, or `last`, the weights themselves, if nothing is averaged.
    pub fn weights<'a>(&'a self, last: &'a [f32]) -> &'a [f32] {
        if self.average.is_empty() {
            last
        } else {
            &self.average
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_forgets_the_first_weights_and_follows_the_last() {
        // NumPy: m = 0.; for t in range(1, 4): d = min(.9, (1 + t) / (10 + t)); m += (1 - d) * (t - m); m -> 2.601399
        let mut average = WeightAverage::new(0.9, &[0.0]);
        (1..4).for_each(|t| average.observe(&[t as f32]));
        assert!((average.weights(&[9.0])[0] - 2.601_399).abs() < 1e-5);
    }

    #[test]
    fn without_decay_the_last_weights_are_kept() {
        let mut average = WeightAverage::new(0.0, &[1.0]);
        average.observe(&[2.0]);
        assert_eq!(average.weights(&[3.0]), [3.0]);
    }
}
