//! The checked schema: the only form that anything else is built from.
//!
//! In flows TOML ([`Schema::load`], [`Schema::parse`]) or the JSON of a bundle (serde); both pass the
//! same rules. Out flow fields in the order of the file, and a digest that two schemas share exactly
//! if they mean the same.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::check::check_fields;
use super::error::{SchemaError, SchemaFault};
use super::field::{Field, Role};
use super::raw::read_fields;

/// Fields that a schema may have at most: each costs weights, a calibration table and a metric series.
pub const FIELDS_MAX: usize = 4_096;

/// Bytes that a schema file may have at most: a thousand for each of [`FIELDS_MAX`] fields.
pub const SCHEMA_BYTES_MAX: u64 = 4_096_000;

/// The fields of a record. Names are unique, at least one field is a feature, and key, time and label
/// are at most one field each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SchemaDocument", into = "SchemaDocument")]
pub struct Schema {
    fields: Vec<Field>,
    digest: String,
}

/// The canonical form of a schema: every key of every field, in the order of declaration.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaDocument {
    fields: Vec<Field>,
}

impl Schema {
    /// Reads and checks the schema file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or breaks rules: all broken rules at once.
    pub fn load(path: &Path) -> Result<Self, SchemaError> {
        let origin = path.display().to_string();
        let read = |source| SchemaError::Read {
            file: origin.clone(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut text = String::new();
        file.take(SCHEMA_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(read)?;
        Self::parse(&text, &origin)
    }

    /// Reads and checks a schema from TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text is too long, is no TOML, or breaks rules: all broken rules at once.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SchemaError> {
        let file = origin.to_owned();
        let bytes = text.len() as u64;
        if bytes > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong {
                file,
                bytes,
                limit: SCHEMA_BYTES_MAX,
            });
        }
        let document = toml::from_str(text).map_err(|error| syntax_error(text, origin, &error))?;
        let mut faults = Vec::new();
        let fields = read_fields(document, &mut faults);
        Self::checked(fields, faults).map_err(|faults| SchemaError::Faults { file, faults })
    }

    /// Every field, in the order of the schema.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields that the model sees, in the order of the schema: the axis F.
    pub fn features(&self) -> impl Iterator<Item = &Field> {
        self.of_role(Role::Feature)
    }

    /// The fields that are read, in the order of the schema: all but the ignored.
    pub fn read_fields(&self) -> impl Iterator<Item = &Field> {
        self.fields
            .iter()
            .filter(|field| field.role != Role::Ignore)
    }

    /// The field that names the record in outputs.
    pub fn key(&self) -> Option<&Field> {
        self.of_role(Role::Key).next()
    }

    /// The field with the record's own time.
    pub fn time(&self) -> Option<&Field> {
        self.of_role(Role::Time).next()
    }

    /// The field that says which records are known frauds.
    pub fn label(&self) -> Option<&Field> {
        self.of_role(Role::Label).next()
    }

    /// SHA-256 of the canonical JSON, in lower-case hex (64 characters). Comments, the order of keys
    /// and whether a default is spelled out do not change it; the order of the fields does.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.role == role)
    }

    /// The schema of `fields`, unless `faults` were found before or are found now.
    fn checked(fields: Vec<Field>, mut faults: Vec<SchemaFault>) -> Result<Self, Vec<SchemaFault>> {
        check_fields(&fields, &mut faults);
        let document = SchemaDocument { fields };
        let json = serde_json::to_vec(&document).unwrap_or_else(|error| {
            faults.push(SchemaFault::new(
                "schema",
                "field",
                "a JSON form",
                error.to_string(),
            ));
            Vec::new()
        });
        if faults.is_empty() {
            Ok(Self {
                fields: document.fields,
                digest: hex(&Sha256::digest(&json)),
            })
        } else {
            Err(faults)
        }
    }
}

impl TryFrom<SchemaDocument> for Schema {
    type Error = SchemaError;

    fn try_from(document: SchemaDocument) -> Result<Self, SchemaError> {
        Self::checked(document.fields, Vec::new()).map_err(|faults| SchemaError::Faults {
            file: "of a bundle".to_owned(),
            faults,
        })
    }
}

impl From<Schema> for SchemaDocument {
    fn from(schema: Schema) -> Self {
        Self {
            fields: schema.fields,
        }
    }
}

fn syntax_error(text: &str, origin: &str, error: &toml::de::Error) -> SchemaError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    SchemaError::Syntax {
        file: origin.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
        message: error.message().to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
