//! What labels taught: the second detector of a tuned bundle, beside the one that learned without labels.
//!
//! In flow records and their surprises, out flows one number a record that rises with how much it is like labelled frauds:
//! a weighted mean of components, or the log-odds of boosted trees. Neither looks at the batch around a record.

use super::calibration::ReferenceTables;
use super::combination::Combination;
use super::component::Component;
use super::surprise::Surprises;
use super::trees::Trees;
use crate::encode::{FieldShape, Records};

/// Nats of a component at most, as the trees see it: only a surprise that overflowed is beyond.
const COMPONENT_NATS_MAX: f32 = 100.0;

/// The detector that labels made.
#[derive(Debug, Clone, PartialEq)]
pub enum Supervised {
    /// Components with weights that may not be negative.
    Combination(Combination),
    /// Boosted trees on [`TreeInputs`].
    Trees(Trees),
}

/// Where an input of the trees comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Number(usize),
    Code(usize),
}

/// The K inputs of the trees, always in the same order: the encoded values of every field, then the untuned score and the
/// terms that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeInputs {
    /// The field of each value, and where it stands.
    values: Vec<(usize, Slot)>,
    components: Vec<Component>,
}

impl TreeInputs {
    /// Of records of these shapes and scores by these tables.
    pub fn new(shapes: &[FieldShape], reference: &ReferenceTables) -> Self {
        let (mut numbers, mut codes) = (0, 0);
        let mut values = Vec::new();
        for (field, shape) in shapes.iter().enumerate() {
            values.extend((0..shape.numbers()).map(|i| (field, Slot::Number(numbers + i))));
            // What a code of a number says, its value says; and the hour is a number of a moment.
            let first = match shape {
                FieldShape::Numeric | FieldShape::Binary => shape.codes(),
                FieldShape::Timestamp => 1,
                FieldShape::Categorical { .. } | FieldShape::Boolean => 0,
            };
            values.extend((first..shape.codes()).map(|i| (field, Slot::Code(codes + i))));
            numbers += shape.numbers();
            codes += shape.codes();
        }
        let of_record = reference.rule().components();
        Self {
            values,
            components: std::iter::once(Component::Untuned)
                .chain(of_record)
                .collect(),
        }
    }

    /// K.
    pub fn len(&self) -> usize {
        self.values.len() + self.components.len()
    }

    /// Never: the untuned score is one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The field that an input is a value of; none of those that tell of the record as a whole.
    pub fn field(&self, input: usize) -> Option<usize> {
        self.values.get(input).map(|&(field, _)| field)
    }

    /// The inputs in which the log-odds may not fall: the record's own scores.
    pub fn rising(&self) -> std::ops::Range<usize> {
        self.values.len()..self.len()
    }

    /// Writes the inputs of a record into `inputs`; NaN for a field that is absent.
    pub fn write(
        &self,
        (reference, surprises): (&ReferenceTables, &Surprises),
        records: &Records,
        row: usize,
        inputs: &mut Vec<f32>,
    ) {
        inputs.clear();
        let (numbers, codes, present) = (
            records.numbers(row),
            records.codes(row),
            records.present(row),
        );
        inputs.extend(self.values.iter().map(|&(field, slot)| match slot {
            _ if !present[field] => f32::NAN,
            Slot::Number(slot) => numbers[slot],
            Slot::Code(slot) => codes[slot] as f32,
        }));
        let component = |&component| {
            let nats = reference.component(component, surprises, row);
            nats.min(COMPONENT_NATS_MAX)
        };
        inputs.extend(self.components.iter().map(component));
    }
}

impl Supervised {
    /// The number of a record: finite, higher is more like labelled frauds. `inputs` is room for those of the trees.
    pub(super) fn score(
        &self,
        layout: &TreeInputs,
        (reference, surprises): (&ReferenceTables, &Surprises),
        records: &Records,
        (row, inputs): (usize, &mut Vec<f32>),
    ) -> f32 {
        let score = match self {
            Self::Combination(combination) => {
                combination.score(|c| reference.component(c, surprises, row))
            }
            Self::Trees(trees) => {
                layout.write((reference, surprises), records, row, inputs);
                trees.log_odds(inputs)
            }
        };
        if score.is_nan() {
            f32::MAX
        } else {
            score.clamp(f32::MIN, f32::MAX)
        }
    }

    /// What of it does not fit a model, if anything.
    pub fn fault(&self, layout: &TreeInputs, reference: &ReferenceTables) -> Option<String> {
        match self {
            Self::Combination(combination) => combination.fault(reference.axes(), reference.rule()),
            Self::Trees(trees) if trees.inputs() != layout.len() => Some(format!(
                "trees of {} inputs, the model has {}",
                trees.inputs(),
                layout.len()
            )),
            Self::Trees(_) => None,
        }
    }
}
