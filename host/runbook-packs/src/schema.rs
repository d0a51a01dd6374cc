//! JSON Schemas of plugins, compiled in a way that a hostile schema cannot abuse.

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Keywords that point elsewhere. A schema stands alone: references could loop, and `runbook schema` embeds it in a larger one.
const REFERENCES: [&str; 5] = ["$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema"];

/// Bytes that one compiled regular expression may take. `^[a-z0-9.-]{1,253}$` takes some 100 KiB.
const PATTERN_LIMIT: usize = 1 << 20;

/// How many violations an error message lists.
const LISTED: usize = 5;

/// A compiled schema of an action's inputs or outputs.
pub struct Schema(Validator);

/// Why a schema is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The inputs and outputs of an action are tables.
    #[error("it must be a JSON object with \"type\": \"object\"")]
    NotAnObject,
    /// It points elsewhere.
    #[error("`{0}` is not allowed: a schema stands alone, in draft 2020-12")]
    Reference(&'static str),
    /// It is no JSON Schema.
    #[error("it is not a JSON Schema (draft 2020-12): {0}")]
    Invalid(String),
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// When it is none, does not describe an object, or points elsewhere.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(SchemaError::NotAnObject);
        }
        if let Some(keyword) = reference(schema) {
            return Err(SchemaError::Reference(keyword));
        }
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            // Linear in the length of the text, unlike the default engine.
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_LIMIT))
            .build(schema)
            .map(Self)
            .map_err(|error| SchemaError::Invalid(at(error.instance_path().as_str(), &error.to_string())))
    }

    /// What is wrong with a value, in words; empty when it fits.
    pub fn violations(&self, value: &Value) -> Vec<String> {
        self.0.iter_errors(value).take(LISTED).map(|e| at(e.instance_path().as_str(), &e.to_string())).collect()
    }
}

fn at(pointer: &str, message: &str) -> String {
    // A message quotes the value, which may be long.
    let message: String = message.chars().take(300).collect();
    if pointer.is_empty() { message } else { format!("{pointer}: {message}") }
}

fn reference(schema: &Value) -> Option<&'static str> {
    // The depth is bounded: serde_json refuses to parse what is nested deeper than 128 levels.
    match schema {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            REFERENCES.into_iter().find(|reference| *reference == key).or_else(|| reference(value))
        }),
        Value::Array(items) => items.iter().find_map(reference),
        _ => None,
    }
}
