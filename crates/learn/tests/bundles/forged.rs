//! Forged bundles: contents of any kind under digests that are right.
//!
//! A digest proves that nothing was changed by accident, not that the contents make sense. Whatever a file of a bundle
//! holds, loading it gives a bundle that scores, or an error that names the file; nothing panics.

use crate::comparison::Payments;
use maskwatch_core::Detector;
use maskwatch_core::bundle::{
    self, BundleError, CALIBRATION, DISTANCES, Description, Kind, MANIFEST, Manifest, TREES,
    Tuning, Validation, ValidationSplit, WEIGHTS, sha256_hex,
};
use maskwatch_core::model::{Architecture, ObjectiveKind};
use maskwatch_core::rng::{ChaCha8Rng, Purpose, stream};
use maskwatch_core::score::{
    BudgetShare, DEFAULT_BUDGET_SHARE, Explain, LEAF, Supervised, TreeInputs, TreeNode, Trees,
};
use rand::RngExt;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Forgeries of each file.
const FORGERIES: usize = 250;

/// A small bundle and its contents.
struct Original {
    payments: Payments,
    folder: PathBuf,
    manifest: Manifest,
}

impl Original {
    fn new() -> Self {
        let payments = Payments::new();
        let config = Payments::config(ObjectiveKind::Masked, Architecture::Mlp);
        let manifest = payments.learn(&config, "bundle").manifest().clone();
        let folder = payments.path("bundle");
        Self {
            payments,
            folder,
            manifest,
        }
    }

    /// The same bundle with trees, which labels could have grown.
    fn with_trees() -> Self {
        let mut original = Self::new();
        let (parent, scorer) = bundle::load(&original.folder).unwrap();
        let encoder = scorer.model().encoder().clone();
        let inputs = TreeInputs::new(&encoder.shapes(), scorer.reference()).len();
        let node = |feature: u32, value, left| TreeNode {
            feature,
            value,
            left,
            right: left + 1,
            missing_left: left % 2 == 0,
            cover: 1.0,
        };
        // Twenty trees of two levels, each asking for two inputs.
        let (mut roots, mut nodes) = (Vec::new(), Vec::new());
        for tree in 0..20 {
            let first = nodes.len() as u32;
            roots.push(first);
            nodes.push(node(tree % inputs as u32, 0.1 * tree as f32, first + 1));
            nodes.push(node((tree + 5) % inputs as u32, 0.5, first + 3));
            nodes.extend([-0.2, 0.4, 0.1].map(|value| node(LEAF, value, 0)));
        }
        let trees = Trees::from_parts(inputs, -3.0, roots, nodes).unwrap();
        let share = BudgetShare::new(DEFAULT_BUDGET_SHARE).unwrap();
        let later = encoder.encode(original.payments.later()).unwrap();
        let detector = Some((Supervised::Trees(trees), share));
        let scorer = scorer.tuned(detector, &later).unwrap();
        let tuning = Tuning {
            parent_model_id: parent.model_id,
            combination: None,
            budget_share: share.supervised(),
            validation: Validation {
                split: ValidationSplit::Latest,
                rows: 100,
                frauds: 10,
                average_precision_before: 0.2,
                average_precision_combination: 0.3,
                average_precision_trees: 0.5,
                average_precision_after: 0.5,
                kind: Kind::Trees,
                strength: None,
            },
            frauds: 30,
            normals: 300,
            unlabelled: 0,
            kept: 330,
            labelled_data: parent.description.data.clone(),
            calibration_data: parent.description.data.clone(),
            calibration_excluded: 0,
            calibration_shared: 0,
            seed: 0,
        };
        let description = Description {
            tuning: Some(tuning),
            ..parent.description
        };
        original.manifest = bundle::save(&original.folder, description, &scorer, &"").unwrap();
        original
    }

