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
        /// What the system said. It stands in the message, so it is no source that a chain would tell again.
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
    // Written by nobody: that the sender is gone tells every connection to end.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::time::Instant;

    use tokio::sync::oneshot;

    use super::super::testing::{Server, echo};
    use super::super::{ScoreOutcome, SubmitError};
    use super::*;

    /// Sends bytes, then reads until the server closes; with the time that it took.
    fn talk(server: &Server, bytes: &[u8]) -> (String, Duration) {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let begun = Instant::now();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer, begun.elapsed())
    }

    #[test]
    fn a_client_that_never_ends_its_head_is_cut_off() {
        let header_timeout = Duration::from_millis(100);
        let server = Server::start(
            echo,
            Limits {
                header_timeout,
                ..Limits::default()
            },
        );
        let (_, took) = talk(&server, b"GET /healthz HTTP/1.1\r\nX-Slow: ");
        assert!(
            took >= header_timeout && took < Duration::from_secs(5),
            "{took:?}"
        );
    }

    #[test]
    fn a_client_that_never_ends_its_body_is_told_so() {
        let body_timeout = Duration::from_millis(100);
        let server = Server::start(
            echo,
            Limits {
                body_timeout,
                ..Limits::default()
            },
        );
        let (answer, took) = talk(
            &server,
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        );
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            took >= body_timeout && took < Duration::from_secs(5),
            "{took:?}"
        );
    }

    #[test]
    fn a_client_that_asks_before_it_sends_too_much_is_refused_at_once() {
        let server = Server::start(
            echo,
            Limits {
                body_bytes_max: 10,
                ..Limits::default()
            },
        );
        let (answer, _) = talk(
            &server,
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
              Content-Length: 11\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[test]
    fn a_connection_ends_with_its_age() {
        let connection_age = Duration::from_millis(100);
        let server = Server::start(
            echo,
            Limits {
                connection_age,
                ..Limits::default()
            },
        );
        let (answer, took) = talk(&server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.ends_with("ok\n"), "{answer}");
        assert!(
            took >= connection_age && took < Duration::from_secs(5),
            "{took:?}"
        );
    }

    const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[test]
    fn three_hundred_slow_connections_keep_no_probe_and_no_scrape_out() {
        // Nothing ends a connection by its time here.
        let header_timeout = Duration::from_secs(600);
        let server = Server::start(
            echo,
            Limits {
                header_timeout,
                ..Limits::default()
            },
        );
        let slow: Vec<_> = (0..300)
            .map(|number| {
                let mut stream = std::net::TcpStream::connect(server.address).unwrap();
                if number % 2 == 0 {
                    // Gone already where it was the idlest: that is what is wanted.
                    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ");
                }
                stream
            })
            .collect();
        for path in ["/healthz", "/readyz", "/metrics"] {
            for _ in 0..3 {
                assert!([200, 503].contains(&server.get(path).0), "{path}");
            }
        }
        drop(slow);
    }

    #[test]
    fn the_bound_on_connections_holds_and_the_idlest_makes_room() {
        let limits = Limits {
            connections_max: 2,
            ..Limits::default()
        };
        let server = Server::start(echo, limits);
        let open = || {
            let mut stream = std::net::TcpStream::connect(server.address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            stream
        };
        let (mut first, second) = (open(), open());
        let third = open();
        // The rest of its answer, and then the end.
        let mut rest = Vec::new();
        let ended = first.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
        for mut stream in [second, third] {
            stream.write_all(HEALTHZ).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("200 OK"), "{answer}");
        }
    }

    #[test]
    fn a_connection_with_a_request_in_hand_is_not_closed_to_make_room() {
        let (entered, inside) = std::sync::mpsc::channel();
        let hold = move |_: Vec<Vec<u8>>| -> Result<_, SubmitError> {
            let (sender, receiver) = oneshot::channel();
            entered.send(sender).unwrap();
            Ok(receiver)
        };
        let limits = Limits {
            connections_max: 1,
            ..Limits::default()
        };
        let server = Server::start(hold, limits);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| server.score(b"{}").0);
            let held = inside.recv().unwrap();
            let second = scope.spawn(|| talk(&server, HEALTHZ).0);
            std::thread::sleep(Duration::from_millis(200));
            assert!(!second.is_finished(), "it was served beside the first");
            held.send(vec![ScoreOutcome::Scored("{}".to_owned())])
                .unwrap();
            assert_eq!(first.join().unwrap(), 200);
            assert!(second.join().unwrap().ends_with("ok\n"));
        });
    }

    #[test]
    fn a_request_in_hand_is_answered_through_a_shutdown_and_new_ones_are_not_taken() {
        let (entered, inside) = std::sync::mpsc::channel();
        let entered = std::sync::Mutex::new(entered);
        let slow = move |_: Vec<Vec<u8>>| -> Result<_, SubmitError> {
            let (sender, receiver) = oneshot::channel();
            entered.lock().unwrap().send(sender).unwrap();
            Ok(receiver)
        };
        let server = Server::start(slow, Limits::default());
        let address = server.address;
        std::thread::scope(|scope| {
            let client = scope.spawn(|| server.score(b"{}"));
            let answer = inside.recv().unwrap();
            server.begin_shutdown();
            let refused = (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                std::net::TcpStream::connect(address).is_err()
            });
            assert!(refused, "the listener is still open");
            answer
                .send(vec![ScoreOutcome::Scored("{\"late\":true}".to_owned())])
                .unwrap();
            let (status, _, body) = client.join().unwrap();
            assert_eq!((status, body.as_str()), (200, "{\"late\":true}"));
        });
        server.wait();
    }

    #[test]
    fn a_shutdown_is_bounded_in_time() {
        let keep = std::sync::Mutex::new(Vec::new());
        let (entered, inside) = std::sync::mpsc::channel();
        let silent = move |_: Vec<Vec<u8>>| -> Result<_, SubmitError> {
            let (sender, receiver) = oneshot::channel();
            keep.lock().unwrap().push(sender);
            entered.send(()).unwrap();
            Ok(receiver)
        };
        let shutdown_timeout = Duration::from_millis(100);
        let server = Server::start(
            silent,
            Limits {
                shutdown_timeout,
                ..Limits::default()
            },
        );
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream
            .write_all(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            .unwrap();
        inside.recv().unwrap();
        let begun = Instant::now();
        server.begin_shutdown();
        server.wait();
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn an_address_in_use_is_named() {
        let server = Server::start(echo, Limits::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let error = runtime
            .block_on(bind(server.address))
            .unwrap_err()
            .to_string();
        for part in [&server.address.to_string(), "http.listen", "another port"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn prometheus_is_told_to_scrape_the_default_address() {
        let scrape = include_str!("../../config/prometheus/prometheus.yml");
        assert!(scrape.contains(&format!("targets: [\"{DEFAULT_LISTEN}\"]")));
        assert!(
            DEFAULT_LISTEN
                .parse::<SocketAddr>()
                .unwrap()
                .ip()
                .is_loopback()
        );
    }
}
