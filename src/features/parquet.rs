//! Parquet at rest as a stream of canonical batches, one batch in memory at a time.
//!
//! In flow paths, out flow [`SourceBatch`]es in the order of the files (sorted by path) and of their
//! rows. Files are read row group by row group with a synchronous reader that decodes only the columns
//! of the schema. Invariants: no row is dropped or moved, and no error goes without file and place.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::canonical::{Canonicaliser, first_of_each_row};
use super::error::{DataError, FileMismatch};
use super::fault::RowFault;
use super::inputs::files_of;
use super::parquet_file::{FileReader, SourceFile, open_file};
use crate::schema::{Schema, fit};

/// Rows of a batch unless asked otherwise: 30 columns of it fit a second-level cache, and the cost of
/// a batch is spread over enough rows.
pub const DEFAULT_BATCH_ROWS: usize = 8_192;

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Rows of a batch at most (0 counts as 1); a batch never spans row groups.
    pub batch_rows: usize,
    /// Whether the original columns, all of them in their order, come along.
    pub keep_raw: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            batch_rows: DEFAULT_BATCH_ROWS,
            keep_raw: false,
        }
    }
}

/// Records of one file, in the order in which they stand there.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// Index in [`ParquetSource::files`].
    pub file: usize,
    /// Row of the file (from 0) that is the first of the batch.
    pub first_row: u64,
    /// Every row, canonical; what could not be read is null.
    pub canonical: RecordBatch,
    /// The bad rows of the batch, ascending, at most one fault a row.
    pub faults: Vec<RowFault>,
    /// The same rows as they stand in the file, if asked for.
    pub raw: Option<RecordBatch>,
}

impl SourceBatch {
    /// Adds faults of rows that may have one already: the first of a row stays.
    pub fn add_faults(&mut self, faults: Vec<RowFault>) {
        if !faults.is_empty() {
            let before = std::mem::take(&mut self.faults);
            self.faults = first_of_each_row(before.into_iter().chain(faults).collect());
        }
    }
}

/// Records of one file with all their columns, not looked at.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Index in [`ParquetSource::files`].
    pub file: usize,
    /// Row of the file (from 0) that is the first of the batch.
    pub first_row: u64,
    /// The records.
    pub records: RecordBatch,
}

/// Parquet files whose footers were read and are sound.
#[derive(Debug, Clone)]
pub struct ParquetSource {
    files: Vec<SourceFile>,
}

