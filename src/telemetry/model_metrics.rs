//! What is recorded of one model: its batches flow in, series with its `model_id` flow out. Several models may score at a time, as
//! when one is exchanged for another.
//!
//! The invariant: the series of a model are there from its begin to its end and no longer, so that exchanges do not add up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::metrics::{BatchReport, DEAD_LETTER, Metrics, SCORED, Source};
use super::table::{Table, add, observe, set};
use super::window::{Sums, Window};

/// What is known of a model before it scores.
#[derive(Debug, Clone, Copy)]
pub struct ModelFacts<'a> {
    /// Its id.
    pub model_id: &'a str,
    /// When it was trained, seconds since 1970.
    pub created_at_unix_s: u64,
    /// Its feature fields, in schema order.
    pub fields: &'a [&'a str],
    /// The share of normal records that may be flagged, in (0, 1].
    pub alert_budget: f64,
    /// The share of the reference rows that get all views, in (0, 0.5]; none where every record does.
    pub cascade_share: Option<f64>,
}

/// The metrics of one model: cheap to share, safe from any thread. Its series end when it is dropped.
pub struct ModelMetrics {
    metrics: Arc<Metrics>,
    state: Arc<ModelState>,
}

/// What is remembered of a model.
pub(super) struct ModelState {
    model_id: String,
    created_at_unix_s: u64,
    /// In schema order.
    fields: Vec<String>,
    /// Start of the window's clock.
    started: Instant,
    /// The recent past of the stream.
    window: Mutex<Window>,
}

impl ModelMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, state: Arc<ModelState>) -> Self {
        Self { metrics, state }
    }

    /// Records one batch.
    pub fn record_batch(&self, batch: &BatchReport<'_>) {
        let table = &self.metrics.table;
        let model_id = self.state.model_id.as_str();
        let source = batch.source.as_str();
        let scored = batch.anomaly_score.len() as u64;
        let bad = batch.faults.len() as u64;
        add(&table.records, &[source, SCORED], scored);
        add(&table.records, &[source, DEAD_LETTER], bad);
        add(&table.in_full, &[source, model_id], batch.in_full);
        let seconds = batch.scoring.as_secs_f64();
        observe(&table.scoring_seconds, &[], std::iter::once(seconds));
        let records = (scored + bad) as f64;
        observe(&table.batch_records, &[], std::iter::once(records));
        if batch.source == Source::Http {
            return;
        }
        add(&table.alerts, &[model_id], batch.alerts);
        self.metrics
            .alerts
            .fetch_add(batch.alerts, Ordering::Relaxed);
        for fault in batch.faults {
            add(&table.dead_letters, &[fault.reason.as_str()], 1);
        }
        let scores = batch.anomaly_score.iter().map(|&score| f64::from(score));
        observe(&table.anomaly_score, &[model_id], scores);
        let p_values = batch.p_value.iter().copied();
        observe(&table.p_value, &[model_id], p_values);
        for (field, &nulls) in self.state.fields.iter().zip(batch.nulls) {
            add(&table.nulls, &[field], nulls);
        }
        let fields = self.state.fields.len();
        let sums = Sums::of_batch(scored, batch.alerts, batch.field_surprise, fields);
        let now = self.state.started.elapsed();
        self.state.window().add(now, &sums);
    }

    /// Records what the stream's first records look like: whether their alert rate is far beyond the budget's interval,
    /// and the fields that are null in all of them and were hardly ever in training.
    pub fn first_records<'a>(&self, flooded: bool, absent: impl IntoIterator<Item = &'a str>) {
        let table = &self.metrics.table;
        let model_id = self.state.model_id.as_str();
        set(
            &table.first_records_flooded,
            &[model_id],
            f64::from(flooded),
        );
        for field in absent {
            set(&table.field_absent, &[model_id, field], 1.0);
        }
    }

    /// Sets the alert rate that the stream is tested against; none where the budget cannot be reached.
    pub fn budget_limit(&self, limit: Option<f64>) {
        if let Some(limit) = limit {
            let table = &self.metrics.table;
            set(&table.budget_limit_ratio, &[&self.state.model_id], limit);
        }
    }

    /// Records where the tests of the stream stand: the wealths of the bets against the budget, if it can be reached, and
    /// against exchangeability, and how far fields have moved, bits.
    pub fn stream_tests<'a>(
        &self,
        budget_wealth: Option<f64>,
        exchangeability_wealth: f64,
        fields: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let table = &self.metrics.table;
        let model_id = self.state.model_id.as_str();
        if let Some(wealth) = budget_wealth {
            set(&table.budget_wealth, &[model_id], wealth);
        }
        let wealth = exchangeability_wealth;
        set(&table.exchangeability_wealth, &[model_id], wealth);
        for (field, bits) in fields {
            set(&table.field_divergence_bits, &[model_id, field], bits);
        }
    }
}

