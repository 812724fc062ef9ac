//! Moments far from all others: stand-ins such as 1970-01-01 and 9999-12-31, slips such as 4488-02-03.
//!
//! In flow moments in microseconds since 1970-01-01T00:00:00Z, out flow groups of them with counts. A *group* is a run of
//! moments none of which is more than [`YEARS_MAX`] years from the next. The largest group is the bulk. Another one is
//! *lone* where it and all smaller ones hold at most one row in a thousand, or one row of fewer. Memory is bounded by the
//! years of the calendar, and what comes out does not depend on the order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{MICROSECONDS_MAX, MICROSECONDS_MIN, moment_to_text};

/// Years that a moment may lie from the nearest one of the training: more than any stream outlives its model, less than
/// a wrong unit moves the moments of this century.
pub const YEARS_MAX: i64 = 20;

/// A year of 365.25 days in microseconds.
const YEAR_MICROS: i64 = 31_557_600_000_000;

/// [`YEARS_MAX`] years in microseconds.
pub const FAR_MICROS: i64 = YEARS_MAX * YEAR_MICROS;

/// Rows from which a moment can be told from the bulk.
const ROWS_MIN: u64 = 20;

/// Rows for each of which one may be lone.
const ROWS_A_LONE_ONE: u64 = 1_000;

/// Rows for each of which one may lie in a group that is worth a warning: more are meant so.
const ROWS_A_FAR_ONE: u64 = 20;

/// Groups that a sentence names.
const NAMED_MAX: usize = 3;

/// A day in microseconds.
const DAY_MICROS: i64 = 86_400_000_000;

/// Midnights that writers put where they have no moment: 1970-01-01, 0001-01-01, 1601-01-01, 1753-01-01, 1899-12-30,
/// 1900-01-01 and 9999-12-31.
const STAND_INS: [i64; 7] = [
    0,
    -719_162 * DAY_MICROS,
    -134_774 * DAY_MICROS,
    -79_257 * DAY_MICROS,
    -25_569 * DAY_MICROS,
    -25_567 * DAY_MICROS,
    2_932_896 * DAY_MICROS,
];

/// Moments of which none is more than [`YEARS_MAX`] years from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MomentGroup {
    /// The earliest, in microseconds since 1970-01-01T00:00:00Z.
    pub first: i64,
    /// The latest.
    pub last: i64,
    /// Rows that have one of them.
    pub rows: u64,
}

impl MomentGroup {
    /// In words: the moment, or the first and the last.
    pub fn words(&self) -> String {
        let text = |micros| moment_to_text(micros).unwrap_or_else(|| "no moment".to_owned());
        match self.first == self.last {
            true => text(self.first),
            false => format!("{} to {}", text(self.first), text(self.last)),
        }
    }

    /// Whether it is one single moment that writers put where they have none.
    pub fn is_stand_in(&self) -> bool {
        // Zones move them by hours, -1 is a second or a day before 1970, and the end of time has any time of its day.
        let near = |midnight: &i64| midnight.abs_diff(self.first) <= DAY_MICROS.unsigned_abs();
        self.first == self.last && STAND_INS.iter().any(near)
    }

    /// Whether a moment lies at most [`YEARS_MAX`] years from one of these.
    pub fn is_near(&self, micros: i64) -> bool {
        (self.first.saturating_sub(FAR_MICROS)..=self.last.saturating_add(FAR_MICROS))
            .contains(&micros)
    }

    /// What is wrong with a group that was read from a file.
    pub fn fault(&self) -> Option<String> {
        let calendar = MICROSECONDS_MIN..=MICROSECONDS_MAX;
        let sound = self.first <= self.last
            && calendar.contains(&self.first)
            && calendar.contains(&self.last)
            && self.rows > 0;
        (!sound).then(|| {
            let Self { first, last, rows } = self;
            format!("expected moments left out, found {first} to {last} in {rows} rows")
        })
    }
}

/// Moments counted by year.
#[derive(Debug, Clone, Default)]
pub struct MomentTally {
    /// By years since 1970: those of the calendar are ten thousand.
    years: BTreeMap<i64, MomentGroup>,
}

