//! Moments: the hour of the day and the day of the week in the field's own time zone, and the years in which the training
//! had any.
//!
//! The model sees hour and weekday only, so seconds that are read as milliseconds look like any other moment to it. What
//! tells them is the year: a moment far from every one of the training is no moment of this stream.

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::schema::{FAR_MICROS, MICROSECONDS_MAX, MICROSECONDS_MIN, MomentGroup, MomentTally};

/// Where a moment lies in the day and in the week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayTime {
    /// Hours since local midnight with their fraction, 0 <= hour < 24.
    pub hour: f32,
    /// Monday 0 .. Sunday 6.
    pub weekday: u32,
}

/// The local hour and weekday of a moment in microseconds since 1970-01-01T00:00:00Z.
///
/// `None` beyond the calendar's range (about +-262,000 years).
pub fn day_time(micros: i64, zone: Tz) -> Option<DayTime> {
    let local = DateTime::from_timestamp_micros(micros)?.with_timezone(&zone);
    let seconds = local.num_seconds_from_midnight() as f32;
    Some(DayTime {
        // 86,399.99 s rounds to 24.0 in f32; the largest value below keeps the hour a class.
        hour: (seconds / 3600.0).min(23.999),
        weekday: local.weekday().num_days_from_monday(),
    })
}

/// Where moments were seen: spans `[first, last]` in microseconds since 1970-01-01T00:00:00Z, ascending.
///
/// Moments at most 40 years apart share a span, as every moment between them is near one of the two. So a span
/// tells for any moment whether it is near one that was seen, and ten thousand years hold 250 spans at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenMoments(Vec<[i64; 2]>);

impl SeenMoments {
    /// Where the moments of these groups lie, which are ascending.
    pub fn of(groups: &[MomentGroup]) -> Self {
        let mut spans: Vec<[i64; 2]> = Vec::new();
        for group in groups {
            match spans.last_mut() {
                Some(last) if group.first.saturating_sub(2 * FAR_MICROS) <= last[1] => {
                    last[1] = group.last;
                }
                _ => spans.push([group.first, group.last]),
            }
        }
        Self(spans)
    }

    /// Whether a moment lies at most 20 years from one that was seen.
    pub fn is_near(&self, micros: i64) -> bool {
        self.0.iter().any(|[first, last]| {
            (first.saturating_sub(FAR_MICROS)..=last.saturating_add(FAR_MICROS)).contains(&micros)
        })
    }

    /// The first and the last moment seen; `None` if there was none.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        Some((first[0], last[1]))
    }

    /// What is wrong with spans that were read from a file: none, out of the calendar, or not as [`of`](Self::of) makes
    /// them.
    pub fn fault(&self) -> Option<String> {
        let calendar = MICROSECONDS_MIN..=MICROSECONDS_MAX;
        let sound = |[first, last]: &[i64; 2]| {
            first <= last && calendar.contains(first) && calendar.contains(last)
        };
        let apart = |pair: &[[i64; 2]]| pair[1][0].saturating_sub(2 * FAR_MICROS) > pair[0][1];
        let expected = match () {
            () if self.0.is_empty() => "at least one span of moments",
            () if !self.0.iter().all(sound) => "spans from a first to a last moment",
            () if !self.0.windows(2).all(apart) => "spans more than 40 years apart, ascending",
            () => return None,
        };
        let shown: Vec<_> = self.0.iter().take(3).collect();
        Some(format!(
            "expected {expected}, found {} that begin with {shown:?}",
            self.0.len()
        ))
    }
}

/// What a model knows of the moments of one field in its training.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainedMoments {
    /// Where they lie, but for those left out.
    pub seen: SeenMoments,
    /// Lone moments far from all others, which vouch for none: training reads them as null, later records with one are
    /// bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<MomentGroup>,
}

impl TrainedMoments {
    /// What is to be known of the moments of a tally.
    pub fn of(tally: &MomentTally) -> Self {
        let split = tally.split();
        Self {
            seen: SeenMoments::of(&split.kept),
            left_out: split.lone,
        }
    }

    /// What is wrong with those that were read from a file.
    pub fn fault(&self) -> Option<String> {
        let fault = self.left_out.iter().find_map(MomentGroup::fault);
        self.seen.fault().or(fault)
    }
}

