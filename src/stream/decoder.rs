//! The decoders that the configuration asks for: a format, and where the schemas of writers come from. [`Decoders`] hands one to
//! whoever decodes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::records::{
    AvroDecoder, DecodeError, DecodeLimits, Decoded, FileSchemas, FileSchemasError, JsonDecoder,
    WriterSchemaError, WriterSchemas,
};
use crate::schema::Schema;

use super::config::{InputConfig, InputFormat};
use super::kafka::{Registry, RegistryConfig, RegistryConfigError};

/// Bytes to canonical records: the decoders of `features`, behind one door.
pub trait RecordDecoder: Send {
    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// # Errors
    /// Trouble that is no payload's fault.
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError>;
}

impl RecordDecoder for JsonDecoder {
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        JsonDecoder::decode(self, payloads)
    }
}

impl RecordDecoder for AvroDecoder {
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        AvroDecoder::decode(self, payloads)
    }
}

/// Decoders that differ in nothing but what they remember, one for each thread that decodes at the same time.
pub struct Decoders {
    make: Box<dyn Fn() -> Box<dyn RecordDecoder> + Send + Sync>,
    /// Made and not in use.
    free: Mutex<Vec<Box<dyn RecordDecoder>>>,
}

impl Decoders {
    /// Those that `make` makes.
    pub fn new(make: impl Fn() -> Box<dyn RecordDecoder> + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            free: Mutex::default(),
        }
    }

    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// # Errors
    /// Trouble that is no payload's fault.
    pub fn decode(&self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        let taken = self.free().pop();
        let mut decoder = taken.unwrap_or_else(|| (self.make)());
        // One that panics is not given back.
        let decoded = decoder.decode(payloads);
        self.free().push(decoder);
        decoded
    }

    fn free(&self) -> MutexGuard<'_, Vec<Box<dyn RecordDecoder>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

/// Decoders of messages into records of `schema`. Reads schema files; asks no registry yet.
///
/// # Errors
/// [`DecoderError`].
pub fn decoders(input: &InputConfig, schema: &Schema) -> Result<Decoders, DecoderError> {
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
    let (schema, root) = (schema.clone(), input.root.clone());
    Ok(Decoders::new(move || match &writers {
        None => Box::new(JsonDecoder::new(&schema, limits).with_root(&root)),
        Some(writers) => {
            let decoder = AvroDecoder::new(&schema, limits, Box::new(writers.clone()));
            Box::new(decoder.with_root(&root))
        }
    }))
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
        let json = decoders(&at_the_top(InputFormat::Json), &schema).unwrap();
        let decoded = json.decode(&[Some(b"{\"amount\": 1}")]).unwrap();
        assert_eq!(decoded.payloads, [0]);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.avsc");
        let text =
            r#"{"type": "record", "name": "R", "fields": [{"name": "amount", "type": "int"}]}"#;
        std::fs::write(&file, text).unwrap();
        let input = at_the_top(InputFormat::AvroFiles(BTreeMap::from([(7, file)])));
        let avro = decoders(&input, &schema).unwrap();
        // Magic byte, schema id, then 1 as a zigzag integer.
        for _ in 0..2 {
            let decoded = avro
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
            decoders(&input, &schema),
            Err(DecoderError::Registry(_))
        ));
        let missing = BTreeMap::from([(7, "/does/not/exist".into())]);
        let input = at_the_top(InputFormat::AvroFiles(missing));
        assert!(matches!(
            decoders(&input, &schema),
            Err(DecoderError::Files(_))
        ));
    }
}
