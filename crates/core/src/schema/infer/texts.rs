//! What all text of one column looks like: numbers in one of the forms that people write, moments, codes.
//!
//! In flow texts, out flow the form in which (nearly) all are numbers with the texts that mean "missing", or
//! whether all are moments. Every form is tried on every text, so the answer does not depend on the order of rows.
//! Memory is bounded: a form is given up at the ninth text that it does not read.

use std::collections::BTreeMap;

use super::super::field::DEFAULT_DECIMAL_SEPARATOR;
use super::super::moments::MomentTally;
use super::super::spelling::number_of_form;
use super::super::value::{moment_from_text, number_from_text};
use super::numbers::Numbers;

/// Texts that are no numbers, or no moments, that a column may have beside: they become null values.
const OTHERS_MAX: usize = 8;
/// Bytes of each of them at most.
const OTHER_BYTES_MAX: usize = 32;
/// Currency signs and the like that are kept at most.
const AFFIXES_MAX: usize = 4;
/// Share of the rows that other texts may be, unless they are usual words for "missing".
const OTHERS_SHARE: f64 = 0.05;

/// The forms, the likeliest first: decimal and thousands separator.
const FORMS: [(char, Option<char>); 7] = [
    ('.', None),
    ('.', Some(',')),
    (',', None),
    (',', Some('.')),
    (',', Some(' ')),
    ('.', Some(' ')),
    ('.', Some('\'')),
];

/// The codes of money in use (ISO 4217), and those of the two crypto-currencies that amounts are most often given in.
const CURRENCIES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTC BTN \
    BWP BYN BZD CAD CDF CHF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB ETH EUR FJD FKP GBP GEL GHS \
    GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT \
    LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB \
    PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS \
    TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// Words that people write where a value is missing.
const MISSING: [&str; 19] = [
    "",
    "na",
    "n/a",
    "#n/a",
    "nan",
    "null",
    "(null)",
    "none",
    "nil",
    "-",
    "--",
    "?",
    ".",
    "\\n",
    "missing",
    "unknown",
    "undefined",
    "not available",
    "n.a.",
];

/// Texts beside those that are read, with their rows; `None` once there are too many.
#[derive(Clone)]
struct Others(Option<BTreeMap<String, u64>>);

impl Others {
    fn add(&mut self, text: &str) {
        let Some(others) = &mut self.0 else { return };
        if let Some(rows) = others.get_mut(text) {
            *rows += 1;
        } else if others.len() < OTHERS_MAX && text.len() <= OTHER_BYTES_MAX {
            others.insert(text.to_owned(), 1);
        } else {
            self.0 = None;
        }
    }

    /// How many of `rows` have a text that is no usual word for "missing"; `None` if the texts cannot all be null values.
    fn odd_rows(&self, rows: u64) -> Option<u64> {
        let others = self.0.as_ref()?;
        let is_missing = |text: &str| MISSING.contains(&text.trim().to_lowercase().as_str());
        let odd: u64 = others
            .iter()
            .filter(|(text, _)| !is_missing(text))
            .map(|(_, rows)| rows)
            .sum();
        let all: u64 = others.values().sum();
        (all < rows && odd as f64 <= OTHERS_SHARE * rows as f64).then_some(odd)
    }

    /// The texts as null values, if among `rows` they can be meant so.
    fn as_nulls(&self, rows: u64) -> Option<Vec<String>> {
        self.odd_rows(rows)?;
        Some(self.0.as_ref()?.keys().cloned().collect())
    }
}

/// How a column writes numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberText {
    /// Between whole and fraction.
    pub(super) decimal: char,
    /// Between groups of digits, if any text needs it.
    pub(super) thousands: Option<char>,
    /// Currency signs and the like.
    pub(super) strip: Vec<String>,
    /// Texts that mean null.
    pub(super) null_values: Vec<String>,
}

