//! Bets against "these numbers are independent and uniform on (0, 1)".
//!
//! A bet is a function of p whose mean over (0, 1) is 1 and that is never negative. The gambler moves among a few of them: with
//! every number the share J of the capital is divided anew among all (Vovk, Nouretdinov & Gammerman 2021, *Retrain or not
//! retrain: conformal test martingales for change-point detection*, the simple jumper with more bets; Herbster & Warmuth
//! 1998). Several J at once are a mixture, as no one knows how often the best bet changes. All bets begin at many moments
//! (`horizon`).

use super::horizon::{Reserve, cut};

/// Shares of the capital that jump with every number.
const JUMPS: [f64; 3] = [1e-4, 1e-3, 1e-2];
/// How many bets there are.
const BETS: usize = 9;
/// How far bets on the mean tilt, a small and a large change.
const TILTS: [f64; 2] = [0.25, 1.0];
/// How many times the outer half of the numbers, below 1/4 and from 3/4 on, is bet on.
const OUTER: [f64; 2] = [1.15, 1.5];
/// The part of the numbers that are the most abnormal scores, and how many times it is bet on.
const TAIL: f64 = 0.01;
const TAIL_TIMES: [f64; 2] = [2.0, 10.0];

/// By what a number multiplies each bet: none, p is high, p is low, p is far from 1/2, p is in the tail; each has the mean 1.
fn factors(p: f64) -> [f64; BETS] {
    let [slight, steep] = TILTS.map(|tilt| tilt * (p - 0.5));
    let is_outer = !(0.25..0.75).contains(&p);
    let [outer, far_outer] = OUTER.map(|times| if is_outer { times } else { 2.0 - times });
    let [tail, far_tail] = TAIL_TIMES.map(|times| match p < TAIL {
        true => times,
        false => (1.0 - TAIL * times) / (1.0 - TAIL),
    });
    [
        1.0,
        1.0 + slight,
        1.0 - slight,
        1.0 + steep,
        1.0 - steep,
        outer,
        far_outer,
        tail,
        far_tail,
    ]
}

/// A wealth that grows where numbers are not uniform. Never negative; a martingale while they are, but for what is cut.
#[derive(Debug, Clone)]
pub(super) struct UniformityBets {
    /// `[JUMPS * BETS]`.
    bets: [f64; JUMPS.len() * BETS],
    reserve: Reserve,
    wealth: f64,
}

impl UniformityBets {
    pub fn new() -> Self {
        Self {
            bets: [0.0; JUMPS.len() * BETS],
            reserve: Reserve::new(),
            wealth: 1.0,
        }
    }

    /// Takes in the next number.
    pub fn observe(&mut self, p: f64) {
        let begins = self.reserve.draw() / self.bets.len() as f64;
        let factors = factors(p);
        for (bets, jump) in self.bets.chunks_exact_mut(BETS).zip(JUMPS) {
            let divided = jump * bets.iter().sum::<f64>() / BETS as f64;
            for (bet, factor) in bets.iter_mut().zip(factors) {
                *bet = (*bet * (1.0 - jump) + divided + begins) * factor;
            }
        }
        let left = self.reserve.left();
        self.wealth = left + cut(&mut self.bets, left);
    }

    /// The wealth so far, > 0.
    pub fn wealth(&self) -> f64 {
        self.wealth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_wealth_is_that_of_an_independent_program() {
        // NumPy: p = (0.37 * np.arange(1, 2001)) % 1 / 2; d = p - .5; o = (p < .25) | (p >= .75); a = p < .01
        // f = np.array([1 + 0 * p, 1 + d / 4, 1 - d / 4, 1 + d, 1 - d, np.where(o, 1.15, .85), np.where(o, 1.5, .5),
        //     np.where(a, 2, .98 / .99), np.where(a, 10, .9 / .99)])
        // S = np.zeros((3, 9)); J = np.array([[1e-4], [1e-3], [1e-2]])
        // for t in range(2000): left0 = 1 if t == 0 else 0.2 / (t / 1e5 + 1); left = 0.2 / ((t + 1) / 1e5 + 1)
        //     S = (S * (1 - J) + J * S.sum(1, keepdims=True) / 9 + (left0 - left) / 27) * f[:, t]
        //     if S.sum() + left > 1e6: S *= (1e6 - left) / S.sum()
        let mut bets = UniformityBets::new();
        let expected = [1.0487992241289708, 8.166963071128132, 32147.033930867714];
        let mut found = Vec::new();
        for i in 1..=2_000 {
            bets.observe((0.37 * f64::from(i)).fract() / 2.0);
            if [1, 20, 60].contains(&i) {
                found.push(bets.wealth());
            }
        }
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        }
    }

    proptest! {
        #[test]
        fn the_mean_of_the_next_wealth_over_all_numbers_is_the_wealth(
            numbers in prop::collection::vec(0.0..1.0f64, 0..300)
        ) {
            let mut bets = UniformityBets::new();
            for p in numbers {
                bets.observe(p);
                prop_assert!(bets.wealth() > 0.0);
            }
            // All factors are linear within hundredths, and jump at their borders only: midpoints give the exact mean.
            let next = |cell: u32| {
                let mut next = bets.clone();
                next.observe((f64::from(cell) + 0.5) / 100.0);
                next.wealth()
            };
            let mean = (0..100).map(next).sum::<f64>() / 100.0;
            prop_assert!(mean <= bets.wealth() * (1.0 + 1e-9), "{} {}", mean, bets.wealth());
            if bets.wealth() < 1e4 {
                prop_assert!(mean >= bets.wealth() * (1.0 - 1e-9), "{} {}", mean, bets.wealth());
            }
        }
    }
}
