//! Whether the alert budget still holds: a wealth that grows if more records are alerts than the calibration rows allow.
//!
//! The claim: given all that came before, a record is an alert with a probability of at most u, the upper limit of the alert
//! rate that the budget leaves with its n calibration rows. Among records of the calibration rows' kind the rate is
//! Beta(k, n + 1 - k) (Vovk 2012), and u is its 99.9 % point: the claim fails for one bundle in a thousand.
//!
//! For an alert a = 1, else a = 0, and a rate q > u,
//!
//! ```text
//! L(a) = (q/u)^a ((1 - q)/(1 - u))^(1 - a)
//! ```
//!
//! has a mean of at most 1 under the claim: it is the bet 1 + b (a - u) with b = (q - u)/(u (1 - u)), the best one against
//! the rate q (Kelly 1956). Products of it are a test supermartingale (Waudby-Smith & Ramdas 2024, *Estimating means of
//! bounded random variables by betting*, section 4; Timans et al. 2025, *On Continuous Monitoring of Risk Violations under
//! Unknown Shift*). Several q at once are a mixture, whose mean is that of its parts. Every bet begins at many moments
//! (`horizon`).

use super::horizon::{Reserve, cut};
use crate::score::Promise;

/// The level of the limit that is tested.
pub const BUDGET_LIMIT_LEVEL: f64 = 0.999;
/// What the odds of the rates q are times those of u. With 12,000 calibration rows and a budget of 0.001 the first three are
/// best against 3, 5 and 10 times the budget; the last finds a flood within some ten alerts.
const ODDS: [f64; 4] = [1.4, 2.4, 5.0, 20.0];
/// How the capital is divided among them: the least excess needs most of it.
const SHARES: [f64; 4] = [5.0 / 12.0, 3.0 / 12.0, 3.0 / 12.0, 1.0 / 12.0];

/// The test of one bundle under one budget. It starts anew with a process and with every exchange of the model.
#[derive(Debug, Clone)]
pub struct BudgetTest {
    limit: f64,
    /// By which an alert and another record multiply each bet.
    factors: [[f64; 2]; ODDS.len()],
    bets: [f64; ODDS.len()],
    reserve: Reserve,
    wealth: f64,
}

impl BudgetTest {
    /// A test of what a budget promises; `None` of a budget that cannot be reached, or whose limit is no limit.
    pub fn new(promise: &Promise) -> Option<Self> {
        let limit = promise.upper_limit(BUDGET_LIMIT_LEVEL)?;
        (limit > 0.0 && limit < 1.0).then(|| Self::of_limit(limit))
    }

    fn of_limit(limit: f64) -> Self {
        let factors = ODDS.map(|odds| {
            let rate = odds * limit / (1.0 - limit + odds * limit);
            [(1.0 - rate) / (1.0 - limit), rate / limit]
        });
        Self {
            limit,
            factors,
            bets: [0.0; ODDS.len()],
            reserve: Reserve::new(),
            wealth: 1.0,
        }
    }

    /// u: the alert rate that is claimed not to be exceeded, in (0, 1).
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Takes in the next record.
    pub fn observe(&mut self, alert: bool) {
        let begins = self.reserve.draw();
        for ((bet, share), factors) in self.bets.iter_mut().zip(SHARES).zip(self.factors) {
            *bet = (*bet + begins * share) * factors[usize::from(alert)];
        }
        let left = self.reserve.left();
        self.wealth = left + cut(&mut self.bets, left);
    }

