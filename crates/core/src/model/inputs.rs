//! Records and hidden fields become the tensors that the input layer reads.
//!
//! Letters: B rows, N' input numbers (numeric and binary 1: z; boolean 1: -1 or 1; timestamp 4: sine and cosine of hour and
//! weekday), F fields. A field is visible if it is neither hidden nor null; the values of others are zero here, so no
//! hidden or null value can leak into the model. In training the visible numbers of some rows carry noise, of which two more
//! inputs tell.

use super::mask::{NO_NOISE, NoiseInputs, noise_inputs};
use crate::encode::{FieldShape, HOURS, Records, WEEKDAYS};
use candle_core::{Device, Result, Tensor};
use std::f32::consts::TAU;

/// The input tensors of B rows, in the processor's memory: a model elsewhere moves what it reads.
#[derive(Debug)]
pub struct Inputs {
    /// `[B, N']` f32; zero where not visible.
    pub numbers: Tensor,
    /// `[B, N']` f32: 1 where the number's field is not visible.
    pub numbers_hidden: Tensor,
    /// One `[B]` u32 a categorical field, in field order; 0 where not visible.
    pub codes: Vec<Tensor>,
    /// One `[B, 1]` f32 a categorical field: whether it is visible.
    pub codes_visible: Vec<Tensor>,
    /// `[B, F]` f32: whether each field is visible.
    pub visible: Tensor,
    /// `[B, 2]` f32: the [`NoiseInputs`] of each row.
    pub noise: Tensor,
}

/// Assembles [`Inputs`] row by row.
#[derive(Debug)]
pub struct InputBuilder<'a> {
    shapes: &'a [FieldShape],
    rows: usize,
    numbers: Vec<f32>,
    numbers_hidden: Vec<f32>,
    codes: Vec<Vec<u32>>,
    visible: Vec<f32>,
    noise: Vec<f32>,
}

/// How much counts what speaks of numbers alone, 0..=1: by how far they outnumber the other fields, 2 s - 1 of their share s, and
/// nothing where they do not.
///
/// Where all fields are numbers noise and the nearest row find more on most tables. On card payments, of whose fields half are
/// numbers, they found less (`docs/notebook`): the distance of categories is only whether they differ.
pub fn weight_of_numbers(shapes: impl ExactSizeIterator<Item = FieldShape>) -> f32 {
    let fields = shapes.len().max(1);
    let numbers = shapes.filter(|&shape| takes_noise(shape)).count();
    (2.0 * numbers as f32 / fields as f32 - 1.0).max(0.0)
}

/// Whether noise can be added to a field's number: a time of day is a point on a circle, and what is no quantity is hidden
/// instead.
pub fn takes_noise(shape: FieldShape) -> bool {
    matches!(shape, FieldShape::Numeric | FieldShape::Binary)
}

/// Input numbers of a field.
pub fn input_numbers(shape: FieldShape) -> usize {
    match shape {
        FieldShape::Binary | FieldShape::Boolean => 1,
        FieldShape::Numeric => 2,
        FieldShape::Timestamp => 4,
        FieldShape::Categorical { .. } => 0,
    }
}

/// Sine and cosine of the hour, 0 <= hour < 24, and of the weekday, 0..7: the ends of day and week are neighbours.
pub fn day_time_numbers(hour: f32, weekday: u32) -> [f32; 4] {
    let hour = hour / HOURS as f32 * TAU;
    let day = weekday as f32 / WEEKDAYS as f32 * TAU;
    [hour.sin(), hour.cos(), day.sin(), day.cos()]
}

impl<'a> InputBuilder<'a> {
    /// An empty builder with room for `rows` rows of the given fields.
    pub fn new(shapes: &'a [FieldShape], rows: usize) -> Self {
        let numbers: usize = shapes.iter().map(|&s| input_numbers(s)).sum();
        let categories = shapes
            .iter()
            .filter(|s| matches!(s, FieldShape::Categorical { .. }))
            .count();
        Self {
            shapes,
            rows: 0,
            numbers: Vec::with_capacity(rows * numbers),
            numbers_hidden: Vec::with_capacity(rows * numbers),
            codes: vec![Vec::with_capacity(rows); categories],
            visible: Vec::with_capacity(rows * shapes.len()),
            noise: Vec::with_capacity(rows * NO_NOISE.len()),
        }
    }

