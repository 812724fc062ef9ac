//! The columns of several files as those of one table.
//!
//! In flow the columns of each file, out flows the Arrow schema that holds the rows of all of them, or what cannot be
//! held: columns are matched by name at every level, a column that a file lacks is null there, and types are widened
//! only where every value can be got back (`conform` holds each value to it). Files without rows say nothing about
//! types. Invariant: the order is that of the first file with rows, and what later files add comes behind.

use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef, Fields,
    Schema as ArrowSchema, SchemaRef,
};

use super::error::TypeConflict;
use super::parquet_file::SourceFile;

/// The columns of all files together.
#[derive(Debug, Clone)]
pub struct Unified {
    schema: SchemaRef,
    conflicts: Vec<TypeConflict>,
}

impl Unified {
    /// Of the files that have rows.
    pub(super) fn of(files: &[SourceFile]) -> Self {
        let mut union = Union {
            columns: Vec::new(),
            conflicts: Vec::new(),
            files,
        };
        let mut metadata = None;
        let mut last: Option<&SchemaRef> = None;
        for (index, file) in files.iter().enumerate().filter(|(_, file)| file.rows > 0) {
            if last.is_some_and(|last| Arc::ptr_eq(last, &file.schema)) {
                continue;
            }
            let first = last.is_none();
            let mut columns = std::mem::take(&mut union.columns);
            union.add(
                &mut columns,
                file.schema.fields(),
                &mut Vec::new(),
                index,
                first,
            );
            union.columns = columns;
            metadata.get_or_insert_with(|| file.schema.metadata().clone());
            last = Some(&file.schema);
        }
        let fields: Fields = union.columns.iter().map(Column::field).collect();
        let schema = ArrowSchema::new_with_metadata(fields, metadata.unwrap_or_default());
        Self {
            schema: Arc::new(schema),
            conflicts: union.conflicts,
        }
    }

    /// The columns; of one that has a conflict, the type that was found first.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Every column that cannot be one.
    pub fn conflicts(&self) -> &[TypeConflict] {
        &self.conflicts
    }
}

/// A column in the making.
struct Column {
    field: FieldRef,
    data_type: DataType,
    nullable: bool,
    /// Of a struct.
    children: Vec<Column>,
    /// The file that gave it its type.
    file: usize,
}

impl Column {
    fn new(field: &FieldRef, file: usize, nullable: bool) -> Self {
        let children = match field.data_type() {
            DataType::Struct(fields) => {
                let child = |field| Self::new(field, file, false);
                fields.iter().map(child).collect()
            }
            _ => Vec::new(),
        };
        Self {
            field: Arc::clone(field),
            data_type: field.data_type().clone(),
            nullable: nullable || field.is_nullable(),
            children,
            file,
        }
    }

    fn field(&self) -> FieldRef {
        let data_type = match &self.data_type {
            DataType::Struct(_) => {
                DataType::Struct(self.children.iter().map(Self::field).collect())
            }
            other => other.clone(),
        };
        let nullable = self.nullable || data_type == DataType::Null;
        let field = self.field.as_ref().clone();
        Arc::new(field.with_data_type(data_type).with_nullable(nullable))
    }
}

struct Union<'a> {
    columns: Vec<Column>,
    conflicts: Vec<TypeConflict>,
    files: &'a [SourceFile],
}

