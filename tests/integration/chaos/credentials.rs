//! How the daemon comes in: SCRAM and client certificates, the right ones and wrong ones.
//!
//! The right ones score; with wrong ones the daemon ends and says what the cluster says.

use super::arena::{Arena, PARTITIONS, PATIENCE, Setup};
use crate::serve::material::Records;
use crate::serve::setting::score_of;
use maskwatch_testing::certificates::CLIENT_NAME;
use maskwatch_testing::kafka_cluster::{Listener, SCRAM_PASSWORD, SCRAM_USER};
use maskwatch_testing::kafka_topics::InputRecord;
use maskwatch_testing::kafka_wire::Resource;
use serde_json::Value;
use std::path::PathBuf;

const RECORDS: usize = 120;

type Properties = Vec<(&'static str, String)>;

fn scram(mechanism: &str, password: &str) -> Properties {
    vec![
        ("sasl.mechanism", mechanism.to_owned()),
        ("sasl.username", SCRAM_USER.to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

fn trusting(authority: PathBuf) -> Properties {
    vec![("ssl.ca.location", authority.display().to_string())]
}

fn certified(files: [PathBuf; 2]) -> Properties {
    let [certificate, key] = files.map(|file| file.display().to_string());
    vec![
        ("ssl.certificate.location", certificate),
        ("ssl.key.location", key),
    ]
}

fn setup(listener: Listener, properties: impl IntoIterator<Item = Properties>) -> Setup {
    Setup {
        listener,
        properties: properties.into_iter().flatten().collect(),
        ..Setup::default()
    }
}

#[test]
fn with_the_right_credentials_every_record_is_scored_over_scram_tls_and_client_certificates() {
    let records = Records::payments(RECORDS);
    let arena = Arena::new("credentials");
    let certificates = arena.cluster.certificates();
    let authority = || trusting(certificates.authority_file());
    let ways = [
        setup(
            Listener::ScramPlain,
            [scram("SCRAM-SHA-256", SCRAM_PASSWORD)],
        ),
        setup(
            Listener::ScramTls,
            [scram("SCRAM-SHA-512", SCRAM_PASSWORD), authority()],
        ),
        setup(
            Listener::MutualTls,
            [certified(certificates.client_files()), authority()],
        ),
    ];
    let portion = RECORDS / ways.len();
    for (number, way) in ways.iter().enumerate() {
        let (from, to) = (number * portion, (number + 1) * portion);
        produce(&arena, &records, from, to);
        let mut daemon = arena.start("a", way);
        arena.wait_for(&mut daemon, to);
        daemon.terminate();
        assert_eq!(daemon.wait(PATIENCE).code(), Some(0), "{}", daemon.log());
    }
    let outputs = arena.read(&arena.scores);
    let mut numbers: Vec<usize> = outputs
        .iter()
        .map(|output| {
            let envelope: Value = serde_json::from_str(output.text()).unwrap();
            let [partition, offset] =
                ["partition", "offset"].map(|key| envelope[key].as_u64().unwrap() as usize);
            let number = offset * PARTITIONS as usize + partition;
            assert_eq!(score_of(&envelope), records.records[number].anomaly_score);
            number
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
}

fn produce(arena: &Arena, records: &Records, from: usize, to: usize) {
    let partitions = PARTITIONS as usize;
    let inputs: Vec<_> = (from..to)
        .map(|number| {
            InputRecord::of(records.records[number].json.clone())
                .partition((number % partitions) as i32)
        })
        .collect();
    arena.clients.produce(&arena.input, &inputs);
}

#[test]
fn wrong_credentials_of_any_kind_end_the_daemon_with_one_and_the_clusters_words() {
    let arena = Arena::new("refused");
    let certificates = arena.cluster.certificates();
    let authority = || trusting(certificates.authority_file());
    let own = || certified(certificates.client_files());
    let password = || scram("SCRAM-SHA-256", "a wrong password");
    let acknowledged = Setup {
        sections: "[delivery]\nmode = \"at_least_once\"\n",
        ..setup(Listener::ScramPlain, [password()])
    };
    let (scram, tls) = (Listener::ScramPlain, Listener::MutualTls);
    let stranger = certified(certificates.stranger_files());
    let mistaken = trusting(certificates.stranger_authority_file());
    // The name of each is that of its instance.
    let ways = [
        ("password", setup(scram, [password()]), "authentication"),
        ("acknowledged", acknowledged, "authentication"),
        ("nobody", setup(tls, [authority()]), "certificate"),
        (
            "stranger",
            setup(tls, [authority(), stranger]),
            "certificate",
        ),
        ("mistaken", setup(tls, [own(), mistaken]), "certificate"),
        ("denied", setup(tls, [own(), authority()]), "authorization"),
    ];
    let id = arena.transactional_id("denied");
    let principal = format!("User:CN={CLIENT_NAME}");
    let denied = (Resource::TransactionalId, id.as_str());
    arena.cluster.deny_writing(&principal, denied);
    // All at once, as each only waits.
    let daemons = ways.map(|(name, way, word)| (name, arena.start(name, &way), word));
    for (name, mut daemon, word) in daemons {
        let status = daemon.wait(PATIENCE);
        let log = daemon.log();
        assert_eq!(status.code(), Some(1), "{name}: {log}");
        let said = log.lines().last().unwrap_or_default();
        assert!(
            said.starts_with("maskwatch: error: ") && said.to_lowercase().contains(word),
            "{name}: no {word:?} in {said:?}: {log}"
        );
    }
}
