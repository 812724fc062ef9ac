//! The report of `evaluate`: rows gathered batch by batch, then every metric over them, as JSON or
//! text.
//!
//! Memory grows with the labelled rows: 13 bytes each and 4 more a field (5 million rows of 20
//! fields take 470 MB), since ranking metrics need every row at once.

use std::fmt;

use serde::Serialize;

use super::baselines::BaselineEvaluation;
use super::error::MetricError;
use super::groups::{Groups, GroupsReport};
use super::metrics::{AtBudget, AtK, at_budget, average_precision, precision_at_each_k, roc_auc};

/// Alert budgets reported: from one in ten thousand, about what a large bank can look at, to one in
/// a hundred.
pub const DEFAULT_BUDGETS: [f64; 4] = [0.0001, 0.001, 0.005, 0.01];
/// Sizes of the top of the list reported: what one person, a small team and a department look at.
pub const DEFAULT_KS: [usize; 3] = [10, 100, 1_000];

/// The scores of one batch. B rows, F fields.
#[derive(Debug, Clone, Copy)]
pub struct ScoredRows<'a> {
    /// \[B\]; higher = more abnormal.
    pub anomaly_score: &'a [f32],
    /// \[B\], in (0, 1].
    pub p_value: &'a [f64],
    /// \[B * F\], row-major; NaN where a field was not predicted.
    pub field_surprise: &'a [f32],
}

/// Gathers scored and labelled rows.
#[derive(Debug, Clone)]
pub struct Evaluation {
    fields: Vec<String>,
    unlabelled: u64,
    labels: Vec<bool>,
    anomaly_score: Vec<f32>,
    p_value: Vec<f64>,
    /// One column a field.
    field_surprise: Vec<Vec<f32>>,
}

/// How much one field's surprise tells by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldEvaluation {
    /// The field's name.
    pub field: String,
    /// Of its surprise, over the rows where the field was predicted; none if these are of one
    /// class.
    pub roc_auc: Option<f64>,
    /// Mean surprise of the negative rows where it was predicted; none without such a row.
    pub mean_surprise_normal: Option<f64>,
    /// Mean surprise of the positive rows where it was predicted; none without such a row.
    pub mean_surprise_positive: Option<f64>,
}

/// What `evaluate` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// Rows with a label: those that every number here is about.
    pub rows: u64,
    /// Of these, positive ones.
    pub positives: u64,
    /// Rows left out, as their label is null.
    pub unlabelled: u64,
    /// In 0..=1.
    pub roc_auc: f64,
    /// In 0..=1.
    pub average_precision: f64,
    /// One entry a budget asked for.
    pub at_budget: Vec<AtBudget>,
    /// One entry a k asked for; k is cut to the number of rows.
    pub at_k: Vec<AtK>,
    /// One entry a feature field, in schema order.
    pub fields: Vec<FieldEvaluation>,
    /// One entry a method that the model was compared with; none unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baselines: Option<Vec<BaselineEvaluation>>,
    /// The groups of a field, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<GroupsReport>,
}

impl Evaluation {
    /// For models of these feature fields, in schema order.
    pub fn new(fields: Vec<String>) -> Self {
        let field_surprise = vec![Vec::new(); fields.len()];
        Self {
            fields,
            unlabelled: 0,
            labels: Vec::new(),
            anomaly_score: Vec::new(),
            p_value: Vec::new(),
            field_surprise,
        }
    }

