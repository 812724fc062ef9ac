//! Which fit rows training leaves out: frauds that nobody has labelled would otherwise be learned as normal.
//!
//! Networks learn what is frequent first (Arpit et al. 2017), so rows that are still hard to predict early in training
//! are more often anomalies than rare normal records; leaving the hardest out and going on is iterative trimmed loss
//! minimisation (Shen & Sanghavi 2019). A tenth of the hardest stays, drawn anew each time: without it a group that is rare
//! but normal, as the customers of one small place, may be left out whole, and each of its records is an alert then. In
//! flow the rows' surprises under some views, out flows which rows stay.
//! Invariant: what is compared are ranks, so that no reading and no mask ratio outweighs another by its unit.

use crate::model::mask::MaskPlan;
use crate::model::{ObjectiveKind, Views};
use rand::Rng;
use rand::seq::SliceRandom;

/// Fit rows that are judged at most: a bound on the time it takes. Beyond it training goes on with a sample of this size.
const TRIM_ROWS_MAX: usize = 262_144;
/// Rows judged at a time.
pub const JUDGED_ROWS: usize = 1024;
/// Share of the most unusual rows that stays all the same.
const KEPT_SHARE: f64 = 0.1;
/// Shares of the steps after which the rows are judged, each time anew: late enough to know what is common, early enough
/// for what is left to be forgotten.
const TRIM_AT: [f32; 2] = [0.3, 0.6];
/// Mask ratios under which rows are judged: broken dependence, and values that are extreme by themselves.
const JUDGING_RATIOS: [f32; 2] = [0.5, 1.0];

/// Whether rows are judged before step `step`, from 0, of `steps`.
pub fn is_due(step: usize, steps: usize) -> bool {
    let at = |share: &f32| step == (steps as f32 * share) as usize;
    step > 0 && TRIM_AT.iter().any(at)
}

/// The views of the `predicted` fields under which rows are judged; an objective that hides nothing has one that hides
/// nothing.
pub fn judging_views(objective: ObjectiveKind, predicted: &[u32], rng: &mut impl Rng) -> Views {
    match objective.hides_fields() {
        true => {
            let fields = predicted.len();
            Views::draw(MaskPlan::Balanced, &JUDGING_RATIOS, 1, fields, rng).of_fields(predicted)
        }
        false => Views::nothing_hidden(),
    }
}

/// The fit rows that are judged, ascending: all of `rows`, or a uniform sample of the limit's size.
pub fn judged_rows(rows: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut judged: Vec<usize> = (0..rows).collect();
    if rows > TRIM_ROWS_MAX {
        judged.shuffle(rng);
        judged.truncate(TRIM_ROWS_MAX);
        judged.sort_unstable();
    }
    judged
}

/// The places of the rows that stay, ascending: all but the share `trim` that is the most unusual, and a tenth of that
/// share, to the nearest row, drawn at random.
///
/// `surprises` has a column `[rows]` for each stratum and reading. A value becomes -log of the share of rows with at
/// least that value; a row is as unusual as the largest mean over the readings of a stratum.
pub fn kept(surprises: &[Vec<Vec<f64>>], trim: f32, rng: &mut impl Rng) -> Vec<usize> {
    let rows = surprises
        .first()
        .and_then(|r| r.first())
        .map_or(0, Vec::len);
    let mut unusual = vec![0f64; rows];
    for readings in surprises {
        let mut mean = vec![0f64; rows];
        for column in readings {
            let order = ascending(column);
            let mut first = 0;
            for (rank, &row) in order.iter().enumerate() {
                // All rows of a tie have the rank of its first: none is unusual by its place in the file.
                if column[row] > column[order[first]] {
                    first = rank;
                }
                mean[row] -= ((rows - first) as f64 / rows as f64).ln() / readings.len() as f64;
            }
        }
        unusual
            .iter_mut()
            .zip(mean)
            .for_each(|(u, mean)| *u = u.max(mean));
    }
    let mut stay = ascending(&unusual);
    let hardest_rows = (rows as f64 * f64::from(trim)).floor() as usize;
    let mut hardest = stay.split_off(rows - hardest_rows);
    hardest.shuffle(rng);
    hardest.truncate((hardest_rows as f64 * KEPT_SHARE).round() as usize);
    stay.append(&mut hardest);
    stay.sort_unstable();
    stay
}

/// The places of the values from the smallest to the largest; the place breaks ties, so that the result is the same
/// everywhere.
fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{ChaCha8Rng, Purpose, stream};
    use proptest::prelude::*;

    fn kept(surprises: &[Vec<Vec<f64>>], trim: f32) -> Vec<usize> {
        super::kept(surprises, trim, &mut rng())
    }

    fn rng() -> ChaCha8Rng {
        stream(0, Purpose::Trimming)
    }

    #[test]
    fn the_most_unusual_rows_of_any_stratum_are_left_out() {
        // Row 3 stands out under both readings of the second stratum, row 1 under one reading of the first.
        let first = vec![vec![1.0, 9.0, 2.0, 3.0], vec![4.0, 1.0, 2.0, 3.0]];
        let second = vec![vec![1.0, 2.0, 3.0, 9.0], vec![1.0, 2.0, 3.0, 9.0]];
        assert_eq!(kept(&[first, second], 0.25), [0, 1, 2]);
    }

    #[test]
    fn rows_of_a_tie_are_as_unusual_as_each_other() {
        let constant = vec![vec![1.0; 4]];
        let telling = vec![vec![9.0, 1.0, 2.0, 3.0]];
        assert_eq!(kept(&[constant, telling], 0.25), [1, 2, 3]);
    }

    #[test]
    fn a_tenth_of_the_unusual_rows_stays_and_not_always_the_same_one() {
        let column: Vec<f64> = (0..100).map(f64::from).collect();
        let surprises = [vec![column]];
        let rng = &mut rng();
        let mut unusual_kept = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let stay = super::kept(&surprises, 0.2, rng);
            assert_eq!(stay[..80], (0..80).collect::<Vec<_>>());
            assert_eq!(stay.len(), 82);
            unusual_kept.extend(stay[80..].iter().copied());
        }
        assert!(unusual_kept.len() > 10, "{unusual_kept:?}");
    }

    #[test]
    fn rows_are_judged_at_fixed_shares_of_the_steps_and_never_before_the_first() {
        let due = |steps| {
            (0..steps)
                .filter(|&step| is_due(step, steps))
                .collect::<Vec<_>>()
        };
        assert_eq!(due(2500), [750, 1500]);
        assert!(due(1).is_empty());
    }

    proptest! {
        #[test]
        fn all_but_nine_tenths_of_the_share_stay_and_a_share_of_none_keeps_all(
            column in prop::collection::vec(0.0..10.0f64, 1..300), trim in 0.0..0.5f32,
        ) {
            let rows = column.len();
            let stay = kept(&[vec![column]], trim);
            let unusual = (rows as f64 * f64::from(trim)) as usize;
            prop_assert_eq!(stay.len(), rows - unusual + (unusual + 5) / 10);
            prop_assert!(stay.is_sorted_by(|a, b| a < b));
        }
    }
}
