//! A client of Confluent's schema registry (REST API v1, `GET /schemas/ids/{id}`): Avro schemas by id, cached.
//!
//! Schema ids flow in, schema texts flow out. A schema never changes under its id, so what was found is kept; that an id
//! is not known is kept for a while only, as it may be registered next. Every question has timeouts, every answer a
//! size, every cache a length and every trouble a number of attempts. The invariants: no error, log line or `Debug` form
//! holds the credentials; only the registry's own word (error code 40403) makes an id unknown, and so a record a dead
//! letter. Everything else, as a proxy's page or a refusal, is no answer, and is asked for again.

use std::collections::HashMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use thiserror::Error;
use ureq::Agent;
use ureq::http::Uri;

use crate::kafka::properties::blot;
use crate::records::{WriterSchemaError, WriterSchemas};

/// Time for one question and its answer: far above what a healthy registry takes, far below Kafka's poll interval.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a registry in trouble is asked before the error goes up; the stream then tries the batch again.
pub const DEFAULT_ATTEMPTS_MAX: u32 = 3;

/// The pause after the first failed attempt; each further one is twice as long.
pub const DEFAULT_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long an unknown id is not asked for again: soon enough for a schema registered late, seldom enough for a
/// topic full of wrong ids.
pub const DEFAULT_UNKNOWN_KEPT: Duration = Duration::from_secs(30);

/// Ids whose answer is kept; a topic has a handful of writers.
pub const DEFAULT_CACHED_MAX: usize = 1_024;

/// Questions asked at a time for the schemas of one batch: few enough for any registry.
pub const DEFAULT_ASKED_AT_ONCE: usize = 8;

/// How long questions are begun for the schemas of one batch. With the last ones, and where another scoring thread asked
/// before, that is well under the 60 s after which a batch in work counts as lost.
pub const DEFAULT_ASKING_MAX: Duration = Duration::from_secs(10);

/// Bytes an answer may have: the text of a large schema is some hundred kilobytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The registry's code for an id that it does not have; the status beside it, 404, is a proxy's word too.
const SCHEMA_NOT_FOUND: u32 = 40_403;

/// The scheme of the credentials.
const BASIC: &str = "Basic ";

/// Bytes of an answer that an error quotes.
const QUOTED_BYTES_MAX: usize = 200;

/// A text that is never printed: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a registry is, and how patiently it is asked.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `http://` or `https://`, host, optional port and path; without credentials.
    pub url: String,
    /// User and password of basic authentication.
    pub basic_auth: Option<(String, Secret)>,
    /// For one question and its answer.
    pub timeout: Duration,
    /// At least 1.
    pub attempts_max: u32,
    /// After the first failed attempt; doubles with each.
    pub retry_pause: Duration,
    /// How long an unknown id stays unknown.
    pub unknown_kept: Duration,
    /// Ids whose answer is kept, at least 1; more only where one batch has more.
    pub cached_max: usize,
    /// Questions at a time, at least 1.
    pub asked_at_once: usize,
    /// How long questions are begun for one batch.
    pub asking_max: Duration,
}

impl RegistryConfig {
    /// The registry at `url` with every default and no credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            basic_auth: None,
            timeout: DEFAULT_TIMEOUT,
            attempts_max: DEFAULT_ATTEMPTS_MAX,
            retry_pause: DEFAULT_RETRY_PAUSE,
            unknown_kept: DEFAULT_UNKNOWN_KEPT,
            cached_max: DEFAULT_CACHED_MAX,
            asked_at_once: DEFAULT_ASKED_AT_ONCE,
            asking_max: DEFAULT_ASKING_MAX,
        }
    }
}

/// Why a registry cannot be asked at all. No variant shows the address where it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryConfigError {
    /// Not an address that can be asked.
    #[error("schema registry url: {why}, expected http(s)://host[:port][/path]")]
    Url {
        /// What is wrong.
        why: String,
    },
    /// The address holds a user and a password.
    #[error(
        "schema registry url: holds credentials, give user and password as settings of their own"
    )]
    CredentialsInUrl,
    /// A bound that lets nothing through.
    #[error("schema registry {setting} = 0, expected at least 1")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
}

/// What is known about an id.
#[derive(Debug, Clone)]
enum Answer {
    Schema(Arc<str>),
    Unusable(String),
    Unknown { until: Instant },
}

