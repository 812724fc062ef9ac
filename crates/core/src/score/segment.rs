//! Segments: which group of records a record belongs to, by the value of one field.
//!
//! In flow encoded records, out flows one byte a record and field: 1..=255 for a value, 0 where there is none (the field
//! is null, or its value was not among the fit rows). Invariant: a segment depends on the record and the encoder alone.

use crate::encode::{FieldShape, Records};

/// Values of a field that a budget can be held by at most: what one byte can tell apart, with 0 for no value. A field
/// with more has few segments that are large enough.
pub const SEGMENT_VALUES_MAX: u32 = 255;
/// Fields whose segments a bundle keeps at most, the first in schema order: 100,000 calibration rows then take 26 MB.
pub const SEGMENT_FIELDS_MAX: usize = 256;
/// The segment of records without a known value.
pub const NO_SEGMENT: u8 = 0;

/// A field that a budget can be held by, and where its value stands in encoded records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentField {
    field: usize,
    slot: usize,
    /// The segment of code 0: categories have it for unknown values, booleans for false.
    first: u32,
}

impl SegmentField {
    /// The field's place in the axis F.
    pub fn field(self) -> usize {
        self.field
    }

    /// The segment of a record.
    pub fn segment(self, records: &Records, row: usize) -> u8 {
        if !records.present(row)[self.field] {
            return NO_SEGMENT;
        }
        let code = records.codes(row)[self.slot] + self.first;
        // Codes end at `SEGMENT_VALUES_MAX`; anything else would be no known value.
        u8::try_from(code).unwrap_or(NO_SEGMENT)
    }
}

/// The fields that a budget can be held by, in the order of the axis F: booleans, and categories with at most
/// [`SEGMENT_VALUES_MAX`] known values; at most [`SEGMENT_FIELDS_MAX`].
pub fn segment_fields(shapes: &[FieldShape]) -> Vec<SegmentField> {
    let mut fields = Vec::new();
    let mut slot = 0;
    for (field, shape) in shapes.iter().enumerate() {
        let first = match *shape {
            FieldShape::Categorical { codes, .. } if codes <= SEGMENT_VALUES_MAX => Some(0),
            FieldShape::Boolean => Some(1),
            FieldShape::Numeric
            | FieldShape::Binary
            | FieldShape::Categorical { .. }
            | FieldShape::Timestamp => None,
        };
        fields.extend(first.map(|first| SegmentField { field, slot, first }));
        slot += shape.codes();
    }
    fields.truncate(SEGMENT_FIELDS_MAX);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(codes: u32) -> FieldShape {
        FieldShape::Categorical { codes, classes: 2 }
    }

    #[test]
    fn booleans_and_small_categories_make_segments_wherever_their_slots_are() {
        let shapes = [
            FieldShape::Timestamp,
            category(256),
            category(255),
            FieldShape::Numeric,
            FieldShape::Boolean,
        ];
        let fields = segment_fields(&shapes);
        let places: Vec<usize> = fields.iter().map(|field| field.field()).collect();
        assert_eq!(places, [2, 4]);
        let mut records = Records::absent(&shapes, 2);
        records.set_present(1, 2);
        records.set_code(1, 3, 255);
        records.set_present(1, 4);
        let segments =
            |row| -> Vec<u8> { fields.iter().map(|f| f.segment(&records, row)).collect() };
        assert_eq!(segments(0), [NO_SEGMENT, NO_SEGMENT]);
        assert_eq!(segments(1), [255, 1]);
    }

    #[test]
    fn a_schema_of_many_categories_keeps_the_first() {
        let fields = segment_fields(&[FieldShape::Boolean; SEGMENT_FIELDS_MAX + 9]);
        assert_eq!(fields.len(), SEGMENT_FIELDS_MAX);
        assert_eq!(
            fields[SEGMENT_FIELDS_MAX - 1].field(),
            SEGMENT_FIELDS_MAX - 1
        );
    }
}