    /// The wealth after the records so far, > 0: 1 at the start.
    pub fn wealth(&self) -> f64 {
        self.wealth
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use rand::RngExt;

    use super::super::horizon::{ALARM_WEALTH, WEALTH_MAX};
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::score::AlertBudget;

    const BUDGET: f64 = 0.001;

    fn test() -> BudgetTest {
        let budget = AlertBudget::new(BUDGET).unwrap();
        BudgetTest::new(&Promise::new(budget, 12_000, 0.0)).unwrap()
    }

    /// Records until the alarm at a constant alert rate, at most `most`.
    fn found_after(test: &mut BudgetTest, rate: f64, most: usize, seed: u64) -> Option<usize> {
        let mut rng = stream(seed, Purpose::Tests);
        (1..=most).find(|_| {
            test.observe(rng.random::<f64>() < rate);
            test.wealth() >= ALARM_WEALTH
        })
    }

    fn median_found(times: f64, streams: u64) -> usize {
        let mut found: Vec<usize> = (0..streams)
            .map(|seed| found_after(&mut test(), times * BUDGET, 400_000, seed).unwrap())
            .collect();
        found.sort_unstable();
        found[found.len() / 2]
    }

    #[test]
    fn the_wealth_is_that_of_an_independent_program() {
        // NumPy and SciPy: u = stats.beta.ppf(0.999, 12, 11989); odds = np.array([1.4, 2.4, 5, 20])
        // q = odds * u / (1 - u + odds * u); S = np.zeros(4); w = np.array([5, 3, 3, 1]) / 12
        // for t in range(3000): left0 = 1 if t == 0 else 0.2 / (t / 1e5 + 1); left = 0.2 / ((t + 1) / 1e5 + 1)
        //     S = (S + (left0 - left) * w) * (q / u if t % 300 == 7 else (1 - q) / (1 - u)); print(left + S.sum())
        let mut test = test();
        assert!((test.limit() - 0.002_131_145_531_352_871).abs() < 1e-9);
        let expected = [
            3.037_158_817_960_26,
            1.109_047_181_686_033,
            1.113_113_909_909_348,
        ];
        let mut found = Vec::new();
        for record in 0..3_000 {
            test.observe(record % 300 == 7);
            if [7, 999, 2_999].contains(&record) {
                found.push(test.wealth());
            }
        }
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn three_five_and_ten_times_the_budget_are_found_within_a_few_ten_thousand_thousand_and_hundred_records()
     {
        for (times, within) in [(3.0, 55_000), (5.0, 7_000), (10.0, 1_400)] {
            let median = median_found(times, 41);
            assert!(median < within, "{times} times: {median}");
        }
    }

    #[test]
    fn a_stream_at_the_budget_is_quiet() {
        for seed in 0..8 {
            assert_eq!(found_after(&mut test(), BUDGET, 100_000, seed), None);
        }
    }

    #[test]
    fn a_change_after_a_long_quiet_time_is_found_and_the_alarm_ends_after_it() {
        let mut test = test();
        assert_eq!(found_after(&mut test, BUDGET, 300_000, 1), None);
        let found = found_after(&mut test, 10.0 * BUDGET, 20_000, 2).unwrap();
        assert!(found < 8_000, "{found}");
        found_after(&mut test, 1.0, 1_000, 3);
        for _ in 0..1_000 {
            test.observe(true);
        }
        assert!(
            (test.wealth() - WEALTH_MAX).abs() < 1.0,
            "{}",
            test.wealth()
        );
        found_after(&mut test, BUDGET, 20_000, 4);
        for _ in 0..20_000 {
            test.observe(false);
        }
        assert!(test.wealth() < 1.0, "{}", test.wealth());
    }

    /// The alert rate that one draw of 12,000 calibration rows leaves: the twelfth smallest of their p-values among all records.
    fn drawn_rate(rng: &mut crate::rng::ChaCha8Rng) -> f64 {
        let mut ranks: Vec<f64> = (0..12_000).map(|_| rng.random()).collect();
        ranks.sort_unstable_by(f64::total_cmp);
        ranks[11]
    }

    #[test]
    #[ignore = "forty million records; its output is in docs/notebook"]
    #[expect(clippy::print_stdout, reason = "its numbers are the result")]
    fn forty_streams_of_a_million_records_like_the_calibration_rows_are_quiet() {
        let begin = std::time::Instant::now();
        let mut largest = Vec::new();
        for seed in 0..40 {
            let mut rng = stream(seed, Purpose::Tests);
            let (rate, mut test) = (drawn_rate(&mut rng), test());
            let wealths = (0..1_000_000).map(|_| {
                test.observe(rng.random::<f64>() < rate);
                test.wealth()
            });
            largest.push(wealths.fold(0.0, f64::max));
        }
        largest.sort_unstable_by(f64::total_cmp);
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "largest wealths of 40 streams: {largest:.1?}; {:.1} ns a record, the random number included",
            seconds * 25.0
        );
        assert!(largest[39] < ALARM_WEALTH, "{largest:?}");
        for times in [3.0, 5.0, 10.0, 30.0] {
            println!(
                "{times} times: median of 201 streams {}",
                median_found(times, 201)
            );
        }
        for times in [3.0, 5.0, 10.0] {
            let found = (0..41).map(|seed| {
                let mut test = test();
                assert_eq!(
                    found_after(&mut test, BUDGET, 1_000_000, 1_000 + seed),
                    None
                );
                found_after(&mut test, times * BUDGET, 1_000_000, seed).unwrap()
            });
            let mut found: Vec<usize> = found.collect();
            found.sort_unstable();
            println!(
                "{times} times after a million: median of 41 streams {}",
                found[20]
            );
        }
    }

    #[test]
    fn a_budget_out_of_reach_is_not_tested() {
        let budget = AlertBudget::new(BUDGET).unwrap();
        assert!(BudgetTest::new(&Promise::new(budget, 10, 0.0)).is_none());
        assert!(BudgetTest::new(&Promise::new(budget, 12_000, 1.0)).is_none());
    }

    proptest! {
        #[test]
        fn under_the_claim_no_next_record_raises_the_mean_of_the_wealth(
            limit in 1e-5..0.99f64, rate in 0.0..1.0f64, alerts in prop::collection::vec(any::<bool>(), 0..200)
        ) {
            let mut test = BudgetTest::of_limit(limit);
            for alert in alerts {
                let before = test.wealth();
                let [without, with] = [false, true].map(|alert| {
                    let mut next = test.clone();
                    next.observe(alert);
                    next.wealth()
                });
                prop_assert!(without > 0.0 && with > 0.0);
                let rate = rate * limit;
                let mean = rate * with + (1.0 - rate) * without;
                prop_assert!(mean <= before * (1.0 + 1e-9), "{mean} {before}");
                test.observe(alert);
            }
        }
    }
}
