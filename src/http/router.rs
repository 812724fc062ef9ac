//! What each address answers. Requests flow in; metrics, verdicts and scores flow out. No record of
//! one request can touch another's answer, and no number of requests can queue up here: what cannot
//! be scored soon is refused at once.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::Limits;
use super::body::{BodyError, read_body};
use super::scorer::{RequestScorer, ScoreOutcome, SubmitError};
use super::split::{Records, SplitError, split};
use crate::telemetry::{Metrics, Readiness, metrics};

/// Seconds after which a client that was refused for load may come back: a batch is done by then.
const RETRY_AFTER_SECONDS: &str = "1";

/// Where records are scored.
const SCORE: &str = "/v1/score";

/// What a person sees who opens the port in a browser.
const INDEX: &str = "maskwatch\n\n\
    GET  /healthz   200 while the process works\n\
    GET  /readyz    200 when it is ready, else 503 with what is missing\n\
    GET  /metrics   for Prometheus\n\
    POST /v1/score  one JSON record, or an array of them: scores, p-values and reasons\n";

/// What the handlers share; cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    scorer: Arc<dyn RequestScorer>,
    limits: Limits,
    /// One permit a score request in hand, from before its body is read.
    requests: Arc<Semaphore>,
}

impl HttpState {
    /// Puts the parts together.
    pub fn new(
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        scorer: Arc<dyn RequestScorer>,
        limits: Limits,
    ) -> Self {
        let requests = Arc::new(Semaphore::new(limits.requests_max));
        Self {
            metrics,
            readiness,
            scorer,
            limits,
            requests,
        }
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// All addresses.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(export_metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route(SCORE, post(score))
        .fallback(not_found)
        .method_not_allowed_fallback(other_method)
        .with_state(state)
}

/// Alive: 503 only where nothing but a restart helps.
async fn healthz(State(state): State<HttpState>) -> (StatusCode, String) {
    match state.readiness.health() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}

async fn not_found() -> Response {
    let body = error_json(
        "not_found",
        "no such address; GET / names those that there are",
    );
    json(StatusCode::NOT_FOUND, body)
}

/// A known address asked in another way; the header `Allow` is set by the router.
async fn other_method(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let detail = match path {
        SCORE => format!(
            "{method} {path}: only POST scores, with one JSON record or an array of them as the body, for example: curl \
             -X POST http://HOST:PORT{path} -d '{{\"amount\": 12.5}}'"
        ),
        _ => format!("{method} {path}: only GET"),
    };
    let body = error_json("method_not_allowed", &detail);
    json(StatusCode::METHOD_NOT_ALLOWED, body)
}

async fn export_metrics(State(state): State<HttpState>) -> Response {
    state.metrics.set_ready(state.readiness.report().ready);
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be exported");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let report = state.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(report)).into_response()
}

/// One record or an array of them in, envelopes out.
async fn score(State(state): State<HttpState>, request: Request) -> Result<Response, Refusal> {
    let _permit = state
        .requests
        .try_acquire()
        .map_err(|_| Refusal::Overloaded("too many requests at a time".to_owned()))?;
    let (head, body) = request.into_parts();
    let body = read_body(&head.headers, body, &state.limits).await?;
    match split(&body, state.limits.records_max)? {
        Records::One(record) => {
            let mut outcomes = outcomes(&state, vec![record.to_vec()]).await?;
            outcomes.pop().map(answer_to_one).ok_or(Refusal::Unanswered)
        }
        Records::Many(records) if records.is_empty() => Ok(json(StatusCode::OK, "[]".to_owned())),
        Records::Many(records) => {
            let records: Vec<Vec<u8>> = records.into_iter().map(<[u8]>::to_vec).collect();
            Ok(answer_to_many(outcomes(&state, records).await?))
        }
    }
}

/// One outcome a record, in the order given.
async fn outcomes(state: &HttpState, records: Vec<Vec<u8>>) -> Result<Vec<ScoreOutcome>, Refusal> {
    let expected = records.len();
    let receiver = state.scorer.submit(records)?;
    let outcomes = tokio::time::timeout(state.limits.score_timeout, receiver)
        .await
        .map_err(|_| Refusal::Late {
            limit_ms: state.limits.score_timeout.as_millis(),
        })?
        .map_err(|_| Refusal::Unanswered)?;
    if outcomes.len() == expected {
        Ok(outcomes)
    } else {
        tracing::error!(
            expected,
            found = outcomes.len(),
            "scores and records differ in number"
        );
        Err(Refusal::Unanswered)
    }
}

/// The answer to a record alone.
fn answer_to_one(outcome: ScoreOutcome) -> Response {
    match outcome {
        ScoreOutcome::Scored(envelope) => json(StatusCode::OK, envelope),
        ScoreOutcome::Bad { reason, detail } => json(
            StatusCode::UNPROCESSABLE_ENTITY,
            error_json(reason.as_str(), &detail),
        ),
    }
}

/// The answer to an array: what is bad has its error at its index.
fn answer_to_many(outcomes: Vec<ScoreOutcome>) -> Response {
    let elements: Vec<String> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            ScoreOutcome::Scored(envelope) => envelope,
            ScoreOutcome::Bad { reason, detail } => error_json(reason.as_str(), &detail),
        })
        .collect();
    json(StatusCode::OK, format!("[{}]", elements.join(",")))
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `{"error": {"reason", "detail"}}`
fn error_json(reason: &str, detail: &str) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        reason: &'a str,
        detail: &'a str,
    }
    // Two texts always serialise; the fallback keeps that from being an assumption.
    serde_json::to_string(&Body {
        error: Error { reason, detail },
    })
    .unwrap_or_else(|_| "{\"error\":{}}".to_owned())
}

