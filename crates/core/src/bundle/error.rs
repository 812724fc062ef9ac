//! What can be wrong with a bundle.

use crate::durable::TargetError;
use std::path::PathBuf;

/// Why a bundle cannot be written or is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its format asks for.
    #[error("{path}: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The bundle was written by another version of the format.
    #[error(
        "{path}: format version {found}, this program reads {expected}: train again with this version"
    )]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The supported one.
        expected: u64,
    },
    /// Contents and digest differ: the bundle was changed or is incomplete.
    #[error("{path}: {what} is {found}, the manifest says {expected}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// What was compared.
        what: &'static str,
        /// As found.
        found: String,
        /// As the manifest says.
        expected: String,
    },
    /// A tensor is missing, unknown, or of another shape or type; all of them at once.
    #[error("{path}: {}", differences.join("; "))]
    Weights {
        /// The weights file.
        path: PathBuf,
        /// Each difference.
        differences: Vec<String>,
    },
    /// Where a bundle should be there is none.
    #[error(
        "{path}: {found}, expected a bundle: the folder that `maskwatch train --out` makes, with its manifest.json"
    )]
    NoBundle {
        /// What was given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// Nothing can be written under the name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target exists and is no bundle.
    #[error("{path}: exists and is not a bundle; it is not overwritten")]
    NotABundle {
        /// The folder.
        path: PathBuf,
    },
    /// The tensor library failed.
    #[error("the tensor library failed")]
    Tensor(#[from] candle_core::Error),
}

impl BundleError {
    pub(super) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(super) fn malformed(path: &std::path::Path, detail: impl std::fmt::Display) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            detail: detail.to_string(),
        }
    }
}
