//! Forged bundles: contents of any kind under digests that are right.
//!
//! A digest proves that nothing was changed by accident, not that the contents make sense. Whatever a file of a bundle
//! holds, loading it gives a bundle that scores, or an error that names the file; nothing panics.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::bundle::{CALIBRATION, DISTANCES, MANIFEST, WEIGHTS};
use super::comparison::Payments;
use super::manifest::sha256_hex;
use super::{ArtifactError, Detector, Manifest};
use crate::model::{Architecture, ObjectiveKind};
use crate::rng::{ChaCha8Rng, Purpose, stream};
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

    /// Loads the bundle and uses what was loaded.
    fn load(&self) -> Result<(), ArtifactError> {
        let detector = Detector::load(&self.folder)?;
        let later = self.payments.later();
        let rows: Vec<usize> = (0..later.num_rows()).collect();
        // Scores of forged numbers may be any; they must come, or be refused in words.
        let _ = detector.score(later);
        let _ = detector.explain(later, &rows, 100);
        let _ = detector.embed(later);
        Ok(())
    }

    /// Writes the manifest with digests that are right.
    fn seal(&self, mut manifest: Manifest) {
        for name in [WEIGHTS, CALIBRATION, DISTANCES] {
            let bytes = fs::read(self.folder.join(name)).unwrap();
            manifest.files.insert(name.to_owned(), sha256_hex(&bytes));
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
fn assert_named(outcome: Result<(), ArtifactError>, name: &str, case: usize) -> bool {
    match outcome {
        Ok(()) => false,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(name), "case {case}: {text}");
            assert!(
                !matches!(error, ArtifactError::Tensor(_)),
                "case {case}: {text}"
            );
            true
        }
    }
}

fn whatever_the_file_holds(name: &str, seed: u64) {
    let original = Original::new();
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
    whatever_the_file_holds(CALIBRATION, 11);
}

#[test]
fn forged_weights_with_right_digests_score_or_are_refused_by_name() {
    whatever_the_file_holds(WEIGHTS, 12);
}

#[test]
fn forged_distances_with_right_digests_score_or_are_refused_by_name() {
    whatever_the_file_holds(DISTANCES, 13);
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
    let original = Original::new();
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
        let told = format!("{place} is {value}");
        // What is no manifest at all is told by the reader of JSON.
        let Ok(manifest) = serde_json::from_value::<Manifest>(forged) else {
            continue;
        };
        readable += 1;
        original.seal(manifest);
        let outcome = original.load();
        if let Err(error) = &outcome {
            let text = error.to_string();
            let named = [MANIFEST, WEIGHTS, CALIBRATION, DISTANCES]
                .iter()
                .any(|name| text.contains(name));
            assert!(named, "case {case}: {told}: {text}");
        }
        refused += usize::from(outcome.is_err());
    }
    assert!(readable > FORGERIES && refused > 20, "{readable} {refused}");
}
