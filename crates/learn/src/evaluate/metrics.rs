//! Ranking metrics of scores against labels.
//!
//! In flow scores (higher = more abnormal) and labels (true = positive, e.g. fraud) of the same
//! rows. All sort once, O(n log n), and treat equal scores as one threshold, except
//! [`precision_at_k`], which has to cut and then keeps the rows' order.

use serde::{Deserialize, Serialize};

use super::error::MetricError;

/// Alerts raised at one budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtBudget {
    /// Share of records that may raise an alert, in (0, 1].
    pub budget: f64,
    /// Rows with `p_value <= budget`.
    pub alerts: usize,
    /// Share of the alerts that are positive; none without an alert.
    pub precision: Option<f64>,
    /// Share of the positives that raise an alert; none without a positive.
    pub recall: Option<f64>,
}

/// Precision among the highest scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtK {
    /// Rows looked at: the k asked for, or all rows if there are fewer.
    pub k: usize,
    /// Share of them that are positive, 0..=1.
    pub precision: f64,
}

/// Area under the receiver operating characteristic: the probability that a positive row scores
/// higher than a negative one, equal scores counting half (Mann-Whitney U over mid-ranks;
/// scikit-learn's `roc_auc_score`). In 0..=1.
///
/// # Errors
/// Lengths that differ, a score that is NaN, labels of one class.
pub fn roc_auc<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Result<f64, MetricError> {
    let (order, positives) = ranked(scores, labels)?;
    let negatives = order.len() - positives;
    // Pairs won by the positives, in halves: u128 holds the square of any row count.
    let (mut halves, mut negatives_above) = (0_u128, 0_usize);
    for tie in order.chunk_by(|a, b| a.0 == b.0) {
        let (positive, negative) = split(tie);
        let below = negatives - negatives_above - negative;
        halves += positive as u128 * (2 * below + negative) as u128;
        negatives_above += negative;
    }
    Ok(halves as f64 / 2.0 / (positives as f64 * negatives as f64))
}

/// Average precision: the sum over distinct thresholds, highest first, of `(R_n - R_{n-1}) P_n`,
/// without interpolation (scikit-learn's `average_precision_score`). In (0, 1]; about the share of
/// positives for scores that tell nothing.
///
/// # Errors
/// Lengths that differ, a score that is NaN, labels of one class.
pub fn average_precision<S: Copy + Into<f64>>(
    scores: &[S],
    labels: &[bool],
) -> Result<f64, MetricError> {
    let (order, positives) = ranked(scores, labels)?;
    let (mut sum, mut found, mut seen) = (0.0, 0_usize, 0_usize);
    for tie in order.chunk_by(|a, b| a.0 == b.0) {
        let (positive, _) = split(tie);
        found += positive;
        seen += tie.len();
        sum += positive as f64 * (found as f64 / seen as f64);
    }
    Ok(sum / positives as f64)
}

/// The share of positives among the `k` highest scores, or among all rows if there are fewer than
/// `k`. Of equal scores the earlier rows come first.
///
/// # Errors
/// `k` of zero, lengths that differ, a score that is NaN, labels of one class.
pub fn precision_at_k<S: Copy + Into<f64>>(
    scores: &[S],
    labels: &[bool],
    k: usize,
) -> Result<AtK, MetricError> {
    precision_at_each_k(scores, labels, &[k]).map(|found| found[0])
}

/// [`precision_at_k`] for several `k`, sorting once.
pub(super) fn precision_at_each_k<S: Copy + Into<f64>>(
    scores: &[S],
    labels: &[bool],
    ks: &[usize],
) -> Result<Vec<AtK>, MetricError> {
    if ks.contains(&0) {
        return Err(MetricError::ZeroK);
    }
    let (order, _) = ranked(scores, labels)?;
    let at = |&k: &usize| {
        let top = &order[..k.min(order.len())];
        AtK {
            k: top.len(),
            precision: split(top).0 as f64 / top.len() as f64,
        }
    };
    Ok(ks.iter().map(at).collect())
}

/// The alerts at `budget`: rows whose p-value is at most that, and how many of them are positive.
///
/// # Errors
/// A budget outside (0, 1], lengths that differ, a p-value that is NaN. Labels of one class are
/// fine.
pub fn at_budget(p_values: &[f64], labels: &[bool], budget: f64) -> Result<AtBudget, MetricError> {
    if !(budget > 0.0 && budget <= 1.0) {
        return Err(MetricError::Budget { found: budget });
    }
    check("p_value", p_values, labels)?;
    let is_alert = |&&(p, _): &&(f64, bool)| p <= budget;
    let rows: Vec<(f64, bool)> = p_values
        .iter()
        .copied()
        .zip(labels.iter().copied())
        .collect();
    let alerts = rows.iter().filter(is_alert).count();
    let caught = rows.iter().filter(is_alert).filter(|row| row.1).count();
    let share = |of: usize| (of > 0).then(|| caught as f64 / of as f64);
    let positives = labels.iter().filter(|&&label| label).count();
    Ok(AtBudget {
        budget,
        alerts,
        precision: share(alerts),
        recall: share(positives),
    })
}

