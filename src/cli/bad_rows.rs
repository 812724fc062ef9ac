//! Rows that cannot be scored: counted, told with their place, and kept where they stand.
//!
//! In flow canonical batches with the faults of their bad rows, out flow the good rows, and columns
//! in which the bad rows have their place again.

use crate::records::{ParquetSource, RowFault, SourceBatch};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

/// The rows of a canonical batch that have no fault.
///
/// # Errors
/// If Arrow fails: a defect.
pub fn without(batch: &RecordBatch, faults: &[RowFault]) -> anyhow::Result<RecordBatch> {
    if faults.is_empty() {
        return Ok(batch.clone());
    }
    let mut keep = vec![true; batch.num_rows()];
    faults.iter().for_each(|fault| keep[fault.row] = false);
    Ok(filter_record_batch(batch, &BooleanArray::from(keep))?)
}

/// The values of the good rows, ascending, with `None` at each of the bad among all `rows`.
pub fn spread<T>(
    values: impl IntoIterator<Item = T>,
    faults: &[RowFault],
    rows: usize,
) -> Vec<Option<T>> {
    let (mut values, mut faults) = (values.into_iter(), faults.iter().peekable());
    let place = |row| match faults.next_if(|fault| fault.row == row) {
        Some(_) => None,
        None => values.next(),
    };
    (0..rows).map(place).collect()
}

/// A fault for a person and for the column `error`.
pub fn fault_text(fault: &RowFault) -> String {
    format!("{}: {}", fault.reason, fault.detail)
}

/// Counts bad rows and remembers the first.
#[derive(Debug, Default)]
pub struct BadRows {
    count: u64,
    first: Option<String>,
}

impl BadRows {
    /// Adds those of a batch.
    pub fn observe(&mut self, source: &ParquetSource, batch: &SourceBatch) {
        self.count += batch.faults.len() as u64;
        if let (None, Some(fault)) = (&self.first, batch.faults.first()) {
            let file = source.files()[batch.file].path().display();
            let row = batch.first_row + fault.row as u64;
            self.first = Some(format!("{file}, row {row} (from 0): {}", fault_text(fault)));
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of `rows` there are and where the first is; `None` if there is none. `fate` says what
    /// became of them.
    pub fn summary(&self, rows: u64, fate: &str) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "{} of {rows} rows {fate}; the first: {first}",
            self.count
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::records::FaultReason;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn faults(rows: &[usize]) -> Vec<RowFault> {
        let fault = |&row| RowFault {
            row,
            reason: FaultReason::EmptyRecord,
            detail: "no feature field is present".to_owned(),
        };
        rows.iter().map(fault).collect()
    }

    #[test]
    fn good_rows_come_back_to_their_places() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![10, 11, 12, 13, 14]));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        for bad in [&[][..], &[0], &[4], &[1, 2], &[0, 1, 2, 3, 4]] {
            let faults = faults(bad);
            let good = without(&batch, &faults).unwrap();
            let values = good.column(0).as_primitive::<Int64Type>().values().to_vec();
            let expected: Vec<Option<i64>> = (0..5)
                .map(|row| (!bad.contains(&row)).then_some(10 + row as i64))
                .collect();
            assert_eq!(spread(values, &faults, 5), expected);
        }
    }
}
