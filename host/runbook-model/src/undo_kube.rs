//! What takes a change of a cluster back, from what was there before it and what is there now.
//!
//! Only what the change itself altered is taken back, and only where it still is as the change left it. What others changed
//! elsewhere in the same object stays. Where that cannot be said, or cannot be done, a [`Conflict`] says why.

use serde_json::{Value, json};

use crate::call::{
    Condition, DeleteOptions, FilePrior, KubeAct, KubeLook, ObjectRef, PatchType, PodUndo, Prior, SourceRef,
};
use crate::delta::comparable;
use crate::grant::holds_data;

mod fields;

pub use fields::{Field, bears};
use fields::{back, differences, ours, shape};

/// How long a pod may take to start that was made again, in milliseconds: its image may have to be pulled once more.
const STARTS_MS: u32 = 5 * 60 * 1000;

/// Why a change is not taken back.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// Others changed what the change had set.
    #[error("{object}: others changed it since: {}; set it as it should be, then tell that this is done", listed(.fields))]
    Fields {
        /// Of which object.
        object: Box<ObjectRef>,
        /// What differs.
        fields: Vec<Field>,
    },
    /// The altered object was deleted.
    #[error("{0}: it is not there any more, so its fields cannot be put back")]
    Gone(ObjectRef),
    /// The deleted object has not gone yet.
    #[error("{0}: it is still being deleted; wait until it is gone, then undo again")]
    Leaving(ObjectRef),
    /// There is another object where one was deleted.
    #[error("{object}: another one is there by now, with the UID {uid}; delete it, or keep it instead of the old one")]
    Replaced {
        /// Which.
        object: Box<ObjectRef>,
        /// Of the one that is there.
        uid: String,
    },
    /// It cannot be taken back; why, in words.
    #[error("it cannot be taken back: {0}")]
    Irreversible(String),
    /// Only a person can take it back; what to do, in words.
    #[error("only a person can take it back: {0}")]
    ByHand(String),
    /// The journal does not say what was there before.
    #[error("{0}: what was there before was not recorded")]
    Unrecorded(String),
}

fn listed(fields: &[Field]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What takes a change back; nothing where there is nothing to take back any more.
///
/// `prior` is what was recorded before the change, with the values of secrets in it. `current` is what the change was made on as
/// it is now, in the form that a prior of the same change has it in (none: absent); it does not matter for processes and files
/// in pods.
///
/// # Errors
///
/// Why it is not, or not now.
pub fn take_back(act: &KubeAct, prior: &Prior, current: Option<&Value>) -> Result<Vec<KubeAct>, Conflict> {
    match act {
        KubeAct::Apply { manifest, .. } => {
            let object = ObjectRef::of(manifest).map_err(Conflict::Unrecorded)?;
            match recorded(prior, &object)? {
                (None, would) => created(&object, manifest, would, current),
                (Some(live), would) => altered(&object, None, live, would, current),
            }
        }
        KubeAct::Patch { object, subresource, .. } => match recorded(prior, object)? {
            (None, _) => Err(Conflict::Unrecorded(object.to_string())),
            (Some(live), would) => altered(object, subresource.as_ref(), live, would, current),
        },
        KubeAct::Scale { object, .. } => match recorded(prior, object)? {
            (None, _) => Err(Conflict::Unrecorded(object.to_string())),
            (Some(live), would) => scaled(object, live, would, current),
        },
        KubeAct::Delete { object, .. } | KubeAct::Evict { pod: object, .. } => match recorded(prior, object)? {
            (None, _) => Ok(Vec::new()),
            (Some(live), _) => deleted(object, live, current),
        },
        KubeAct::Exec { pod, container, undo, .. } => match undo {
            PodUndo::Inverse(argv) => Ok(vec![KubeAct::Exec {
                pod: pod.clone(),
                container: container.clone(),
                argv: argv.clone(),
                stdin: Vec::new().into(),
                done_when: None,
                undo: PodUndo::ByHand("it took another change back".to_owned()),
            }]),
            PodUndo::Harmless => Ok(Vec::new()),
            PodUndo::Irreversible(consequence) => Err(Conflict::Irreversible(consequence.clone())),
            PodUndo::ByHand(what) => Err(Conflict::ByHand(what.clone())),
        },
        KubeAct::CopyIn { pod, container, source, path } => copied(pod, container.as_ref(), source, path, prior),
        KubeAct::PutBack { path, .. } => {
            Err(Conflict::Irreversible(format!("{path} was put back by an undo, and undos are not taken back")))
        }
    }
}

/// What is waited for when a change was taken back, before an earlier one is: a pod that ran, and was made again, has to run before
/// anything can be taken back in it.
pub fn awaited(act: &KubeAct, prior: &Prior) -> Option<KubeLook> {
    let (KubeAct::Delete { object, .. } | KubeAct::Evict { pod: object, .. }, Prior::Object { live: Some(live), .. }) =
        (act, prior)
    else {
        return None;
    };
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
    let ran = live["kind"] == "Pod" && !controlled(live) && conditions.into_iter().flatten().any(is_ready);
    ran.then(|| KubeLook::Wait {
        object: object.clone(),
        condition: Condition::Status("Ready".to_owned(), "True".to_owned()),
        timeout_ms: STARTS_MS,
    })
}

fn recorded<'a>(prior: &'a Prior, object: &ObjectRef) -> Result<(Option<&'a Value>, Option<&'a Value>), Conflict> {
    match prior {
        Prior::Object { live, would } => Ok((live.as_ref(), would.as_ref())),
        Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } | Prior::File(_) | Prior::PodFile { .. } => {
            Err(Conflict::Unrecorded(object.to_string()))
        }
    }
}

