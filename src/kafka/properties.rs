//! Client properties that the user passes through to librdkafka: secrets resolved, delivery kept safe, values hidden.
//!
//! Text from `[kafka.properties]` flows in, a checked [`Properties`] flows out. The invariants: a property on which
//! delivery depends cannot be set, and no value that may be secret is ever printed.
//!
//! A value that is, as a whole, `${env:NAME}` or `${file:PATH}` is replaced by the variable's value or the file's text
//! (one trailing line break removed). Anything else is taken as it is written, so that a password may hold any character.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use crate::toml_file::KeyFault;
use serde::Deserialize;

/// Bytes of a file that a `${file:...}` reference may name: certificates and keys have a few thousand.
const SECRET_FILE_BYTES_MAX: u64 = 1 << 20;

/// What is printed instead of a value that may be secret.
const MASK: &str = "***";

/// Properties on which delivery depends, each with what to do instead.
const RESERVED: [(&str, &str); 20] = [
    ("bootstrap.servers", "set kafka.bootstrap_servers"),
    ("metadata.broker.list", "set kafka.bootstrap_servers"),
    ("group.id", "set kafka.group_id"),
    ("group.instance.id", "set kafka.instance_id"),
    ("transactional.id", "it is {group_id}.{instance_id}"),
    (
        "group.protocol",
        "the classic protocol is the one that the drain before a revocation needs",
    ),
    (
        "enable.auto.commit",
        "offsets are committed with the outputs",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed with the outputs",
    ),
    (
        "auto.commit.interval.ms",
        "set delivery.transaction_interval_ms",
    ),
    ("isolation.level", "input is read with read_committed"),
    (
        "enable.idempotence",
        "outputs are never reordered or doubled by a retry",
    ),
    (
        "enable.gapless.guarantee",
        "outputs are never reordered or doubled by a retry",
    ),
    (
        "acks",
        "every output is acknowledged by all in-sync replicas",
    ),
    (
        "request.required.acks",
        "every output is acknowledged by all in-sync replicas",
    ),
    (
        "enable.partition.eof",
        "the end of a partition is no event here",
    ),
    (
        "delivery.report.only.error",
        "successes are known from the flush",
    ),
    (
        "statistics.interval.ms",
        "the consumer lag is measured at a fixed interval",
    ),
    (
        "batch.num.messages",
        "it is lowered to find an output that the broker refuses",
    ),
    (
        "test.mock.num.brokers",
        "set kafka.bootstrap_servers = \"embedded\"",
    ),
    ("plugin.library.paths", "foreign code is not loaded"),
];

/// Assignors that move partitions one by one: the drain before a revocation relies on the eager ones.
const COOPERATIVE_ASSIGNOR: &str = "cooperative-sticky";

/// A property's value as TOML may write it.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum RawProperty {
    /// As in `"sasl.mechanism" = "PLAIN"`.
    Text(String),
    /// As in `"session.timeout.ms" = 6000`.
    Integer(i64),
    /// As in `"socket.keepalive.enable" = true`.
    Boolean(bool),
}

impl fmt::Debug for RawProperty {
    /// Prints no value: what is still raw may be a secret under any key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl RawProperty {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
        }
    }
}

/// Checked client properties. `Debug` hides every value that may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Resolves references and refuses what delivery depends on; `faults` gets every fault with its key.
    pub fn check(raw: BTreeMap<String, RawProperty>, faults: &mut Vec<KeyFault>) -> Self {
        let mut checked = BTreeMap::new();
        for (key, value) in raw {
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == key) {
                faults.push(property_fault(&key, format!("cannot be set: {instead}")));
                continue;
            }
            match resolve(&value.into_text()) {
                Err(why) => faults.push(property_fault(&key, why)),
                Ok(value)
                    if key == "partition.assignment.strategy"
                        && value.contains(COOPERATIVE_ASSIGNOR) =>
                {
                    faults.push(property_fault(
                        &key,
                        format!("\"{COOPERATIVE_ASSIGNOR}\" is not supported, expected \"range\" or \"roundrobin\""),
                    ));
                }
                Ok(value) => {
                    checked.insert(key, value);
                }
            }
        }
        Self(checked)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, secrets included: for the client only.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// `text` with every value that may be secret blotted out: for messages of the client, which quote what they refuse.
    pub fn blot(&self, text: &str) -> String {
        let secrets = self.0.iter().filter(|(key, _)| is_secret(key));
        blot(text, secrets.map(|(_, value)| value.as_str()))
    }
}

/// The fault `why` of a property.
pub fn property_fault(key: &str, why: impl Into<String>) -> KeyFault {
    KeyFault::new(format!("kafka.properties.\"{key}\""), why)
}

/// `text` with every one of `secrets` blotted out. The longest goes first: one that begins with another is hidden whole.
pub fn blot<'a>(text: &str, secrets: impl Iterator<Item = &'a str>) -> String {
    let mut secrets: Vec<&str> = secrets.filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut blotted = text.to_owned();
    for secret in secrets {
        blotted = blotted.replace(secret, MASK);
    }
    blotted
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible = self.0.iter().map(|(key, value)| {
            (
                key.as_str(),
                if is_secret(key) { MASK } else { value.as_str() },
            )
        });
        f.debug_map().entries(visible).finish()
    }
}

/// Whether the value of `key` may be secret. Wide on purpose: a harmless value hidden costs nothing.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let harmless = [
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.grant.type",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
    ];
    let words = [
        "password",
        "secret",
        "token",
        "username",
        "credential",
        "jaas",
    ];
    !harmless.contains(&key.as_str())
        && (key.starts_with("sasl.")
            || key.starts_with("ssl.key")
            || words.iter().any(|word| key.contains(word)))
}