impl NumberText {
    /// Whether `parse` alone reads it, but for null values.
    pub(super) fn is_plain(&self) -> bool {
        self.decimal == DEFAULT_DECIMAL_SEPARATOR
            && self.thousands.is_none()
            && self.strip.is_empty()
    }
}

/// Texts of one column.
pub(super) struct Texts {
    rows: u64,
    others: [Others; FORMS.len()],
    not_moments: Others,
    /// The texts that are moments.
    pub(super) when: MomentTally,
    affixes: Option<Vec<String>>,
    /// The first text by its letters that is one number with a decimal point and another with a comma, and both.
    either: Option<(String, [f64; 2])>,
    /// Whether each whole number is digits only, none with a zero in front as codes have.
    pub(super) is_plain: bool,
    /// The numbers of the forms with a decimal point, and of those with a decimal comma.
    point: Box<Numbers>,
    comma: Box<Numbers>,
}

impl Default for Texts {
    fn default() -> Self {
        let none = Others(Some(BTreeMap::new()));
        Self {
            rows: 0,
            others: std::array::from_fn(|_| none.clone()),
            not_moments: none,
            when: MomentTally::default(),
            affixes: Some(Vec::new()),
            either: None,
            is_plain: true,
            point: Box::default(),
            comma: Box::default(),
        }
    }
}

impl Texts {
    /// Counts a text; returns the number that it writes with a decimal point, else with a comma, else NaN.
    pub(super) fn add(&mut self, text: &str) -> f64 {
        self.rows += 1;
        if self.not_moments.0.is_some() {
            match moment_from_text(text) {
                Some(micros) => self.when.observe(micros),
                None => self.not_moments.add(text),
            }
        }
        if self.others.iter().all(|others| others.0.is_none()) {
            return f64::NAN;
        }
        if !text.bytes().any(|byte| byte.is_ascii_digit()) {
            self.others.iter_mut().for_each(|others| others.add(text));
            return f64::NAN;
        }
        let affix = affix_of(text);
        let strip: &[&str] = affix.as_slice();
        let (mut point, mut comma) = (None, None);
        for ((decimal, thousands), others) in FORMS.into_iter().zip(&mut self.others) {
            let number = if decimal == DEFAULT_DECIMAL_SEPARATOR
                && thousands.is_none()
                && strip.is_empty()
            {
                // Without any key the decoders read plain numbers only.
                number_from_text(text)
            } else {
                number_of_form(text, decimal, thousands, strip)
            };
            if number.is_none() {
                others.add(text);
            }
            let family = if decimal == ',' {
                &mut comma
            } else {
                &mut point
            };
            *family = family.or(number);
        }
        if let (Some(affix), true) = (affix, point.or(comma).is_some()) {
            self.add_affix(affix);
        }
        self.note_either(text, point, comma);
        // `TRM00042` is a code as `00042` is.
        let digits = text
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .as_bytes();
        self.is_plain &= !(digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit());
        point.into_iter().for_each(|number| self.point.add(number));
        comma.into_iter().for_each(|number| self.comma.add(number));
        point.or(comma).unwrap_or(f64::NAN)
    }

    fn note_either(&mut self, text: &str, point: Option<f64>, comma: Option<f64>) {
        if let (Some(point), Some(comma)) = (point, comma)
            && point.to_bits() != comma.to_bits()
            && self
                .either
                .as_ref()
                .is_none_or(|(known, _)| text < known.as_str())
        {
            self.either = Some((text.to_owned(), [point, comma]));
        }
    }

    fn add_affix(&mut self, affix: &str) {
        let Some(affixes) = &mut self.affixes else {
            return;
        };
        if affixes.iter().any(|known| known == affix) {
            return;
        }
        affixes.push(affix.to_owned());
        affixes.sort_unstable();
        if affixes.len() > AFFIXES_MAX {
            self.affixes = None;
        }
    }

