//! Numbers as a person reads them.
//!
//! In flow shares, p-values, counts and values, out flows text without exponents and without digits that say nothing.
//! Whatever is read by programs has the numbers themselves.

/// Decimals that are added at most to tell two shares apart.
const MORE_DECIMALS_MAX: usize = 6;
/// From here on a value is written with an exponent: its digits would fill a line.
const LONG: f64 = 1e15;

/// A p-value for a person: four digits, and below them only that it is small. JSON has the number.
pub fn p_value_text(p_value: f64) -> String {
    if p_value < 1e-4 {
        "< 0.0001".to_owned()
    } else {
        format!("{p_value:.4}")
    }
}

/// A share as a percentage for a person: two digits that count, never an exponent.
pub fn share_text(share: f64) -> String {
    let decimals = decimals(share);
    format!("{:.decimals$} %", 100.0 * share)
}

/// Shares that are compared with each other, in percent without the sign: all with the same decimals, and so many of them
/// that shares which differ are not written alike.
pub fn percentages<const N: usize>(shares: [f64; N]) -> [String; N] {
    let least = shares.iter().map(|&share| decimals(share)).max();
    let least = least.unwrap_or(0);
    let written = |decimals: usize| shares.map(|share| format!("{:.decimals$}", 100.0 * share));
    let tells_apart = |texts: &[String; N]| {
        let mut pairs = (0..N).flat_map(|a| (0..a).map(move |b| (a, b)));
        pairs.all(|(a, b)| texts[a] != texts[b] || shares[a] == shares[b])
    };
    (least..=least + MORE_DECIMALS_MAX)
        .map(written)
        .find(tells_apart)
        .unwrap_or_else(|| written(least + MORE_DECIMALS_MAX))
}

/// Decimals of a share in percent that leave two digits that count, at most.
fn decimals(share: f64) -> usize {
    match 100.0 * share {
        p if p >= 10.0 => 0,
        p if p >= 1.0 => 1,
        p if p >= 0.01 => 2,
        p if p > 0.0 => (1.0 - p.log10().floor()).min(12.0) as usize,
        _ => 0,
    }
}

/// A count with a comma between thousands.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value for a person: three digits that count, and whole numbers as they are.
pub fn number_text(number: f64) -> String {
    if number.abs() >= LONG {
        return format!("{number:.2e}");
    }
    if number.fract() == 0.0 {
        return number.to_string();
    }
    let decimals = (2.0 - number.abs().max(1e-9).log10().floor()).max(0.0);
    let unit = 10_f64.powf(decimals);
    ((number * unit).round() / unit).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_in_percent_without_an_exponent() {
        for (share, text) in [
            (1.0, "100 %"),
            (0.31, "31 %"),
            (0.024, "2.4 %"),
            (0.0015, "0.15 %"),
            (0.000_05, "0.0050 %"),
            (0.000_000_1, "0.000010 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(share_text(share), text);
        }
    }

    #[test]
    fn shares_that_differ_are_never_written_alike() {
        let found = percentages([0.012_37, 0.0086, 0.011_54]);
        assert_eq!(found, ["1.24", "0.86", "1.15"]);
        let found = percentages([0.011_541, 0.0086, 0.011_54]);
        assert_eq!(found, ["1.1541", "0.8600", "1.1540"]);
        assert_eq!(percentages([0.31, 0.31]), ["31", "31"]);
        assert_eq!(percentages([0.314, 0.312]), ["31.4", "31.2"]);
        assert_eq!(percentages([0.0, 0.001]), ["0.00", "0.10"]);
    }

    #[test]
    fn counts_and_values_are_short() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (15_000, "15,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count_text(count), text);
        }
        for (number, text) in [
            (9.3127, "9.31"),
            (0.044_11, "0.0441"),
            (7_714.9, "7715"),
            (1_482.0, "1482"),
            (-0.5, "-0.5"),
            (0.0, "0"),
            (1.767_6e18, "1.77e18"),
        ] {
            assert_eq!(number_text(number), text);
        }
        assert_eq!(number_text(f64::NAN), "NaN");
    }
}
