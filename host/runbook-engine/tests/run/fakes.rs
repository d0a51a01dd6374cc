//! A world of files and commands in memory, and plugins that are plain functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext, NoRuns};
use runbook_engine::journal::{Journal, Start};
use runbook_engine::plugin::{PluginCall, PluginError, Plugins, Road};
use runbook_engine::run::{Actions, Gate, Options, Verdict as Said};
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::bytes::Bytes;
use runbook_model::call::*;
use runbook_model::consent::Consent;
use runbook_model::delta;
use runbook_model::event::{Event, Instance, VERSION, Verb};
use runbook_model::history::History;
use runbook_model::manifest::{Action, Manifest};
use runbook_model::redact::Redactor;
use runbook_model::state;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What a run in this world shares, with a journal, and nothing before it.
pub(crate) fn shared(world: &Arc<World>, journal: Journal) -> Shared {
    Shared {
        backend: Arc::clone(world) as _,
        journal,
        redactor: Redactor::default(),
        secrets: Arc::default(),
        vault: Arc::new(Vault::fleeting().expect("random bytes")),
        receipts: Arc::default(),
        owner: "a test".into(),
        runs: Arc::new(NoRuns),
        past: History::default(),
        artifacts: "/tmp".into(),
        cancel: CancellationToken::new(),
        run: "r".into(),
        baselines: Mutex::default(),
        foresight: Arc::default(),
    }
}

/// What is to be done with a runbook in the folder `/`.
pub(crate) fn options(verb: Verb) -> Options {
    Options { verb, only: BTreeSet::new(), from: None, hosts_at_once: 20, home: "/root".into(), folder: "/".into() }
}

/// A journal in which the run has begun.
pub(crate) fn begun() -> Start {
    let first = Event::RunStarted {
        run: "r".into(),
        version: VERSION.into(),
        program: "test".into(),
        verb: Verb::Exec,
        runbook: "x".into(),
        file: "x.toml".into(),
        sha256: String::new(),
        steps: Vec::new(),
        plugins: Vec::new(),
        inputs: Value::Null,
        pid: 1,
        boot_id: String::new(),
        rto_ms: None,
    };
    Start { seq: 0, at: 0, state: state::State::default().next(&first).expect("it begins") }
}

/// An instance of a step begins.
pub(crate) fn step_started(instance: Instance, attempt: u32) -> Event {
    let (inputs, roles, fingerprint) = (Value::Null, Vec::new(), String::new());
    Event::StepStarted { instance, attempt, calls: 0, inputs, roles, fingerprint }
}

/// Files of machines, and what was done to them.
#[derive(Default)]
pub(crate) struct World(pub(crate) Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<(Target, String), String>,
    pub(crate) done: Vec<String>,
    pub(crate) down: BTreeSet<String>,
    /// Changes that arrived where nothing may be changed.
    pub(crate) violations: usize,
    /// The journal's file, where every change must be intended before it is made.
    pub(crate) journal: Option<PathBuf>,
    /// The change during which somebody cancels the run.
    pub(crate) cancels_at: Option<(String, tokio_util::sync::CancellationToken)>,
}

impl World {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in it")
    }

    fn reach(&self, target: &Target) -> Result<(), CallError> {
        let down = self.state().down.contains(&target.to_string());
        if down { Err(CallError::Unreachable(format!("{target} does not answer"))) } else { Ok(()) }
    }

    fn stat(&self, target: &Target, path: &str) -> Option<Stat> {
        let state = self.state();
        let content = state.files.get(&(target.clone(), path.to_owned()))?;
        Some(Stat {
            kind: FileKind::File,
            size: content.len() as u64,
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            link_target: None,
        })
    }
}

