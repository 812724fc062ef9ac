//! What librdkafka says of its connections: remembered for faults, collapsed for the log.
//!
//! Lines of the log and errors of both clients flow in, from the first session to the last. Out flow lines in our log, each
//! text once a minute with the count of its repetitions; the cause of the present trouble, for whoever waits; and the verdict
//! that the cluster refuses who we are. The client itself never gives up on a connection, so that wrong credentials would
//! look like a cluster that is away. The invariant: memory is bounded, and no secret is kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{error, info, warn};

use super::faults::code_of;
use crate::delivery::fault::DeliveryFault;
use crate::kafka::properties::Properties;
use crate::telemetry::heartbeat::Operation;

/// A text is written again after this long, with the number of times that it came meanwhile.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Different texts that are remembered: brokers of a cluster, times what can be wrong with them.
const LINES_MAX: usize = 64;
/// How long nobody answers before the wait itself is logged, with its cause.
const WAIT_LOGGED_AFTER: Duration = Duration::from_secs(3);
/// How long a cluster that has never let us in may refuse us. A broker that starts may not know its users for a moment.
const REFUSED_FOR: Duration = Duration::from_secs(8);
/// The same where the broker closes the connection without a word, as TLS listeners do when they are spoken to in plain
/// text. A proxy whose broker is away does it too, so that it has to go on for longer.
const CLOSED_FOR: Duration = Duration::from_secs(15);
/// A sign that was not repeated for so long is over: the client tries each broker again every 10 s at least, and logs the
/// same failure every 30 s.
const SIGNS_EVERY: Duration = Duration::from_secs(45);

/// The facility of log lines that say why a connection failed.
const CONNECTION_FAILED: &str = "FAIL";
/// Signs, in such lines, of a broker that does not accept us.
const REFUSAL_SIGNS: [&str; 4] = ["uthentication", "SSL", "ssl3_", "certificate"];
/// Sign of a connection that was closed without a word, in the first request or in the handshake of TLS. The client's own
/// guess beside it ("broker might require SASL authentication") is no word of the cluster.
const CLOSED: &str = "Disconnected";
/// The client's first request, which needs no rights.
const FIRST_REQUEST: &str = "in state APIVERSION_QUERY";

/// A text, and when it was written.
#[derive(Debug)]
struct Line {
    written: Instant,
    repeated: u64,
}

/// The cluster does not let us in, as far as is known.
#[derive(Debug, Clone)]
struct Refusal {
    /// Which broker, as the client names it.
    broker: String,
    first: Instant,
    last: Instant,
    /// How long it has to go on.
    limit: Duration,
    /// Of the cluster, or of the client about it.
    words: String,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a broker has ever answered as one that knows us.
    let_in: bool,
    /// What was wrong with the latest connection that failed.
    cause: Option<String>,
    refused: Option<Refusal>,
    lines: BTreeMap<String, Line>,
}

/// Shared by the clients of all sessions.
#[derive(Debug, Default)]
pub struct Troubles {
    properties: Properties,
    servers: String,
    state: Mutex<State>,
}

