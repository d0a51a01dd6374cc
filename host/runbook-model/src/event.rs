//! The event stream of a run: the one vocabulary that journal, `--json`, display and reports read.
//!
//! The first event is [`Event::RunStarted`], the last [`Event::RunFinished`]; nothing follows it. A reader meets kinds that are
//! newer than itself as [`Event::Unknown`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::{
    Act, Answer, Call, CallError, Content, FileWant, FilesAct, Input, KubeAct, Level, Outcome, Prior, Request,
    Response, SourceRef, SshAct, Text, TextPart,
};

/// Version of the event stream: `major.minor`. The minor grows with each new kind or field, the major with a change that
/// older readers would misread.
pub const VERSION: &str = "1.2";

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1.
    pub seq: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

/// One instance of a step: the step, and the host that it runs for where it fans out, and the item of its `for_each`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Id of the step; behind an include `OUTER/INNER`.
    pub step: String,
    /// The host, where the step has one instance for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The name of the item, where the step has a `for_each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
}

impl Instance {
    /// Whether it is one of this step, or of a step that this one includes.
    pub fn is_of(&self, step: &str) -> bool {
        let rest = self.step.strip_prefix(step);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
    }
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.step)?;
        if let Some(item) = &self.item {
            write!(f, "[{item}]")?;
        }
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        Ok(())
    }
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Find the changes, make none.
    Plan,
    /// Carry them out.
    Exec,
    /// Go on where an earlier session of the run ended.
    Resume,
    /// Take changes back.
    Undo,
    /// Take an undo back.
    Redo,
    /// Record what a person did in place of a step.
    Done,
}

/// What was found of a change in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// It was carried out; its answer follows.
    Done,
    /// It was not; it may be intended again.
    NotDone,
    /// Nobody can tell, and doing it again does no harm.
    Again,
    /// Nobody can tell: a person must say.
    Unclear,
}

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockEnd {
    /// All of its steps ended well.
    Well,
    /// A step did not, and the block was undone.
    Undone,
    /// A step did not, and what was deferred to the end was carried out.
    Released,
}

/// A proof that something lies somewhere, such as a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Of what sort: "backup".
    pub kind: String,
    /// Of what: "pvc/home/chime".
    pub subject: String,
    /// Where it lies, with its size and digest.
    pub place: SourceRef,
    /// When it was made, in milliseconds since 1970.
    pub made_at: u64,
}

/// What became of a step, or of one instance of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Its condition did not hold, or an earlier failure came first.
    Skipped,
    /// All was so already.
    Unchanged,
    /// Something was changed; in a plan: would be.
    Changed,
    /// In a plan: it cannot be looked at before an earlier step has run.
    MayChange,
    /// The run was cancelled.
    Cancelled,
    /// Nobody answered.
    Unreachable,
    /// A call was not granted.
    Denied,
    /// It was tried and did not work.
    Failed,
    /// A person is needed.
    Stuck,
}

impl StepOutcome {
    /// Whether the run may go on after it.
    pub fn is_ok(self) -> bool {
        match self {
            Self::Skipped | Self::Unchanged | Self::Changed | Self::MayChange => true,
            Self::Cancelled | Self::Unreachable | Self::Denied | Self::Failed | Self::Stuck => false,
        }
    }
}

/// A step as the first event lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSketch {
    /// Its id.
    pub id: String,
    /// `plugin/action`, or the file that it includes.
    pub uses: String,
    /// The hosts that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The cluster that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Why it is there, in the runbook's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A plugin as the first event pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginPin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, lower-case hex.
    pub sha256: String,
}

