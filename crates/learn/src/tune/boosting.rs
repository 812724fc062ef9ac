//! Growing boosted trees from labelled rows.
//!
//! In flow inputs of labelled rows, column by column, and labels; out flow [`Trees`]. Grown by `forust-ml` (histograms,
//! second-order gradient boosting: Chen & Guestrin 2016; trees grown where the loss falls most, as in Ke et al. 2017,
//! *LightGBM*), each on samples of rows and columns (Friedman 2002, *Stochastic Gradient Boosting*), as the mean of several
//! ensembles that differ in these samples (Breiman 1996, *Bagging Predictors*). How many trees each has is found by early
//! stopping on rows that grow none. Invariant: the same trees at any number of threads.

use crate::score::{LEAF, TreeNode, Trees};
use forust_ml::constraints::Constraint;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::metric::Metric;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use std::ops::Range;

/// Trees at most: at some nanoseconds a level they cost a record some microseconds.
pub const TREES_MAX: usize = 400;
/// Ensembles at most of which the mean is taken: as many as [`TREES_MAX`] allows. Four at this rate cost as much as one at
/// half of it with twice the steps, and had .002 more average precision on four public sets.
const ENSEMBLES_MAX: usize = 4;
/// Trees of an ensemble at least: fewer than these have not looked at all columns.
const ROUNDS_MIN: usize = 10;
/// Rounds without a better loss after which growing ends.
const PATIENCE: usize = 20;
/// How much of a tree's step is taken.
const LEARNING_RATE: f32 = 0.1;
/// Leaves of a tree at most.
const LEAVES_MAX: usize = 31;
/// Levels of a tree at most.
const DEPTH_MAX: usize = 8;
/// Share of the rows that each tree sees.
const ROW_SHARE: f32 = 0.5;
/// Share of the columns that each tree sees.
const COLUMN_SHARE: f64 = 0.5;
/// Rows' worth of second derivatives in a leaf at least, by those of a row before the first tree: rare frauds have small ones.
const LEAF_ROWS_MIN: f64 = 2.0;
/// Penalty of a leaf's squared step.
const RIDGE: f32 = 1.0;
/// Bins of a column at most.
const BINS: u16 = 255;
/// Covers of nodes at least, so that shares of them are numbers: at a loss near 0 they vanish.
const COVER_MIN: f32 = 1e-12;

/// Why no trees could be grown.
#[derive(Debug, thiserror::Error)]
#[error("cannot grow trees: {0}")]
pub struct BoostingError(pub(super) String);

/// Inputs and labels of some rows.
#[derive(Debug, Clone)]
pub struct Grown {
    /// Column-major `[K][n]`; NaN where an input is missing.
    values: Vec<f64>,
    labels: Vec<f64>,
    columns: usize,
}

impl Grown {
    /// Rows `rows` of inputs `[n, K]` row-major.
    pub fn select(inputs: &[f32], columns: usize, labels: &[bool], rows: &[usize]) -> Self {
        let column = |c: usize| {
            let value = move |&row: &usize| f64::from(inputs[row * columns + c]);
            rows.iter().map(value)
        };
        Self {
            values: (0..columns).flat_map(column).collect(),
            labels: rows
                .iter()
                .map(|&row| f64::from(u8::from(labels[row])))
                .collect(),
            columns,
        }
    }

    fn matrix(&self) -> Matrix<'_, f64> {
        Matrix::new(&self.values, self.labels.len(), self.columns)
    }
}

/// How many trees an ensemble should have to serve best on `held`, when `fit` grows them: where the log-loss is least.
///
/// # Errors
/// [`BoostingError`].
pub fn rounds(
    fit: &Grown,
    held: &Grown,
    rising: Range<usize>,
    seed: u64,
) -> Result<usize, BoostingError> {
    let mut booster = booster(fit, rising, TREES_MAX, seed)
        .set_evaluation_metric(Some(Metric::LogLoss))
        .set_early_stopping_rounds(Some(PATIENCE));
    let ones = vec![1.0; held.labels.len()];
    let held = vec![(held.matrix(), &held.labels[..], &ones[..])];
    grow(&mut booster, fit, Some(held))?;
    let best = booster.best_iteration.map_or(TREES_MAX, |best| best + 1);
    Ok(best.clamp(ROUNDS_MIN, TREES_MAX))
}

