//! A look at the first records that a bundle meets: are they what it was trained for?
//!
//! In flow canonical batches with their scores and alerts, out flows, once, an [`Opening`]: features that are null
//! in all of the first records and were hardly ever in training, and the alert rate beside the promised one, with what
//! stands out in the records where the budget does not explain it. Memory is a few counters a field, whatever flows
//! through.
//!
//! **When the rate is too high.** `Promise` (`score`) has the law of the number of alerts among records of the calibration
//! rows' kind. A count is told at WARN where chance brings as many in less than one of a million starts, and where it is
//! more than three times what the interval allows. What that means depends on where the alerts lie ([`Excess`]). Frauds
//! come in bursts, which are news and no fault of the set-up. So the records are cut into blocks, and the blocks with the
//! most alerts are left out: what is still far too much then is *everywhere*. Few alerts can all lie in the blocks that
//! are left out. These are *scattered* if they are too many also without the fullest two tenths of the records, else a
//! *burst*.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::detector::Detector;
use crate::encode::{FieldShape, NumericEncoder, ValueEncoder};
use crate::score::{AlertBudget, Promise, Scores, count_text, number_text, share_text};

/// Records that are looked at: enough for a share to mean something, and seconds of most streams.
pub const FIRST_RECORDS: usize = 1_000;
/// Records of a block, which is where a burst of frauds lies.
const BLOCK: usize = 10;
const BLOCKS: usize = FIRST_RECORDS / BLOCK;
/// One block in so many is left out: those with the most alerts.
const LEFT_OUT_ONE_IN: usize = 5;
/// Parts of the records by which a burst is told from scattered alerts.
const TENTHS: usize = 10;
/// Of them, those with the most alerts that are left out: a burst may lie across a border.
const TENTHS_LEFT_OUT: usize = 2;
/// The chance that alerts are called scattered where all but a burst is as promised.
const SCATTERED_CHANCE: f64 = 0.01;
/// The chance of a false warning of a field that never comes.
const CHANCE_MAX: f64 = 1e-6;
/// A field that was null more often than this in training may well be null for a while.
const HARDLY_EVER: f64 = 0.05;
/// A field is as surprising as one in a hundred of the reference rows, nats.
const ONE_IN_HUNDRED: f32 = 4.605_17;
/// Standard deviations between the means of now and of training from which another unit or world is likely.
const SHIFT_MIN: f64 = 2.0;
/// A share of records that a cause must reach beyond the training's.
const SHARE_MIN: f64 = 0.2;
/// Causes that are named.
const CAUSES_MAX: usize = 5;

/// What the training knows of a feature.
#[derive(Debug, Clone)]
struct Facts {
    name: String,
    null_share: f64,
    /// Probability of a value that training did not have.
    unseen_share: f64,
    /// Whether its values may not be shown.
    redact: bool,
    number: Option<NumericEncoder>,
    shape: FieldShape,
}

/// What was seen of a feature.
#[derive(Debug, Clone, Copy, Default)]
struct FieldCounts {
    nulls: u64,
    unseen: u64,
    surprising: u64,
    /// Sum of the standardised values.
    z: f64,
}

#[derive(Debug)]
struct Counts {
    records: usize,
    alerts: [usize; BLOCKS],
    fields: Vec<FieldCounts>,
}

/// Counts the first records. Share it among the threads that score.
#[derive(Debug)]
pub struct FirstRecords {
    promise: Promise,
    facts: Vec<Facts>,
    counts: Mutex<Counts>,
    done: AtomicBool,
}

/// What the first records look like beside the training's.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Records looked at.
    pub records: usize,
    /// Of them, alerts.
    pub alerts: usize,
    /// What the budget promises of their number.
    pub promise: Promise,
    /// Where the alerts lie, if they are far more than promised.
    pub excess: Option<Excess>,
    /// Features that are null in every record and were hardly ever in training, with their null share there.
    pub absent: Vec<(String, f64)>,
    /// What stands out in the records, the likeliest cause first; empty without an excess.
    pub causes: Vec<Cause>,
}

