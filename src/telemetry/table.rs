//! Every metric that the process exports beside `process_*`, declared in one table: handle, kind,
//! name, labels, buckets, help. A registry flows in, handles flow out. Names are
//! `maskwatch_<noun>_<unit>[_total]` in base units, and every label has a closed list of values
//! (`metrics.rs` keeps to it, as no series ever expires by itself).

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Seconds, from the fastest batch to longer than any transaction may last.
const SECONDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0,
];
/// Records in a batch.
const RECORDS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];
/// Scores: a mean of -log of shares, which is near 1 for normal records whatever the number of
/// fields.
const SCORES: &[f64] = &[
    0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 50.0,
];
/// p-values: uniform for normal records, so the share at or below a bound is to be the bound. The
/// bounds reach down to the smallest p-value of the largest calibration part.
const P_VALUES: &[f64] = &[
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4,
    0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
];
/// For what is no histogram.
const NONE: &[f64] = &[];

/// Writes the struct of handles and the code that registers them from one table, so that neither
/// can miss a row.
macro_rules! table {
    ($(
        $handle:ident: $kind:ident, $name:literal, $labels:expr, $buckets:ident, $help:literal;
    )*) => {
        /// One handle a metric.
        pub(super) struct Table { $(pub $handle: $kind,)* }

        impl Table {
            /// Declares every row.
            pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
                Ok(Self { $($handle: declare(registry, $name, &$labels, $buckets, $help)?,)* })
            }
        }
    };
}

table! {
    records: IntCounterVec, "records_total", ["source", "outcome"], NONE,
        "Records taken in. A record that is scored again after an aborted transaction counts \
         again; over HTTP, dead_letter means answered with an error.";
    in_full: IntCounterVec, "records_in_full_total", ["source", "model_id"], NONE,
        "Records that were scored in full: every one, unless the model scores in two stages.";
    cascade_share_ratio: GaugeVec, "cascade_share_ratio", ["model_id"], NONE,
        "Share of the reference rows that are scored in full; absent if every record is.";
    alerts: IntCounterVec, "alerts_total", ["model_id"], NONE,
        "Records of the stream whose p-value is within the alert budget.";
    dead_letters: IntCounterVec, "dead_letters_total", ["reason"], NONE,
        "Records of the stream that cannot be scored.";
    refused_outputs: IntCounterVec, "refused_outputs_total", ["cause", "fate"], NONE,
        "Outputs that a topic refuses or is known to refuse. The label fate says what is written instead.";
    nulls: IntCounterVec, "nulls_total", ["field"], NONE,
        "Null or absent values in scored records of the stream.";
    scoring_seconds: HistogramVec, "scoring_seconds", [], SECONDS,
        "Time to decode, encode and score one batch.";
    end_to_end_seconds: HistogramVec, "end_to_end_seconds", [], SECONDS,
        "Time from a record's Kafka timestamp until its output is committed.";
    batch_records: HistogramVec, "batch_records", [], RECORDS,
        "Records in one batch, bad ones included.";
    consumer_lag_records: GaugeVec, "consumer_lag_records", ["topic", "partition"], NONE,
        "Records of an assigned partition beyond the group's committed offset.";
    skipped_records: IntCounterVec, "skipped_records_total", ["topic", "partition"], NONE,
        "Offsets of an assigned partition that the log no longer had when they were to be read, most \
         often because of retention.";
    anomaly_score: HistogramVec, "anomaly_score", ["model_id"], SCORES,
        "Anomaly scores of the stream; higher is more abnormal.";
    p_value: HistogramVec, "p_value", ["model_id"], P_VALUES,
        "p-values of the stream; uniform if the records are like the calibration rows.";
    alert_ratio: GaugeVec, "alert_ratio", ["model_id"], NONE,
        "Share of the records of the stream in the last 5 minutes that were flagged; 0 if there \
         were none.";
    alert_budget_ratio: GaugeVec, "alert_budget_ratio", ["model_id"], NONE,
        "Share of normal records that may be flagged: the configured alert budget.";
    budget_limit_ratio: GaugeVec, "budget_limit_ratio", ["model_id"], NONE,
        "Alert rate that the budget stays below with a certainty of 99.9 %, given the number of calibration rows; absent if the \
         budget cannot be reached.";
    budget_wealth: GaugeVec, "budget_wealth", ["model_id"], NONE,
        "Wealth of a bet against an alert rate of at most budget_limit_ratio: 1 at the start, an alarm from 1,000 on, at \
         most 1,000,000. It begins anew with the process and with the model.";
    exchangeability_wealth: GaugeVec, "exchangeability_wealth", ["model_id"], NONE,
        "Wealth of a bet against scores that come in no order: 1 at the start, a change from 1,000 on, at most 1,000,000. It \
         begins anew with the process and with the model.";
    field_divergence_bits: GaugeVec, "field_divergence_bits", ["model_id", "field"], NONE,
        "Jensen-Shannon divergence, 0 to 1, of the field's values in the last full window of 10,000 records from the \
         reference rows of the training; from 0.02 on the field has moved. Absent before the first window, and of \
         redacted fields and timestamps.";
    first_records_flooded: GaugeVec, "first_records_flooded", ["model_id"], NONE,
        "1 if the alert rate of the first 1,000 records of the stream was far beyond the interval \
         of the budget, else 0; absent before there were as many.";
    field_absent: GaugeVec, "field_absent", ["model_id", "field"], NONE,
        "1 for a field that was null in all of the first 1,000 records of the stream and hardly \
         ever in training; the others are absent.";
    field_surprise: GaugeVec, "field_surprise", ["model_id", "field"], NONE,
        "Mean surprise of a field over the last 5 minutes of the stream; absent if it was not \
         predicted.";
    model_info: GaugeVec, "model_info", ["model_id"], NONE,
        "1 for the loaded model.";
    model_age_seconds: GaugeVec, "model_age_seconds", ["model_id"], NONE,
        "Time since the loaded model was trained.";
    model_swaps: IntCounterVec, "model_swaps_total", ["result"], NONE,
        "Models that the daemon was to exchange for the loaded one while it ran: exchanged, or refused because \
         the bundle is not whole or does not fit.";
    model_swap_seconds: HistogramVec, "model_swap_seconds", [], SECONDS,
        "Time that the stream stood still for the exchange of the model.";
    model_refused: GaugeVec, "model_refused", [], NONE,
        "1 while the model that is to serve is refused and the one before it goes on, else 0.";
    transactions: IntCounterVec, "transactions_total", ["outcome"], NONE,
        "Kafka transactions that were ended.";
    transaction_seconds: HistogramVec, "transaction_seconds", [], SECONDS,
        "Time from the start of a Kafka transaction to its end.";
    rebalances: IntCounterVec, "rebalances_total", [], NONE,
        "Times that the consumer group gave this instance another share of the partitions.";
    sessions_failed: IntCounterVec, "sessions_failed_total", ["reason"], NONE,
        "Sessions with the cluster that failed. A new one starts from the committed offsets, unless \
         the daemon ends.";
    stream_silent_seconds: GaugeVec, "stream_silent_seconds", [], NONE,
        "Time that the stream's thread has spent in its present operation; 0 before there is a stream. \
         It is far below 1 unless a call of the Kafka client blocks.";
    stream_stalls: IntCounterVec, "stream_stalls_total", [], NONE,
        "Times that the stream's thread made no progress for longer than delivery.stall_timeout_ms; \
         the process then ends.";
    ready: GaugeVec, "ready", [], NONE,
        "1 while /readyz answers 200, else 0.";
    train_step: GaugeVec, "train_step", [], NONE,
        "Optimiser steps done. The metrics train_* exist only during training.";
    train_steps: GaugeVec, "train_steps", [], NONE,
        "Optimiser steps planned.";
    train_loss: GaugeVec, "train_loss", [], NONE,
        "Masked loss of the latest step.";
    train_held_out_loss: GaugeVec, "train_held_out_loss", [], NONE,
        "Masked loss on the reference rows; absent before the first evaluation.";
    train_rows_per_second: GaugeVec, "train_rows_per_second", [], NONE,
        "Training rows processed per second.";
}

