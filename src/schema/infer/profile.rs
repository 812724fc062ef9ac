//! What is known of one column after its rows went by.
//!
//! In flow Arrow arrays of one type, out flow counts: rows, nulls, distinct values, what all text looks
//! like, the range of integers, and whether each value goes with one label only. Memory is bounded by
//! constants, whatever the column holds.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::super::fit::is_text;
use super::super::value::{moment_from_text, number_from_text};
use super::distinct::{Distinct, hash};

/// Values of a column that are followed at most to see whether each goes with one label: a column with
/// more is no list of fraud scenarios, and by chance many rare values have one label each.
const LABELLED_VALUES_MAX: usize = 64;

/// Rows that the rarer label must have before a column can be said to give it away.
const LABEL_ROWS_MIN: u64 = 10;

/// The hash that stands for null: null too may go with one label.
const NULL_HASH: u64 = 0;

/// Counts of one column.
pub(super) struct Profile {
    /// Rows seen.
    pub(super) rows: u64,
    /// Rows without a value.
    pub(super) nulls: u64,
    /// Distinct values.
    pub(super) distinct: Distinct,
    /// Smallest and largest integer.
    pub(super) integers: Option<(i128, i128)>,
    /// What the texts look like; all true before the first.
    pub(super) text: TextShape,
    labels: Option<LabelLink>,
}

/// What holds for every text of a column.
#[derive(Clone, Copy)]
pub(super) struct TextShape {
    /// Each is a number.
    pub(super) numbers: bool,
    /// Each is digits only, with a sign or none.
    pub(super) whole: bool,
    /// None starts with a zero before another digit, as codes do.
    pub(super) plain: bool,
    /// Each is a moment in RFC 3339.
    pub(super) moments: bool,
}

impl Profile {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            nulls: 0,
            distinct: Distinct::default(),
            integers: None,
            text: TextShape {
                numbers: true,
                whole: true,
                plain: true,
                moments: true,
            },
            labels: Some(LabelLink::default()),
        }
    }

    /// Rows with a value.
    pub(super) fn present(&self) -> u64 {
        self.rows - self.nulls
    }

    /// Whether every value goes with one label, although there is more than one label.
    pub(super) fn gives_label_away(&self) -> bool {
        self.labels.as_ref().is_some_and(LabelLink::is_whole)
    }

    /// Counts the rows of `column`, and which of the `labels` (hashes) goes with which value.
    pub(super) fn add(
        &mut self,
        column: &ArrayRef,
        labels: Option<&[Option<u64>]>,
    ) -> Result<(), ArrowError> {
        let hashes = self.hashes(column)?;
        self.rows += hashes.len() as u64;
        for hash in &hashes {
            match hash {
                Some(hash) => self.distinct.add(*hash),
                None => self.nulls += 1,
            }
        }
        for (value, label) in hashes.iter().zip(labels.unwrap_or_default()) {
            let Some(link) = &mut self.labels else { break };
            if let Some(label) = label
                && !link.add(value.unwrap_or(NULL_HASH), *label)
            {
                self.labels = None;
            }
        }
        Ok(())
    }

    /// A hash of every value, and what the values look like noted on the way.
    fn hashes(&mut self, column: &ArrayRef) -> Result<Vec<Option<u64>>, ArrowError> {
        let hashes = match column.data_type() {
            DataType::Dictionary(_, values) => return self.hashes(&cast(column, values)?),
            DataType::Boolean => column
                .as_boolean()
                .iter()
                .map(|value| Some(hash(&[value?.into()])))
                .collect(),
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
            float if float.is_floating() => {
                let values = cast(column, &DataType::Float64)?;
                let values = values.as_primitive::<Float64Type>().iter();
                let finite = values.map(|value| value.filter(|value| value.is_finite()));
                finite
                    .map(|value| Some(hash(&value?.to_bits().to_le_bytes())))
                    .collect()
            }
            text if is_text(text) => {
                let values = cast(column, &DataType::Utf8)?;
                let values = values.as_string::<i32>().iter();
                values.map(|value| Some(self.text(value?))).collect()
            }
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                let values = cast(column, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>().iter();
                values
                    .map(|value| Some(hash(&value?.to_le_bytes())))
                    .collect()
            }
            // Decimals: their text is as good as their value to tell them apart.
            _ => {
                let values = cast(column, &DataType::Utf8)?;
                let values = values.as_string::<i32>().iter();
                values.map(|value| Some(hash(value?.as_bytes()))).collect()
            }
        };
        Ok(hashes)
    }

    fn integer(&mut self, value: i128) -> u64 {
        let (least, most) = self.integers.unwrap_or((value, value));
        self.integers = Some((least.min(value), most.max(value)));
        hash(&value.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> u64 {
        let shape = &mut self.text;
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
        shape.numbers &= shape.numbers && number_from_text(text).is_some();
        shape.whole &= !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        shape.plain &= !(digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit());
        shape.moments &= shape.moments && moment_from_text(text).is_some();
        hash(text.as_bytes())
    }
}

/// The hash of every label of a batch.
pub(super) fn label_hashes(column: &ArrayRef) -> Result<Vec<Option<u64>>, ArrowError> {
    Profile::new().hashes(column)
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
        self.rows_of.len() > 1 && self.rows_of.values().all(|&rows| rows >= LABEL_ROWS_MIN)
    }
}