/// Groups that stand for all moments, and those that do not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MomentSplit {
    /// The bulk and every group that is not lone, ascending.
    pub kept: Vec<MomentGroup>,
    /// Lone groups, ascending.
    pub lone: Vec<MomentGroup>,
}

impl MomentTally {
    /// Counts a moment of the calendar.
    pub fn observe(&mut self, micros: i64) {
        let year = micros.div_euclid(YEAR_MICROS);
        let group = self.years.entry(year).or_insert(MomentGroup {
            first: micros,
            last: micros,
            rows: 0,
        });
        group.first = group.first.min(micros);
        group.last = group.last.max(micros);
        group.rows += 1;
    }

    /// Moments seen.
    pub fn rows(&self) -> u64 {
        self.years.values().map(|group| group.rows).sum()
    }

    /// All groups, ascending.
    pub fn groups(&self) -> Vec<MomentGroup> {
        let mut groups: Vec<MomentGroup> = Vec::new();
        for year in self.years.values() {
            match groups.last_mut() {
                Some(last) if year.first.saturating_sub(last.last) <= FAR_MICROS => {
                    last.last = year.last;
                    last.rows += year.rows;
                }
                _ => groups.push(*year),
            }
        }
        groups
    }

    /// The group with the most rows, the latest of several.
    pub fn bulk(&self) -> Option<MomentGroup> {
        self.groups().into_iter().max_by_key(|group| group.rows)
    }

    /// The groups with the lone ones apart.
    pub fn split(&self) -> MomentSplit {
        let (groups, rows) = (self.groups(), self.rows());
        let mut smallest: Vec<usize> = (0..groups.len()).collect();
        smallest.sort_by_key(|&at| groups[at].rows);
        // The bulk is never lone.
        smallest.pop();
        let most = match rows {
            0..ROWS_MIN => 0,
            _ => (rows / ROWS_A_LONE_ONE).max(1),
        };
        let mut held = 0;
        smallest.retain(|&at| {
            held += groups[at].rows;
            held <= most
        });
        let mut split = MomentSplit::default();
        for (at, group) in groups.into_iter().enumerate() {
            match smallest.contains(&at) {
                true => split.lone.push(group),
                false => split.kept.push(group),
            }
        }
        split
    }

    /// Rows whose moment is near none of `kept`.
    pub fn rows_far_from(&self, kept: &[MomentGroup]) -> u64 {
        let far = self.groups().into_iter();
        far.filter(|group| {
            let apart = |kept: &MomentGroup| kept.first > group.last || kept.last < group.first;
            kept.iter().all(apart)
        })
        .map(|group| group.rows)
        .sum()
    }

    /// Few moments far from the bulk, lone or not, with what becomes of them; `None` if there are none.
    pub fn far(&self) -> Option<FarMoments> {
        let (bulk, rows) = (self.bulk()?, self.rows());
        let lone = self.split().lone;
        let few = |group: &MomentGroup| *group != bulk && group.rows * ROWS_A_FAR_ONE <= rows;
        let groups: Vec<MomentGroup> = match rows {
            0..ROWS_MIN => Vec::new(),
            _ => self.groups().into_iter().filter(few).collect(),
        };
        (!groups.is_empty()).then_some(FarMoments {
            groups,
            lone,
            of: rows,
        })
    }
}

/// Moments far from the bulk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarMoments {
    /// Their groups, ascending.
    pub groups: Vec<MomentGroup>,
    /// Those of them that are lone.
    pub lone: Vec<MomentGroup>,
    /// Rows with a moment, in all.
    pub of: u64,
}

impl FarMoments {
    /// Their rows.
    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows).sum()
    }

    /// The moments in words, at most three groups.
    pub fn named(&self) -> String {
        named(&self.groups)
    }

    /// In words, without a full stop.
    pub fn sentence(&self) -> String {
        let rows = self.rows();
        let hold = if rows == 1 { "row has" } else { "rows have" };
        format!(
            "{rows} {hold} a moment more than {YEARS_MAX} years from all others ({}), of {}",
            self.named(),
            self.of
        )
    }
}

