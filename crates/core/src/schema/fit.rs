//! Whether records of an Arrow schema can be read by a schema, and where each field stands in them.
//!
//! In flow a [`Schema`] and the Arrow schema of a file, out flow one [`Binding`] a field that is
//! read, or every [`Mismatch`] at once. Every feature must be there; key, time and label may be absent.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Fields, Schema as ArrowSchema};
use arrow::error::ArrowError;

use super::definition::Schema;
use super::field::{Field, Kind, Role};
use super::variable_decimal::{is_binary, is_variable_decimal};

/// A field that a file cannot give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The field's name in the schema.
    pub field: String,
    /// Its path, dots between levels.
    pub column: String,
    /// The Arrow types that the field can be read from.
    pub expected: String,
    /// What the file has.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            column,
            expected,
            found,
        } = self;
        write!(
            f,
            "field `{field}`, column `{column}`: expected {expected}, found {found}"
        )
    }
}

/// Where a field is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Index of the field in [`Schema::fields`].
    pub field: usize,
    /// Index of the column at the top, then of the child in each struct; `None` when it is absent.
    pub column: Option<Vec<usize>>,
}

/// Finds every field that is read (all but the ignored), in the order of the schema.
///
/// # Errors
/// Every feature that is missing, and every field whose column is of a type it cannot be read from.
pub fn fit(schema: &Schema, records: &ArrowSchema) -> Result<Vec<Binding>, Vec<Mismatch>> {
    bind(schema, records, |field| !field.role.is_seen())
}

/// The same for records that are a part of a table of which other parts may have what these lack: features may be absent
/// too.
///
/// # Errors
/// Every field whose column is of a type it cannot be read from.
pub fn fit_part(schema: &Schema, records: &ArrowSchema) -> Result<Vec<Binding>, Vec<Mismatch>> {
    bind(schema, records, |_| true)
}

fn bind(
    schema: &Schema,
    records: &ArrowSchema,
    may_be_absent: impl Fn(&Field) -> bool,
) -> Result<Vec<Binding>, Vec<Mismatch>> {
    let mut bindings = Vec::new();
    let mut mismatches = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if field.role == Role::Ignore {
            continue;
        }
        match locate(field, records.fields(), may_be_absent(field)) {
            Ok(column) => bindings.push(Binding {
                field: index,
                column,
            }),
            Err(found) => mismatches.push(Mismatch {
                field: field.name.clone(),
                column: field.path.to_string(),
                expected: expected(field),
                found,
            }),
        }
    }
    if mismatches.is_empty() {
        Ok(bindings)
    } else {
        Err(mismatches)
    }
}

/// The columns whose name stands more than once on their level, each once, dots between levels.
pub fn duplicate_columns(records: &ArrowSchema) -> Vec<String> {
    let mut duplicates = Vec::new();
    collect_duplicates(records.fields(), "", &mut duplicates);
    duplicates
}

fn collect_duplicates(fields: &Fields, prefix: &str, duplicates: &mut Vec<String>) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for field in fields {
        let seen = times.entry(field.name()).or_insert(0);
        *seen += 1;
        let column = format!("{prefix}{}", field.name());
        if let DataType::Struct(children) = field.data_type() {
            collect_duplicates(children, &format!("{column}."), duplicates);
        }
        if *seen == 2 {
            duplicates.push(column);
        }
    }
}

/// The column at the end of `indices` ([`Binding::column`]), null wherever a struct on the way is.
///
/// # Errors
/// When the batch has no such column.
pub fn column_at(batch: &RecordBatch, indices: &[usize]) -> Result<ArrayRef, ArrowError> {
    let gone = || ArrowError::SchemaError("a column is not where it was".to_owned());
    let (&top, children) = indices.split_first().ok_or_else(gone)?;
    let mut column = Arc::clone(batch.columns().get(top).ok_or_else(gone)?);
    let mut nulls: Option<NullBuffer> = None;
    for &child in children {
        nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
        let parent = column.as_struct_opt().ok_or_else(gone)?;
        let child = Arc::clone(parent.columns().get(child).ok_or_else(gone)?);
        column = child;
    }
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nullif(&column, &BooleanArray::new(!nulls.inner(), None)),
        None => Ok(column),
    }
}

