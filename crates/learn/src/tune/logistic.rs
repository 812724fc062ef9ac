//! Logistic regression whose weights may not be negative and are drawn towards zero: a convex problem of some dozens to
//! some thousands of weights.
//!
//! In flow columns of components, labels and the importance of every row; out flow an intercept and weights >= 0.
//! The problem, with n rows, C columns, importances c, eta_i = b + sum_j w_j x_ij:
//!
//! ```text
//! minimise  sum_i c_i (log(1 + exp(eta_i)) - y_i eta_i) + 1/2 sum_j ridge_j w_j^2   over b and w >= 0
//! ```
//!
//! Solved by a projected Newton method: each step minimises the second-order model over the weights that are allowed, by
//! cyclic coordinate descent on its C x C matrix, and then goes as far along that direction as lowers the objective (Lee,
//! Sun & Saunders 2014, *Proximal Newton-type methods*, with the indicator of w >= 0 as the proximal part; coordinate
//! descent as in Friedman, Hastie & Tibshirani 2010). A column that rises with abnormality can then never lower a score,
//! which a fraud team expects of it and which few labels could not teach (monotone constraints as prior knowledge:
//! Sill 1998, *Monotonic Networks*).
//!
//! Invariant: deterministic at any number of threads. Every sum runs over the rows in one order.

use rayon::prelude::*;

/// Newton steps at most; ten are usual.
const STEPS_MAX: usize = 100;
/// Sweeps of coordinate descent a step at most. A step that ends early still descends.
const SWEEPS_MAX: usize = 1_000;
/// The largest entry of the projected gradient at which the problem counts as solved. Losses are of the order of 1, and
/// about here their rounding hides what a further step gains.
const GRADIENT_TOLERANCE: f64 = 1e-8;
/// Share of the decrease promised by the gradient that a step must bring (Armijo; Nocedal & Wright 2006, section 3.1).
const DECREASE_SHARE: f64 = 1e-4;
/// Halvings of a step at most.
const HALVINGS_MAX: usize = 40;
/// Lanes of a sum: a fixed number, so that vector units can be used without changing the order of additions.
const LANES: usize = 8;

/// The data and penalties of a problem.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// `[C][n]`, finite.
    pub columns: &'a [Vec<f32>],
    /// \[n\], of both classes.
    pub labels: &'a [bool],
    /// \[n\], > 0.
    pub importance: &'a [f64],
    /// \[C\], > 0: the penalty of each squared weight.
    pub ridge: &'a [f64],
}

/// Intercept and weights of the log-odds.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    /// Unbounded.
    pub intercept: f64,
    /// \[C\], >= 0.
    pub weights: Vec<f64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Where.
    pub coefficients: Coefficients,
    /// The objective there, nats.
    pub objective: f64,
    /// The largest entry of the projected gradient there: 0 at the optimum.
    pub projected_gradient: f64,
}

impl Coefficients {
    /// No column counts.
    pub fn zero(columns: usize) -> Self {
        Self {
            intercept: 0.0,
            weights: vec![0.0; columns],
        }
    }

    /// The log-odds of every row without the intercept, which changes no rank: \[n\].
    pub fn scores(&self, columns: &[Vec<f32>]) -> Vec<f64> {
        let rows = columns.first().map_or(0, Vec::len);
        let mut scores = vec![0.0; rows];
        for (column, &weight) in columns.iter().zip(&self.weights) {
            if weight > 0.0 {
                add_scaled(&mut scores, column, weight);
            }
        }
        scores
    }
}

/// Solves a problem from a starting point, which only changes how long it takes.
pub fn solve(problem: &Problem<'_>, start: &Coefficients) -> Solution {
    let mut at = Point::new(problem, start.clone());
    for _ in 0..STEPS_MAX {
        let Slope { gradient, hessian } = at.slope(problem);
        if projected(&gradient, &at.coefficients) <= GRADIENT_TOLERANCE {
            break;
        }
        let direction = model_step(&gradient, &hessian, &at.coefficients);
        match at.along(problem, &direction, &gradient) {
            Some(next) => at = next,
            // No step lowers the objective any more: what is left is rounding.
            None => break,
        }
    }
    let gradient = at.gradient(problem);
    Solution {
        projected_gradient: projected(&gradient, &at.coefficients),
        objective: at.objective,
        coefficients: at.coefficients,
    }
}

/// A point with what was computed there.
struct Point {
    coefficients: Coefficients,
    /// \[n\], intercept included.
    log_odds: Vec<f64>,
    objective: f64,
}

/// First and second derivatives; index 0 is the intercept, 1 + j column j.
struct Slope {
    gradient: Vec<f64>,
    /// Row-major, `(C + 1)^2`.
    hessian: Vec<f64>,
}

