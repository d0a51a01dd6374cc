//! Who uses a claim, and how each of them is made to stand still.

use runbook_sdk::prelude::*;

use crate::json::{annotation, controller, items, leaving, name, text};
use crate::marks;

/// Kinds with replicas, as a claim's users can be.
const WITH_REPLICAS: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];

/// Everything in a namespace that can use a claim.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects(Vec<Value>);

/// A controller with replicas.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalable {
    pub(crate) object: ObjectRef,
    pub(crate) replicas: u32,
    /// How many it had before a migration scaled it to 0.
    pub(crate) before: Option<u32>,
    generation: u64,
    pub(crate) live: Value,
}

/// A CronJob.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timer {
    pub(crate) object: ObjectRef,
    pub(crate) suspended: bool,
    /// It was suspended by a migration.
    pub(crate) by_us: bool,
    generation: u64,
    pub(crate) live: Value,
}

/// The users of a claim.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consumers {
    pub(crate) scalable: Vec<Scalable>,
    pub(crate) timers: Vec<Timer>,
    /// Pods that have ended, and hold the claim as long as they are there: name and UID.
    pub(crate) ended: Vec<(String, String)>,
    /// Pods that run, start or end, and where.
    pub(crate) pods: Vec<String>,
    /// Nodes of these pods.
    pub(crate) nodes: Vec<String>,
    /// Why some of them cannot be made to stand still.
    pub(crate) unstoppable: Vec<String>,
    /// KEDA objects that would scale them up again.
    pub(crate) scalers: Vec<ObjectRef>,
}

