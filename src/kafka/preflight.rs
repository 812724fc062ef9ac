//! What librdkafka says of the clients' configuration before there is any contact with a cluster.
//!
//! Client properties flow in, faults flow out: a name that it does not know, a value that it does not take, a file that
//! is not there, a mechanism that it was built without. The invariant: nothing is connected to, as the clients that are made
//! here have no address of a broker.

use std::path::Path;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaConfRes;

use super::client;
use super::property_names::NAMES;
use super::tokens::Tokens;
use crate::delivery::options::Mode;
use crate::delivery::refusal::SendOptions;
use crate::kafka::oauth;
use crate::kafka::options::KafkaConfig;
use crate::kafka::properties::{Properties, property_fault};
use crate::toml_file::{KeyFault, nearest};

/// Properties that name a file which librdkafka reads when a client is made; folders are good for authorities.
const FILES: [(&str, bool); 6] = [
    ("ssl.ca.location", true),
    ("ssl.certificate.location", false),
    ("ssl.key.location", false),
    ("ssl.crl.location", false),
    ("ssl.keystore.location", false),
    (oauth::CA_FILE, false),
];

/// A value of `ssl.ca.location` that is no path: the usual places are tried.
const PROBE: &str = "probe";

/// The mechanisms of SASL that the library is built with.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// Faults of names and values, each property by itself, and of where OAUTHBEARER has its tokens from.
pub fn faults_of_properties(properties: &Properties) -> Vec<KeyFault> {
    let ours = |key: &str| oauth::OURS.contains(&key);
    let theirs = properties.iter().filter(|(key, _)| !ours(key));
    let mut faults: Vec<KeyFault> = theirs
        .filter_map(|(key, value)| fault_of_property(key, value, properties))
        .collect();
    for key in ["sasl.mechanism", "sasl.mechanisms"] {
        if let Some(given) = properties.get(key)
            && !MECHANISMS.contains(&given)
        {
            let list = MECHANISMS.join(", ");
            let why = format!("\"{given}\" is not supported, expected one of {list}");
            faults.push(property_fault(key, why));
        }
    }
    faults.extend(oauth::token_settings(properties).err().unwrap_or_default());
    faults
}

/// What librdkafka says of the property `key`, under the name that the user wrote: it calls an alias such as `linger.ms` by
/// the name that it stands for, `queue.buffering.max.ms`.
pub fn in_words_of(key: &str, why: &str) -> String {
    if why.contains(&format!("\"{key}\"")) {
        return why.to_owned();
    }
    NAMES.iter().fold(why.to_owned(), |why, name| {
        why.replace(&format!("\"{name}\""), &format!("\"{key}\""))
    })
}

fn fault_of_property(key: &str, value: &str, properties: &Properties) -> Option<KeyFault> {
    let mut alone = ClientConfig::new();
    alone.set(key, value);
    let error = alone.create_native_config().err()?;
    let KafkaError::ClientConfig(kind, why, ..) = error else {
        return Some(property_fault(key, properties.blot(&error.to_string())));
    };
    if kind != RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let why = properties.blot(&in_words_of(key, &why));
        return Some(property_fault(key, why));
    }
    let known = NAMES.iter().chain(&oauth::OURS).copied();
    let meant =
        nearest(key, known).map_or(String::new(), |name| format!(", did you mean \"{name}\"?"));
    let why = format!("librdkafka has no such property{meant}");
    Some(property_fault(key, why))
}

/// Faults that show only when clients are made: files, mechanisms, values that do not fit each other. Makes a consumer and
/// a producer without an address, and drops them.
pub fn faults_of_clients(kafka: &KafkaConfig, mode: Mode) -> Vec<KeyFault> {
    let mut faults = faults_of_files(&kafka.properties);
    if !faults.is_empty() {
        return faults;
    }
    if let Ok(Some(settings)) = oauth::token_settings(&kafka.properties)
        && let Err(why) = Tokens::check(&settings)
    {
        faults.push(property_fault(oauth::CA_FILE, why));
    }
    let options = SendOptions {
        alone: false,
        batch_bytes_max: None,
    };
    let id = (mode == Mode::ExactlyOnce).then(|| kafka.transactional_id());
    let consumer = client::consumer(kafka, "");
    let producer = client::producer(kafka, "", options, id.as_deref());
    let properties = &kafka.properties;
    faults.extend(fault_of_client::<BaseConsumer<Silent>>(
        consumer, properties,
    ));
    faults.extend(fault_of_client::<BaseProducer<Silent>>(
        producer, properties,
    ));
    // What both say is said once.
    faults.dedup();
    faults
}