impl Point {
    fn new(problem: &Problem<'_>, coefficients: Coefficients) -> Self {
        let mut log_odds = coefficients.scores(problem.columns);
        log_odds.resize(problem.labels.len(), 0.0);
        log_odds
            .iter_mut()
            .for_each(|eta| *eta += coefficients.intercept);
        let objective = objective(problem, &coefficients, &log_odds);
        Self {
            coefficients,
            log_odds,
            objective,
        }
    }

    /// c_i (probability - label): the gradient of the loss by eta_i.
    fn residuals(&self, problem: &Problem<'_>) -> Vec<f64> {
        let rows = self
            .log_odds
            .iter()
            .zip(problem.labels)
            .zip(problem.importance);
        rows.map(|((&eta, &label), c)| c * (probability(eta) - f64::from(u8::from(label))))
            .collect()
    }

    fn gradient(&self, problem: &Problem<'_>) -> Vec<f64> {
        let residuals = self.residuals(problem);
        let weights = self.coefficients.weights.par_iter();
        let columns = problem.columns.par_iter().zip(problem.ridge).zip(weights);
        let by_column = columns.map(|((column, ridge), w)| dot(&residuals, column) + ridge * w);
        let mut gradient = vec![residuals.iter().sum()];
        gradient.extend(by_column.collect::<Vec<f64>>());
        gradient
    }

    fn slope(&self, problem: &Problem<'_>) -> Slope {
        let curvature = self.log_odds.iter().zip(problem.importance);
        let curvature: Vec<f64> = curvature
            .map(|(&eta, c)| c * probability(eta) * probability(-eta))
            .collect();
        let size = problem.columns.len() + 1;
        // Upper triangle: each row of the matrix is one task.
        let row = |j: usize| -> Vec<f64> {
            let Some(own) = j.checked_sub(1) else {
                let sums = problem.columns.iter().map(|column| dot(&curvature, column));
                return std::iter::once(curvature.iter().sum())
                    .chain(sums)
                    .collect();
            };
            let mut weighed = curvature.clone();
            let column = weighed.iter_mut().zip(&problem.columns[own]);
            column.for_each(|(h, &x)| *h *= f64::from(x));
            let later = problem.columns[own..].iter();
            let mut sums: Vec<f64> = later.map(|column| dot(&weighed, column)).collect();
            sums[0] += problem.ridge[own];
            sums
        };
        let rows: Vec<Vec<f64>> = (0..size).into_par_iter().map(row).collect();
        let mut hessian = vec![0.0; size * size];
        for (j, row) in rows.iter().enumerate() {
            for (k, &value) in (j..).zip(row) {
                hessian[j * size + k] = value;
                hessian[k * size + j] = value;
            }
        }
        Slope {
            gradient: self.gradient(problem),
            hessian,
        }
    }

    /// The point that lies as far along the direction as lowers the objective enough, if there is one. Between two points
    /// that are allowed every point is, so nothing has to be projected.
    fn along(&self, problem: &Problem<'_>, direction: &[f64], gradient: &[f64]) -> Option<Self> {
        let promised: f64 = direction.iter().zip(gradient).map(|(d, g)| d * g).sum();
        let mut length = 1.0;
        for _ in 0..HALVINGS_MAX {
            let (first, rest) = direction.split_first()?;
            let weights = self.coefficients.weights.iter().zip(rest);
            let coefficients = Coefficients {
                intercept: self.coefficients.intercept + length * first,
                weights: weights.map(|(w, d)| (w + length * d).max(0.0)).collect(),
            };
            let next = Self::new(problem, coefficients);
            if next.objective < self.objective
                && next.objective <= self.objective + DECREASE_SHARE * length * promised
            {
                return Some(next);
            }
            length /= 2.0;
        }
        None
    }
}

fn objective(problem: &Problem<'_>, at: &Coefficients, log_odds: &[f64]) -> f64 {
    let rows = log_odds.iter().zip(problem.labels).zip(problem.importance);
    let loss: f64 = rows
        .map(|((&eta, &label), c)| c * log_loss(eta, label))
        .sum();
    let squares = problem.ridge.iter().zip(&at.weights);
    loss + squares.map(|(ridge, w)| ridge * w * w).sum::<f64>() / 2.0
}

