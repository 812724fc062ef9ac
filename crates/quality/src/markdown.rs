//! The tables of the report, as Markdown. All metrics are in percent.

use crate::configurations::{Configuration, DEFAULT};
use crate::families::Loss;
use crate::plan::Run;
use crate::references::{Figures, Published};
use crate::results::{BUDGETS, Metric};
use crate::sets::{Entry, SetSpec};
use crate::summary::{Method, Row, Spread, Summary, Verdict};
use maskwatch_learn::evaluate::Baselines;
use std::collections::BTreeSet;

/// The seed that configurations are compared with.
const COMPARED_SEED: u64 = 0;

/// What the report is made of.
pub struct Report<'a> {
    /// The runs.
    pub summary: &'a Summary,
    /// Published figures.
    pub published: &'a [Published],
    /// The bars, judged.
    pub verdicts: &'a [Verdict],
    /// The configurations that were asked for.
    pub configurations: &'a [Configuration],
}

impl Report<'_> {
    /// All tables for which there is something to show.
    pub fn markdown(&self) -> String {
        let runs = &self.summary.runs;
        let commits: BTreeSet<&str> = runs.iter().map(|run| run.commit.as_str()).collect();
        let commits: Vec<&str> = commits.into_iter().collect();
        let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let head = format!(
            "{} runs, seeds {}, made by commit {}. Figures are percent: mean ± standard deviation over the seeds if there are several.\n",
            runs.len(),
            seeds.join(", "),
            commits.join(", "),
        );
        let parts = [
            head,
            self.comparison(Metric::AveragePrecision, "### Average precision"),
            self.comparison(Metric::RocAuc, "### ROC AUC"),
            self.comparison(Metric::CardPrecision, "### Card precision at 100"),
            self.comparison(
                Metric::CardPrecisionOnce,
                "### Card precision at 100, without cards that were found on an earlier day",
            ),
            self.bars(),
            self.standings(),
            self.costs(),
            self.choices(),
            self.compared(),
        ];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("\n")
    }

    /// The default configuration beside the baselines and what was published.
    fn comparison(&self, metric: Metric, title: &str) -> String {
        let published = matches!(metric, Metric::AveragePrecision | Metric::RocAuc);
        let mut head = vec!["set", "protocol", "maskwatch"];
        head.extend(Baselines::NAMES);
        if published {
            head.extend(["best published", "published kNN", "published forest"]);
        }
        let mut table = Table::new(&head);
        for row in self.summary.rows() {
            let of = |method| self.summary.spread(&row, method, metric, None);
            let mut methods = vec![of(Method::Configuration(DEFAULT))];
            methods.extend(Baselines::NAMES.map(|name| of(Method::Baseline(name))));
            if methods.iter().all(Option::is_none) {
                continue;
            }
            let mut cells = name_cells(&row);
            cells.extend(methods.into_iter().map(shown));
            if published {
                cells.extend(self.published_cells(&row, metric));
            }
            table.push(cells);
        }
        table.titled(title)
    }

    fn published_cells(&self, row: &Row, metric: Metric) -> [String; 3] {
        let figures = |entry: &Entry| -> Option<&Figures> {
            let of = |p: &&Published| p.set == entry.set && p.protocol == entry.protocol;
            let published = self.published.iter().find(of)?;
            Some(match metric {
                Metric::RocAuc => &published.roc_auc,
                _ => &published.average_precision,
            })
        };
        let all: Option<Vec<&Figures>> = row.entries.iter().map(figures).collect();
        let Some(all) = all else {
            return ["-", "-", "-"].map(str::to_owned);
        };
        let mean =
            |of: fn(&Figures) -> f64| all.iter().map(|f| of(f)).sum::<f64>() / all.len() as f64;
        let best = match &all[..] {
            [one] => format!("{:.1} {}", one.best, one.method),
            _ => format!("{:.1} (each set's own best)", mean(|f| f.best)),
        };
        let (near, forest) = (mean(|f| f.k_nearest), mean(|f| f.isolation_forest));
        [best, format!("{near:.1}"), format!("{forest:.1}")]
    }

    fn bars(&self) -> String {
        let mut table = Table::new(&["set", "protocol", "metric", "required", "reached", ""]);
        for Verdict {
            bar,
            row,
            reached,
            asked,
            passed,
        } in self.verdicts
        {
            let mut cells = name_cells(row);
            let asked = asked.iter().map(|(name, value)| match bar.at_least {
                Some(_) => percent(*value),
                None => format!("above {name} ({})", percent(*value)),
            });
            let passed = match passed {
                Some(true) => "reached",
                Some(false) => "**missed**",
                None => "open",
            };
            cells.push(bar.metric.to_string());
            cells.push(asked.collect::<Vec<_>>().join(", "));
            cells.extend([percent(*reached), passed.to_owned()]);
            table.push(cells);
        }
        table.titled("### Bars")
    }

    /// How the default stands on the families that are shown by their mean only, set by set.
    fn standings(&self) -> String {
        let mut table = Table::new(&[
            "family",
            "sets",
            "ahead of kNN",
            "ahead of the forest",
            "ahead of both",
            "worst against the better of both",
        ]);
        let many = |family: &&str| {
            let of = |set: &SetSpec| set.family.as_deref() == Some(*family);
            let mut sets = self.summary.sets.iter();
            sets.any(|set| of(set) && set.folder.is_some())
        };
        for family in self.summary.families().into_iter().filter(many) {
            let standing = self.summary.standing(family);
            if standing.sets == 0 {
                continue;
            }
            let [near, forest] = standing.ahead.map(|count| count.to_string());
            table.push(vec![
                family.to_owned(),
                standing.sets.to_string(),
                near,
                forest,
                standing.ahead_of_all.to_string(),
                losses(&standing.losses),
            ]);
        }
        table.titled("### Set by set: average precision, maskwatch (the better baseline)")
    }

    /// Configurations by the mean over families, where one was run on a whole one.
    fn choices(&self) -> String {
        let families = self.summary.families();
        let mut head = vec!["configuration", "mean over families"];
        head.extend(&families);
        head.push("worst against `default`");
        let mut table = Table::new(&head);
        for configuration in self.configurations {
            let choice = self.summary.choice(&configuration.name, COMPARED_SEED);
            if choice.families.iter().all(Option::is_none) {
                continue;
            }
            let mut cells = vec![format!("`{}`", configuration.name), percent(choice.mean)];
            cells.extend(choice.families.iter().map(|&family| percent(family)));
            cells.push(losses(&choice.losses));
            table.push(cells);
        }
        table.titled(&format!(
            "### How defaults are chosen: average precision by family, seed {COMPARED_SEED}"
        ))
    }

    /// Rows, alerts under budgets and cost of the default configuration.
    fn costs(&self) -> String {
        let budgets = BUDGETS.map(|budget| format!("alerts at {budget}: share, precision, recall"));
        let mut head = vec!["set", "protocol", "training rows", "test rows"];
        head.extend(budgets.iter().map(String::as_str));
        head.extend(["training, s", "steps", "scored records/s"]);
        let mut table = Table::new(&head);
        for row in self
            .summary
            .rows()
            .iter()
            .filter(|row| row.entries.len() == 1)
        {
            let of = |run: &&Run| {
                run.entry == row.entries[0] && run.configuration.as_deref() == Some(DEFAULT)
            };
            let runs: Vec<&Run> = self.summary.runs.iter().filter(of).collect();
            let Some(first) = runs.first() else { continue };
            let rows = first.outcome.rows;
            let mut cells = name_cells(row);
            cells.push(counted(rows.train, rows.train_anomalies));
            cells.push(counted(rows.test, rows.test_anomalies));
            cells.extend(BUDGETS.iter().map(|&budget| alerts(&runs, budget)));
            let mean = |of: fn(&crate::results::ModelReport) -> f64| {
                let values: Vec<f64> = runs
                    .iter()
                    .filter_map(|run| run.outcome.model.as_ref())
                    .map(of)
                    .collect();
                Spread::of(&values).map_or(f64::NAN, |spread| spread.mean)
            };
            cells.push(format!("{:.1}", mean(|model| model.training_seconds)));
            cells.push(format!("{:.0}", mean(|model| model.fit.steps as f64)));
            cells.push(format!(
                "{:.0}",
                mean(|model| model.scoring_records_per_second)
            ));
            table.push(cells);
        }
        table.titled("### Alerts under a budget, and cost")
    }

    /// Average precision with one seed: of the configurations that are run everywhere, then of the others, with the mean
    /// of the sets that all of a table were run on.
    fn compared(&self) -> String {
        let is_default = |c: &&Configuration| c.name == DEFAULT;
        let (everywhere, ablations): (Vec<_>, Vec<_>) = self
            .configurations
            .iter()
            .filter(|c| !is_default(c))
            .partition(|c| c.everywhere);
        let groups = [("Objectives", everywhere), ("Ablations", ablations)];
        let tables = groups.map(|(title, group)| {
            let configurations = self.configurations.iter().filter(is_default).chain(group);
            self.compared_group(title, &configurations.collect::<Vec<_>>())
        });
        let tables: Vec<String> = tables
            .into_iter()
            .filter(|table| !table.is_empty())
            .collect();
        tables.join("\n")
    }

    fn compared_group(&self, title: &str, configurations: &[&Configuration]) -> String {
        let of = |row: &Row, c: &Configuration| {
            let method = Method::Configuration(&c.name);
            let metric = Metric::AveragePrecision;
            self.summary
                .spread(row, method, metric, Some(COMPARED_SEED))
        };
        let single = self.summary.rows().into_iter();
        let single: Vec<Row> = single.filter(|row| row.entries.len() == 1).collect();
        let was_run = |c: &Configuration| single.iter().any(|row| of(row, c).is_some());
        let run: Vec<&Configuration> = configurations
            .iter()
            .copied()
            .filter(|c| was_run(c))
            .collect();
        if run.len() < 2 {
            return String::new();
        }
        let found = |row: &Row| run.iter().filter(|c| of(row, c).is_some()).count();
        let compared = single.into_iter().filter(|row| found(row) > 1);
        let mut rows: Vec<Row> = compared.collect();
        let complete = rows.iter().filter(|row| found(row) == run.len());
        let complete: Vec<Entry> = complete.flat_map(|row| row.entries.clone()).collect();
        if complete.len() > 1 {
            rows.push(Row {
                name: format!("mean of {}", complete.len()),
                entries: complete,
            });
        }
        // A set a column: configurations are many, and the sets that all of them were run on are few.
        let mut head = vec!["configuration".to_owned()];
        head.extend(rows.iter().map(|row| match &row.entries[..] {
            [entry] => entry.to_string(),
            _ => row.name.clone(),
        }));
        let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
        for configuration in &run {
            let mut cells = vec![format!("`{}`", configuration.name)];
            cells.extend(rows.iter().map(|row| shown(of(row, configuration))));
            table.push(cells);
        }
        let about = run.iter().map(|c| format!("- `{}`: {}\n", c.name, c.about));
        let title = format!("### {title}: average precision with seed {COMPARED_SEED}");
        format!("{}\n{}", table.titled(&title), about.collect::<String>())
    }
}