impl Objects {
    /// Looks them up.
    ///
    /// # Errors
    ///
    /// Where they cannot be listed.
    pub(crate) fn look(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let mut all = Vec::new();
        for kind in WITH_REPLICAS.into_iter().chain(["DaemonSet", "CronJob", "Job", "Pod", "HorizontalPodAutoscaler"]) {
            // A cluster may serve no such kind: then there is none.
            all.extend(
                cluster.list::<Value>(&Selector::new(kind).namespace(namespace)).if_found()?.unwrap_or_default(),
            );
        }
        Ok(Self(all))
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    fn find<'a>(&'a self, kind: &'a str, named: &str) -> Option<&'a Value> {
        self.of_kind(kind).find(|object| name(object) == named)
    }

    /// The users of a claim; the pods of the job `own` are not counted.
    pub(crate) fn users(&self, claim: &str, own: &str) -> Consumers {
        let mut users = Consumers::default();
        for kind in WITH_REPLICAS {
            for object in
                self.of_kind(kind).filter(|object| uses(object, "/spec/template/spec", claim) || makes(object, claim))
            {
                self.scalable(kind, object, claim, &mut users);
            }
        }
        for object in self.of_kind("DaemonSet").filter(|object| uses(object, "/spec/template/spec", claim)) {
            users.unstoppable.push(format!(
                "DaemonSet {} uses it, and cannot be scaled: delete it with --cascade=orphan and its pods, or give it a \
                 nodeSelector that fits no node",
                name(object)
            ));
        }
        for object in self.of_kind("CronJob").filter(|o| uses(o, "/spec/jobTemplate/spec/template/spec", claim)) {
            users.timers.push(Timer {
                object: reference(object),
                suspended: object["spec"]["suspend"] == true,
                by_us: annotation(object, marks::SUSPENDED).is_some(),
                generation: generation(object),
                live: object.clone(),
            });
        }
        for object in self.of_kind("Job").filter(|o| name(o) != own && uses(o, "/spec/template/spec", claim)) {
            let ended = items(object, "/status/conditions")
                .iter()
                .any(|c| (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True");
            if !ended && object["spec"]["suspend"] != true {
                users
                    .unstoppable
                    .push(format!("Job {} uses it and has not ended: wait for it, or delete it", name(object)));
            }
        }
        for pod in self.of_kind("Pod").filter(|pod| uses(pod, "/spec", claim)) {
            self.pod(pod, own, &mut users);
        }
        users
    }

    fn scalable(&self, kind: &str, object: &Value, claim: &str, users: &mut Consumers) {
        let replicas = object["spec"]["replicas"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        match controller(object) {
            // Scaled with what it belongs to.
            Some((owner, _)) if WITH_REPLICAS.contains(&owner) => return,
            Some((owner, owner_name)) if replicas > 0 => {
                users.unstoppable.push(format!(
                    "{kind} {} belongs to {owner} {owner_name}, which would scale it up again: scale it to 0 there",
                    name(object)
                ));
            }
            _ => {}
        }
        let when_scaled = text(object, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled");
        if when_scaled == "Delete" && makes(object, claim) && replicas > 0 {
            users.unstoppable.push(format!(
                "StatefulSet {} deletes its claims when it is scaled down: set \
                 spec.persistentVolumeClaimRetentionPolicy.whenScaled to Retain",
                name(object)
            ));
        }
        for autoscaler in self.of_kind("HorizontalPodAutoscaler") {
            let target = &autoscaler["spec"]["scaleTargetRef"];
            if target["kind"] == kind && target["name"] == name(object) {
                // At 0 replicas the autoscaler itself stands still; KEDA is the one that scales up from 0.
                if let Some(("ScaledObject", scaler)) = controller(autoscaler) {
                    let scaler = ObjectRef::new("ScaledObject.keda.sh", scaler);
                    users.scalers.push(scaler.maybe_namespace(object["metadata"]["namespace"].as_str()));
                }
            }
        }
        users.scalable.push(Scalable {
            object: reference(object),
            replicas,
            before: annotation(object, marks::REPLICAS).and_then(|text| text.parse().ok()),
            generation: generation(object),
            live: object.clone(),
        });
    }

    fn pod(&self, pod: &Value, own: &str, users: &mut Consumers) {
        if controller(pod) == Some(("Job", own)) {
            return;
        }
        if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            users.ended.push((name(pod).to_owned(), text(pod, "/metadata/uid").to_owned()));
            return;
        }
        users.pods.push(name(pod).to_owned());
        match text(pod, "/spec/nodeName") {
            "" => {}
            node => users.nodes.push(node.to_owned()),
        }
        if leaving(pod) {
            return;
        }
        match self.top(pod) {
            Some((kind, _)) if WITH_REPLICAS.contains(&kind) => {}
            // Said of the job itself.
            Some(("Job", _)) => {}
            Some((kind, owner)) => users.unstoppable.push(format!(
                "pod {} belongs to {kind} {owner}, of which it is not known how to stop it: stop it, then run this again",
                name(pod)
            )),
            None => users.unstoppable.push(format!("pod {} belongs to no controller: nothing would start it again", name(pod))),
        }
    }

    /// The topmost controller of a pod: the Deployment above its ReplicaSet.
    fn top<'a>(&'a self, pod: &'a Value) -> Option<(&'a str, &'a str)> {
        let mut top = controller(pod)?;
        for _ in 0..8 {
            match self.find(top.0, top.1).and_then(controller) {
                Some(above) => top = above,
                None => break,
            }
        }
        Some(top)
    }
}

impl Consumers {
    /// What of them runs or could start: empty when all stand still.
    pub(crate) fn awake(&self) -> Vec<String> {
        let scaled = self.scalable.iter().filter(|s| s.replicas > 0);
        let timers = self.timers.iter().filter(|timer| !timer.suspended);
        scaled
            .map(|s| format!("{} has {} replicas", s.object, s.replicas))
            .chain(timers.map(|timer| format!("{} is not suspended", timer.object)))
            .chain(self.pods.iter().map(|pod| format!("pod {pod} is there")))
            .collect()
    }

    /// Changes whenever one of them was changed, also there and back; none where nobody could tell.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let scaled = self.scalable.iter().map(|s| format!("{}={}", s.object, s.generation));
        let timers = self.timers.iter().map(|timer| format!("{}={}", timer.object, timer.generation));
        let mut all: Vec<String> = scaled.chain(timers).collect();
        all.sort();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// Their objects, for finding who manages them.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.scalable.iter().map(|s| &s.live).chain(self.timers.iter().map(|timer| &timer.live))
    }
}

fn uses(object: &Value, spec: &str, claim: &str) -> bool {
    let volumes = object.pointer(spec).map(|spec| items(spec, "/volumes")).unwrap_or_default();
    volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
}

/// Whether a StatefulSet makes the claim from a template: `TEMPLATE-STATEFULSET-ORDINAL`.
fn makes(object: &Value, claim: &str) -> bool {
    items(object, "/spec/volumeClaimTemplates").iter().any(|template| {
        let ordinal = claim.strip_prefix(&format!("{}-{}-", name(template), name(object)));
        ordinal.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn reference(object: &Value) -> ObjectRef {
    // By kind alone: a CronJob of 1.20 is listed in another version than a newer one.
    ObjectRef::new(text(object, "/kind"), name(object)).maybe_namespace(object["metadata"]["namespace"].as_str())
}

fn generation(object: &Value) -> u64 {
    object["metadata"]["generation"].as_u64().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn workload(kind: &str, named: &str, replicas: u32) -> Value {
        json!({
            "kind": kind,
            "metadata": { "name": named, "namespace": "homeslice", "generation": 3 },
            "spec": {
                "replicas": replicas,
                "template": { "spec": { "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "chime" } }] } },
            },
        })
    }

    fn pod(named: &str, owner: Option<(&str, &str)>, phase: &str) -> Value {
        let owners: Vec<Value> =
            owner.iter().map(|(kind, name)| json!({ "kind": kind, "name": name, "controller": true })).collect();
        json!({
            "kind": "Pod",
            "metadata": { "name": named, "namespace": "homeslice", "uid": format!("uid-{named}"), "ownerReferences": owners },
            "spec": { "nodeName": "moe", "volumes": [{ "persistentVolumeClaim": { "claimName": "chime" } }] },
            "status": { "phase": phase },
        })
    }

    fn owned(mut object: Value, kind: &str, named: &str) -> Value {
        object["metadata"]["ownerReferences"] = json!([{ "kind": kind, "name": named, "controller": true }]);
        object
    }

    fn users(objects: Vec<Value>) -> Consumers {
        Objects(objects).users("chime", "runbook-migrate-chime")
    }

    #[test]
    fn a_deployment_is_found_through_its_pods_and_without_them() {
        let users_now = users(vec![
            workload("Deployment", "nginx", 2),
            owned(workload("ReplicaSet", "nginx-5d", 2), "Deployment", "nginx"),
            pod("nginx-5d-a", Some(("ReplicaSet", "nginx-5d")), "Running"),
            pod("copy", Some(("Job", "runbook-migrate-chime")), "Running"),
        ]);
        assert_eq!(users_now.unstoppable, Vec::<String>::new());
        assert_eq!(users_now.scalable.len(), 1);
        assert_eq!(users_now.awake(), ["Deployment homeslice/nginx has 2 replicas", "pod nginx-5d-a is there"]);
        assert_eq!(users_now.nodes, ["moe"]);
        let asleep = users(vec![workload("Deployment", "nginx", 0)]);
        assert!(asleep.awake().is_empty());
        assert_eq!(asleep.fingerprint().as_deref(), Some("Deployment homeslice/nginx=3"));
        assert_eq!(users(Vec::new()).fingerprint(), None);
    }

    #[test]
    fn a_statefulset_is_known_by_the_name_of_its_claim() {
        let mut set = workload("StatefulSet", "db", 3);
        set["spec"]["template"] = json!({});
        set["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" } }]);
        let find = |set: &Value, claim: &str| Objects(vec![set.clone()]).users(claim, "x");
        assert_eq!(find(&set, "data-db-0").scalable.len(), 1);
        for other in ["data-db-x", "data-db-", "data-db2-0", "logs-db-0"] {
            assert!(find(&set, other).scalable.is_empty(), "{other}");
        }
        set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({ "whenScaled": "Delete" });
        assert!(find(&set, "data-db-0").unstoppable[0].contains("whenScaled"));
    }

    #[test]
    fn what_cannot_be_stopped_is_named() {
        for (objects, expected) in [
            (vec![pod("lone", None, "Running")], "pod lone belongs to no controller"),
            (
                vec![workload("DaemonSet", "agent", 0), pod("agent-x", Some(("DaemonSet", "agent")), "Running")],
                "DaemonSet agent",
            ),
            (
                vec![workload("Job", "import", 0), pod("import-x", Some(("Job", "import")), "Running")],
                "Job import uses it",
            ),
            (vec![pod("pg-1", Some(("Cluster", "pg")), "Running")], "belongs to Cluster pg"),
            (
                vec![
                    owned(workload("ReplicaSet", "web-1", 1), "Rollout", "web"),
                    pod("web-1-a", Some(("ReplicaSet", "web-1")), "Running"),
                ],
                "belongs to Rollout web",
            ),
            (vec![owned(workload("StatefulSet", "prom", 1), "Prometheus", "k8s")], "belongs to Prometheus k8s"),
        ] {
            let found = users(objects).unstoppable.join("; ");
            assert!(found.contains(expected), "{found:?} does not say {expected:?}");
        }
    }

    #[test]
    fn ended_pods_are_cleared_and_timers_suspended() {
        let mut timer = workload("CronJob", "backup", 0);
        timer["spec"] = json!({ "jobTemplate": { "spec": { "template": timer["spec"]["template"] } } });
        let mut job = workload("Job", "backup-1", 0);
        job["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        let found = users(vec![timer, job, pod("backup-1-x", Some(("Job", "backup-1")), "Succeeded")]);
        assert_eq!(found.ended, [("backup-1-x".to_owned(), "uid-backup-1-x".to_owned())]);
        assert_eq!(found.awake(), ["CronJob homeslice/backup is not suspended"]);
        assert!(found.unstoppable.is_empty());
    }

    #[test]
    fn keda_is_found_behind_its_autoscaler() {
        let autoscaler = json!({
            "kind": "HorizontalPodAutoscaler", "metadata": { "name": "keda-nginx", "namespace": "homeslice" },
            "spec": { "scaleTargetRef": { "kind": "Deployment", "name": "nginx" } },
        });
        let plain = users(vec![workload("Deployment", "nginx", 1), autoscaler.clone()]);
        assert!(plain.scalers.is_empty());
        let found = users(vec![workload("Deployment", "nginx", 1), owned(autoscaler, "ScaledObject", "nginx")]);
        assert_eq!(found.scalers[0].to_string(), "ScaledObject homeslice/nginx");
    }
}