/// Levels of structs that are searched for a column that is not where it should be.
const SEARCH_DEPTH_MAX: usize = 8;

/// The dotted path of the first struct below `fields` in which `path` leads to a column.
fn deeper(path: &[String], fields: &Fields, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    fields.iter().find_map(|field| {
        let DataType::Struct(children) = field.data_type() else {
            return None;
        };
        if leads_to_column(path, children) {
            return Some(field.name().clone());
        }
        let below = deeper(path, children, depth)?;
        Some(format!("{}.{below}", field.name()))
    })
}

fn leads_to_column(path: &[String], fields: &Fields) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return false;
    };
    match fields.find(name) {
        Some(_) if rest.is_empty() => true,
        Some((_, field)) => match field.data_type() {
            DataType::Struct(children) => leads_to_column(rest, children),
            _ => false,
        },
        None => false,
    }
}

/// The indices that lead to the column of `field`, or what was found instead.
fn locate(
    field: &Field,
    mut fields: &Fields,
    may_be_absent: bool,
) -> Result<Option<Vec<usize>>, String> {
    let top = fields;
    let mut indices = Vec::new();
    let (last, parents) = match field.path.segments().split_last() {
        Some(split) => split,
        None => return Err("an empty path".to_owned()),
    };
    for name in parents {
        let Some(index) = position(name, fields)? else {
            return absent(field, may_be_absent, name, fields, top);
        };
        indices.push(index);
        match fields[index].data_type() {
            DataType::Struct(children) => fields = children,
            DataType::Null => return absent(field, may_be_absent, name, fields, top),
            other => return Err(format!("`{name}` of type {other}, which has no fields")),
        }
    }
    let Some(index) = position(last, fields)? else {
        return absent(field, may_be_absent, last, fields, top);
    };
    indices.push(index);
    let found = fields[index].data_type();
    if accepts(field, found) {
        Ok(Some(indices))
    } else {
        Err(found.to_string())
    }
}

fn position(name: &str, fields: &Fields) -> Result<Option<usize>, String> {
    let mut places = (0..fields.len()).filter(|&index| fields[index].name() == name);
    match (places.next(), places.count()) {
        (first, 0) => Ok(first),
        (_, others) => Err(format!("{} columns named `{name}`", others + 1)),
    }
}

fn absent(
    field: &Field,
    may_be: bool,
    name: &str,
    fields: &Fields,
    top: &Fields,
) -> Result<Option<Vec<usize>>, String> {
    if may_be {
        return Ok(None);
    }
    let similar = fields
        .iter()
        .find(|other| other.name().eq_ignore_ascii_case(name));
    Err(match similar {
        Some(other) => format!("no `{name}` (but `{}`)", other.name()),
        None => match deeper(field.path.segments(), top, SEARCH_DEPTH_MAX) {
            Some(root) => {
                let path = format!("{root}.{}", field.path);
                format!("no `{name}` (but `{path}`: set path = \"{path}\")")
            }
            None => format!("no `{name}`"),
        },
    })
}

/// Whether values of `data_type` can be read as `field`. A column of type Null holds only nulls.
fn accepts(field: &Field, data_type: &DataType) -> bool {
    if let DataType::Dictionary(_, values) = data_type {
        return accepts(field, values);
    }
    let integer = data_type.is_integer();
    let boolean = *data_type == DataType::Boolean;
    let date = matches!(
        data_type,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _)
    );
    let float = data_type.is_floating();
    // Data frames keep integers with nulls as floats: each value then has to be whole.
    let whole = integer || float || decimal_scale(data_type) == Some(0);
    let number = integer || float || decimal_scale(data_type).is_some();
    let text = is_text(data_type);
    let unscaled = field.decimal_scale.is_some() && (text || is_binary(data_type));
    *data_type == DataType::Null
        || match (field.role, field.kind) {
            (Role::Ignore, _) => true,
            (Role::Key, _) => whole || boolean || text || date,
            (Role::Label, _) => number || boolean || text,
            (_, Kind::Numeric) => {
                number || unscaled || (text && field.parse) || is_variable_decimal(data_type)
            }
            (_, Kind::Categorical) => whole || boolean || text,
            (_, Kind::Boolean) => boolean || (field.parse && (number || text)),
            (_, Kind::Timestamp) => date || text || (whole && field.unit.is_some()),
        }
}

