//! The learning rate of a step.

/// The learning rate at `step` (from 0) of `steps`: linear from zero to `peak` over `warmup_steps`, then half a cosine
/// down to zero (Loshchilov & Hutter 2017, one cycle).
pub fn learning_rate(peak: f32, step: usize, warmup_steps: usize, steps: usize) -> f32 {
    let warmup = warmup_steps.min(steps / 2);
    if step < warmup {
        return peak * (step + 1) as f32 / warmup as f32;
    }
    let progress = (step - warmup) as f32 / (steps - warmup).max(1) as f32;
    peak * 0.5 * (1.0 + (std::f32::consts::PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_zero() {
        let rate = |step| learning_rate(1.0, step, 10, 110);
        assert!((rate(0) - 0.1).abs() < 1e-6);
        assert_eq!(rate(9), 1.0);
        assert!((rate(60) - 0.5).abs() < 1e-6);
        assert!(rate(109) < 1e-3 && rate(109) > 0.0);
    }

    #[test]
    fn a_warm_up_longer_than_training_is_cut_to_half_of_it() {
        assert_eq!(learning_rate(1.0, 1, 100, 4), 1.0);
    }
}