/// Mean share of alerts, precision and recall under a budget.
fn alerts(runs: &[&Run], budget: f64) -> String {
    let at = |run: &&Run| {
        let model = run.outcome.model.as_ref()?;
        let at = model.at_budget.iter().find(|at| at.budget == budget)?;
        Some((
            at.alerts as f64 / run.outcome.rows.test as f64,
            at.precision,
            at.recall,
        ))
    };
    let found: Vec<_> = runs.iter().filter_map(at).collect();
    let mean = |values: Vec<f64>| Spread::of(&values).map(|spread| spread.mean);
    let share = mean(found.iter().map(|found| found.0).collect());
    let precision = mean(found.iter().filter_map(|found| found.1).collect());
    let recall = mean(found.iter().filter_map(|found| found.2).collect());
    let share = share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", 100.0 * share));
    format!("{share}, {}, {}", percent(precision), percent(recall))
}

fn name_cells(row: &Row) -> Vec<String> {
    let mut protocols = row.entries.iter().map(|entry| entry.protocol);
    let protocol = match protocols.next() {
        None => String::new(),
        Some(first) if protocols.all(|other| other == first) => first.to_string(),
        Some(_) => "several".to_owned(),
    };
    vec![row.name.clone(), protocol]
}

fn losses(losses: &[Loss]) -> String {
    let texts: Vec<String> = losses.iter().map(Loss::to_string).collect();
    match texts.is_empty() {
        true => "-".to_owned(),
        false => texts.join(", "),
    }
}

