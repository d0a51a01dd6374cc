//! Keeps the values of secrets out of everything that is answered, written or shown.
//!
//! A secret's value is replaced by a token that names it, in plain and in derived forms (base64, hex, URL and JSON escapes).
//! A guest that writes a token of the plain form back gets the value put in by the host, so that editing one line of a file
//! that holds a secret keeps the secret.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::bytes::Bytes;
use crate::call::{Answer, CallError, Outcome, Output, PodOutput, Prior, Response};

/// Characters: values shorter than this are not looked for, since they would be found everywhere.
pub const SHORTEST: usize = 4;

const OPEN: &str = "\u{27E6}secret:";
const CLOSE: &str = "\u{27E7}";

/// The token that stands for a secret.
pub fn token(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// Puts the values of secrets back where a token of the plain form stands.
pub fn put_back<'a>(bytes: &[u8], value_of: impl Fn(&str) -> Option<&'a str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(start) = find(rest, OPEN.as_bytes()) {
        let after = &rest[start + OPEN.len()..];
        let value = find(after, CLOSE.as_bytes())
            .and_then(|end| std::str::from_utf8(&after[..end]).ok().map(|name| (end, name)))
            .and_then(|(end, name)| value_of(name).map(|value| (end, value)));
        if let Some((end, value)) = value {
            out.extend_from_slice(&rest[..start]);
            out.extend_from_slice(value.as_bytes());
            rest = &after[end + CLOSE.len()..];
        } else {
            out.extend_from_slice(&rest[..start + OPEN.len()]);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Names of the secrets whose tokens of the plain form stand in a text.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(OPEN).skip(1).filter_map(|rest| rest.split_once(CLOSE).map(|(name, _)| name))
}

/// What stands for the value of a Kubernetes Secret.
pub const HIDDEN: &str = "(hidden)";

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Hides the values of Kubernetes Secrets, wherever in a JSON value one stands, or a patch of one.
pub fn hide_kubernetes_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("kind").and_then(Value::as_str) == Some("Secret") {
                hide_data(map);
            }
            let patched = map.get("object").and_then(|object| object.pointer("/kind/kind")).and_then(Value::as_str);
            if patched == Some("Secret")
                && let Some(patch) = map.get_mut("patch")
            {
                *patch = Value::String(HIDDEN.to_owned());
            }
            map.values_mut().for_each(hide_kubernetes_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(hide_kubernetes_secrets),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn hide_data(secret: &mut serde_json::Map<String, Value>) {
    for field in ["data", "stringData"] {
        for value in secret.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut())
        {
            *value = Value::String(HIDDEN.to_owned());
        }
    }
    let annotations = secret.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut);
    if let Some(copy) = annotations.and_then(|annotations| annotations.get_mut(LAST_APPLIED)) {
        *copy = Value::String(HIDDEN.to_owned());
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Replaces the values of secrets.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    search: Option<(AhoCorasick, Vec<String>)>,
}

impl Redactor {
    /// Looks for these secrets, by name.
    pub fn new(secrets: &BTreeMap<String, String>) -> Self {
        let mut needles: Vec<(Vec<u8>, String)> = Vec::new();
        for (name, value) in secrets.iter().filter(|(_, value)| value.chars().count() >= SHORTEST) {
            needles.extend(forms(name, value));
            // A secret of several lines is also found line by line: output is often cut or indented at line ends.
            if value.trim_end().contains('\n') {
                let lines = value.lines().map(str::trim).filter(|line| line.len() >= 16);
                needles.extend(lines.flat_map(|line| forms(name, line)));
            }
        }
        if needles.is_empty() {
            return Self { search: None };
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(needles.iter().map(|(needle, _)| needle))
            .ok();
        Self { search: search.map(|search| (search, needles.into_iter().map(|(_, token)| token).collect())) }
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        match &self.search {
            Some((search, tokens)) if search.is_match(text) => search.replace_all(text, tokens),
            _ => text.to_owned(),
        }
    }

    /// Bytes without secrets.
    pub fn bytes(&self, bytes: Bytes) -> Bytes {
        match &self.search {
            Some((search, tokens)) if search.is_match(&bytes.0) => Bytes(search.replace_all_bytes(&bytes.0, tokens)),
            _ => bytes,
        }
    }

    /// A JSON value without secrets, keys included.
    pub fn json(&self, value: Value) -> Value {
        if self.search.is_none() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.json(item)).collect()),
            Value::Object(map) => {
                Value::Object(map.into_iter().map(|(key, value)| (self.text(&key), self.json(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    /// A response without secrets.
    pub fn response(&self, response: Response) -> Response {
        if self.search.is_none() {
            return response;
        }
        match response {
            Ok(answer) => Ok(self.answer(answer)),
            Err(error) => Err(self.error(error)),
        }
    }

    /// An error without secrets.
    pub fn error(&self, error: CallError) -> CallError {
        match error {
            CallError::Denied(text) => CallError::Denied(self.text(&text)),
            CallError::Unknown(text) => CallError::Unknown(self.text(&text)),
            CallError::NotFound(text) => CallError::NotFound(self.text(&text)),
            CallError::Unreachable(text) => CallError::Unreachable(self.text(&text)),
            CallError::TimedOut(text) => CallError::TimedOut(self.text(&text)),
            CallError::Conflict(text) => CallError::Conflict(self.text(&text)),
            CallError::Invalid(text) => CallError::Invalid(self.text(&text)),
            CallError::Failed(text) => CallError::Failed(self.text(&text)),
        }
    }

    /// What was there before a change, without secrets.
    pub fn prior(&self, prior: Prior) -> Prior {
        match prior {
            Prior::None | Prior::DoneWhen(_) => prior,
            Prior::File(mut file) => {
                file.content = file.content.map(|content| self.bytes(content));
                Prior::File(file)
            }
            Prior::Object { live, would } => {
                Prior::Object { live: live.map(|v| self.json(v)), would: would.map(|v| self.json(v)) }
            }
        }
    }

    fn answer(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Unit
            | Answer::Facts(_)
            | Answer::Flag(_)
            | Answer::Stat(_)
            | Answer::Entries(_)
            | Answer::Source(_)
            | Answer::Verdict(_)
            | Answer::Outcome(Outcome::Already | Outcome::Planned | Outcome::Deferred) => answer,
            Answer::Outputs(outputs) => Answer::Outputs(outputs.into_iter().map(|o| self.output(o)).collect()),
            Answer::Http(mut response) => {
                response.body = self.bytes(response.body);
                for (_, value) in &mut response.headers {
                    *value = self.text(value);
                }
                Answer::Http(response)
            }
            Answer::Names(names) => Answer::Names(names.iter().map(|n| self.text(n)).collect()),
            Answer::Bytes(bytes) => Answer::Bytes(self.bytes(bytes)),
            Answer::Text(text) => Answer::Text(self.text(&text)),
            Answer::Object(object) => Answer::Object(object.map(|o| self.json(o))),
            Answer::Objects(objects) => Answer::Objects(objects.into_iter().map(|o| self.json(o)).collect()),
            Answer::Pod(output) => Answer::Pod(self.pod(output)),
            Answer::Outcome(Outcome::Done(output)) => Answer::Outcome(Outcome::Done(self.output(output))),
            Answer::Outcome(Outcome::PodDone(output)) => Answer::Outcome(Outcome::PodDone(self.pod(output))),
            Answer::Value(value) => Answer::Value(self.json(value)),
        }
    }

    fn output(&self, output: Output) -> Output {
        Output { exit: output.exit, stdout: self.bytes(output.stdout), stderr: self.bytes(output.stderr) }
    }

    fn pod(&self, output: PodOutput) -> PodOutput {
        PodOutput { exit_code: output.exit_code, stdout: self.bytes(output.stdout), stderr: self.bytes(output.stderr) }
    }
}

/// The forms in which a value is looked for, with the token of each.
fn forms(name: &str, value: &str) -> Vec<(Vec<u8>, String)> {
    let mut forms = vec![(value.as_bytes().to_vec(), token(name))];
    let mut derived = |form: String, kind: &str| {
        if form.len() >= SHORTEST && form != value {
            forms.push((form.into_bytes(), token(&format!("{name}:{kind}"))));
        }
    };
    derived(STANDARD.encode(value), "base64");
    derived(STANDARD_NO_PAD.encode(value), "base64");
    derived(URL_SAFE.encode(value), "base64url");
    derived(URL_SAFE_NO_PAD.encode(value), "base64url");
    derived(hex::encode(value), "hex");
    derived(hex::encode_upper(value), "hex");
    derived(url_encode(value), "url");
    let json = Value::String(value.to_owned()).to_string();
    derived(json[1..json.len() - 1].to_owned(), "json");
    forms
}

fn url_encode(value: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(&BTreeMap::from([("pw".to_owned(), "s3cr\"t/x".to_owned())]))
    }

    #[test]
    fn every_form_is_replaced() {
        for form in [
            "s3cr\"t/x",
            "czNjciJ0L3g=",
            "czNjciJ0L3g",
            "733363722274 2f78".replace(' ', "").as_str(),
            "s3cr%22t%2Fx",
            "s3cr\\\"t/x",
        ] {
            let text = redactor().text(&format!("before {form} after"));
            assert!(text.starts_with("before \u{27E6}secret:pw") && text.ends_with("\u{27E7} after"), "{form}: {text}");
        }
    }

    #[test]
    fn what_was_redacted_is_put_back() {
        let original = b"user=a\npassword=s3cr\"t/x\n\xff".to_vec();
        let redacted = redactor().bytes(Bytes(original.clone()));
        assert_ne!(redacted.0, original);
        assert_eq!(put_back(&redacted.0, |name| (name == "pw").then_some("s3cr\"t/x")), original);
    }

    #[test]
    fn values_of_kubernetes_secrets_are_hidden() {
        let mut event = serde_json::json!({
            "request": {"manifest": {"kind": "Secret", "stringData": {"pw": "clear"},
                "metadata": {"name": "s", "annotations": {LAST_APPLIED: "clear", "other": "stays"}}}},
            "prior": {"object": {"live": {"kind": "Secret", "data": {"pw": "Y2xlYXI="}}}},
            "patched": {"object": {"kind": {"kind": "Secret"}, "name": "s"}, "patch": {"data": {"pw": "Y2xlYXI="}}},
            "map": {"kind": "ConfigMap", "data": {"a": "seen"}},
        });
        hide_kubernetes_secrets(&mut event);
        let text = event.to_string();
        assert!(
            !text.contains("clear") && !text.contains("Y2xlYXI") && text.contains("seen") && text.contains("stays"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_token_stays() {
        let text = "\u{27E6}secret:other\u{27E7} \u{27E6}secret:";
        assert_eq!(put_back(text.as_bytes(), |_| None), text.as_bytes());
    }
}
