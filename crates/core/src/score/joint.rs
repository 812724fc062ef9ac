//! Two detectors under one alert budget.
//!
//! In flow the scores of both for one record, out flow a p-value each, the joint one and the number that ranks records. With
//! the supervised part's share s of the budget
//!
//! ```text
//! p = min(1, p_u / (1 - s), p_s / s)
//! ```
//!
//! P(p <= a) <= P(p_u <= (1 - s) a) + P(p_s <= s a) <= a by the union bound, whatever the two have in common (a weighted
//! Bonferroni correction; Genovese, Roeder & Wasserman 2006, *False Discovery Control with p-Value Weighting*).
//!
//! Alerts rest on p. Records are ranked by the same formula with another share, r = [`RANK_SHARE`]: an order is no promise, so
//! that it may follow the part that knows frauds best, and still have what only the other finds in its upper part.

use super::conformal::ConformalScores;

/// The supervised part's share of the alert budget unless chosen otherwise.
pub const DEFAULT_BUDGET_SHARE: f64 = 0.5;
/// The supervised part's share in the order of records, unless it has more of the budget: a p-value without labels counts as
/// one by labels that is 19 times as large. On three public sets the order then has, within 0.002, the average precision of the
/// supervised part alone; an equal share costs up to 0.05 of it.
pub const RANK_SHARE: f64 = 0.95;
/// The part of a step between two p-values over which scores of one p-value are spread: rounding must not reach the next.
const STEP_SPREAD: f64 = 0.9;
/// How far beyond the least p-value scores without labels are spread, nats.
const UNSUPERVISED_BEYOND: f64 = 0.01;

/// How an alert budget is divided between the detector that learned without labels and the one that learned from them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetShare(f64);

/// The p-values of one record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JointPValue {
    /// In (0, 1]: what budgets are held against.
    pub joint: f64,
    /// In (0, 1]: of the detector that learned without labels.
    pub unsupervised: f64,
    /// In (0, 1]: of the one that learned from labels.
    pub supervised: f64,
}

impl BudgetShare {
    /// The supervised part's share, in (0, 1).
    ///
    /// # Errors
    /// The value and the limits.
    pub fn new(share: f64) -> Result<Self, String> {
        match share > 0.0 && share < 1.0 {
            true => Ok(Self(share)),
            false => Err(format!("budget share {share}: must be above 0 and below 1")),
        }
    }

    /// The supervised part's.
    pub fn supervised(self) -> f64 {
        self.0
    }

    /// The rest.
    pub fn unsupervised(self) -> f64 {
        1.0 - self.0
    }

    /// The p-values of a record from those of the two parts.
    pub fn join(self, unsupervised: f64, supervised: f64) -> JointPValue {
        let joint = (unsupervised / self.unsupervised()).min(supervised / self.supervised());
        JointPValue {
            joint: joint.min(1.0),
            unsupervised,
            supervised,
        }
    }

    /// Whether the supervised part finds a record at least as unusual for its share as the other.
    pub fn leads(self, parts: JointPValue) -> bool {
        parts.supervised / self.supervised() <= parts.unsupervised / self.unsupervised()
    }

    /// The smaller of both.
    pub fn least(self) -> f64 {
        self.0.min(self.unsupervised())
    }

    /// How many calibration rows of one detector would have as small a least p-value as n of both: with them a budget is
    /// attained, or not, alike.
    pub fn effective_rows(self, n: usize) -> usize {
        let rows = (n + 1) as f64 * self.0.max(self.unsupervised());
        (rows.floor() as usize).saturating_sub(1)
    }

    /// The number that ranks records, >= 0: -log of the labelled part's p-value, spread between and beyond the calibration
    /// rows' ranks by the score itself, or of the other part's less log(r / (1 - r)) where that is larger.
    ///
    /// Beyond the least p-value the labelled part's order goes on without a bound and the other's in a narrow band: where both
    /// parts are at their least, labels decide.
    pub fn rank(
        self,
        (unsupervised, supervised): (&ConformalScores, &ConformalScores),
        (u, s): (f32, f32),
    ) -> f32 {
        let share = self.0.max(RANK_SHARE);
        let u = spread(unsupervised.sorted(), u, |beyond| {
            UNSUPERVISED_BEYOND * beyond / (1.0 + beyond)
        });
        let s = spread(supervised.sorted(), s, |beyond| beyond);
        let u = u + ((1.0 - share) / share).ln();
        u.max(s).clamp(0.0, f64::from(f32::MAX)) as f32
    }
}