impl Union<'_> {
    /// Lays the columns of file `file` over those so far, `columns`, below `path`.
    fn add(
        &mut self,
        columns: &mut Vec<Column>,
        fields: &Fields,
        path: &mut Vec<String>,
        file: usize,
        first: bool,
    ) {
        for column in columns.iter_mut() {
            column.nullable |= fields.find(column.field.name()).is_none();
        }
        for field in fields {
            let known = columns.iter().position(|c| c.field.name() == field.name());
            let Some(at) = known else {
                columns.push(Column::new(field, file, !first));
                continue;
            };
            path.push(field.name().clone());
            self.widen(&mut columns[at], field, path, file);
            path.pop();
        }
    }

    fn widen(
        &mut self,
        column: &mut Column,
        field: &FieldRef,
        path: &mut Vec<String>,
        file: usize,
    ) {
        column.nullable |= field.is_nullable();
        match (&column.data_type, field.data_type()) {
            (DataType::Struct(_), DataType::Struct(fields)) => {
                let mut children = std::mem::take(&mut column.children);
                self.add(&mut children, fields, path, file, false);
                column.children = children;
            }
            (DataType::Null, _) => *column = Column::new(field, file, true),
            (_, DataType::Null) => column.nullable = true,
            (earlier, found) => match widened(earlier, found) {
                Some(both) => column.data_type = both,
                None => self.conflicts.push(TypeConflict {
                    path: path.clone(),
                    file: self.files[file].name(),
                    found: found.clone(),
                    earlier: self.files[column.file].name(),
                    expected: type_at(&self.files[column.file].schema, path, earlier),
                }),
            },
        }
    }
}

/// The type at `path` in a file; `otherwise` where it has none.
fn type_at(schema: &ArrowSchema, path: &[String], otherwise: &DataType) -> DataType {
    let mut fields = schema.fields();
    let mut found = otherwise;
    for name in path {
        match fields.find(name) {
            Some((_, field)) => found = field.data_type(),
            None => return otherwise.clone(),
        }
        if let DataType::Struct(children) = found {
            fields = children;
        }
    }
    found.clone()
}

/// The narrowest type that holds the values of both, `None` where there is none. 64-bit integers and decimals meet
/// floats in Float64, which holds those of 53 bits: each value is looked at when it is read.
fn widened(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a.equals_datatype(b) {
        return Some(a.clone());
    }
    match (a, b) {
        (T::Dictionary(_, a), T::Dictionary(_, b)) => return widened(a, b),
        (T::Dictionary(_, a), b) => return widened(a, b),
        (a, T::Dictionary(_, b)) => return widened(a, b),
        _ => {}
    }
    texts(a, b)
        .or_else(|| numbers(a, b))
        .or_else(|| moments(a, b))
}

/// Text of any layout, and bytes of any layout; not the one with the other.
fn texts(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    let all = |kinds: [DataType; 3]| kinds.contains(a) && kinds.contains(b);
    let large = |large: DataType| *a == large || *b == large;
    if all([T::Utf8, T::LargeUtf8, T::Utf8View]) {
        return Some(if large(T::LargeUtf8) {
            T::LargeUtf8
        } else {
            T::Utf8
        });
    }
    if all([T::Binary, T::LargeBinary, T::BinaryView]) {
        return Some(if large(T::LargeBinary) {
            T::LargeBinary
        } else {
            T::Binary
        });
    }
    None
}

/// Bits of an integer type and whether it has a sign.
fn integer(data_type: &DataType) -> Option<(u8, bool)> {
    use DataType as T;
    Some(match data_type {
        T::Int8 => (8, true),
        T::Int16 => (16, true),
        T::Int32 => (32, true),
        T::Int64 => (64, true),
        T::UInt8 => (8, false),
        T::UInt16 => (16, false),
        T::UInt32 => (32, false),
        T::UInt64 => (64, false),
        _ => return None,
    })
}

/// Digits before and behind the point that a type of exact numbers has room for.
fn digits(data_type: &DataType) -> Option<(i16, i16)> {
    use DataType as T;
    if let Some((bits, _)) = integer(data_type) {
        let before = match bits {
            8 => 3,
            16 => 5,
            32 => 10,
            _ => 20,
        };
        return Some((before, 0));
    }
    match *data_type {
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => {
            let (precision, scale) = (i16::from(precision), i16::from(scale));
            Some((precision - scale, scale))
        }
        _ => None,
    }
}

