//! The daemon's configuration: one file, environment overrides, every fault at once.
//!
//! In flow TOML and variables `MASKWATCH__SECTION__KEY`; out flows a checked [`Config`] composed of each room's
//! checked part. Nothing is bound or connected to here.

mod environment;
mod raw;
mod stream;

pub use raw::{RawAlerts, RawBatch, RawDelivery, RawInput, RawKafka};
pub use stream::{RawStream, StreamConfig};

use crate::http::DEFAULT_LISTEN;
use crate::kafka::Secret;
use crate::kafka::properties::resolve;
use crate::pipeline::options::AlertsConfig;
use crate::toml_file::{KeyFault, TomlFile, Values, can_read};
use serde::Deserialize;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Bytes of a configuration file at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Characters of the token of HTTP at least: fewer could be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

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
    #[error("{}: longer than {CONFIG_BYTES_MAX} bytes, which is the limit", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Lines that are not TOML; keys that are unknown or of another type; values that are out of range or do not fit each
    /// other. All of them.
    #[error("{}: {}", path.display(), joined(faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// Line or variable, key, value and limit of each, in the order of the file.
        faults: Vec<KeyFault>,
        /// What it says of its model, where that much is sound: a bundle can be looked at all the same.
        model: Option<Box<ModelSection>>,
    },
}

fn joined(faults: &[KeyFault]) -> String {
    let sentences: Vec<String> = faults.iter().map(KeyFault::to_string).collect();
    sentences.join("; ")
}

impl ConfigError {
    /// What a configuration with faults says of its model, where that much is sound.
    pub fn model(&self) -> Option<&ModelSection> {
        match self {
            Self::Faults { model, .. } => model.as_deref(),
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    kafka: RawKafka,
    #[serde(default)]
    input: RawInput,
    #[serde(default)]
    delivery: RawDelivery,
    #[serde(default)]
    batch: RawBatch,
    #[serde(default)]
    alerts: RawAlerts,
    #[serde(default)]
    model: RawModel,
    #[serde(default)]
    http: RawHttp,
    train: Option<TrainSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawModel {
    dir: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    listen: Option<String>,
    /// A text or a reference, never printed.
    reload_token: Option<Secret>,
}

/// `[train]`: what to train on when there is no bundle yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Parquet files, folders or glob patterns, at least one.
    #[serde(default)]
    pub data: Vec<String>,
    /// The schema file.
    #[serde(default)]
    pub schema: PathBuf,
    /// A training configuration file.
    pub config: Option<PathBuf>,
    /// A bundle whose weights are the start of training.
    pub from: Option<PathBuf>,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
}

/// What a configuration says of its model.
#[derive(Debug, Clone)]
pub struct ModelSection {
    /// The bundle's folder, or a folder of models.
    pub dir: PathBuf,
    /// What to train on when there is no bundle.
    pub train: Option<TrainSection>,
    /// The budget that the model must reach; `None` where that section has faults.
    pub alerts: Option<AlertsConfig>,
}

/// The daemon's checked configuration. Relative paths start at the working directory.
#[derive(Debug, Clone)]
pub struct Config {
    /// Cluster, formats, delivery, batches and alerts.
    pub stream: StreamConfig,
    /// The bundle's folder, or a folder of models.
    pub model_dir: PathBuf,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// Who knows it may have another model looked for; without it nobody may.
    pub reload_token: Option<Secret>,
    /// What to train on when there is no bundle.
    pub train: Option<TrainSection>,
}

impl Config {
    /// Reads the file, lays the process's environment over it, and checks the whole, with what librdkafka says of it.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault; secret values are never printed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        // It may be a pipe that is filled from a template: what counts is what comes out.
        let mut text = String::new();
        let bytes = std::fs::File::open(path)
            .and_then(|file| {
                let mut file = file.take(CONFIG_BYTES_MAX + 1);
                file.read_to_string(&mut text)
            })
            .map_err(read)?;
        if bytes as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong {
                path: path.to_owned(),
            });
        }
        let variables =
            environment::variables(std::env::vars_os()).map_err(|faults| ConfigError::Faults {
                path: path.to_owned(),
                faults,
                model: None,
            })?;
        let (config, file) = Self::read(path, &text, variables.into_iter())?;
        let faults = config.stream.client_faults();
        if faults.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::Faults {
            path: path.to_owned(),
            faults: file.located(faults),
            model: Some(Box::new(config.model())),
        })
    }

    /// What it says of its model.
    pub fn model(&self) -> ModelSection {
        ModelSection {
            dir: self.model_dir.clone(),
            train: self.train.clone(),
            alerts: Some(self.stream.alerts.clone()),
        }
    }

    /// As [`load`](Self::load), from text and the given variables, and without the files that it names.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Ok(Self::read(path, text, variables)?.0)
    }

    /// The configuration, and the file in which its faults can still be found.
    fn read(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, TomlFile), ConfigError> {
        let failed = |faults: Vec<KeyFault>, mut model: Option<Box<ModelSection>>| {
            // A key that could not be read has its default in `model`, which nobody asked for.
            if faults.iter().any(|fault| fault.key.starts_with("alerts."))
                && let Some(model) = &mut model
            {
                model.alerts = None;
            }
            ConfigError::Faults {
                path: path.to_owned(),
                faults,
                model,
            }
        };
        // A value may be a password.
        let mut file =
            TomlFile::parse(text, Values::Secret).map_err(|faults| failed(faults, None))?;
        let overrides = environment::overrides(variables);
        let mut faults = environment::apply(&mut file, &overrides, can_read::<RawConfig>);
        let (sound, unreadable) = file.sound::<RawConfig>();
        faults.extend(unreadable);
        // Every key can be read by now; what is found here is a defect, and no value either.
        let defect = |_| vec![KeyFault::new("", "sections do not fit together")];
        let raw = sound.try_into::<RawConfig>();
        let raw = raw.map_err(|error| failed(defect(error), None))?;
        match raw.check() {
            Ok(config) if faults.is_empty() => Ok((config, file)),
            Ok(config) => Err(failed(file.located(faults), Some(Box::new(config.model())))),
            Err((further, model)) => {
                faults.extend(further);
                Err(failed(file.located(faults), model))
            }
        }
    }
}

