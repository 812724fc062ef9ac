//! `[kafka] [input] [delivery] [batch] [alerts]`: what the user writes, checked into what the stream runs on.
//!
//! Raw sections (serde, unknown keys refused) flow in, one checked [`StreamConfig`] flows out, or every fault at once.
//! Only a checked value builds anything.
//!
//! A checked part stands in the leftmost room that reads it (`options` of `pipeline`, `delivery` and `kafka`), so that no
//! room needs this one. The raw sections and their checks stand here, right of all of them: a check may ask the client
//! library about a property, and nobody else needs what is not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::raw::{Format, RawAlerts, RawBatch, RawDelivery, RawInput, RawKafka, RawShare};
use crate::delivery::batcher::{BatchLimits, ROWS_MAX_LIMIT};
use crate::delivery::options::{DeliveryConfig, Mode, SessionOptions};
use crate::kafka::decoders::{InputConfig, InputFormat};
use crate::kafka::options::{KafkaConfig, OffsetPolicy};
use crate::kafka::properties::{Properties, resolve};
use crate::kafka::{Secret, faults_of_clients, faults_of_properties};
use crate::pipeline::RECORD_BYTES_MAX;
use crate::pipeline::options::{AlertsConfig, OutputTopics};
use crate::pipeline::types::Topic;
use crate::records::{ROOTS_MAX, RecordRoot};
use crate::schema::FieldPath;
use crate::score::{AlertBudget, DEFAULT_ALERT_BUDGET};
use crate::toml_file::KeyFault;

/// The consumer group unless configured otherwise.
pub const DEFAULT_GROUP_ID: &str = "maskwatch";
/// Outputs become visible at a commit, so half of this is added to the median latency. A commit takes 5 ms on a local broker
/// and more on a replicated one, to which each costs about ten requests: at 100 ms the stream spends most of its
/// time streaming, and Kafka Streams commits at the same interval when it runs exactly once.
pub const DEFAULT_TRANSACTION_INTERVAL_MS: u64 = 100;
/// Orchestrators kill 30 s after they asked to stop; a batch and a commit need well under a second.
pub const DEFAULT_DRAIN_TIMEOUT_MS: u64 = 10_000;
/// The stream's thread goes on to its next operation many times a second; its longest calls last as long as a transaction may
/// (15 s) or as the first answer of a coordinator (30 s). Four times the longest is no slow cluster any more.
pub const DEFAULT_STALL_TIMEOUT_MS: u64 = 120_000;
/// The longest call that does not depend on the configuration: the producer's introduction to its coordinator.
const LONGEST_CALL_MS: u64 = 30_000;
/// What a call may take beyond its time-out, and a slow machine beyond that.
const STALL_MARGIN_MS: u64 = 15_000;
/// A broker takes 1,048,588 bytes a record by default; this leaves room for key and headers.
pub const DEFAULT_DEAD_LETTER_BYTES_MAX: usize = 900_000;
/// Large enough that a batch keeps a core busy with few calls, small enough to be scored in some milliseconds.
pub const DEFAULT_ROWS_MAX: usize = 512;
/// An order below the transaction interval: waiting behind other batches then adds nothing that can be seen.
pub const DEFAULT_DEADLINE_MS: u64 = 10;
/// Reasons an alert unless configured otherwise: what fits on a screen.
pub const DEFAULT_REASONS_MAX: usize = 5;

/// Longest name Kafka takes for a topic.
const TOPIC_CHARACTERS_MAX: usize = 249;

/// Everything that the stream is configured by, checked.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Cluster, group and topics.
    pub kafka: KafkaConfig,
    /// Format of messages.
    pub input: InputConfig,
    /// Commits and dead letters.
    pub delivery: DeliveryConfig,
    /// Rows and deadline of a batch.
    pub batch: BatchLimits,
    /// Budget and reasons.
    pub alerts: AlertsConfig,
}

impl StreamConfig {
    /// The part that sessions run on.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions {
            delivery: self.delivery,
            batch: self.batch,
            outputs: self.kafka.outputs.clone(),
            instance: self.kafka.instance(),
            client: self.kafka.client_limits(),
        }
    }

    /// What shows only when clients are made of it: files that are not there, mechanisms that are not built in. Makes
    /// them without an address, so that nothing is connected to.
    pub fn client_faults(&self) -> Vec<KeyFault> {
        if self.kafka.is_embedded() {
            return Vec::new();
        }
        faults_of_clients(&self.kafka, self.delivery.mode)
    }
}

/// The raw sections together.
#[derive(Debug, Clone)]
pub struct RawStream {
    /// `[kafka]`.
    pub kafka: RawKafka,
    /// `[input]`.
    pub input: RawInput,
    /// `[delivery]`.
    pub delivery: RawDelivery,
    /// `[batch]`.
    pub batch: RawBatch,
    /// `[alerts]`.
    pub alerts: RawAlerts,
}

