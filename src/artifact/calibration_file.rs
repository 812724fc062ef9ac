//! `calibration.parquet`: the exact calibration scores and the reference tables, a row a point.
//!
//! Columns: `table` (`score`, `stratum`, `reading`, `field`), `index` (which of them: stratum * R + reading, field * R +
//! reading, field; 0 for scores), `value`, `surprisal` (null for scores), `tail_scale` (the same for all points of a
//! table, null for scores). Any tool that reads Parquet can plot it.

use crate::score::{Axes, ConformalScores, ReferenceTables, SurvivalTable};
use arrow::array::{Array, AsArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// What cannot be written or read: the message says where.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("table", DataType::Utf8, false),
        Field::new("index", DataType::UInt32, false),
        Field::new("value", DataType::Float32, false),
        Field::new("surprisal", DataType::Float32, true),
        Field::new("tail_scale", DataType::Float32, true),
    ]))
}

/// The file's bytes: the same for the same contents.
///
/// # Errors
/// If Parquet cannot write them.
pub fn write(
    reference: &ReferenceTables,
    scores: &ConformalScores,
) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))?;
    let (strata, readings, fields) = reference.parts();
    writer.write(&points("score", 0, scores.sorted(), None)?)?;
    for (name, tables) in [
        ("stratum", strata),
        ("reading", readings),
        ("field", fields),
    ] {
        for (index, table) in (0u32..).zip(tables) {
            let (values, surprisals, tail_scale) = table.parts();
            writer.write(&points(
                name,
                index,
                values,
                Some((surprisals, tail_scale)),
            )?)?;
        }
    }
    writer.into_inner()
}

fn points(
    name: &str,
    index: u32,
    values: &[f32],
    table: Option<(&[f32], f32)>,
) -> Result<RecordBatch, ArrowError> {
    let n = values.len();
    let surprisals = match table {
        Some((surprisals, _)) => Float32Array::from(surprisals.to_vec()),
        None => Float32Array::new_null(n),
    };
    let scale = Float32Array::from(vec![table.map(|(_, scale)| scale); n]);
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(StringArray::from(vec![name; n])),
            Arc::new(UInt32Array::from(vec![index; n])),
            Arc::new(Float32Array::from(values.to_vec())),
            Arc::new(surprisals),
            Arc::new(scale),
        ],
    )
}

/// The contents of the file's bytes.
///
/// # Errors
/// What is wrong with them: not Parquet, other columns, tables missing or not ascending.
pub fn read(bytes: Vec<u8>, axes: Axes) -> Result<(ReferenceTables, ConformalScores), Failure> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
    if builder.schema().fields() != schema().fields() {
        return Err(format!("columns {:?}, expected {:?}", builder.schema(), schema()).into());
    }
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    let rows = Rows::new(concat_batches(&schema(), &batches)?);
    let mut at = 0;
    let scores = rows.next(&mut at, "score", 0)?.values;
    let mut tables = |name, count| {
        let table = |index| {
            let run = rows.next(&mut at, name, index)?;
            SurvivalTable::from_parts(run.values, run.surprisals, run.tail_scale)
                .map_err(|detail| Failure::from(format!("{name} table {index}: {detail}")))
        };
        (0..count as u32).map(table).collect::<Result<Vec<_>, _>>()
    };
    let strata = tables("stratum", axes.strata * axes.readings)?;
    let readings = tables("reading", axes.fields * axes.readings)?;
    let fields = tables("field", axes.fields)?;
    if at != rows.batch.num_rows() {
        return Err(format!("{} rows beyond the last table", rows.batch.num_rows() - at).into());
    }
    let reference = ReferenceTables::from_parts(axes, strata, readings, fields)?;
    if !scores.is_sorted() {
        return Err("the calibration scores are not ascending".into());
    }
    Ok((reference, ConformalScores::new(scores)?))
}

struct Rows {
    batch: RecordBatch,
}

/// The points of one table.
struct Run {
    values: Vec<f32>,
    surprisals: Vec<f32>,
    tail_scale: f32,
}

impl Rows {
    fn new(batch: RecordBatch) -> Self {
        Self { batch }
    }

    /// The points of the table that must begin at row `at`; moves `at` behind them.
    fn next(&self, at: &mut usize, name: &str, index: u32) -> Result<Run, Failure> {
        let names = self.batch.column(0).as_string::<i32>();
        let indices = self.batch.column(1).as_primitive::<UInt32Type>();
        let numbers = |column: usize| self.batch.column(column).as_primitive::<Float32Type>();
        let mut run = Run {
            values: Vec::new(),
            surprisals: Vec::new(),
            tail_scale: 0.0,
        };
        while *at < self.batch.num_rows() && names.value(*at) == name && indices.value(*at) == index
        {
            run.values.push(numbers(2).value(*at));
            if numbers(3).is_valid(*at) {
                run.surprisals.push(numbers(3).value(*at));
                run.tail_scale = numbers(4).value(*at);
            }
            *at += 1;
        }
        if run.values.is_empty() {
            return Err(format!("row {at}: expected the table {name} {index}").into());
        }
        Ok(run)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parts() -> (ReferenceTables, ConformalScores, Axes) {
        let axes = Axes {
            fields: 2,
            strata: 3,
            readings: 2,
        };
        let table = |i: usize| {
            let sample: Vec<f32> = (0..300).map(|x| (x * (i + 1)) as f32 * 0.1).collect();
            SurvivalTable::fit(&sample)
        };
        let tables = |n: usize| (0..n).map(table).collect();
        let reference = ReferenceTables::from_parts(axes, tables(6), tables(4), tables(2)).unwrap();
        (
            reference,
            ConformalScores::new(vec![0.5, 0.1, 7.25]).unwrap(),
            axes,
        )
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let (reference, scores, axes) = parts();
        let bytes = write(&reference, &scores).unwrap();
        assert_eq!(bytes, write(&reference, &scores).unwrap());
        let (read_reference, read_scores) = read(bytes, axes).unwrap();
        assert_eq!((read_reference, read_scores), (reference, scores));
    }

    #[test]
    fn tables_of_another_model_are_refused() {
        let (reference, scores, axes) = parts();
        let bytes = write(&reference, &scores).unwrap();
        let error = read(bytes.clone(), Axes { strata: 4, ..axes })
            .unwrap_err()
            .to_string();
        assert!(error.contains("stratum 6"), "{error}");
        let error = read(bytes, Axes { fields: 1, ..axes })
            .unwrap_err()
            .to_string();
        assert!(error.contains("field 0"), "{error}");
    }
}
