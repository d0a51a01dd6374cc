//! HTTP requests that are made from a machine.

use serde::de::DeserializeOwned;

use crate::bindings::runbook::ssh::machines as raw;
use crate::change::Outcome;
use crate::command::{Exit, Output};
use crate::effect::{Effect, effect_methods};
use crate::{Error, Machine, Result, Text};

/// An HTTP request from a machine, made by [`Machine::http`].
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// # fn f(machine: &Machine) -> Result<()> {
/// let ready = machine.http("GET", "https://127.0.0.1:16443/readyz").insecure().look()?.status == 200;
/// # Ok(()) }
/// ```
#[must_use = "a request does nothing until `look`, or until its change is run"]
pub struct Http<'a> {
    machine: &'a Machine,
    method: String,
    url: String,
    headers: Vec<(String, Text)>,
    body: Text,
    ca: Option<String>,
}

impl<'a> Http<'a> {
    pub(crate) fn new(machine: &'a Machine, method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { machine, method: method.into(), url: url.into(), headers: Vec::new(), body: Text::default(), ca: None }
    }

    /// One more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Text>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Its body; left out: none.
    pub fn body(mut self, body: impl Into<Text>) -> Self {
        self.body = body.into();
        self
    }

    /// PEM of the authority to trust instead of the machine's own.
    pub fn authority(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Trusts any certificate.
    pub fn insecure(mut self) -> Self {
        self.ca = Some("insecure".to_owned());
        self
    }

    /// Sends it: it only looks (GET or HEAD). Also sent in plans. Any status is an answer.
    ///
    /// # Errors
    ///
    /// [`Kind::Unreachable`](crate::Kind::Unreachable) where nobody answered; what else kept it from being sent.
    pub fn look(self) -> Result<Response> {
        let raw::Response { status, headers, body } = self.machine.raw().http(&self.to_wit())?;
        Ok(Response { said: self.said(), status, headers, body })
    }

    /// A change that this request makes; `summary` says it to a person, short and imperative. Only a person can take it back,
    /// unless something else is said.
    pub fn change(self, summary: impl Into<String>) -> HttpChange<'a> {
        HttpChange { http: self, undo: None, effect: Effect::new(summary) }
    }

    fn said(&self) -> String {
        format!("{} {} from {}", self.method, self.url, self.machine.name())
    }

    fn to_wit(&self) -> raw::Request {
        raw::Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.iter().map(|(name, value)| (name.clone(), value.to_wit())).collect(),
            body: self.body.to_wit(),
            ca: self.ca.clone(),
        }
    }
}

/// A change that an HTTP request makes, made by [`Http::change`].
#[must_use = "a change does nothing until `run`"]
pub struct HttpChange<'a> {
    http: Http<'a>,
    undo: Option<raw::Undo<'a>>,
    effect: Effect,
}

impl HttpChange<'_> {
    /// Leaving it as it is does no harm, and neither does doing it again.
    pub fn harmless(mut self) -> Self {
        self.undo = Some(raw::Undo::Harmless);
        self
    }

    /// It cannot be taken back; the consequence in words. The manifest's ask must say `irreversible` too.
    pub fn irreversible(mut self, consequence: impl Into<String>) -> Self {
        self.undo = Some(raw::Undo::Irreversible(consequence.into()));
        self
    }

    /// Only a person can take it back; what to do, in words.
    pub fn undo_by_hand(mut self, what_to_do: impl Into<String>) -> Self {
        self.undo = Some(raw::Undo::ByHand(what_to_do.into()));
        self
    }

    effect_methods!();

    /// Sends it, or plans it. The output's `stdout` is the body of the response.
    ///
    /// # Errors
    ///
    /// A status of 400 or more, with the end of the body; or what kept it from being sent.
    pub fn run(self) -> Result<Outcome> {
        let by_hand = || raw::Undo::ByHand(format!("take back by hand: {}", self.effect.summary()));
        let undo = self.undo.unwrap_or_else(by_hand);
        let outcome = self.http.machine.raw().http_change(&self.http.to_wit(), &undo, self.effect.to_wit())?;
        let output = |raw: raw::Output| {
            let exit = match raw.exit {
                raw::Exit::Code(code) => Exit::Code(code),
                raw::Exit::Signal(name) => Exit::Signal(name),
            };
            Output::new(self.http.said(), exit, raw.stdout, raw.stderr)
        };
        Outcome::of(outcome, output).judged()
    }
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the status has not been looked at: see `ok`"]
pub struct Response {
    said: String,
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

impl Response {
    /// Itself, where the status is 2xx.
    ///
    /// # Errors
    ///
    /// Else [`Kind::Failed`](crate::Kind::Failed), with the request and the beginning of the body.
    pub fn ok(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let body: String = self.text().trim().chars().take(500).collect();
        let colon = if body.is_empty() { "" } else { ": " };
        Err(Error::failed(format!("{}: status {}{colon}{body}", self.said, self.status)))
    }

    /// The first header with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the request that it answers.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::failed(format!("{}: the body is not the JSON that was expected: {error}", self.said))
        })
    }
}
