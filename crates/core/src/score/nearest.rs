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
//! look apart on one scale only. Rows are kept in blocks, each column by column, so that neighbouring rows fill a vector. A block
//! stays in the first cache while all records of a tile pass it: read anew for every record, the rows would take longer to come
//! from memory than to be compared. Redacted fields take no part: none of their values is in a bundle. Invariant: a record's
//! distance depends on the record and the kept rows alone, not on the records beside it.

use super::rule::NEAREST_ROWS_MAX;
use crate::encode::{FieldShape, Records};
use crate::model::inputs::{day_time_numbers, input_numbers};
use crate::model::ops::simd::{Instructions, written_out};
use pulp::{Simd, WithSimd};
use std::f32::consts::FRAC_1_SQRT_2;
use std::ops::Range;

/// Kept rows of a block: of 29 numbers on two scales 15 KB.
const BLOCK_ROWS: usize = 64;
/// Vectors of kept rows whose sums are in registers at once, for each record of a group.
const VECTORS: usize = 4;
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

/// A column of a block, which begins at a cache line: a vector that straddles two costs two loads.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
struct Column<T>([T; BLOCK_ROWS]);

/// Kept fit rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestRows {
    layout: NearestLayout,
    rows: usize,
    /// `[blocks, N]`. What fills the last block is the last row again, which changes no minimum.
    numbers: Vec<Column<f32>>,
    /// `[blocks, C]` likewise.
    codes: Vec<Column<u32>>,
}

/// Records as the kept rows are.
#[derive(Debug, Default)]
struct Points {
    /// `[T, N]`.
    numbers: Vec<f32>,
    /// `[T, C]`.
    codes: Vec<u32>,
    /// `[T]`: of nulls in fields of which no fit row was null.
    everywhere: Vec<f32>,
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

    /// The given records as points.
    fn points(&self, records: &Records, rows: impl Iterator<Item = usize>) -> Points {
        let mut points = Points::default();
        rows.for_each(|row| self.push(records, row, &mut points));
        points
    }

    fn push(&self, records: &Records, row: usize, points: &mut Points) {
        // Those on the second scale stand behind all on the first.
        let mut quantity = points.numbers.len();
        points.numbers.resize(quantity + 2 * self.quantities, 0.0);
        let mut everywhere = 0.0;
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
                    points.numbers[quantity] = numbers[number];
                    points.numbers[self.quantities + quantity] = numbers[number + 1];
                    quantity += 1;
                }
                FieldShape::Categorical { .. } => {
                    let code = if is_present { codes[code] } else { NULL_CODE };
                    points.codes.push(code);
                    continue;
                }
                shape if !is_present => {
                    let zeros = std::iter::repeat_n(0.0, input_numbers(shape));
                    points.numbers.extend(zeros);
                }
                FieldShape::Binary => points.numbers.push(numbers[number]),
                FieldShape::Boolean => {
                    let sign = codes[code] as f32 * 2.0 - 1.0;
                    points.numbers.push(sign * FRAC_1_SQRT_2);
                }
                FieldShape::Timestamp => points
                    .numbers
                    .extend(day_time_numbers(numbers[number], codes[code + 1])),
            }
            match part.has_nulls {
                true => points.numbers.push(f32::from(is_present)),
                false if !is_present => everywhere += NULL_APART,
                false => {}
            }
        }
        points.everywhere.push(everywhere);
    }
}

