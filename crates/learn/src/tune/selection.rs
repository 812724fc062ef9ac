//! What labels are best at: trees, or weights and how strongly these hold on to the untuned score, or nothing; chosen on
//! rows that none of them saw.
//!
//! In flow components of labelled rows and inputs of trees; out flow trees or weights and what they were worth on validation
//! rows. Invariant: the untuned score is tried too, so tuning is never knowingly worse than not tuning. Rows validate that are later than those that fit, where there are times; folds do otherwise.

use super::boosting::BoostingError;
use super::grove::TreeExamples;
use super::logistic::{Coefficients, Problem, solve};
use crate::bundle::{Kind, Validation, ValidationSplit};
use crate::evaluate::metrics::average_precision;
use crate::rng::{Purpose, stream};
use crate::score::{Combination, Component, Supervised};
use rand::seq::SliceRandom;
use rayon::prelude::*;

/// Strengths tried, the strongest first: the penalty of a squared weight, against losses of which a fraud's counts
/// 1 / (2 frauds). At 1 the weights barely leave zero, at 0.001 fifty frauds fit them freely.
pub const STRENGTHS: [f64; 7] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
/// The penalty of the untuned score's own weight: enough to keep it finite where it separates the classes.
const UNTUNED_RIDGE: f64 = 1e-4;
/// Share of the frauds, the latest, that validate where there are times.
const LATEST_SHARE: f64 = 0.3;
/// Frauds on either side of the division by time at least, else folds are used.
const SIDE_FRAUDS_MIN: usize = 3;
/// Folds where there are no times: each keeps two frauds where there are ten.
const FOLDS: usize = 5;
/// Nats of a component at most, while weights are fitted: only a surprise that overflowed is beyond, and one such row must
/// not decide anything.
const COMPONENT_NATS_MAX: f32 = 100.0;

/// Labelled rows as the fit sees them. n rows, C components.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// `[C][n]`, within 0..=100.
    columns: Vec<Vec<f32>>,
    /// \[n\]; true = fraud.
    labels: Vec<bool>,
    /// \[n\], microseconds since 1970.
    times: Vec<Option<i64>>,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// None if nothing was better than the untuned score.
    pub detector: Option<Supervised>,
    /// Why.
    pub validation: Validation,
}

impl Examples {
    /// Of row-major components `[n, C]`.
    pub fn new(
        components: usize,
        values: &[f32],
        labels: Vec<bool>,
        times: Vec<Option<i64>>,
    ) -> Self {
        debug_assert_eq!(values.len(), components * labels.len());
        debug_assert_eq!(times.len(), labels.len());
        let column = |c: usize| {
            let column = values.iter().skip(c).step_by(components);
            column.map(|x| x.min(COMPONENT_NATS_MAX)).collect()
        };
        Self {
            columns: (0..components).map(column).collect(),
            labels,
            times,
        }
    }

    fn select(&self, rows: &[usize]) -> Self {
        let column = |column: &Vec<f32>| rows.iter().map(|&row| column[row]).collect();
        Self {
            columns: self.columns.iter().map(column).collect(),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            times: rows.iter().map(|&row| self.times[row]).collect(),
        }
    }

    fn frauds(&self) -> usize {
        self.labels.iter().filter(|&&label| label).count()
    }

    /// The rows before and from the moment on that leaves [`LATEST_SHARE`] of the frauds; `None` where a side would lack a
    /// class. A row without a time can be of any, and does not validate.
    fn divided_by_time(&self) -> Option<(Vec<usize>, Vec<usize>)> {
        let frauds = self
            .times
            .iter()
            .zip(&self.labels)
            .filter(|(_, label)| **label);
        let mut times: Vec<i64> = frauds.filter_map(|(time, _)| *time).collect();
        times.sort_unstable();
        let first = times.len() as f64 * (1.0 - LATEST_SHARE);
        let from = *times.get(first as usize)?;
        let is_late = |&row: &usize| self.times[row].is_some_and(|time| time >= from);
        let (late, early): (Vec<_>, Vec<_>) = (0..self.labels.len()).partition(is_late);
        let holds_both = |rows: &[usize]| {
            let frauds = rows.iter().filter(|&&row| self.labels[row]).count();
            frauds >= SIDE_FRAUDS_MIN && frauds < rows.len()
        };
        (holds_both(&early) && holds_both(&late)).then_some((early, late))
    }

