//! What one value means, whatever it came in: text as a number, as a moment, as a label; bytes as a decimal.
//!
//! Parquet, JSON and Avro all read by these rules, so that a record means the same in each. A moment
//! is microseconds since 1970-01-01T00:00:00Z within the years 0000 to 9999, which RFC 3339 can write.

use chrono::{DateTime, SecondsFormat, Utc};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::field::TimeUnit;

/// 0000-01-01T00:00:00Z in microseconds: the first moment that RFC 3339 can write.
pub const MICROSECONDS_MIN: i64 = -62_167_219_200_000_000;

/// 9999-12-31T23:59:59.999999Z in microseconds: the last moment that RFC 3339 can write.
pub const MICROSECONDS_MAX: i64 = 253_402_300_799_999_999;

/// Bytes of the longest text that is looked at as a moment: nine decimals and a zone take 35.
const MOMENT_BYTES_MAX: usize = 64;

/// Bytes of the longest unscaled decimal that is looked at: 128 bytes are 308 digits, the range of an f64.
const DECIMAL_BYTES_MAX: usize = 128;

/// Characters of [`DECIMAL_BYTES_MAX`] bytes in base64, padding included.
const DECIMAL_TEXT_MAX: usize = DECIMAL_BYTES_MAX.div_ceil(3) * 4;

/// Integers below this size are exact as an f64, and no other rounds to them: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The same for an f32: 2^24.
pub const SINGLE_EXACT_MAX: f64 = 16_777_216.0;

/// The alphabet of RFC 4648, section 4; the padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
        TimeUnit::Days => count.checked_mul(86_400_000_000)?,
        TimeUnit::S => count.checked_mul(1_000_000)?,
        TimeUnit::Ms => count.checked_mul(1_000)?,
        TimeUnit::Us => count,
        TimeUnit::Ns => count.div_euclid(1_000),
    };
    within_range(i64::try_from(scaled).ok()?)
}

/// Microseconds of the moment `number` units after 1970-01-01T00:00:00Z: of whole numbers as of integers, of others
/// rounded to the nearest microsecond from the exact value of the f64 (nanoseconds rounded down, as integers are). `None`
/// outside the years 0000 to 9999.
pub fn microseconds_of_number(number: f64, unit: TimeUnit) -> Option<i64> {
    let factor: i128 = match unit {
        TimeUnit::Days => 86_400_000_000,
        TimeUnit::S => 1_000_000,
        TimeUnit::Ms => 1_000,
        TimeUnit::Us => 1,
        TimeUnit::Ns => return microseconds(whole(number.floor())?, unit),
    };
    let count = whole(number.trunc())?;
    let fraction = scaled_fraction(number.fract().abs(), factor);
    let fraction = if number < 0.0 { -fraction } else { fraction };
    let micros = count.checked_mul(factor)?.checked_add(fraction)?;
    within_range(i64::try_from(micros).ok()?)
}

/// `fraction` times `factor`, rounded to the nearest integer from the exact product, halves up; 0 <= fraction < 1 and
/// factor < 2^37.
fn scaled_fraction(fraction: f64, factor: i128) -> i128 {
    let bits = fraction.to_bits();
    let exponent = (bits >> 52) as i32;
    if exponent == 0 {
        return 0;
    }
    // The fraction is mantissa / 2^shift, with 53 bits of mantissa and a shift of at least 53.
    let mantissa = i128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let shift = 1_075 - exponent;
    if shift > 120 {
        return 0;
    }
    (mantissa * factor + (1 << (shift - 1))) >> shift
}

/// The integer that `number` is, if it has no fraction: JSON libraries and data frames write 7 as 7.0.
pub fn whole(number: f64) -> Option<i128> {
    // Any moment and any category lies far within; a cast beyond i128 would saturate.
    (number.fract() == 0.0 && number.abs() < 1e30).then_some(number as i128)
}

/// The integer that `number` is, if it has no fraction and no neighbour rounds to the same f64 (below 2^53): a code
/// that was rounded would be another code.
pub fn exact_whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < EXACT_MAX).then_some(number as i64)
}

/// An unscaled decimal: big-endian two's complement, as Java's `BigInteger` and Avro write it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unscaled {
    /// Of up to 16 bytes.
    Exact(i128),
    /// Of more, summed in f64; infinite beyond its range.
    Wide(f64),
}

impl Unscaled {
    /// Reads `bytes`; no bytes are 0.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        if bytes.len() > 16 {
            // The value of the complement is -(x + 1).
            let sum = bytes.iter().fold(0.0, |sum, &byte| {
                sum * 256.0 + f64::from(if negative { !byte } else { byte })
            });
            return Self::Wide(if negative { -(sum + 1.0) } else { sum });
        }
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        Self::Exact(i128::from_be_bytes(wide))
    }

    /// The number divided by 10^scale.
    pub fn scaled(self, scale: i32) -> f64 {
        let unscaled = match self {
            Self::Exact(unscaled) => unscaled as f64,
            Self::Wide(unscaled) => unscaled,
        };
        match scale {
            0.. => unscaled / 10_f64.powi(scale),
            _ => unscaled * 10_f64.powi(-scale),
        }
    }
}