impl RawConfig {
    /// The configuration, or every fault of it with what it says of its model, where that much is sound.
    fn check(self) -> Result<Config, (Vec<KeyFault>, Option<Box<ModelSection>>)> {
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
        let sound_alerts = alerts.sound();
        let stream = RawStream {
            kafka,
            input,
            delivery,
            batch,
            alerts,
        }
        .check();
        let mut faults = stream.as_ref().err().cloned().unwrap_or_default();
        let before = faults.len();
        let mut missing = |key: &str, expected: &str| {
            let what = format!("is missing or empty, expected {expected}");
            faults.push(KeyFault::new(key, what));
        };
        if model.dir.as_os_str().is_empty() {
            missing("model.dir", "the folder of a bundle or of models");
        }
        if train.as_ref().is_some_and(|train| train.data.is_empty()) {
            missing("train.data", "at least one file, folder or pattern");
        }
        let lacks_schema = |train: &TrainSection| train.schema.as_os_str().is_empty();
        if train.as_ref().is_some_and(lacks_schema) {
            missing("train.schema", "a schema file (`maskwatch init` makes one)");
        }
        let section = (faults.len() == before).then(|| {
            Box::new(ModelSection {
                dir: model.dir.clone(),
                train: train.clone(),
                alerts: sound_alerts,
            })
        });
        let reload_token = check_token(http.reload_token, &mut faults);
        let listen = http.listen.unwrap_or_else(|| DEFAULT_LISTEN.to_string());
        let address = listen.parse::<SocketAddr>();
        if let Err(error) = &address {
            let what = format!("\"{listen}\": {error}, expected address:port");
            faults.push(KeyFault::new("http.listen", what));
        }
        match (stream, address) {
            (Ok(stream), Ok(listen)) if faults.is_empty() => Ok(Config {
                stream,
                model_dir: model.dir,
                listen,
                reload_token,
                train,
            }),
            _ => Err((faults, section)),
        }
    }
}

