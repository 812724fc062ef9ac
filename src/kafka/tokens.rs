//! Tokens of OAUTHBEARER, fetched from an identity provider and handed to every client that lives.
//!
//! [`TokenSettings`] flow in, tokens flow into librdkafka. One thread asks (OAuth 2.0 client credentials), asks again
//! when four fifths of a token's life are over, and gives what it has to clients that come later. The stream's thread
//! never waits for the provider, and a call of a client that blocks it does not keep a token from being renewed. Every
//! question has a time, every answer a size. The invariant: no log line or error holds the secret or a token.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rdkafka::admin::AdminClient;
use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_oauthbearer_set_token_failure};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::{RDKafka, RDKafkaRespErr};
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::Secret;
use crate::kafka::oauth::{TokenSettings, token_settings};
use crate::kafka::properties::{Properties, blot};

/// For one question and its answer: an identity provider takes well under a second.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes an answer may have: tokens have some kilobytes.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Bytes of an answer that an error quotes.
const QUOTED_BYTES_MAX: usize = 200;
/// The pause after the first question that failed; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A token is renewed after this share of its life, as librdkafka does it.
const RENEWED_AFTER: f64 = 0.8;
/// Where an error of librdkafka is written to.
const ERROR_BYTES: usize = 512;

/// Why there is no token.
#[derive(Debug, PartialEq, Eq)]
enum TokenError {
    /// The provider says no: somebody has to change something.
    Refused(String),
    /// No answer, or one that is none.
    NoAnswer(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::NoAnswer(why) => f.write_str(why),
        }
    }
}

/// A token as the provider gave it.
#[derive(Clone)]
struct Token {
    value: Secret,
    principal: String,
    /// When it ends, since 1970.
    ends: Duration,
}

/// A client that wants tokens.
trait Holder: Send + Sync {
    fn native(&self) -> *mut RDKafka;
}

impl<C: ConsumerContext> Holder for BaseConsumer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Holder for BaseProducer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Holder for AdminClient<C> {
    fn native(&self) -> *mut RDKafka {
        self.inner().native_ptr()
    }
}

/// What the thread and the clients share.
#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Why the provider refuses, until it gives a token.
    refused: Option<String>,
    clients: Vec<Weak<dyn Holder>>,
    ended: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    extensions: Extensions,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while it held the lock has left whole values: each is written in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of tokens of every client of a connector. Its thread ends when it is dropped.
pub struct Tokens {
    shared: Arc<Shared>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Tokens {
    /// The source that the properties describe, if they do; begins to ask.
    ///
    /// # Errors
    /// As [`start`](Self::start), and every fault of the properties.
    pub fn configured(properties: &Properties) -> Result<Option<Self>, String> {
        let settings = token_settings(properties).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })?;
        settings.as_ref().map(Self::start).transpose()
    }

    /// Whether a source could be made; asks nothing.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn check(settings: &TokenSettings) -> Result<(), String> {
        Provider::new(settings).map(drop)
    }

    /// Begins to ask for tokens.
    ///
    /// # Errors
    /// A sentence on a file of authorities that cannot be used, or a thread that the system refuses.
    pub fn start(settings: &TokenSettings) -> Result<Self, String> {
        let provider = Provider::new(settings)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            extensions: Extensions::new(&settings.extensions)?,
        });
        let held = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("tokens".to_owned())
            .spawn(move || keep_fresh(&provider, &held))
            .map_err(|error| format!("cannot start the thread of tokens: {error}"))?;
        Ok(Self { shared })
    }

    /// Gives the consumer every token from now on, for as long as it lives.
    pub fn give_to_consumer<C: ConsumerContext + 'static>(&self, client: &Arc<BaseConsumer<C>>) {
        self.give_to(Arc::clone(client) as Arc<dyn Holder>);
    }

    /// As [`give_to_consumer`](Self::give_to_consumer), for a producer.
    pub fn give_to_producer<C: ProducerContext + 'static>(&self, client: &Arc<BaseProducer<C>>) {
        self.give_to(Arc::clone(client) as Arc<dyn Holder>);
    }

    /// As [`give_to_consumer`](Self::give_to_consumer), for a client that only asks.
    pub fn give_to_admin<C: ClientContext + 'static>(&self, client: &Arc<AdminClient<C>>) {
        self.give_to(Arc::clone(client) as Arc<dyn Holder>);
    }

    fn give_to(&self, client: Arc<dyn Holder>) {
        let mut state = self.shared.state();
        match (&state.token, &state.refused) {
            (Some(token), _) if token.ends > now() => {
                log_refusal(hand_over(client.native(), token, &self.shared.extensions));
            }
            (_, Some(why)) => fail(client.native(), why),
            (_, None) => {}
        }
        state.clients.retain(|client| client.strong_count() > 0);
        state.clients.push(Arc::downgrade(&client));
    }
}