    /// Appends record `row` with the fields for which `hidden` is true hidden.
    pub fn push(&mut self, records: &Records, row: usize, hidden: impl Fn(usize) -> bool) {
        self.push_mixed(records, |_| row, hidden);
    }

    /// Appends a record that has each field from the row that `row_of` says, null or not, with the fields for which
    /// `hidden` is true hidden.
    pub fn push_mixed(
        &mut self,
        records: &Records,
        row_of: impl Fn(usize) -> usize,
        hidden: impl Fn(usize) -> bool,
    ) {
        let (mut number, mut code, mut category) = (0, 0, 0);
        for (field, &shape) in self.shapes.iter().enumerate() {
            let row = row_of(field);
            let (numbers, codes) = (records.numbers(row), records.codes(row));
            let visible = records.present(row)[field] && !hidden(field);
            self.visible.push(f32::from(visible));
            let width = input_numbers(shape);
            self.numbers_hidden
                .extend(std::iter::repeat_n(f32::from(!visible), width));
            match shape {
                FieldShape::Categorical { .. } => {
                    self.codes[category].push(if visible { codes[code] } else { 0 });
                    category += 1;
                }
                _ if !visible => self.numbers.extend(std::iter::repeat_n(0.0, width)),
                FieldShape::Numeric => self.numbers.extend(&numbers[number..number + 2]),
                FieldShape::Binary => self.numbers.push(numbers[number]),
                FieldShape::Boolean => self.numbers.push(codes[code] as f32 * 2.0 - 1.0),
                FieldShape::Timestamp => self
                    .numbers
                    .extend(day_time_numbers(numbers[number], codes[code + 1])),
            }
            number += shape.numbers();
            code += shape.codes();
        }
        self.noise.extend(NO_NOISE);
        self.rows += 1;
    }

    /// Tells the model of noise in the row that was appended last.
    pub fn write_noise(&mut self, noise: NoiseInputs) {
        let start = self.noise.len() - noise.len();
        self.noise[start..].copy_from_slice(&noise);
    }

    /// Adds noise of the standard deviation `level` to the visible numbers of the fields `noised`, `[F]`, of the row that was
    /// appended last, and tells the model of it; `draw` gives standard normal numbers, one for each number of the row, visible or not, so that the random
    /// stream does not depend on the data.
    pub fn add_noise(&mut self, level: f32, noised: &[bool], mut draw: impl FnMut() -> f32) {
        let width: usize = self.shapes.iter().map(|&s| input_numbers(s)).sum();
        let mut number = self.numbers.len() - width;
        for (&shape, &is_noised) in self.shapes.iter().zip(noised) {
            let end = number + input_numbers(shape);
            if takes_noise(shape) {
                for place in number..end {
                    let drawn = draw();
                    if is_noised && self.numbers_hidden[place] == 0.0 {
                        self.numbers[place] += level * drawn;
                    }
                }
            }
            number = end;
        }
        self.write_noise(noise_inputs(level));
    }

    /// Replaces the visible category codes for which `drop` is true by 0, the unknown value.
    ///
    /// Training does so now and then: otherwise the embedding of unknown values would keep its random start.
    pub fn drop_codes(&mut self, mut drop: impl FnMut() -> bool) {
        for code in self.codes.iter_mut().flatten() {
            // The draw comes first, so that the random stream does not depend on the data.
            if drop() {
                *code = 0;
            }
        }
    }

