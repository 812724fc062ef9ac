//! What is known of one column after its rows went by.
//!
//! In flow Arrow arrays of one type, out flow counts: rows, nulls, distinct values, how numbers are spread and
//! follow each other, how text writes them, the values of what may be a label, and whether each value goes with one
//! label only. Memory is bounded by constants, whatever the column holds.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use arrow::error::ArrowError;

use super::super::fit::{decimal_scale, is_text};
use super::super::moments::MomentTally;
use super::super::value::{MICROSECONDS_MAX, MICROSECONDS_MIN};
use super::super::variable_decimal::{is_variable_decimal, variable_decimals};
use super::distinct::{Distinct, hash};
use super::labels::LabelValues;
use super::names::label_name;
use super::numbers::Numbers;
use super::texts::Texts;
use super::times::Times;

/// Values of a column that are followed at most to see whether each goes with one label: a column with
/// more is no list of fraud scenarios, and by chance many rare values have one label each.
const LABELLED_VALUES_MAX: usize = 64;

/// Rows that the rarer label must have before a column can be said to give it away.
const LABEL_ROWS_MIN: u64 = 10;

/// Rows that a value must have on average: one that comes once goes with one label whatever it is.
const LABELLED_VALUE_ROWS_MIN: u64 = 5;

/// The hash that stands for null: null too may go with one label.
const NULL_HASH: u64 = 0;

/// Counts of one column.
#[derive(Default)]
pub(super) struct Profile {
    /// Rows seen.
    pub(super) rows: u64,
    /// Rows without a value.
    pub(super) nulls: u64,
    /// Distinct values.
    pub(super) distinct: Distinct,
    /// What is known of integers, floats and decimals.
    pub(super) numbers: Box<Numbers>,
    /// What is known of text.
    pub(super) texts: Option<Box<Texts>>,
    /// What is known of columns of moments, but for text.
    pub(super) moments: MomentTally,
    /// What integers are as moments, for a column whose name is that of a time or a date.
    pub(super) times: Option<Box<Times>>,
    /// The values, for a column whose name is that of a label.
    pub(super) label_values: Option<LabelValues>,
    /// For each column that may be the label, which label goes with which value; `None` when several do.
    links: Vec<Option<LabelLink>>,
}

/// A hash of every value of a batch, `None` of null.
pub(super) type Hashes = Vec<Option<u64>>;

impl Profile {
    /// Nothing seen yet of a column called `name`; `labels` columns may be the label.
    pub(super) fn new(labels: usize, name: &str) -> Self {
        Self {
            times: Times::of(name).map(Box::new),
            label_values: label_name(name).is_some().then(LabelValues::default),
            links: (0..labels).map(|_| Some(LabelLink::default())).collect(),
            ..Self::default()
        }
    }

    /// Rows with a value.
    pub(super) fn present(&self) -> u64 {
        self.rows - self.nulls
    }

    /// Distinct values, which an estimate may exceed.
    pub(super) fn distinct_values(&self) -> u64 {
        self.distinct.count().min(self.present())
    }

    /// Whether (nearly) every row has a value of its own.
    pub(super) fn is_unique(&self) -> bool {
        // Beyond the exact range the count is an estimate, so a few in a hundred may be missing.
        self.distinct.count() as f64 > 0.95 * self.rows as f64
    }

    /// Whether every value goes with one label of the column `label` (its place among those that may be one), although
    /// there is more than one label.
    pub(super) fn gives_away(&self, label: usize) -> bool {
        let link = self.links.get(label).and_then(Option::as_ref);
        link.is_some_and(LabelLink::is_whole)
    }

    /// Counts the rows of `column`, and which of the `labels` goes with which value: for each column that may be the
    /// label, the hashes of its values.
    pub(super) fn add(&mut self, column: &ArrayRef, labels: &[Hashes]) -> Result<(), ArrowError> {
        let hashes = self.hashes(column)?;
        self.rows += hashes.len() as u64;
        self.nulls += hashes.iter().filter(|hash| hash.is_none()).count() as u64;
        for (of_label, link) in labels.iter().zip(&mut self.links) {
            for (value, label) in hashes.iter().zip(of_label) {
                let Some(known) = link else { break };
                if let Some(label) = label
                    && !known.add(value.unwrap_or(NULL_HASH), *label)
                {
                    *link = None;
                }
            }
        }
        Ok(())
    }

