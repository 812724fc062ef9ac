//! A bundle on disk: written whole or not at all, read whole or refused.

use super::calibration_file;
use super::distances_file;
use super::error::BundleError;
use super::manifest::{Description, FORMAT_VERSION, Manifest, sha256_hex};
use super::trees_file;
use super::weights::{self, WeightsFault};
use crate::durable;
use crate::encode::{FieldShape, TrainedMoments, ValueBins};
use crate::model::inputs::takes_noise;
use crate::model::{Likelihood, MaskedAutoencoder, ModelConfig, Views};
use crate::score::{
    self, Axes, BudgetShare, Cascade, ConformalScores, FirstStage, Labelled, Measured, NearestRows,
    ScoreConfig, ScoreRule, Scorer, SegmentField, Supervised, SurpriseModel, TreeInputs,
    segment_fields,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The weights' file name.
pub const WEIGHTS: &str = "weights.safetensors";
/// The calibration's file name.
pub const CALIBRATION: &str = "calibration.parquet";
/// The file name of what distances are measured by; a bundle that measures none lacks it.
pub const DISTANCES: &str = "distances.safetensors";
/// The file name of the trees that labels grew; a bundle without any lacks it.
pub const TREES: &str = "trees.safetensors";
/// The file of times, rates and paths, outside every digest.
pub const RUN: &str = "run.json";
/// Bytes of a bundle's file at most: far above any model, far below what would exhaust memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Writes a bundle into `dir`: into a temporary sibling first, synced, then renamed. A bundle that is there is replaced.
///
/// # Errors
/// [`BundleError::NotABundle`] if `dir` exists and is none; [`BundleError::Io`]. Nothing partial is left behind.
pub fn save(
    dir: &Path,
    description: Description,
    scorer: &Scorer,
    run: &impl Serialize,
) -> Result<Manifest, BundleError> {
    check_target(dir)?;
    let dir = &durable::folder_target(dir)?;
    let parent = durable::folder_of(dir);
    let malformed =
        |name: &str, e: &dyn std::fmt::Display| BundleError::malformed(&dir.join(name), e);
    let weights = weights::write(scorer.model().model().parameters())?;
    let labelled = scorer.labelled();
    let labelled_scores = labelled.map(Labelled::conformal);
    let calibration = calibration_file::write(
        scorer.reference(),
        scorer.conformal(),
        labelled_scores,
        scorer.kept_threshold(),
    )
    .map_err(|e| malformed(CALIBRATION, &e))?;
    let distances =
        distances_file::write(scorer.model().distances()).map_err(|e| malformed(DISTANCES, &e))?;
    let mut files = vec![(WEIGHTS, weights), (CALIBRATION, calibration)];
    files.extend(distances.map(|distances| (DISTANCES, distances)));
    if let Some(Supervised::Trees(trees)) = labelled.map(Labelled::detector) {
        let trees = trees_file::write(trees).map_err(|e| malformed(TREES, &e))?;
        files.push((TREES, trees));
    }
    let digested: Vec<(&str, &[u8])> = files.iter().map(|(name, f)| (*name, &f[..])).collect();
    let manifest = Manifest::new(description, &digested).map_err(|e| malformed(MANIFEST, &e))?;
    let manifest_json = pretty(&manifest).map_err(|e| malformed(MANIFEST, &e))?;
    let run_json = pretty(run).map_err(|e| malformed(RUN, &e))?;

    fs::create_dir_all(parent).map_err(BundleError::io(parent, "create the folder"))?;
    let temporary = temporary_folder(parent)?;
    files.extend([(RUN, run_json), (MANIFEST, manifest_json)]);
    for (name, bytes) in files {
        // Told under the name that it is to have: nobody has ever seen the temporary one.
        write_synced(&temporary.path().join(name), &bytes)
            .map_err(BundleError::io(&dir.join(name), "write the file"))?;
    }
    durable::sync_folder(temporary.path()).map_err(BundleError::io(dir, "sync the folder"))?;
    durable::replace_folder(temporary, dir)
        .map_err(BundleError::io(dir, "give the finished bundle its name"))?;
    Ok(manifest)
}

/// Whether `dir` may and can be written: absent, empty, or a bundle and nothing besides, in a folder that takes new ones.
///
/// Replacing a folder removes what is in it, so every entry must be a file of a bundle, and the manifest one of ours. A
/// link to a folder stays; the folder is replaced. Training asks this first: hours of work must not end at a folder that
/// takes nothing.
///
/// # Errors
/// [`BundleError::NotABundle`]; [`BundleError::Target`] for a device, a FIFO, a socket or a link to nothing;
/// [`BundleError::Io`] with the nearest folder that is there if it takes no new one.
pub fn check_target(dir: &Path) -> Result<(), BundleError> {
    let real = durable::folder_target(dir)?;
    if real.exists() && !is_bundle_or_empty(&real) {
        return Err(BundleError::NotABundle {
            path: dir.to_owned(),
        });
    }
    let mut folder = durable::folder_of(&real);
    while !folder.exists() && folder != durable::folder_of(folder) {
        folder = durable::folder_of(folder);
    }
    temporary_folder(folder).map(drop)
}

/// A folder in `parent`, removed when dropped.
fn temporary_folder(parent: &Path) -> Result<TempDir, BundleError> {
    let made = durable::temporary_folder(parent);
    made.map_err(BundleError::io(parent, "create a temporary folder"))
}

fn is_bundle_or_empty(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let names: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let known = [MANIFEST, WEIGHTS, CALIBRATION, DISTANCES, TREES, RUN];
    let all_known = names.iter().all(|name| {
        name.as_ref()
            .is_ok_and(|name| known.iter().any(|known| name == known))
    });
    let ours = || {
        let manifest = read_file(&dir.join(MANIFEST)).ok();
        manifest.is_some_and(|bytes| serde_json::from_slice::<Signature>(&bytes).is_ok())
    };
    names.is_empty() || (all_known && ours())
}

/// What tells our manifest, of whatever version, from other files of that name.
#[derive(serde::Deserialize)]
struct Signature {
    #[serde(rename = "format_version")]
    _format_version: u64,
    #[serde(rename = "model_id")]
    _model_id: String,
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// JSON with a line break at its end.
fn pretty(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads and checks the manifest alone.
///
/// # Errors
/// [`BundleError`]: what is off.
pub fn load_manifest(dir: &Path) -> Result<Manifest, BundleError> {
    let path = dir.join(MANIFEST);
    check_is_bundle(dir, &path)?;
    let bytes = read_file(&path)?;
    let version: VersionOnly = parse(&path, &bytes)?;
    if version.format_version != FORMAT_VERSION {
        let (found, expected) = (version.format_version, FORMAT_VERSION);
        return Err(BundleError::Version {
            path,
            found,
            expected,
        });
    }
    let manifest: Manifest = parse(&path, &bytes)?;
    check_canonical(&path, &bytes, &manifest)?;
    let computed = manifest
        .computed_model_id()
        .map_err(|e| BundleError::malformed(&path, e))?;
    check_equal(
        &path,
        "the computed model_id",
        &computed,
        &manifest.model_id,
    )?;
    let description = &manifest.description;
    let digest = description.schema.digest();
    check_equal(
        &path,
        "the schema's digest",
        &digest,
        &description.schema_sha256,
    )?;
    let schema: Vec<&str> = description
        .schema
        .features()
        .map(|f| f.name.as_str())
        .collect();
    let encoder: Vec<&str> = description
        .encoder
        .fields()
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    if schema != encoder {
        let detail = format!("the encoder has the fields {encoder:?}, the schema {schema:?}");
        return Err(BundleError::malformed(&path, detail));
    }
    let faults = description_faults(description);
    if !faults.is_empty() {
        return Err(BundleError::malformed(&path, faults.join("; ")));
    }
    Ok(manifest)
}

/// Everything that is wrong with a description whose encoder has the schema's fields.
fn description_faults(description: &Description) -> Vec<String> {
    let settings = description.model.faults().into_iter();
    let settings = settings.chain(description.score.faults());
    let settings = settings.chain(description.cascade.faults());
    let mut faults: Vec<String> = settings.map(|fault| fault.to_string()).collect();
    faults.extend(description.encoder.faults(&description.schema));
    let time = description.time.as_ref();
    let time = time.and_then(TrainedMoments::fault);
    faults.extend(time.map(|fault| format!("time: {fault}")));
    let bins = ValueBins::new(&description.encoder, &description.schema);
    faults.extend(bins.fault(&description.field_tables));
    let (encoder, views) = (&description.encoder, &description.views);
    faults.extend(views.fault(encoder.fields().len(), &encoder.predicted()));
    let objective = description.training.objective;
    if objective.hides_fields() != views.hides_fields() {
        faults.push(format!(
            "views {views:?} are not of the objective {objective:?}"
        ));
    }
    faults.extend(denoising_fault(description));
    faults
}

/// What is wrong with the denoising view, if there is one: it must tell a model that can be told, and read numbers.
fn denoising_fault(description: &Description) -> Option<String> {
    let strata = description.views.strata().iter();
    let denoising: Vec<_> = strata.filter_map(|of| of.denoising.as_ref()).collect();
    let denoises = description.model.denoises(description.training.objective);
    if !denoising.is_empty() && !denoises {
        return Some("a denoising view of a model that is not told of noise".to_owned());
    }
    let shapes = description.encoder.shapes();
    let is_number = |field: &u32| shapes.get(*field as usize).is_some_and(|&s| takes_noise(s));
    let mut reads = denoising.iter().flat_map(|of| &of.reads);
    let other = reads.find(|field| !is_number(field))?;
    Some(format!(
        "a denoising view reads field {other}, which is no number"
    ))
}

/// Whether there is a folder with a manifest at all.
fn check_is_bundle(dir: &Path, manifest: &Path) -> Result<(), BundleError> {
    let found = match fs::metadata(dir) {
        Ok(folder) if !folder.is_dir() => durable::irregular(dir).unwrap_or("a file"),
        Ok(_) if !manifest.exists() => "a folder without a manifest.json",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "there is nothing of this name",
        // A path through a file.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            "there is nothing of this name"
        }
        // What cannot be looked at is told by who reads it.
        _ => return Ok(()),
    };
    Err(BundleError::NoBundle {
        path: dir.to_owned(),
        found,
    })
}

/// Whether the manifest's bytes are those that its contents are written as: a number with another
/// last digit may be the same number, and would pass every digest.
fn check_canonical(path: &Path, bytes: &[u8], manifest: &Manifest) -> Result<(), BundleError> {
    let written = pretty(manifest).map_err(|e| BundleError::malformed(path, e))?;
    if written == bytes {
        return Ok(());
    }
    let same = bytes.iter().zip(&written).take_while(|(a, b)| a == b);
    let line = 1 + same.filter(|(byte, _)| **byte == b'\n').count();
    let detail = format!("line {line} is not as it was written");
    Err(BundleError::malformed(path, detail))
}

/// Reads a bundle and checks every name, shape, type and digest.
///
/// # Errors
/// [`BundleError`]: what is off.
pub fn load(dir: &Path) -> Result<(Manifest, Scorer), BundleError> {
    let manifest = load_manifest(dir)?;
    let weights = read_digested(dir, WEIGHTS, &manifest)?;
    let calibration = read_digested(dir, CALIBRATION, &manifest)?;
    let description = &manifest.description;
    let encoder = description.encoder.clone();
    let objective = description.training.objective;
    let path = dir.join(WEIGHTS);
    check_size(&path, weights.len(), description)?;
    let model = MaskedAutoencoder::new(&description.model, objective, &encoder, description.seed)?;
    weights::read(&weights, model.parameters()).map_err(|fault| match fault {
        WeightsFault::Format(e) => BundleError::malformed(&path, e),
        WeightsFault::Differences(differences) => BundleError::Weights { path, differences },
        WeightsFault::Tensor(e) => BundleError::Tensor(e),
    })?;
    let axes = Axes {
        fields: encoder.fields().len(),
        strata: description.views.strata().len(),
        readings: model.heads().readings(),
        trained: model.heads().trained_readings(),
    };
    let width = description.model.width;
    let model = SurpriseModel::new(encoder.clone(), model, &description.views)?;
    let model = match manifest.files.contains_key(DISTANCES) {
        true => {
            let bytes = read_digested(dir, DISTANCES, &manifest)?;
            let layout = score::layout(&encoder, &description.schema);
            let mut distances = distances_file::read(&bytes, width, layout)
                .map_err(|e| BundleError::malformed(&dir.join(DISTANCES), e))?;
            let score = &description.score;
            let rows = distances.nearest.as_ref().map_or(0, NearestRows::len);
            let is_asked_for = (rows == 0 || score.nearest)
                && rows <= score.nearest_rows
                && (distances.latent.is_none() || score.latent);
            if !is_asked_for {
                let detail = "holds distances that the manifest's [score] does not ask for";
                return Err(BundleError::malformed(&dir.join(DISTANCES), detail));
            }
            // Of a model without one latent a record it cannot be measured.
            distances.latent = distances.latent.filter(|_| score::has_latent(&model));
            model.with_distances(&description.views, distances)?
        }
        false => model,
    };
    let rule = rule_of(
        &description.score,
        &description.model,
        &model,
        &description.views,
    );
    let first = first_stage(description, &model, &rule)?;
    let segments = segment_fields(&encoder.shapes());
    let segments: Vec<usize> = segments.into_iter().map(SegmentField::field).collect();
    let in_calibration = |e| BundleError::malformed(&dir.join(CALIBRATION), e);
    let found = calibration_file::read(calibration, (axes, rule), &segments);
    let found = found.map_err(in_calibration)?;
    let cascade = cascade_of(first, found.threshold).map_err(|e| in_calibration(e.into()))?;
    let scorer = Scorer::from_parts(model, found.reference, found.scores).with_cascade(cascade);
    let scorer = with_labelled(dir, &manifest, scorer, found.labelled)?;
    Ok((manifest, scorer))
}

/// How a model's measures become a score.
pub fn rule_of(
    score: &ScoreConfig,
    config: &ModelConfig,
    model: &SurpriseModel,
    views: &Views,
) -> ScoreRule {
    let measured = Measured {
        views,
        likelihood: &config.likelihood,
        heads: model.model().heads(),
        latent: model.distances().latent.is_some(),
        nearest: model.distances().nearest.is_some(),
    };
    ScoreRule::new(score, measured)
}

/// What every record gets before some get all views; `None` where all do.
fn first_stage(
    description: &Description,
    model: &SurpriseModel,
    rule: &ScoreRule,
) -> Result<Option<FirstStage>, BundleError> {
    match description.cascade.share > 0.0 {
        true => Ok(FirstStage::of(model, &description.views, rule)?),
        false => Ok(None),
    }
}

/// The two stages of a bundle, whose threshold must be there if and only if there are two.
fn cascade_of(
    first: Option<FirstStage>,
    threshold: Option<f32>,
) -> Result<Option<Cascade>, String> {
    match (first, threshold) {
        (Some(first), Some(threshold)) => first.with_threshold(threshold).map(Some),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err("no threshold of a cascade, which the manifest's cascade.share asks for".to_owned())
        }
        (None, Some(_)) => Err(
            "the threshold of a cascade, where the manifest scores every record in all views"
                .to_owned(),
        ),
    }
}

/// The scorer with the detector that labels made, if they did. Its parts are in three places, which must agree.
fn with_labelled(
    dir: &Path,
    manifest: &Manifest,
    scorer: Scorer,
    scores: Option<ConformalScores>,
) -> Result<Scorer, BundleError> {
    let in_manifest = |detail: String| BundleError::malformed(&dir.join(MANIFEST), detail);
    let has_trees = manifest.files.contains_key(TREES);
    let tuning = manifest.description.tuning.as_ref();
    let combination = tuning.and_then(|tuning| tuning.combination.clone());
    let detector = match (combination, has_trees) {
        (None, false) => None,
        (Some(_), true) => return Err(in_manifest("weights and trees, expected one".to_owned())),
        (Some(combination), false) => Some(Supervised::Combination(combination)),
        (None, true) => {
            let bytes = read_digested(dir, TREES, manifest)?;
            let shapes = manifest.description.encoder.shapes();
            let inputs = TreeInputs::new(&shapes, scorer.reference()).len();
            let trees = trees_file::read(&bytes, inputs)
                .map_err(|e| BundleError::malformed(&dir.join(TREES), e))?;
            Some(Supervised::Trees(trees))
        }
    };
    match (detector, tuning, scores) {
        (None, _, None) => Ok(scorer),
        (Some(detector), Some(tuning), Some(scores)) => {
            let share = BudgetShare::new(tuning.budget_share).map_err(in_manifest)?;
            let (model, reference) = (scorer.model(), scorer.reference());
            let labelled = Labelled::new(model, reference, (detector, share), scores);
            Ok(scorer.with_labelled(labelled.map_err(in_manifest)?))
        }
        (Some(_), None, _) => Err(in_manifest("trees without a tuning".to_owned())),
        (Some(_), _, None) => Err(BundleError::malformed(
            &dir.join(CALIBRATION),
            "no labelled scores, the manifest tells of a tuned detector",
        )),
        (None, _, Some(_)) => Err(BundleError::malformed(
            &dir.join(CALIBRATION),
            "labelled scores, the manifest tells of no tuned detector",
        )),
    }
}

/// Whether the file can hold the model at all: a model is made in memory before its weights are looked at.
fn check_size(path: &Path, bytes: usize, description: &Description) -> Result<(), BundleError> {
    let model = &description.model;
    let shapes = description.encoder.shapes().into_iter();
    let numbers = shapes.filter(|shape| *shape == FieldShape::Numeric).count();
    let bins = match model.likelihood.contains(&Likelihood::Histogram) {
        true => model.histogram_bins,
        false => 0,
    };
    // A block has at least one square of the width, a histogram a column of it a bin.
    let least = 4 * model.width * (model.width * model.blocks + bins * numbers);
    match least > bytes {
        true => Err(BundleError::malformed(
            path,
            format!("{bytes} bytes, the model that the manifest describes has more than {least}"),
        )),
        false => Ok(()),
    }
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    format_version: u64,
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, BundleError> {
    serde_json::from_slice(bytes).map_err(|e| BundleError::malformed(path, e))
}

fn read_digested(dir: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(name);
    let bytes = read_file(&path)?;
    let expected = manifest.files.get(name).map_or("nothing", String::as_str);
    check_equal(&path, "its SHA-256", &sha256_hex(&bytes), expected)?;
    Ok(bytes)
}

fn check_equal(
    path: &Path,
    what: &'static str,
    found: &str,
    expected: &str,
) -> Result<(), BundleError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(BundleError::Digest {
        path: path.to_owned(),
        what,
        found,
        expected,
    })
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, BundleError> {
    let metadata = fs::metadata(path).map_err(BundleError::io(path, "find the file"))?;
    // Reading a FIFO or a device may never end.
    let odd = match metadata.is_dir() {
        true => Some("a folder"),
        false => durable::irregular(path),
    };
    if let Some(odd) = odd {
        return Err(BundleError::malformed(
            path,
            format!("is {odd}, expected a file"),
        ));
    }
    let size = metadata.len();
    if size > FILE_BYTES_MAX {
        let detail = format!("{size} bytes, the limit is {FILE_BYTES_MAX}");
        return Err(BundleError::malformed(path, detail));
    }
    fs::read(path).map_err(BundleError::io(path, "read the file"))
}

/// When the bundle was made, seconds since 1970: what `run.json` says, which a copy keeps; else the time of the manifest's
/// file; 0 if the file system does not say.
pub fn created_at_unix_s(dir: &Path) -> u64 {
    #[derive(serde::Deserialize)]
    struct CreatedAt {
        created_at_unix_s: u64,
    }
    let run = read_file(&dir.join(RUN)).ok();
    let stated = run.and_then(|bytes| serde_json::from_slice::<CreatedAt>(&bytes).ok());
    if let Some(CreatedAt { created_at_unix_s }) = stated {
        return created_at_unix_s;
    }
    let written = fs::metadata(dir.join(MANIFEST)).and_then(|file| file.modified());
    let since = written
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |age| age.as_secs())
}

/// The path of `run.json` in a bundle.
pub fn run_path(dir: &Path) -> PathBuf {
    dir.join(RUN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_bundle_is_as_old_as_the_one_it_was_copied_from() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(created_at_unix_s(dir), 0);
        fs::write(dir.join(MANIFEST), "{}").unwrap();
        let written = created_at_unix_s(dir);
        assert!(written > 1_700_000_000, "{written}");
        for damaged in ["", "{", "{\"created_at_unix_s\": -1}"] {
            fs::write(dir.join(RUN), damaged).unwrap();
            assert!(created_at_unix_s(dir) >= written, "{damaged}");
        }
        let run = "{\"created_at_unix_s\": 1600000000, \"seconds\": 1.5}";
        fs::write(dir.join(RUN), run).unwrap();
        assert_eq!(created_at_unix_s(dir), 1_600_000_000);
    }

    #[test]
    fn an_output_folder_that_takes_nothing_is_refused_before_any_work() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for dir in [&file.join("bundle"), &file.join("deep/bundle")] {
            let error = check_target(dir).unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()), "{error}");
        }
        // Nothing is left behind where the folder does take new ones, and none is made that may not be needed.
        for dir in ["bundle", "deep/down/bundle"] {
            check_target(&folder.path().join(dir)).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
