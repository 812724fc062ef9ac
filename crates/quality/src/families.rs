//! What a choice is made by: configurations by the mean over families, with what they lose most; and how a method stands on
//! the many sets of one family.
//!
//! In flow the runs; out flow tables. A family counts once, however many sets it has: else 85 small tables would decide alone.

use crate::configurations::DEFAULT;
use crate::results::Metric;
use crate::sets::Entry;
use crate::summary::{Method, Row, Summary};

/// Losses that are named.
const LOSSES: usize = 5;
/// The baselines that the default is held against set by set: what users would take first.
pub const FLOORS: [&str; 2] = ["k_nearest", "isolation_forest"];

/// How much a set loses, with what it had.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The set.
    pub entry: Entry,
    /// Average precision of what is looked at.
    pub reached: f64,
    /// Average precision of what it is held against.
    pub against: f64,
}

/// A configuration over the families.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Mean average precision of each family of [`Summary::families`]; none where a set was not run.
    pub families: Vec<Option<f64>>,
    /// The mean of these; none if one is missing.
    pub mean: Option<f64>,
    /// What it loses most against the default, worst first.
    pub losses: Vec<Loss>,
}

/// How the default stands on the sets of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Sets on which it and both floors were run.
    pub sets: usize,
    /// On how many it is ahead of each floor.
    pub ahead: [usize; 2],
    /// On how many of both.
    pub ahead_of_all: usize,
    /// What it loses most against the better floor, worst first.
    pub losses: Vec<Loss>,
}

impl Summary {
    /// Average precision of a method on one set: the mean over seeds, or of one.
    fn precision(&self, entry: &Entry, method: Method<'_>, seed: Option<u64>) -> Option<f64> {
        let spread = self.spread(
            &Row::of(entry.clone()),
            method,
            Metric::AveragePrecision,
            seed,
        );
        spread.map(|spread| spread.mean)
    }

    /// A configuration over the families, with one seed.
    pub fn choice(&self, configuration: &str, seed: u64) -> Choice {
        let method = Method::Configuration(configuration);
        let rows: Vec<Row> = self.families().iter().map(|f| self.family(f)).collect();
        let mean = |row: &Row| {
            let metric = Metric::AveragePrecision;
            let spread = self.spread(row, method, metric, Some(seed))?;
            Some(spread.mean)
        };
        let families: Vec<Option<f64>> = rows.iter().map(mean).collect();
        let all: Option<Vec<f64>> = families.iter().copied().collect();
        let all = all.filter(|all| !all.is_empty());
        let default = Method::Configuration(DEFAULT);
        let loss = |entry: &Entry| {
            Some(Loss {
                entry: entry.clone(),
                reached: self.precision(entry, method, Some(seed))?,
                against: self.precision(entry, default, Some(seed))?,
            })
        };
        let losses = rows.iter().flat_map(|row| &row.entries).filter_map(loss);
        Choice {
            mean: all.map(|all| all.iter().sum::<f64>() / all.len() as f64),
            families,
            losses: worst(losses),
        }
    }

    /// How the default stands on the sets of a family, by the mean over seeds.
    pub fn standing(&self, family: &str) -> Standing {
        let mut standing = Standing {
            sets: 0,
            ahead: [0; 2],
            ahead_of_all: 0,
            losses: Vec::new(),
        };
        let mut losses = Vec::new();
        for entry in self.family(family).entries {
            let reached = self.precision(&entry, Method::Configuration(DEFAULT), None);
            let floors = FLOORS.map(|name| self.precision(&entry, Method::Baseline(name), None));
            let (Some(reached), [Some(first), Some(second)]) = (reached, floors) else {
                continue;
            };
            let ahead = [reached > first, reached > second];
            standing.sets += 1;
            for (count, &is_ahead) in standing.ahead.iter_mut().zip(&ahead) {
                *count += usize::from(is_ahead);
            }
            standing.ahead_of_all += usize::from(ahead.iter().all(|&is_ahead| is_ahead));
            losses.push(Loss {
                entry,
                reached,
                against: first.max(second),
            });
        }
        standing.losses = worst(losses.into_iter());
        standing
    }
}

/// The largest losses, worst first.
fn worst(losses: impl Iterator<Item = Loss>) -> Vec<Loss> {
    let lost = |loss: &Loss| loss.against - loss.reached;
    let mut losses: Vec<Loss> = losses.filter(|loss| lost(loss) > 0.0).collect();
    losses.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    losses.truncate(LOSSES);
    losses
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (reached, against) = (100.0 * self.reached, 100.0 * self.against);
        write!(f, "{} {reached:.1} ({against:.1})", self.entry.set)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::summary::tests::summary;

    #[test]
    fn a_family_counts_once_and_a_missing_set_makes_no_mean() {
        let mut summary = summary();
        let choice = summary.choice(DEFAULT, 0);
        // Sets a and b of family F, .8 and .4; set c has no family.
        assert_eq!(choice.families.len(), 1);
        assert!((choice.mean.unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(summary.choice("other", 0).mean, None);
        // A second family of one set weighs as much as the first of two.
        summary.sets[2].family = Some("G".to_owned());
        let choice = summary.choice(DEFAULT, 0);
        assert!((choice.mean.unwrap() - 0.65).abs() < 1e-12, "{choice:?}");
    }

    #[test]
    fn what_a_configuration_loses_most_is_named() {
        let losses = summary().choice("other", 0).losses;
        let texts: Vec<String> = losses.iter().map(Loss::to_string).collect();
        assert_eq!(texts, ["a 10.0 (80.0)"]);
        assert!(summary().choice(DEFAULT, 0).losses.is_empty());
    }

    #[test]
    fn a_set_is_ahead_if_it_is_above_both_floors() {
        let mut summary = summary();
        // Set a has .7 over two seeds, beside .7 of the neighbours and .5 of the forest: equal is not ahead.
        let standing = summary.standing("F");
        assert_eq!((standing.sets, standing.ahead), (1, [0, 1]));
        assert_eq!(standing.ahead_of_all, 0);
        summary.sets[2].family = Some("F".to_owned());
        assert_eq!(summary.standing("F").sets, 2);
    }
}