/// A sentence on a few moments of the training that are far from all others, with what becomes of them and the remedy;
/// `None` if there are none. Those of a redacted field are not shown.
pub fn far_moments(name: &str, redact: bool, tally: &MomentTally) -> Option<String> {
    let far = tally.far()?;
    let found = match redact {
        true => format!(
            "{} rows have a moment far from all others (redacted)",
            far.rows()
        ),
        false => far.sentence(),
    };
    let lone = far.lone.len() == far.groups.len();
    let fate = match (lone, far.lone.is_empty()) {
        (true, _) => "training reads it as null, and refuses later records with one",
        (_, true) => {
            "that many vouch for later records with such a moment, also where a unit is wrong"
        }
        _ => {
            "training reads the rarest as null and refuses later records with one, the others vouch for such records"
        }
    };
    let remedy = match far.groups.first() {
        Some(group) if !redact && group.first == group.last => format!(
            "correct them, or set `null_values = [\"{}\"]` if it means \"missing\"",
            group.words()
        ),
        _ => "correct them, or name in `null_values` what means \"missing\"".to_owned(),
    };
    Some(format!("field `{name}`: {found}; {fate}; {remedy}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: i64 = 31_557_600_000_000;

    fn seen(moments: &[i64]) -> SeenMoments {
        let mut tally = MomentTally::default();
        moments.iter().for_each(|&moment| tally.observe(moment));
        SeenMoments::of(&tally.groups())
    }

    #[test]
    fn a_moment_is_near_up_to_twenty_years_from_one_that_was_seen() {
        let seen = seen(&[48 * YEAR, 49 * YEAR]);
        assert_eq!(seen.bounds(), Some((48 * YEAR, 49 * YEAR)));
        for (micros, near) in [
            (28 * YEAR, true),
            (28 * YEAR - 1, false),
            (69 * YEAR, true),
            (69 * YEAR + 1, false),
            (0, false),
            (i64::MIN, false),
            (i64::MAX, false),
        ] {
            assert_eq!(seen.is_near(micros), near, "{micros}");
        }
        assert!(!SeenMoments::default().is_near(0));
    }

    #[test]
    fn spans_of_a_file_are_checked() {
        assert_eq!(seen(&[0, 50 * YEAR]).fault(), None);
        let left_out = |first, last, rows| TrainedMoments {
            seen: seen(&[0]),
            left_out: vec![MomentGroup { first, last, rows }],
        };
        assert_eq!(left_out(0, 0, 1).fault(), None);
        for forged in [
            left_out(1, 0, 1),
            left_out(0, i64::MAX, 1),
            left_out(0, 0, 0),
        ] {
            assert!(forged.fault().is_some());
        }
        for spans in [
            vec![],
            vec![[1, 0]],
            vec![[i64::MIN, 0]],
            vec![[0, i64::MAX]],
            vec![[0, 0], [YEAR, YEAR]],
            vec![[90 * YEAR, 90 * YEAR], [0, 0]],
        ] {
            let fault = SeenMoments(spans.clone()).fault();
            assert!(
                fault.is_some_and(|why| why.contains("expected")),
                "{spans:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn spans_tell_what_all_moments_would_tell(
            moments in prop::collection::vec(MICROSECONDS_MIN..=MICROSECONDS_MAX, 1..200),
            asked in prop::collection::vec(MICROSECONDS_MIN..=MICROSECONDS_MAX, 0..50),
        ) {
            let seen = seen(&moments);
            prop_assert_eq!(seen.fault(), None);
            let mut sorted = moments.clone();
            sorted.sort_unstable();
            // The order in which they come does not matter.
            prop_assert_eq!(&self::seen(&sorted), &seen);
            prop_assert_eq!(seen.bounds(), Some((sorted[0], sorted[sorted.len() - 1])));
            for micros in asked.into_iter().chain(moments.iter().map(|moment| moment + FAR_MICROS)) {
                let near = moments.iter().any(|moment| (moment - micros).abs() <= FAR_MICROS);
                prop_assert_eq!(seen.is_near(micros), near, "{}", micros);
            }
        }
    }

    #[test]
    fn hour_and_weekday_follow_the_zone_and_its_summer_time() {
        // 2018-07-31T23:30:00Z, a Tuesday in UTC and already Wednesday in Paris.
        let micros = 1_533_079_800_000_000;
        let utc = day_time(micros, Tz::UTC).unwrap();
        assert_eq!((utc.hour, utc.weekday), (23.5, 1));
        let paris = day_time(micros, Tz::Europe__Paris).unwrap();
        assert_eq!((paris.hour, paris.weekday), (1.5, 2));
    }

    #[test]
    fn moments_before_1970_and_beyond_the_calendar_are_handled() {
        assert_eq!(day_time(-1_000_000, Tz::UTC).unwrap().weekday, 2);
        assert_eq!(day_time(i64::MAX, Tz::UTC), None);
    }
}
