//! Runs become means and deviations over seeds, means over families, and bars that are reached or not.

use crate::configurations::DEFAULT;
use crate::plan::Run;
use crate::references::Bar;
use crate::results::{MODEL, Metric};
use crate::sets::{Entry, SetSpec};
use serde::Serialize;
use std::collections::BTreeMap;

/// Mean and deviation of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// The sample standard deviation; none of a single value.
    pub deviation: Option<f64>,
    /// How many they are.
    pub runs: usize,
}

impl Spread {
    /// None of no value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
        (runs > 0).then_some(Self {
            mean,
            deviation,
            runs,
        })
    }
}

/// What made a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method<'a> {
    /// The model under a configuration.
    Configuration(&'a str),
    /// A baseline.
    Baseline(&'a str),
}

/// A row of a table: a set, or the mean of a family, under one protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The name of the set, or of the family with how many sets it has.
    pub name: String,
    /// The sets that it is about: one, or those of the family.
    pub entries: Vec<Entry>,
}

impl Row {
    /// One set under one protocol.
    pub fn of(entry: Entry) -> Self {
        Self {
            name: entry.set.clone(),
            entries: vec![entry],
        }
    }
}

/// How a bar was met.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The bar.
    pub bar: Bar,
    /// What it is about.
    pub row: Row,
    /// What the default configuration reached; none if a run is missing.
    pub reached: Option<f64>,
    /// What was asked: a number with its name.
    pub asked: Vec<(String, Option<f64>)>,
    /// Whether all that was asked was reached; none if a run is missing.
    pub passed: Option<bool>,
}

/// All runs, with the sets that they are of.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The runs.
    pub runs: Vec<Run>,
    /// Sets in the order of the tables.
    #[serde(skip)]
    pub sets: Vec<SetSpec>,
    /// How many sets each family has in all, run or not.
    #[serde(skip)]
    pub family_sizes: BTreeMap<String, usize>,
}

impl Summary {
    /// The rows of the tables: every set under every protocol that something was run of, each family's mean behind its last
    /// set; of the sets of a folder of many the mean only.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (at, set) in self.sets.iter().enumerate() {
            let single = set.entries().filter(|_| set.folder.is_none());
            let single = single.filter(|entry| self.was_run(entry));
            rows.extend(single.map(Row::of));
            let Some(family) = &set.family else { continue };
            if self.sets[at + 1..]
                .iter()
                .any(|later| later.family.as_ref() == Some(family))
            {
                continue;
            }
            let mean = self.family(family);
            if mean.entries.len() > 1 {
                rows.push(mean);
            }
        }
        rows
    }

    fn was_run(&self, entry: &Entry) -> bool {
        self.runs.iter().any(|run| run.entry == *entry)
    }

    /// The families, in the order of the tables.
    pub fn families(&self) -> Vec<&str> {
        let mut families: Vec<&str> = Vec::new();
        for family in self.sets.iter().filter_map(|set| set.family.as_deref()) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    /// The sets of a family, under each of their protocols, that something was run of.
    pub fn family(&self, family: &str) -> Row {
        let of_family = |set: &&SetSpec| set.family.as_deref() == Some(family);
        let entries = self.sets.iter().filter(of_family);
        let entries: Vec<Entry> = entries
            .flat_map(SetSpec::entries)
            .filter(|entry| self.was_run(entry))
            .collect();
        Row {
            name: format!("mean of {} {family}", entries.len()),
            entries,
        }
    }

    /// A metric of a method on a row: over all seeds with which every set of the row was run, or over `seed` only.
    pub fn spread(
        &self,
        row: &Row,
        method: Method<'_>,
        metric: Metric,
        seed: Option<u64>,
    ) -> Option<Spread> {
        let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for entry in &row.entries {
            for run in self.runs.iter().filter(|run| run.entry == *entry) {
                let wanted = seed.is_none_or(|seed| run.seed == seed);
                if let Some(value) = value(run, method, metric).filter(|_| wanted) {
                    by_seed.entry(run.seed).or_default().push(value);
                }
            }
        }
        let whole = by_seed
            .values()
            .filter(|values| values.len() == row.entries.len());
        let means: Vec<f64> = whole
            .map(|values| values.iter().sum::<f64>() / values.len() as f64)
            .collect();
        Spread::of(&means)
    }

    /// How the default configuration meets a bar; none if nothing of its sets was run.
    pub fn verdict(&self, bar: &Bar) -> Option<Verdict> {
        let row = match (&bar.set, &bar.family) {
            (Some(set), _) => {
                let entry = Entry {
                    set: set.clone(),
                    protocol: bar.protocol,
                };
                self.rows()
                    .into_iter()
                    .find(|row| row.entries == [entry.clone()])?
            }
            (None, Some(family)) => {
                let mut row = self.family(family);
                row.entries.retain(|entry| entry.protocol == bar.protocol);
                row
            }
            (None, None) => return None,
        };
        if row.entries.is_empty() {
            return None;
        }
        // A mean over a part of a family is not what was asked for.
        let complete = match &bar.family {
            Some(family) => self.family_sizes.get(family) == Some(&row.entries.len()),
            None => true,
        };
        let mean = |method| {
            self.spread(&row, method, bar.metric, None)
                .map(|spread| spread.mean)
        };
        let reached = mean(Method::Configuration(DEFAULT)).filter(|_| complete);
        let asked: Vec<(String, Option<f64>)> = match bar.at_least {
            Some(least) => vec![("at least".to_owned(), Some(least))],
            None => bar
                .above
                .iter()
                .map(|name| (name.clone(), mean(Method::Baseline(name))))
                .collect(),
        };
        let met = |reached: f64, (_, asked): &(String, Option<f64>)| {
            asked.map(|asked| {
                if bar.at_least.is_some() {
                    reached >= asked
                } else {
                    reached > asked
                }
            })
        };
        let all: Option<Vec<bool>> =
            reached.and_then(|reached| asked.iter().map(|asked| met(reached, asked)).collect());
        let passed = all.map(|all| all.iter().all(|&met| met));
        Some(Verdict {
            bar: bar.clone(),
            row,
            reached,
            asked,
            passed,
        })
    }
}

