//! What the daemon says of itself: what it reads and writes at the start, and one line a minute.
//!
//! In flow the configuration and the counts, out flow log lines for whoever watches the terminal.

use crate::Detector;
use crate::config::StreamConfig;
use crate::model::ops::simd::Instructions;
use crate::score::{percentages, share_text};
use crate::telemetry::metrics::StreamTotals;
use crate::telemetry::{Metrics, Readiness};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How often there is a line.
const EVERY: Duration = Duration::from_secs(60);

/// The cluster that the daemon works for.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// Topics and group.
    pub config: &'a StreamConfig,
    /// `host:port,...`, the in-process broker's too.
    pub servers: &'a str,
}

/// Says what the daemon reads, writes and goes by, and from now on one line a minute.
pub fn begin(
    runtime: &Runtime,
    cluster: Cluster<'_>,
    detector: &Detector,
    (metrics, readiness): (&Arc<Metrics>, &Arc<Readiness>),
) {
    let instructions = detector.scorer().model().instructions();
    let kernel = instructions.map_or("none", Instructions::name);
    tracing::info!(model_id = detector.model_id(), kernel, "model loaded");
    for line in opening_lines(cluster, detector) {
        tracing::info!("{line}");
    }
    let budget = cluster.config.alerts.budget.share();
    runtime.spawn(report_each_minute(
        Arc::clone(metrics),
        Arc::clone(readiness),
        budget,
    ));
}

/// What the daemon reads, writes and goes by: one line each.
fn opening_lines(cluster: Cluster<'_>, detector: &Detector) -> Vec<String> {
    let config = cluster.config;
    let kafka = &config.kafka;
    let outputs = &kafka.outputs;
    let topics = [
        ("scores", &outputs.scores),
        ("alerts", &outputs.alerts),
        ("dead letters", &outputs.dead_letters),
    ];
    let written: Vec<String> = topics
        .iter()
        .filter_map(|(what, topic)| Some(format!("{what} to {}", topic.as_ref()?)))
        .collect();
    let written = match written.is_empty() {
        true => "nothing: no output topic is configured".to_owned(),
        false => written.join(", "),
    };
    let budget = config.alerts.budget;
    let promise = match budget.realised_rate(detector.calibration_rows()) {
        Some((low, high)) => {
            // Rounded as in the line of the first records, which stands beside it.
            let [budget, low, high] = percentages([budget.share(), low, high]);
            format!("budget {budget} % of all records, promised {low} to {high} % (90 % interval)")
        }
        None => "never reached with so few calibration rows".to_owned(),
    };
    vec![
        reads(cluster),
        format!("writes {written}"),
        format!(
            "model {}: {} features, {} calibration rows",
            detector.model_id(),
            detector.schema().features().count(),
            detector.calibration_rows()
        ),
        format!("alerts: {promise}"),
    ]
}

fn reads(Cluster { config, servers }: Cluster<'_>) -> String {
    let kafka = &config.kafka;
    let of = match kafka.is_embedded() {
        true => format!("the in-process broker {servers}, which ends with this process,"),
        false => servers.to_owned(),
    };
    format!(
        "reads {} from {of} as {}.{}",
        kafka.input_topics.join(", "),
        kafka.group_id,
        kafka.instance_id
    )
}

/// Says every [`EVERY`] what happened since the last line, until it is dropped.
async fn report_each_minute(metrics: Arc<Metrics>, readiness: Arc<Readiness>, budget: f64) {
    let mut before = metrics.stream_totals();
    let mut clock = tokio::time::interval(EVERY);
    // The first tick is now.
    clock.tick().await;
    loop {
        clock.tick().await;
        let now = metrics.stream_totals();
        let report = readiness.report();
        let missing = report.missing.first().map(String::as_str);
        tracing::info!("{}", line(before, now, budget, report.lag_records, missing));
        before = now;
    }
}

fn line(
    before: StreamTotals,
    now: StreamTotals,
    budget: f64,
    lag: Option<u64>,
    missing: Option<&str>,
) -> String {
    let scored = now.scored - before.scored;
    let alerts = now.alerts - before.alerts;
    let dead = now.dead_letters - before.dead_letters;
    let share = match scored {
        0 => String::new(),
        _ => format!(
            " ({}, budget {})",
            share_text(alerts as f64 / scored as f64),
            share_text(budget)
        ),
    };
    let lag = lag.map_or_else(|| "unknown".to_owned(), |lag| format!("{lag} records"));
    let missing = missing.map_or_else(String::new, |missing| format!("; not ready: {missing}"));
    format!(
        "last minute: {scored} records scored, {alerts} alerts{share}, {dead} dead letters; lag {lag}{missing}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn the_address_of_the_in_process_broker_is_told() {
        let text = "[kafka]\nbootstrap_servers = \"embedded\"\ninstance_id = \"i\"\ninput_topics = [\"payments\"]\n\
                    scores_topic = \"scores\"\n[model]\ndir = \"model\"\n";
        let config = Config::parse(Path::new("c.toml"), text, std::iter::empty());
        let config = config.map_err(|error| error.to_string());
        let line = config.map(|config| {
            reads(Cluster {
                config: &config.stream,
                servers: "127.0.0.1:43210",
            })
        });
        let expected = "reads payments from the in-process broker 127.0.0.1:43210, which ends with this process, as \
                        maskwatch.i";
        assert_eq!(line, Ok(expected.to_owned()));
    }

    #[test]
    fn a_minute_is_told_with_the_budget_beside_the_alert_rate() {
        let totals = |scored, dead_letters, alerts| StreamTotals {
            scored,
            dead_letters,
            alerts,
        };
        assert_eq!(
            line(
                totals(100, 1, 5),
                totals(6_100, 4, 14),
                0.001,
                Some(12),
                None
            ),
            "last minute: 6000 records scored, 9 alerts (0.15 %, budget 0.10 %), 3 dead letters; lag 12 records"
        );
        let quiet = totals(100, 1, 5);
        let missing = Some("partitions: the group has not assigned any yet");
        assert_eq!(
            line(quiet, quiet, 0.001, None, missing),
            "last minute: 0 records scored, 0 alerts, 0 dead letters; lag unknown; not ready: partitions: the group has \
             not assigned any yet"
        );
    }
}
