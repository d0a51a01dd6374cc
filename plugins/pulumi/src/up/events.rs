//! What `pulumi up --json` writes: one event on each line, in no order to rely on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::preview::{is_quiet, taken_apart};

/// What the events of one run come to.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Operations that are done: "create kubernetes:apps/v1:Deployment buttons".
    pub(super) done: Vec<String>,
    /// The operation that was begun last.
    pub(super) begun: Option<String>,
    /// Operations that failed.
    pub(super) failed: Vec<String>,
    /// What was called an error.
    pub(super) errors: Vec<String>,
    /// How many resources, by operation; none where the run broke off.
    pub(super) summary: Option<BTreeMap<String, u64>>,
}

impl Events {
    /// Reads all lines that are events. What pulumi does not write yet is passed over.
    pub(super) fn read(stdout: &[u8]) -> Self {
        let mut events = Self::default();
        for line in stdout.split(|byte| *byte == b'\n') {
            if let Ok(event) = serde_json::from_slice::<Value>(line) {
                events.add(&event);
            }
        }
        events
    }

    fn add(&mut self, event: &Value) {
        let operation = |metadata: &Value| {
            let op = metadata["op"].as_str()?;
            let (kind, name) = taken_apart(metadata["urn"].as_str()?);
            (!is_quiet(op)).then(|| format!("{op} {kind} {name}"))
        };
        if let Some(event) = event.get("resOutputsEvent") {
            self.done.extend(operation(&event["metadata"]));
        } else if let Some(event) = event.get("resourcePreEvent") {
            self.begun = operation(&event["metadata"]).or(self.begun.take());
        } else if let Some(event) = event.get("resOpFailedEvent") {
            let said = operation(&event["metadata"]);
            self.failed.push(said.unwrap_or_else(|| "a resource that pulumi does not name".to_owned()));
        } else if let Some(event) = event.get("diagnosticEvent") {
            if event["severity"] == "error" {
                let text = without_colours(event["message"].as_str().unwrap_or_default());
                self.errors.push(text.trim().to_owned());
            }
        } else if let Some(event) = event.get("summaryEvent") {
            let changes = event["resourceChanges"].as_object().into_iter().flatten();
            self.summary = Some(changes.filter_map(|(op, n)| Some((op.clone(), n.as_u64()?))).collect());
        }
    }

    /// How many resources did not stay as they were, by operation.
    pub(super) fn changed(&self) -> BTreeMap<String, u64> {
        let mut changes = self.summary.clone().unwrap_or_default();
        changes.retain(|op, count| !is_quiet(op) && *count > 0);
        changes
    }
}

/// Without pulumi's own marks for colours: `<{%reset%}>`.
fn without_colours(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<{%") {
        let Some(end) = rest[start..].find("%}>") else { break };
        out.push_str(&rest[..start]);
        rest = &rest[start + end + 3..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_worked() {
        let events = Events::read(include_bytes!("../../testdata/pulumi_up_events.jsonl"));
        assert_eq!(events.done, ["create kubernetes:apps/v1:Deployment buttons"]);
        assert_eq!(events.begun.as_deref(), Some("create kubernetes:apps/v1:Deployment buttons"));
        assert!(events.failed.is_empty() && events.errors.is_empty());
        assert_eq!(events.changed(), BTreeMap::from([("create".to_owned(), 1)]));
    }

    #[test]
    fn a_run_that_failed() {
        let events = Events::read(include_bytes!("../../testdata/pulumi_up_failed_events.jsonl"));
        assert_eq!(events.failed, ["create kubernetes:core/v1:Service chime"]);
        assert!(events.errors[0].starts_with("configured Kubernetes cluster is unreachable"), "{:?}", events.errors);
        assert!(events.summary.is_some(), "a summary comes all the same");
    }

    #[test]
    fn a_run_that_broke_off_has_no_summary() {
        let whole = include_str!("../../testdata/pulumi_up_events.jsonl");
        let half = &whole[..whole.len() / 2];
        assert!(Events::read(half.as_bytes()).summary.is_none());
    }

    #[test]
    fn colours_go() {
        assert_eq!(without_colours("<{%reset%}>[1/2] a <{%fg 1%}>b"), "[1/2] a b");
        assert_eq!(without_colours("<{% never ends"), "<{% never ends");
    }
}
