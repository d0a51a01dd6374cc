//! Who we are to a registry: nobody, a name with a password, or the bearer of a token got with these.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

/// Bytes of docker's configuration.
const MAX_CONFIG: usize = 1 << 20;

/// Names and passwords by registry, as `docker login` and `podman login` keep them.
#[derive(Clone, Default)]
pub struct Credentials {
    by_registry: BTreeMap<String, (String, String)>,
    helpers: bool,
}

/// Nothing of it is shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("registries", &self.by_registry.len()).finish_non_exhaustive()
    }
}

/// Why docker's configuration cannot be used. Nothing of its content is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Larger than 1 MiB.
    #[error("it is larger than {} KiB", MAX_CONFIG >> 10)]
    TooLarge,
    /// Not JSON of its shape.
    #[error("it is not docker's configuration: line {0} does not fit")]
    Shape(usize),
    /// `auth` of a registry is not a name and a password.
    #[error("`auth` of `{0}` is not the base64 of NAME:PASSWORD")]
    Auth(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Reads docker's `config.json`. Programs that it names (`credsStore`, `credHelpers`) are not started.
    ///
    /// # Errors
    ///
    /// When it is no such file.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        if text.len() > MAX_CONFIG {
            return Err(CredentialsError::TooLarge);
        }
        let config: Config = serde_json::from_slice(text).map_err(|e| CredentialsError::Shape(e.line()))?;
        let mut by_registry = BTreeMap::new();
        for (key, entry) in config.auths {
            let pair = match (entry.username, entry.password, entry.auth.as_deref().filter(|auth| !auth.is_empty())) {
                (Some(name), Some(password), _) => Some((name, password)),
                (_, _, Some(auth)) => {
                    Some(decode(auth).ok_or_else(|| CredentialsError::Auth(crate::image::said(&key)))?)
                }
                // The helper has it.
                _ => None,
            };
            by_registry.extend(pair.map(|pair| (host_of(&key).to_owned(), pair)));
        }
        Ok(Self { by_registry, helpers: config.creds_store.is_some() || config.cred_helpers.is_some() })
    }

    /// Whether programs were named that would perhaps know more.
    pub fn has_helpers(&self) -> bool {
        self.helpers
    }

    /// The value of `Authorization` for a registry.
    pub(crate) fn basic(&self, registry: &str) -> Option<HeaderValue> {
        let (name, password) = self.by_registry.get(registry)?;
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Keys are `HOST:PORT`, older ones `https://HOST/v1/`.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// What a registry wants to see, as its `WWW-Authenticate` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password.
    Basic,
    /// A token, and where it is got.
    Bearer {
        /// The token server.
        realm: String,
        /// What the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood, of all that the headers offer.
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a HeaderValue>) -> Option<Self> {
        headers.filter_map(|value| Self::read(value.to_str().ok()?)).next()
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut rest) = (None, None, rest);
        while let Some((name, value)) = rest.split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start().trim_start_matches(',');
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// What a token server answers; either name is in use.
#[derive(Deserialize)]
pub(crate) struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    /// The value of `Authorization` that the answer gives.
    pub(crate) fn header(answer: &[u8]) -> Option<HeaderValue> {
        let answer: Self = serde_json::from_slice(answer).ok()?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Part of a query: everything but what never means anything is escaped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.extend(['%', hex_digit(other >> 4), hex_digit(other & 15)]),
        }
    }
    out
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_docker_keeps() {
        let text = r#"{"auths": {
            "registry.home.example": {"auth": "Ym9iOnNlY3I6ZXQ="},
            "https://old.home.example/v1/": {"auth": "Ym9iOnNlY3I6ZXQ="},
            "plain.home.example:5000": {"username": "bob", "password": "secr:et"},
            "helper.home.example": {}
        }, "credsStore": "pass"}"#;
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        for registry in ["registry.home.example", "old.home.example", "plain.home.example:5000"] {
            assert_eq!(credentials.basic(registry).unwrap(), "Basic Ym9iOnNlY3I6ZXQ=", "{registry}");
        }
        for registry in ["helper.home.example", "plain.home.example", "example"] {
            assert_eq!(credentials.basic(registry), None, "{registry}");
        }
        assert!(credentials.has_helpers());
        assert!(!format!("{credentials:?}").contains("bob"), "nothing of it is shown");
        assert!(Credentials::parse(b"{}").is_ok());
        assert_eq!(Credentials::parse(b"{\n[").unwrap_err(), CredentialsError::Shape(2));
        let wrong = Credentials::parse(br#"{"auths": {"a.b": {"auth": "geheim"}}}"#).unwrap_err();
        assert_eq!(wrong, CredentialsError::Auth("a.b".to_owned()));
    }

    #[test]
    fn what_registries_ask_for() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        let table = [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a.example/token",service="r,x",scope="repository:a:pull""#,
                bearer("https://a.example/token", Some("r,x")),
            ),
            ("bearer service=x, realm=https://a.example", bearer("https://a.example", Some("x"))),
            ("Bearer realm=\"open", None),
            ("Bearer", None),
            ("Negotiate", None),
        ];
        for (text, wanted) in table {
            assert_eq!(Challenge::of([HeaderValue::from_static(text)].iter()), wanted, "{text}");
        }
        let both = [HeaderValue::from_static("Negotiate"), HeaderValue::from_static("Basic realm=x")];
        assert_eq!(Challenge::of(both.iter()), Some(Challenge::Basic));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("repository:bob/zfs:pull,push &é"), "repository%3Abob%2Fzfs%3Apull%2Cpush%20%26%C3%A9");
    }
}
