//! Payments into one Parquet file: all of it or nothing.
//!
//! The file is written beside its name, flushed to disk and renamed; on any failure the name keeps
//! what it had. Row groups are bounded, so memory is that of one of them, and the same
//! configuration and rows give the same bytes.

use std::path::Path;

use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::batch::{Generator, payment_schema};
use super::error::GenerateError;
use crate::durable::{self, Sibling};

/// Rows of a row group: about 8 MB in memory, large enough that dictionaries pay.
const ROW_GROUP_ROWS: usize = 131_072;
/// Rows generated and handed on at a time; progress is told as often.
const BATCH_ROWS: usize = 16_384;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSummary {
    /// Payments in the file.
    pub rows: u64,
    /// Of these, planted frauds.
    pub frauds: u64,
    /// The file's size.
    pub bytes: u64,
}

/// Writes the next `rows` payments of `generator` to `path`, replacing it, compressed with zstd.
/// `progress` hears the rows written so far, after each batch of them.
///
/// # Errors
/// [`GenerateError::Target`] for what is no regular file; [`GenerateError::Io`] and [`GenerateError::Parquet`], naming
/// the file. `path` is then as it was before.
pub fn write_parquet(
    generator: &mut Generator,
    rows: u64,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<WriteSummary, GenerateError> {
    let io = |source| GenerateError::Io {
        path: path.to_owned(),
        source,
    };
    let real = &durable::file_target(path)?;
    let mut sibling = durable::temporary_sibling(real).map_err(io)?;
    let frauds = write_rows(generator, rows, &mut sibling, path, &mut progress)?;
    let file = durable::persist(sibling, real).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    Ok(WriteSummary {
        rows,
        frauds,
        bytes,
    })
}

/// The rows, the footer, and how many frauds were among them.
fn write_rows(
    generator: &mut Generator,
    rows: u64,
    file: &mut Sibling,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, GenerateError> {
    let failed = |source: ParquetError| GenerateError::Parquet {
        path: path.to_owned(),
        source,
    };
    let mut end = generator.origin().clone();
    end.payments += rows;
    let end = end
        .entry()
        .map_err(|e| failed(ParquetError::External(e.into())))?;
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![end]))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer =
        ArrowWriter::try_new(file, payment_schema(), Some(properties)).map_err(failed)?;
    let (mut written, mut frauds) = (0, 0);
    while written < rows {
        let batch_rows = (rows - written).min(BATCH_ROWS as u64);
        let batch = generator.next_batch(batch_rows as usize)?;
        frauds += frauds_in(&batch);
        writer.write(&batch).map_err(failed)?;
        written += batch_rows;
        progress(written);
    }
    writer.close().map_err(failed)?;
    Ok(frauds)
}

fn frauds_in(batch: &arrow::array::RecordBatch) -> u64 {
    let labels = batch.column_by_name("is_fraud");
    let labels = labels.and_then(|column| arrow::array::AsArray::as_boolean_opt(&**column));
    labels.map_or(0, |labels| labels.true_count() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::super::{GeneratorConfig, Origin};
    use super::*;

    fn generator() -> Generator {
        let config = GeneratorConfig {
            customers: 60,
            terminals: 60,
            ..Default::default()
        };
        Generator::new(&config).unwrap()
    }

    #[test]
    fn the_file_holds_the_payments_and_equal_seeds_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("a.parquet"),
            folder.path().join("b.parquet"),
        );
        let mut reported = Vec::new();
        let summary =
            write_parquet(&mut generator(), 20_000, &a, |rows| reported.push(rows)).unwrap();
        assert_eq!(reported, [16_384, 20_000]);
        assert_eq!(summary.rows, 20_000);
        assert_eq!(summary.bytes, std::fs::metadata(&a).unwrap().len());
        write_parquet(&mut generator(), 20_000, &b, |_| ()).unwrap();
        assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
        let file = std::fs::File::open(&a).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        let read = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let made = generator().next_batch(20_000).unwrap();
        assert_eq!(read.columns(), made.columns());
        assert_eq!(frauds_in(&made), summary.frauds);
    }

    #[test]
    fn what_comes_after_a_file_is_what_its_generator_would_make_next() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (
            folder.path().join("first.parquet"),
            folder.path().join("second.parquet"),
        );
        write_parquet(&mut generator(), 700, &first, |_| ()).unwrap();
        let go_on = |path: &Path| {
            let origin = Origin::read(path).unwrap();
            let mut later = Generator::new(&origin.config).unwrap();
            later.skip(origin.payments);
            later
        };
        write_parquet(&mut go_on(&first), 300, &second, |_| ()).unwrap();
        let mut whole = generator();
        whole.skip(1_000);
        let next = go_on(&second).next_batch(50).unwrap();
        assert_eq!(next, whole.next_batch(50).unwrap());
    }

    #[test]
    fn nothing_comes_after_a_file_that_the_generator_did_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain.parquet");
        let batch = generator().next_batch(3).unwrap();
        let file = std::fs::File::create(&plain).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let error = Origin::read(&plain).unwrap_err().to_string();
        assert!(error.contains("plain.parquet: not a file that"), "{error}");
        std::fs::write(&plain, "text").unwrap();
        assert!(matches!(
            Origin::read(&plain),
            Err(GenerateError::NotParquet { .. })
        ));
        assert!(matches!(
            Origin::read(&folder.path().join("none")),
            Err(GenerateError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_failure_leaves_the_folder_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let error = write_parquet(&mut generator(), 10, &taken, |_| ()).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("no/such/folder.parquet");
        let error = write_parquet(&mut generator(), 10, &nowhere, |_| ()).unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_any_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (made, plain) = (folder.path().join("a.parquet"), folder.path().join("b"));
        write_parquet(&mut generator(), 1, &made, |_| ()).unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&made), mode(&plain));
    }
}
