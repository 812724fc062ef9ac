//! What few rows cannot promise, said before the work begins.

use super::exit::BadData;
use super::report::{shown_share, warn};
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

/// Warns if the default budget cannot be reached with so many calibration rows, which are (at most) `what`.
pub fn warn_of_few(calibration_rows: u64, what: &str) -> bool {
    let rows = usize::try_from(calibration_rows).unwrap_or(usize::MAX);
    let Ok(budget) = AlertBudget::new(DEFAULT_ALERT_BUDGET) else {
        return false;
    };
    if budget.is_attainable(rows) {
        return false;
    }
    warn(&few_line(calibration_rows, what, budget));
    true
}

fn few_line(rows: u64, what: &str, budget: AlertBudget) -> String {
    let smallest = shown_share(1.0 / (rows + 1) as f64);
    let needed = budget.rows_needed();
    let training_rows = (needed as f64 / CALIBRATION_SHARE).ceil();
    format!(
        "{rows} calibration rows ({what}) give no p-value below {smallest}: the default alert budget of {} would never \
         raise an alert. It needs {needed} calibration rows, which are a fifth of {training_rows} training rows; with \
         fewer, give `score` and `serve` a budget of {smallest} or more",
        budget.share()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_500_rows_cannot_promise_is_said_with_what_would() {
        let budget = AlertBudget::new(DEFAULT_ALERT_BUDGET).unwrap();
        let line = few_line(100, "a fifth of 500 rows", budget);
        for part in [
            "100 calibration rows (a fifth of 500 rows) give no p-value below 0.0099",
            "needs 999 calibration rows",
            "a fifth of 4995 training rows",
            "a budget of 0.0099 or more",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
