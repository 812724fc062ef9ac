//! Heads of categories (softmax) and of yes/no (Bernoulli).

use crate::model::ops::math::{add_softmax, log_sum_exp, sigmoid, softplus};

/// -log of the probability that softmax(logits) gives to `class`; adds `weight` times its gradient to `gradient`.
pub fn categorical(logits: &[f32], class: usize, weight: f32, gradient: Option<&mut [f32]>) -> f32 {
    let log_norm = log_sum_exp(logits);
    if let Some(gradient) = gradient {
        add_softmax(logits, log_norm, weight, gradient);
        gradient[class] -= weight;
    }
    log_norm - logits[class]
}

/// The largest -log probability that softmax(logits) gives to any class.
pub fn categorical_max(logits: &[f32]) -> f32 {
    log_sum_exp(logits) - logits.iter().copied().fold(f32::INFINITY, f32::min)
}

/// -log of the probability of `outcome` when P(true) = sigmoid(logit); adds `weight` times the gradient to `gradient`.
///
/// The stable form: softplus of the logit of being wrong.
pub fn bernoulli(logit: f32, outcome: bool, weight: f32, gradient: Option<&mut f32>) -> f32 {
    if let Some(gradient) = gradient {
        *gradient += weight * (sigmoid(logit) - f32::from(outcome));
    }
    softplus(if outcome { -logit } else { logit })
}

/// The larger of the -log probabilities of the two outcomes.
pub fn bernoulli_max(logit: f32) -> f32 {
    softplus(logit.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::likelihood::tests::assert_gradient;

    #[test]
    fn losses_equal_scipys() {
        // SciPy: o = np.array([.5, -1, 2.]); special.logsumexp(o) - o -> 1.7413, 3.2413, 0.2413
        //   np.logaddexp(0, -.3) -> 0.554355; np.logaddexp(0, .3) -> 0.854355
        let logits = [0.5, -1.0, 2.0];
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
        near(categorical(&logits, 0, 1.0, None), 1.741_311_3);
        near(categorical_max(&logits), 3.241_311_3);
        near(bernoulli(0.3, true, 1.0, None), 0.554_355);
        near(bernoulli(0.3, false, 1.0, None), 0.854_355);
        near(bernoulli_max(-0.3), 0.854_355);
        near(bernoulli(-500.0, true, 1.0, None), 500.0);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        assert_gradient(&[0.5, -1.0, 2.0], |o, g| categorical(o, 1, 0.7, g), 0.7);
        for outcome in [true, false] {
            assert_gradient(
                &[0.3],
                |o, g| bernoulli(o[0], outcome, 0.7, g.map(|g| &mut g[0])),
                0.7,
            );
        }
    }
}
