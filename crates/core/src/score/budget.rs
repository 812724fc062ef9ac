//! The alert budget: the share of records that may be flagged, and what a finite calibration sample makes of it.

use statrs::distribution::{Beta, ContinuousCDF};

/// Alerts per record unless configured otherwise: one in a thousand.
pub const DEFAULT_ALERT_BUDGET: f64 = 0.001;

/// The share of records that may be flagged: an alert is a p-value at or below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertBudget(f64);

impl AlertBudget {
    /// A budget in (0, 1).
    ///
    /// # Errors
    /// The value and the limit.
    pub fn new(share: f64) -> Result<Self, String> {
        if share > 0.0 && share < 1.0 {
            Ok(Self(share))
        } else {
            Err(format!("alert budget {share}: must be above 0 and below 1"))
        }
    }

    /// A budget from text: a share such as `0.001`, or a percentage such as `0.1%`.
    ///
    /// # Errors
    /// The text and what was expected.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let share = match trimmed.strip_suffix('%').map(str::trim_end) {
            // Two decimal places further left before it is rounded: 0.7 / 100 is not the double nearest to 0.007.
            Some(percent) => format!("{percent}e-2")
                .parse::<f64>()
                .or_else(|_| percent.parse::<f64>().map(|percent| percent / 100.0)),
            None => trimmed.parse(),
        };
        let share = share.map_err(|_| {
            format!(
                "\"{text}\" is not a number, expected a share such as 0.001, or a percentage such as \"0.1%\""
            )
        })?;
        Self::new(share)
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// A part of it, `part` in (0, 1].
    pub(super) fn part(self, part: f64) -> Self {
        Self(self.0 * part)
    }

    /// Whether a record with this p-value is an alert.
    pub fn is_alert(self, p_value: f64) -> bool {
        p_value <= self.0
    }

    /// Whether n calibration rows can give a p-value as small as the budget.
    pub fn is_attainable(self, calibration_rows: usize) -> bool {
        self.rank(calibration_rows) >= 1
    }

    /// The fewest calibration rows that can give a p-value as small as the budget: ceil(1 / budget) - 1.
    pub fn rows_needed(self) -> usize {
        // The division may be off in its last digit either way; the neighbours tell. Beyond what can be counted nobody
        // has as many rows.
        let near = (1.0 / self.0).ceil();
        if near >= 1e15 {
            return near as usize;
        }
        let near = near as usize;
        let mut from = near.saturating_sub(2)..=near + 1;
        from.find(|&n| self.is_attainable(n)).unwrap_or(near)
    }

    /// The 90 % interval of the realised alert rate given n calibration rows: Beta(k, n + 1 - k) with
    /// k = floor(budget (n + 1)), the law of the coverage of a conformal predictor (Vovk 2012). `None` if the budget is
    /// not attainable: then nothing is ever flagged.
    pub fn realised_rate(self, calibration_rows: usize) -> Option<(f64, f64)> {
        let k = self.rank(calibration_rows) as f64;
        let beta = Beta::new(k, calibration_rows as f64 + 1.0 - k).ok()?;
        Some((beta.inverse_cdf(0.05), beta.inverse_cdf(0.95)))
    }

    /// k: how many of n + 1 exchangeable ranks are alerts.
    pub(super) fn rank(self, calibration_rows: usize) -> usize {
        // The p-values that can occur are j / (n + 1); counting them as they are computed avoids rounding 0.001 * 1000
        // to 0.
        let n1 = (calibration_rows + 1) as f64;
        let near = (self.0 * n1).floor() as usize;
        if self.is_alert((near + 1) as f64 / n1) {
            near + 1
        } else {
            near
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_outside_its_range_is_refused() {
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(
                AlertBudget::new(share)
                    .unwrap_err()
                    .contains("above 0 and below 1")
            );
        }
    }

    #[test]
    fn a_percentage_is_the_share_that_it_says() {
        for (text, share) in [
            ("0.1%", 0.001),
            ("0.7 %", 0.007),
            (" 5%", 0.05),
            ("1e-1%", 0.001),
            ("0.01", 0.01),
        ] {
            assert_eq!(
                AlertBudget::from_text(text).unwrap().share(),
                share,
                "{text}"
            );
        }
        for text in ["", "%", "much", "0.1%%", "NaN%"] {
            assert!(AlertBudget::from_text(text).is_err(), "{text}");
        }
        let why = AlertBudget::from_text("a few").unwrap_err();
        assert!(why.contains("a few") && why.contains("0.1%"), "{why}");
        assert!(
            AlertBudget::from_text("100%")
                .unwrap_err()
                .contains("below 1")
        );
    }

    #[test]
    fn the_smallest_attainable_budget_is_one_in_n_plus_one() {
        let budget = AlertBudget::new(0.001).unwrap();
        assert!(budget.is_attainable(999) && !budget.is_attainable(998));
        assert!(budget.is_alert(1.0 / 1000.0));
    }

    #[test]
    fn the_rows_needed_are_the_fewest_that_attain_the_budget() {
        for rows in (1..2_000).chain([99_999, 1_000_000]) {
            for share in [1.0 / (rows + 1) as f64, 1.0 / (rows as f64 + 0.5)] {
                let budget = AlertBudget::new(share).unwrap();
                let needed = budget.rows_needed();
                assert!(budget.is_attainable(needed), "{share}: {needed}");
                assert!(!budget.is_attainable(needed - 1), "{share}: {needed}");
            }
        }
        assert_eq!(AlertBudget::new(0.001).unwrap().rows_needed(), 999);
        assert!(AlertBudget::new(1e-300).unwrap().rows_needed() > 1 << 50);
    }

    #[test]
    fn the_realised_rate_has_the_beta_interval() {
        // SciPy: stats.beta.ppf([.05, .95], 10, 9991) -> 0.0005426376, 0.0015699951
        let (low, high) = AlertBudget::new(0.001)
            .unwrap()
            .realised_rate(10_000)
            .unwrap();
        assert!(
            (low - 0.0005426376).abs() < 1e-8 && (high - 0.0015699951).abs() < 1e-8,
            "{low} {high}"
        );
        assert_eq!(AlertBudget::new(0.001).unwrap().realised_rate(10), None);
    }
}
