//! The benchmark of detection quality: `make quality DATA=folder`, or
//! `cargo run --release -p maskwatch-quality -- --help`.
//!
//! In flows a folder of Parquet files with labels; out flow Markdown tables and one JSON file: how well the model and the
//! baselines rank anomalies first, under the protocols that published figures were made with (docs/reference/benchmark.md). Every run
//! is kept when it is finished, so that an interrupted benchmark goes on where it was.

mod arguments;
mod cache;
mod configurations;
mod data;
mod document;
mod families;
mod markdown;
mod plan;
mod protocol;
mod references;
mod results;
mod run;
mod sets;
mod summary;
#[cfg(test)]
mod tests;

use anyhow::{Context, bail};
use arguments::Arguments;
use cache::Cache;
use clap::Parser;
use configurations::Configuration;
use data::DataSet;
use markdown::Report;
use plan::{Job, Pace, Plan, Run, digests, spoken};
use references::Bar;
use results::Metric;
use run::Prepared;
use sets::{Entry, SetSpec, Sets};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use summary::{Summary, Verdict};

fn main() -> ExitCode {
    match benchmark(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("quality: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; whether every run was made.
fn benchmark(arguments: &Arguments) -> anyhow::Result<bool> {
    let sets = Sets::shipped()?;
    let (bars, published) = (references::bars()?, references::published()?);
    let (found, notes) = sets.found(&arguments.data)?;
    notes
        .iter()
        .for_each(|note| say(&format!("left out: {note}")));
    let chosen = chosen_sets(arguments, &sets, found)?;
    let configurations = chosen_configurations(arguments)?;
    let cache = Cache::open(&arguments.cache, &cache::commit())?;
    let digests = digests(&chosen, &arguments.data)?;
    let seeds: &[u64] = if arguments.quick {
        &[0]
    } else {
        &arguments.seeds
    };
    let named = !arguments.sets.is_empty() || !arguments.families.is_empty();
    let everything = !named && !arguments.quick;
    let ablation_sets = everything.then_some(sets.ablation_sets.as_slice());
    let plan = Plan::new(
        &chosen,
        &digests,
        &configurations,
        seeds,
        ablation_sets,
        &cache,
    )?;
    let Plan { jobs, mut runs } = plan;
    say(&format!(
        "{} runs to make, {} in the cache",
        jobs.len(),
        runs.len()
    ));
    let failures = run_all(&jobs, arguments, &cache, &mut runs);
    let summary = Summary {
        runs,
        family_sizes: family_sizes(&sets, &chosen),
        sets: chosen.clone(),
    };
    let verdicts: Vec<Verdict> = bars
        .iter()
        .filter_map(|bar: &Bar| summary.verdict(bar))
        .collect();
    let report = Report {
        summary: &summary,
        published: &published,
        verdicts: &verdicts,
        configurations: &configurations,
    };
    let tables = report.markdown();
    write_json(arguments, &summary, &verdicts, &failures)?;
    if let Some(document) = &arguments.write {
        document::write(document, &tables)?;
    }
    writeln!(std::io::stdout(), "{tables}")?;
    failures
        .iter()
        .for_each(|failure| say(&format!("failed: {failure}")));
    Ok(failures.is_empty())
}

/// The sets that were asked for, each with the protocols that were.
fn chosen_sets(
    arguments: &Arguments,
    sets: &Sets,
    found: Vec<SetSpec>,
) -> anyhow::Result<Vec<SetSpec>> {
    let quick: Vec<String> = sets.quick.iter().map(Entry::to_string).collect();
    let asked = if arguments.quick {
        &quick
    } else {
        &arguments.sets
    };
    if !arguments.families.is_empty() {
        return of_families(&arguments.families, found);
    }
    if asked.is_empty() {
        return Ok(found);
    }
    let entry = |set: &SetSpec, protocol| {
        Entry {
            set: set.name.clone(),
            protocol,
        }
        .to_string()
    };
    let known = |asked: &&String| {
        let is_meant = |set: &SetSpec| {
            set.name == **asked
                || set
                    .protocols
                    .iter()
                    .any(|&protocol| entry(set, protocol) == **asked)
        };
        found.iter().any(is_meant)
    };
    if let Some(unknown) = asked
        .iter()
        .find(|asked| !known(asked))
        .filter(|_| !arguments.quick)
    {
        bail!("there is no {unknown} in {}", arguments.data.display());
    }
    let mut chosen = found;
    for set in &mut chosen {
        let name = set.name.clone();
        let keep = |&protocol: &protocol::Protocol| {
            let written = Entry {
                set: name.clone(),
                protocol,
            }
            .to_string();
            asked.contains(&name) || asked.contains(&written)
        };
        set.protocols.retain(keep);
    }
    chosen.retain(|set| !set.protocols.is_empty());
    if chosen.is_empty() {
        bail!(
            "{}: none of {} is there",
            arguments.data.display(),
            asked.join(", ")
        );
    }
    Ok(chosen)
}

/// The sets of some families.
fn of_families(families: &[String], found: Vec<SetSpec>) -> anyhow::Result<Vec<SetSpec>> {
    let known: BTreeSet<&String> = found.iter().filter_map(|set| set.family.as_ref()).collect();
    if let Some(unknown) = families.iter().find(|family| !known.contains(family)) {
        let known: Vec<&str> = known.iter().map(|family| family.as_str()).collect();
        bail!(
            "there is no family {unknown}; there are {}",
            known.join(", ")
        );
    }
    let is_meant = |set: &SetSpec| set.family.as_ref().is_some_and(|f| families.contains(f));
    Ok(found.into_iter().filter(is_meant).collect())
}

fn chosen_configurations(arguments: &Arguments) -> anyhow::Result<Vec<Configuration>> {
    let all = match &arguments.configurations_file {
        Some(path) => configurations::read(path)?,
        None => configurations::shipped()?,
    };
    let asked: &[String] = match arguments.quick {
        true => &[configurations::DEFAULT.to_owned()],
        false => &arguments.configurations,
    };
    let names: Vec<&str> = all
        .iter()
        .map(|configuration| configuration.name.as_str())
        .collect();
    if let Some(unknown) = asked.iter().find(|name| !names.contains(&name.as_str())) {
        bail!(
            "there is no configuration {unknown}; there are {}",
            names.join(", ")
        );
    }
    let wanted =
        |configuration: &Configuration| asked.is_empty() || asked.contains(&configuration.name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// How many sets each family of the chosen ones has in all: a bar about a family knows by it whether all of it was run.
fn family_sizes(sets: &Sets, chosen: &[SetSpec]) -> BTreeMap<String, usize> {
    let families = chosen.iter().filter_map(|set| set.family.as_ref());
    families
        .map(|family| (family.clone(), sets.family_size(family)))
        .collect()
}

/// Makes the runs in order; what failed is told at the end and stops no other run.
fn run_all(
    jobs: &[Job<'_>],
    arguments: &Arguments,
    cache: &Cache,
    runs: &mut Vec<Run>,
) -> Vec<String> {
    let mut pace = Pace::default();
    runs.iter().for_each(|run| pace.observe(run));
    let mut failures = Vec::new();
    let mut bench = Bench::default();
    for (at, job) in jobs.iter().enumerate() {
        let outcome = bench.run(job, arguments).and_then(|outcome| {
            cache.put(&job.key(), &outcome)?;
            Ok(outcome)
        });
        match outcome {
            Ok(outcome) => {
                let run = job.done(outcome, cache.commit().to_owned());
                pace.observe(&run);
                let left = pace.estimate(&jobs[at + 1..]);
                let left = left.map_or_else(|| "unknown".to_owned(), spoken);
                say(&format!(
                    "[{}/{}] {job}: {}  ETA {left}",
                    at + 1,
                    jobs.len(),
                    described(&run)
                ));
                runs.push(run);
            }
            Err(error) => {
                say(&format!(
                    "[{}/{}] {job}: failed: {error:#}",
                    at + 1,
                    jobs.len()
                ));
                failures.push(format!("{job}: {error:#}"));
            }
        }
    }
    failures
}

/// The set and the division in hand.
#[derive(Default)]
struct Bench {
    data: Option<DataSet>,
    prepared: Option<(Entry, u64, Prepared)>,
}

impl Bench {
    fn run(&mut self, job: &Job<'_>, arguments: &Arguments) -> anyhow::Result<results::Outcome> {
        let prepared = self.prepare(job, arguments)?;
        match job.configuration {
            Some(configuration) => prepared.run_model(&configuration.train),
            None => prepared.run_baselines(),
        }
    }

    fn prepare(&mut self, job: &Job<'_>, arguments: &Arguments) -> anyhow::Result<&Prepared> {
        let entry = Entry {
            set: job.set.name.clone(),
            protocol: job.protocol,
        };
        let ready = |(of, seed, _): &(Entry, u64, Prepared)| *of == entry && *seed == job.seed;
        if !self.prepared.as_ref().is_some_and(ready) {
            self.prepared = None;
            if self
                .data
                .as_ref()
                .is_none_or(|data| data.spec.name != job.set.name)
            {
                // The old one goes before the new one comes: both may be large.
                self.data = None;
                self.data = Some(DataSet::read(job.set.clone(), &arguments.data)?);
            }
            let data = self.data.as_ref().context("no set was read")?;
            self.prepared = Some((
                entry,
                job.seed,
                Prepared::new(data, job.protocol, job.seed)?,
            ));
        }
        let (_, _, prepared) = self.prepared.as_ref().context("nothing was prepared")?;
        Ok(prepared)
    }
}

/// What a run found, in one line.
fn described(run: &Run) -> String {
    let ranking = |ranking: &results::Ranking| {
        let of = |metric| {
            ranking
                .metric(metric)
                .map_or(f64::NAN, |value| 100.0 * value)
        };
        let (area, precision) = (of(Metric::RocAuc), of(Metric::AveragePrecision));
        format!("{} ROC {area:.1} AP {precision:.1}", ranking.method)
    };
    let rankings: Vec<String> = run.outcome.rankings.iter().map(ranking).collect();
    let cost = match &run.outcome.model {
        Some(model) => format!(
            "trained in {:.0} s, {:.0} records/s",
            model.training_seconds, model.scoring_records_per_second
        ),
        None => format!("{:.0} s", run.outcome.seconds),
    };
    format!("{}; {cost}", rankings.join(", "))
}

fn write_json(
    arguments: &Arguments,
    summary: &Summary,
    verdicts: &[Verdict],
    failures: &[String],
) -> anyhow::Result<()> {
    let path = arguments
        .json
        .clone()
        .unwrap_or_else(|| arguments.cache.join("quality.json"));
    let everything = serde_json::json!({
        "cache_version": cache::CACHE_VERSION,
        "commit": cache::commit(),
        "runs": summary.runs,
        "bars": verdicts,
        "failures": failures,
    });
    let mut sibling = maskwatch_core::durable::temporary_sibling(&path)?;
    serde_json::to_writer_pretty(&mut sibling, &everything)?;
    maskwatch_core::durable::persist(sibling, &path).with_context(|| path.display().to_string())?;
    Ok(())
}

/// A line for a person; a stderr that is closed is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
