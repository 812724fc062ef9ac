//! The listening socket: connections flow in, each to its own task, until the shutdown. Each
//! connection has a time for the head of a request, an age and, at the end, a time to finish the
//! request in hand; their number is bounded, with room for a newcomer as long as one is idle, and an
//! error on one is never an error of another.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connections::{Connections, Place};
use super::{HttpState, Limits, router};

/// Address if none is configured: loopback, as the port knows no users.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9477";
/// Bytes of the head of a request, and what is read at once.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Wait after a connection that could not be accepted, most often for want of file descriptors.
const ACCEPT_RETRY_MS: u64 = 100;

/// The port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("http.listen: cannot listen on {listen}: {}", why_not(error))]
    Bind {
        /// The configured address.
        listen: SocketAddr,
        /// What the system said. It stands in the message, so it is no source that a chain would repeat.
        error: std::io::Error,
    },
}

/// The system's words, and what to do.
fn why_not(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there, perhaps another instance; set another port, or 0 for a free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 0.0.0.0 stands for all that it has"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root; set a higher one",
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}

/// Listens on an address; port 0 takes a free one. Warns if others than this machine can reach it.
///
/// # Errors
/// An address that is in use, not this machine's, or not allowed.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, HttpError> {
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "HTTP has neither TLS nor users and is open beyond this machine");
    }
    TcpListener::bind(listen)
        .await
        .map_err(|error| HttpError::Bind { listen, error })
}

/// Serves until `shutdown` is done; then accepts nothing more, lets requests in hand end within
/// [`Limits::shutdown_timeout`] and cuts the rest off.
pub async fn run(listener: TcpListener, state: HttpState, shutdown: impl Future<Output = ()>) {
    let limits = *state.limits();
    let router = router(state);
    let mut places = Connections::new(limits.connections_max);
    // Written by nobody: that the sender is gone means to every connection to end.
    let (serving, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &mut places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(
            stream,
            place,
            router.clone(),
            limits,
            stopped.clone(),
        ));
    }
    drop(listener);
    drop(serving);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.shutdown_timeout, ended)
        .await
        .is_err()
    {
        tracing::warn!("HTTP requests were cut off by the shutdown");
    }
}

/// The next connection, with its place.
async fn accept(listener: &TcpListener, places: &mut Connections) -> (TcpStream, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, places.enter().await),
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(
    stream: TcpStream,
    place: Place,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are written whole: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let place = Arc::new(place);
    let router = TowerToHyperService::new(router);
    let requests = Arc::clone(&place);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let in_hand = requests.request();
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            drop(in_hand);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended: Option<Result<(), hyper::Error>> = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.changed() => None,
        () = place.asked_to_leave() => {
            if place.is_idle() {
                // Whatever it has sent so far is no request.
                return;
            }
            None
        }
        () = tokio::time::sleep(limits.connection_age) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            let rest = tokio::time::timeout(limits.shutdown_timeout, connection).await;
            rest.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