    /// A hash of every value, and what the values look like noted on the way.
    fn hashes(&mut self, column: &ArrayRef) -> Result<Hashes, ArrowError> {
        let hashes = match column.data_type() {
            DataType::Dictionary(_, values) => return self.hashes(&cast(column, values)?),
            DataType::Boolean => {
                let values = column.as_boolean().iter();
                values
                    .map(|value| {
                        Some(self.other(&[value?.into()], || value.unwrap_or(false).to_string()))
                    })
                    .collect()
            }
            DataType::UInt64 => {
                let values = column.as_primitive::<UInt64Type>().iter();
                values
                    .map(|value| Some(self.integer(value?.into())))
                    .collect()
            }
            integer if integer.is_integer() => {
                let values = cast(column, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>().iter();
                values
                    .map(|value| Some(self.integer(value?.into())))
                    .collect()
            }
            DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0) | DataType::Decimal128(_, 0) => {
                let values = cast(column, &DataType::Decimal128(38, 0))?;
                let values = values.as_primitive::<Decimal128Type>().iter();
                values.map(|value| Some(self.integer(value?))).collect()
            }
            number if number.is_floating() || decimal_scale(number).is_some() => {
                let values = cast(column, &DataType::Float64)?;
                let values = values.as_primitive::<Float64Type>().iter();
                let finite = values.map(|value| value.filter(|value| value.is_finite()));
                finite.map(|value| Some(self.float(value?))).collect()
            }
            decimal if is_variable_decimal(decimal) => {
                let values = variable_decimals(column)?.into_iter();
                values.map(|value| Some(self.float(value??))).collect()
            }
            text if is_text(text) => {
                let values = cast(column, &DataType::Utf8)?;
                let values = values.as_string::<i32>().iter();
                values.map(|value| Some(self.text(value?))).collect()
            }
            other => {
                if !matches!(other, DataType::Null) {
                    self.note_moments(column)?;
                }
                let values = cast(column, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>().iter();
                values
                    .map(|value| Some(self.other(&value?.to_le_bytes(), String::new)))
                    .collect()
            }
        };
        Ok(hashes)
    }

    /// Notes the moments of a column of dates or timestamps.
    fn note_moments(&mut self, column: &ArrayRef) -> Result<(), ArrowError> {
        let moments = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let moments = moments.as_primitive::<TimestampMicrosecondType>().iter();
        let calendar = MICROSECONDS_MIN..=MICROSECONDS_MAX;
        moments
            .flatten()
            .filter(|micros| calendar.contains(micros))
            .for_each(|micros| self.moments.observe(micros));
        Ok(())
    }

    fn integer(&mut self, value: i128) -> u64 {
        self.numbers.add_integer(value);
        if let Some(times) = &mut self.times {
            times.add(value);
        }
        self.count(hash(&value.to_le_bytes()), value as f64, || {
            value.to_string()
        })
    }

    fn float(&mut self, value: f64) -> u64 {
        self.numbers.add(value);
        self.count(hash(&value.to_bits().to_le_bytes()), value, || {
            value.to_string()
        })
    }

    fn text(&mut self, text: &str) -> u64 {
        let number = self.texts.get_or_insert_default().add(text);
        self.count(hash(text.as_bytes()), number, || text.to_owned())
    }

    fn other(&mut self, bytes: &[u8], text: impl Fn() -> String) -> u64 {
        self.count(hash(bytes), f64::NAN, text)
    }

    /// Counts one value by its hash, as a number (NaN if it is none) and as text.
    fn count(&mut self, hash: u64, number: f64, text: impl Fn() -> String) -> u64 {
        self.distinct.add(hash, number);
        if let Some(values) = &mut self.label_values {
            values.add(text);
        }
        hash
    }
}

/// The hash of every value of a batch.
pub(super) fn hashes(column: &ArrayRef) -> Result<Hashes, ArrowError> {
    Profile::new(0, "").hashes(column)
}

/// Which label goes with each value of a column.
#[derive(Default)]
struct LabelLink {
    label_of: HashMap<u64, u64>,
    rows_of: HashMap<u64, u64>,
}

impl LabelLink {
    /// Notes a row; false when a value goes with two labels, or there are too many to follow.
    fn add(&mut self, value: u64, label: u64) -> bool {
        let one = *self.label_of.entry(value).or_insert(label) == label;
        *self.rows_of.entry(label).or_insert(0) += 1;
        one && self.label_of.len().max(self.rows_of.len()) <= LABELLED_VALUES_MAX
    }

    fn is_whole(&self) -> bool {
        let rows: u64 = self.rows_of.values().sum();
        let repeated = rows >= LABELLED_VALUE_ROWS_MIN * self.label_of.len() as u64;
        repeated
            && self.rows_of.len() > 1
            && self.rows_of.values().all(|&rows| rows >= LABEL_ROWS_MIN)
    }
}
