//! How far a record lies from the nearest of some fit rows: the oldest of the anomaly scores (Ramaswamy, Rastogi & Shim 2000),
//! and still the best one on small dense tables.
//!
//! Letters: M kept rows, N numbers of a row, C codes of a row. The squared distance is the sum of
//!
//! ```text
//! (x - y)^2     of every number: a quantity on one of its two scales, +-1/sqrt(2) of yes and no, the four of a time of day
//! 2             where categories differ, as of one-hot vectors; null is a category of its own
//! 1             besides, where another field is null in one and not in the other; a null lies at 0, a number's mean
//! ```
//!
//! There are two such distances, with all quantities in deviations and with all of them as normal quantiles: small dense groups
//! look apart on one scale only. Rows are kept column by column, so that neighbouring rows fill a vector. Redacted fields take no part: none of their values
//! is in a bundle. Invariant: a record's distance depends on the record and the kept rows alone.

use super::rule::NEAREST_ROWS_MAX;
use crate::encode::{FieldShape, Records};
use crate::model::inputs::{day_time_numbers, input_numbers};
use crate::model::ops::simd::{Loop, vectorised};
use std::f32::consts::FRAC_1_SQRT_2;

/// Kept rows that are compared at a time: their sums stay in registers or the first cache.
const BLOCK_ROWS: usize = 64;
/// The squared distance of two categories.
const CATEGORIES_APART: f32 = 2.0;
/// What is added to the squared distance of a null, which lies at 0, from what is none; of categories null is one.
const NULL_APART: f32 = 1.0;
/// The code of a null category: no category has it.
const NULL_CODE: u32 = u32::MAX;

/// What takes part of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    field: usize,
    shape: FieldShape,
    /// The field's first slots among a record's numbers and codes.
    number: usize,
    code: usize,
    /// Whether a column says where it is null: some fit row was.
    has_nulls: bool,
}

/// Which fields take part, and how a row becomes numbers and codes. The numbers of a row are the quantities in deviations, then
/// the same as quantiles, then what both distances read.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestLayout {
    parts: Vec<Part>,
    /// Quantities of many values.
    quantities: usize,
    numbers: usize,
    codes: usize,
}

/// The distances of a record to the nearest kept row, which may be another one on each scale.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NearestDistances {
    /// With quantities in deviations.
    pub deviation: f32,
    /// With quantities as normal quantiles.
    pub quantile: f32,
}

/// Kept fit rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestRows {
    layout: NearestLayout,
    rows: usize,
    /// `[N, M]` with M rounded up to whole blocks.
    numbers: Vec<f32>,
    /// `[C, M]` likewise.
    codes: Vec<u32>,
}

/// A record as the kept rows are.
struct Point {
    numbers: Vec<f32>,
    codes: Vec<u32>,
    /// Of nulls in fields of which no fit row was null.
    everywhere: f32,
}

impl NearestLayout {
    /// Of fields with these shapes; `nulls` says of each whether some fit row was null, `left_out` whether it takes no part.
    pub fn new(shapes: &[FieldShape], nulls: &[bool], left_out: &[bool]) -> Self {
        let (mut number, mut code) = (0, 0);
        let mut layout = Self {
            parts: Vec::new(),
            quantities: 0,
            numbers: 0,
            codes: 0,
        };
        for (field, &shape) in shapes.iter().enumerate() {
            if !left_out[field] {
                let is_category = matches!(shape, FieldShape::Categorical { .. });
                layout.parts.push(Part {
                    field,
                    shape,
                    number,
                    code,
                    has_nulls: nulls[field],
                });
                layout.numbers += input_numbers(shape) + usize::from(nulls[field] && !is_category);
                layout.codes += usize::from(is_category);
                layout.quantities += usize::from(shape == FieldShape::Numeric);
            }
            number += shape.numbers();
            code += shape.codes();
        }
        layout
    }

    /// Whether no field takes part.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// N and C.
    pub fn columns(&self) -> (usize, usize) {
        (self.numbers, self.codes)
    }