    /// [`FOLDS`] ways to divide the rows into those that fit and those that validate.
    fn folds(&self, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut rng = stream(seed, Purpose::TuningFolds);
        let mut fold_of = vec![0; self.labels.len()];
        for class in [true, false] {
            let rows = 0..self.labels.len();
            let mut rows: Vec<usize> = rows.filter(|&row| self.labels[row] == class).collect();
            rows.shuffle(&mut rng);
            for (at, row) in rows.into_iter().enumerate() {
                fold_of[row] = at % FOLDS;
            }
        }
        let divided = |fold| {
            let rows = 0..self.labels.len();
            let (held, fit) = rows.partition(|&row| fold_of[row] == fold);
            (fit, held)
        };
        (0..FOLDS).map(divided).collect()
    }
}

/// The detector of all examples of the kind that ranks best the rows set aside: boosted trees, a combination, or none.
///
/// The trees are as `grove` grows them. The combination's weights are those of a logistic regression on the components that may not be negative. The untuned score has a weight that is
/// practically free; the others are drawn towards zero by the strength, so that with few labels the result stays near the
/// untuned order and with many goes where they lead.
///
/// Every row counts alike. Where frauds are rare, or kept more often than others, the slopes of a logistic regression are
/// right all the same; only its intercept is off (King & Zeng 2001, *Logistic Regression in Rare Events Data*, section 4.1;
/// Prentice & Pyke 1979), and no rank depends on that. Weights that balance the classes, their other remedy, waste what many
/// normal rows tell of high scores: they cost half a point to four points of average precision on four public sets. The
/// objective is divided by twice the number of frauds, so that a strength means the same whatever their number.
///
/// `components` names the columns of `examples`, `inputs` has the trees' of the same rows. These hold both classes: whoever
/// reads the rows refuses others.
///
/// # Errors
/// [`BoostingError`].
pub fn learn(
    components: &[Component],
    (examples, inputs): (&Examples, &TreeExamples),
    seed: u64,
) -> Result<Learned, BoostingError> {
    let (split, divisions) = match examples.divided_by_time() {
        Some(division) => (ValidationSplit::Latest, vec![division]),
        None => (ValidationSplit::Folds, examples.folds(seed)),
    };
    let tried: Vec<Tried> = divisions
        .par_iter()
        .map(|(fit, held)| {
            let (fit, held) = (examples.select(fit), examples.select(held));
            try_strengths(components, &fit, &held)
        })
        .collect();
    let mean = |of: &dyn Fn(&Tried) -> f64| tried.iter().map(of).sum::<f64>() / tried.len() as f64;
    let before = mean(&|tried| tried.untuned);
    let mut best = (before, None);
    for (at, &strength) in STRENGTHS.iter().enumerate() {
        let found = mean(&|tried| tried.by_strength[at]);
        // Strictly: of equal ones the stronger stays, and the untuned score is the strongest.
        if found > best.0 {
            best = (found, Some(strength));
        }
    }
    let trees = trees_precision(examples, inputs, &divisions, seed)?;
    let all: Vec<usize> = (0..examples.labels.len()).collect();
    let (detector, kind, after) = match best.1 {
        // Strictly: of equal ones the simpler stays.
        _ if trees > best.0 => {
            let trees_of_all = inputs.trees(&examples.labels, &all, seed)?;
            (Some(Supervised::Trees(trees_of_all)), Kind::Trees, trees)
        }
        Some(strength) => match fitted(components, examples, strength) {
            Some(weights) => (
                Some(Supervised::Combination(weights)),
                Kind::Combination,
                best.0,
            ),
            None => (None, Kind::Untuned, before),
        },
        None => (None, Kind::Untuned, before),
    };
    let held = || divisions.iter().flat_map(|(_, held)| held);
    Ok(Learned {
        detector,
        validation: Validation {
            split,
            rows: held().count() as u64,
            frauds: held().filter(|&&row| examples.labels[row]).count() as u64,
            average_precision_before: before,
            average_precision_combination: best.0,
            average_precision_trees: trees,
            average_precision_after: after,
            kind,
            strength: best.1.filter(|_| kind == Kind::Combination),
        },
    })
}

/// The mean over divisions of the trees' average precision on the rows that were set aside.
fn trees_precision(
    examples: &Examples,
    inputs: &TreeExamples,
    divisions: &[(Vec<usize>, Vec<usize>)],
    seed: u64,
) -> Result<f64, BoostingError> {
    let mut sum = 0.0;
    for (fit, held) in divisions {
        let scores = inputs.scores(&examples.labels, (fit, held), seed)?;
        let labels: Vec<bool> = held.iter().map(|&row| examples.labels[row]).collect();
        sum += average_precision(&scores, &labels).unwrap_or(0.0);
    }
    Ok(sum / divisions.len() as f64)
}

/// The combination of all examples under a strength. If no weight is above 0, nothing was learned.
fn fitted(components: &[Component], examples: &Examples, strength: f64) -> Option<Combination> {
    let start = Coefficients::zero(components.len());
    let found = solved(components, examples, strength, &start);
    Combination::weighted(components, &found.weights).ok()
}

