//! Kafka behind the traits of delivery: the only place that knows librdkafka.
//!
//! A [`KafkaConnector`] opens sessions: a consumer of the group and the producer that commits for it. Every error of the
//! client becomes a `DeliveryFault` in `faults`, and its log lines go through `tracing`, secrets blotted out.

mod client;
mod clock;
pub mod decoders;
pub mod embedded;
mod faults;
mod group;
mod headers;
mod members;
mod oauth;
pub mod options;
mod outputs;
mod preflight;
pub mod properties;
mod property_names;
mod registry;
mod sink;
mod source;
mod starts;
mod statistics;
mod tokens;
pub mod topics;
mod troubles;

pub use preflight::{faults_of_clients, faults_of_properties};
pub use registry::{Registry, RegistryConfig, RegistryConfigError, Secret};

use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info, warn};

use self::embedded::EmbeddedBroker;
use self::group::GroupConsumer;
use self::options::KafkaConfig;
use self::outputs::OutputTopicsSeen;
use self::sink::KafkaSink;
use self::source::KafkaSource;
use self::starts::{OWED_TIMEOUT, Policies};
use self::tokens::Tokens;
use self::troubles::Troubles;
use crate::delivery::calls::{BoundedCalls, OnStop};
use crate::delivery::fault::DeliveryFault;
use crate::delivery::options::{DeliveryConfig, Mode};
use crate::delivery::refusal::{SendOptions, TopicLimits};
use crate::delivery::sink::Connector;
use crate::delivery::source::Owed;
use crate::pipeline::types::Topic;
use crate::telemetry::heartbeat::Operation;

/// Partitions that the in-process broker gives an input topic: enough to see several at work.
const EMBEDDED_PARTITIONS: i32 = 4;

/// Opens sessions with a cluster.
#[derive(Debug)]
pub struct KafkaConnector {
    config: KafkaConfig,
    mode: Mode,
    calls: BoundedCalls,
    /// What the clients of all sessions said.
    troubles: Arc<Troubles>,
    /// The cluster's own address, where it is the in-process one.
    bootstrap_servers: String,
    outputs: OutputTopicsSeen,
    /// Of OAUTHBEARER, for the clients of every session.
    tokens: Option<Arc<Tokens>>,
    /// Lives as long as the connector.
    _embedded: Option<EmbeddedBroker>,
}

impl KafkaConnector {
    /// A connector to the configured cluster; starts the in-process broker if that is the one. Connects to nothing yet.
    /// Calls of its clients that may block are made through `calls`.
    ///
    /// # Errors
    /// [`DeliveryFault::Impossible`] if the in-process broker or the source of tokens cannot be started.
    pub fn new(
        config: &KafkaConfig,
        delivery: &DeliveryConfig,
        calls: BoundedCalls,
    ) -> Result<Self, DeliveryFault> {
        let embedded = if config.is_embedded() {
            warn!(
                "embedded broker: records live in this process only, and delivery is at_least_once, because transactions \
                 of librdkafka's in-process broker commit and hide nothing"
            );
            let topics = config.input_topics.iter();
            let topics: Vec<_> = topics
                .map(|topic| (topic.clone(), EMBEDDED_PARTITIONS))
                .collect();
            Some(EmbeddedBroker::start(topics)?)
        } else {
            None
        };
        let bootstrap_servers = embedded
            .as_ref()
            .map_or(
                &config.bootstrap_servers[..],
                EmbeddedBroker::bootstrap_servers,
            )
            .to_owned();
        let tokens =
            Tokens::configured(&config.properties).map_err(|detail| DeliveryFault::Impossible {
                operation: "make the source of tokens",
                detail,
            })?;
        let troubles = Troubles::new(&bootstrap_servers, &config.properties);
        Ok(Self {
            config: config.clone(),
            mode: delivery.mode,
            calls,
            tokens: tokens.map(Arc::new),
            troubles: Arc::new(troubles),
            bootstrap_servers,
            outputs: OutputTopicsSeen::new(config, delivery.dead_letter_bytes_max),
            _embedded: embedded,
        })
    }

    /// `host:port,...` of the cluster, the in-process one's too.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// A consumer that has not joined the group.
    fn consumer(&self) -> Result<Arc<GroupConsumer>, DeliveryFault> {
        self.calls.enter(Operation::MakeClients);
        let consumer = group::consumer(
            &self.config,
            &self.bootstrap_servers,
            Arc::clone(&self.troubles),
        )?;
        let consumer = Arc::new(consumer);
        if let Some(tokens) = &self.tokens {
            tokens.give_to_consumer(&consumer);
        }
        Ok(consumer)
    }

