//! Fields of objects: which of them differ, and what turns those of a change back.

use std::fmt;

use serde_json::{Map, Value};

use crate::delta::comparable;

/// Characters of a value in a message.
const SHOWN: usize = 120;

/// A field that is not as it was left.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// JSON pointer to it.
    pub pointer: String,
    /// What the change left; none: no such field.
    pub left: Option<Value>,
    /// What is there now; none: no such field.
    pub now: Option<Value>,
    /// Its values are nobody's to read.
    pub hidden: bool,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hidden {
            return write!(f, "{} is not what was left there", self.pointer);
        }
        let shown = |value: &Option<Value>| {
            let text = value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        };
        write!(f, "{} was left as {} and is {}", self.pointer, shown(&self.left), shown(&self.now))
    }
}

/// The merge patch that turns what was left into what was before, within what is there now; none: nothing is left to do. Fields
/// that others changed are noted.
pub(super) fn back(
    before: Option<&Value>,
    left: Option<&Value>,
    now: Option<&Value>,
    pointer: &str,
    fields: &mut Vec<Field>,
) -> Option<Value> {
    // To Kubernetes, a field that is null is no field.
    let [before, left, now] = [before, left, now].map(|value| value.filter(|value| !value.is_null()));
    if before == left || before == now {
        return None;
    }
    if ![before, left, now].into_iter().flatten().all(Value::is_object) {
        if now == left {
            return Some(before.cloned().unwrap_or_default());
        }
        fields.push(field(pointer, left, now));
        return None;
    }
    let nothing = Map::new();
    let [old, ours, there] = [before, left, now].map(|value| value.and_then(Value::as_object).unwrap_or(&nothing));
    let mut patch = Map::new();
    for key in keys(old, ours) {
        let part = back(old.get(key), ours.get(key), there.get(key), &below(pointer, key), fields);
        patch.extend(part.map(|part| (key.clone(), part)));
    }
    // A map that we made goes with the last of our fields in it; one that others use, too, stays.
    if before.is_none() {
        let stays = there.keys().any(|key| patch.get(key) != Some(&Value::Null));
        return (!stays).then_some(Value::Null).or_else(|| some(patch));
    }
    if left.is_none() && now.is_none() {
        return Some(Value::Object(patch));
    }
    some(patch)
}

fn some(patch: Map<String, Value>) -> Option<Value> {
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Whether an object bears a value that a write gave it: in some field that the write altered, `now` is as the write left it.
pub fn bears(before: &Value, left: &Value, now: &Value) -> bool {
    fn one(before: Option<&Value>, left: Option<&Value>, now: Option<&Value>) -> bool {
        let [before, left, now] = [before, left, now].map(|value| value.filter(|value| !value.is_null()));
        if before == left {
            return false;
        }
        if left == now {
            return true;
        }
        let (Some(Value::Object(ours)), Some(Value::Object(there))) = (left, now) else { return false };
        let nothing = Map::new();
        let old = before.and_then(Value::as_object).unwrap_or(&nothing);
        keys(old, ours).any(|key| one(old.get(key), ours.get(key), there.get(key)))
    }
    one(Some(&comparable(before)), Some(&comparable(left)), Some(&comparable(now)))
}

/// Where two values differ. Lists are compared whole.
pub(super) fn differences(left: &Value, now: &Value, pointer: &str, fields: &mut Vec<Field>) {
    match (left, now) {
        (Value::Object(ours), Value::Object(there)) => {
            for key in keys(ours, there) {
                match (ours.get(key), there.get(key)) {
                    (Some(left), Some(now)) => differences(left, now, &below(pointer, key), fields),
                    (left, now) => fields.push(field(&below(pointer, key), left, now)),
                }
            }
        }
        (left, now) if left == now => {}
        (left, now) => fields.push(field(pointer, Some(left), Some(now))),
    }
}

/// A manifest as the fields that it sets have in the object.
pub(super) fn shape(manifest: &Value) -> Value {
    let mut shape = comparable(manifest);
    if shape["kind"] == "Secret"
        && let Some(Value::Object(texts)) = shape.as_object_mut().and_then(|map| map.remove("stringData"))
    {
        for key in texts.keys() {
            shape["data"][key] = Value::Null;
        }
    }
    shape
}

/// What an object has in the fields of a manifest.
pub(super) fn ours(shape: &Value, object: &Value) -> Value {
    match (shape, object) {
        (Value::Object(shape), Value::Object(object)) => Value::Object(
            shape.iter().filter_map(|(key, part)| Some((key.clone(), ours(part, object.get(key)?)))).collect(),
        ),
        (Value::Array(shape), Value::Array(items)) => {
            let named: Option<Vec<&str>> = shape.iter().map(|part| part["name"].as_str()).collect();
            match named {
                // Servers add items to such lists: the volume of the service account's token.
                Some(names) => {
                    let of = |name| items.iter().find(|item| item["name"] == name);
                    let pairs = shape.iter().zip(names);
                    Value::Array(pairs.filter_map(|(part, name)| Some(ours(part, of(name)?))).collect())
                }
                None if shape.len() == items.len() => {
                    Value::Array(shape.iter().zip(items).map(|(part, item)| ours(part, item)).collect())
                }
                None => object.clone(),
            }
        }
        _ => object.clone(),
    }
}

fn field(pointer: &str, left: Option<&Value>, now: Option<&Value>) -> Field {
    Field { pointer: pointer.to_owned(), left: left.cloned(), now: now.cloned(), hidden: false }
}

fn keys<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> impl Iterator<Item = &'a String> {
    one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)))
}

/// The JSON pointer to a field (RFC 6901).
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
