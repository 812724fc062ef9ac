//! Where a file of payments ends, so that another file or a topic can go on from there.
//!
//! In flow the configuration of a generator and how many payments it has made; both are kept in the footer of the
//! Parquet file. Out flows a generator of the same world that has lived through them: the same customers, the same
//! terminals, later.

use std::fs::File;
use std::path::Path;

use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::{Deserialize, Serialize};

use super::config::GeneratorConfig;
use super::error::GenerateError;

/// The key in the file's footer.
const KEY: &str = "maskwatch.generate";

/// A world and how far it was lived through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The world.
    pub config: GeneratorConfig,
    /// Payments from the world's start to the end of the file, those left out at the beginning included.
    pub payments: u64,
}

impl Origin {
    /// The entry of the footer.
    pub(super) fn entry(&self) -> Result<KeyValue, serde_json::Error> {
        Ok(KeyValue::new(KEY.to_owned(), serde_json::to_string(self)?))
    }

    /// What the footer of a file of payments says.
    ///
    /// # Errors
    /// [`GenerateError::Io`], [`GenerateError::Parquet`]; [`GenerateError::NoOrigin`] for a file that
    /// [`super::write_parquet`] did not write.
    pub fn read(path: &Path) -> Result<Self, GenerateError> {
        let io = |source| GenerateError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let parquet = |source| GenerateError::NotParquet {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let reader = SerializedFileReader::new(file).map_err(parquet)?;
        let entries = reader.metadata().file_metadata().key_value_metadata();
        let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == KEY));
        let text = entry.and_then(|entry| entry.value.as_deref());
        let origin: Option<Self> = text.and_then(|text| serde_json::from_str(text).ok());
        let origin = origin.ok_or_else(|| GenerateError::NoOrigin {
            path: path.to_owned(),
        })?;
        origin.config.check()?;
        Ok(origin)
    }
}
