//! What can be wrong with a models folder, or with a wish about it.

use std::io;
use std::path::{Path, PathBuf};

use super::id::ModelId;
use crate::bundle::BundleError;

/// Why a models folder was not read or not changed.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A file cannot be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none.
    #[error("{}: {found}, expected a models folder; `maskwatch models add DIR BUNDLE` makes one", path.display())]
    NoFolder {
        /// What was given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// Somebody else changes it.
    #[error(
        "{}: another program has been changing this models folder for {waited_s} s; try again when it has ended",
        path.display()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// How long it was waited for.
        waited_s: u64,
    },
    /// A pointer file that holds something else.
    #[error("{}: {found:?}, expected a model_id of 16 hexadecimal digits", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
        /// Its text, cut.
        found: String,
    },
    /// The folder has no model of this name.
    #[error("{}: no model `{asked}`, there {}", dir.display(), among(known))]
    NoModel {
        /// The folder.
        dir: PathBuf,
        /// What was asked for.
        asked: String,
        /// The models that there are.
        known: Vec<ModelId>,
    },
    /// The beginning of several ids.
    #[error("{}: `{asked}` is the beginning of {} models: {}", dir.display(), found.len(), list(found))]
    Ambiguous {
        /// The folder.
        dir: PathBuf,
        /// What was asked for.
        asked: String,
        /// The models that it may mean.
        found: Vec<ModelId>,
    },
    /// The pointer names nothing.
    #[error("{}: there is no {pointer}; `maskwatch models {verb} {} ID` names one", dir.display(), dir.display())]
    NoPointer {
        /// The folder.
        dir: PathBuf,
        /// Which pointer.
        pointer: &'static str,
        /// The verb that sets it.
        verb: &'static str,
    },
    /// A model that was retired is asked for.
    #[error(
        "{}: model {id} is retired; `maskwatch models add {} {}` takes it back",
        dir.display(), dir.display(), dir.join(id.as_str()).display()
    )]
    Retired {
        /// The folder.
        dir: PathBuf,
        /// The model.
        id: ModelId,
    },
    /// The champion is to go, or to be its own challenger.
    #[error("{}: model {id} is the champion; promote another one first", dir.display())]
    IsChampion {
        /// The folder.
        dir: PathBuf,
        /// The model.
        id: ModelId,
    },
    /// There was no other champion before.
    #[error("{}: there is no earlier champion to go back to", dir.display())]
    NothingBefore {
        /// The folder.
        dir: PathBuf,
    },
    /// A bundle's folder has not the name of its model.
    #[error("{}: the bundle's model_id is {found}, expected the name of its folder", path.display())]
    OtherName {
        /// The bundle.
        path: PathBuf,
        /// The model_id in its manifest.
        found: String,
    },
    /// A line of the log is none.
    #[error("{}: line {line}: {detail}", path.display())]
    Journal {
        /// The log.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// A bundle is not whole.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl ModelsError {
    /// Makes an error of the system's.
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }
}

/// Ids that a message names at most.
const NAMED_MAX: usize = 8;

fn list(ids: &[ModelId]) -> String {
    let named: Vec<&str> = ids.iter().take(NAMED_MAX).map(ModelId::as_str).collect();
    let rest = match ids.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{rest}", named.join(", "))
}

fn among(known: &[ModelId]) -> String {
    match known.len() {
        0 => "are none".to_owned(),
        _ => format!("are: {}", list(known)),
    }
}