/// Where alerts lie that are far more than promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Far too many also without the fifth of all blocks of ten records that has the most.
    Everywhere,
    /// Too many also without the fullest two tenths of the records.
    Scattered,
    /// As promised without these two tenths.
    Burst {
        /// The alerts in them.
        alerts: usize,
    },
}

/// Something that stands out in the first records.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Null far more often than in training.
    Null {
        /// The field.
        field: String,
        /// Share of the records, 0 to 1.
        found: f64,
        /// Share of the training rows, 0 to 1.
        trained: f64,
    },
    /// Values that training did not have.
    Unseen {
        /// The field.
        field: String,
        /// Share of the records, 0 to 1.
        found: f64,
    },
    /// Numbers far from the training's: another unit, or another world.
    Shifted {
        /// The field.
        field: String,
        /// The typical value of the records, in the field's unit.
        found: f64,
        /// The typical value of training.
        trained: f64,
        /// Whether neither may be shown.
        redact: bool,
    },
    /// Values that are known but rare for what surrounds them.
    Surprising {
        /// The field.
        field: String,
        /// Share of the records in which it is as surprising as in one of a hundred training rows.
        found: f64,
    },
}

impl FirstRecords {
    /// Nothing seen yet, of a stream that `detector` scores under `budget`.
    pub fn new(detector: &Detector, budget: AlertBudget) -> Self {
        let encoder = detector.scorer().model().encoder();
        let fields = encoder.fields().iter().zip(detector.schema().features());
        let facts: Vec<Facts> = fields
            .map(|(field, of_schema)| Facts {
                redact: of_schema.redact,
                name: field.name.clone(),
                // One is added to each side: no share is known to be 0.
                null_share: (field.nulls + 1) as f64 / (field.rows + 2) as f64,
                unseen_share: match &field.value {
                    ValueEncoder::Categorical(values) => f64::from(-values.unseen_surprise()).exp(),
                    _ => 0.0,
                },
                number: match &field.value {
                    ValueEncoder::Numeric(number) => Some(number.clone()),
                    _ => None,
                },
                shape: field.shape(),
            })
            .collect();
        Self {
            promise: detector.promise(budget),
            counts: Mutex::new(Counts {
                records: 0,
                alerts: [0; BLOCKS],
                fields: vec![FieldCounts::default(); facts.len()],
            }),
            facts,
            done: AtomicBool::new(false),
        }
    }

    /// Looks at a canonical batch of B good records with their scores and alerts, `[B]`. The opening, once, with the
    /// batch that makes the first records complete.
    pub fn observe(
        &self,
        detector: &Detector,
        batch: &RecordBatch,
        scores: &Scores,
        alerts: &[bool],
    ) -> Option<Opening> {
        if self.done.load(Ordering::Relaxed) || alerts.is_empty() {
            return None;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = (FIRST_RECORDS - counts.records).min(alerts.len());
        if rows == 0 {
            return None;
        }
        self.count(&mut counts, detector, &batch.slice(0, rows), scores)?;
        for (row, _) in alerts[..rows]
            .iter()
            .enumerate()
            .filter(|(_, alert)| **alert)
        {
            let block = (counts.records + row) / BLOCK;
            counts.alerts[block] += 1;
        }
        counts.records += rows;
        (counts.records == FIRST_RECORDS).then(|| self.close(&counts))
    }

    /// The opening of what ended before it had as many records; `None` if there is nothing to say or it was said.
    pub fn finish(&self) -> Option<Opening> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let said = self.done.load(Ordering::Relaxed) || counts.records == 0;
        (!said).then(|| self.close(&counts))
    }