/// Groups in words, at most three.
pub fn named(groups: &[MomentGroup]) -> String {
    let mut words: Vec<String> = groups
        .iter()
        .take(NAMED_MAX)
        .map(MomentGroup::words)
        .collect();
    if groups.len() > NAMED_MAX {
        words.push(format!("and {} more", groups.len() - NAMED_MAX));
    }
    words.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::schema::moment_from_text;

    fn tally(moments: &[(&str, u64)]) -> MomentTally {
        let mut tally = MomentTally::default();
        for (text, rows) in moments {
            (0..*rows).for_each(|_| tally.observe(moment_from_text(text).unwrap()));
        }
        tally
    }

    fn lone(moments: &[(&str, u64)]) -> String {
        named(&tally(moments).split().lone)
    }

    #[test]
    fn a_lone_moment_far_from_the_bulk_is_told_apart() {
        let year = ("2026-01-01", 600);
        let next = ("2026-12-31", 400);
        assert_eq!(lone(&[year, next]), "");
        let stand_in = "1970-01-01T00:00:00Z";
        assert_eq!(lone(&[("1970-01-01", 1), year, next]), stand_in);
        let slip = [year, next, ("4488-02-03", 1)];
        assert_eq!(lone(&slip), "4488-02-03T00:00:00Z");
        // Two rows of a thousand are too many to be lone together; the smaller group goes first.
        assert_eq!(lone(&[("1970-01-01", 2), year, next]), "");
        let both = [("1970-01-01", 1), year, next, ("4488-02-03", 1)];
        assert_eq!(lone(&both), stand_in);
        assert_eq!(lone(&[("1970-01-01", 1), ("2026-01-01", 40)]), stand_in);
        assert_eq!(lone(&[("1970-01-01", 1), ("2026-01-01", 4)]), "");
    }

    #[test]
    fn dates_of_birth_and_open_ends_are_no_outliers() {
        let births = [("1931-01-01", 1), ("1950-01-01", 3), ("1969-01-01", 900)];
        assert_eq!(lone(&births), "");
        let ends = [("2026-01-01", 400), ("9999-12-31", 600)];
        assert_eq!(lone(&ends), "");
        assert_eq!(tally(&ends).far(), None);
    }

    #[test]
    fn few_far_moments_are_named_whether_they_are_lone_or_not() {
        let far = tally(&[("1970-01-01", 20), ("2026-01-01", 980)]).far();
        let far = far.unwrap();
        assert_eq!(far.lone, []);
        assert_eq!(
            far.sentence(),
            "20 rows have a moment more than 20 years from all others (1970-01-01T00:00:00Z), of 1000"
        );
        assert!(far.groups[0].is_stand_in());
        let slip = tally(&[("1998-02-03", 1), ("2026-01-01", 980)]).far();
        let slip = slip.unwrap();
        assert!(!slip.groups[0].is_stand_in());
        assert_eq!(slip.lone, slip.groups);
    }

    #[test]
    fn the_moments_that_writers_put_for_none_are_known() {
        for text in [
            "1970-01-01",
            "1969-12-31T23:59:59Z",
            "0001-01-01",
            "1601-01-01",
            "1753-01-01",
            "1899-12-30",
            "1900-01-01",
            "9999-12-31",
            "9999-12-31T23:59:59Z",
        ] {
            assert!(tally(&[(text, 1)]).groups()[0].is_stand_in(), "{text}");
        }
        for text in ["1970-01-21T11:00:00Z", "2026-01-01", "4488-02-03"] {
            assert!(!tally(&[(text, 1)]).groups()[0].is_stand_in(), "{text}");
        }
        let two = tally(&[("1970-01-01", 1), ("1970-01-02", 1)]);
        assert!(!two.groups()[0].is_stand_in());
    }

    #[test]
    fn rows_are_counted_once_whatever_their_order() {
        let tally = tally(&[("2026-01-01", 5), ("1970-01-01", 1), ("2000-01-01", 3)]);
        assert_eq!(tally.rows(), 9);
        assert_eq!(tally.groups().len(), 3);
        let bulk = tally.bulk().unwrap();
        assert_eq!(bulk.rows, 5);
        assert_eq!(tally.rows_far_from(&[bulk]), 4);
        assert_eq!(tally.rows_far_from(&tally.groups()), 0);
    }
}