    /// The form in which (nearly) all texts are numbers, and those numbers: the one that leaves the fewest rows unread, the
    /// likeliest of those that leave as few.
    pub(super) fn numbers(&self) -> Option<(NumberText, &Numbers)> {
        let strip = self.affixes.clone()?;
        let odd = |index: usize| Some((self.others[index].odd_rows(self.rows)?, index));
        let (_, index) = (0..FORMS.len()).filter_map(odd).min()?;
        let null_values = self.others[index].as_nulls(self.rows)?;
        let (decimal, thousands) = FORMS[index];
        let form = NumberText {
            decimal,
            thousands,
            strip,
            null_values,
        };
        Some((
            form,
            if decimal == ',' {
                &self.comma
            } else {
                &self.point
            },
        ))
    }

    /// A text with the number that `form` reads in it and the other one that it may be, where nothing in the column tells
    /// whether its point or comma groups digits or begins a fraction: `1,234`.
    pub(super) fn either(&self, form: &NumberText) -> Option<(&str, f64, f64)> {
        let odd = |is_comma: bool| {
            let of_family = (0..FORMS.len()).filter(|&index| (FORMS[index].0 == ',') == is_comma);
            of_family
                .filter_map(|index| self.others[index].odd_rows(self.rows))
                .min()
        };
        let (text, [point, comma]) = self.either.as_ref()?;
        let is_open = odd(true)? == odd(false)?;
        let (read, other) = match form.decimal {
            ',' => (*comma, *point),
            _ => (*point, *comma),
        };
        is_open.then_some((text.as_str(), read, other))
    }

    /// The texts that mean null beside moments, where (nearly) all others are moments.
    pub(super) fn moments(&self) -> Option<Vec<String>> {
        self.not_moments.as_nulls(self.rows)
    }
}