impl RawStream {
    /// Checks every section; resolves secrets; connects to nothing.
    ///
    /// # Errors
    /// Every fault, with section and key.
    pub fn check(self) -> Result<StreamConfig, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let kafka = check_kafka(self.kafka, &mut faults);
        let input = check_input(self.input, &mut faults);
        let mut delivery = check_delivery(&self.delivery, kafka.transaction_timeout(), &mut faults);
        if kafka.is_embedded() {
            // The in-process broker takes every call of a transaction and does nothing: promising more would be untrue.
            delivery.mode = Mode::AtLeastOnce;
        }
        let batch = check_batch(&self.batch, delivery.dead_letter_bytes_max, &mut faults);
        let alerts = check_alerts(&self.alerts, &mut faults);
        match (input, alerts) {
            (Some(input), Some(alerts)) if faults.is_empty() => Ok(StreamConfig {
                kafka,
                input,
                delivery,
                batch,
                alerts,
            }),
            _ => Err(faults),
        }
    }
}

fn check_kafka(raw: RawKafka, faults: &mut Vec<KeyFault>) -> KafkaConfig {
    if raw.bootstrap_servers.trim().is_empty() {
        faults.push(KeyFault::new(
            "kafka.bootstrap_servers",
            "is missing or empty, expected host:port,... or \"embedded\"",
        ));
    }
    let instance_id = match raw.instance_id.map_or_else(host_name, |id| resolve(&id)) {
        Ok(id) => id,
        Err(why) => {
            faults.push(KeyFault::new("kafka.instance_id", why));
            "unknown".to_owned()
        }
    };
    let group_id = raw.group_id.unwrap_or_else(|| DEFAULT_GROUP_ID.to_owned());
    for (key, value) in [
        ("kafka.group_id", &group_id),
        ("kafka.instance_id", &instance_id),
    ] {
        if !is_name(value) {
            faults.push(KeyFault::new(key, format!("\"{value}\": {NAME_EXPECTED}")));
        }
    }
    check_topics(&raw.input_topics, faults);
    let mut output = |key: &str, name: Option<String>| {
        let name = name?;
        let key = format!("kafka.{key}");
        if !is_name(&name) {
            faults.push(KeyFault::new(key, format!("\"{name}\": {NAME_EXPECTED}")));
        } else if raw.input_topics.contains(&name) {
            let why = format!("\"{name}\" is an input topic too: outputs would be read as inputs");
            faults.push(KeyFault::new(key, why));
        }
        Some(Topic::new(&name))
    };
    let outputs = OutputTopics {
        scores: output("scores_topic", raw.scores_topic),
        alerts: output("alerts_topic", raw.alerts_topic),
        dead_letters: output("dead_letter_topic", raw.dead_letter_topic),
    };
    let named: Vec<&Topic> = [&outputs.scores, &outputs.alerts, &outputs.dead_letters]
        .into_iter()
        .flatten()
        .collect();
    if named.iter().collect::<BTreeSet<_>>().len() < named.len() {
        let why = "scores, alerts and dead letters need topics of their own";
        faults.push(KeyFault::new("kafka.scores_topic", why));
    }
    let properties = Properties::check(raw.properties, faults);
    check_timeout(&properties, faults);
    let offset_absent = check_offset_reset(&properties, faults);
    check_with_library(&properties, faults);
    KafkaConfig {
        bootstrap_servers: raw.bootstrap_servers,
        group_id,
        instance_id,
        input_topics: raw.input_topics,
        outputs,
        offset_absent,
        offset_lost: raw.offset_lost.unwrap_or(offset_absent),
        properties,
    }
}

const NAME_EXPECTED: &str = "expected 1 to 249 of the characters a-z A-Z 0-9 . _ -";