/// A client that keeps the answers. Blocks its thread while it asks.
pub struct Registry {
    config: RegistryConfig,
    /// The configured address without a slash at its end.
    origin: String,
    authorization: Option<Secret>,
    agent: Agent,
    answers: HashMap<u32, Answer>,
    /// Ids of the largest batch so far: as many answers are kept, so that one batch never pushes out its own.
    batch_ids: usize,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("config", &self.config)
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

/// The body of a good answer.
#[derive(Deserialize)]
struct SchemaBody {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
}

/// How one attempt ended, unless with an answer.
enum Attempt {
    /// Asking again at once may help.
    Trouble(String),
    /// Asking again helps once somebody has changed something: credentials, an address, a proxy.
    Refused { status: u16, why: String },
}

impl Registry {
    /// A client for `config`; asks nothing yet.
    ///
    /// # Errors
    /// [`RegistryConfigError`] if the address cannot be asked, holds credentials, or a bound is 0.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryConfigError> {
        check_url(&config.url)?;
        if config.attempts_max == 0 {
            return Err(RegistryConfigError::Zero {
                setting: "attempts_max",
            });
        }
        if config.cached_max == 0 {
            return Err(RegistryConfigError::Zero {
                setting: "cached_max",
            });
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            // The credentials are for this host; where it points elsewhere is for the operator to decide.
            .max_redirects(0)
            .build()
            .new_agent();
        let authorization = config.basic_auth.as_ref().map(|(user, password)| {
            let pair = format!("{user}:{}", password.reveal());
            Secret::new(format!("{BASIC}{}", BASE64_STANDARD.encode(pair)))
        });
        let origin = config.url.trim_end_matches('/').to_owned();
        Ok(Self {
            config,
            origin,
            authorization,
            agent,
            answers: HashMap::new(),
            batch_ids: 0,
        })
    }

    /// Asks until there is an answer or the attempts are used up.
    fn ask(&self, id: u32) -> Result<Answer, WriterSchemaError> {
        let mut pause = self.config.retry_pause;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let origin = self.origin.clone();
            match self.ask_once(id) {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Refused { status, why }) => {
                    return Err(WriterSchemaError::Refused {
                        id,
                        origin,
                        status,
                        why,
                    });
                }
                Err(Attempt::Trouble(why)) if attempts >= self.config.attempts_max => {
                    return Err(WriterSchemaError::Unavailable {
                        id,
                        origin,
                        attempts,
                        why,
                    });
                }
                Err(Attempt::Trouble(_)) => {
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                }
            }
        }
    }

    fn ask_once(&self, id: u32) -> Result<Answer, Attempt> {
        let trouble = |error: ureq::Error| Attempt::Trouble(error.to_string());
        let mut request = self
            .agent
            .get(format!("{}/schemas/ids/{id}", self.origin))
            .header(
                "Accept",
                "application/vnd.schemaregistry.v1+json, application/json",
            );
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.reveal());
        }
        let mut response = request.call().map_err(trouble)?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string();
        match status {
            200 => read_schema(&body.map_err(trouble)?).map_err(Attempt::Trouble),
            404 if body.as_deref().is_ok_and(says_unknown) => Ok(self.unknown()),
            408 | 429 | 500.. => Err(Attempt::Trouble(format!(
                "status {status}: {}",
                self.quoted(body.as_deref())
            ))),
            _ => Err(Attempt::Refused {
                status,
                why: self.quoted(body.as_deref()),
            }),
        }
    }

    /// The beginning of an answer, for an error. Proxies repeat what they were sent: credentials are blotted out first.
    fn quoted(&self, body: Result<&str, &ureq::Error>) -> String {
        let text = match body {
            Ok("") => return "an empty answer".to_owned(),
            Ok(text) => text,
            Err(error) => return error.to_string(),
        };
        let password = self.config.basic_auth.as_ref();
        let password = password.map(|(_, password)| password.reveal());
        let pair = self.authorization.as_ref().map(|whole| {
            let whole = whole.reveal();
            whole.strip_prefix(BASIC).unwrap_or(whole)
        });
        let blotted = blot(text, password.into_iter().chain(pair));
        blotted[..blotted.floor_char_boundary(QUOTED_BYTES_MAX)].to_owned()
    }

    /// Asks for several ids, each on a thread of its own.
    fn ask_together(&self, ids: &[u32]) -> Vec<(u32, Result<Answer, WriterSchemaError>)> {
        if let [id] = ids {
            return vec![(*id, self.ask(*id))];
        }
        std::thread::scope(|scope| {
            let asked: Vec<_> = ids
                .iter()
                .map(|id| (*id, scope.spawn(move || self.ask(*id))))
                .collect();
            let answers = asked.into_iter().map(|(id, asked)| {
                // A panic is passed on as it came.
                let answer = asked.join().unwrap_or_else(|panic| resume_unwind(panic));
                (id, answer)
            });
            answers.collect()
        })
    }

    fn unknown(&self) -> Answer {
        Answer::Unknown {
            until: Instant::now() + self.config.unknown_kept,
        }
    }

    /// Keeps an answer; a full cache first loses what is out of date, then everything.
    fn keep(&mut self, id: u32, answer: Answer) {
        let most = self.config.cached_max.max(self.batch_ids);
        if self.answers.len() >= most && !self.answers.contains_key(&id) {
            let now = Instant::now();
            self.answers.retain(|_, kept| !kept.is_over(now));
            if self.answers.len() >= most {
                self.answers.clear();
            }
        }
        self.answers.insert(id, answer);
    }
}

