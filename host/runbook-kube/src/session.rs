//! One cluster in use: its clients, what it serves, and the one way in which requests are sent to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request};
use http_body_util::BodyExt as _;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, ResourceKind};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::connect::Clients;
use crate::gate::Refused;
use crate::lease::Now;
use crate::refusal::{Refusal, Trouble};
use crate::resource::{self, Resource};

/// API servers end their own requests after 60 s; somewhat more, so that their answer wins.
const REQUEST_LIMIT: Duration = Duration::from_secs(65);
/// Bytes of one answer. A page of 500 objects of the largest size that etcd takes would be more, and no homelab has that.
pub(crate) const ANSWER_LIMIT: usize = 64 << 20;
/// How often an observation is tried.
const TRIES: u32 = 4;
/// Longest pause between two tries.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// One cluster in use.
pub(crate) struct Session {
    /// Its name in the inventory.
    pub(crate) cluster: String,
    /// URL of its API server.
    pub(crate) server: String,
    /// The clients.
    pub(crate) clients: Clients,
    /// Whether the end of an exec's input can be told; known after the first exec with input.
    pub(crate) half_close: OnceCell<bool>,
    /// The server or its credentials are not what they were: the next call opens the cluster anew.
    stale: AtomicBool,
    kinds: Mutex<HashMap<ResourceKind, Arc<Resource>>>,
    /// What time it was at the server, and when it said so.
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

impl Session {
    pub(crate) fn new(cluster: &str, server: String, clients: Clients) -> Self {
        Self {
            cluster: cluster.to_owned(),
            server,
            clients,
            half_close: OnceCell::new(),
            stale: AtomicBool::new(false),
            kinds: Mutex::new(HashMap::new()),
            clock: Mutex::new(None),
        }
    }

    /// What time it is at the server, by the header `Date` of its last answer; else here.
    pub(crate) fn now(&self) -> Now {
        let said = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = |at: Instant| SignedDuration::try_from(at.elapsed()).ok();
        match said.and_then(|(time, at)| time.checked_add(passed(at)?).ok()) {
            Some(time) => Now { time, is_server_s: true },
            None => Now { time: Timestamp::now(), is_server_s: false },
        }
    }

    fn note_time(&self, headers: &http::HeaderMap) {
        let date = headers.get(http::header::DATE).and_then(|value| value.to_str().ok());
        if let Some(time) = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok()) {
            *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
        }
    }

    /// Whether the next call should open the cluster anew: a reinstalled one has other certificates.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    fn doubt(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

/// A session within one call.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) session: Arc<Session>,
    pub(crate) ctx: CallContext,
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) uri: String,
    /// Media type and body.
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
    /// Sent through the client that can change something.
    pub(crate) acting: bool,
    /// For messages: "get Pod d/web".
    pub(crate) what: String,
}

impl Ask {
    /// A `GET`.
    pub(crate) fn get(uri: impl Into<String>, what: impl Into<String>) -> Self {
        Self { method: Method::GET, uri: uri.into(), body: None, acting: false, what: what.into() }
    }
}

