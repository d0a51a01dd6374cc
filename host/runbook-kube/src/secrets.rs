//! Puts the values of secrets into manifests and patches.

use runbook_engine::backend::Secrets;
use runbook_model::call::CallError;
use serde_json::Value;

/// Replaces `{"$secret": "name"}` and `{"$text": ["plain", {"$secret": "name"}]}` at any depth.
///
/// # Errors
///
/// A secret that there is not, or a text made of something else.
pub(crate) fn fill(value: &Value, secrets: &Secrets) -> Result<Value, CallError> {
    match value {
        Value::Object(fields) => {
            if let Some(text) = reference(value, secrets)? {
                return Ok(Value::String(text));
            }
            if let (1, Some(Value::Array(parts))) = (fields.len(), fields.get("$text")) {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Value::String(plain) => text.push_str(plain),
                        other => text.push_str(&reference(other, secrets)?.ok_or_else(|| {
                            CallError::Invalid("a $text holds strings and {\"$secret\": ...} alone".to_owned())
                        })?),
                    }
                }
                return Ok(Value::String(text));
            }
            let filled = fields.iter().map(|(key, field)| Ok((key.clone(), fill(field, secrets)?)));
            Ok(Value::Object(filled.collect::<Result<_, CallError>>()?))
        }
        Value::Array(items) => {
            Ok(Value::Array(items.iter().map(|item| fill(item, secrets)).collect::<Result<_, _>>()?))
        }
        other => Ok(other.clone()),
    }
}

fn reference(value: &Value, secrets: &Secrets) -> Result<Option<String>, CallError> {
    let Value::Object(fields) = value else { return Ok(None) };
    let (1, Some(Value::String(name))) = (fields.len(), fields.get("$secret")) else { return Ok(None) };
    match secrets.0.get(name) {
        Some(text) => Ok(Some(text.clone())),
        None => Err(CallError::Invalid(format!("there is no secret {name:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_become_values_at_any_depth() {
        let secrets = Secrets([("pw".to_owned(), "s3cret".to_owned())].into());
        let manifest = json!({"stringData": {"a": {"$secret": "pw"}, "b": {"$text": ["x=", {"$secret": "pw"}, ";"]}},
            "list": [{"$secret": "pw"}, 3], "near": {"$secret": "pw", "more": 1}});
        let filled = fill(&manifest, &secrets);
        assert_eq!(
            filled,
            Ok(json!({"stringData": {"a": "s3cret", "b": "x=s3cret;"}, "list": ["s3cret", 3],
                "near": {"$secret": "pw", "more": 1}}))
        );
        assert!(matches!(fill(&json!({"$secret": "no"}), &secrets), Err(CallError::Invalid(_))));
        assert!(matches!(fill(&json!({"$text": [1]}), &secrets), Err(CallError::Invalid(_))));
    }
}
