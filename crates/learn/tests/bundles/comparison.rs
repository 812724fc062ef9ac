//! Tests of whole bundles of every objective and architecture: trained, kept, loaded, and used for scores, reasons and
//! embeddings alike.

use arrow::array::RecordBatch;
use maskwatch_core::Detector;
use maskwatch_core::bundle::{MANIFEST, Manifest};
use maskwatch_core::model::{Architecture, ObjectiveKind};
use maskwatch_core::records::{Canonicaliser, ParquetSource};
use maskwatch_core::schema::Schema;
use maskwatch_core::score::{Expected, Explain, REASON_P_VALUE_MAX};
use maskwatch_generate::{Generator, GeneratorConfig, write_parquet};
use maskwatch_learn::recipe::{Recipe, TrainConfig, learn};
use maskwatch_learn::train::Unobserved;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Payments to train on, and a canonical batch of those that follow.
pub struct Payments {
    folder: TempDir,
    schema: Schema,
    later: RecordBatch,
}

impl Payments {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
        let data = folder.path().join("payments.parquet");
        write_parquet(&mut generator, 600, &data, |_| {}).unwrap();
        let text = include_str!("../../../../schemas/payments.toml");
        let schema = Schema::parse(text, "schemas/payments.toml").unwrap();
        let batch = generator.next_batch(20).unwrap();
        let canonicaliser = Canonicaliser::new(&schema, &batch.schema(), "payments").unwrap();
        let later = canonicaliser.canonicalise(&batch).unwrap().batch;
        Self {
            folder,
            schema,
            later,
        }
    }

    pub fn config(objective: ObjectiveKind, architecture: Architecture) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.training.objective = objective;
        config.training.steps = 15;
        config.model.architecture = architecture;
        config.model.width = 16;
        config.model.blocks = 2;
        config.views.ratios = vec![0.35, 0.65, 1.0];
        config
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Canonical payments that the training has not seen.
    pub fn later(&self) -> &RecordBatch {
        &self.later
    }

    /// A bundle named `name`, loaded.
    pub fn learn(&self, config: &TrainConfig, name: &str) -> Detector {
        let data = self.folder.path().join("payments.parquet");
        learned(&data, &self.schema, config, &self.path(name))
    }
}

/// What the file `data` teaches, as a bundle at `out`, loaded.
pub fn learned(data: &Path, schema: &Schema, config: &TrainConfig, out: &Path) -> Detector {
    let source = ParquetSource::open(&[data.display().to_string()]).unwrap();
    let recipe = Recipe {
        source: &source,
        schema,
        config,
        seed: 0,
        exclude_labelled: false,
        from: None,
        out,
    };
    learn(&recipe, &mut Unobserved).unwrap();
    Detector::load(out).unwrap()
}

const OBJECTIVES: [ObjectiveKind; 3] = [
    ObjectiveKind::Masked,
    ObjectiveKind::Autoencoder,
    ObjectiveKind::Variational,
];

#[test]
fn a_bundle_of_every_kind_scores_explains_and_embeds_each_record_by_itself() {
    let payments = Payments::new();
    for architecture in [Architecture::Mlp, Architecture::Transformer] {
        for objective in OBJECTIVES {
            let name = format!("{objective:?} {architecture:?}");
            let config = Payments::config(objective, architecture);
            let detector = payments.learn(&config, &name);
            let later = &payments.later;
            let scores = detector.score(later).unwrap();
            assert!(
                scores.field_surprise.iter().all(|s| s.is_finite()),
                "{name}"
            );
            let all = Explain::All { reasons_max: 100 };
            let assessed = detector.assess(later, all).unwrap();
            assert_eq!(assessed.scores, scores, "{name}");
            let reasons = assessed.reasons;
            let latents = detector.embed(later).unwrap();
            let width = detector.latent_width();
            assert_eq!(latents.len(), later.num_rows() * width, "{name}");
            for row in [0, 9, 19] {
                let alone = later.slice(row, 1);
                let score = detector.score(&alone).unwrap();
                assert_eq!(score.anomaly_score[0], scores.anomaly_score[row], "{name}");
                // The pass over a tile tells the reasons that the pass over a record does.
                let reasons_alone = detector.assess(&alone, all).unwrap().reasons;
                assert_eq!(reasons_alone[0], reasons[row], "{name}");
                let embedded = detector.embed(&alone).unwrap();
                assert_eq!(embedded, latents[row * width..][..width], "{name}");
            }
            // Every reason is rare for its field, and says what was expected.
            assert!(reasons.iter().any(|reasons| !reasons.is_empty()), "{name}");
            for reasons in &reasons {
                assert!(reasons.len() <= payments.schema.features().count());
                for reason in reasons {
                    assert!(reason.p_value <= REASON_P_VALUE_MAX, "{name}: {reason:?}");
                    let is_sound = match &reason.expected {
                        Expected::Interval { value, low, high } => {
                            let number = |v: &serde_json::Value| v.as_f64().unwrap();
                            number(low) <= number(value) && number(value) <= number(high)
                        }
                        Expected::Categories { categories } => !categories.is_empty(),
                        Expected::Redacted(_) => true,
                    };
                    assert!(is_sound, "{name}: {reason:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_drawn_at_the_bottleneck_depends_on_the_seed_alone() {
    let payments = Payments::new();
    let config = Payments::config(ObjectiveKind::Variational, Architecture::Transformer);
    let of = |name: &str| payments.learn(&config, name).score(&payments.later);
    assert_eq!(of("first").unwrap(), of("second").unwrap());
}

/// Makes the manifest of the bundle `bundle` say something else, with digests that are right.
fn rewrite(payments: &Payments, detector: &Detector, edit: impl FnOnce(&mut Manifest)) -> PathBuf {
    let mut manifest = detector.manifest().clone();
    edit(&mut manifest);
    manifest.model_id = manifest.computed_model_id().unwrap();
    let mut text = serde_json::to_string_pretty(&manifest).unwrap();
    text.push('\n');
    let bundle = payments.folder.path().join("bundle");
    std::fs::write(bundle.join(MANIFEST), text).unwrap();
    bundle
}

#[test]
fn a_bundle_whose_views_are_not_of_its_objective_is_refused() {
    let payments = Payments::new();
    let config = Payments::config(ObjectiveKind::Autoencoder, Architecture::Mlp);
    let detector = payments.learn(&config, "bundle");
    let views = &detector.manifest().description.views;
    assert_eq!((views.len(), views.hides_fields()), (1, false));
    // Its digests are right: only what it says makes no sense.
    let bundle = rewrite(&payments, &detector, |manifest| {
        manifest.description.training.objective = ObjectiveKind::Masked;
    });
    let error = Detector::load(&bundle).unwrap_err().to_string();
    assert!(error.contains("not of the objective Masked"), "{error}");
}
