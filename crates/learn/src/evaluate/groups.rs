//! The same evaluation group by group: what a budget does to the rows of each value of one field.
//!
//! In flow values, labels and which calibration rows each p-value was ranked among, row by row beside an
//! [`Evaluation`](super::Evaluation); out flows a [`GroupsReport`] as JSON or text. Invariants: the groups hold the
//! evaluation's rows, each once; values that are told apart and groups that are shown are bounded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::error::MetricError;
use super::interval::Share;
use super::uniformity::Uniformity;
use crate::encode::categorical::bounded;
use crate::score::p_value_text;

/// Values that are told apart at most: a field with more makes groups of a handful of rows, which say nothing.
pub const GROUP_VALUES_MAX: usize = 10_000;
/// Groups reported at most, the largest; the rest is one group together. As many as a page shows.
pub const GROUPS_SHOWN_MAX: usize = 50;
/// Characters of a value that the text shows.
const VALUE_CHARACTERS_MAX: usize = 40;

/// Gathers the group of every labelled row.
#[derive(Debug, Clone)]
pub struct Groups {
    field: String,
    redact: bool,
    /// Value to code in `values`.
    codes: HashMap<String, u16>,
    /// The code of null, which is a value too.
    null: Option<u16>,
    values: Vec<Option<String>>,
    /// Rows of each calibration sample that p-values are ranked among.
    sample_rows: Vec<usize>,
    /// One entry a labelled row: the code of its value, and of its sample.
    rows: Vec<(u16, u16)>,
}

/// One group at one budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GroupAtBudget {
    /// Share of records that may raise an alert.
    pub budget: f64,
    /// Rows of the group with `p_value <= budget`.
    pub alerts: usize,
    /// Share of the group's rows that raise an alert.
    pub alert_rate: Option<Share>,
    /// Share of the alerts that are positive; none without an alert.
    pub precision: Option<Share>,
    /// Share of the positives that raise an alert; none without a positive.
    pub recall: Option<Share>,
    /// Share of the negatives that raise an alert: what the promise bounds by the budget. None without a negative.
    pub false_alert_rate: Option<Share>,
    /// Whether the whole interval of the false alerts' rate lies above the budget.
    pub exceeds: bool,
}

/// What was found of one group of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The value that its rows share; none for null.
    pub value: Option<String>,
    /// Labelled rows.
    pub rows: usize,
    /// Of these, positive ones.
    pub positives: usize,
    /// One entry a budget.
    pub at_budget: Vec<GroupAtBudget>,
    /// Whether the negatives' p-values are small more often than promised; none without a negative.
    pub uniformity: Option<Uniformity>,
}

/// The groups that are not among the largest, as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OtherGroups {
    /// How many values they are.
    pub values: usize,
    /// Their rows together; its `value` is none.
    #[serde(flatten)]
    pub group: Group,
}

/// What was found group by group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupsReport {
    /// The field whose values make the groups.
    pub field: String,
    /// Values found, null among them.
    pub values: usize,
    /// The largest groups, largest first.
    pub groups: Vec<Group>,
    /// The others, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherGroups>,
}

impl Groups {
    /// Groups by `field`, whose values are not shown where it is redacted; p-values are ranked among samples of
    /// `sample_rows` calibration rows.
    pub fn new(field: String, redact: bool, sample_rows: Vec<usize>) -> Self {
        Self {
            field,
            redact,
            codes: HashMap::new(),
            null: None,
            values: Vec::new(),
            sample_rows,
            rows: Vec::new(),
        }
    }

