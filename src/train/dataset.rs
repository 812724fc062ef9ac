//! Parquet becomes training data: two streaming passes, memory bounded whatever the files' size.
//!
//! The first pass fits the encoder to the fit rows and digests all of them; the second encodes what is kept: all
//! reference and calibration rows (both bounded), and of the fit rows a uniform sample as large as memory allows. A
//! training sees fewer records than that sample holds, so nothing is lost by it. Before them a counting pass runs only
//! where rows are left out by label, left out as bad or ordered by time.

use super::fingerprint::{DataFingerprint, Fingerprinter};
use super::partition::{
    CALIBRATION_ROWS_MAX, CALIBRATION_SHARE, Part, Partition, Split, calibration_rows,
};
use super::report::TrainObserver;
use crate::features::{
    DataError, EncodeError, Encoder, EncoderFitter, ParquetSource, ReadOptions, Records, RowFault,
    SourceBatch,
};
use crate::rng::{ChaCha8Rng, Purpose, stream};
use crate::schema::Schema;
use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use rand::RngExt;

/// Memory for encoded fit rows at most: two million records of 29 numbers.
pub const DEFAULT_FIT_BYTES_MAX: usize = 256 << 20;
/// Fields whose numbers are warned of at most.
const WARNINGS_MAX: usize = 20;
/// Rows that training needs: a tenth of them watches it and a fifth ranks the scores. With fewer, no part says anything.
pub const TRAIN_ROWS_MIN: u64 = 50;
/// Times kept to find where the latest rows begin: the quantile's error is then about 0.05 %.
const TIME_SAMPLE_ROWS: usize = 1 << 20;

/// What to read and how to divide it.
#[derive(Debug, Clone, Copy)]
pub struct DatasetOptions {
    /// Rows labelled 1 are left out.
    pub exclude_labelled: bool,
    /// How the calibration part is chosen.
    pub split: Split,
    /// Values of a category with a class of their own.
    pub head_classes_max: usize,
    /// Memory for encoded fit rows at most, bytes.
    pub fit_bytes_max: usize,
    /// Share of all rows that may be bad and are then left out; 0: the first bad row is an error.
    pub bad_share_max: f64,
    /// The seed.
    pub seed: u64,
}

/// Encoded training data in three disjoint parts.
#[derive(Debug)]
pub struct Dataset {
    /// Fitted to the fit rows.
    pub encoder: Encoder,
    /// Fit rows, a uniform sample of them if there are too many for memory.
    pub fit: Records,
    /// Reference rows.
    pub reference: Records,
    /// Calibration rows.
    pub calibration: Records,
    /// All rows of the files.
    pub fingerprint: DataFingerprint,
    /// Rows left out because of their label.
    pub excluded_rows: u64,
    /// Rows left out because they are bad.
    pub bad_rows: BadRows,
    /// Rows of the fit part, kept or not.
    pub fit_rows: u64,
    /// Rows of the latest times beyond the calibration part's limit.
    pub unused_rows: u64,
    /// What makes the fit rows worse than they look, a sentence each; at most 21.
    pub warnings: Vec<String>,
}

/// Rows that are left out because they are bad.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BadRows {
    /// How many.
    pub count: u64,
    /// The first, with its file, its row and what is wrong with it.
    pub first: Option<String>,
}

/// Why training data cannot be made of the files.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file cannot be read or does not fit the schema.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A row is bad; training data must be clean, so that nothing is silently left out.
    #[error(
        "{file}: row {row}: {reason}: {detail} (training.skip_bad_rows lets training leave out a few bad rows)"
    )]
    BadRow {
        /// The file.
        file: String,
        /// The row in it, from 0.
        row: u64,
        /// Which of the closed list.
        reason: crate::features::FaultReason,
        /// What is wrong.
        detail: String,
    },
    /// More rows are bad than may be left out.
    #[error(
        "{files}: {bad} of {rows} rows are bad, over the share of {limit} that training.skip_bad_rows allows; the \
         first: {first}"
    )]
    TooManyBadRows {
        /// The files.
        files: String,
        /// Bad rows.
        bad: u64,
        /// All rows.
        rows: u64,
        /// The largest share.
        limit: f64,
        /// The first bad row.
        first: String,
    },
    /// Next to nothing is there to train on.
    #[error("{files}: {rows} rows to train on; training needs at least {needed}")]
    TooFewRows {
        /// The files.
        files: String,
        /// Rows that are not left out.
        rows: u64,
        /// The least, [`TRAIN_ROWS_MIN`].
        needed: u64,
    },
    /// The encoder cannot be fitted.
    #[error("{files}")]
    Encode {
        /// The files.
        files: String,
        /// Why.
        source: EncodeError,
    },
    /// The configuration asks for what the schema does not have.
    #[error("{option} needs a field with role \"{role}\" in the schema, found none")]
    NoRole {
        /// The option.
        option: &'static str,
        /// The role.
        role: &'static str,
    },
    /// Nothing is left to train on.
    #[error("{files}: no row is left to train on: {excluded} of {rows} rows are labelled 1")]
    NothingLeft {
        /// The files.
        files: String,
        /// Rows read.
        rows: u64,
        /// Rows left out.
        excluded: u64,
    },
    /// Arrow failed to select rows: a defect.
    #[error("cannot select rows of a batch")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Whether the schema has the roles that the options ask for.