fn value(run: &Run, method: Method<'_>, metric: Metric) -> Option<f64> {
    let name = match (method, &run.configuration) {
        (Method::Configuration(name), Some(configuration)) if name == configuration => MODEL,
        (Method::Baseline(name), None) => name,
        _ => return None,
    };
    let ranking = run
        .outcome
        .rankings
        .iter()
        .find(|ranking| ranking.method == name)?;
    ranking.metric(metric)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::results::{ModelReport, Outcome, Ranking, Rows};
    use maskwatch_learn::evaluate::AtBudget;
    use maskwatch_learn::train::FitReport;

    fn set(name: &str, family: Option<&str>) -> SetSpec {
        let text = format!("name = '{name}'\nprotocols = ['dte']\n");
        let set: SetSpec = toml::from_str(&text).unwrap();
        SetSpec {
            family: family.map(str::to_owned),
            ..set
        }
    }

    fn run(set: &str, configuration: Option<&str>, seed: u64, rankings: &[(&str, f64)]) -> Run {
        let rankings = rankings.iter().map(|&(method, precision)| Ranking {
            method: method.to_owned(),
            roc_auc: 0.9,
            average_precision: precision,
            card_precision_100: None,
            card_precision_100_once: None,
        });
        let fit = FitReport {
            steps: 1,
            best_step: 1,
            held_out_loss: 0.5,
            rows: 256,
            parameters: 10,
            seconds: 1.0,
        };
        let alerts = AtBudget {
            budget: 0.01,
            alerts: 7,
            precision: Some(0.5),
            recall: None,
        };
        let model = configuration.map(|_| ModelReport {
            model_id: "0".to_owned(),
            fit,
            training_seconds: 2.0,
            scoring_records_per_second: 1_000.0,
            at_budget: vec![alerts],
        });
        Run {
            entry: Entry {
                set: set.to_owned(),
                protocol: Protocol::Dte,
            },
            seed,
            configuration: configuration.map(str::to_owned),
            commit: "abc".to_owned(),
            outcome: Outcome {
                rows: Rows {
                    train: 10,
                    train_anomalies: 0,
                    test: 20,
                    test_anomalies: 5,
                },
                rankings: rankings.collect(),
                model,
                seconds: 3.0,
            },
        }
    }

    /// Two sets of a family and one more; two seeds, the second of which set b lacks.
    pub fn summary() -> Summary {
        let baselines = [
            ("isolation_forest", 0.5),
            ("k_nearest", 0.7),
            ("principal_components", 0.2),
        ];
        let runs = vec![
            run("a", Some(DEFAULT), 0, &[(MODEL, 0.8)]),
            run("a", Some(DEFAULT), 1, &[(MODEL, 0.6)]),
            run("b", Some(DEFAULT), 0, &[(MODEL, 0.4)]),
            run("c", Some(DEFAULT), 0, &[(MODEL, 0.7)]),
            run("a", Some("other"), 0, &[(MODEL, 0.1)]),
            run("a", None, 0, &baselines),
            run("c", None, 0, &baselines),
        ];
        let sets = vec![
            set("a", Some("F")),
            set("b", Some("F")),
            set("c", None),
            set("d", None),
        ];
        let family_sizes = [("F".to_owned(), 2)].into();
        Summary {
            runs,
            sets,
            family_sizes,
        }
    }

    fn bar(text: &str) -> Bar {
        toml::from_str(&format!(
            "protocol = 'dte'\nmetric = 'average_precision'\n{text}"
        ))
        .unwrap()
    }

    #[test]
    fn a_spread_is_that_of_numpy() {
        // x = [.8, .6, .75, .9]; np.mean(x), np.std(x, ddof=1)
        let found = Spread::of(&[0.8, 0.6, 0.75, 0.9]).unwrap();
        assert!((found.mean - 0.7625).abs() < 1e-12);
        assert!((found.deviation.unwrap() - 0.125).abs() < 1e-12);
        assert_eq!(Spread::of(&[0.5]).unwrap().deviation, None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn rows_are_the_sets_that_were_run_and_the_means_of_families() {
        let summary = summary();
        let rows = summary.rows();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "mean of 2 F", "c"]);
        let of = |row: usize, method, seed| {
            let spread = summary.spread(&rows[row], method, Metric::AveragePrecision, seed);
            spread.map(|spread| ((spread.mean * 100.0).round(), spread.runs))
        };
        assert_eq!(of(0, Method::Configuration(DEFAULT), None), Some((70.0, 2)));
        assert_eq!(
            of(0, Method::Configuration(DEFAULT), Some(0)),
            Some((80.0, 1))
        );
        // Seed 1 was not run with both sets, so that it is no part of their mean.
        assert_eq!(of(2, Method::Configuration(DEFAULT), None), Some((60.0, 1)));
        assert_eq!(of(3, Method::Baseline("k_nearest"), None), Some((70.0, 1)));
        assert_eq!(of(1, Method::Baseline("k_nearest"), None), None);
        assert_eq!(of(3, Method::Configuration("other"), None), None);
    }

    #[test]
    fn a_bar_is_reached_missed_or_open() {
        let summary = summary();
        let passed = |text: &str| summary.verdict(&bar(text)).map(|verdict| verdict.passed);
        assert_eq!(passed("set = 'a'\nat_least = 0.69"), Some(Some(true)));
        assert_eq!(passed("set = 'a'\nat_least = 0.71"), Some(Some(false)));
        assert_eq!(passed("family = 'F'\nat_least = 0.6"), Some(Some(true)));
        assert_eq!(
            passed("set = 'c'\nabove = ['isolation_forest']"),
            Some(Some(true))
        );
        // Equal is not above.
        assert_eq!(
            passed("set = 'c'\nabove = ['isolation_forest', 'k_nearest']"),
            Some(Some(false))
        );
        assert_eq!(passed("set = 'b'\nabove = ['k_nearest']"), Some(None));
        for not_run in ["set = 'd'", "family = 'G'"] {
            assert_eq!(passed(&format!("{not_run}\nat_least = 0.1")), None);
        }
    }

    #[test]
    fn a_part_of_a_family_reaches_no_bar() {
        let mut summary = summary();
        summary.runs.retain(|run| run.entry.set != "b");
        let verdict = summary
            .verdict(&bar("family = 'F'\nat_least = 0.1"))
            .unwrap();
        assert_eq!((verdict.reached, verdict.passed), (None, None));
    }
}
