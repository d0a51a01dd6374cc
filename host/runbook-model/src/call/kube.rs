//! Calls to a cluster.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SourceRef;
use crate::bytes::Bytes;

/// An observation in a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "look", rename_all = "snake_case")]
pub enum KubeLook {
    /// UID of the kube-system namespace.
    Uid,
    /// One object.
    Get {
        /// Which.
        object: ObjectRef,
    },
    /// Objects of a kind.
    List {
        /// Which.
        selector: Selector,
    },
    /// The end of a container's log.
    Logs {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// How many lines.
        lines: u32,
    },
    /// Waits until a condition holds. In a plan it looks once.
    Wait {
        /// Of which object.
        object: ObjectRef,
        /// What is waited for.
        condition: Condition,
        /// How long.
        timeout_ms: u32,
    },
    /// Waits until nothing matches.
    WaitNone {
        /// What must not match.
        selector: Selector,
        /// How long.
        timeout_ms: u32,
    },
    /// Runs a program in a pod that only looks.
    Exec {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Copies a file of a pod to the run's artifacts.
    CopyOut {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// Path in the container.
        path: String,
    },
}

/// A change in a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum KubeAct {
    /// Server-side apply.
    Apply {
        /// The fields that we want, as an object.
        manifest: Value,
        /// Take fields over that others manage.
        force: bool,
    },
    /// A patch.
    Patch {
        /// Of which object.
        object: ObjectRef,
        /// How it is read.
        patch_type: PatchType,
        /// The patch.
        patch: Value,
        /// Of the subresource with this name.
        subresource: Option<String>,
    },
    /// A deletion.
    Delete {
        /// Of which object.
        object: ObjectRef,
        /// How.
        options: DeleteOptions,
    },
    /// Sets the number of replicas.
    Scale {
        /// Of which object.
        object: ObjectRef,
        /// How many.
        replicas: u32,
    },
    /// Evicts a pod.
    Evict {
        /// Which.
        pod: ObjectRef,
        /// How long to wait for disruption budgets.
        timeout_ms: u32,
    },
    /// Runs a program in a pod.
    Exec {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// Program and arguments.
        argv: Vec<String>,
        /// Sent to it.
        stdin: Bytes,
        /// Program and arguments that only look, in the same container. Exit code 0: it is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done_when: Option<Vec<String>>,
        /// What undo means for it.
        undo: PodUndo,
    },
    /// Copies a source into a pod.
    CopyIn {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// What is copied.
        source: SourceRef,
        /// Path in the container.
        path: String,
    },
    /// Puts a file of a pod back to what it was. No plugin can ask for it: it takes back a [`KubeAct::CopyIn`].
    PutBack {
        /// The pod.
        pod: ObjectRef,
        /// The container; the only one where left out.
        container: Option<String>,
        /// Path in the container.
        path: String,
        /// What the file contained; none: there was no file.
        before: Option<Bytes>,
        /// SHA-256 of what we left there, lower-case hex. Anything else there is a conflict.
        left: String,
    },
}

/// What undo means for a program in a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodUndo {
    /// This program, with these arguments and in the same container, takes it back.
    Inverse(Vec<String>),
    /// Leaving it does no harm, and neither does doing it again.
    Harmless,
    /// It cannot be taken back; the consequence in words.
    Irreversible(String),
    /// Only a person can take it back; what to do, in words. An undo ends as stuck here.
    ByHand(String),
}

/// A kind of Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResourceKind {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// API version; empty: the newest that the cluster serves.
    #[serde(default)]
    pub version: String,
    /// Such as "Deployment".
    pub kind: String,
}

/// One Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its namespace; none for kinds that have none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

impl ObjectRef {
    /// Reads kind, namespace and name of an object.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn of(object: &Value) -> Result<Self, String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let api = text("/apiVersion").ok_or("the manifest has no apiVersion")?;
        let (group, version) = api.rsplit_once('/').unwrap_or(("", api));
        Ok(Self {
            kind: ResourceKind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: text("/kind").ok_or("the manifest has no kind")?.to_owned(),
            },
            namespace: text("/metadata/namespace").map(str::to_owned),
            name: text("/metadata/name").ok_or("the manifest has no metadata.name")?.to_owned(),
        })
    }
}

/// Some objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Their kind.
    pub kind: ResourceKind,
    /// Their namespace; none: all.
    pub namespace: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
}

/// How a patch is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// RFC 6902.
    JsonPatch,
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Deleted later.
    #[default]
    Background,
    /// Deleted first.
    Foreground,
    /// Left.
    Orphan,
}

/// How an object is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteOptions {
    /// Seconds that its processes are given.
    pub grace_seconds: Option<u32>,
    /// What becomes of its dependents.
    pub propagation: Propagation,
    /// Only the object with this UID.
    pub uid: Option<String>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The object is there.
    Exists,
    /// The object is gone.
    Absent,
    /// `.status.conditions[type]` has the status.
    Status(String, String),
    /// A JSON pointer has this value.
    Equals(String, Value),
    /// All replicas of this generation are updated and available.
    RolledOut,
}

/// What a process in a pod gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodOutput {
    /// Its exit code.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
}
