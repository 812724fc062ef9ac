//! What a budget promises of the number of alerts, and how what came of it stands beside that.
//!
//! In flow a budget and the number of calibration rows, out flow the interval of the rate and the chance of a count.
//! The rate of alerts among endless records of the calibration rows' kind is Beta(k, n + 1 - k) for k of n + 1 ranks that
//! are alerts (Vovk 2012). The count among m of them is binomial under it, so beta-binomial.

use statrs::distribution::{Beta, ContinuousCDF};
use statrs::function::beta::ln_beta;
use statrs::function::factorial::ln_binomial;

use super::budget::AlertBudget;
use super::words::{count_text, percentages};

/// The chance of a count of alerts below which it is said to be far beyond the promise: one false word in a million starts.
pub const FAR_CHANCE: f64 = 1e-6;
/// How far beyond the interval's upper limit a rate must be as well, as in the alert rule `MaskwatchAlertSurge`.
pub const FAR_TIMES: f64 = 3.0;

/// The share of a sum that may be left out of it.
const NEGLIGIBLE: f64 = 1e-12;

/// A budget with the calibration rows that it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    budget: f64,
    /// The 90 % interval of the rate, and n and k; `None` if nothing can be an alert.
    law: Option<Law>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Law {
    low: f64,
    high: f64,
    /// Calibration rows.
    n: usize,
    /// Ranks of n + 1 that are alerts, with those that the promise leaves out.
    k: usize,
    /// The same without them.
    k_within: usize,
    /// The share of the records that the promise leaves out.
    apart: f64,
}

impl Promise {
    /// What `budget` promises with n calibration rows. `apart` is the share of the records that the promise leaves out,
    /// as those labelled abnormal: they may be alerts beyond the budget.
    pub fn new(budget: AlertBudget, calibration_rows: usize, apart: f64) -> Self {
        let n = calibration_rows;
        let law = budget.realised_rate(n).map(|(low, high)| Law {
            low,
            high: (high + apart).min(1.0),
            n,
            k: (budget.rank(n) + (apart * (n + 1) as f64).ceil() as usize).min(n),
            k_within: budget.rank(n),
            apart,
        });
        Self {
            budget: budget.share(),
            law,
        }
    }

    /// The budget.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// The 90 % interval of the alert rate; `None` if the budget cannot be reached, so that nothing is ever an alert.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.law.map(|law| (law.low, law.high))
    }

    /// What the alert rate of endless records of the calibration rows' kind is at most with the probability `level` in (0, 1),
    /// over the choice of these rows: the quantile of Beta(k, n + 1 - k), and the records that the promise leaves out. `None` if
    /// the budget cannot be reached.
    pub fn upper_limit(&self, level: f64) -> Option<f64> {
        let law = self.law?;
        let beta = Beta::new(law.k_within as f64, (law.n + 1 - law.k_within) as f64).ok()?;
        Some((beta.inverse_cdf(level) + law.apart).min(1.0))
    }

    /// The chance of at least so many alerts among `records` of the calibration rows' kind; 1 of a budget that cannot be
    /// reached, of which nothing can be said.
    pub fn chance_of_at_least(&self, alerts: usize, records: usize) -> f64 {
        let Some(Law { n, k, .. }) = self.law else {
            return 1.0;
        };
        if alerts == 0 || alerts > records {
            return f64::from(alerts == 0);
        }
        let law = Count::new(records, n, k);
        // The sum runs away from the mode, so that its terms fall: a chance near 1 is 1 less the rest.
        match alerts as f64 > law.mode() {
            true => falling_sum(law.chance(alerts), (alerts..records).map(|x| law.ratio(x))),
            false => {
                let down = (0..alerts - 1).rev().map(|x| law.ratio(x).recip());
                1.0 - falling_sum(law.chance(alerts - 1), down)
            }
        }
    }

    /// Whether so many alerts are far beyond the promise: [`FAR_TIMES`] the upper limit of the interval, and by chance
    /// rarer than [`FAR_CHANCE`].
    pub fn is_far_exceeded(&self, alerts: usize, records: usize) -> bool {
        self.exceeds(alerts, records, FAR_CHANCE)
    }

    /// The same for another chance than [`FAR_CHANCE`].
    pub fn exceeds(&self, alerts: usize, records: usize, chance: f64) -> bool {
        let Some((_, high)) = self.interval() else {
            return false;
        };
        alerts as f64 > FAR_TIMES * high * records as f64
            && self.chance_of_at_least(alerts, records) < chance
    }

    /// The count in a line: the rate beside the promised one. `records_text` says which records they are.
    pub fn line(&self, alerts: usize, records: usize, records_text: &str) -> String {
        let rate = alerts as f64 / records.max(1) as f64;
        let alerts = format!("{} alerts in {records_text}", count_text(alerts as u64));
        match self.interval() {
            Some((low, high)) => {
                let [rate, budget, low, high] = percentages([rate, self.budget, low, high]);
                format!("{alerts}, {rate} %; budget {budget} %, promised {low} to {high} %")
            }
            None => {
                let [rate, budget] = percentages([rate, self.budget]);
                format!(
                    "{alerts}, {rate} %; budget {budget} %, never reached with so few calibration rows"
                )
            }
        }
    }
}