/// It was made by us: goes, as long as what we set in it is what we left.
fn created(
    object: &ObjectRef,
    manifest: &Value,
    would: Option<&Value>,
    current: Option<&Value>,
) -> Result<Vec<KubeAct>, Conflict> {
    let Some(current) = current.filter(|current| !leaving(current)) else { return Ok(Vec::new()) };
    let Some(would) = would else { return Err(Conflict::Unrecorded(object.to_string())) };
    // What the server filled in was not set by us, and is another in each dry run: ports, names of token volumes.
    let shape = shape(manifest);
    let mut fields = Vec::new();
    differences(&ours(&shape, would), &ours(&shape, current), "", &mut fields);
    if !fields.is_empty() {
        return Err(changed(object, fields));
    }
    let options = DeleteOptions { uid: text(current, "/metadata/uid").map(str::to_owned), ..DeleteOptions::default() };
    Ok(vec![KubeAct::Delete { object: object.clone(), options }])
}

/// Fields of it were altered by us: these are set as they were.
fn altered(
    object: &ObjectRef,
    subresource: Option<&String>,
    live: &Value,
    would: Option<&Value>,
    current: Option<&Value>,
) -> Result<Vec<KubeAct>, Conflict> {
    let Some(would) = would else { return Err(Conflict::Unrecorded(object.to_string())) };
    let Some(current) = current else { return Err(gone(object, would)) };
    let mut fields = Vec::new();
    let (before, left, now) = (comparable(live), comparable(would), comparable(current));
    let patch = back(Some(&before), Some(&left), Some(&now), "", &mut fields);
    if !fields.is_empty() {
        return Err(changed(object, fields));
    }
    let Some(mut patch) = patch.filter(Value::is_object) else { return Ok(Vec::new()) };
    refuse_references(object, &patch)?;
    refuse_loss(object, &patch, current)?;
    if let Some(version) = current.pointer("/metadata/resourceVersion") {
        // Whoever changes it between this look and the patch makes it a conflict.
        patch["metadata"]["resourceVersion"] = version.clone();
    }
    let subresource = subresource.cloned();
    Ok(vec![KubeAct::Patch { object: object.clone(), patch_type: PatchType::Merge, patch, subresource }])
}

fn scaled(
    object: &ObjectRef,
    live: &Value,
    would: Option<&Value>,
    current: Option<&Value>,
) -> Result<Vec<KubeAct>, Conflict> {
    const REPLICAS: &str = "/spec/replicas";
    let before = live.pointer(REPLICAS).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let left = would.and_then(|would| would.pointer(REPLICAS));
    let (Some(before), Some(left)) = (before, left) else { return Err(Conflict::Unrecorded(object.to_string())) };
    let Some(current) = current else { return Err(Conflict::Gone(object.clone())) };
    match current.pointer(REPLICAS) {
        Some(now) if *now == json!(before) => Ok(Vec::new()),
        Some(now) if now == left => Ok(vec![KubeAct::Scale { object: object.clone(), replicas: before }]),
        now => {
            let field =
                Field { pointer: REPLICAS.to_owned(), left: Some(left.clone()), now: now.cloned(), hidden: false };
            Err(Conflict::Fields { object: Box::new(object.clone()), fields: vec![field] })
        }
    }
}

/// It was deleted by us: made again, where nobody else does that and nothing was lost with it.
fn deleted(object: &ObjectRef, live: &Value, current: Option<&Value>) -> Result<Vec<KubeAct>, Conflict> {
    if controlled(live) {
        return Ok(Vec::new());
    }
    if ended(live) && current.is_none() {
        return Err(Conflict::Irreversible(format!("{object} had ended, and would run again if it were made again")));
    }
    let manifest = manifest_of(live);
    let uid = |object: &Value| text(object, "/metadata/uid").map(str::to_owned);
    match current {
        Some(current) if uid(current) == uid(live) && leaving(current) => Err(Conflict::Leaving(object.clone())),
        // It never went, or somebody made the same again.
        Some(current) if uid(current) == uid(live) || manifest_of(current) == manifest => Ok(Vec::new()),
        Some(current) => Err(Conflict::Replaced {
            object: Box::new(object.clone()),
            uid: uid(current).unwrap_or_else(|| "?".to_owned()),
        }),
        None if holds_data(&object.kind) => {
            Err(Conflict::Irreversible(format!("{object} was deleted, and what it held went with it")))
        }
        None => {
            refuse_references(object, &manifest)?;
            Ok(vec![KubeAct::Apply { manifest, force: true }])
        }
    }
}

