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
use super::reload::Reload;
use super::scorer::{RequestScorer, ScoreOutcome, SubmitError};
use super::split::{Records, SplitError, split};
use crate::telemetry::{Metrics, Readiness, metrics};

/// Seconds after which a client that was refused for load may come back: a batch is done by then.
const RETRY_AFTER_SECONDS: &str = "1";

/// Where records are scored.
const SCORE: &str = "/v1/score";

/// Where another model is asked for.
const RELOAD: &str = "/v1/models/reload";

/// What a person sees who opens the port in a browser.
const INDEX: &str = "maskwatch\n\n\
    GET  /healthz   200 while the process works\n\
    GET  /readyz    200 when it is ready, else 503 with what is missing\n\
    GET  /metrics   for Prometheus\n\
    POST /v1/score  one JSON record, or an array of them: scores, p-values and reasons\n";

/// The line for who has a token.
const INDEX_RELOAD: &str =
    "POST /v1/models/reload  looks for another model; with Authorization: Bearer TOKEN\n";

/// What the handlers share; cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    scorer: Arc<dyn RequestScorer>,
    limits: Limits,
    /// None where no token is configured.
    reload: Option<Reload>,
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
            reload: None,
            requests,
        }
    }

    /// The same, with the address that has another model looked for.
    pub fn with_reload(self, reload: Option<Reload>) -> Self {
        Self { reload, ..self }
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// All addresses.
pub fn router(state: HttpState) -> Router {
    let (mut index, mut routes) = (INDEX.to_owned(), Router::new());
    if let Some(reload) = state.reload.clone() {
        index.push_str(INDEX_RELOAD);
        let answer = async move |request: Request| reload.answer(request.headers()).await;
        routes = routes.route(RELOAD, post(answer));
    }
    routes
        .route("/", get(|| async { index }))
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
        RELOAD => format!("{method} {path}: only POST"),
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

pub(super) fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `{"error": {"reason", "detail"}}`
pub(super) fn error_json(reason: &str, detail: &str) -> String {
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
