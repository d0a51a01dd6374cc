//! A plugin that calls everything that a plugin can call, and misbehaves in every way that it can.

mod everything;
mod misbehave;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "runbook:plugin/plugin",
    generate_all,
});

use exports::runbook::plugin::action::Guest;
use runbook::base::types::CallError;
use runbook::files::trees;

const MANIFEST: &[u8] = include_bytes!("../manifest.json");

#[used]
#[unsafe(link_section = "runbook:manifest")]
static SECTION: [u8; MANIFEST.len()] = *include_bytes!("../manifest.json");

struct Probe;

export!(Probe);

impl Guest for Probe {
    fn describe() -> String {
        String::from_utf8_lossy(MANIFEST).into_owned()
    }

    fn converge(action: String, inputs: String) -> Result<String, CallError> {
        match action.as_str() {
            "everything" => Ok(outputs(&everything::run())),
            "fail" => trees::controller().stat("/x").map(|_| "{}".to_owned()),
            "misbehave" => misbehave::run(&how(&inputs)),
            other => Err(CallError::Invalid(format!("no action {other}"))),
        }
    }

    fn verify(action: String, inputs: String) -> Result<Vec<String>, CallError> {
        match action.as_str() {
            "everything" => Ok(Vec::new()),
            "fail" => trees::controller().stat("/x").map(|_| Vec::new()),
            _ => Ok(match how(&inputs).as_str() {
                "many" => (0..1000).map(|i| format!("wrong {i}")).collect(),
                how => vec![format!("told to {how}")],
            }),
        }
    }
}

/// The value of `{"how":"..."}`.
fn how(inputs: &str) -> String {
    inputs.split('"').nth(3).unwrap_or_default().to_owned()
}

/// `{"results": [...]}`.
fn outputs(results: &[String]) -> String {
    let quote = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{\"results\":[{}]}}", results.iter().map(quote).collect::<Vec<_>>().join(","))
}
