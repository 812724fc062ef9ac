//! Encoded records: plain row-major matrices, cheap to gather, append and hand to the model.
//!
//! Letters: B rows, F feature fields, N number slots, C code slots. Field f owns the slots that its [`FieldShape`]
//! says, in field order. The invariant: an absent field has zeros in all its slots.

use serde::{Deserialize, Serialize};

/// What the model must know of an encoded field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FieldShape {
    /// Two number slots: the standardised value z and the normal quantile q, each within -10..=10.
    Numeric,
    /// One number slot, the standardised value, and one code slot: 0 neither of the two values that the fit rows
    /// had, 1 the smaller, 2 the larger.
    Binary,
    /// One code slot: 0 = unknown, 1..=codes the known values.
    Categorical {
        /// Known values.
        codes: u32,
        /// Classes of the head: the most frequent values, and `rare` if there are more.
        classes: u32,
    },
    /// One code slot: 0 false, 1 true.
    Boolean,
    /// One number slot, the hour of the day in 0..24 with its fraction, and two code slots: hour 0..24, weekday 0..7
    /// (Monday 0).
    Timestamp,
}

impl FieldShape {
    /// Number slots of the field.
    pub fn numbers(self) -> usize {
        match self {
            Self::Numeric => 2,
            Self::Binary | Self::Timestamp => 1,
            Self::Categorical { .. } | Self::Boolean => 0,
        }
    }

    /// Code slots of the field.
    pub fn codes(self) -> usize {
        match self {
            Self::Numeric => 0,
            Self::Binary | Self::Categorical { .. } | Self::Boolean => 1,
            Self::Timestamp => 2,
        }
    }
}

/// Hours of a day: the classes of a timestamp's first head.
pub const HOURS: usize = 24;
/// Days of a week: the classes of a timestamp's second head.
pub const WEEKDAYS: usize = 7;

/// B encoded records.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    rows: usize,
    widths: Widths,
    numbers: Vec<f32>,
    codes: Vec<u32>,
    present: Vec<bool>,
}

/// Columns of the three matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Widths {
    numbers: usize,
    codes: usize,
    fields: usize,
}

impl Records {
    /// `rows` records of the given shapes with every field absent.
    pub fn absent(shapes: &[FieldShape], rows: usize) -> Self {
        let widths = Widths {
            numbers: shapes.iter().map(|s| s.numbers()).sum(),
            codes: shapes.iter().map(|s| s.codes()).sum(),
            fields: shapes.len(),
        };
        Self {
            rows,
            widths,
            numbers: vec![0.0; rows * widths.numbers],
            codes: vec![0; rows * widths.codes],
            present: vec![false; rows * widths.fields],
        }
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// F.
    pub fn fields(&self) -> usize {
        self.widths.fields
    }

    /// Bytes that one record takes in memory.
    pub fn bytes_per_row(&self) -> usize {
        self.widths.numbers * 4 + self.widths.codes * 4 + self.widths.fields
    }

    /// The number slots of a record, `[N]`.
    pub fn numbers(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.widths.numbers..][..self.widths.numbers]
    }

    /// The code slots of a record, `[C]`.
    pub fn codes(&self, row: usize) -> &[u32] {
        &self.codes[row * self.widths.codes..][..self.widths.codes]
    }

    /// Whether each field of a record is present, `[F]`.
    pub fn present(&self, row: usize) -> &[bool] {
        &self.present[row * self.widths.fields..][..self.widths.fields]
    }

    /// Writes number slot `slot` of a record.
    pub fn set_number(&mut self, row: usize, slot: usize, value: f32) {
        self.numbers[row * self.widths.numbers + slot] = value;
    }

    /// Writes code slot `slot` of a record.
    pub fn set_code(&mut self, row: usize, slot: usize, code: u32) {
        self.codes[row * self.widths.codes + slot] = code;
    }

    /// Marks a field of a record as present.
    pub fn set_present(&mut self, row: usize, field: usize) {
        self.present[row * self.widths.fields + field] = true;
    }

    /// Appends a record of `other`, which must have the same shapes.
    pub fn push_row(&mut self, other: &Self, row: usize) {
        debug_assert_eq!(self.widths, other.widths);
        self.numbers.extend_from_slice(other.numbers(row));
        self.codes.extend_from_slice(other.codes(row));
        self.present.extend_from_slice(other.present(row));
        self.rows += 1;
    }

    /// Overwrites record `at` by a record of `other`, which must have the same shapes.
    pub fn replace_row(&mut self, at: usize, other: &Self, row: usize) {
        debug_assert_eq!(self.widths, other.widths);
        let Widths {
            numbers,
            codes,
            fields,
        } = self.widths;
        self.numbers[at * numbers..][..numbers].copy_from_slice(other.numbers(row));
        self.codes[at * codes..][..codes].copy_from_slice(other.codes(row));
        self.present[at * fields..][..fields].copy_from_slice(other.present(row));
    }

    /// No record, of the same shapes.
    pub fn empty_like(&self) -> Self {
        Self {
            rows: 0,
            widths: self.widths,
            numbers: Vec::new(),
            codes: Vec::new(),
            present: Vec::new(),
        }
    }

    /// The records at `rows`, in that order.
    pub fn select(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut selected = self.empty_like();
        for row in rows {
            selected.push_row(self, row);
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selected_rows_keep_their_values_and_order() {
        let shapes = [
            FieldShape::Numeric,
            FieldShape::Timestamp,
            FieldShape::Boolean,
        ];
        let mut records = Records::absent(&shapes, 3);
        for row in 0..3 {
            records.set_number(row, 1, row as f32);
            records.set_code(row, 2, row as u32);
        }
        records.set_present(1, 2);
        let selected = records.select([2, 1]);
        assert_eq!(selected.rows(), 2);
        assert_eq!(selected.numbers(0), [0.0, 2.0, 0.0]);
        assert_eq!(selected.codes(1), [0, 0, 1]);
        assert_eq!(selected.present(1), [false, false, true]);
    }
}