/// -log of the p-value of a score among ascending ones, made strictly rising in the score: within a step it is spread
/// linearly, beyond the last by `beyond` of the distance in units of the scores' spread, > 0.
fn spread(sorted: &[f32], score: f32, beyond: impl Fn(f64) -> f64) -> f64 {
    let n = sorted.len();
    let below = sorted.partition_point(|&c| c < score);
    let level = |at_least: usize| -(((1 + at_least) as f64) / (1 + n) as f64).ln();
    let base = level(n - below);
    let score = f64::from(score);
    let at = |i: usize| f64::from(sorted[i]);
    if below == n {
        let unit = (at(n - 1) - at(n / 2)).max(f64::MIN_POSITIVE);
        return base + beyond(((score - at(n - 1)) / unit).min(1e30));
    }
    // Below the first there is nothing to measure a distance from.
    let step = level(n - below - 1) - base;
    let within = match below.checked_sub(1).map(at) {
        Some(last) => ((score - last) / (at(below) - last)).clamp(0.0, 1.0),
        None => 1.0 / (1.0 + (at(0) - score).max(0.0)),
    };
    base + STEP_SPREAD * step * within
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand::RngExt;

    fn scores(n: usize, seed: u64) -> ConformalScores {
        let mut rng = stream(seed, Purpose::Tests);
        // Some of them are equal.
        let draw = |_| (rng.random::<f32>() * 500.0).floor() / 50.0;
        ConformalScores::new((0..n).map(draw).collect()).unwrap()
    }

    #[test]
    fn the_joint_p_value_keeps_the_budget_whatever_the_parts_have_in_common() {
        // Rank p-values of two dependent scores under one calibration sample a draw; the count is binomial with a chance of
        // at most a. Five standard deviations.
        let (draws, n, a) = (20_000, 199, 0.02);
        for share in [0.5, 0.2] {
            let share = BudgetShare::new(share).unwrap();
            for mixed in [0.0, 0.5, 1.0] {
                let mut rng = stream(3, Purpose::Tests);
                let mut pair = || {
                    let (x, y) = (rng.random::<f32>(), rng.random::<f32>());
                    (x, mixed * x + (1.0 - mixed) * y)
                };
                let mut alerts = 0;
                for _ in 0..draws {
                    let (u, s) = (0..n).map(|_| pair()).unzip();
                    let (u, s) = (
                        ConformalScores::new(u).unwrap(),
                        ConformalScores::new(s).unwrap(),
                    );
                    let fresh = pair();
                    let joint = share.join(u.p_value(fresh.0), s.p_value(fresh.1)).joint;
                    alerts += u32::from(joint <= a);
                }
                let bound = f64::from(draws) * a;
                let found = f64::from(alerts);
                assert!(
                    found <= bound + 5.0 * bound.sqrt(),
                    "{share:?} {mixed}: {found}"
                );
                assert!(found > 0.3 * bound, "{share:?} {mixed}: {found}");
            }
        }
    }

    #[test]
    fn the_rank_rises_with_either_score_and_follows_the_p_values_under_its_own_share() {
        let (u, s) = (scores(400, 1), scores(400, 2));
        let mut rng = stream(4, Purpose::Tests);
        for share in [0.5, 0.99] {
            let share = BudgetShare::new(share).unwrap();
            let r = share.supervised().max(RANK_SHARE);
            let rank = |x, y| share.rank((&u, &s), (x, y));
            for _ in 0..4_000 {
                let mut any = || rng.random::<f32>() * 12.0 - 1.0;
                let (x, y) = (any(), any());
                let found = rank(x, y);
                assert!(rank(x + 0.3, y) >= found && rank(x, y + 0.3) >= found);
                // Scores are spread within a step of the p-value, never beyond: up to the next one, unless it is the least.
                let next = |p: f64| {
                    if p > 1.5 / 401.0 {
                        p - 1.0 / 401.0
                    } else {
                        0.0
                    }
                };
                let of = |p_u: f64, p_s: f64| -(p_u * r / (1.0 - r)).min(p_s).min(1.0).ln();
                let (p_u, p_s) = (u.p_value(x), s.p_value(y));
                let (least, most) = (of(p_u, p_s), of(next(p_u), next(p_s)));
                let found = f64::from(found);
                assert!(
                    found >= least - 1e-5 && found <= most + 1e-5,
                    "{x} {y}: {found}"
                );
            }
        }
    }

    #[test]
    fn what_only_the_score_without_labels_finds_ranks_in_the_upper_part() {
        let (u, s) = (scores(2_000, 1), scores(2_000, 2));
        let share = BudgetShare::new(0.5).unwrap();
        // Beyond all rows for one part, and the most ordinary of all for the other.
        let only_unsupervised = share.rank((&u, &s), (11.0, 0.0));
        let calibration = u.sorted().iter().rev().zip(s.sorted());
        let mut others: Vec<f32> = calibration
            .map(|(&x, &y)| share.rank((&u, &s), (x.min(9.0), y)))
            .collect();
        others.sort_by(f32::total_cmp);
        let below = others.partition_point(|&other| other < only_unsupervised);
        assert!(below > 1_900, "{below}");
        // And behind what labels find as unusual.
        assert!(share.rank((&u, &s), (0.0, 11.0)) > only_unsupervised);
    }

    #[test]
    fn beyond_all_calibration_rows_the_scores_still_rank_and_labels_decide() {
        let (u, s) = (scores(400, 1), scores(400, 2));
        let share = BudgetShare::new(0.5).unwrap();
        let rank = |x, y| share.rank((&u, &s), (x, y));
        let rising = [
            rank(3.0, 3.0),
            rank(11.0, 3.0),
            rank(50.0, 3.0),
            rank(f32::MAX, 3.0),
            rank(3.0, 11.0),
            rank(f32::MAX, 12.0),
            rank(3.0, 900.0),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b), "{rising:?}");
        assert!(rank(f32::MAX, f32::MAX).is_finite());
    }

    #[test]
    fn half_the_budget_each_attains_it_with_twice_the_rows() {
        let share = BudgetShare::new(0.5).unwrap();
        assert_eq!(
            (share.effective_rows(1_999), share.effective_rows(1_998)),
            (999, 998)
        );
        assert_eq!(share.effective_rows(0), 0);
        for bad in [0.0, 1.0, f64::NAN] {
            assert!(BudgetShare::new(bad).is_err());
        }
    }
}
