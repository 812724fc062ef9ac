//! Moments: the hour of the day and the day of the week in the field's own time zone.

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
