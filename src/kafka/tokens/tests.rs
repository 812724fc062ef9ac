//! The provider of tokens against an endpoint of a few lines on a loopback port, which answers from a list.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const SECRET: &str = "s3cret";

/// Answers one connection each with the scripted (status, body); gives back what was asked.
fn endpoint(script: Vec<(u16, String)>) -> (TokenSettings, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |(status, body): (u16, String)| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") {
                reader.read_line(&mut asked).unwrap();
            }
            let lower = asked.to_lowercase();
            let (_, length) = lower.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            let mut form = vec![0; length];
            reader.read_exact(&mut form).unwrap();
            asked += std::str::from_utf8(&form).unwrap();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
            write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
            asked
        };
        script.into_iter().map(answer).collect()
    });
    let settings = TokenSettings {
        endpoint,
        client_id: "me".to_owned(),
        client_secret: Secret::new(SECRET),
        scope: Some("kafka read".to_owned()),
        extensions: Vec::new(),
        ca_file: None,
        ca_text: None,
    };
    (settings, thread)
}

fn ask(status: u16, body: impl Into<String>) -> (Result<Token, TokenError>, String) {
    let (settings, asked) = endpoint(vec![(status, body.into())]);
    let token = Provider::new(&settings).unwrap().ask(NOW);
    (token, asked.join().unwrap().remove(0))
}

/// An unsigned JWT of these claims.
fn jwt(claims: &str) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
}

#[test]
fn a_token_is_asked_for_with_credentials_and_scope() {
    let token = jwt(r#"{"sub":"service-7","exp":1800000900}"#);
    let (given, asked) = ask(
        200,
        format!(r#"{{"access_token":"{token}","expires_in":600}}"#),
    );
    let given = given.unwrap_or_else(|error| unreachable!("{error}"));
    assert_eq!(given.value.reveal(), token);
    assert_eq!(given.principal, "service-7");
    assert_eq!(
        given.ends,
        NOW + Duration::from_secs(600),
        "by the clock of this machine"
    );
    assert!(asked.starts_with("POST /token HTTP/1.1"), "{asked}");
    // printf 'me:s3cret' | base64
    assert!(asked.contains("Basic bWU6czNjcmV0"), "{asked}");
    assert!(
        asked.ends_with("grant_type=client_credentials&scope=kafka+read")
            || asked.ends_with("grant_type=client_credentials&scope=kafka%20read"),
        "{asked}"
    );
}

#[test]
fn the_life_of_a_token_is_told_by_the_answer_or_by_the_token() {
    let ends = |body: String| ask(200, body).0.map(|token| token.ends - NOW);
    let opaque = |more: &str| ends(format!(r#"{{"access_token":"opaque"{more}}}"#));
    assert_eq!(opaque(r#","expires_in":"60""#), Ok(Duration::from_secs(60)));
    let token = jwt(r#"{"exp":1800000030}"#);
    let by_claim = ends(format!(r#"{{"access_token":"{token}"}}"#));
    assert_eq!(by_claim, Ok(Duration::from_secs(30)));
    for more in [
        "",
        r#","expires_in":0"#,
        r#","expires_in":-5"#,
        r#","expires_in":1e300"#,
    ] {
        assert!(
            matches!(opaque(more), Err(TokenError::NoAnswer(_))),
            "{more}"
        );
    }
}

#[test]
fn a_secret_at_the_end_of_what_is_quoted_is_hidden_whole() {
    let before = "x".repeat(QUOTED_BYTES_MAX - SECRET.len() / 2);
    let Err(error) = ask(401, format!("{before}{SECRET}")).0 else {
        unreachable!("a token with status 401");
    };
    let text = error.to_string();
    assert!(!text.contains(&SECRET[..2]), "{text}");
}

#[test]
fn a_no_is_told_from_trouble_and_neither_shows_a_secret() {
    let body = format!(r#"{{"error":"invalid_client","you_sent":"{SECRET} bWU6czNjcmV0"}}"#);
    for status in [400, 401, 403, 404] {
        let Err(error) = ask(status, &*body).0 else {
            unreachable!("a token with status {status}");
        };
        assert!(matches!(error, TokenError::Refused(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("invalid_client") && text.contains(&status.to_string()),
            "{text}"
        );
        assert!(
            !text.contains(SECRET) && !text.contains("bWU6czNjcmV0"),
            "{text}"
        );
    }
    let long = format!(
        r#"{{"access_token":"{}"}}"#,
        "x".repeat(ANSWER_BYTES_MAX as usize)
    );
    for (status, body) in [
        (500, "down".to_owned()),
        (429, "later".to_owned()),
        (200, "<html>log in</html>".to_owned()),
        (200, r#"{"token":"no-such-key-hunter2"}"#.to_owned()),
        (200, long),
    ] {
        let Err(error) = ask(status, body).0 else {
            unreachable!("a token with status {status}");
        };
        assert!(matches!(error, TokenError::NoAnswer(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_client_gets_every_token_and_one_that_comes_later_the_last() {
    use rdkafka::ClientConfig;
    use rdkafka::producer::DefaultProducerContext;

    let token = jwt(r#"{"sub":"me"}"#);
    let short = format!(r#"{{"access_token":"{token}","expires_in":2}}"#);
    let long = format!(r#"{{"access_token":"{token}","expires_in":600}}"#);
    let (mut settings, asked) = endpoint(vec![(503, "soon".to_owned()), (200, short), (200, long)]);
    settings.extensions = vec![("logicalCluster".to_owned(), "lkc-1".to_owned())];
    let client = || -> Arc<BaseProducer<DefaultProducerContext>> {
        let mut config = ClientConfig::new();
        config
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "OAUTHBEARER");
        Arc::new(config.create().unwrap())
    };
    let tokens = Tokens::start(&settings).unwrap();
    let early = client();
    tokens.give_to_producer(&early);
    assert_eq!(
        asked.join().unwrap().len(),
        3,
        "trouble, a token, and its renewal"
    );
    let token = loop {
        let state = tokens.shared.state();
        match &state.token {
            Some(token) if token.ends > now() + Duration::from_secs(60) => break token.clone(),
            _ => drop(state),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    for client in [early, client()] {
        let handed = hand_over(client.native(), &token, &tokens.shared.extensions);
        assert_eq!(handed, Ok(()), "librdkafka takes token and extensions");
    }
    let reserved = Extensions::new(&[("auth".to_owned(), "x".to_owned())]).unwrap();
    let why = hand_over(client().native(), &token, &reserved).unwrap_err();
    assert!(
        why.contains("auth"),
        "what librdkafka refuses is told: {why}"
    );
}