/// The token of `http.reload_token`, if there is one that is long enough and can stand in a header.
fn check_token(given: Option<Secret>, faults: &mut Vec<KeyFault>) -> Option<Secret> {
    let mut refuse = |why: String| faults.push(KeyFault::new("http.reload_token", why));
    let token = match resolve(given?.reveal()) {
        Ok(token) => token,
        Err(why) => {
            refuse(why);
            return None;
        }
    };
    let characters = token.chars().count();
    if characters < TOKEN_CHARACTERS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        refuse(format!(
            "{characters} characters, expected at least {TOKEN_CHARACTERS_MIN}, all of them visible ASCII without blanks; \
             `openssl rand -hex 32` makes a good one"
        ));
        return None;
    }
    Some(Secret::new(token))
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
    fn a_variable_is_read_as_its_key_asks() {
        let variables = [
            ("MASKWATCH__KAFKA__INSTANCE_ID", "0"),
            ("MASKWATCH__KAFKA__GROUP_ID", "true"),
            ("MASKWATCH__KAFKA__INPUT_TOPICS", "cards, transfers"),
            ("MASKWATCH__KAFKA__SCORES_TOPIC", "1e3"),
            ("MASKWATCH__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "45000"),
            ("MASKWATCH__KAFKA__PROPERTIES__SSL_CA_LOCATION", "/a,b"),
            ("MASKWATCH__BATCH__ROWS_MAX", "99"),
        ];
        let config = parse(SMALLEST, &variables).unwrap().stream;
        assert_eq!(config.kafka.instance_id, "0");
        assert_eq!(config.kafka.group_id, "true");
        assert_eq!(config.kafka.input_topics, ["cards", "transfers"]);
        let scores = config.kafka.outputs.scores.unwrap();
        assert_eq!(scores.as_str(), "1e3");
        assert_eq!(config.batch.rows_max, 99);
        let properties = format!("{:?}", config.kafka.properties);
        assert!(properties.contains("session.timeout.ms"), "{properties}");
        assert!(properties.contains("ssl.ca.location"), "{properties}");
    }

    #[test]
    fn a_token_that_could_be_guessed_or_cannot_be_sent_is_refused_and_never_shown() {
        let token = |value: &str| parse(SMALLEST, &[("MASKWATCH__HTTP__RELOAD_TOKEN", value)]);
        let good = "0123456789abcdef";
        let config = token(good).unwrap();
        assert_eq!(config.reload_token.as_ref().unwrap().reveal(), good);
        assert!(!format!("{config:?}").contains(good));
        assert!(parse(SMALLEST, &[]).unwrap().reload_token.is_none());
        for wrong in ["", "short", "0123456789 abcdef", "0123456789abcdé\u{0}"] {
            let error = token(wrong).unwrap_err().to_string();
            assert!(error.contains("http.reload_token: "), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        let error = token("${env:MASKWATCH_NO_SUCH_VARIABLE}").unwrap_err();
        assert!(error.to_string().contains("is not set"), "{error}");
    }

    #[test]
    fn one_topic_is_a_list_of_one() {
        let variables = [("MASKWATCH__KAFKA__INPUT_TOPICS", "cards")];
        let config = parse(SMALLEST, &variables).unwrap();
        assert_eq!(config.stream.kafka.input_topics, ["cards"]);
    }

    #[test]
    fn a_value_out_of_range_names_the_variable_that_gave_it() {
        let variables = [
            ("MASKWATCH__BATCH__ROWS_MAX", "0"),
            (
                "MASKWATCH__KAFKA__PROPERTIES__ISOLATION_LEVEL",
                "read_uncommitted",
            ),
        ];
        let error = parse(SMALLEST, &variables).unwrap_err().to_string();
        for part in [
            "variable MASKWATCH__BATCH__ROWS_MAX: batch.rows_max: ",
            "variable MASKWATCH__KAFKA__PROPERTIES__ISOLATION_LEVEL: kafka.properties.\"isolation.level\": ",
        ] {
            assert!(error.contains(part), "{error}");
        }
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
    fn faults_of_keys_and_of_values_come_together_with_their_lines() {
        let text = "[kafka]\nbootstrap_server = \"b:1\"\ninput_topics = \"in\"\n[kafka.properties]\n\
                    \"sasl.password\" = [2]\n\"linger.ms\" = 5\n[delivery]\nmode = \"once\"\n\
                    [modell]\ndir = \"m\"\n[alerts]\nbudget = \"a few\"\nreasons_max = 0\n";
        let variables = [("MASKWATCH__BATCH__ROWS_MAX", "many")];
        let error = parse(text, &variables).unwrap_err().to_string();
        for part in [
            "line 2: kafka.bootstrap_server: unknown key, did you mean `bootstrap_servers`?",
            "line 3: kafka.input_topics: invalid type, expected a sequence",
            "line 5: kafka.properties.sasl.password: ",
            "line 8: delivery.mode: unknown value, expected `exactly_once` or `at_least_once`",
            "line 9: modell: unknown section, did you mean `model`?",
            "variable MASKWATCH__BATCH__ROWS_MAX: batch.rows_max: invalid type",
            "kafka.bootstrap_servers: is missing or empty",
            "kafka.input_topics: is missing or empty",
            "model.dir: is missing or empty",
            "alerts.budget: \"a few\" is not a number",
            "alerts.reasons_max: 0",
        ] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
        assert!(!error.contains("linger"), "{error}");
    }

    #[test]
    fn every_line_that_is_no_toml_is_told() {
        let text = format!("{SMALLEST}[alerts]\nbudget = 0.1%\nreasons = \n[http]\nlisten = x:1\n");
        let error = parse(&text, &[]).unwrap_err().to_string();
        for part in ["line 7: ", "\"0.1%\"", "line 8: ", "line 10: "] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
        let text = format!("{SMALLEST}[alerts]\nbudget = \"0.1%\"\n");
        assert_eq!(
            parse(&text, &[]).unwrap().stream.alerts.budget.share(),
            0.001
        );
        let variables = [("MASKWATCH__ALERTS__BUDGET", "0.5%")];
        let budget = parse(SMALLEST, &variables).unwrap().stream.alerts.budget;
        assert_eq!(budget.share(), 0.005);
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
