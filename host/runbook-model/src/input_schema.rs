//! Values against the JSON Schema of an action's inputs: before the run with templates still in them, afterwards rendered.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diagnostic::{list, name_help};
use crate::expr::is_reference;
use crate::expr::syntax::is_template;

/// The JSON Schema of an action's inputs. It is compiled when it is first asked about a value, and then never again: clones share
/// what was compiled.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    json: Value,
    #[serde(skip)]
    compiled: Arc<OnceLock<Result<Validator, String>>>,
}

impl Schema {
    /// Whether it was compiled already.
    pub fn is_compiled(&self) -> bool {
        self.compiled.get().is_some()
    }

    fn validator(&self) -> Result<&Validator, String> {
        self.compiled.get_or_init(|| compile(&self.json)).as_ref().map_err(Clone::clone)
    }
}

/// It is not compiled yet, and may turn out to be no schema.
impl From<Value> for Schema {
    fn from(json: Value) -> Self {
        Self { json, compiled: Arc::default() }
    }
}

impl Deref for Schema {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.json
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(f)
    }
}

/// Something that the schema does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer to the value that is wrong, or that holds the wrong key.
    pub path: String,
    /// The key of that value which is wrong, or missing.
    pub key: Option<String>,
    /// Names the kind of mistake.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    pub help: Option<String>,
}

/// Checks inputs. A string that is a template may become anything, so nothing is said of it and of what it may decide.
/// References to secrets are strings of which nothing else is known; they may stand where the schema says `x-secret` alone.
///
/// # Errors
///
/// The schema itself is broken: a mistake of the plugin.
pub fn check(schema: &Schema, inputs: &Value) -> Result<Vec<Problem>, String> {
    let validator = schema.validator()?;
    let mut open = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    let plain = without_references(inputs, "", &mut open, &mut secrets);
    let mut problems: Vec<Problem> = Vec::new();
    for error in validator.iter_errors(&plain) {
        let path = error.instance_path().as_str().to_owned();
        let below = |set: &BTreeSet<String>| set.iter().any(|p| p == &path || p.starts_with(&format!("{path}/")));
        let inside = |set: &BTreeSet<String>| set.iter().any(|p| p == &path || path.starts_with(&format!("{p}/")));
        if inside(&open) || (depends_on_values(error.kind()) && (below(&open) || below(&secrets))) {
            continue;
        }
        if inside(&secrets) && !matches!(error.kind(), ValidationErrorKind::Type { .. }) {
            continue;
        }
        problems.extend(explain(schema, &plain, &path, &error));
    }
    // A key that is written wrongly is not missing too.
    let meant: Vec<(String, String)> = problems
        .iter()
        .filter(|p| p.code == "unknown-input")
        .filter_map(|p| {
            Some((p.path.clone(), p.help.as_ref()?.strip_prefix("did you mean `")?.strip_suffix("`?")?.to_owned()))
        })
        .collect();
    problems.retain(|p| {
        p.code != "missing-input" || !meant.iter().any(|(path, key)| p.path == *path && p.key.as_ref() == Some(key))
    });
    for path in &secrets {
        if !may_be_secret(schema, path) {
            problems.push(Problem {
                path: path.clone(),
                key: None,
                code: "secret-misplaced",
                message: format!("{} cannot hold a secret", named(path)),
                help: Some(
                    "the plugin would have to see it; give the secret to an input that is made for one".to_owned(),
                ),
            });
        }
    }
    Ok(problems)
}

/// Reads a schema.
///
/// # Errors
///
/// What is wrong with it.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_format("target-path", |path: &str| path.starts_with('/') && !path.contains('\0'))
        .with_format("controller-path", |path: &str| !path.is_empty() && !path.contains('\0'))
        .build(schema)
        .map_err(|e| e.to_string())
}

