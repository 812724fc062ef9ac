//! What is to be run, in which order, and how long it will take.
//!
//! In flow sets, configurations and the cache; out flow jobs, sets outermost, so that each file is read once and each
//! division made once. Invariant: a job that is in the cache is not planned.

use crate::cache::{CACHE_VERSION, Cache, Key};
use crate::configurations::{Configuration, DEFAULT};
use crate::protocol::Protocol;
use crate::results::Outcome;
use crate::sets::{Entry, SetSpec};
use anyhow::Context;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The set and how it was divided.
    pub entry: Entry,
    /// The seed.
    pub seed: u64,
    /// The configuration; none: the baselines.
    pub configuration: Option<String>,
    /// The commit that made it.
    pub commit: String,
    /// What it found.
    pub outcome: Outcome,
}

/// A run that is to be made.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The set.
    pub set: &'a SetSpec,
    /// The digest of its file.
    pub data: &'a str,
    /// How it is divided.
    pub protocol: Protocol,
    /// The seed.
    pub seed: u64,
    /// What is trained; none: the baselines.
    pub configuration: Option<&'a Configuration>,
}

impl Job<'_> {
    /// Under which it is kept.
    pub fn key(&self) -> Key<'_> {
        Key {
            version: CACHE_VERSION,
            set: self.set,
            data: self.data,
            protocol: self.protocol,
            seed: self.seed,
            train: self.configuration.map(|configuration| &configuration.train),
        }
    }

    /// The run that it became.
    pub fn done(&self, outcome: Outcome, commit: String) -> Run {
        Run {
            entry: Entry {
                set: self.set.name.clone(),
                protocol: self.protocol,
            },
            seed: self.seed,
            configuration: self
                .configuration
                .map(|configuration| configuration.name.clone()),
            commit,
            outcome,
        }
    }
}

impl std::fmt::Display for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = self
            .configuration
            .map_or("baselines", |configuration| &configuration.name);
        write!(
            f,
            "{}/{} {what} seed {}",
            self.set.name, self.protocol, self.seed
        )
    }
}

/// Jobs and what the cache already has.
pub struct Plan<'a> {
    /// In the order in which they are to be run.
    pub jobs: Vec<Job<'a>>,
    /// Runs from the cache.
    pub runs: Vec<Run>,
}

/// The SHA-256 of each set's file, in the order of the sets.
///
/// # Errors
/// If a file cannot be read.
pub fn digests(sets: &[SetSpec], data: &Path) -> anyhow::Result<Vec<String>> {
    let digest = |set: &SetSpec| {
        let path = set.path(data);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    };
    sets.iter().map(digest).collect()
}

impl<'a> Plan<'a> {
    /// Every configuration on every protocol of every set, with each of its seeds that the set has too or with `seeds`; and
    /// the baselines with the seeds that some configuration has there. If there are `ablation_sets`, nobody asked for these
    /// sets by name: a configuration that is not run everywhere is left out where they do not name the set, and a set of a
    /// folder of many gets the default configuration only.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn new(
        sets: &'a [SetSpec],
        digests: &'a [String],
        configurations: &'a [Configuration],
        seeds: &[u64],
        ablation_sets: Option<&[Entry]>,
        cache: &Cache,
    ) -> anyhow::Result<Self> {
        let seeds_of = |configuration: &Configuration, set: &SetSpec| match seeds {
            [] if set.seeds.is_empty() => configuration.seeds.clone(),
            [] => {
                let has = |seed: &&u64| set.seeds.contains(seed);
                configuration.seeds.iter().filter(has).copied().collect()
            }
            given => given.to_vec(),
        };
        let (mut jobs, mut runs) = (Vec::new(), Vec::new());
        for (set, data) in sets.iter().zip(digests) {
            for &protocol in &set.protocols {
                let entry = Entry {
                    set: set.name.clone(),
                    protocol,
                };
                let is_ablated = ablation_sets.is_none_or(|entries| entries.contains(&entry));
                let is_everywhere = |c: &Configuration| match set.folder {
                    Some(_) => c.name == DEFAULT,
                    None => c.everywhere,
                };
                let here: Vec<&Configuration> = configurations
                    .iter()
                    .filter(|c| is_everywhere(c) || is_ablated || c.also.contains(&entry))
                    .collect();
                let all: BTreeSet<u64> = here.iter().flat_map(|c| seeds_of(c, set)).collect();
                for seed in all {
                    let used = here.iter().copied();
                    let used = used.filter(|c| seeds_of(c, set).contains(&seed));
                    for configuration in std::iter::once(None).chain(used.map(Some)) {
                        let job = Job {
                            set,
                            data,
                            protocol,
                            seed,
                            configuration,
                        };
                        match cache.get(&job.key())? {
                            Some((outcome, commit)) => runs.push(job.done(outcome, commit)),
                            None => jobs.push(job),
                        }
                    }
                }
            }
        }
        Ok(Self { jobs, runs })
    }
}

/// How long runs take: those of the same set, protocol and kind as long as before, others as all of their kind.
#[derive(Default)]
pub struct Pace {
    /// Seconds and number of runs by set with protocol, and whether a model was trained.
    seen: HashMap<(Entry, bool), (f64, usize)>,
}

impl Pace {
    /// Learns from a run.
    pub fn observe(&mut self, run: &Run) {
        let key = (run.entry.clone(), run.configuration.is_some());
        let (seconds, runs) = self.seen.entry(key).or_default();
        *seconds += run.outcome.seconds;
        *runs += 1;
    }

