//! A small API server: objects of any kind, with what plugins notice of how a real one keeps them.
//!
//! It keeps UIDs, versions and generations, who manages which field (so that a server-side apply conflicts where it would), owner references
//! and finalizers, and it plays the controllers ([`controllers`], [`work`], [`storage`]). It serves the usual kinds, those of its objects
//! and those that it is told of; any other is an error, not an absence. It knows no schema: it neither defaults nor checks fields.

mod calls;
mod controllers;
mod merge;
mod pods;
mod storage;
mod work;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_model::call::{CallError, ObjectRef, ResourceKind, Selector};
use serde_json::{Value, json};

use crate::machine::{Machine, Program};
use crate::tree::Tree;

/// Kind, group, namespace (empty: none), name.
pub(crate) type Key = [String; 4];

/// Kinds that belong to no namespace.
const CLUSTER_WIDE: [&str; 12] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "StorageClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "CSIDriver",
    "CSINode",
    "VolumeAttachment",
    "IngressClass",
];

/// Kinds that every cluster serves: group and kind.
const USUAL: [(&str, &str); 27] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "Pod"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("", "Event"),
    ("", "Endpoints"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "ReplicationController"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("networking.k8s.io", "Ingress"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
];

/// How UIDs begin that are given here.
const UID: &str = "uid-";

/// Whether a text is a UID that was given here.
pub(crate) fn is_uid(text: &str) -> bool {
    text.strip_prefix(UID).is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Who manages the fields of objects that were there from the beginning.
const SOMEBODY: &str = "somebody-else";

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    /// UID of the kube-system namespace.
    pub uid: String,
    objects: BTreeMap<Key, Object>,
    /// Gives UIDs and versions.
    counter: u64,
    served: BTreeSet<(String, String)>,
    /// Programs in pods; `{pod}` is not taken by patterns: the values of a pod are its own.
    pub programs: Vec<Arc<dyn Program>>,
    /// What is in the pods that something was done in, by `namespace/name`; volumes left out.
    pub pods: BTreeMap<String, Machine>,
    /// What is in volumes, by the name of the volume, or `namespace/name` of the claim where no volume is described: it outlives the pods
    /// that have it mounted.
    pub volumes: BTreeMap<String, Tree>,
    /// What was to run by itself that nobody described.
    pub(crate) gaps: BTreeSet<String>,
}

/// An object, and who manages its fields.
#[derive(Debug, Clone)]
struct Object {
    live: Value,
    owners: BTreeMap<String, BTreeSet<Vec<String>>>,
}

impl Default for Cluster {
    fn default() -> Self {
        let mut cluster = Self {
            uid: "uid-kube-system".to_owned(),
            objects: BTreeMap::new(),
            counter: 0,
            served: USUAL.iter().map(|(group, kind)| ((*group).to_owned(), (*kind).to_owned())).collect(),
            programs: Vec::new(),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            gaps: BTreeSet::new(),
        };
        for name in ["default", "kube-system"] {
            let _ = cluster.add(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        cluster
    }
}

fn key(object: &ObjectRef) -> Key {
    let ObjectRef { kind, namespace, name } = object;
    [kind.kind.clone(), kind.group.clone(), namespace.clone().unwrap_or_default(), name.clone()]
}

impl Cluster {
    /// Takes an object in that was there from the beginning. Its namespace is made where it is missing.
    ///
    /// # Errors
    ///
    /// What is missing in it, in words.
    pub fn add(&mut self, object: Value) -> Result<(), String> {
        self.admit(object)?;
        self.reconcile();
        Ok(())
    }

    /// As [`Cluster::add`], and no controller does anything about it before [`Cluster::begin`].
    pub(crate) fn admit(&mut self, object: Value) -> Result<(), String> {
        let name = ObjectRef::of(&object)?;
        self.serve(&name.kind.group, &name.kind.kind);
        if let Some(namespace) = &name.namespace
            && !self.objects.contains_key(&namespace_key(namespace))
        {
            self.admit(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))?;
        }
        let owned = merge::leaves(&object);
        let live = self.stamped(object);
        self.objects.insert(key(&name), Object { live, owners: [(SOMEBODY.to_owned(), owned)].into() });
        Ok(())
    }

    /// The controllers begin.
    pub(crate) fn begin(&mut self) {
        self.reconcile();
    }

    /// Serves a kind besides the usual ones.
    pub fn serve(&mut self, group: &str, kind: &str) {
        self.served.insert((group.to_owned(), kind.to_owned()));
    }

    /// All objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().map(|(key, object)| (key, &object.live))
    }

    /// Whose UID each is.
    pub(crate) fn names_of_uids(&self) -> BTreeMap<&str, String> {
        let named = self.objects.iter().filter_map(|([kind, _, namespace, name], object)| {
            Some((object.live["metadata"]["uid"].as_str()?, format!("the UID of {kind} {namespace}/{name}")))
        });
        named.collect()
    }

    pub(crate) fn object(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|object| &object.live)
    }

    /// Puts an object there, or takes it away, as somebody else would.
    pub(crate) fn set(&mut self, key: &Key, object: Option<Value>) {
        match object {
            Some(mut live) => {
                let version = self.next();
                live["metadata"]["resourceVersion"] = json!(version.to_string());
                let owners = self.objects.get(key).map(|object| object.owners.clone()).unwrap_or_default();
                self.objects.insert(key.clone(), Object { live, owners });
            }
            None => drop(self.objects.remove(key)),
        }
        self.reconcile();
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A new object, with what the server gives it.
    fn stamped(&mut self, mut object: Value) -> Value {
        let number = self.next();
        let metadata = &mut object["metadata"];
        for (name, value) in [
            ("uid", json!(format!("{UID}{number}"))),
            ("resourceVersion", json!(number.to_string())),
            ("generation", json!(1)),
            ("creationTimestamp", json!("2026-01-01T00:00:00Z")),
        ] {
            if metadata[name].is_null() {
                metadata[name] = value;
            }
        }
        object
    }

    /// Whether a kind is served, and the object is named as such objects are.
    fn check(&self, object: &ObjectRef) -> Result<(), CallError> {
        self.check_kind(&object.kind)?;
        let wide = CLUSTER_WIDE.contains(&object.kind.kind.as_str());
        match &object.namespace {
            Some(_) if wide => Err(CallError::Invalid(format!(
                "a {} belongs to no namespace: leave the namespace out",
                object.kind.kind
            ))),
            None if !wide => Err(CallError::Invalid(format!("{object} needs a namespace: none is assumed"))),
            Some(_) | None => Ok(()),
        }
    }

    fn check_kind(&self, kind: &ResourceKind) -> Result<(), CallError> {
        if self.served.contains(&(kind.group.clone(), kind.kind.clone())) {
            return Ok(());
        }
        Err(CallError::NotFound(format!("the cluster does not serve the kind {} of {:?}", kind.kind, kind.group)))
    }

    fn get(&self, object: &ObjectRef) -> Result<Option<&Value>, CallError> {
        self.check(object)?;
        Ok(self.object(&key(object)))
    }

    fn list(&self, selector: &Selector) -> Result<Vec<Value>, CallError> {
        self.check_kind(&selector.kind)?;
        let of_kind = self.objects.iter().filter(|([kind, group, namespace, _], _)| {
            *kind == selector.kind.kind
                && *group == selector.kind.group
                && selector.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
        });
        let mut found = Vec::new();
        for (_, Object { live, .. }) in of_kind {
            if selected(live, selector)? {
                found.push(live.clone());
            }
        }
        Ok(found)
    }
}

fn namespace_key(namespace: &str) -> Key {
    ["Namespace".to_owned(), String::new(), String::new(), namespace.to_owned()]
}

/// Whether an object matches labels and fields.
fn selected(live: &Value, selector: &Selector) -> Result<bool, CallError> {
    let labels = selector.labels.as_deref().map(terms).transpose()?.unwrap_or_default();
    let fields = selector.fields.as_deref().map(terms).transpose()?.unwrap_or_default();
    let label = |name: &str| live["metadata"]["labels"][name].as_str();
    let field = |path: &str| live.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
    let holds = |is: Option<&str>, (_, wanted): &(String, Term)| match wanted {
        Term::There => is.is_some(),
        Term::Is(text) => is.unwrap_or_default() == text,
        Term::IsNot(text) => is.unwrap_or_default() != text,
        Term::In(texts) => is.is_some_and(|is| texts.iter().any(|text| text == is)),
    };
    Ok(labels.iter().all(|term| holds(label(&term.0), term)) && fields.iter().all(|term| holds(field(&term.0), term)))
}

enum Term {
    There,
    Is(String),
    IsNot(String),
    In(Vec<String>),
}

/// `a=b,c!=d,e,f in (g,h)`.
fn terms(selector: &str) -> Result<Vec<(String, Term)>, CallError> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&selector[start..]);
    let term = |part: &str| {
        let part = part.trim();
        let pair = |(name, value): (&str, &str)| (name.trim().to_owned(), value.trim().to_owned());
        if let Some((name, value)) = part.split_once("!=").map(pair) {
            return Ok((name, Term::IsNot(value)));
        }
        if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')).map(pair) {
            return Ok((name, Term::Is(value)));
        }
        if let Some((name, values)) = part.split_once(" in ").map(pair) {
            let values = values.trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned());
            return Ok((name, Term::In(values.collect())));
        }
        match part.contains([' ', '!']) {
            true => Err(CallError::Invalid(format!("the selector {selector:?} is not understood here"))),
            false => Ok((part.to_owned(), Term::There)),
        }
    };
    parts.into_iter().filter(|part| !part.trim().is_empty()).map(term).collect()
}

#[cfg(test)]
mod tests;
