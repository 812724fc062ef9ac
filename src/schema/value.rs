//! What one value means, whatever it came in: text as a number, as a moment, as a label.
//!
//! Parquet, JSON and Avro all read by these rules, so that a record means the same in each. A moment
//! is microseconds since 1970-01-01T00:00:00Z within the years 0000 to 9999, which RFC 3339 can write.

use chrono::{DateTime, SecondsFormat, Utc};

use super::field::TimeUnit;

/// 0000-01-01T00:00:00Z in microseconds: the first moment that RFC 3339 can write.
pub const MICROSECONDS_MIN: i64 = -62_167_219_200_000_000;

/// 9999-12-31T23:59:59.999999Z in microseconds: the last moment that RFC 3339 can write.
pub const MICROSECONDS_MAX: i64 = 253_402_300_799_999_999;

/// Bytes of the longest text that is looked at as a moment: nine decimals and a zone take 35.
const MOMENT_BYTES_MAX: usize = 64;

/// The number that `text` writes in decimal, as JSON does but for leading zeros and signs; `None` of
/// anything else, of `nan` and `inf`, and of a number beyond the range of an f64.
pub fn number_from_text(text: &str) -> Option<f64> {
    let decimal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if !text.bytes().all(decimal) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Microseconds of the moment that `text` writes in RFC 3339, with a blank for the `T` if need be.
/// Without a zone it is UTC, without a time it is midnight; digits beyond microseconds are cut.
pub fn moment_from_text(text: &str) -> Option<i64> {
    if text.len() > MOMENT_BYTES_MAX {
        return None;
    }
    let with = |ending: &str| DateTime::parse_from_rfc3339(&format!("{text}{ending}"));
    let moment = DateTime::parse_from_rfc3339(text)
        .or_else(|_| with("Z"))
        .or_else(|_| with("T00:00:00Z"))
        .ok()?;
    within_range(moment.timestamp_micros())
}

/// Microseconds of the moment `count` units after 1970-01-01T00:00:00Z, rounded down; `None` outside
/// the years 0000 to 9999.
pub fn microseconds(count: i128, unit: TimeUnit) -> Option<i64> {
    let scaled = match unit {
        TimeUnit::S => count.checked_mul(1_000_000)?,
        TimeUnit::Ms => count.checked_mul(1_000)?,
        TimeUnit::Us => count,
        TimeUnit::Ns => count.div_euclid(1_000),
    };
    within_range(i64::try_from(scaled).ok()?)
}

/// A finite number as JSON; a whole one as it was most likely received: 42 rather than 42.0.
pub fn number_to_json(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        serde_json::Value::from(number as i64)
    } else {
        serde_json::Value::from(number)
    }
}

/// RFC 3339 text in UTC of a moment in microseconds, with as many decimals as it needs (0, 3 or 6);
/// `None` beyond what the calendar holds.
pub fn moment_to_text(microseconds: i64) -> Option<String> {
    let moment: DateTime<Utc> = DateTime::from_timestamp_micros(microseconds)?;
    Some(moment.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// The label that `text` writes: `0`, `1`, `false` or `true`.
pub fn label_from_text(text: &str) -> Option<bool> {
    match text {
        "0" | "false" => Some(false),
        "1" | "true" => Some(true),
        _ => None,
    }
}

fn within_range(microseconds: i64) -> Option<i64> {
    (MICROSECONDS_MIN..=MICROSECONDS_MAX)
        .contains(&microseconds)
        .then_some(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_decimal_text_is_a_number() {
        let read = ["12", "-3.5", "1e3", "007", "+2", ".5"].map(number_from_text);
        assert_eq!(read, [12.0, -3.5, 1000.0, 7.0, 2.0, 0.5].map(Some));
        for text in [
            "", "nan", "NaN", "inf", "infinity", "1e999", "1,5", " 1", "0x10", "e", "-",
        ] {
            assert_eq!(number_from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_moment_without_zone_is_utc_and_without_time_is_midnight() {
        let noon = 1_530_446_400_000_000; // 2018-07-01T12:00:00Z
        for text in [
            "2018-07-01T12:00:00Z",
            "2018-07-01 12:00:00",
            "2018-07-01T14:00:00+02:00",
        ] {
            assert_eq!(moment_from_text(text), Some(noon), "{text}");
        }
        assert_eq!(
            moment_from_text("2018-07-01"),
            Some(noon - 12 * 3_600_000_000)
        );
        assert_eq!(
            moment_from_text("2018-07-01T12:00:00.1234567"),
            Some(noon + 123_456)
        );
        for text in [
            "",
            "12",
            "2018-13-01",
            "2018-07-01T25:00:00Z",
            "yesterday",
            "01/07/2018",
        ] {
            assert_eq!(moment_from_text(text), None, "{text}");
        }
    }

    #[test]
    fn integer_moments_are_scaled_rounded_down_and_bounded() {
        assert_eq!(microseconds(2, TimeUnit::S), Some(2_000_000));
        assert_eq!(microseconds(-1, TimeUnit::Ns), Some(-1));
        assert_eq!(microseconds(1_999, TimeUnit::Ns), Some(1));
        assert_eq!(microseconds(i128::from(u64::MAX), TimeUnit::Ms), None);
        assert_eq!(
            microseconds(i128::from(MICROSECONDS_MAX) + 1, TimeUnit::Us),
            None
        );
    }

    #[test]
    fn the_bounds_are_the_first_and_last_moment_of_rfc_3339() {
        let first = moment_to_text(MICROSECONDS_MIN);
        assert_eq!(first.as_deref(), Some("0000-01-01T00:00:00Z"));
        let last = moment_to_text(MICROSECONDS_MAX);
        assert_eq!(last.as_deref(), Some("9999-12-31T23:59:59.999999Z"));
    }
}
