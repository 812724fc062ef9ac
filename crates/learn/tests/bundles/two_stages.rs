//! Tests of bundles that score in two stages: what a cascade may change of a record's score, and what it may not.

use crate::comparison::{Payments, learned};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use maskwatch_core::Detector;
use maskwatch_core::bundle;
use maskwatch_core::model::likelihood::Scale;
use maskwatch_core::model::{Architecture, ObjectiveKind};
use maskwatch_core::records::Canonicaliser;
use maskwatch_core::rng::{ChaCha8Rng, Purpose, stream};
use maskwatch_core::schema::Schema;
use maskwatch_core::score::{
    AlertBudget, BudgetShare, CascadeConfig, Combination, Component, DEFAULT_BUDGET_SHARE, Explain,
    Supervised, TreeInputs,
};
use maskwatch_learn::recipe::TrainConfig;
use parquet::arrow::ArrowWriter;
use rand::RngExt;
use std::fs::File;
use std::sync::Arc;
use tempfile::TempDir;

/// Of the fields of [`drawn`] so many are numbers that the first stage needs no view that hides most.
const SCHEMA: &str = r#"
[[field]]
name = "amount"
kind = "numeric"
[[field]]
name = "fee"
kind = "numeric"
[[field]]
name = "delay"
kind = "numeric"
[[field]]
name = "balance"
kind = "numeric"
[[field]]
name = "country"
kind = "categorical"
"#;

const ROWS: usize = 4_000;
const FRESH: usize = 3_000;
const SHARE: f64 = 0.05;

/// Independent rows of one law: amount and fee go together, country has its own scale of delays.
fn drawn(rows: usize, rng: &mut ChaCha8Rng) -> RecordBatch {
    let mut columns: [Vec<f64>; 4] = Default::default();
    let mut countries = Vec::with_capacity(rows);
    let mut noise = || (0..6).map(|_| rng.random::<f64>() - 0.5).sum::<f64>();
    for _ in 0..rows {
        let amount = noise() * 10.0;
        let country = match noise() {
            x if x > 0.9 => "LU",
            x if x > 0.0 => "DE",
            _ => "FR",
        };
        let delay = noise() * if country == "LU" { 4.0 } else { 1.0 };
        for (column, x) in
            columns
                .iter_mut()
                .zip([amount, 0.1 * amount + noise(), delay, noise() * noise()])
        {
            column.push(x);
        }
        countries.push(country);
    }
    let numbers = columns
        .into_iter()
        .map(|column| Arc::new(Float64Array::from(column)) as ArrayRef);
    let all = numbers.chain([Arc::new(StringArray::from(countries)) as ArrayRef]);
    let names = ["amount", "fee", "delay", "balance", "country"];
    RecordBatch::try_from_iter(names.into_iter().zip(all)).unwrap()
}

/// Rows to train on, and fresh ones of the same law.
struct Rows {
    folder: TempDir,
    schema: Schema,
    fresh: RecordBatch,
}

