//! Every call of a plugin as plain data: what is asked of the world, and what it answered.
//!
//! A [`Request`] is either a [`Look`] (an observation: it alters nothing and also runs in plans), a [`Change`], or a
//! [`Note`] (something said to the run itself). The type alone decides which; nothing else in the program asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bytes::Bytes;

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A host of the inventory, by its name there.
    Machine(String),
    /// The machine that runbook itself runs on, with the user's own rights.
    Controller,
    /// A cluster of the inventory, by its name there.
    Cluster(String),
    /// The run itself.
    Run,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(name) | Self::Cluster(name) => f.write_str(name),
            Self::Controller => f.write_str("controller"),
            Self::Run => f.write_str("run"),
        }
    }
}

/// One call, before it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Where it goes.
    pub target: Target,
    /// What is asked.
    pub call: Call,
}

impl Request {
    /// Names of the secrets that the call refers to.
    pub fn secrets(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        match &self.call {
            Call::Look(Look::Ssh(SshLook::Observe { commands })) => commands.iter().for_each(|c| c.secrets(&mut names)),
            Call::Look(Look::Ssh(SshLook::Http { request })) => request.secrets(&mut names),
            Call::Look(_) | Call::Note(_) => {}
            Call::Change(change) => match &change.act {
                Act::Ssh(SshAct::Run { pipeline, done_when, undo }) => {
                    pipeline.iter().chain(done_when.as_deref()).for_each(|command| command.secrets(&mut names));
                    undo.secrets(&mut names);
                }
                Act::Ssh(SshAct::Http { request, undo }) => {
                    request.secrets(&mut names);
                    undo.secrets(&mut names);
                }
                Act::Ssh(SshAct::Confirm { commit, revert, .. }) => {
                    commit.secrets(&mut names);
                    revert.secrets(&mut names);
                }
                Act::Ssh(SshAct::Reboot { .. }) => {}
                Act::Files(FilesAct { want: FileWant::File { content: Content::Text(text), .. }, .. }) => {
                    text.secrets(&mut names);
                }
                Act::Files(_) => {}
                Act::Kube(KubeAct::Apply { manifest: json, .. } | KubeAct::Patch { patch: json, .. }) => {
                    secrets_of_json(json, &mut names);
                }
                Act::Kube(_) => {}
            },
        }
        names
    }
}