fn numbers(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return Some(both_integers(a, b));
    }
    let float = |t: &DataType| match t {
        T::Float16 => Some(16),
        T::Float32 => Some(32),
        T::Float64 => Some(64),
        _ => None,
    };
    match (float(a), float(b)) {
        (Some(a), Some(b)) => Some(if a.max(b) == 64 {
            T::Float64
        } else {
            T::Float32
        }),
        // A Float32 holds integers of 24 bits.
        (Some(bits), None) | (None, Some(bits)) => {
            let other = if float(a).is_some() { b } else { a };
            let narrow = integer(other).is_some_and(|(bits, _)| bits <= 16);
            digits(other)?;
            Some(if narrow && bits < 64 {
                T::Float32
            } else {
                T::Float64
            })
        }
        (None, None) => both_exact(digits(a)?, digits(b)?),
    }
}

fn both_integers(a: (u8, bool), b: (u8, bool)) -> DataType {
    use DataType as T;
    let bits = |of: u8, signed: bool| match (of, signed) {
        (0..=8, true) => T::Int8,
        (9..=16, true) => T::Int16,
        (17..=32, true) => T::Int32,
        (33..=64, true) => T::Int64,
        (0..=8, false) => T::UInt8,
        (9..=16, false) => T::UInt16,
        (17..=32, false) => T::UInt32,
        (33..=64, false) => T::UInt64,
        // Signed integers and unsigned ones of 64 bits.
        _ => T::Decimal128(20, 0),
    };
    if a.1 == b.1 {
        return bits(a.0.max(b.0), a.1);
    }
    let (signed, unsigned) = if a.1 { (a.0, b.0) } else { (b.0, a.0) };
    bits(signed.max(unsigned + 1), true)
}

