//! Exit codes of what ends the daemon: the stream, its scoring threads, HTTP, logs and metrics.
//!
//! In flows an error, out flows its code. Every match is exhaustive and without a wildcard, so that a
//! variant cannot be added without a code.

use super::exit::{BAD_CONFIGURATION, FAILED, INTERNAL};
use crate::delivery::fault::{DeliveryFault, StreamError};
use crate::http::HttpError;
use crate::kafka::topics::TopicError;
use crate::pipeline::PipelineError;
use crate::pipeline::scoring::NoThread;
use crate::records::{DecodeError, WriterSchemaError};
use crate::telemetry::MetricsError;
use crate::telemetry::logging::LoggingError;
use std::error::Error;
use std::io::ErrorKind;

/// A thread of the daemon has panicked: a defect (70). The panic itself is told when it happens.
#[derive(Debug, thiserror::Error)]
#[error("the thread of {0} panicked: a defect of this program, see the line above")]
pub struct Panicked(pub &'static str);

/// The code of an error of the daemon; `None` for every other.
pub fn service_code(cause: &(dyn Error + 'static)) -> Option<u8> {
    if cause.is::<Panicked>() {
        return Some(INTERNAL);
    }
    if cause.is::<NoThread>() {
        return Some(FAILED);
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(stream_code(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(fault_code(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(pipeline_code(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(http_code(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(topic_code(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(logging_code(error));
    }
    cause.downcast_ref().map(metrics_code)
}

fn stream_code(error: &StreamError) -> u8 {
    match error {
        StreamError::Fenced { fault, .. } => fault_code(fault),
        StreamError::Fatal(fault) => fault_code(fault),
        StreamError::GaveUp { last, .. } => fault_code(last),
    }
}

fn fault_code(fault: &DeliveryFault) -> u8 {
    match fault {
        DeliveryFault::Fenced { .. }
        | DeliveryFault::Interrupted { .. }
        | DeliveryFault::Refused { .. }
        | DeliveryFault::Impossible { .. }
        | DeliveryFault::ScorerStalled { .. }
        | DeliveryFault::Stopped { .. }
        | DeliveryFault::DrainTimedOut { .. }
        | DeliveryFault::DrainFailed { .. } => FAILED,
        DeliveryFault::Scoring(error) => pipeline_code(error),
        // It ends by itself only when it panics.
        DeliveryFault::ScorerGone => INTERNAL,
    }
}

fn pipeline_code(error: &PipelineError) -> u8 {
    match error {
        PipelineError::Decode(DecodeError::WriterSchema(error)) => match error {
            WriterSchemaError::Unavailable { .. }
            | WriterSchemaError::Refused { .. }
            | WriterSchemaError::Slow { .. }
            | WriterSchemaError::Unusable { .. } => FAILED,
        },
        PipelineError::Decode(DecodeError::BatchTooLarge { .. } | DecodeError::Batch(_))
        | PipelineError::Score(_)
        | PipelineError::Count { .. }
        | PipelineError::Write(_) => INTERNAL,
    }
}

fn http_code(error: &HttpError) -> u8 {
    match error {
        HttpError::Bind { error, .. } => match error.kind() {
            // The address is wrong wherever nobody else listens.
            ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied => BAD_CONFIGURATION,
            _other => FAILED,
        },
    }
}

fn topic_code(error: &TopicError) -> u8 {
    match error {
        TopicError::Properties { .. } => BAD_CONFIGURATION,
        TopicError::Refused { .. }
        | TopicError::TimedOut { .. }
        | TopicError::Unreachable { .. }
        | TopicError::Missing { .. } => FAILED,
    }
}

fn logging_code(error: &LoggingError) -> u8 {
    match error {
        LoggingError::Filter { .. } | LoggingError::Format(_) => BAD_CONFIGURATION,
        LoggingError::AlreadySet(_) => INTERNAL,
        LoggingError::File { .. } => FAILED,
    }
}

fn metrics_code(error: &MetricsError) -> u8 {
    match error {
        MetricsError::Declare { .. } | MetricsError::Encode(_) => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::delivery::fault::Evidence;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    fn interrupted() -> DeliveryFault {
        DeliveryFault::Interrupted {
            operation: "commit",
            detail: String::new(),
        }
    }

    fn unavailable() -> PipelineError {
        let (origin, why) = ("http://registry".to_owned(), "503".to_owned());
        PipelineError::Decode(DecodeError::WriterSchema(WriterSchemaError::Unavailable {
            id: 7,
            origin,
            attempts: 3,
            why,
        }))
    }

    fn count() -> PipelineError {
        PipelineError::Count {
            what: "p-values",
            found: 1,
            expected: 2,
        }
    }

    #[test]
    fn the_end_of_the_stream_has_the_code_of_its_cause() {
        let code = |error: StreamError| service_code(&error);
        assert_eq!(
            code(StreamError::Fatal(DeliveryFault::ScorerGone)),
            Some(70)
        );
        assert_eq!(code(StreamError::Fatal(count().into())), Some(70));
        assert_eq!(code(StreamError::Fatal(unavailable().into())), Some(1));
        assert_eq!(
            service_code(&NoThread(ErrorKind::OutOfMemory.into())),
            Some(1)
        );
        let gave_up = |last| StreamError::GaveUp { attempts: 10, last };
        assert_eq!(code(gave_up(interrupted())), Some(1));
        let fenced = StreamError::Fenced {
            group_id: "g".to_owned(),
            instance_id: "i".to_owned(),
            evidence: Evidence::Member {
                after: Duration::from_secs(25),
            },
            fault: Box::new(interrupted()),
        };
        assert_eq!(code(fenced), Some(1));
        let waited = Duration::from_secs(60);
        assert_eq!(
            code(StreamError::Fatal(DeliveryFault::ScorerStalled { waited })),
            Some(1)
        );
        assert_eq!(service_code(&count()), Some(70));
        assert_eq!(service_code(&unavailable()), Some(1));
        assert_eq!(service_code(&Panicked("the stream")), Some(70));
    }

    #[test]
    fn an_address_that_is_taken_is_no_fault_of_the_configuration() {
        let code = |kind: ErrorKind| {
            service_code(&HttpError::Bind {
                listen: ([127, 0, 0, 1], 80).into(),
                error: kind.into(),
            })
        };
        assert_eq!(code(ErrorKind::AddrInUse), Some(1));
        assert_eq!(code(ErrorKind::AddrNotAvailable), Some(64));
        assert_eq!(code(ErrorKind::PermissionDenied), Some(64));
    }

    /// Errors that reach a user only inside of another, or not at all.
    const CARRIED: [(&str, &str); 9] = [
        ("InferenceError", "DataError"),
        ("EncodeError", "ScoreError, DatasetError, TuneError"),
        ("ConvertError", "DataError"),
        ("RegistryConfigError", "DecoderError"),
        ("WeightsFault", "BundleError"),
        ("SessionFailure", "a label of a metric"),
        ("SubmitError", "an answer of HTTP"),
        ("BodyError", "an answer of HTTP"),
        ("SplitError", "an answer of HTTP"),
    ];

    fn error_enums(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                error_enums(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines().filter(|line| line.starts_with("pub")) {
                    let Some((_, name)) = line.split_once(" enum ") else {
                        continue;
                    };
                    let name = name.trim_end_matches([' ', '{']);
                    if ["Error", "Failure", "Fault"]
                        .iter()
                        .any(|end| name.ends_with(end))
                    {
                        found.insert(name.to_owned(), path.display().to_string());
                    }
                }
            }
        }
    }

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeMap::new();
        for folder in [
            "src",
            "crates/core/src",
            "crates/generate/src",
            "crates/learn/src",
        ] {
            error_enums(&root.join(folder), &mut found);
        }
        assert!(found.len() > 20, "{found:?}");
        let code = |text: &'static str| text.split("#[cfg(test)]").next().unwrap();
        let codes =
            code(include_str!("exit.rs")).to_owned() + code(include_str!("exit_service.rs"));
        for (name, path) in found {
            let carried = CARRIED.iter().any(|(carried, _)| *carried == name);
            assert!(
                carried || codes.contains(&name),
                "{name} ({path}) has no exit code: add it to the matches of exit.rs"
            );
        }
        assert!(
            !codes.contains(" _ =>"),
            "a wildcard gives a code to variants that are not there yet"
        );
    }
}
