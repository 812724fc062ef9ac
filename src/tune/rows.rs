//! The rows that tune a bundle: labelled ones that choose weights, and others that only rank scores.
//!
//! In flow Parquet files under the bundle's schema, out flow encoded records in bounded memory. Both sources are read
//! twice: once to count, once to keep. Invariant: no calibration row that counts is one of the labelled rows that count,
//! as far as rows can be told apart, for a p-value is a promise only about rows that nothing was chosen by.

use super::error::TuneError;
use super::identity::{Identities, Place, holds};
use crate::features::{Encoder, ParquetSource, Records, SourceBatch};
use crate::schema::{Role, Schema};
use crate::train::dataset::{SelectionSample, sound_batches};
use crate::train::partition::CALIBRATION_ROWS_MAX;
use crate::train::{DataFingerprint, Fingerprinter};
use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

/// Frauds at least: with fewer, a single one decides what validates.
pub const FRAUDS_MIN: u64 = 10;
/// Normal rows at least: against fewer, any score ranks frauds well.
pub const NORMALS_MIN: u64 = 50;
/// Labelled rows kept at most. Some hundred weights gain nothing from more.
const LABELLED_ROWS_MAX: u64 = 100_000;
/// Numbers kept of labelled rows at most, rows by components: 64 MiB, and matrices of weights in seconds.
const LABELLED_VALUES_MAX: u64 = 1 << 24;

/// Both sources under one schema with the label in it.
#[derive(Debug, Clone, Copy)]
pub struct TuneSources<'a> {
    /// What [`label_schema`] made.
    pub schema: &'a Schema,
    /// Labelled files.
    pub labelled: &'a ParquetSource,
    /// Calibration files; they may have labels too.
    pub calibration: &'a ParquetSource,
    /// The seed: which rows are kept where there are too many.
    pub seed: u64,
}

/// How many rows have which label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LabelCounts {
    /// Labelled 1.
    pub frauds: u64,
    /// Labelled 0.
    pub normals: u64,
    /// Without a label: left out.
    pub unlabelled: u64,
}

/// Labelled rows that are kept: all frauds and a uniform sample of the others, as far as memory goes.
#[derive(Debug, Clone)]
pub struct LabelledRows {
    /// n of them.
    pub records: Records,
    /// \[n\]; true = fraud.
    pub labels: Vec<bool>,
    /// \[n\], microseconds since 1970.
    pub times: Vec<Option<i64>>,
    /// Of all rows read.
    pub counts: LabelCounts,
    /// All rows read.
    pub fingerprint: DataFingerprint,
    identities: Identities,
}

/// Calibration rows that are kept, at most 100,000: a uniform sample where there are more.
#[derive(Debug, Clone)]
pub struct CalibrationRows {
    /// The rows.
    pub records: Records,
    /// Rows left out, as they are labelled 1.
    pub excluded: u64,
    /// Whether the files have the label, so that known frauds are left out.
    pub has_labels: bool,
    /// All rows read.
    pub fingerprint: DataFingerprint,
}

/// The bundle's schema with the label in the column `label`, or where it has one itself.
///
/// # Errors
/// [`TuneError::NoLabel`]; [`TuneError::Schema`] if the model sees that column.
pub fn label_schema(schema: &Schema, label: Option<&str>) -> Result<Schema, TuneError> {
    let own = schema.label().map(|field| field.path.segments());
    match label {
        None if own.is_none() => Err(TuneError::NoLabel),
        None => Ok(schema.clone()),
        // The schema as it was trained with, so that fingerprints can be compared.
        Some(column) if own == Some(&[column.to_owned()]) => Ok(schema.clone()),
        Some(column) => Ok(schema.labelled_by(column)?),
    }
}