impl Troubles {
    /// Of clients of `servers` with these properties, whose secrets are blotted out.
    pub fn new(servers: &str, properties: &Properties) -> Self {
        Self {
            properties: properties.clone(),
            servers: servers.to_owned(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster has answered one of our requests: it knows us, and whatever was wrong is over.
    pub fn let_in(&self) {
        let mut state = self.state();
        state.let_in = true;
        state.cause = None;
        state.refused = None;
    }

    /// Whether the cluster has ever let us in.
    pub fn was_let_in(&self) -> bool {
        self.state().let_in
    }

    /// What was wrong with the latest connection that failed, if any has since the cluster answered.
    pub fn cause(&self) -> Option<String> {
        self.state().cause.clone()
    }

    /// No broker is connected: logs it now and then, and gives back why the latest connection failed.
    pub fn away(&self) -> String {
        let why = self.cause();
        let why = why.unwrap_or_else(|| "nothing answers".to_owned());
        if let Some(repeated) = self.line_due("no broker is reachable", Instant::now()) {
            warn!(
                brokers = self.servers,
                repeated, "no broker is reachable: {why}"
            );
        }
        why
    }

    /// A log line of the client; it comes from a thread of the client, without a poll.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        use RDKafkaLogLevel as Level;
        let (text, now) = (self.properties.blot(text), Instant::now());
        if facility == CONNECTION_FAILED {
            self.learn(&text, now);
        }
        if matches!(level, Level::Debug) {
            tracing::debug!(target: "librdkafka", facility, "{text}");
            return;
        }
        let Some(repeated) = self.line_due(&text, now) else {
            return;
        };
        match level {
            Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
                error!(target: "librdkafka", facility, repeated, "{text}");
            }
            Level::Warning => warn!(target: "librdkafka", facility, repeated, "{text}"),
            Level::Notice | Level::Info | Level::Debug => {
                info!(target: "librdkafka", facility, repeated, "{text}");
            }
        }
    }

    /// An error that the client reports beside its calls. Why a connection failed was learnt from the log.
    pub fn error(&self, client: &'static str, error: &KafkaError, reason: &str) {
        let reason = self.properties.blot(reason);
        if let Some(repeated) = self.line_due(&reason, Instant::now()) {
            warn!(target: "librdkafka", client, %error, repeated, "{reason}");
        }
        if code_of(error) == Some(RDKafkaErrorCode::Authentication) {
            // Before any connection: whoever gives tokens of OAUTHBEARER refuses.
            self.learn(&format!("authentication: {reason}"), Instant::now());
        }
    }

    /// An error that a poll gives back; it has no more words than its code.
    pub fn note(&self, client: &'static str, error: &KafkaError) {
        let text = self.properties.blot(&error.to_string());
        if let Some(repeated) = self.line_due(&text, Instant::now()) {
            warn!(client, repeated, "{text}");
        }
    }

    /// Learns why a connection failed.
    fn learn(&self, text: &str, now: Instant) {
        let text = without_thread(text);
        let is_refusal = REFUSAL_SIGNS.iter().any(|sign| text.contains(sign));
        let is_closed = text.contains(CLOSED);
        let (limit, words) = if is_refusal && !is_closed {
            (Some(REFUSED_FOR), text.to_owned())
        } else if is_closed && (is_refusal || text.contains(FIRST_REQUEST)) {
            let hint = "is security.protocol right, or is this a TLS listener?";
            (Some(CLOSED_FOR), format!("{text}; {hint}"))
        } else {
            (None, text.to_owned())
        };
        let broker = text.split_once(": ").map_or("", |(broker, _)| broker);
        let mut state = self.state();
        state.cause = Some(words.clone());
        let Some(limit) = limit.filter(|_| !state.let_in) else {
            // Whoever fails in another way now does not refuse us any more.
            state.refused = state.refused.take().filter(|of| of.broker != broker);
            return;
        };
        let earlier = state
            .refused
            .take()
            .filter(|refusal| now.saturating_duration_since(refusal.last) < SIGNS_EVERY);
        let mut refusal = Refusal {
            broker: broker.to_owned(),
            first: now,
            last: now,
            limit,
            words,
        };
        if let Some(earlier) = earlier {
            refusal.first = earlier.first;
            if earlier.limit < limit {
                // Plain words stay, also where the next connection is only closed.
                (refusal.limit, refusal.words) = (earlier.limit, earlier.words);
            }
        }
        state.refused = Some(refusal);
    }

    /// Whether a text is to be written now: `None` if it was lately, else how often it came since.
    fn line_due(&self, text: &str, now: Instant) -> Option<u64> {
        let key = essence(text);
        let mut state = self.state();
        if let Some(line) = state.lines.get_mut(key) {
            if now.saturating_duration_since(line.written) < LINE_EVERY {
                line.repeated += 1;
                return None;
            }
            line.written = now;
            return Some(std::mem::take(&mut line.repeated));
        }
        if state.lines.len() >= LINES_MAX {
            let oldest = state.lines.iter().min_by_key(|(_, line)| line.written);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                state.lines.remove(&oldest);
            }
        }
        let line = Line {
            written: now,
            repeated: 0,
        };
        state.lines.insert(key.to_owned(), line);
        Some(0)
    }

    /// To be called now and then while nobody answers, since `since`: logs it, and gives up where the cluster refuses us
    /// and has never let us in.
    ///
    /// # Errors
    /// [`DeliveryFault::Impossible`] with the cluster's words.
    pub fn wait(&self, operation: Operation, since: Instant) -> Result<(), DeliveryFault> {
        let refused = self.state().refused.clone();
        if let Some(refusal) = refused
            && refusal.first.elapsed() >= refusal.limit
            && refusal.last.elapsed() < SIGNS_EVERY
        {
            let (servers, words) = (&self.servers, refusal.words);
            return Err(DeliveryFault::Impossible {
                operation: operation.as_str(),
                detail: format!("the cluster at {servers} refuses this client: {words}"),
            });
        }
        let waited = since.elapsed();
        if waited >= WAIT_LOGGED_AFTER
            && let Some(cause) = self.cause()
            && self
                .line_due("waiting for brokers", Instant::now())
                .is_some()
        {
            warn!(brokers = self.servers, %operation, waited_s = waited.as_secs(), "no broker answers yet: {cause}");
        }
        Ok(())
    }
}

