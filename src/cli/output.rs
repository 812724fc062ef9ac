//! Files that verbs write: whole or not at all.
//!
//! In flow bytes or batches, out flows a file under its name. Everything is written to a temporary
//! sibling, synced and renamed; on any failure the sibling is removed and the name keeps what it
//! had. Memory is that of one row group.

use super::exit::Refused;
use crate::durable::{self, Sibling};
use crate::records::{ParquetSource, url_remedy};
use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Endings of other formats than Parquet: who names one expects what will not be there.
const OTHER_FORMATS: [&str; 17] = [
    "csv", "tsv", "txt", "json", "jsonl", "ndjson", "avro", "orc", "arrow", "feather", "ipc",
    "xls", "xlsx", "xml", "db", "gz", "zip",
];

/// Rows of a row group at most: what readers expect, and small enough to be read in parallel.
const ROW_GROUP_ROWS: usize = 131_072;
/// Encoded bytes of a row group at most, so that wide tables stay within memory too.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A Parquet file (zstd) in the making.
pub struct ParquetOutput {
    writer: ArrowWriter<Sibling>,
    path: PathBuf,
}

impl ParquetOutput {
    /// Begins a file of these columns; `path` is not touched before [`Self::finish`].
    ///
    /// # Errors
    /// If nothing may be written there ([`parquet_target`]), no file can be made beside it, or Parquet has no form for a
    /// column.
    pub fn create(path: &Path, columns: SchemaRef) -> anyhow::Result<Self> {
        let path = &parquet_target(path)?;
        let sibling = temporary_sibling(path)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer = ArrowWriter::try_new(sibling, columns, Some(properties));
        Ok(Self {
            writer: writer.with_context(|| cannot_write(path))?,
            path: path.to_owned(),
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let written = self.writer.write(batch);
        written.with_context(|| cannot_write(&self.path))
    }

    /// Ends the file and gives it its name, replacing what had it.
    ///
    /// # Errors
    /// If it cannot be written; the name then keeps what it had.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { writer, path } = self;
        let sibling = writer.into_inner().with_context(|| cannot_write(&path))?;
        durable::persist(sibling, &path).with_context(|| cannot_write(&path))?;
        Ok(())
    }
}

/// Writes a new text file; one that is there is never replaced.
///
/// # Errors
/// [`Refused`] if there is one; anything else if it cannot be written.
pub fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    refuse_existing(path)?;
    let mut sibling = temporary_sibling(path)?;
    let written = sibling.write_all(text.as_bytes());
    written.with_context(|| cannot_write(path))?;
    match durable::persist_new(sibling, path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(refuse_existing(path)?),
        Err(e) => Err(e).with_context(|| cannot_write(path)),
        Ok(_) => Ok(()),
    }
}

/// Whether a text file may be written there: nothing may be.
///
/// # Errors
/// [`Refused`] if something is.
pub fn refuse_existing(path: &Path) -> Result<(), Refused> {
    refuse_url(path, "--out")?;
    // Nobody should be told to remove a device, nor to look for a folder that is not there.
    if durable::irregular(path).is_some() || !durable::folder_of(path).is_dir() {
        file_target(path)?;
    }
    match path.symlink_metadata() {
        Ok(_) => Err(Refused(format!(
            "{}: exists and is not replaced; remove it or name another file (--out)",
            path.display()
        ))),
        Err(_) => Ok(()),
    }
}

/// Where a Parquet file of this name is written: a link stays, and what it points at is replaced.
///
/// # Errors
/// [`Refused`] for a name with the ending of another format, a URL, and what is no regular file.
pub fn parquet_target(path: &Path) -> Result<PathBuf, Refused> {
    refuse_url(path, "--out")?;
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    if let Some(ending) = ending.filter(|ending| OTHER_FORMATS.contains(&ending.as_str())) {
        return Err(Refused(format!(
            "{}: the ending .{ending} is of another format, expected a name that ends in .parquet (--out)",
            path.display()
        )));
    }
    file_target(path)
}

