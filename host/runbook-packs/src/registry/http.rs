//! Requests to a registry: bounded in time, size and redirects, and telling nobody else who we are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::auth::{Challenge, Credentials, Token, escape};
use super::error::Why;
use crate::image::said;

/// Redirects that are followed for one request. Registries that keep blobs elsewhere need one or two.
const MAX_REDIRECTS: usize = 5;

/// Bytes of what a token server answers, and of what a registry says about a failure.
const MAX_WORDS: u64 = 64 << 10;

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Without TLS. A registry on this machine's loopback is reached so unless `ca` is given.
    pub plain_http: bool,
    /// Certificates in PEM: the authorities that may vouch for the registry, instead of those that this machine trusts.
    pub ca: Option<Vec<u8>>,
    /// Who we are.
    pub credentials: Credentials,
    /// How long to wait.
    pub patience: Patience,
}

/// How long a registry may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the head of an answer, after all was sent.
    pub answer: Duration,
    /// Between two pieces of an answer.
    pub silence: Duration,
    /// Bytes per second that come at least, on average, after the first `silence`; those that are sent, too.
    pub slowest: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            // Less than any line that a pack is fetched over.
            slowest: 16 << 10,
        }
    }
}

impl Patience {
    fn for_bytes(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.slowest.max(1))
    }
}

/// A registry, and what it has been told.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    registry: String,
    plain: bool,
    credentials: Credentials,
    /// What is needed of the repository: `repository:bob/zfs:pull`.
    scope: String,
    authorization: Option<HeaderValue>,
    patience: Patience,
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) headers: &'a [(HeaderName, &'a str)],
    pub(crate) body: Bytes,
}

