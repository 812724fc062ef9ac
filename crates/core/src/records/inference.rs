//! From Parquet files to the schema file that `init` writes.
//!
//! Every row of every file is looked at once, one batch in memory at a time; the rules are
//! [`Inference`]'s.

use super::error::DataError;
use super::parquet::{DEFAULT_BATCH_ROWS, ParquetSource};
use crate::schema::{Inference, Inferred};

/// The schema file, and what a person should know of it, that fits every file of `source`, with the column `label` (dots
/// between levels), if given, as the label.
///
/// # Errors
/// When the files have types that no column can hold together, a page is damaged, the label's column is absent, or no
/// column can be a feature.
pub fn infer_schema(source: &ParquetSource, label: Option<&str>) -> Result<Inferred, DataError> {
    let Some((first, others)) = source.files().split_first() else {
        return Err(DataError::NoFiles {
            input: "an empty list".to_owned(),
        });
    };
    let inference = Inference::new(source.columns(), label)?;
    let mut inference = inference.with_folder_columns(source.folder_columns());
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

    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
        TimestampMillisecondArray,
    };
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field as ArrowField};
    use parquet::arrow::ArrowWriter;
    use proptest::prelude::*;

    use super::*;
    use crate::records::ReadOptions;
    use crate::schema::Schema;

    /// Reads a whole source by the schema inferred from it; the rows and the bad rows.
    fn read_by_inferred(source: &ParquetSource, label: Option<&str>) -> (u64, usize) {
        let text = infer_schema(source, label).unwrap().text;
        let schema = Schema::parse(&text, "inferred").unwrap();
        assert_eq!(infer_schema(source, label).unwrap().text, text);
        let (mut rows, mut faults) = (0, 0);
        for batch in source.batches(&schema, ReadOptions::default()) {
            let batch = batch.unwrap();
            rows += batch.canonical.num_rows() as u64;
            let empty = |fault: &&super::super::RowFault| {
                fault.reason != super::super::FaultReason::EmptyRecord
            };
            faults += batch.faults.iter().filter(empty).count();
        }
        (rows, faults)
    }

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
            let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
            // Each set has a label called so, which nobody needs to name.
            let inferred = infer_schema(&source, None).unwrap();
            let label = inferred.label.map(|(name, _)| name);
            assert_eq!(label.as_deref(), Some("label"), "{}", path.display());
            let read = read_by_inferred(&source, None);
            assert_eq!(read, (source.rows(), 0), "{}", path.display());
        }
    }

    /// A column of `rows` values of one of the types that files have.
    fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
        let seeds = prop::collection::vec(prop::option::of(0..9_i64), rows);
        (0..12_usize, seeds).prop_map(|(shape, seeds)| {
            let integers: ArrayRef = Arc::new(Int64Array::from(seeds.clone()));
            let text = |write: fn(i64) -> String| -> ArrayRef {
                Arc::new(
                    seeds
                        .iter()
                        .map(|seed| seed.map(write))
                        .collect::<StringArray>(),
                )
            };
            match shape {
                0 => integers,
                1 => cast(&integers, &DataType::UInt8).unwrap(),
                2 => cast(&integers, &DataType::Float32).unwrap(),
                3 => cast(&integers, &DataType::Decimal128(12, 2)).unwrap(),
                4 => cast(
                    &cast(&integers, &DataType::Int32).unwrap(),
                    &DataType::Date32,
                )
                .unwrap(),
                5 => text(|seed| format!("t{seed}")),
                6 => text(|seed| format!("2018-07-01 00:00:0{seed}")),
                7 => text(|seed| format!("{seed}.5")),
                8 => Arc::new(
                    seeds
                        .iter()
                        .map(|seed| seed.map(|s| s > 4))
                        .collect::<BooleanArray>(),
                ),
                9 => Arc::new(TimestampMillisecondArray::from(seeds)),
                10 => {
                    let dictionary =
                        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
                    cast(&text(|seed| format!("d{seed}")), &dictionary).unwrap()
                }
                _ => {
                    let field = ArrowField::new("in", DataType::Int64, true);
                    Arc::new(StructArray::from(vec![(Arc::new(field), integers)]))
                }
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_inferred_schema_always_fits_the_file_it_came_from(
            columns in prop::collection::vec((r"[a-z.\PC]{0,6}(_id|_ts)?", column(40)), 1..8)
        ) {
            // One float makes sure of a feature.
            let sure: ArrayRef = Arc::new(Float64Array::from(vec![0.5; 40]));
            let mut fields = vec![("sure".to_owned(), sure, true)];
            for (index, (name, column)) in columns.into_iter().enumerate() {
                fields.push((format!("{index}{name}"), column, true));
            }
            let batch = RecordBatch::try_from_iter_with_nullable(fields).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.parquet");
            let file = std::fs::File::create(&path).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
            prop_assert_eq!(read_by_inferred(&source, None), (40, 0));
        }
    }
}