    /// `None` for a batch that is not canonical: whoever scores it says so.
    fn count(
        &self,
        counts: &mut Counts,
        detector: &Detector,
        batch: &RecordBatch,
        scores: &Scores,
    ) -> Option<()> {
        let model = detector.scorer().model();
        let records = model.encoder().encode(batch).ok()?;
        // The tables below are those of all views; a cascade has them for some records only.
        let in_all_views = match detector.scorer().cascade() {
            Some(_) => Some(detector.scorer().score_with_fields(&records).ok()?),
            None => None,
        };
        let scores = in_all_views.as_ref().unwrap_or(scores);
        let (mut number, mut code) = (0, 0);
        for (index, facts) in self.facts.iter().enumerate() {
            let seen = &mut counts.fields[index];
            let table = detector.scorer().reference().reading(index, 0);
            for row in 0..records.rows() {
                let surprise = scores.field_surprise.get(row * self.facts.len() + index);
                let surprising = surprise
                    .is_some_and(|&s| s.is_finite() && table.surprisal(s) >= ONE_IN_HUNDRED);
                seen.surprising += u64::from(surprising);
                if !records.present(row)[index] {
                    seen.nulls += 1;
                    continue;
                }
                match facts.shape {
                    FieldShape::Numeric => {
                        seen.z += f64::from(records.numbers(row)[number]);
                    }
                    FieldShape::Categorical { .. } | FieldShape::Binary => {
                        seen.unseen += u64::from(records.codes(row)[code] == 0);
                    }
                    FieldShape::Boolean | FieldShape::Timestamp => {}
                }
            }
            number += facts.shape.numbers();
            code += facts.shape.codes();
        }
        Some(())
    }

    fn close(&self, counts: &Counts) -> Opening {
        self.done.store(true, Ordering::Relaxed);
        let records = counts.records;
        let absent = |(facts, seen): (&Facts, &FieldCounts)| {
            let by_chance = facts.null_share.powf(records as f64);
            let absent = seen.nulls == records as u64
                && facts.null_share <= HARDLY_EVER
                && by_chance < CHANCE_MAX;
            absent.then(|| (facts.name.clone(), facts.null_share))
        };
        let fields = self.facts.iter().zip(&counts.fields);
        let absent: Vec<_> = fields.filter_map(absent).collect();
        let excess = self.excess(counts);
        Opening {
            records,
            alerts: counts.alerts.iter().sum(),
            promise: self.promise,
            excess,
            absent,
            causes: match excess {
                Some(_) => self.causes(counts),
                None => Vec::new(),
            },
        }
    }