fn counted(rows: usize, anomalies: usize) -> String {
    match anomalies {
        0 => format!("{rows}"),
        _ => format!(
            "{rows} ({:.2} % anomalies)",
            100.0 * anomalies as f64 / rows as f64
        ),
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1}", 100.0 * value))
}

fn shown(spread: Option<Spread>) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread {
            mean,
            deviation: None,
            ..
        }) => percent(Some(mean)),
        Some(Spread {
            mean,
            deviation: Some(deviation),
            ..
        }) => {
            format!("{} ± {}", percent(Some(mean)), percent(Some(deviation)))
        }
    }
}

/// A Markdown table; the first column is text, the others are aligned to the right.
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|&cell| cell.to_owned()).collect();
        Self {
            head,
            rows: Vec::new(),
        }
    }

    fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The title and the table; nothing without a row.
    fn titled(&self, title: &str) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{title}\n\n{}|---|", line(&self.head));
        text += &"---:|".repeat(self.head.len() - 1);
        text.push('\n');
        text += &self.rows.iter().map(|row| line(row)).collect::<String>();
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::configurations::shipped;
    use crate::summary::tests::summary;

    #[test]
    fn every_table_has_its_rows_and_no_row_has_more_cells_than_the_head() {
        let summary = summary();
        let bar =
            "set = 'c'\nprotocol = 'dte'\nmetric = 'average_precision'\nabove = ['k_nearest']";
        let verdicts = [summary.verdict(&toml::from_str(bar).unwrap()).unwrap()];
        let figures = |best| Figures {
            best,
            method: "DTE-C".into(),
            k_nearest: 2.0,
            isolation_forest: 3.0,
        };
        let published = [Published {
            set: "a".into(),
            protocol: crate::protocol::Protocol::Dte,
            average_precision: figures(82.0),
            roc_auc: figures(95.0),
        }];
        let mut configurations = shipped().unwrap();
        configurations.truncate(2);
        configurations[1].name = "other".into();
        let report = Report {
            summary: &summary,
            published: &published,
            verdicts: &verdicts,
            configurations: &configurations,
        };
        let text = report.markdown();
        let lines = [
            "7 runs, seeds 0, 1, made by commit abc.",
            "| a | dte | 70.0 ± 14.1 | 50.0 | 70.0 | 20.0 | 82.0 DTE-C | 2.0 | 3.0 |",
            "| mean of 2 F | dte | 60.0 | - | - | - | - | - | - |",
            "| c | dte | AP | above k_nearest (70.0) | 70.0 | **missed** |",
            "| c | dte | 10 | 20 (25.00 % anomalies) | -, -, - | 35.00, 50.0, - | 2.0 | 1 | 1000 |",
            "| configuration | mean over families | F | worst against `default` |",
            "| `default` | 60.0 | 60.0 | - |",
            "| configuration | a/dte |",
            "| `default` | 80.0 |",
            "| `other` | 10.0 |",
            "- `default`: the defaults",
        ];
        for line in lines {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("Card precision"), "{text}");
        let tables: Vec<&str> = text
            .split("\n\n")
            .filter(|part| part.starts_with('|'))
            .collect();
        assert_eq!(tables.len(), 6, "{text}");
        for table in tables {
            let cells: Vec<usize> = table
                .trim()
                .lines()
                .map(|line| line.matches('|').count())
                .collect();
            assert!(cells.iter().all(|&count| count == cells[0]), "{table}");
        }
    }
}
