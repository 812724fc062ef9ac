//! The decoders that the configuration asks for: a format, and where the schemas of writers come from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::records::{
    AvroDecoder, DecodeLimits, FileSchemas, FileSchemasError, JsonDecoder, WriterSchemaError,
    WriterSchemas,
};
use crate::schema::Schema;

use super::config::{InputConfig, InputFormat};
use super::kafka::{Registry, RegistryConfig, RegistryConfigError};
use super::worker::RecordDecoder;

/// Why there is no decoder.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The registry cannot be asked.
    #[error(transparent)]
    Registry(#[from] RegistryConfigError),
    /// Files of schemas cannot be used.
    #[error(transparent)]
    Files(#[from] FileSchemasError),
}

/// Schemas of writers that several decoders ask for, one at a time: what one was told holds for all, so that batches
/// do not differ by the thread that decodes them.
#[derive(Clone)]
struct SharedWriters(Arc<Mutex<dyn WriterSchemas>>);

impl SharedWriters {
    /// Whoever panicked while it asked has kept no answer, or a whole one.
    fn lock(&self) -> MutexGuard<'_, dyn WriterSchemas + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WriterSchemas for SharedWriters {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        self.lock().writer_schema(id)
    }

    fn prepare(&mut self, ids: &[u32]) -> Result<(), WriterSchemaError> {
        self.lock().prepare(ids)
    }
}

/// `count` decoders of messages into records of `schema`. Reads schema files; asks no registry yet.
///
/// # Errors
/// [`DecoderError`].
pub fn decoders(
    input: &InputConfig,
    schema: &Schema,
    count: usize,
) -> Result<Vec<Box<dyn RecordDecoder>>, DecoderError> {
    let limits = DecodeLimits::default();
    let writers: Option<Arc<Mutex<dyn WriterSchemas>>> = match &input.format {
        InputFormat::Json => None,
        InputFormat::AvroRegistry { url, basic_auth } => {
            let mut registry = RegistryConfig::new(url);
            registry.basic_auth.clone_from(basic_auth);
            Some(Arc::new(Mutex::new(Registry::new(registry)?)))
        }
        InputFormat::AvroFiles(files) => Some(Arc::new(Mutex::new(FileSchemas::load(files)?))),
    };
    let writers = writers.map(SharedWriters);
    let decoder = || -> Box<dyn RecordDecoder> {
        match &writers {
            None => Box::new(JsonDecoder::new(schema, limits).with_root(&input.root)),
            Some(writers) => {
                let decoder = AvroDecoder::new(schema, limits, Box::new(writers.clone()));
                Box::new(decoder.with_root(&input.root))
            }
        }
    };
    Ok((0..count).map(|_| decoder()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::records::{FaultReason, RecordRoot};

    const SCHEMA: &str = "[[field]]\nname = \"amount\"\nkind = \"numeric\"\n";

    fn at_the_top(format: InputFormat) -> InputConfig {
        InputConfig {
            format,
            root: RecordRoot::default(),
        }
    }

    #[test]
    fn the_configured_format_is_read() {
        let schema = Schema::parse(SCHEMA, "schema.toml").unwrap();
        let mut json = decoders(&at_the_top(InputFormat::Json), &schema, 1).unwrap();
        assert_eq!(
            json[0]
                .decode(&[Some(b"{\"amount\": 1}")])
                .unwrap()
                .payloads,
            [0]
        );

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.avsc");
        let text =
            r#"{"type": "record", "name": "R", "fields": [{"name": "amount", "type": "int"}]}"#;
        std::fs::write(&file, text).unwrap();
        let input = at_the_top(InputFormat::AvroFiles(BTreeMap::from([(7, file)])));
        let mut avro = decoders(&input, &schema, 2).unwrap();
        // Magic byte, schema id, then 1 as a zigzag integer.
        for decoder in &mut avro {
            let decoded = decoder
                .decode(&[Some(&[0, 0, 0, 0, 7, 2]), Some(&[0, 0, 0, 0, 8, 2])])
                .unwrap();
            assert_eq!(decoded.payloads, [0]);
            assert_eq!(decoded.faults[0].reason, FaultReason::UnknownSchema);
        }
    }

    #[test]
    fn a_source_of_schemas_that_cannot_be_is_told() {
        let schema = Schema::parse(SCHEMA, "schema.toml").unwrap();
        let input = at_the_top(InputFormat::AvroRegistry {
            url: "ftp://r".to_owned(),
            basic_auth: None,
        });
        assert!(matches!(
            decoders(&input, &schema, 1),
            Err(DecoderError::Registry(_))
        ));
        let missing = BTreeMap::from([(7, "/does/not/exist".into())]);
        let input = at_the_top(InputFormat::AvroFiles(missing));
        assert!(matches!(
            decoders(&input, &schema, 1),
            Err(DecoderError::Files(_))
        ));
    }
}