    /// Adds a batch: its values, labels and samples. Rows whose label is none are left out.
    ///
    /// # Errors
    /// [`MetricError::Length`] where the columns do not belong together, [`MetricError::GroupValues`] where the field
    /// has too many values.
    pub fn push<'a>(
        &mut self,
        values: impl ExactSizeIterator<Item = Option<&'a str>>,
        labels: &[Option<bool>],
        samples: &[usize],
    ) -> Result<(), MetricError> {
        let rows = labels.len();
        for (what, found) in [("group", values.len()), ("sample", samples.len())] {
            if found != rows {
                return Err(MetricError::Length {
                    what,
                    found,
                    expected: rows,
                });
            }
        }
        for ((value, label), &sample) in values.zip(labels).zip(samples) {
            if label.is_some() {
                let code = self.code(value)?;
                self.rows.push((code, sample as u16));
            }
        }
        Ok(())
    }

    fn code(&mut self, value: Option<&str>) -> Result<u16, MetricError> {
        // A value of a megabyte is known by its beginning and a digest, as in the encoder.
        let value = value.map(bounded);
        let known = match &value {
            Some(text) => self.codes.get(&**text).copied(),
            None => self.null,
        };
        if let Some(code) = known {
            return Ok(code);
        }
        if self.values.len() >= GROUP_VALUES_MAX {
            return Err(MetricError::GroupValues {
                field: self.field.clone(),
                limit: GROUP_VALUES_MAX,
            });
        }
        let code = self.values.len() as u16;
        match &value {
            Some(text) => drop(self.codes.insert(text.to_string(), code)),
            None => self.null = Some(code),
        }
        self.values.push(value.map(Cow::into_owned));
        Ok(code)
    }

    /// What the rows of each group make of `budgets`, given p-values and labels of the same rows in the same order.
    ///
    /// # Errors
    /// [`MetricError::Length`] where they are not of the same rows.
    pub fn report(
        &self,
        p_values: &[f64],
        labels: &[bool],
        budgets: &[f64],
    ) -> Result<GroupsReport, MetricError> {
        if self.rows.len() != labels.len() || p_values.len() != labels.len() {
            return Err(MetricError::Length {
                what: "group",
                found: self.rows.len(),
                expected: labels.len(),
            });
        }
        let mut tallies: Vec<Tally> = vec![Tally::default(); self.values.len()];
        let rows = self.rows.iter().zip(p_values.iter().zip(labels));
        for (&(value, sample), (&p, &label)) in rows {
            tallies[usize::from(value)].add(p, label, sample);
        }
        let mut groups: Vec<(Option<&str>, Tally)> = self
            .values
            .iter()
            .map(Option::as_deref)
            .zip(tallies)
            .collect();
        groups.sort_by(|a, b| b.1.rows().cmp(&a.1.rows()).then_with(|| a.0.cmp(&b.0)));
        let rest = groups.split_off(groups.len().min(GROUPS_SHOWN_MAX));
        let shown = |(at, (value, tally)): (usize, (Option<&str>, Tally))| {
            let value = value.map(|text| match self.redact {
                true => format!("{}{}", crate::score::REDACTED, at + 1),
                false => text.to_owned(),
            });
            tally.report(value, budgets, &self.sample_rows)
        };
        let other = (!rest.is_empty()).then(|| {
            let values = rest.len();
            let mut together = Tally::default();
            rest.into_iter()
                .for_each(|(_, tally)| together.append(tally));
            OtherGroups {
                values,
                group: together.report(None, budgets, &self.sample_rows),
            }
        });
        Ok(GroupsReport {
            field: self.field.clone(),
            values: self.values.len(),
            groups: groups.into_iter().enumerate().map(shown).collect(),
            other,
        })
    }
}

/// The rows of one group.
#[derive(Debug, Clone, Default)]
struct Tally {
    /// p-values of the positives.
    positives: Vec<f64>,
    /// p-values of the negatives, and the sample that each was ranked among.
    negatives: Vec<f64>,
    samples: Vec<u16>,
}

impl Tally {
    fn add(&mut self, p: f64, label: bool, sample: u16) {
        if label {
            self.positives.push(p);
        } else {
            self.negatives.push(p);
            self.samples.push(sample);
        }
    }