/// Why a request was refused as a whole.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error("{0}")]
    Overloaded(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("no scores within {limit_ms} ms")]
    Late { limit_ms: u128 },
    #[error("the scorer did not answer")]
    Unanswered,
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull => Self::Overloaded(error.to_string()),
            SubmitError::Unavailable => Self::Unavailable(error.to_string()),
        }
    }
}

impl Refusal {
    /// The status and the word for it in the answer.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body(BodyError::TooLarge { .. }) | Self::Split(SplitError::TooMany { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            Self::Body(BodyError::Slow { .. }) => (StatusCode::REQUEST_TIMEOUT, "slow"),
            Self::Body(BodyError::Broken) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Split(SplitError::Malformed { .. } | SplitError::NoRecord { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "malformed")
            }
            Self::Overloaded(_) => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::Unavailable(_) | Self::Late { .. } | Self::Unanswered => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, reason) = self.status();
        let mut response = json(status, error_json(reason, &self.to_string()));
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let value = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if matches!(self, Self::Body(_)) {
            // The rest of the body may still be on its way: the connection cannot carry another
            // request.
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::super::testing::{Server, echo};
    use super::*;

    #[test]
    fn metrics_are_exported_in_the_text_format() {
        let server = Server::start(echo, Limits::default());
        let (status, headers, body) = server.get("/metrics");
        assert_eq!(status, 200);
        assert_eq!(
            headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert!(
            body.contains("# TYPE maskwatch_records_total counter"),
            "{body}"
        );
    }

    #[test]
    fn readyz_says_what_is_missing_and_healthz_is_alive_all_the_same() {
        let server = Server::start(echo, Limits::default());
        assert_eq!(server.get("/healthz").0, 200);
        let (status, _, body) = server.get("/readyz");
        let report: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &report["ready"]), (503, &json!(false)));
        assert_eq!(report["missing"][0], "model: none is loaded");

        server.readiness.model_loaded("0123");
        server.readiness.partitions_assigned(4);
        server.readiness.progress(3, 10);
        let (status, _, body) = server.get("/readyz");
        let expected = json!({
            "ready": true, "missing": [], "model_id": "0123", "partitions": 4, "lag_records": 3
        });
        assert_eq!(
            (status, serde_json::from_str::<Value>(&body).unwrap()),
            (200, expected)
        );
    }

    #[test]
    fn a_stream_that_stands_still_is_not_alive_and_says_where() {
        let server = Server::start(echo, Limits::default());
        let what = "the stream has been in \"commit the transaction\" for over 120 s";
        server.readiness.stalled(Some(what.to_owned()));
        assert_eq!(
            (server.get("/healthz").0, server.get("/healthz").2),
            (503, format!("{what}\n"))
        );
        assert!(server.get("/readyz").2.contains("stall: the stream"));
        server.readiness.stalled(None);
        assert_eq!(server.get("/healthz").0, 200);
    }

    #[test]
    fn readiness_is_exported_as_a_metric_from_the_first_scrape() {
        let server = Server::start(echo, Limits::default());
        assert!(server.get("/metrics").2.contains("maskwatch_ready 0"));
        server.readiness.model_loaded("0123");
        server.readiness.partitions_assigned(4);
        server.readiness.progress(3, 10);
        assert!(server.get("/metrics").2.contains("maskwatch_ready 1"));
    }

    #[test]
    fn one_record_has_its_envelope() {
        let server = Server::start(echo, Limits::default());
        let (status, headers, body) = server.score(b"{\"amount\": 3}");
        assert_eq!(
            (status, headers["content-type"].as_str()),
            (200, "application/json")
        );
        let envelope: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(envelope, json!({"topic": null, "record": {"amount": 3}}));
    }

    #[test]
    fn one_bad_record_alone_is_unprocessable() {
        let server = Server::start(echo, Limits::default());
        for bad in [
            &b"{\"amount\": NaN}"[..],
            b"{} {}",
            b"",
            b"nonsense",
            b"\xff",
        ] {
            let (status, _, body) = server.score(bad);
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &answer["error"]["reason"]),
                (422, &json!("malformed")),
                "{body}"
            );
        }
    }

    #[test]
    fn a_bad_record_of_an_array_leaves_its_neighbours_alone() {
        let server = Server::start(echo, Limits::default());
        let (status, _, body) = server.score(b"[{\"a\":1}, {\"a\":NaN}, {\"a\":3}]");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(answer[0]["record"], json!({"a": 1}));
        assert_eq!(answer[1]["error"]["reason"], "malformed");
        assert!(answer[1]["error"]["detail"].is_string());
        assert_eq!(answer[2]["record"], json!({"a": 3}));
        assert_eq!(answer.as_array().unwrap().len(), 3);
    }

    #[test]
    fn an_empty_array_is_answered_without_the_scorer() {
        let server = Server::start(|_| Err(SubmitError::Unavailable), Limits::default());
        let (status, _, body) = server.score(b" [ ] ");
        assert_eq!((status, body.as_str()), (200, "[]"));
    }

    #[test]
    fn an_array_that_cannot_be_taken_apart_is_refused_with_its_offset() {
        let server = Server::start(echo, Limits::default());
        let (status, _, body) = server.score(b"[{\"a\":1}, {\"a\":2}");
        assert_eq!(status, 422);
        assert!(body.contains("malformed at byte 17"), "{body}");
    }

    #[test]
    fn what_is_too_large_is_refused_with_the_limit_and_the_next_request_is_served() {
        let limits = Limits {
            body_bytes_max: 1000,
            records_max: 3,
            ..Limits::default()
        };
        let server = Server::start(echo, limits);
        // Beyond every socket buffer, so that the client would see a reset if the body were not
        // read.
        for length in [1001, 10_000_000] {
            let (status, _, body) = server.score(&vec![b' '; length]);
            assert_eq!(status, 413);
            assert!(body.contains("longer than 1000 bytes"), "{body}");
        }
        let (status, _, body) = server.score(b"[1,2,3,4]");
        assert_eq!(status, 413);
        assert!(body.contains("more than 3 records"), "{body}");
        assert_eq!(server.score(b"[1,2,3]").0, 200);
    }

    #[test]
    fn a_full_queue_is_too_many_requests_and_says_when_to_come_back() {
        let server = Server::start(|_| Err(SubmitError::QueueFull), Limits::default());
        let (status, headers, body) = server.score(b"{}");
        assert_eq!((status, headers["retry-after"].as_str()), (429, "1"));
        assert!(body.contains("\"reason\":\"overloaded\""), "{body}");
    }

    #[test]
    fn requests_at_a_time_are_bounded_and_probes_still_answer() {
        let (entered, inside) = std::sync::mpsc::channel();
        let hold = move |_: Vec<Vec<u8>>| {
            let (sender, receiver) = oneshot::channel();
            entered.send(sender).unwrap();
            Ok(receiver)
        };
        let limits = Limits {
            requests_max: 1,
            ..Limits::default()
        };
        let server = Server::start(hold, limits);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| server.score(b"{}").0);
            let held = inside.recv().unwrap();
            assert_eq!(server.score(b"{}").0, 429);
            assert_eq!(server.get("/healthz").0, 200);
            held.send(vec![ScoreOutcome::Scored("{}".to_owned())])
                .unwrap();
            assert_eq!(first.join().unwrap(), 200);
        });
    }

    #[test]
    fn a_scorer_that_does_not_answer_in_time_is_unavailable() {
        let limits = Limits {
            score_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        let keep = std::sync::Mutex::new(Vec::new());
        let silent = move |_: Vec<Vec<u8>>| {
            let (sender, receiver) = oneshot::channel();
            keep.lock().unwrap().push(sender);
            Ok(receiver)
        };
        let server = Server::start(silent, limits);
        let (status, headers, body) = server.score(b"{}");
        assert_eq!((status, headers["retry-after"].as_str()), (503, "1"));
        assert!(body.contains("within 50 ms"), "{body}");
    }

    #[test]
    fn a_scorer_that_gives_up_or_miscounts_or_is_not_there_is_unavailable() {
        let gives_up = |_: Vec<Vec<u8>>| Ok(oneshot::channel().1);
        assert_eq!(
            Server::start(gives_up, Limits::default()).score(b"{}").0,
            503
        );
        let miscounts = |_: Vec<Vec<u8>>| {
            let (sender, receiver) = oneshot::channel();
            let _ = sender.send(vec![ScoreOutcome::Scored("{}".to_owned())]);
            Ok(receiver)
        };
        assert_eq!(
            Server::start(miscounts, Limits::default())
                .score(b"[1,2]")
                .0,
            503
        );
        let absent = |_: Vec<Vec<u8>>| Err(SubmitError::Unavailable);
        assert_eq!(Server::start(absent, Limits::default()).score(b"{}").0, 503);
    }

    #[test]
    fn other_methods_and_addresses_are_refused() {
        let server = Server::start(echo, Limits::default());
        let (status, headers, body) = server.get("/v1/score");
        assert_eq!((status, headers["allow"].as_str()), (405, "POST"));
        for part in ["method_not_allowed", "only POST", "curl -X POST", "-d '{"] {
            assert!(body.contains(part), "{part}: {body}");
        }
        let (status, headers, body) = server.post("/metrics", b"{}");
        assert_eq!((status, headers["allow"].as_str()), (405, "GET,HEAD"));
        assert!(body.contains("POST /metrics: only GET"), "{body}");
        let (status, _, body) = server.get("/v1/reload");
        assert_eq!(status, 404);
        assert!(body.contains("GET /"), "{body}");
    }

    #[test]
    fn the_root_points_to_every_address() {
        let (status, _, body) = Server::start(echo, Limits::default()).get("/");
        assert_eq!(status, 200);
        for path in ["/healthz", "/readyz", "/metrics", "/v1/score"] {
            assert!(body.contains(path), "{body}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_told_what_is_expected() {
        let server = Server::start(echo, Limits::default());
        for body in [&b"not json"[..], b"", b"42", b"\"text\"", b"\xff\xfe"] {
            let (status, _, answer) = server.score(body);
            assert_eq!(status, 422, "{answer}");
            assert!(
                answer.contains("malformed") && answer.contains("one JSON object"),
                "{answer}"
            );
        }
        assert_eq!(server.score(b" {\"amount\": 1}").0, 200);
    }
}
