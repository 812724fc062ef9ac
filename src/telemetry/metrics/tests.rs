//! What is exported, by name, label and value; and that the alert rules speak of nothing else.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

/// Every metric that the design names, with its labels.
const DESIGNED: &[(&str, &[&str])] = &[
    ("maskwatch_records_total", &["source", "outcome"]),
    ("maskwatch_records_in_full_total", &["source", "model_id"]),
    ("maskwatch_cascade_share_ratio", &["model_id"]),
    ("maskwatch_alerts_total", &["model_id"]),
    ("maskwatch_dead_letters_total", &["reason"]),
    ("maskwatch_refused_outputs_total", &["cause", "fate"]),
    ("maskwatch_nulls_total", &["field"]),
    ("maskwatch_scoring_seconds", &[]),
    ("maskwatch_end_to_end_seconds", &[]),
    ("maskwatch_batch_records", &[]),
    ("maskwatch_consumer_lag_records", &["topic", "partition"]),
    ("maskwatch_skipped_records_total", &["topic", "partition"]),
    ("maskwatch_anomaly_score", &["model_id"]),
    ("maskwatch_p_value", &["model_id"]),
    ("maskwatch_alert_ratio", &["model_id"]),
    ("maskwatch_alert_budget_ratio", &["model_id"]),
    ("maskwatch_field_surprise", &["model_id", "field"]),
    ("maskwatch_budget_limit_ratio", &["model_id"]),
    ("maskwatch_budget_wealth", &["model_id"]),
    ("maskwatch_exchangeability_wealth", &["model_id"]),
    ("maskwatch_field_divergence_bits", &["model_id", "field"]),
    ("maskwatch_first_records_flooded", &["model_id"]),
    ("maskwatch_field_absent", &["model_id", "field"]),
    ("maskwatch_model_info", &["model_id"]),
    ("maskwatch_model_age_seconds", &["model_id"]),
    ("maskwatch_model_swaps_total", &["result"]),
    ("maskwatch_model_swap_seconds", &[]),
    ("maskwatch_model_refused", &[]),
    ("maskwatch_transactions_total", &["outcome"]),
    ("maskwatch_transaction_seconds", &[]),
    ("maskwatch_rebalances_total", &[]),
    ("maskwatch_sessions_failed_total", &["reason"]),
    ("maskwatch_stream_stalls_total", &[]),
    ("maskwatch_stream_silent_seconds", &[]),
    ("maskwatch_ready", &[]),
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
        in_full: 1,
        faults: &[],
    }
}

