//! How many customers and terminals there are, how much fraud, and from when: checked before
//! anything is built.

use super::error::GenerateError;
use serde::{Deserialize, Serialize};

/// Customers: few enough that a file of the default length is weeks of them, so that every hour and weekday is there.
pub const DEFAULT_CUSTOMERS: usize = 1_000;
/// Terminals: two customers a terminal, so that shops have regulars and customers still meet new shops.
pub const DEFAULT_TERMINALS: usize = 500;
/// Payments of a file: about three weeks of the default customers, and enough to train on.
pub const DEFAULT_ROWS: u64 = 60_000;
/// Share of payments that are fraud. Real card fraud is nearer to 0.1 %; half a percent gives a
/// small file enough of them.
pub const DEFAULT_FRAUD_SHARE: f64 = 0.005;
/// 2026-01-05T00:00:00Z, a Monday.
pub const DEFAULT_START_UNIX_S: i64 = 1_767_571_200;

/// Customers at least and at most: frauds need victims, and a customer takes about 400 bytes.
const CUSTOMERS: std::ops::RangeInclusive<usize> = 10..=1_000_000;
/// Terminals at least and at most: below this the categories would be missing, and a terminal takes
/// about 100 bytes.
const TERMINALS: std::ops::RangeInclusive<usize> = 10..=1_000_000;
/// Beyond this the planted frauds would no longer be the exception.
const FRAUD_SHARE_MAX: f64 = 0.2;
/// The start lies in the years 1970 to 2200, so that no file holds a date that others cannot read.
const START_UNIX_S: std::ops::RangeInclusive<i64> = 0..=7_258_118_400;

/// What to generate. The same values give the same payments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Seed of every random draw.
    pub seed: u64,
    /// Customers, 10..=1,000,000; each has one card.
    pub customers: usize,
    /// Terminals, 10..=1,000,000; about one in six is an online merchant.
    pub terminals: usize,
    /// Share of payments that are fraud in the long run, 0..=0.2. With very few customers and a
    /// high share there may be less, as a customer is the victim of one fraud at a time.
    pub fraud_share: f64,
    /// Moment of the earliest possible payment, seconds since 1970-01-01T00:00:00Z, up to the year
    /// 2200.
    pub start_unix_s: i64,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            customers: DEFAULT_CUSTOMERS,
            terminals: DEFAULT_TERMINALS,
            fraud_share: DEFAULT_FRAUD_SHARE,
            start_unix_s: DEFAULT_START_UNIX_S,
        }
    }
}

impl GeneratorConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GenerateError::OutOfRange`] for the first value that is.
    pub fn check(&self) -> Result<(), GenerateError> {
        within("customers", &CUSTOMERS, self.customers)?;
        within("terminals", &TERMINALS, self.terminals)?;
        within("start_unix_s", &START_UNIX_S, self.start_unix_s)?;
        within("fraud_share", &(0.0..=FRAUD_SHARE_MAX), self.fraud_share)
    }
}

/// NaN is in no range, so it is refused as well.
fn within<T: PartialOrd + std::fmt::Display>(
    name: &'static str,
    range: &std::ops::RangeInclusive<T>,
    found: T,
) -> Result<(), GenerateError> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(GenerateError::OutOfRange {
        name,
        found: found.to_string(),
        expected: format!("{} to {}", range.start(), range.end()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named_with_its_limit() {
        let few = GeneratorConfig {
            customers: 3,
            ..Default::default()
        };
        let message = few.check().unwrap_err().to_string();
        assert_eq!(message, "customers is 3, expected 10 to 1000000");
        let nan = GeneratorConfig {
            fraud_share: f64::NAN,
            ..Default::default()
        };
        assert!(
            nan.check()
                .unwrap_err()
                .to_string()
                .starts_with("fraud_share is NaN")
        );
        let past = GeneratorConfig {
            start_unix_s: -1,
            ..Default::default()
        };
        assert!(past.check().is_err());
        assert!(GeneratorConfig::default().check().is_ok());
    }
}