fn secrets_of_json(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            names.extend(map.get("$secret").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| secrets_of_json(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_of_json(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Names of the secrets in a step's inputs: `{"$secret": "name"}`, at any depth.
pub fn secrets_of_inputs(inputs: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    secrets_of_json(inputs, &mut names);
    names
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// An observation.
    Look(Look),
    /// A change.
    Change(Change),
    /// A word to the run.
    Note(Note),
}

/// An observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// On a machine.
    Ssh(SshLook),
    /// In a tree of files.
    Files(FilesLook),
    /// In a cluster.
    Kube(KubeLook),
}

/// Something that alters the world, with what a person, the plan and the journal should know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub act: Act,
    /// What to know of it.
    pub effect: Effect,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// On a machine.
    Ssh(SshAct),
    /// In a tree of files.
    Files(FilesAct),
    /// In a cluster.
    Kube(KubeAct),
}

/// A word to the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A message for journal and display.
    Log {
        /// How much it matters.
        level: Level,
        /// The message.
        message: String,
    },
    /// What the step is doing, and how far it is.
    Progress {
        /// What it is doing.
        message: String,
        /// How much is done, in `unit`.
        done: u64,
        /// How much there is, where that is known.
        total: Option<u64>,
        /// Such as "bytes".
        unit: String,
    },
    /// Wait.
    Pause {
        /// How long.
        milliseconds: u32,
    },
    /// The first value under this key for this step of this run.
    Baseline {
        /// The key.
        key: String,
        /// The value, where it is the first.
        value: Value,
    },
    /// Issues a proof that something lies somewhere, such as a backup.
    Receipt {
        /// Of what sort: "backup".
        kind: String,
        /// Of what: "pvc/home/chime".
        subject: String,
        /// Where it lies.
        place: SourceRef,
        /// When it was made, in milliseconds since 1970.
        made_at: u64,
    },
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// For whoever reads the journal.
    Info,
    /// For the person who watches.
    Warn,
}

/// An observation on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "look", rename_all = "snake_case")]
pub enum SshLook {
    /// What the machine says of itself.
    Facts,
    /// Commands that only look, in one round trip.
    Observe {
        /// The commands.
        commands: Vec<Command>,
    },
    /// An HTTP request (GET or HEAD) from the machine.
    Http {
        /// The request.
        request: HttpRequest,
    },
    /// Whether a TCP connection from the machine is accepted.
    Tcp {
        /// Name or address.
        address: String,
        /// Port.
        port: u16,
        /// How long to try.
        timeout_ms: u32,
    },
    /// DNS answers that the machine gets.
    Resolve {
        /// The name.
        name: String,
        /// "A", "AAAA", ...
        record_type: String,
        /// Whom to ask; the machine's own resolver where left out.
        server: Option<String>,
    },
}

/// A change on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum SshAct {
    /// A command, or several joined by pipes.
    Run {
        /// At least one.
        pipeline: Vec<Command>,
        /// Exit code 0: it is done.
        done_when: Option<Box<Command>>,
        /// What undo means for it.
        undo: Undo,
    },
    /// A reboot, and the wait for another boot id.
    Reboot {
        /// How long to wait.
        timeout_ms: u32,
    },
    /// A command that may cut its own connection: the machine itself reverts it, unless a new connection confirms it in time.
    Confirm {
        /// The command.
        commit: Box<Command>,
        /// What takes it back.
        revert: Box<Command>,
        /// How long a new connection may take, in milliseconds, counted at the machine.
        window_ms: u32,
        /// Where the machine may answer then; tried before the addresses of the inventory, under the same host key.
        addresses: Vec<String>,
    },
    /// An HTTP request that changes something.
    Http {
        /// The request.
        request: HttpRequest,
        /// What undo means for it.
        undo: Undo,
    },
}

/// An observation in a tree of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "look", rename_all = "snake_case")]
pub enum FilesLook {
    /// What lies at a path.
    Stat {
        /// Absolute path.
        path: String,
    },
    /// A file's content.
    Read {
        /// Absolute path.
        path: String,
        /// More bytes are an error.
        limit: u64,
    },
    /// A directory's entries.
    List {
        /// Absolute path.
        path: String,
    },
    /// SHA-256 of a file's content.
    Sha256 {
        /// Absolute path.
        path: String,
    },
    /// Opens a file as a source: pins size and SHA-256.
    Source {
        /// Absolute path.
        path: String,
    },
}

impl FilesLook {
    /// The path that is looked at.
    pub fn path(&self) -> &str {
        match self {
            Self::Stat { path }
            | Self::Read { path, .. }
            | Self::List { path }
            | Self::Sha256 { path }
            | Self::Source { path } => path,
        }
    }
}

/// A change in a tree of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilesAct {
    /// Absolute path.
    pub path: String,
    /// What is to be there.
    pub want: FileWant,
}

/// What is to be at a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum FileWant {
    /// A regular file.
    File {
        /// What it contains.
        content: Content,
        /// Mode and owner.
        attributes: Attributes,
        /// Run on the new file before it takes its place, `{}` standing for its path; empty: nothing is run.
        validate: Vec<String>,
    },
    /// A directory, its parents included.
    Directory {
        /// Mode and owner.
        attributes: Attributes,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written in it.
        target: String,
    },
    /// Nothing.
    Absent,
    /// Nothing, where what is there is an empty directory; a directory that holds something is a conflict. No plugin can ask for it: it
    /// takes back the making of a directory.
    AbsentIfEmpty,
    /// A directory with all that is below it, as a tar archive has it. No plugin can ask for it: it takes back the removal of one.
    Tree {
        /// What [`FilePrior::content`] kept.
        archive: Bytes,
    },
}

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