    /// Seconds that the jobs will take; none before anything of their kind is known.
    pub fn estimate(&self, jobs: &[Job<'_>]) -> Option<f64> {
        jobs.iter().map(|job| self.seconds(job)).sum()
    }

    fn seconds(&self, job: &Job<'_>) -> Option<f64> {
        let entry = Entry {
            set: job.set.name.clone(),
            protocol: job.protocol,
        };
        let trains = job.configuration.is_some();
        let mean = |(seconds, runs): (f64, usize)| (runs > 0).then(|| seconds / runs as f64);
        let same = self.seen.get(&(entry, trains)).copied().and_then(mean);
        same.or_else(|| {
            let kind = self.seen.iter().filter(|((_, model), _)| *model == trains);
            mean(kind.fold((0.0, 0), |sum, (_, seen)| (sum.0 + seen.0, sum.1 + seen.1)))
        })
    }
}

/// A span of time as a person says it.
pub fn spoken(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0..=1 => format!("{seconds:.0} s"),
        2..=119 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::configurations::shipped;
    use crate::results::Rows;
    use crate::sets::Sets;

    fn outcome(seconds: f64) -> Outcome {
        let rows = Rows {
            train: 1,
            train_anomalies: 0,
            test: 2,
            test_anomalies: 1,
        };
        Outcome {
            rows,
            rankings: Vec::new(),
            model: None,
            seconds,
        }
    }

    #[test]
    fn what_is_kept_is_not_planned_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let sets = &Sets::shipped().unwrap().set[..2];
        let digests = ["a".to_owned(), "b".to_owned()];
        let configurations = &shipped().unwrap()[..2];
        let plan = || Plan::new(sets, &digests, configurations, &[], None, &cache).unwrap();
        // Two sets, one protocol each: five seeds of the default, one of the other, five of the baselines.
        let first = plan();
        assert_eq!((first.jobs.len(), first.runs.len()), (22, 0));
        cache.put(&first.jobs[3].key(), &outcome(1.0)).unwrap();
        let second = plan();
        assert_eq!((second.jobs.len(), second.runs.len()), (21, 1));
        assert_eq!(
            second.runs[0],
            first.jobs[3].done(outcome(1.0), "abc".to_owned())
        );
        let one_seed = Plan::new(sets, &digests, configurations, &[7], None, &cache).unwrap();
        assert_eq!(one_seed.jobs.len(), 6);
    }

    #[test]
    fn what_is_not_run_everywhere_is_run_on_the_ablation_sets() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let shipped_sets = Sets::shipped().unwrap();
        let sets = &shipped_sets.set[..2];
        let digests = ["a".to_owned(), "b".to_owned()];
        let configurations = shipped().unwrap();
        let ablation = shipped_sets.ablation_sets.as_slice();
        let plan = Plan::new(
            sets,
            &digests,
            &configurations,
            &[0],
            Some(ablation),
            &cache,
        );
        let jobs = plan.unwrap().jobs;
        let planned = |set: &SetSpec| jobs.iter().filter(|job| job.set.name == set.name).count();
        let everywhere = configurations.iter().filter(|c| c.everywhere).count();
        assert!(ablation.iter().any(|entry| entry.set == sets[0].name));
        assert_eq!(planned(&sets[0]), 1 + configurations.len());
        assert_eq!(planned(&sets[1]), 1 + everywhere);
    }

    #[test]
    fn a_folder_of_many_sets_gets_the_default_and_its_own_seeds_unless_more_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let shipped_sets = Sets::shipped().unwrap();
        let sets = [SetSpec {
            name: "one".to_owned(),
            folder: Some("many".to_owned()),
            seeds: vec![0],
            ..shipped_sets.set[0].clone()
        }];
        let digests = ["a".to_owned()];
        let configurations = shipped().unwrap();
        let ablation = Some(shipped_sets.ablation_sets.as_slice());
        let plan = |seeds: &[u64], ablation| {
            let plan = Plan::new(&sets, &digests, &configurations, seeds, ablation, &cache);
            plan.unwrap().jobs.len()
        };
        // The default and the baselines.
        assert_eq!(plan(&[], ablation), 2);
        assert_eq!(plan(&[], None), 1 + configurations.len());
        assert_eq!(plan(&[3, 4], ablation), 4);
    }

    #[test]
    fn time_is_told_from_runs_like_those_that_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), "abc").unwrap();
        let sets = &Sets::shipped().unwrap().set[..2];
        let digests = ["a".to_owned(), "b".to_owned()];
        let configurations = &shipped().unwrap()[..1];
        let jobs = Plan::new(sets, &digests, configurations, &[0, 1], None, &cache)
            .unwrap()
            .jobs;
        let mut pace = Pace::default();
        assert_eq!(pace.estimate(&jobs), None);
        pace.observe(&jobs[0].done(outcome(1.0), String::new()));
        assert_eq!(pace.estimate(&jobs), None);
        pace.observe(&jobs[1].done(outcome(10.0), String::new()));
        assert_eq!(pace.estimate(&jobs[2..]), Some(11.0 + 22.0));
        // A second set that takes longer counts for itself.
        pace.observe(&jobs[5].done(outcome(30.0), String::new()));
        assert_eq!(pace.estimate(&jobs[6..]), Some(1.0 + 30.0));
        assert_eq!(pace.estimate(&[]), Some(0.0));
    }

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        let texts = [50.0, 300.0, 7_300.0].map(spoken);
        assert_eq!(texts, ["50 s", "5 min", "2 h 2 min"]);
    }
}
