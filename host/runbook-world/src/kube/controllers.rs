//! What the controllers of a cluster do about objects, at once: pods run, workloads get ready, claims are bound, what nobody owns any more goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, Key, Object, write};

/// Finalizers that a controller takes away by itself.
const PROTECTION: [&str; 4] =
    ["kubernetes.io/pvc-protection", "kubernetes.io/pv-protection", "foregroundDeletion", "orphan"];

/// Rounds in which controllers react to each other; whoever needs more turns in circles.
const ROUNDS: usize = 30;

impl Cluster {
    /// Lets the controllers do what there is to do.
    pub(super) fn reconcile(&mut self) {
        for _ in 0..ROUNDS {
            let (version, count) = (self.counter, self.objects.len());
            self.collect();
            self.run_workloads();
            self.bind_claims();
            self.run_pods();
            self.run_jobs();
            self.say();
            if (version, count) == (self.counter, self.objects.len()) {
                return;
            }
        }
        self.gaps.insert("controllers that do not come to an end".to_owned());
    }

    /// Keeps what a controller made of an object, where that is something else.
    pub(super) fn put(&mut self, key: &Key, alter: impl FnOnce(&mut Value)) {
        let Some(Object { live, .. }) = self.objects.get(key) else { return };
        let mut altered = live.clone();
        alter(&mut altered);
        if altered != *live {
            altered["metadata"]["resourceVersion"] = json!(self.next().to_string());
            if let Some(object) = self.objects.get_mut(key) {
                object.live = altered;
            }
        }
    }

    /// Makes an object as a controller does.
    pub(super) fn put_new(&mut self, object: Value) {
        let Ok(name) = runbook_model::call::ObjectRef::of(&object) else { return };
        let fields = super::merge::leaves(&object);
        let live = self.stamped(object);
        let made = Object { live, owners: [("kube-controller-manager".to_owned(), fields)].into() };
        self.objects.insert(super::key(&name), write::with_managers(made));
    }

    /// The objects of a kind, in the order of their names.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<(Key, Value)> {
        let of_kind = self.objects.iter().filter(|(key, _)| key[0] == kind);
        of_kind.map(|(key, object)| (key.clone(), object.live.clone())).collect()
    }

    /// Makes the statuses say what is wanted.
    fn say(&mut self) {
        let statuses: Vec<(Key, Value)> = self
            .objects
            .iter()
            .filter_map(|(key, object)| Some((key.clone(), self.status(&key[0], &object.live)?)))
            .collect();
        for (key, status) in statuses {
            self.put(&key, |live| live["status"] = status);
        }
    }

    /// Takes away what was deleted and nothing holds any more, and what belonged to it.
    fn collect(&mut self) {
        loop {
            let used: BTreeSet<(String, String)> = self.used_claims();
            let leaving = |key: &Key, object: &Object| {
                let metadata = &object.live["metadata"];
                let held = metadata["finalizers"].as_array().into_iter().flatten();
                let in_use = key[0] == "PersistentVolumeClaim" && used.contains(&(key[2].clone(), key[3].clone()));
                !metadata["deletionTimestamp"].is_null()
                    && !in_use
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
                .filter(|(key, object)| leaving(key, object) || orphaned(object))
                .map(|(key, _)| key.clone())
                .collect();
            if gone.is_empty() {
                return;
            }
            gone.iter().for_each(|key| self.drop_object(key));
        }
    }

    /// Takes an object away, with what is in it.
    pub(super) fn drop_object(&mut self, key: &Key) {
        let name = format!("{}/{}", key[2], key[3]);
        let object = self.objects.remove(key);
        match key[0].as_str() {
            "Pod" => drop(self.pods.remove(&name)),
            "PersistentVolumeClaim" => drop(self.volumes.remove(&name)),
            // A folder that is kept is still there when its volume is not.
            "PersistentVolume"
                if object.is_some_and(|it| it.live["spec"]["persistentVolumeReclaimPolicy"] != "Retain") =>
            {
                drop(self.volumes.remove(&key[3]));
            }
            _ => {}
        }
    }

    /// The status that a controller gives; none: it is nobody's matter here.
    fn status(&self, kind: &str, live: &Value) -> Option<Value> {
        let mut status = match &live["status"] {
            Value::Object(status) => Value::Object(status.clone()),
            _ => json!({}),
        };
        let is_new = |field: &str| live["status"][field].is_null();
        let fields: Vec<(&str, Value)> = match kind {
            "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
                let wanted = live["spec"]["replicas"].as_u64().unwrap_or(1);
                let ready = if super::work::has_pods(live) { self.ready_pods(live) } else { wanted };
                let generation = live["metadata"]["generation"].clone();
                let counts = [("replicas", wanted), ("updatedReplicas", wanted), ("readyReplicas", ready)];
                let counts = counts.into_iter().chain([("availableReplicas", ready)]);
                counts.map(|(name, n)| (name, json!(n))).chain([("observedGeneration", generation)]).collect()
            }
            "DaemonSet" => {
                let nodes = live["status"]["desiredNumberScheduled"].as_u64().unwrap_or(1);
                let counts = ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"];
                let generation = live["metadata"]["generation"].clone();
                let counts = counts.into_iter().map(|name| (name, json!(nodes)));
                counts.chain([("observedGeneration", generation)]).collect()
            }
            "Namespace" if is_new("phase") => vec![("phase", json!("Active"))],
            _ => return None,
        };
        fields.into_iter().for_each(|(name, value)| status[name] = value);
        Some(status)
    }
}
