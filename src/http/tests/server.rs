//! What a slow, a broken and an idle client may do, and how the server ends.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Server, echo};
use crate::http::{DEFAULT_LISTEN, Limits, ScoreOutcome, SubmitError, bind};

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
    let scrape = include_str!("../../../config/prometheus/prometheus.yml");
    assert!(scrape.contains(&format!("targets: [\"{DEFAULT_LISTEN}\"]")));
    assert!(
        DEFAULT_LISTEN
            .parse::<SocketAddr>()
            .unwrap()
            .ip()
            .is_loopback()
    );
}