/// The step that minimises g d + d H d / 2 over all weights that stay at least 0.
fn model_step(gradient: &[f64], hessian: &[f64], at: &Coefficients) -> Vec<f64> {
    let size = gradient.len();
    let mut step = vec![0.0; size];
    // g + H d, kept up to date.
    let mut slope = gradient.to_vec();
    let scale = gradient.iter().fold(0f64, |most, g| most.max(g.abs()));
    for _ in 0..SWEEPS_MAX {
        let mut largest = 0f64;
        for j in 0..size {
            let row = &hessian[j * size..(j + 1) * size];
            if !(row[j] > 0.0) {
                continue;
            }
            let mut wanted = step[j] - slope[j] / row[j];
            if let Some(weight) = j.checked_sub(1) {
                wanted = wanted.max(-at.weights[weight]);
            }
            let change = wanted - step[j];
            if change == 0.0 {
                continue;
            }
            step[j] = wanted;
            slope
                .iter_mut()
                .zip(row)
                .for_each(|(s, h)| *s += h * change);
            largest = largest.max((change * row[j]).abs());
        }
        if largest <= scale * 1e-6 {
            break;
        }
    }
    step
}

/// The largest entry of the gradient that a step could follow: at a weight of 0 only a falling objective counts.
fn projected(gradient: &[f64], at: &Coefficients) -> f64 {
    let free = gradient.first().map_or(0.0, |g| g.abs());
    let bounded = gradient.iter().skip(1).zip(&at.weights);
    let bounded = bounded.map(|(&g, &w)| if w > 0.0 { g.abs() } else { (-g).max(0.0) });
    bounded.fold(free, f64::max)
}

fn probability(log_odds: f64) -> f64 {
    if log_odds >= 0.0 {
        1.0 / (1.0 + (-log_odds).exp())
    } else {
        let odds = log_odds.exp();
        odds / (1.0 + odds)
    }
}

