//! The properties of OAUTHBEARER: where its tokens come from.
//!
//! Client properties flow in, checked [`TokenSettings`] or every fault flow out. The client library is built without
//! an HTTP client, so that tokens are fetched here and handed to it: these properties have the library's names and meaning
//! and never reach it.

use std::fmt;

use ureq::http::Uri;

use super::properties::{Properties, property_fault};
use crate::kafka::Secret;
use crate::toml_file::KeyFault;

const METHOD: &str = "sasl.oauthbearer.method";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: [&str; 2] = [
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
];
const CLIENT_SECRET: [&str; 2] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
];
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const GRANT_TYPE: &str = "sasl.oauthbearer.grant.type";
/// File of authorities for the endpoint.
pub const CA_FILE: &str = "https.ca.location";
/// The text of the authorities themselves.
const CA_TEXT: &str = "https.ca.pem";
/// Tokens that the library makes up itself and signs with nothing: for development.
const UNSECURED: &str = "enable.sasl.oauthbearer.unsecure.jwt";

/// Every property that is read here and by nobody else.
pub const OURS: [&str; 11] = [
    METHOD,
    ENDPOINT,
    CLIENT_ID[0],
    CLIENT_ID[1],
    CLIENT_SECRET[0],
    CLIENT_SECRET[1],
    SCOPE,
    EXTENSIONS,
    GRANT_TYPE,
    CA_FILE,
    CA_TEXT,
];

/// How tokens are asked for: OAuth 2.0 client credentials (RFC 6749, section 4.4).
#[derive(Clone)]
pub struct TokenSettings {
    /// `http(s)://`, without credentials.
    pub endpoint: String,
    /// Who asks; not empty.
    pub client_id: String,
    /// How the endpoint knows; not empty.
    pub client_secret: Secret,
    /// What is asked for, where the endpoint wants to know.
    pub scope: Option<String>,
    /// Sent to the brokers beside the token (RFC 7628, section 3.1): names of letters, printable values.
    pub extensions: Vec<(String, String)>,
    /// File of the authorities that the endpoint's certificate is checked against, in PEM; those of Mozilla unless set.
    pub ca_file: Option<String>,
    /// Their text, instead of a file.
    pub ca_text: Option<String>,
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Where tokens come from, if OAUTHBEARER is the mechanism and they are fetched.
///
/// # Errors
/// Every fault, with its key: no source of tokens, one that is not complete, or one that is not supported.
pub fn token_settings(properties: &Properties) -> Result<Option<TokenSettings>, Vec<KeyFault>> {
    let method = properties.get(METHOD).unwrap_or("default");
    let unsecured = properties.get(UNSECURED) == Some("true");
    let mut faults = Vec::new();
    match method.to_ascii_lowercase().as_str() {
        "oidc" => {}
        "default" => {
            if is_mechanism(properties) && !unsecured {
                faults.push(property_fault(
                    "sasl.mechanism",
                    format!(
                        "OAUTHBEARER has no source of tokens: set \"{METHOD}\" = \"oidc\" with {ENDPOINT}, {} and {}",
                        CLIENT_ID[0], CLIENT_SECRET[0]
                    ),
                ));
            }
            return if faults.is_empty() {
                Ok(None)
            } else {
                Err(faults)
            };
        }
        _ => {
            let why = format!("\"{method}\": expected \"oidc\" or \"default\"");
            return Err(vec![property_fault(METHOD, why)]);
        }
    }
    contradictions(properties, &mut faults);
    let mut fault = |key: &str, why: String| faults.push(property_fault(key, why));
    let given = |keys: &[&str]| {
        let mut values = keys.iter().filter_map(|key| properties.get(key));
        values.rfind(|value| !value.is_empty())
    };
    for keys in [&[ENDPOINT][..], &CLIENT_ID, &CLIENT_SECRET] {
        if given(keys).is_none() {
            fault(keys[0], format!("is needed with \"{METHOD}\" = \"oidc\""));
        }
    }
    if let Some(endpoint) = given(&[ENDPOINT])
        && let Err(why) = check_endpoint(endpoint)
    {
        fault(ENDPOINT, why);
    }
    let extensions = match extensions(properties.get(EXTENSIONS).unwrap_or_default()) {
        Ok(extensions) => extensions,
        Err(why) => {
            fault(EXTENSIONS, why);
            Vec::new()
        }
    };
    let owned = |key: &str| properties.get(key).map(str::to_owned);
    match (given(&[ENDPOINT]), given(&CLIENT_ID), given(&CLIENT_SECRET)) {
        (Some(endpoint), Some(id), Some(secret)) if faults.is_empty() => Ok(Some(TokenSettings {
            endpoint: endpoint.to_owned(),
            client_id: id.to_owned(),
            client_secret: Secret::new(secret),
            scope: owned(SCOPE).filter(|scope| !scope.is_empty()),
            extensions,
            ca_file: owned(CA_FILE),
            ca_text: owned(CA_TEXT),
        })),
        _ => Err(faults),
    }
}

/// What does not go together with tokens that are fetched.
fn contradictions(properties: &Properties, faults: &mut Vec<KeyFault>) {
    let mut fault = |key: &str, why: String| faults.push(property_fault(key, why));
    if !is_mechanism(properties) {
        fault(
            METHOD,
            "\"oidc\", but the mechanism is another: set \"sasl.mechanism\" = \"OAUTHBEARER\" and \"security.protocol\" \
             to SASL_SSL"
                .to_owned(),
        );
    }
    if properties.get(UNSECURED) == Some("true") {
        fault(UNSECURED, format!("excludes \"{METHOD}\" = \"oidc\""));
    }
    if let Some(grant) = properties.get(GRANT_TYPE)
        && grant != "client_credentials"
    {
        let why = format!("\"{grant}\" is not supported, expected \"client_credentials\"");
        fault(GRANT_TYPE, why);
    }
    if properties.get(CA_FILE).is_some() && properties.get(CA_TEXT).is_some() {
        fault(CA_TEXT, format!("excludes {CA_FILE}"));
    }
}

fn is_mechanism(properties: &Properties) -> bool {
    let is = |key: &str, value: &str| {
        properties
            .get(key)
            .is_some_and(|given| given.eq_ignore_ascii_case(value))
    };
    let mechanism = ["sasl.mechanism", "sasl.mechanisms"]
        .iter()
        .any(|key| is(key, "OAUTHBEARER"));
    let sasl = ["SASL_SSL", "SASL_PLAINTEXT"]
        .iter()
        .any(|value| is("security.protocol", value));
    mechanism && sasl
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let uri: Uri = endpoint.parse().map_err(|_| EXPECTED_URL.to_owned())?;
    // The address may hold a password, and is not printed.
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(()),
        _ => Err(EXPECTED_URL.to_owned()),
    }
}

