//! All tests of one detector's stream, in two steps: what a batch says is taken by any thread, and taken in later, in the
//! order of the stream, once it is sure that the records do not come again.
//!
//! Where the calibration rows are of the stream's kind, the bag of the exchangeability test begins with them. It begins empty
//! where rows were left out of them, by label or as presumed abnormal, and where labels made a second detector: then it
//! finds what changes within the stream only.

use super::bag::GrowingBag;
use super::budget::BudgetTest;
use super::exchangeability::ExchangeabilityTest;
use super::fields::FieldWatch;
use crate::detector::Detector;
use crate::encode::{EncodeError, ValueBins};
use crate::score::{AlertBudget, Scores};
use arrow::array::RecordBatch;

/// The seed of random orders of equal scores: any will do, and one is always the same.
const SEED: u64 = 0;

/// What B records say to the tests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// `[B]`: what is ranked.
    scores: Vec<f32>,
    /// `[B]`.
    alerts: Vec<bool>,
    /// `[B * G]`.
    bins: Vec<u8>,
    /// G.
    fields: usize,
}

impl Evidence {
    /// B.
    pub fn rows(&self) -> usize {
        self.alerts.len()
    }
}

/// Takes evidence from batches. Share it among the threads that score.
#[derive(Debug)]
pub struct EvidenceTaker {
    bins: ValueBins,
}

impl EvidenceTaker {
    /// Of batches that `detector` scores.
    pub fn new(detector: &Detector) -> Self {
        let encoder = detector.scorer().model().encoder();
        let bins = ValueBins::new(encoder, detector.schema());
        Self { bins }
    }

    /// The names of the G fields that are watched, in schema order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.bins.names()
    }

    /// What B good records of a canonical batch say, with their scores and alerts, `[B]`.
    ///
    /// # Errors
    /// [`EncodeError::NotCanonical`].
    pub fn take(
        &self,
        detector: &Detector,
        batch: &RecordBatch,
        scores: &Scores,
        alerts: &[bool],
    ) -> Result<Evidence, EncodeError> {
        let bins = match self.bins.is_empty() {
            true => Vec::new(),
            false => self
                .bins
                .of(&detector.scorer().model().encoder().encode(batch)?),
        };
        Ok(Evidence {
            scores: match &scores.parts {
                Some(parts) => parts.unsupervised.iter().map(|&p| p as f32).collect(),
                None => scores.anomaly_score.clone(),
            },
            alerts: alerts.to_vec(),
            bins,
            fields: self.bins.len(),
        })
    }
}

/// Where the tests stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing<'a> {
    /// The wealth of the bet against the budget; `None` where the budget cannot be reached.
    pub budget: Option<f64>,
    /// The wealth of the bet against exchangeability.
    pub exchangeability: f64,
    /// How far each of the G fields had moved in the last full window, bits; empty before there is one.
    pub fields: &'a [f64],
}

/// The tests of a stream under one detector and one budget: they begin with it.
#[derive(Debug, Clone)]
pub struct StreamTests {
    budget: Option<BudgetTest>,
    exchangeability: ExchangeabilityTest,
    fields: FieldWatch,
}

impl StreamTests {
    /// Nothing seen yet of a stream that `detector` scores under `budget`.
    pub fn new(detector: &Detector, budget: AlertBudget) -> Self {
        let scorer = detector.scorer();
        let sorted = scorer.conformal().sorted();
        let bag = match () {
            () if scorer.labelled().is_some() => GrowingBag::empty_of_p_values(SEED),
            () if detector.set_apart() > 0.0 => GrowingBag::empty(sorted, SEED),
            () => GrowingBag::of_calibration(sorted, SEED),
        };
        Self {
            budget: BudgetTest::new(&detector.promise(budget)),
            exchangeability: ExchangeabilityTest::new(bag),
            fields: FieldWatch::new(&detector.manifest().description.field_tables),
        }
    }

    /// Takes in one record, the next of the stream: the one at `row` of its batch. True if it fills a window of the fields.
    pub fn observe(&mut self, evidence: &Evidence, row: usize) -> bool {
        let (Some(&score), Some(&alert)) = (evidence.scores.get(row), evidence.alerts.get(row))
        else {
            return false;
        };
        if let Some(budget) = &mut self.budget {
            budget.observe(alert);
        }
        self.exchangeability.observe(score);
        let bins = evidence.bins.get(row * evidence.fields..);
        let bins = bins.and_then(|bins| bins.get(..evidence.fields));
        self.fields.observe(bins.unwrap_or_default())
    }

    /// The alert rate that must not be exceeded, in (0, 1); `None` where the budget cannot be reached.
    pub fn budget_limit(&self) -> Option<f64> {
        self.budget.as_ref().map(BudgetTest::limit)
    }

    /// Where the tests stand after the records so far.
    pub fn standing(&self) -> Standing<'_> {
        Standing {
            budget: self.budget.as_ref().map(BudgetTest::wealth),
            exchangeability: self.exchangeability.wealth(),
            fields: self.fields.bits(),
        }
    }
}
