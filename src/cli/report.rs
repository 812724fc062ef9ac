//! What verbs print: to stdout, once, and never a panic on a closed pipe.

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

/// What a budget means with n calibration rows, as one line.
pub fn budget_line(calibration_rows: usize, share: f64) -> String {
    let smallest = 1.0 / (calibration_rows + 1) as f64;
    let rate = AlertBudget::new(share)
        .ok()
        .and_then(|b| b.realised_rate(calibration_rows));
    match rate {
        Some((low, high)) => format!(
            "alert budget {share}: realised rate within {low:.6}..{high:.6} (90 % interval, \
             {calibration_rows} calibration rows, smallest p-value {smallest:.2e})"
        ),
        None => format!(
            "warning: alert budget {share} cannot be reached: with {calibration_rows} calibration \
             rows the smallest p-value is {smallest:.2e}"
        ),
    }
}
