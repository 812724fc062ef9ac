//! Optimisers over one flat buffer of parameters, in one fused loop.
//!
//! candle's own AdamW hides its moments, cannot clip gradients, and walks tensor by tensor.

use crate::bundle::OptimizerKind;
use crate::model::ops::flat_buffers::{PART, square_sum};
use crate::model::ops::simd::{Loop, vectorised};
use rayon::prelude::*;

/// Decay of the first moment, and SGD's momentum.
const BETA1: f32 = 0.9;
/// Decay of the second moment.
const BETA2: f32 = 0.999;
/// Added to the root of the second moment.
const EPSILON: f32 = 1e-8;

/// An optimiser and its state: exact to resume from.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f32,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Optimizer {
    /// An optimiser of `count` parameters.
    pub fn new(kind: OptimizerKind, weight_decay: f32, count: usize) -> Self {
        let second = if kind == OptimizerKind::Sgd { 0 } else { count };
        Self {
            kind,
            weight_decay,
            first: vec![0.0; count],
            second: vec![0.0; second],
            steps: 0,
        }
    }

    /// Moves `parameters` against `factor` times `gradient` by one step of rate `learning_rate`; the lengths must agree.
    pub fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &[f32],
        factor: f32,
        learning_rate: f32,
    ) {
        self.steps = self.steps.saturating_add(1);
        let decoupled = self.kind == OptimizerKind::Adamw;
        let shrink = if decoupled {
            1.0 - learning_rate * self.weight_decay
        } else {
            1.0
        };
        let coupled = if decoupled { 0.0 } else { self.weight_decay };
        if self.kind == OptimizerKind::Sgd {
            let moved = parameters.iter_mut().zip(gradient).zip(&mut self.first);
            for ((p, &g), velocity) in moved {
                *velocity = BETA1 * *velocity + factor * g + coupled * *p;
                *p -= learning_rate * *velocity;
            }
            return;
        }
        let correct1 = 1.0 / (1.0 - BETA1.powi(self.steps));
        let correct2 = 1.0 / (1.0 - BETA2.powi(self.steps));
        let moments = self
            .first
            .par_chunks_mut(PART)
            .zip(self.second.par_chunks_mut(PART));
        let parameters = parameters
            .par_chunks_mut(PART)
            .zip(gradient.par_chunks(PART));
        parameters
            .zip(moments)
            .for_each(|((parameters, gradient), (first, second))| {
                vectorised(AdamStep {
                    parameters,
                    gradient,
                    first,
                    second,
                    factor,
                    coupled,
                    shrink,
                    learning_rate,
                    correct1,
                    correct2,
                });
            });
    }
}

struct AdamStep<'a> {
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    factor: f32,
    coupled: f32,
    shrink: f32,
    learning_rate: f32,
    correct1: f32,
    correct2: f32,
}

impl Loop for AdamStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let moments = self.first.iter_mut().zip(self.second);
        let parameters = self.parameters.iter_mut().zip(self.gradient);
        for ((p, &g), (m, v)) in parameters.zip(moments) {
            let g = self.factor * g + self.coupled * *p;
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            let scale = (*v * self.correct2).sqrt() + EPSILON;
            *p = *p * self.shrink - self.learning_rate * (*m * self.correct1) / scale;
        }
    }
}

/// What `gradient` is multiplied by so that it is no longer than `norm_max`: 1 if it is not, else `norm_max` / its norm.
///
/// Pascanu et al. 2013.
pub fn clip_factor(gradient: &[f32], norm_max: f32) -> f32 {
    let norm = square_sum(gradient).sqrt() as f32;
    if norm > norm_max {
        norm_max / norm
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps from p = (1, -2) with gradient g(p) = p, rate 0.1, weight decay 0.01.
    fn three_steps(kind: OptimizerKind) -> [f32; 2] {
        let mut parameters = [1.0, -2.0];
        let mut optimizer = Optimizer::new(kind, 0.01, 2);
        for _ in 0..3 {
            let gradient = parameters;
            optimizer.step(&mut parameters, &gradient, 1.0, 0.1);
        }
        parameters
    }

    #[test]
    fn three_steps_equal_numpys() {
        // NumPy, for each optimiser's definition: p = np.array([1., -2.]); m = v = 0
        //   for t in (1, 2, 3): g = p (+ .01 * p unless adamw); m = .9 * m + .1 * g; v = .999 * v + .001 * g**2
        //     p = p * (1 - .1 * .01 if adamw else 1) - .1 * (m / (1 - .9**t)) / (np.sqrt(v / (1 - .999**t)) + 1e-8)
        //   sgd: v = .9 * v + g + .01 * p; p = p - .1 * v
        let expect = |kind, [a, b]: [f32; 2]| {
            let [x, y] = three_steps(kind);
            assert!(
                (x - a).abs() < 2e-6 && (y - b).abs() < 2e-6,
                "{kind:?}: {x} {y}"
            );
        };
        expect(OptimizerKind::Adamw, [0.6989112, -1.6949445]);
        expect(OptimizerKind::Adam, [0.7015863, -1.7006234]);
        expect(OptimizerKind::Sgd, [0.4813245, -0.9626490]);
    }

    #[test]
    fn a_long_gradient_is_clipped_and_a_short_one_kept() {
        assert_eq!(clip_factor(&[3.0, 4.0], 1.0), 0.2);
        assert_eq!(clip_factor(&[0.3, 0.4], 1.0), 1.0);
    }

    #[test]
    fn a_gradient_with_a_factor_moves_like_one_multiplied_before() {
        for kind in [
            OptimizerKind::Adamw,
            OptimizerKind::Adam,
            OptimizerKind::Sgd,
        ] {
            let step = |gradient: [f32; 2], factor| {
                let mut parameters = [1.0, -2.0];
                Optimizer::new(kind, 0.01, 2).step(&mut parameters, &gradient, factor, 0.1);
                parameters
            };
            assert_eq!(step([3.0, 4.0], 0.25), step([0.75, 1.0], 1.0), "{kind:?}");
            assert_ne!(step([3.0, 4.0], 0.25), [1.0, -2.0], "{kind:?}");
        }
    }
}
