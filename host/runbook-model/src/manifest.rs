//! What a plugin says of itself: its actions, their inputs and outputs, and what they ask for.
//!
//! Authors write it as `plugin.toml`; the build puts it as JSON into the component's custom section
//! [`SECTION`], where it is read without running anything.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input_schema::Schema;

/// Name of the custom section.
pub const SECTION: &str = "runbook:manifest";

/// A plugin's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// First half of `uses`.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// What it can do.
    #[serde(rename = "action")]
    pub actions: Vec<Action>,
}

impl Manifest {
    /// The action with this name.
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|a| a.name == name)
    }
}

/// One thing that a plugin can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Second half of `uses`.
    pub name: String,
    /// One line.
    pub summary: String,
    /// The machines that it acts on; none: it needs no machine.
    #[serde(default, rename = "role", skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Whether it needs a cluster.
    #[serde(default)]
    pub cluster: Need,
    /// JSON Schema of `with`. Formats `controller-path` and `target-path` mark paths; `x-secret` marks values that may be
    /// secret.
    #[serde(default = "empty_inputs")]
    pub inputs: Schema,
    /// JSON Schema of the outputs.
    #[serde(default = "empty_object_schema")]
    pub outputs: Value,
    /// The powers that it asks for.
    #[serde(default, rename = "ask", skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
    /// Whether it has post-conditions of its own. The SDK says no where there is no function for them: then none is called.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub verifies: bool,
    /// What it leaves must not last: a step that uses it stands in a block, at whose end the action's own deferred changes put back
    /// what was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_block: bool,
    /// What it may use, where that is to be another amount than any action may.
    #[serde(default, skip_serializing_if = "WantedLimits::is_empty")]
    pub limits: WantedLimits,
}

/// What one call into an action may use: more or less than where nothing is said. A host has ceilings, and refuses a plugin that wants more
/// before a run. Sizes are written "512MiB", times "3h".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedLimits {
    /// Linear memory, all memories together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Entries of all tables together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_entries: Option<u64>,
    /// Capability calls, messages included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Messages to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What leaves in calls, all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// What one call carries, there or back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_call: Option<String>,
    /// The outputs as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<String>,
    /// How long it may take, waits for calls included, where its step has no `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl WantedLimits {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are sizes, as they are written, by name.
    pub fn sizes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let sizes = [
            ("memory", &self.memory),
            ("log", &self.log),
            ("sent", &self.sent),
            ("one_call", &self.one_call),
            ("outputs", &self.outputs),
        ];
        sizes.into_iter().filter_map(|(name, size)| Some((name, size.as_deref()?)))
    }

    /// Those that are counts, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [("table_entries", self.table_entries), ("calls", self.calls)];
        counts.into_iter().filter_map(|(name, count)| Some((name, count?)))
    }
}

fn yes() -> bool {
    true
}

fn is_yes(verifies: &bool) -> bool {
    *verifies
}

#[allow(clippy::useless_conversion, reason = "the SDK's macros read this file, where a schema is a plain value")]
fn empty_inputs() -> Schema {
    Schema::from(empty_object_schema())
}

fn empty_object_schema() -> Value {
    serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// A part of an action that machines are given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Key in `on = { ROLE = ... }`; a bare `on` fills the only role.
    pub name: String,
    /// How many machines it takes.
    #[serde(default)]
    pub arity: Arity,
    /// One line.
    #[serde(default)]
    pub summary: String,
    /// The step may leave it out.
    #[serde(default)]
    pub optional: bool,
}

/// How many machines a role takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arity {
    /// Any number, one instance of the step for each.
    #[default]
    Each,
    /// Exactly one.
    One,
    /// Any number, all of them seen by one instance.
    All,
}

/// Whether something is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// It must not be given.
    #[default]
    None,
    /// It may be given.
    Optional,
    /// It must be given.
    Required,
}

/// One power that an action asks for, with the reason that is shown to the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Which call.
    pub call: Power,
    /// What it may touch. Left out only where the call has no object of its own (`ssh.facts`, `ssh.reboot`).
    #[serde(default, skip_serializing_if = "Pattern::is_empty")]
    pub on: Pattern,
    /// With the rights of `become`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// It cannot be taken back; the consequence in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<String>,
    /// The receipt without which such a call is denied; for what is irreversible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_receipt: Option<AskReceipt>,
    /// Why it is asked for.
    pub reason: String,
}

/// A receipt that must be there before a call may be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskReceipt {
    /// Of what sort: "backup".
    pub kind: String,
    /// Of what, such as "pvc/${input.namespace}"; left out: of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How old it may be: "24h"; left out: of any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// What it is a proof of must not lie on a machine of the step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off_host: bool,
}

/// The calls that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Power {
    /// Commands that look.
    #[serde(rename = "ssh.observe")]
    SshObserve,
    /// Commands that change.
    #[serde(rename = "ssh.change")]
    SshChange,
    /// Reboot.
    #[serde(rename = "ssh.reboot")]
    SshReboot,
    /// HTTP requests that look, TCP connections and DNS questions, made from the machine.
    #[serde(rename = "ssh.net")]
    SshNet,
    /// HTTP requests that change.
    #[serde(rename = "ssh.http-change")]
    SshHttpChange,
    /// Files of a machine, to read.
    #[serde(rename = "files.read")]
    FilesRead,
    /// Files of a machine, to write (and read).
    #[serde(rename = "files.write")]
    FilesWrite,
    /// Files of the controller, to read.
    #[serde(rename = "controller.read")]
    ControllerRead,
    /// Files of the controller, to write (and read).
    #[serde(rename = "controller.write")]
    ControllerWrite,
    /// Objects: get, list, wait.
    #[serde(rename = "kube.read")]
    KubeRead,
    /// Logs of pods.
    #[serde(rename = "kube.logs")]
    KubeLogs,
    /// Server-side apply (and create).
    #[serde(rename = "kube.apply")]
    KubeApply,
    /// Patch.
    #[serde(rename = "kube.patch")]
    KubePatch,
    /// Delete.
    #[serde(rename = "kube.delete")]
    KubeDelete,
    /// Scale.
    #[serde(rename = "kube.scale")]
    KubeScale,
    /// Evict.
    #[serde(rename = "kube.evict")]
    KubeEvict,
    /// Programs in pods that look, and files copied out.
    #[serde(rename = "kube.exec-observe")]
    KubeExecObserve,
    /// Programs in pods that change, and files copied in.
    #[serde(rename = "kube.exec-change")]
    KubeExecChange,
}

/// What a call may touch. Input references are written `${input.NAME}`; they are replaced by the step's own inputs, literally.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Program and arguments. An element is a literal, `${input.NAME}` (one argument), `${input.NAME...}` (each element of a list
    /// input), `PREFIX*` (an argument that begins so), `*` (one argument that does not begin with `-`), or, as the last,
    /// `**` (any further arguments).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Environment variables that the command may be given: names, perhaps ending in `*`, or `${input.NAME...}` for the keys of
    /// a table input. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// An absolute path, perhaps with `${input.NAME}` at its beginning; ending in `/**`: and all that is below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `KIND` or `KIND.GROUP`, or `*` for any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A namespace; left out: any, `""`: only kinds without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A name, perhaps ending in `*`; left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `HOST:PORT` or a URL, perhaps ending in `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Pattern {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