fn file_target(path: &Path) -> Result<PathBuf, Refused> {
    durable::file_target(path).map_err(|error| Refused(format!("{error} (--out)")))
}

/// Whether a place is on another machine.
///
/// # Errors
/// [`Refused`] if it is, with the flag that names it.
pub fn refuse_url(path: &Path, flag: &str) -> Result<(), Refused> {
    let text = path.to_string_lossy();
    match url_remedy(&text) {
        Some(_) if !path.exists() => Err(Refused(format!(
            "{text}: is a URL ({flag}), and URLs are not supported: name a file or folder of this machine"
        ))),
        _ => Ok(()),
    }
}

/// Whether a bundle would be written over the one that it is made from: beside its parent it can be compared with it.
///
/// # Errors
/// [`Refused`] if so.
pub fn refuse_parent(model: &Path, out: &Path) -> Result<(), Refused> {
    match (model.canonicalize(), out.canonicalize()) {
        (Ok(parent), Ok(target)) if parent == target => Err(Refused(format!(
            "{}: is the bundle to begin with (--model) and the output (--out)",
            out.display()
        ))),
        _ => Ok(()),
    }
}

/// Whether the output would replace one of the files that are read.
///
/// # Errors
/// [`Refused`] if so.
pub fn refuse_input(source: &ParquetSource, path: &Path) -> Result<(), Refused> {
    let Ok(real) = path.canonicalize() else {
        return Ok(());
    };
    let is_it = |file: &&crate::records::SourceFile| {
        file.path().canonicalize().is_ok_and(|input| input == real)
    };
    match source.files().iter().find(is_it) {
        Some(file) => Err(Refused(format!(
            "{}: is the output (--out) and, as {}, one of the inputs (--data)",
            path.display(),
            file.path().display()
        ))),
        None => Ok(()),
    }
}

/// A file beside `path`, removed when dropped.
fn temporary_sibling(path: &Path) -> anyhow::Result<Sibling> {
    let sibling = durable::temporary_sibling(path);
    sibling.with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot write the file", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("z.parquet");
        std::fs::write(&path, "old").unwrap();
        let mut output = ParquetOutput::create(&path, batch().schema()).unwrap();
        output.write(&batch()).unwrap();
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_finished_file_holds_its_rows_and_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("z.parquet");
        let mut output = ParquetOutput::create(&path, batch().schema()).unwrap();
        output.write(&batch()).unwrap();
        output.finish().unwrap();
        let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
        assert_eq!(source.rows(), 3);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(refuse_input(&source, &folder.path().join("./z.parquet")).is_err());
        assert!(refuse_input(&source, &folder.path().join("y.parquet")).is_ok());
    }

    #[test]
    fn a_text_file_that_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        write_new(&path, "mine").unwrap();
        let error = write_new(&path, "yours").unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_new(folder.path(), "x").unwrap_err().is::<Refused>());
        let error = write_new(Path::new("/dev/null"), "x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("is a character device"), "{error}");
    }

    #[test]
    fn the_ending_of_another_format_and_a_url_are_refused() {
        for name in ["x.csv", "x.CSV", "x.parquet.gz", "s3://bucket/x.parquet"] {
            let error = parquet_target(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("--out"), "{error}");
        }
        for name in ["x", "x.parquet", "x.tmp", ".csv"] {
            assert_eq!(parquet_target(Path::new(name)).unwrap(), Path::new(name));
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_output_through_a_link_is_written_where_the_link_points() {
        let folder = tempfile::tempdir().unwrap();
        let (link, real) = (
            folder.path().join("l.parquet"),
            folder.path().join("r.parquet"),
        );
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("r.parquet", &link).unwrap();
        let mut output = ParquetOutput::create(&link, batch().schema()).unwrap();
        output.write(&batch()).unwrap();
        output.finish().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let source = ParquetSource::open(&[real.display().to_string()]).unwrap();
        assert_eq!(source.rows(), 3);
    }
}
