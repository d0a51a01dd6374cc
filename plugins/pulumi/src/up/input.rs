//! What stands under `with`.

use std::collections::BTreeMap;

use runbook_sdk::prelude::*;

/// What stands under `with`.
#[derive(Deserialize)]
pub(crate) struct Input {
    pub(super) project: String,
    pub(super) stack: String,
    #[serde(default = "pulumi")]
    pub(super) program: String,
    pub(super) config_file: Option<String>,
    pub(super) backend_url: Option<String>,
    pub(super) passphrase: Option<Text>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Text>,
    #[serde(default)]
    pub(super) refresh: bool,
    #[serde(default)]
    pub(super) targets: Vec<String>,
    pub(super) parallel: Option<u32>,
    #[serde(default)]
    pub(super) expect: Vec<String>,
    #[serde(default)]
    pub(super) forbid: Vec<Forbid>,
    #[serde(default)]
    pub(super) allow_delete: Vec<String>,
    #[serde(default)]
    pub(super) cancel_stale_lock: bool,
    #[serde(default = "half_an_hour")]
    pub(super) timeout: Period,
}

/// Operations that must not happen to resources.
#[derive(Debug, Deserialize)]
pub(super) struct Forbid {
    pub(super) resource: String,
    #[serde(default = "delete_and_replace")]
    pub(super) ops: Vec<String>,
}

fn pulumi() -> String {
    "pulumi".to_owned()
}

fn half_an_hour() -> Period {
    Period::minutes(30)
}

fn delete_and_replace() -> Vec<String> {
    vec!["delete".to_owned(), "replace".to_owned()]
}

#[cfg(test)]
pub(super) fn input(more: Value) -> Input {
    let mut with = json!({ "project": "/srv/homeslice", "stack": "prod" });
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(with).unwrap()
}