    fn append(&mut self, mut other: Self) {
        self.positives.append(&mut other.positives);
        self.negatives.append(&mut other.negatives);
        self.samples.append(&mut other.samples);
    }

    fn rows(&self) -> usize {
        self.positives.len() + self.negatives.len()
    }

    fn report(mut self, value: Option<String>, budgets: &[f64], sample_rows: &[usize]) -> Group {
        let mut ranked = vec![0; sample_rows.len()];
        for &sample in &self.samples {
            if let Some(count) = ranked.get_mut(usize::from(sample)) {
                *count += 1;
            }
        }
        let at_budget = budgets.iter().map(|&budget| self.at_budget(budget));
        Group {
            value,
            rows: self.rows(),
            positives: self.positives.len(),
            at_budget: at_budget.collect(),
            uniformity: Uniformity::test(&mut self.negatives, &ranked, sample_rows),
        }
    }

    fn at_budget(&self, budget: f64) -> GroupAtBudget {
        let alerts = |of: &[f64]| of.iter().filter(|&&p| p <= budget).count();
        let (caught, false_alerts) = (alerts(&self.positives), alerts(&self.negatives));
        let false_alert_rate = Share::of(false_alerts, self.negatives.len());
        GroupAtBudget {
            budget,
            alerts: caught + false_alerts,
            alert_rate: Share::of(caught + false_alerts, self.rows()),
            precision: Share::of(caught, caught + false_alerts),
            recall: Share::of(caught, self.positives.len()),
            false_alert_rate,
            exceeds: false_alert_rate.is_some_and(|rate| rate.low > budget),
        }
    }
}

impl GroupsReport {
    /// Every row of a table: its name and the group.
    fn named(&self) -> Vec<(String, &Group)> {
        let name = |group: &Group| match &group.value {
            Some(value) => shown_value(value),
            None => "null".to_owned(),
        };
        let mut named: Vec<_> = self.groups.iter().map(|g| (name(g), g)).collect();
        if let Some(OtherGroups { values, group }) = &self.other {
            named.push((format!("({values} others)"), group));
        }
        named
    }
}

impl fmt::Display for GroupsReport {
    /// A table a budget and one of the tests of uniformity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named();
        let width = named.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0).max("uniformity".len());
        writeln!(
            f,
            "by {}: {} values; 95 % intervals (Clopper & Pearson), independent rows assumed",
            shown_value(&self.field),
            self.values
        )?;
        let budgets = self.groups.first().map_or(0, |group| group.at_budget.len());
        for at in 0..budgets {
            let budget = self.groups[0].at_budget[at].budget;
            writeln!(
                f,
                "\n{:width$} {:>9} {:>9} {:>8}  {:27} {:27} {:24} recall",
                format!("at {budget}"),
                "rows",
                "positives",
                "alerts",
                "alert rate",
                "of negatives",
                "precision",
            )?;
            for (name, group) in &named {
                let at = &group.at_budget[at];
                let line = format!(
                    "{name:width$} {:>9} {:>9} {:>8}  {:27} {:27} {:24} {:24} {}",
                    group.rows,
                    group.positives,
                    at.alerts,
                    interval(at.alert_rate, 6),
                    interval(at.false_alert_rate, 6),
                    interval(at.precision, 4),
                    interval(at.recall, 4),
                    if at.exceeds { "over" } else { "" },
                );
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        writeln!(
            f,
            "\n{:width$} {:>9} {:>9} {:>10}",
            "uniformity", "negatives", "distance", "p-value"
        )?;
        for (name, group) in &named {
            match group.uniformity {
                Some(Uniformity {
                    negatives,
                    distance,
                    p_value,
                }) => writeln!(
                    f,
                    "{name:width$} {negatives:>9} {distance:>9.4} {:>10}",
                    p_value_text(p_value)
                )?,
                None => writeln!(f, "{name:width$} {:>9} {:>9} {:>10}", 0, "-", "-")?,
            }
        }
        Ok(())
    }
}