impl ParquetSource {
    /// Opens files, folders and glob patterns. The files are sorted by path, whatever the order of the
    /// inputs, so that the same data gives the same rows in the same order.
    ///
    /// # Errors
    /// An input without files or without rows, a file given twice, a corrupt footer, columns of one
    /// name.
    pub fn open(inputs: &[String]) -> Result<Self, DataError> {
        let mut files: Vec<SourceFile> = Vec::new();
        let mut seen = HashSet::new();
        for input in inputs {
            let before = files.len();
            for path in files_of(input)? {
                let mut file = open_file(path, &mut seen)?;
                // Files of one table share one schema; 100,000 copies of it would not be small.
                if let Some(earlier) = files.last().filter(|last| last.schema == file.schema) {
                    file.schema = Arc::clone(&earlier.schema);
                }
                files.push(file);
            }
            if files[before..].iter().all(|file| file.rows == 0) {
                return Err(DataError::NoRows {
                    input: input.clone(),
                });
            }
        }
        if files.is_empty() {
            return Err(DataError::NoFiles {
                input: "an empty list".to_owned(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// The files, sorted by path; at least one.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Checks that every file fits `schema`, by the footers alone.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] with every column of every file that is missing or of another type.
    pub fn check(&self, schema: &Schema) -> Result<(), DataError> {
        let mut faulty = Vec::new();
        let mut sound: Option<&SchemaRef> = None;
        for file in &self.files {
            if sound.is_some_and(|sound| Arc::ptr_eq(sound, &file.schema)) {
                continue;
            }
            match fit(schema, &file.schema) {
                Ok(_) => sound = Some(&file.schema),
                Err(mismatches) => faulty.push(FileMismatch {
                    file: file.name(),
                    mismatches,
                }),
            }
        }
        if faulty.is_empty() {
            Ok(())
        } else {
            Err(DataError::Mismatch(faulty))
        }
    }

    /// The records as `schema` reads them. A source that does not fit gives [`DataError::Mismatch`] as
    /// its first item, with all mismatches of all files; after an error the stream ends.
    pub fn batches<'a>(&'a self, schema: &'a Schema, options: ReadOptions) -> Batches<'a> {
        let projected = if options.keep_raw { None } else { Some(schema) };
        Batches {
            raw: self.stream(projected, options.batch_rows),
            schema,
            keep_raw: options.keep_raw,
            canonicaliser: None,
            checked: false,
        }
    }

    /// The records with all their columns, whatever the schema; after an error the stream ends.
    pub fn raw_batches(&self, batch_rows: usize) -> RawBatches<'_> {
        self.stream(None, batch_rows)
    }

    fn stream<'a>(&'a self, projected: Option<&'a Schema>, batch_rows: usize) -> RawBatches<'a> {
        let batch_rows = batch_rows.max(1);
        RawBatches {
            source: self,
            projected,
            batch_rows,
            next_file: 0,
            reader: None,
            ended: false,
        }
    }
}

/// The canonical batches of a source; see [`ParquetSource::batches`].
pub struct Batches<'a> {
    raw: RawBatches<'a>,
    schema: &'a Schema,
    keep_raw: bool,
    /// That of the file in hand, with the file's index.
    canonicaliser: Option<(usize, Canonicaliser)>,
    checked: bool,
}

impl Batches<'_> {
    fn check(&mut self) -> Result<(), DataError> {
        if std::mem::replace(&mut self.checked, true) {
            return Ok(());
        }
        self.raw.source.check(self.schema)
    }

    fn canonical(&mut self, raw: RawBatch) -> Result<SourceBatch, DataError> {
        let RawBatch {
            file,
            first_row,
            records,
        } = raw;
        let canonicaliser = match self.canonicaliser.take() {
            Some((of, canonicaliser)) if of == file => canonicaliser,
            _ => {
                let name = self.raw.source.files[file].name();
                Canonicaliser::new(self.schema, records.schema_ref(), &name)?
            }
        };
        let canonical = canonicaliser.canonicalise(&records);
        self.canonicaliser = Some((file, canonicaliser));
        let canonical = canonical.map_err(|error| error.counted_from(first_row))?;
        Ok(SourceBatch {
            file,
            first_row,
            canonical: canonical.batch,
            faults: canonical.faults,
            raw: self.keep_raw.then_some(records),
        })
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<SourceBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.raw.ended {
            return None;
        }
        let batch = match self.check() {
            Ok(()) => self.raw.next()?.and_then(|raw| self.canonical(raw)),
            Err(error) => Err(error),
        };
        self.raw.ended |= batch.is_err();
        Some(batch)
    }
}

/// The batches of a source as they are; see [`ParquetSource::raw_batches`].
pub struct RawBatches<'a> {
    source: &'a ParquetSource,
    projected: Option<&'a Schema>,
    batch_rows: usize,
    next_file: usize,
    /// That of file `next_file - 1`, until its last row is read.
    reader: Option<FileReader>,
    ended: bool,
}

impl RawBatches<'_> {
    fn advance(&mut self) -> Result<Option<RawBatch>, DataError> {
        loop {
            if let Some(reader) = &mut self.reader {
                let file = self.next_file - 1;
                if let Some((first_row, records)) = reader.read()? {
                    return Ok(Some(RawBatch {
                        file,
                        first_row,
                        records,
                    }));
                }
                self.reader = None;
            }
            let Some(file) = self.source.files.get(self.next_file) else {
                return Ok(None);
            };
            self.reader = Some(FileReader::open(file, self.projected, self.batch_rows)?);
            self.next_file += 1;
        }
    }
}

