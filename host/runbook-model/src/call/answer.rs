//! What calls are answered, and what is found before and after a change.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PodOutput, SourceRef};
use crate::bytes::Bytes;

/// The answer to a call that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing to say.
    Unit,
    /// To [`SshLook::Facts`].
    Facts(Facts),
    /// To [`SshLook::Observe`], in its order.
    Outputs(Vec<Output>),
    /// To [`SshLook::Http`].
    Http(HttpResponse),
    /// To [`SshLook::Tcp`].
    Flag(bool),
    /// To [`SshLook::Resolve`].
    Names(Vec<String>),
    /// To [`FilesLook::Stat`].
    Stat(Option<Stat>),
    /// To [`FilesLook::Read`].
    Bytes(Bytes),
    /// To [`FilesLook::List`].
    Entries(Vec<Entry>),
    /// To [`FilesLook::Sha256`], [`KubeLook::Uid`] and [`KubeLook::Logs`].
    Text(String),
    /// To [`FilesLook::Source`] and [`KubeLook::CopyOut`].
    Source(SourceRef),
    /// To [`KubeLook::Get`].
    Object(Option<Value>),
    /// To [`KubeLook::List`].
    Objects(Vec<Value>),
    /// To [`KubeLook::Exec`].
    Pod(PodOutput),
    /// To a change of state.
    Verdict(Verdict),
    /// To a change that is a process: [`SshAct`] and [`KubeAct::Exec`].
    Outcome(Outcome),
    /// To [`Note::Baseline`].
    Value(Value),
}

/// What became of a change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was so already.
    Unchanged,
    /// It was changed; in a plan: it would be.
    Changed,
    /// It will be carried out at its timing.
    Deferred,
}

/// What became of a process that changes something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ran on a machine and ended so.
    Done(Output),
    /// It ran in a pod and ended so.
    PodDone(PodOutput),
    /// `done_when` held.
    Already,
    /// In a plan: it would run.
    Planned,
    /// It will run at its timing.
    Deferred,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal ("KILL").
    Signal(String),
}

impl Exit {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "killed by SIG{name}"),
        }
    }
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
}

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -n`.
    pub hostname: String,
    /// `ID` of os-release.
    pub os_id: String,
    /// `VERSION_ID` of os-release, or empty.
    pub os_version: String,
    /// `uname -m`.
    pub arch: String,
    /// Changes with each boot.
    pub boot_id: String,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// At most 1 MiB.
    pub body: Bytes,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// A path's entry, links not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes, for a regular file.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Name of the owner, or the number.
    pub owner: String,
    /// Name of the group, or the number.
    pub group: String,
    /// Where a link points.
    pub link_target: Option<String>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name within the directory.
    pub name: String,
    /// What it is.
    pub stat: Stat,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "text", rename_all = "snake_case")]
pub enum CallError {
    /// Not granted.
    #[error("denied: {0}")]
    Denied(String),
    /// Only in plans: depends on a change that is only planned.
    #[error("unknown until then: {0}")]
    Unknown(String),
    /// Looked, with authority, and it is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// Nobody answered, or the answer cannot be trusted.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The time is over.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// The world is not as the call assumed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The call makes no sense there.
    #[error("invalid: {0}")]
    Invalid(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

/// What became of a change whose answer was lost, by what is found at the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It was carried out, with this answer.
    Done(Answer),
    /// It was not, and what could still have carried it out is gone.
    NotDone,
    /// Nobody can tell; why, in words.
    Unclear(String),
}

/// What a change would meet: looked at before it, kept in the journal for undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prior {
    /// Nothing can be said before it.
    None,
    /// Whether it was so already: `done_when` held.
    DoneWhen(bool),
    /// Before a process on a machine.
    Process {
        /// Whether `done_when` held; none: there is none.
        done: Option<bool>,
        /// Of the machine, at that time; empty where it has none.
        boot_id: String,
    },
    /// What lies at the path.
    File(FilePrior),
    /// The live object, and what the API server answered to a dry run (none: it would be gone).
    Object {
        /// As it is; none: absent.
        live: Option<Value>,
        /// As it would be; none: absent.
        would: Option<Value>,
    },
    /// A file of a pod.
    PodFile {
        /// Of its content, lower-case hex; none: there is no such file.
        sha256: Option<String>,
        /// Its content where it differs from what is wanted. Only up to [`FilePrior::KEEP`] bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Bytes>,
    },
}

/// What lies at a path before a change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilePrior {
    /// What is there; none: nothing.
    pub stat: Option<Stat>,
    /// Of a regular file's content, lower-case hex.
    pub sha256: Option<String>,
    /// A regular file's content where it differs from what is wanted; where a directory is to be removed, a tar archive of it. Only
    /// up to [`FilePrior::KEEP`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Bytes>,
    /// SHA-256 of the wanted content with its secrets put in, lower-case hex; none unless a file is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_sha256: Option<String>,
    /// What the wanted owner and group are called there in the way that `stat` names them, under the keys `user:WANTED` and
    /// `group:WANTED`: a number may stand for a name, and the other way round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, String>,
    /// Where nothing is there: how many directories above it are missing, too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_parents: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl FilePrior {
    /// Bytes: previous contents up to this size are kept for diff and undo.
    pub const KEEP: u64 = 8 << 20;
}