#[async_trait]
impl Backend for World {
    async fn look(&self, target: &Target, look: &Look, _: &CallContext) -> Response {
        self.reach(target)?;
        match look {
            Look::Files(FilesLook::Stat { path }) => Ok(Answer::Stat(self.stat(target, path))),
            Look::Files(FilesLook::Read { path, .. }) => {
                let content = self.state().files.get(&(target.clone(), path.clone())).cloned();
                content.map(|c| Answer::Bytes(Bytes::from(c.as_str()))).ok_or_else(|| CallError::NotFound(path.clone()))
            }
            Look::Ssh(SshLook::Observe { commands }) => Ok(Answer::Outputs(
                commands
                    .iter()
                    .map(|command| {
                        let there = command.argv[0] == "test" && self.stat(target, &command.argv[2]).is_some();
                        Output {
                            exit: Exit::Code(if there { 0 } else { 1 }),
                            stdout: Bytes::default(),
                            stderr: Bytes::default(),
                        }
                    })
                    .collect(),
            )),
            other => Err(CallError::Invalid(format!("{other:?}"))),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, _: &CallContext) -> Result<Prior, CallError> {
        self.reach(target)?;
        Ok(match act {
            Act::Files(FilesAct { path, want }) => {
                let wanted_sha256 = match want {
                    FileWant::File { content, .. } => Some(runbook_model::overlay::plain_sha256(content)),
                    _ => None,
                };
                let content = self.state().files.get(&(target.clone(), path.clone())).cloned();
                Prior::File(FilePrior {
                    stat: self.stat(target, path),
                    sha256: content.as_ref().map(|c| delta::sha256(c.as_bytes())),
                    content: content.map(|c| Bytes::from(c.as_str())),
                    wanted_sha256,
                    ..FilePrior::default()
                })
            }
            Act::Ssh(SshAct::Run { done_when: Some(command), .. }) => {
                Prior::DoneWhen(self.stat(target, &command.argv[2]).is_some())
            }
            _ => Prior::None,
        })
    }

    async fn act(&self, target: &Target, act: &Act, _: &Prior, ctx: &CallContext) -> Response {
        self.reach(target)?;
        if ctx.cancel.is_cancelled() {
            return Err(CallError::Failed("cancelled".into()));
        }
        let mut state = self.state();
        let intended = || state.journal.as_ref().map(|path| std::fs::read_to_string(path).expect("it is there"));
        let intents = intended().map(|journal| journal.matches("\"kind\":\"intended\"").count());
        if ctx.read_only || intents.is_some_and(|intents| intents <= state.done.len()) {
            state.violations += 1;
        }
        match act {
            Act::Files(FilesAct { path, want: FileWant::File { content, .. } }) => {
                let text = String::from_utf8(delta::visible(content).unwrap_or_default()).expect("text");
                state.done.push(format!("{target}: write {path}"));
                state.files.insert((target.clone(), path.clone()), text);
                if let Some((at, cancel)) = &state.cancels_at
                    && *at == format!("write {path}")
                {
                    cancel.cancel();
                }
                Ok(Answer::Verdict(Verdict::Changed))
            }
            Act::Ssh(SshAct::Run { pipeline, .. }) => {
                let argv = &pipeline[0].argv;
                state.done.push(format!("{target}: {}", argv.join(" ")));
                if argv[0] == "touch" {
                    state.files.insert((target.clone(), argv[1].clone()), String::new());
                }
                let exit = Exit::Code(if argv[0] == "false" { 1 } else { 0 });
                Ok(Answer::Outcome(Outcome::Done(Output { exit, stdout: Bytes::default(), stderr: Bytes::default() })))
            }
            other => Err(CallError::Invalid(format!("{other:?}"))),
        }
    }
}

/// Plugins as functions.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) tries: Mutex<BTreeMap<String, u32>>,
}

async fn look(road: &Arc<dyn Road>, target: &Target, look: Look) -> Response {
    road.call(Request { target: target.clone(), call: Call::Look(look) }).await
}

async fn change(road: &Arc<dyn Road>, target: &Target, act: Act, effect: Effect) -> Response {
    road.call(Request { target: target.clone(), call: Call::Change(Change { act, effect }) }).await
}

fn command(argv: &[&str]) -> Command {
    Command { argv: argv.iter().map(|&a| a.to_owned()).collect(), ..Command::default() }
}

fn run(argv: &[&str], creates: Option<&str>) -> Act {
    Act::Ssh(SshAct::Run {
        pipeline: vec![command(argv)],
        done_when: creates.map(|path| Box::new(command(&["test", "-e", path]))),
        undo: Undo::Harmless,
    })
}

fn write(path: &str, content: &str) -> Act {
    let content = Content::Text(Text::plain(content));
    let want = FileWant::File { content, attributes: Attributes::default(), validate: Vec::new() };
    Act::Files(FilesAct { path: path.to_owned(), want })
}