impl Api {
    /// Sends a request; gives the JSON answer.
    pub(crate) async fn json(&self, ask: &Ask) -> Result<Value, Trouble> {
        let bytes = self.bytes(ask).await?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object).ok_or_else(|| {
            self.session.doubt();
            let start: String = String::from_utf8_lossy(&bytes).chars().take(80).collect();
            Trouble::Call(CallError::Unreachable(format!(
                "{}: what answers at {} is not a Kubernetes API server, or broken: {start:?}",
                self.at(&ask.what),
                self.session.server
            )))
        })
    }

    /// Sends a request; gives the answer as it is. Observations are tried again where that may help; changes only where
    /// the server says that it did not begin (429).
    pub(crate) async fn bytes(&self, ask: &Ask) -> Result<Vec<u8>, Trouble> {
        let mut tries = 1;
        loop {
            let trouble = match self.once(ask).await {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => trouble,
            };
            let Some(pause) = pause_before_retry(&trouble, ask.acting, tries) else { return Err(trouble) };
            tries += 1;
            self.sleep(pause, &ask.what).await?;
        }
    }

    /// As [`Api::json`], where every trouble is the call's error.
    pub(crate) async fn expect(&self, ask: &Ask) -> Result<Value, CallError> {
        self.json(ask).await.map_err(|trouble| self.error(trouble, ask))
    }

    /// Sends a request once.
    pub(crate) async fn once(&self, ask: &Ask) -> Result<Vec<u8>, Trouble> {
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.uri);
        request = request.header(http::header::ACCEPT, "application/json, */*;q=0.5");
        if let Some((media_type, _)) = &ask.body {
            request = request.header(http::header::CONTENT_TYPE, *media_type);
        }
        let body = ask.body.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        let request = request
            .body(Body::from(body))
            .map_err(|e| CallError::Invalid(format!("{}: no request can be made of it: {e}", self.at(&ask.what))))?;
        let client = if ask.acting { &self.session.clients.act } else { &self.session.clients.look };
        let exchange = async {
            let answer = client.send(request).await.map_err(|e| self.lost(&e, &ask.what))?;
            let code = answer.status().as_u16();
            self.session.note_time(answer.headers());
            let retry_after = answer.headers().get(http::header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = self.collect(answer.into_body(), ask).await?;
            if code >= 400 {
                return Err(Trouble::Refused(Box::new(Refusal::read(code, retry_after.as_deref(), &body))));
            }
            Ok(body)
        };
        match tokio::time::timeout(REQUEST_LIMIT, self.bounded(&ask.what, exchange)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(self.in_doubt(error, ask.acting).into()),
            Err(_) => {
                let text = format!("gives no answer within {} s", REQUEST_LIMIT.as_secs());
                Err(Trouble::Lost { unsent: false, text })
            }
        }
    }

    async fn collect(&self, mut body: Body, ask: &Ask) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.lost(&e, &ask.what))?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > ANSWER_LIMIT {
                    return Err(Trouble::Call(CallError::Failed(format!(
                        "{}: the answer is larger than {} MiB; narrow it with a selector",
                        self.at(&ask.what),
                        ANSWER_LIMIT >> 20
                    ))));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    }

    /// What a failure of the client means.
    pub(crate) fn lost(&self, error: &kube::Error, what: &str) -> Trouble {
        if let kube::Error::Service(inner) = error
            && let Some(refused) = inner.downcast_ref::<Refused>()
        {
            return Trouble::Call(CallError::Denied(format!("{}: {refused}", self.at(what))));
        }
        if let kube::Error::Auth(_) = error {
            return Trouble::Call(CallError::Failed(format!("{}: no credentials: {}", self.at(what), root(error))));
        }
        let unsent = matches!(error, kube::Error::Service(inner)
            if inner.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect()));
        let verb = if unsent { "cannot be connected to" } else { "broke off" };
        Trouble::Lost { unsent, text: format!("{verb}: {}", root(error)) }
    }

    /// The call's error for a request's trouble.
    pub(crate) fn error(&self, trouble: Trouble, ask: &Ask) -> CallError {
        match trouble {
            Trouble::Refused(refusal) => {
                if refusal.code == 401 {
                    self.session.doubt();
                }
                let error = refusal.into_error(&self.at(&ask.what));
                match error {
                    CallError::Unreachable(_) => self.in_doubt(error, ask.acting),
                    other => other,
                }
            }
            Trouble::Lost { unsent, text } => {
                self.session.doubt();
                let text = format!("{}: the API server {} {text}", self.at(&ask.what), self.session.server);
                self.in_doubt(CallError::Unreachable(text), ask.acting && !unsent)
            }
            Trouble::Call(error) => error,
        }
    }

    /// Says so where a change may have been made all the same.
    pub(crate) fn in_doubt(&self, error: CallError, acting: bool) -> CallError {
        const DOUBT: &str = "; whether the change was made cannot be said";
        match error {
            error if !acting => error,
            CallError::Unreachable(text) => CallError::Unreachable(text + DOUBT),
            CallError::TimedOut(text) => CallError::TimedOut(text + DOUBT),
            other => other,
        }
    }

    /// "cluster home: get Pod d/web".
    pub(crate) fn at(&self, what: &str) -> String {
        format!("cluster {}: {what}", self.session.cluster)
    }

    /// Runs something until the call's deadline or cancellation.
    pub(crate) async fn bounded<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T, CallError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.ctx.cancel.cancelled() => Err(CallError::Failed(format!("{}: cancelled", self.at(what)))),
            () = tokio::time::sleep_until(self.ctx.deadline.into()) => {
                Err(CallError::TimedOut(format!("{}: the time of the call is over", self.at(what))))
            }
        }
    }

    /// Sleeps within the call.
    pub(crate) async fn sleep(&self, time: Duration, what: &str) -> Result<(), CallError> {
        self.bounded(what, tokio::time::sleep(time)).await
    }

    /// How the cluster serves a kind: each group is asked by itself, which every version of Kubernetes answers.
    ///
    /// # Errors
    ///
    /// `not_found` where the cluster does not serve it.
    pub(crate) async fn resource(&self, kind: &ResourceKind) -> Result<Arc<Resource>, CallError> {
        if let Some(found) = self.session.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(kind) {
            return Ok(Arc::clone(found));
        }
        resource::check_kind(kind)?;
        let what = format!("look kind {} up", kind.kind);
        let served = if kind.group.is_empty() {
            vec!["v1".to_owned()]
        } else {
            match self.discover(&format!("/apis/{}", kind.group), &what).await? {
                Some(group) => resource::versions(&group),
                None => return Err(self.unserved(kind, &format!("it has no API group {}", kind.group))),
            }
        };
        let mut hint = None;
        let mut elsewhere = Vec::new();
        for version in &served {
            let path = resource::group_version_path(&kind.group, version);
            let Some(list) = self.discover(&path, &what).await? else { continue };
            if let Some(found) = resource::find(&list, &kind.group, version, &kind.kind) {
                if kind.version.is_empty() || kind.version == *version {
                    let found = Arc::new(found);
                    let mut kinds = self.session.kinds.lock().unwrap_or_else(PoisonError::into_inner);
                    kinds.insert(kind.clone(), Arc::clone(&found));
                    return Ok(found);
                }
                elsewhere.push(version.clone());
            }
            hint = hint.or_else(|| resource::similar(&list, &kind.kind));
        }
        let why = match (elsewhere.is_empty(), hint) {
            (false, _) => format!("it serves {} there", elsewhere.join(", ")),
            (true, Some(hint)) => format!("is {hint} meant?"),
            (true, None) => "perhaps what defines it is not installed".to_owned(),
        };
        Err(self.unserved(kind, &why))
    }

    /// Forgets how a kind is served, after the server did not know its path.
    pub(crate) fn forget(&self, kind: &ResourceKind) {
        self.session.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    async fn discover(&self, path: &str, what: &str) -> Result<Option<Value>, CallError> {
        let ask = Ask::get(path, what);
        match self.json(&ask).await {
            Ok(list) => Ok(Some(list)),
            Err(Trouble::Refused(refusal)) if refusal.unknown_path() => Ok(None),
            Err(trouble) => Err(self.error(trouble, &ask)),
        }
    }

    fn unserved(&self, kind: &ResourceKind, why: &str) -> CallError {
        let at: Vec<&str> =
            [kind.group.as_str(), kind.version.as_str()].into_iter().filter(|p| !p.is_empty()).collect();
        let at = if at.is_empty() { String::new() } else { format!(" of {}", at.join("/")) };
        CallError::NotFound(format!(
            "cluster {} does not serve the kind {}{at}: {why}",
            self.session.cluster, kind.kind
        ))
    }

    /// UID of the kube-system namespace.
    pub(crate) async fn uid(&self) -> Result<String, CallError> {
        let ask =
            Ask::get("/api/v1/namespaces/kube-system", "read the identity of the cluster (namespace kube-system)");
        let namespace = self.expect(&ask).await?;
        match (namespace["metadata"]["name"].as_str(), namespace["metadata"]["uid"].as_str()) {
            (Some("kube-system"), Some(uid)) if !uid.is_empty() => Ok(uid.to_owned()),
            _ => Err(CallError::Unreachable(format!(
                "{}: what {} answered is not that namespace",
                self.at(&ask.what),
                self.session.server
            ))),
        }
    }
}

/// The pause before another try; none: it does not help, or is not safe.
fn pause_before_retry(trouble: &Trouble, acting: bool, tries: u32) -> Option<Duration> {
    if tries >= TRIES {
        return None;
    }
    let usual = Duration::from_millis(250 << tries);
    match trouble {
        Trouble::Refused(refusal) if refusal.code == 429 => Some(refusal.retry_after.unwrap_or(usual).min(PAUSE_LIMIT)),
        Trouble::Refused(refusal) if refusal.mistaken() => None,
        Trouble::Refused(refusal) if !acting && matches!(refusal.code, 500 | 502..=504) => Some(usual),
        Trouble::Lost { unsent: false, .. } if !acting && tries == 1 => Some(usual),
        _ => None,
    }
}

/// The innermost cause, which is the one that says something.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
