//! Logs: `tracing` events flow in, lines on standard error flow out, for people on a terminal and
//! as JSON elsewhere. Standard output stays free for what a verb prints, and a filter that cannot
//! be read is an error, not silence.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Environment variables that hold the filter, the first that is set counts: a level (`debug`) or
/// directives (`warn,maskwatch=debug`).
pub const FILTER_VARIABLES: [&str; 2] = ["MASKWATCH_LOG", "RUST_LOG"];
/// Filter if no variable is set: what an operator needs to follow start-up, rebalances and drain,
/// and nothing a record.
pub const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// [`LogFormat::Human`] if standard error is a terminal, else [`LogFormat::Json`].
    #[default]
    Auto,
    /// Text for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "{origin} = {value:?} is not a log filter (such as \"debug\" or \"warn,maskwatch=debug\")"
    )]
    Filter {
        /// The variable that holds it.
        origin: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No such format.
    #[error("log format {0:?} is not one of auto, human, json")]
    Format(String),
    /// The log file cannot be made.
    #[error("{}: cannot write the log", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Logging was set up before.
    #[error("logging is already set up")]
    AlreadySet(#[source] tracing::subscriber::SetGlobalDefaultError),
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(text: &str) -> Result<Self, LoggingError> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(LoggingError::Format(text.to_owned())),
        }
    }
}

/// Sends the events of the whole process to standard error.
///
/// # Errors
/// A filter in the environment that is not one, or a second call.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    let terminal = std::io::stderr().is_terminal();
    let filter = filter(|name| std::env::var(name).ok())?;
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    // https://no-color.org: any value but the empty one switches colour off.
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing::subscriber::set_global_default(subscriber(json, colour, filter, std::io::stderr))
        .map_err(LoggingError::AlreadySet)
}

/// Sends the events of the whole process to a file, which is replaced, as text for people.
///
/// # Errors
/// As [`init`], or a file that cannot be made.
pub fn init_file(path: &Path) -> Result<(), LoggingError> {
    let file = std::fs::File::create(path).map_err(|source| LoggingError::File {
        path: path.to_owned(),
        source,
    })?;
    let filter = filter(|name| std::env::var(name).ok())?;
    tracing::subscriber::set_global_default(subscriber(false, false, filter, Mutex::new(file)))
        .map_err(LoggingError::AlreadySet)
}

/// The filter that the environment asks for.
fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let set = FILTER_VARIABLES.into_iter().find_map(|name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(|value| (name, value))
    });
    match set {
        None => Ok(EnvFilter::new(DEFAULT_FILTER)),
        Some((origin, value)) => {
            EnvFilter::try_new(&value).map_err(|source| LoggingError::Filter {
                origin,
                value,
                source,
            })
        }
    }
}

/// The subscriber, with where it writes as a parameter so that it can be tested.
fn subscriber<W>(
    json: bool,
    colour: bool,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    if json {
        // Fields of the event stand beside the message, where log stores look for them.
        Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .finish(),
        )
    } else {
        Box::new(builder.with_ansi(colour).finish())
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one debug and one warning event under a filter.
    fn written(json: bool, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(json, false, EnvFilter::new(filter), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("small print");
            tracing::warn!(partition = 3, "the broker is slow");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_message_level_and_fields() {
        let text = written(true, "info");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "the broker is slow");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["partition"], 3);
    }

    #[test]
    fn human_lines_have_no_escapes_without_a_terminal() {
        let text = written(false, "debug");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("the broker is slow") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        let of = |own: &'static str, rust: &'static str| {
            filter(move |name| Some(if name == "MASKWATCH_LOG" { own } else { rust }.to_owned()))
                .unwrap()
                .to_string()
        };
        assert_eq!(of("debug", "warn"), "debug");
        assert_eq!(of("", "warn"), "warn");
        assert_eq!(of("", ""), DEFAULT_FILTER);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_and_named() {
        let error = filter(|_| Some("maskwatch=loud".to_owned()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("MASKWATCH_LOG") && error.contains("maskwatch=loud"),
            "{error}"
        );
    }

    #[test]
    fn a_format_that_is_none_is_refused() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert!(
            "xml"
                .parse::<LogFormat>()
                .unwrap_err()
                .to_string()
                .contains("xml")
        );
    }
}
