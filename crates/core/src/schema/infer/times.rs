//! The unit in which the integers of a column are moments, and what is to be said of moments.
//!
//! In flow integers of a column that is named as a time or a date, out flows the unit in which they are moments of this
//! century. A name alone or a value alone never makes a moment: 18,262 is a number of days, and also the age of somebody
//! of fifty. Where the name says less than "date", days must lie near the moments of another column too.

use super::super::field::TimeUnit;
use super::super::moments::{MomentGroup, MomentTally, YEARS_MAX, named};
use super::super::value::microseconds;
use super::decision::Decision;
use super::names::{DateName, date_name, is_time_name};

/// 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z in microseconds: integers named as a time lie between.
const TIMES: std::ops::Range<i64> = 946_684_800_000_000..4_102_444_800_000_000;

/// Five years in microseconds: how near to the moments of another column days must lie.
const NEAR_MICROS: i64 = 5 * 31_557_600_000_000;

/// The units that are tried, in this order.
const UNITS: [TimeUnit; 5] = [
    TimeUnit::S,
    TimeUnit::Ms,
    TimeUnit::Us,
    TimeUnit::Ns,
    TimeUnit::Days,
];

/// What integers are in each unit.
#[derive(Default)]
pub(super) struct Times {
    rows: u64,
    tallies: [MomentTally; UNITS.len()],
}

impl Times {
    /// For a column called `name`, if that is the name of a time or a date.
    pub(super) fn of(name: &str) -> Option<Self> {
        (is_time_name(name) || date_name(name).is_some()).then(Self::default)
    }

    /// Counts an integer.
    pub(super) fn add(&mut self, value: i128) {
        self.rows += 1;
        for (unit, tally) in UNITS.into_iter().zip(&mut self.tallies) {
            if let Some(micros) = microseconds(value, unit) {
                tally.observe(micros);
            }
        }
    }

    /// The unit in which the values are moments, given the name and where moments of other columns lie.
    pub(super) fn unit(&self, name: &str, others: &[MomentGroup]) -> Option<TimeUnit> {
        let may_be = |unit, bulk: MomentGroup| match (unit, date_name(name)) {
            (TimeUnit::Days, Some(DateName::Sure)) => true,
            (TimeUnit::Days, _) => others.iter().any(|other| {
                bulk.first.saturating_sub(NEAR_MICROS) <= other.last
                    && other.first <= bulk.last.saturating_add(NEAR_MICROS)
            }),
            _ => true,
        };
        let units = UNITS.into_iter().zip(&self.tallies);
        let mut fitting = units.filter(|(unit, tally)| {
            tally.rows() == self.rows
                && within(tally)
                && tally.bulk().is_some_and(|bulk| may_be(*unit, bulk))
        });
        fitting.next().map(|(unit, _)| unit)
    }

    /// The moments that the values are in `unit`.
    pub(super) fn in_unit(&self, unit: TimeUnit) -> Option<&MomentTally> {
        let at = UNITS.iter().position(|other| *other == unit)?;
        self.tallies.get(at)
    }
}

/// Whether all moments but stand-ins and lone ones lie in this century.
fn within(tally: &MomentTally) -> bool {
    let Some(bulk) = tally.bulk() else {
        return false;
    };
    let fits = |group: &MomentGroup| TIMES.contains(&group.first) && TIMES.contains(&group.last);
    let kept = tally.split().kept;
    let others = kept.iter().filter(|group| **group != bulk);
    fits(&bulk)
        && others
            .into_iter()
            .all(|group| fits(group) || group.is_stand_in())
}

/// The decision for a timestamp with these moments: stand-ins far from all others become null values, other moments far
/// from all others are named.
pub(super) fn with_far_moments(mut decision: Decision, tally: &MomentTally) -> Decision {
    let Some(bulk) = tally.bulk() else {
        return decision;
    };
    let groups = tally.groups().into_iter();
    let stand_ins = groups.filter(|group| *group != bulk && group.is_stand_in());
    for group in stand_ins.collect::<Vec<_>>() {
        let (words, rows) = (group.words(), group.rows);
        decision = decision.because(format!(
            "{words} stands in {rows} rows, more than {YEARS_MAX} years from all other moments: perhaps it means \
             \"missing\"."
        ));
        let doubt = format!("{words} looks like \"missing\"");
        decision.doubt.get_or_insert(doubt);
        decision.null_values.push(words);
    }
    let Some(far) = tally.far() else {
        return decision;
    };
    let odd: Vec<MomentGroup> = far
        .groups
        .into_iter()
        .filter(|group| !group.is_stand_in())
        .collect();
    if odd.is_empty() {
        return decision;
    }
    let (rows, named) = (odd.iter().map(|group| group.rows).sum::<u64>(), named(&odd));
    let have = if rows == 1 { "row has" } else { "rows have" };
    decision
        .because(format!(
            "{rows} {have} a moment more than {YEARS_MAX} years from all others: {named}."
        ))
        .doubted(format!(
            "{rows} {have} a moment far from all others: {named}"
        ))
}