    /// Adds a batch; a row whose label is none is counted and left out.
    ///
    /// # Errors
    /// [`MetricError::Length`] where the columns do not belong together; nothing is added then.
    pub fn push(
        &mut self,
        scored: ScoredRows<'_>,
        labels: &[Option<bool>],
    ) -> Result<(), MetricError> {
        let rows = labels.len();
        same_length("anomaly_score", scored.anomaly_score.len(), rows)?;
        same_length("p_value", scored.p_value.len(), rows)?;
        same_length(
            "field_surprise",
            scored.field_surprise.len(),
            rows * self.fields.len(),
        )?;
        for (row, label) in labels.iter().enumerate() {
            let Some(label) = *label else {
                self.unlabelled += 1;
                continue;
            };
            self.labels.push(label);
            self.anomaly_score.push(scored.anomaly_score[row]);
            self.p_value.push(scored.p_value[row]);
            let surprises = &scored.field_surprise[row * self.fields.len()..];
            for (column, &surprise) in self.field_surprise.iter_mut().zip(surprises) {
                column.push(surprise);
            }
        }
        Ok(())
    }

    /// Every metric over the rows so far.
    ///
    /// # Errors
    /// Labels of one class, a score or p-value that is NaN, a budget outside (0, 1], a k of zero.
    pub fn report(&self, budgets: &[f64], ks: &[usize]) -> Result<EvaluationReport, MetricError> {
        let (scores, labels) = (&self.anomaly_score, &self.labels);
        let alerts = |&budget: &f64| at_budget(&self.p_value, labels, budget);
        let field = |(name, column): (&String, &Vec<f32>)| field_evaluation(name, column, labels);
        Ok(EvaluationReport {
            rows: labels.len() as u64,
            positives: labels.iter().filter(|&&label| label).count() as u64,
            unlabelled: self.unlabelled,
            roc_auc: roc_auc(scores, labels)?,
            average_precision: average_precision(scores, labels)?,
            at_budget: budgets.iter().map(alerts).collect::<Result<_, _>>()?,
            at_k: precision_at_each_k(scores, labels, ks)?,
            fields: self
                .fields
                .iter()
                .zip(&self.field_surprise)
                .map(field)
                .collect(),
            baselines: None,
            by: None,
        })
    }

    /// What the budgets do to each group of the same rows.
    ///
    /// # Errors
    /// [`MetricError::Length`] if `groups` were gathered from other rows.
    pub fn by(&self, groups: &Groups, budgets: &[f64]) -> Result<GroupsReport, MetricError> {
        groups.report(&self.p_value, &self.labels, budgets)
    }
}

fn same_length(what: &'static str, found: usize, expected: usize) -> Result<(), MetricError> {
    if found == expected {
        Ok(())
    } else {
        Err(MetricError::Length {
            what,
            found,
            expected,
        })
    }
}

fn field_evaluation(field: &str, surprises: &[f32], labels: &[bool]) -> FieldEvaluation {
    let predicted = surprises.iter().zip(labels).filter(|row| !row.0.is_nan());
    let (surprises, labels): (Vec<f32>, Vec<bool>) = predicted.map(|(&s, &y)| (s, y)).unzip();
    let mean = |of: bool| {
        let rows = surprises.iter().zip(&labels).filter(|row| *row.1 == of);
        let (sum, count) = rows.fold((0.0, 0_usize), |(sum, n), (&s, _)| {
            (sum + f64::from(s), n + 1)
        });
        (count > 0).then(|| sum / count as f64)
    };
    FieldEvaluation {
        field: field.to_owned(),
        // The surprises are numbers and the lengths agree, so that one class is all that can be
        // wrong.
        roc_auc: roc_auc(&surprises, &labels).ok(),
        mean_surprise_normal: mean(false),
        mean_surprise_positive: mean(true),
    }
}