    /// The producer of the configured mode.
    fn sink(
        &self,
        options: SendOptions,
        consumer: &Arc<GroupConsumer>,
    ) -> Result<KafkaSink, DeliveryFault> {
        let (kafka, servers) = (&self.config, &self.bootstrap_servers);
        let (consumer, calls) = (Arc::clone(consumer), self.calls.clone());
        let tokens = self.tokens.clone();
        match self.mode {
            Mode::ExactlyOnce => {
                let id = kafka.transactional_id();
                info!(transactional_id = id, "transactions begin");
                KafkaSink::transactional(kafka, servers, options, consumer, calls, tokens)
            }
            Mode::AtLeastOnce => {
                KafkaSink::acknowledged(kafka, servers, options, consumer, calls, tokens)
            }
        }
    }

    /// Asks the cluster about the output topics. The producer's first call has found the cluster by then, so that this is a
    /// matter of milliseconds.
    fn look_up_outputs(&mut self) -> Result<(), DeliveryFault> {
        let mut seen = self.outputs.clone();
        let (kafka, servers) = (self.config.clone(), self.bootstrap_servers.clone());
        let (troubles, tokens) = (Arc::clone(&self.troubles), self.tokens.clone());
        let ask = move || {
            let tokens = tokens.as_deref();
            seen.ask(&kafka, &servers, troubles, tokens).map(|()| seen)
        };
        let (operation, stop) = (Operation::LookUpOutputs, OnStop::EndAtOnce);
        let timeout = outputs::ASK_TIMEOUT;
        self.outputs = self.calls.run(operation, timeout, stop, ask, || Ok(()))??;
        Ok(())
    }

    /// `options` with batches no larger than any output topic takes.
    fn within_topics(&self, options: SendOptions) -> SendOptions {
        let configured = self.config.batch_bytes();
        let topics = self.outputs.bytes_max().filter(|most| *most < configured);
        let batch_bytes_max = [options.batch_bytes_max, topics]
            .into_iter()
            .flatten()
            .min();
        SendOptions {
            batch_bytes_max,
            ..options
        }
    }
}

impl Connector for KafkaConnector {
    type Source = KafkaSource;
    type Sink = KafkaSink;

    fn open(&mut self, options: SendOptions) -> Result<(KafkaSource, KafkaSink), DeliveryFault> {
        let consumer = self.consumer()?;
        // The producer comes first: it completes or aborts what an earlier one left, so that the offsets from which the
        // consumer starts are final.
        let source = KafkaSource::new(Arc::clone(&consumer), &self.config, self.calls.clone());
        let known = self.within_topics(options);
        let mut sink = self.sink(known, &consumer)?;
        self.look_up_outputs()?;
        let within = self.within_topics(options);
        if within != known {
            info!(
                batch_bytes_max = within.batch_bytes_max,
                "produce batches are kept to what the output topics take"
            );
            sink = self.sink(within, &consumer)?;
        }
        source.subscribe()?;
        Ok((source, sink))
    }

    fn limits(&self) -> &[(Topic, TopicLimits)] {
        self.outputs.limits()
    }

    fn has_member(&mut self) -> Option<bool> {
        let kafka = &self.config;
        let (group, instance) = (kafka.group_id.clone(), kafka.instance_id.clone());
        let asked = self.consumer().and_then(|consumer| {
            let ask = move || members::has_static_member(&consumer, &group, &instance);
            let (operation, stop) = (Operation::LookAtGroup, OnStop::EndAtOnce);
            self.calls
                .run(operation, members::MEMBERS_TIMEOUT, stop, ask, || Ok(()))
        });
        match asked {
            Ok(Ok(has_member)) => Some(has_member),
            Ok(Err(error)) => {
                debug!(%error, "the cluster does not tell of the group's members");
                None
            }
            Err(fault) => {
                debug!(%fault, "the group's members are not found out");
                None
            }
        }
    }

    fn owed(&mut self) -> Vec<Owed> {
        let topics = self.config.input_topics.clone();
        let policies = Policies::of(&self.config);
        let asked = self.consumer().and_then(|consumer| {
            let ask = move || {
                starts::owed(&consumer, &topics, policies, Instant::now() + OWED_TIMEOUT)
                // The consumer is closed here, on the thread of the call.
            };
            let (operation, stop) = (Operation::FindOffsets, OnStop::EndAtOnce);
            self.calls
                .run(operation, OWED_TIMEOUT, stop, ask, || Ok(()))
        });
        match asked {
            Ok(Ok(owed)) => owed,
            Ok(Err(error)) => {
                debug!(%error, "the cluster does not tell what the group owes");
                Vec::new()
            }
            Err(fault) => {
                debug!(%fault, "what the group owes is not found out");
                Vec::new()
            }
        }
    }
}
