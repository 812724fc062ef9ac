//! What results are held against: published figures (`published.toml`) and bars (`bars.toml`).

use crate::protocol::Protocol;
use crate::results::Metric;
use anyhow::{Context, bail};
use maskwatch_learn::evaluate::Baselines;
use serde::{Deserialize, Serialize};

/// What a paper reports of one set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The set's name here.
    pub set: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Average precision.
    pub average_precision: Figures,
    /// ROC AUC.
    pub roc_auc: Figures,
}

/// Figures of one metric, in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The best of all methods compared there.
    pub best: f64,
    /// Which one that is.
    pub method: String,
    /// Its nearest neighbours.
    pub k_nearest: f64,
    /// Its isolation forest.
    pub isolation_forest: f64,
}

/// What has to be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// On this set,
    pub set: Option<String>,
    /// or on the mean of this family,
    pub family: Option<String>,
    /// divided so,
    pub protocol: Protocol,
    /// in this metric,
    pub metric: Metric,
    /// at least this much, in 0..=1,
    pub at_least: Option<f64>,
    /// or more than these baselines.
    #[serde(default)]
    pub above: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedFile {
    figure: Vec<Published>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BarsFile {
    bar: Vec<Bar>,
}

/// The published figures that ship with the benchmark.
///
/// # Errors
/// What is wrong with the file.
pub fn published() -> anyhow::Result<Vec<Published>> {
    let file: PublishedFile = toml::from_str(include_str!("published.toml"))
        .context("crates/quality/src/published.toml")?;
    Ok(file.figure)
}

/// The bars that ship with the benchmark.
///
/// # Errors
/// All that is wrong with the file.
pub fn bars() -> anyhow::Result<Vec<Bar>> {
    parse_bars(include_str!("bars.toml")).context("crates/quality/src/bars.toml")
}

fn parse_bars(text: &str) -> anyhow::Result<Vec<Bar>> {
    let file: BarsFile = toml::from_str(text)?;
    let faults: Vec<String> = (1..)
        .zip(&file.bar)
        .flat_map(|(at, bar)| faults(at, bar))
        .collect();
    if !faults.is_empty() {
        bail!(faults.join("; "));
    }
    Ok(file.bar)
}

fn faults(at: usize, bar: &Bar) -> Vec<String> {
    let mut faults = Vec::new();
    if bar.set.is_some() == bar.family.is_some() {
        faults.push(format!("bar {at}: needs either set or family"));
    }
    if bar.at_least.is_some() != bar.above.is_empty() {
        faults.push(format!("bar {at}: needs either at_least or above"));
    }
    if let Some(least) = bar
        .at_least
        .filter(|least| !(*least > 0.0 && *least <= 1.0))
    {
        faults.push(format!(
            "bar {at}: at_least = {least}: must be above 0 and at most 1"
        ));
    }
    let unknown = bar
        .above
        .iter()
        .filter(|name| !Baselines::NAMES.contains(&name.as_str()));
    faults.extend(unknown.map(|name| format!("bar {at}: there is no baseline {name}")));
    faults
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::sets::{Entry, Sets};

    #[test]
    fn every_bar_and_every_figure_is_about_a_set_that_is_described() {
        let sets = Sets::shipped().unwrap();
        for bar in bars().unwrap() {
            let is_meant = |set: &&crate::sets::SetSpec| {
                Some(&set.name) == bar.set.as_ref()
                    || (set.family.is_some() && set.family == bar.family)
            };
            let mut meant = sets.set.iter().filter(is_meant);
            let single = meant.any(|set| set.protocols.contains(&bar.protocol));
            let of_folder = sets.folder.iter().any(|folder| {
                Some(&folder.each.family) == bar.family.as_ref()
                    && folder.each.protocols.contains(&bar.protocol)
            });
            assert!(single || of_folder, "{bar:?}");
        }
        for Published { set, protocol, .. } in published().unwrap() {
            assert!(
                sets.has(&Entry {
                    set: set.clone(),
                    protocol
                }),
                "{set}"
            );
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "[[bar]]\nprotocol = 'dte'\nmetric = 'roc_auc'\n[[bar]]\nset = 'a'\nprotocol = 'dte'\n\
                    metric = 'roc_auc'\nat_least = 76\n[[bar]]\nset = 'a'\nprotocol = 'dte'\n\
                    metric = 'roc_auc'\nabove = ['magic']\n";
        let error = parse_bars(text).unwrap_err().to_string();
        for named in [
            "bar 1: needs either set",
            "bar 1: needs either at_least",
            "at_least = 76",
            "no baseline magic",
        ] {
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
