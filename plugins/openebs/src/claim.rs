//! A claim, and the claim that is made in its place.

use serde_json::{Map, Value, json};

use crate::json::{annotation, label, leaving, name, text};
use crate::marks;

/// Annotations that Kubernetes or a tool wrote for the old volume.
const OLD_ANNOTATIONS: [&str; 7] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-class",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// A PersistentVolumeClaim as the API server has it.
#[derive(Debug, Clone)]
pub(crate) struct Claim(pub(crate) Value);

impl Claim {
    pub(crate) fn name(&self) -> &str {
        name(&self.0)
    }

    pub(crate) fn namespace(&self) -> &str {
        text(&self.0, "/metadata/namespace")
    }

    pub(crate) fn uid(&self) -> &str {
        text(&self.0, "/metadata/uid")
    }

    /// `Bound`, `Pending` or `Lost`.
    pub(crate) fn phase(&self) -> &str {
        text(&self.0, "/status/phase")
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.phase() == "Bound"
    }

    pub(crate) fn is_leaving(&self) -> bool {
        leaving(&self.0)
    }

    /// The storage class; the annotation stood for it in old manifests.
    pub(crate) fn class(&self) -> &str {
        match text(&self.0, "/spec/storageClassName") {
            "" => annotation(&self.0, "volume.beta.kubernetes.io/storage-class").unwrap_or_default(),
            class => class,
        }
    }

    /// The volume that it is bound to, or asks for.
    pub(crate) fn volume(&self) -> &str {
        text(&self.0, "/spec/volumeName")
    }

    pub(crate) fn is_block(&self) -> bool {
        text(&self.0, "/spec/volumeMode") == "Block"
    }

    pub(crate) fn modes(&self) -> Vec<&str> {
        crate::json::items(&self.0, "/spec/accessModes").iter().filter_map(Value::as_str).collect()
    }

    /// The size that it asks for.
    pub(crate) fn size(&self) -> &str {
        text(&self.0, "/spec/resources/requests/storage")
    }

    /// The node that the scheduler chose for its first pod.
    pub(crate) fn selected_node(&self) -> Option<&str> {
        annotation(&self.0, "volume.kubernetes.io/selected-node")
    }

    /// UID of the claim that this one holds the copy for; none where it is not one of ours.
    pub(crate) fn copy_of(&self) -> Option<&str> {
        (label(&self.0, "app.kubernetes.io/managed-by") == Some("runbook")).then(|| annotation(&self.0, marks::OF))?
    }

    /// Whether its volume holds a whole copy that we made.
    pub(crate) fn is_filled(&self) -> bool {
        annotation(&self.0, marks::COPIED).is_some()
    }

    /// The claim that takes its place: the same for whoever uses it, on another class and volume.
    pub(crate) fn renewed(&self, class: &str, size: &str, volume: &str) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(self.name()));
        metadata.insert("namespace".to_owned(), json!(self.namespace()));
        let old = &self.0["metadata"];
        if let Some(labels) = old["labels"].as_object().filter(|labels| !labels.is_empty()) {
            metadata.insert("labels".to_owned(), json!(labels));
        }
        if let Some(annotations) = old["annotations"].as_object() {
            let keep = |key: &str| !OLD_ANNOTATIONS.contains(&key);
            let kept: Map<String, Value> = annotations
                .iter()
                .filter(|(key, _)| keep(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if !kept.is_empty() {
                metadata.insert("annotations".to_owned(), Value::Object(kept));
            }
        }
        if old["ownerReferences"].is_array() {
            metadata.insert("ownerReferences".to_owned(), old["ownerReferences"].clone());
        }
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata,
            "spec": {
                "accessModes": self.0["spec"]["accessModes"],
                "resources": { "requests": { "storage": size } },
                "storageClassName": class,
                "volumeMode": "Filesystem",
                "volumeName": volume,
            },
        })
    }

    /// The claim that the copy is made for; `volume` where the one to use is known already.
    pub(crate) fn for_copy(&self, class: &str, size: &str, node: &str, volume: Option<&str>) -> Value {
        let copy = marks::copy_claim(self.namespace(), self.name());
        let mut manifest = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": copy.name,
                "namespace": self.namespace(),
                "labels": { "app.kubernetes.io/managed-by": "runbook" },
                "annotations": { marks::OF: self.uid(), marks::NODE: node },
            },
            "spec": {
                "accessModes": self.0["spec"]["accessModes"],
                "resources": { "requests": { "storage": size } },
                "storageClassName": class,
                "volumeMode": "Filesystem",
            },
        });
        if let Some(volume) = volume {
            manifest["spec"]["volumeName"] = json!(volume);
        }
        manifest
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A claim as a bound one looks.
    pub(crate) fn bound(name: &str, class: &str, volume: &str) -> Claim {
        Claim(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name, "namespace": "homeslice", "uid": format!("uid-of-{name}"),
                "labels": { "app": "nginx" },
                "annotations": {
                    "pv.kubernetes.io/bind-completed": "yes",
                    "volume.kubernetes.io/selected-node": "moe",
                    "volume.beta.kubernetes.io/storage-provisioner": "microk8s.io/hostpath",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "backup": "yes",
                },
                "finalizers": ["kubernetes.io/pvc-protection"],
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "256Mi" } },
                "storageClassName": class, "volumeMode": "Filesystem", "volumeName": volume,
                "dataSource": { "kind": "VolumeSnapshot", "name": "old" },
            },
            "status": { "phase": "Bound" },
        }))
    }

    #[test]
    fn the_new_claim_keeps_what_its_users_see() {
        let new = bound("chime", "microk8s-hostpath", "pvc-1").renewed("openebs-hostpath", "256Mi", "pvc-2");
        assert_eq!(
            new,
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": "chime", "namespace": "homeslice", "labels": { "app": "nginx" }, "annotations": { "backup": "yes" },
                },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "256Mi" } },
                    "storageClassName": "openebs-hostpath", "volumeMode": "Filesystem", "volumeName": "pvc-2",
                },
            })
        );
    }

    #[test]
    fn a_claim_for_the_copy_is_known_as_ours() {
        let claim = bound("chime", "microk8s-hostpath", "pvc-1");
        let copy = Claim(claim.for_copy("openebs-hostpath", "1Gi", "moe", None));
        assert_eq!((copy.name(), copy.copy_of(), copy.volume()), ("chime-mig", Some("uid-of-chime"), ""));
        assert_eq!(claim.copy_of(), None);
        let mut forged = copy.clone();
        forged.0["metadata"]["labels"] = json!({});
        assert_eq!(forged.copy_of(), None);
    }
}
