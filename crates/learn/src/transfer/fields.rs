//! Which field of the parent a field of the child continues, and how numbers of the two compare.

use crate::encode::binary::BinaryEncoder;
use crate::encode::numeric::{CLIP, NumericEncoder};
use crate::encode::{Encoder, ValueEncoder};

/// A field of the child that continues one of the parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FieldMatch {
    /// Its place among the parent's fields.
    pub(super) parent: usize,
    /// How its encoded numbers compare.
    pub(super) rescale: Rescale,
    /// Whether it is predicted as the parent's is: not where a number had two values and now has more, the reverse, or two
    /// others.
    pub(super) predicted_alike: bool,
}

/// The parent's encoded number of the same value: `z_parent = ratio * z_child + shift`, but for what is clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rescale {
    pub(super) ratio: f64,
    pub(super) shift: f64,
}

impl Rescale {
    /// Of fields that are no numbers.
    const NONE: Self = Self {
        ratio: 1.0,
        shift: 0.0,
    };

    /// `None` if the same values are so far from where they were, or so much wider or narrower, that the parent saw
    /// little of them but clipped ones: what it learned of the field then says nothing.
    fn between(parent: &NumericEncoder, child: &NumericEncoder) -> Option<Self> {
        let ratio = child.scale / parent.scale;
        let shift = (child.mean - parent.mean) / parent.scale;
        let within = (1.0 / CLIP..=CLIP).contains(&ratio) && shift.abs() <= CLIP;
        (within && parent.transform == child.transform).then_some(Self { ratio, shift })
    }

    /// Of numbers with the same two values: exact at both, however rare one of them was or became, and wherever it is
    /// clipped.
    fn of_two_values(parent: &BinaryEncoder, child: &BinaryEncoder) -> Self {
        let [from, to] = [parent, child].map(|binary| binary.encoded().map(f64::from));
        let ratio = (from[1] - from[0]) / (to[1] - to[0]);
        Self {
            ratio,
            shift: from[0] - ratio * to[0],
        }
    }

    /// Whether nothing changes.
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// For each field of the child the parent's field of the same name, if its values mean the same: `[F]`.
///
/// They do not if the kind, the transform of a number or the zone of a timestamp is another.
pub(super) fn match_fields(parent: &Encoder, child: &Encoder) -> Vec<Option<FieldMatch>> {
    let of = |name: &str, value: &ValueEncoder| {
        let at = parent
            .fields()
            .iter()
            .position(|field| field.name == name)?;
        let parent = &parent.fields()[at].value;
        let rescale = match (parent, value) {
            (ValueEncoder::Categorical(_), ValueEncoder::Categorical(_))
            | (ValueEncoder::Boolean, ValueEncoder::Boolean) => Rescale::NONE,
            (
                ValueEncoder::Timestamp {
                    time_zone: parent, ..
                },
                ValueEncoder::Timestamp {
                    time_zone: child, ..
                },
            ) if parent == child => Rescale::NONE,
            (ValueEncoder::Binary(parent), ValueEncoder::Binary(child))
                if parent.has_values_of(child) =>
            {
                Rescale::of_two_values(parent, child)
            }
            (parent, child) => Rescale::between(standardised(parent)?, standardised(child)?)?,
        };
        let predicted_alike = match (parent, value) {
            (ValueEncoder::Binary(parent), ValueEncoder::Binary(child)) => {
                parent.has_values_of(child)
            }
            (ValueEncoder::Binary(_), _) | (_, ValueEncoder::Binary(_)) => false,
            _ => true,
        };
        Some(FieldMatch {
            parent: at,
            rescale,
            predicted_alike,
        })
    };
    let fields = child.fields().iter();
    fields.map(|field| of(&field.name, &field.value)).collect()
}

/// How a number is standardised, whether it is one of two or of many.
fn standardised(value: &ValueEncoder) -> Option<&NumericEncoder> {
    match value {
        ValueEncoder::Numeric(number) => Some(number),
        ValueEncoder::Binary(binary) => Some(&binary.number),
        ValueEncoder::Categorical(_) | ValueEncoder::Boolean | ValueEncoder::Timestamp { .. } => {
            None
        }
    }
}
