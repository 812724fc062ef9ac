//! `POST /v1/models/reload`: a token flows in, what became of the model flows out. Nothing is known of models here; the order
//! goes to whatever implements [`ModelReloader`].
//!
//! The invariant: without a configured token there is no such address, and a wrong token tells nothing but that it is wrong.
//! Tokens are compared in constant time, so that the time of an answer does not tell how much of a guess is right; only the
//! length of the token could be told from it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use super::router::{error_json, json};
use crate::kafka::Secret;

/// How long an order is waited for; a large bundle on a slow disk goes on loading behind the answer.
const WAIT: Duration = Duration::from_secs(20);

/// What became of the order to look for another model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Reloaded {
    /// The model that is to serve serves already.
    Unchanged {
        /// Its id.
        model_id: String,
    },
    /// Another model serves now.
    Exchanged {
        /// Its id.
        model_id: String,
    },
    /// Another model is loaded, and serves as soon as the stream has a session.
    Pending {
        /// Its id.
        model_id: String,
    },
    /// The model that is to serve is refused; the one before goes on.
    #[serde(skip)]
    Refused {
        /// Why, in words.
        why: String,
    },
}

/// Orders wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadBusy;

/// Takes orders to look for another model; shared by all requests.
pub trait ModelReloader: Send + Sync {
    /// Hands an order over, and returns at once.
    ///
    /// # Errors
    /// [`ReloadBusy`].
    fn reload(&self) -> Result<oneshot::Receiver<Reloaded>, ReloadBusy>;
}

/// The address's end: who may ask, and whom to ask.
#[derive(Clone)]
pub struct Reload {
    token: Secret,
    reloader: Arc<dyn ModelReloader>,
}

impl Reload {
    /// For whoever knows `token`.
    pub fn new(token: Secret, reloader: Arc<dyn ModelReloader>) -> Self {
        Self { token, reloader }
    }

    /// Answers a request with these headers.
    pub(super) async fn answer(&self, headers: &HeaderMap) -> Response {
        if !self.is_allowed(headers) {
            let detail = "expected the header Authorization: Bearer TOKEN with the token of http.reload_token";
            let mut response = json(StatusCode::UNAUTHORIZED, error_json("unauthorized", detail));
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
            return response;
        }
        let Ok(receiver) = self.reloader.reload() else {
            let detail = "other orders to reload are waiting";
            return json(
                StatusCode::TOO_MANY_REQUESTS,
                error_json("overloaded", detail),
            );
        };
        match tokio::time::timeout(WAIT, receiver).await {
            Ok(Ok(Reloaded::Refused { why })) => {
                json(StatusCode::CONFLICT, error_json("refused", &why))
            }
            Ok(Ok(pending @ Reloaded::Pending { .. })) => {
                (StatusCode::ACCEPTED, axum::Json(pending)).into_response()
            }
            Ok(Ok(done)) => axum::Json(done).into_response(),
            Ok(Err(_)) => {
                let detail = "no model is served yet, or the daemon is draining";
                json(
                    StatusCode::SERVICE_UNAVAILABLE,
                    error_json("unavailable", detail),
                )
            }
            Err(_) => {
                let detail = format!(
                    "not done within {} s; the log tells its end",
                    WAIT.as_secs()
                );
                json(StatusCode::SERVICE_UNAVAILABLE, error_json("slow", &detail))
            }
        }
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else {
            return false;
        };
        let Some((scheme, token)) = given.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        let is_equal: bool = token.ct_eq(self.token.reveal().as_bytes()).into();
        is_equal && scheme.eq_ignore_ascii_case(b"Bearer ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct Nobody;

    impl ModelReloader for Nobody {
        fn reload(&self) -> Result<oneshot::Receiver<Reloaded>, ReloadBusy> {
            Err(ReloadBusy)
        }
    }

    #[test]
    fn only_the_whole_token_in_one_header_is_allowed() {
        let reload = Reload::new(Secret::new("0123456789abcdef"), Arc::new(Nobody));
        let allowed = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            reload.is_allowed(&headers)
        };
        assert!(allowed(&["Bearer 0123456789abcdef"]));
        assert!(allowed(&["bearer 0123456789abcdef"]));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789abcdeF"],
            &["Basic  0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!allowed(wrong), "{wrong:?}");
        }
    }
}
