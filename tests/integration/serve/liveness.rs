//! The daemon ends when it is asked to, whatever it is waiting for.
//!
//! Brokers that are not there, brokers that have stopped answering, a registry that accepts and says nothing flow in; an
//! exit code, and how long it took to come, flow out. The limit is that of the configuration; a test adds only what starting
//! and ending a process may take on a loaded machine.

use super::material::{Record, Records, model};
use super::setting::{PATIENCE, Served, Setting};
use crate::support::daemon::{Daemon, http_get, metric};
use crate::support::free_ports;
use crate::support::kafka_cluster::{BROKERS, Cluster, Listener};
use crate::support::kafka_topics::{InputRecord, TopicSpec};
use crate::support::poll_until;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the tests configure: half of the default.
const DRAIN: Duration = Duration::from_secs(5);

/// For what is no part of the drain: the signal, the end of the process, and a machine with other work.
const SLACK: Duration = Duration::from_secs(5);

/// What a user is promised, and what a loaded machine needs.
const TOLD_WITHIN: Duration = Duration::from_secs(5 + 10);

/// Different lines of two clients about one broker that is away; each comes several times a second.
const CLIENT_LINES_MAX: usize = 12;

/// Starts a daemon for brokers at `servers`, with further `[delivery]` keys. Its group and topics begin with `name`.
fn start(folder: &Path, name: &str, servers: &str, delivery: &str) -> Served {
    let bundle = &model().bundle;
    let text = format!(
        "[kafka]\nbootstrap_servers = \"{servers}\"\ngroup_id = \"{name}-group\"\ninstance_id = \"a\"\n\
         input_topics = [\"{name}-in\"]\nscores_topic = \"{name}-out\"\n[model]\ndir = {bundle:?}\n\
         [alerts]\nbudget = 0.05\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [delivery]\ndrain_timeout_ms = {}\n{delivery}\n",
        DRAIN.as_millis()
    );
    let path = folder.join("maskwatch.toml");
    std::fs::write(&path, text).unwrap();
    let arguments = ["serve".as_ref(), "--config".as_ref(), path.as_os_str()];
    Served(Daemon::start(&arguments, &[]))
}

/// Asks for a drain; gives back the exit code, which comes in time.
#[track_caller]
fn terminate(served: &mut Served) -> Option<i32> {
    let asked = Instant::now();
    served.0.terminate();
    let status = served.0.wait(PATIENCE);
    let took = asked.elapsed();
    assert!(took < DRAIN + SLACK, "{took:?}; {}", served.0.log());
    status.code()
}

#[test]
fn with_no_broker_there_address_and_cause_are_told_and_a_drain_has_nothing_to_wait_for() {
    let folder = TempDir::new().unwrap();
    let [port] = free_ports();
    let servers = format!("127.0.0.1:{port}");
    for mode in ["exactly_once", "at_least_once"] {
        let delivery = format!("mode = \"{mode}\"");
        let mut served = start(folder.path(), "none", &servers, &delivery);
        served.0.wait_for_log("\"model loaded\"", PATIENCE);
        let url = served.url("/metrics");
        let (_, metrics) = http_get(&url).unwrap();
        assert_eq!(metric(&metrics, "maskwatch_ready"), Some(0.0));
        assert_eq!(metric(&metrics, "maskwatch_alert_ratio"), Some(0.0));
        // Well inside the producer's first call, where there is one.
        served.0.wait_for_log("no broker answers yet", TOLD_WITHIN);
        let log = served.0.log();
        let line = log
            .lines()
            .find(|line| line.contains("no broker answers yet"));
        let line = line.unwrap();
        for part in [&servers[..], "Connection refused"] {
            assert!(line.contains(part), "{part} is missing in: {line}");
        }
        let told = log.lines().filter(|line| line.contains("librdkafka"));
        assert!(told.count() <= CLIENT_LINES_MAX, "{mode}: {log}");
        assert_eq!(terminate(&mut served), Some(0), "{mode}");
    }
}

#[test]
fn brokers_that_have_frozen_do_not_hold_a_drain_with_records_in_hand() {
    let mut cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let records = Records::payments(20);
    let folder = TempDir::new().unwrap();
    for mode in ["exactly_once", "at_least_once"] {
        cluster.heal();
        let name = broker.unique_name("frozen");
        let [input, output] = ["in", "out"].map(|part| format!("{name}-{part}"));
        broker.create_topics(&[TopicSpec::new(&input, 1), TopicSpec::new(&output, 1)]);
        // Longer than it takes to freeze: nothing is committed before.
        let delivery = format!("mode = \"{mode}\"\ntransaction_interval_ms = 7000");
        let servers = cluster.bootstrap_servers(Listener::Plain);
        let mut served = start(folder.path(), &name, &servers, &delivery);
        served.wait_until_ready();
        let json = |record: &Record| InputRecord::of(record.json.clone()).partition(0);
        let inputs: Vec<_> = records.records.iter().map(json).collect();
        broker.produce(&input, &inputs);
        let url = served.url("/metrics");
        let scored = "maskwatch_records_total{outcome=\"scored\",source=\"kafka\"}";
        let in_hand = poll_until(PATIENCE, || {
            let (_, metrics) = http_get(&url).ok()?;
            (metric(&metrics, scored)? >= 1.0).then_some(())
        });
        assert!(in_hand.is_some(), "{mode}: {}", served.0.log());
        for id in BROKERS {
            cluster.freeze(id);
        }
        assert_eq!(
            terminate(&mut served),
            Some(1),
            "{mode}: {}",
            served.0.log()
        );
    }
}

#[test]
fn a_registry_that_never_answers_does_not_hold_a_drain() {
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", registry.local_addr().unwrap());
    // Connections are accepted by the system, and nobody ever answers.
    let setting = Setting::new("mute-registry", 1, &Records::payments(1).bundle);
    let framed = [0, 0, 0, 0, 7, 1, 2, 3];
    let record = InputRecord::of(framed.to_vec()).key("k").partition(0);
    setting.broker.produce(&setting.input, &[record]);
    let more = format!(
        "[input]\nformat = \"avro\"\nschema_registry_url = \"{url}\"\n\
         [delivery]\ndrain_timeout_ms = {}\n",
        DRAIN.as_millis()
    );
    let mut served = setting.start(&more);
    let url = served.url("/metrics");
    let asked = "maskwatch_consumer_lag_records";
    let reading = poll_until(PATIENCE, || {
        let (_, metrics) = http_get(&url).ok()?;
        metrics.contains(asked).then_some(())
    });
    assert!(reading.is_some(), "{}", served.0.log());
    let _ = terminate(&mut served);
    assert_eq!(setting.committed(), 0, "nothing was decided of the record");
    drop(registry);
}
