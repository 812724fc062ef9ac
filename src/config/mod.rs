//! The daemon's configuration: one file, environment overrides, every fault at once.
//!
//! In flow TOML and variables `MASKWATCH__SECTION__KEY`; out flows a checked [`Config`] composed of each module's own
//! checked part. Nothing is bound, connected to or created here.

mod environment;

use crate::http::DEFAULT_LISTEN;
use crate::stream::config::{
    ConfigFault, RawAlerts, RawBatch, RawDelivery, RawInput, RawKafka, RawStream, StreamConfig,
};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Bytes of a configuration file at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{}: {bytes} bytes, the limit is {CONFIG_BYTES_MAX}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not TOML, or not the keys and types of a configuration.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, key and what was expected.
        detail: String,
    },
    /// Values that are out of range or do not fit each other, all of them.
    #[error("{}: {}", path.display(), faults.join("; "))]
    Faults {
        /// The file.
        path: PathBuf,
        /// Key, value and limit of each.
        faults: Vec<String>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    kafka: RawKafka,
    #[serde(default)]
    input: RawInput,
    #[serde(default)]
    delivery: RawDelivery,
    #[serde(default)]
    batch: RawBatch,
    #[serde(default)]
    alerts: RawAlerts,
    model: RawModel,
    #[serde(default)]
    http: RawHttp,
    train: Option<TrainSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    dir: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    listen: Option<String>,
}

/// `[train]`: what to train on when there is no bundle yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Parquet files, folders or glob patterns, at least one.
    pub data: Vec<String>,
    /// The schema file.
    pub schema: PathBuf,
    /// A training configuration file.
    pub config: Option<PathBuf>,
    /// A bundle whose weights are the start of training.
    pub from: Option<PathBuf>,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
}

/// The daemon's checked configuration. Relative paths start at the working directory.
#[derive(Debug, Clone)]
pub struct Config {
    /// Cluster, formats, delivery, batches and alerts.
    pub stream: StreamConfig,
    /// The bundle's folder.
    pub model_dir: PathBuf,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// What to train on when there is no bundle.
    pub train: Option<TrainSection>,
}

impl Config {
    /// Reads the file, lays the process's environment over it, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault; secret values are never shown.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong {
                path: path.to_owned(),
                bytes,
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let variables =
            environment::variables(std::env::vars_os()).map_err(|faults| ConfigError::Faults {
                path: path.to_owned(),
                faults,
            })?;
        Self::parse(path, &text, variables.into_iter())
    }

    /// As [`load`](Self::load), from text and the given variables.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            detail: describe(text, &error),
        };
        let overrides = environment::overrides(variables);
        let raw: RawConfig = if overrides.is_empty() {
            // Straight from the text, so that an error names its line.
            toml::from_str(text).map_err(syntax)?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(syntax)?;
            environment::apply(&mut table, overrides).map_err(|faults| ConfigError::Faults {
                path: path.to_owned(),
                faults,
            })?;
            table.try_into().map_err(syntax)?
        };
        raw.check().map_err(|faults| ConfigError::Faults {
            path: path.to_owned(),
            faults,
        })
    }
}

/// Line and message of an error without any value of the file: it may be a password.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or(text);
        format!("line {}: ", 1 + before.matches('\n').count())
    });
    let message = error.message();
    let shown = match message.split_once(": ") {
        // "invalid type: integer `7`, expected a string": the value goes, what was expected stays.
        Some((what @ ("invalid type" | "invalid value"), rest)) => {
            let expected = rest
                .rsplit_once(", expected ")
                .map_or("", |(_, expected)| expected);
            format!("{what}, expected {expected}")
        }
        _ => message.to_owned(),
    };
    line.unwrap_or_default() + &shown
}

