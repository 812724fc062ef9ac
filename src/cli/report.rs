//! What verbs print: reports to stdout, warnings to stderr, and never a panic on a closed pipe.

use crate::score::AlertBudget;
use std::io::Write;

/// Writes text to stdout.
///
/// # Errors
/// If stdout cannot be written; a reader that went away is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes one line of warning to stderr.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "maskwatch: warning: {text}");
}

/// Writes each of several warnings.
pub fn warn_all(texts: &[String]) {
    texts.iter().for_each(|text| warn(text));
}

/// A share for a person: two digits that count, and never an exponent.
pub fn shown_share(share: f64) -> String {
    let leading = -share.abs().max(f64::MIN_POSITIVE).log10().floor();
    let digits = (leading as usize + 1).clamp(2, 12);
    format!("{share:.digits$}")
}

/// The smallest p-value that n calibration rows give, for a person: rounded up, so that a budget of what is shown is reached.
pub fn shown_smallest(calibration_rows: usize) -> String {
    let smallest = 1.0 / (calibration_rows as f64 + 1.0);
    let leading = -smallest.log10().floor();
    let digits = (leading as usize + 1).clamp(2, 12);
    let unit = 10f64.powi(digits as i32);
    // A quotient that is exact but for its last bit is not rounded up.
    let up = (smallest * unit * (1.0 - 1e-12)).ceil() / unit;
    format!("{up:.digits$}")
}

/// What a budget means with n calibration rows, as one line.
pub fn budget_line(calibration_rows: usize, share: f64) -> String {
    let rate = AlertBudget::new(share)
        .ok()
        .and_then(|budget| budget.realised_rate(calibration_rows));
    match rate {
        Some((low, high)) => format!(
            "alert budget {share}: realised rate within {low:.6}..{high:.6} (90 % interval, \
             {calibration_rows} calibration rows, smallest p-value {})",
            shown_share(1.0 / (calibration_rows + 1) as f64)
        ),
        None => format!(
            "alert budget {share} cannot be reached: with {calibration_rows} calibration rows the \
             smallest p-value is {}, so nothing is ever an alert",
            shown_smallest(calibration_rows)
        ),
    }
}

/// Warns of a budget under which nothing is ever an alert.
pub fn warn_if_unattainable(calibration_rows: usize, share: f64) {
    let budget = AlertBudget::new(share);
    if !budget.is_ok_and(|budget| budget.is_attainable(calibration_rows)) {
        warn(&budget_line(calibration_rows, share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_the_smallest_p_value_that_is_shown_is_reached() {
        for rows in (1..3_000).chain([9_999, 12_000, 99_999, 123_456, 9_999_999]) {
            let shown = shown_smallest(rows);
            let budget = AlertBudget::new(shown.parse().unwrap_or(f64::NAN));
            assert!(
                budget.is_ok_and(|budget| budget.is_attainable(rows)),
                "{rows} rows: {shown}"
            );
        }
        // 1 / 248 = 0.004032...
        assert_eq!(shown_smallest(247), "0.0041");
        assert_eq!(shown_smallest(999), "0.0010");
    }

    #[test]
    fn a_share_has_two_digits_and_no_exponent() {
        for (share, text) in [
            (0.5, "0.50"),
            (1.0 / 501.0, "0.0020"),
            (1.0 / 1_201.0, "0.00083"),
            (1e-5, "0.000010"),
            (1.0, "1.00"),
        ] {
            assert_eq!(shown_share(share), text);
        }
    }

    #[test]
    fn a_budget_is_told_with_its_interval_or_with_why_there_is_none() {
        // SciPy: stats.beta.ppf([.05, .95], 10, 9991) -> 0.0005426376, 0.0015699951
        let line = budget_line(10_000, 0.001);
        assert!(
            line.contains("within 0.000543..0.001570 (90 % interval, 10000"),
            "{line}"
        );
        let line = budget_line(500, 0.001);
        assert!(line.contains("0.001 cannot be reached"), "{line}");
        assert!(
            line.contains("500 calibration rows the smallest p-value is 0.0020"),
            "{line}"
        );
    }
}
