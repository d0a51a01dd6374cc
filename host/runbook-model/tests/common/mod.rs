//! A catalog and files for tests of the language.

use std::collections::BTreeMap;

use runbook_model::manifest::Manifest;
use runbook_model::parse::{Catalog, Files};
use serde_json::json;

/// Files in memory.
#[allow(dead_code, reason = "each test program uses its own part of this module")]
#[derive(Default)]
pub(crate) struct Texts(pub(crate) BTreeMap<String, String>);

impl Files for Texts {
    fn read(&self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }
}

/// Plugins of which only the manifests exist.
pub(crate) struct Fakes(Vec<Manifest>);

impl Fakes {
    /// All manifests.
    #[allow(dead_code, reason = "each test program uses its own part of this module")]
    pub(crate) fn manifests(&self) -> &[Manifest] {
        &self.0
    }
}

impl Catalog for Fakes {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        self.0.iter().find(|m| m.name == plugin)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|m| m.name.clone()).collect()
    }

    fn is_builtin(&self, plugin: &str) -> bool {
        plugin == "core"
    }
}

/// The plugins that the tests use.
pub(crate) fn catalog() -> Fakes {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let secret = json!({ "type": "string", "x-secret": true });
    let core = json!({
        "name": "core", "version": "1.0.0", "summary": "for tests",
        "action": [
            {
                "name": "file", "summary": "a file", "role": [{ "name": "target" }],
                "inputs": {
                    "type": "object", "additionalProperties": false, "required": ["path"],
                    "oneOf": [{ "required": ["content"] }, { "required": ["source"] }],
                    "properties": {
                        "path": { "type": "string", "format": "target-path", "description": "where it goes" },
                        "content": secret, "source": { "type": "string", "format": "controller-path" },
                        "mode": { "type": "string", "pattern": "^0[0-7]{3}$" }, "owner": text("who owns it"),
                        "size": { "type": "integer", "minimum": 1 },
                        "state": { "enum": ["present", "absent"] }
                    }
                }
            },
            {
                "name": "command", "summary": "a command", "role": [{ "name": "target" }],
                "inputs": {
                    "type": "object", "additionalProperties": false, "required": ["argv"],
                    "properties": {
                        "argv": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                        "env": { "type": "object", "additionalProperties": secret }
                    }
                },
                "outputs": {
                    "type": "object", "additionalProperties": false,
                    "properties": { "stdout": text("output"), "exit_code": { "type": "integer" }, "hosts": { "type": "array" } }
                }
            },
            {
                "name": "assert", "summary": "a check",
                "inputs": {
                    "type": "object", "additionalProperties": false, "required": ["that"],
                    "properties": { "that": { "type": "boolean" }, "message": text("what is wrong") }
                }
            }
        ]
    });
    let fake = json!({
        "name": "fake", "version": "0.1.0", "summary": "for tests",
        "action": [
            {
                "name": "join", "summary": "joins machines",
                "role": [
                    { "name": "joiner", "arity": "each", "summary": "joins" },
                    { "name": "member", "arity": "one", "summary": "is in already" },
                    { "name": "witness", "arity": "all", "optional": true }
                ],
                "outputs": { "type": "object", "properties": { "leader": text("its name") } }
            },
            { "name": "pause", "summary": "must not last", "needs_block": true, "role": [{ "name": "target" }] },
            { "name": "apply", "summary": "needs a cluster", "cluster": "required", "inputs": { "type": "object" } },
            { "name": "broken", "summary": "has a bad schema", "inputs": { "type": 5 } }
        ]
    });
    Fakes([core, fake].into_iter().map(|m| serde_json::from_value(m).expect("a manifest")).collect())
}