impl NearestRows {
    /// Keeps the rows `rows`, at least one, of fit rows.
    pub fn keep(layout: NearestLayout, fit: &Records, rows: &[usize]) -> Self {
        let points = layout.points(fit, rows.iter().copied());
        let (n, c) = layout.columns();
        Self {
            numbers: blocks(rows.len(), n, |row, column| {
                points.numbers[row * n + column]
            }),
            codes: blocks(rows.len(), c, |row, column| points.codes[row * c + column]),
            rows: rows.len(),
            layout,
        }
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
        let (n, c) = layout.columns();
        Ok(Self {
            numbers: blocks(rows, n, |row, column| numbers[column * rows + row]),
            codes: blocks(rows, c, |row, column| codes[column * rows + row]),
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
        let (n, c) = self.layout.columns();
        (
            unblocked(&self.numbers, n, self.rows),
            unblocked(&self.codes, c, self.rows),
        )
    }

    /// The distances of some records to the nearest kept row of each, `[T]`. Vectors of 8 numbers and of 16 give the same bits.
    pub fn distances(
        &self,
        instructions: Instructions,
        records: &Records,
        rows: Range<usize>,
    ) -> Vec<NearestDistances> {
        let points = self.layout.points(records, rows);
        let squared = instructions.run(Nearest {
            points: &points,
            kept: self,
        });
        let of = |(&everywhere, [deviation, quantile]): (&f32, [f32; 2])| NearestDistances {
            deviation: (deviation + everywhere).sqrt(),
            quantile: (quantile + everywhere).sqrt(),
        };
        points.everywhere.iter().zip(squared).map(of).collect()
    }
}

/// `columns` columns of `rows` rows, at least one, in blocks; `at` gives the value of a row in a column.
fn blocks<T: Copy>(rows: usize, columns: usize, at: impl Fn(usize, usize) -> T) -> Vec<Column<T>> {
    let starts = (0..rows).step_by(BLOCK_ROWS);
    let of = |start: usize| {
        let at = &at;
        (0..columns).map(move |column| {
            Column(std::array::from_fn(|row| {
                at((start + row).min(rows - 1), column)
            }))
        })
    };
    starts.flat_map(of).collect()
}

/// The columns one after the other, each of `rows` values.
fn unblocked<T: Copy>(blocks: &[Column<T>], columns: usize, rows: usize) -> Vec<T> {
    let of = |column: usize| {
        let blocks = blocks.iter().skip(column).step_by(columns);
        blocks.flat_map(|block| block.0).take(rows)
    };
    (0..columns).flat_map(of).collect()
}

/// The smallest squared distances of points to the kept rows on either scale, `[T]`, without what a point is from all of them.
struct Nearest<'a> {
    points: &'a Points,
    kept: &'a NearestRows,
}

/// A block of kept rows.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// `[N]`.
    numbers: &'a [Column<f32>],
    /// `[C]`.
    codes: &'a [Column<u32>],
}

impl WithSimd for Nearest<'_> {
    type Output = Vec<[f32; 2]>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<[f32; 2]> {
        let points = self.points.everywhere.len();
        let (n, c) = self.kept.layout.columns();
        let mut least = vec![[simd.splat_f32s(f32::INFINITY); 2]; points];
        for block in 0..self.kept.rows.div_ceil(BLOCK_ROWS) {
            let block = Block {
                numbers: &self.kept.numbers[block * n..(block + 1) * n],
                codes: &self.kept.codes[block * c..(block + 1) * c],
            };
            let mut first = 0;
            while first < points {
                first += match points - first {
                    4.. if has_room_for_four::<S>() => {
                        self.group::<S, 4>(simd, block, first, &mut least)
                    }
                    2.. => self.group::<S, 2>(simd, block, first, &mut least),
                    _ => self.group::<S, 1>(simd, block, first, &mut least),
                };
            }
        }
        let smallest = |of_scale: S::f32s| simd.reduce_min_f32s(of_scale);
        least.into_iter().map(|of| of.map(smallest)).collect()
    }
}

/// Whether the sums of four points fit into registers. In tests 16 numbers are enough, so that groups of four run on processors
/// without 32 registers.
#[inline(always)]
fn has_room_for_four<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 || (cfg!(test) && S::F32_LANES == 16)
}

impl Nearest<'_> {
    /// M points from `first` on beside a block: the sums of all of them and some vectors of rows stay in registers. Returns M.
    #[inline(always)]
    fn group<S: Simd, const M: usize>(
        &self,
        simd: S,
        block: Block<'_>,
        first: usize,
        least: &mut [[S::f32s; 2]],
    ) -> usize {
        let (n, c) = self.kept.layout.columns();
        let quantities = self.kept.layout.quantities;
        let x: [&[f32]; M] = std::array::from_fn(|m| &self.points.numbers[(first + m) * n..][..n]);
        let codes: [&[u32]; M] =
            std::array::from_fn(|m| &self.points.codes[(first + m) * c..][..c]);
        for at in (0..BLOCK_ROWS / S::F32_LANES).step_by(VECTORS) {
            let mut shared = [[simd.splat_f32s(0.0); VECTORS]; M];
            add_squares(simd, &mut shared, x, (block.numbers, at), 2 * quantities..n);
            add_categories(simd, &mut shared, codes, (block.codes, at));
            for scale in 0..2 {
                let mut sums = shared;
                let columns = scale * quantities..(scale + 1) * quantities;
                add_squares(simd, &mut sums, x, (block.numbers, at), columns);
                for (least, [a, b, c, d]) in least[first..first + M].iter_mut().zip(sums) {
                    let of_rows = simd.min_f32s(simd.min_f32s(a, b), simd.min_f32s(c, d));
                    least[scale] = simd.min_f32s(of_rows, least[scale]);
                }
            }
        }
        M
    }
}

