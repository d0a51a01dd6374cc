//! Between the exports of a component and the functions of its author.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::runbook::base::types::CallError;
use crate::error::settle;
use crate::{Error, Result};

/// Reads the inputs, runs an action's converge, writes the outputs.
///
/// # Errors
///
/// What the action ends with, or `invalid` where inputs or outputs are not what the types say.
pub fn converge<I: DeserializeOwned, O: Serialize>(
    run: impl FnOnce(I) -> Result<O>,
    inputs: &str,
) -> Result<String, CallError> {
    Ok(settle(inner(run, inputs))?)
}

fn inner<I: DeserializeOwned, O: Serialize>(run: impl FnOnce(I) -> Result<O>, inputs: &str) -> Result<String> {
    let outputs = serde_json::to_value(run(read(inputs)?)?)
        .map_err(|error| Error::invalid(format!("the outputs cannot be written as JSON: {error}")))?;
    // `()` is what an action without outputs gives.
    if outputs.is_null() { Ok("{}".to_owned()) } else { Ok(outputs.to_string()) }
}

/// Reads the inputs and runs an action's verify.
///
/// # Errors
///
/// What the action ends with, or `invalid` where the inputs are not what the type says.
pub fn verify<I: DeserializeOwned>(
    run: impl FnOnce(I) -> Result<Vec<String>>,
    inputs: &str,
) -> Result<Vec<String>, CallError> {
    Ok(settle(read(inputs).and_then(run))?)
}

fn read<I: DeserializeOwned>(inputs: &str) -> Result<I> {
    serde_json::from_str(inputs).map_err(|error| Error::invalid(format!("with: {error}")))
}

/// The host asked for an action that the manifest does not have.
pub fn no_such_action(name: &str) -> CallError {
    CallError::Invalid(format!("this plugin has no action {name:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn inputs_and_outputs_are_typed() {
        let double = |n: u32| Ok(json!({ "n": n * 2 }));
        assert_eq!(converge(double, "21").unwrap(), r#"{"n":42}"#);
        assert!(matches!(converge(double, "\"x\""), Err(CallError::Invalid(text)) if text.starts_with("with: ")));
        assert_eq!(converge(|_: Value| Ok(()), "{}").unwrap(), "{}");
        assert_eq!(verify(|_: Value| Ok(vec!["no".to_owned()]), "{}").unwrap(), ["no"]);
    }
}