/// The decimal whose unscaled number is `bytes`; `None` of no bytes, of more than 128, and beyond the range of an f64.
pub fn decimal_from_bytes(bytes: &[u8], scale: i16) -> Option<f64> {
    if bytes.is_empty() || bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let number = Unscaled::from_bytes(bytes).scaled(scale.into());
    number.is_finite().then_some(number)
}

/// Digits behind (or, negative, before) the point that a decimal may have: databases go to 127, an f64 to 308.
pub const DECIMAL_SCALE_MAX: u16 = 127;

/// The decimal whose unscaled number is `bytes` and that carries its `scale` with it; `None` as [`decimal_from_bytes`], and
/// of a scale beyond [`DECIMAL_SCALE_MAX`].
pub fn decimal_of_scale(bytes: &[u8], scale: i64) -> Option<f64> {
    let scale = i16::try_from(scale).ok()?;
    (scale.unsigned_abs() <= DECIMAL_SCALE_MAX)
        .then(|| decimal_from_bytes(bytes, scale))
        .flatten()
}

/// The same with the unscaled number in base64, as JSON writes it.
pub fn decimal_of_scale_in_base64(text: &str, scale: i64) -> Option<f64> {
    let scale = i16::try_from(scale).ok()?;
    (scale.unsigned_abs() <= DECIMAL_SCALE_MAX)
        .then(|| decimal_from_base64(text, scale))
        .flatten()
}

/// The decimal whose unscaled number is written in base64, as Kafka Connect's JSON converter writes `Decimal`; `None`
/// of other text, and as [`decimal_from_bytes`].
pub fn decimal_from_base64(text: &str, scale: i16) -> Option<f64> {
    if text.len() > DECIMAL_TEXT_MAX {
        return None;
    }
    let mut bytes = [0; DECIMAL_TEXT_MAX];
    let length = BASE64.decode_slice(text, &mut bytes).ok()?;
    decimal_from_bytes(&bytes[..length], scale)
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

/// The boolean that `text` writes: `0`, `1`, `false` or `true`, the words in any case (Python writes `True`).
pub fn flag_from_text(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ => None,
    }
}

/// Words that a label says "no" with, in lower case.
const NO_WORDS: [&str; 21] = [
    "0",
    "false",
    "f",
    "no",
    "n",
    "0.0",
    "normal",
    "legit",
    "legitimate",
    "genuine",
    "benign",
    "good",
    "ok",
    "clean",
    "valid",
    "negative",
    "inlier",
    "nonfraud",
    "non-fraud",
    "not fraud",
    "not_fraud",
];

/// Words that a label says "yes" with, in lower case.
const YES_WORDS: [&str; 21] = [
    "1",
    "true",
    "t",
    "yes",
    "y",
    "1.0",
    "fraud",
    "fraudulent",
    "fraudster",
    "anomaly",
    "anomalous",
    "abnormal",
    "outlier",
    "attack",
    "malicious",
    "malware",
    "bad",
    "suspicious",
    "positive",
    "chargeback",
    "scam",
];

/// The label that `text` writes in any case, within quotes or none: `0`, `1`, `false`, `true`, or one of two short
/// lists of words such as `no` and `yes`, `normal` and `fraud`, `legitimate` and `fraudulent`.
pub fn label_from_text(text: &str) -> Option<bool> {
    let quoted = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    let text = quoted.unwrap_or(text);
    let is = |word: &&str| text.eq_ignore_ascii_case(word);
    if NO_WORDS.iter().any(is) {
        Some(false)
    } else {
        YES_WORDS.iter().any(is).then_some(true)
    }
}

