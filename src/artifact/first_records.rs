//! A look at the first records that a bundle meets: are they what it was trained for?
//!
//! In flow canonical batches with their scores and alerts, out flows, once, an [`Opening`]: features that are null
//! in all of the first records and were hardly ever in training, and an alert rate that the budget does not explain,
//! with what stands out in the records. Memory is a few counters a field, whatever flows through.
//!
//! **When the rate is too high.** The number of alerts among m further records of the calibration rows' kind has a
//! beta-binomial law: the realised rate is Beta(k, n + 1 - k) (Vovk 2012), the count binomial under it. An opening is
//! flagged where a count as high has a chance below 1e-6 and is more than three times what the interval allows. Frauds
//! come in bursts, which are news and no fault of the set-up: the records are cut into blocks, and the blocks with
//! the most alerts are left out of the count, so that only an excess that is everywhere counts.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use statrs::function::beta::ln_beta;
use statrs::function::factorial::ln_binomial;

use super::detector::Detector;
use super::manifest::PartRows;
use crate::features::{FieldShape, NumericEncoder, ValueEncoder};
use crate::score::{AlertBudget, Scores, share_text};

/// Records that are looked at: enough for a share to mean something, and seconds of most streams.
pub const FIRST_RECORDS: usize = 1_000;
/// Records of a block, which is where a burst of frauds lies.
const BLOCK: usize = 10;
const BLOCKS: usize = FIRST_RECORDS / BLOCK;
/// One block in so many is left out: those with the most alerts.
const LEFT_OUT_ONE_IN: usize = 5;
/// The chance of a false warning.
const CHANCE_MAX: f64 = 1e-6;
/// How far beyond the interval's upper limit a rate must be, as in the alert rule `MaskwatchAlertSurge`.
const BEYOND: f64 = 3.0;
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
    budget: f64,
    /// Calibration rows and the rank among them that is still an alert; none if no rate can be judged.
    ranks: Option<(usize, usize)>,
    /// The upper limit of the realised rate.
    rate_max: f64,
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
    /// The configured budget.
    pub budget: f64,
    /// The largest share that the budget's interval allows.
    pub rate_max: f64,
    /// Whether the alert rate is far beyond that.
    pub flooded: bool,
    /// Features that are null in every record and were hardly ever in training, with their null share there.
    pub absent: Vec<(String, f64)>,
    /// What stands out in the records, the likeliest cause first.
    pub causes: Vec<Cause>,
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
                    ValueEncoder::Numeric(number) => Some(*number),
                    _ => None,
                },
                shape: field.shape(),
            })
            .collect();
        // Where a budget is held by segment, the smallest part of the calibration rows has the widest law.
        let rows = detector.sample_rows().into_iter();
        let rows = rows.filter(|&rows| budget.is_attainable(rows)).min();
        let apart = set_apart(&detector.manifest().description.rows);
        let rank = |rows: usize| ((budget.share() + apart) * (rows + 1) as f64).ceil() as usize;
        let ranks = rows.map(|rows| (rows, rank(rows)));
        let realised = rows.and_then(|rows| budget.realised_rate(rows));
        Self {
            budget: budget.share(),
            ranks: ranks.filter(|&(rows, rank)| rank <= rows),
            rate_max: realised.map_or(1.0, |(_, high)| high) + apart,
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
        let flooded = self.is_flooded(counts);
        Opening {
            records,
            alerts: counts.alerts.iter().sum(),
            budget: self.budget,
            rate_max: self.rate_max,
            flooded,
            absent,
            causes: if flooded {
                self.causes(counts)
            } else {
                Vec::new()
            },
        }
    }

    fn is_flooded(&self, counts: &Counts) -> bool {
        let Some((n, k)) = self.ranks else {
            return false;
        };
        let blocks = counts.records.div_ceil(BLOCK);
        let mut alerts = counts.alerts[..blocks].to_vec();
        alerts.sort_unstable();
        let kept = blocks - blocks.div_ceil(LEFT_OUT_ONE_IN);
        let alerts: usize = alerts[..kept].iter().sum();
        let records = (kept * BLOCK).min(counts.records);
        let far = alerts as f64 > BEYOND * self.rate_max * records as f64;
        far && chance_of_at_least(alerts, records, n, k) < CHANCE_MAX
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
            let shift = seen.z / (present.max(1)) as f64;
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
            } else if let (Some(number), true) = (facts.number, shift.abs() >= SHIFT_MIN) {
                let shifted = Cause::Shifted {
                    field,
                    found: number.decode(shift as f32),
                    trained: number.decode(0.0),
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

/// The share of the data that a promise about normal records leaves out: such records may be alerts beyond the budget.
fn set_apart(rows: &PartRows) -> f64 {
    let all = rows.fit + rows.reference + rows.calibration + rows.unused + rows.excluded;
    let calibration = rows.calibration.max(1) as f64;
    rows.excluded as f64 / all.max(1) as f64 + rows.presumed_abnormal as f64 / calibration
}

/// P(at least `alerts` of `records` rank among the top k of n + 1), beta-binomial with a = k, b = n + 1 - k.
fn chance_of_at_least(alerts: usize, records: usize, n: usize, k: usize) -> f64 {
    let (a, b) = (k as f64, (n + 1 - k) as f64);
    let log_chance = |alerts: usize| {
        let (x, m) = (alerts as f64, records as f64);
        ln_binomial(records as u64, alerts as u64) + ln_beta(a + x, b + m - x) - ln_beta(a, b)
    };
    (alerts..=records).map(|x| log_chance(x).exp()).sum()
}

impl Opening {
    /// One line for each thing that whoever runs this should know; none if all is well.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.absent.is_empty() {
            let named = self.absent.iter().map(|(field, trained)| {
                format!("'{field}' ({} in training)", share_text(*trained))
            });
            lines.push(format!(
                "null in all of the first {} records: {}; every score suffers: send these fields, or train without them",
                self.records,
                named.collect::<Vec<_>>().join(", ")
            ));
        }
        if self.flooded {
            lines.push(self.flood());
        }
        lines
    }

    fn flood(&self) -> String {
        let rate = self.alerts as f64 / self.records as f64;
        let causes: Vec<String> = self.causes.iter().map(Cause::to_string).collect();
        let causes = match causes.is_empty() {
            true => "no single field stands out; the records are of another population than the training rows (customers, \
                     countries, season)"
                .to_owned(),
            false => causes.join("; "),
        };
        format!(
            "{} of the first {} records are alerts ({}), where a budget of {} promises at most {}: these records are not \
             like the training rows. Likely cause: {causes}",
            self.alerts,
            self.records,
            share_text(rate),
            self.budget,
            share_text(self.rate_max),
        )
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
                short(*found),
                short(*trained)
            ),
            Self::Surprising { field, found } => write!(
                f,
                "'{field}' is as unusual in {} as in 1 % of the training rows: another population?",
                share_text(*found)
            ),
        }
    }
}