///
/// # Errors
/// [`DatasetError::NoRole`].
pub fn check_roles(
    schema: &Schema,
    exclude_labelled: bool,
    split: Split,
) -> Result<(), DatasetError> {
    let need = |wanted, found: bool, option, role| match wanted && !found {
        true => Err(DatasetError::NoRole { option, role }),
        false => Ok(()),
    };
    let (label, time) = (schema.label().is_some(), schema.time().is_some());
    need(exclude_labelled, label, "--exclude-labelled", "label")?;
    let latest = split == Split::Latest;
    need(latest, time, "calibration.split = \"latest\"", "time")
}

/// Reads the source into training data.
///
/// # Errors
/// [`DatasetError`]: the first bad file, row, field or option.
pub fn read(
    source: &ParquetSource,
    schema: &Schema,
    options: &DatasetOptions,
    observer: &mut dyn TrainObserver,
) -> Result<Dataset, DatasetError> {
    let reader = Reader {
        source,
        schema,
        options,
    };
    check_roles(schema, options.exclude_labelled, options.split)?;
    observer.stage("counting rows");
    let census = reader.count()?;
    if census.rows == 0 {
        let excluded = census.excluded;
        return Err(DatasetError::NothingLeft {
            files: reader.files(),
            rows: source.rows(),
            excluded,
        });
    }
    if census.rows < TRAIN_ROWS_MIN {
        return Err(DatasetError::TooFewRows {
            files: reader.files(),
            rows: census.rows,
            needed: TRAIN_ROWS_MIN,
        });
    }
    observer.calibration_rows(calibration_rows(census.rows));
    observer.stage("fitting the encoder");
    let (encoder, fingerprint, fit_rows, warnings) = reader.fit(&census)?;
    for warning in &warnings {
        observer.warning(warning);
    }
    observer.stage("encoding the training rows");
    let mut data = reader.encode(&census, encoder, fingerprint, fit_rows)?;
    data.warnings = warnings;
    Ok(data)
}

/// The first warnings, and how many more there are.
fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(WARNINGS_MAX);
    if more > 0 {
        warnings.truncate(WARNINGS_MAX);
        warnings.push(format!("{more} more fields have such values"));
    }
    warnings
}

/// The canonical batches of a source, none of which has a bad row: what is learned from must be clean, so that nothing is
/// silently left out.
pub fn sound_batches<'a>(
    source: &'a ParquetSource,
    schema: &'a Schema,
) -> impl Iterator<Item = Result<SourceBatch, DatasetError>> + 'a {
    source.batches(schema, ReadOptions::default()).map(|batch| {
        let batch = batch?;
        match batch.faults.first() {
            None => Ok(batch),
            Some(fault) => Err(bad_row(source, &batch, fault)),
        }
    })
}

fn bad_row(source: &ParquetSource, batch: &SourceBatch, fault: &RowFault) -> DatasetError {
    DatasetError::BadRow {
        file: source.files()[batch.file].path().display().to_string(),
        row: batch.first_row + fault.row as u64,
        reason: fault.reason,
        detail: fault.detail.clone(),
    }
}

struct Reader<'a> {
    source: &'a ParquetSource,
    schema: &'a Schema,
    options: &'a DatasetOptions,
}

/// What must be known before the first row is assigned to a part.
struct Census {
    /// Rows that are not left out.
    rows: u64,
    excluded: u64,
    bad: BadRows,
    latest_from: Option<i64>,
}