/// Ensembles of so many trees each, as many as there may be.
///
/// # Errors
/// [`BoostingError`].
pub fn trees(
    fit: &Grown,
    rounds: usize,
    rising: Range<usize>,
    seed: u64,
) -> Result<Trees, BoostingError> {
    let count = ensembles(rounds);
    let mut ensembles = Vec::with_capacity(count);
    for ensemble in 0..count as u64 {
        // Seeds of their own, whichever seed is chosen.
        let seed = seed.wrapping_mul(ENSEMBLES_MAX as u64);
        let seed = seed.wrapping_add(ensemble);
        let mut booster = booster(fit, rising.clone(), rounds, seed);
        grow(&mut booster, fit, None)?;
        ensembles.push(booster);
    }
    flat(&ensembles, fit.columns, &rising).map_err(BoostingError)
}

/// How many ensembles of so many trees each there are.
fn ensembles(rounds: usize) -> usize {
    (TREES_MAX / rounds.max(1)).clamp(1, ENSEMBLES_MAX)
}

type Held<'a> = Vec<(Matrix<'a, f64>, &'a [f64], &'a [f64])>;

fn grow(
    booster: &mut GradientBooster,
    fit: &Grown,
    held: Option<Held<'_>>,
) -> Result<(), BoostingError> {
    let ones = vec![1.0; fit.labels.len()];
    let grown = booster.fit(&fit.matrix(), &fit.labels, &ones, held);
    grown.map_err(|e| BoostingError(e.to_string()))
}

fn booster(fit: &Grown, rising: Range<usize>, rounds: usize, seed: u64) -> GradientBooster {
    let share = fit.labels.iter().sum::<f64>() / fit.labels.len() as f64;
    let leaf_weight = LEAF_ROWS_MIN * share * (1.0 - share);
    let constraints = rising.map(|input| (input, Constraint::Positive));
    let mut booster = GradientBooster::default()
        .set_iterations(rounds)
        .set_learning_rate(LEARNING_RATE)
        .set_max_leaves(LEAVES_MAX)
        .set_max_depth(DEPTH_MAX)
        .set_l2(RIDGE)
        .set_min_leaf_weight(leaf_weight as f32)
        .set_sample_method(SampleMethod::Random)
        .set_subsample(ROW_SHARE)
        .set_colsample_bytree(COLUMN_SHARE)
        .set_initialize_base_score(true)
        .set_nbins(BINS)
        .set_monotone_constraints(Some(constraints.collect()))
        .set_seed(seed);
    booster.grow_policy = GrowPolicy::LossGuide;
    booster
}

/// The mean of ensembles as a bundle stores it: nodes of a tree from its root on, children behind their parents, and every
/// leaf's step divided by the number of ensembles.
///
/// The crate keeps both sides of a split at a rising input in order, but not what a later split at another input makes of
/// them: leaves are held within the middle of the two sides here (as in XGBoost), so that log-odds never fall.
fn flat(
    ensembles: &[GradientBooster],
    inputs: usize,
    rising: &Range<usize>,
) -> Result<Trees, String> {
    let count = ensembles.len() as f32;
    let (mut roots, mut nodes) = (Vec::new(), Vec::new());
    for tree in ensembles.iter().flat_map(|ensemble| &ensemble.trees) {
        roots.push(nodes.len() as u32);
        // Places in the tree of nodes that are to be written, in the order of their places here, each with what its leaves
        // may be.
        let mut queue = vec![(0, (f32::NEG_INFINITY, f32::INFINITY))];
        let first = nodes.len();
        let mut at = 0;
        let node_at = |place: usize| tree.nodes.get(place).ok_or("a tree lacks a node");
        while let Some(&(place, (least, most))) = queue.get(at) {
            let node = node_at(place)?;
            let cover = node.hessian_sum.max(COVER_MIN);
            let children = (first + queue.len()) as u32;
            nodes.push(match node.is_leaf {
                true => TreeNode {
                    feature: LEAF,
                    value: node.weight_value.clamp(least, most) / count,
                    left: 0,
                    right: 0,
                    missing_left: false,
                    cover,
                },
                false => TreeNode {
                    feature: node.split_feature as u32,
                    value: least_from(node.split_value),
                    left: children,
                    right: children + 1,
                    missing_left: node.missing_node == node.left_child,
                    cover,
                },
            });
            if !node.is_leaf {
                let (left, right) = (node_at(node.left_child)?, node_at(node.right_child)?);
                let middle = ((left.weight_value + right.weight_value) / 2.0).clamp(least, most);
                let (left, right) = match rising.contains(&node.split_feature) {
                    true => ((least, middle), (middle, most)),
                    false => ((least, most), (least, most)),
                };
                queue.extend([(node.left_child, left), (node.right_child, right)]);
            }
            at += 1;
        }
    }
    let base = ensembles
        .iter()
        .map(|ensemble| ensemble.base_score)
        .sum::<f64>();
    Trees::from_parts(inputs, base as f32 / count, roots, nodes)
}

