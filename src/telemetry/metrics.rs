//! What is recorded, and when: batches, transactions, rebalances and training progress flow in
//! through typed methods; the text format flows out to `/metrics`. Recording cannot fail, happens
//! once a batch, and takes label values from closed lists only: sources, outcomes, reasons, the
//! fields of the loaded model, the assigned partitions. What speaks of a model goes through its own [`ModelMetrics`] and
//! carries its `model_id`. The names, labels and buckets are declared in `table.rs`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use super::heartbeat::Heartbeat;
use super::model_metrics::{ModelFacts, ModelMetrics, ModelState};
use super::table::{MetricsError, Table, add, observe, set};
use crate::records::{FaultReason, RowFault};

/// Media type of [`Metrics::encode`]: the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An input topic.
    Kafka,
    /// `POST /v1/score`.
    Http,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Http];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Http => "http",
        }
    }
}

/// How a Kafka transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Outputs and offsets are visible.
    Committed,
    /// Nothing is visible; the records are read again.
    Aborted,
    /// Another process holds the transactional id.
    Fenced,
}

impl TransactionOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Committed, Self::Aborted, Self::Fenced];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Fenced => "fenced",
        }
    }
}

/// Why a session ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFailure {
    /// Another process serves as this instance.
    Fenced,
    /// Aborted, timed out, or partitions were lost.
    Interrupted,
    /// Outputs were refused.
    Refused,
    /// Cluster or configuration make it impossible.
    Impossible,
    /// A batch could not be scored, or not in time.
    Scoring,
    /// The drain took too long.
    Drain,
}

impl SessionFailure {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Fenced,
        Self::Interrupted,
        Self::Refused,
        Self::Impossible,
        Self::Scoring,
        Self::Drain,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Impossible => "impossible",
            Self::Scoring => "scoring",
            Self::Drain => "drain",
        }
    }
}

/// What became of a model that was to be exchanged for the loaded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapResult {
    /// It scores.
    Exchanged,
    /// The one before goes on.
    Refused,
}

impl SwapResult {
    /// Every result.
    pub const ALL: [Self; 2] = [Self::Exchanged, Self::Refused];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchanged => "exchanged",
            Self::Refused => "refused",
        }
    }
}

/// Why a topic refuses an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// It is larger than the topic takes.
    TooLarge,
    /// It has no key, and the topic is compacted.
    NoKey,
    /// Its timestamp is not within what the topic takes.
    Timestamp,
    /// A rule of the cluster is against it.
    Policy,
    /// The broker calls it invalid, for another reason.
    Invalid,
}

impl RefusalCause {
    /// Every cause.
    pub const ALL: [Self; 5] = [
        Self::TooLarge,
        Self::NoKey,
        Self::Timestamp,
        Self::Policy,
        Self::Invalid,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NoKey => "no_key",
            Self::Timestamp => "timestamp",
            Self::Policy => "policy",
            Self::Invalid => "invalid",
        }
    }
}

/// What becomes of an output that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedFate {
    /// A dead letter is written instead.
    DeadLetter,
    /// Nothing is written.
    Nothing,
}

impl RefusedFate {
    /// Every fate.
    pub const ALL: [Self; 2] = [Self::DeadLetter, Self::Nothing];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::Nothing => "nothing",
        }
    }
}

/// The outcomes of `records_total`.
pub(super) const SCORED: &str = "scored";
pub(super) const DEAD_LETTER: &str = "dead_letter";

