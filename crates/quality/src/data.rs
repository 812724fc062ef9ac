//! One file of the benchmark, whole in memory: its columns, labels, days, cards and times.
//!
//! In flows a Parquet file of at most a few hundred megabytes; out flow rows as record batches with the columns that a
//! model may see. Invariant: the label is never among them.

use crate::protocol::{
    Payments, Protocol, ROWS_MAX, Split, dte, given_split, half_split, handbook, sampled,
    time_split,
};
use crate::sets::SetSpec;
use anyhow::{Context, anyhow, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use chrono::NaiveDate;
use maskwatch_core::records::{DEFAULT_BATCH_ROWS, ParquetSource};
use std::path::Path;

const DAY_MICROS: i64 = 86_400_000_000;

/// A set in memory.
pub struct DataSet {
    /// What is known of it.
    pub spec: SetSpec,
    rows: RecordBatch,
    labels: Vec<bool>,
    /// Microseconds since 1970, if the set has a column of moments.
    times: Vec<i64>,
    cards: Vec<String>,
    /// What the set says of each row's part, if it does.
    parts: Vec<String>,
}

/// Cards and days of test rows.
pub struct Cards {
    /// Days since 1970.
    pub days: Vec<i64>,
    /// The card.
    pub cards: Vec<String>,
}

impl DataSet {
    /// Reads the file of a set in the folder `data`.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column that the set names.
    pub fn read(spec: SetSpec, data: &Path) -> anyhow::Result<Self> {
        let path = spec.path(data);
        let file = || path.display().to_string();
        let source = ParquetSource::open(&[file()])?;
        let batches: Result<Vec<_>, _> = source.raw_batches(DEFAULT_BATCH_ROWS).collect();
        let batches: Vec<RecordBatch> = batches?.into_iter().map(|batch| batch.records).collect();
        let schema = batches.first().with_context(file)?.schema();
        let rows = concat_batches(&schema, &batches)?;
        let columns = Columns {
            rows: &rows,
            spec: &spec,
        };
        let (labels, times) = columns.read().with_context(file)?;
        let texts = |name: &Option<String>| columns.texts(name.as_deref()).with_context(file);
        let (cards, parts) = (texts(&spec.card)?, texts(&spec.split)?);
        Ok(Self {
            labels,
            times,
            cards,
            parts,
            rows,
            spec,
        })
    }

    /// Divides it.
    ///
    /// # Errors
    /// If a part would be empty, or the test rows of one class.
    pub fn split(&self, protocol: Protocol, seed: u64) -> anyhow::Result<Split> {
        let kept = sampled(self.labels.len(), self.spec.rows_max, seed);
        let at = |row: &u32| *row as usize;
        let labels: Vec<bool> = kept.iter().map(|row| self.labels[at(row)]).collect();
        let times = || -> Vec<i64> { kept.iter().map(|row| self.times[at(row)]).collect() };
        let of_cards = |clean| {
            let days: Vec<i64> = times().iter().map(|time| day(*time)).collect();
            let cards: Vec<String> = kept.iter().map(|row| self.cards[at(row)].clone()).collect();
            let payments = Payments {
                days: &days,
                cards: &cards,
                labels: &labels,
            };
            handbook(payments, handbook_first_day(), clean)
        };
        let split = match protocol {
            Protocol::HalfSplit => half_split(&labels, seed),
            Protocol::Dte => dte(&labels, ROWS_MAX, seed),
            Protocol::GivenSplit => {
                let parts: Vec<&str> = kept.iter().map(|row| &*self.parts[at(row)]).collect();
                given_split(&parts, &labels)?
            }
            Protocol::Handbook => of_cards(false),
            Protocol::HandbookClean => of_cards(true),
            Protocol::TimeSplit => time_split(&times(), &labels, false),
            Protocol::TimeSplitClean => time_split(&times(), &labels, true),
        };
        let in_file = |rows: Vec<u32>| rows.into_iter().map(|row| kept[row as usize]).collect();
        let split = Split {
            train: in_file(split.train),
            test: in_file(split.test),
        };
        let positives = split.test.iter().filter(|row| self.labels[at(row)]).count();
        if split.train.is_empty() || positives == 0 || positives == split.test.len() {
            let (train, test) = (split.train.len(), split.test.len());
            bail!("{train} training rows, {test} test rows with {positives} anomalies: too few");
        }
        Ok(split)
    }

    /// The labels of some rows.
    pub fn labels(&self, rows: &[u32]) -> Vec<bool> {
        rows.iter().map(|&row| self.labels[row as usize]).collect()
    }

    /// Cards and days of some rows, if the set has them.
    pub fn cards(&self, rows: &[u32]) -> Option<Cards> {
        let of = |row: &u32| *row as usize;
        self.spec.card.as_ref().map(|_| Cards {
            days: rows.iter().map(|row| day(self.times[of(row)])).collect(),
            cards: rows.iter().map(|row| self.cards[of(row)].clone()).collect(),
        })
    }

    /// The features of some rows.
    ///
    /// # Errors
    /// If no column is one.
    pub fn features(&self, rows: &[u32]) -> anyhow::Result<RecordBatch> {
        let schema = self.rows.schema();
        let fields = schema.fields().iter().enumerate();
        let seen = fields.filter(|(_, field)| self.spec.is_feature(field.name()));
        let seen: Vec<usize> = seen.map(|(index, _)| index).collect();
        if seen.is_empty() {
            bail!("{}: no column is a feature", self.spec.name);
        }
        let rows = UInt32Array::from(rows.to_vec());
        Ok(take_record_batch(&self.rows.project(&seen)?, &rows)?)
    }
}

/// The day of a moment.
fn day(micros: i64) -> i64 {
    micros.div_euclid(DAY_MICROS)
}

/// The Handbook trains from 11 July 2018 on.
fn handbook_first_day() -> i64 {
    let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
    (day(2018, 7, 11) - day(1970, 1, 1)).num_days()
}

/// The columns of a file that are no features.
struct Columns<'a> {
    rows: &'a RecordBatch,
    spec: &'a SetSpec,
}

