//! What data a bundle was trained on: the row count and a digest of the decoded values.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The fingerprint of training data: equal for equal values in equal order, whatever files and row groups hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFingerprint {
    /// Rows read, whatever became of them.
    pub rows: u64,
    /// SHA-256 in hexadecimal over the canonical columns.
    pub sha256: String,
}

/// Digests canonical batches column by column, so that the size of batches does not matter.
#[derive(Debug, Default)]
pub struct Fingerprinter {
    rows: u64,
    columns: Vec<Sha256>,
    bytes: Vec<u8>,
}

impl Fingerprinter {
    /// Adds a canonical batch; all must have the same columns.
    pub fn observe(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        self.columns
            .resize_with(batch.num_columns(), Sha256::default);
        for (digest, column) in self.columns.iter_mut().zip(batch.columns()) {
            self.bytes.clear();
            write_values(column, &mut self.bytes);
            digest.update(&self.bytes);
        }
    }

    /// The fingerprint.
    pub fn finish(self) -> DataFingerprint {
        let mut all = Sha256::default();
        all.update(self.rows.to_le_bytes());
        for column in self.columns {
            all.update(column.finalize());
        }
        let sha256 = all
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        DataFingerprint {
            rows: self.rows,
            sha256,
        }
    }
}

/// Bytes of a row's digest: two different rows of a billion share one with a chance of 1e-20.
pub const ROW_DIGEST_BYTES: usize = 16;

/// A digest of one row of canonical columns: equal for equal values, whatever batch holds them.
pub fn row_digest(columns: &[&ArrayRef], row: usize) -> [u8; ROW_DIGEST_BYTES] {
    let mut bytes = Vec::new();
    columns
        .iter()
        .for_each(|column| write_value(column, row, &mut bytes));
    let digest = Sha256::digest(&bytes);
    std::array::from_fn(|byte| digest[byte])
}

fn write_values(column: &ArrayRef, out: &mut Vec<u8>) {
    (0..column.len()).for_each(|row| write_value(column, row, out));
}

/// A value as a tag (0 null, 1 present) and its bytes; text with its length before it.
fn write_value(column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        out.push(0);
        return;
    }
    out.push(1);
    match column.data_type() {
        DataType::Float64 => {
            let number = column.as_primitive::<Float64Type>().value(row);
            out.extend(number.to_bits().to_le_bytes());
        }
        DataType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        }
        // Canonical batches have no other type than this.
        _ => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend(micros.to_le_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray};
    use std::sync::Arc;

    fn of(batches: &[RecordBatch]) -> DataFingerprint {
        let mut fingerprinter = Fingerprinter::default();
        batches
            .iter()
            .for_each(|batch| fingerprinter.observe(batch));
        fingerprinter.finish()
    }

    fn batch(numbers: Vec<Option<f64>>) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["é"; numbers.len()]));
        let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
        RecordBatch::try_from_iter([("a", numbers), ("b", texts)]).unwrap()
    }

    #[test]
    fn it_depends_on_values_and_order_but_not_on_batches() {
        let whole = batch(vec![Some(1.0), None, Some(3.0)]);
        let fingerprint = of(std::slice::from_ref(&whole));
        assert_eq!(of(&[whole.slice(0, 1), whole.slice(1, 2)]), fingerprint);
        assert_ne!(of(&[batch(vec![Some(1.0), Some(3.0), None])]), fingerprint);
        assert_ne!(of(&[batch(vec![Some(1.0), None, Some(4.0)])]), fingerprint);
    }

    #[test]
    fn a_row_is_told_by_its_values_alone() {
        let whole = batch(vec![Some(1.0), None, Some(1.0), Some(4.0)]);
        let digest = |batch: &RecordBatch, row| {
            let columns: Vec<&ArrayRef> = batch.columns().iter().collect();
            row_digest(&columns, row)
        };
        assert_eq!(digest(&whole, 0), digest(&whole, 2));
        assert_eq!(digest(&whole, 3), digest(&whole.slice(3, 1), 0));
        assert_ne!(digest(&whole, 0), digest(&whole, 1));
        assert_ne!(digest(&whole, 0), digest(&whole, 3));
    }
}