#[async_trait]
impl Plugins for Functions {
    async fn converge(&self, call: PluginCall) -> Result<Value, PluginError> {
        let road = &call.road;
        let input = |name: &str| call.inputs[name].as_str().unwrap_or_default().to_owned();
        let host = road.targets("host").first().map(|name| Target::Machine(name.clone()));
        let host = host.unwrap_or(Target::Controller);
        let (path, content) = (input("path"), input("content"));
        match call.action.as_str() {
            "write" => {
                change(road, &host, write(&path, &content), Effect::default()).await?;
            }
            "read" => {
                return match look(road, &host, Look::Files(FilesLook::Read { path, limit: 1 << 20 })).await? {
                    Answer::Bytes(bytes) => Ok(json!({"content": bytes.lossy()})),
                    other => panic!("{other:?}"),
                };
            }
            "touch" => {
                let repeats = call.inputs["repeats"] == true;
                let creates = (!repeats).then_some(path.as_str());
                let effect = Effect { repeats, alters: vec![format!("path:{path}")], ..Effect::default() };
                change(road, &host, run(&["touch", &path], creates), effect).await?;
            }
            // Writes a file, and restarts a service at the end of the step where that changed something.
            "configure" => {
                let timing = match input("timing").as_str() {
                    "block-end" => Timing::BlockEnd,
                    "step-end" => Timing::StepEnd,
                    _ => Timing::StepEndIfChanged,
                };
                let effect = Effect { summary: "restart".into(), timing, repeats: true, ..Effect::default() };
                change(road, &host, run(&["restart"], None), effect).await?;
                change(road, &host, write(&path, &content), Effect::default()).await?;
                if call.inputs["fail"] == true {
                    return Err(CallError::Failed("as asked".into()).into());
                }
            }
            "flaky" => {
                let mut tries = self.tries.lock().expect("sound");
                let tries = tries.entry(host.to_string()).or_default();
                *tries += 1;
                if u64::from(*tries) < call.inputs["succeeds_at"].as_u64().unwrap_or(1) {
                    return Err(CallError::Failed(format!("attempt {tries}")).into());
                }
            }
            "restless" => {
                let count = {
                    let mut tries = self.tries.lock().expect("sound");
                    let count = tries.entry("restless".into()).or_default();
                    *count += 1;
                    *count
                };
                change(road, &host, write(&path, &format!("{count}")), Effect::default()).await?;
            }
            "trespass" => {
                change(road, &host, write("/etc/passwd", "x"), Effect::default()).await?;
            }
            "scale" => {
                let first = road
                    .call(Request {
                        target: Target::Run,
                        call: Call::Note(Note::Baseline {
                            key: "replicas".into(),
                            value: call.inputs["replicas"].clone(),
                        }),
                    })
                    .await?;
                let Answer::Value(first) = first else { panic!("a value") };
                return Ok(json!({"first": first}));
            }
            "wait" => {
                road.call(Request { target: Target::Run, call: Call::Note(Note::Pause { milliseconds: 60_000 }) })
                    .await?;
            }
            other => panic!("no action {other}"),
        }
        Ok(json!({"path": path}))
    }

    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError> {
        Ok(call.inputs["wrong"].as_str().map(str::to_owned).into_iter().collect())
    }
}

/// The manifest of the functions.
pub(crate) struct Catalog(Manifest);

impl Default for Catalog {
    fn default() -> Self {
        let names = ["write", "read", "touch", "configure", "flaky", "restless", "trespass", "scale", "wait"];
        let asks = json!([
            {"call": "files.write", "on": {"path": "${input.path}"}, "reason": "r"},
            {"call": "files.read", "on": {"path": "${input.path}"}, "reason": "r"},
            {"call": "ssh.change", "on": {"argv": ["touch", "${input.path}"]}, "reason": "r"},
            {"call": "ssh.change", "on": {"argv": ["restart"]}, "reason": "r"},
            {"call": "ssh.observe", "on": {"argv": ["test", "-e", "${input.path}"]}, "reason": "r"},
        ]);
        let action = |name: &&str| {
            json!({"name": name, "summary": "", "role": [{"name": "host", "arity": "each"}], "ask": asks,
                "inputs": {"type": "object"}, "outputs": {"type": "object"}})
        };
        let actions: Vec<Value> = names.iter().map(action).collect();
        let manifest = json!({"name": "t", "version": "0.1.0", "summary": "", "action": actions});
        Self(serde_json::from_value(manifest).expect("a manifest"))
    }
}

impl runbook_model::parse::Catalog for Catalog {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        (plugin == "t").then_some(&self.0)
    }

    fn names(&self) -> Vec<String> {
        vec!["t".into()]
    }

    fn is_builtin(&self, _: &str) -> bool {
        true
    }
}

impl Actions for Catalog {
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, Consent)> {
        (plugin == "t").then(|| self.0.action(action)).flatten().map(|action| (action, Consent::Implied))
    }
}

/// A person who says this.
pub(crate) struct Person(pub(crate) bool);

#[async_trait]
impl Gate for Person {
    async fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Said {
        Said { approved: self.0, by: "typed".into() }
    }
}