/// The life of the thread.
fn keep_fresh(provider: &Provider, shared: &Shared) {
    let mut pause = PAUSE_MIN;
    loop {
        let asked = provider.ask(now());
        let mut state = shared.state();
        if state.ended {
            return;
        }
        let clients: Vec<_> = state.clients.iter().filter_map(Weak::upgrade).collect();
        let wait = match asked {
            Ok(token) => {
                pause = PAUSE_MIN;
                let left = token.ends.saturating_sub(now());
                info!(lives_s = left.as_secs(), "OAUTHBEARER token received");
                state.refused = None;
                for client in &clients {
                    log_refusal(hand_over(client.native(), &token, &shared.extensions));
                }
                state.token = Some(token);
                left.mul_f64(RENEWED_AFTER).max(PAUSE_MIN)
            }
            Err(error) => {
                warn!(%error, endpoint = provider.endpoint, again_in_s = pause.as_secs(), "no OAUTHBEARER token");
                let valid = state.token.as_ref().is_some_and(|token| token.ends > now());
                // A token that is still good outlives a provider in trouble; without one the brokers cannot be reached.
                if let (TokenError::Refused(why), false) = (error, valid) {
                    for client in &clients {
                        fail(client.native(), &why);
                    }
                    state.refused = Some(why);
                }
                let wait = pause;
                pause = PAUSE_MAX.min(pause * 2);
                wait
            }
        };
        // A client whose session has let go of it meanwhile is closed here, which may take long: nobody waits for the lock.
        drop(state);
        drop(clients);
        let waited = shared
            .changed
            .wait_timeout_while(shared.state(), wait, |state| !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn log_refusal(handed: Result<(), String>) {
    if let Err(error) = handed {
        warn!(error, "the client does not take the OAUTHBEARER token");
    }
}

/// Names and values in turn, as librdkafka takes them.
struct Extensions(Vec<CString>);

impl Extensions {
    fn new(pairs: &[(String, String)]) -> Result<Self, String> {
        let texts = pairs.iter().flat_map(|(name, value)| [name, value]);
        let texts = texts.map(|text| CString::new(text.as_str()));
        let texts: Result<_, _> = texts.collect();
        texts.map(Self).map_err(|error| error.to_string())
    }
}

/// Gives a client its token.
fn hand_over(client: *mut RDKafka, token: &Token, extensions: &Extensions) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "a null byte in the token".to_owned());
    let (value, principal) = (text(token.value.reveal())?, text(&token.principal)?);
    let ends_ms = i64::try_from(token.ends.as_millis()).unwrap_or(i64::MAX);
    let mut pointers: Vec<*const c_char> = extensions.0.iter().map(|text| text.as_ptr()).collect();
    let mut why = [0 as c_char; ERROR_BYTES];
    // The binding has no call for a token with extensions, and none outside of a poll.
    #[expect(
        unsafe_code,
        reason = "the client lives, as its holder is borrowed from an Arc; every text ends with a null byte and outlives \
                  the call, which copies it; the sizes are those of the buffers; librdkafka's calls are thread-safe"
    )]
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            ends_ms,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let bytes: Vec<u8> = why.iter().map(|&byte| byte as u8).collect();
    let why = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    Err(why.to_string_lossy().into_owned())
}

/// Tells a client that there will be no token for now: it raises an authentication error.
fn fail(client: *mut RDKafka, why: &str) {
    let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
    #[expect(
        unsafe_code,
        reason = "as in `hand_over`: the client lives, the text ends with a null byte and is copied by the call"
    )]
    unsafe {
        rd_kafka_oauthbearer_set_token_failure(client, why.as_ptr());
    }
}

/// Who gives tokens.
struct Provider {
    endpoint: String,
    client_id: String,
    scope: Option<String>,
    authorization: Secret,
    /// What must not be shown of an answer that repeats it.
    secrets: Vec<Secret>,
    agent: Agent,
}