/// The value with a string in place of each reference; the places of templates and of references are noted.
fn without_references(value: &Value, path: &str, open: &mut BTreeSet<String>, secrets: &mut BTreeSet<String>) -> Value {
    match value {
        Value::String(text) => {
            if is_template(text) {
                open.insert(path.to_owned());
            }
            value.clone()
        }
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(i, v)| without_references(v, &format!("{path}/{i}"), open, secrets))
                .collect(),
        ),
        Value::Object(_) if is_reference(value) => {
            secrets.insert(path.to_owned());
            Value::String("secret".to_owned())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| {
                    let inner = crate::schema::node::join_pointer(path, k);
                    (k.clone(), without_references(v, &inner, open, secrets))
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Whether a mistake of this kind may be one of values further down, which are not known yet.
fn depends_on_values(kind: &ValidationErrorKind) -> bool {
    matches!(
        kind,
        ValidationErrorKind::AnyOf { .. }
            | ValidationErrorKind::OneOfNotValid { .. }
            | ValidationErrorKind::OneOfMultipleValid { .. }
            | ValidationErrorKind::Not { .. }
            | ValidationErrorKind::UniqueItems
            | ValidationErrorKind::Contains
            | ValidationErrorKind::Constant { .. }
            | ValidationErrorKind::Enum { .. }
            | ValidationErrorKind::FalseSchema
    )
}

fn named(path: &str) -> String {
    let name = path.rsplit('/').find(|p| p.parse::<usize>().is_err());
    match name {
        Some("") | None => "`with`".to_owned(),
        Some(name) => format!("input `{}`", name.replace("~1", "/").replace("~0", "~")),
    }
}

/// The subschema that holds the keyword which failed.
fn parent_schema<'s>(schema: &'s Value, error: &ValidationError<'_>) -> Option<&'s Value> {
    let path = error.schema_path().as_str();
    schema.pointer(path.rsplit_once('/')?.0)
}

fn explain(schema: &Value, inputs: &Value, path: &str, error: &ValidationError<'_>) -> Vec<Problem> {
    let problem = |key: Option<&str>, code, message: String, help: Option<String>| Problem {
        path: path.to_owned(),
        key: key.map(str::to_owned),
        code,
        message,
        help,
    };
    let what = named(path);
    let one = |code, message: String| vec![problem(None, code, message, None)];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known: Vec<&str> = parent_schema(schema, error)
                .and_then(|s| s.get("properties")?.as_object())
                .map(|p| p.keys().map(String::as_str).collect())
                .unwrap_or_default();
            unexpected
                .iter()
                .map(|key| {
                    let message = if path.is_empty() {
                        format!("there is no input `{key}`")
                    } else {
                        format!("{what} has no key `{key}`")
                    };
                    problem(
                        Some(key),
                        "unknown-input",
                        message,
                        name_help(key, if path.is_empty() { "inputs" } else { "keys" }, known.iter().copied()),
                    )
                })
                .collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let help = parent_schema(schema, error)
                .and_then(|s| s.get("properties")?.get(name)?.get("description")?.as_str())
                .map(|text| format!("`{name}`: {text}"));
            let message = if path.is_empty() {
                format!("the input `{name}` is missing")
            } else {
                format!("{what} needs the key `{name}`")
            };
            vec![problem(Some(name), "missing-input", message, help)]
        }
        ValidationErrorKind::Type { kind } => {
            let found = inputs.pointer(path).map_or("nothing", type_of);
            one(
                "wrong-type",
                format!(
                    "{what} must be {}, not {found}",
                    type_words(&serde_json::json!(format!("{kind:?}")), schema, error)
                ),
            )
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<String> = options
                .as_array()
                .map(|o| o.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect())
                .unwrap_or_default();
            let given = inputs
                .pointer(path)
                .map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            let help = crate::diagnostic::did_you_mean(&given, words.iter().map(String::as_str))
                .map(|best| format!("did you mean \"{best}\"?"))
                .unwrap_or_else(|| format!("it is one of {}", list(&words)));
            vec![problem(None, "bad-input", format!("{what} cannot be \"{given}\""), Some(help))]
        }
        ValidationErrorKind::Format { format } if format == "target-path" => {
            one("bad-input", format!("{what} must be an absolute path on the target: it begins with `/`"))
        }
        ValidationErrorKind::Format { format } if format == "controller-path" => {
            one("bad-input", format!("{what} must be a path on this machine, not empty"))
        }
        ValidationErrorKind::Pattern { pattern } => one("bad-input", format!("{what} does not match `{pattern}`")),
        ValidationErrorKind::AnyOf { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::OneOfMultipleValid { .. } => {
            let names = required_names(schema, error);
            let given: Vec<&String> =
                names.iter().filter(|n| inputs.pointer(path).is_some_and(|v| v.get(n.as_str()).is_some())).collect();
            if names.is_empty() {
                return one("bad-input", format!("{what} is none of what is allowed here"));
            }
            if given.len() > 1 {
                return vec![problem(None, "bad-input", format!("only one of {} may be given", list(&given)), None)];
            }
            if given.is_empty() {
                return vec![problem(None, "missing-input", format!("one of {} is needed", list(&names)), None)];
            }
            one("bad-input", format!("{} does not fit with the other inputs", list(&given)))
        }
        ValidationErrorKind::FalseSchema => one("bad-input", format!("{what} cannot be given here")),
        _ => one("bad-input", format!("{what}: {error}")),
    }
}

/// The keys that the alternatives of a `oneOf` or `anyOf` require, where that is what tells them apart.
fn required_names(schema: &Value, error: &ValidationError<'_>) -> Vec<String> {
    let alternatives = schema.pointer(error.schema_path().as_str()).and_then(Value::as_array);
    let mut names: Vec<String> = Vec::new();
    for alternative in alternatives.into_iter().flatten() {
        for name in
            alternative.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn type_words(fallback: &Value, schema: &Value, error: &ValidationError<'_>) -> String {
    let wanted = schema.pointer(error.schema_path().as_str()).unwrap_or(fallback);
    let word = |name: &str| match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => "something else",
    };
    match wanted {
        Value::String(name) => word(name).to_owned(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(word).collect::<Vec<_>>().join(" or "),
        _ => "something else".to_owned(),
    }
}

/// Whether the schema lets a secret stand at this place: it, or what is around it, says `x-secret`.
pub fn may_be_secret(schema: &Value, path: &str) -> bool {
    let mut at: Vec<&Value> = vec![schema];
    for key in path.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        at = at.iter().flat_map(|s| alternatives(schema, s, 0)).flat_map(|s| step_into(s, &key)).collect();
        if at.iter().flat_map(|s| alternatives(schema, s, 0)).any(|s| s.get("x-secret") == Some(&Value::Bool(true))) {
            return true;
        }
    }
    false
}

/// A schema and those that it refers to or combines.
fn alternatives<'s>(root: &'s Value, schema: &'s Value, depth: usize) -> Vec<&'s Value> {
    let mut out = vec![schema];
    if depth > 8 {
        return out;
    }
    if let Some(target) =
        schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|p| root.pointer(p))
    {
        out.extend(alternatives(root, target, depth + 1));
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        for inner in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            out.extend(alternatives(root, inner, depth + 1));
        }
    }
    out
}

