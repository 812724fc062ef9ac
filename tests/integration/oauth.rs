//! OAUTHBEARER on a real cluster: tokens are fetched from an identity provider, with extensions, and renewed; a provider that
//! says no ends the stream with its words.
//!
//! The provider is a few lines on a loopback port. Its tokens are signed by nobody, which is what Kafka's own validator for
//! development takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use maskwatch::delivery::fault::StreamError;

use crate::support::stream_instance::StreamInstance;
use maskwatch_testing::kafka_cluster::{Cluster, Listener};
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, TopicSpec};
use maskwatch_testing::poll_until;

const PATIENCE: Duration = Duration::from_secs(120);
const SECRET: &str = "open-sesame";
/// Seconds after which a token is to be thought over: two renewals come within a test.
const LIVES_S: u64 = 4;

/// An identity provider, and what it was asked.
struct Provider {
    url: String,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Provider {
    /// Gives a token to whoever knows [`SECRET`]; lives as long as the test process.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/oauth2/token", listener.local_addr().unwrap());
        let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
        let provider = Self {
            url,
            asked: Arc::clone(&asked),
            last: Arc::clone(&last),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if let Ok(question) = answer(stream) {
                    *last.lock().unwrap() = question;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        provider
    }

    fn properties(&self, secret: &str) -> String {
        let pairs = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.token.endpoint.url", &self.url),
            ("sasl.oauthbearer.client.id", "maskwatch"),
            ("sasl.oauthbearer.client.secret", secret),
            ("sasl.oauthbearer.scope", "kafka"),
            (
                "sasl.oauthbearer.extensions",
                "logicalCluster=lkc-1,pool=p-1",
            ),
        ];
        let line = |(key, value): (&str, &str)| format!("\"{key}\" = {value:?}\n");
        pairs.into_iter().map(line).collect()
    }
}

/// Answers one question, and gives it back.
fn answer(mut stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut question = String::new();
    while !question.ends_with("\r\n\r\n") {
        reader.read_line(&mut question)?;
    }
    let lower = question.to_lowercase();
    let length = lower
        .split_once("content-length: ")
        .map_or("0", |(_, rest)| rest);
    let length = length.lines().next().unwrap_or("0").parse().unwrap_or(0);
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    question += &String::from_utf8_lossy(&form);
    // printf 'maskwatch:open-sesame' | base64
    let (status, body) = match question.contains("Basic bWFza3dhdGNoOm9wZW4tc2VzYW1l") {
        true => {
            let token = token();
            let body = format!("{{\"access_token\": \"{token}\", \"expires_in\": {LIVES_S}}}");
            (200, body)
        }
        false => (401, "{\"error\": \"invalid_client\"}".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(question)
}

/// A token that nobody signed. The brokers may take it for longer than the client is told.
fn token() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let claims = format!(
        "{{\"sub\": \"maskwatch\", \"iat\": {now}, \"exp\": {}}}",
        now + 600
    );
    format!("{}.{}.", part("{\"alg\": \"none\"}"), part(&claims))
}

#[test]
fn tokens_of_an_identity_provider_let_the_stream_in_and_are_renewed() {
    let cluster = Cluster::exclusively();
    let broker = cluster.clients();
    let [input, scores, group] =
        ["in", "scores", "group"].map(|part| broker.unique_name(&format!("oauth-{part}")));
    broker.create_topics(&[TopicSpec::new(&input, 1), TopicSpec::new(&scores, 1)]);
    let provider = Provider::start();
    let start = |secret: &str, mode: &str| {
        StreamInstance::start(&format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup_id = \"{group}-{mode}\"\ninstance_id = \"a\"\n\
             input_topics = [\"{input}\"]\nscores_topic = \"{scores}\"\n[delivery]\nmode = \"{mode}\"\n\
             [kafka.properties]\n{}",
            cluster.bootstrap_servers(Listener::ScramPlain),
            provider.properties(secret),
        ))
    };
    let right = start(SECRET, "exactly_once");
    let assigned = poll_until(PATIENCE, || (right.partitions() == 1).then_some(()));
    assert!(assigned.is_some(), "{:?}", right.missing());
    let question = provider.last.lock().unwrap().clone();
    assert!(question.contains("scope=kafka"), "{question}");

    // Renewed while nothing comes, and used afterwards.
    let asked = provider.asked.load(Ordering::Relaxed);
    let renewed = poll_until(PATIENCE, || {
        (provider.asked.load(Ordering::Relaxed) >= asked + 2).then_some(())
    });
    assert!(renewed.is_some(), "the token is not renewed");
    let records: Vec<_> = (0..100)
        .map(|n| {
            InputRecord::of(format!("{{\"amount\": {}, \"id\": \"{n}\"}}", n + 1)).partition(0)
        })
        .collect();
    broker.produce(&input, &records);
    let scored = poll_until(PATIENCE, || {
        let read = broker.read_to_end(&scores, Isolation::ReadCommitted, PATIENCE);
        (read.len() >= 100).then_some(read.len())
    });
    assert_eq!(scored, Some(100));
    right.stop().unwrap();

    for mode in ["exactly_once", "at_least_once"] {
        let mut wrong = start("a wrong one", mode);
        let ended = poll_until(PATIENCE, || (!wrong.is_running()).then_some(()));
        assert!(ended.is_some(), "{mode}: {:?}", wrong.missing());
        let StreamError::Fatal(fault) = wrong.join().unwrap_err() else {
            panic!("{mode}: not fatal");
        };
        let text = fault.to_string();
        for part in ["401", "invalid_client", "/oauth2/token"] {
            assert!(text.contains(part), "{mode}, {part}: {text}");
        }
        assert!(!text.contains("a wrong one"), "{text}");
    }
}
