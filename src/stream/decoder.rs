//! The decoder that the configuration asks for: a format, and where the schemas of writers come from.

use crate::features::{AvroDecoder, DecodeLimits, FileSchemas, FileSchemasError, JsonDecoder};
use crate::schema::Schema;

use super::config::InputConfig;
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

/// A decoder of messages into records of `schema`. Reads schema files; asks no registry yet.
///
/// # Errors
/// [`DecoderError`].
pub fn decoder(
    input: &InputConfig,
    schema: &Schema,
) -> Result<Box<dyn RecordDecoder>, DecoderError> {
    let limits = DecodeLimits::default();
    Ok(match input {
        InputConfig::Json => Box::new(JsonDecoder::new(schema, limits)),
        InputConfig::AvroRegistry { url, basic_auth } => {
            let mut registry = RegistryConfig::new(url);
            registry.basic_auth.clone_from(basic_auth);
            let writers = Registry::new(registry)?;
            Box::new(AvroDecoder::new(schema, limits, Box::new(writers)))
        }
        InputConfig::AvroFiles(files) => {
            let writers = FileSchemas::load(files)?;
            Box::new(AvroDecoder::new(schema, limits, Box::new(writers)))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::features::FaultReason;

    const SCHEMA: &str = "[[field]]\nname = \"amount\"\nkind = \"numeric\"\n";

    #[test]
    fn the_configured_format_is_read() {
        let schema = Schema::parse(SCHEMA, "schema.toml").unwrap();
        let mut json = decoder(&InputConfig::Json, &schema).unwrap();
        assert_eq!(
            json.decode(&[Some(b"{\"amount\": 1}")]).unwrap().payloads,
            [0]
        );

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.avsc");
        let text =
            r#"{"type": "record", "name": "R", "fields": [{"name": "amount", "type": "int"}]}"#;
        std::fs::write(&file, text).unwrap();
        let input = InputConfig::AvroFiles(BTreeMap::from([(7, file)]));
        let mut avro = decoder(&input, &schema).unwrap();
        // Magic byte, schema id, then 1 as a zigzag integer.
        let decoded = avro
            .decode(&[Some(&[0, 0, 0, 0, 7, 2]), Some(&[0, 0, 0, 0, 8, 2])])
            .unwrap();
        assert_eq!(decoded.payloads, [0]);
        assert_eq!(decoded.faults[0].reason, FaultReason::UnknownSchema);
    }

    #[test]
    fn a_source_of_schemas_that_cannot_be_is_told() {
        let schema = Schema::parse(SCHEMA, "schema.toml").unwrap();
        let input = InputConfig::AvroRegistry {
            url: "ftp://r".to_owned(),
            basic_auth: None,
        };
        assert!(matches!(
            decoder(&input, &schema),
            Err(DecoderError::Registry(_))
        ));
        let missing = BTreeMap::from([(7, "/does/not/exist".into())]);
        let input = InputConfig::AvroFiles(missing);
        assert!(matches!(
            decoder(&input, &schema),
            Err(DecoderError::Files(_))
        ));
    }
}