    fn point(&self, records: &Records, row: usize) -> Point {
        let mut point = Point {
            numbers: vec![0.0; 2 * self.quantities],
            codes: Vec::with_capacity(self.codes),
            everywhere: 0.0,
        };
        let mut quantity = 0;
        let (numbers, codes, present) = (
            records.numbers(row),
            records.codes(row),
            records.present(row),
        );
        for part in &self.parts {
            let is_present = present[part.field];
            let (number, code) = (part.number, part.code);
            match part.shape {
                FieldShape::Numeric => {
                    // Of a null both are 0.
                    point.numbers[quantity] = numbers[number];
                    point.numbers[self.quantities + quantity] = numbers[number + 1];
                    quantity += 1;
                }
                FieldShape::Categorical { .. } => {
                    let code = if is_present { codes[code] } else { NULL_CODE };
                    point.codes.push(code);
                    continue;
                }
                shape if !is_present => {
                    let zeros = std::iter::repeat_n(0.0, input_numbers(shape));
                    point.numbers.extend(zeros);
                }
                FieldShape::Binary => point.numbers.push(numbers[number]),
                FieldShape::Boolean => {
                    let sign = codes[code] as f32 * 2.0 - 1.0;
                    point.numbers.push(sign * FRAC_1_SQRT_2);
                }
                FieldShape::Timestamp => point
                    .numbers
                    .extend(day_time_numbers(numbers[number], codes[code + 1])),
            }
            match part.has_nulls {
                true => point.numbers.push(f32::from(is_present)),
                false if !is_present => point.everywhere += NULL_APART,
                false => {}
            }
        }
        point
    }
}

impl NearestRows {
    /// Keeps the rows `rows`, at least one, of fit rows.
    pub fn keep(layout: NearestLayout, fit: &Records, rows: &[usize]) -> Self {
        let padded = rows.len().next_multiple_of(BLOCK_ROWS);
        let mut kept = Self {
            numbers: vec![0.0; layout.numbers * padded],
            codes: vec![0; layout.codes * padded],
            rows: rows.len(),
            layout,
        };
        // What fills the last block is the last row again, which changes no minimum.
        for at in 0..padded {
            let point = kept.layout.point(fit, rows[at.min(rows.len() - 1)]);
            for (column, &x) in point.numbers.iter().enumerate() {
                kept.numbers[column * padded + at] = x;
            }
            for (column, &code) in point.codes.iter().enumerate() {
                kept.codes[column * padded + at] = code;
            }
        }
        kept
    }

    /// Of stored columns `[N, M]` and `[C, M]`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_columns(
        layout: NearestLayout,
        rows: usize,
        numbers: &[f32],
        codes: &[u32],
    ) -> Result<Self, String> {
        if layout.is_empty() || !(1..=NEAREST_ROWS_MAX).contains(&rows) {
            let fields = layout.parts.len();
            return Err(format!(
                "{rows} kept rows of {fields} fields, expected 1..={NEAREST_ROWS_MAX} of at least one"
            ));
        }
        if numbers.len() != layout.numbers * rows || codes.len() != layout.codes * rows {
            let (n, c) = layout.columns();
            return Err(format!(
                "{} numbers and {} codes of {rows} kept rows, expected {n} and {c} of each row and at least one",
                numbers.len(),
                codes.len()
            ));
        }
        if numbers.iter().any(|x| !x.is_finite()) {
            return Err("a kept row holds a number that is not finite".to_owned());
        }
        let padded = rows.next_multiple_of(BLOCK_ROWS);
        Ok(Self {
            numbers: repeat_last(numbers, rows, padded),
            codes: repeat_last(codes, rows, padded),
            rows,
            layout,
        })
    }

    /// M.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether nothing is kept; it never is.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns `[N, M]` and `[C, M]`.
    pub fn columns(&self) -> (Vec<f32>, Vec<u32>) {
        let padded = self.rows.next_multiple_of(BLOCK_ROWS);
        let numbers = self.numbers.chunks_exact(padded);
        let codes = self.codes.chunks_exact(padded);
        (
            numbers.flat_map(|c| c[..self.rows].to_vec()).collect(),
            codes.flat_map(|c| c[..self.rows].to_vec()).collect(),
        )
    }

    /// The distances of a record to the nearest kept row.
    pub fn distances(&self, records: &Records, row: usize) -> NearestDistances {
        let point = self.layout.point(records, row);
        let [deviation, quantile] = vectorised(Nearest {
            point: &point,
            quantities: self.layout.quantities,
            numbers: &self.numbers,
            codes: &self.codes,
            padded: self.rows.next_multiple_of(BLOCK_ROWS),
        });
        NearestDistances {
            deviation: (deviation + point.everywhere).sqrt(),
            quantile: (quantile + point.everywhere).sqrt(),
        }
    }
}

