//! time_split: what came first trains, with or without its anomalies; what came later tests.

use super::Split;

/// Divides rows by their times, equal ones by their place: the earlier half trains, `clean` without its anomalies.
pub fn time_split(times: &[i64], labels: &[bool], clean: bool) -> Split {
    let mut rows: Vec<u32> = (0..times.len() as u32).collect();
    rows.sort_by_key(|&row| times[row as usize]);
    let test = rows.split_off(rows.len() / 2);
    rows.retain(|&row| !(clean && labels[row as usize]));
    Split::new(rows, test)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_trains_came_after_what_tests(
            rows in prop::collection::vec((0..50_i64, any::<bool>()), 2..200)
        ) {
            let (times, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let dirty = time_split(&times, &labels, false);
            prop_assert_eq!(dirty.train.len(), times.len() / 2);
            prop_assert_eq!(dirty.test.len() + dirty.train.len(), times.len());
            let last = dirty.train.iter().map(|&row| times[row as usize]).max();
            prop_assert!(dirty.test.iter().all(|&row| Some(times[row as usize]) >= last));
            let clean = time_split(&times, &labels, true);
            prop_assert_eq!(&clean.test, &dirty.test);
            let normal = dirty.train.iter().copied().filter(|&row| !labels[row as usize]);
            prop_assert_eq!(clean.train, normal.collect::<Vec<_>>());
        }
    }
}