    /// What the budget promises of any records.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    fn excess(&self, counts: &Counts) -> Option<Excess> {
        let blocks = counts.records.div_ceil(BLOCK);
        let alerts = &counts.alerts[..blocks];
        let all: usize = alerts.iter().sum();
        if !self.promise.is_far_exceeded(all, counts.records) {
            return None;
        }
        let left_out = blocks.div_ceil(LEFT_OUT_ONE_IN);
        let (outside, records) = without_fullest(alerts.to_vec(), left_out, counts.records);
        if self.promise.is_far_exceeded(outside, records) {
            return Some(Excess::Everywhere);
        }
        if blocks < TENTHS {
            // Of so few records two tenths are too few, or all of them.
            return Some(Excess::Scattered);
        }
        let tenth = blocks.div_ceil(TENTHS);
        let tenths: Vec<usize> = alerts.chunks(tenth).map(|part| part.iter().sum()).collect();
        let (outside, records) = without_fullest(tenths, TENTHS_LEFT_OUT, counts.records);
        if self.promise.exceeds(outside, records, SCATTERED_CHANCE) {
            return Some(Excess::Scattered);
        }
        Some(Excess::Burst {
            alerts: all - outside,
        })
    }

    /// What stands out, the largest share of records first.
    fn causes(&self, counts: &Counts) -> Vec<Cause> {
        let records = counts.records as f64;
        let mut causes: Vec<(f64, Cause)> = Vec::new();
        for (facts, seen) in self.facts.iter().zip(&counts.fields) {
            let field = facts.name.clone();
            let present = counts.records as u64 - seen.nulls;
            let nulls = seen.nulls as f64 / records;
            let unseen = seen.unseen as f64 / records;
            let trained_z = facts.number.as_ref().map_or(0.0, |number| number.mean_z);
            let shift = seen.z / (present.max(1)) as f64 - trained_z;
            let surprising = seen.surprising as f64 / records;
            // What is surely so comes before what only surprises.
            if nulls - facts.null_share >= SHARE_MIN {
                let trained = facts.null_share;
                let found = nulls;
                causes.push((
                    2.0 + nulls - trained,
                    Cause::Null {
                        field,
                        found,
                        trained,
                    },
                ));
            } else if unseen - facts.unseen_share >= SHARE_MIN {
                causes.push((
                    2.0 + unseen,
                    Cause::Unseen {
                        field,
                        found: unseen,
                    },
                ));
            } else if let (Some(number), true) = (&facts.number, shift.abs() >= SHIFT_MIN) {
                let shifted = Cause::Shifted {
                    field,
                    found: number.decode((trained_z + shift) as f32),
                    trained: number.decode(trained_z as f32),
                    redact: facts.redact,
                };
                causes.push((1.0 + present as f64 / records, shifted));
            } else if surprising >= SHARE_MIN / 4.0 {
                causes.push((
                    surprising,
                    Cause::Surprising {
                        field,
                        found: surprising,
                    },
                ));
            }
        }
        causes.sort_by(|a, b| b.0.total_cmp(&a.0));
        causes.truncate(CAUSES_MAX);
        causes.into_iter().map(|(_, cause)| cause).collect()
    }
}

/// The alerts and the records outside of the `left_out` parts that have the most alerts, of equal parts of `records`.
fn without_fullest(mut parts: Vec<usize>, left_out: usize, records: usize) -> (usize, usize) {
    parts.sort_unstable();
    let kept = parts.len().saturating_sub(left_out);
    let alerts = parts[..kept].iter().sum();
    (alerts, records * kept / parts.len().max(1))
}

impl Opening {
    /// Whether the records as a whole are not like the training rows.
    pub fn is_flooded(&self) -> bool {
        self.excess == Some(Excess::Everywhere)
    }

    /// The alert rate beside the promised one, whatever it is.
    pub fn headline(&self) -> String {
        let records = count_text(self.records as u64);
        let records = format!("the first {records} records");
        self.promise.line(self.alerts, self.records, &records)
    }