impl Drop for ModelMetrics {
    fn drop(&mut self) {
        self.metrics.end_of_model(&self.state);
    }
}

impl ModelState {
    pub(super) fn new(facts: &ModelFacts<'_>) -> Self {
        Self {
            model_id: facts.model_id.to_owned(),
            created_at_unix_s: facts.created_at_unix_s,
            fields: facts.fields.iter().map(|&field| field.to_owned()).collect(),
            started: Instant::now(),
            window: Mutex::default(),
        }
    }

    /// Its counters start at 0, so that a first event is an increase.
    pub(super) fn begin(&self, table: &Table, facts: &ModelFacts<'_>) {
        let model_id = self.model_id.as_str();
        set(&table.model_info, &[model_id], 1.0);
        set(&table.alert_budget_ratio, &[model_id], facts.alert_budget);
        if let Some(share) = facts.cascade_share {
            set(&table.cascade_share_ratio, &[model_id], share);
        }
        add(&table.alerts, &[model_id], 0);
        for source in Source::ALL {
            add(&table.in_full, &[source.as_str(), model_id], 0);
        }
        for histogram in [&table.anomaly_score, &table.p_value] {
            observe(histogram, &[model_id], std::iter::empty());
        }
        for field in &self.fields {
            add(&table.nulls, &[field], 0);
        }
    }

    /// Its series vanish, but for those that one of `others` has too.
    pub(super) fn end(&self, table: &Table, others: &[Arc<Self>]) {
        let model_id = self.model_id.as_str();
        for field in &self.fields {
            if !others.iter().any(|other| other.fields.contains(field)) {
                let _ = table.nulls.remove_label_values(&[field.as_str()]);
            }
        }
        if others.iter().any(|other| other.model_id == model_id) {
            return;
        }
        // What was never set is not there.
        for gauge in [
            &table.model_info,
            &table.model_age_seconds,
            &table.alert_ratio,
            &table.alert_budget_ratio,
            &table.cascade_share_ratio,
            &table.first_records_flooded,
            &table.budget_limit_ratio,
            &table.budget_wealth,
            &table.exchangeability_wealth,
        ] {
            let _ = gauge.remove_label_values(&[model_id]);
        }
        for histogram in [&table.anomaly_score, &table.p_value] {
            let _ = histogram.remove_label_values(&[model_id]);
        }
        let _ = table.alerts.remove_label_values(&[model_id]);
        for source in Source::ALL {
            let labels = [source.as_str(), model_id];
            let _ = table.in_full.remove_label_values(&labels);
        }
        for field in &self.fields {
            let labels = [model_id, field.as_str()];
            let _ = table.field_absent.remove_label_values(&labels);
            let _ = table.field_surprise.remove_label_values(&labels);
            let _ = table.field_divergence_bits.remove_label_values(&labels);
        }
    }

    /// Sets the gauges that follow from the clock.
    pub(super) fn refresh(&self, table: &Table) {
        let model_id = self.model_id.as_str();
        let recent = self.window().total(self.started.elapsed());
        let alert_ratio = recent.alert_ratio().unwrap_or(0.0);
        set(&table.alert_ratio, &[model_id], alert_ratio);
        for (index, field) in self.fields.iter().enumerate() {
            if let Some(mean) = recent.mean_surprise(index) {
                set(&table.field_surprise, &[model_id, field], mean);
            }
        }
        // A clock before 1970 or before the training is taken as no age.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let age = (now.as_secs_f64() - self.created_at_unix_s as f64).max(0.0);
        set(&table.model_age_seconds, &[model_id], age);
    }

    /// A thread that panicked while it held the lock left sums that are at worst incomplete.
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