    /// The tensors.
    ///
    /// # Errors
    /// If candle cannot make them.
    pub fn finish(self) -> Result<Inputs> {
        let device = &Device::Cpu;
        let rows = self.rows;
        let fields = self.shapes.len();
        let width: usize = self.shapes.iter().map(|&s| input_numbers(s)).sum();
        let mut codes_visible = Vec::new();
        for (field, shape) in self.shapes.iter().enumerate() {
            if matches!(shape, FieldShape::Categorical { .. }) {
                let column: Vec<f32> = self
                    .visible
                    .iter()
                    .skip(field)
                    .step_by(fields)
                    .copied()
                    .collect();
                codes_visible.push(Tensor::from_vec(column, (rows, 1), device)?);
            }
        }
        let codes = self
            .codes
            .into_iter()
            .map(|codes| Tensor::from_vec(codes, rows, device));
        Ok(Inputs {
            numbers: Tensor::from_vec(self.numbers, (rows, width), device)?,
            numbers_hidden: Tensor::from_vec(self.numbers_hidden, (rows, width), device)?,
            codes: codes.collect::<Result<_>>()?,
            codes_visible,
            visible: Tensor::from_vec(self.visible, (rows, fields), device)?,
            noise: Tensor::from_vec(self.noise, (rows, NO_NOISE.len()), device)?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_null_values_do_not_reach_the_inputs() {
        let shapes = [
            FieldShape::Numeric,
            FieldShape::Categorical {
                codes: 5,
                classes: 5,
            },
            FieldShape::Boolean,
            FieldShape::Timestamp,
        ];
        let mut records = Records::absent(&shapes, 1);
        records.set_number(0, 0, 7.0);
        records.set_number(0, 1, 0.7);
        records.set_number(0, 2, 6.0);
        [3, 1, 6, 2]
            .iter()
            .enumerate()
            .for_each(|(slot, &code)| records.set_code(0, slot, code));
        [0, 1, 3]
            .iter()
            .for_each(|&field| records.set_present(0, field));
        let mut builder = InputBuilder::new(&shapes, 2);
        builder.push(&records, 0, |field| field < 2);
        builder.push(&records, 0, |field| field == 3);
        let inputs = builder.finish().unwrap();
        let rows = inputs.numbers.to_vec2::<f32>().unwrap();
        assert_eq!(
            rows[0][..3],
            [0.0, 0.0, 0.0],
            "hidden number on both scales, null boolean"
        );
        assert!(
            (rows[0][3] - 1.0).abs() < 1e-6,
            "six o'clock is a quarter of the day"
        );
        assert_eq!(rows[1], [7.0, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(inputs.codes[0].to_vec1::<u32>().unwrap(), [0, 3]);
        let visible = inputs.visible.to_vec2::<f32>().unwrap();
        assert_eq!(visible, [[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]]);
        assert_eq!(inputs.noise.to_vec2::<f32>().unwrap(), [NO_NOISE; 2]);
    }

    #[test]
    fn numbers_count_by_how_far_they_outnumber_other_fields() {
        let weight = |numbers: usize, others: usize| {
            let shapes = [
                vec![FieldShape::Numeric; numbers],
                vec![FieldShape::Boolean; others],
            ];
            weight_of_numbers(shapes.concat().into_iter())
        };
        let found = [weight(4, 0), weight(3, 1), weight(2, 2), weight(0, 3)];
        assert_eq!(found, [1.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn noise_reaches_visible_numbers_only_and_is_told() {
        let shapes = [
            FieldShape::Numeric,
            FieldShape::Boolean,
            FieldShape::Numeric,
        ];
        let mut records = Records::absent(&shapes, 1);
        let numbers = [7.0, 0.7, 5.0, 0.5].into_iter().enumerate();
        numbers.for_each(|(slot, x)| records.set_number(0, slot, x));
        records.set_code(0, 0, 1);
        (0..3).for_each(|field| records.set_present(0, field));
        let mut builder = InputBuilder::new(&shapes, 2);
        builder.push(&records, 0, |field| field == 0);
        let mut drawn = 0;
        builder.add_noise(0.5, &[true, false, true], || {
            drawn += 1;
            drawn as f32
        });
        builder.push(&records, 0, |_| false);
        let inputs = builder.finish().unwrap();
        let rows = inputs.numbers.to_vec2::<f32>().unwrap();
        // The hidden number took the first two draws and stays hidden; each scale has a draw of its own.
        assert_eq!(rows, [[0.0, 0.0, 1.0, 6.5, 2.5], [7.0, 0.7, 1.0, 5.0, 0.5]]);
        let noise = inputs.noise.to_vec2::<f32>().unwrap();
        assert_eq!(noise, [[1.0, 0.5f32.ln()], NO_NOISE]);
    }
}