fn step_into<'s>(schema: &'s Value, key: &str) -> Vec<&'s Value> {
    let named = schema.get("properties").and_then(|p| p.get(key));
    let other = schema.get("additionalProperties").filter(|_| named.is_none());
    let item = schema.get("items").filter(|_| key.parse::<usize>().is_ok());
    [named, other, item].into_iter().flatten().collect()
}

/// Names of the top-level inputs of a schema; none: it does not list them.
pub fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::from(json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["path"],
            "oneOf": [{ "required": ["content"] }, { "required": ["source"] }],
            "properties": {
                "path": { "type": "string", "format": "target-path", "description": "where it goes" },
                "content": { "type": "string", "x-secret": true },
                "source": { "type": "string", "format": "controller-path" },
                "mode": { "enum": ["0644", "0600"] },
                "env": { "type": "object", "additionalProperties": { "$ref": "#/$defs/text" } },
                "count": { "type": "integer" },
                "list": { "type": "array", "items": { "anyOf": [{ "type": "string", "x-secret": true }] }, "uniqueItems": true }
            },
            "$defs": { "text": { "type": "string", "x-secret": true } }
        }))
    }

    #[test]
    fn a_schema_is_compiled_once_for_all_its_clones() {
        let schema = schema();
        let clone = schema.clone();
        assert!(!clone.is_compiled());
        check(&schema, &json!({})).expect("a good schema");
        assert!(clone.is_compiled() && clone == schema);
        assert_eq!(serde_json::to_value(&clone).expect("is JSON"), *schema);
        check(&Schema::from(json!({ "type": 5 })), &json!({})).expect_err("is no schema");
    }

    fn messages(inputs: Value) -> Vec<String> {
        check(&schema(), &inputs).expect("a good schema").into_iter().map(|p| p.message).collect()
    }

    #[test]
    fn says_what_is_wrong() {
        for (inputs, want) in [
            (json!({"path": "/a", "content": ""}), vec![]),
            (
                json!({"path": "a", "content": ""}),
                vec!["input `path` must be an absolute path on the target: it begins with `/`"],
            ),
            (json!({"content": ""}), vec!["the input `path` is missing"]),
            (json!({"path": "/a"}), vec!["one of `content`, `source` is needed"]),
            (json!({"path": "/a", "content": "", "source": "b"}), vec!["only one of `content`, `source` may be given"]),
            (json!({"path": 5, "content": ""}), vec!["input `path` must be a string, not an integer"]),
            (json!({"path": "/a", "content": "", "mode": "0645"}), vec!["input `mode` cannot be \"0645\""]),
            (json!({"path": "/a", "content": "", "moed": "0644"}), vec!["there is no input `moed`"]),
            (json!({"path": "/a", "content": "", "env": {"A": 1}}), vec!["input `A` must be a string, not an integer"]),
        ] {
            assert_eq!(messages(inputs.clone()), want, "{inputs}");
        }
    }

    #[test]
    fn templates_may_become_anything() {
        for inputs in [
            json!({"path": "{{ vars.p }}", "content": "x", "count": "{{ 1 }}", "mode": "{{ vars.m }}"}),
            json!({"path": "/a", "content": "x", "env": "{{ vars.env }}"}),
            json!({"path": "/a", "content": "x", "list": ["{{ a }}", "{{ a }}"]}),
        ] {
            assert_eq!(messages(inputs.clone()), Vec::<String>::new(), "{inputs}");
        }
        assert_eq!(messages(json!({"path": "/a", "content": "x", "env": {"A": "{{ 1 }}", "B": 2}})).len(), 1);
    }

    #[test]
    fn secrets_stand_only_where_they_may() {
        let secret = json!({"$secret": "pw"});
        let text = json!({"$text": ["a", {"$secret": "pw"}]});
        for inputs in [
            json!({"path": "/a", "content": secret}),
            json!({"path": "/a", "content": text}),
            json!({"path": "/a", "content": "x", "env": {"A": secret}}),
            json!({"path": "/a", "content": "x", "list": [secret]}),
        ] {
            assert_eq!(messages(inputs.clone()), Vec::<String>::new(), "{inputs}");
        }
        assert_eq!(messages(json!({"path": secret, "content": "x"})), ["input `path` cannot hold a secret"]);
        assert!(
            messages(json!({"path": "/a", "content": "x", "count": secret}))
                .contains(&"input `count` must be an integer, not a string".to_owned())
        );
    }
}
