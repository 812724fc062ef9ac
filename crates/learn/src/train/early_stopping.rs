//! When to stop, and which weights to keep.

/// Keeps the weights of the lowest held-out loss, and says when it has not fallen for too long.
#[derive(Debug)]
pub struct EarlyStopping {
    patience: usize,
    waited: usize,
    best: Option<Best>,
}

/// The best weights so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The step after which they were seen, from 1.
    pub step: usize,
    /// Their held-out loss.
    pub loss: f64,
    /// All parameters in name order.
    pub parameters: Vec<f32>,
}

impl EarlyStopping {
    /// Stops after `patience` >= 1 evaluations without a better loss.
    pub fn new(patience: usize) -> Self {
        Self {
            patience,
            waited: 0,
            best: None,
        }
    }

    /// Takes the held-out loss after `step`; true if training should end. A loss that is no number is never better.
    pub fn observe(
        &mut self,
        step: usize,
        loss: f64,
        parameters: impl FnOnce() -> Vec<f32>,
    ) -> bool {
        if loss < self.best.as_ref().map_or(f64::INFINITY, |best| best.loss) {
            self.best = Some(Best {
                step,
                loss,
                parameters: parameters(),
            });
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        self.waited >= self.patience
    }

    /// The best weights; `None` if no loss was ever a finite number.
    pub fn into_best(self) -> Option<Best> {
        self.best
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_best_weights_are_kept_and_patience_ends_training() {
        let mut stopping = EarlyStopping::new(2);
        let mut observe = |step, loss| stopping.observe(step, loss, || vec![step as f32]);
        assert!(!observe(1, 3.0));
        assert!(!observe(2, 2.0));
        assert!(!observe(3, f64::NAN));
        assert!(observe(4, 2.0));
        let best = stopping.into_best().unwrap();
        assert_eq!(
            best,
            Best {
                step: 2,
                loss: 2.0,
                parameters: vec![2.0]
            }
        );
    }
}