impl TuneSources<'_> {
    /// Checks what the footers tell: that all columns are there, the label in every labelled file, and in all or none of
    /// the calibration files.
    ///
    /// # Errors
    /// [`TuneError::Data`], [`TuneError::LabelMissing`].
    pub fn check(&self) -> Result<(), TuneError> {
        self.labelled.check(self.schema)?;
        self.calibration.check(self.schema)?;
        let missing = |source: &ParquetSource, detail| match lacking(source, self.schema) {
            None => Ok(()),
            Some(file) => Err(TuneError::LabelMissing {
                file,
                column: self
                    .schema
                    .label()
                    .map_or_else(String::new, |f| f.path.to_string()),
                detail,
            }),
        };
        missing(self.labelled, "")?;
        match self.calibration_has_labels() {
            true => missing(
                self.calibration,
                ", other calibration files have it: known frauds would be left out of some only",
            ),
            false => Ok(()),
        }
    }

    fn calibration_has_labels(&self) -> bool {
        let files = self.calibration.files().iter();
        files
            .into_iter()
            .any(|file| holds(self.schema, Role::Label, file.schema()))
    }

    /// Reads the labelled rows, of which each will have `components` numbers.
    ///
    /// # Errors
    /// [`TuneError`]: a bad row, or too few rows of a class.
    pub fn read_labelled(
        &self,
        encoder: &Encoder,
        components: usize,
    ) -> Result<LabelledRows, TuneError> {
        let mut fingerprinter = Fingerprinter::default();
        let mut counts = LabelCounts::default();
        for batch in sound_batches(self.labelled, self.schema) {
            let batch = batch?.canonical;
            fingerprinter.observe(&batch);
            (0..batch.num_rows()).for_each(|row| match label(self.schema, &batch, row) {
                Some(true) => counts.frauds += 1,
                Some(false) => counts.normals += 1,
                None => counts.unlabelled += 1,
            });
        }
        self.check_classes(counts)?;
        let values_max = LABELLED_VALUES_MAX / components.max(1) as u64;
        let rows_max = LABELLED_ROWS_MAX
            .min(values_max)
            .max(FRAUDS_MIN + NORMALS_MIN);
        let frauds = counts.frauds.min(rows_max / 2);
        let mut keep_fraud = SelectionSample::new(counts.frauds, frauds, self.seed);
        let mut keep_normal = SelectionSample::new(counts.normals, rows_max - frauds, self.seed);
        let mut kept = LabelledRows {
            records: Records::absent(&encoder.shapes(), 0),
            labels: Vec::new(),
            times: Vec::new(),
            counts,
            fingerprint: fingerprinter.finish(),
            identities: Identities::new(self.schema, &[self.labelled, self.calibration]),
        };
        for batch in sound_batches(self.labelled, self.schema) {
            let batch = batch?;
            let keeps = |&row: &usize| match label(self.schema, &batch.canonical, row) {
                Some(true) => keep_fraud.take(),
                Some(false) => keep_normal.take(),
                None => false,
            };
            let rows: Vec<usize> = (0..batch.canonical.num_rows()).filter(keeps).collect();
            kept.add(self.schema, encoder, &batch, &rows)?;
        }
        Ok(kept)
    }

    fn check_classes(&self, counts: LabelCounts) -> Result<(), TuneError> {
        let classes = [
            ("rows labelled 1", counts.frauds, FRAUDS_MIN),
            ("rows labelled 0", counts.normals, NORMALS_MIN),
        ];
        match classes
            .into_iter()
            .find(|(_, found, needed)| found < needed)
        {
            None => Ok(()),
            Some((class, found, needed)) => Err(TuneError::TooFew {
                files: names(self.labelled),
                class,
                found,
                needed,
                unlabelled: counts.unlabelled,
            }),
        }
    }

    /// Reads the calibration rows.
    ///
    /// # Errors
    /// [`TuneError`]: a bad row, rows that are labelled rows or trained the model (`trained`), or none that is left.
    pub fn read_calibration(
        &self,
        encoder: &Encoder,
        labelled: &LabelledRows,
        trained: &DataFingerprint,
    ) -> Result<CalibrationRows, TuneError> {
        let told = labelled.identities.told();
        let mut fingerprinter = Fingerprinter::default();
        let (mut rows, mut excluded, mut shared) = (0, 0, 0);
        let mut first = None;
        for batch in sound_batches(self.calibration, self.schema) {
            let batch = batch?;
            fingerprinter.observe(&batch.canonical);
            let columns = told.columns(&batch.canonical);
            for row in 0..batch.canonical.num_rows() {
                if label(self.schema, &batch.canonical, row) == Some(true) {
                    excluded += 1;
                    continue;
                }
                rows += 1;
                if let Some(place) = told.find(&columns, row) {
                    shared += 1;
                    let own = Place::new(&batch, row);
                    first.get_or_insert((own, place));
                }
            }
        }
        let fingerprint = fingerprinter.finish();
        let files = || names(self.calibration);
        if fingerprint == *trained {
            let DataFingerprint { rows, sha256 } = fingerprint;
            let files = files();
            return Err(TuneError::Trained {
                files,
                rows,
                sha256,
            });
        }
        if let Some((own, place)) = first {
            return Err(self.shared(own, place, shared, told.told_by));
        }
        if rows == 0 {
            return Err(TuneError::NothingLeft {
                files: files(),
                rows: excluded,
                excluded,
            });
        }
        Ok(CalibrationRows {
            records: self.encode_calibration(encoder, rows)?,
            excluded,
            has_labels: self.calibration_has_labels(),
            fingerprint,
        })
    }

    fn encode_calibration(&self, encoder: &Encoder, rows: u64) -> Result<Records, TuneError> {
        let mut sample = SelectionSample::new(rows, CALIBRATION_ROWS_MAX, self.seed);
        let mut records = Records::absent(&encoder.shapes(), 0);
        for batch in sound_batches(self.calibration, self.schema) {
            let batch = batch?.canonical;
            let keeps =
                |&row: &usize| label(self.schema, &batch, row) != Some(true) && sample.take();
            let kept: Vec<usize> = (0..batch.num_rows()).filter(keeps).collect();
            append(&mut records, &encoder.encode(&taken(&batch, &kept)?)?);
        }
        Ok(records)
    }

    fn shared(&self, own: Place, labelled: Place, shared: u64, told_by: &'static str) -> TuneError {
        let file = |source: &ParquetSource, place: Place| {
            source.files()[place.file].path().display().to_string()
        };
        TuneError::Shared {
            file: file(self.calibration, own),
            row: own.row,
            labelled_file: file(self.labelled, labelled),
            labelled_row: labelled.row,
            shared,
            told_by,
        }
    }
}