/// The label that `number` is: 0 or 1.
pub fn label_from_number(number: f64) -> Option<bool> {
    if number == 0.0 {
        Some(false)
    } else if number == 1.0 {
        Some(true)
    } else {
        None
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
    fn days_are_counted_from_1970() {
        // 2026-01-05, as Connect's and Debezium's Date write it.
        let micros = microseconds(20_458, TimeUnit::Days).and_then(moment_to_text);
        assert_eq!(micros.as_deref(), Some("2026-01-05T00:00:00Z"));
        assert_eq!(microseconds(-1, TimeUnit::Days), Some(-86_400_000_000));
        assert_eq!(microseconds(4_000_000, TimeUnit::Days), None);
        assert_eq!(microseconds(i128::MAX, TimeUnit::Days), None);
    }

    #[test]
    fn fractions_of_a_unit_are_rounded_to_the_nearest_microsecond() {
        for (number, unit, micros) in [
            (1_767_600_000.25, TimeUnit::S, 1_767_600_000_250_000),
            // The nearest f64 is 1767600000.0999999046.
            (1_767_600_000.1, TimeUnit::S, 1_767_600_000_100_000),
            (-0.25, TimeUnit::S, -250_000),
            (-1.75, TimeUnit::S, -1_750_000),
            (20_458.5, TimeUnit::Days, 1_767_614_400_000_000),
            (0.5, TimeUnit::Ms, 500),
            (0.5, TimeUnit::Us, 1),
            (0.499, TimeUnit::Us, 0),
            (1_999.0, TimeUnit::Ns, 1),
            (1_999.9, TimeUnit::Ns, 1),
            (-0.5, TimeUnit::Ns, -1),
            (5e-324, TimeUnit::S, 0),
            (1e-40, TimeUnit::Days, 0),
            (7.0, TimeUnit::S, 7_000_000),
        ] {
            assert_eq!(
                microseconds_of_number(number, unit),
                Some(micros),
                "{number} {unit:?}"
            );
        }
        for number in [f64::NAN, f64::INFINITY, 1e300, 253_402_300_800.5] {
            assert_eq!(
                microseconds_of_number(number, TimeUnit::S),
                None,
                "{number}"
            );
        }
    }

    #[test]
    fn a_float_without_a_fraction_is_an_integer() {
        assert_eq!(whole(1_767_600_000_000.0), Some(1_767_600_000_000));
        assert_eq!(whole(-0.0), Some(0));
        for number in [1.5, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(whole(number), None, "{number}");
        }
        assert_eq!(exact_whole(5_411.0), Some(5_411));
        assert_eq!(exact_whole(9_007_199_254_740_991.0), Some((1 << 53) - 1));
        // 2^53 + 1 rounds to 2^53.
        assert_eq!(exact_whole(9_007_199_254_740_992.0), None);
    }

    #[test]
    fn base64_is_never_taken_for_digits() {
        // java.util.Base64 of new BigDecimal("12.34").unscaledValue().toByteArray(), and of others.
        assert_eq!(decimal_from_base64("BNI=", 2), Some(12.34));
        assert_eq!(decimal_from_base64("BNI", 2), Some(12.34));
        assert_eq!(decimal_from_base64("+y4=", 2), Some(-12.34));
        assert_eq!(decimal_from_base64("AA==", 0), Some(0.0));
        // Digits that are base64 too: three bytes d7 6d f8, which are -2,658,824.
        assert_eq!(decimal_from_base64("1234", 2), Some(-26_588.24));
        assert_eq!(decimal_from_base64("AQ==", -3), Some(1_000.0));
        let long = "A".repeat(DECIMAL_TEXT_MAX + 4);
        for text in ["", "12.34", "BNI=BNI=", "-1", " BNI=", "1", long.as_str()] {
            assert_eq!(decimal_from_base64(text, 2), None, "{text:?}");
        }
    }

    #[test]
    fn unscaled_bytes_of_any_length_keep_their_sign() {
        assert_eq!(Unscaled::from_bytes(&[0xff, 0x80]), Unscaled::Exact(-128));
        let mut wide = vec![0xff; 17];
        wide[16] = 0x80;
        assert_eq!(Unscaled::from_bytes(&wide), Unscaled::Wide(-128.0));
        assert_eq!(decimal_from_bytes(&wide, 1), Some(-12.8));
        assert_eq!(decimal_from_bytes(&[0x7f; 129], 0), None);
        let most = decimal_from_bytes(&[0x7f; 128], 0);
        assert!(most.is_some_and(f64::is_finite));
        assert_eq!(decimal_from_bytes(&[0x7f; 128], -3), None);
    }

    #[test]
    fn a_label_is_read_from_the_words_that_files_use() {
        for text in [
            "0",
            "false",
            "No",
            "NORMAL",
            "legit",
            "'0'",
            "non-fraud",
            "0.0",
        ] {
            assert_eq!(label_from_text(text), Some(false), "{text}");
        }
        for text in ["1", "True", "yes", "Fraud", "anomaly", "'1'", "1.0"] {
            assert_eq!(label_from_text(text), Some(true), "{text}");
        }
        for text in ["", "2", "-1", "maybe", "fraud?", "''", "'"] {
            assert_eq!(label_from_text(text), None, "{text}");
        }
        // A boolean is stricter: it is no judgement.
        for text in ["yes", "fraud", "1.0", " true"] {
            assert_eq!(flag_from_text(text), None, "{text}");
        }
        assert_eq!(flag_from_text("TRUE"), Some(true));
    }

    #[test]
    fn the_bounds_are_the_first_and_last_moment_of_rfc_3339() {
        let first = moment_to_text(MICROSECONDS_MIN);
        assert_eq!(first.as_deref(), Some("0000-01-01T00:00:00Z"));
        let last = moment_to_text(MICROSECONDS_MAX);
        assert_eq!(last.as_deref(), Some("9999-12-31T23:59:59.999999Z"));
    }
}
