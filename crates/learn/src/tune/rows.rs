//! The rows that tune a bundle: labelled ones that choose weights, and others that only rank scores.
//!
//! In flow Parquet files under the bundle's schema, out flow encoded records in bounded memory. Both sources are read
//! twice: once to count, once to keep. Invariant: no calibration row that counts is one of the labelled rows that count,
//! as far as rows can be told apart, for a p-value is a promise only about rows that nothing was chosen by.

use super::error::TuneError;
use super::identity::{Identities, KnownRows, RowPosition, holds};
use crate::bundle::{CALIBRATION_ROWS_MAX, DataFingerprint, Fingerprinter};
use crate::encode::{Encoder, Records, TrainedMoments};
use crate::records::{ParquetSource, SourceBatch};
use crate::rng::Purpose;
use crate::schema::{Role, Schema};
use crate::train::dataset::{DatasetError, SelectionSample, sound_batches};
use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

/// Frauds at least: with fewer, a single one decides what validates.
pub const FRAUDS_MIN: u64 = 10;
/// Normal rows at least: against fewer, any score ranks frauds well.
pub const NORMALS_MIN: u64 = 50;
/// Calibration rows at least, where some were left out as they are labelled rows.
pub const CALIBRATION_ROWS_MIN: u64 = 100;
/// Labelled rows kept at most. Some hundred weights gain nothing from more.
const LABELLED_ROWS_MAX: u64 = 100_000;
/// Numbers kept of labelled rows at most, rows by components and inputs of trees: 64 MiB, and some times that while folds
/// are tried.
pub const DEFAULT_LABELLED_VALUES_MAX: u64 = 1 << 24;
/// Components of a score at most, those of about a thousand numbers: a matrix of weights then takes 128 MiB.
pub const COMPONENTS_MAX: usize = 4_096;

/// Both sources under one schema with the label in it.
#[derive(Debug, Clone, Copy)]
pub struct TuneSources<'a> {
    /// What [`label_schema`] made.
    pub schema: &'a Schema,
    /// Labelled files.
    pub labelled: &'a ParquetSource,
    /// Calibration files; they may have labels too.
    pub calibration: &'a ParquetSource,
    /// Numbers kept of labelled rows at most: rows by components and inputs of trees.
    pub labelled_values_max: u64,
    /// The seed: which rows are kept where there are too many.
    pub seed: u64,
}

