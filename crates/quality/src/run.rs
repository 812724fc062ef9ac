//! One run: a division of a set, what is learned from its training rows, and how well that ranks its test rows.
//!
//! The training rows go into a Parquet file without labels; `maskwatch` infers the schema, trains, writes a bundle and loads
//! it, all as its verbs do. The baselines see the same rows through the encoder that this training fits.

use crate::data::{Cards, DataSet};
use crate::protocol::{Payments, Protocol, card_precision};
use crate::results::{BUDGETS, CARDS_A_DAY, MODEL, ModelReport, Outcome, Ranking, Rows};
use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use maskwatch_core::Detector;
use maskwatch_core::records::{
    Canonicaliser, DEFAULT_BATCH_ROWS, ParquetSource, ReadOptions, infer_schema,
};
use maskwatch_core::schema::Schema;
use maskwatch_learn::evaluate::metrics::{at_budget, average_precision, roc_auc};
use maskwatch_learn::evaluate::{BaselineComparison, BaselineFitter, Baselines, baselines};
use maskwatch_learn::recipe::{Recipe, TrainConfig, learn};
use maskwatch_learn::train::dataset::{self, DEFAULT_FIT_BYTES_MAX};
use maskwatch_learn::train::{DatasetOptions, Unobserved};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::time::Instant;
use tempfile::TempDir;

/// A division, ready to be learned from.
pub struct Prepared {
    folder: TempDir,
    source: ParquetSource,
    schema: Schema,
    /// Canonical test rows.
    test: RecordBatch,
    labels: Vec<bool>,
    cards: Option<Cards>,
    rows: Rows,
    seed: u64,
}

impl Prepared {
    /// Divides a set and writes its training rows.
    ///
    /// # Errors
    /// If it cannot be divided, written, or read by the product.
    pub fn new(data: &DataSet, protocol: Protocol, seed: u64) -> anyhow::Result<Self> {
        let split = data.split(protocol, seed)?;
        let folder = tempfile::Builder::new()
            .prefix("maskwatch-quality-")
            .tempdir()?;
        let path = folder.path().join("train.parquet");
        write(&path, &data.features(&split.train)?)?;
        let source = ParquetSource::open(&[path.display().to_string()])?;
        let schema = Schema::parse(&infer_schema(&source, None)?.text, "the inferred schema")?;
        let raw = data.features(&split.test)?;
        let canonicaliser = Canonicaliser::new(&schema, &raw.schema(), "the test rows")?;
        let canonical = canonicaliser.canonicalise(&raw)?;
        if let Some(fault) = canonical.faults.first() {
            let count = canonical.faults.len();
            bail!(
                "{count} test rows are bad, the first, {}: {}",
                fault.row,
                fault.detail
            );
        }
        let labels = data.labels(&split.test);
        let anomalies = |labels: &[bool]| labels.iter().filter(|&&label| label).count();
        let rows = Rows {
            train: split.train.len(),
            train_anomalies: anomalies(&data.labels(&split.train)),
            test: split.test.len(),
            test_anomalies: anomalies(&labels),
        };
        if rows.train_anomalies > 0 && !protocol.is_contaminated() {
            bail!(
                "{} anomalies among the training rows of {protocol}",
                rows.train_anomalies
            );
        }
        let cards = data.cards(&split.test);
        let test = canonical.batch;
        Ok(Self {
            folder,
            source,
            schema,
            test,
            labels,
            cards,
            rows,
            seed,
        })
    }

    /// Trains a bundle, loads it and scores the test rows.
    ///
    /// # Errors
    /// Whatever the product says.
    pub fn run_model(&self, config: &TrainConfig) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let out = self.folder.path().join("bundle");
        let recipe = Recipe {
            source: &self.source,
            schema: &self.schema,
            config,
            seed: self.seed,
            exclude_labelled: false,
            from: None,
            out: &out,
        };
        let (manifest, run) = learn(&recipe, &mut Unobserved).context("training")?;
        let detector = Detector::load(&out).context("loading the bundle")?;
        let scoring = Instant::now();
        let (mut scores, mut p_values) = (Vec::new(), Vec::new());
        for batch in self.test_batches() {
            let scored = detector.score(&batch).context("scoring")?;
            scores.extend(scored.anomaly_score);
            p_values.extend(scored.p_value);
        }
        let scoring_seconds = scoring.elapsed().as_secs_f64();
        let alerts = BUDGETS.map(|budget| at_budget(&p_values, &self.labels, budget));
        let model = ModelReport {
            model_id: manifest.model_id,
            fit: run.fit,
            training_seconds: run.seconds,
            scoring_records_per_second: self.rows.test as f64 / scoring_seconds.max(1e-9),
            at_budget: alerts.into_iter().collect::<Result<_, _>>()?,
        };
        Ok(Outcome {
            rows: self.rows,
            rankings: vec![self.ranking(MODEL, &scores)?],
            model: Some(model),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Fits the baselines to all training rows, and scores the test rows.
    ///
    /// # Errors
    /// If the rows are too few or too wide.
    pub fn run_baselines(&self) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        // The reading of a training with the default configuration, and so the encoder of its bundle.
        let config = TrainConfig::default();
        let options = DatasetOptions {
            exclude_labelled: false,
            split: config.calibration.split,
            head_classes_max: config.encoder.head_classes_max,
            fit_bytes_max: DEFAULT_FIT_BYTES_MAX,
            bad_share_max: 0.0,
            seed: self.seed,
        };
        let encoder = dataset::read(&self.source, &self.schema, &options, &mut Unobserved)?.encoder;
        let mut fitter = BaselineFitter::new(&encoder, self.seed)?;
        for batch in self.source.batches(&self.schema, ReadOptions::default()) {
            fitter.observe(&baselines::encode(&encoder, &batch?.canonical)?);
        }
        let mut comparison = BaselineComparison::new(fitter.fit()?);
        let mut labels = self.labels.iter().map(|&label| Some(label));
        for batch in self.test_batches() {
            let labels: Vec<_> = labels.by_ref().take(batch.num_rows()).collect();
            comparison.push(&baselines::encode(&encoder, &batch)?, &labels)?;
        }
        let (_, scores) = comparison.rows();
        let rankings = Baselines::NAMES
            .iter()
            .zip(scores)
            .map(|(name, scores)| self.ranking(name, scores));
        Ok(Outcome {
            rows: self.rows,
            rankings: rankings.collect::<Result<_, _>>()?,
            model: None,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn test_batches(&self) -> impl Iterator<Item = RecordBatch> {
        let rows = self.test.num_rows();
        let first = (0..rows).step_by(DEFAULT_BATCH_ROWS);
        first.map(move |first| self.test.slice(first, DEFAULT_BATCH_ROWS.min(rows - first)))
    }

    fn ranking(&self, method: &str, scores: &[f32]) -> anyhow::Result<Ranking> {
        let precision = |once| {
            let Cards { days, cards } = self.cards.as_ref()?;
            let payments = Payments {
                days,
                cards,
                labels: &self.labels,
            };
            card_precision(payments, scores, CARDS_A_DAY, once)
        };
        Ok(Ranking {
            method: method.to_owned(),
            roc_auc: roc_auc(scores, &self.labels)?,
            average_precision: average_precision(scores, &self.labels)?,
            card_precision_100: precision(false),
            card_precision_100_once: precision(true),
        })
    }
}

fn write(path: &std::path::Path, rows: &RecordBatch) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None)?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}
