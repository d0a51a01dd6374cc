//! Secrets in expressions. Their values never come here: a mark stands for each, which becomes a reference again afterwards.
//!
//! A mark is ` \u{10F8F0}aZ:NAME\u{10F8F1} `. The two characters belong to nobody (private use) and are refused in all other
//! data, so nobody can forge one. The letters of both cases and the spaces make sure that a filter which alters texts (`upper`,
//! `trim`, `split` ...) damages the mark, which is found out: a secret can be passed on and put beside other text, not computed
//! with.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Key of a reference to a secret: `{"$secret": "name"}`.
pub const SECRET: &str = "$secret";
/// Key of a text with secrets in it: `{"$text": ["plain", {"$secret": "name"}]}`.
pub const TEXT: &str = "$text";

const BEGIN: char = '\u{10F8F0}';
const END: char = '\u{10F8F1}';
/// How the first character looks where somebody escaped it.
const ESCAPED: &str = "u{10f8f0}";
const HEAD: &str = " \u{10F8F0}aZ:";
const TAIL: &str = "\u{10F8F1} ";

/// Whether a key has a meaning of its own in values that go to plugins.
pub fn is_reserved(key: &str) -> bool {
    key == SECRET || key == TEXT
}

/// Whether a value is a reference to a secret, or a text with one in it.
pub fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.len() == 1 && o.keys().all(|k| is_reserved(k)))
}

/// Whether a text holds a character that only marks may hold.
pub(super) fn is_tainted(text: &str) -> bool {
    text.contains([BEGIN, END])
}

/// The marked text for a reference; none: it is not a well-formed one.
pub(super) fn to_marks(reference: &Map<String, Value>) -> Option<String> {
    if let Some(name) = reference.get(SECRET) {
        return Some(format!("{HEAD}{}{TAIL}", name.as_str()?));
    }
    let mut out = String::new();
    for part in reference.get(TEXT)?.as_array()? {
        match part {
            Value::String(plain) if !is_tainted(plain) => out.push_str(plain),
            Value::Object(inner) if inner.contains_key(SECRET) => out.push_str(&to_marks(inner)?),
            _ => return None,
        }
    }
    Some(out)
}

/// The names that stand in a marked text.
pub(super) fn names_in(text: &str) -> BTreeSet<String> {
    text.split(HEAD).skip(1).filter_map(|rest| rest.split_once(TAIL)).map(|(name, _)| name.to_owned()).collect()
}

/// Turns the marks of a result back into references.
///
/// `issued`: the names whose marks went into the expression.
///
/// # Errors
///
/// A mark is damaged: the expression computed with a secret.
pub(super) fn from_marks(text: &str, issued: &BTreeSet<String>) -> Result<Value, Mangled> {
    if !is_tainted(text) {
        // A debug form of a list with a secret in it holds the mark's escaped characters.
        return if !issued.is_empty() && text.contains(ESCAPED) {
            Err(Mangled)
        } else {
            Ok(Value::String(text.to_owned()))
        };
    }
    let mut parts: Vec<Value> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(HEAD) {
        let (plain, marked) = rest.split_at(start);
        let (name, after) = marked[HEAD.len()..].split_once(TAIL).ok_or(Mangled)?;
        if is_tainted(plain) || !issued.contains(name) {
            return Err(Mangled);
        }
        if !plain.is_empty() {
            parts.push(Value::String(plain.to_owned()));
        }
        parts.push(reference(name));
        rest = after;
    }
    if is_tainted(rest) || text.contains(ESCAPED) {
        return Err(Mangled);
    }
    if !rest.is_empty() {
        parts.push(Value::String(rest.to_owned()));
    }
    match parts.as_slice() {
        [one] if one.is_object() => Ok(one.clone()),
        _ => Ok(Value::Object(Map::from_iter([(TEXT.to_owned(), Value::Array(parts))]))),
    }
}

/// `{"$secret": "name"}`.
pub(crate) fn reference(name: &str) -> Value {
    Value::Object(Map::from_iter([(SECRET.to_owned(), Value::String(name.to_owned()))]))
}

/// A mark was damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mangled;