/// An answer of RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds; some providers write them as text.
    expires_in: Option<Value>,
}

/// What is read of a token that is a JWT (RFC 7519); it is for the brokers to check.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
}

impl Provider {
    fn new(settings: &TokenSettings) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The credentials are for this host.
            .max_redirects(0);
        if let Some(roots) = authorities(settings)? {
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let secret = settings.client_secret.reveal();
        let pair = BASE64_STANDARD.encode(format!("{}:{secret}", settings.client_id));
        Ok(Self {
            endpoint: settings.endpoint.clone(),
            client_id: settings.client_id.clone(),
            scope: settings.scope.clone(),
            authorization: Secret::new(format!("Basic {pair}")),
            secrets: vec![settings.client_secret.clone(), Secret::new(pair)],
            agent: config.build().new_agent(),
        })
    }

    /// Asks once; the time is since 1970.
    fn ask(&self, now: Duration) -> Result<Token, TokenError> {
        let blotted = |text: &str| blot(text, self.secrets.iter().map(Secret::reveal));
        let trouble = |error: ureq::Error| {
            let why = blotted(&error.to_string());
            TokenError::NoAnswer(format!("token endpoint {}: {why}", self.endpoint))
        };
        let form = [("grant_type", "client_credentials")];
        let form = form
            .into_iter()
            .chain(self.scope.as_deref().map(|scope| ("scope", scope)));
        let mut response = self
            .agent
            .post(&self.endpoint)
            .header("Authorization", self.authorization.reveal())
            .header("Accept", "application/json")
            .send_form(form)
            .map_err(trouble)?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(trouble)?;
        if status == 200 {
            let token = self.read(&body, now);
            return token.map_err(|why| {
                TokenError::NoAnswer(format!("token endpoint {}: {why}", self.endpoint))
            });
        }
        // First blotted, then cut: the beginning of a secret would not be found.
        let quoted = blotted(&body);
        let quoted = &quoted[..quoted.floor_char_boundary(QUOTED_BYTES_MAX)];
        let why = format!(
            "token endpoint {}: status {status}: {quoted}",
            self.endpoint
        );
        Err(match status {
            400..=407 | 409..=428 | 430..=499 => TokenError::Refused(why),
            _ => TokenError::NoAnswer(why),
        })
    }

    /// The token of a good answer. No error quotes it.
    fn read(&self, body: &str, now: Duration) -> Result<Token, String> {
        let answer: Answer = serde_json::from_str(body).map_err(|error| {
            format!(
                "expected JSON with access_token, found something else at line {} column {}",
                error.line(),
                error.column()
            )
        })?;
        let claims = claims(&answer.access_token);
        let lives = answer.expires_in.as_ref().and_then(seconds);
        // The length of its life does not depend on two clocks being right.
        let ends = match (lives, claims.exp) {
            (Some(lives), _) => now.checked_add(lives),
            (None, Some(ends)) => Duration::try_from_secs_f64(ends).ok(),
            (None, None) => {
                return Err("the answer has no expires_in, and the token no claim exp".to_owned());
            }
        };
        let ends = ends.filter(|ends| *ends > now).ok_or_else(|| {
            "the token has ended already: is the clock of this machine right?".to_owned()
        })?;
        Ok(Token {
            principal: claims.sub.unwrap_or_else(|| self.client_id.clone()),
            value: Secret::new(answer.access_token),
            ends,
        })
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The claims of a JWT; none of a token of another make.
fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
    let claims = payload.map(|payload| serde_json::from_slice(&payload));
    claims.map(Result::unwrap_or_default).unwrap_or_default()
}

/// The configured authorities.
fn authorities(settings: &TokenSettings) -> Result<Option<RootCerts>, String> {
    let (text, origin) = match (&settings.ca_text, &settings.ca_file) {
        (Some(text), _) => (text.clone(), "https.ca.pem".to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("https.ca.location: file {path}: {error}"))?;
            (text, format!("https.ca.location: file {path}"))
        }
        (None, None) => return Ok(None),
    };
    let items = parse_pem(text.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("{origin}: {error}"))),
    });
    let certificates = items.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(format!(
            "{origin}: expected certificates in PEM, found none"
        ));
    }
    Ok(Some(RootCerts::new_with_certs(&certificates)))
}

#[cfg(test)]
mod tests;