/// The currency sign, ISO code or per cent sign before or behind a number, if there is one.
fn affix_of(text: &str) -> Option<&str> {
    const SIGNS: [&str; 24] = [
        "$", "€", "£", "¥", "₹", "₽", "₩", "₺", "₫", "₴", "₪", "฿", "₿", "%", "zł", "kr", "Kč",
        "Ft", "Fr", "Fr.", "R$", "US$", "A$", "C$",
    ];
    let in_number =
        |c: char| c.is_ascii_digit() || c.is_whitespace() || "+-\u{2212}.,'\u{2019}()".contains(c);
    let start = text.find(|c| !in_number(c))?;
    let rest = &text[start..];
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c.is_whitespace() || "+-\u{2212}()".contains(c))
        .unwrap_or(rest.len());
    let affix = &rest[..end];
    // Three capitals alone prove nothing: `TRM 42` is a terminal.
    let iso = affix.len() == 3 && CURRENCIES.split_whitespace().any(|code| code == affix);
    (iso || SIGNS.contains(&affix)).then_some(affix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seen(texts: &[&str]) -> Texts {
        let mut seen = Texts::default();
        for text in texts {
            seen.add(text);
        }
        seen
    }

    fn form(texts: &[&str]) -> Option<NumberText> {
        seen(texts).numbers().map(|(form, _)| form)
    }

    fn text_form(
        decimal: char,
        thousands: Option<char>,
        strip: &[&str],
        nulls: &[&str],
    ) -> Option<NumberText> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Some(NumberText {
            decimal,
            thousands,
            strip: owned(strip),
            null_values: owned(nulls),
        })
    }

    #[test]
    fn every_usual_form_of_numbers_is_found_with_its_missing_markers() {
        assert_eq!(
            form(&["1.5", "", "2", "N/A"]),
            text_form('.', None, &[], &["", "N/A"])
        );
        assert_eq!(
            form(&["$1,234.50", "-$12.00"]),
            text_form('.', Some(','), &["$"], &[])
        );
        assert_eq!(
            form(&["1.234,50 €", "7,00 €"]),
            text_form(',', Some('.'), &["€"], &[])
        );
        assert_eq!(form(&["12,5", "3", "-"]), text_form(',', None, &[], &["-"]));
        assert_eq!(
            form(&["1\u{202f}234,5", "2"]),
            text_form(',', Some(' '), &[], &[])
        );
        assert_eq!(
            form(&["CHF 1'234.05", "CHF 2"]),
            text_form('.', Some('\''), &["CHF"], &[])
        );
        assert_eq!(form(&["12.5%", "3%"]), text_form('.', None, &["%"], &[]));
        assert_eq!(
            form(&["1,234", "5,678"]),
            text_form('.', Some(','), &[], &[])
        );
    }

    #[test]
    fn the_form_that_reads_every_text_wins_over_one_that_makes_a_few_null() {
        let mut texts = vec!["12"; 100];
        texts.extend(["7,5", "12,50"]);
        assert_eq!(form(&texts), text_form(',', None, &[], &[]));
        let mut texts = vec!["3.5"; 100];
        texts.push("1,234.0");
        assert_eq!(form(&texts), text_form('.', Some(','), &[], &[]));
        // Nobody groups a number that begins with a zero.
        assert_eq!(form(&["1,234", "0,125"]), text_form(',', None, &[], &[]));
    }

    #[test]
    fn a_comma_that_may_group_digits_or_begin_a_fraction_is_told() {
        let either = |texts: &[&str]| {
            let seen = seen(texts);
            let (form, _) = seen.numbers().unwrap();
            let found = seen.either(&form);
            found.map(|(text, read, other)| (text.to_owned(), read, other))
        };
        let doubt = |text: &str, read, other| Some((text.to_owned(), read, other));
        assert_eq!(
            either(&["5,678", "1,234", "9"]),
            doubt("1,234", 1234.0, 1.234)
        );
        assert_eq!(either(&["1.234", "9"]), doubt("1.234", 1.234, 1234.0));
        for sure in [
            &["1,234", "1,5"][..],
            &["1,234", "1,234.5"],
            &["1,234,567"],
            &["1", "2"],
            &["1.5"],
        ] {
            assert_eq!(either(sure), None, "{sure:?}");
        }
    }

    #[test]
    fn a_prefix_that_is_no_currency_makes_no_number() {
        for codes in [
            ["TRM00042", "TRM00043"],
            ["SKU 17", "SKU 18"],
            ["ATM1", "POS2"],
        ] {
            assert_eq!(form(&codes), None, "{codes:?}");
        }
        assert_eq!(
            form(&["EUR 3", "USD 4"]),
            text_form('.', None, &["EUR", "USD"], &[])
        );
        assert!(!seen(&["$007"]).is_plain);
        assert!(seen(&["$7", "$0.07", "-$0"]).is_plain);
    }

    #[test]
    fn words_and_codes_are_no_numbers() {
        assert_eq!(form(&["a", "b"]), None);
        assert_eq!(form(&["", "N/A"]), None);
        assert_eq!(
            form(&["12", "13", "A4", "B7"]),
            None,
            "half of the rows are no numbers"
        );
        assert_eq!(form(&["10.0.0.1", "10.0.0.2"]), None);
        assert_eq!(form(&["1-2", "3-4"]), None);
        let days = seen(&["2018-07-01", "", "2018-07-02 10:00:00"]);
        assert_eq!(
            (days.moments(), days.numbers().is_none()),
            (Some(vec![String::new()]), true)
        );
        assert_eq!(seen(&["2018-07-01", "12"]).moments(), None);
    }

    #[test]
    fn a_rare_odd_text_becomes_a_null_value_and_many_do_not() {
        let mut texts = vec!["3.5"; 100];
        texts.push("pending");
        assert_eq!(form(&texts), text_form('.', None, &[], &["pending"]));
        let odd: Vec<String> = (0..9).map(|i| format!("odd{i}")).collect();
        let mut texts = vec!["3.5"; 1_000];
        texts.extend(odd.iter().map(String::as_str));
        assert_eq!(form(&texts), None);
    }
}
