//! What the cluster says of the output topics before anything is sent to them: whether they are there, whether this client
//! may see them, how large a record each takes, and whether it is compacted.
//!
//! The configuration flows in; limits flow out, or a fault that names the topics. Where the cluster does not answer, or does
//! not allow to read settings, nothing is known and the stream goes on: it learns from refusals then. Every question has a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, info, warn};

use super::client;
use super::faults::Faults;
use super::tokens::Tokens;
use super::troubles::Troubles;
use crate::delivery::fault::DeliveryFault;
use crate::delivery::refusal::TopicLimits;
use crate::kafka::options::KafkaConfig;
use crate::pipeline::types::Topic;
use crate::telemetry::heartbeat::Operation;

/// How long the questions take at most: topics that appear late, and an answer a question.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// What is being done, in messages.
const OPERATION: &str = Operation::LookUpOutputs.as_str();
/// How long a topic may take to appear: a cluster that makes topics at their first use needs a moment.
const APPEARS_WITHIN: Duration = Duration::from_secs(3);
/// Between two questions about a topic that is not there.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the cluster may take to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a dead letter beside its payload, in general: key, headers, and those that say why.
const DEAD_LETTER_OVERHEAD: usize = 4 << 10;
/// A topic that takes less than this takes hardly an envelope with its reasons.
const ENVELOPE_BYTES: usize = 16 << 10;

/// The callbacks of the client that asks.
struct AskContext {
    troubles: Arc<Troubles>,
}

impl ClientContext for AskContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.troubles.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.error("look-up", &error, reason);
    }
}

/// An output topic and the key that names it.
#[derive(Debug, Clone)]
struct Output {
    key: &'static str,
    topic: Topic,
    /// Bytes of an output below which it is worth a warning that the topic takes no more.
    bytes_expected: usize,
    /// What the cluster said of it last.
    known: Option<TopicLimits>,
}

/// The output topics, and what is known of them.
#[derive(Debug, Clone)]
pub struct OutputTopicsSeen {
    outputs: Vec<Output>,
    limits: Vec<(Topic, TopicLimits)>,
    /// Bytes of an output that the client itself takes.
    client_bytes_max: usize,
}

impl OutputTopicsSeen {
    /// The output topics of `config`, and how much of a bad payload is kept; nothing is asked yet.
    pub fn new(config: &KafkaConfig, dead_letter_bytes_max: usize) -> Self {
        let topics = &config.outputs;
        let letter = dead_letter_bytes_max + DEAD_LETTER_OVERHEAD;
        let outputs = [
            ("kafka.scores_topic", &topics.scores, ENVELOPE_BYTES),
            ("kafka.alerts_topic", &topics.alerts, ENVELOPE_BYTES),
            ("kafka.dead_letter_topic", &topics.dead_letters, letter),
        ];
        let outputs: Vec<_> = outputs
            .into_iter()
            .filter_map(|(key, topic, bytes_expected)| {
                Some(Output {
                    key,
                    topic: topic.clone()?,
                    bytes_expected,
                    known: None,
                })
            })
            .collect();
        Self {
            outputs,
            limits: Vec::new(),
            client_bytes_max: config.output_bytes_max(),
        }
    }

    /// What the topics take, by the last answer.
    pub fn limits(&self) -> &[(Topic, TopicLimits)] {
        &self.limits
    }

    /// The smallest limit of any topic, in bytes.
    pub fn bytes_max(&self) -> Option<usize> {
        self.limits
            .iter()
            .filter_map(|(_, limits)| limits.bytes_max)
            .min()
    }