/// Columns of `rows` values, each continued by its last up to `padded`.
fn repeat_last<T: Copy>(columns: &[T], rows: usize, padded: usize) -> Vec<T> {
    let columns = columns.chunks_exact(rows);
    columns
        .flat_map(|column| (0..padded).map(|at| column[at.min(rows - 1)]))
        .collect()
}

/// The smallest squared distances of a point to the kept rows on either scale, without what it is from all of them.
struct Nearest<'a> {
    point: &'a Point,
    quantities: usize,
    numbers: &'a [f32],
    codes: &'a [u32],
    padded: usize,
}

impl Loop for Nearest<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run(self) -> [f32; 2] {
        let mut nearest = [[f32::INFINITY; BLOCK_ROWS]; 2];
        let quantities = self.quantities;
        let column = |of: usize| &self.numbers[of * self.padded..(of + 1) * self.padded];
        for start in (0..self.padded).step_by(BLOCK_ROWS) {
            let mut shared = [0f32; BLOCK_ROWS];
            for (of, &x) in self.point.numbers.iter().enumerate().skip(2 * quantities) {
                add_squares(&mut shared, x, &column(of)[start..]);
            }
            let codes = self.codes.chunks_exact(self.padded);
            for (&code, column) in self.point.codes.iter().zip(codes) {
                let (block, _) = column[start..].as_chunks::<BLOCK_ROWS>();
                for (sum, &other) in shared.iter_mut().zip(&block[0]) {
                    *sum += if code == other { 0.0 } else { CATEGORIES_APART };
                }
            }
            for (scale, nearest) in nearest.iter_mut().enumerate() {
                let mut sums = shared;
                for of in scale * quantities..(scale + 1) * quantities {
                    add_squares(&mut sums, self.point.numbers[of], &column(of)[start..]);
                }
                for (nearest, &sum) in nearest.iter_mut().zip(&sums) {
                    *nearest = if sum < *nearest { sum } else { *nearest };
                }
            }
        }
        nearest.map(|of_scale| of_scale.iter().copied().fold(f32::INFINITY, f32::min))
    }
}

