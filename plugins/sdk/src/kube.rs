//! How Kubernetes objects are named, chosen and waited for.

use std::fmt;

use serde_json::Value;

use crate::bindings::runbook::kube::clusters as raw;
use crate::{Error, Result};

pub use raw::Propagation;

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceKind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version; empty: the newest that the cluster serves.
    pub version: String,
    /// Such as "Deployment".
    pub kind: String,
}

/// Kinds that everybody names without their group.
const WELL_KNOWN: [(&str, &[&str]); 8] = [
    ("apps", &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ControllerRevision"]),
    ("batch", &["Job", "CronJob"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("storage.k8s.io", &["StorageClass", "VolumeAttachment", "CSIDriver", "CSINode"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]),
    ("policy", &["PodDisruptionBudget"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
];

impl ResourceKind {
    /// From `apiVersion` and `kind`, as a manifest has them: `("apps/v1", "Deployment")`, `("v1", "Pod")`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// From `KIND` or `KIND.GROUP`, as inputs have it; the newest version that the cluster serves. The group of Kubernetes' own
    /// kinds may be left out.
    pub fn named(text: &str) -> Self {
        let (kind, group) = text.split_once('.').unwrap_or_else(|| {
            let group = WELL_KNOWN.iter().find(|(_, kinds)| kinds.contains(&text)).map_or("", |(group, _)| group);
            (text, group)
        });
        Self { group: group.to_owned(), version: String::new(), kind: kind.to_owned() }
    }

    fn to_wit(&self) -> raw::ResourceKind {
        raw::ResourceKind { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }
}

impl From<&str> for ResourceKind {
    fn from(text: &str) -> Self {
        Self::named(text)
    }
}

/// As [`ResourceKind::named`] reads it.
impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// One object.
///
/// ```
/// # use runbook_sdk::ObjectRef;
/// let claim = ObjectRef::new("PersistentVolumeClaim", "data").namespace("media");
/// assert_eq!(claim.to_string(), "PersistentVolumeClaim media/data");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its namespace; none for kinds that have none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// An object without namespace: of a kind such as "Deployment", "Certificate.cert-manager.io" or a [`ResourceKind`].
    pub fn new(kind: impl Into<ResourceKind>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: None, name: name.into() }
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// In this namespace, where there is one.
    #[must_use]
    pub fn maybe_namespace(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(str::to_owned);
        self
    }

    /// Reads it from an object: `apiVersion`, `kind`, `metadata`.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid), with what is missing.
    pub fn of(object: &Value) -> Result<Self> {
        let text = |pointer: &str, what: &str| {
            let found = object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
            found.ok_or_else(|| Error::invalid(format!("the manifest has no {what}")))
        };
        Ok(Self {
            kind: ResourceKind::new(text("/apiVersion", "apiVersion")?, text("/kind", "kind")?),
            namespace: text("/metadata/namespace", "namespace").ok().map(str::to_owned),
            name: text("/metadata/name", "metadata.name")?.to_owned(),
        })
    }

    pub(crate) fn to_wit(&self) -> raw::ObjectRef {
        raw::ObjectRef { kind: self.kind.to_wit(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// For people: "Deployment media/plex", "Node n1".
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
            None => write!(f, "{} {}", self.kind.kind, self.name),
        }
    }
}

/// Some objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    kind: ResourceKind,
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
}

impl Selector {
    /// All objects of a kind, in all namespaces.
    pub fn new(kind: impl Into<ResourceKind>) -> Self {
        Self { kind: kind.into(), namespace: None, labels: None, fields: None }
    }

    /// Only in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only with these labels, as kubectl takes them: `app=plex,tier!=test`.
    #[must_use]
    pub fn labels(mut self, labels: impl Into<String>) -> Self {
        self.labels = Some(labels.into());
        self
    }

    /// Only with these fields, as kubectl takes them: `spec.nodeName=n1`.
    #[must_use]
    pub fn fields(mut self, fields: impl Into<String>) -> Self {
        self.fields = Some(fields.into());
        self
    }

    pub(crate) fn to_wit(&self) -> raw::Selector {
        raw::Selector {
            kind: self.kind.to_wit(),
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The object is there.
    Exists,
    /// The object is gone.
    Absent,
    /// The condition of this type has this status: `("Ready", "True")`.
    Status(String, String),
    /// A JSON pointer (`/status/phase`) has this value.
    Equals(String, Value),
    /// All replicas of this generation are updated and available.
    RolledOut,
}

impl Condition {
    pub(crate) fn to_wit(&self) -> raw::Condition {
        match self {
            Self::Exists => raw::Condition::Exists,
            Self::Absent => raw::Condition::Absent,
            Self::Status(kind, status) => raw::Condition::Status((kind.clone(), status.clone())),
            Self::Equals(pointer, value) => raw::Condition::Equals((pointer.clone(), value.to_string())),
            Self::RolledOut => raw::Condition::RolledOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_read() {
        assert_eq!(ResourceKind::named("Deployment").group, "apps");
        assert_eq!(ResourceKind::named("Pod").group, "");
        assert_eq!(ResourceKind::named("Certificate.cert-manager.io").to_string(), "Certificate.cert-manager.io");
        let deployment = ResourceKind::new("apps/v1", "Deployment");
        assert_eq!((deployment.group.as_str(), deployment.version.as_str()), ("apps", "v1"));
        assert_eq!(ResourceKind::new("v1", "Pod").version, "v1");
    }

    #[test]
    fn a_manifest_says_what_it_lacks() {
        let object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "b" } });
        assert_eq!(ObjectRef::of(&object).unwrap().to_string(), "Pod b/a");
        let error = ObjectRef::of(&json!({ "apiVersion": "v1", "kind": "Pod" })).unwrap_err();
        assert_eq!(error.message(), "the manifest has no metadata.name");
    }
}