/// Average precision on the rows of one division that were set aside.
struct Tried {
    untuned: f64,
    /// One entry a strength of [`STRENGTHS`].
    by_strength: Vec<f64>,
}

fn try_strengths(components: &[Component], fit: &Examples, held: &Examples) -> Tried {
    // Both classes are on both sides and components are numbers, so that a metric is never missing.
    let rank = |scores: &[f64]| average_precision(scores, &held.labels).unwrap_or(0.0);
    let untuned = components.iter().map(|c| match c {
        Component::Untuned => 1.0,
        _ => 0.0,
    });
    let untuned = Coefficients {
        intercept: 0.0,
        weights: untuned.collect(),
    };
    let mut at = Coefficients::zero(components.len());
    let mut by_strength = Vec::with_capacity(STRENGTHS.len());
    for &strength in &STRENGTHS {
        // The solution of the last strength is near that of the next.
        at = solved(components, fit, strength, &at);
        by_strength.push(rank(&at.scores(&held.columns)));
    }
    Tried {
        untuned: rank(&untuned.scores(&held.columns)),
        by_strength,
    }
}

fn solved(
    components: &[Component],
    examples: &Examples,
    strength: f64,
    start: &Coefficients,
) -> Coefficients {
    let share = 0.5 / examples.frauds().max(1) as f64;
    let importance = vec![share; examples.labels.len()];
    let ridge = components.iter().map(|component| match component {
        Component::Untuned => UNTUNED_RIDGE,
        _ => strength,
    });
    let ridge: Vec<f64> = ridge.collect();
    let problem = Problem {
        columns: &examples.columns,
        labels: &examples.labels,
        importance: &importance,
        ridge: &ridge,
    };
    solve(&problem, start).coefficients
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::rng::ChaCha8Rng;
    use rand::RngExt;

    const COMPONENTS: usize = 12;

    /// The untuned score and eleven fields.
    fn components() -> Vec<Component> {
        let field = |field| Component::Field { field, reading: 0 };
        std::iter::once(Component::Untuned)
            .chain((0..COMPONENTS - 1).map(field))
            .collect()
    }

    /// Components of normal rows are independent and exponential, as -log of uniform ranks are; those of a fraud have `by`
    /// more nats in field 3 and are as those of any other row besides. The untuned score is their mean.
    fn draw(rng: &mut ChaCha8Rng, frauds: usize, normals: usize, by: f32) -> (Vec<f32>, Vec<bool>) {
        let mut values = Vec::new();
        // Frauds are spread over the time, which is the order.
        let every = (frauds + normals) / frauds;
        let labels: Vec<bool> = (0..frauds + normals).map(|row| row % every == 0).collect();
        for &fraud in &labels {
            let mut fields = [0f32; COMPONENTS - 1];
            fields
                .iter_mut()
                .for_each(|x| *x = -(1.0 - rng.random::<f32>()).ln());
            fields[3] += if fraud { by } else { 0.0 };
            values.push(fields.iter().sum::<f32>() / fields.len() as f32);
            values.extend(fields);
        }
        (values, labels)
    }

    fn examples(frauds: usize, normals: usize, by: f32, timed: bool) -> Examples {
        let (values, labels) = draw(&mut stream(1, Purpose::Tests), frauds, normals, by);
        let times = (0..labels.len() as i64).map(|row| timed.then_some(row));
        Examples::new(COMPONENTS, &values, labels, times.collect())
    }

    /// What is learned where the trees see nothing but a number of equal values.
    fn learned(examples: &Examples, seed: u64) -> Learned {
        let inputs = TreeExamples {
            inputs: vec![0.0; examples.labels.len()],
            columns: 1,
            rising: 0..0,
        };
        learn(&components(), (examples, &inputs), seed).unwrap()
    }

    fn weights(learned: &Learned) -> Combination {
        match &learned.detector {
            Some(Supervised::Combination(combination)) => combination.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Average precision of a combination on rows that no fit has seen.
    fn precision_later(combination: &Combination, by: f32) -> f64 {
        let (values, labels) = draw(&mut stream(2, Purpose::Tests), 100, 9_900, by);
        let components = components();
        let score = |row: &[f32]| {
            combination.score(|c| row[components.iter().position(|&other| other == c).unwrap()])
        };
        let scores: Vec<f32> = values.chunks_exact(COMPONENTS).map(score).collect();
        average_precision(&scores, &labels).unwrap()
    }

    #[test]
    fn fifty_frauds_teach_which_field_tells() {
        for (timed, split) in [
            (true, ValidationSplit::Latest),
            (false, ValidationSplit::Folds),
        ] {
            let learned = learned(&examples(50, 1_950, 3.0, timed), 0);
            let validation = learned.validation;
            assert_eq!(validation.split, split);
            assert!(validation.strength.is_some(), "{validation:?}");
            assert!(validation.average_precision_after > validation.average_precision_before);
            let before = precision_later(&Combination::default(), 3.0);
            let after = precision_later(&weights(&learned), 3.0);
            assert!(after > 1.5 * before, "{before} {after}");
            let weights = weights(&learned);
            let heaviest = weights.terms().iter();
            let heaviest = heaviest.filter(|term| term.component != Component::Untuned);
            let heaviest = heaviest
                .max_by(|a, b| a.weight.total_cmp(&b.weight))
                .unwrap();
            assert_eq!(
                heaviest.component,
                Component::Field {
                    field: 3,
                    reading: 0
                }
            );
        }
    }

    #[test]
    fn trees_are_kept_where_a_field_tells_what_no_surprise_does() {
        // Components say nothing of these frauds; one field has a value that is common, and theirs.
        for (frauds, timed) in [(20, false), (60, true)] {
            let examples = examples(frauds, 30 * frauds, 0.0, timed);
            let mut rng = stream(6, Purpose::Tests);
            let mut inputs = Vec::new();
            for &fraud in &examples.labels {
                let common = rng.random::<f32>();
                let value = if fraud { 0.4 + 0.05 * common } else { common };
                inputs.extend([value, rng.random::<f32>()]);
            }
            let inputs = TreeExamples {
                inputs,
                columns: 2,
                rising: 0..0,
            };
            let learned = learn(&components(), (&examples, &inputs), 0).unwrap();
            let validation = learned.validation;
            assert_eq!(validation.kind, Kind::Trees, "{validation:?}");
            assert!(validation.average_precision_trees > 2.0 * validation.average_precision_before);
            let Some(Supervised::Trees(trees)) = &learned.detector else {
                panic!("{learned:?}");
            };
            assert!(trees.log_odds(&[0.42, 0.5]) > trees.log_odds(&[0.9, 0.5]) + 1.0);
        }
    }

    #[test]
    fn the_latest_third_of_the_frauds_validates_and_never_fits() {
        let examples = examples(50, 1_950, 3.0, true);
        let (fit, held) = examples.divided_by_time().unwrap();
        assert!(fit.iter().max() < held.iter().min());
        let frauds = |rows: &[usize]| rows.iter().filter(|&&row| examples.labels[row]).count();
        assert_eq!((frauds(&fit), frauds(&held)), (35, 15));
        let validation = learned(&examples, 0).validation;
        assert_eq!(
            (validation.rows, validation.frauds),
            (held.len() as u64, 15)
        );
    }

    #[test]
    fn rows_of_one_moment_or_of_none_are_validated_in_folds() {
        let mut examples = examples(20, 400, 3.0, true);
        examples.times = vec![Some(7); examples.labels.len()];
        assert_eq!(examples.divided_by_time(), None);
        examples.times = vec![None; examples.labels.len()];
        assert_eq!(examples.divided_by_time(), None);
        let folds = examples.folds(0);
        let mut held: Vec<usize> = folds.iter().flat_map(|(_, held)| held.clone()).collect();
        held.sort_unstable();
        assert_eq!(held, (0..examples.labels.len()).collect::<Vec<_>>());
        for (fit, held) in &folds {
            assert!(held.iter().all(|row| !fit.contains(row)));
            assert_eq!(held.iter().filter(|&&row| examples.labels[row]).count(), 4);
        }
    }

    #[test]
    fn labels_that_say_nothing_leave_the_untuned_score() {
        // A fraud that is as any other row: what validation finds is luck, and mostly none. Labels that point the other way
        // are nothing to learn from either, as no weight may be negative.
        let mut examples = examples(30, 970, 0.0, true);
        for column in &mut examples.columns {
            for (x, &fraud) in column.iter_mut().zip(&examples.labels) {
                *x = if fraud { 0.0 } else { *x };
            }
        }
        let learned = learned(&examples, 0);
        let validation = learned.validation;
        assert_eq!(learned.detector, None);
        assert_eq!(validation.kind, Kind::Untuned);
        assert_eq!(validation.strength, None);
        assert_eq!(
            validation.average_precision_after,
            validation.average_precision_before
        );
    }

    #[test]
    fn learning_is_the_same_at_any_number_of_threads() {
        let examples = examples(40, 960, 2.0, false);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| learned(&examples, 5))
        };
        assert_eq!(with(1), with(4));
    }

    #[test]
    fn a_surprise_that_overflowed_decides_nothing_by_its_size() {
        let examples = Examples::new(
            1,
            &[1.0, f32::INFINITY],
            vec![false, true],
            vec![None, None],
        );
        assert_eq!(examples.columns[0], [1.0, COMPONENT_NATS_MAX]);
    }
}
