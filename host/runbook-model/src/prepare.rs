//! A step's inputs on their way to the plugin: defaults put in, paths on the controller made absolute.

use serde_json::Value;

/// Puts in the defaults that the schema states, so that plugin, grants and journal see the same inputs.
pub fn fill_defaults(schema: &Value, inputs: &mut Value) {
    let (Some(properties), Some(inputs)) =
        (schema.get("properties").and_then(Value::as_object), inputs.as_object_mut())
    else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default")
            && !inputs.contains_key(name)
        {
            inputs.insert(name.clone(), default.clone());
        }
    }
}

/// Makes paths on the controller absolute: in every string whose schema has the format `controller-path`, `~/` is the user's
/// home and anything relative lies below the runbook's folder.
pub fn resolve_paths(schema: &Value, value: &mut Value, folder: &str, home: &str) {
    if schema.get("format").and_then(Value::as_str) == Some("controller-path")
        && let Value::String(path) = value
    {
        *path = absolute(path, folder, home);
    }
    for branch in ["anyOf", "oneOf", "allOf"] {
        for schema in schema.get(branch).and_then(Value::as_array).into_iter().flatten() {
            resolve_paths(schema, value, folder, home);
        }
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let schema =
                    schema.get("properties").and_then(|p| p.get(key)).or_else(|| schema.get("additionalProperties"));
                if let Some(schema) = schema {
                    resolve_paths(schema, value, folder, home);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    resolve_paths(schema, item, folder, home);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A path as the owner wrote it, made absolute. `..` is taken away here, since no plugin may use it.
pub fn absolute(path: &str, folder: &str, home: &str) -> String {
    let joined = match path.strip_prefix("~/") {
        Some(rest) => format!("{home}/{rest}"),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{folder}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_put_in_where_nothing_was_said() {
        let schema = json!({"properties": {"a": {"default": 1}, "b": {"default": 2}, "c": {}}});
        let mut inputs = json!({"b": 3});
        fill_defaults(&schema, &mut inputs);
        assert_eq!(inputs, json!({"a": 1, "b": 3}));
    }

    #[test]
    fn paths_are_found_wherever_the_schema_says() {
        let schema = json!({"properties": {
            "source": {"type": "string", "format": "controller-path"},
            "path": {"type": "string", "format": "target-path"},
            "files": {"items": {"properties": {"source": {"format": "controller-path"}}}},
            "env": {"additionalProperties": {"type": "string"}},
            "either": {"oneOf": [{"type": "array"}, {"format": "controller-path"}]},
        }});
        let mut value = json!({"source": "files/../a.mp3", "path": "x", "files": [{"source": "~/b"}], "env": {"A": "c"}, "either": "d"});
        resolve_paths(&schema, &mut value, "/home/u/dr", "/home/u");
        assert_eq!(
            value,
            json!({"source": "/home/u/dr/a.mp3", "path": "x", "files": [{"source": "/home/u/b"}], "env": {"A": "c"}, "either": "/home/u/dr/d"})
        );
    }
}
