//! Parquet becomes training data: two streaming passes, memory bounded whatever the files' size.
//!
//! The first pass fits the encoder to the fit rows and digests all of them; the second encodes what is kept: all
//! reference and calibration rows (both bounded), and of the fit rows a uniform sample as large as memory allows. A
//! training sees fewer records than that sample holds, so nothing is lost by it. Before them a counting pass runs only
//! where rows are left out by label, left out as bad or ordered by time.

use super::parts::{CALIBRATION_SHARE, Part, PartAssigner, calibration_rows};
use super::report::TrainObserver;
use crate::bundle::{CALIBRATION_ROWS_MAX, DataFingerprint, Fingerprinter, Split};
use crate::encode::{EncodeError, Encoder, EncoderFitter, Records, TrainedMoments, far_moments};
use crate::records::{DataError, ParquetSource, ReadOptions, RowFault, SourceBatch};
use crate::rng::{ChaCha8Rng, Purpose, stream};
use crate::schema::{MomentTally, Schema};
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
    /// What is known of the record's own time, if any row has one.
    pub time: Option<TrainedMoments>,
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
        reason: crate::records::FaultReason,
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
    let fitted = reader.fit(&census)?;
    for warning in &fitted.warnings {
        observer.warning(warning);
    }
    observer.stage("encoding the training rows");
    reader.encode(&census, fitted)
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

/// What the first pass over the rows gives.
struct Fitted {
    encoder: Encoder,
    fingerprint: DataFingerprint,
    fit_rows: u64,
    time: Option<TrainedMoments>,
    warnings: Vec<String>,
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

    /// The encoder, the digest of all rows, the number of fit rows, and what is wrong with their values.
    fn fit(&self, census: &Census) -> Result<Fitted, DatasetError> {
        let encode = |source| DatasetError::Encode {
            files: self.files(),
            source,
        };
        let features = self.schema.features();
        let mut fitter =
            EncoderFitter::new(features, self.options.head_classes_max).map_err(encode)?;
        let mut fingerprinter = Fingerprinter::default();
        let mut fit_rows = 0;
        let mut times = MomentTally::default();
        self.each_part(census, |source, parts| {
            let batch = &source.canonical;
            fingerprinter.observe(batch);
            sound_rows(source)
                .filter_map(|row| self.time(batch, row))
                .for_each(|at| times.observe(at));
            // A bad row is no record of the training: its moments must not vouch for others.
            let sound = UInt64Array::from_iter_values(sound_rows(source).map(|row| row as u64));
            let moments = match source.faults.is_empty() {
                true => fitter.observe_moments(batch),
                false => fitter.observe_moments(&take_record_batch(batch, &sound)?),
            };
            moments.map_err(encode)?;
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
        let mut warnings = fitter.blinded();
        warnings.extend(self.far_times(&times));
        Ok(Fitted {
            encoder: fitter.finish().map_err(encode)?,
            fingerprint: fingerprinter.finish(),
            fit_rows,
            time: (times.rows() > 0).then(|| TrainedMoments::of(&times)),
            warnings: bounded(warnings),
        })
    }

    /// What is to be said of the record's own time, unless a feature that is read from the same place says it.
    fn far_times(&self, times: &MomentTally) -> Option<String> {
        let field = self.schema.time()?;
        let same = self.schema.features().any(|other| other.path == field.path);
        far_moments(&field.name, field.redact, times).filter(|_| !same)
    }

    fn encode(&self, census: &Census, fitted: Fitted) -> Result<Dataset, DatasetError> {
        let Fitted {
            encoder,
            fingerprint,
            fit_rows,
            time,
            warnings,
        } = fitted;
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
            let records = encoder.encode(&batch.canonical).map_err(encode)?;
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
            time,
            warnings,
        })
    }

    /// Calls `f` with every batch and the part of each of its rows, `None` for one left out.
    fn each_part(
        &self,
        census: &Census,
        mut f: impl FnMut(&SourceBatch, &[Option<Part>]) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let seed = self.options.seed;
        let mut assigner = match census.latest_from {
            Some(from) => PartAssigner::latest(census.rows, from, seed),
            None => PartAssigner::random(census.rows, seed),
        };
        for batch in self.batches() {
            let batch = batch?;
            let records = &batch.canonical;
            let mut parts = vec![None; records.num_rows()];
            for row in sound_rows(&batch) {
                if !self.is_excluded(records, row) {
                    parts[row] = Some(assigner.next(self.time(records, row)));
                }
            }
            f(&batch, &parts)?;
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
mod tests;
