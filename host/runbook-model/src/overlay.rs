//! What a plan has planned so far: later observations see it, so that a plugin needs no code for plans.
//!
//! Files are kept copy-on-write, objects as the API server's dry run answered them. What a planned command alters cannot be
//! known: an observation of it is answered `unknown`, with the step that has to run first.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bytes::Bytes;
use crate::call::{
    Act, Answer, Attributes, CallError, Change, Condition, Content, Entry, FileKind, FilePrior, FileWant, FilesAct,
    FilesLook, KubeAct, KubeLook, Look, ObjectRef, PatchType, Prior, Response, SourceRef, Stat, Target,
};
use crate::delta::sha256;
use crate::facet::{self, Facet, at_or_below};

/// Key of an object that exists only in the plan.
pub(crate) const PLANNED: &str = "x-planned";

/// What the overlay knows about an observation.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// It has the answer.
    Answer(Response),
    /// It knows nothing of it: ask the world.
    Through,
    /// Ask the world, then let [`Overlay::merge`] put in what was planned.
    Merge,
}

/// The planned state of all targets.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    files: BTreeMap<(Target, String), Node>,
    objects: BTreeMap<(Target, Key), Option<Value>>,
    /// What planned commands alter, and the step that runs them.
    unknown: Vec<(Facet, String)>,
    /// What planned changes of files and objects alter, for commands that read it.
    dirty: Vec<(Facet, String)>,
}

/// Kind (with group), namespace, name. The version does not matter: it is the same object.
type Key = (String, String, Option<String>, String);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    File {
        content: Kept,
        stat: Stat,
        sha256: String,
    },
    /// `fresh`: nothing is below it but what the overlay holds.
    Directory {
        stat: Stat,
        fresh: bool,
    },
    Link {
        stat: Stat,
    },
    Absent,
}

#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Bytes(Bytes),
    Source(SourceRef),
    /// The file that lies there, with other attributes.
    Real,
}

impl Overlay {
    /// Whether nothing is planned on this target.
    pub fn is_untouched(&self, target: &Target) -> bool {
        self.pending(target).is_none()
    }

    /// The step whose planned change on this target came first.
    pub fn pending(&self, target: &Target) -> Option<&str> {
        self.unknown.iter().chain(&self.dirty).find(|(facet, _)| facet.target == *target).map(|(_, step)| step.as_str())
    }

    /// Marks all of a target as unknown until the step has run: a machine or cluster that does not exist before.
    pub fn cover(&mut self, target: &Target, step: &str) {
        self.unknown.push((Facet::all(target), step.to_owned()));
    }

    /// Answers an observation, as far as planned changes decide it.
    pub fn look(&self, target: &Target, look: &Look) -> Seen {
        let reads = facet::reads(target, look);
        let touched = |altered: &[(Facet, String)]| {
            altered
                .iter()
                .find(|(facet, _)| reads.iter().any(|read| read.overlaps(facet)))
                .map(|(_, step)| step.clone())
        };
        match look {
            Look::Files(files) => match self.file_look(target, files) {
                Seen::Through => touched(&self.unknown).map_or(Seen::Through, |step| unknown(&step)),
                seen => seen,
            },
            Look::Kube(KubeLook::Exec { pod, .. } | KubeLook::CopyOut { pod, .. } | KubeLook::Logs { pod, .. }) => {
                let planned = self.objects.contains_key(&(target.clone(), key(pod)));
                match touched(&self.unknown).or_else(|| planned.then(|| self.step_of(target))) {
                    Some(step) => unknown(&step),
                    None => Seen::Through,
                }
            }
            Look::Kube(kube) => match touched(&self.unknown) {
                Some(step) => unknown(&step),
                None => self.kube_look(target, kube),
            },
            Look::Ssh(_) => match touched(&self.unknown).or_else(|| touched(&self.dirty)) {
                Some(step) => unknown(&step),
                None => Seen::Through,
            },
        }
    }

    fn step_of(&self, target: &Target) -> String {
        self.pending(target).unwrap_or_default().to_owned()
    }