/// The counts of the last line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Steps in all.
    pub steps: usize,
    /// Changed, or would change.
    pub changed: usize,
    /// In a plan: cannot be looked at yet.
    #[serde(default)]
    pub may_change: usize,
    /// Nothing to do.
    pub unchanged: usize,
    /// Not run.
    pub skipped: usize,
    /// Failed, denied, unreachable, stuck or cancelled.
    pub failed: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// All steps went well.
    Succeeded,
    /// A step failed.
    Failed,
    /// A person is needed.
    Stuck,
    /// It was cancelled.
    Cancelled,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// Name of the run, also of its folder.
        run: String,
        /// [`VERSION`] of the writer.
        version: String,
        /// Version of the program.
        program: String,
        /// What the run is for.
        verb: Verb,
        /// Name of the runbook.
        runbook: String,
        /// Its file.
        file: String,
        /// SHA-256 of the file, lower-case hex.
        sha256: String,
        /// All steps, in the order of the file.
        steps: Vec<StepSketch>,
        /// The plugins that they use.
        plugins: Vec<PluginPin>,
        /// The inputs; secrets by name.
        inputs: Value,
        /// Process id of the writer.
        pid: u32,
        /// Boot id of the controller.
        boot_id: String,
        /// How long the run may take as the runbook wants it, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_ms: Option<u64>,
    },
    /// A later session of the run begins.
    Reopened {
        /// What it is for.
        verb: Verb,
        /// Counts the sessions of the run: the first of these is 2.
        session: u32,
        /// Version of the program.
        program: String,
        /// SHA-256 of the runbook's file as it is now.
        sha256: String,
        /// All steps, as the runbook has them now.
        steps: Vec<StepSketch>,
        /// The plugins that they use.
        plugins: Vec<PluginPin>,
        /// What became different in the runbook, in words.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        edits: Vec<String>,
        /// Conflicts do not keep an undo from going on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
        /// Process id of the writer.
        pid: u32,
        /// Boot id of the controller.
        boot_id: String,
    },
    /// The run will not be gone on with: a person said so.
    Abandoned {
        /// Why.
        because: String,
    },
    /// An instance of a step begins.
    StepStarted {
        /// Which.
        instance: Instance,
        /// Counts from 1.
        attempt: u32,
        /// How many calls it has made before, in all attempts.
        #[serde(default)]
        calls: u32,
        /// Its inputs, rendered; secrets by name.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        inputs: Value,
        /// The machines, by role.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roles: Vec<(String, Vec<String>)>,
        /// Keyed hash over action, inputs, values of secrets, machines and cluster.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        fingerprint: String,
    },
    /// A step that ended in an earlier session keeps its outcome and outputs.
    Kept {
        /// Which.
        instance: Instance,
        /// Its outcome.
        outcome: StepOutcome,
    },
    /// What the plugin asks does not follow what it asked before: the step is looked at from its start.
    Diverged {
        /// Which.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What it asks now, and what it asked before.
        why: String,
    },
    /// The calls that follow are those of the post-conditions.
    Verifying {
        /// Of which instance.
        instance: Instance,
    },
    /// An observation was answered.
    Looked {
        /// By which instance.
        instance: Instance,
        /// The number of the call within the attempt, from 1.
        call: u32,
        /// What was asked.
        request: Request,
        /// What was answered, secrets replaced.
        response: Response,
        /// How long it took.
        elapsed_us: u64,
        /// The answer, sealed, where its values are hidden here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// A call that was not granted.
    Denied {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What was asked.
        request: Request,
        /// Why not.
        reason: String,
    },
    /// In a plan: a change would be made.
    Planned {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What would be done.
        request: Request,
        /// What it would alter.
        diff: Diff,
        /// An answer before it was unknown, so it may come out otherwise.
        perhaps: bool,
    },
    /// A change is about to leave the process. Durable before it does.
    Intended {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What will be done.
        request: Request,
        /// What was there before, without contents.
        prior: Prior,
        /// What it alters.
        diff: Diff,
        /// The granted path that let it pass.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jail: Option<String>,
        /// The call of this instance that it takes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undoes: Option<u32>,
        /// What was there before, with contents, sealed; see the engine's vault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// The answer to a change was lost: it is in doubt.
    Lost {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// How.
        error: CallError,
    },
    /// What was found of a change in doubt.
    Settled {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What.
        finding: Settlement,
        /// In words.
        why: String,
    },
    /// A person is needed.
    Stuck {
        /// For which instance.
        instance: Instance,
        /// For which of its calls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<u32>,
        /// Why.
        why: String,
        /// What to do by hand.
        manual: Vec<String>,
    },
    /// A person said what became of a call.
    Resolved {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// Whether it is done.
        done: bool,
        /// How the person knows.
        because: String,
    },
    /// A change came back.
    Changed {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What was answered, secrets replaced.
        response: Response,
        /// How long it took.
        elapsed_us: u64,
    },
    /// A change was found to be made already.
    Unchanged {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What was asked.
        request: Request,
    },
    /// A change waits for the end of its step, block or run.
    Deferred {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What will be done.
        request: Request,
        /// The granted path that let it pass.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jail: Option<String>,
        /// The request, sealed, where its values are hidden here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// A change that waited is not needed.
    Lapsed {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
    },
    /// A change is about to be taken back.
    TakingBack {
        /// By which instance it was made.
        instance: Instance,
        /// The number of its call.
        call: u32,
        /// What it did.
        summary: String,
    },
    /// A change is not in effect any more.
    TakenBack {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// How, in words.
        how: String,
    },
    /// An undo leaves a change as it is.
    Left {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// Why.
        why: String,
    },
    /// An undo goes on over a conflict, because a person said so.
    Overridden {
        /// By which instance.
        instance: Instance,
        /// The number of the call.
        call: u32,
        /// What is there in place of what was left.
        conflict: String,
    },
    /// A block of steps begins.
    Entered {
        /// Its id.
        block: String,
    },
    /// A block of steps ended, and nothing of it is open.
    Exited {
        /// Its id.
        block: String,
        /// How.
        how: BlockEnd,
    },
    /// A proof was issued.
    Receipt {
        /// By which instance.
        instance: Instance,
        /// The proof.
        receipt: Receipt,
    },
    /// A person did what the step is for.
    ByHand {
        /// Which.
        instance: Instance,
        /// In their words.
        because: String,
    },
    /// A fault was injected, since this is a drill.
    Drilled {
        /// Into which instance.
        instance: Instance,
        /// Which call.
        call: u32,
        /// What.
        fault: String,
    },
    /// The lease of a target was taken over from another run of this controller, which is over.
    TookOver {
        /// For a change of which instance.
        instance: Instance,
        /// Of which target.
        target: String,
        /// From which run.
        run: String,
        /// From which session of it.
        session: u32,
    },
    /// The first value under a key.
    Baseline {
        /// By which instance.
        instance: Instance,
        /// The key.
        key: String,
        /// The value.
        value: Value,
    },
    /// A message of a plugin.
    Log {
        /// By which instance.
        instance: Instance,
        /// How much it matters.
        level: Level,
        /// The message.
        message: String,
    },
    /// How far a step is.
    Progress {
        /// By which instance.
        instance: Instance,
        /// What it is doing.
        message: String,
        /// How much is done.
        done: u64,
        /// How much there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Of what.
        unit: String,
    },
    /// An attempt failed and another one follows.
    Retrying {
        /// Which.
        instance: Instance,
        /// Why.
        error: CallError,
        /// When.
        after_ms: u64,
    },
    /// The convergence check after a change: what it would still change (nothing, if all is well).
    Checked {
        /// Of which instance.
        instance: Instance,
        /// Summaries of the changes that are left.
        left: Vec<String>,
    },
    /// The post-conditions: what is wrong (nothing, if all is well).
    Verified {
        /// Of which instance.
        instance: Instance,
        /// In words.
        wrong: Vec<String>,
    },
    /// A person confirmed a step, or did not.
    Confirmed {
        /// Which step.
        step: String,
        /// How: "typed", "--approve", "--yes".
        by: String,
        /// Whether to go on.
        approved: bool,
    },
    /// An instance of a step ended.
    StepFinished {
        /// Which.
        instance: Instance,
        /// How.
        outcome: StepOutcome,
        /// Its outputs; null where there are none, secrets replaced.
        outputs: Value,
        /// Why it failed, was skipped, or cannot be looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// All attempts together.
        elapsed_ms: u64,
    },
    /// The last event.
    RunFinished {
        /// How it ended.
        outcome: RunOutcome,
        /// The counts.
        summary: Summary,
        /// From start to end.
        elapsed_ms: u64,
    },
    /// A kind that this reader does not know.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// Bytes of what may be large in it, about: for those who keep events in memory.
    pub fn weight(&self) -> usize {
        match self {
            Self::Looked { request, response, .. } => of_request(request) + of_response(response),
            Self::Changed { response, .. } => of_response(response),
            Self::Denied { request, .. }
            | Self::Planned { request, .. }
            | Self::Unchanged { request, .. }
            | Self::Deferred { request, .. } => of_request(request),
            Self::Intended { request, prior, kept, .. } => {
                of_request(request) + of_prior(prior) + kept.as_ref().map_or(0, String::len)
            }
            Self::Baseline { value, .. } | Self::StepFinished { outputs: value, .. } => of_json(value),
            Self::Log { message, .. } | Self::Progress { message, .. } => message.len(),
            Self::StepStarted { inputs, .. } => of_json(inputs),
            Self::RunStarted { .. }
            | Self::Reopened { .. }
            | Self::Abandoned { .. }
            | Self::Kept { .. }
            | Self::Diverged { .. }
            | Self::Verifying { .. }
            | Self::Lost { .. }
            | Self::Settled { .. }
            | Self::Stuck { .. }
            | Self::Resolved { .. }
            | Self::Lapsed { .. }
            | Self::TakingBack { .. }
            | Self::TakenBack { .. }
            | Self::Left { .. }
            | Self::Overridden { .. }
            | Self::Entered { .. }
            | Self::Exited { .. }
            | Self::Receipt { .. }
            | Self::ByHand { .. }
            | Self::Drilled { .. }
            | Self::TookOver { .. }
            | Self::Retrying { .. }
            | Self::Checked { .. }
            | Self::Verified { .. }
            | Self::Confirmed { .. }
            | Self::RunFinished { .. }
            | Self::Unknown => 0,
        }
    }
}

fn of_json(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(of_json).sum::<usize>() + 32 * items.len(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 64 + of_json(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn of_text(text: &Text) -> usize {
    text.0
        .iter()
        .map(|part| match part {
            TextPart::Plain(text) | TextPart::Secret(text) => text.len(),
        })
        .sum()
}

fn of_request(request: &Request) -> usize {
    let Call::Change(change) = &request.call else { return 0 };
    match &change.act {
        Act::Files(FilesAct { want: FileWant::File { content, .. }, .. }) => match content {
            Content::Bytes(bytes) => bytes.0.len(),
            Content::Text(text) => of_text(text),
            Content::CopyOf(_) => 0,
        },
        Act::Ssh(SshAct::Run { pipeline, .. }) => pipeline
            .iter()
            .map(|command| match &command.stdin {
                Input::Text(text) => of_text(text),
                Input::Bytes(bytes) => bytes.0.len(),
                Input::None | Input::CopyOf(_) => 0,
            })
            .sum(),
        Act::Kube(KubeAct::Apply { manifest: json, .. } | KubeAct::Patch { patch: json, .. }) => of_json(json),
        Act::Kube(KubeAct::PutBack { before: Some(bytes), .. }) => bytes.0.len(),
        Act::Files(_) | Act::Ssh(_) | Act::Kube(_) => 0,
    }
}

fn of_response(response: &Response) -> usize {
    let Ok(answer) = response else { return 0 };
    match answer {
        Answer::Bytes(bytes) => bytes.0.len(),
        Answer::Text(text) => text.len(),
        Answer::Http(response) => response.body.0.len(),
        Answer::Outputs(outputs) => outputs.iter().map(|output| output.stdout.0.len() + output.stderr.0.len()).sum(),
        Answer::Outcome(Outcome::Done(output)) => output.stdout.0.len() + output.stderr.0.len(),
        Answer::Pod(output) | Answer::Outcome(Outcome::PodDone(output)) => {
            output.stdout.0.len() + output.stderr.0.len()
        }
        Answer::Entries(entries) => entries.iter().map(|entry| entry.name.len() + 128).sum(),
        Answer::Names(names) => names.iter().map(String::len).sum(),
        Answer::Object(object) => object.as_ref().map_or(0, of_json),
        Answer::Objects(objects) => objects.iter().map(of_json).sum(),
        Answer::Value(value) => of_json(value),
        Answer::Unit
        | Answer::Facts(_)
        | Answer::Flag(_)
        | Answer::Stat(_)
        | Answer::Source(_)
        | Answer::Verdict(_)
        | Answer::Outcome(Outcome::Already | Outcome::Planned | Outcome::Deferred) => 0,
    }
}

fn of_prior(prior: &Prior) -> usize {
    match prior {
        Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } => 0,
        Prior::File(file) => file.content.as_ref().map_or(0, |content| content.0.len()),
        Prior::Object { live, would } => live.iter().chain(would).map(of_json).sum(),
        Prior::PodFile { content, .. } => content.as_ref().map_or(0, |content| content.0.len()),
    }
}

/// What a change alters, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// One line: "create /etc/foo (12 bytes, 0644)".
    pub summary: String,
    /// A unified diff, where there is text to compare. Never holds a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
