//! Where the daemon's model is: one bundle, or the champion of a folder of models.
//!
//! A path flows in, the model that is to serve flows out. It is asked anew each time, since others change the folder.

use super::budget_by;
use super::exit::ConfigFaults;
use super::report::shown_smallest;
use crate::Detector;
use crate::bundle::load_manifest;
use crate::models::{CHAMPION, ModelsFolder};
use crate::pipeline::options::AlertsConfig;
use crate::toml_file::KeyFault;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where the model is.
#[derive(Debug, Clone)]
pub enum ModelHome {
    /// A bundle: replaced as a whole, and looked at when somebody says so.
    Bundle(PathBuf),
    /// A folder of models: its pointer is looked at all the time.
    Folder(ModelsFolder),
}

/// The model that is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub model_id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// When somebody last said so, as far as the file system tells: a pointer that is written anew is a new wish.
    pub since: Option<SystemTime>,
}

impl ModelHome {
    /// What `dir` is: where there is no folder of models it is, or is to become, a bundle.
    pub fn at(dir: &Path) -> Self {
        match ModelsFolder::at(dir) {
            Some(folder) => Self::Folder(folder),
            None => Self::Bundle(dir.to_owned()),
        }
    }

    /// Whether its pointer is to be looked at all the time.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// The model that is to serve at this moment. Nothing of it is checked but its name.
    ///
    /// # Errors
    /// No champion, a pointer that cannot be read, a bundle without a manifest.
    pub fn wanted(&self) -> anyhow::Result<Wanted> {
        let modified = |path: &Path| std::fs::metadata(path).and_then(|of| of.modified()).ok();
        match self {
            Self::Bundle(dir) => Ok(Wanted {
                model_id: load_manifest(dir)?.model_id,
                bundle: dir.clone(),
                since: modified(dir),
            }),
            Self::Folder(folder) => {
                let id = folder.find(CHAMPION)?;
                Ok(Wanted {
                    bundle: folder.bundle(&id),
                    model_id: id.to_string(),
                    since: modified(&folder.dir().join(CHAMPION)),
                })
            }
        }
    }

    /// Loads the model that is to serve.
    ///
    /// # Errors
    /// As [`wanted`](Self::wanted); a bundle that is not whole, is another model than its folder says (65), or cannot hold the
    /// budget (64).
    pub fn load(&self, alerts: Option<&AlertsConfig>) -> anyhow::Result<Detector> {
        match self {
            Self::Bundle(dir) => held(Detector::load(dir)?, dir, alerts),
            Self::Folder(folder) => {
                let id = folder.find(CHAMPION)?;
                held(folder.load(&id)?, &folder.bundle(&id), alerts)
            }
        }
    }
}

/// The bundle in `dir` with the budget held as `alerts` asks for.
///
/// # Errors
/// A budget that it cannot reach or hold (64).
fn held(detector: Detector, dir: &Path, alerts: Option<&AlertsConfig>) -> anyhow::Result<Detector> {
    let Some(alerts) = alerts else {
        return Ok(detector);
    };
    if !detector.attains(alerts.budget) && !alerts.allow_unattainable_budget {
        let what = format!(
            "can never be reached: with {} calibration rows the smallest p-value is {}; raise the budget, train on \
             more rows, or set alerts.allow_unattainable_budget = true",
            detector.calibration_rows(),
            shown_smallest(detector.calibration_rows())
        );
        let fault = KeyFault::of_value("alerts.budget", alerts.budget.share(), what);
        return Err(ConfigFaults::new(dir, vec![fault]).into());
    }
    budget_by::configured(detector, dir, alerts)
}