/// The text that a value stands for.
///
/// # Errors
/// A sentence on the variable or file that cannot be read. It holds no value.
pub fn resolve(value: &str) -> Result<String, String> {
    let Some(reference) = value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
    else {
        return Ok(value.to_owned());
    };
    match reference.split_once(':') {
        Some(("env", name)) => std::env::var(name)
            .map_err(|_| format!("environment variable {name} is not set, or is not UTF-8")),
        Some(("file", path)) => read_secret(path),
        _ => Err("expected ${env:NAME} or ${file:PATH}".to_owned()),
    }
}

/// The text of a regular file. What `path` is, is asked before it is opened and again of what was opened: a pipe would be
/// waited for without end, and a device may give bytes without end.
fn read_secret(path: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("file {path}: {error}");
    let check = |metadata: std::fs::Metadata| match (metadata.is_file(), metadata.len()) {
        (false, _) => Err(format!("file {path}: expected a regular file")),
        (true, bytes) if bytes > SECRET_FILE_BYTES_MAX => Err(format!(
            "file {path}: {bytes} bytes, the limit is {SECRET_FILE_BYTES_MAX}"
        )),
        (true, _) => Ok(()),
    };
    check(std::fs::metadata(path).map_err(unreadable)?)?;
    let file = std::fs::File::open(path).map_err(unreadable)?;
    check(file.metadata().map_err(unreadable)?)?;
    let mut text = String::new();
    // A file that grows meanwhile, or one of /proc without a length, is bounded too.
    let read = file
        .take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if read as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!(
            "file {path}: longer than {SECRET_FILE_BYTES_MAX} bytes, which is the limit"
        ));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn check(pairs: &[(&str, &str)]) -> (Properties, Vec<String>) {
        let raw = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), RawProperty::Text((*value).to_owned())))
            .collect();
        let mut faults = Vec::new();
        let properties = Properties::check(raw, &mut faults);
        (properties, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_delivery_depends_on_is_refused_with_the_key_to_use() {
        let (properties, faults) = check(&[("group.id", "g"), ("acks", "0"), ("linger.ms", "7")]);
        assert_eq!(properties.get("linger.ms"), Some("7"));
        assert_eq!(properties.get("group.id"), None);
        assert_eq!(faults.len(), 2);
        assert!(
            faults
                .iter()
                .any(|f| f.contains("\"group.id\"") && f.contains("kafka.group_id"))
        );
    }

    #[test]
    fn no_secret_is_printed() {
        let secret = "hunter2";
        for key in [
            "sasl.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "x.token",
        ] {
            let (properties, _) = check(&[(key, secret), ("security.protocol", "SASL_SSL")]);
            let shown = format!("{properties:?}");
            assert!(!shown.contains(secret), "{shown}");
            assert!(shown.contains("SASL_SSL"), "{shown}");
            assert_eq!(properties.get(key), Some(secret));
            assert_eq!(
                properties.blot("bad value hunter2 here"),
                "bad value *** here"
            );
        }
        assert_eq!(format!("{:?}", RawProperty::Text(secret.to_owned())), MASK);
    }

    #[test]
    fn a_reference_is_replaced_as_a_whole_value_only() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from a file\n").unwrap();
        let reference = format!("${{file:{}}}", file.path().display());
        assert_eq!(resolve(&reference).unwrap(), "from a file");
        assert_eq!(
            resolve("${env:PATH}").unwrap(),
            std::env::var("PATH").unwrap()
        );
        assert_eq!(resolve("pa${ss").unwrap(), "pa${ss");
        let missing = resolve("${env:MASKWATCH_NOT_SET_ANYWHERE}").unwrap_err();
        assert!(missing.contains("MASKWATCH_NOT_SET_ANYWHERE"), "{missing}");
        assert!(resolve("${vault:x}").is_err());
        assert!(
            resolve("${file:/does/not/exist}")
                .unwrap_err()
                .contains("/does/not/exist")
        );
    }

    #[test]
    fn a_secret_that_begins_with_another_is_hidden_whole() {
        let (properties, _) = check(&[
            ("sasl.password", "tiger"),
            ("ssl.key.password", "tiger-and-lion"),
            ("sasl.username", "tig"),
        ]);
        assert_eq!(
            properties.blot("tiger-and-lion, tiger, tig"),
            "***, ***, ***"
        );
    }

    #[test]
    fn a_secret_file_is_regular_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &std::path::Path| {
            let reference = format!("${{file:{}}}", path.display());
            let why = resolve(&reference).unwrap_err();
            assert!(why.contains(&path.display().to_string()), "{why}");
            why
        };
        // Nobody writes to it: whoever opens it waits.
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [fifo.as_path(), folder.path(), "/dev/zero".as_ref()] {
            assert!(refused(path).contains("expected a regular file"));
        }
        let long = folder.path().join("long");
        std::fs::write(&long, vec![b'x'; SECRET_FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(refused(&long).contains("the limit is 1048576"));
        let fits = folder.path().join("fits");
        std::fs::write(&fits, vec![b'x'; SECRET_FILE_BYTES_MAX as usize]).unwrap();
        let reference = format!("${{file:{}}}", fits.display());
        assert_eq!(
            resolve(&reference).unwrap().len(),
            SECRET_FILE_BYTES_MAX as usize
        );
    }

    #[test]
    fn a_cooperative_assignor_is_refused() {
        let (_, faults) = check(&[("partition.assignment.strategy", "range,cooperative-sticky")]);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