impl fmt::Display for EvaluationReport {
    /// Some lines of text with aligned columns, fields from the most telling to the least.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            positives,
            unlabelled,
            ..
        } = self;
        let share = 100.0 * *positives as f64 / *rows as f64;
        writeln!(
            f,
            "rows               {rows} ({unlabelled} left out, as their label is null)"
        )?;
        writeln!(f, "positives          {positives} ({share:.3} %)")?;
        writeln!(f, "roc_auc            {:.4}", self.roc_auc)?;
        writeln!(f, "average_precision  {:.4}", self.average_precision)?;
        writeln!(
            f,
            "\n{:>10} {:>10} {:>10} {:>10}",
            "budget", "alerts", "precision", "recall"
        )?;
        for AtBudget {
            budget,
            alerts,
            precision,
            recall,
        } in &self.at_budget
        {
            let (precision, recall) = (shown(*precision), shown(*recall));
            writeln!(f, "{budget:>10} {alerts:>10} {precision:>10} {recall:>10}")?;
        }
        writeln!(f, "\n{:>10} {:>10}", "k", "precision")?;
        for AtK { k, precision } in &self.at_k {
            writeln!(f, "{k:>10} {precision:>10.4}")?;
        }
        self.write_fields(f)?;
        self.write_baselines(f)?;
        match &self.by {
            Some(by) => write!(f, "\n{by}"),
            None => Ok(()),
        }
    }
}

impl EvaluationReport {
    fn write_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields: Vec<_> = self.fields.iter().collect();
        let area = |field: &FieldEvaluation| field.roc_auc.unwrap_or(f64::NEG_INFINITY);
        fields.sort_by(|a, b| area(b).total_cmp(&area(a)));
        let width = fields.iter().map(|field| field.field.chars().count()).max();
        let width = width.unwrap_or(0).max("field".len());
        writeln!(
            f,
            "\n{:width$} {:>10} {:>12} {:>12}",
            "field", "roc_auc", "normal", "positive"
        )?;
        for field in fields {
            let (normal, positive) = (field.mean_surprise_normal, field.mean_surprise_positive);
            let (area, normal, positive) = (shown(field.roc_auc), shown(normal), shown(positive));
            writeln!(
                f,
                "{:width$} {area:>10} {normal:>12} {positive:>12}",
                field.field
            )?;
        }
        Ok(())
    }

    /// The model among the methods that it is compared with.
    fn write_baselines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(baselines) = &self.baselines else {
            return Ok(());
        };
        let (area, precision) = ("roc_auc", "average_precision");
        writeln!(f, "\n{:20} {area:>10} {precision:>18}", "method")?;
        let model = ("maskwatch", self.roc_auc, self.average_precision);
        let others = baselines.iter();
        let others = others.map(|b| (b.name.as_str(), b.roc_auc, b.average_precision));
        for (name, area, precision) in std::iter::once(model).chain(others) {
            writeln!(f, "{name:20} {area:>10.4} {precision:>18.4}")?;
        }
        Ok(())
    }
}