/// The least f32 that is at least `x`: an input is below one as it is below the other.
fn least_from(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x {
        near.next_up()
    } else {
        near
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use forust_ml::gradientbooster::ContributionsMethod;
    use rand::RngExt;

    const COLUMNS: usize = 5;

    /// Frauds are where column 0 is large and column 1 small; column 3 is sometimes missing, column 4 rises with both.
    fn rows(n: usize) -> (Vec<f32>, Vec<bool>) {
        let mut rng = stream(5, Purpose::Tests);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let mut row: Vec<f32> = (0..COLUMNS).map(|_| rng.random::<f32>()).collect();
            if row[2] > 0.8 {
                row[3] = f32::NAN;
            }
            labels.push(row[0] > 0.7 && row[1] < 0.4 && rng.random::<f32>() < 0.9);
            values.extend(row);
        }
        (values, labels)
    }

    fn grown() -> Grown {
        let (values, labels) = rows(1_500);
        let all: Vec<usize> = (0..labels.len()).collect();
        Grown::select(&values, COLUMNS, &labels, &all)
    }

    #[test]
    fn stored_trees_say_what_the_grown_ones_do_and_attribute_it_alike() {
        let fit = grown();
        let ensembles = [3, 4].map(|seed| {
            let mut booster = booster(&fit, 0..0, 40, seed);
            grow(&mut booster, &fit, None).unwrap();
            booster
        });
        let trees = flat(&ensembles, COLUMNS, &(0..0)).unwrap();
        let (values, labels) = rows(1_500);
        let mean = |of: &dyn Fn(&GradientBooster) -> Vec<f64>| -> Vec<f64> {
            let [a, b] = [of(&ensembles[0]), of(&ensembles[1])];
            a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect()
        };
        let log_odds = mean(&|of| of.predict(&fit.matrix(), false));
        // Contributions of an independent program, with the base behind those of the columns.
        let shapley = mean(&|of| {
            let method = ContributionsMethod::Shapley;
            of.predict_contributions(&fit.matrix(), method, false)
        });
        for row in 0..labels.len() {
            let inputs = &values[row * COLUMNS..][..COLUMNS];
            let found = f64::from(trees.log_odds(inputs));
            assert!((found - log_odds[row]).abs() < 1e-4, "{row}");
            let expected = &shapley[row * (COLUMNS + 1)..][..COLUMNS];
            for (found, expected) in trees.contributions(inputs).iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "row {row}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn growing_ends_where_other_rows_gain_nothing_more() {
        let (values, labels) = rows(3_000);
        let part = |rows: Range<usize>| {
            let rows: Vec<usize> = rows.collect();
            Grown::select(&values, COLUMNS, &labels, &rows)
        };
        let found = rounds(&part(0..2_000), &part(2_000..3_000), 0..0, 1).unwrap();
        assert!((ROUNDS_MIN..TREES_MAX).contains(&found), "{found}");
        let trees = trees(&part(0..2_000), found, 0..0, 1).unwrap();
        assert_eq!(trees.parts().0.len(), ensembles(found) * found);
        let all = [10, 100, 101, 150, 200, 201, 400].map(|rounds| rounds * ensembles(rounds));
        assert_eq!(all, [40, 400, 303, 300, 400, 201, 400]);
    }

    #[test]
    fn log_odds_never_fall_in_an_input_that_must_rise() {
        let (values, mut labels) = rows(1_500);
        // Labels that point the other way in column 4.
        for (row, label) in labels.iter_mut().enumerate() {
            *label |= values[row * COLUMNS + 4] < 0.1;
        }
        let all: Vec<usize> = (0..labels.len()).collect();
        let fit = Grown::select(&values, COLUMNS, &labels, &all);
        let trees = trees(&fit, 40, 4..5, 1).unwrap();
        for row in values.chunks_exact(COLUMNS).take(200) {
            let at = |x: f32| {
                let mut row = row.to_vec();
                row[4] = x;
                trees.log_odds(&row)
            };
            let along: Vec<f32> = (0..=20).map(|i| at(i as f32 / 20.0)).collect();
            assert!(along.is_sorted(), "{along:?}");
        }
    }

    #[test]
    fn the_same_trees_at_any_number_of_threads() {
        let fit = grown();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| trees(&fit, 30, 4..5, 7).unwrap())
        };
        assert_eq!(with(1), with(4));
    }

    #[test]
    fn a_split_between_two_numbers_stays_between_them() {
        for x in [0.1f32, -3.7, 1e-30, 7.0] {
            let between = (f64::from(x) + f64::from(x.next_up())) / 2.0;
            assert!(x < least_from(between) && x.next_up() >= least_from(between));
            assert_eq!(least_from(f64::from(x)), x);
        }
    }
}
