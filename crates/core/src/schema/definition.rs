//! The checked schema: the only form that anything else is built from.
//!
//! In flows TOML ([`Schema::load`], [`Schema::parse`]) or the JSON of a bundle; both pass the
//! same rules. Out flow fields in the order of the file, and a digest that two schemas share if and
//! only if they mean the same.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::check::check_fields;
use super::error::{SchemaError, broken};
use super::field::{Field, FieldPath, Role};
use super::raw::read_fields;
use crate::toml_file::{KeyFault, TomlFile, Values};

/// Bytes that a schema file may have at most: a thousand for each of [`FIELDS_MAX`](super::FIELDS_MAX) fields.
pub const SCHEMA_BYTES_MAX: u64 = 4_096_000;

/// The fields of a record. Names are unique, at least one field is a feature, and key, time and
/// label are at most one field each.
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
        let kind = std::fs::metadata(path).map_err(read)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            // Reading a FIFO or a device may never end.
            let found = std::io::Error::other("is no regular file, as a schema must be");
            return Err(read(found));
        }
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
        let document = match TomlFile::parse(text, Values::Shown) {
            Ok(document) => document,
            Err(faults) => return Err(SchemaError::Faults { file, faults }),
        };
        let mut faults = Vec::new();
        let fields = read_fields(document.table().clone(), &mut faults);
        let (places, fields): (Vec<usize>, Vec<Field>) = fields.into_iter().unzip();
        Self::checked(fields, &places, faults).map_err(|faults| {
            let faults = document.located(faults);
            SchemaError::Faults { file, faults }
        })
    }

    /// Every field, in the order of the schema.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields that the model sees, features and context, in the order of the schema: the axis F.
    pub fn features(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.role.is_seen())
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

    /// The same schema with the label in the top-level column `column`, whatever field had that role before.
    ///
    /// # Errors
    /// When the model sees that column: then it is no label.
    pub fn labelled_by(&self, column: &str) -> Result<Self, SchemaError> {
        let path = FieldPath::top(column);
        let is_label = |field: &Field| field.path == path && !field.role.is_seen();
        let kept = self
            .fields
            .iter()
            .filter(|f| f.role != Role::Label && !is_label(f));
        let mut fields: Vec<Field> = kept.cloned().collect();
        let mut faults = Vec::new();
        if let Some(field) = fields.iter().find(|f| f.path == path || f.name == column) {
            let role = format!("{:?} (field '{}')", field.role, field.name).to_lowercase();
            let expected = "a column that the model does not see";
            faults.push(broken((column, None), "role", expected, role));
        }
        fields.push(Field::label(column, path));
        Self::checked(fields, &[], faults).map_err(|faults| SchemaError::Faults {
            file: "the bundle's schema".to_owned(),
            faults,
        })
    }

    /// The same schema with the values at `path` read as canonical text under `name`, in the role of the key, whatever
    /// field had that role before.
    ///
    /// # Errors
    /// When `name` is that of another field.
    pub fn keyed_by(&self, name: &str, path: FieldPath) -> Result<Self, SchemaError> {
        let kept = self.fields.iter().filter(|f| f.role != Role::Key);
        let fields = kept.cloned().chain([Field::key(name, path)]).collect();
        Self::checked(fields, &[], Vec::new()).map_err(|faults| SchemaError::Faults {
            file: "the bundle's schema".to_owned(),
            faults,
        })
    }

    /// The same schema with only the fields of these roles: what is not asked for is not read, so
    /// it may be absent, of another type, or wrong.
    ///
    /// # Errors
    /// When no feature is left.
    pub fn with_roles(&self, roles: &[Role]) -> Result<Self, SchemaError> {
        let kept = self.fields.iter().filter(|f| roles.contains(&f.role));
        let kept = kept.cloned().collect();
        Self::checked(kept, &[], Vec::new()).map_err(|faults| SchemaError::Faults {
            file: "the bundle's schema".to_owned(),
            faults,
        })
    }

    /// SHA-256 of the canonical JSON, in lower-case hex (64 characters). Comments, the order of
    /// keys and whether a default is spelled out do not change it; the order of the fields does.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.role == role)
    }

    /// The schema of `fields`, unless `faults` were found before or are found now. `places` are those of the fields in their
    /// file, if there is one.
    fn checked(
        fields: Vec<Field>,
        places: &[usize],
        mut faults: Vec<KeyFault>,
    ) -> Result<Self, Vec<KeyFault>> {
        check_fields(&fields, places, &mut faults);
        let document = SchemaDocument { fields };
        let json = serde_json::to_vec(&document).unwrap_or_else(|error| {
            faults.push(broken(("schema", None), "field", "a JSON form", error));
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
        Self::checked(document.fields, &[], Vec::new()).map_err(|faults| SchemaError::Faults {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;
    use crate::schema::{DEFAULT_MAX_CARDINALITY, Kind, TimeUnit, Transform};

    const EXAMPLE: &str = include_str!("../../../../schemas/example.toml");

    fn faults_of(text: &str) -> Vec<String> {
        match Schema::parse(text, "s.toml") {
            Err(SchemaError::Faults { faults, .. }) => {
                faults.iter().map(ToString::to_string).collect()
            }
            other => panic!("expected faults, got {other:?}"),
        }
    }

    #[test]
    fn the_example_shows_every_key() {
        let schema = Schema::parse(EXAMPLE, "example.toml").unwrap();
        let json = serde_json::to_value(&schema.fields()[1]).unwrap();
        for key in json.as_object().unwrap().keys() {
            assert!(EXAMPLE.contains(&format!("\n{key} = ")), "{key}");
        }
        let names: Vec<&str> = schema.features().map(|field| field.name.as_str()).collect();
        let expected = [
            "amount",
            "fee",
            "merchant_category",
            "card_country",
            "card_present",
            "paid_at",
            "customer_segment",
        ];
        assert_eq!(names, expected);
        assert_eq!(schema.key().unwrap().name, "payment_id");
        assert_eq!(schema.time().unwrap().unit, Some(TimeUnit::Ms));
        assert_eq!(schema.label().unwrap().kind, Kind::Boolean);
        let country = schema.features().nth(3).unwrap();
        assert_eq!(country.path.segments(), ["card.details", "country"]);
    }

    #[test]
    fn every_fault_of_a_file_is_reported_at_once() {
        let text = r#"
            title = "cards"
            [[field]]
            name = "a"
            kind = "number"
            nulable = "red"
            nullable = "no"
            [[field]]
            kind = "numeric"
            [[field]]
            name = "a"
            kind = "boolean"
            transform = "log1p"
            time_zone = "Mars/Olympus"
            [[field]]
            name = "t"
            role = "time"
            kind = "numeric"
            max_cardinality = 0
            path = "x..y"
            [[field]]
            name = "d"
            kind = "numeric"
            parse = true
            decimal_scale = 128
            [[field]]
            name = "e"
            kind = "categorical"
            parse = true
            decimal_scale = 1.5
        "#;
        let expected = [
            r#"line 2: schema: `title`: expected only `[[field]]` tables, found "cards""#,
            r#"line 5: field 1 `a`: `kind`: expected `numeric`, `categorical`, `boolean` or `timestamp`, found "number""#,
            r#"line 6: field 1 `a`: `nulable`: expected no such key (did you mean `nullable`?), found "red""#,
            r#"line 7: field 1 `a`: `nullable`: expected true or false, found "no""#,
            "line 8: field 2: `name`: expected text, found nothing",
            "line 10: field `a`: `path`: expected a path of its own for each feature, found that of feature `a`",
            "line 11: field `a`: `name`: expected a name of its own, found the name of an earlier field",
            "line 13: field `a`: `transform`: expected kind `numeric`, found boolean",
            r#"line 14: field 3 `a`: `time_zone`: expected an IANA time zone such as `Europe/Zurich`, found "Mars/Olympus""#,
            "line 18: field `t`: `kind`: expected `timestamp` for the role `time`, found numeric",
            "line 19: field `t`: `max_cardinality`: expected kind `categorical`, found numeric",
            "line 19: field `t`: `max_cardinality`: expected 1 to 100000, found 0",
            "line 20: field `t`: `path`: expected no empty name between the dots, found `x..y`",
            "line 25: field `d`: `decimal_scale`: expected no `parse` beside it, found `parse = true`, which reads the same text as digits",
            "line 25: field `d`: `decimal_scale`: expected -127 to 127, found 128",
            "line 29: field `e`: `parse`: expected kind `numeric` or `boolean`, found categorical",
            "line 30: field 6 `e`: `decimal_scale`: expected a whole number, found 1.5",
        ];
        assert_eq!(faults_of(text), expected);
    }

    #[test]
    fn two_of_a_role_and_no_feature_are_refused() {
        let text = "[[field]]\nname = 'a'\nrole = 'key'\n[[field]]\nname = 'b'\nrole = 'key'\n";
        let expected = [
            "line 1: schema: `field`: expected at least one field with the role `feature`, found none",
            "schema: `role`: expected at most one field with the role `key`, found a, b",
        ];
        assert_eq!(faults_of(text), expected);
    }

    #[test]
    fn spellings_that_contradict_themselves_are_refused() {
        let text = "[[field]]\nname='a'\nkind='numeric'\nparse=true\ndecimal_separator=','\n\
                    thousands_separator=','\nstrip=['1,']\n\
                    [[field]]\nname='b'\nkind='categorical'\nstrip=['$']\ndecimal_separator='5'\n\
                    [[field]]\nname='c'\nkind='numeric'\nnull_values=[-1]\nthousands_separator='ab'\n";
        let expected = [
            "line 6: field `a`: `thousands_separator`: expected a mark or blank other than `decimal_separator`, found ','",
            r#"line 7: field `a`: `strip`: expected texts that are no part of a number, found "1,""#,
            "line 11: field `b`: `strip`: expected kind `numeric` with `parse = true`, found categorical",
            "line 12: field `b`: `decimal_separator`: expected kind `numeric` with `parse = true`, found categorical",
            "line 12: field `b`: `decimal_separator`: expected a mark such as `.` or `,`, found '5'",
            r#"line 16: field 3 `c`: `null_values`: expected a list of texts, such as `["", "N/A"]`, found [-1]"#,
            r#"line 17: field 3 `c`: `thousands_separator`: expected one character in quotes, found "ab""#,
        ];
        assert_eq!(faults_of(text), expected);
        let many = vec!["''"; 65].join(",");
        let text = format!("[[field]]\nname='a'\nkind='boolean'\nnull_values=[{many}]\n");
        let expected = "line 4: field `a`: `null_values`: expected at most 64 texts, found 65";
        assert_eq!(faults_of(&text), [expected]);
    }

    #[test]
    fn text_that_is_no_toml_is_refused_with_its_place() {
        let error = Schema::parse("[[field]]\nname = 'a\n", "s.toml")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("schema s.toml has 1 fault(s)\n  line 2: "),
            "{error}"
        );
    }

    #[test]
    fn only_what_a_schema_means_changes_its_digest() {
        let digest = |text: &str| Schema::parse(text, "s.toml").unwrap().digest();
        let plain = digest("[[field]]\nname = 'a'\nkind = 'numeric'\n");
        let spelled = "# A comment.\n[[field]]\nkind = 'numeric'\nnullable = true\nname = 'a'\n";
        assert_eq!(plain, digest(spelled));
        assert_ne!(plain, digest("[[field]]\nname = 'b'\nkind = 'numeric'\n"));
        assert_eq!(plain.len(), 64);
    }

    #[test]
    fn the_json_of_a_bundle_passes_the_same_rules() {
        let schema = Schema::parse("[[field]]\nname = 'a'\nkind = 'numeric'\n", "s").unwrap();
        let json = serde_json::to_string(&schema).unwrap();
        let broken = json.replace("\"feature\"", "\"ignore\"");
        let error = serde_json::from_str::<Schema>(&broken)
            .unwrap_err()
            .to_string();
        assert!(error.contains("at least one field"), "{error}");
        let unknown = json.replace("\"redact\"", "\"hide\":1,\"redact\"");
        assert!(serde_json::from_str::<Schema>(&unknown).is_err());
    }

    /// Fields that keep the rules, as TOML and as what they must become.
    fn field_text() -> impl Strategy<Value = (String, Kind, bool)> {
        let numeric = (any::<bool>(), 0..3_usize).prop_map(|(parse, transform)| {
            let transform = ["none", "log1p", "asinh"][transform];
            (
                format!("kind = 'numeric'\nparse = {parse}\ntransform = '{transform}'"),
                Kind::Numeric,
            )
        });
        let categorical = (1..=DEFAULT_MAX_CARDINALITY).prop_map(|limit| {
            (
                format!("kind = 'categorical'\nmax_cardinality = {limit}"),
                Kind::Categorical,
            )
        });
        let timestamp = (0..5_usize).prop_map(|unit| {
            let unit = ["days", "s", "ms", "us", "ns"][unit];
            let text = format!("kind = 'timestamp'\nunit = '{unit}'\ntime_zone = 'Asia/Tokyo'");
            (text, Kind::Timestamp)
        });
        let kinds = prop_oneof![numeric, categorical, timestamp];
        (kinds, any::<bool>()).prop_map(|((text, kind), nullable)| {
            (
                format!("{text}\nnullable = {nullable}\nredact = {}", !nullable),
                kind,
                nullable,
            )
        })
    }

    proptest! {
        #[test]
        fn a_schema_survives_toml_and_json(
            fields in prop::collection::vec((r#"[\PC&&[^"\\]]{1,12}"#, field_text()), 1..8)
        ) {
            let mut text = String::new();
            for (index, (name, (keys, _, _))) in fields.iter().enumerate() {
                text += &format!("[[field]]\nname = \"{name}{index}\"\n{keys}\n");
            }
            let schema = Schema::parse(&text, "s.toml").unwrap();
            for (field, (name, (_, kind, nullable))) in schema.fields().iter().zip(&fields) {
                prop_assert!(field.name.starts_with(name.as_str()));
                prop_assert_eq!((field.kind, field.nullable), (*kind, *nullable));
                prop_assert!(field.kind == Kind::Numeric || field.transform == Transform::None);
            }
            let json = serde_json::to_string(&schema).unwrap();
            let again: Schema = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&again, &schema);
            prop_assert_eq!(again.digest(), schema.digest());
        }
    }

    #[test]
    fn a_column_can_be_read_as_text_whatever_its_field_is() {
        let text = "[[field]]\nname='id'\nrole='key'\n[[field]]\nname='x'\nkind='numeric'\n";
        let schema = Schema::parse(text, "s.toml").unwrap();
        let keyed = schema.keyed_by("x as text", FieldPath::top("x")).unwrap();
        let key = keyed.key().unwrap();
        assert_eq!(
            (key.name.as_str(), &key.path),
            ("x as text", &FieldPath::top("x"))
        );
        assert_eq!(keyed.fields().len(), 2);
        let error = schema.keyed_by("x", FieldPath::top("x")).unwrap_err();
        assert!(error.to_string().contains("a name of its own"), "{error}");
    }

    #[test]
    fn fields_of_other_roles_can_be_left_out_but_not_all_features() {
        let text = "[[field]]\nname='id'\nrole='key'\n[[field]]\nname='x'\nkind='numeric'\n\
                    [[field]]\nname='y'\nrole='label'\n";
        let schema = Schema::parse(text, "s.toml").unwrap();
        let names = |schema: &Schema| -> Vec<String> {
            schema.fields().iter().map(|f| f.name.clone()).collect()
        };
        assert_eq!(names(&schema.with_roles(&[Role::Feature]).unwrap()), ["x"]);
        let both = schema.with_roles(&[Role::Feature, Role::Key]).unwrap();
        assert_eq!(names(&both), ["id", "x"]);
        assert!(schema.with_roles(&[Role::Key]).is_err());
    }
}