    /// What a change would meet, where planned changes decide it. `wanted` gives the SHA-256 of a content with its secrets.
    pub fn prior(
        &self,
        target: &Target,
        act: &Act,
        wanted: impl Fn(&Content) -> String,
    ) -> Option<Result<Prior, CallError>> {
        match act {
            Act::Files(act) => {
                let wanted_sha256 = match &act.want {
                    FileWant::File { content, .. } => Some(wanted(content)),
                    FileWant::Directory { .. }
                    | FileWant::Link { .. }
                    | FileWant::Absent
                    | FileWant::AbsentIfEmpty
                    | FileWant::Tree { .. } => None,
                };
                match self.node(target, &act.path) {
                    Some(Node::File { content: Kept::Real, .. }) | None => {
                        self.unknown_path(target, &act.path).map(|step| Err(unknown_error(&step)))
                    }
                    Some(Node::File { content, stat, sha256 }) => Some(Ok(Prior::File(FilePrior {
                        stat: Some(stat),
                        sha256: Some(sha256),
                        content: match content {
                            Kept::Bytes(bytes) => Some(bytes),
                            Kept::Source(_) | Kept::Real => None,
                        },
                        wanted_sha256,
                        ..FilePrior::default()
                    }))),
                    Some(Node::Directory { stat, .. } | Node::Link { stat }) => {
                        Some(Ok(Prior::File(FilePrior { stat: Some(stat), wanted_sha256, ..FilePrior::default() })))
                    }
                    Some(Node::Absent) => Some(Ok(Prior::File(FilePrior { wanted_sha256, ..FilePrior::default() }))),
                }
            }
            Act::Kube(act) => self.kube_prior(target, act),
            Act::Ssh(_) => None,
        }
    }

    fn unknown_path(&self, target: &Target, path: &str) -> Option<String> {
        let facet = Facet::path(target, path);
        self.unknown.iter().find(|(altered, _)| altered.overlaps(&facet)).map(|(_, step)| step.clone())
    }

    /// Remembers a planned change.
    pub fn record(&mut self, step: &str, target: &Target, change: &Change, prior: &Prior) {
        for part in &change.effect.alters {
            self.unknown.push((Facet::part(target, part), step.to_owned()));
        }
        match &change.act {
            Act::Ssh(_) => {
                if change.effect.alters.is_empty() {
                    self.cover(target, step);
                }
            }
            Act::Files(act) => {
                self.dirty.push((Facet::path(target, &act.path), step.to_owned()));
                let prior = match prior {
                    Prior::File(prior) => prior.clone(),
                    Prior::None
                    | Prior::DoneWhen(_)
                    | Prior::Process { .. }
                    | Prior::Object { .. }
                    | Prior::PodFile { .. } => FilePrior::default(),
                };
                self.record_file(target, act, &prior);
            }
            Act::Kube(act) => {
                self.dirty.push((Facet::part(target, "objects"), step.to_owned()));
                self.record_object(target, act, prior, step);
            }
        }
    }

    fn record_file(&mut self, target: &Target, act: &FilesAct, prior: &FilePrior) {
        let stat = |kind: FileKind, size: u64, default_mode: u32, attributes: &Attributes| Stat {
            kind,
            size,
            mode: attributes.mode.or(prior.stat.as_ref().map(|s| s.mode)).unwrap_or(default_mode),
            owner: attributes
                .owner
                .clone()
                .or_else(|| prior.stat.as_ref().map(|s| s.owner.clone()))
                .unwrap_or_else(|| "root".to_owned()),
            group: attributes
                .group
                .clone()
                .or_else(|| prior.stat.as_ref().map(|s| s.group.clone()))
                .unwrap_or_else(|| "root".to_owned()),
            link_target: None,
        };
        let existing = prior.stat.as_ref();
        let node = match &act.want {
            FileWant::File { content, attributes, .. } => {
                let same = prior.sha256.is_some() && prior.sha256 == prior.wanted_sha256;
                let (kept, size) = match content {
                    _ if same => (Kept::Real, existing.map_or(0, |s| s.size)),
                    Content::CopyOf(source) => (Kept::Source(source.clone()), source.size),
                    Content::Bytes(_) | Content::Text(_) => {
                        let bytes = crate::delta::visible(content).unwrap_or_default();
                        let size = bytes.len() as u64;
                        (Kept::Bytes(Bytes(bytes)), size)
                    }
                };
                let sha256 = prior.wanted_sha256.clone().unwrap_or_default();
                Node::File { content: kept, stat: stat(FileKind::File, size, 0o644, attributes), sha256 }
            }
            FileWant::Tree { .. } => {
                Node::Directory { stat: stat(FileKind::Directory, 0, 0o755, &Attributes::default()), fresh: false }
            }
            FileWant::Directory { attributes } => Node::Directory {
                stat: stat(FileKind::Directory, 0, 0o755, attributes),
                fresh: existing.is_none_or(|s| s.kind != FileKind::Directory)
                    || matches!(self.node(target, &act.path), Some(Node::Directory { fresh: true, .. })),
            },
            FileWant::Link { target: link } => {
                let mut stat = stat(FileKind::Link, 0, 0o777, &Attributes::default());
                stat.link_target = Some(link.clone());
                Node::Link { stat }
            }
            FileWant::Absent | FileWant::AbsentIfEmpty => {
                let below: Vec<_> =
                    self.files.keys().filter(|(t, p)| t == target && at_or_below(p, &act.path)).cloned().collect();
                for key in below {
                    self.files.remove(&key);
                }
                Node::Absent
            }
        };
        self.files.insert((target.clone(), act.path.clone()), node);
    }

