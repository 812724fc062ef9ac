//! `calibration.parquet`: the exact calibration scores with their segments, and the reference tables, a row a point.
//!
//! Columns: `table` (`score`, `labelled` (the calibration scores of the detector that labels made, if they did), `cascade` (one
//! point, the threshold of the first stage, if there are two), `term`, `reading`, `field`), `index` (which of them: the term of the score, field * R' +
//! trained reading, field; 0 for scores), `value`, `surprisal` (null for scores), `tail_scale` (the same for all points of a
//! table, null for scores), and for each field f that a budget can be held by `segment_f` (of scores: the code of the
//! calibration row's value, 0 for none; null for all else), f counting the features. Any tool that reads Parquet can plot
//! it.

use super::settings::CALIBRATION_ROWS_MAX;
use crate::records::guarded;
use crate::score::KNOTS_MAX;
use crate::score::{
    Axes, ConformalScores, ReferenceTables, ScoreRule, SegmentCodes, SurvivalTable,
};
use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt8Type, UInt32Type};
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

/// Columns before those of the segments.
const POINT_COLUMNS: usize = 5;

/// With a column of segments for each of these fields.
fn schema(segment_fields: impl Iterator<Item = usize>) -> SchemaRef {
    let mut columns = vec![
        Field::new("table", DataType::Utf8, false),
        Field::new("index", DataType::UInt32, false),
        Field::new("value", DataType::Float32, false),
        Field::new("surprisal", DataType::Float32, true),
        Field::new("tail_scale", DataType::Float32, true),
    ];
    let segment = |field| Field::new(format!("segment_{field}"), DataType::UInt8, true);
    columns.extend(segment_fields.map(segment));
    Arc::new(Schema::new(columns))
}

/// The file's bytes: the same for the same contents.
///
/// # Errors
/// If Parquet cannot write them.
pub fn write(
    reference: &ReferenceTables,
    scores: &ConformalScores,
    labelled: Option<&ConformalScores>,
    threshold: Option<f32>,
) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .build();
    let schema = schema(scores.segments().iter().map(|by| by.field));
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let (terms, readings, fields) = reference.parts();
    let all = [("score", Some(scores)), ("labelled", labelled)];
    for (name, scores) in all.into_iter().filter_map(|(n, s)| Some((n, s?))) {
        let segments = scores.segments();
        let batch = points(&schema, name, 0, scores.sorted(), None, segments)?;
        writer.write(&batch)?;
    }
    if let Some(threshold) = threshold {
        writer.write(&points(&schema, "cascade", 0, &[threshold], None, &[])?)?;
    }
    for (name, tables) in [("term", terms), ("reading", readings), ("field", fields)] {
        for (index, table) in (0u32..).zip(tables) {
            let (values, surprisals, tail_scale) = table.parts();
            let table = Some((surprisals, tail_scale));
            writer.write(&points(&schema, name, index, values, table, &[])?)?;
        }
    }
    writer.into_inner()
}

