//! Values of inputs: texts of the command line and values that were read, checked and typed.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::diagnostic::{Diagnostic, name_help};
use crate::expr::{is_reference, is_reserved};
use crate::plan::{InputDef, InputFrom, InputType};

/// The inputs of a run.
#[derive(Clone, Default, PartialEq)]
pub struct Resolved {
    /// What expressions see; secrets are references.
    pub values: Map<String, Value>,
    /// The values of the secrets, by name.
    pub secrets: BTreeMap<String, String>,
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Resolved").field("values", &self.values).field("secrets", &names).finish()
    }
}

/// The inputs whose value must be read where their `from` says: those that nobody gave.
pub fn to_read<'d>(defs: &'d [InputDef], given: &BTreeMap<String, String>) -> Vec<(&'d InputDef, &'d InputFrom)> {
    defs.iter().filter(|d| !given.contains_key(&d.name)).filter_map(|d| d.from.as_ref().map(|from| (d, from))).collect()
}

/// The inputs of a run: from the command line, else as read, else the default.
///
/// `given`: `--var NAME=TEXT`. `read`: what reading the places of [`to_read`] gave; a name that is missing there had nothing
/// to read (a variable that is not set).
///
/// # Errors
///
/// All that is wrong.
pub fn resolve(
    defs: &[InputDef],
    given: &BTreeMap<String, String>,
    read: &BTreeMap<String, Result<String, String>>,
) -> Result<Resolved, Vec<Diagnostic>> {
    let mut out = Resolved::default();
    let mut wrong = Vec::new();
    for name in given.keys().filter(|name| !defs.iter().any(|d| d.name == **name)) {
        let help = name_help(name, "inputs", defs.iter().map(|d| d.name.as_str()));
        wrong.push(Diagnostic::error("unknown-input", format!("the runbook has no input `{name}`")).maybe_help(help));
    }
    for def in defs {
        let name = &def.name;
        if def.kind == InputType::Secret && given.contains_key(name) {
            let message = format!(
                "the secret `{name}` cannot be given with `--var`, where everybody on this machine can read it"
            );
            wrong.push(Diagnostic::error("secret-in-argv", message).help(from_help(def)));
            continue;
        }
        let text = match (given.get(name), read.get(name)) {
            (Some(text), _) => Some(text),
            (None, Some(Ok(text))) => Some(text),
            (None, Some(Err(reason))) => {
                wrong
                    .push(Diagnostic::error("input-unreadable", format!("input `{name}` could not be read: {reason}")));
                continue;
            }
            (None, None) => None,
        };
        if def.kind == InputType::Secret {
            match text {
                Some(text) => {
                    out.secrets.insert(name.clone(), text.clone());
                    out.values.insert(name.clone(), crate::expr::secret_reference(name));
                }
                None => wrong.push(missing(def)),
            }
            continue;
        }
        let value = match (text, &def.default) {
            (Some(text), _) => from_text(def, text),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                wrong.push(missing(def));
                continue;
            }
        };
        match value {
            Ok(value) => drop(out.values.insert(name.clone(), value)),
            Err(reason) => wrong.push(Diagnostic::error("bad-input", format!("input `{name}` {reason}"))),
        }
    }
    if wrong.is_empty() { Ok(out) } else { Err(wrong) }
}

/// The inputs of an included runbook, from the rendered `with` of the step that includes it.
///
/// # Errors
///
/// All that is wrong, in words.
pub fn of_include(defs: &[InputDef], with: &Map<String, Value>) -> Result<Map<String, Value>, Vec<String>> {
    let mut out = Map::new();
    let mut wrong = Vec::new();
    for def in defs {
        let name = &def.name;
        match (with.get(name), &def.default) {
            (Some(value), _) => match check_rendered(def, value.clone()) {
                Ok(value) => drop(out.insert(name.clone(), value)),
                Err(reason) => wrong.push(format!("input `{name}` {reason}")),
            },
            (None, Some(default)) => drop(out.insert(name.clone(), default.clone())),
            (None, None) => wrong.push(format!("input `{name}` is missing")),
        }
    }
    if wrong.is_empty() { Ok(out) } else { Err(wrong) }
}

