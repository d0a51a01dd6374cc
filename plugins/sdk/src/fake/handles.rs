//! What stands in the place of the host's handles and functions, call by call.

use std::mem::ManuallyDrop;
use std::ops::Deref;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::cluster::merge;
use super::play::{Act, Place, Play, made, with};
use super::tree::{Node, What};
use crate::bindings::runbook::base::types::{CallError, Effect, TextPart, Verdict};
use crate::bindings::runbook::files::trees::{self, Attributes, Content, Entry, Stat};
use crate::bindings::runbook::kube::clusters as kube;
use crate::bindings::runbook::plugin::run::Level;
use crate::bindings::runbook::ssh::machines as ssh;

type Result<T> = std::result::Result<T, CallError>;

/// A machine, by its place in the world.
#[derive(Debug)]
pub(crate) struct Machine(usize);

/// A tree of files.
#[derive(Debug)]
pub(crate) struct Tree(Place);

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster;

/// Content, by its number. The generated handle goes into commands and contents; it is never dropped, since that calls the host.
#[derive(Debug)]
pub(crate) struct Source {
    raw: ManuallyDrop<trees::Source>,
    size: u64,
    sha256: String,
}

impl Source {
    fn keep(play: &mut Play, content: Vec<u8>) -> Self {
        let (size, sha256) = (content.len() as u64, hex(&content));
        play.sources.push(content);
        let number = u32::try_from(play.sources.len()).unwrap_or(u32::MAX - 1);
        // SAFETY: no host is there that could be asked about it, and it is never dropped.
        let raw = ManuallyDrop::new(unsafe { trees::Source::from_handle(number) });
        Self { raw, size, sha256 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn sha256(&self) -> String {
        self.sha256.clone()
    }
}

impl Deref for Source {
    type Target = trees::Source;

    fn deref(&self) -> &trees::Source {
        &self.raw
    }
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content_of(play: &Play, source: &trees::Source) -> Vec<u8> {
    let index = usize::try_from(source.handle()).unwrap_or_default().wrapping_sub(1);
    play.sources.get(index).cloned().unwrap_or_default()
}

/// Secrets stand in it by their names, as everywhere in a plugin.
fn plain(parts: &[TextPart]) -> Vec<u8> {
    let part = |part: &TextPart| match part {
        TextPart::Plain(text) => text.clone(),
        TextPart::Secret(name) => format!("<secret {name}>"),
    };
    parts.iter().map(part).collect::<String>().into_bytes()
}

pub(crate) fn targets(role: &str) -> Vec<Machine> {
    with(|play| {
        let machines = play.world.machines.iter().enumerate();
        let fits = machines.filter(|(_, m)| m.roles.is_empty() || m.roles.iter().any(|known| known == role));
        fits.map(|(index, _)| Machine(index)).collect()
    })
}

pub(crate) fn controller() -> Tree {
    Tree(Place::Controller)
}

pub(crate) fn target() -> Option<Cluster> {
    with(|play| play.world.cluster.as_ref().map(|_| Cluster))
}

pub(crate) fn log(_: Level, message: &str) {
    with(|play| play.messages.push(message.to_owned()));
}

pub(crate) fn progress(_: &str, _: u64, _: Option<u64>, _: &str) {}

/// Nobody waits: the world's clock goes on.
pub(crate) fn pause(milliseconds: u32) -> Result<()> {
    with(|play| {
        if play.planning {
            return Err(CallError::Unknown("what is waited for has only been planned".to_owned()));
        }
        play.world.now_ms += u64::from(milliseconds);
        Ok(())
    })
}

pub(crate) fn now_ms() -> u64 {
    with(|play| play.world.now_ms)
}

pub(crate) fn baseline(key: &str, value: &str) -> Result<String> {
    with(|play| {
        let known = play.world.baselines.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        Ok(known.unwrap_or_else(|| {
            play.world.baselines.push((key.to_owned(), value.to_owned()));
            value.to_owned()
        }))
    })
}

pub(crate) fn receipt(kind: &str, subject: &str, _: &trees::Source, _: u64) -> Result<()> {
    with(|play| play.messages.push(format!("receipt {kind} {subject}")));
    Ok(())
}

impl Machine {
    pub(crate) fn name(&self) -> String {
        with(|play| play.world.machines[self.0].name.clone())
    }

    pub(crate) fn facts(&self) -> Result<ssh::Facts> {
        with(|play| match play.world.machines[self.0].facts.clone() {
            Some(facts) => Ok(facts),
            None => Err(self.unsaid(play, "its facts (say `facts`)")),
        })
    }

    pub(crate) fn files(&self) -> Tree {
        Tree(Place::Machine(self.0))
    }

    pub(crate) fn observe(&self, command: &ssh::Command<'_>) -> Result<ssh::Output> {
        with(|play| play.observe(self.0, command))
    }

    pub(crate) fn observe_all(&self, commands: &[ssh::Command<'_>]) -> Result<Vec<ssh::Output>> {
        commands.iter().map(|command| self.observe(command)).collect()
    }

    pub(crate) fn change(
        &self,
        command: &ssh::Command<'_>,
        done_when: Option<&ssh::Command<'_>>,
        _: &ssh::Undo<'_>,
        effect: &Effect,
    ) -> Result<ssh::Outcome> {
        with(|play| play.change(self.0, &command.argv, done_when, effect))
    }

    /// The words of all commands, with `|` between them, are looked up as one.
    pub(crate) fn change_pipeline(
        &self,
        commands: &[ssh::Command<'_>],
        done_when: Option<&ssh::Command<'_>>,
        _: &ssh::Undo<'_>,
        effect: &Effect,
    ) -> Result<ssh::Outcome> {
        let all: Vec<Vec<String>> = commands.iter().map(|command| command.argv.clone()).collect();
        with(|play| play.change(self.0, &all.join(&"|".to_owned()), done_when, effect))
    }

    pub(crate) fn change_confirmed(
        &self,
        commit: &ssh::Command<'_>,
        _: &ssh::Command<'_>,
        _: u32,
        _: &[String],
        effect: &Effect,
    ) -> Result<ssh::Outcome> {
        with(|play| play.change(self.0, &commit.argv, None, effect))
    }

    /// Looked up as the command `reboot`.
    pub(crate) fn reboot(&self, _: u32, effect: &Effect) -> Result<ssh::Outcome> {
        with(|play| play.change(self.0, &["reboot".to_owned()], None, effect))
    }

    pub(crate) fn http(&self, request: &ssh::Request) -> Result<ssh::Response> {
        with(|play| {
            play.can_look(Place::Machine(self.0), &[], true)?;
            self.page(play, request)
        })
    }

    pub(crate) fn http_change(
        &self,
        request: &ssh::Request,
        _: &ssh::Undo<'_>,
        effect: &Effect,
    ) -> Result<ssh::Outcome> {
        with(|play| {
            let place = Place::Machine(self.0);
            let call = format!("{}: {} {}", play.name_of(place), request.method, request.url);
            if !play.is_due(place, call, effect, Act::Nothing) {
                return Ok(ssh::Outcome::Deferred);
            }
            if play.planning {
                play.alter(place, effect, true, None);
                return Ok(ssh::Outcome::Planned);
            }
            let ssh::Response { status, body, .. } = self.page(play, request)?;
            let exit = ssh::Exit::Code(i32::from(status >= 400));
            Ok(ssh::Outcome::Done(ssh::Output { exit, stdout: body, stderr: Vec::new() }))
        })
    }

    fn page(&self, play: &mut Play, request: &ssh::Request) -> Result<ssh::Response> {
        let pages = &play.world.machines[self.0].pages;
        match pages.iter().rev().find(|(url, ..)| *url == request.url) {
            Some((_, status, body)) => Ok(ssh::Response { status: *status, headers: Vec::new(), body: body.clone() }),
            None => Err(self.unsaid(play, &format!("{} {} (say `page`)", request.method, request.url))),
        }
    }

    pub(crate) fn tcp(&self, address: &str, port: u16, _: u32) -> Result<bool> {
        with(|play| {
            play.can_look(Place::Machine(self.0), &[], true)?;
            let ports = &play.world.machines[self.0].ports;
            match ports.iter().rev().find(|(known, number, _)| known == address && *number == port) {
                Some((.., open)) => Ok(*open),
                None => Err(self.unsaid(play, &format!("the port {address}:{port} (say `port`)"))),
            }
        })
    }

    pub(crate) fn resolve(&self, name: &str, record_type: &str, _: Option<&str>) -> Result<Vec<String>> {
        with(|play| {
            play.can_look(Place::Machine(self.0), &[], true)?;
            let names = &play.world.machines[self.0].names;
            match names.iter().rev().find(|(known, kind, _)| known == name && kind == record_type) {
                Some((.., answers)) => Ok(answers.clone()),
                None => Err(self.unsaid(play, &format!("{record_type} of {name} (say `resolves`)"))),
            }
        })
    }

    fn unsaid(&self, play: &mut Play, what: &str) -> CallError {
        let name = play.world.machines[self.0].name.clone();
        play.unsaid(format!("{name}: {what}"))
    }
}

impl Tree {
    pub(crate) fn stat(&self, path: &str) -> Result<Option<Stat>> {
        with(|play| Ok(play.node(self.0, path)?.stat()))
    }

    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let content = with(|play| self.content(play, path))?;
        if content.len() as u64 > limit {
            return Err(CallError::Invalid(format!("{path} is larger than {limit} bytes")));
        }
        Ok(content)
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<Entry>> {
        with(|play| match play.node(self.0, path)?.what {
            What::Directory => Ok(play.files(self.0).list(path)),
            What::Absent => Err(CallError::NotFound(format!("{path}: there is no such directory"))),
            What::File(_) | What::Link(_) => Err(CallError::Failed(format!("{path} is not a directory"))),
        })
    }

    pub(crate) fn sha256(&self, path: &str) -> Result<String> {
        with(|play| self.content(play, path)).map(|content| hex(&content))
    }

    pub(crate) fn source(&self, path: &str) -> Result<Source> {
        with(|play| {
            let content = self.content(play, path)?;
            Ok(Source::keep(play, content))
        })
    }

    fn content(&self, play: &mut Play, path: &str) -> Result<Vec<u8>> {
        match play.node(self.0, path)?.what {
            What::File(content) => Ok(content),
            What::Link(target) if target.starts_with('/') => self.content(play, &target),
            What::Absent => Err(CallError::NotFound(format!("{path}: there is no such file"))),
            What::Directory | What::Link(_) => Err(CallError::Failed(format!("{path} is not a file"))),
        }
    }

    pub(crate) fn ensure_file(
        &self,
        path: &str,
        content: &Content<'_>,
        attributes: &Attributes,
        _: &[String],
        effect: &Effect,
    ) -> Result<Verdict> {
        with(|play| {
            let content = match content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::Text(text) => plain(text),
                Content::CopyOf(source) => content_of(play, source),
            };
            play.ensure(self.0, path, effect, |node| with_attributes(made(node, What::File(content)), attributes))
        })
    }

    pub(crate) fn ensure_directory(&self, path: &str, attributes: &Attributes, effect: &Effect) -> Result<Verdict> {
        with(|play| play.ensure(self.0, path, effect, |node| with_attributes(made(node, What::Directory), attributes)))
    }

    pub(crate) fn ensure_link(&self, path: &str, target: &str, effect: &Effect) -> Result<Verdict> {
        with(|play| play.ensure(self.0, path, effect, |node| made(node, What::Link(target.to_owned()))))
    }

    pub(crate) fn ensure_absent(&self, path: &str, effect: &Effect) -> Result<Verdict> {
        with(|play| play.ensure(self.0, path, effect, |_| Node::new(What::Absent)))
    }
}

fn with_attributes(mut node: Node, attributes: &Attributes) -> Node {
    node.mode = attributes.mode.unwrap_or(node.mode);
    node.owner = attributes.owner.clone().unwrap_or(node.owner);
    node.group = attributes.group.clone().unwrap_or(node.group);
    node
}

impl Cluster {
    fn world(play: &mut Play) -> &mut super::Cluster {
        play.world.cluster.as_mut().unwrap_or_else(|| unreachable!("the handle was given for it"))
    }

    /// Whether objects of this kind can be looked at.
    fn known(play: &mut Play, kind: &str) -> Result<()> {
        play.can_look(Place::Cluster, &["objects".to_owned()], false)?;
        if Self::world(play).knows(kind) {
            return Ok(());
        }
        Err(play.unsaid(format!("the cluster: objects of the kind {kind} (say `objects`)")))
    }

    pub(crate) fn name(&self) -> String {
        with(|play| Self::world(play).name.clone())
    }

    pub(crate) fn uid(&self) -> Result<String> {
        Ok("00000000-0000-0000-0000-000000000000".to_owned())
    }

    pub(crate) fn get(&self, object: &kube::ObjectRef) -> Result<Option<String>> {
        with(|play| Ok(Self::found(play, object)?.map(|object| object.to_string())))
    }

    fn found(play: &mut Play, object: &kube::ObjectRef) -> Result<Option<Value>> {
        Self::known(play, &object.kind.kind)?;
        Ok(Self::world(play).object(&object.kind.kind, object.namespace.as_deref(), &object.name).cloned())
    }

    pub(crate) fn list(&self, selector: &kube::Selector) -> Result<Vec<String>> {
        with(|play| {
            Self::known(play, &selector.kind.kind)?;
            let text = [&selector.labels, &selector.fields].map(|text| text.as_deref().unwrap_or_default());
            if text
                .iter()
                .any(|text| text.contains(['!', '(']) || text.split(',').any(|p| !p.is_empty() && !p.contains('=')))
            {
                return Err(play.unsaid(format!("the cluster: a selector that asks for more than equality: {text:?}")));
            }
            Ok(Self::world(play).select(selector).iter().map(|object| object.to_string()).collect())
        })
    }

    pub(crate) fn logs(&self, pod: &kube::ObjectRef, _: Option<&str>, _: u32) -> Result<String> {
        with(|play| Err(play.unsaid(format!("the cluster: logs of {}, which a fake one has none of", pod.name))))
    }

    /// The fields are merged into what is there. Who manages them is not known.
    pub(crate) fn apply(&self, manifest: &str, _: bool, effect: &Effect) -> Result<Verdict> {
        let wanted: Value = serde_json::from_str(manifest).map_err(|error| CallError::Invalid(error.to_string()))?;
        let kind = wanted["kind"].as_str().unwrap_or_default().to_owned();
        with(|play| {
            Self::known(play, &kind)?;
            let metadata = &wanted["metadata"];
            let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
            let before = Self::world(play).object(&kind, namespace, name).cloned();
            let call = format!("apply {kind} {name}");
            let mut after = before.unwrap_or_else(|| json!({}));
            merge(&mut after, &wanted);
            Self::put(play, call, after, effect)
        })
    }

    fn put(play: &mut Play, call: String, object: Value, effect: &Effect) -> Result<Verdict> {
        if !Self::world(play).put(object) {
            return Ok(Verdict::Unchanged);
        }
        Ok(Self::changed(play, call, effect))
    }

    fn changed(play: &mut Play, call: String, effect: &Effect) -> Verdict {
        let call = format!("{}: {call}", play.name_of(Place::Cluster));
        play.alter(Place::Cluster, effect, false, None);
        if play.is_due(Place::Cluster, call, effect, Act::Nothing) { Verdict::Changed } else { Verdict::Deferred }
    }

    pub(crate) fn patch(
        &self,
        object: &kube::ObjectRef,
        patch_type: kube::PatchType,
        patch: &str,
        subresource: Option<&str>,
        effect: &Effect,
    ) -> Result<Verdict> {
        with(|play| {
            if patch_type != kube::PatchType::Merge || subresource.is_some() {
                return Err(
                    play.unsaid(format!("the cluster: a patch of {} that is no plain merge patch", object.name))
                );
            }
            let patch: Value = serde_json::from_str(patch).map_err(|error| CallError::Invalid(error.to_string()))?;
            self.patched(play, object, &patch, effect)
        })
    }

    fn patched(&self, play: &mut Play, object: &kube::ObjectRef, patch: &Value, effect: &Effect) -> Result<Verdict> {
        let Some(mut found) = Self::found(play, object)? else {
            return Err(CallError::NotFound(format!("{} {} is not there", object.kind.kind, object.name)));
        };
        merge(&mut found, patch);
        Self::put(play, format!("patch {} {}", object.kind.kind, object.name), found, effect)
    }

    pub(crate) fn delete(
        &self,
        object: &kube::ObjectRef,
        options: &kube::DeleteOptions,
        effect: &Effect,
    ) -> Result<Verdict> {
        with(|play| {
            let Some(found) = Self::found(play, object)? else { return Ok(Verdict::Unchanged) };
            if options.uid.as_ref().is_some_and(|uid| found["metadata"]["uid"] != uid.as_str()) {
                return Err(CallError::Conflict(format!("{} is another object by now", object.name)));
            }
            Self::world(play).remove(&object.kind.kind, object.namespace.as_deref(), &object.name);
            Ok(Self::changed(play, format!("delete {} {}", object.kind.kind, object.name), effect))
        })
    }

    pub(crate) fn scale(&self, object: &kube::ObjectRef, replicas: u32, effect: &Effect) -> Result<Verdict> {
        with(|play| self.patched(play, object, &json!({ "spec": { "replicas": replicas } }), effect))
    }

    pub(crate) fn evict(&self, pod: &kube::ObjectRef, _: u32, effect: &Effect) -> Result<Verdict> {
        let options =
            kube::DeleteOptions { grace_seconds: None, propagation: kube::Propagation::Background, uid: None };
        self.delete(pod, &options, effect)
    }

    /// Looks once: nothing happens by itself in this world.
    pub(crate) fn wait(&self, object: &kube::ObjectRef, condition: &kube::Condition, _: u32) -> Result<()> {
        with(|play| {
            let found = Self::found(play, object)?;
            if holds(found.as_ref(), condition) { Ok(()) } else { Err(Self::in_vain(play, &object.name)) }
        })
    }

    pub(crate) fn wait_none(&self, selector: &kube::Selector, _: u32) -> Result<()> {
        let found = self.list(selector)?;
        with(|play| if found.is_empty() { Ok(()) } else { Err(Self::in_vain(play, &selector.kind.kind)) })
    }

    fn in_vain(play: &Play, what: &str) -> CallError {
        if play.planning && !play.changes.is_empty() {
            CallError::Unknown(format!("{what}: what is waited for has only been planned"))
        } else {
            CallError::TimedOut(format!("{what}: waited in vain; nothing happens by itself in a fake world"))
        }
    }

    pub(crate) fn observe_exec(
        &self,
        pod: &kube::ObjectRef,
        _: Option<&str>,
        argv: &[String],
    ) -> Result<kube::PodOutput> {
        with(|play| {
            play.can_look(Place::Cluster, &[], true)?;
            Self::program(play, pod, argv)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "as the WIT has it")]
    pub(crate) fn change_exec(
        &self,
        pod: &kube::ObjectRef,
        _: Option<&str>,
        argv: &[String],
        _: &[u8],
        done_when: Option<&[String]>,
        _: &kube::PodUndo,
        effect: &Effect,
    ) -> Result<kube::PodOutcome> {
        with(|play| {
            if let Some(look) = done_when
                && Self::program(play, pod, look)?.exit_code == 0
            {
                return Ok(kube::PodOutcome::Already);
            }
            let call = format!("{}: {argv:?} in {}", play.name_of(Place::Cluster), pod.name);
            if !play.is_due(Place::Cluster, call, effect, Act::Nothing) {
                return Ok(kube::PodOutcome::Deferred);
            }
            if play.planning {
                play.alter(Place::Cluster, effect, true, None);
                return Ok(kube::PodOutcome::Planned);
            }
            Self::program(play, pod, argv).map(kube::PodOutcome::Done)
        })
    }

    fn program(play: &mut Play, pod: &kube::ObjectRef, argv: &[String]) -> Result<kube::PodOutput> {
        let programs = &Self::world(play).programs;
        match programs.iter().rev().find(|(known, _)| known == argv) {
            Some((_, output)) => Ok(output.clone()),
            None => Err(play.unsaid(format!("the pod {}: the program {argv:?} (say `program`)", pod.name))),
        }
    }

    pub(crate) fn copy_in(
        &self,
        pod: &kube::ObjectRef,
        _: Option<&str>,
        _: &trees::Source,
        path: &str,
        _: &Effect,
    ) -> Result<Verdict> {
        with(|play| {
            Err(play.unsaid(format!("the pod {}: files such as {path}, which a fake one has none of", pod.name)))
        })
    }

    pub(crate) fn copy_out(&self, pod: &kube::ObjectRef, _: Option<&str>, path: &str) -> Result<Source> {
        with(|play| {
            Err(play.unsaid(format!("the pod {}: files such as {path}, which a fake one has none of", pod.name)))
        })
    }
}

fn holds(object: Option<&Value>, condition: &kube::Condition) -> bool {
    match (condition, object) {
        (kube::Condition::Absent, object) => object.is_none(),
        (_, None) => false,
        (kube::Condition::Exists, Some(_)) => true,
        (kube::Condition::Status((kind, status)), Some(object)) => {
            let conditions = object["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|c| c["type"] == kind.as_str() && c["status"] == status.as_str())
        }
        (kube::Condition::Equals((pointer, json)), Some(object)) => {
            object.pointer(pointer).is_some_and(|found| serde_json::from_str::<Value>(json).is_ok_and(|v| v == *found))
        }
        (kube::Condition::RolledOut, Some(object)) => {
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
            object["status"]["updatedReplicas"] == wanted && object["status"]["availableReplicas"] == wanted
        }
    }
}