fn points(
    schema: &SchemaRef,
    name: &str,
    index: u32,
    values: &[f32],
    table: Option<(&[f32], f32)>,
    segments: &[SegmentCodes],
) -> Result<RecordBatch, ArrowError> {
    let n = values.len();
    let surprisals = match table {
        Some((surprisals, _)) => Float32Array::from(surprisals.to_vec()),
        None => Float32Array::new_null(n),
    };
    let scale = Float32Array::from(vec![table.map(|(_, scale)| scale); n]);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![name; n])),
        Arc::new(UInt32Array::from(vec![index; n])),
        Arc::new(Float32Array::from(values.to_vec())),
        Arc::new(surprisals),
        Arc::new(scale),
    ];
    for by in 0..schema.fields().len() - POINT_COLUMNS {
        columns.push(Arc::new(match segments.get(by) {
            Some(by) => UInt8Array::from(by.codes.clone()),
            None => UInt8Array::new_null(n),
        }));
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// What the file holds.
#[derive(Debug, PartialEq)]
pub struct Contents {
    /// The reference tables.
    pub reference: ReferenceTables,
    /// The calibration scores.
    pub scores: ConformalScores,
    /// Those of the detector that labels made, if they did.
    pub labelled: Option<ConformalScores>,
    /// From which score of the first stage on a record gets all views, if there are two stages.
    pub threshold: Option<f32>,
}

/// The contents of the file's bytes, for a model of these axes and this rule with these fields that a budget can be held by.
///
/// # Errors
/// What is wrong with them: not Parquet, other columns, tables missing or not ascending.
pub fn read(
    bytes: Vec<u8>,
    (axes, rule): (Axes, ScoreRule),
    segment_fields: &[usize],
) -> Result<Contents, Failure> {
    let schema = schema(segment_fields.iter().copied());
    let terms = rule.components().len();
    let tables = terms + axes.fields * axes.trained + axes.fields;
    let rows_max = 2 * CALIBRATION_ROWS_MAX as usize + 1 + tables * KNOTS_MAX;
    // The reader panics on some contents, which right digests do not exclude.
    let rows = guarded(|| decode(bytes, &schema, rows_max))?;
    let rows = Rows::new(rows);
    let mut at = 0;
    let scores = rows.scores(&mut at, "score", segment_fields)?;
    let labelled = match rows.is_next(at, "labelled", 0) {
        true => Some(rows.scores(&mut at, "labelled", segment_fields)?),
        false => None,
    };
    if let Some(of) = labelled.as_ref().filter(|of| of.len() != scores.len()) {
        return Err(format!("{} labelled scores beside {}", of.len(), scores.len()).into());
    }
    let threshold = match rows.is_next(at, "cascade", 0) {
        true => Some(rows.next(&mut at, "cascade", 0)?.only("cascade")?),
        false => None,
    };
    let mut tables = |name, count| {
        let table = |index| {
            let run = rows.next(&mut at, name, index)?;
            SurvivalTable::from_parts(run.values, run.surprisals, run.tail_scale)
                .map_err(|detail| Failure::from(format!("{name} table {index}: {detail}")))
        };
        (0..count as u32).map(table).collect::<Result<Vec<_>, _>>()
    };
    let terms = tables("term", terms)?;
    let readings = tables("reading", axes.fields * axes.trained)?;
    let fields = tables("field", axes.fields)?;
    if at != rows.batch.num_rows() {
        return Err(format!("{} rows beyond the last table", rows.batch.num_rows() - at).into());
    }
    let reference = ReferenceTables::from_parts(axes, rule, terms, readings, fields)?;
    Ok(Contents {
        reference,
        scores,
        labelled,
        threshold,
    })
}

/// All rows of the file's bytes, at most `rows_max` of these columns.
fn decode(bytes: Vec<u8>, schema: &SchemaRef, rows_max: usize) -> Result<RecordBatch, Failure> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
    if builder.schema().fields() != schema.fields() {
        return Err(format!("columns {:?}, expected {schema:?}", builder.schema()).into());
    }
    let (mut batches, mut rows) = (Vec::new(), 0);
    for batch in builder.build()? {
        let batch = batch?;
        rows += batch.num_rows();
        if rows > rows_max {
            return Err(
                format!("more than {rows_max} rows, which no model of its kind has").into(),
            );
        }
        batches.push(batch);
    }
    Ok(concat_batches(schema, &batches)?)
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

impl Run {
    /// The value of a table of one point.
    fn only(&self, name: &str) -> Result<f32, Failure> {
        match self.values[..] {
            [value] => Ok(value),
            _ => Err(format!("table {name}: {} points, expected one", self.values.len()).into()),
        }
    }
}

impl Rows {
    fn new(batch: RecordBatch) -> Self {
        Self { batch }
    }

    /// The calibration scores that must begin at row `at`, with their segments by each field; moves `at` behind them.
    fn scores(
        &self,
        at: &mut usize,
        name: &str,
        fields: &[usize],
    ) -> Result<ConformalScores, Failure> {
        let first = *at;
        let sorted = self.next(at, name, 0)?.values;
        let segments = self.segments(fields, first, sorted.len())?;
        let scores = ConformalScores::from_parts(sorted, segments);
        Ok(scores.map_err(|detail| format!("{name}: {detail}"))?)
    }

    /// The segments of `count` rows from `first` on, which are scores, by each field.
    fn segments(
        &self,
        fields: &[usize],
        first: usize,
        count: usize,
    ) -> Result<Vec<SegmentCodes>, Failure> {
        let column = |(&field, column): (&usize, &ArrayRef)| {
            let codes = column.as_primitive::<UInt8Type>().slice(first, count);
            match codes.null_count() {
                0 => Ok(SegmentCodes {
                    field,
                    codes: codes.values().to_vec(),
                }),
                _ => Err(format!("a score has no segment_{field}").into()),
            }
        };
        let columns = &self.batch.columns()[POINT_COLUMNS..];
        fields.iter().zip(columns).map(column).collect()
    }

    /// Whether a table begins at row `at`, or goes on there.
    fn is_next(&self, at: usize, name: &str, index: u32) -> bool {
        let names = self.batch.column(0).as_string::<i32>();
        let indices = self.batch.column(1).as_primitive::<UInt32Type>();
        at < self.batch.num_rows() && names.value(at) == name && indices.value(at) == index
    }

    /// The points of the table that must begin at row `at`; moves `at` behind them.
    fn next(&self, at: &mut usize, name: &str, index: u32) -> Result<Run, Failure> {
        let numbers = |column: usize| self.batch.column(column).as_primitive::<Float32Type>();
        let mut run = Run {
            values: Vec::new(),
            surprisals: Vec::new(),
            tail_scale: 0.0,
        };
        while self.is_next(*at, name, index) {
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
    use crate::score::Component;

    fn parts() -> (ReferenceTables, ConformalScores, (Axes, ScoreRule)) {
        let axes = Axes {
            fields: 2,
            strata: 3,
            readings: 3,
            trained: 2,
        };
        let total = |i: usize| Component::Total {
            stratum: i / 2,
            reading: i % 2,
        };
        let rule = ScoreRule::of((0..6).map(|i| (total(i), 1.0)).collect(), 2.0);
        let table = |i: usize| {
            let sample: Vec<f32> = (0..300).map(|x| (x * (i + 1)) as f32 * 0.1).collect();
            SurvivalTable::fit(&sample)
        };
        let tables = |n: usize| (0..n).map(table).collect();
        let reference =
            ReferenceTables::from_parts(axes, rule.clone(), tables(6), tables(4), tables(2));
        let reference = reference.unwrap();
        let codes = |field, codes: [u8; 3]| SegmentCodes {
            field,
            codes: codes.to_vec(),
        };
        let segments = vec![codes(0, [1, 0, 255]), codes(1, [2, 2, 1])];
        let scores = ConformalScores::from_parts(vec![0.1, 0.5, 7.25], segments).unwrap();
        (reference, scores, (axes, rule))
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let (reference, scores, axes) = parts();
        let labelled = vec![-3.0, 0.0, 2.5];
        let labelled = ConformalScores::from_parts(labelled, scores.segments().to_vec()).unwrap();
        for labelled in [None, Some(labelled)] {
            let threshold = labelled.as_ref().map(|_| 0.1f32);
            let bytes = write(&reference, &scores, labelled.as_ref(), threshold).unwrap();
            let again = write(&reference, &scores, labelled.as_ref(), threshold).unwrap();
            assert_eq!(bytes, again);
            let found = read(bytes, axes.clone(), &[0, 1]).unwrap();
            let expected = Contents {
                reference: reference.clone(),
                scores: scores.clone(),
                labelled,
                threshold,
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn scores_without_segments_need_no_columns_for_them() {
        let (reference, _, axes) = parts();
        let scores = ConformalScores::new(vec![3.0, 1.0]).unwrap();
        let bytes = write(&reference, &scores, None, None).unwrap();
        assert_eq!(
            read(bytes.clone(), axes.clone(), &[]).unwrap().scores,
            scores
        );
        let error = read(bytes, axes, &[1]).unwrap_err().to_string();
        assert!(error.contains("segment_1"), "{error}");
    }

    #[test]
    fn tables_of_another_model_are_refused() {
        let (reference, scores, axes) = parts();
        let bytes = write(&reference, &scores, None, None).unwrap();
        let (axes, rule) = axes;
        let more = rule.components().chain([Component::Latent]);
        let more = ScoreRule::of(more.map(|component| (component, 1.0)).collect(), 2.0);
        let error = read(bytes.clone(), (axes, more), &[0, 1])
            .unwrap_err()
            .to_string();
        assert!(error.contains("term 6"), "{error}");
        let error = read(bytes, (Axes { fields: 1, ..axes }, rule), &[0, 1])
            .unwrap_err()
            .to_string();
        assert!(error.contains("field 0"), "{error}");
    }
}