    /// What the overlay holds for a path, or what follows from what it holds above it.
    fn node(&self, target: &Target, path: &str) -> Option<Node> {
        if let Some(node) = self.files.get(&(target.clone(), path.to_owned())) {
            return Some(node.clone());
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            above = parent;
            match self.files.get(&(target.clone(), above.to_owned())) {
                Some(Node::Absent | Node::Directory { fresh: true, .. } | Node::File { .. }) => {
                    return Some(Node::Absent);
                }
                Some(Node::Directory { fresh: false, .. } | Node::Link { .. }) | None => {}
            }
        }
        None
    }

    fn file_look(&self, target: &Target, look: &FilesLook) -> Seen {
        let path = look.path();
        let Some(node) = self.node(target, path) else {
            let any_below = self.files.keys().any(|(t, p)| t == target && p != path && at_or_below(p, path));
            return match look {
                FilesLook::List { .. } if any_below => Seen::Merge,
                FilesLook::Stat { .. } if any_below => Seen::Merge,
                _ => Seen::Through,
            };
        };
        let missing = || Seen::Answer(Err(CallError::NotFound(path.to_owned())));
        match (look, node) {
            (FilesLook::Stat { .. }, Node::Absent) => Seen::Answer(Ok(Answer::Stat(None))),
            (FilesLook::Stat { .. }, Node::File { stat, .. } | Node::Directory { stat, .. } | Node::Link { stat }) => {
                Seen::Answer(Ok(Answer::Stat(Some(stat))))
            }
            (FilesLook::List { .. }, Node::Directory { fresh: true, .. }) => {
                Seen::Answer(Ok(self.merge_entries(target, path, Vec::new())))
            }
            (FilesLook::List { .. }, Node::Directory { fresh: false, .. }) => Seen::Merge,
            (FilesLook::Read { limit, .. }, Node::File { content: Kept::Bytes(bytes), .. }) => {
                if bytes.0.len() as u64 > *limit {
                    Seen::Answer(Err(CallError::Invalid(format!("{path} is larger than {limit} bytes"))))
                } else {
                    Seen::Answer(Ok(Answer::Bytes(bytes)))
                }
            }
            (
                FilesLook::Read { .. } | FilesLook::Source { .. },
                Node::File { content: Kept::Bytes(_) | Kept::Source(_), .. },
            ) => unknown(&self.step_of(target)),
            (FilesLook::Sha256 { .. }, Node::File { sha256, .. }) => Seen::Answer(Ok(Answer::Text(sha256))),
            (FilesLook::Read { .. } | FilesLook::Source { .. }, Node::File { content: Kept::Real, .. }) => {
                Seen::Through
            }
            (_, Node::Link { .. }) => unknown(&self.step_of(target)),
            (_, Node::Absent) => missing(),
            (FilesLook::List { .. }, Node::File { .. }) => {
                Seen::Answer(Err(CallError::Invalid(format!("{path} is not a directory"))))
            }
            (FilesLook::Read { .. } | FilesLook::Sha256 { .. } | FilesLook::Source { .. }, Node::Directory { .. }) => {
                Seen::Answer(Err(CallError::Invalid(format!("{path} is a directory"))))
            }
        }
    }