impl RawConfig {
    fn check(self) -> Result<Config, Vec<String>> {
        let Self {
            kafka,
            input,
            delivery,
            batch,
            alerts,
            model,
            http,
            train,
        } = self;
        let stream = RawStream {
            kafka,
            input,
            delivery,
            batch,
            alerts,
        }
        .check();
        let mut faults: Vec<String> = match &stream {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ConfigFault::to_string).collect(),
        };
        if model.dir.as_os_str().is_empty() {
            faults.push("model.dir: is empty, expected the bundle's folder".to_owned());
        }
        let listen = http.listen.unwrap_or_else(|| DEFAULT_LISTEN.to_string());
        let address = listen.parse::<SocketAddr>();
        if let Err(error) = &address {
            faults.push(format!(
                "http.listen: \"{listen}\": {error}, expected address:port"
            ));
        }
        if train.as_ref().is_some_and(|train| train.data.is_empty()) {
            faults.push(
                "train.data: is empty, expected at least one file, folder or pattern".to_owned(),
            );
        }
        match (stream, address) {
            (Ok(stream), Ok(listen)) if faults.is_empty() => Ok(Config {
                stream,
                model_dir: model.dir,
                listen,
                train,
            }),
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SMALLEST: &str = "[kafka]\nbootstrap_servers = \"localhost:9092\"\ninput_topics = [\"in\"]\n\
                            [model]\ndir = \"model\"\n";

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::parse(Path::new("c.toml"), text, variables)
    }

    #[test]
    fn the_smallest_configuration_listens_on_loopback() {
        let config = parse(SMALLEST, &[]).unwrap();
        assert!(config.listen.ip().is_loopback());
        assert_eq!(config.model_dir, Path::new("model"));
        assert_eq!(config.train, None);
    }

    #[test]
    fn variables_win_over_the_file_with_their_types() {
        let variables = [
            ("MASKWATCH__KAFKA__BOOTSTRAP_SERVERS", "broker:9093"),
            ("MASKWATCH__KAFKA__INPUT_TOPICS", "[\"a\", \"b\"]"),
            ("MASKWATCH__ALERTS__BUDGET", "0.01"),
            ("MASKWATCH__HTTP__LISTEN", "127.0.0.1:0"),
            ("UNRELATED", "x"),
        ];
        let config = parse(SMALLEST, &variables).unwrap();
        assert_eq!(config.stream.kafka.bootstrap_servers, "broker:9093");
        assert_eq!(config.stream.kafka.input_topics, ["a", "b"]);
        assert_eq!(config.stream.alerts.budget.share(), 0.01);
        assert_eq!(config.listen.port(), 0);
    }

    #[test]
    fn an_unknown_key_is_refused_wherever_it_comes_from() {
        let error = parse(&format!("{SMALLEST}typo = 1\n"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("typo") && error.contains("c.toml"),
            "{error}"
        );
        let error = parse(SMALLEST, &[("MASKWATCH__MODEL__TYPO", "1")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("typo"), "{error}");
    }

    #[test]
    fn no_error_shows_a_password() {
        for line in [
            "\"sasl.password\" = \"hunter\\2\"",
            "\"sasl.password\" = hunter2",
            "\"sasl.password\" = [2]",
        ] {
            let text = SMALLEST.replace("[model]", &format!("[kafka.properties]\n{line}\n[model]"));
            let error = parse(&text, &[]).unwrap_err().to_string();
            assert!(
                !error.contains("hunter") && error.contains("line"),
                "{error}"
            );
        }
        let variables = [("MASKWATCH__INPUT__SCHEMA_REGISTRY_PASSWORD", "12345678")];
        if let Err(error) = parse(SMALLEST, &variables) {
            assert!(!error.to_string().contains("12345678"), "{error}");
        }
    }

    #[test]
    fn faults_of_all_sections_come_together() {
        let text = "[kafka]\nbootstrap_servers = \"\"\ninput_topics = []\n[model]\ndir = \"\"\n\
                    [http]\nlisten = \"nowhere\"\n[alerts]\nbudget = 2.0\n[train]\ndata = []\nschema = \"s\"\n";
        let error = parse(text, &[]).unwrap_err().to_string();
        for key in [
            "kafka.bootstrap_servers",
            "kafka.input_topics",
            "model.dir",
            "http.listen",
            "alerts.budget",
            "train.data",
        ] {
            assert!(error.contains(key), "{key} is missing in: {error}");
        }
    }
}