    /// Loads the bundle and uses what was loaded.
    fn load(&self) -> Result<(), BundleError> {
        let detector = Detector::load(&self.folder)?;
        let later = self.payments.later();
        // Scores of forged numbers may be any; they must come, or be refused in words.
        let _ = detector.score(later);
        let _ = detector.assess(later, Explain::All { reasons_max: 100 });
        let _ = detector.embed(later);
        Ok(())
    }

    /// Writes the manifest with digests that are right.
    fn seal(&self, mut manifest: Manifest) {
        for name in [WEIGHTS, CALIBRATION, DISTANCES, TREES] {
            if let Ok(bytes) = fs::read(self.folder.join(name)) {
                manifest.files.insert(name.to_owned(), sha256_hex(&bytes));
            }
        }
        manifest.description.schema_sha256 = manifest.description.schema.digest();
        manifest.model_id = manifest.computed_model_id().unwrap();
        let text = serde_json::to_string_pretty(&manifest).unwrap() + "\n";
        fs::write(self.folder.join(MANIFEST), text).unwrap();
    }
}

/// Bytes changed in one of several ways.
fn forged_bytes(sound: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    let place = rng.random_range(0..bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[place] ^= 1 << rng.random_range(0..8),
        1 => bytes[place] = rng.random_range(0..=255),
        2 => {
            let end = (place + rng.random_range(1..64)).min(bytes.len());
            bytes[place..end].fill(*[0x00, 0xff, 0x7f].get(place % 3).unwrap());
        }
        3 => {
            bytes.truncate(place);
        }
        4 => {
            let end = (place + rng.random_range(1..64)).min(bytes.len());
            bytes.drain(place..end);
        }
        // The footer or header, where the structure is.
        _ => {
            let near = bytes.len().min(400);
            let at = rng.random_range(0..near);
            let at = if place % 2 == 0 {
                at
            } else {
                bytes.len() - 1 - at
            };
            bytes[at] = rng.random_range(0..=255);
        }
    }
    bytes
}

#[track_caller]
fn assert_named(outcome: Result<(), BundleError>, name: &str, case: usize) -> bool {
    match outcome {
        Ok(()) => false,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(name), "case {case}: {text}");
            assert!(
                !matches!(error, BundleError::Tensor(_)),
                "case {case}: {text}"
            );
            true
        }
    }
}

fn whatever_the_file_holds(original: &Original, name: &str, seed: u64) {
    let path = original.folder.join(name);
    let sound = fs::read(&path).unwrap();
    let mut rng = stream(seed, Purpose::Tests);
    let mut refused = 0;
    for case in 0..FORGERIES {
        fs::write(&path, forged_bytes(&sound, &mut rng)).unwrap();
        original.seal(original.manifest.clone());
        refused += usize::from(assert_named(original.load(), name, case));
    }
    assert!(refused > FORGERIES / 4, "{refused}");
    fs::write(&path, sound).unwrap();
    original.seal(original.manifest.clone());
    original.load().unwrap();
}

#[test]
fn a_forged_calibration_with_right_digests_scores_or_is_refused_by_name() {
    whatever_the_file_holds(&Original::new(), CALIBRATION, 11);
    whatever_the_file_holds(&Original::with_trees(), CALIBRATION, 15);
}

#[test]
fn forged_weights_with_right_digests_score_or_are_refused_by_name() {
    whatever_the_file_holds(&Original::new(), WEIGHTS, 12);
}

#[test]
fn forged_distances_with_right_digests_score_or_are_refused_by_name() {
    whatever_the_file_holds(&Original::new(), DISTANCES, 13);
}

#[test]
fn forged_trees_with_right_digests_score_or_are_refused_by_name() {
    whatever_the_file_holds(&Original::with_trees(), TREES, 14);
}

