//! Where backward passes leave the gradients of large parameters.
//!
//! candle makes a zero tensor of every parameter at each backward pass, adds the gradient to it into a third tensor, and
//! gives all three back: for a model of half a million parameters more bytes than its products read. A buffer takes the
//! gradient as it is, and its memory serves the next pass.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The gradient of one parameter, summed over what was added since it was last taken. Clones are the same buffer.
#[derive(Debug, Clone, Default)]
pub struct GradientBuffer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The sum, if anything was added.
    sum: Option<Vec<f32>>,
    /// Memory that is used again.
    spare: Vec<f32>,
}

impl GradientBuffer {
    /// Memory for a gradient of `len` numbers, of no particular value.
    pub fn memory(&self, len: usize) -> Vec<f32> {
        let mut memory = std::mem::take(&mut self.state().spare);
        memory.resize(len, 0.0);
        memory
    }

    /// Adds a gradient; all that are added between two calls of [`take`](Self::take) must be of one length.
    pub fn add(&self, gradient: Vec<f32>) {
        let mut state = self.state();
        if let Some(sum) = &mut state.sum {
            sum.iter_mut().zip(&gradient).for_each(|(s, g)| *s += g);
            state.spare = gradient;
        } else {
            state.sum = Some(gradient);
        }
    }

    /// Calls `f` with what was added since the last call, if anything was.
    pub fn take<T>(&self, f: impl FnOnce(Option<&[f32]>) -> T) -> T {
        let sum = self.state().sum.take();
        let result = f(sum.as_deref());
        if let Some(sum) = sum {
            self.state().spare = sum;
        }
        result
    }

    /// What a thread has left that panicked with the buffer in its hands is whole: nothing is moved in between.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffers of an affine layer.
#[derive(Debug, Clone, Default)]
pub struct LinearBuffers {
    /// Of the weight, `[I, O]`.
    pub weight: GradientBuffer,
    /// Of the bias, `[O]`.
    pub bias: GradientBuffer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_summed_until_it_is_taken() {
        let buffer = GradientBuffer::default();
        let sum = |buffer: &GradientBuffer| buffer.take(|sum| sum.map(<[f32]>::to_vec));
        assert_eq!(sum(&buffer), None);
        buffer.add(vec![1.0, 2.0]);
        buffer.clone().add(vec![0.5, -2.0]);
        assert_eq!(sum(&buffer), Some(vec![1.5, 0.0]));
        assert_eq!(sum(&buffer), None);
        assert_eq!(buffer.memory(3).len(), 3);
    }
}
