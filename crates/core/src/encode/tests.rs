//! Material for tests: a field of two numbers, and the encoder that knows it.

#![allow(clippy::unwrap_used)]

use super::{Encoder, EncoderFitter};
use crate::schema::{Field, Kind};
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use std::sync::Arc;

/// A batch of one numeric column `fee`.
pub fn fees(values: impl IntoIterator<Item = f64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("fee", column)]).unwrap()
}

/// Fitted to 100 fees, of which 25 are 2.5 and the others 0.
pub fn fee_encoder() -> Encoder {
    let fields = [Field::feature("fee", Kind::Numeric)];
    let mut fitter = EncoderFitter::new(&fields, 8).unwrap();
    let seen = (0..100).map(|i| if i % 4 == 0 { 2.5 } else { 0.0 });
    fitter.observe(&fees(seen)).unwrap();
    fitter.finish().unwrap()
}