/// Places of all values below `value`.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(children) => {
            for (name, child) in children {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(child, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(children) => {
            for (index, child) in children.iter().enumerate() {
                places(child, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at.to_owned());
}

/// Another value of its kind, or of another.
fn forged_value(value: &Value, rng: &mut ChaCha8Rng) -> Value {
    let choice = rng.random_range(0..6);
    match value {
        Value::Number(number) => match (number.as_u64(), choice) {
            (Some(n), 0) => (n + 1).into(),
            (Some(n), 1) => n.saturating_sub(1).into(),
            (Some(n), 2) => (n * 2).into(),
            (None, 0) => (-number.as_f64().unwrap()).into(),
            (None, 1) => 1e300.into(),
            (None, 2) => 1e-320.into(),
            (_, 3) => 0.into(),
            (_, 4) => (-1).into(),
            _ => Value::Null,
        },
        Value::String(_) => ["", "Europe/Paris", "numeric", "***", "x", "0"][choice].into(),
        Value::Bool(truth) => (!truth).into(),
        Value::Array(items) if !items.is_empty() => {
            let mut items = items.clone();
            let at = rng.random_range(0..items.len());
            match choice {
                0 => items.clear(),
                1 => drop(items.remove(at)),
                2 => items.push(items[at].clone()),
                3 => items.swap(0, at),
                4 => items.reverse(),
                _ => items.truncate(1),
            }
            items.into()
        }
        Value::Object(children) => {
            let mut children = children.clone();
            let name = children.keys().nth(choice % children.len().max(1)).cloned();
            name.map(|name| children.remove(&name));
            children.into()
        }
        _ => [Value::Null, 0.into(), "".into()][choice % 3].clone(),
    }
}

#[test]
fn a_forged_manifest_with_right_digests_scores_or_is_refused_by_name() {
    let original = Original::with_trees();
    let sound = serde_json::to_value(&original.manifest).unwrap();
    let mut all = Vec::new();
    places(&sound["description"], "/description", &mut all);
    let mut rng = stream(13, Purpose::Tests);
    let (mut readable, mut refused) = (0, 0);
    for case in 0..4 * FORGERIES {
        let place = &all[rng.random_range(0..all.len())];
        let mut forged = sound.clone();
        let value = forged.pointer_mut(place).unwrap();
        *value = forged_value(value, &mut rng);
        let forgery = format!("{place} is {value}");
        // What is no manifest at all is told by the reader of JSON.
        let Ok(manifest) = serde_json::from_value::<Manifest>(forged) else {
            continue;
        };
        readable += 1;
        original.seal(manifest);
        let outcome = original.load();
        if let Err(error) = &outcome {
            let text = error.to_string();
            let named = [MANIFEST, WEIGHTS, CALIBRATION, DISTANCES, TREES]
                .iter()
                .any(|name| text.contains(name));
            assert!(named, "case {case}: {forgery}: {text}");
        }
        refused += usize::from(outcome.is_err());
    }
    assert!(readable > FORGERIES && refused > 20, "{readable} {refused}");
}

#[test]
fn a_threshold_of_a_cascade_that_cannot_be_is_refused_by_name() {
    let original = Original::new();
    let (_, scorer) = bundle::load(&original.folder).unwrap();
    let sound = scorer.kept_threshold().unwrap();
    let with = |threshold, share, part: &str| {
        let bytes =
            bundle::write_calibration(scorer.reference(), scorer.conformal(), None, threshold);
        fs::write(original.folder.join(CALIBRATION), bytes.unwrap()).unwrap();
        let mut manifest = original.manifest.clone();
        manifest.description.cascade.share = share;
        original.seal(manifest);
        match (original.load(), part) {
            (Ok(()), "") => {}
            (Err(error), part) if !part.is_empty() => {
                let text = error.to_string();
                assert!(text.contains(part), "{text}");
            }
            (outcome, _) => panic!("{threshold:?} {share}: {outcome:?}"),
        }
    };
    with(Some(sound), 0.02, "");
    for threshold in [f32::NAN, f32::INFINITY, -0.1] {
        with(Some(threshold), 0.02, "must be finite and at least 0");
    }
    with(None, 0.02, "no threshold of a cascade");
    with(Some(sound), 0.0, "scores every record in all views");
    with(Some(sound), 0.9, "cascade.share = 0.9");
    with(None, 0.0, "");
}
