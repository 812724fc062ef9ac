//! given_split: the division that a file itself says in a column, so that figures compare with those of its authors.
//!
//! OddBench (Ding et al. 2026) publishes its tables so: of the normal rows a part trains, the rest and the anomalies test.

use super::Split;
use anyhow::bail;

/// Divides a set by the words of its column: `train` or `test`.
///
/// # Errors
/// If a row says anything else, or an anomaly is to train.
pub fn given_split(parts: &[&str], labels: &[bool]) -> anyhow::Result<Split> {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (row, (&part, &is_anomaly)) in parts.iter().zip(labels).enumerate() {
        match part {
            "train" if is_anomaly => bail!("row {row}: an anomaly is among the training rows"),
            "train" => train.push(row as u32),
            "test" => test.push(row as u32),
            other => bail!("row {row}: the split is {other:?}, expected \"train\" or \"test\""),
        }
    }
    Ok(Split::new(train, test))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_where_the_file_says() {
        let parts = ["test", "train", "train", "test"];
        let expected = Split {
            train: vec![1, 2],
            test: vec![0, 3],
        };
        let labels = [true, false, false, false];
        assert_eq!(given_split(&parts, &labels).unwrap(), expected);
    }

    #[test]
    fn a_word_that_is_none_of_the_two_is_told_with_its_row() {
        let fault_of =
            |parts: &[&str], labels: &[bool]| given_split(parts, labels).unwrap_err().to_string();
        let error = fault_of(&["train", "valid"], &[false, false]);
        assert!(error.contains("row 1: the split is \"valid\""), "{error}");
        let error = fault_of(&["test", "train"], &[true, true]);
        assert!(error.contains("row 1: an anomaly"), "{error}");
    }
}