/// What is recorded of one batch of B good records of F fields, and of the bad records that came
/// with them.
#[derive(Debug, Clone, Copy)]
pub struct BatchReport<'a> {
    /// Where the records came from. Those of HTTP count only in `records_total`, `scoring_seconds`
    /// and `batch_records`, so that a client that asks what-if questions does not move what is
    /// known of the stream.
    pub source: Source,
    /// Time from bytes to scores.
    pub scoring: Duration,
    /// `[B]`.
    pub anomaly_score: &'a [f32],
    /// `[B]`, in (0, 1].
    pub p_value: &'a [f64],
    /// `[B*F]`, row-major, in the order of the model's fields; NaN where not predicted.
    pub field_surprise: &'a [f32],
    /// `[F]`: null values a field, in the order of the model's fields.
    pub nulls: &'a [u64],
    /// Records within the alert budget.
    pub alerts: u64,
    /// Of the good records, those that got all views.
    pub in_full: u64,
    /// The bad records.
    pub faults: &'a [RowFault],
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainProgress {
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps planned.
    pub steps: u64,
    /// Masked loss of the latest step.
    pub loss: f64,
    /// Masked loss on the reference rows, from the first evaluation on.
    pub held_out_loss: Option<f64>,
    /// Rows a second.
    pub rows_per_second: f64,
}

/// Records of the stream since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamTotals {
    /// Records that were scored.
    pub scored: u64,
    /// Records that cannot be scored.
    pub dead_letters: u64,
    /// Scored records within the alert budget.
    pub alerts: u64,
}

/// What is not a running total: read when metrics are encoded.
#[derive(Default)]
struct Live {
    /// Assigned partitions, or all where no session can begin: the only ones that may have a lag series.
    assigned: BTreeSet<(String, i32)>,
    /// The models that score at present: a handful at most.
    models: Vec<Arc<ModelState>>,
}

/// The metrics of one process: cheap to share, safe from any thread.
pub struct Metrics {
    registry: Registry,
    pub(super) table: Table,
    live: Mutex<Live>,
    /// Alerts of the stream by all models, those that are gone too.
    pub(super) alerts: AtomicU64,
    /// Of the stream's thread, once there is one.
    heartbeat: OnceLock<Arc<Heartbeat>>,
}

