//! Objects that are put together: patches, and the fields that an apply has.

use std::collections::BTreeSet;

use runbook_model::call::CallError;
use serde_json::{Map, Value};

/// The fields of a manifest that a manager owns. A list whose items have names is a field for each item; any other list is one field.
pub(super) fn leaves(manifest: &Value) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    walk(manifest, &mut Vec::new(), &mut found);
    let named = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        matches!(path[..], ["apiVersion" | "kind"] | ["metadata", "name" | "namespace"] | ["status", ..])
    };
    found.retain(|path| !named(path));
    found
}

fn walk(value: &Value, path: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                walk(value, path, found);
                path.pop();
            }
        }
        Value::Array(items) if names(items).is_some() => {
            for item in items {
                path.push(item_key(item));
                walk(item, path, found);
                path.pop();
            }
        }
        _ => drop(found.insert(path.clone())),
    }
}

/// The names of a list's items, where they all have one and none has it twice.
fn names(items: &[Value]) -> Option<BTreeSet<&str>> {
    let names: BTreeSet<&str> = items.iter().map(|item| item["name"].as_str()).collect::<Option<_>>()?;
    (!items.is_empty() && names.len() == items.len()).then_some(names)
}

fn item_key(item: &Value) -> String {
    format!("[{}]", item["name"].as_str().unwrap_or_default())
}

/// What stands at a path of [`leaves`].
pub(super) fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.iter().find(|item| item_key(item) == *key),
        _ => None,
    })
}

/// Takes a path of [`leaves`] away, with what is empty above it then.
pub(super) fn take_away(value: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    match value {
        Value::Object(map) => {
            if rest.is_empty() {
                map.remove(key);
            } else if let Some(inner) = map.get_mut(key) {
                take_away(inner, rest);
                if inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty) {
                    map.remove(key);
                }
            }
        }
        Value::Array(items) => {
            if let Some(place) = items.iter().position(|item| item_key(item) == *key) {
                // The name of an item goes last, and the item with it.
                if rest == ["name"] {
                    items.remove(place);
                } else {
                    take_away(&mut items[place], rest);
                }
            }
        }
        _ => {}
    }
}

/// Puts the fields of a manifest into an object: server-side apply, and strategic patches.
pub(super) fn apply(into: &mut Value, manifest: &Value) {
    match (into, manifest) {
        (Value::Object(into), Value::Object(fields)) => {
            for (key, value) in fields {
                match value {
                    Value::Null => drop(into.remove(key)),
                    value => apply(into.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (Value::Array(into), Value::Array(items)) if named_lists(into, items) => {
            for item in items {
                let place = into.iter().position(|other| item_key(other) == item_key(item));
                match (place, item["$patch"] == "delete") {
                    (Some(place), true) => drop(into.remove(place)),
                    (Some(place), false) => apply(&mut into[place], item),
                    (None, true) => {}
                    (None, false) => into.push(item.clone()),
                }
            }
        }
        (into @ Value::Null, Value::Object(fields)) => {
            *into = Value::Object(Map::new());
            apply(into, &Value::Object(fields.clone()));
        }
        (into, value) => *into = value.clone(),
    }
}

fn named_lists(one: &[Value], other: &[Value]) -> bool {
    names(one).is_some() && names(other).is_some()
}

/// RFC 7386.
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(map) = into.as_object_mut() else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(map.remove(key)),
            value => merge(map.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

/// RFC 6902: add, remove, replace and test.
///
/// # Errors
///
/// A place that is not there, a test that fails.
pub(super) fn json_patch(into: &mut Value, patch: &Value) -> Result<(), CallError> {
    let Some(operations) = patch.as_array() else {
        return Err(CallError::Invalid("a JSON patch is a list".to_owned()));
    };
    for operation in operations {
        let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
        let (what, path) = (text("op"), text("path"));
        let wrong = || CallError::Invalid(format!("the JSON patch cannot be applied: {what} {path}"));
        let (above, last) = path.rsplit_once('/').ok_or_else(wrong)?;
        let last = last.replace("~1", "/").replace("~0", "~");
        if what == "test" {
            if into.pointer(&path).unwrap_or(&Value::Null) != &operation["value"] {
                return Err(wrong());
            }
            continue;
        }
        let value = operation["value"].clone();
        match (into.pointer_mut(above).ok_or_else(wrong)?, what.as_str()) {
            (Value::Object(map), "add") => drop(map.insert(last, value)),
            (Value::Object(map), "replace") => *map.get_mut(&last).ok_or_else(wrong)? = value,
            (Value::Object(map), "remove") => drop(map.remove(&last).ok_or_else(wrong)?),
            (Value::Array(items), "add") if last == "-" => items.push(value),
            (Value::Array(items), what) => {
                let place: usize = last.parse().map_err(|_| wrong())?;
                match what {
                    "add" if place <= items.len() => items.insert(place, value),
                    "replace" if place < items.len() => items[place] = value,
                    "remove" if place < items.len() => drop(items.remove(place)),
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(())
}
