//! Reads the body of a request: frames flow in, at most so many bytes flow out, within so much
//! time. A body that is too large is still read to its end, as far as that is bearable, because a
//! client that is cut off while it sends sees a broken connection in place of the 413 that says
//! why.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};

use super::Limits;

/// Bytes of a body that are read and dropped so that its client sees the answer.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// Not there in time.
    #[error("the body took longer than {limit_ms} ms")]
    Slow {
        /// Milliseconds allowed.
        limit_ms: u128,
    },
    /// The connection broke, or its framing is wrong.
    #[error("the body ended before its time")]
    Broken,
}

/// The bytes of a body.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Vec<u8>, BodyError> {
    let limit = limits.body_bytes_max;
    let announced = body.size_hint().lower();
    // A client that asks first has sent nothing yet: refusing at once costs nobody anything.
    let asks_first = headers.contains_key(header::EXPECT);
    if announced > DISCARDED_BYTES_MAX as u64 || (asks_first && announced > limit as u64) {
        return Err(BodyError::TooLarge { limit });
    }
    tokio::time::timeout(limits.body_timeout, collect(body, limit))
        .await
        .map_err(|_| BodyError::Slow {
            limit_ms: limits.body_timeout.as_millis(),
        })?
}

/// Keeps up to `limit` bytes; discards the rest.
async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        // Trailers have no meaning here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= limit {
            bytes.extend_from_slice(&data);
        } else if length <= DISCARDED_BYTES_MAX {
            bytes = Vec::new();
        } else {
            break;
        }
    }
    if length > limit {
        Err(BodyError::TooLarge { limit })
    } else {
        Ok(bytes)
    }
}