    /// Puts what was planned into an answer of the world.
    pub fn merge(&self, target: &Target, look: &Look, response: Response) -> Response {
        match (look, response) {
            (Look::Files(FilesLook::List { path }), Ok(Answer::Entries(entries))) => {
                Ok(self.merge_entries(target, path, entries))
            }
            // A directory that is only planned through what lies in it: its parents are made with it.
            (Look::Files(FilesLook::List { path }), Err(CallError::NotFound(_))) => {
                Ok(self.merge_entries(target, path, Vec::new()))
            }
            (Look::Files(FilesLook::Stat { .. }), Ok(Answer::Stat(None))) => Ok(Answer::Stat(Some(Stat {
                kind: FileKind::Directory,
                size: 0,
                mode: 0o755,
                owner: "root".to_owned(),
                group: "root".to_owned(),
                link_target: None,
            }))),
            (Look::Kube(KubeLook::List { selector }), Ok(Answer::Objects(objects))) => {
                let planned = self.objects.iter().filter(|((t, key), _)| {
                    t == target
                        && key.0 == selector.kind.kind
                        && key.1 == selector.kind.group
                        && (selector.namespace.is_none() || key.2 == selector.namespace)
                });
                let mut merged: BTreeMap<Key, Value> = objects
                    .into_iter()
                    .filter_map(|object| ObjectRef::of(&object).ok().map(|r| (key(&r), object)))
                    .collect();
                for ((_, key), object) in planned {
                    match object {
                        // Whether a new object matches the selectors is the API server's to say.
                        Some(_)
                            if (selector.labels.is_some() || selector.fields.is_some())
                                && !merged.contains_key(key) =>
                        {
                            return Err(unknown_error(&self.step_of(target)));
                        }
                        Some(object) => {
                            merged.insert(key.clone(), object.clone());
                        }
                        None => {
                            merged.remove(key);
                        }
                    }
                }
                Ok(Answer::Objects(merged.into_values().collect()))
            }
            (_, response) => response,
        }
    }

    fn merge_entries(&self, target: &Target, path: &str, entries: Vec<Entry>) -> Answer {
        let mut merged: BTreeMap<String, Stat> = entries.into_iter().map(|entry| (entry.name, entry.stat)).collect();
        let prefix = format!("{}/", path.trim_end_matches('/'));
        for ((t, p), node) in &self.files {
            let Some(name) = p.strip_prefix(&prefix).filter(|name| t == target && !name.contains('/')) else {
                continue;
            };
            match node {
                Node::File { stat, .. } | Node::Directory { stat, .. } | Node::Link { stat } => {
                    merged.insert(name.to_owned(), stat.clone());
                }
                Node::Absent => {
                    merged.remove(name);
                }
            }
        }
        Answer::Entries(merged.into_iter().map(|(name, stat)| Entry { name, stat }).collect())
    }

    fn kube_look(&self, target: &Target, look: &KubeLook) -> Seen {
        let planned = |object: &ObjectRef| self.objects.get(&(target.clone(), key(object)));
        match look {
            KubeLook::Get { object } => match planned(object) {
                Some(value) => Seen::Answer(Ok(Answer::Object(value.clone()))),
                None => match self.pending_namespace(target, object.namespace.as_deref()) {
                    true => Seen::Answer(Ok(Answer::Object(None))),
                    false => Seen::Through,
                },
            },
            KubeLook::List { .. } => Seen::Merge,
            KubeLook::Wait { object, condition, .. } => match (planned(object), condition) {
                (None, _) => Seen::Through,
                (Some(Some(_)), Condition::Exists) | (Some(None), Condition::Absent) => Seen::Answer(Ok(Answer::Unit)),
                (Some(Some(value)), Condition::Equals(pointer, wanted)) if value.pointer(pointer) == Some(wanted) => {
                    Seen::Answer(Ok(Answer::Unit))
                }
                (Some(_), _) => unknown(&self.step_of(target)),
            },
            KubeLook::WaitNone { .. } if self.objects.keys().any(|(t, _)| t == target) => {
                unknown(&self.step_of(target))
            }
            KubeLook::WaitNone { .. }
            | KubeLook::Uid
            | KubeLook::Logs { .. }
            | KubeLook::Exec { .. }
            | KubeLook::CopyOut { .. } => Seen::Through,
        }
    }

    /// Whether the namespace exists only in the plan.
    fn pending_namespace(&self, target: &Target, namespace: Option<&str>) -> bool {
        namespace.is_some_and(|name| {
            let key = ("Namespace".to_owned(), String::new(), None, name.to_owned());
            // A live namespace that was only altered has a UID.
            matches!(self.objects.get(&(target.clone(), key)),
                Some(Some(value)) if value.get(PLANNED).is_some())
        })
    }

