//! Columns that stand in the names of folders: `channel=atm/part-0.parquet` (Hive's layout of a partitioned table).
//!
//! In flow the paths of files, out flow the columns that their folders give, each with one value a file. Every folder
//! `name=value` of a path as it was given counts, names and values percent-decoded; `__HIVE_DEFAULT_PARTITION__` and an
//! empty value are null. A column has one type in all files of a source: whole numbers where all its values are, else
//! dates, else text. A column of that name in a file is hidden by the folder's, as in Spark, DuckDB and Polars.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Int64Array, StringArray, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Date32Type, Field, Fields, Schema as ArrowSchema};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use percent_encoding::percent_decode_str;

/// What writers put in the place of a null.
const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A folder's name taken apart: the column and its value.
pub(super) type FolderValue = (String, Option<String>);

/// One column that a file has by its folders.
#[derive(Debug, Clone)]
pub(super) struct FolderColumn {
    pub(super) name: String,
    /// One row: the value.
    value: ArrayRef,
}

impl FolderColumn {
    pub(super) fn data_type(&self) -> &DataType {
        self.value.data_type()
    }

    /// The value as often as there are rows.
    pub(super) fn rows(&self, rows: usize) -> Result<ArrayRef, ArrowError> {
        take(&self.value, &UInt32Array::from_value(0, rows), None)
    }
}

/// What the folders on the way to a file say, from the outermost; of a name that repeats, the innermost.
pub(super) fn folder_values(path: &Path) -> Vec<FolderValue> {
    let mut values: Vec<FolderValue> = Vec::new();
    let folders = path.parent().into_iter().flat_map(Path::components);
    for folder in folders {
        let Component::Normal(folder) = folder else {
            continue;
        };
        let Some((name, value)) = folder.to_str().and_then(|folder| folder.split_once('=')) else {
            continue;
        };
        let (name, value) = (decoded(name), decoded(value));
        if name.is_empty() {
            continue;
        }
        values.retain(|(earlier, _)| *earlier != name);
        let is_null = value.is_empty() || value == NULL_VALUE;
        values.push((name, (!is_null).then_some(value)));
    }
    values
}

/// Percent-decoded; what is no UTF-8 then stays as it is.
fn decoded(text: &str) -> String {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => text.to_owned(),
    }
}

/// The type of every folder column, given what the folders of all files say.
pub(super) fn folder_types<'a>(
    files: impl Iterator<Item = &'a [FolderValue]>,
) -> BTreeMap<String, DataType> {
    let mut values: BTreeMap<String, Shape> = BTreeMap::new();
    for (name, value) in files.flatten() {
        let shape = values.entry(name.clone()).or_default();
        if let Some(value) = value {
            shape.add(value);
        }
    }
    let types = values.into_iter();
    types.map(|(name, shape)| (name, shape.kind())).collect()
}

/// What holds for every value of a column so far.
struct Shape {
    whole: bool,
    date: bool,
    values: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            whole: true,
            date: true,
            values: 0,
        }
    }
}

impl Shape {
    fn add(&mut self, value: &str) {
        self.values += 1;
        self.whole &= self.whole && whole(value).is_some();
        self.date &= self.date && date(value).is_some();
    }

    fn kind(&self) -> DataType {
        match self {
            Self { values: 0, .. } => DataType::Utf8,
            Self { whole: true, .. } => DataType::Int64,
            Self { date: true, .. } => DataType::Date32,
            _ => DataType::Utf8,
        }
    }
}

/// A whole number as it is written: `007` is a code.
fn whole(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (date.to_string() == text).then(|| Date32Type::from_naive_date(date))
}