/// What the model was trained on: none of it may calibrate.
#[derive(Debug, Clone, Copy)]
pub struct Trained<'a> {
    /// The bundle's schema, under which its fingerprint was taken.
    pub schema: &'a Schema,
    /// All rows.
    pub data: &'a DataFingerprint,
    /// Where the records' own times lay, if that much is known: scoring refuses times far from them.
    pub time: Option<&'a TrainedMoments>,
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
    /// Rows left out, as they are among the labelled rows that are kept.
    pub shared: u64,
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

    /// Reads the labelled rows, of which each will have `components` of the score and `numbers` in all, for a model that was
    /// `trained`.
    ///
    /// # Errors
    /// [`TuneError`]: a bad row, too few rows of a class, or too many components.
    pub fn read_labelled(
        &self,
        encoder: &Encoder,
        (components, numbers): (usize, usize),
        trained: Trained<'_>,
    ) -> Result<LabelledRows, TuneError> {
        if components > COMPONENTS_MAX {
            return Err(TuneError::TooManyComponents {
                found: components,
                limit: COMPONENTS_MAX,
            });
        }
        let mut fingerprinter = Fingerprinter::default();
        let mut counts = LabelCounts::default();
        for batch in sound_batches(self.labelled, self.schema) {
            let batch = batch?;
            check_moments(encoder, self.schema, trained.time, self.labelled, &batch)?;
            let batch = batch.canonical;
            fingerprinter.observe(&batch);
            (0..batch.num_rows()).for_each(|row| match label(self.schema, &batch, row) {
                Some(true) => counts.frauds += 1,
                Some(false) => counts.normals += 1,
                None => counts.unlabelled += 1,
            });
        }
        self.check_classes(counts)?;
        let values_max = self.labelled_values_max / numbers.max(1) as u64;
        let rows_max = LABELLED_ROWS_MAX.min(values_max);
        let rows_max = rows_max.max(FRAUDS_MIN + NORMALS_MIN);
        let frauds = counts.frauds.min(rows_max / 2);
        let mut keep_fraud =
            SelectionSample::new(counts.frauds, frauds, self.seed, Purpose::TuningFrauds);
        let mut keep_normal = SelectionSample::new(
            counts.normals,
            rows_max - frauds,
            self.seed,
            Purpose::TuningNormals,
        );
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
    /// [`TuneError`]: a bad row, rows that trained the model (`trained`), or too few that are left.
    pub fn read_calibration(
        &self,
        encoder: &Encoder,
        labelled: &LabelledRows,
        trained: Trained<'_>,
    ) -> Result<CalibrationRows, TuneError> {
        let known = labelled.identities.known_rows();
        let mut fingerprinter = Fingerprinter::default();
        let (mut rows, mut excluded, mut shared) = (0, 0, 0);
        let mut first = None;
        for batch in sound_batches(self.calibration, self.schema) {
            let batch = batch?;
            fingerprinter.observe(&batch.canonical);
            let columns = known.columns(&batch.canonical);
            for row in 0..batch.canonical.num_rows() {
                if label(self.schema, &batch.canonical, row) == Some(true) {
                    excluded += 1;
                    continue;
                }
                match known.find(&columns, row) {
                    None => rows += 1,
                    Some(position) => {
                        shared += 1;
                        let own = RowPosition::new(&batch, row);
                        first.get_or_insert((own, position));
                    }
                }
            }
        }
        let fingerprint = fingerprinter.finish();
        let files = || names(self.calibration);
        if self.calibration_is(&fingerprint, trained)? {
            let DataFingerprint { rows, sha256 } = trained.data.clone();
            let files = files();
            return Err(TuneError::Trained {
                files,
                rows,
                sha256,
            });
        }
        if let Some(positions) = first.filter(|_| rows < CALIBRATION_ROWS_MIN) {
            return Err(self.shared(positions, (shared, rows), known.identified_by));
        }
        if rows == 0 {
            return Err(TuneError::NothingLeft {
                files: files(),
                rows: excluded,
                excluded,
            });
        }
        Ok(CalibrationRows {
            records: self.encode_calibration(encoder, rows, (&known, trained.time))?,
            excluded,
            shared,
            has_labels: self.calibration_has_labels(),
            fingerprint,
        })
    }

    /// Whether the calibration files, whose fingerprint under the schema with the label is `found`, are what the model was
    /// trained on. Fingerprints are of all columns that are read, so that under another schema one more pass is needed,
    /// which as many rows as were trained on are worth.
    fn calibration_is(
        &self,
        found: &DataFingerprint,
        trained: Trained<'_>,
    ) -> Result<bool, TuneError> {
        if self.schema == trained.schema || found.rows != trained.data.rows {
            return Ok(found == trained.data);
        }
        let mut fingerprinter = Fingerprinter::default();
        for batch in sound_batches(self.calibration, trained.schema) {
            fingerprinter.observe(&batch?.canonical);
        }
        Ok(fingerprinter.finish() == *trained.data)
    }

    fn encode_calibration(
        &self,
        encoder: &Encoder,
        rows: u64,
        (known, time): (&KnownRows<'_>, Option<&TrainedMoments>),
    ) -> Result<Records, TuneError> {
        let mut sample = SelectionSample::new(
            rows,
            CALIBRATION_ROWS_MAX,
            self.seed,
            Purpose::TuningCalibration,
        );
        let mut records = Records::absent(&encoder.shapes(), 0);
        for batch in sound_batches(self.calibration, self.schema) {
            let batch = batch?;
            check_moments(encoder, self.schema, time, self.calibration, &batch)?;
            let batch = batch.canonical;
            let columns = known.columns(&batch);
            let counts = |row| {
                label(self.schema, &batch, row) != Some(true) && known.find(&columns, row).is_none()
            };
            let keeps = |&row: &usize| counts(row) && sample.take();
            let kept: Vec<usize> = (0..batch.num_rows()).filter(keeps).collect();
            append(&mut records, &encoder.encode(&taken(&batch, &kept)?)?);
        }
        Ok(records)
    }

    fn shared(
        &self,
        (own, labelled): (RowPosition, RowPosition),
        (shared, left): (u64, u64),
        identified_by: &'static str,
    ) -> TuneError {
        let file = |source: &ParquetSource, position: RowPosition| {
            source.files()[position.file].path().display().to_string()
        };
        TuneError::Shared {
            file: file(self.calibration, own),
            row: own.row,
            labelled_file: file(self.labelled, labelled),
            labelled_row: labelled.row,
            shared,
            left,
            needed: CALIBRATION_ROWS_MIN,
            identified_by,
        }
    }
}

/// What is learned from must be clean: a moment that scoring would refuse is an error here.
///
/// # Errors
/// [`DatasetError::BadRow`] with its place.
pub fn check_moments(
    encoder: &Encoder,
    schema: &Schema,
    time: Option<&TrainedMoments>,
    source: &ParquetSource,
    batch: &SourceBatch,
) -> Result<(), DatasetError> {
    let faults = encoder.moment_faults(&batch.canonical, schema, time);
    match faults.into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(DatasetError::BadRow {
            file: source.files()[batch.file].path().display().to_string(),
            row: batch.first_row + fault.row as u64,
            reason: fault.reason,
            detail: fault.detail,
        }),
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
pub fn lacking(source: &ParquetSource, schema: &Schema) -> Option<String> {
    // A file without rows lacks nothing.
    let mut files = source.files().iter().filter(|file| file.rows() > 0);
    let file = files.find(|file| !holds(schema, Role::Label, file.schema()))?;
    Some(file.path().display().to_string())
}

/// The label of a row, if it has one.
pub fn label(schema: &Schema, batch: &RecordBatch, row: usize) -> Option<bool> {
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

/// Some rows of a batch.
///
/// # Errors
/// If Arrow fails.
pub fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, TuneError> {
    let rows = UInt64Array::from_iter_values(rows.iter().map(|&row| row as u64));
    Ok(take_record_batch(batch, &rows)?)
}

/// Adds all rows of `more`.
pub fn append(records: &mut Records, more: &Records) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::encode::EncoderFitter;
    use crate::schema::MomentTally;
    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray,
    };
    use parquet::arrow::ArrowWriter;
    use std::path::Path;
    use std::sync::Arc;

    fn schema() -> Schema {
        let text = "[[field]]\nname = \"x\"\nkind = \"numeric\"\n\
                    [[field]]\nname = \"fraud\"\nkind = \"boolean\"\nrole = \"label\"\n\
                    [[field]]\nname = \"id\"\nkind = \"categorical\"\nrole = \"key\"\n\
                    [[field]]\nname = \"at\"\nkind = \"timestamp\"\nrole = \"time\"\n";
        Schema::parse(text, "test").unwrap()
    }

    /// Rows with a label, a value, a key and a time each.
    fn batch(rows: &[(Option<bool>, f64, &str, i64)]) -> RecordBatch {
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.1)));
        let fraud: ArrayRef = Arc::new(BooleanArray::from_iter(rows.iter().map(|r| r.0)));
        let id: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.2)));
        let at = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.3));
        let at: ArrayRef = Arc::new(at.with_timezone("UTC"));
        RecordBatch::try_from_iter([("x", x), ("fraud", fraud), ("id", id), ("at", at)]).unwrap()
    }

    /// A thousand rows of which every tenth is a fraud; each has its value, key and time to itself, but row 1 no label.
    fn thousand() -> RecordBatch {
        let keys: Vec<String> = (0..1_000).map(|i| format!("k{i}")).collect();
        let row = |i: usize| {
            let label = (i != 1).then_some(i.is_multiple_of(10));
            (label, i as f64, keys[i].as_str(), i as i64)
        };
        batch(&(0..1_000).map(row).collect::<Vec<_>>())
    }

    fn source(folder: &Path, name: &str, batch: &RecordBatch) -> ParquetSource {
        let path = folder.join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        ParquetSource::open(&[path.display().to_string()]).unwrap()
    }

    fn encoder() -> Encoder {
        let schema = schema();
        let mut fitter = EncoderFitter::new(schema.features(), 8).unwrap();
        fitter.observe(&thousand()).unwrap();
        fitter.finish().unwrap()
    }

    /// Reads `labelled` with at most `values_max` numbers of one component, then `calibration`.
    fn read(
        labelled: &RecordBatch,
        calibration: &RecordBatch,
        values_max: u64,
    ) -> Result<(LabelledRows, CalibrationRows), TuneError> {
        read_as_trained(labelled, calibration, values_max, None)
    }

    /// The same for a model that was trained on records of these times.
    fn read_as_trained(
        labelled: &RecordBatch,
        calibration: &RecordBatch,
        values_max: u64,
        time: Option<&TrainedMoments>,
    ) -> Result<(LabelledRows, CalibrationRows), TuneError> {
        let folder = tempfile::tempdir().unwrap();
        let schema = schema();
        let sources = TuneSources {
            schema: &schema,
            labelled: &source(folder.path(), "labelled.parquet", labelled),
            calibration: &source(folder.path(), "calibration.parquet", calibration),
            labelled_values_max: values_max,
            seed: 3,
        };
        sources.check()?;
        let encoder = encoder();
        let data = DataFingerprint {
            rows: 0,
            sha256: String::new(),
        };
        let trained = Trained {
            schema: &schema,
            data: &data,
            time,
        };
        let labelled = sources.read_labelled(&encoder, (1, 1), trained)?;
        let calibration = sources.read_calibration(&encoder, &labelled, trained)?;
        Ok((labelled, calibration))
    }

    #[test]
    fn all_frauds_are_kept_as_far_as_half_of_the_memory_goes() {
        let other = batch(&[(None, -1.0, "other", -1)]);
        let kept = |values_max| read(&thousand(), &other, values_max).unwrap().0;
        let frauds = |rows: &LabelledRows| rows.labels.iter().filter(|&&y| y).count();
        for (values_max, rows, expected) in [(10_000, 999, 100), (300, 300, 100), (100, 100, 50)] {
            let labelled = kept(values_max);
            assert_eq!(
                labelled.counts,
                LabelCounts {
                    frauds: 100,
                    normals: 899,
                    unlabelled: 1
                }
            );
            assert_eq!(
                (labelled.records.rows(), frauds(&labelled)),
                (rows, expected)
            );
            assert_eq!((labelled.labels.len(), labelled.times.len()), (rows, rows));
            assert_eq!(labelled.fingerprint.rows, 1_000);
            // Labels and times stay with their rows.
            for (label, time) in labelled.labels.iter().zip(&labelled.times) {
                assert_eq!(*label, time.unwrap() % 10 == 0);
            }
        }
        assert_eq!(kept(300).times, kept(300).times);
    }

    fn refusal(labelled: &RecordBatch, calibration: &RecordBatch) -> Option<String> {
        match read(labelled, calibration, 10_000) {
            Ok(_) => None,
            Err(error @ TuneError::Shared { .. }) => Some(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_row_is_known_again_by_its_key_where_keys_tell_rows_apart() {
        // The same key with another value and time is the same record; the same value and time under another key is not.
        let message = refusal(
            &thousand(),
            &batch(&[(None, 0.5, "n", 0), (None, 0.5, "k7", 9)]),
        );
        let message = message.unwrap();
        let place = "calibration.parquet: row 1 is the labelled row 7 of";
        assert!(
            message.contains(place) && message.contains("identified by the key"),
            "{message}"
        );
        assert_eq!(refusal(&thousand(), &batch(&[(None, 7.0, "n", 7)])), None);
        // A row that is left out, here without a label there, is no labelled row; a known fraud is left out of calibration.
        assert_eq!(refusal(&thousand(), &batch(&[(None, 1.0, "k1", 1)])), None);
        let known = batch(&[(Some(true), 7.0, "k7", 7), (Some(false), 0.5, "n", 0)]);
        assert_eq!(refusal(&thousand(), &known), None);
    }

    #[test]
    fn labelled_rows_are_left_out_of_calibration_and_counted() {
        let keys: Vec<String> = (0..150).map(|i| format!("k{}", 5 * i + 700)).collect();
        let row = |(i, key): (usize, &String)| (None, 0.25, key.clone(), i as i64);
        let rows: Vec<_> = keys.iter().enumerate().map(row).collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(l, v, k, t)| (*l, *v, k.as_str(), *t))
            .collect();
        // Keys k700, k705, ..., k995 are those of sixty labelled rows.
        let (few, enough) = (batch(&rows[..150]), batch(&rows));
        let message = refusal(&thousand(), &few).unwrap();
        assert!(
            message.contains("60 calibration rows are labelled rows"),
            "{message}"
        );
        assert!(
            message.contains("90 rows are left, at least 100"),
            "{message}"
        );
        let more: Vec<_> = (0..10).map(|i| (None, 0.75, "new", i)).collect();
        let more = arrow::compute::concat_batches(&enough.schema(), [&enough, &batch(&more)]);
        let calibration = read(&thousand(), &more.unwrap(), 10_000).unwrap().1;
        assert_eq!((calibration.shared, calibration.records.rows()), (60, 100));
    }

    #[test]
    fn a_row_is_known_again_by_all_its_values_where_keys_repeat() {
        let row = |i: usize| (Some(i.is_multiple_of(10)), (i / 2) as f64, "card", i as i64);
        let labelled = batch(&(0..200).map(row).collect::<Vec<_>>());
        assert_eq!(
            refusal(&labelled, &batch(&[(None, 3.0, "card", 900)])),
            None
        );
        let message = refusal(&labelled, &batch(&[(None, 3.0, "card", 7)])).unwrap();
        assert!(message.contains("identified by all features"), "{message}");
    }

    #[test]
    fn known_frauds_are_left_out_of_calibration_and_something_must_be_left() {
        let rows = [
            (Some(true), 0.5, "a", 0),
            (Some(false), 1.5, "b", 0),
            (None, 2.5, "c", 0),
        ];
        let calibration = read(&thousand(), &batch(&rows), 10_000).unwrap().1;
        assert_eq!((calibration.records.rows(), calibration.excluded), (2, 1));
        assert!(calibration.has_labels);
        let error = read(&thousand(), &batch(&rows[..1]), 10_000)
            .unwrap_err()
            .to_string();
        assert!(error.contains("1 of 1 rows are labelled 1"), "{error}");
    }

    #[test]
    fn a_time_that_scoring_refuses_is_neither_learned_from_nor_calibrated_on() {
        let mut tally = MomentTally::default();
        (0..1_000).for_each(|micros| tally.observe(micros));
        let trained = TrainedMoments::of(&tally);
        let far = 30 * 366 * 86_400_000_000;
        let faults = |labelled: &RecordBatch, calibration: &RecordBatch| {
            let read = read_as_trained(labelled, calibration, 10_000, Some(&trained));
            read.err().map(|error| error.to_string())
        };
        let good = batch(&[(None, 0.5, "n", 9)]);
        assert_eq!(faults(&thousand(), &good), None);
        let odd = batch(&[(Some(false), 0.5, "n", 9), (Some(false), 0.5, "m", far)]);
        let labelled =
            arrow::compute::concat_batches(&thousand().schema(), [&thousand(), &odd]).unwrap();
        for (found, place) in [
            (faults(&labelled, &good), "labelled.parquet: row 1001"),
            (faults(&thousand(), &odd), "calibration.parquet: row 1:"),
        ] {
            let found = found.unwrap();
            assert!(found.contains(place), "{found}");
            assert!(found.contains("field `at`: expected a moment"), "{found}");
        }
    }

    #[test]
    fn a_model_with_too_many_components_is_refused_before_a_row_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let schema = schema();
        let source = source(folder.path(), "rows.parquet", &thousand());
        let sources = TuneSources {
            schema: &schema,
            labelled: &source,
            calibration: &source,
            labelled_values_max: DEFAULT_LABELLED_VALUES_MAX,
            seed: 0,
        };
        let trained = Trained {
            schema: &schema,
            data: &DataFingerprint {
                rows: 0,
                sha256: String::new(),
            },
            time: None,
        };
        let error = sources
            .read_labelled(&encoder(), (4_097, 4_097), trained)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("4097 components, tuning takes 4096"),
            "{error}"
        );
    }
}