impl LabelledRows {
    fn add(
        &mut self,
        schema: &Schema,
        encoder: &Encoder,
        batch: &SourceBatch,
        rows: &[usize],
    ) -> Result<(), TuneError> {
        let canonical = &batch.canonical;
        for &row in rows {
            self.labels
                .push(label(schema, canonical, row) == Some(true));
            self.times.push(time(schema, canonical, row));
            self.identities.add(batch, row);
        }
        let taken = taken(canonical, rows)?;
        append(&mut self.records, &encoder.encode(&taken)?);
        Ok(())
    }
}

/// A file whose columns lack the schema's label.
fn lacking(source: &ParquetSource, schema: &Schema) -> Option<String> {
    let mut files = source.files().iter();
    let file = files.find(|file| !holds(schema, Role::Label, file.schema()))?;
    Some(file.path().display().to_string())
}

fn label(schema: &Schema, batch: &RecordBatch, row: usize) -> Option<bool> {
    let labels = batch
        .column_by_name(&schema.label()?.name)?
        .as_boolean_opt()?;
    labels.is_valid(row).then(|| labels.value(row))
}

fn time(schema: &Schema, batch: &RecordBatch, row: usize) -> Option<i64> {
    let column = batch.column_by_name(&schema.time()?.name)?;
    let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.is_valid(row).then(|| times.value(row))
}

fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, TuneError> {
    let rows = UInt64Array::from_iter_values(rows.iter().map(|&row| row as u64));
    Ok(take_record_batch(batch, &rows)?)
}

fn append(records: &mut Records, more: &Records) {
    (0..more.rows()).for_each(|row| records.push_row(more, row));
}

/// The first file, and how many more there are.
fn names(source: &ParquetSource) -> String {
    let files = source.files();
    let first = files
        .first()
        .map_or_else(String::new, |f| f.path().display().to_string());
    match files.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    }
}
