//! Whether files hold rows that a bundle was made from: figures on such rows are optimistic.
//!
//! In flow a bundle and Parquet files, out flows what is known of them. Rows are known by the fingerprint in the manifest,
//! which is of all training rows together; single files of several are known by their paths in `run.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::fingerprint::Fingerprinter;
use super::manifest::Manifest;
use super::store::{read_file, run_path};
use crate::records::{ParquetSource, ReadOptions};

/// How rows are known that the bundle was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// They are the rows of the training, value by value.
    Rows,
    /// A file has the path of one that the bundle was made from; what it holds now is not known.
    Path(PathBuf),
}

/// The files that `run.json` names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Files {
    files: Vec<PathBuf>,
    tuning: TuningFiles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TuningFiles {
    labelled_files: Vec<PathBuf>,
    calibration_files: Vec<PathBuf>,
}

/// Whether `source` is, as far as is known, what the bundle in `dir` was made from; `None` if nothing says so. Reads the
/// source once if it has as many rows as the training.
pub fn seen(dir: &Path, manifest: &Manifest, source: &ParquetSource) -> Option<Seen> {
    if is_training_data(manifest, source) {
        return Some(Seen::Rows);
    }
    let run = read_file(&run_path(dir)).ok();
    let run = run.and_then(|bytes| serde_json::from_slice::<Files>(&bytes).ok())?;
    let tuning = [run.tuning.labelled_files, run.tuning.calibration_files];
    let made_from = run.files.into_iter().chain(tuning.into_iter().flatten());
    let made_from: Vec<PathBuf> = made_from.filter_map(|p| p.canonicalize().ok()).collect();
    let files = source.files().iter().map(|file| file.path());
    let is_one = |path: &&Path| path.canonicalize().is_ok_and(|p| made_from.contains(&p));
    files
        .map(AsRef::as_ref)
        .find(is_one)
        .map(|path| Seen::Path(path.to_owned()))
}

fn is_training_data(manifest: &Manifest, source: &ParquetSource) -> bool {
    let (schema, data) = (&manifest.description.schema, &manifest.description.data);
    if source.rows() != data.rows || source.check(schema).is_err() {
        return false;
    }
    let mut fingerprinter = Fingerprinter::default();
    for batch in source.batches(schema, ReadOptions::default()) {
        match batch {
            Ok(batch) => fingerprinter.observe(&batch.canonical),
            // Whoever reads the file for its own sake says what is wrong with it.
            Err(_) => return false,
        }
    }
    fingerprinter.finish() == *data
}
