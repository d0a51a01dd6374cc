//! The cluster that a step acts on.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::runbook::base::types::CallError;
use crate::bindings::runbook::kube::clusters as raw;
use crate::effect::{Effect, effect_methods};
use crate::pod::Exec;
use crate::{Condition, Error, ObjectRef, Period, Propagation, Result, Selector, Source, Verdict, world};

/// The cluster that the step named.
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// # fn f() -> Result<()> {
/// let cluster = Cluster::target()?;
/// let plex = ObjectRef::new("Deployment", "plex").namespace("media");
/// let Some(live) = cluster.get::<Value>(&plex)? else { fail!("{plex} is not there") };
/// let before = run::baseline("replicas", &live["spec"]["replicas"])?;
/// cluster.scale(&plex, 0).summary("stop plex").run()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Cluster(world::Cluster);

impl Cluster {
    /// The cluster that the step named.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where it named none.
    pub fn target() -> Result<Self> {
        Self::optional().ok_or_else(|| Error::invalid("the step names no cluster: add `cluster = \"NAME\"` to it"))
    }

    /// The cluster that the step named, if it named one.
    pub fn optional() -> Option<Self> {
        world::target().map(Self)
    }

    /// Its name in the inventory.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// UID of the kube-system namespace: the cluster's identity.
    ///
    /// # Errors
    ///
    /// Where it cannot be reached.
    pub fn uid(&self) -> Result<String> {
        Ok(self.0.uid()?)
    }

    /// One object; none only where an authenticated API server answered that it is not there.
    ///
    /// # Errors
    ///
    /// Where that cannot be known, or it is not of the type.
    pub fn get<T: DeserializeOwned>(&self, object: &ObjectRef) -> Result<Option<T>> {
        let Some(json) = self.0.get(&object.to_wit())? else { return Ok(None) };
        let read =
            serde_json::from_str(&json).map_err(|e| Error::failed(format!("{object} is not as expected: {e}")))?;
        Ok(Some(read))
    }

    /// The objects that match.
    ///
    /// # Errors
    ///
    /// Where they cannot be known, or are not of the type.
    pub fn list<T: DeserializeOwned>(&self, selector: &Selector) -> Result<Vec<T>> {
        self.0.list(&selector.to_wit())?.iter().map(|json| Ok(serde_json::from_str(json)?)).collect()
    }

    /// The last lines of a container's log; `container` may be left out where the pod has one.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn logs(&self, pod: &ObjectRef, container: Option<&str>, lines: u32) -> Result<String> {
        Ok(self.0.logs(&pod.to_wit(), container, lines)?)
    }

    /// Waits until a condition holds. In a plan it looks once.
    ///
    /// # Errors
    ///
    /// [`Kind::TimedOut`](crate::Kind::TimedOut), with what the object's conditions and last events say.
    pub fn wait(&self, object: &ObjectRef, condition: &Condition, timeout: Period) -> Result<()> {
        Ok(self.0.wait(&object.to_wit(), &condition.to_wit(), timeout.millis())?)
    }

    /// Waits until nothing matches.
    ///
    /// # Errors
    ///
    /// [`Kind::TimedOut`](crate::Kind::TimedOut), with what is still there.
    pub fn wait_none(&self, selector: &Selector, timeout: Period) -> Result<()> {
        Ok(self.0.wait_none(&selector.to_wit(), timeout.millis())?)
    }

    /// Server-side apply of the fields that an object is to have, under the step's own field manager.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where it is not an object of Kubernetes.
    pub fn apply(&self, manifest: &impl Serialize) -> Result<KubeChange<'_>> {
        let manifest = serde_json::to_value(manifest)?;
        let object = ObjectRef::of(&manifest)?;
        Ok(self.change(format!("apply {object}"), Act::Apply { manifest: manifest.to_string(), force: false }))
    }

    /// A JSON merge patch (RFC 7386).
    pub fn patch_merge(&self, object: &ObjectRef, patch: &Value) -> KubeChange<'_> {
        self.patch(object, raw::PatchType::Merge, patch)
    }

    /// Kubernetes' strategic merge patch.
    pub fn patch_strategic(&self, object: &ObjectRef, patch: &Value) -> KubeChange<'_> {
        self.patch(object, raw::PatchType::Strategic, patch)
    }

    /// A JSON patch (RFC 6902): a list of operations. `test` operations make it a conflict where the object is not as assumed.
    pub fn patch_json(&self, object: &ObjectRef, patch: &Value) -> KubeChange<'_> {
        self.patch(object, raw::PatchType::JsonPatch, patch)
    }

    fn patch(&self, object: &ObjectRef, patch_type: raw::PatchType, patch: &Value) -> KubeChange<'_> {
        let act = Act::Patch { object: object.clone(), patch_type, patch: patch.to_string(), subresource: None };
        self.change(format!("patch {object}"), act)
    }

    /// Deletes an object; unchanged where it is absent already. Its dependents go later.
    pub fn delete(&self, object: &ObjectRef) -> KubeChange<'_> {
        let options = raw::DeleteOptions { grace_seconds: None, propagation: Propagation::Background, uid: None };
        self.change(format!("delete {object}"), Act::Delete { object: object.clone(), options })
    }

    /// Sets the number of replicas.
    pub fn scale(&self, object: &ObjectRef, replicas: u32) -> KubeChange<'_> {
        self.change(format!("scale {object} to {replicas}"), Act::Scale { object: object.clone(), replicas })
    }

    /// Evicts a pod; waits out disruption budgets for at most `timeout`.
    pub fn evict(&self, pod: &ObjectRef, timeout: Period) -> KubeChange<'_> {
        self.change(format!("evict {pod}"), Act::Evict { pod: pod.clone(), timeout })
    }

    /// Copies a source to a path in a pod's container, checked by SHA-256 at both ends. Unchanged where it is there already.
    pub fn copy_in<'a>(
        &'a self,
        source: &'a Source,
        pod: &ObjectRef,
        container: Option<&str>,
        path: &str,
    ) -> KubeChange<'a> {
        let act =
            Act::CopyIn { pod: pod.clone(), container: container.map(str::to_owned), source, path: path.to_owned() };
        self.change(format!("copy {path} into {pod}"), act)
    }

    /// Copies a file of a pod's container to the run's artifacts on the controller.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn copy_out(&self, pod: &ObjectRef, container: Option<&str>, path: &str) -> Result<Source> {
        Ok(Source::of(self.0.copy_out(&pod.to_wit(), container, path)?))
    }

    /// A program in a pod: program and arguments. Nothing runs yet.
    pub fn exec(&self, pod: &ObjectRef, argv: impl IntoIterator<Item = impl Into<String>>) -> Exec<'_> {
        Exec {
            cluster: &self.0,
            pod: pod.clone(),
            container: None,
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
        }
    }

    fn change<'a>(&'a self, summary: String, act: Act<'a>) -> KubeChange<'a> {
        KubeChange { cluster: self, act, effect: Effect::new(summary) }
    }
}