/// Three digits, as a person reads them.
fn short(number: f64) -> String {
    let digits = 2 - number.abs().max(1e-9).log10().floor() as i32;
    let unit = 10_f64.powi(digits.clamp(-300, 300));
    ((number * unit).round() / unit).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{ChaCha8Rng, Purpose, stream};
    use rand::RngExt;
    use rand_distr::{Beta, Distribution};

    /// A look at records without features, under a budget of k of n + 1.
    fn look(n: usize, k: usize) -> FirstRecords {
        let budget = AlertBudget::new(k as f64 / (n + 1) as f64 + 1e-9);
        let realised = budget.ok().and_then(|budget| budget.realised_rate(n));
        FirstRecords {
            budget: k as f64 / (n + 1) as f64,
            ranks: Some((n, k)),
            rate_max: realised.map_or(1.0, |(_, high)| high),
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

    #[test]
    fn the_tail_is_that_of_the_beta_binomial_law() {
        // python: from math import lgamma, exp; lb = lambda a, b: lgamma(a) + lgamma(b) - lgamma(a + b)
        // pmf = lambda x: exp(lgamma(801) - lgamma(x + 1) - lgamma(801 - x) + lb(12 + x, 12789 - x) - lb(12, 11989))
        // [sum(pmf(x) for x in range(t, 801)) for t in (1, 5, 8, 10)]
        let expected = [
            0.539_206_933_57,
            2.304_677_642e-3,
            9.155_494_345e-6,
            1.613_509_139e-7,
        ];
        for (at_least, expected) in [1, 5, 8, 10].into_iter().zip(expected) {
            let found = chance_of_at_least(at_least, 800, 12_000, 12);
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{at_least}: {found:e}"
            );
        }
        assert!((chance_of_at_least(0, 800, 12_000, 12) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn records_like_the_training_rows_are_no_flood() {
        let mut rng = stream(1, Purpose::Tests);
        for (n, k) in [
            (12_000, 12),
            (12_000, 120),
            (1_200, 6),
            (400, 1),
            (100_000, 5_000),
        ] {
            let look = look(n, k);
            let Ok(rates) = Beta::new(k as f64, (n + 1 - k) as f64) else {
                continue;
            };
            for _ in 0..2_000 {
                let rate: f64 = rates.sample(&mut rng);
                assert!(
                    !look.is_flooded(&drawn(&mut rng, FIRST_RECORDS, rate)),
                    "{n} {k}"
                );
            }
        }
    }

    #[test]
    fn an_excess_everywhere_is_a_flood_and_a_burst_is_not() {
        let look = look(12_000, 12);
        let mut rng = stream(2, Purpose::Tests);
        assert!(look.is_flooded(&drawn(&mut rng, FIRST_RECORDS, 0.1)));
        let mut burst = [false; FIRST_RECORDS];
        burst[300..360].fill(true);
        assert!(!look.is_flooded(&counts(&burst)));
        // A file of few rows, all of them alerts.
        assert!(look.is_flooded(&counts(&[true; 40])));
        assert!(!look.is_flooded(&counts(&[true; 1])));
    }

    #[test]
    fn what_is_said_names_rate_promise_and_cause() {
        let opening = Opening {
            records: 1_000,
            alerts: 310,
            budget: 0.001,
            rate_max: 0.0015,
            flooded: true,
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
            "310 of the first 1000 records are alerts (31 %)",
            "at most 0.15 %",
            "'device' is null in 100 %",
            "'amount' is typically 7710 (in training 77.1): another unit?",
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