impl Reader<'_> {
    fn files(&self) -> String {
        self.source.name()
    }

    fn count(&self) -> Result<Census, DatasetError> {
        let latest = self.options.split == Split::Latest;
        let skips = self.options.bad_share_max > 0.0;
        if !self.options.exclude_labelled && !latest && !skips {
            return Ok(Census {
                rows: self.source.rows(),
                excluded: 0,
                bad: BadRows::default(),
                latest_from: None,
            });
        }
        let (mut rows, mut excluded) = (0, 0);
        let mut bad = BadRows::default();
        let mut times = TimeSample::new(self.options.seed);
        for batch in self.batches() {
            let batch = batch?;
            self.note_bad(&mut bad, &batch);
            for row in sound_rows(&batch) {
                if self.is_excluded(&batch.canonical, row) {
                    excluded += 1;
                    continue;
                }
                rows += 1;
                if let Some(time) = self.time(&batch.canonical, row) {
                    times.observe(time);
                }
            }
        }
        self.check_bad(&bad)?;
        let share = CALIBRATION_SHARE.min(CALIBRATION_ROWS_MAX as f64 / rows.max(1) as f64);
        let latest_from = latest.then(|| times.quantile(1.0 - share));
        Ok(Census {
            rows,
            excluded,
            bad,
            latest_from,
        })
    }

    fn note_bad(&self, bad: &mut BadRows, batch: &SourceBatch) {
        bad.count += batch.faults.len() as u64;
        if let (None, Some(fault)) = (&bad.first, batch.faults.first()) {
            let file = self.source.files()[batch.file].path().display();
            let (row, reason) = (batch.first_row + fault.row as u64, fault.reason);
            bad.first = Some(format!(
                "{file}, row {row} (from 0): {reason}: {}",
                fault.detail
            ));
        }
    }

    /// Whether the bad rows are few enough to be left out.
    fn check_bad(&self, bad: &BadRows) -> Result<(), DatasetError> {
        let (rows, limit) = (self.source.rows(), self.options.bad_share_max);
        match &bad.first {
            Some(first) if bad.count as f64 > limit * rows as f64 => {
                Err(DatasetError::TooManyBadRows {
                    files: self.files(),
                    bad: bad.count,
                    rows,
                    limit,
                    first: first.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The encoder, the digest of all rows, the number of fit rows, and what is wrong with their numbers.
    fn fit(
        &self,
        census: &Census,
    ) -> Result<(Encoder, DataFingerprint, u64, Vec<String>), DatasetError> {
        let encode = |source| DatasetError::Encode {
            files: self.files(),
            source,
        };
        let features = self.schema.features();
        let mut fitter =
            EncoderFitter::new(features, self.options.head_classes_max).map_err(encode)?;
        let mut fingerprinter = Fingerprinter::default();
        let mut fit_rows = 0;
        self.each_part(census, |batch, parts| {
            fingerprinter.observe(batch);
            fitter.observe_moments(batch).map_err(encode)?;
            let rows = parts
                .iter()
                .zip(0u64..)
                .filter(|(part, _)| **part == Some(Part::Fit));
            let rows = UInt64Array::from_iter_values(rows.map(|(_, row)| row));
            fit_rows += rows.len() as u64;
            fitter
                .observe(&take_record_batch(batch, &rows)?)
                .map_err(encode)
        })?;
        let warnings = bounded(fitter.blinded());
        Ok((
            fitter.finish().map_err(encode)?,
            fingerprinter.finish(),
            fit_rows,
            warnings,
        ))
    }

    fn encode(
        &self,
        census: &Census,
        encoder: Encoder,
        fingerprint: DataFingerprint,
        fit_rows: u64,
    ) -> Result<Dataset, DatasetError> {
        let encode = |source| DatasetError::Encode {
            files: self.files(),
            source,
        };
        let none = Records::absent(&encoder.shapes(), 0);
        let kept = (self.options.fit_bytes_max / none.bytes_per_row().max(1)) as u64;
        let mut sample =
            SelectionSample::new(fit_rows, kept, self.options.seed, Purpose::FitSample);
        let (mut fit, mut reference, mut calibration) = (none.clone(), none.clone(), none);
        let mut unused_rows = 0;
        self.each_part(census, |batch, parts| {
            let records = encoder.encode(batch).map_err(encode)?;
            for (row, part) in parts.iter().enumerate() {
                match part {
                    Some(Part::Fit) if sample.take() => fit.push_row(&records, row),
                    Some(Part::Reference) => reference.push_row(&records, row),
                    Some(Part::Calibration) => calibration.push_row(&records, row),
                    Some(Part::Unused) => unused_rows += 1,
                    Some(Part::Fit) | None => {}
                }
            }
            Ok(())
        })?;
        let excluded_rows = census.excluded;
        let bad_rows = census.bad.clone();
        Ok(Dataset {
            encoder,
            fit,
            reference,
            calibration,
            fingerprint,
            excluded_rows,
            bad_rows,
            fit_rows,
            unused_rows,
            warnings: Vec::new(),
        })
    }

    /// Calls `f` with every canonical batch and the part of each of its rows, `None` for one left out.
    fn each_part(
        &self,
        census: &Census,
        mut f: impl FnMut(&RecordBatch, &[Option<Part>]) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let seed = self.options.seed;
        let mut partition = match census.latest_from {
            Some(from) => Partition::latest(census.rows, from, seed),
            None => Partition::random(census.rows, seed),
        };
        for batch in self.batches() {
            let batch = batch?;
            let records = &batch.canonical;
            let mut parts = vec![None; records.num_rows()];
            for row in sound_rows(&batch) {
                if !self.is_excluded(records, row) {
                    parts[row] = Some(partition.next(self.time(records, row)));
                }
            }
            f(records, &parts)?;
        }
        Ok(())
    }

    /// All batches; a bad row ends them, unless a few may be left out.
    fn batches(&self) -> impl Iterator<Item = Result<SourceBatch, DatasetError>> {
        let batches = self.source.batches(self.schema, ReadOptions::default());
        let skips = self.options.bad_share_max > 0.0;
        batches.map(move |batch| {
            let batch = batch?;
            match batch.faults.first() {
                Some(fault) if !skips => Err(bad_row(self.source, &batch, fault)),
                _ => Ok(batch),
            }
        })
    }

    fn is_excluded(&self, batch: &RecordBatch, row: usize) -> bool {
        let label = self
            .schema
            .label()
            .filter(|_| self.options.exclude_labelled);
        let column = label.and_then(|label| batch.column_by_name(&label.name));
        let labels = column.and_then(|column| column.as_boolean_opt());
        labels.is_some_and(|labels| labels.is_valid(row) && labels.value(row))
    }

    fn time(&self, batch: &RecordBatch, row: usize) -> Option<i64> {
        let time = self.schema.time()?;
        let column = batch.column_by_name(&time.name)?;
        let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        times.is_valid(row).then(|| times.value(row))
    }
}

/// The rows of a batch that have no fault, ascending.
fn sound_rows(batch: &SourceBatch) -> impl Iterator<Item = usize> {
    let mut faults = batch.faults.iter().peekable();
    let is_sound = move |row: &usize| faults.next_if(|fault| fault.row == *row).is_none();
    (0..batch.canonical.num_rows()).filter(is_sound)
}

/// Keeps exactly `keep` of `total` items, every subset equally likely (Knuth 1969, algorithm S).
#[derive(Debug, Clone)]
pub struct SelectionSample {
    rng: ChaCha8Rng,
    remaining: u64,
    keep: u64,
}

impl SelectionSample {
    /// Of `total` items that are to come, drawn from the stream of `purpose`.
    pub fn new(total: u64, keep: u64, seed: u64, purpose: Purpose) -> Self {
        let rng = stream(seed, purpose);
        Self {
            rng,
            remaining: total,
            keep: keep.min(total),
        }
    }

    /// Whether the next item is kept.
    pub fn take(&mut self) -> bool {
        if self.keep == self.remaining {
            return self.keep > 0;
        }
        let taken = self.rng.random_range(0..self.remaining) < self.keep;
        self.remaining -= 1;
        self.keep -= u64::from(taken);
        taken
    }
}

/// A uniform sample of times (Vitter 1985, algorithm R).
struct TimeSample {
    rng: ChaCha8Rng,
    seen: u64,
    times: Vec<i64>,
}

impl TimeSample {
    fn new(seed: u64) -> Self {
        Self {
            rng: stream(seed, Purpose::TimeSample),
            seen: 0,
            times: Vec::new(),
        }
    }

    fn observe(&mut self, time: i64) {
        self.seen += 1;
        if self.times.len() < TIME_SAMPLE_ROWS {
            self.times.push(time);
            return;
        }
        let at = self.rng.random_range(0..self.seen) as usize;
        if at < TIME_SAMPLE_ROWS {
            self.times[at] = time;
        }
    }

    fn quantile(mut self, share: f64) -> i64 {
        if self.times.is_empty() {
            return i64::MAX;
        }
        let rank = ((self.times.len() as f64 * share) as usize).min(self.times.len() - 1);
        *self.times.select_nth_unstable(rank).1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::train::Unobserved;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, TimestampMicrosecondArray};
    use parquet::arrow::ArrowWriter;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const ROWS: i64 = 1000;

    fn schema() -> Schema {
        let text = "[[field]]\nname = \"x\"\nkind = \"numeric\"\n\
                    [[field]]\nname = \"fraud\"\nkind = \"boolean\"\nrole = \"label\"\n\
                    [[field]]\nname = \"at\"\nkind = \"timestamp\"\nrole = \"time\"\n";
        Schema::parse(text, "test").unwrap()
    }

    /// Row i has x = i, time i and is a fraud if i is a multiple of 10; in row groups of 300.
    fn source(folder: &std::path::Path) -> ParquetSource {
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| i as f64)));
        let fraud: ArrayRef = Arc::new(BooleanArray::from_iter(
            (0..ROWS).map(|i| Some(i % 10 == 0)),
        ));
        let at = TimestampMicrosecondArray::from_iter_values(0..ROWS).with_timezone("UTC");
        let at: ArrayRef = Arc::new(at);
        let batch = RecordBatch::try_from_iter([("x", x), ("fraud", fraud), ("at", at)]).unwrap();
        let path = folder.join("rows.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let properties = parquet::file::properties::WriterProperties::builder()
            .set_max_row_group_row_count(Some(300))
            .build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        ParquetSource::open(&[path.display().to_string()]).unwrap()
    }

    fn dataset(options: DatasetOptions) -> Result<Dataset, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        read(&source(folder.path()), &schema(), &options, &mut Unobserved)
    }

    fn options() -> DatasetOptions {
        DatasetOptions {
            exclude_labelled: false,
            split: Split::Random,
            head_classes_max: 16,
            fit_bytes_max: DEFAULT_FIT_BYTES_MAX,
            bad_share_max: 0.0,
            seed: 5,
        }
    }

    /// The data of the same rows, of which every 50th has an `x` that is no number.
    fn with_bad_rows(bad_share_max: f64) -> Result<Dataset, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let x = |i: i64| {
            if i % 50 == 7 {
                "bad".to_owned()
            } else {
                i.to_string()
            }
        };
        let x: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(
            (0..ROWS).map(x),
        ));
        let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
        let path = folder.path().join("rows.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
        let text = "[[field]]\nname = \"x\"\nkind = \"numeric\"\nparse = true\n";
        let schema = Schema::parse(text, "test").unwrap();
        let options = DatasetOptions {
            bad_share_max,
            ..options()
        };
        read(&source, &schema, &options, &mut Unobserved)
    }

    #[test]
    fn a_few_bad_rows_are_left_out_and_counted_if_that_is_allowed() {
        let error = with_bad_rows(0.0).unwrap_err().to_string();
        assert!(error.contains("row 7: wrong_type"), "{error}");
        assert!(error.contains("training.skip_bad_rows"), "{error}");
        let error = with_bad_rows(0.019).unwrap_err().to_string();
        assert!(
            error.contains("20 of 1000 rows are bad, over the share of 0.019"),
            "{error}"
        );
        let data = with_bad_rows(0.02).unwrap();
        assert_eq!(data.bad_rows.count, 20);
        let first = data.bad_rows.first.as_deref().unwrap();
        assert!(
            first.contains("rows.parquet, row 7 (from 0): wrong_type"),
            "{first}"
        );
        let parts = [&data.fit, &data.reference, &data.calibration].map(|part| rows(&data, part));
        let kept: BTreeSet<i64> = parts.iter().flatten().copied().collect();
        assert_eq!(kept, (0..ROWS).filter(|i| i % 50 != 7).collect());
        assert_eq!(
            (data.calibration.rows(), data.fingerprint.rows),
            (196, 1000)
        );
    }

    #[test]
    fn too_few_rows_are_refused_before_the_encoder_with_the_least() {
        struct NoStage;
        impl TrainObserver for NoStage {
            fn progress(&mut self, _: &crate::train::Progress) {}
            fn calibration_rows(&mut self, rows: u64) {
                panic!("{rows} rows were said to be enough");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..49).map(f64::from)));
        let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
        let path = folder.path().join("few.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let source = ParquetSource::open(&[path.display().to_string()]).unwrap();
        let schema = Schema::parse("[[field]]\nname = 'x'\nkind = 'numeric'\n", "test").unwrap();
        let error = read(&source, &schema, &options(), &mut NoStage)
            .unwrap_err()
            .to_string();
        let told = "few.parquet: 49 rows to train on; training needs at least 50";
        assert!(error.ends_with(told), "{error}");
    }

    /// The rows of the file that a part holds, told by their value.
    fn rows(dataset: &Dataset, records: &Records) -> BTreeSet<i64> {
        let crate::features::ValueEncoder::Numeric(encoder) = &dataset.encoder.fields()[0].value
        else {
            panic!("x is a number")
        };
        (0..records.rows())
            .map(|row| encoder.decode(records.numbers(row)[0]).round() as i64)
            .collect()
    }

    #[test]
    fn fit_reference_and_calibration_rows_are_disjoint_and_nothing_is_lost() {
        let data = dataset(options()).unwrap();
        let parts = [&data.fit, &data.reference, &data.calibration].map(|part| rows(&data, part));
        assert_eq!(parts.each_ref().map(BTreeSet::len), [700, 100, 200]);
        let all: BTreeSet<i64> = parts.iter().flatten().copied().collect();
        assert_eq!(all, (0..ROWS).collect());
    }

    #[test]
    fn the_encoder_is_fitted_to_the_fit_rows_alone() {
        let data = dataset(options()).unwrap();
        let fit = rows(&data, &data.fit);
        let mean = fit.iter().sum::<i64>() as f64 / fit.len() as f64;
        let crate::features::ValueEncoder::Numeric(encoder) = &data.encoder.fields()[0].value
        else {
            panic!("x is a number")
        };
        assert!((encoder.mean - mean).abs() < 1e-9);
        assert_eq!(data.encoder.fields()[0].rows, 700);
    }

    #[test]
    fn labelled_rows_can_be_left_out_and_never_come_back() {
        let data = dataset(DatasetOptions {
            exclude_labelled: true,
            ..options()
        })
        .unwrap();
        assert_eq!(data.excluded_rows, 100);
        for part in [&data.fit, &data.reference, &data.calibration] {
            assert!(rows(&data, part).iter().all(|row| row % 10 != 0));
        }
        assert_eq!(data.fingerprint.rows, 1000);
    }

    #[test]
    fn the_latest_split_calibrates_on_the_latest_fifth() {
        let data = dataset(DatasetOptions {
            split: Split::Latest,
            ..options()
        })
        .unwrap();
        assert_eq!(rows(&data, &data.calibration), (800..ROWS).collect());
        assert!(rows(&data, &data.reference).iter().all(|&row| row < 800));
    }

    #[test]
    fn fit_rows_beyond_memory_are_sampled_uniformly() {
        // A record of one number takes 4 bytes and one for its presence.
        let data = dataset(DatasetOptions {
            fit_bytes_max: 500,
            ..options()
        })
        .unwrap();
        assert_eq!((data.fit.rows(), data.fit_rows), (100, 700));
        let kept = rows(&data, &data.fit);
        let late = kept.iter().filter(|&&row| row >= 500).count();
        assert!(
            (25..=75).contains(&late),
            "{late} of 100 from the later half"
        );
    }

    #[test]
    fn a_selection_sample_keeps_exactly_as_many_as_it_should() {
        for keep in [0, 1, 300, 999, 1000, 5000] {
            let mut sample = SelectionSample::new(1000, keep, 1, Purpose::Tests);
            let taken = (0..1000).filter(|_| sample.take()).count() as u64;
            assert_eq!(taken, keep.min(1000));
        }
    }

    #[test]
    fn a_time_quantile_is_found_in_a_bounded_sample() {
        let mut sample = TimeSample::new(0);
        (0..3_000_000).for_each(|time| sample.observe(time));
        assert_eq!(sample.times.len(), TIME_SAMPLE_ROWS);
        let from = sample.quantile(0.8);
        assert!((from - 2_400_000).abs() < 10_000, "{from}");
    }
}
