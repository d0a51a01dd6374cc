//! Every call of a plugin as plain data: what is asked of the world, and what it answered.
//!
//! A [`Request`] is either a [`Look`] (an observation: it alters nothing and also runs in plans), a [`Change`], or a
//! [`Note`] (something said to the run itself). The type alone decides which; nothing else in the program asks again.

mod answer;
mod kube;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bytes::Bytes;

pub use answer::*;
pub use kube::*;

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

/// What a call came back with.
pub type Response = Result<Answer, CallError>;