impl Columns<'_> {
    fn read(&self) -> anyhow::Result<(Vec<bool>, Vec<i64>)> {
        let named = self.spec.features.iter().chain(&self.spec.drop);
        for name in named {
            self.column(name)?;
        }
        let labels = self.cast(&self.spec.label, &DataType::Float64)?;
        let labels = labels.as_primitive::<Float64Type>().values();
        if let Some(row) = labels
            .iter()
            .position(|&label| label != 0.0 && label != 1.0)
        {
            bail!(
                "column `{}`, row {row}: {}, expected 0 or 1",
                self.spec.label,
                labels[row]
            );
        }
        let labels = labels.iter().map(|&label| label == 1.0).collect();
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let times = match &self.spec.time {
            Some(name) => {
                let moments = self.cast(name, &micros)?;
                moments
                    .as_primitive::<TimestampMicrosecondType>()
                    .values()
                    .to_vec()
            }
            None => Vec::new(),
        };
        Ok((labels, times))
    }

    /// The texts of a column; none without a column.
    fn texts(&self, name: Option<&str>) -> anyhow::Result<Vec<String>> {
        let Some(name) = name else {
            return Ok(Vec::new());
        };
        let texts = self.cast(name, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter().flatten().map(str::to_owned);
        Ok(texts.collect())
    }

    fn column(&self, name: &str) -> anyhow::Result<&ArrayRef> {
        self.rows
            .column_by_name(name)
            .ok_or_else(|| anyhow!("there is no column `{name}`"))
    }

    /// A column as another type, without nulls.
    fn cast(&self, name: &str, to: &DataType) -> anyhow::Result<ArrayRef> {
        let column = cast(self.column(name)?, to).with_context(|| format!("column `{name}`"))?;
        if column.null_count() > 0 {
            bail!(
                "column `{name}`: {} nulls, expected none",
                column.null_count()
            );
        }
        Ok(column)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_handbook_begins_on_its_day() {
        // datetime.date(2018, 7, 11).toordinal() - datetime.date(1970, 1, 1).toordinal()
        assert_eq!(handbook_first_day(), 17_723);
        assert_eq!((day(-1), day(0), day(DAY_MICROS)), (-1, 0, 1));
    }
}