/// Program and arguments as they arrive at a machine. No shell reads them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments. Secrets never stand here.
    pub argv: Vec<String>,
    /// Working directory; the user's home where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the environment. `LC_ALL=C` unless named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, Text)>,
    /// Standard input.
    #[serde(default, skip_serializing_if = "Input::is_none")]
    pub stdin: Input,
    /// Files for the time that it runs; the path of each replaces `{NAME}` in argv and env.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(String, Text)>,
    /// What it reads, as facets; empty: anything on that machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// The step's deadline holds besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// With the rights that the inventory's `become` gives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Output lines are shown as the step's progress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

impl Command {
    fn secrets(&self, names: &mut BTreeSet<String>) {
        self.env.iter().chain(&self.files).for_each(|(_, text)| text.secrets(names));
        if let Input::Text(text) = &self.stdin {
            text.secrets(names);
        }
    }
}

/// What a command reads on its standard input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Closed.
    #[default]
    None,
    /// A text, with secrets put in by the host.
    Text(Text),
    /// Bytes.
    Bytes(Bytes),
    /// The content of a source, streamed.
    CopyOf(SourceRef),
}

impl Input {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// What a file is to contain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Bytes.
    Bytes(Bytes),
    /// A text, with secrets put in by the host.
    Text(Text),
    /// The same as that source.
    CopyOf(SourceRef),
}

/// Text in which secrets stay references.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(pub Vec<TextPart>);

/// A piece of a [`Text`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPart {
    /// Characters as they are.
    Plain(String),
    /// The name of a secret.
    Secret(String),
}

impl Text {
    /// A text without secrets.
    pub fn plain(text: impl Into<String>) -> Self {
        Self(vec![TextPart::Plain(text.into())])
    }

    fn secrets(&self, names: &mut BTreeSet<String>) {
        names.extend(self.0.iter().filter_map(|part| match part {
            TextPart::Plain(_) => None,
            TextPart::Secret(name) => Some(name.clone()),
        }));
    }

    /// Whether a secret stands in it.
    pub fn has_secret(&self) -> bool {
        self.0.iter().any(|p| matches!(p, TextPart::Secret(_)))
    }
}

/// Content that lies somewhere, pinned when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// The tree that it lies in: a machine or the controller.
    pub target: Target,
    /// Absolute path there.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Left out means: as it is, or the system's default for a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// What undo means for a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// A command takes it back.
    Inverse {
        /// The command.
        command: Box<Command>,
        /// Exit code 0: there is something to take back.
        only_if: Option<Box<Command>>,
    },
    /// Leaving it does no harm, and neither does doing it again.
    Harmless,
    /// It cannot be taken back; the consequence in words.
    Irreversible(String),
    /// Only a person can take it back; what to do, in words. An undo ends as stuck here.
    ByHand(String),
}

impl Undo {
    fn secrets(&self, names: &mut BTreeSet<String>) {
        if let Self::Inverse { command, only_if } = self {
            std::iter::once(command).chain(only_if).for_each(|command| command.secrets(names));
        }
    }
}

/// When a change is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// At once.
    #[default]
    Now,
    /// At the end of the step, however it ends.
    StepEnd,
    /// At the end of the step, where it changed something.
    StepEndIfChanged,
    /// At the end of the block or run.
    BlockEnd,
}

/// What a person, the plan and the journal should know of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Imperative, short.
    pub summary: String,
    /// When it is carried out.
    #[serde(default)]
    pub timing: Timing,
    /// What it alters besides its own target, as facets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alters: Vec<String>,
    /// Repeats by nature: left out of the convergence check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
}

/// An HTTP request from a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// "GET", ...
    pub method: String,
    /// http:// or https://.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, Text)>,
    /// Sent as it is; empty: none.
    pub body: Text,
    /// PEM of the authority to trust; "insecure" trusts anybody.
    pub ca: Option<String>,
}

impl HttpRequest {
    fn secrets(&self, names: &mut BTreeSet<String>) {
        self.headers.iter().map(|(_, text)| text).chain([&self.body]).for_each(|text| text.secrets(names));
    }
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

/// What a call came back with.
pub type Response = Result<Answer, CallError>;

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