/// The beta-binomial law of the number of alerts among m records, with a = k >= 1 and b = n + 1 - k >= 1, so that it is
/// log-concave.
#[derive(Debug, Clone, Copy)]
struct Count {
    m: f64,
    a: f64,
    b: f64,
}

impl Count {
    fn new(records: usize, n: usize, k: usize) -> Self {
        Self {
            m: records as f64,
            a: k as f64,
            b: (n + 1 - k) as f64,
        }
    }

    /// The chance of x alerts, x <= m.
    fn chance(&self, x: usize) -> f64 {
        let Self { m, a, b } = *self;
        let alerts = x as f64;
        let log = ln_binomial(m as u64, x as u64) + ln_beta(a + alerts, b + m - alerts);
        (log - ln_beta(a, b)).exp()
    }

    /// The chance of x + 1 alerts over that of x, x < m. It falls with x.
    fn ratio(&self, x: usize) -> f64 {
        let (Self { m, a, b }, x) = (*self, x as f64);
        (m - x) * (a + x) / ((x + 1.0) * (b + m - x - 1.0))
    }

    /// Below it the chances rise, above it they fall: where the ratio is 1. Negative if they fall from 0 on.
    fn mode(&self) -> f64 {
        let Self { m, a, b } = *self;
        // n = 1 leaves every count as likely as any other.
        (m * (a - 1.0) - (b - 1.0)) / (a + b - 2.0).max(1.0)
    }
}