/// A line of the log without the name of the client's thread.
fn without_thread(text: &str) -> &str {
    match text.strip_prefix("[thrd:") {
        Some(rest) => rest.split_once("]: ").map_or(rest, |(_, text)| text),
        None => text,
    }
}

/// A line without what differs from one time to the next: the thread before it, the time behind it.
fn essence(text: &str) -> &str {
    let text = without_thread(text);
    text.split_once(" (after ").map_or(text, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REFUSED_CONNECTION: &str =
        "127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused";

    fn troubles() -> Troubles {
        Troubles::new("127.0.0.1:9", &Properties::default())
    }

    #[test]
    fn a_line_is_told_once_a_minute_with_the_count_of_its_repetitions() {
        let troubles = troubles();
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        let line =
            |ms: u64| format!("[thrd:a]: {REFUSED_CONNECTION} (after {ms}ms in state CONNECT)");
        let written: Vec<_> = (0..130)
            .filter_map(|second| Some((second, troubles.line_due(&line(second), at(second))?)))
            .collect();
        assert_eq!(written, [(0, 0), (60, 59), (120, 59)]);
        assert_eq!(troubles.line_due("something else", at(1)), Some(0));
    }

    #[test]
    fn different_lines_are_bounded() {
        let troubles = troubles();
        for number in 0..1_000 {
            let line = format!("line {number}");
            assert_eq!(troubles.line_due(&line, Instant::now()), Some(0));
        }
        assert_eq!(troubles.state().lines.len(), LINES_MAX);
    }

    #[test]
    fn a_cluster_that_refuses_us_from_the_start_is_told_from_one_that_is_away() {
        let begin = Instant::now()
            .checked_sub(SIGNS_EVERY + CLOSED_FOR)
            .unwrap();
        let wait = |troubles: &Troubles| troubles.wait(Operation::InitTransactions, Instant::now());
        // Every 5 s from the beginning until now.
        let learn = |troubles: &Troubles, words: &str| {
            let mut at = begin;
            while at < Instant::now() {
                troubles.learn(words, at);
                at += Duration::from_secs(5);
            }
        };
        let away = troubles();
        learn(&away, REFUSED_CONNECTION);
        assert!(wait(&away).is_ok());
        assert_eq!(away.cause().as_deref(), Some(REFUSED_CONNECTION));

        let sasl = "b:1/bootstrap: SASL authentication error: no";
        let tls = "b:1/bootstrap: SSL handshake failed: certificate verify failed";
        let closed =
            "[thrd:b]: b:1/bootstrap: Disconnected: closed (after 1ms in state APIVERSION_QUERY)";
        let at_handshake = "b:1/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker \
                            listener? (after 3ms in state SSL_HANDSHAKE)";
        let guessed = "b:1/bootstrap: Disconnected: verify that security.protocol is correctly configured, broker might \
                       require SASL authentication (after 2ms in state APIVERSION_QUERY)";
        let long_enough = Instant::now()
            .checked_sub(REFUSED_FOR + Duration::from_secs(1))
            .unwrap();
        for line in [at_handshake, guessed] {
            let proxied = troubles();
            proxied.learn(line, long_enough);
            proxied.learn(line, Instant::now());
            assert!(
                wait(&proxied).is_ok(),
                "a proxy whose broker is away closes connections too: {line}"
            );
        }
        for (line, words) in [
            (at_handshake, "security.protocol"),
            (guessed, "SASL"),
            (sasl, "SASL authentication error"),
            (tls, "verify failed"),
            (closed, "security.protocol"),
        ] {
            let refusing = troubles();
            refusing.learn(line, Instant::now());
            assert!(wait(&refusing).is_ok(), "a moment is no refusal");
            let refusing = troubles();
            learn(&refusing, line);
            let fault = wait(&refusing).unwrap_err();
            assert!(!fault.is_curable(), "{fault}");
            assert!(fault.to_string().contains(words), "{fault}");

            let over = troubles();
            over.learn(line, begin);
            assert!(wait(&over).is_ok(), "it was not refused lately");

            let gone = troubles();
            learn(&gone, line);
            gone.learn("b:1/bootstrap: Connection refused", Instant::now());
            assert!(wait(&gone).is_ok(), "it is away now");

            let restarting = troubles();
            restarting.let_in();
            learn(&restarting, line);
            assert!(wait(&restarting).is_ok(), "it has let us in before");
        }
    }
}