fn both_exact(a: (i16, i16), b: (i16, i16)) -> Option<DataType> {
    let scale = a.1.max(b.1);
    let precision = u8::try_from(a.0.max(b.0) + scale).ok()?.max(1);
    let scale = i8::try_from(scale).ok()?;
    match precision {
        0..=DECIMAL128_MAX_PRECISION => Some(DataType::Decimal128(precision, scale)),
        _ if precision <= DECIMAL256_MAX_PRECISION => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

/// Moments of any unit and zone; a date is the beginning of its day in UTC, as everywhere.
fn moments(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    use arrow::datatypes::TimeUnit as U;
    let rank = |unit: &U| match unit {
        U::Second => 0,
        U::Millisecond => 1,
        U::Microsecond => 2,
        U::Nanosecond => 3,
    };
    match (a, b) {
        (T::Timestamp(a_unit, a_zone), T::Timestamp(b_unit, b_zone)) => {
            let unit = if rank(a_unit) >= rank(b_unit) {
                a_unit
            } else {
                b_unit
            };
            let zone = if a_zone == b_zone {
                a_zone.clone()
            } else {
                // Moments without a zone are UTC.
                Some("UTC".into())
            };
            Some(T::Timestamp(*unit, zone))
        }
        (T::Date32, T::Date64) | (T::Date64, T::Date32) => Some(T::Date64),
        (T::Date32, T::Timestamp(unit, zone)) | (T::Timestamp(unit, zone), T::Date32) => {
            Some(T::Timestamp(*unit, zone.as_ref().map(|_| "UTC".into())))
        }
        (T::Date64, T::Timestamp(unit, zone)) | (T::Timestamp(unit, zone), T::Date64) => {
            let unit = if rank(unit) == 0 {
                &U::Millisecond
            } else {
                unit
            };
            Some(T::Timestamp(*unit, zone.as_ref().map(|_| "UTC".into())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::{Field, TimeUnit};
    use std::path::PathBuf;

    use super::*;

    fn file(name: &str, rows: u64, fields: Vec<(&str, DataType, bool)>) -> SourceFile {
        let field = |(name, kind, nullable)| Field::new(name, kind, nullable);
        let fields: Vec<Field> = fields.into_iter().map(field).collect();
        SourceFile {
            path: PathBuf::from(name),
            rows,
            schema: Arc::new(ArrowSchema::new(fields)),
            folders: Arc::new([]),
        }
    }

    fn columns(unified: &Unified) -> Vec<(&str, &DataType, bool)> {
        let fields = unified.schema().fields().iter();
        fields
            .map(|f| (f.name().as_str(), f.data_type(), f.is_nullable()))
            .collect()
    }

    #[test]
    fn columns_are_matched_by_name_and_what_a_file_lacks_is_null() {
        let files = [
            file("empty", 0, vec![("x", DataType::Utf8, false)]),
            file(
                "a",
                2,
                vec![("x", DataType::Int8, false), ("y", DataType::Null, true)],
            ),
            file(
                "b",
                2,
                vec![
                    ("z", DataType::Utf8, false),
                    ("y", DataType::Boolean, false),
                    ("x", DataType::UInt8, false),
                ],
            ),
        ];
        let unified = Unified::of(&files);
        let expected = [
            ("x", &DataType::Int16, false),
            ("y", &DataType::Boolean, true),
            ("z", &DataType::Utf8, true),
        ];
        assert_eq!(columns(&unified), expected);
        assert_eq!(unified.conflicts(), []);
    }

    #[test]
    fn structs_are_matched_inside_and_a_conflict_names_file_column_and_both_types() {
        let nested = |kind| {
            let leaf = Field::new("b", kind, false);
            DataType::Struct(vec![leaf].into())
        };
        let files = [
            file("a", 1, vec![("n", nested(DataType::Int32), false)]),
            file("b", 1, vec![("n", nested(DataType::Int64), false)]),
            file("c", 1, vec![("n", nested(DataType::Utf8), false)]),
            file("d", 1, vec![("n", DataType::Utf8, false)]),
        ];
        let faults: Vec<String> = Unified::of(&files)
            .conflicts()
            .iter()
            .map(TypeConflict::to_string)
            .collect();
        assert_eq!(faults[0], "c: column `n.b` is Utf8, in a it is Int32");
        assert!(faults[1].starts_with("d: column `n` is Utf8, in a it is Struct("));
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn types_are_widened_only_where_every_value_can_be_got_back() {
        use DataType as T;
        let at = |unit, zone: Option<&str>| T::Timestamp(unit, zone.map(Into::into));
        let dictionary = T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8));
        let wide = [
            (T::Int32, T::Int64, T::Int64),
            (T::UInt32, T::Int8, T::Int64),
            (T::UInt8, T::UInt16, T::UInt16),
            (T::UInt64, T::Int64, T::Decimal128(20, 0)),
            (T::Float32, T::Float64, T::Float64),
            (T::Int16, T::Float32, T::Float32),
            (T::Int32, T::Float32, T::Float64),
            (T::Int64, T::Float64, T::Float64),
            (T::Decimal128(10, 2), T::Float64, T::Float64),
            (T::Decimal128(10, 2), T::Int32, T::Decimal128(12, 2)),
            (
                T::Decimal128(38, 10),
                T::Decimal128(38, 0),
                T::Decimal256(48, 10),
            ),
            (T::Utf8, T::Utf8View, T::Utf8),
            (T::LargeUtf8, T::Utf8View, T::LargeUtf8),
            (dictionary.clone(), T::LargeUtf8, T::LargeUtf8),
            (
                at(TimeUnit::Second, None),
                at(TimeUnit::Nanosecond, Some("Europe/Paris")),
                at(TimeUnit::Nanosecond, Some("UTC")),
            ),
            (
                T::Date32,
                at(TimeUnit::Millisecond, None),
                at(TimeUnit::Millisecond, None),
            ),
        ];
        for (a, b, both) in wide {
            assert_eq!(widened(&a, &b), Some(both.clone()), "{a} {b}");
            assert_eq!(widened(&b, &a), Some(both), "{b} {a}");
        }
        let apart = [
            (T::Int64, T::Utf8),
            (T::Boolean, T::Int8),
            (T::Int64, at(TimeUnit::Millisecond, None)),
            (T::Utf8, T::Binary),
            (T::Float64, T::Utf8),
            (T::Date32, T::Int32),
            (dictionary, T::Int8),
        ];
        for (a, b) in apart {
            assert_eq!(widened(&a, &b), None, "{a} {b}");
            assert_eq!(widened(&b, &a), None, "{b} {a}");
        }
    }
}