fn fault_of_client<C: FromClientConfigAndContext<Silent>>(
    mut config: ClientConfig,
    properties: &Properties,
) -> Option<KeyFault> {
    config.remove("bootstrap.servers");
    let made: Result<C, KafkaError> = config.create_with_context(Silent);
    let why = match made.err()? {
        // Its own text quotes the value, which may be a secret.
        KafkaError::ClientConfig(_, why, key, _) => {
            let why = properties.blot(&in_words_of(&key, &why));
            return Some(property_fault(&key, why));
        }
        KafkaError::ClientCreation(why) => properties.blot(&why),
        other => properties.blot(&other.to_string()),
    };
    // "`ssl.keystore.password` is mandatory ...", "ssl.key.location failed: ...": the property that is meant comes first.
    let first = why.trim_start_matches('`');
    let named = NAMES.iter().filter(|name| first.starts_with(**name));
    Some(match named.max_by_key(|name| name.len()) {
        Some(name) => property_fault(name, why),
        None => KeyFault::new("kafka.properties", why),
    })
}

fn faults_of_files(properties: &Properties) -> Vec<KeyFault> {
    let named = FILES.iter().filter_map(|(key, folder_is_good)| {
        let path = properties
            .get(key)
            .filter(|path| !path.is_empty() && *path != PROBE)?;
        let why = fault_of_file(Path::new(path), *folder_is_good)?;
        Some(property_fault(key, format!("file {path}: {why}")))
    });
    named.collect()
}

fn fault_of_file(path: &Path, folder_is_good: bool) -> Option<String> {
    match path.metadata() {
        Err(error) => Some(error.to_string()),
        Ok(metadata) if metadata.is_dir() && folder_is_good => None,
        // A pipe would be waited for without end.
        Ok(metadata) if !metadata.is_file() => Some("expected a regular file".to_owned()),
        Ok(_) => std::fs::File::open(path)
            .err()
            .map(|error| error.to_string()),
    }
}

