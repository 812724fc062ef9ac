//! The client against a registry of a few lines on a loopback port, which answers from a list and keeps what was asked.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread::JoinHandle;

use super::*;

/// Answers one connection each with the scripted (status, body), then ends.
struct FakeRegistry {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl FakeRegistry {
    fn start(script: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let thread = std::thread::spawn(move || {
            for (status, body) in script {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map(Result::unwrap);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                kept.lock().unwrap().push(head.join("\n"));
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
                write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
            }
        });
        Self { url, asked, thread }
    }

    fn client(&self) -> Registry {
        Registry::new(self.config()).unwrap()
    }

    fn config(&self) -> RegistryConfig {
        RegistryConfig {
            retry_pause: Duration::from_millis(1),
            timeout: Duration::from_secs(5),
            ..RegistryConfig::new(&self.url)
        }
    }

    /// What was asked, once every scripted answer was given.
    fn asked(self) -> Vec<String> {
        self.thread.join().unwrap();
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn schema_answer() -> (u16, String) {
    (
        200,
        r#"{"schema": "{\"type\": \"record\", \"name\": \"R\", \"fields\": []}"}"#.to_owned(),
    )
}

#[test]
fn a_schema_is_asked_for_once_with_the_credentials() {
    let registry = FakeRegistry::start(vec![schema_answer()]);
    let auth = ("ana".to_owned(), Secret::new("s3cret"));
    let config = RegistryConfig {
        basic_auth: Some(auth),
        ..registry.config()
    };
    let mut client = Registry::new(config).unwrap();
    for _ in 0..3 {
        let schema = client.writer_schema(42).unwrap().unwrap();
        assert!(schema.starts_with(r#"{"type": "record""#));
    }
    let asked = registry.asked();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].starts_with("GET /schemas/ids/42 HTTP/1.1"),
        "{}",
        asked[0]
    );
    // printf 'ana:s3cret' | base64
    assert!(
        asked[0].to_lowercase().contains("authorization: basic"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("YW5hOnMzY3JldA=="), "{}", asked[0]);
}

#[test]
fn no_error_and_no_debug_form_shows_the_credentials() {
    let refused = FakeRegistry::start(vec![(401, r#"{"error_code": 401}"#.to_owned())]);
    let auth = ("ana".to_owned(), Secret::new("s3cret"));
    let config = RegistryConfig {
        basic_auth: Some(auth),
        ..refused.config()
    };
    let mut client = Registry::new(config).unwrap();
    let error = client.writer_schema(1).unwrap_err();
    assert!(error.is_retriable(), "credentials may be put right");
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{client:?}"),
    ] {
        assert!(
            !text.contains("s3cret") && !text.contains("YW5hOnMzY3JldA=="),
            "{text}"
        );
    }
    assert!(error.to_string().contains("401"), "{error}");
    assert!(format!("{client:?}").contains("***"));
    assert_eq!(refused.asked().len(), 1);

    let in_url = Registry::new(RegistryConfig::new("https://ana:s3cret@registry"));
    let error = in_url.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn an_answer_that_repeats_the_credentials_is_quoted_without_them() {
    // printf 'me:hunter2' | base64
    let body = "Authorization: Basic bWU6aHVudGVyMg==, that is hunter2";
    for status in [401, 404] {
        let fake = FakeRegistry::start(vec![(status, body.to_owned())]);
        let mut registry = Registry::new(RegistryConfig {
            basic_auth: Some(("me".to_owned(), Secret::new("hunter2"))),
            ..fake.config()
        })
        .unwrap();
        let text = registry.writer_schema(1).unwrap_err().to_string();
        assert!(text.contains("Authorization"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("bWU6"),
            "{text}"
        );
        fake.asked();
    }
}

#[test]
fn an_unknown_id_is_kept_for_a_while_and_then_asked_for_again() {
    let script = vec![
        (404, r#"{"error_code": 40403}"#.to_owned()),
        schema_answer(),
    ];
    let registry = FakeRegistry::start(script);
    let kept = Duration::from_millis(300);
    let config = RegistryConfig {
        unknown_kept: kept,
        ..registry.config()
    };
    let mut client = Registry::new(config).unwrap();
    assert_eq!(client.writer_schema(7), Ok(None));
    assert_eq!(client.writer_schema(7), Ok(None));
    std::thread::sleep(kept + Duration::from_millis(50));
    assert!(client.writer_schema(7).unwrap().is_some());
    assert_eq!(registry.asked().len(), 2);
}

#[test]
fn only_the_registrys_own_word_makes_an_id_unknown() {
    let html = "<html><body>404 page not found</body></html>";
    for (status, body) in [
        (404, html),
        (404, ""),
        (
            404,
            r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#,
        ),
        (
            404,
            r#"{"error_code": 40401, "message": "Subject not found."}"#,
        ),
        (404, r#"{"detail": "40403"}"#),
        (403, r#"{"error_code": 40301}"#),
        (401, "who are you?"),
        (400, "what?"),
        (302, ""),
        (204, ""),
    ] {
        let registry = FakeRegistry::start(vec![(status, body.to_owned()), schema_answer()]);
        let mut client = registry.client();
        let error = client.writer_schema(7).unwrap_err();
        assert!(error.is_retriable(), "{status} {body}: {error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert!(
            client.writer_schema(7).unwrap().is_some(),
            "it is asked again"
        );
        assert_eq!(registry.asked().len(), 2);
    }
    for status in [200, 502] {
        let registry = FakeRegistry::start(vec![(status, html.to_owned()); 3]);
        let error = registry.client().writer_schema(7).unwrap_err();
        assert!(error.is_retriable(), "{status}: {error}");
        assert_eq!(registry.asked().len(), 3);
    }
}

#[test]
fn an_id_that_no_registry_can_have_is_unknown_and_not_asked_for() {
    let registry = FakeRegistry::start(vec![schema_answer()]);
    let mut client = registry.client();
    assert_eq!(client.writer_schema(u32::MAX), Ok(None));
    assert_eq!(client.writer_schema(1 << 31), Ok(None));
    assert!(client.writer_schema((1 << 31) - 1).unwrap().is_some());
    assert_eq!(registry.asked().len(), 1);
}

#[test]
fn trouble_is_tried_again_and_then_retriable() {
    let once = FakeRegistry::start(vec![(500, "down".to_owned()), schema_answer()]);
    assert!(once.client().writer_schema(1).unwrap().is_some());
    assert_eq!(once.asked().len(), 2);

    let down = FakeRegistry::start(vec![(503, "down".to_owned()); 3]);
    let error = down.client().writer_schema(1).unwrap_err();
    assert!(error.is_retriable());
    let text = error.to_string();
    assert!(
        text.contains("3 attempts") && text.contains("status 503: down"),
        "{text}"
    );
    assert_eq!(down.asked().len(), 3);
}

#[test]
fn a_registry_that_is_not_there_is_retriable() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = RegistryConfig {
        attempts_max: 2,
        retry_pause: Duration::from_millis(1),
        ..RegistryConfig::new(format!("http://{port}"))
    };
    let error = Registry::new(config).unwrap().writer_schema(1).unwrap_err();
    assert!(
        matches!(error, WriterSchemaError::Unavailable { attempts: 2, .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_avro_or_not_in_one_piece_is_unusable_and_remembered() {
    let references =
        r#"{"schema": "{}", "references": [{"name": "com.x.Card", "subject": "c", "version": 1}]}"#;
    let protobuf = r#"{"schema": "message M {}", "schemaType": "PROTOBUF"}"#;
    let registry = FakeRegistry::start(vec![
        (200, references.to_owned()),
        (200, protobuf.to_owned()),
    ]);
    let mut client = registry.client();
    for _ in 0..2 {
        let error = client.writer_schema(1).unwrap_err();
        assert!(matches!(error, WriterSchemaError::Unusable { .. }));
        assert!(error.to_string().contains("com.x.Card"), "{error}");
    }
    assert!(
        client
            .writer_schema(2)
            .unwrap_err()
            .to_string()
            .contains("PROTOBUF")
    );
    assert_eq!(registry.asked().len(), 2);
}

#[test]
fn the_cache_is_bounded() {
    let registry = FakeRegistry::start(vec![schema_answer(); 4]);
    let mut client = Registry::new(RegistryConfig {
        cached_max: 2,
        ..registry.config()
    })
    .unwrap();
    for id in 0..4 {
        client.writer_schema(id).unwrap();
        assert!(client.answers.len() <= 2);
    }
    assert_eq!(registry.asked().len(), 4);
}

#[test]
fn an_address_that_cannot_be_asked_is_a_configuration_fault() {
    for url in [
        "",
        "registry:8081",
        "ftp://registry",
        "http://",
        "http://registry/?a=b",
    ] {
        let error = Registry::new(RegistryConfig::new(url)).unwrap_err();
        assert!(
            error.to_string().contains("expected http(s)://"),
            "{url}: {error}"
        );
    }
    for url in ["http://registry:8081", "https://registry/api/ccompat/v7/"] {
        assert!(Registry::new(RegistryConfig::new(url)).is_ok(), "{url}");
    }
}

/// Answers every question after `delay`, on a thread each; keeps what was asked, and how many were at a time.
fn slow_registry(delay: Duration, answer: (u16, String)) -> (String, Arc<Mutex<Questions>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let questions = Arc::new(Mutex::new(Questions::default()));
    let kept = Arc::clone(&questions);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (kept, (status, body)) = (Arc::clone(&kept), answer.clone());
            std::thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map(Result::unwrap);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = head[0].split(' ').nth(1).unwrap().to_owned();
                {
                    let mut kept = kept.lock().unwrap();
                    kept.asked.push(path);
                    kept.open += 1;
                    kept.most_open = kept.most_open.max(kept.open);
                }
                std::thread::sleep(delay);
                kept.lock().unwrap().open -= 1;
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
                let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
            });
        }
    });
    (url, questions)
}

#[derive(Debug, Default)]
struct Questions {
    asked: Vec<String>,
    open: usize,
    most_open: usize,
}

#[test]
fn the_new_schemas_of_a_batch_are_asked_for_together_and_each_once() {
    let (url, questions) = slow_registry(Duration::from_millis(300), schema_answer());
    let mut client = Registry::new(RegistryConfig::new(&url)).unwrap();
    let ids: Vec<u32> = (1..=20).collect();
    client.prepare(&ids).unwrap();
    for id in ids {
        assert!(client.writer_schema(id).unwrap().is_some());
    }
    let questions = questions.lock().unwrap();
    assert_eq!(questions.asked.len(), 20);
    assert!(
        (2..=DEFAULT_ASKED_AT_ONCE).contains(&questions.most_open),
        "{} at a time",
        questions.most_open
    );
}

#[test]
fn a_slow_registry_is_asked_for_some_schemas_a_batch_and_all_come_in_the_end() {
    let (url, questions) = slow_registry(Duration::from_millis(40), schema_answer());
    let config = RegistryConfig {
        asking_max: Duration::from_millis(1),
        cached_max: 3,
        ..RegistryConfig::new(&url)
    };
    let mut client = Registry::new(config).unwrap();
    let ids: Vec<u32> = (1..=40).collect();
    for left in [32, 24, 16, 8] {
        let error = client.prepare(&ids).unwrap_err();
        assert!(error.is_retriable());
        let WriterSchemaError::Slow { left: found, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(found, left);
    }
    client.prepare(&ids).unwrap();
    assert_eq!(questions.lock().unwrap().asked.len(), 40);
}

#[test]
fn ids_that_stay_unknown_never_keep_a_slow_registry_from_getting_to_the_end() {
    let unknown = (404, "{\"error_code\": 40403}".to_owned());
    let (url, _questions) = slow_registry(Duration::from_millis(40), unknown);
    let config = RegistryConfig {
        asking_max: Duration::from_millis(1),
        // What was answered first is out of date before the last is asked for.
        unknown_kept: Duration::from_millis(60),
        ..RegistryConfig::new(&url)
    };
    let mut client = Registry::new(config).unwrap();
    let ids: Vec<u32> = (1..=40).collect();
    let rounds = (0..).take_while(|_| client.prepare(&ids).is_err()).count();
    assert_eq!(rounds, 4);
}