fn shown(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let mut evaluation = Evaluation::new(vec!["amount".to_owned(), "pin".to_owned()]);
        let batch = ScoredRows {
            anomaly_score: &[0.1, 9.0, 0.4, 0.35],
            p_value: &[0.9, 0.001, 0.2, 0.3],
            field_surprise: &[1.0, f32::NAN, 8.0, 8.0, 2.0, f32::NAN, 0.5, f32::NAN],
        };
        evaluation
            .push(batch, &[Some(false), None, Some(false), Some(true)])
            .unwrap();
        let last = ScoredRows {
            anomaly_score: &[0.8],
            p_value: &[0.005],
            field_surprise: &[4.5, 3.0],
        };
        evaluation.push(last, &[Some(true)]).unwrap();
        evaluation
    }

    #[test]
    fn rows_without_a_label_are_counted_and_change_nothing() {
        let report = evaluation().report(&[0.01], &[1, 10]).unwrap();
        assert_eq!(
            (report.rows, report.positives, report.unlabelled),
            (4, 2, 1)
        );
        assert_eq!(report.roc_auc, 0.75);
        let alerts = report.at_budget[0];
        assert_eq!(
            (alerts.alerts, alerts.precision, alerts.recall),
            (1, Some(1.0), Some(0.5))
        );
        assert_eq!(
            report.at_k[0],
            AtK {
                k: 1,
                precision: 1.0
            }
        );
        assert_eq!(
            report.at_k[1],
            AtK {
                k: 4,
                precision: 0.5
            }
        );
    }

    #[test]
    fn a_field_is_judged_by_the_rows_where_it_was_predicted() {
        let report = evaluation().report(&[], &[]).unwrap();
        let [amount, pin] = &report.fields[..] else {
            unreachable!()
        };
        assert_eq!(amount.roc_auc, Some(0.5));
        assert_eq!(amount.mean_surprise_normal, Some(1.5));
        assert_eq!(amount.mean_surprise_positive, Some(2.5));
        assert_eq!(pin.roc_auc, None);
        assert_eq!(
            (pin.mean_surprise_normal, pin.mean_surprise_positive),
            (None, Some(3.0))
        );
    }

    #[test]
    fn json_has_the_documented_keys_and_text_the_same_numbers() {
        let report = evaluation().report(&[0.01], &[1]).unwrap();
        let json = serde_json::to_value(&report).unwrap();
        for key in [
            "rows",
            "positives",
            "unlabelled",
            "roc_auc",
            "average_precision",
        ] {
            assert!(json[key].is_number(), "{key}");
        }
        assert_eq!(
            json["at_budget"],
            serde_json::json!([{"budget": 0.01, "alerts": 1, "precision": 1.0, "recall": 0.5}])
        );
        assert_eq!(
            json["at_k"],
            serde_json::json!([{"k": 1, "precision": 1.0}])
        );
        assert_eq!(json["fields"][1]["roc_auc"], serde_json::Value::Null);
        let text = report.to_string();
        assert!(text.contains("rows               4 (1 left out"), "{text}");
        assert!(text.contains("roc_auc            0.7500"), "{text}");
        assert!(
            text.contains("      0.01          1     1.0000     0.5000"),
            "{text}"
        );
        assert!(
            text.contains("amount     0.5000       1.5000       2.5000"),
            "{text}"
        );
        assert!(
            text.contains("pin             -            -       3.0000"),
            "{text}"
        );
    }

    #[test]
    fn baselines_are_told_beside_the_model_and_only_where_asked_for() {
        let mut report = evaluation().report(&[], &[]).unwrap();
        let json = serde_json::to_value(&report).unwrap();
        assert!(json.get("baselines").is_none());
        assert!(!report.to_string().contains("maskwatch"));
        report.baselines = Some(vec![BaselineEvaluation {
            name: "k_nearest".to_owned(),
            roc_auc: 0.5,
            average_precision: 0.25,
        }]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json["baselines"],
            serde_json::json!([{"name": "k_nearest", "roc_auc": 0.5, "average_precision": 0.25}])
        );
        let text = report.to_string();
        let model = "maskwatch                0.7500             0.8333";
        assert!(text.contains(model), "{text}");
        let other = "k_nearest                0.5000             0.2500";
        assert!(text.contains(other), "{text}");
    }

    #[test]
    fn columns_that_do_not_belong_together_are_refused_whole() {
        let mut evaluation = evaluation();
        let short = ScoredRows {
            anomaly_score: &[1.0],
            p_value: &[0.1],
            field_surprise: &[1.0],
        };
        let what = "field_surprise";
        let expected = MetricError::Length {
            what,
            found: 1,
            expected: 2,
        };
        assert_eq!(evaluation.push(short, &[Some(true)]), Err(expected));
        assert_eq!(evaluation.report(&[], &[]).unwrap().rows, 4);
    }

    #[test]
    fn one_class_has_no_report() {
        let mut evaluation = Evaluation::new(Vec::new());
        let row = ScoredRows {
            anomaly_score: &[1.0],
            p_value: &[0.1],
            field_surprise: &[],
        };
        evaluation.push(row, &[Some(false)]).unwrap();
        let found = evaluation.report(&DEFAULT_BUDGETS, &DEFAULT_KS);
        assert_eq!(
            found,
            Err(MetricError::OneClass {
                rows: 1,
                positives: 0
            })
        );
    }
}