fn interval(share: Option<Share>, digits: usize) -> String {
    match share {
        Some(Share { share, low, high }) => {
            format!("{share:.digits$} {low:.digits$}..{high:.digits$}")
        }
        None => "-".to_owned(),
    }
}

/// A value without what would steer a terminal, and not longer than a column.
pub fn shown_value(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut shown: String = printable.take(VALUE_CHARACTERS_MAX).collect();
    if text.chars().count() > VALUE_CHARACTERS_MAX {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups(redact: bool) -> Groups {
        Groups::new("channel".to_owned(), redact, vec![100])
    }

    /// Rows of (value, label, p-value), in batches of three.
    fn report(rows: &[(Option<&str>, Option<bool>, f64)], redact: bool) -> GroupsReport {
        let mut groups = groups(redact);
        for batch in rows.chunks(3) {
            let labels: Vec<Option<bool>> = batch.iter().map(|row| row.1).collect();
            let values = batch.iter().map(|row| row.0);
            groups.push(values, &labels, &vec![0; batch.len()]).unwrap();
        }
        let labelled = rows.iter().filter_map(|row| Some((row.2, row.1?)));
        let (p, labels): (Vec<f64>, Vec<bool>) = labelled.unzip();
        groups.report(&p, &labels, &[0.01, 0.5]).unwrap()
    }

    const ROWS: [(Option<&str>, Option<bool>, f64); 8] = [
        (Some("web"), Some(false), 0.9),
        (Some("web"), Some(true), 0.005),
        (Some("web"), Some(false), 0.01),
        (None, Some(false), 0.4),
        (Some("pos"), Some(true), 0.7),
        (Some("pos"), None, 0.001),
        (Some("web"), Some(false), 0.6),
        (Some("gone"), None, 0.001),
    ];

    #[test]
    fn each_group_has_the_numbers_of_its_own_labelled_rows() {
        let found = report(&ROWS, false);
        let values: Vec<_> = found.groups.iter().map(|g| g.value.as_deref()).collect();
        assert_eq!(values, [Some("web"), None, Some("pos")]);
        assert_eq!((found.values, found.other), (3, None));
        let [web, null, pos] = &found.groups[..] else {
            unreachable!()
        };
        assert_eq!((web.rows, web.positives), (4, 1));
        let at = web.at_budget[0];
        assert_eq!(at.alerts, 2);
        assert_eq!(at.alert_rate, Share::of(2, 4));
        assert_eq!(at.precision, Share::of(1, 2));
        assert_eq!(at.recall, Share::of(1, 1));
        assert_eq!(at.false_alert_rate, Share::of(1, 3));
        // SciPy: stats.binomtest(1, 3).proportion_ci(.95, method="exact").low -> 0.00840375865961263
        assert!(!at.exceeds);
        assert_eq!(web.uniformity.unwrap().negatives, 3);
        assert_eq!(null.at_budget[1].alerts, 1);
        assert_eq!(
            (null.at_budget[0].precision, null.at_budget[0].recall),
            (None, None)
        );
        assert_eq!(
            (pos.uniformity, pos.at_budget[0].false_alert_rate),
            (None, None)
        );
    }

    #[test]
    fn a_promise_that_is_broken_in_one_group_shows_there() {
        let mut rows: Vec<(Option<&str>, Option<bool>, f64)> = Vec::new();
        for i in 1..=200 {
            let p = f64::from(i) / 200.0;
            rows.push((Some("fine"), Some(false), p));
            rows.push((Some("odd"), Some(false), p.powi(4)));
        }
        rows.push((Some("fine"), Some(true), 0.001));
        let found = report(&rows, false);
        let exceeds = |at: usize| found.groups.iter().map(move |g| g.at_budget[at].exceeds);
        assert_eq!(exceeds(0).collect::<Vec<_>>(), [false, true]);
        let p: Vec<f64> = found
            .groups
            .iter()
            .map(|g| g.uniformity.unwrap().p_value)
            .collect();
        assert!(p[0] > 0.5 && p[1] < 1e-6, "{p:?}");
        let text = found.to_string();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("odd").ends_with("over"), "{text}");
        assert!(line("fine").contains("201         1"), "{text}");
    }

    #[test]
    fn values_of_a_redacted_field_are_numbered() {
        let found = report(&ROWS, true);
        let values: Vec<_> = found.groups.iter().map(|g| g.value.as_deref()).collect();
        assert_eq!(values, [Some("***1"), None, Some("***3")]);
        assert!(!found.to_string().contains("web"));
    }

    #[test]
    fn beyond_the_largest_groups_the_rest_is_one() {
        let names: Vec<String> = (0..60).map(|i| format!("v{i:02}")).collect();
        let rows = names.iter().enumerate().flat_map(|(i, name)| {
            let row = move |j| (Some(name.as_str()), Some(j == 0 && i == 0), 0.5);
            (0..60 - i).map(row)
        });
        let rows: Vec<_> = rows.collect();
        let found = report(&rows, false);
        assert_eq!((found.values, found.groups.len()), (60, GROUPS_SHOWN_MAX));
        assert_eq!(found.groups[0].value.as_deref(), Some("v00"));
        let other = found.other.as_ref().unwrap();
        assert_eq!((other.values, other.group.rows), (10, 55));
        assert!(found.to_string().contains("(10 others)"));
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["other"]["rows"], 55);
        assert_eq!(
            json["groups"][0]["at_budget"][1]["alert_rate"]["share"],
            1.0
        );
    }

    #[test]
    fn a_field_with_too_many_values_is_refused() {
        let mut groups = groups(false);
        let names: Vec<String> = (0..GROUP_VALUES_MAX).map(|i| i.to_string()).collect();
        let rows = names.len();
        let values = || names.iter().map(|name| Some(name.as_str()));
        groups
            .push(values(), &vec![Some(false); rows], &vec![0; rows])
            .unwrap();
        groups
            .push(values(), &vec![Some(false); rows], &vec![0; rows])
            .unwrap();
        // A value of an unlabelled row is none.
        groups.push([Some("x")].into_iter(), &[None], &[0]).unwrap();
        let error = groups
            .push([Some("x")].into_iter(), &[Some(true)], &[0])
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("'channel' has more than 10000 values"),
            "{error}"
        );
        let error = groups.push([None].into_iter(), &[], &[0]).unwrap_err();
        assert!(matches!(error, MetricError::Length { what: "group", .. }));
    }

    proptest! {
        #[test]
        fn the_groups_together_are_all_rows(
            rows in prop::collection::vec((0u8..70, any::<bool>(), 0.001..1.0f64), 1..300),
        ) {
            let names: Vec<String> = (0..70).map(|i| format!("v{i}")).collect();
            let named: Vec<_> = rows
                .iter()
                .map(|&(value, label, p)| {
                    let name = (value > 0).then(|| names[usize::from(value)].as_str());
                    (name, Some(label), p)
                })
                .collect();
            let found = report(&named, false);
            let all = || found.groups.iter().chain(found.other.as_ref().map(|other| &other.group));
            prop_assert_eq!(all().map(|g| g.rows).sum::<usize>(), rows.len());
            let positives = rows.iter().filter(|row| row.1).count();
            prop_assert_eq!(all().map(|g| g.positives).sum::<usize>(), positives);
            for (at, budget) in [0.01, 0.5].into_iter().enumerate() {
                let alerts = rows.iter().filter(|row| row.2 <= budget).count();
                prop_assert_eq!(all().map(|g| g.at_budget[at].alerts).sum::<usize>(), alerts);
            }
        }
    }
}
