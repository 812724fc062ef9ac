//! What is recorded, and when: batches, transactions, rebalances and training progress flow in
//! through typed methods; the text format flows out to `/metrics`. Recording cannot fail, happens
//! once a batch, and takes label values from closed lists only: sources, outcomes, reasons, the
//! fields of the loaded model, the assigned partitions. The names, labels and buckets are declared
//! in `table.rs`.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use super::table::{MetricsError, Table, add, observe, set};
use super::window::{Sums, Window};
use crate::features::{FaultReason, RowFault};

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

/// The outcomes of `records_total`.
const SCORED: &str = "scored";
const DEAD_LETTER: &str = "dead_letter";

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

/// What is not a running total: read when metrics are encoded.
#[derive(Default)]
struct Live {
    /// Assigned partitions: the only ones that may have a lag series.
    assigned: BTreeSet<(String, i32)>,
    /// The loaded model's feature fields, in schema order, and when it was trained (seconds since
    /// 1970).
    model: Option<(Vec<String>, u64)>,
    /// The recent past of the stream.
    window: Window,
}

/// The metrics of one process: cheap to share, safe from any thread.
pub struct Metrics {
    registry: Registry,
    table: Table,
    /// Start of the window's clock.
    started: Instant,
    live: Mutex<Live>,
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
        for outcome in TransactionOutcome::ALL {
            add(&table.transactions, &[outcome.as_str()], 0);
        }
        for counter in [&table.alerts, &table.rebalances] {
            add(counter, &[], 0);
        }
        for histogram in [
            &table.scoring_seconds,
            &table.end_to_end_seconds,
            &table.batch_records,
            &table.anomaly_score,
            &table.p_value,
            &table.transaction_seconds,
        ] {
            observe(histogram, std::iter::empty());
        }
        Ok(Self {
            registry,
            table,
            started: Instant::now(),
            live: Mutex::default(),
        })
    }

    /// Records one batch.
    pub fn record_batch(&self, batch: &BatchReport<'_>) {
        let table = &self.table;
        let source = batch.source.as_str();
        let scored = batch.anomaly_score.len() as u64;
        let bad = batch.faults.len() as u64;
        add(&table.records, &[source, SCORED], scored);
        add(&table.records, &[source, DEAD_LETTER], bad);
        observe(
            &table.scoring_seconds,
            [batch.scoring.as_secs_f64()].into_iter(),
        );
        observe(&table.batch_records, [(scored + bad) as f64].into_iter());
        if batch.source == Source::Http {
            return;
        }
        add(&table.alerts, &[], batch.alerts);
        for fault in batch.faults {
            add(&table.dead_letters, &[fault.reason.as_str()], 1);
        }
        observe(
            &table.anomaly_score,
            batch.anomaly_score.iter().map(|&score| f64::from(score)),
        );
        observe(&table.p_value, batch.p_value.iter().copied());
        self.record_fields(batch, scored);
    }

    /// The part of a batch that is told by field, and the recent past.
    fn record_fields(&self, batch: &BatchReport<'_>, scored: u64) {
        let mut live = self.live();
        let fields = live.model.as_ref().map_or(&[][..], |(fields, _)| fields);
        for (field, &nulls) in fields.iter().zip(batch.nulls) {
            add(&self.table.nulls, &[field], nulls);
        }
        let sums = Sums::of_batch(scored, batch.alerts, batch.field_surprise, fields.len());
        live.window.add(self.started.elapsed(), &sums);
    }

    /// Records that outputs are committed: for each record, the seconds since its Kafka timestamp.
    /// A negative time (clocks that differ) counts as 0.
    pub fn delivered(&self, end_to_end_seconds: &[f64]) {
        let seconds = end_to_end_seconds.iter().map(|seconds| seconds.max(0.0));
        observe(&self.table.end_to_end_seconds, seconds);
    }

    /// Records the end of a Kafka transaction.
    pub fn transaction(&self, outcome: TransactionOutcome, duration: Duration) {
        add(&self.table.transactions, &[outcome.as_str()], 1);
        observe(
            &self.table.transaction_seconds,
            [duration.as_secs_f64()].into_iter(),
        );
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

    fn keep_lag_of(&self, assigned: BTreeSet<(String, i32)>) {
        let mut live = self.live();
        for (topic, partition) in live.assigned.difference(&assigned) {
            let labels = [topic.as_str(), &partition.to_string()];
            // The series is not there if the lag was never set.
            let _ = self.table.consumer_lag_records.remove_label_values(&labels);
        }
        live.assigned = assigned;
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

    /// Sets the share of normal records that may be flagged, in (0, 1].
    pub fn set_alert_budget(&self, budget: f64) {
        set(&self.table.alert_budget_ratio, &[], budget);
    }

    /// Records that a model is loaded: its id, when it was trained (seconds since 1970) and its
    /// feature fields in schema order. Series of the fields of an earlier model vanish, and the
    /// recent past starts anew.
    pub fn set_model<'a>(
        &self,
        model_id: &str,
        created_at_unix_s: u64,
        fields: impl IntoIterator<Item = &'a str>,
    ) {
        let table = &self.table;
        let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
        table.model_info.reset();
        set(&table.model_info, &[model_id], 1.0);
        let mut live = self.live();
        if let Some((old, _)) = &live.model {
            for field in old.iter().filter(|field| !fields.contains(field)) {
                let _ = table.nulls.remove_label_values(&[field.as_str()]);
            }
        }
        for field in &fields {
            add(&table.nulls, &[field], 0);
        }
        live.model = Some((fields, created_at_unix_s));
        live.window = Window::default();
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
        // The lock is held until the text is whole, so that no scrape sees another's half-set
        // gauges.
        let mut live = self.live();
        self.refresh(&mut live);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(MetricsError::Encode)
    }

    /// Sets the gauges that follow from the clock.
    fn refresh(&self, live: &mut Live) {
        let table = &self.table;
        let recent = live.window.total(self.started.elapsed());
        table.alert_ratio.reset();
        if let Some(ratio) = recent.alert_ratio() {
            set(&table.alert_ratio, &[], ratio);
        }
        table.field_surprise.reset();
        let Some((fields, created_at_unix_s)) = &live.model else {
            return;
        };
        for (index, field) in fields.iter().enumerate() {
            if let Some(mean) = recent.mean_surprise(index) {
                set(&table.field_surprise, &[field], mean);
            }
        }
        // A clock before 1970 or before the training is taken as no age.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let age = (now.as_secs_f64() - *created_at_unix_s as f64).max(0.0);
        set(&table.model_age_seconds, &[], age);
    }

    /// The live part. A thread that panicked while it held the lock left sums that are at worst
    /// incomplete.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    /// Every metric that the design names, with its labels.
    const DESIGNED: &[(&str, &[&str])] = &[
        ("maskwatch_records_total", &["source", "outcome"]),
        ("maskwatch_alerts_total", &[]),
        ("maskwatch_dead_letters_total", &["reason"]),
        ("maskwatch_nulls_total", &["field"]),
        ("maskwatch_scoring_seconds", &[]),
        ("maskwatch_end_to_end_seconds", &[]),
        ("maskwatch_batch_records", &[]),
        ("maskwatch_consumer_lag_records", &["topic", "partition"]),
        ("maskwatch_anomaly_score", &[]),
        ("maskwatch_p_value", &[]),
        ("maskwatch_alert_ratio", &[]),
        ("maskwatch_field_surprise", &["field"]),
        ("maskwatch_model_info", &["model_id"]),
        ("maskwatch_model_age_seconds", &[]),
        ("maskwatch_transactions_total", &["outcome"]),
        ("maskwatch_transaction_seconds", &[]),
        ("maskwatch_rebalances_total", &[]),
        ("maskwatch_train_step", &[]),
        ("maskwatch_train_steps", &[]),
        ("maskwatch_train_loss", &[]),
        ("maskwatch_train_held_out_loss", &[]),
        ("maskwatch_train_rows_per_second", &[]),
        ("process_cpu_seconds_total", &[]),
        ("process_resident_memory_bytes", &[]),
        ("process_open_fds", &[]),
        ("process_start_time_seconds", &[]),
    ];

    fn fault(reason: FaultReason) -> RowFault {
        RowFault {
            row: 0,
            reason,
            detail: String::new(),
        }
    }

    fn batch(source: Source) -> BatchReport<'static> {
        BatchReport {
            source,
            scoring: Duration::from_millis(3),
            anomaly_score: &[0.9, 6.0],
            p_value: &[0.4, 1e-5],
            field_surprise: &[1.0, f32::NAN, 3.0, f32::NAN],
            nulls: &[0, 2],
            alerts: 1,
            faults: &[],
        }
    }

    /// Metrics in which everything has happened once.
    fn busy() -> Metrics {
        let metrics = Metrics::new().unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        metrics.set_model("0123456789abcdef", now - 100, ["amount", "country"]);
        metrics.set_alert_budget(0.001);
        metrics.rebalanced([("payments", 0), ("payments", 1)]);
        metrics.set_lag("payments", 0, 7);
        metrics.set_lag("payments", 1, 9);
        let faults = [fault(FaultReason::Malformed), fault(FaultReason::Empty)];
        metrics.record_batch(&BatchReport {
            faults: &faults,
            ..batch(Source::Kafka)
        });
        metrics.delivered(&[0.004, -1.0]);
        metrics.transaction(TransactionOutcome::Committed, Duration::from_millis(100));
        metrics.train_progress(&TrainProgress {
            step: 10,
            steps: 100,
            loss: 0.5,
            held_out_loss: Some(0.6),
            rows_per_second: 1e5,
        });
        metrics
    }

    /// Samples of the text format: name with labels -> value.
    fn samples(text: &str) -> std::collections::BTreeMap<&str, f64> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, value)| (series, value.parse().unwrap()))
            .collect()
    }

    /// Families of the text format: (name, type).
    fn families(text: &str) -> Vec<(&str, &str)> {
        text.lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| line.split_once(' ').unwrap())
            .collect()
    }

    #[test]
    fn every_metric_of_the_design_is_exported_with_its_labels() {
        let text = busy().encode().unwrap();
        for (name, labels) in DESIGNED {
            let sample = text
                .lines()
                .find(|line| {
                    line.strip_prefix(name)
                        .is_some_and(|rest| !rest.starts_with("_total"))
                })
                .unwrap_or_else(|| panic!("{name} is not exported"));
            for label in *labels {
                assert!(
                    sample.contains(&format!("{label}=\"")),
                    "{sample} has no {label}"
                );
            }
        }
    }

    #[test]
    fn names_follow_the_conventions_and_each_has_a_help_text() {
        let text = busy().encode().unwrap();
        for (name, kind) in families(&text) {
            assert!(
                name.starts_with("maskwatch_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}"
            );
            let help = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")))
                .unwrap_or_default();
            assert!(help.len() > 10, "{name}: {help}");
        }
    }

    #[test]
    fn a_revoked_partition_loses_its_series_and_a_late_report_does_not_bring_it_back() {
        let metrics = busy();
        metrics.rebalanced([("payments", 1), ("payments", 2)]);
        metrics.set_lag("payments", 0, 99);
        let text = metrics.encode().unwrap();
        let lag: Vec<(&str, f64)> = samples(&text)
            .into_iter()
            .filter(|(series, _)| series.starts_with("maskwatch_consumer_lag_records"))
            .collect();
        let kept = "maskwatch_consumer_lag_records{partition=\"1\",topic=\"payments\"}";
        assert_eq!(lag, [(kept, 9.0)]);
        metrics.revoked();
        metrics.set_lag("payments", 1, 9);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("consumer_lag_records"), "{text}");
        assert_eq!(samples(&text)["maskwatch_rebalances_total"], 2.0);
    }

    #[test]
    fn a_batch_counts_its_records_alerts_nulls_and_faults() {
        let text = busy().encode().unwrap();
        let found = samples(&text);
        for (series, value) in [
            (
                "maskwatch_records_total{outcome=\"scored\",source=\"kafka\"}",
                2.0,
            ),
            (
                "maskwatch_records_total{outcome=\"dead_letter\",source=\"kafka\"}",
                2.0,
            ),
            ("maskwatch_dead_letters_total{reason=\"malformed\"}", 1.0),
            ("maskwatch_dead_letters_total{reason=\"tombstone\"}", 0.0),
            ("maskwatch_alerts_total", 1.0),
            ("maskwatch_alert_ratio", 0.5),
            ("maskwatch_nulls_total{field=\"country\"}", 2.0),
            ("maskwatch_field_surprise{field=\"amount\"}", 2.0),
            ("maskwatch_batch_records_sum", 4.0),
            ("maskwatch_p_value_bucket{le=\"0.00001\"}", 1.0),
            ("maskwatch_anomaly_score_count", 2.0),
            ("maskwatch_end_to_end_seconds_sum", 0.004),
        ] {
            assert_eq!(found.get(series), Some(&value), "{series}");
        }
        assert!(
            !text.contains("field_surprise{field=\"country\"}"),
            "was never predicted"
        );
    }

    #[test]
    fn records_over_http_do_not_move_what_is_known_of_the_stream() {
        let metrics = Metrics::new().unwrap();
        metrics.set_model("m", 0, ["amount", "country"]);
        let faults = [fault(FaultReason::WrongType)];
        metrics.record_batch(&BatchReport {
            faults: &faults,
            ..batch(Source::Http)
        });
        let text = metrics.encode().unwrap();
        let found = samples(&text);
        assert_eq!(
            found["maskwatch_records_total{outcome=\"scored\",source=\"http\"}"],
            2.0
        );
        assert_eq!(found["maskwatch_scoring_seconds_count"], 1.0);
        assert_eq!(found["maskwatch_alerts_total"], 0.0);
        assert_eq!(
            found["maskwatch_dead_letters_total{reason=\"wrong_type\"}"],
            0.0
        );
        assert_eq!(found["maskwatch_p_value_count"], 0.0);
        assert!(!found.contains_key("maskwatch_alert_ratio"));
    }

    #[test]
    fn counters_of_closed_lists_start_at_zero_and_what_was_never_measured_is_absent() {
        let text = Metrics::new().unwrap().encode().unwrap();
        let found = samples(&text);
        for reason in FaultReason::ALL {
            let series = format!("maskwatch_dead_letters_total{{reason=\"{reason}\"}}");
            assert_eq!(found.get(series.as_str()), Some(&0.0), "{series}");
        }
        assert_eq!(
            found["maskwatch_transactions_total{outcome=\"fenced\"}"],
            0.0
        );
        for absent in [
            "alert_ratio",
            "alert_budget",
            "model_",
            "train_",
            "consumer_lag",
            "nulls",
        ] {
            assert!(!text.contains(&format!("maskwatch_{absent}")), "{absent}");
        }
    }

    #[test]
    fn another_model_replaces_the_series_of_the_first() {
        let metrics = busy();
        metrics.set_model("fedcba9876543210", 0, ["amount", "channel"]);
        let text = metrics.encode().unwrap();
        assert!(text.contains("maskwatch_model_info{model_id=\"fedcba9876543210\"} 1"));
        assert!(!text.contains("0123456789abcdef"));
        assert!(!text.contains("field=\"country\""));
        assert!(text.contains("maskwatch_nulls_total{field=\"channel\"} 0"));
        assert!(
            !text.contains("maskwatch_alert_ratio"),
            "the past was another model's"
        );
    }

    #[test]
    fn the_age_of_the_model_is_the_time_since_it_was_trained() {
        let text = busy().encode().unwrap();
        let age = samples(&text)["maskwatch_model_age_seconds"];
        assert!((100.0..110.0).contains(&age), "{age}");
    }

    #[test]
    fn training_gauges_are_there_only_while_training() {
        let metrics = busy();
        metrics.train_finished();
        assert!(!metrics.encode().unwrap().contains("maskwatch_train_"));
    }

    #[test]
    fn a_value_that_is_not_finite_does_not_spoil_the_sum() {
        let metrics = Metrics::new().unwrap();
        metrics.record_batch(&BatchReport {
            anomaly_score: &[f32::NAN, 2.0, f32::INFINITY],
            ..batch(Source::Kafka)
        });
        let text = metrics.encode().unwrap();
        assert_eq!(samples(&text)["maskwatch_anomaly_score_sum"], 2.0);
    }

    /// Metric names in a Prometheus file, without the suffixes of histogram series.
    fn names_used(file: &str) -> BTreeSet<&str> {
        file.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("maskwatch_") || word.starts_with("process_"))
            .collect()
    }

    #[test]
    fn every_name_in_the_alert_rules_is_exported() {
        let text = busy().encode().unwrap();
        let exported: BTreeSet<&str> = families(&text).into_iter().map(|(name, _)| name).collect();
        for (file, minimum) in [
            (include_str!("../../config/prometheus/alerts.yml"), 8),
            (include_str!("../../config/prometheus/tests.yml"), 8),
        ] {
            let used = names_used(file);
            assert!(used.len() >= minimum, "only {used:?} were found");
            for name in used {
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .filter(|family| exported.contains(family))
                    .unwrap_or(name);
                assert!(exported.contains(family), "{name} is not exported");
            }
        }
    }

    #[test]
    fn every_alert_rule_has_a_test_that_it_fires_and_one_that_it_does_not() {
        let rules = include_str!("../../config/prometheus/alerts.yml");
        let tests = include_str!("../../config/prometheus/tests.yml");
        let named = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        let mut rules = 0;
        for alert in named {
            let cases: Vec<&str> = tests
                .split("alertname: ")
                .filter(|case| case.starts_with(&format!("{alert}\n")))
                .collect();
            assert!(
                cases.iter().any(|case| case.contains("exp_labels")),
                "{alert} never fires"
            );
            assert!(
                cases.iter().any(|case| case.contains("exp_alerts: []")),
                "{alert} always fires"
            );
            rules += 1;
        }
        assert!(rules >= 7);
    }
}