impl Rows {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = stream(5, Purpose::Tests);
        let train = drawn(ROWS, &mut rng);
        let file = File::create(folder.path().join("train.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, train.schema(), None).unwrap();
        writer.write(&train).unwrap();
        writer.close().unwrap();
        let schema = Schema::parse(SCHEMA, "the test").unwrap();
        let fresh = drawn(FRESH, &mut rng);
        let canonicaliser = Canonicaliser::new(&schema, &fresh.schema(), "fresh").unwrap();
        let fresh = canonicaliser.canonicalise(&fresh).unwrap().batch;
        Self {
            folder,
            schema,
            fresh,
        }
    }

    fn learn(&self, share: f64) -> Detector {
        let mut config = TrainConfig::default();
        config.training.steps = 60;
        config.model.width = 16;
        config.model.blocks = 2;
        config.cascade.share = share;
        let at = |name: &str| self.folder.path().join(name);
        let out = at(&format!("bundle-{share}"));
        learned(&at("train.parquet"), &self.schema, &config, &out)
    }
}

fn rows_at(batch: &RecordBatch, places: impl Iterator<Item = usize>) -> RecordBatch {
    let places = UInt32Array::from_iter_values(places.map(|place| place as u32));
    take_record_batch(batch, &places).unwrap()
}

/// The components of each row, without the fields', in the order of the rule's terms; the untuned score first.
fn components(detector: &Detector, batch: &RecordBatch) -> (Vec<Component>, Vec<Vec<f32>>) {
    let scorer = detector.scorer();
    let records = scorer.model().encoder().encode(batch).unwrap();
    let names = scorer.reference().components();
    let inputs = TreeInputs::new(&scorer.model().encoder().shapes(), scorer.reference());
    let (values, _) = scorer.components_and_inputs(&records, &inputs).unwrap();
    let rows = values.chunks_exact(names.len()).map(<[f32]>::to_vec);
    (names.clone(), rows.collect())
}

/// Whether every record is measured by it in the first stage, by the definition: of the denoising view what reads deviations.
fn is_first(detector: &Detector, component: &Component) -> bool {
    match component {
        Component::Latent | Component::Nearest | Component::NearestQuantile => true,
        Component::Total { stratum, reading } | Component::Largest { stratum, reading } => {
            let of = &detector.manifest().description.views.strata()[*stratum];
            let scale = detector.scorer().model().model().heads().scale(*reading);
            of.ratio == 1.0 || (of.denoising.is_some() && scale == Scale::Deviation)
        }
        Component::Untuned | Component::Field { .. } => false,
    }
}

#[test]
fn the_score_of_two_stages_is_that_of_the_definition_worked_out_from_all_views() {
    let rows = Rows::new();
    let detector = rows.learn(SHARE);
    let scorer = detector.scorer();
    let c = scorer.kept_threshold().unwrap();
    let (names, values) = components(&detector, &rows.fresh);
    let rule = scorer.reference().rule();
    let terms: Vec<Component> = rule.components().collect();
    let places: Vec<usize> = (0..terms.len())
        .filter(|&place| is_first(&detector, &terms[place]))
        .collect();
    assert!(places.len() >= 8 && places.len() < terms.len(), "{terms:?}");
    let first_rule = rule.part(places.iter().copied());
    let q = rule.power();
    let scores = detector.score(&rows.fresh).unwrap();
    let mut in_full = 0;
    for (row, values) in values.iter().enumerate() {
        let terms = &values[1..=terms.len()];
        assert_eq!(names[0], Component::Untuned);
        let first = first_rule.score(places.iter().map(|&place| terms[place]));
        let full = f64::from(values[0]);
        let expected = match first < c {
            true => first,
            false => (f64::from(c).powf(q) + full.powf(q)).powf(1.0 / q) as f32,
        };
        in_full += usize::from(first >= c);
        assert_eq!(scores.anomaly_score[row], expected, "row {row}");
    }
    assert_eq!(scores.in_full, in_full);
    let expected = SHARE * FRESH as f64;
    assert!(
        (0.5 * expected..1.7 * expected).contains(&(in_full as f64)),
        "{in_full}"
    );
    // Evaluation works the same out from all views.
    let again = detector.score_with_fields(&rows.fresh).unwrap();
    assert_eq!(again.anomaly_score, scores.anomaly_score);
    assert_eq!(again.p_value, scores.p_value);
    assert_eq!(again.in_full, in_full);
}

#[test]
fn a_record_has_one_score_whatever_batch_it_comes_in_and_those_in_full_are_above_all_others() {
    let rows = Rows::new();
    let detector = rows.learn(SHARE);
    let whole = detector.score(&rows.fresh).unwrap();
    let mut reversed = detector
        .score(&rows_at(&rows.fresh, (0..FRESH).rev()))
        .unwrap();
    reversed.anomaly_score.reverse();
    reversed.p_value.reverse();
    assert_eq!(reversed.anomaly_score, whole.anomaly_score);
    assert_eq!(reversed.p_value, whole.p_value);
    let mut above = Vec::new();
    let mut below = Vec::new();
    for row in (0..FRESH).step_by(7) {
        let alone = detector.score(&rows.fresh.slice(row, 1)).unwrap();
        assert_eq!(
            alone.anomaly_score[0], whole.anomaly_score[row],
            "row {row}"
        );
        assert_eq!(alone.p_value[0], whole.p_value[row], "row {row}");
        match alone.in_full {
            0 => below.push(alone.anomaly_score[0]),
            _ => above.push(alone.anomaly_score[0]),
        }
    }
    let c = detector.scorer().kept_threshold().unwrap();
    assert!(!above.is_empty() && above.len() < below.len());
    assert!(below.iter().all(|&score| score < c));
    assert!(above.iter().all(|&score| score >= c));
}

#[test]
fn p_values_of_two_stages_are_uniform_on_exchangeable_rows_and_within_a_segment() {
    let rows = Rows::new();
    let detector = rows.learn(SHARE);
    let n = detector.calibration_rows() as f64;
    let near = |p_values: &[f64], n: f64, what: &str| {
        let m = p_values.len() as f64;
        // Below, at and above the threshold of the cascade.
        for a in [0.01, 0.03, SHARE, 0.1, 0.3, 0.7] {
            let found = p_values.iter().filter(|&&p| p <= a).count() as f64 / m;
            let deviation = (a * (1.0 - a) * (1.0 / n + 1.0 / m)).sqrt();
            let off = (found - a).abs();
            assert!(off < 4.0 * deviation + 1.0 / n, "{what}: {found} at {a}");
        }
    };
    near(&detector.score(&rows.fresh).unwrap().p_value, n, "all");
    let by_country = detector
        .with_budget_by("country", AlertBudget::new(0.05).unwrap())
        .unwrap();
    let countries = rows.fresh["country"].as_string::<i32>();
    let of = |name| (0..FRESH).filter(move |&row| countries.value(row) == name);
    let german = rows_at(&rows.fresh, of("DE"));
    let segmented = by_country.score(&german).unwrap();
    near(&segmented.p_value, 0.4 * n, "DE");
}

#[test]
fn a_share_of_0_gives_every_record_the_score_of_all_views() {
    let rows = Rows::new();
    let detector = rows.learn(0.0);
    assert!(detector.scorer().cascade().is_none());
    assert_eq!(detector.scorer().kept_threshold(), None);
    let scores = detector.score(&rows.fresh).unwrap();
    let (_, components) = components(&detector, &rows.fresh);
    let untuned: Vec<f32> = components.iter().map(|row| row[0]).collect();
    assert_eq!(scores.anomaly_score, untuned);
    assert_eq!(scores.in_full, FRESH);
    assert_eq!(detector.cascade_share(), None);
}

#[test]
fn reasons_are_those_of_all_views_whichever_stage_decided() {
    let rows = Rows::new();
    let (in_stages, in_full) = (rows.learn(SHARE), rows.learn(0.0));
    let some = rows.fresh.slice(0, 200);
    let reasons = |of: &Detector, explain| of.assess(&some, explain).unwrap().reasons;
    let all = Explain::All { reasons_max: 10 };
    let expected = reasons(&in_full, all);
    assert!(expected.iter().any(|reasons| !reasons.is_empty()));
    assert_eq!(reasons(&in_stages, all), expected);
    // A budget beyond the share: some alerts are scored by the first stage alone.
    let budget = AlertBudget::new(0.5).unwrap();
    let alerts = Explain::Alerts {
        budget,
        reasons_max: 10,
    };
    let scores = in_stages.score(&some).unwrap();
    let is_alert = |&p: &f64| budget.is_alert(p);
    let flagged = scores.p_value.iter().filter(|p| is_alert(p)).count();
    assert!(scores.in_full < flagged && flagged < 200, "{flagged}");
    let assessed = in_stages.assess(&some, alerts).unwrap();
    assert_eq!(assessed.scores, scores);
    for (row, p_value) in scores.p_value.iter().enumerate() {
        let expected = match is_alert(p_value) {
            true => &expected[row][..],
            false => &[],
        };
        assert_eq!(assessed.reasons[row], expected, "row {row}");
    }
    // With one pass for all the scores are still told as in two stages.
    assert_eq!(in_stages.assess(&some, all).unwrap().scores, scores);
}

#[test]
fn a_detector_made_from_labels_asks_for_all_views_and_its_absence_for_the_cascade() {
    let rows = Rows::new();
    let detector = rows.learn(SHARE);
    let folder = rows.folder.path().join(format!("bundle-{SHARE}"));
    let encoder = detector.scorer().model().encoder();
    let calibration = encoder.encode(&rows.fresh.slice(0, 2_000)).unwrap();
    let later = encoder.encode(&rows.fresh.slice(2_000, 1_000)).unwrap();
    let combination = Combination::weighted(&[Component::Untuned, Component::Latent], &[1.0, 1.0]);
    let share = BudgetShare::new(DEFAULT_BUDGET_SHARE).unwrap();
    let labelled = Some((Supervised::Combination(combination.unwrap()), share));
    let tuned = |labelled| {
        let (_, scorer) = bundle::load(&folder).unwrap();
        scorer.tuned(labelled, &calibration).unwrap()
    };
    let with = tuned(labelled);
    assert!(with.cascade().is_none() && with.kept_threshold().is_some());
    let scores = with.score(&later).unwrap();
    assert_eq!(scores.in_full, 1_000);
    // The detector without labels ranks by all views, as its calibration rows do.
    let parts = scores.parts.unwrap().unsupervised;
    let alerts = parts.iter().filter(|&&p| p <= 0.1).count();
    assert!((60..150).contains(&alerts), "{alerts}");
    let without = tuned(None);
    let scores = without.score(&later).unwrap();
    assert!(without.cascade().is_some() && scores.in_full < 200);
    let alerts = scores.p_value.iter().filter(|&&p| p <= 0.1).count();
    assert!((60..150).contains(&alerts), "{alerts}");
}

#[test]
fn there_is_no_cascade_where_a_first_stage_would_save_or_say_nothing() {
    let payments = Payments::new();
    let mut config = Payments::config(ObjectiveKind::Masked, Architecture::Mlp);
    let cascade = |config: &TrainConfig, name: &str| {
        let detector = payments.learn(config, name);
        let rows = detector.score(payments.later()).unwrap();
        assert_eq!(detector.scorer().cascade().is_none(), rows.in_full == 20);
        detector.scorer().cascade().is_some()
    };
    assert!(cascade(&config, "three ratios"));
    config.views.ratios = vec![0.35, 1.0];
    assert!(!cascade(
        &config,
        "too little of fields that are no numbers"
    ));
    config.views.ratios = vec![1.0];
    assert!(!cascade(&config, "nothing to save"));
    config.views.ratios = vec![0.35];
    assert!(!cascade(&config, "nothing that judges fields"));
    let config = Payments::config(ObjectiveKind::Autoencoder, Architecture::Mlp);
    assert!(!cascade(&config, "one view"));
    let config = Payments::config(ObjectiveKind::Masked, Architecture::Transformer);
    assert!(cascade(&config, "through the tensor library"));
}

#[test]
fn the_warning_of_a_budget_above_the_share_is_that_of_the_bundle() {
    let rows = Rows::new();
    let detector = rows.learn(SHARE);
    let budget = |share| AlertBudget::new(share).unwrap();
    assert_eq!(detector.cascade_warning(budget(SHARE)), None);
    let warning = detector.cascade_warning(budget(0.2));
    assert_eq!(warning, CascadeConfig { share: SHARE }.warning(0.2));
    assert_eq!(rows.learn(0.0).cascade_warning(budget(0.2)), None);
}
