//! The decoders that the configuration asks for: a format, and where the schemas of writers come from.
//!
//! Checked `[input]` flows in, [`Decoders`] flow out. It stands here because one of the sources is a registry, which belongs
//! to the cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::registry::{Registry, RegistryConfig, RegistryConfigError, Secret};
use crate::pipeline::decoder::Decoders;
use crate::records::{FileSchemas, FileSchemasError, RecordRoot};
use crate::schema::Schema;

/// Checked `[input]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputConfig {
    /// How messages are written.
    pub format: InputFormat,
    /// Where the record lies in a message, over HTTP too.
    pub root: RecordRoot,
}

/// How messages are written, and where the schemas of their writers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFormat {
    /// One JSON object a message.
    Json,
    /// Avro in Confluent framing, schemas from a registry.
    AvroRegistry {
        /// Without credentials.
        url: String,
        /// User and password.
        basic_auth: Option<(String, Secret)>,
    },
    /// Avro in Confluent framing, schemas from files, by Confluent schema id; at least one.
    AvroFiles(BTreeMap<u32, PathBuf>),
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

/// Decoders of messages into records of `schema`. Reads schema files; asks no registry yet.
///
/// # Errors
/// [`DecoderError`].
pub fn decoders(input: &InputConfig, schema: &Schema) -> Result<Decoders, DecoderError> {
    let root = &input.root;
    Ok(match &input.format {
        InputFormat::Json => Decoders::json(schema, root),
        InputFormat::AvroRegistry { url, basic_auth } => {
            let mut registry = RegistryConfig::new(url);
            registry.basic_auth.clone_from(basic_auth);
            Decoders::avro(schema, root, Registry::new(registry)?)
        }
        InputFormat::AvroFiles(files) => Decoders::avro(schema, root, FileSchemas::load(files)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::records::FaultReason;

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