const EXPECTED_URL: &str = "expected http(s)://host[:port]/path without credentials";

/// `name=value` pairs, separated by commas.
fn extensions(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or("expected name=value pairs separated by commas")?;
            let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
            let printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            if !named || name == "auth" || !printable {
                return Err(format!(
                    "\"{name}\": expected a name of letters other than \"auth\", and a printable value"
                ));
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kafka::properties::RawProperty;

    const COMPLETE: [(&str, &str); 6] = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "OAUTHBEARER"),
        (METHOD, "oidc"),
        (ENDPOINT, "https://idp/token"),
        (CLIENT_ID[0], "me"),
        (CLIENT_SECRET[0], "hunter2"),
    ];

    fn settings(pairs: &[(&str, &str)]) -> Result<Option<TokenSettings>, String> {
        let pairs = pairs.iter().map(|(key, value)| {
            let value = RawProperty::Text((*value).to_owned());
            ((*key).to_owned(), value)
        });
        let properties = Properties::check(pairs.collect(), &mut Vec::new());
        token_settings(&properties).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })
    }

    #[test]
    fn a_mechanism_without_a_source_of_tokens_is_refused_with_what_is_missing() {
        let why = settings(&COMPLETE[..2]).unwrap_err();
        for part in ["sasl.mechanism", METHOD, ENDPOINT, "client.secret"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        let why = settings(&COMPLETE[..3]).unwrap_err();
        for part in [ENDPOINT, CLIENT_ID[0], CLIENT_SECRET[0]] {
            assert!(why.contains(part), "{part}: {why}");
        }
        let plain = [
            ("sasl.mechanism", "PLAIN"),
            ("security.protocol", "SASL_SSL"),
        ];
        assert!(settings(&plain).unwrap().is_none());
        let development = [&COMPLETE[..2], &[(UNSECURED, "true")]].concat();
        assert!(settings(&development).unwrap().is_none());
    }

    #[test]
    fn complete_settings_are_taken_and_the_secret_is_not_shown() {
        let more = [
            (SCOPE, "kafka"),
            (EXTENSIONS, "logicalCluster=lkc-1, pool=p-2"),
        ];
        let settings = settings(&[&COMPLETE[..], &more].concat()).unwrap().unwrap();
        assert_eq!(settings.client_secret.reveal(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            settings.extensions,
            [pair("logicalCluster", "lkc-1"), pair("pool", "p-2")]
        );
    }

    #[test]
    fn what_is_not_supported_or_contradicts_itself_is_told_together() {
        let wrong = [
            (GRANT_TYPE, "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            (EXTENSIONS, "auth=x"),
            (UNSECURED, "true"),
        ];
        let mut pairs = [&COMPLETE[..], &wrong].concat();
        pairs[3].1 = "https://me:hunter2@idp/token";
        let why = settings(&pairs).unwrap_err();
        for part in [GRANT_TYPE, EXTENSIONS, UNSECURED, ENDPOINT] {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert!(!why.contains("hunter2"), "{why}");
        let why = settings(&[(METHOD, "magic")]).unwrap_err();
        assert!(why.contains("expected \"oidc\""), "{why}");
        let why = settings(&[(METHOD, "oidc")]).unwrap_err();
        assert!(why.contains("sasl.mechanism"), "{why}");
    }
}
