//! Loads a bundle, scores the records of a Parquet file, and prints the reasons of those that it flags:
//!
//! `cargo run --release -p maskwatch-core --example score -- BUNDLE FILE`

use maskwatch_core::Detector;
use maskwatch_core::records::{ParquetSource, ReadOptions};
use maskwatch_core::score::{AlertBudget, Explain};
use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [bundle, file] => score(Path::new(bundle), file, 0.001, &mut stdout()),
        _ => Err("expected a bundle and a Parquet file".into()),
    }
}

/// Writes row, score, p-value and reasons of every record whose p-value is within the alert budget `share`.
///
/// # Errors
/// If the bundle cannot be loaded, or the file not be read or scored.
pub fn score(
    bundle: &Path,
    file: &str,
    share: f64,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let detector = Detector::load(bundle)?;
    let (budget, reasons_max) = (AlertBudget::new(share)?, 3);
    let source = ParquetSource::open(&[file.to_owned()])?;
    for batch in source.batches(detector.schema(), ReadOptions::default()) {
        let batch = batch?;
        let assessed = detector.assess(
            &batch.canonical,
            Explain::Alerts {
                budget,
                reasons_max,
            },
        )?;
        for (row, p_value) in assessed.scores.p_value.iter().enumerate() {
            if budget.is_alert(*p_value) {
                let (at, score) = (
                    batch.first_row + row as u64,
                    assessed.scores.anomaly_score[row],
                );
                let reasons = serde_json::to_string(&assessed.reasons[row])?;
                writeln!(
                    out,
                    "row {at}: score {score:.2}, p-value {p_value:.5}: {reasons}"
                )?;
            }
        }
    }
    Ok(())
}
