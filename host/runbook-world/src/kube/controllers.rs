//! What the controllers of a cluster do about objects, at once: workloads get ready, claims are bound, what nobody owns any more goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, Key, Object};

/// Finalizers that a controller takes away by itself.
const PROTECTION: [&str; 4] =
    ["kubernetes.io/pvc-protection", "kubernetes.io/pv-protection", "foregroundDeletion", "orphan"];

impl Cluster {
    /// Makes the statuses say what is wanted.
    pub(super) fn reconcile(&mut self) {
        let wanting: Vec<(Key, Value)> = self
            .objects
            .iter()
            .filter_map(|(key, object)| {
                let status = status(&key[0], &object.live)?;
                (object.live["status"] != status).then(|| (key.clone(), status))
            })
            .collect();
        for (key, status) in wanting {
            let version = self.next().to_string();
            if let Some(Object { live, .. }) = self.objects.get_mut(&key) {
                live["status"] = status;
                live["metadata"]["resourceVersion"] = json!(version);
            }
        }
    }

    /// Takes away what was deleted and nothing holds any more, and what belonged to it.
    pub(super) fn collect(&mut self) {
        loop {
            let leaving = |object: &Object| {
                let metadata = &object.live["metadata"];
                let held = metadata["finalizers"].as_array().into_iter().flatten();
                !metadata["deletionTimestamp"].is_null()
                    && held.filter_map(Value::as_str).all(|finalizer| PROTECTION.contains(&finalizer))
            };
            let uids: BTreeSet<String> = self
                .objects
                .values()
                .filter_map(|object| object.live["metadata"]["uid"].as_str())
                .map(str::to_owned)
                .collect();
            let orphaned = |object: &Object| {
                let mut owners = object.live["metadata"]["ownerReferences"].as_array().into_iter().flatten().peekable();
                owners.peek().is_some()
                    && owners.all(|owner| !owner["uid"].as_str().is_some_and(|uid| uids.contains(uid)))
            };
            let gone: Vec<Key> = self
                .objects
                .iter()
                .filter(|(_, object)| leaving(object) || orphaned(object))
                .map(|(key, _)| key.clone())
                .collect();
            if gone.is_empty() {
                return;
            }
            for key in gone {
                let name = format!("{}/{}", key[2], key[3]);
                match key[0].as_str() {
                    "Pod" => drop(self.pods.remove(&name)),
                    "PersistentVolumeClaim" => drop(self.volumes.remove(&name)),
                    _ => {}
                }
                self.objects.remove(&key);
            }
        }
    }
}

/// The status that a controller gives; none: it is nobody's matter here.
fn status(kind: &str, live: &Value) -> Option<Value> {
    let mut status = match &live["status"] {
        Value::Object(status) => Value::Object(status.clone()),
        _ => json!({}),
    };
    let is_new = |field: &str| live["status"][field].is_null();
    let workload = |counts: [&'static str; 4], number: u64| {
        let counts = counts.into_iter().map(|name| (name, json!(number)));
        counts.chain([("observedGeneration", live["metadata"]["generation"].clone())]).collect()
    };
    let holds = |kind: &str| json!([{"type": kind, "status": "True"}]);
    let fields: Vec<(&str, Value)> = match kind {
        "Deployment" | "StatefulSet" | "ReplicaSet" => {
            let replicas = live["spec"]["replicas"].as_u64().unwrap_or(1);
            workload(["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"], replicas)
        }
        "DaemonSet" => {
            let nodes = live["status"]["desiredNumberScheduled"].as_u64().unwrap_or(1);
            workload(["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"], nodes)
        }
        "Pod" if is_new("phase") => vec![("phase", json!("Running")), ("conditions", holds("Ready"))],
        "PersistentVolumeClaim" if is_new("phase") => vec![("phase", json!("Bound"))],
        "Job" if is_new("conditions") => vec![("succeeded", json!(1)), ("conditions", holds("Complete"))],
        "Namespace" if is_new("phase") => vec![("phase", json!("Active"))],
        _ => return None,
    };
    fields.into_iter().for_each(|(name, value)| status[name] = value);
    Some(status)
}
