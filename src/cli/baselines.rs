//! Training files for the baselines of `evaluate`, read as the bundle reads records.

use super::bad_rows::{BadRows, without};
use super::progress::RowsDisplay;
use super::report::warn;
use crate::Detector;
use crate::evaluate::baselines::{BaselineFitter, Baselines, encode};
use crate::records::{ParquetSource, ReadOptions};
use crate::schema::Role;
use anyhow::Context;

/// Fits the baselines to all good rows of the files, whatever their labels, under the bundle's seed.
///
/// # Errors
/// Data that does not fit the bundle's schema, is too wide or too short (65).
pub fn fit_baselines(detector: &Detector, inputs: &[String]) -> anyhow::Result<Baselines> {
    let features = detector
        .schema()
        .with_roles(&[Role::Feature, Role::Context])?;
    let source = ParquetSource::open(inputs)?;
    let encoder = detector.scorer().model().encoder();
    let seed = detector.manifest().description.seed;
    let mut fitter = BaselineFitter::new(encoder, seed)?;
    let mut display = RowsDisplay::new("reading for the baselines", source.rows());
    let (mut bad, mut rows) = (BadRows::default(), 0);
    for batch in source.batches(&features, ReadOptions::default()) {
        let batch = detector.screen(batch?);
        bad.observe(&source, &batch);
        let good = without(&batch.canonical, &batch.faults)?;
        fitter.observe(&encode(encoder, &good)?);
        rows += batch.canonical.num_rows() as u64;
        display.at(rows);
    }
    drop(display);
    if let Some(summary) = bad.summary(rows, "cannot be read and are left out of the baselines") {
        warn(&summary);
    }
    fitter.fit().with_context(|| inputs.join(", "))
}
