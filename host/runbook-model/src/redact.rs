//! Keeps the values of secrets out of everything that is answered, written or shown.
//!
//! A secret's value is replaced by a token that names it, in plain and in derived forms (base64, hex, URL and JSON escapes).
//! A guest that writes a token of the plain form back gets the value put in by the host, so that editing one line of a file
//! that holds a secret keeps the secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::bytes::Bytes;
use crate::call::{Answer, CallError, Outcome, Output, Prior, Response};

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

/// Names of the secrets whose tokens stand in a text in their plain form.
pub fn names(text: &str) -> BTreeSet<String> {
    let tokens = text.split(OPEN).skip(1);
    tokens
        .filter_map(|rest| Some(rest.split_once(CLOSE)?.0))
        .filter(|name| !name.contains(':'))
        .map(str::to_owned)
        .collect()
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

/// Whether there is something for [`hide_kubernetes_secrets`] in a value.
pub fn holds_kubernetes_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.get("kind").and_then(Value::as_str) == Some("Secret") || map.values().any(holds_kubernetes_secret)
        }
        Value::Array(items) => items.iter().any(holds_kubernetes_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
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
    memchr::memmem::find(haystack, needle)
}

/// Whether there is something for [`hide_kubernetes_secrets`] in a value whose JSON text this is.
pub(crate) fn may_hold_kubernetes_secret(json: &[u8]) -> bool {
    find(json, b"\"kind\":\"Secret\"").is_some()
}

/// Replaces the values of secrets.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// None: there is no secret that is looked for.
    search: Option<Arc<Search>>,
}

#[derive(Debug)]
struct Search {
    forms: AhoCorasick,
    /// The same forms as they stand in a JSON text, where some characters are escaped.
    forms_in_json: AhoCorasick,
    /// What stands for each form.
    tokens: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// The secret, where the form is the plain one, which [`put_back`] understands.
    plain: Option<String>,
}

impl Redactor {
    /// Looks for these secrets, by name.
    pub fn new(secrets: &BTreeMap<String, String>) -> Self {
        let mut all: Vec<(String, Token)> = Vec::new();
        for (name, value) in secrets.iter().filter(|(_, value)| value.chars().count() >= SHORTEST) {
            all.extend(forms(name, value));
            // A secret of several lines is also found line by line: output is often cut or indented at line ends.
            if value.trim_end().contains('\n') {
                let lines = value.lines().map(str::trim).filter(|line| line.len() >= 16);
                all.extend(lines.flat_map(|line| forms(name, line)));
            }
        }
        if all.is_empty() {
            return Self { search: None };
        }
        let (forms, tokens): (Vec<String>, Vec<Token>) = all.into_iter().unzip();
        // "Leftmost" is also the kind that searches with vector instructions.
        let search = |forms: &[String]| AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(forms);
        let forms_in_json: Vec<String> = forms.iter().map(|form| json_escape(form)).collect();
        let (Ok(forms), Ok(forms_in_json)) = (search(&forms), search(&forms_in_json)) else {
            return Self { search: None };
        };
        Self { search: Some(Arc::new(Search { forms, forms_in_json, tokens })) }
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.each(|search| search.text(&mut text, &mut BTreeSet::new()));
        text
    }

    /// Bytes without secrets.
    pub fn bytes(&self, mut bytes: Bytes) -> Bytes {
        self.each(|search| search.bytes(&mut bytes, &mut BTreeSet::new()));
        bytes
    }

    /// A JSON value without secrets, keys included.
    pub fn json(&self, mut value: Value) -> Value {
        self.each(|search| search.json(&mut value, &mut BTreeSet::new()));
        value
    }

    /// A response without secrets, and the names of those that stood in it in their plain form.
    pub fn response(&self, mut response: Response) -> (Response, BTreeSet<String>) {
        let mut found = BTreeSet::new();
        self.each(|search| match &mut response {
            Ok(answer) => search.answer(answer, &mut found),
            Err(error) => search.error(error, &mut found),
        });
        (response, found)
    }

    /// An error without secrets.
    pub fn error(&self, mut error: CallError) -> CallError {
        self.each(|search| search.error(&mut error, &mut BTreeSet::new()));
        error
    }

    /// What was there before a change, without secrets.
    pub fn prior(&self, mut prior: Prior) -> Prior {
        self.each(|search| search.prior(&mut prior, &mut BTreeSet::new()));
        prior
    }

    /// Whether a secret may stand in a value whose JSON text this is. "No" is certain.
    pub(crate) fn may_be_in(&self, json: &[u8]) -> bool {
        self.search.as_ref().is_some_and(|search| search.forms_in_json.is_match(json))
    }

    fn each(&self, redact: impl FnOnce(&Search)) {
        if let Some(search) = &self.search {
            redact(search);
        }
    }
}

/// What was found, by name.
type Found = BTreeSet<String>;

