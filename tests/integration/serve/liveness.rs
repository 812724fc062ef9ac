//! The daemon ends when it is asked to, whatever it is waiting for.
//!
//! Brokers that are not there, brokers that have stopped answering, a registry that accepts and says nothing flow in; an
//! exit code, and how long it took to come, flow out. The limit is that of the configuration; a test adds only what starting
//! and ending a process may take on a loaded machine.

use super::material::{Record, Records, model};
use super::setting::{PATIENCE, Served, Setting};
use crate::support::start_daemon;
use maskwatch_testing::daemon::{http_get, metric};
use maskwatch_testing::free_ports;
use maskwatch_testing::kafka_cluster::{BROKERS, Cluster, Listener};
use maskwatch_testing::kafka_topics::{InputRecord, TopicSpec};
use maskwatch_testing::leash::Leash;
use maskwatch_testing::poll_until;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the tests configure: half of the default.
const DRAIN: Duration = Duration::from_secs(5);

/// For what is no part of the drain: the signal, the end of the process, and a machine with other work.
const SLACK: Duration = Duration::from_secs(10);

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
    Served(start_daemon(&arguments, &[]))
}

/// Asks for a drain; gives back the exit code, which comes in time.
#[track_caller]
fn terminate(served: &mut Served) -> Option<i32> {
    let asked = Instant::now();
    served.0.terminate();
    let status = served.0.wait(PATIENCE);
    let took = asked.elapsed();
    eprintln!("ended {took:?} after it was asked to");
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
        let ratio = metrics
            .lines()
            .find(|line| line.starts_with("maskwatch_alert_ratio{model_id="));
        assert!(ratio.is_some_and(|line| line.ends_with("} 0")), "{ratio:?}");
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
        // Longer than it takes to score and to freeze: nothing is committed before.
        let delivery = format!(
            "mode = \"{mode}\"\ntransaction_interval_ms = 55000\n\
             [kafka.properties]\n\"transaction.timeout.ms\" = 120000"
        );
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
    // Once it is asked for the schema, a batch is in hand for the next seconds.
    registry.set_nonblocking(true).unwrap();
    let asked = poll_until(PATIENCE, || registry.accept().ok());
    assert!(asked.is_some(), "{}", served.0.log());
    let code = terminate(&mut served);
    let log = served.0.log();
    assert_eq!(code, Some(1), "what was in hand is not done: {log}");
    let said = log.lines().last().unwrap_or_default();
    assert!(said.contains("the drain"), "{log}");
    assert_eq!(setting.committed(), 0, "nothing was decided of the record");
}

/// Waits until `/readyz` fails for want of brokers; the reason it gives.
fn wait_until_away(served: &mut Served) -> String {
    let url = served.url("/readyz");
    let told = poll_until(PATIENCE, || {
        let (status, text) = http_get(&url).ok()?;
        (status == 503 && text.contains("\"brokers: ")).then_some(text)
    });
    told.unwrap_or_else(|| panic!("ready without brokers: {}", served.0.log()))
}

#[test]
fn all_brokers_away_while_the_stream_runs_make_it_unready_until_they_are_back() {
    let mut cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let records = Records::payments(20);
    let servers = cluster.bootstrap_servers(Listener::Plain);
    let json = |record: &Record| InputRecord::of(record.json.clone()).partition(0);
    let inputs: Vec<_> = records.records.iter().map(json).collect();
    let mut daemons = [
        ("exactly_once", false),
        ("at_least_once", false),
        ("at_least_once", true),
    ]
    .map(|(mode, is_busy)| {
        let name = broker.unique_name("away");
        let topics = ["in", "out"].map(|part| format!("{name}-{part}"));
        broker.create_topics(&topics.each_ref().map(|topic| TopicSpec::new(topic, 1)));
        let folder = TempDir::new().unwrap();
        let delivery = format!("mode = \"{mode}\"\ntransaction_interval_ms = 7000");
        let mut served = start(folder.path(), &name, &servers, &delivery);
        served.wait_until_ready();
        (name, is_busy, served, folder)
    });
    for (name, is_busy, ..) in &daemons {
        if *is_busy {
            broker.produce(&format!("{name}-in"), &inputs);
        }
    }
    for id in BROKERS {
        cluster.kill(id);
    }
    for (_, is_busy, served, _) in &mut daemons {
        let told = wait_until_away(served);
        assert!(told.contains("Connection refused"), "{told}");
        served.0.wait_for_log("no broker is reachable", PATIENCE);
        if *is_busy {
            // The next session has no call that would fail: it only waits.
            served.0.wait_for_log("a new one starts", PATIENCE);
            std::thread::sleep(Duration::from_secs(5));
            wait_until_away(served);
        }
        assert!(served.0.is_running(), "{}", served.0.log());
    }
    cluster.heal();
    for (name, is_busy, served, _) in &mut daemons {
        let input = format!("{name}-in");
        if !*is_busy {
            broker.produce(&input, &inputs);
        }
        let group = format!("{name}-group");
        let done = poll_until(PATIENCE, || {
            let committed = broker.committed_offsets(&group, &input);
            (committed.get(&0) == Some(&20)).then_some(())
        });
        assert!(done.is_some(), "{}", served.0.log());
        served.wait_until_ready();
        assert_eq!(terminate(served), Some(0));
    }
}

/// The stream's thread hangs in a line of the log that nobody reads, as it would in a call that never returns.
#[test]
fn a_stream_that_stands_still_is_told_to_probes_and_counted_and_ends_the_process_with_one() {
    let setting = Setting::new("stall", 1, &Records::payments(1).bundle);
    let bad = || InputRecord::of("bad").partition(0);
    let inputs: Vec<_> = (0..2_000).map(|_| bad()).collect();
    setting.broker.produce(&setting.input, &inputs);
    let [port] = free_ports();
    let more = "[delivery]\nstall_timeout_ms = 45000\n";
    let config = setting.config("budget = 0.05", more);
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_maskwatch"))
        .args(["serve".as_ref(), "--config".as_ref(), config.as_os_str()])
        .env("MASKWATCH_LOG", "warn,maskwatch::delivery::session=debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _leash = Leash::on(child.id(), None);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let health = poll_until(PATIENCE, || {
        let (status, text) = http_get(&url("/healthz")).ok()?;
        (status == 503).then_some(text)
    });
    let (_, metrics) = http_get(&url("/metrics")).unwrap();
    let status = poll_until(PATIENCE, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
    }
    let health = health.expect("/healthz never failed");
    assert!(health.contains("the stream has been in"), "{health}");
    let stalls = metric(&metrics, "maskwatch_stream_stalls_total");
    assert_eq!(stalls, Some(1.0));
    assert_eq!(status.expect("still running").code(), Some(1));
    assert_eq!(setting.committed(), 0);
}
