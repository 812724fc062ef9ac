//! Every error of the client, distinguished by what can be done about it.
//!
//! An error of librdkafka flows in, a [`DeliveryFault`] flows out: fenced, interrupted (a new session cures it), refused for
//! size (found by the sink itself), or impossible.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};

use crate::delivery::fault::DeliveryFault;
use crate::kafka::properties::Properties;

/// What librdkafka says must be done about an error of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The producer is of no more use.
    Fatal,
    /// The transaction must be aborted.
    Abort,
    /// The same call may be made again.
    Retriable,
    /// A call that is wrong in the producer's state, or an answer that is none of these.
    Other,
}

impl Severity {
    /// The severity of an error of a transactional call.
    pub fn of(error: &RDKafkaError) -> Self {
        if error.is_fatal() {
            Self::Fatal
        } else if error.txn_requires_abort() {
            Self::Abort
        } else if error.is_retriable() {
            Self::Retriable
        } else {
            Self::Other
        }
    }
}

/// Turns errors of one session's clients into faults.
#[derive(Debug, Clone)]
pub struct Faults {
    properties: Properties,
}

impl Faults {
    /// For clients of these properties, whose secrets are blotted out of messages.
    pub fn new(properties: &Properties) -> Self {
        Self {
            properties: properties.clone(),
        }
    }

    /// The fault of a client that could not be made.
    pub fn creation(&self, operation: &'static str, error: &KafkaError) -> DeliveryFault {
        let detail = match error {
            // Its own text quotes the value, which may be a secret.
            KafkaError::ClientConfig(_, why, key, _) => format!("property \"{key}\": {why}"),
            other => other.to_string(),
        };
        DeliveryFault::Impossible {
            operation,
            detail: self.properties.blot(&detail),
        }
    }

    /// The fault of a call that failed. `stale` says that the transaction had been open for longer than the cluster allows:
    /// it is then the cluster that has ended it, and not a twin.
    pub fn call(&self, operation: &'static str, error: &KafkaError, stale: bool) -> DeliveryFault {
        let detail = self.properties.blot(&error.to_string());
        let Some(code) = code_of(error) else {
            return DeliveryFault::Interrupted { operation, detail };
        };
        self.code(operation, code, detail, stale)
    }

    /// The fault behind `code`.
    pub fn code(
        &self,
        operation: &'static str,
        code: RDKafkaErrorCode,
        detail: String,
        stale: bool,
    ) -> DeliveryFault {
        use RDKafkaErrorCode as Code;
        match code {
            // Static membership shows a twin for certain.
            Code::FencedInstanceId => DeliveryFault::Fenced { operation, detail },
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch if !stale => {
                DeliveryFault::Fenced { operation, detail }
            }
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedFeature
            | Code::InvalidTransactionTimeout
            | Code::NotConfigured
            | Code::InvalidArgument => DeliveryFault::Impossible { operation, detail },
            _ => DeliveryFault::Interrupted { operation, detail },
        }
    }

    /// The fault of something that took too long, and what the client said last of its connections.
    pub fn timed_out(
        &self,
        operation: &'static str,
        limit: Duration,
        cause: Option<String>,
    ) -> DeliveryFault {
        let mut detail = format!("no answer within {} ms", limit.as_millis());
        if let Some(cause) = cause {
            detail.push_str(": ");
            detail.push_str(&cause);
        }
        DeliveryFault::Interrupted { operation, detail }
    }
}

/// The code in an error, where it has one.
pub fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: RDKafkaErrorCode, stale: bool) -> DeliveryFault {
        Faults::new(&Properties::default()).call(
            "commit",
            &KafkaError::MessageProduction(code),
            stale,
        )
    }

    #[test]
    fn a_twin_is_told_from_a_transaction_that_was_open_too_long() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
        ] {
            assert!(
                matches!(fault(code, false), DeliveryFault::Fenced { .. }),
                "{code:?}"
            );
            assert!(
                matches!(fault(code, true), DeliveryFault::Interrupted { .. }),
                "{code:?}"
            );
        }
        assert!(matches!(
            fault(Code::FencedInstanceId, true),
            DeliveryFault::Fenced { .. }
        ));
    }

    #[test]
    fn what_no_session_can_cure_ends_the_stream() {
        assert!(!fault(RDKafkaErrorCode::TopicAuthorizationFailed, false).is_curable());
        assert!(fault(RDKafkaErrorCode::OperationTimedOut, false).is_curable());
        assert!(fault(RDKafkaErrorCode::IllegalGeneration, false).is_curable());
    }
}
