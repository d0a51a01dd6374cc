//! Actions that are fit for being begun again: each change is only made where it is not so yet.

use runbook_engine::plugin::{PluginCall, PluginError};
use runbook_model::call::*;
use serde_json::{Value, json};

use super::plugin::{Machine, command, config, text};

/// How long between two looks at a service.
const BETWEEN: u32 = 20_000;

impl Machine<'_> {
    /// A command that is only run where another one does not say that it was.
    async fn guarded(&self, argv: &[&str], done_when: &[&str], undo: Undo) -> Result<(), CallError> {
        let done_when = Some(Box::new(command(done_when)));
        let act = Act::Ssh(SshAct::Run { pipeline: vec![command(argv)], done_when, undo });
        self.change(act, Timing::Now, false).await.map(drop)
    }
}

/// Files, a line in a list, a service that is waited for, and something that must be done once.
pub(crate) async fn machine(machine: &Machine<'_>, inputs: &Value) -> Result<Value, PluginError> {
    let name = inputs["name"].as_str().unwrap_or("x");
    let list = format!("/etc/{name}.list");
    let folder = format!("/srv/{name}");
    machine.files(&folder, FileWant::Directory { attributes: Attributes::default() }).await?;
    let restart =
        Act::Ssh(SshAct::Run { pipeline: vec![command(&["restart", name])], done_when: None, undo: Undo::Harmless });
    machine.change(restart, Timing::StepEndIfChanged, true).await?;
    let back = Undo::Inverse { command: Box::new(command(&["unappend", &list, name])), only_if: None };
    machine.guarded(&["append", &list, name], &["holds", &list, name], back).await?;
    machine.files(&format!("{folder}/conf"), text(name)).await?;
    let undo = Undo::Inverse { command: Box::new(command(&["true"])), only_if: None };
    machine.guarded(&["start", name], &["started", name], undo).await?;
    if inputs["waits"] != false {
        while !machine.holds(&["ready", name]).await? {
            machine.word(Note::Pause { milliseconds: BETWEEN }).await?;
        }
    }
    if inputs["burns"] == true {
        let undo = Undo::Irreversible("it is burnt".into());
        machine.guarded(&["burn", "/var/ledger", name], &["holds", "/var/ledger", name], undo).await?;
    }
    machine.files("/srv/old", FileWant::Absent).await?;
    machine.files(&format!("{folder}/done"), text("yes")).await?;
    Ok(json!({}))
}

/// Leaves a copy, and says so.
pub(crate) async fn backup(machine: &Machine<'_>, name: &str) -> Result<Value, PluginError> {
    let path = "/srv/backup";
    machine.files(path, text("all of it")).await?;
    let look = Look::Files(FilesLook::Source { path: path.into() });
    let place = match machine.ask(Call::Look(look)).await {
        Ok(Answer::Source(place)) => place,
        Ok(other) => panic!("{other:?}"),
        Err(error) => return Err(error.into()),
    };
    let (kind, subject, made_at) = ("backup".to_owned(), name.to_owned(), machine.road.now_ms());
    machine.word(Note::Receipt { kind, subject, place, made_at }).await?;
    Ok(json!({}))
}

/// Objects of a cluster.
pub(crate) async fn shop(call: &PluginCall) -> Result<Value, PluginError> {
    let target = Target::Cluster(call.road.cluster().expect("a cluster"));
    let change = async |act: KubeAct| {
        let what = Call::Change(Change { act: Act::Kube(act), effect: Effect::default() });
        call.road.call(Request { target: target.clone(), call: what }).await.map(drop)
    };
    let mut deployment = ObjectRef::of(&config("web", json!({}))).expect("a name");
    deployment.kind = ResourceKind { group: "apps".into(), version: "v1".into(), kind: "Deployment".into() };
    change(KubeAct::Scale { object: deployment, replicas: 0 }).await?;
    change(KubeAct::Apply { manifest: config("new", json!({"list": "of shop"})), force: false }).await?;
    let old = ObjectRef::of(&config("old", json!({}))).expect("a name");
    change(KubeAct::Delete { object: old, options: DeleteOptions::default() }).await?;
    change(KubeAct::Apply { manifest: config("done", json!({})), force: false }).await?;
    Ok(json!({}))
}