/// The columns of one file.
pub(super) fn folder_columns(
    values: &[FolderValue],
    types: &BTreeMap<String, DataType>,
) -> Vec<FolderColumn> {
    let column = |(name, value): &FolderValue| {
        let text = value.as_deref();
        let value: ArrayRef = match types.get(name) {
            Some(DataType::Int64) => Arc::new(Int64Array::from(vec![text.and_then(whole)])),
            Some(DataType::Date32) => Arc::new(Date32Array::from(vec![text.and_then(date)])),
            _ if text.is_none() => new_null_array(&DataType::Utf8, 1),
            _ => Arc::new(StringArray::from(vec![text])),
        };
        FolderColumn {
            name: name.clone(),
            value,
        }
    };
    values.iter().map(column).collect()
}

/// The columns of a file: its own, those of its folders in their place, then the folders' others.
pub(super) fn with_folder_columns(own: &ArrowSchema, folders: &[FolderColumn]) -> ArrowSchema {
    let by_folder = |column: &FolderColumn| {
        Arc::new(Field::new(&column.name, column.data_type().clone(), true))
    };
    let named = |name: &str| folders.iter().find(|column| column.name == name);
    let mut fields: Vec<Arc<Field>> = own
        .fields()
        .iter()
        .map(|field| named(field.name()).map_or_else(|| Arc::clone(field), by_folder))
        .collect();
    let others = folders
        .iter()
        .filter(|column| own.index_of(&column.name).is_err());
    fields.extend(others.map(by_folder));
    ArrowSchema::new_with_metadata(Fields::from(fields), own.metadata().clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn of(path: &str) -> Vec<(String, Option<String>)> {
        folder_values(Path::new(path))
    }

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn folders_named_by_a_value_give_columns_decoded_and_nested() {
        assert_eq!(
            of("lake/day=2026-01-05/channel=a%2Fb%20c/part-0.parquet"),
            [
                pair("day", Some("2026-01-05")),
                pair("channel", Some("a/b c"))
            ]
        );
        let null = of("/x/channel=__HIVE_DEFAULT_PARTITION__/empty=/p.parquet");
        assert_eq!(null, [pair("channel", None), pair("empty", None)]);
        assert_eq!(
            of("a=1/b=2/a=3/p"),
            [pair("b", Some("2")), pair("a", Some("3"))]
        );
        // The file's own name is none, nor is what has no name or no UTF-8 behind its escapes.
        assert_eq!(of("x/=3/name=4.parquet"), []);
        assert_eq!(of("x/a=%FF/p.parquet"), [pair("a", Some("%FF"))]);
        assert_eq!(of("x/a=b=c/p.parquet"), [pair("a", Some("b=c"))]);
    }

    #[test]
    fn a_folder_column_has_one_type_in_all_files() {
        let files = [
            of("n=7/code=007/day=2026-01-05/mixed=1/p"),
            of("n=-12/code=8/day=__HIVE_DEFAULT_PARTITION__/mixed=a/p"),
        ];
        let types = folder_types(files.iter().map(Vec::as_slice));
        let found: Vec<_> = types.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let expected = [
            ("code", DataType::Utf8),
            ("day", DataType::Date32),
            ("mixed", DataType::Utf8),
            ("n", DataType::Int64),
        ];
        assert_eq!(found, expected);
        let columns = folder_columns(&files[1], &types);
        let numbers = columns[0].rows(3).unwrap();
        assert_eq!(
            numbers.as_primitive::<Int64Type>().values(),
            &[-12, -12, -12]
        );
        assert_eq!(columns[2].rows(2).unwrap().null_count(), 2);
    }

    #[test]
    fn the_folder_hides_a_column_of_its_name_and_the_others_come_last() {
        let own = ArrowSchema::new(vec![
            Field::new("channel", DataType::LargeUtf8, false),
            Field::new("x", DataType::Int8, false),
        ]);
        let values = of("day=3/channel=atm/p");
        let types = folder_types([values.as_slice()].into_iter());
        let schema = with_folder_columns(&own, &folder_columns(&values, &types));
        let found: Vec<_> = schema
            .fields()
            .iter()
            .map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable()))
            .collect();
        let expected = [
            ("channel", DataType::Utf8, true),
            ("x", DataType::Int8, false),
            ("day", DataType::Int64, true),
        ];
        assert_eq!(found, expected);
    }
}