/// The sum of `first` and the terms after it, each its ratio times the one before, up to where the rest is negligible.
///
/// The ratios fall and are at most 1, so the rest is at most a geometric series. That is nothing at once where the first
/// term is too small for a double.
fn falling_sum(first: f64, ratios: impl Iterator<Item = f64>) -> f64 {
    let (mut term, mut sum) = (first, first);
    for ratio in ratios {
        if term * ratio <= NEGLIGIBLE * sum * (1.0 - ratio) {
            break;
        }
        term *= ratio;
        sum += term;
    }
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use statrs::function::beta::beta_reg;

    use super::*;

    fn promise(budget: f64, rows: usize) -> Promise {
        Promise::new(AlertBudget::new(budget).unwrap(), rows, 0.0)
    }

    #[test]
    fn the_tail_is_that_of_the_beta_binomial_law() {
        // python: from math import lgamma, exp; lb = lambda a, b: lgamma(a) + lgamma(b) - lgamma(a + b)
        // pmf = lambda x: exp(lgamma(801) - lgamma(x + 1) - lgamma(801 - x) + lb(12 + x, 12789 - x) - lb(12, 11989))
        // [sum(pmf(x) for x in range(t, 801)) for t in (1, 5, 8, 10)]
        let expected = [
            0.539_206_933_57,
            2.304_677_642e-3,
            9.155_494_345e-6,
            1.613_509_139e-7,
        ];
        let promise = promise(0.001, 12_000);
        for (at_least, expected) in [1, 5, 8, 10].into_iter().zip(expected) {
            let found = promise.chance_of_at_least(at_least, 800);
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{at_least}: {found:e}"
            );
        }
        assert_eq!(promise.chance_of_at_least(0, 800), 1.0);
    }

    #[test]
    fn the_tail_of_a_hundred_million_records_takes_few_terms_and_is_that_of_the_rate() {
        // So many records show the rate itself, whose law is Beta(k, n + 1 - k).
        let (records, promise) = (100_000_000, promise(0.001, 12_000));
        for rate in [0.000_2, 0.001, 0.002, 0.003, 0.005] {
            let alerts = (rate * records as f64) as usize;
            let found = promise.chance_of_at_least(alerts, records);
            let expected = beta_reg(11_989.0, 12.0, 1.0 - rate);
            assert!((found / expected - 1.0).abs() < 0.01, "{rate}: {found:e}");
        }
        let law = Count::new(records, 12_000, 12);
        let mut terms = 0;
        let ratios = (300_000..records).map(|x| law.ratio(x));
        falling_sum(law.chance(300_000), ratios.inspect(|_| terms += 1));
        assert!(terms < 1_000_000, "{terms}");
        // A first term that is 0 ends the sum.
        let mut terms = 0;
        let ratios = (50_000_000..records).map(|x| law.ratio(x));
        let tail = falling_sum(law.chance(50_000_000), ratios.inspect(|_| terms += 1));
        assert_eq!((tail, terms), (0.0, 1));
        assert_eq!(promise.chance_of_at_least(50_000_000, records), 0.0);
        assert_eq!(promise.chance_of_at_least(records + 1, records), 0.0);
        assert_eq!(promise.chance_of_at_least(1, records), 1.0);
    }

    #[test]
    fn the_sum_of_a_tail_is_that_of_all_its_terms() {
        for (n, k, records) in [(1, 1, 9), (20, 1, 300), (20, 20, 50), (1_200, 6, 800)] {
            let law = Count::new(records, n, k);
            let chances: Vec<f64> = (0..=records).map(|x| law.chance(x)).collect();
            assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let promise = Promise {
                budget: 0.5,
                law: Some(Law {
                    low: 0.0,
                    high: 1.0,
                    n,
                    k,
                    k_within: k,
                    apart: 0.0,
                }),
            };
            for alerts in 0..=records {
                let all: f64 = chances[alerts..].iter().sum();
                let found = promise.chance_of_at_least(alerts, records);
                assert!((found - all).abs() < 1e-9, "{n} {k} {alerts}: {found}");
            }
        }
    }

    #[test]
    fn a_count_far_beyond_the_promise_is_a_false_word_in_less_than_one_of_a_million_starts() {
        for (budget, rows) in [
            (0.001, 12_000),
            (0.001, 1_000),
            (0.01, 12_000),
            (0.005, 1_200),
            (0.05, 100_000),
        ] {
            let promise = promise(budget, rows);
            for records in [40, 300, 1_000, 20_000] {
                let least = (0..=records).find(|&alerts| promise.is_far_exceeded(alerts, records));
                // The chance of the least such count is that of any.
                let chance = least.map_or(0.0, |least| promise.chance_of_at_least(least, records));
                assert!(chance < FAR_CHANCE, "{budget} {rows} {records}: {chance:e}");
            }
        }
    }

    #[test]
    fn the_upper_limit_is_that_of_the_beta_law_and_of_what_is_left_out() {
        // SciPy: stats.beta.ppf(0.999, 12, 11989) -> 0.002131145531352871
        let found = promise(0.001, 12_000).upper_limit(0.999).unwrap();
        assert!((found - 0.002_131_145_531_352_871).abs() < 1e-9, "{found}");
        let budget = AlertBudget::new(0.001).unwrap();
        let apart = Promise::new(budget, 12_000, 0.02)
            .upper_limit(0.999)
            .unwrap();
        assert!((apart - found - 0.02).abs() < 1e-12);
        assert_eq!(promise(0.001, 10).upper_limit(0.999), None);
    }

    #[test]
    fn a_budget_out_of_reach_promises_nothing_and_says_so() {
        let promise = promise(0.001, 10);
        assert!(!promise.is_far_exceeded(10, 10));
        assert_eq!(
            promise.line(0, 10, "10 rows"),
            "0 alerts in 10 rows, 0.00 %; budget 0.10 %, never reached with so few calibration rows"
        );
    }

    #[test]
    fn records_that_the_promise_leaves_out_may_be_alerts_too() {
        let budget = AlertBudget::new(0.001).unwrap();
        let all = Promise::new(budget, 16_000, 0.0);
        let normal = Promise::new(budget, 16_000, 0.02);
        assert!(all.is_far_exceeded(20, 1_000) && !normal.is_far_exceeded(20, 1_000));
        let high = |promise: Promise| promise.interval().unwrap().1;
        assert!((high(normal) - high(all) - 0.02).abs() < 1e-12);
    }
}
