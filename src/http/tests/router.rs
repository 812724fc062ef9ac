//! What each address answers, and what a request may ask of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Server, echo};
use crate::http::{Limits, ScoreOutcome, SubmitError};

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
        "ready": true, "missing": [], "notes": [], "model_id": "0123", "partitions": 4, "lag_records": 3
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