impl Answer {
    fn is_over(&self, now: Instant) -> bool {
        matches!(self, Self::Unknown { until } if *until <= now)
    }

    fn give(self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        match self {
            Self::Schema(text) => Ok(Some(text)),
            Self::Unknown { .. } => Ok(None),
            Self::Unusable(why) => Err(WriterSchemaError::Unusable { id, why }),
        }
    }
}

impl WriterSchemas for Registry {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        let kept = self
            .answers
            .get(&id)
            .filter(|kept| !kept.is_over(Instant::now()));
        if let Some(answer) = kept {
            return answer.clone().give(id);
        }
        // Ids are positive integers of 32 bits: about any other a registry answers with an error of its own, without end.
        let answer = if i32::try_from(id).is_ok() {
            self.ask(id)?
        } else {
            self.unknown()
        };
        self.keep(id, answer.clone());
        answer.give(id)
    }

    fn prepare(&mut self, ids: &[u32]) -> Result<(), WriterSchemaError> {
        let begin = Instant::now();
        self.batch_ids = self.batch_ids.max(ids.len());
        let can_be_asked = |id: &u32| i32::try_from(*id).is_ok();
        let (old, new): (Vec<u32>, Vec<u32>) = ids
            .iter()
            .copied()
            .filter(can_be_asked)
            .filter(|id| self.answers.get(id).is_none_or(|kept| kept.is_over(begin)))
            .partition(|id| self.answers.contains_key(id));
        // Those that were never asked for come first. Where the time is over before those that are to be asked for again,
        // what was said of them holds for once more: otherwise they would be asked for without end.
        let missing = [new.as_slice(), &old].concat();
        let at_once = self.config.asked_at_once.max(1);
        for (asked, together) in missing.chunks(at_once).enumerate() {
            let answered = asked * at_once;
            if answered > 0 && begin.elapsed() >= self.config.asking_max {
                let Some(left) = new.len().checked_sub(answered).filter(|left| *left > 0) else {
                    for id in missing.iter().skip(answered) {
                        self.keep(*id, self.unknown());
                    }
                    return Ok(());
                };
                return Err(WriterSchemaError::Slow {
                    origin: self.origin.clone(),
                    answered,
                    left,
                });
            }
            let mut failed = None;
            for (id, answer) in self.ask_together(together) {
                match answer {
                    Ok(answer) => self.keep(id, answer),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), RegistryConfigError> {
    if url.contains('@') {
        return Err(RegistryConfigError::CredentialsInUrl);
    }
    let wrong = |why: &str| {
        Err(RegistryConfigError::Url {
            why: format!("{why} in \"{url}\""),
        })
    };
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("no address");
    };
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("http" | "https"), Some(_), None) => Ok(()),
        (Some("http" | "https"), Some(_), Some(_)) => wrong("a query"),
        _ => wrong("no http(s) scheme"),
    }
}

/// Whether this is the registry's own word that it does not have the schema.
fn says_unknown(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Error {
        error_code: u32,
    }
    serde_json::from_str(body).is_ok_and(|error: Error| error.error_code == SCHEMA_NOT_FOUND)
}

/// A good answer's schema, or why it cannot be used; an error if the body is no answer of a registry.
fn read_schema(body: &str) -> Result<Answer, String> {
    let body: SchemaBody = serde_json::from_str(body)
        .map_err(|error| format!("the answer is not one of a schema registry: {error}"))?;
    if let Some(kind) = body.schema_type.filter(|kind| kind != "AVRO") {
        return Ok(Answer::Unusable(format!(
            "its type is {kind}, expected AVRO"
        )));
    }
    if !body.references.is_empty() {
        let names: Vec<&str> = body
            .references
            .iter()
            .map(|other| other.name.as_str())
            .collect();
        return Ok(Answer::Unusable(format!(
            "it refers to other schemas ({}), which is not supported: register it in one piece",
            names.join(", ")
        )));
    }
    Ok(Answer::Schema(Arc::from(body.schema)))
}

#[cfg(test)]
mod tests;