/// Scores and labels, highest score first and equal scores in row order, with the number of
/// positives.
fn ranked<S: Copy + Into<f64>>(
    scores: &[S],
    labels: &[bool],
) -> Result<(Vec<(f64, bool)>, usize), MetricError> {
    check("score", scores, labels)?;
    let positives = labels.iter().filter(|&&label| label).count();
    if positives == 0 || positives == labels.len() {
        return Err(MetricError::OneClass {
            rows: labels.len(),
            positives,
        });
    }
    // Adding zero makes -0 and 0 one number, as they are one score.
    let number = |&score: &S| score.into() + 0.0;
    let mut order: Vec<_> = scores
        .iter()
        .map(number)
        .zip(labels.iter().copied())
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok((order, positives))
}

fn check<S: Copy + Into<f64>>(
    what: &'static str,
    values: &[S],
    labels: &[bool],
) -> Result<(), MetricError> {
    if values.len() != labels.len() {
        return Err(MetricError::Length {
            what,
            found: values.len(),
            expected: labels.len(),
        });
    }
    match values.iter().position(|&value| value.into().is_nan()) {
        Some(row) => Err(MetricError::NotANumber { what, row }),
        None => Ok(()),
    }
}

/// How many of the rows are positive, how many not.
fn split(rows: &[(f64, bool)]) -> (usize, usize) {
    let positives = rows.iter().filter(|row| row.1).count();
    (positives, rows.len() - positives)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows of this program, with scikit-learn 1.9.1 and NumPy 2.4.6, whose output the test
    /// below quotes:
    ///
    /// ```python
    /// import numpy as np
    /// from sklearn.metrics import average_precision_score, roc_auc_score
    /// i = np.arange(60)
    /// s = ((i * 37) % 23) / 8.0
    /// y = (i % 7 == 1) | (i % 11 == 3)
    /// print(y.sum(), repr(roc_auc_score(y, s)), repr(average_precision_score(y, s)))
    /// ```
    fn program() -> (Vec<f32>, Vec<bool>) {
        let scores = (0..60).map(|i| ((i * 37) % 23) as f32 / 8.0).collect();
        (scores, (0..60).map(|i| i % 7 == 1 || i % 11 == 3).collect())
    }

    #[test]
    fn ranking_metrics_agree_with_scikit_learn() {
        let (scores, labels) = program();
        assert_eq!(labels.iter().filter(|&&y| y).count(), 14);
        assert!((roc_auc(&scores, &labels).unwrap() - 0.5652173913043479).abs() < 1e-15);
        assert!((average_precision(&scores, &labels).unwrap() - 0.2612859836040442).abs() < 1e-15);
        // roc_auc_score([0, 0, 1, 1], s), average_precision_score(...) with s = [.1, .4, .35, .8].
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        assert_eq!(roc_auc(&scores, &labels), Ok(0.75));
        assert!((average_precision(&scores, &labels).unwrap() - 0.8333333333333333).abs() < 1e-15);
        // The same with y = [0, 1, 0, 1, 0, 1], s = [0, 0, 0, 1, 1, 2]: ties between the classes.
        let (scores, labels) = (
            [0.0, -0.0, 0.0, 1.0, 1.0, 2.0],
            [0, 1, 0, 1, 0, 1].map(|y| y == 1),
        );
        assert!((roc_auc(&scores, &labels).unwrap() - 0.7222222222222222).abs() < 1e-15);
        assert!((average_precision(&scores, &labels).unwrap() - 0.7222222222222222).abs() < 1e-15);
    }

    #[test]
    fn precision_at_k_cuts_ties_in_row_order_and_stops_at_the_last_row() {
        let (scores, labels) = ([1.0, 2.0, 2.0, 2.0, 0.0], [0, 0, 1, 1, 1].map(|y| y == 1));
        let at = |k| precision_at_k(&scores, &labels, k).unwrap();
        assert_eq!(
            at(1),
            AtK {
                k: 1,
                precision: 0.0
            }
        );
        assert_eq!(
            at(2),
            AtK {
                k: 2,
                precision: 0.5
            }
        );
        assert_eq!(
            at(4),
            AtK {
                k: 4,
                precision: 0.5
            }
        );
        assert_eq!(
            at(1_000),
            AtK {
                k: 5,
                precision: 0.6
            }
        );
        assert_eq!(precision_at_k(&scores, &labels, 0), Err(MetricError::ZeroK));
    }

    #[test]
    fn an_alert_is_a_p_value_up_to_the_budget_itself() {
        let (p, labels) = (
            [0.01, 0.010001, 0.5, 0.001, 1.0],
            [1, 1, 0, 0, 1].map(|y| y == 1),
        );
        let found = at_budget(&p, &labels, 0.01).unwrap();
        assert_eq!(
            (found.alerts, found.precision, found.recall),
            (2, Some(0.5), Some(1.0 / 3.0))
        );
        let none = at_budget(&p, &labels, 0.0001).unwrap();
        assert_eq!(
            (none.alerts, none.precision, none.recall),
            (0, None, Some(0.0))
        );
        assert_eq!(at_budget(&p, &[false; 5], 1.0).unwrap().recall, None);
        for budget in [0.0, -1.0, 1.1, f64::NAN] {
            assert!(matches!(
                at_budget(&p, &labels, budget),
                Err(MetricError::Budget { .. })
            ));
        }
    }

    #[test]
    fn what_cannot_be_ranked_is_refused_with_its_facts() {
        let one_class = MetricError::OneClass {
            rows: 2,
            positives: 2,
        };
        assert_eq!(roc_auc(&[1.0, 2.0], &[true, true]), Err(one_class.clone()));
        assert_eq!(
            average_precision(&[1.0, 2.0], &[true, true]),
            Err(one_class)
        );
        assert_eq!(
            roc_auc::<f32>(&[], &[]),
            Err(MetricError::OneClass {
                rows: 0,
                positives: 0
            })
        );
        assert_eq!(
            roc_auc(&[1.0, f32::NAN], &[true, false]),
            Err(MetricError::NotANumber {
                what: "score",
                row: 1
            })
        );
        assert_eq!(
            at_budget(&[0.5], &[true, false], 0.1),
            Err(MetricError::Length {
                what: "p_value",
                found: 1,
                expected: 2
            })
        );
    }

    /// Few distinct scores, so that ties are common, and both classes.
    fn rows() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
        proptest::collection::vec((-8_i32..8, any::<bool>()), 2..80)
            .prop_map(|rows| rows.into_iter().map(|(s, y)| (f64::from(s), y)).unzip())
            .prop_filter("both classes", |(_, labels): &(Vec<f64>, Vec<bool>)| {
                labels.contains(&true) && labels.contains(&false)
            })
    }

    proptest! {
        #[test]
        fn a_rising_map_of_the_scores_changes_nothing((scores, labels) in rows()) {
            let mapped: Vec<f64> = scores.iter().map(|s| (s / 4.0).exp() - 3.0).collect();
            prop_assert_eq!(roc_auc(&scores, &labels), roc_auc(&mapped, &labels));
            prop_assert_eq!(
                average_precision(&scores, &labels),
                average_precision(&mapped, &labels)
            );
            for k in [1, 3, 100] {
                prop_assert_eq!(
                    precision_at_k(&scores, &labels, k),
                    precision_at_k(&mapped, &labels, k)
                );
            }
        }

        #[test]
        fn turning_the_scores_round_mirrors_the_area((scores, labels) in rows()) {
            let negated: Vec<f64> = scores.iter().map(|s| -s).collect();
            let sum = roc_auc(&scores, &labels).unwrap() + roc_auc(&negated, &labels).unwrap();
            prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
        }

        #[test]
        fn the_area_is_the_share_of_pairs_won((scores, labels) in rows()) {
            let (mut won, mut pairs) = (0.0, 0.0);
            for (a, _) in scores.iter().zip(&labels).filter(|row| *row.1) {
                for (b, _) in scores.iter().zip(&labels).filter(|row| !*row.1) {
                    won += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                    pairs += 1.0;
                }
            }
            prop_assert!((roc_auc(&scores, &labels).unwrap() - won / pairs).abs() < 1e-12);
        }

        #[test]
        fn the_order_of_rows_changes_neither_area_nor_average((scores, labels) in rows()) {
            let reversed: Vec<f64> = scores.iter().rev().copied().collect();
            let labels_reversed: Vec<bool> = labels.iter().rev().copied().collect();
            prop_assert_eq!(roc_auc(&scores, &labels), roc_auc(&reversed, &labels_reversed));
            prop_assert_eq!(
                average_precision(&scores, &labels),
                average_precision(&reversed, &labels_reversed)
            );
        }
    }
}
