//! A plugin whose steps are not idempotent: what it asks depends on what it was answered, and some of it must happen once.

use std::sync::Arc;

use async_trait::async_trait;
use runbook_engine::plugin::{PluginCall, PluginError, Plugins, Road};
use runbook_engine::run::{Actions, Gate, Verdict as Said};
use runbook_model::call::*;
use runbook_model::consent::Consent;
use runbook_model::manifest::{Action, Manifest};
use serde_json::{Value, json};

use super::fit;

pub(crate) struct Odd;

pub(crate) struct Machine<'a> {
    pub(crate) road: &'a Arc<dyn Road>,
    pub(crate) target: Target,
}

pub(crate) fn command(argv: &[&str]) -> Command {
    Command { argv: argv.iter().map(|&word| word.to_owned()).collect(), ..Command::default() }
}

impl Machine<'_> {
    pub(crate) async fn ask(&self, call: Call) -> Response {
        self.road.call(Request { target: self.target.clone(), call }).await
    }

    async fn read(&self, path: &str) -> Result<String, CallError> {
        match self.ask(Call::Look(Look::Files(FilesLook::Read { path: path.into(), limit: 1 << 20 }))).await {
            Ok(Answer::Bytes(bytes)) => Ok(bytes.lossy().into_owned()),
            Err(CallError::NotFound(_)) => Ok(String::new()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn holds(&self, argv: &[&str]) -> Result<bool, CallError> {
        let look = Look::Ssh(SshLook::Observe { commands: vec![command(argv)] });
        match self.ask(Call::Look(look)).await? {
            Answer::Outputs(outputs) => Ok(outputs[0].exit.success()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn change(&self, act: Act, timing: Timing, repeats: bool) -> Response {
        let effect = Effect { timing, repeats, ..Effect::default() };
        self.ask(Call::Change(Change { act, effect })).await
    }

    pub(crate) async fn files(&self, path: &str, want: FileWant) -> Result<(), CallError> {
        self.change(Act::Files(FilesAct { path: path.into(), want }), Timing::Now, false).await.map(drop)
    }

    /// Its output, where it ran.
    async fn run(&self, argv: &[&str], undo: Undo, timing: Timing) -> Result<Option<String>, CallError> {
        let act = Act::Ssh(SshAct::Run { pipeline: vec![command(argv)], done_when: None, undo });
        match self.change(act, timing, true).await? {
            Answer::Outcome(Outcome::Done(output)) => Ok(Some(output.stdout.lossy().into_owned())),
            Answer::Outcome(Outcome::Planned) => Err(CallError::Unknown("what it says is not known".into())),
            _ => Ok(None),
        }
    }

    pub(crate) async fn word(&self, note: Note) -> Response {
        self.road.call(Request { target: Target::Run, call: Call::Note(note) }).await
    }
}

pub(crate) fn text(content: &str) -> FileWant {
    let content = Content::Text(Text::plain(content));
    FileWant::File {
        content,
        attributes: Attributes { mode: Some(0o640), ..Attributes::default() },
        validate: Vec::new(),
    }
}

pub(crate) fn config(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data})
}

/// A change of each kind in a cluster; done where the last object is there.
async fn shop(call: &PluginCall) -> Result<Value, PluginError> {
    let target = Target::Cluster(call.road.cluster().expect("a cluster"));
    let ask = async |what: Call| call.road.call(Request { target: target.clone(), call: what }).await;
    let object = |manifest: &Value| ObjectRef::of(manifest).expect("a name");
    let change = async |act: KubeAct| {
        let effect = Effect::default();
        ask(Call::Change(Change { act: Act::Kube(act), effect })).await.map(drop)
    };
    let done = config("done", json!({}));
    let look = Look::Kube(KubeLook::Get { object: object(&done) });
    if let Answer::Object(Some(_)) = ask(Call::Look(look)).await? {
        return Ok(json!({}));
    }
    let mut deployment = object(&config("web", json!({})));
    deployment.kind = ResourceKind { group: "apps".into(), version: "v1".into(), kind: "Deployment".into() };
    let list = object(&config("list", json!({})));
    let patch = |patch_type: PatchType, patch: Value| {
        let object = list.clone();
        KubeAct::Patch { object, patch_type, patch, subresource: None }
    };
    change(KubeAct::Scale { object: deployment, replicas: 0 }).await?;
    change(patch(PatchType::JsonPatch, json!([{"op": "add", "path": "/items/-", "value": "shop"}]))).await?;
    change(patch(PatchType::Merge, json!({"data": {"a": "b"}}))).await?;
    change(KubeAct::Apply { manifest: config("new", json!({"list": "of shop"})), force: false }).await?;
    let old = object(&config("old", json!({})));
    change(KubeAct::Delete { object: old, options: DeleteOptions::default() }).await?;
    change(KubeAct::Apply { manifest: done, force: false }).await?;
    Ok(json!({}))
}

/// A claim is deleted and made anew, between two other objects; done where the last one is there. What an input names is left out.
async fn renew(call: &PluginCall) -> Result<Value, PluginError> {
    let target = Target::Cluster(call.road.cluster().expect("a cluster"));
    let ask = async |what: Call| call.road.call(Request { target: target.clone(), call: what }).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"},
        "spec": {"storageClassName": "new"}});
    let object = |manifest: &Value| ObjectRef::of(manifest).expect("a name");
    let last = config("last", json!({}));
    let look = Look::Kube(KubeLook::Get { object: object(&last) });
    if let Answer::Object(Some(_)) = ask(Call::Look(look)).await? {
        return Ok(json!({}));
    }
    let apply = |manifest: &Value| KubeAct::Apply { manifest: manifest.clone(), force: false };
    let delete = KubeAct::Delete { object: object(&claim), options: DeleteOptions::default() };
    let anew = if call.inputs["anew"] == false { config("other", json!({})) } else { claim.clone() };
    for act in [apply(&config("first", json!({}))), delete, apply(&anew), apply(&last)] {
        ask(Call::Change(Change { act: Act::Kube(act), effect: Effect::default() })).await?;
    }
    Ok(json!({}))
}

#[async_trait]
impl Plugins for Odd {
    async fn converge(&self, call: PluginCall) -> Result<Value, PluginError> {
        if call.action == "shop" {
            return shop(&call).await;
        }
        if call.action == "fitshop" {
            return fit::shop(&call).await;
        }
        if call.action == "renew" {
            return renew(&call).await;
        }
        let host = call.road.targets("host").first().cloned().expect("a host");
        let machine = Machine { road: &call.road, target: Target::Machine(host) };
        let name = call.inputs["name"].as_str().unwrap_or("x");
        let folder = format!("/srv/{name}");
        let list = call.inputs["list"].as_str().unwrap_or("/etc/list");
        match call.action.as_str() {
            // Done where its last file is there; all before it would do harm twice.
            "odd" => {
                if machine.holds(&["test", "-e", &format!("{folder}/done")]).await? {
                    let conf = machine.read(&format!("{folder}/conf")).await?;
                    return Ok(json!({"lines": conf.split(' ').next()}));
                }
                machine.word(Note::Log { level: Level::Info, message: "it begins".into() }).await?;
                let before = machine.read(list).await?;
                let first = machine.word(Note::Baseline { key: "before".into(), value: json!(before) }).await?;
                let Answer::Value(first) = first else { panic!("a value") };
                machine.run(&["restart", name], Undo::Harmless, Timing::StepEndIfChanged).await?;
                machine.files(&folder, FileWant::Directory { attributes: Attributes::default() }).await?;
                let back = Undo::Inverse { command: Box::new(command(&["unappend", list, name])), only_if: None };
                let lines = machine.run(&["append", list, name], back, Timing::Now).await?;
                let lines = lines.expect("it ran now");
                machine.files(&format!("{folder}/conf"), text(&format!("{lines} lines, before {first}"))).await?;
                machine.files(&format!("{folder}/current"), FileWant::Link { target: "conf".into() }).await?;
                if call.inputs["burns"] == true {
                    let undo = Undo::Irreversible("it is burnt".into());
                    machine.run(&["burn", "/var/ledger", name], undo, Timing::Now).await?;
                }
                machine.files("/srv/old", FileWant::Absent).await?;
                if call.inputs["fails"] == true {
                    return Err(CallError::Failed("as asked".into()).into());
                }
                machine.files(&format!("{folder}/done"), text("yes")).await?;
                Ok(json!({"lines": lines}))
            }
            "fit" => fit::machine(&machine, &call.inputs).await,
            "backup" => fit::backup(&machine, name).await,
            // A state that must not last: taken back at the end of the block.
            "pause" => {
                // What was deferred to the end of the block may have resumed it already: it may be run twice.
                let back =
                    Undo::Inverse { command: Box::new(command(&["resume", "/etc/paused", name])), only_if: None };
                if !machine.holds(&["holds", "/etc/paused", name]).await? {
                    machine.run(&["append", "/etc/paused", name], back, Timing::Now).await?;
                }
                let resume = Act::Ssh(SshAct::Run {
                    pipeline: vec![command(&["resume", "/etc/paused", name])],
                    done_when: None,
                    undo: Undo::Harmless,
                });
                machine.change(resume, Timing::BlockEnd, true).await?;
                Ok(json!({}))
            }
            other => panic!("no action {other}"),
        }
    }

    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError> {
        if matches!(call.action.as_str(), "shop" | "fitshop" | "renew") {
            return Ok(Vec::new());
        }
        let host = call.road.targets("host").first().cloned().expect("a host");
        let machine = Machine { road: &call.road, target: Target::Machine(host) };
        let name = call.inputs["name"].as_str().unwrap_or("x");
        if call.action == "odd" && !machine.holds(&["test", "-e", &format!("/srv/{name}/done")]).await? {
            return Ok(vec!["it is not done".into()]);
        }
        Ok(Vec::new())
    }
}

/// The manifest of the plugin.
pub(crate) struct Catalog(Manifest);

impl Default for Catalog {
    fn default() -> Self {
        let asks = json!([
            {"call": "files.write", "on": {"path": "/srv/**"}, "reason": "r"},
            {"call": "files.read", "on": {"path": "/etc/**"}, "reason": "r"},
            {"call": "files.read", "on": {"path": "/srv/**"}, "reason": "r"},
            {"call": "ssh.observe", "on": {"argv": ["**"]}, "reason": "r"},
            {"call": "ssh.change", "on": {"argv": ["**"]}, "reason": "r", "irreversible": "it is burnt"},
        ]);
        let action = |name: &str| {
            json!({"name": name, "summary": "", "role": [{"name": "host", "arity": "each"}], "ask": asks,
                "inputs": {"type": "object"}, "outputs": {"type": "object"}})
        };
        let in_cluster = |name: &str| {
            json!({"name": name, "summary": "", "cluster": "required", "inputs": {"type": "object"},
            "outputs": {"type": "object"}, "ask": [
                {"call": "kube.read", "on": {"kind": "*", "namespace": "*"}, "reason": "r"},
                {"call": "kube.apply", "on": {"kind": "*", "namespace": "*"}, "reason": "r"},
                {"call": "kube.patch", "on": {"kind": "*", "namespace": "*"}, "reason": "r"},
                {"call": "kube.scale", "on": {"kind": "*", "namespace": "*"}, "reason": "r"},
                {"call": "kube.delete", "on": {"kind": "*", "namespace": "*"}, "reason": "r", "irreversible": "it goes"}]})
        };
        let machines = ["odd", "pause", "fit", "backup"].map(action);
        let clusters = ["shop", "fitshop", "renew"].map(in_cluster);
        let actions: Vec<_> = machines.into_iter().chain(clusters).collect();
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

/// A person who agrees.
pub(crate) struct Yes;

#[async_trait]
impl Gate for Yes {
    async fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Said {
        Said { approved: true, by: "--yes".into() }
    }
}