    fn kube_prior(&self, target: &Target, act: &KubeAct) -> Option<Result<Prior, CallError>> {
        let object = match act {
            KubeAct::Apply { manifest, .. } => match ObjectRef::of(manifest) {
                Ok(object) => object,
                Err(message) => return Some(Err(CallError::Invalid(message))),
            },
            KubeAct::Patch { object, .. } | KubeAct::Delete { object, .. } | KubeAct::Scale { object, .. } => {
                object.clone()
            }
            KubeAct::Evict { pod, .. }
            | KubeAct::Exec { pod, .. }
            | KubeAct::CopyIn { pod, .. }
            | KubeAct::PutBack { pod, .. } => {
                let planned = self.objects.contains_key(&(target.clone(), key(pod)));
                return planned.then(|| Ok(Prior::None));
            }
        };
        if let Some((_, step)) = self.unknown.iter().find(|(f, _)| f.overlaps(&Facet::part(target, "objects"))) {
            return Some(Err(unknown_error(step)));
        }
        let live = match self.objects.get(&(target.clone(), key(&object))) {
            Some(live) => live.clone(),
            None if self.pending_namespace(target, object.namespace.as_deref()) => None,
            None => return None,
        };
        let would = match (act, live.clone()) {
            (KubeAct::Apply { manifest, .. }, None) => Some(planned_object(manifest)),
            (KubeAct::Apply { manifest, .. }, Some(mut live)) => {
                merge_patch(&mut live, manifest);
                Some(live)
            }
            (KubeAct::Delete { .. }, _) => None,
            (_, None) => return Some(Err(CallError::NotFound(object.to_string()))),
            (KubeAct::Scale { replicas, .. }, Some(mut live)) => {
                live["spec"]["replicas"] = Value::from(*replicas);
                Some(live)
            }
            (KubeAct::Patch { patch, patch_type: PatchType::Merge | PatchType::Strategic, .. }, Some(mut live)) => {
                merge_patch(&mut live, patch);
                Some(live)
            }
            (KubeAct::Patch { patch_type: PatchType::JsonPatch, .. }, Some(_)) => {
                return Some(Err(unknown_error(&self.step_of(target))));
            }
            (
                KubeAct::Evict { .. } | KubeAct::Exec { .. } | KubeAct::CopyIn { .. } | KubeAct::PutBack { .. },
                Some(live),
            ) => Some(live),
        };
        Some(Ok(Prior::Object { live, would }))
    }

    fn record_object(&mut self, target: &Target, act: &KubeAct, prior: &Prior, step: &str) {
        let (object, would) = match (act, prior) {
            (KubeAct::Apply { manifest, .. }, prior) => {
                let Ok(object) = ObjectRef::of(manifest) else { return };
                let would = match prior {
                    Prior::Object { live: Some(_), would: Some(would) } => would.clone(),
                    Prior::Object { live: None, would: Some(would) } => planned_object(would),
                    _ => planned_object(manifest),
                };
                (object, Some(would))
            }
            (KubeAct::Delete { object, .. }, _) => (object.clone(), None),
            (KubeAct::Evict { pod, .. }, _) => (pod.clone(), None),
            (KubeAct::Patch { object, .. } | KubeAct::Scale { object, .. }, Prior::Object { would, .. }) => {
                (object.clone(), would.clone())
            }
            (KubeAct::Exec { pod, .. } | KubeAct::CopyIn { pod, .. } | KubeAct::PutBack { pod, .. }, _) => {
                let namespace = pod.namespace.as_deref().unwrap_or_default();
                self.unknown.push((Facet::part(target, format!("pod:{namespace}/{}", pod.name)), step.to_owned()));
                return;
            }
            (KubeAct::Patch { .. } | KubeAct::Scale { .. }, _) => return,
        };
        self.objects.insert((target.clone(), key(&object)), would);
    }
}

/// An object that exists only in the plan, marked as such.
fn planned_object(manifest: &Value) -> Value {
    let mut object = manifest.clone();
    if let Some(map) = object.as_object_mut() {
        map.insert(PLANNED.to_owned(), Value::Bool(true));
    }
    object
}

fn key(object: &ObjectRef) -> Key {
    (object.kind.kind.clone(), object.kind.group.clone(), object.namespace.clone(), object.name.clone())
}

fn unknown_error(step: &str) -> CallError {
    CallError::Unknown(format!("cannot be looked at before {step}"))
}

fn unknown(step: &str) -> Seen {
    Seen::Answer(Err(unknown_error(step)))
}

/// RFC 7386.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Some(map) = target.as_object_mut() {
        for (key, value) in patch {
            if value.is_null() {
                map.remove(key);
            } else {
                merge_patch(map.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// The hash of a content that holds no secret.
pub fn plain_sha256(content: &Content) -> String {
    match content {
        Content::CopyOf(source) => source.sha256.clone(),
        Content::Bytes(_) | Content::Text(_) => sha256(&crate::delta::visible(content).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
