//! How the values of one field are spelled: which of them mean null, and how text writes a number.
//!
//! In flow the keys `null_values`, `decimal_separator`, `thousands_separator` and `strip` of a field, out
//! flows a [`Spelling`] that Parquet, JSON and Avro all ask, so that a value means the same in each. The
//! invariant: text that follows the declared form in part only is no number. `1,5` is never 15.

use super::field::{DEFAULT_DECIMAL_SEPARATOR, Field, Kind, Role};
use super::value::{moment_from_text, number_from_text};

/// Bytes of the longest text that is read as a number of a declared form.
const NUMBER_BYTES_MAX: usize = 128;

/// Null markers and the form of numbers in text, prepared for one field.
#[derive(Debug, Clone, Default)]
pub struct Spelling {
    null_texts: Vec<String>,
    null_integers: Vec<i128>,
    null_numbers: Vec<f64>,
    /// Of a timestamp, in microseconds since 1970-01-01T00:00:00Z.
    null_moments: Vec<i64>,
    /// `None` where a number in text is plain decimal, as in JSON.
    form: Option<NumberForm>,
}

impl Spelling {
    /// What the keys of `field` say.
    pub fn of(field: &Field) -> Self {
        let form = NumberForm {
            decimal: field.decimal_separator,
            thousands: field.thousands_separator,
            strip: field.strip.clone(),
        };
        let texts = &field.null_values;
        let is_moment = field.kind == Kind::Timestamp && field.role != Role::Key;
        let moments = texts.iter().filter(|_| is_moment);
        Self {
            null_texts: texts.clone(),
            null_integers: texts.iter().filter_map(|text| text.parse().ok()).collect(),
            null_numbers: texts
                .iter()
                .filter_map(|text| number_from_text(text))
                .collect(),
            null_moments: moments.filter_map(|text| moment_from_text(text)).collect(),
            form: (!form.is_plain()).then_some(form),
        }
    }

    /// Whether any value means null.
    pub fn has_nulls(&self) -> bool {
        !self.null_texts.is_empty()
    }

    /// Whether this text is one of the null values, character by character.
    pub fn is_null_text(&self, text: &str) -> bool {
        self.null_texts.iter().any(|null| null == text)
    }

    /// Whether a null value writes this integer.
    pub fn is_null_integer(&self, value: i128) -> bool {
        self.null_integers.contains(&value)
    }

    /// Whether a null value writes this number.
    pub fn is_null_number(&self, value: f64) -> bool {
        self.null_numbers.contains(&value)
    }

    /// Whether a null value writes this moment, in whatever form the moment came.
    pub fn is_null_moment(&self, micros: i64) -> bool {
        self.null_moments.contains(&micros)
    }

    /// The number that `text` writes in the form of the field; `None` of anything else.
    pub fn number(&self, text: &str) -> Option<f64> {
        match &self.form {
            None => number_from_text(text),
            Some(form) => form.read(text),
        }
    }
}

/// How text writes a number. A minus may stand before or behind, or brackets around: `(12.50)` is -12.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberForm {
    /// Between whole and fraction.
    pub(super) decimal: char,
    /// Between groups of three digits (of two above the last three, as in India), if at all.
    pub(super) thousands: Option<char>,
    /// Texts that may stand before or behind the number, such as a currency sign.
    pub(super) strip: Vec<String>,
}

impl NumberForm {
    fn is_plain(&self) -> bool {
        self.decimal == DEFAULT_DECIMAL_SEPARATOR
            && self.thousands.is_none()
            && self.strip.is_empty()
    }

    /// The number that `text` writes in this form.
    pub(super) fn read(&self, text: &str) -> Option<f64> {
        number_of_form(text, self.decimal, self.thousands, &self.strip)
    }
}

/// The number that `text` writes with these separators, after one of `strip` was taken off either end.
pub(super) fn number_of_form(
    text: &str,
    decimal: char,
    thousands: Option<char>,
    strip: &[impl AsRef<str>],
) -> Option<f64> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let (negative, digits) = bare(text, strip);
    let mut plain = String::with_capacity(digits.len() + 1);
    if negative {
        // After a sign that was taken off no other sign may follow.
        if digits.starts_with(['-', '+']) {
            return None;
        }
        plain.push('-');
    }
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let (whole, fraction) = match mantissa.split_once(decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    push_whole(whole, thousands, &mut plain)?;
    if let Some(fraction) = fraction {
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        plain.push('.');
        plain.push_str(fraction);
    }
    plain.push_str(exponent);
    number_from_text(&plain)
}

/// Whether the number is negative by a sign that was taken off, and what is left of the text.
fn bare<'t>(text: &'t str, strip: &[impl AsRef<str>]) -> (bool, &'t str) {
    let mut rest = text.trim();
    let bracketed = rest
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let mut negative = bracketed.is_some();
    rest = bracketed.unwrap_or(rest).trim();
    // A sign may stand on either side of what is stripped: "-$5", "$-5", "5- EUR".
    for _ in 0..2 {
        if let Some(inner) = signless(rest).filter(|_| !negative) {
            (negative, rest) = (true, inner.trim());
        }
        let affixes = strip.iter().map(AsRef::as_ref);
        for affix in affixes.filter(|affix: &&str| !affix.is_empty()) {
            if let Some(inner) = rest.strip_prefix(affix) {
                rest = inner.trim_start();
                break;
            }
            if let Some(inner) = rest.strip_suffix(affix) {
                rest = inner.trim_end();
                break;
            }
        }
    }
    (negative, rest)
}