fn missing(def: &InputDef) -> Diagnostic {
    let what = def.description.as_ref().map(|d| format!(" ({d})")).unwrap_or_default();
    Diagnostic::error("missing-input", format!("input `{}` has no value{what}", def.name)).help(from_help(def))
}

fn from_help(def: &InputDef) -> String {
    let name = &def.name;
    match &def.from {
        Some(InputFrom::Env(variable)) => format!("set the environment variable {variable}"),
        Some(InputFrom::File(file) | InputFrom::Age { file, .. }) => format!("it is read from the file {file}"),
        Some(InputFrom::Command(argv)) => format!("it is what `{}` prints", argv.join(" ")),
        Some(InputFrom::Prompt(_)) => {
            format!(
                "it is asked for at a terminal; without one, say in the runbook where it is read: `[inputs.{name}] from = ...`"
            )
        }
        None => format!("give it with `--var {name}=VALUE`"),
    }
}

/// The value that a text stands for.
///
/// # Errors
///
/// What is wrong with it, as a fragment that reads after "input `x`".
pub fn from_text(def: &InputDef, text: &str) -> Result<Value, String> {
    let value = match def.kind {
        InputType::String | InputType::Secret => Value::String(text.to_owned()),
        InputType::Bool => match text.trim() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(format!("must be true or false, not {text:?}")),
        },
        InputType::Integer => match text.trim().parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => return Err(format!("must be an integer, not {text:?}")),
        },
        InputType::Number => match text.trim().parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => text.trim().parse::<i64>().map_or(Value::Number(number), Value::from),
            None => return Err(format!("must be a number, not {text:?}")),
        },
        InputType::List | InputType::Map => {
            let example = if def.kind == InputType::List { r#"["a", "b"]"# } else { r#"{"a": 1}"# };
            serde_json::from_str(text).map_err(|_| format!("must be JSON, such as {example}"))?
        }
    };
    check_value(def, value)
}

/// A value, if the input may have it.
///
/// # Errors
///
/// What is wrong with it, as a fragment that reads after "input `x`".
pub fn check_value(def: &InputDef, value: Value) -> Result<Value, String> {
    if has_reserved_key(&value) {
        return Err("holds a key that is reserved for secrets (`$secret` or `$text`)".to_owned());
    }
    check_rendered(def, value)
}

/// As [`check_value`], for a value that the renderer made: a reference in it is a secret that the including runbook passes on.
fn check_rendered(def: &InputDef, value: Value) -> Result<Value, String> {
    let is_secret = is_reference(&value);
    let fits = match def.kind {
        InputType::String | InputType::Secret => value.is_string() || is_secret,
        InputType::Number => value.is_number(),
        InputType::Integer => value.is_i64() || value.is_u64(),
        InputType::Bool => value.is_boolean(),
        InputType::List => value.is_array(),
        InputType::Map => value.is_object() && !is_secret,
    };
    if !fits {
        return Err(format!("must be {}, not {}", with_article(def.kind), describe(&value)));
    }
    if !def.choices.is_empty() && !def.choices.contains(&value) {
        let choices: Vec<String> =
            def.choices.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect();
        return Err(format!("must be one of {}", crate::diagnostic::list(&choices)));
    }
    Ok(value)
}

fn has_reserved_key(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reserved_key),
        Value::Object(map) => map.iter().any(|(k, v)| is_reserved(k) || has_reserved_key(v)),
        _ => false,
    }
}