impl Http {
    pub(crate) fn new(registry: &str, scope: String, options: Options) -> Result<Self, Why> {
        let plain = options.plain_http || (options.ca.is_none() && is_loopback(registry));
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(options.patience.connect));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // Which URLs may be plain is decided for each one, in `may_go_to`.
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls(options.ca.as_deref(), plain)?);
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .build(tls.https_or_http().enable_http1().wrap_connector(connector)),
            registry: registry.to_owned(),
            plain,
            credentials: options.credentials,
            scope,
            authorization: None,
            patience: options.patience,
        })
    }

    /// Sends a request to a path, or to a whole URL that the registry gave; logs in when that is asked for, and follows redirects of
    /// requests that only look.
    pub(crate) async fn send(&mut self, to: &str, ask: &Ask<'_>) -> Result<Response<Incoming>, Why> {
        let mut uri = self.resolve(to)?;
        let (mut redirects, mut asked) = (0, false);
        loop {
            let at_home = self.is_home(&uri);
            let authorization = self.authorization.clone().filter(|_| at_home);
            let answer = self.once(ask, &uri, authorization).await?;
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && at_home && !asked {
                asked = true;
                self.authorization = Some(self.log_in(answer.headers()).await?);
                continue;
            }
            let looks = matches!(ask.method, Method::GET | Method::HEAD);
            let Some(location) = answer.headers().get(LOCATION).filter(|_| status.is_redirection() && looks) else {
                return Ok(answer);
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(Why::Redirect(format!("more than {MAX_REDIRECTS} times")));
            }
            uri = self.resolve(&String::from_utf8_lossy(location.as_bytes()))?;
        }
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        uri: &Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, Why> {
        let mut request = Request::builder().method(ask.method.clone()).uri(uri.clone());
        request = request.header(USER_AGENT, concat!("runbook/", env!("CARGO_PKG_VERSION")));
        for (name, value) in ask.headers {
            request = request.header(name, *value);
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(ask.body.clone())).map_err(|e| Why::Broken(e.to_string()))?;
        let patience = self.patience.answer + self.patience.for_bytes(ask.body.len() as u64);
        match timeout(patience, self.client.request(request)).await {
            Err(_) => Err(Why::NoAnswer(patience.as_secs())),
            Ok(Err(error)) if error.is_connect() => Err(Why::Connect(said(&causes(&error)))),
            Ok(Err(error)) => Err(Why::Broken(said(&causes(&error)))),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// The body of an answer, which may have so many bytes.
    pub(crate) async fn body(&self, answer: Response<Incoming>, most: u64) -> Result<Vec<u8>, Why> {
        let said = answer.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if said.is_some_and(|length| length > most) {
            return Err(Why::TooLong(most));
        }
        let silence = self.patience.silence;
        let whole = silence + self.patience.for_bytes(most);
        let deadline = Instant::now() + whole;
        let (mut body, mut content) = (answer.into_body(), Vec::new());
        loop {
            let frame = match timeout_at(deadline, timeout(silence, body.frame())).await {
                Err(_) => return Err(Why::Slow(whole.as_secs())),
                Ok(Err(_)) => return Err(Why::Silent(silence.as_secs())),
                Ok(Ok(None)) => return Ok(content),
                Ok(Ok(Some(frame))) => frame.map_err(|_| Why::Truncated)?,
            };
            let Ok(piece) = frame.into_data() else { continue };
            if content.len() as u64 + piece.len() as u64 > most {
                return Err(Why::TooLong(most));
            }
            content.extend_from_slice(&piece);
        }
    }

    /// What went wrong, where an answer is none of the expected ones.
    pub(crate) async fn failure(&self, answer: Response<Incoming>) -> Why {
        let status = answer.status();
        if status.is_redirection() {
            return Why::Redirect("where it should not be".to_owned());
        }
        let text = self.body(answer, MAX_WORDS).await.unwrap_or_default();
        let said = said(&first_message(&text));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Why::Denied(denied(status, &said)),
            StatusCode::NOT_FOUND => Why::NotFound,
            other => Why::Status { status: other.as_u16(), said },
        }
    }

    /// What shows the registry that we may do this.
    async fn log_in(&self, headers: &HeaderMap) -> Result<HeaderValue, Why> {
        let known = self.credentials.basic(&self.registry);
        match Challenge::of(headers.get_all(WWW_AUTHENTICATE).iter()) {
            Some(Challenge::Basic) => known.ok_or_else(|| Why::Denied(self.no_credentials())),
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref(), known).await,
            None => Err(Why::Denied("the registry does not say in a known way how to log in".to_owned())),
        }
    }

    fn no_credentials(&self) -> String {
        let helpers = if self.credentials.has_helpers() { "; docker's credential helpers are not asked" } else { "" };
        format!("docker's configuration has no name and password for {}{helpers}", self.registry)
    }

    async fn token(&self, realm: &str, service: Option<&str>, known: Option<HeaderValue>) -> Result<HeaderValue, Why> {
        let join = if realm.contains('?') { '&' } else { '?' };
        let service = service.map(|service| format!("service={}&", escape(service))).unwrap_or_default();
        let uri = self.resolve(&format!("{realm}{join}{service}scope={}", escape(&self.scope)))?;
        let named = known.is_some();
        let ask = Ask { method: Method::GET, headers: &[], body: Bytes::new() };
        // No redirects here: name and password go where the registry says, and no further.
        let answer = self.once(&ask, &uri, known).await?;
        let status = answer.status();
        if !status.is_success() {
            let why = if named { String::new() } else { format!("; {}", self.no_credentials()) };
            return Err(Why::Token(format!("the token server answered {}{why}", status.as_u16())));
        }
        let body = self.body(answer, MAX_WORDS).await?;
        Token::header(&body).ok_or_else(|| Why::Token("the answer of the token server holds none".to_owned()))
    }

    fn resolve(&self, to: &str) -> Result<Uri, Why> {
        let home = || format!("{}://{}", if self.plain { "http" } else { "https" }, self.registry);
        let absolute =
            if to.starts_with('/') && !to.starts_with("//") { format!("{}{to}", home()) } else { to.to_owned() };
        let uri: Uri = absolute.parse().map_err(|_| Why::Redirect(format!("to `{}`, which is no URL", said(to))))?;
        if self.may_go_to(&uri) {
            Ok(uri)
        } else {
            Err(Why::Redirect(format!("to `{}`, which is not https", said(to))))
        }
    }

    /// Everywhere by TLS; without it only where we were told to do so.
    fn may_go_to(&self, uri: &Uri) -> bool {
        match uri.scheme_str() {
            Some("https") => uri.host().is_some_and(|host| !host.is_empty()),
            Some("http") => self.is_home(uri) && self.plain,
            _ => false,
        }
    }

    /// Whether this is the registry itself, as we were told to reach it.
    fn is_home(&self, uri: &Uri) -> bool {
        let scheme = if self.plain { "http" } else { "https" };
        uri.scheme_str() == Some(scheme)
            && uri.authority().is_some_and(|a| a.as_str().eq_ignore_ascii_case(&self.registry))
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(registry, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(ca: Option<&[u8]>, plain: bool) -> Result<rustls::ClientConfig, Why> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let setup = |error: &dyn std::fmt::Display| Why::Setup(format!("TLS cannot be set up: {error}"));
    let builder = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let roots = match ca {
        // A machine without certificates can still use its own registry.
        None if plain => rustls::RootCertStore::empty(),
        None => return Ok(builder.with_native_roots().map_err(|error| setup(&error))?.with_no_client_auth()),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| Why::Setup("the CA file is not PEM".to_owned()))?;
                roots.add(certificate).map_err(|error| setup(&error))?;
            }
            if roots.is_empty() {
                return Err(Why::Setup("the CA file holds no certificate".to_owned()));
            }
            roots
        }
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

fn denied(status: StatusCode, said: &str) -> String {
    if said.is_empty() { status.as_u16().to_string() } else { format!("{}: {said}", status.as_u16()) }
}

/// `{"errors": [{"message": "..."}]}`, as the distribution API has it; nothing of an answer of another shape.
fn first_message(text: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    answer.pointer("/errors/0/message").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}