impl Iterator for RawBatches<'_> {
    type Item = Result<RawBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = self.advance().transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        batch
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::fs::File;
    use std::path::{Path, PathBuf};

    use arrow::array::{
        Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::properties::WriterProperties;

    use super::*;

    const SCHEMA: &str = "[[field]]\nname='id'\nrole='key'\n\
                          [[field]]\nname='x'\nkind='numeric'\n\
                          [[field]]\nname='c'\nkind='categorical'\npath='n.c'\n\
                          [[field]]\nname='y'\nrole='label'\n";

    fn schema() -> Schema {
        Schema::parse(SCHEMA, "s.toml").unwrap()
    }

    /// Rows `from..to` of a table whose every value follows from the row.
    fn table(from: i64, to: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new((from..to).map(Some).collect::<Int64Array>());
        let xs: ArrayRef = Arc::new(
            (from..to)
                .map(|i| Some(i as f64 / 8.0))
                .collect::<Float64Array>(),
        );
        let cs: ArrayRef = Arc::new(
            (from..to)
                .map(|i| Some(format!("c{}", i % 7)))
                .collect::<StringArray>(),
        );
        let nested: ArrayRef = Arc::new(StructArray::from(vec![
            (
                Arc::new(Field::new("unused", DataType::Int64, true)),
                Arc::clone(&ids),
            ),
            (Arc::new(Field::new("c", DataType::Utf8, true)), cs),
        ]));
        let ys: ArrayRef = Arc::new((from..to).map(|i| Some(i % 2)).collect::<Int64Array>());
        let columns = [
            ("y", ys),
            ("n", nested),
            ("spare", Arc::clone(&xs)),
            ("x", xs),
            ("id", ids),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
    }

    fn write(path: &Path, batch: &RecordBatch, row_group_rows: usize) -> String {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group_rows))
            .set_compression(Compression::ZSTD(Default::default()))
            .build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        path.display().to_string()
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        (folder, path)
    }

    fn open_error(inputs: &[String]) -> String {
        ParquetSource::open(inputs).unwrap_err().to_string()
    }

    /// Reads to the end or to the first error.
    fn read(inputs: &[String]) -> Result<u64, DataError> {
        let source = ParquetSource::open(inputs)?;
        let schema = schema();
        let mut rows = 0;
        for batch in source.batches(&schema, ReadOptions::default()) {
            rows += batch?.canonical.num_rows() as u64;
        }
        Ok(rows)
    }

    #[test]
    fn files_are_read_in_the_order_of_their_paths_and_rows_keep_their_place() {
        let (_guard, folder) = folder();
        let second = write(&folder.join("b.parquet"), &table(25, 40), 100);
        let first = write(&folder.join("a.parquet"), &table(0, 25), 10);
        let source = ParquetSource::open(&[second, first]).unwrap();
        assert_eq!(source.rows(), 40);
        let schema = schema();
        for keep_raw in [false, true] {
            let mut next = 0;
            for batch in source.batches(
                &schema,
                ReadOptions {
                    batch_rows: 7,
                    keep_raw,
                },
            ) {
                let batch = batch.unwrap();
                let start = if batch.file == 0 { 0 } else { 25 };
                assert_eq!(start + batch.first_row, next as u64);
                let rows = batch.canonical.num_rows();
                let numbers = batch
                    .canonical
                    .column(1)
                    .as_primitive::<Float64Type>()
                    .clone();
                let expected = (next..next + rows).map(|row| Some(row as f64 / 8.0));
                assert!(numbers.iter().eq(expected));
                let categories = batch.canonical.column(2).as_string::<i32>();
                assert_eq!(categories.value(0), format!("c{}", next % 7));
                assert_eq!(batch.raw.is_some(), keep_raw);
                if let Some(raw) = batch.raw {
                    assert_eq!(raw, table(next as i64, (next + rows) as i64));
                }
                next += rows;
            }
            assert_eq!(next, 40);
        }
    }

    #[test]
    fn only_the_leaves_of_the_schema_are_decoded() {
        let (_guard, folder) = folder();
        let input = write(&folder.join("a.parquet"), &table(0, 5), 10);
        let source = ParquetSource::open(&[input]).unwrap();
        let schema = schema();
        let batch = source
            .stream(Some(&schema), 10)
            .next()
            .unwrap()
            .unwrap()
            .records;
        let names: Vec<&str> = batch
            .schema_ref()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect();
        assert_eq!(names, ["y", "n", "x", "id"]);
        assert_eq!(batch.column(1).as_struct().column_names(), ["c"]);
    }

    #[test]
    fn inputs_without_files_without_rows_or_given_twice_are_refused() {
        let (_guard, folder) = folder();
        assert_eq!(open_error(&[]), "no Parquet file found in an empty list");
        let full = write(&folder.join("a.parquet"), &table(0, 5), 10);
        let empty = write(&folder.join("b.parquet"), &table(0, 0), 10);
        assert_eq!(
            open_error(&[full.clone(), empty.clone()]),
            format!("{empty} has no rows")
        );
        let both = folder.display().to_string();
        assert_eq!(read(std::slice::from_ref(&both)).unwrap(), 5);
        assert_eq!(
            open_error(&[both, full.clone()]),
            format!("{full} is given twice")
        );
    }

    #[test]
    fn every_mismatch_of_every_file_comes_first() {
        let (_guard, folder) = folder();
        let good = table(0, 5);
        write(&folder.join("a.parquet"), &good, 10);
        let kept = good.project(&[0, 1, 4]).unwrap();
        write(&folder.join("b.parquet"), &kept, 10);
        let (column, id) = (
            Arc::new(StringArray::from(vec!["1"; 5])),
            Arc::clone(good.column(1)),
        );
        let changed = RecordBatch::try_from_iter([("x", column as ArrayRef), ("n", id)]).unwrap();
        write(&folder.join("c.parquet"), &changed, 10);
        let schema = schema();
        let source = ParquetSource::open(&[folder.display().to_string()]).unwrap();
        let mut batches = source.batches(&schema, ReadOptions::default());
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(batches.next().is_none());
        let numbers = "expected numbers (text needs `parse = true`)";
        let expected = format!(
            "the schema does not fit the data:\n  \
             {0}/b.parquet: field `x`, column `x`: {numbers}, found no `x`\n  \
             {0}/c.parquet: field `x`, column `x`: {numbers}, found Utf8",
            folder.display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn columns_of_one_name_are_refused() {
        let (_guard, folder) = folder();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = arrow::datatypes::Schema::new(vec![field("x"), field("z"), field("x")]);
        let columns = vec![Arc::clone(&column), Arc::clone(&column), column];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let input = write(&folder.join("a.parquet"), &batch, 10);
        let expected = format!("{input} has more than one column named `x`");
        assert_eq!(open_error(&[input]), expected);
    }

    #[test]
    fn a_corrupt_footer_is_named() {
        let (_guard, folder) = folder();
        let input = write(&folder.join("a.parquet"), &table(0, 50), 10);
        let bytes = std::fs::read(&input).unwrap();
        let tail = bytes.len() - 40;
        let mut scrambled = bytes.clone();
        scrambled[tail..bytes.len() - 8].fill(0xff);
        for bad in [&bytes[..bytes.len() / 2], &bytes[..0], b"hello", &scrambled] {
            std::fs::write(&input, bad).unwrap();
            let error = open_error(std::slice::from_ref(&input));
            let expected = format!("{input} is not a Parquet file, or its footer is corrupt: ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_corrupt_page_is_named_by_its_row_group_and_what_stands_before_it_is_read() {
        let (_guard, folder) = folder();
        let input = write(&folder.join("a.parquet"), &table(0, 50), 10);
        let source = ParquetSource::open(std::slice::from_ref(&input)).unwrap();
        let (_, metadata) = super::super::parquet_file::open_footer(Path::new(&input)).unwrap();
        let (start, length) = metadata.metadata().row_group(3).column(5).byte_range();
        let mut bytes = std::fs::read(&input).unwrap();
        let (start, end) = (start as usize, (start + length) as usize);
        bytes[start..end].fill(0xff);
        std::fs::write(&input, bytes).unwrap();
        let schema = schema();
        let mut batches = source.batches(&schema, ReadOptions::default());
        for _ in 0..3 {
            assert_eq!(batches.next().unwrap().unwrap().canonical.num_rows(), 10);
        }
        let error = batches.next().unwrap().unwrap_err().to_string();
        let expected = format!("{input}, row group 3 (of 5, from 0), after row 30: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_bad_label_is_counted_from_the_start_of_the_file() {
        let (_guard, folder) = folder();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        let good = table(0, 30);
        let labels = (0..30).map(|row| Some(if row == 23 { 7 } else { 0 }));
        columns.push(("y", Arc::new(labels.collect::<Int64Array>())));
        columns.extend([
            ("n", Arc::clone(good.column(1))),
            ("x", Arc::clone(good.column(3))),
        ]);
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let input = write(&folder.join("a.parquet"), &batch, 10);
        let error = read(std::slice::from_ref(&input)).unwrap_err().to_string();
        let place = format!("{input}, column `y`, row 23 (from 0): ");
        assert!(error.starts_with(&place), "{error}");
    }

    #[test]
    fn a_file_replaced_while_reading_is_noticed() {
        let (_guard, folder) = folder();
        let path = folder.join("a.parquet");
        let input = write(&path, &table(0, 5), 10);
        let source = ParquetSource::open(&[input]).unwrap();
        write(&path, &table(0, 6), 10);
        let error = source.raw_batches(10).next().unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                DataError::RowsChanged {
                    expected: 5,
                    found: 6,
                    ..
                }
            ),
            "{error}"
        );
    }

    /// No byte that is turned over may bring the reader down: it errs, or reads as many rows.
    #[test]
    fn damage_anywhere_is_an_error_or_harmless() {
        use rand::RngExt;
        let (_guard, folder) = folder();
        let input = write(&folder.join("a.parquet"), &table(0, 60), 20);
        let sound = std::fs::read(&input).unwrap();
        let mut rng = crate::rng::stream(7, crate::rng::Purpose::Tests);
        let mut panics = 0;
        // Few places make the reader panic: 300 draws of another stream met none.
        for _ in 0..2_000 {
            let mut bytes = sound.clone();
            let place = rng.random_range(0..bytes.len());
            bytes[place] ^= 1 << rng.random_range(0..8);
            std::fs::write(&input, bytes).unwrap();
            match read(std::slice::from_ref(&input)) {
                Ok(rows) => assert_eq!(rows, 60, "byte {place}"),
                Err(error) => panics += usize::from(error.to_string().contains("damaged beyond")),
            }
        }
        assert!(
            panics > 0,
            "the reader no longer panics, so the guard against it goes untested"
        );
    }

    #[test]
    fn keys_are_read_as_text() {
        let (_guard, folder) = folder();
        let input = write(&folder.join("a.parquet"), &table(3, 5), 10);
        let source = ParquetSource::open(&[input]).unwrap();
        let schema = schema();
        let options = ReadOptions {
            keep_raw: true,
            ..ReadOptions::default()
        };
        let batch = source.batches(&schema, options).next().unwrap().unwrap();
        assert_eq!(batch.canonical.column(0).as_string::<i32>().value(0), "3");
        assert_eq!(
            batch
                .raw
                .unwrap()
                .column(4)
                .as_primitive::<Int64Type>()
                .value(0),
            3
        );
        assert!(!batch.canonical.column(0).is_null(0));
    }
}