fn copied(
    pod: &ObjectRef,
    container: Option<&String>,
    source: &SourceRef,
    path: &str,
    prior: &Prior,
) -> Result<Vec<KubeAct>, Conflict> {
    let before = match prior {
        Prior::DoneWhen(true) => return Ok(Vec::new()),
        Prior::PodFile { sha256: Some(sha256), .. } if *sha256 == source.sha256 => return Ok(Vec::new()),
        Prior::PodFile { content: Some(content), .. } => Some(content.clone()),
        Prior::PodFile { sha256: None, content: None } => None,
        Prior::PodFile { sha256: Some(_), content: None } => {
            let limit = FilePrior::KEEP >> 20;
            return Err(Conflict::Irreversible(format!(
                "{path} in {pod} had more than {limit} MiB before, which were not kept"
            )));
        }
        Prior::None | Prior::DoneWhen(false) | Prior::Process { .. } | Prior::File(_) | Prior::Object { .. } => {
            return Err(Conflict::Unrecorded(format!("{path} in {pod}")));
        }
    };
    Ok(vec![KubeAct::PutBack {
        pod: pod.clone(),
        container: container.cloned(),
        path: path.to_owned(),
        before,
        left: source.sha256.clone(),
    }])
}

/// A live object as a manifest that makes it again.
fn manifest_of(live: &Value) -> Value {
    let mut manifest = comparable(live);
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("deletionTimestamp");
        metadata.remove("deletionGracePeriodSeconds");
        if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
            // They say how a deletion goes on.
            finalizers.retain(|finalizer| finalizer != "foregroundDeletion" && finalizer != "orphan");
        }
    }
    match manifest["kind"].as_str() {
        Some("Pod") => {
            // Where it runs is the scheduler's to say.
            remove(&mut manifest, "/spec", "nodeName");
        }
        Some("Job") if manifest["spec"]["manualSelector"] != true => {
            // The server makes them from the UID, and takes no others.
            remove(&mut manifest, "/spec", "selector");
            for label in ["controller-uid", "job-name"] {
                for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
                    remove(&mut manifest, labels, label);
                    remove(&mut manifest, labels, &format!("batch.kubernetes.io/{label}"));
                }
            }
        }
        Some(_) | None => {}
    }
    manifest
}

fn remove(object: &mut Value, pointer: &str, key: &str) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        map.remove(key);
    }
}

/// A reference to a secret in what is put back would be replaced by the secret: whoever wrote it there would read it.
fn refuse_references(object: &ObjectRef, value: &Value) -> Result<(), Conflict> {
    fn holds_one(value: &Value) -> bool {
        match value {
            Value::Object(map) => {
                map.contains_key("$secret") || map.contains_key("$text") || map.values().any(holds_one)
            }
            Value::Array(items) => items.iter().any(holds_one),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    match holds_one(value) {
        true => Err(Conflict::ByHand(format!("{object} had a field `$secret` or `$text`, which is not written back"))),
        false => Ok(()),
    }
}

/// Where a volume says what becomes of it and its data when its claim is gone.
const POLICY: &str = "/spec/persistentVolumeReclaimPolicy";

/// Whether it is a volume that goes with its data when no claim holds it.
pub(crate) fn lets_go(volume: &Value) -> bool {
    volume["kind"] == "PersistentVolume" && text(volume, POLICY).is_some_and(|policy| policy != "Retain")
}

/// Why the fields of an object are not put back that is not there any more.
fn gone(object: &ObjectRef, left: &Value) -> Conflict {
    match lets_go(left) {
        true => Conflict::Irreversible(format!("{object} was let go, and its data with it")),
        false => Conflict::Gone(object.clone()),
    }
}

/// A volume that no claim holds any more would go with its data as soon as its policy says so again.
fn refuse_loss(object: &ObjectRef, patch: &Value, current: &Value) -> Result<(), Conflict> {
    let is_held = !matches!(text(current, "/status/phase"), Some("Released" | "Failed"));
    match text(patch, POLICY) {
        Some(policy) if current["kind"] == "PersistentVolume" && policy != "Retain" && !is_held => {
            Err(Conflict::Irreversible(format!(
                "no claim holds {object} any more, and with its former reclaim policy {policy} its data would be deleted"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn changed(object: &ObjectRef, mut fields: Vec<Field>) -> Conflict {
    let secret = object.kind.group.is_empty() && object.kind.kind == "Secret";
    fields.iter_mut().for_each(|field| field.hidden = secret);
    Conflict::Fields { object: Box::new(object.clone()), fields }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// Whether it is being deleted.
fn leaving(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

/// Whether a controller makes it again by itself.
fn controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["controller"] == true)
}

/// Whether it is a pod or a job that had ended: made again, it would run again.
fn ended(object: &Value) -> bool {
    match object["kind"].as_str() {
        Some("Pod") => matches!(text(object, "/status/phase"), Some("Succeeded" | "Failed")),
        Some("Job") => {
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let is_end = |c: &Value| (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True";
            conditions.into_iter().flatten().any(is_end)
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