fn with_article(kind: InputType) -> &'static str {
    match kind {
        InputType::String => "a string",
        InputType::Number => "a number",
        InputType::Integer => "an integer",
        InputType::Bool => "true or false",
        InputType::List => "a list",
        InputType::Map => "a table",
        InputType::Secret => "a text",
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) if is_reference(value) => "a secret",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn def(name: &str, kind: InputType) -> InputDef {
        InputDef { name: name.to_owned(), kind, default: None, description: None, from: None, choices: Vec::new() }
    }

    #[test]
    fn texts_become_typed_values() {
        for (kind, text, want) in [
            (InputType::String, "5", json!("5")),
            (InputType::Integer, "5", json!(5)),
            (InputType::Number, "5", json!(5)),
            (InputType::Number, "0.5", json!(0.5)),
            (InputType::Bool, "true", json!(true)),
            (InputType::List, "[1, \"a\"]", json!([1, "a"])),
            (InputType::Map, "{\"a\": {}}", json!({"a": {}})),
        ] {
            assert_eq!(from_text(&def("x", kind), text), Ok(want), "{kind:?} {text}");
        }
        for (kind, text) in [
            (InputType::Integer, "5.5"),
            (InputType::Number, "nan"),
            (InputType::Bool, "yes"),
            (InputType::List, "a,b"),
            (InputType::List, "{}"),
            (InputType::Map, "{\"$secret\": \"pw\"}"),
            (InputType::List, "[{\"$text\": []}]"),
            (InputType::Map, "{\"a\": {\"$secret\": \"pw\", \"b\": 1}}"),
        ] {
            assert!(from_text(&def("x", kind), text).is_err(), "{kind:?} {text}");
        }
    }

    #[test]
    fn the_command_line_cannot_name_secrets() {
        // A reference is accepted from an including runbook only, where the renderer made it.
        let text = r#"[{"$secret": "pw"}]"#;
        let given = BTreeMap::from([("l".to_owned(), text.to_owned())]);
        let resolved = resolve(&[def("l", InputType::List)], &given, &BTreeMap::new());
        assert!(resolved.is_err());
    }

    #[test]
    fn finds_all_that_is_wrong() {
        let mut mode = def("mode", InputType::String);
        mode.choices = vec![json!("a"), json!("b")];
        let mut pw = def("pw", InputType::Secret);
        pw.from = Some(InputFrom::Env("PW".to_owned()));
        let mut file = def("file", InputType::String);
        file.from = Some(InputFrom::File("f".to_owned()));
        let defs = [mode, pw, file, def("n", InputType::Integer), def("gone", InputType::Bool)];
        let given = BTreeMap::from([
            ("mode".to_owned(), "c".to_owned()),
            ("n".to_owned(), "x".to_owned()),
            ("mod".to_owned(), "a".to_owned()),
        ]);
        let read = BTreeMap::from([("file".to_owned(), Err("no such file".to_owned()))]);
        let wrong = resolve(&defs, &given, &read).expect_err("all are wrong");
        let codes: Vec<&str> = wrong.iter().map(|d| d.code).collect();
        assert_eq!(
            codes,
            ["unknown-input", "bad-input", "missing-input", "input-unreadable", "bad-input", "missing-input"]
        );
        assert_eq!(wrong[2].help.as_deref(), Some("set the environment variable PW"));
    }

    #[test]
    fn secrets_stay_apart() {
        let mut pw = def("pw", InputType::Secret);
        pw.from = Some(InputFrom::Env("PW".to_owned()));
        let read = BTreeMap::from([("pw".to_owned(), Ok("hunter2".to_owned()))]);
        let resolved = resolve(&[pw.clone()], &BTreeMap::new(), &read).expect("resolves");
        assert_eq!(resolved.values["pw"], json!({"$secret": "pw"}));
        assert_eq!(resolved.secrets["pw"], "hunter2");
        assert!(!format!("{resolved:?}").contains("hunter2"));
        let given = BTreeMap::from([("pw".to_owned(), "hunter2".to_owned())]);
        let wrong = resolve(&[pw], &given, &BTreeMap::new()).expect_err("refused");
        assert_eq!(wrong[0].code, "secret-in-argv");
        assert!(!wrong[0].render(false).contains("hunter2"));
    }
}
