//! A volume.

use serde_json::{Value, json};

use crate::json::{annotation, leaving, name, text};
use crate::marks;

/// A PersistentVolume as the API server has it.
#[derive(Debug, Clone)]
pub(crate) struct Volume(pub(crate) Value);

impl Volume {
    pub(crate) fn name(&self) -> &str {
        name(&self.0)
    }

    pub(crate) fn class(&self) -> &str {
        text(&self.0, "/spec/storageClassName")
    }

    /// `Available`, `Bound`, `Released` or `Failed`.
    pub(crate) fn phase(&self) -> &str {
        text(&self.0, "/status/phase")
    }

    pub(crate) fn policy(&self) -> &str {
        text(&self.0, "/spec/persistentVolumeReclaimPolicy")
    }

    pub(crate) fn is_leaving(&self) -> bool {
        leaving(&self.0)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.0, key)
    }

    /// Whether something in the cluster made it, and can delete it with its data.
    pub(crate) fn is_provisioned(&self) -> bool {
        self.annotation("pv.kubernetes.io/provisioned-by").is_some()
    }

    /// The nodes from where it can be reached; none: its volume does not say.
    pub(crate) fn affinity(&self) -> Option<&Value> {
        self.0.pointer("/spec/nodeAffinity/required").filter(|required| required.is_object())
    }

    /// Whether its data lies on a node, and nothing keeps pods from other nodes.
    pub(crate) fn is_loose(&self) -> bool {
        self.affinity().is_none() && (self.0["spec"]["hostPath"].is_object() || self.0["spec"]["local"].is_object())
    }

    /// Whether it is bound to this claim, or kept for it.
    pub(crate) fn is_of(&self, namespace: &str, claim: &str) -> bool {
        text(&self.0, "/spec/claimRef/namespace") == namespace && text(&self.0, "/spec/claimRef/name") == claim
    }

    /// UID of the claim that it is bound to.
    pub(crate) fn claim_uid(&self) -> &str {
        text(&self.0, "/spec/claimRef/uid")
    }

    /// The patch that keeps it for a claim that is yet to be made.
    pub(crate) fn reserve(namespace: &str, claim: &str) -> Value {
        json!({ "spec": { "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim,
            "uid": null, "resourceVersion": null,
        } } })
    }

    /// The patch that keeps it when its claim goes; none where it is kept anyway.
    pub(crate) fn retain(&self) -> Option<Value> {
        (self.policy() != "Retain").then(|| {
            json!({
                "metadata": { "annotations": { marks::POLICY: self.policy() } },
                "spec": { "persistentVolumeReclaimPolicy": "Retain" },
            })
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The volume of microk8s-hostpath in the notes.
    pub(crate) fn hostpath() -> Volume {
        Volume(json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": { "name": "pvc-1", "annotations": { "pv.kubernetes.io/provisioned-by": "microk8s.io/hostpath" } },
            "spec": {
                "capacity": { "storage": "256Mi" }, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "microk8s-hostpath",
                "claimRef": { "kind": "PersistentVolumeClaim", "name": "chime", "namespace": "homeslice", "uid": "uid-of-chime" },
                "hostPath": { "path": "/var/snap/microk8s/common/default-storage/x", "type": "DirectoryOrCreate" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ["moe"] }] },
                ] } },
            },
            "status": { "phase": "Bound" },
        }))
    }

    #[test]
    fn a_volume_is_read() {
        let volume = hostpath();
        assert!(
            volume.is_of("homeslice", "chime") && !volume.is_of("homeslice", "chime-mig") && volume.is_provisioned()
        );
        assert!(!volume.is_loose() && volume.affinity().is_some());
        assert_eq!(volume.retain().unwrap()["metadata"]["annotations"][marks::POLICY], "Delete");
        let mut kept = volume;
        kept.0["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
        kept.0["spec"]["nodeAffinity"] = Value::Null;
        assert!(kept.retain().is_none() && kept.is_loose());
    }
}
