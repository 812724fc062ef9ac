//! What few rows cannot promise, said before the work begins.

use super::exit::BadData;
use super::report::{shown_smallest, warn};
use crate::records::ParquetSource;
use crate::score::{AlertBudget, DEFAULT_ALERT_BUDGET};
use crate::train::parts::CALIBRATION_SHARE;

/// Rows that `init` needs: with fewer, it is chance whether a column looks like a number, a category or an identifier.
pub const INIT_ROWS_MIN: u64 = 20;

/// Whether a schema can be inferred from the rows.
///
/// # Errors
/// [`BadData`] below [`INIT_ROWS_MIN`].
pub fn check_init(source: &ParquetSource) -> Result<(), BadData> {
    let rows = source.rows();
    if rows >= INIT_ROWS_MIN {
        return Ok(());
    }
    Err(BadData(format!(
        "{}: {rows} rows; init needs at least {INIT_ROWS_MIN} to tell what a column is",
        source.name()
    )))
}

/// What the calibration rows of a training are.
const OF_TRAINING: &str = "a fifth of the training rows";

/// Calibration rows that a bundle is about to get.
#[derive(Clone, Copy)]
pub struct FewRows<'a> {
    /// How many, at most.
    pub rows: usize,
    /// How many rows of a single detector give p-values as small as so many of these: fewer, where two detectors share the
    /// budget.
    pub effective: &'a dyn Fn(usize) -> usize,
    /// Which rows they are.
    pub what: &'static str,
}

impl FewRows<'_> {
    /// Those of a training with one detector, of `rows` of them.
    pub fn of_training(rows: u64) -> Self {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Self {
            rows,
            effective: &|rows| rows,
            what: OF_TRAINING,
        }
    }

    /// Warns if the default budget cannot be reached with them.
    pub fn warn(self) -> bool {
        let Ok(budget) = AlertBudget::new(DEFAULT_ALERT_BUDGET) else {
            return false;
        };
        if budget.is_attainable((self.effective)(self.rows)) {
            return false;
        }
        warn(&self.line(budget));
        true
    }

    fn line(self, budget: AlertBudget) -> String {
        let Self {
            rows,
            effective,
            what,
        } = self;
        let smallest = shown_smallest(effective(rows));
        let of_one = budget.rows_needed();
        // Two detectors need at most twice as many; a bound all the same.
        let enough = |n: &usize| effective(*n) >= of_one;
        let needed = (of_one..=100 * of_one).find(enough).unwrap_or(usize::MAX);
        let because = if needed > of_one {
            ", since two detectors share the budget".to_owned()
        } else if what == OF_TRAINING {
            let training_rows = (needed as f64 / CALIBRATION_SHARE).ceil();
            format!(", which are a fifth of {training_rows} training rows")
        } else {
            String::new()
        };
        format!(
            "{rows} calibration rows ({what}) are too few for the default alert budget of {}: it would never raise an \
             alert. It needs {needed} calibration rows{because}; with fewer, give `score` and `serve` a budget of {smallest} or more",
            budget.share()
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_500_rows_cannot_promise_is_said_with_what_would() {
        let budget = AlertBudget::new(DEFAULT_ALERT_BUDGET).unwrap();
        let line = FewRows::of_training(100).line(budget);
        for part in [
            "100 calibration rows (a fifth of the training rows) are too few",
            "needs 999 calibration rows",
            "a fifth of 4995 training rows",
            "a budget of 0.0100 or more",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn two_detectors_that_share_a_budget_need_twice_the_rows() {
        let budget = AlertBudget::new(DEFAULT_ALERT_BUDGET).unwrap();
        let few = FewRows {
            rows: 399,
            effective: &|n| n.div_ceil(2) - 1,
            what: "all that --calibration names",
        };
        let line = few.line(budget);
        for part in [
            "399 calibration rows (all that --calibration names) are too few",
            "needs 1999 calibration rows, since two detectors share the budget",
            "a budget of 0.0050 or more",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