fn is_name(text: &str) -> bool {
    (1..=TOPIC_CHARACTERS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_topics(topics: &[String], faults: &mut Vec<KeyFault>) {
    if topics.is_empty() {
        faults.push(KeyFault::new(
            "kafka.input_topics",
            "is missing or empty, expected at least one",
        ));
    }
    let mut seen = BTreeSet::new();
    for topic in topics {
        if !is_name(topic) {
            let why = format!("\"{topic}\": {NAME_EXPECTED}");
            faults.push(KeyFault::new("kafka.input_topics", why));
        }
        if !seen.insert(topic) {
            let why = format!("\"{topic}\" is named twice");
            faults.push(KeyFault::new("kafka.input_topics", why));
        }
    }
}

/// What librdkafka says of the properties that nothing else was said of.
fn check_with_library(properties: &Properties, faults: &mut Vec<KeyFault>) {
    for fault in faults_of_properties(properties) {
        if faults.iter().all(|known| known.key != fault.key) {
            faults.push(fault);
        }
    }
}

fn check_timeout(properties: &Properties, faults: &mut Vec<KeyFault>) {
    let key = "transaction.timeout.ms";
    let set = properties.get(key);
    if set.is_some_and(|text| {
        !text
            .parse::<u64>()
            .is_ok_and(|ms| (1_000..=900_000).contains(&ms))
    }) {
        let why = format!("\"{}\": expected 1000 to 900000", set.unwrap_or_default());
        faults.push(KeyFault::new(format!("kafka.properties.\"{key}\""), why));
    }
}

/// Where a group without offsets begins, by the client's own property.
fn check_offset_reset(properties: &Properties, faults: &mut Vec<KeyFault>) -> OffsetPolicy {
    let key = "auto.offset.reset";
    match properties.get(key) {
        None | Some("earliest" | "smallest" | "beginning") => OffsetPolicy::Earliest,
        Some("latest" | "largest" | "end") => OffsetPolicy::Latest,
        Some("error") => OffsetPolicy::Fail,
        Some(other) => {
            let why = format!("\"{other}\": expected \"earliest\", \"latest\" or \"error\"");
            faults.push(KeyFault::new(format!("kafka.properties.\"{key}\""), why));
            OffsetPolicy::Earliest
        }
    }
}

/// `None` stands for an input that cannot be; its faults are reported.
fn check_input(raw: RawInput, faults: &mut Vec<KeyFault>) -> Option<InputConfig> {
    let root = check_root(&raw.root, faults);
    let format = check_format(raw, faults)?;
    Some(InputConfig { format, root })
}

/// Every path must be one of names, and there may be no more than an envelope has places.
fn check_root(paths: &[String], faults: &mut Vec<KeyFault>) -> RecordRoot {
    let mut fault = |why: String| faults.push(KeyFault::new("input.root", why));
    if paths.len() > ROOTS_MAX {
        fault(format!(
            "{} paths: expected at most {ROOTS_MAX}",
            paths.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.split('.').any(str::is_empty) {
            let expected = "expected names with a dot between levels, such as \"payload.after\"";
            fault(format!("\"{path}\": {expected}"));
        } else if !seen.insert(path) {
            fault(format!("\"{path}\" is named twice"));
        }
    }
    let paths = paths.iter().map(|path| FieldPath::parse(path));
    RecordRoot::new(paths.collect())
}

fn check_format(raw: RawInput, faults: &mut Vec<KeyFault>) -> Option<InputFormat> {
    let mut resolved = |key: &str, value: Option<String>| {
        let resolved = value.map(|value| resolve(&value)).transpose();
        resolved.unwrap_or_else(|why| {
            faults.push(KeyFault::new(format!("input.{key}"), why));
            None
        })
    };
    let url = resolved("schema_registry_url", raw.schema_registry_url);
    let user = resolved("schema_registry_user", raw.schema_registry_user);
    let password = raw
        .schema_registry_password
        .map(|password| password.reveal().to_owned());
    let password = resolved("schema_registry_password", password);
    let files = check_schema_files(raw.schema_files, faults);
    let mut refuse = |key: &str, why: &str| {
        faults.push(KeyFault::new(format!("input.{key}"), why));
        None
    };
    if raw.format == Format::Json {
        if url.is_some() || !files.is_empty() {
            let why = "\"json\", but sources of Avro schemas are given: expected \"avro\"";
            return refuse("format", why);
        }
        return Some(InputFormat::Json);
    }
    let basic_auth = match (user, password) {
        (Some(user), Some(password)) => Some((user, Secret::new(password))),
        (None, None) => None,
        _ => {
            return refuse(
                "schema_registry_user",
                "expected user and password, or neither",
            );
        }
    };
    match (url, files.is_empty()) {
        (Some(url), true) => Some(InputFormat::AvroRegistry { url, basic_auth }),
        (None, false) => Some(InputFormat::AvroFiles(files)),
        (Some(_), false) | (None, true) => refuse(
            "format",
            "\"avro\": expected either schema_registry_url or schema_files",
        ),
    }
}

fn check_schema_files(
    raw: BTreeMap<String, PathBuf>,
    faults: &mut Vec<KeyFault>,
) -> BTreeMap<u32, PathBuf> {
    let mut files = BTreeMap::new();
    for (id, path) in raw {
        match id.parse() {
            Ok(id) => drop(files.insert(id, path)),
            Err(_) => {
                let why = format!("\"{id}\": expected a Confluent schema id, a whole number");
                faults.push(KeyFault::new("input.schema_files", why));
            }
        }
    }
    files
}

fn check_delivery(
    raw: &RawDelivery,
    transaction_timeout: Duration,
    faults: &mut Vec<KeyFault>,
) -> DeliveryConfig {
    let interval_ms = raw
        .transaction_interval_ms
        .unwrap_or(DEFAULT_TRANSACTION_INTERVAL_MS);
    // A commit must fit into what is left of the timeout once the interval is over.
    let interval_ms_max = u64::try_from(transaction_timeout.as_millis()).unwrap_or(u64::MAX) / 2;
    within(
        "delivery.transaction_interval_ms",
        interval_ms,
        1,
        interval_ms_max,
        faults,
    );
    let drain_ms = raw.drain_timeout_ms.unwrap_or(DEFAULT_DRAIN_TIMEOUT_MS);
    within("delivery.drain_timeout_ms", drain_ms, 1, 3_600_000, faults);
    let stall_timeout_ms = check_stall(raw.stall_timeout_ms, transaction_timeout, faults);
    let bytes_max = raw
        .dead_letter_bytes_max
        .unwrap_or(DEFAULT_DEAD_LETTER_BYTES_MAX);
    within(
        "delivery.dead_letter_bytes_max",
        bytes_max as u64,
        0,
        100_000_000,
        faults,
    );
    DeliveryConfig {
        mode: raw.mode,
        emit: raw.emit,
        transaction_interval: Duration::from_millis(interval_ms),
        drain_timeout: Duration::from_millis(drain_ms),
        stall_timeout: Duration::from_millis(stall_timeout_ms),
        dead_letter_bytes_max: bytes_max,
        tombstones: raw.tombstones,
    }
}

/// Milliseconds that the stream may stand still: longer than the longest call may take.
fn check_stall(raw: Option<u64>, transaction_timeout: Duration, faults: &mut Vec<KeyFault>) -> u64 {
    let transaction_ms = u64::try_from(transaction_timeout.as_millis()).unwrap_or(u64::MAX);
    let low = LONGEST_CALL_MS
        .max(transaction_ms)
        .saturating_add(STALL_MARGIN_MS);
    let stall_ms = raw.unwrap_or_else(|| DEFAULT_STALL_TIMEOUT_MS.max(low));
    within(
        "delivery.stall_timeout_ms",
        stall_ms,
        low,
        3_600_000,
        faults,
    );
    stall_ms
}

fn check_batch(
    raw: &RawBatch,
    dead_letter_bytes_max: usize,
    faults: &mut Vec<KeyFault>,
) -> BatchLimits {
    let rows_max = raw.rows_max.unwrap_or(DEFAULT_ROWS_MAX);
    within(
        "batch.rows_max",
        rows_max as u64,
        1,
        ROWS_MAX_LIMIT as u64,
        faults,
    );
    let deadline_ms = raw.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS);
    within("batch.deadline_ms", deadline_ms, 0, 60_000, faults);
    BatchLimits {
        rows_max,
        deadline: Duration::from_millis(deadline_ms),
        // One byte more than is decoded, so that a longer payload shows as one that is too long.
        payload_bytes_max: dead_letter_bytes_max.max(RECORD_BYTES_MAX + 1),
    }
}

impl RawAlerts {
    /// The section if nothing is wrong with it, whatever is wrong with others.
    pub fn sound(&self) -> Option<AlertsConfig> {
        let mut faults = Vec::new();
        check_alerts(self, &mut faults).filter(|_| faults.is_empty())
    }
}

/// `None` stands for a budget that cannot be; its fault is reported.
fn check_alerts(raw: &RawAlerts, faults: &mut Vec<KeyFault>) -> Option<AlertsConfig> {
    let budget = match &raw.budget {
        None => AlertBudget::new(DEFAULT_ALERT_BUDGET),
        Some(RawShare::Number(share)) => AlertBudget::new(*share),
        Some(RawShare::Text(text)) => AlertBudget::from_text(text),
    };
    let budget = budget.map_err(|why| {
        faults.push(KeyFault::new("alerts.budget", why));
    });
    if raw.budget_by.as_deref() == Some("") {
        let why = "is empty, expected the name of a categorical or boolean feature";
        faults.push(KeyFault::new("alerts.budget_by", why));
    }
    let reasons_max = raw.reasons_max.unwrap_or(DEFAULT_REASONS_MAX);
    within("alerts.reasons_max", reasons_max as u64, 1, 100, faults);
    Some(AlertsConfig {
        budget: budget.ok()?,
        budget_by: raw.budget_by.clone(),
        reasons: raw.reasons,
        reasons_max,
        allow_unattainable_budget: raw.allow_unattainable_budget,
    })
}

fn within(key: &str, value: u64, low: u64, high: u64, faults: &mut Vec<KeyFault>) {
    if !(low..=high).contains(&value) {
        faults.push(KeyFault::new(
            key,
            format!("{value}: expected {low} to {high}"),
        ));
    }
}

/// The machine's name, from the kernel.
fn host_name() -> Result<String, String> {
    let path = "/proc/sys/kernel/hostname";
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("is not set, and {path} cannot be read: {error}"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
