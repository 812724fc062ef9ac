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

/// Every value as a tag (0 null, 1 present) and its bytes; text with its length before it.
fn write_values(column: &ArrayRef, out: &mut Vec<u8>) {
    for row in 0..column.len() {
        if column.is_null(row) {
            out.push(0);
            continue;
        }
        out.push(1);
        match column.data_type() {
            DataType::Float64 => {
                out.extend(
                    column
                        .as_primitive::<Float64Type>()
                        .value(row)
                        .to_bits()
                        .to_le_bytes(),
                );
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
}