    /// One line for each thing that whoever runs this should know; none if all is well. With an excess, one of them begins
    /// with the headline.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.absent.is_empty() {
            let named = self.absent.iter().map(|(field, trained)| {
                format!("'{field}' ({} in training)", share_text(*trained))
            });
            lines.push(format!(
                "null in all of the first {} records: {}; every score suffers: send these fields, or train without them",
                count_text(self.records as u64),
                named.collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some(excess) = self.excess {
            lines.push(self.excess_line(excess));
        }
        lines
    }

    fn excess_line(&self, excess: Excess) -> String {
        let times = self.alerts as f64 / self.records as f64 / self.promise.budget();
        let times = format!("{times:.0} times the budget");
        let meaning = match excess {
            Excess::Everywhere => {
                "The alerts are everywhere: these records are not like the training rows, or there are very many real \
                 anomalies"
                    .to_owned()
            }
            Excess::Scattered => {
                "The alerts are scattered: part of these records is not like the training rows, or there are many real \
                 anomalies (the reasons of the alerts tell them apart)"
                    .to_owned()
            }
            Excess::Burst { alerts } => format!(
                "{} of the {} lie in two tenths of these records: a burst of real anomalies is possible, or a stretch of \
                 faulty records",
                count_text(alerts as u64),
                count_text(self.alerts as u64)
            ),
        };
        let causes: Vec<String> = self.causes.iter().map(Cause::to_string).collect();
        let causes = match causes.is_empty() {
            false => format!("Likely cause: {}", causes.join("; ")),
            true => "No single field stands out: no field is null or in another unit throughout. Another population than \
                     that of the training rows (customers, countries, season) is possible"
                .to_owned(),
        };
        format!("{}: {times}. {meaning}. {causes}", self.headline())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null {
                field,
                found,
                trained,
            } => write!(
                f,
                "'{field}' is null in {} (in training {})",
                share_text(*found),
                share_text(*trained)
            ),
            Self::Unseen { field, found } => write!(
                f,
                "'{field}' has values that training did not have in {}",
                share_text(*found)
            ),
            Self::Shifted {
                field,
                redact: true,
                ..
            } => write!(
                f,
                "'{field}' is typically far from what it was in training (redacted): another unit?"
            ),
            Self::Shifted {
                field,
                found,
                trained,
                redact: false,
            } => write!(
                f,
                "'{field}' is typically {} (in training {}): another unit?",
                number_text(*found),
                number_text(*trained)
            ),
            Self::Surprising { field, found } => write!(
                f,
                "'{field}' is as unusual in {} as in 1 % of the training rows: another population?",
                share_text(*found)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::rng::{ChaCha8Rng, Purpose, stream};
    use rand::RngExt;
    use rand_distr::{Beta, Distribution};

    /// What watches records without features, under a budget of k of n + 1.
    fn watched(n: usize, k: usize) -> FirstRecords {
        let budget = AlertBudget::new(k as f64 / (n + 1) as f64 + 1e-9).unwrap();
        FirstRecords {
            promise: Promise::new(budget, n, 0.0),
            facts: Vec::new(),
            counts: Mutex::new(counts(&[])),
            done: AtomicBool::new(false),
        }
    }

    fn counts(alerts: &[bool]) -> Counts {
        let mut counts = Counts {
            records: alerts.len(),
            alerts: [0; BLOCKS],
            fields: Vec::new(),
        };
        for (row, _) in alerts.iter().enumerate().filter(|(_, alert)| **alert) {
            counts.alerts[row / BLOCK] += 1;
        }
        counts
    }

    fn drawn(rng: &mut ChaCha8Rng, records: usize, rate: f64) -> Counts {
        let alerts: Vec<bool> = (0..records).map(|_| rng.random_bool(rate)).collect();
        counts(&alerts)
    }

    /// Alerts at these places of the first records.
    fn at(places: impl IntoIterator<Item = usize>) -> Counts {
        let mut alerts = [false; FIRST_RECORDS];
        places.into_iter().for_each(|place| alerts[place] = true);
        counts(&alerts)
    }

    #[test]
    fn records_like_the_training_rows_have_no_excess() {
        let mut rng = stream(1, Purpose::Tests);
        for (n, k) in [
            (12_000, 12),
            (12_000, 120),
            (1_200, 6),
            (400, 1),
            (100_000, 5_000),
        ] {
            let watched = watched(n, k);
            let rates = Beta::new(k as f64, (n + 1 - k) as f64).unwrap();
            for _ in 0..2_000 {
                let rate: f64 = rates.sample(&mut rng);
                let excess = watched.excess(&drawn(&mut rng, FIRST_RECORDS, rate));
                assert_eq!(excess, None, "{n} {k}");
            }
        }
    }

    #[test]
    fn an_excess_everywhere_is_told_from_a_burst_and_from_scattered_alerts() {
        let watched = watched(12_000, 12);
        let mut rng = stream(2, Purpose::Tests);
        let everywhere = watched.excess(&drawn(&mut rng, FIRST_RECORDS, 0.1));
        assert_eq!(everywhere, Some(Excess::Everywhere));
        let burst = Some(Excess::Burst { alerts: 60 });
        assert_eq!(watched.excess(&at(300..360)), burst);
        assert_eq!(
            watched.excess(&at((0..1_000).step_by(60))),
            Some(Excess::Scattered)
        );
        // A file of few rows, all of them alerts.
        assert_eq!(
            watched.excess(&counts(&[true; 40])),
            Some(Excess::Everywhere)
        );
        assert_eq!(watched.excess(&counts(&[true; 1])), None);
        assert_eq!(watched.excess(&counts(&[])), None);
    }

    /// What is said of a stream's first records with alerts at these places, at budget .001 with 16,000 calibration rows.
    fn said(places: impl IntoIterator<Item = usize>) -> (String, Vec<String>) {
        let opening = watched(16_000, 16).close(&at(places));
        (opening.headline(), opening.warnings())
    }

    #[test]
    fn eleven_times_the_budget_is_never_called_normal() {
        // 23 planted frauds among the first 1,000 records made 11 alerts.
        let (headline, warnings) = said((0..11).map(|n| 40 + 83 * n));
        assert_eq!(
            headline,
            "11 alerts in the first 1,000 records, 1.10 %; budget 0.10 %, promised 0.06 to 0.14 %"
        );
        assert_eq!(warnings.len(), 1);
        for part in [
            headline.as_str(),
            "11 times the budget",
            "scattered",
            "many real anomalies",
            "no field is null or in another unit",
        ] {
            assert!(warnings[0].contains(part), "{part}: {warnings:?}");
        }
        // The same number in one stretch.
        let (_, warnings) = said(500..511);
        assert!(
            warnings[0].contains("11 of the 11 lie in two tenths of these records"),
            "{warnings:?}"
        );
    }

    #[test]
    fn another_world_with_42_alerts_in_3000_records_is_told_in_its_first_1000() {
        let mut rng = stream(3, Purpose::Tests);
        let mut warned = 0;
        for _ in 0..200 {
            let watched = watched(16_000, 16);
            warned += u32::from(
                watched
                    .excess(&drawn(&mut rng, FIRST_RECORDS, 0.014))
                    .is_some(),
            );
        }
        // P(Binomial(1000, 0.014) > 9) is 0.89: of 200 starts 178 are told, give or take 4.4.
        assert!((160..=196).contains(&warned), "{warned}");
        assert!(watched(16_000, 16).promise().is_far_exceeded(42, 3_000));
    }

    #[test]
    fn a_rate_as_promised_is_told_with_its_promise_and_no_warning() {
        let (headline, warnings) = said([17, 400]);
        assert_eq!(
            headline,
            "2 alerts in the first 1,000 records, 0.20 %; budget 0.10 %, promised 0.06 to 0.14 %"
        );
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn what_is_said_names_rate_promise_and_cause() {
        let opening = Opening {
            records: 1_000,
            alerts: 310,
            promise: *watched(16_000, 16).promise(),
            excess: Some(Excess::Everywhere),
            absent: vec![("device".to_owned(), 0.0001)],
            causes: vec![
                Cause::Null {
                    field: "device".to_owned(),
                    found: 1.0,
                    trained: 0.0001,
                },
                Cause::Shifted {
                    field: "amount".to_owned(),
                    found: 7_714.9,
                    trained: 77.149,
                    redact: false,
                },
                Cause::Shifted {
                    field: "income".to_owned(),
                    found: 52_345.0,
                    trained: 523.45,
                    redact: true,
                },
            ],
        };
        let lines = opening.warnings();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("'device' (0.01 % in training)"),
            "{lines:?}"
        );
        for part in [
            "310 alerts in the first 1,000 records, 31.00 %; budget 0.10 %, promised 0.06 to 0.14 %",
            "310 times the budget",
            "not like the training rows",
            "'device' is null in 100 %",
            "'amount' is typically 7715 (in training 77.1): another unit?",
            "'income' is typically far from what it was in training (redacted)",
        ] {
            assert!(lines[1].contains(part), "{part}: {lines:?}");
        }
        // A value that no output shows stands in no log line either.
        assert!(
            !lines[1].contains("52") && !lines[1].contains("523"),
            "{lines:?}"
        );
    }
}
