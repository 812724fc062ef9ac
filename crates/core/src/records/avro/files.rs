//! Avro writer schemas from files, for topics without a schema registry.
//!
//! A map from schema id to file flows in and is read and checked whole at start-up, so that a missing or broken file is
//! a configuration fault and never a fault of the first message.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::check_writer_schema;
use crate::durable::read_regular_text;
use crate::records::decode::WriterSchemas;
use crate::records::decode_error::WriterSchemaError;

/// Bytes of a schema file at most: 1 MiB is hundreds of times a large schema.
const SCHEMA_FILE_BYTES_MAX: u64 = 1 << 20;

/// Every fault of a map of schema files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("avro schema files: {}", faults.join("; "))]
pub struct FileSchemasError {
    /// One sentence a bad file, naming schema id and path.
    pub faults: Vec<String>,
}

/// Writer schemas read from files.
#[derive(Debug, Clone, Default)]
pub struct FileSchemas {
    texts: HashMap<u32, Arc<str>>,
}

impl FileSchemas {
    /// Reads the file of every schema id.
    ///
    /// # Errors
    /// All files that cannot be read, are too long, or hold no Avro schema.
    pub fn load(files: &BTreeMap<u32, PathBuf>) -> Result<Self, FileSchemasError> {
        let mut texts = HashMap::new();
        let mut faults = Vec::new();
        for (&id, path) in files {
            match read(path) {
                Ok(text) => drop(texts.insert(id, Arc::from(text))),
                Err(why) => faults.push(format!("schema {id}, {}: {why}", path.display())),
            }
        }
        if faults.is_empty() {
            Ok(Self { texts })
        } else {
            Err(FileSchemasError { faults })
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = read_regular_text(path, SCHEMA_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    check_writer_schema(&text)?;
    Ok(text)
}

impl WriterSchemas for FileSchemas {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        Ok(self.texts.get(&id).cloned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schemas_are_read_by_id_and_all_bad_files_are_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = file(
            "good.avsc",
            r#"{"type": "record", "name": "R", "fields": []}"#,
        );
        let broken = file("broken.avsc", r#"{"type": "recor"}"#);
        let mut schemas = FileSchemas::load(&BTreeMap::from([(7, good.clone())])).unwrap();
        assert!(
            schemas
                .writer_schema(7)
                .unwrap()
                .unwrap()
                .contains("record")
        );
        assert_eq!(schemas.writer_schema(8), Ok(None));

        let files = BTreeMap::from([(1, good), (2, broken), (3, dir.path().join("absent.avsc"))]);
        let error = FileSchemas::load(&files).unwrap_err().to_string();
        assert!(
            error.contains("schema 2") && error.contains("\"recor\" is not defined"),
            "{error}"
        );
        assert!(
            error.contains("schema 3") && error.contains("absent.avsc"),
            "{error}"
        );
    }
}
