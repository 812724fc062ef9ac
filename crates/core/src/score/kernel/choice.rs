//! Which vector instructions the kernel takes: those that a short measurement on this processor finds fastest.
//!
//! Which are faster differs from processor to processor: the same kernel may gain by half with vectors of 16 numbers, or
//! lose. The candidates give the same bits (`vector`, `product`), so the choice shows in the time alone. It is made once a
//! process. Invariant: no score depends on what was chosen.

use super::normalise::Normalise;
use super::packed::{Aligned, PackedLinear};
use super::product::{Finish, Product};
use crate::model::ops::simd::Instructions;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The measured work: a block of the default width, on as many rows as one record has in a few views.
const WIDTH: usize = 192;
const ROWS: usize = 24;
/// What each candidate does at most, and at least whatever time it takes. The shortest of them counts: other work on the machine
/// only makes it longer.
const ROUNDS_MAX: usize = 32;
const ROUNDS_MIN: usize = 3;
/// No round begins after it.
const TIME_MAX: Duration = Duration::from_millis(4);

static FASTEST: LazyLock<Instructions> =
    LazyLock::new(|| fastest_of(&candidates()).unwrap_or_else(Instructions::widest));

/// The instructions of the scoring kernel on this processor: where there are both AVX2 and AVX-512, the faster of them by
/// a measurement of at most a few milliseconds at the first call. Scores do not depend on it.
pub fn kernel_instructions() -> Instructions {
    *FASTEST
}

/// Sets of this processor that give the same bits.
fn candidates() -> Vec<Instructions> {
    let mut sets = Instructions::available();
    sets.retain(|set| set.lanes() >= 8 && !set.is_for_tests());
    sets
}

/// The candidate whose shortest round is the shortest; `None` of none.
fn fastest_of(candidates: &[Instructions]) -> Option<Instructions> {
    if candidates.len() < 2 {
        return candidates.first().copied();
    }
    let began = Instant::now();
    let mut trials: Vec<Trial> = candidates.iter().map(|&set| Trial::new(set)).collect();
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS_MIN && began.elapsed() >= TIME_MAX {
            break;
        }
        trials.iter_mut().for_each(Trial::round);
    }
    let fastest = trials.into_iter().min_by_key(|trial| trial.shortest);
    fastest.map(|trial| trial.instructions)
}

/// A candidate with what it works on.
struct Trial {
    instructions: Instructions,
    up: PackedLinear,
    down: PackedLinear,
    rows: Vec<u32>,
    h: Aligned,
    normalised: Aligned,
    inner: Aligned,
    shortest: Duration,
}

impl Trial {
    fn new(instructions: Instructions) -> Self {
        // Small numbers of both signs: no special value slows the arithmetic down.
        let numbers = |len: usize| (0..len).map(|i| (i * 37 % 101) as f32 * 1e-3 - 0.05);
        let (weight, bias): (Vec<f32>, Vec<f32>) =
            (numbers(WIDTH * WIDTH).collect(), numbers(WIDTH).collect());
        let layer = || PackedLinear::new(instructions.lanes(), (&weight, WIDTH), &bias, 0..WIDTH);
        let (up, down) = (layer(), layer());
        let h: Vec<f32> = numbers(ROWS * up.stride).collect();
        Self {
            instructions,
            rows: (0..ROWS as u32).collect(),
            normalised: Aligned::zeros(h.len()),
            inner: Aligned::zeros(h.len()),
            h: Aligned::new(&h),
            up,
            down,
            shortest: Duration::MAX,
        }
    }

    /// h = down(gelu(up(norm(h)))): stored, not added, so that it stays small however often it is done.
    fn round(&mut self) {
        let began = Instant::now();
        self.instructions.run(Normalise {
            input: self.h.get(),
            output: self.normalised.get_mut(),
            width: WIDTH,
            stride: self.up.stride,
        });
        self.instructions.run(Product {
            layer: &self.up,
            input: self.normalised.get(),
            input_stride: self.up.stride,
            rows: &self.rows,
            output: self.inner.get_mut(),
            finish: Finish::Gelu,
        });
        self.instructions.run(Product {
            layer: &self.down,
            input: self.inner.get(),
            input_stride: self.up.stride,
            rows: &self.rows,
            output: self.h.get_mut(),
            finish: Finish::Store,
        });
        std::hint::black_box(self.h.get());
        self.shortest = self.shortest.min(began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_one_set_of_wide_vectors_for_the_whole_process() {
        let names: Vec<&str> = candidates().into_iter().map(Instructions::name).collect();
        let chosen = kernel_instructions().name();
        assert!(names.contains(&chosen) || names.is_empty(), "{chosen}");
        assert_eq!(kernel_instructions().name(), chosen);
    }

    #[test]
    fn every_candidate_computes_the_same_bits_in_its_trial() {
        let after = |set: Instructions| {
            let mut trial = Trial::new(set);
            (0..3).for_each(|_| trial.round());
            assert!(trial.shortest < Duration::MAX);
            trial.h.get().to_vec()
        };
        let results: Vec<Vec<f32>> = candidates().into_iter().map(after).collect();
        for pair in results.windows(2) {
            assert!(pair[0] == pair[1]);
        }
        assert!(results.iter().flatten().all(|x| x.is_finite()));
    }
}
