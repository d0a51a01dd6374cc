//! No secret survives redaction, whatever is around it and however it is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use runbook_model::redact::{Redactor, SHORTEST, token};
use serde_json::{Value, json};

/// A secret, and after `---` a text in which `\u{1}` to `\u{9}` stand for it in one of nine ways to write it.
pub(crate) fn redaction(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (secret, text) = crate::halves(text);
    // Tokens have such words themselves, and a secret of control characters is one of the placeholders.
    let name = "pw";
    let is_in_token =
        ["base64url", "hex", "url", "json"].iter().any(|kind| token(&format!("{name}:{kind}")).contains(secret));
    if secret.chars().count() < SHORTEST || is_in_token || secret.contains(|c: char| ('\u{1}'..='\u{9}').contains(&c)) {
        return;
    }
    let ways = ways(secret);
    let redactor = Redactor::new(&BTreeMap::from([(name.to_owned(), secret.to_owned())]));
    let mut written = String::new();
    for c in text.chars() {
        match u32::from(c).checked_sub(1).and_then(|way| ways.get(way as usize)) {
            Some(way) => written.push_str(way),
            None => written.push(c),
        }
    }
    let clean = redactor.text(&written);
    gone(&ways, &clean);
    let bytes = redactor.bytes(written.clone().into_bytes().into());
    gone(&ways, &bytes.lossy());
    let value = redactor.json(json!({ &written: [&written], "x": { "y": &written } }));
    each(&value, &mut |text| gone(&ways, text));
}

fn each(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            visit(key);
            each(value, visit);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Nothing of it stands between tokens.
fn gone(ways: &[String], clean: &str) {
    for part in clean.split(['\u{27E6}', '\u{27E7}']) {
        for way in ways.iter().filter(|way| way.chars().count() >= SHORTEST) {
            assert!(!part.contains(way.as_str()), "{way:?} is left in {part:?}");
        }
    }
}

/// How other programs write it: as it is, for a header, for JSON as kubectl and Python write it, for a URL, as hex.
fn ways(secret: &str) -> Vec<String> {
    let json = Value::String(secret.to_owned()).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let go = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let mut python = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit).ok().filter(u8::is_ascii) {
            Some(byte) => python.push(char::from(byte)),
            None => drop(write!(python, "\\u{unit:04x}")),
        }
    }
    let url = |lower: bool| {
        let mut url = String::new();
        for byte in secret.bytes() {
            match byte {
                b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => url.push(char::from(b)),
                b if lower => drop(write!(url, "%{b:02x}")),
                b => drop(write!(url, "%{b:02X}")),
            }
        }
        url
    };
    vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex::encode(secret),
        json,
        url(false),
        url(true),
        go,
        python,
        STANDARD_NO_PAD.encode(secret),
    ]
}
