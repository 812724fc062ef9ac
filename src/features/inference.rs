//! From Parquet files to the schema file that `init` writes.
//!
//! Every row of every file is looked at once, one batch in memory at a time; the rules are
//! [`Inference`]'s.

use super::error::{DataError, columns_text, same_columns};
use super::parquet::{DEFAULT_BATCH_ROWS, ParquetSource};
use crate::schema::Inference;

/// The commented TOML of a schema that fits every file of `source`, with the column `label` (dots
/// between levels), if given, as the label.
///
/// # Errors
/// When the files differ in their columns, a page is damaged, the label's column is absent, or no
/// column can be a feature.
pub fn infer_schema(source: &ParquetSource, label: Option<&str>) -> Result<String, DataError> {
    let Some((first, others)) = source.files().split_first() else {
        return Err(DataError::NoFiles {
            input: "an empty list".to_owned(),
        });
    };
    for other in others {
        if !same_columns(first.schema(), other.schema()) {
            let file = other.path().display().to_string();
            let (expected, found) = (columns_text(first.schema()), columns_text(other.schema()));
            return Err(DataError::OtherColumns {
                file,
                expected,
                found,
            });
        }
    }
    let mut inference = Inference::new(first.schema(), label)?;
    for batch in source.raw_batches(DEFAULT_BATCH_ROWS) {
        inference.add(&batch?.records)?;
    }
    let name = first.path().display();
    let origin = match others.len() {
        0 => name.to_string(),
        more => format!("{name} and {more} more"),
    };
    Ok(inference.finish(&origin)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stdout)]

    use super::*;

    #[test]
    fn the_inferred_schema_of_real_data_fits_it() {
        let Some(folder) = std::env::var_os("MASKWATCH_DATA_DIR") else {
            println!("skipped: MASKWATCH_DATA_DIR is not set");
            return;
        };
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_none_or(|extension| extension != "parquet")
            {
                continue;
            }
            let started = std::time::Instant::now();
            let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
            let text = infer_schema(&source, Some("label")).unwrap();
            println!("{text}# {:?}\n", started.elapsed());
        }
    }
}