enum Act<'a> {
    Apply { manifest: String, force: bool },
    Patch { object: ObjectRef, patch_type: raw::PatchType, patch: String, subresource: Option<String> },
    Delete { object: ObjectRef, options: raw::DeleteOptions },
    Scale { object: ObjectRef, replicas: u32 },
    Evict { pod: ObjectRef, timeout: Period },
    CopyIn { pod: ObjectRef, container: Option<String>, source: &'a Source, path: String },
}

/// A change of a cluster's state, made by the functions of [`Cluster`].
#[must_use = "a change does nothing until `run`"]
pub struct KubeChange<'a> {
    cluster: &'a Cluster,
    act: Act<'a>,
    effect: Effect,
}

impl KubeChange<'_> {
    /// What it is for, short and imperative, instead of the words that the object makes.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.effect.set_summary(summary);
        self
    }

    /// For an apply: takes over fields that others manage, where `yes`. Left out: these are a conflict.
    pub fn force(mut self, yes: bool) -> Self {
        if let Act::Apply { force, .. } = &mut self.act {
            *force = yes;
        }
        self
    }

    /// For a patch: of this subresource ("status", "scale").
    pub fn subresource(mut self, name: impl Into<String>) -> Self {
        if let Act::Patch { subresource, .. } = &mut self.act {
            *subresource = Some(name.into());
        }
        self
    }

    /// For a deletion: only the object with this UID, so that a newer one of the same name is left.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        if let Act::Delete { options, .. } = &mut self.act {
            options.uid = Some(uid.into());
        }
        self
    }

    /// For a deletion: seconds that its processes are given.
    pub fn grace(mut self, seconds: u32) -> Self {
        if let Act::Delete { options, .. } = &mut self.act {
            options.grace_seconds = Some(seconds);
        }
        self
    }

    /// For a deletion: what becomes of its dependents.
    pub fn dependents(mut self, propagation: Propagation) -> Self {
        if let Act::Delete { options, .. } = &mut self.act {
            options.propagation = propagation;
        }
        self
    }

    effect_methods!();

    /// Makes it so, or plans it.
    ///
    /// # Errors
    ///
    /// [`Kind::Conflict`](crate::Kind::Conflict) where somebody else manages a field, or the object is another by now; what else
    /// the API server says.
    pub fn run(self) -> Result<Verdict> {
        let Self { cluster: Cluster(cluster), act, effect } = self;
        let effect = effect.to_wit();
        let verdict: Result<Verdict, CallError> = match act {
            Act::Apply { manifest, force } => cluster.apply(&manifest, force, effect),
            Act::Patch { object, patch_type, patch, subresource } => {
                cluster.patch(&object.to_wit(), patch_type, &patch, subresource.as_deref(), effect)
            }
            Act::Delete { object, options } => cluster.delete(&object.to_wit(), &options, effect),
            Act::Scale { object, replicas } => cluster.scale(&object.to_wit(), replicas, effect),
            Act::Evict { pod, timeout } => cluster.evict(&pod.to_wit(), timeout.millis(), effect),
            Act::CopyIn { pod, container, source, path } => {
                cluster.copy_in(&pod.to_wit(), container.as_deref(), source.raw(), &path, effect)
            }
        };
        Ok(verdict?)
    }
}
