//! Newer calibration rows for a bundle: which count, what is left out, and what the budget promises of the result.

use crate::comparison::Payments;
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use maskwatch_core::Detector;
use maskwatch_core::bundle::Recalibration;
use maskwatch_core::model::{Architecture, ObjectiveKind};
use maskwatch_core::records::ParquetSource;
use maskwatch_core::score::AlertBudget;
use maskwatch_generate::{Generator, GeneratorConfig};
use maskwatch_learn::recipe::{RecalibrateRecipe, TuneFailure, recalibrate};
use maskwatch_learn::train::Unobserved;
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A budget that the 120 calibration rows of the parent attain.
const BUDGET: f64 = 0.05;

struct Parent {
    payments: Payments,
    detector: Detector,
    generator: Generator,
}

impl Parent {
    fn new() -> Self {
        let payments = Payments::new();
        let config = Payments::config(ObjectiveKind::Masked, Architecture::Mlp);
        let detector = payments.learn(&config, "model");
        // Others than the payments of the training.
        let generator = Generator::new(&GeneratorConfig {
            seed: 7,
            ..GeneratorConfig::default()
        });
        Self {
            payments,
            detector,
            generator: generator.unwrap(),
        }
    }

    /// A file of newer payments; `change` has a hand in them.
    fn write(
        &mut self,
        name: &str,
        rows: usize,
        change: impl Fn(RecordBatch) -> RecordBatch,
    ) -> PathBuf {
        let path = self.payments.path(name);
        let batch = change(self.generator.next_batch(rows).unwrap());
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    fn recalibrate(&self, data: &Path, leave_out: bool) -> Result<Detector, TuneFailure> {
        let out = self.payments.path("recalibrated");
        let recipe = RecalibrateRecipe {
            model: &self.payments.path("model"),
            source: &ParquetSource::open(&[data.display().to_string()]).unwrap(),
            label: None,
            leave_out: leave_out.then(|| AlertBudget::new(BUDGET).unwrap()),
            seed: 0,
            out: &out,
        };
        recalibrate(&recipe, &mut Unobserved)?;
        Ok(Detector::load(&out).unwrap())
    }
}

fn provenance(detector: &Detector) -> &Recalibration {
    let description = &detector.manifest().description;
    description.recalibration.as_ref().unwrap()
}

/// The same rows with this label in all of them.
fn labelled(batch: RecordBatch, label: Option<bool>) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "is_fraud" => {
            let labels: BooleanArray = (0..batch.num_rows()).map(|_| label).collect();
            (field.name(), Arc::new(labels) as _, true)
        }
        _ => (field.name(), Arc::clone(column), true),
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn alerts_and_confirmed_frauds_are_left_out_and_counted() {
    let mut parent = Parent::new();
    let data = parent.write("newer.parquet", 3_000, |batch| batch);
    let made = parent.recalibrate(&data, true).unwrap();
    let frauds = {
        let source = ParquetSource::open(&[data.display().to_string()]).unwrap();
        let batches = source.batches(parent.detector.schema(), Default::default());
        let frauds = batches.map(|batch| {
            let batch = batch.unwrap().canonical;
            let labels = batch
                .column_by_name("is_fraud")
                .unwrap()
                .as_boolean()
                .clone();
            labels.true_count() as u64
        });
        frauds.sum::<u64>()
    };
    let of = provenance(&made);
    assert!(frauds > 0);
    assert_eq!((of.labelled, of.judged), (frauds, 3_000 - frauds));
    assert_eq!(of.data.rows, 3_000);
    assert_eq!(of.parent_model_id, parent.detector.model_id());
    // Most payments of the test have the label 0: alerts among them were cleared and stay.
    assert_eq!(of.alerts, 0);
    assert_eq!(made.manifest().description.rows.calibration, 3_000 - frauds);
    assert_ne!(made.model_id(), parent.detector.model_id());
    // The model is the same: it gives the same scores, and other p-values.
    let later = parent.payments.later();
    let (before, after) = (
        parent.detector.score(later).unwrap(),
        made.score(later).unwrap(),
    );
    assert_eq!(before.anomaly_score, after.anomaly_score);
    assert_ne!(before.p_value, after.p_value);
}

#[test]
fn alerts_that_nobody_has_judged_are_left_out_unless_they_are_kept() {
    let mut parent = Parent::new();
    let data = parent.write("unjudged.parquet", 2_000, |batch| labelled(batch, None));
    let made = parent.recalibrate(&data, true).unwrap();
    let of = provenance(&made).clone();
    assert!(of.alerts > 0 && of.labelled == 0, "{of:?}");
    assert_eq!(of.judged, 2_000);
    let calibration = made.manifest().description.rows.calibration;
    assert_eq!(calibration, 2_000 - of.alerts);
    // Records like those left out may be alerts beyond the budget, and the promise says so.
    let apart = of.alerts as f64 / 2_000.0;
    assert!((made.set_apart() - apart).abs() < 1e-12);
    let kept = parent.recalibrate(&data, false).unwrap();
    assert_eq!(provenance(&kept).alerts, 0);
    assert_eq!(kept.manifest().description.rows.calibration, 2_000);
    assert_eq!(kept.set_apart(), 0.0);
    let budget = AlertBudget::new(BUDGET).unwrap();
    let limit = |detector: &Detector| detector.promise(budget).upper_limit(0.999).unwrap();
    assert!(limit(&made) > limit(&kept) + 0.9 * apart);
    assert!(limit(&kept) < limit(&parent.detector));
}

#[test]
fn too_few_rows_and_the_rows_of_the_training_are_refused() {
    let mut parent = Parent::new();
    let few = parent.write("few.parquet", 40, |batch| labelled(batch, Some(false)));
    let error = parent.recalibrate(&few, true).unwrap_err().to_string();
    assert!(
        error.contains("few.parquet: 40 of 40 rows are left") && error.contains("at least 50"),
        "{error}"
    );
    let frauds = parent.write("frauds.parquet", 300, |batch| labelled(batch, Some(true)));
    let error = parent.recalibrate(&frauds, true).unwrap_err().to_string();
    assert!(error.contains("300 are labelled 1"), "{error}");
    let trained = parent.payments.path("payments.parquet");
    let error = parent.recalibrate(&trained, true).unwrap_err().to_string();
    assert!(
        error.contains("the rows that the model was trained on"),
        "{error}"
    );
    assert!(!parent.payments.path("recalibrated").exists());
}
