//! Whether the stream still keeps the budget's promise and still is what the model was trained for: what committed records
//! say, as wealths and divergences.
//!
//! Scoring threads take the evidence of a batch. The stream's thread hands it in once the records are committed, in the order
//! of the log: a record that is read again after a fault counts once. A monitor belongs to a pipeline, so that everything
//! begins anew with another model and with a new process. In flow evidence and rows, out flow gauges and log lines.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use tracing::{debug, info, warn};

use crate::Detector;
use crate::monitor::{ALARM_WEALTH, Evidence, EvidenceTaker, FIELD_MOVED_BITS, StreamTests};
use crate::score::{AlertBudget, Scores, share_text};
use crate::telemetry::ModelMetrics;

/// The tests of one model's stream; shared by the scoring threads and the stream's.
pub struct StreamMonitor {
    detector: Arc<Detector>,
    taker: EvidenceTaker,
    watched: Mutex<Watched>,
    metrics: Arc<ModelMetrics>,
}

/// What changes with every record.
struct Watched {
    tests: StreamTests,
    /// Whether each alarm was told and has not ended since.
    budget_told: bool,
    change_told: bool,
    /// `[G]`: the fields that had moved in the window before.
    moved: Vec<bool>,
}

impl std::fmt::Debug for StreamMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamMonitor")
            .field("model_id", &self.detector.model_id())
            .finish_non_exhaustive()
    }
}

impl StreamMonitor {
    /// A monitor of the stream that `detector` scores under `budget`, which has not begun.
    pub fn new(detector: Arc<Detector>, budget: AlertBudget, metrics: Arc<ModelMetrics>) -> Self {
        let taker = EvidenceTaker::new(&detector);
        let tests = StreamTests::new(&detector, budget);
        metrics.budget_limit(tests.budget_limit());
        let watched = Watched {
            budget_told: false,
            change_told: false,
            moved: vec![false; taker.fields().count()],
            tests,
        };
        let monitor = Self {
            detector,
            taker,
            watched: Mutex::new(watched),
            metrics,
        };
        monitor.committed(&Evidence::default(), 0..0);
        monitor
    }

    /// What B good records of the stream say, with their scores and alerts, `[B]`. Nothing of a batch that is not canonical:
    /// whoever scores it says so.
    pub fn take(&self, batch: &RecordBatch, scores: &Scores, alerts: &[bool]) -> Evidence {
        let taken = self.taker.take(&self.detector, batch, scores, alerts);
        taken.unwrap_or_else(|error| {
            debug!(%error, "no evidence of a batch");
            Evidence::default()
        })
    }

    /// Takes in the records at `rows` of a batch, which are committed.
    pub fn committed(&self, evidence: &Evidence, rows: Range<usize>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut window = false;
        for row in rows {
            window |= watched.tests.observe(evidence, row);
            // An alarm may begin and end within a batch.
            watched.tell(self.detector.model_id());
        }
        if window {
            watched.tell_fields(&self.taker);
        }
        let standing = watched.tests.standing();
        let bits = standing.fields.iter().copied().filter(|_| window);
        let fields = self.taker.fields().zip(bits);
        self.metrics
            .stream_tests(standing.budget, standing.exchangeability, fields);
    }
}

impl Watched {
    /// One line when an alarm begins; the next is told after it has ended.
    fn tell(&mut self, model_id: &str) {
        let standing = self.tests.standing();
        let begins = |told: &mut bool, wealth: f64| {
            let begins = !*told && wealth >= ALARM_WEALTH;
            *told = wealth >= ALARM_WEALTH || *told && wealth >= 1.0;
            begins
        };
        if let Some(wealth) = standing.budget
            && begins(&mut self.budget_told, wealth)
        {
            let limit = share_text(self.tests.budget_limit().unwrap_or_default());
            warn!(
                model_id,
                "the alert budget does not hold: more than {limit} of the records are alerts, the most that the \
                 calibration rows allow for"
            );
        }
        if begins(&mut self.change_told, standing.exchangeability) {
            info!(
                model_id,
                "the scores of the stream have changed: they are not like those of the calibration rows, or not the \
                 same all the time"
            );
        }
    }

    /// One line for the fields that have moved since the window before.
    fn tell_fields(&mut self, taker: &EvidenceTaker) {
        let bits = self.tests.standing().fields;
        let mut moved = Vec::new();
        for ((field, &bits), before) in taker.fields().zip(bits).zip(&mut self.moved) {
            let now = bits >= FIELD_MOVED_BITS;
            if now && !*before {
                moved.push(format!("'{field}' {bits:.3} bits"));
            }
            *before = now;
        }
        if !moved.is_empty() {
            info!(
                "not where the training rows have them: {}",
                moved.join(", ")
            );
        }
    }
}

/// The evidence of a scored batch, kept until its records are committed.
#[derive(Debug, Clone)]
pub struct Watch {
    monitor: Arc<StreamMonitor>,
    evidence: Arc<Evidence>,
    /// \[B\]: the message of each good record, ascending.
    messages: Arc<[usize]>,
}

impl Watch {
    /// The evidence of good records whose messages are at `messages` of their batch.
    pub fn new(monitor: &Arc<StreamMonitor>, evidence: Evidence, messages: &[usize]) -> Self {
        Self {
            monitor: Arc::clone(monitor),
            evidence: Arc::new(evidence),
            messages: messages.into(),
        }
    }

    /// The good records among messages.
    fn records(&self, messages: &Range<usize>) -> Range<usize> {
        let place = |message: usize| self.messages.partition_point(|&of| of < message);
        place(messages.start)..place(messages.end)
    }

    /// Says that the messages at `messages` of the batch are committed.
    pub fn committed(&self, messages: &Range<usize>) {
        self.monitor
            .committed(&self.evidence, self.records(messages));
    }
}