/// Adds the squared differences of the numbers `columns` of M points from those of a block's rows, from vector `at` on.
#[inline(always)]
fn add_squares<S: Simd, const M: usize>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; M],
    x: [&[f32]; M],
    (block, at): (&[Column<f32>], usize),
    columns: Range<usize>,
) {
    for column in columns {
        let (rows, _) = S::as_simd_f32s(&block[column].0);
        let rows = &rows[at..at + VECTORS];
        written_out!(m < M, {
            let x = simd.splat_f32s(x[m][column]);
            written_out!(v < VECTORS, {
                let apart = simd.sub_f32s(x, rows[v]);
                sums[m][v] = simd.mul_add_e_f32s(apart, apart, sums[m][v]);
            });
        });
    }
}

/// Adds what categories cost that differ.
#[inline(always)]
fn add_categories<S: Simd, const M: usize>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; M],
    codes: [&[u32]; M],
    (block, at): (&[Column<u32>], usize),
) {
    let (equal, apart) = (simd.splat_f32s(0.0), simd.splat_f32s(CATEGORIES_APART));
    for (column, rows) in block.iter().enumerate() {
        let (rows, _) = S::as_simd_u32s(&rows.0);
        let rows = &rows[at..at + VECTORS];
        written_out!(m < M, {
            let code = simd.splat_u32s(codes[m][column]);
            written_out!(v < VECTORS, {
                let is_equal = simd.equal_u32s(code, rows[v]);
                let costs = simd.select_f32s(is_equal, equal, apart);
                sums[m][v] = simd.add_f32s(sums[m][v], costs);
            });
        });
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
            fit in rows(1..150), points in rows(1..12), stored: bool
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
            let mut of_wide: Option<Vec<NearestDistances>> = None;
            for set in Instructions::available() {
                let distances = kept.distances(set, &found, 0..points.len());
                // A record beside others is as far away as alone, and vectors of another width give the same bits.
                let alone = (0..points.len()).flat_map(|at| kept.distances(set, &found, at..at + 1));
                prop_assert!(distances == alone.collect::<Vec<_>>());
                if set.lanes() >= 8 {
                    prop_assert!(of_wide.get_or_insert_with(|| distances.clone()) == &distances);
                }
                check(&distances, &points, &fit)?;
            }
        }
    }

    /// The distances of points are those of the definition.
    fn check(
        distances: &[NearestDistances],
        points: &[Row],
        fit: &[Row],
    ) -> Result<(), TestCaseError> {
        for (point, found) in points.iter().zip(distances) {
            let least = |scale: fn(f32) -> f32| {
                let all = fit.iter().map(|y| apart(point, y, scale));
                all.fold(f32::INFINITY, f32::min).sqrt()
            };
            let NearestDistances {
                deviation,
                quantile: by_rank,
            } = *found;
            let expected = [least(|x| x), least(quantile)];
            for (distance, expected) in [deviation, by_rank].into_iter().zip(expected) {
                prop_assert!(
                    (distance - expected).abs() < 1e-3,
                    "{} {}",
                    distance,
                    expected
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_redacted_field_is_not_kept_and_moves_nothing() {
        let fit = records(&[(Some(1.0), Some(2), Some(true), Some(4.0))]);
        let redacted = [false, true, true, true];
        let layout = NearestLayout::new(&SHAPES, &[false; 4], &redacted);
        assert_eq!(layout.columns(), (2, 0));
        let kept = NearestRows::keep(layout, &fit, &[0]);
        let other = records(&[(Some(1.0), Some(3), Some(false), Some(-4.0))]);
        assert_eq!(
            kept.distances(Instructions::widest(), &other, 0..1),
            [NearestDistances::default()]
        );
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