/// A model of two fields.
fn facts(model_id: &'static str) -> ModelFacts<'static> {
    ModelFacts {
        model_id,
        created_at_unix_s: 0,
        fields: &["amount", "country"],
        alert_budget: 0.001,
        cascade_share: Some(0.02),
    }
}

/// Metrics without a past.
fn idle() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

/// Metrics in which everything has happened once, and their model.
fn busy() -> (Arc<Metrics>, Arc<ModelMetrics>) {
    let metrics = idle();
    metrics.watch(Arc::default());
    metrics.set_ready(true);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let model = metrics.model(ModelFacts {
        created_at_unix_s: now - 100,
        ..facts("0123456789abcdef")
    });
    metrics.rebalanced([("payments", 0), ("payments", 1)]);
    metrics.set_lag("payments", 0, 7);
    metrics.set_lag("payments", 1, 9);
    let faults = [fault(FaultReason::Malformed), fault(FaultReason::Empty)];
    model.record_batch(&BatchReport {
        faults: &faults,
        ..batch(Source::Kafka)
    });
    metrics.delivered(&[0.004, -1.0]);
    metrics.transaction(TransactionOutcome::Committed, Duration::from_millis(100));
    model.first_records(true, ["country"]);
    model.budget_limit(Some(0.002));
    model.stream_tests(Some(0.5), 2.0, [("amount", 0.01)]);
    metrics.train_progress(&TrainProgress {
        step: 10,
        steps: 100,
        loss: 0.5,
        held_out_loss: Some(0.6),
        rows_per_second: 1e5,
    });
    (metrics, model)
}

/// What is exported after all that.
fn busy_text() -> String {
    let (metrics, _model) = busy();
    metrics.encode().unwrap()
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
    let text = busy_text();
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
    let text = busy_text();
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
    let (metrics, _model) = busy();
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
    let text = busy_text();
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
        ("maskwatch_alerts_total{model_id=\"0123456789abcdef\"}", 1.0),
        ("maskwatch_alert_ratio{model_id=\"0123456789abcdef\"}", 0.5),
        ("maskwatch_nulls_total{field=\"country\"}", 2.0),
        (
            "maskwatch_field_surprise{field=\"amount\",model_id=\"0123456789abcdef\"}",
            2.0,
        ),
        ("maskwatch_batch_records_sum", 4.0),
        (
            "maskwatch_p_value_bucket{model_id=\"0123456789abcdef\",le=\"0.00001\"}",
            1.0,
        ),
        (
            "maskwatch_anomaly_score_count{model_id=\"0123456789abcdef\"}",
            2.0,
        ),
        (
            "maskwatch_records_in_full_total{model_id=\"0123456789abcdef\",source=\"kafka\"}",
            1.0,
        ),
        (
            "maskwatch_records_in_full_total{model_id=\"0123456789abcdef\",source=\"http\"}",
            0.0,
        ),
        (
            "maskwatch_cascade_share_ratio{model_id=\"0123456789abcdef\"}",
            0.02,
        ),
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
fn a_model_that_gives_all_views_to_every_record_has_no_share_of_a_cascade() {
    let metrics = idle();
    let _model = metrics.model(ModelFacts {
        cascade_share: None,
        ..facts("m")
    });
    let text = metrics.encode().unwrap();
    assert!(!text.contains("cascade_share_ratio"), "{text}");
}

#[test]
fn records_over_http_do_not_move_what_is_known_of_the_stream() {
    let metrics = idle();
    let model = metrics.model(facts("m"));
    let faults = [fault(FaultReason::WrongType)];
    model.record_batch(&BatchReport {
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
    assert_eq!(found["maskwatch_alerts_total{model_id=\"m\"}"], 0.0);
    assert_eq!(
        found["maskwatch_dead_letters_total{reason=\"wrong_type\"}"],
        0.0
    );
    assert_eq!(found["maskwatch_p_value_count{model_id=\"m\"}"], 0.0);
    assert_eq!(found["maskwatch_alert_ratio{model_id=\"m\"}"], 0.0);
    assert_eq!(metrics.stream_totals(), StreamTotals::default());
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
    for series in ["model_swaps_total{result=\"refused\"}", "model_refused"] {
        assert_eq!(
            found.get(format!("maskwatch_{series}").as_str()),
            Some(&0.0)
        );
    }
    for absent in [
        "alert",
        "anomaly_score",
        "p_value",
        "model_info",
        "model_age",
        "train_",
        "consumer_lag",
        "nulls",
    ] {
        assert!(!text.contains(&format!("maskwatch_{absent}")), "{absent}");
    }
}

#[test]
fn the_counters_of_a_model_start_at_zero_with_the_model() {
    let metrics = idle();
    let _model = metrics.model(facts("m"));
    let text = metrics.encode().unwrap();
    let found = samples(&text);
    for series in [
        "alerts_total{model_id=\"m\"}",
        "alert_ratio{model_id=\"m\"}",
        "anomaly_score_count{model_id=\"m\"}",
        "p_value_count{model_id=\"m\"}",
        "records_in_full_total{model_id=\"m\",source=\"kafka\"}",
        "nulls_total{field=\"country\"}",
    ] {
        let series = format!("maskwatch_{series}");
        assert_eq!(found.get(series.as_str()), Some(&0.0), "{series}");
    }
    assert_eq!(found["maskwatch_alert_budget_ratio{model_id=\"m\"}"], 0.001);
}

#[test]
fn each_model_has_its_own_series_and_they_end_with_it() {
    let (metrics, first) = busy();
    let second = metrics.model(ModelFacts {
        fields: &["amount", "channel"],
        ..facts("fedcba9876543210")
    });
    second.record_batch(&batch(Source::Kafka));
    second.record_batch(&batch(Source::Kafka));
    let text = metrics.encode().unwrap();
    for (model_id, alerts) in [("0123456789abcdef", 1), ("fedcba9876543210", 2)] {
        assert!(text.contains(&format!(
            "maskwatch_model_info{{model_id=\"{model_id}\"}} 1"
        )));
        let counted = format!("maskwatch_alerts_total{{model_id=\"{model_id}\"}} {alerts}\n");
        assert!(text.contains(&counted), "{text}");
    }
    drop(first);
    let text = metrics.encode().unwrap();
    assert!(!text.contains("0123456789abcdef"), "{text}");
    assert!(!text.contains("field=\"country\""), "{text}");
    assert!(text.contains("maskwatch_nulls_total{field=\"amount\"} 0"));
    assert!(text.contains("maskwatch_nulls_total{field=\"channel\"} 4"));
    assert!(text.contains("maskwatch_alert_ratio{model_id=\"fedcba9876543210\"} 0.5"));
    // What the daemon says of the stream does not go back.
    assert_eq!(metrics.stream_totals().alerts, 3);
}

#[test]
fn a_model_that_is_loaded_again_keeps_its_series_when_the_first_ends() {
    let (metrics, first) = busy();
    let again = metrics.model(facts("0123456789abcdef"));
    drop(first);
    let text = metrics.encode().unwrap();
    let found = samples(&text);
    assert_eq!(
        found["maskwatch_alerts_total{model_id=\"0123456789abcdef\"}"],
        1.0
    );
    assert_eq!(found["maskwatch_nulls_total{field=\"country\"}"], 2.0);
    drop(again);
    assert!(!metrics.encode().unwrap().contains("0123456789abcdef"));
}

#[test]
fn the_age_of_the_model_is_the_time_since_it_was_trained() {
    let text = busy_text();
    let age = samples(&text)["maskwatch_model_age_seconds{model_id=\"0123456789abcdef\"}"];
    assert!((100.0..110.0).contains(&age), "{age}");
}

#[test]
fn training_gauges_are_there_only_while_training() {
    let (metrics, _model) = busy();
    metrics.train_finished();
    assert!(!metrics.encode().unwrap().contains("maskwatch_train_"));
}

#[test]
fn a_value_that_is_not_finite_does_not_spoil_the_sum() {
    let metrics = idle();
    let model = metrics.model(facts("m"));
    model.record_batch(&BatchReport {
        anomaly_score: &[f32::NAN, 2.0, f32::INFINITY],
        ..batch(Source::Kafka)
    });
    let text = metrics.encode().unwrap();
    assert_eq!(
        samples(&text)["maskwatch_anomaly_score_sum{model_id=\"m\"}"],
        2.0
    );
}

/// Metric names in a Prometheus file, without the suffixes of histogram series.
fn names_used(file: &str) -> BTreeSet<&str> {
    file.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("maskwatch_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn every_name_in_the_alert_rules_is_exported() {
    let text = busy_text();
    let exported: BTreeSet<&str> = families(&text).into_iter().map(|(name, _)| name).collect();
    for (file, minimum) in [
        (include_str!("../../../config/prometheus/alerts.yml"), 8),
        (include_str!("../../../config/prometheus/tests.yml"), 8),
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
    let rules = include_str!("../../../config/prometheus/alerts.yml");
    let tests = include_str!("../../../config/prometheus/tests.yml");
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