    /// Asks the cluster.
    ///
    /// # Errors
    /// [`DeliveryFault::Interrupted`] if a topic is missing, [`DeliveryFault::Impossible`] if the cluster does not let this
    /// client see it.
    pub fn ask(
        &mut self,
        kafka: &KafkaConfig,
        servers: &str,
        troubles: Arc<Troubles>,
        tokens: Option<&Tokens>,
    ) -> Result<(), DeliveryFault> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let context = AskContext { troubles };
        let faults = Faults::new(&kafka.properties);
        let admin: AdminClient<AskContext> = client::observer(kafka, servers)
            .create_with_context(context)
            .map_err(|error| faults.creation(OPERATION, &error))?;
        let admin = Arc::new(admin);
        if let Some(tokens) = tokens {
            tokens.give_to_admin(&admin);
        }
        self.find(&admin, &faults)?;
        if !kafka.is_embedded() {
            self.read_settings(&admin);
        }
        self.limits = self
            .outputs
            .iter()
            .map(|output| {
                let known = output.known.unwrap_or_default();
                let most = known.bytes_max.unwrap_or(usize::MAX);
                let bytes_max = Some(most.min(self.client_bytes_max));
                (output.topic.clone(), TopicLimits { bytes_max, ..known })
            })
            .collect();
        Ok(())
    }

    /// Waits a moment until every topic is there.
    fn find(&self, admin: &AdminClient<AskContext>, faults: &Faults) -> Result<(), DeliveryFault> {
        let deadline = Instant::now() + APPEARS_WITHIN;
        let mut missing: Vec<&Output> = self.outputs.iter().collect();
        loop {
            let mut still = Vec::new();
            for output in missing {
                match self.presence(admin, output, faults)? {
                    Presence::There => {}
                    Presence::Missing => still.push(output),
                    // What to do about a cluster that does not answer is not decided here.
                    Presence::Unknown => return Ok(()),
                }
            }
            missing = still;
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(missing_topics(&missing));
            }
            std::thread::sleep(ASK_INTERVAL);
        }
    }

    fn presence(
        &self,
        admin: &AdminClient<AskContext>,
        output: &Output,
        faults: &Faults,
    ) -> Result<Presence, DeliveryFault> {
        use RDKafkaErrorCode as Code;
        let name = output.topic.as_str();
        let answer = match admin.inner().fetch_metadata(Some(name), ANSWER_TIMEOUT) {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, topic = name, "no answer about an output topic");
                return Ok(Presence::Unknown);
            }
        };
        let Some(found) = answer.topics().first() else {
            return Ok(Presence::Missing);
        };
        match found.error().map(Code::from) {
            None if found.partitions().is_empty() => Ok(Presence::Missing),
            None => Ok(Presence::There),
            // A topic that is just being made has no leader yet.
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable) => {
                Ok(Presence::Missing)
            }
            Some(code @ (Code::TopicAuthorizationFailed | Code::InvalidTopic)) => {
                let detail = format!(
                    "topic \"{name}\" ({}): {code}; this client needs WRITE and DESCRIBE on it",
                    output.key
                );
                Err(faults.code(OPERATION, code, detail, false))
            }
            Some(code) => {
                debug!(%code, topic = name, "no use of an answer about an output topic");
                Ok(Presence::Unknown)
            }
        }
    }

    /// Reads the settings of the topics that matter here, and reports what is new in them.
    fn read_settings(&mut self, admin: &AdminClient<AskContext>) {
        let asked: Vec<_> = self
            .outputs
            .iter()
            .map(|output| ResourceSpecifier::Topic(output.topic.as_str()))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        // The answer comes on a thread of the client's; this one only waits.
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let answers = match runtime {
            Ok(runtime) => runtime.block_on(admin.describe_configs(&asked, &options)),
            Err(error) => {
                debug!(%error, "the settings of the output topics cannot be asked for");
                return;
            }
        };
        let answers = answers.unwrap_or_else(|error| {
            debug!(%error, "no answer about the settings of the output topics");
            Vec::new()
        });
        // Answers come in the order of the questions.
        for (index, output) in self.outputs.iter_mut().enumerate() {
            // What was known before holds where there is no answer this time.
            let known = output.known.unwrap_or_default();
            let answer = answers.get(index).and_then(|answer| answer.as_ref().ok());
            let limits = answer.map_or(known, limits);
            if output.known != Some(limits) {
                output.known = Some(limits);
                output.report(limits);
            }
        }
    }
}

/// Whether a topic is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Missing,
    /// The cluster does not answer.
    Unknown,
}

impl Output {
    /// Says what is known of the topic, and warns of what its outputs will meet.
    fn report(&self, limits: TopicLimits) {
        let (topic, key) = (&self.topic, self.key);
        if limits == TopicLimits::default() {
            info!(%topic, key, "the settings of an output topic cannot be read; reading them needs DESCRIBE_CONFIGS on it");
            return;
        }
        if limits.is_compacted == Some(true) {
            warn!(
                %topic, key,
                "an output topic is compacted (cleanup.policy): it takes no record without a key, and keeps only the latest \
                 of each key; outputs of inputs without a key go to the dead letters"
            );
        }
        if let Some(bytes_max) = limits.bytes_max.filter(|most| *most < self.bytes_expected) {
            warn!(
                %topic, key, bytes_max, bytes_expected = self.bytes_expected,
                "an output topic takes small records only (max.message.bytes): payloads of dead letters are cut to that, and \
                 envelopes beyond it are replaced by dead letters"
            );
        }
    }
}

fn missing_topics(missing: &[&Output]) -> DeliveryFault {
    let named: Vec<String> = missing
        .iter()
        .map(|output| format!("\"{}\" ({})", output.topic, output.key))
        .collect();
    let detail = format!(
        "no such topic: {}; create it, or let the cluster create topics (auto.create.topics.enable)",
        named.join(", ")
    );
    DeliveryFault::Interrupted {
        operation: OPERATION,
        detail,
    }
}

/// The limits in the settings of a topic; what is not there is not known.
fn limits(settings: &ConfigResource) -> TopicLimits {
    let value = |name| settings.get(name)?.value.as_deref();
    TopicLimits {
        bytes_max: value("max.message.bytes").and_then(|text| text.parse().ok()),
        is_compacted: value("cleanup.policy")
            .map(|text| text.split(',').any(|policy| policy.trim() == "compact")),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> ConfigResource {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        ConfigResource {
            specifier: OwnedResourceSpecifier::Topic("t".to_owned()),
            entries: pairs.iter().map(entry).collect(),
        }
    }

    #[test]
    fn limits_are_read_from_settings_and_unknown_where_there_are_none() {
        let found = limits(&settings(&[
            ("max.message.bytes", "100000"),
            ("cleanup.policy", "delete, compact"),
        ]));
        assert_eq!(found.bytes_max, Some(100_000));
        assert_eq!(found.is_compacted, Some(true));
        let kept = limits(&settings(&[("cleanup.policy", "delete")]));
        assert_eq!(kept.is_compacted, Some(false));
        assert_eq!(limits(&settings(&[])), TopicLimits::default());
        let odd = limits(&settings(&[("max.message.bytes", "many")]));
        assert_eq!(odd.bytes_max, None);
    }
}