impl Search {
    /// The bytes with tokens in place of secrets; none: there is no secret in them.
    fn replaced(&self, bytes: &[u8], found: &mut Found) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut copied = 0;
        for secret in self.forms.find_iter(bytes) {
            let token = &self.tokens[secret.pattern().as_usize()];
            out.extend_from_slice(&bytes[copied..secret.start()]);
            out.extend_from_slice(token.text.as_bytes());
            copied = secret.end();
            if let Some(name) = token.plain.as_ref().filter(|name| !found.contains(*name)) {
                found.insert(name.clone());
            }
        }
        if copied == 0 {
            return None;
        }
        out.extend_from_slice(&bytes[copied..]);
        Some(out)
    }

    fn text(&self, text: &mut String, found: &mut Found) {
        if let Some(clean) = self.replaced(text.as_bytes(), found) {
            // A form is text itself, so it begins and ends between two characters.
            *text = String::from_utf8_lossy(&clean).into_owned();
        }
    }

    fn bytes(&self, bytes: &mut Bytes, found: &mut Found) {
        if let Some(clean) = self.replaced(&bytes.0, found) {
            bytes.0 = clean;
        }
    }

    fn json(&self, value: &mut Value, found: &mut Found) {
        match value {
            Value::String(text) => self.text(text, found),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item, found)),
            Value::Object(map) => {
                if map.keys().any(|key| self.forms.is_match(key)) {
                    let entries = std::mem::take(map).into_iter().map(|(mut key, value)| {
                        self.text(&mut key, found);
                        (key, value)
                    });
                    *map = entries.collect();
                }
                map.values_mut().for_each(|value| self.json(value, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn error(&self, error: &mut CallError, found: &mut Found) {
        match error {
            CallError::Denied(text)
            | CallError::Unknown(text)
            | CallError::NotFound(text)
            | CallError::Unreachable(text)
            | CallError::TimedOut(text)
            | CallError::Conflict(text)
            | CallError::Invalid(text)
            | CallError::Failed(text) => self.text(text, found),
        }
    }

    fn prior(&self, prior: &mut Prior, found: &mut Found) {
        match prior {
            Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } => {}
            Prior::File(file) => file.content.iter_mut().for_each(|content| self.bytes(content, found)),
            Prior::Object { live, would } => {
                live.iter_mut().chain(would).for_each(|object| self.json(object, found));
            }
            Prior::PodFile { sha256, content: Some(content) } => {
                if let Some(clean) = self.replaced(&content.0, found) {
                    content.0 = clean;
                    // The hash tells a short secret to whoever can guess.
                    *sha256 = None;
                }
            }
            Prior::PodFile { content: None, .. } => {}
        }
    }

    fn answer(&self, answer: &mut Answer, found: &mut Found) {
        match answer {
            Answer::Unit
            | Answer::Facts(_)
            | Answer::Flag(_)
            | Answer::Stat(_)
            | Answer::Entries(_)
            | Answer::Source(_)
            | Answer::Verdict(_)
            | Answer::Outcome(Outcome::Already | Outcome::Planned | Outcome::Deferred) => {}
            Answer::Outputs(outputs) => outputs.iter_mut().for_each(|output| self.output(output, found)),
            Answer::Http(response) => {
                self.bytes(&mut response.body, found);
                response.headers.iter_mut().for_each(|(_, value)| self.text(value, found));
            }
            Answer::Names(names) => names.iter_mut().for_each(|name| self.text(name, found)),
            Answer::Bytes(bytes) => self.bytes(bytes, found),
            Answer::Text(text) => self.text(text, found),
            Answer::Object(object) => object.iter_mut().for_each(|object| self.json(object, found)),
            Answer::Objects(objects) => objects.iter_mut().for_each(|object| self.json(object, found)),
            Answer::Outcome(Outcome::Done(output)) => self.output(output, found),
            Answer::Pod(output) | Answer::Outcome(Outcome::PodDone(output)) => {
                self.bytes(&mut output.stdout, found);
                self.bytes(&mut output.stderr, found);
            }
            Answer::Value(value) => self.json(value, found),
        }
    }

    fn output(&self, output: &mut Output, found: &mut Found) {
        self.bytes(&mut output.stdout, found);
        self.bytes(&mut output.stderr, found);
    }
}

/// The forms in which a value is looked for, with the token of each.
fn forms(name: &str, value: &str) -> Vec<(String, Token)> {
    let mut forms = vec![(value.to_owned(), Token { text: token(name), plain: Some(name.to_owned()) })];
    let mut derived = |form: String, kind: &str| {
        if form.len() >= SHORTEST && form != value {
            forms.push((form, Token { text: token(&format!("{name}:{kind}")), plain: None }));
        }
    };
    derived(STANDARD.encode(value), "base64");
    derived(STANDARD_NO_PAD.encode(value), "base64");
    derived(URL_SAFE.encode(value), "base64url");
    derived(URL_SAFE_NO_PAD.encode(value), "base64url");
    derived(hex::encode(value), "hex");
    derived(hex::encode_upper(value), "hex");
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        derived(url_encode(value, digits), "url");
    }
    let json = json_escape(value);
    // As Go writes it, and with it kubectl; and as Python does.
    derived(json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"), "json");
    derived(ascii(&json), "json");
    derived(json, "json");
    forms
}

/// The inside of a JSON string with nothing but ASCII in it.
fn ascii(json: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit).ok().filter(u8::is_ascii) {
            Some(byte) => out.push(char::from(byte)),
            None => drop(write!(out, "\\u{unit:04x}")),
        }
    }
    out
}

/// A text as it stands between the quotes of a JSON string.
fn json_escape(text: &str) -> String {
    let json = Value::String(text.to_owned()).to_string();
    json[1..json.len() - 1].to_owned()
}

fn url_encode(value: &str, digits: &[u8; 16]) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 0xf].map(|digit| char::from(digits[usize::from(digit)])));
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
    fn json_of_kubectl_and_python_and_lower_case_urls_are_searched() {
        let redactor = Redactor::new(&BTreeMap::from([("pw".to_owned(), "a<&ä/b".to_owned())]));
        for text in [r"a\u003c\u0026ä/b", r"a<&\u00e4/b", "a%3c%26%c3%a4%2fb", "a%3C%26%C3%A4%2Fb"] {
            assert!(
                redactor.text(text).starts_with(&token("pw")[..token("pw").len() - '\u{27E7}'.len_utf8()]),
                "{text}"
            );
        }
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
