//! The true value of a hidden field, as the heads need it.

use super::likelihood::Scale;
use crate::encode::binary::{NEITHER, UPPER};
use crate::encode::{Encoder, FieldShape, Records, ValueEncoder};

/// What a field of a record holds, to be predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Null.
    Absent,
    /// An encoded number.
    Number(Number),
    /// A category with a class.
    Category {
        /// Class of the head.
        class: u32,
        /// -log of the value's share within the class, nats, >= 0.
        within_class: f32,
    },
    /// A category never seen in training.
    Unseen {
        /// The least that it costs: -log of the mass of unseen values, nats.
        floor: f32,
        /// The most that any known value costs within its class, nats.
        within_class_max: f32,
    },
    /// True or false, or the larger or the smaller of a number's two values.
    Boolean(bool),
    /// Neither of a number's two values.
    Neither(ThirdValue),
    /// A moment.
    Timestamp {
        /// 0..24.
        hour: u32,
        /// 0..7, Monday 0.
        weekday: u32,
    },
}

/// A number in its two scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// In standard deviations.
    pub z: f32,
    /// As a normal quantile.
    pub q: f32,
}

impl Number {
    /// On one of them.
    pub fn on(self, scale: Scale) -> f32 {
        match scale {
            Scale::Deviation => self.z,
            Scale::Quantile => self.q,
        }
    }
}

/// A number that is neither of the two values that the fit rows had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThirdValue {
    /// The least that it costs: -log of the mass of unseen values, nats.
    pub floor: f32,
    /// The encoded number.
    pub z: f32,
    /// The two values encoded, ascending.
    pub known: [f32; 2],
}

/// Reads the targets of records: which slots belong to which field.
#[derive(Debug, Clone)]
pub struct TargetReader {
    slots: Vec<(FieldShape, usize, usize)>,
}

impl TargetReader {
    /// A reader of records encoded by `encoder`.
    pub fn new(encoder: &Encoder) -> Self {
        let (mut number, mut code) = (0, 0);
        let slots = encoder.shapes().into_iter().map(|shape| {
            let slot = (shape, number, code);
            number += shape.numbers();
            code += shape.codes();
            slot
        });
        Self {
            slots: slots.collect(),
        }
    }

    /// The value of `field` in record `row`.
    pub fn target(&self, encoder: &Encoder, records: &Records, row: usize, field: usize) -> Target {
        if !records.present(row)[field] {
            return Target::Absent;
        }
        let (shape, number, code) = self.slots[field];
        let codes = records.codes(row);
        match (shape, &encoder.fields()[field].value) {
            (FieldShape::Numeric, _) => {
                let numbers = &records.numbers(row)[number..];
                Target::Number(Number {
                    z: numbers[0],
                    q: numbers[1],
                })
            }
            (FieldShape::Categorical { .. }, ValueEncoder::Categorical(categories)) => {
                let code = codes[code];
                match categories.class(code) {
                    Some(class) if code > 0 => Target::Category {
                        class,
                        within_class: categories.surprise_within_class(code),
                    },
                    _ => Target::Unseen {
                        floor: categories.unseen_surprise(),
                        within_class_max: categories.surprise_within_class_max(),
                    },
                }
            }
            (FieldShape::Binary, ValueEncoder::Binary(binary)) => match codes[code] {
                NEITHER => Target::Neither(ThirdValue {
                    floor: binary.unseen_surprise(),
                    z: records.numbers(row)[number],
                    known: binary.encoded(),
                }),
                code => Target::Boolean(code == UPPER),
            },
            (FieldShape::Timestamp, _) => Target::Timestamp {
                hour: codes[code],
                weekday: codes[code + 1],
            },
            (FieldShape::Binary, _) => Target::Boolean(codes[code] == UPPER),
            (FieldShape::Boolean | FieldShape::Categorical { .. }, _) => {
                Target::Boolean(codes[code] == 1)
            }
        }
    }
}