/// Callbacks that say nothing: what goes wrong comes back as an error.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::kafka::options::OffsetPolicy;
    use crate::kafka::properties::RawProperty;
    use crate::pipeline::options::OutputTopics;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        let raw = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), RawProperty::Text((*value).to_owned())));
        Properties::check(raw.collect(), &mut Vec::new())
    }

    fn of_properties(pairs: &[(&str, &str)]) -> Vec<String> {
        let faults = faults_of_properties(&properties(pairs));
        faults.iter().map(ToString::to_string).collect()
    }

    fn kafka(servers: &str, pairs: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: servers.to_owned(),
            group_id: "g".to_owned(),
            instance_id: "i".to_owned(),
            input_topics: vec!["in".to_owned()],
            outputs: OutputTopics::default(),
            offset_absent: OffsetPolicy::Earliest,
            offset_lost: OffsetPolicy::Earliest,
            properties: properties(pairs),
        }
    }

    fn of_clients(pairs: &[(&str, &str)]) -> Vec<String> {
        let faults = faults_of_clients(&kafka("127.0.0.1:1", pairs), Mode::ExactlyOnce);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_name_that_is_suggested_is_one_that_librdkafka_knows() {
        for name in NAMES {
            let faults = of_properties(&[(name, "no value of any property")]);
            let unknown = faults
                .iter()
                .any(|fault| fault.contains("no such property"));
            assert!(!unknown, "{name}: {faults:?}");
        }
    }

    #[test]
    fn names_and_values_are_told_together_and_the_name_that_was_meant() {
        let faults = of_properties(&[
            ("sesion.timeout.ms", "6000"),
            ("linger.ms", "soon"),
            ("fetch.max.bytes", "-1"),
            ("compression.type", "zip"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("sasl.oauthbearer.client.secrte", "hunter2"),
            ("sasl.passwort", "hunter2"),
        ]);
        for part in [
            "\"sesion.timeout.ms\": librdkafka has no such property, did you mean \"session.timeout.ms\"?",
            "\"fetch.max.bytes\": ",
            "\"compression.type\": ",
            "did you mean \"sasl.oauthbearer.client.secret\"?",
            "did you mean \"sasl.password\"?",
        ] {
            assert!(
                faults.iter().any(|fault| fault.contains(part)),
                "{part}: {faults:#?}"
            );
        }
        assert_eq!(faults.len(), 6, "{faults:#?}");
        assert!(
            !faults.iter().any(|fault| fault.contains("hunter2")),
            "{faults:?}"
        );
    }

    #[test]
    fn a_bad_value_is_told_under_the_name_that_was_written() {
        for (alias, name) in [
            ("linger.ms", "queue.buffering.max.ms"),
            ("compression.type", "compression.codec"),
            ("retries", "message.send.max.retries"),
            ("delivery.timeout.ms", "message.timeout.ms"),
        ] {
            let faults = of_properties(&[(alias, "soon")]);
            assert_eq!(faults.len(), 1, "{alias}: {faults:?}");
            assert!(
                faults[0].contains(alias) && !faults[0].contains(name),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_is_none_of_its_kind_is_named_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let junk = folder.path().join("junk.pem");
        std::fs::write(&junk, "no certificate").unwrap();
        let junk = junk.to_str().unwrap();
        let ssl = ("security.protocol", "SSL");
        for key in [
            "ssl.ca.location",
            "ssl.key.location",
            "ssl.certificate.location",
        ] {
            let faults = of_clients(&[ssl, (key, "/no/such/file.pem")]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            for part in [key, "/no/such/file.pem", "No such file"] {
                assert!(faults[0].contains(part), "{part}: {faults:?}");
            }
            let faults = of_clients(&[ssl, (key, junk)]);
            assert!(
                !faults.is_empty() && faults[0].contains(key),
                "{key}: {faults:?}"
            );
        }
        let folder = folder.path().to_str().unwrap();
        let faults = of_clients(&[ssl, ("ssl.key.location", folder)]);
        assert!(faults[0].contains("regular file"), "{faults:?}");
    }

    #[test]
    fn a_mechanism_that_is_not_built_in_is_told_with_those_that_are() {
        let sasl = ("security.protocol", "SASL_PLAINTEXT");
        for mechanism in ["GSSAPI", "SCRAM-SHA-1024", "plain", "AWS_MSK_IAM"] {
            let faults = of_properties(&[sasl, ("sasl.mechanism", mechanism)]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].contains(mechanism) && faults[0].contains("SCRAM-SHA-512"),
                "{faults:?}"
            );
        }
        // What is supported is built in: a client can be made.
        let login = [("sasl.username", "u"), ("sasl.password", "p")];
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let pairs = [&[sasl, ("sasl.mechanism", mechanism)][..], &login].concat();
            assert_eq!(of_properties(&pairs), Vec::<String>::new());
            assert_eq!(of_clients(&pairs), Vec::<String>::new());
        }
        let oidc = [
            sasl,
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "http://127.0.0.1:1/token",
            ),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
        ];
        assert_eq!(of_properties(&oidc), Vec::<String>::new());
        assert_eq!(of_clients(&oidc), Vec::<String>::new());
        let ca = [&oidc[..], &[("https.ca.location", "/no/such/ca.pem")]].concat();
        let faults = of_clients(&ca);
        assert!(faults[0].contains("/no/such/ca.pem"), "{faults:?}");
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_told() {
        let faults = of_clients(&[
            ("session.timeout.ms", "900000"),
            ("max.poll.interval.ms", "6000"),
        ]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("max.poll.interval.ms"), "{faults:?}");
        assert_eq!(of_clients(&[]), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let servers = listener.local_addr().unwrap().to_string();
        assert!(faults_of_clients(&kafka(&servers, &[]), Mode::ExactlyOnce).is_empty());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            assert!(listener.accept().is_err(), "somebody connected");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