/// Adds the squared differences of `x` from the first block of a column.
#[inline(always)]
fn add_squares(sums: &mut [f32; BLOCK_ROWS], x: f32, column: &[f32]) {
    let (block, _) = column.as_chunks::<BLOCK_ROWS>();
    for (sum, &y) in sums.iter_mut().zip(&block[0]) {
        *sum += (x - y) * (x - y);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPES: [FieldShape; 4] = [
        FieldShape::Numeric,
        FieldShape::Categorical {
            codes: 9,
            classes: 9,
        },
        FieldShape::Boolean,
        FieldShape::Numeric,
    ];

    /// Number, category, yes or no and number of a row; null where there is none.
    type Row = (Option<f32>, Option<u32>, Option<bool>, Option<f32>);

    fn records(rows: &[Row]) -> Records {
        let mut records = Records::absent(&SHAPES, rows.len());
        for (at, &(a, b, c, d)) in rows.iter().enumerate() {
            for (field, slot, number) in [(0, 0, a), (3, 2, d)] {
                if let Some(x) = number {
                    records.set_number(at, slot, x);
                    records.set_number(at, slot + 1, quantile(x));
                    records.set_present(at, field);
                }
            }
            for (field, slot, code) in [(1, 0, b), (2, 1, c.map(u32::from))] {
                if let Some(code) = code {
                    records.set_code(at, slot, code);
                    records.set_present(at, field);
                }
            }
        }
        records
    }

    /// Another scale.
    fn quantile(x: f32) -> f32 {
        x.powi(3) / 25.0
    }

    /// By the definition.
    fn apart(x: &Row, y: &Row, scale: impl Fn(f32) -> f32) -> f32 {
        let number = |x: Option<f32>, y: Option<f32>| {
            let null = f32::from(x.is_some() != y.is_some());
            null + (x.map_or(0.0, &scale) - y.map_or(0.0, &scale)).powi(2)
        };
        let yes = |x: Option<bool>| x.map(|x| if x { 0.5f32.sqrt() } else { -(0.5f32.sqrt()) });
        let category = if x.1 == y.1 { 0.0 } else { 2.0 };
        let sign = |x: Option<f32>, y: Option<f32>| {
            let null = f32::from(x.is_some() != y.is_some());
            null + (x.unwrap_or(0.0) - y.unwrap_or(0.0)).powi(2)
        };
        number(x.0, y.0) + sign(yes(x.2), yes(y.2)) + number(x.3, y.3) + category
    }

    fn rows(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Row>> {
        let row = (
            prop::option::weighted(0.9, -5.0..5.0f32),
            prop::option::weighted(0.9, 0..9u32),
            prop::option::weighted(0.9, any::<bool>()),
            prop::option::weighted(0.9, -5.0..5.0f32),
        );
        prop::collection::vec(row, count)
    }

    proptest! {
        #[test]
        fn the_nearest_row_is_that_of_the_definition(
            fit in rows(1..150), points in rows(1..4), stored: bool
        ) {
            let nulls = [0, 1, 2, 3].map(|f| {
                let is_null = |row: &Row| [row.0.is_none(), row.1.is_none(), row.2.is_none(), row.3.is_none()][f];
                fit.iter().any(is_null)
            });
            let layout = NearestLayout::new(&SHAPES, &nulls, &[false; 4]);
            let all: Vec<usize> = (0..fit.len()).collect();
            let mut kept = NearestRows::keep(layout.clone(), &records(&fit), &all);
            if stored {
                let (numbers, codes) = kept.columns();
                kept = NearestRows::from_columns(layout, fit.len(), &numbers, &codes).unwrap();
            }
            let found = records(&points);
            for (row, point) in points.iter().enumerate() {
                let least = |scale: fn(f32) -> f32| {
                    let all = fit.iter().map(|y| apart(point, y, scale));
                    all.fold(f32::INFINITY, f32::min).sqrt()
                };
                let expected = [least(|x| x), least(quantile)];
                let NearestDistances { deviation, quantile } = kept.distances(&found, row);
                for (distance, expected) in [deviation, quantile].into_iter().zip(expected) {
                    prop_assert!((distance - expected).abs() < 1e-3, "{} {}", distance, expected);
                }
            }
        }
    }

    #[test]
    fn a_redacted_field_is_not_kept_and_moves_nothing() {
        let fit = records(&[(Some(1.0), Some(2), Some(true), Some(4.0))]);
        let redacted = [false, true, true, true];
        let layout = NearestLayout::new(&SHAPES, &[false; 4], &redacted);
        assert_eq!(layout.columns(), (2, 0));
        let kept = NearestRows::keep(layout, &fit, &[0]);
        let other = records(&[(Some(1.0), Some(3), Some(false), Some(-4.0))]);
        assert_eq!(kept.distances(&other, 0), NearestDistances::default());
        assert!(NearestLayout::new(&SHAPES, &[false; 4], &[true; 4]).is_empty());
    }

    #[test]
    fn stored_rows_that_do_not_fit_are_refused() {
        let layout = || NearestLayout::new(&SHAPES, &[false; 4], &[false; 4]);
        for (rows, numbers, codes) in [
            (0, vec![], vec![]),
            (2, vec![0.0; 10], vec![1]),
            (1, vec![f32::NAN; 5], vec![1]),
        ] {
            assert!(NearestRows::from_columns(layout(), rows, &numbers, &codes).is_err());
        }
        // Of no field any number of rows has nothing to store: it must not be believed.
        let redacted = NearestLayout::new(&SHAPES, &[false; 4], &[true; 4]);
        assert!(NearestRows::from_columns(redacted, usize::MAX, &[], &[]).is_err());
        let categories = NearestLayout::new(&SHAPES[1..2], &[false], &[false]);
        let codes = vec![0; NEAREST_ROWS_MAX + 1];
        assert!(NearestRows::from_columns(categories, codes.len(), &[], &codes).is_err());
    }
}