/// -log of the probability that these log-odds give the label, nats.
fn log_loss(log_odds: f64, label: bool) -> f64 {
    let against = if label { -log_odds } else { log_odds };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

fn dot(a: &[f64], b: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f64 = rest.map(|(a, &b)| a * f64::from(b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * f64::from(b[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(sums: &mut [f64], column: &[f32], weight: f64) {
    let rows = sums.iter_mut().zip(column);
    rows.for_each(|(sum, &x)| *sum += weight * f64::from(x));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The problem of this program, with NumPy 2.4.6 and SciPy 1.17.1, whose output the test below quotes:
    ///
    /// ```python
    /// import numpy as np
    /// from scipy.optimize import minimize
    /// i = np.arange(240)
    /// X = np.stack([((i * (37 + 6 * j)) % (53 + 2 * j)) / 25 for j in range(5)], 1)
    /// X[:, 4] = 2.1 - X[:, 0] / 2
    /// X = X.astype(np.float32).astype(float)
    /// eta = 1.5 * X[:, 0] + 0.8 * X[:, 1] - X[:, 2] - 4
    /// y = (eta + ((i * 29) % 17) / 4 > 0.5) & (i % 3 != 1)
    /// def f(t, c, ridge):
    ///     e = t[0] + X @ t[1:]
    ///     r = c * (1 / (1 + np.exp(-e)) - y)
    ///     loss = c @ (np.logaddexp(0, e) - y * e) + ridge @ t[1:]**2 / 2
    ///     return loss, np.r_[r.sum(), X.T @ r + ridge * t[1:]]
    /// def solve(*args):
    ///     bounds = [(None, None)] + [(0, None)] * 5
    ///     tight = dict(ftol=1e-16, gtol=1e-12, maxiter=10000)
    ///     r = minimize(f, np.zeros(6), args, "L-BFGS-B", True, bounds=bounds, options=tight)
    ///     print(r.fun, r.x.tolist())
    /// print(y.sum())
    /// solve(np.full(240, 1 / 240), np.array([1e-4, .01, .01, .01, .01]))
    /// solve(np.where(y, .5 / y.sum(), .5 / (~y).sum()), np.array([1e-3, .1, .1, .1, .1]))
    /// ```
    fn program() -> (Vec<Vec<f32>>, Vec<bool>) {
        let column = |j: usize| (0..240).map(move |i| ((i * (37 + 6 * j)) % (53 + 2 * j)) as f64);
        let exact: Vec<Vec<f64>> = (0..5)
            .map(|j| column(j).map(|x| x / 25.0).collect())
            .collect();
        let mut columns: Vec<Vec<f32>> = exact
            .iter()
            .map(|column| column.iter().map(|&x| x as f32).collect())
            .collect();
        columns[4] = exact[0].iter().map(|x| (2.1 - x / 2.0) as f32).collect();
        let x = |j: usize, i: usize| f64::from(columns[j][i]);
        let eta = |i| 1.5 * x(0, i) + 0.8 * x(1, i) - x(2, i) - 4.0;
        let is_one = |i: usize| eta(i) + ((i * 29) % 17) as f64 / 4.0 > 0.5 && i % 3 != 1;
        let labels = (0..240).map(is_one).collect();
        (columns, labels)
    }

    fn check(found: &Solution, objective: f64, expected: &[f64; 6]) {
        assert!((found.objective - objective).abs() < 1e-12, "{found:?}");
        assert!(found.projected_gradient <= 1e-7, "{found:?}");
        let Coefficients { intercept, weights } = &found.coefficients;
        let all = std::iter::once(intercept).chain(weights);
        for (found, expected) in all.zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_optimum_is_that_of_scipy_with_weights_at_their_bound() {
        let (columns, labels) = program();
        assert_eq!(labels.iter().filter(|&&y| y).count(), 41);
        let mut problem = Problem {
            columns: &columns,
            labels: &labels,
            importance: &[1.0 / 240.0; 240],
            ridge: &[1e-4, 0.01, 0.01, 0.01, 0.01],
        };
        let zero = Coefficients::zero(5);
        let equal = [
            -3.8972919101956083,
            1.2095911490043239,
            0.7580376078843835,
            0.0,
            0.0,
            0.0,
        ];
        check(&solve(&problem, &zero), 0.40722728493216165, &equal);

        let importance = |&y: &bool| if y { 0.5 / 41.0 } else { 0.5 / 199.0 };
        let importance: Vec<f64> = labels.iter().map(importance).collect();
        problem.importance = &importance;
        problem.ridge = &[1e-3, 0.1, 0.1, 0.1, 0.1];
        let balanced = [
            -1.882721338766498,
            1.1752913127276545,
            0.4164138993796566,
            0.0,
            0.0,
            0.0,
        ];
        check(&solve(&problem, &zero), 0.619112072792925, &balanced);
        // Where it starts changes nothing.
        let far = Coefficients {
            intercept: 5.0,
            weights: vec![0.0, 3.0, 9.0, 0.5, 2.0],
        };
        check(&solve(&problem, &far), 0.619112072792925, &balanced);
    }

    #[test]
    fn classes_that_a_column_separates_have_a_finite_optimum() {
        let columns = [(0..40).map(|i| i as f32).collect(), vec![0.0; 40]];
        let labels: Vec<bool> = (0..40).map(|i| i >= 35).collect();
        let problem = Problem {
            columns: &columns,
            labels: &labels,
            importance: &[1.0 / 40.0; 40],
            ridge: &[1e-4, 1e-4],
        };
        let found = solve(&problem, &Coefficients::zero(2));
        assert!(found.projected_gradient <= 1e-7, "{found:?}");
        assert!(found.coefficients.weights[0] > 1.0 && found.coefficients.weights[1] == 0.0);
    }

    #[test]
    fn a_sum_does_not_depend_on_its_length_being_even() {
        let a: Vec<f64> = (0..37).map(|i| f64::from(i) / 4.0).collect();
        let b: Vec<f32> = (0..37).map(|i| (i % 5) as f32).collect();
        let plain: f64 = a.iter().zip(&b).map(|(a, &b)| a * f64::from(b)).sum();
        assert_eq!(dot(&a, &b), plain);
    }

    /// Rows of three components, labels of both classes.
    fn rows() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<bool>)> {
        let row = (prop::array::uniform3(0f32..6.0), any::<bool>());
        prop::collection::vec(row, 4..60).prop_map(|rows| {
            let column = |c: usize| rows.iter().map(|(x, _)| x[c]).collect();
            let mut labels: Vec<bool> = rows.iter().map(|(_, y)| *y).collect();
            (labels[0], labels[1]) = (true, false);
            ((0..3).map(column).collect(), labels)
        })
    }

    proptest! {
        #[test]
        fn a_solution_is_a_minimum_and_no_component_lowers_a_score(
            (columns, labels) in rows(),
            by in prop::array::uniform4(-0.3f64..0.3),
        ) {
            let importance = vec![1.0 / labels.len() as f64; labels.len()];
            let problem = Problem {
                columns: &columns,
                labels: &labels,
                importance: &importance,
                ridge: &[1e-3, 0.01, 0.1],
            };
            let found = solve(&problem, &Coefficients::zero(3));
            // A step is refused when its gain is lost in the rounding of the objective, about 1e-16: with curvatures of up to
            // some dozens (columns reach 6) that is gradients of up to some 1e-7.
            prop_assert!(found.projected_gradient <= 1e-6, "{:?}", found);
            prop_assert!(found.coefficients.weights.iter().all(|&w| w >= 0.0));
            // The problem is convex: no other point that is allowed is lower.
            let at = &found.coefficients;
            let other = Coefficients {
                intercept: at.intercept + by[0],
                weights: at.weights.iter().zip(&by[1..]).map(|(w, d)| (w + d).max(0.0)).collect(),
            };
            let other = Point::new(&problem, other).objective;
            prop_assert!(other >= found.objective - 1e-10, "{} {}", other, found.objective);
        }
    }
}