/// Appends the digits before the decimal separator without what groups them.
fn push_whole(whole: &str, thousands: Option<char>, plain: &mut String) -> Option<()> {
    let (sign, digits) = match whole.strip_prefix('+') {
        Some(digits) => ("+", digits),
        None => ("", whole),
    };
    plain.push_str(sign);
    let Some(thousands) = thousands else {
        return digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| plain.push_str(digits));
    };
    let groups: Vec<&str> = digits
        .split(|c| c == thousands || is_twin(c, thousands))
        .collect();
    let last = groups.len() - 1;
    for (index, group) in groups.iter().enumerate() {
        let width = group.len();
        let sound = match (index, last) {
            (0, 0) => true,
            // Nobody groups a number that begins with a zero: `0,125` is a fraction.
            (0, _) => (1..=3).contains(&width) && !group.starts_with('0'),
            _ if index == last => width == 3,
            _ => (2..=3).contains(&width),
        };
        if !(sound && group.bytes().all(|byte| byte.is_ascii_digit())) {
            return None;
        }
        plain.push_str(group);
    }
    Some(())
}

/// The text without the minus before or behind it; U+2212 is the minus of typesetting.
fn signless(text: &str) -> Option<&str> {
    let minus = ['-', '\u{2212}'];
    text.strip_prefix(minus)
        .or_else(|| text.strip_suffix(minus))
}

/// Whether `c` is written where `separator` is meant: blanks of any width, straight and curly apostrophes.
fn is_twin(c: char, separator: char) -> bool {
    const BLANKS: [char; 4] = [' ', '\u{a0}', '\u{202f}', '\u{2009}'];
    const APOSTROPHES: [char; 2] = ['\'', '\u{2019}'];
    [&BLANKS[..], &APOSTROPHES[..]]
        .iter()
        .any(|twins| twins.contains(&separator) && twins.contains(&c))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn form(decimal: char, thousands: Option<char>, strip: &[&str]) -> NumberForm {
        NumberForm {
            decimal,
            thousands,
            strip: strip.iter().map(|&affix| affix.to_owned()).collect(),
        }
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let dollars = form('.', Some(','), &["$", "USD"]);
        let euros = form(',', Some('.'), &["€", "EUR"]);
        let francs = form('.', Some('\''), &["CHF"]);
        let french = form(',', Some(' '), &["€"]);
        for (form, text, number) in [
            (&dollars, "$1,234.50", 1234.5),
            (&dollars, "-$1,234.50", -1234.5),
            (&dollars, "$-12", -12.0),
            (&dollars, "(1,234.50)", -1234.5),
            (&dollars, "1234.5 USD", 1234.5),
            (&dollars, "12,34,567.5", 1_234_567.5),
            (&dollars, " 7 ", 7.0),
            (&euros, "1.234,50 €", 1234.5),
            (&euros, "12,5-", -12.5),
            (&euros, "EUR 3", 3.0),
            (&euros, "1.5e0", f64::NAN),
            (&francs, "CHF 1\u{2019}234.05", 1234.05),
            (&french, "1\u{202f}234,5\u{a0}€", 1234.5),
            (&french, "\u{2212}3,5", -3.5),
        ] {
            let read = form.read(text);
            assert_eq!(
                read.unwrap_or(f64::NAN).to_bits(),
                number.to_bits(),
                "{text}"
            );
        }
    }

    #[test]
    fn text_that_follows_the_form_in_part_only_is_no_number() {
        let dollars = form('.', Some(','), &["$"]);
        for text in [
            "1,5",
            "1,2345",
            ",123",
            "1,,234",
            "1234,567",
            "0,125",
            "1.234,5",
            "",
            "$",
            "--5",
            "(-5)",
            "1.2.3",
            "€5",
            "$$5x",
            "1,234.5,6",
            "nan",
            "0x10",
            "1e999",
        ] {
            assert_eq!(dollars.read(text), None, "{text:?}");
        }
        let long = "1".repeat(NUMBER_BYTES_MAX + 1);
        assert_eq!(dollars.read(&long), None);
    }

    proptest! {
        #[test]
        fn every_amount_is_read_back_from_every_form(
            cents in -10_000_000_000_i64..10_000_000_000, style in 0..4_usize, group in any::<bool>()
        ) {
            let (decimal, thousands) = [('.', ','), (',', '.'), ('.', '\''), (',', ' ')][style];
            let form = form(decimal, Some(thousands), &["€"]);
            let digits = (cents.abs() / 100).to_string();
            let mut whole = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if group && index > 0 && (digits.len() - index) % 3 == 0 {
                    whole.push(thousands);
                }
                whole.push(digit);
            }
            let sign = if cents < 0 { "-" } else { "" };
            let text = format!("{sign}{whole}{decimal}{:02} €", cents.abs() % 100);
            let expected = if cents < 0 { -(cents.abs() as f64 / 100.0) } else { cents as f64 / 100.0 };
            prop_assert_eq!(form.read(&text), Some(expected), "{}", text);
        }
    }
}