/// Metrics could not be declared or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A declaration is at odds with another or with the naming rules.
    #[error("metric {name} cannot be declared")]
    Declare {
        /// Name of the metric, without the prefix.
        name: &'static str,
        /// What the registry found.
        source: prometheus::Error,
    },
    /// The text format could not be written.
    #[error("metrics cannot be encoded")]
    Encode(#[source] prometheus::Error),
}

/// A kind of metric that the table can declare. All are families of series, one with no labels too:
/// such a gauge can be absent, which says more than a zero that was never measured.
trait Declare: Collector + Clone + Sized + 'static {
    fn declare(opts: Opts, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;
}

impl Declare for IntCounterVec {
    fn declare(opts: Opts, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(opts, labels)
    }
}

impl Declare for GaugeVec {
    fn declare(opts: Opts, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        Self::new(opts, labels)
    }
}

impl Declare for HistogramVec {
    fn declare(opts: Opts, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), labels)
    }
}

/// Declares one row of the table.
fn declare<M: Declare>(
    registry: &Registry,
    name: &'static str,
    labels: &[&str],
    buckets: &[f64],
    help: &str,
) -> Result<M, MetricsError> {
    let opts = Opts::new(name, help).namespace("maskwatch");
    let register = || {
        let metric = M::declare(opts, labels, buckets)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    };
    register().map_err(|source| MetricsError::Declare { name, source })
}

/// Adds to a counter. A wrong number of labels is a fault that the tests find; in service, the
/// worst is that a count is missing.
pub(super) fn add(counter: &IntCounterVec, labels: &[&str], by: u64) {
    if let Ok(series) = counter.get_metric_with_label_values(labels) {
        series.inc_by(by);
    }
}

/// Sets a gauge.
pub(super) fn set(gauge: &GaugeVec, labels: &[&str], value: f64) {
    if let Ok(series) = gauge.get_metric_with_label_values(labels) {
        series.set(value);
    }
}

/// Adds values to a histogram, all at once. One that is not finite is left out: it would make the sum
/// NaN for ever.
pub(super) fn observe(
    histogram: &HistogramVec,
    labels: &[&str],
    values: impl Iterator<Item = f64>,
) {
    if let Ok(series) = histogram.get_metric_with_label_values(labels) {
        let local = series.local();
        values
            .filter(|value| value.is_finite())
            .for_each(|value| local.observe(value));
        local.flush();
    }
}