impl Metrics {
    /// Declares every metric. Counters with closed label lists start at 0, so that a first event is
    /// an increase.
    ///
    /// # Errors
    /// A declaration that the registry refuses.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let table = Table::register(&registry)?;
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .map_err(|source| MetricsError::Declare {
                name: "process",
                source,
            })?;
        for source in Source::ALL {
            add(&table.records, &[source.as_str(), SCORED], 0);
            add(&table.records, &[source.as_str(), DEAD_LETTER], 0);
        }
        for reason in FaultReason::ALL {
            add(&table.dead_letters, &[reason.as_str()], 0);
        }
        for cause in RefusalCause::ALL {
            for fate in RefusedFate::ALL {
                add(&table.refused_outputs, &[cause.as_str(), fate.as_str()], 0);
            }
        }
        for outcome in TransactionOutcome::ALL {
            add(&table.transactions, &[outcome.as_str()], 0);
        }
        for result in SwapResult::ALL {
            add(&table.model_swaps, &[result.as_str()], 0);
        }
        set(&table.model_refused, &[], 0.0);
        for failure in SessionFailure::ALL {
            add(&table.sessions_failed, &[failure.as_str()], 0);
        }
        for counter in [&table.rebalances, &table.stream_stalls] {
            add(counter, &[], 0);
        }
        for histogram in [
            &table.scoring_seconds,
            &table.end_to_end_seconds,
            &table.batch_records,
            &table.transaction_seconds,
            &table.model_swap_seconds,
        ] {
            observe(histogram, &[], std::iter::empty());
        }
        Ok(Self {
            registry,
            table,
            live: Mutex::default(),
            alerts: AtomicU64::new(0),
            heartbeat: OnceLock::new(),
        })
    }

    /// Records that outputs are committed: for each record, the seconds since its Kafka timestamp.
    /// A negative time (clocks that differ) counts as 0.
    pub fn delivered(&self, end_to_end_seconds: &[f64]) {
        let seconds = end_to_end_seconds.iter().map(|seconds| seconds.max(0.0));
        observe(&self.table.end_to_end_seconds, &[], seconds);
    }

    /// Records that an output of the stream is refused, and what becomes of it. A record that is scored again after an
    /// aborted transaction counts again.
    pub fn output_refused(&self, cause: RefusalCause, fate: RefusedFate) {
        let labels = [cause.as_str(), fate.as_str()];
        add(&self.table.refused_outputs, &labels, 1);
    }

    /// Records the end of a Kafka transaction.
    pub fn transaction(&self, outcome: TransactionOutcome, duration: Duration) {
        add(&self.table.transactions, &[outcome.as_str()], 1);
        observe(
            &self.table.transaction_seconds,
            &[],
            [duration.as_secs_f64()].into_iter(),
        );
    }

    /// Records that another model scores from now on, and for how long the stream stood still for that.
    pub fn model_exchanged(&self, pause: Duration) {
        add(
            &self.table.model_swaps,
            &[SwapResult::Exchanged.as_str()],
            1,
        );
        let pause = std::iter::once(pause.as_secs_f64());
        observe(&self.table.model_swap_seconds, &[], pause);
    }

    /// Records that a model was refused.
    pub fn model_refused(&self) {
        add(&self.table.model_swaps, &[SwapResult::Refused.as_str()], 1);
    }

    /// Sets whether the model that is to serve is refused.
    pub fn set_model_refused(&self, is_refused: bool) {
        set(&self.table.model_refused, &[], f64::from(is_refused));
    }

    /// Records a session that ended before its time.
    pub fn session_failed(&self, failure: SessionFailure) {
        add(&self.table.sessions_failed, &[failure.as_str()], 1);
    }

    /// Records that the stream's thread stood still for longer than it may.
    pub fn stream_stalled(&self) {
        add(&self.table.stream_stalls, &[], 1);
    }

    /// Has `stream_silent_seconds` say how long ago `heartbeat` was written last; to be called once.
    pub fn watch(&self, heartbeat: Arc<Heartbeat>) {
        // Whoever comes second changes nothing.
        let _ = self.heartbeat.set(heartbeat);
    }

    /// Sets whether `/readyz` answers that all is well.
    pub fn set_ready(&self, ready: bool) {
        set(&self.table.ready, &[], f64::from(u8::from(ready)));
    }

    /// Records a rebalance: from now on exactly `assigned` are this instance's partitions. The lag
    /// of any other vanishes.
    pub fn rebalanced<'a>(&self, assigned: impl IntoIterator<Item = (&'a str, i32)>) {
        add(&self.table.rebalances, &[], 1);
        let assigned = assigned.into_iter();
        self.keep_lag_of(
            assigned
                .map(|(topic, partition)| (topic.to_owned(), partition))
                .collect(),
        );
    }

    /// Records that no partition is this instance's, until the next rebalance: all lag vanishes.
    pub fn revoked(&self) {
        self.keep_lag_of(BTreeSet::new());
    }

    /// Records that no session can begin: until the next rebalance the lag of exactly `partitions` is reported, all those of
    /// the input topics.
    pub fn waiting(&self, partitions: impl IntoIterator<Item = (String, i32)>) {
        self.keep_lag_of(partitions.into_iter().collect());
    }

    fn keep_lag_of(&self, assigned: BTreeSet<(String, i32)>) {
        let mut live = self.live();
        for (topic, partition) in live.assigned.difference(&assigned) {
            let labels = [topic.as_str(), &partition.to_string()];
            // The series is not there if the lag was never set.
            let _ = self.table.consumer_lag_records.remove_label_values(&labels);
            let _ = self.table.skipped_records.remove_label_values(&labels);
        }
        for (topic, partition) in &assigned {
            add(
                &self.table.skipped_records,
                &[topic, &partition.to_string()],
                0,
            );
        }
        live.assigned = assigned;
    }

    /// Counts records of an assigned partition that were deleted before they were read.
    pub fn records_skipped(&self, topic: &str, partition: i32, records: u64) {
        if self
            .live()
            .assigned
            .contains(&(topic.to_owned(), partition))
        {
            let labels = [topic, &partition.to_string()];
            add(&self.table.skipped_records, &labels, records);
        }
    }

    /// Sets the lag of a partition in records; one that is not assigned is left out, so that a late
    /// report cannot bring a revoked partition back.
    pub fn set_lag(&self, topic: &str, partition: i32, lag_records: u64) {
        let live = self.live();
        if live.assigned.contains(&(topic.to_owned(), partition)) {
            let labels = [topic, &partition.to_string()];
            set(
                &self.table.consumer_lag_records,
                &labels,
                lag_records as f64,
            );
        }
    }

    /// The stream's records so far: scored, dead letters, alerts.
    pub fn stream_totals(&self) -> StreamTotals {
        let records = |outcome: &str| {
            let labels = [Source::Kafka.as_str(), outcome];
            let series = self.table.records.get_metric_with_label_values(&labels);
            series.map_or(0, |series| series.get())
        };
        StreamTotals {
            scored: records(SCORED),
            dead_letters: records(DEAD_LETTER),
            alerts: self.alerts.load(Ordering::Relaxed),
        }
    }

    /// A model that scores from now on, until what comes back is dropped: then its series vanish.
    pub fn model(self: &Arc<Self>, facts: ModelFacts<'_>) -> Arc<ModelMetrics> {
        let state = Arc::new(ModelState::new(&facts));
        // Both at once, so that a model of the same id that ends now leaves the series alone.
        let mut live = self.live();
        live.models.push(Arc::clone(&state));
        state.begin(&self.table, &facts);
        drop(live);
        Arc::new(ModelMetrics::new(Arc::clone(self), state))
    }

    /// The model scores no more.
    pub(super) fn end_of_model(&self, state: &Arc<ModelState>) {
        let mut live = self.live();
        live.models.retain(|other| !Arc::ptr_eq(other, state));
        state.end(&self.table, &live.models);
    }

    /// Records where training stands.
    pub fn train_progress(&self, progress: &TrainProgress) {
        let table = &self.table;
        set(&table.train_step, &[], progress.step as f64);
        set(&table.train_steps, &[], progress.steps as f64);
        set(&table.train_loss, &[], progress.loss);
        set(&table.train_rows_per_second, &[], progress.rows_per_second);
        if let Some(loss) = progress.held_out_loss {
            set(&table.train_held_out_loss, &[], loss);
        }
    }

    /// Records that training has ended, well or not: the `train_*` series vanish.
    pub fn train_finished(&self) {
        let table = &self.table;
        for gauge in [
            &table.train_step,
            &table.train_steps,
            &table.train_loss,
            &table.train_held_out_loss,
            &table.train_rows_per_second,
        ] {
            gauge.reset();
        }
    }

    /// Everything in the Prometheus text format ([`CONTENT_TYPE`]).
    ///
    /// # Errors
    /// Text that cannot be written.
    pub fn encode(&self) -> Result<String, MetricsError> {
        // The lock is held until all series are read, so that no scrape sees another's half-set gauges; not while
        // they are written.
        let families = {
            let live = self.live();
            self.refresh(&live);
            self.registry.gather()
        };
        TextEncoder::new()
            .encode_to_string(&families)
            .map_err(MetricsError::Encode)
    }

    /// Sets the gauges that follow from the clock.
    fn refresh(&self, live: &Live) {
        let table = &self.table;
        if let Some(heartbeat) = self.heartbeat.get() {
            let silent = heartbeat.silent_seconds();
            set(&table.stream_silent_seconds, &[], silent);
        }
        table.field_surprise.reset();
        for model in &live.models {
            model.refresh(table);
        }
    }

    /// The live part. A thread that panicked while it held the lock left sums that are at worst
    /// incomplete.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