fn expected(field: &Field) -> String {
    match (field.role, field.kind) {
        (Role::Ignore, _) => "anything",
        (Role::Key, _) => "integers (whole floats too), text, booleans or moments",
        (Role::Label, _) => "booleans, or numbers or text 0 and 1",
        (_, Kind::Numeric) if field.parse => "numbers, or text that holds them",
        (_, Kind::Numeric) if field.decimal_scale.is_some() => "numbers, or unscaled decimals",
        (_, Kind::Numeric) => "numbers (text needs `parse = true`)",
        (_, Kind::Categorical) => "text, integers (whole floats too) or booleans",
        (_, Kind::Boolean) if field.parse => "booleans, or numbers or text 0 and 1",
        (_, Kind::Boolean) => "booleans (numbers and text 0 and 1 need `parse = true`)",
        (_, Kind::Timestamp) if field.unit.is_some() => "moments, RFC 3339 text or integers",
        (_, Kind::Timestamp) => "moments or RFC 3339 text (integers need a `unit`)",
    }
    .to_owned()
}

/// Whether the type holds UTF-8 text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Digits behind the point of a decimal type, `None` for other types.
pub(crate) fn decimal_scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::{Field as ArrowField, TimeUnit};

    use super::*;

    fn schema(text: &str) -> Schema {
        Schema::parse(text, "s.toml").unwrap()
    }

    fn columns(columns: &[(&str, DataType)]) -> ArrowSchema {
        let column = |(name, kind): &(&str, DataType)| ArrowField::new(*name, kind.clone(), true);
        ArrowSchema::new(columns.iter().map(column).collect::<Vec<_>>())
    }

    fn of_kind(kind: &str, data_type: DataType) -> bool {
        let schema = schema(&format!("[[field]]\nname = 'a'\n{kind}\n"));
        fit(&schema, &columns(&[("a", data_type)])).is_ok()
    }

    #[test]
    fn all_mismatches_of_a_file_come_at_once() {
        let schema = schema(
            "[[field]]\nname = 'a'\nkind = 'numeric'\n[[field]]\nname = 'b'\nkind = 'boolean'\n\
             [[field]]\nname = 'c'\nkind = 'categorical'\npath = 'n.c'\n\
             [[field]]\nname = 'd'\nkind = 'numeric'\n[[field]]\nname = 'k'\nrole = 'key'\n",
        );
        let file = columns(&[
            ("A", DataType::Int64),
            ("b", DataType::Utf8),
            ("n", DataType::Utf8),
            ("d", DataType::Int8),
            ("d", DataType::Int8),
        ]);
        let found: Vec<(String, String)> = fit(&schema, &file)
            .unwrap_err()
            .into_iter()
            .map(|mismatch| (mismatch.column, mismatch.found))
            .collect();
        let expected = [
            ("a", "no `a` (but `A`)"),
            ("b", "Utf8"),
            ("n.c", "`n` of type Utf8, which has no fields"),
            ("d", "2 columns named `d`"),
        ];
        assert_eq!(
            found,
            expected.map(|(column, found)| (column.to_owned(), found.to_owned()))
        );
    }

    #[test]
    fn names_that_repeat_on_their_level_are_found_at_any_depth() {
        let twice = ["c", "c", "d"].map(|name| ArrowField::new(name, DataType::Int8, true));
        let nested = DataType::Struct(twice.into_iter().collect());
        let file = columns(&[("c", DataType::Int8), ("n", nested), ("c", DataType::Utf8)]);
        assert_eq!(duplicate_columns(&file), ["n.c", "c"]);
    }

    #[test]
    fn a_column_that_lies_in_a_struct_is_named_with_its_path() {
        let schema = schema("[[field]]\nname = 'amount'\nkind = 'numeric'\n");
        let amount = ArrowField::new("amount", DataType::Float64, true);
        let after = DataType::Struct(vec![amount].into());
        let payload = DataType::Struct(vec![ArrowField::new("after", after, true)].into());
        let found = fit(
            &schema,
            &columns(&[("op", DataType::Utf8), ("payload", payload)]),
        );
        let expected =
            "no `amount` (but `payload.after.amount`: set path = \"payload.after.amount\")";
        assert_eq!(found.unwrap_err()[0].found, expected);
    }

    #[test]
    fn key_time_and_label_may_be_absent_and_nested_fields_are_found() {
        let schema = schema(
            "[[field]]\nname = 'k'\nrole = 'key'\n[[field]]\nname = 't'\nrole = 'time'\n\
             [[field]]\nname = 'l'\nrole = 'label'\n[[field]]\nname = 'i'\nrole = 'ignore'\n\
             [[field]]\nname = 'c'\nkind = 'categorical'\npath = 'n.m.c'\n",
        );
        let leaf = ArrowField::new("c", DataType::Utf8, true);
        let other = ArrowField::new("x", DataType::Binary, true);
        let inner = ArrowField::new("m", DataType::Struct(vec![other, leaf].into()), true);
        let file = columns(&[
            ("l", DataType::Int8),
            ("n", DataType::Struct(vec![inner].into())),
        ]);
        let places: Vec<_> = fit(&schema, &file)
            .unwrap()
            .into_iter()
            .map(|b| (b.field, b.column))
            .collect();
        let expected = [
            (0, None),
            (1, None),
            (2, Some(vec![0])),
            (4, Some(vec![1, 0, 1])),
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn each_kind_reads_its_types_and_no_others() {
        let dictionary = |values| DataType::Dictionary(Box::new(DataType::Int32), Box::new(values));
        assert!(of_kind("kind = 'numeric'", DataType::Decimal128(20, 2)));
        assert!(of_kind("kind = 'numeric'", dictionary(DataType::Float16)));
        assert!(of_kind("kind = 'numeric'", DataType::Null));
        assert!(!of_kind("kind = 'numeric'", DataType::Utf8));
        assert!(of_kind(
            "kind = 'numeric'\nparse = true",
            DataType::Utf8View
        ));
        assert!(!of_kind("kind = 'numeric'", DataType::Boolean));
        assert!(of_kind("kind = 'categorical'", DataType::Float64));
        assert!(!of_kind("kind = 'categorical'", DataType::Decimal128(9, 2)));
        assert!(of_kind("kind = 'categorical'", DataType::Decimal128(9, 0)));
        assert!(!of_kind("kind = 'categorical'", DataType::Binary));
        assert!(!of_kind("kind = 'boolean'", DataType::Int8));
        assert!(of_kind("kind = 'boolean'\nparse = true", DataType::Int8));
        assert!(of_kind("kind = 'boolean'\nparse = true", DataType::Utf8));
        assert!(!of_kind("kind = 'numeric'", DataType::Binary));
        for unscaled in [
            DataType::Binary,
            DataType::FixedSizeBinary(8),
            DataType::Utf8,
        ] {
            assert!(of_kind("kind = 'numeric'\ndecimal_scale = 2", unscaled));
        }
        assert!(!of_kind("kind = 'timestamp'", DataType::Int64));
        assert!(of_kind("kind = 'timestamp'\nunit = 'ms'", DataType::Int64));
        assert!(of_kind(
            "kind = 'timestamp'\nunit = 'ms'",
            DataType::Float64
        ));
        assert!(!of_kind("kind = 'timestamp'", DataType::Float64));
        assert!(!of_kind(
            "kind = 'timestamp'",
            DataType::Time64(TimeUnit::Microsecond)
        ));
    }
}
