//! Pods: those that workloads want, and those of jobs, which run to their end.

use runbook_model::call::{Exit, ObjectRef, ResourceKind};
use serde_json::{Value, json};

use super::{Cluster, Key};
use crate::machine::Invocation;

/// Kinds that keep a number of pods.
const WITH_REPLICAS: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];
/// Where a container leaves its last words.
const LAST_WORDS: &str = "/dev/termination-log";

/// Whether a workload says what its pods are.
pub(super) fn has_pods(workload: &Value) -> bool {
    workload["spec"]["template"]["spec"]["containers"].as_array().is_some_and(|containers| !containers.is_empty())
}

fn pod_key(namespace: &str, name: &str) -> Key {
    ["Pod", "", namespace, name].map(str::to_owned)
}

impl Cluster {
    /// Workloads have as many pods as they want, made from their template.
    pub(super) fn run_workloads(&mut self) {
        let workloads = WITH_REPLICAS.into_iter().flat_map(|kind| self.of_kind(kind)).collect::<Vec<_>>();
        for (key, workload) in workloads.into_iter().filter(|(_, workload)| has_pods(workload)) {
            let leaving = !workload["metadata"]["deletionTimestamp"].is_null();
            let replicas = if leaving { 0 } else { workload["spec"]["replicas"].as_u64().unwrap_or(1) };
            let wanted: Vec<Key> = (0..replicas).map(|n| pod_key(&key[2], &format!("{}-{n}", key[3]))).collect();
            for (pod, live) in self.pods_of(&workload) {
                if !wanted.contains(&pod) || !is_made_from(&live, &workload) {
                    self.drop_object(&pod);
                }
            }
            for pod in wanted.iter().filter(|pod| !self.objects.contains_key(*pod)).collect::<Vec<_>>() {
                let made = self.pod(&key, &workload, &pod[3], json!({}));
                self.put_new(made);
            }
        }
    }

    /// Pods run that have nothing to wait for.
    pub(super) fn run_pods(&mut self) {
        for (key, pod) in self.of_kind("Pod") {
            let is_of_job = owner(&pod).is_some_and(|owner| owner["kind"] == "Job");
            let waits = pod["status"]["phase"].is_null() || pod["status"]["phase"] == "Pending";
            // The pods of an author may speak of claims that nobody described.
            let is_ready = owner(&pod).is_none() || self.has_volumes(&key[2], &pod);
            if waits && !is_of_job {
                self.put(&key, |pod| match is_ready {
                    true => set_running(pod),
                    false => pod["status"] = json!({"phase": "Pending"}),
                });
            }
        }
    }

    /// Jobs run to their end.
    pub(super) fn run_jobs(&mut self) {
        for (key, job) in self.of_kind("Job") {
            let waits = job["status"]["conditions"].is_null()
                && job["spec"]["suspend"] != true
                && job["metadata"]["deletionTimestamp"].is_null();
            let Some(container) = job["spec"]["template"]["spec"]["containers"].get(0).filter(|_| waits) else {
                continue;
            };
            let pod = pod_key(&key[2], &format!("{}-0", key[3]));
            if !self.objects.contains_key(&pod) {
                let made = self.pod(&key, &job, &pod[3], json!({"job-name": key[3]}));
                self.put_new(made);
            }
            let Some(live) = self.object(&pod).cloned() else { continue };
            match self.has_volumes(&key[2], &live) {
                true => self.run_to_its_end(&key, &pod, container),
                false => self.put(&pod, |pod| pod["status"] = json!({"phase": "Pending"})),
            }
        }
    }

    fn run_to_its_end(&mut self, job: &Key, pod: &Key, container: &Value) {
        self.put(pod, set_running);
        let kind = ResourceKind { group: String::new(), version: "v1".to_owned(), kind: "Pod".to_owned() };
        let reference = ObjectRef { kind, namespace: Some(pod[2].clone()), name: pod[3].clone() };
        let call = command(container);
        let ran = self.within(&reference, |machine| {
            let output = machine.run(&call, false);
            output.map(|output| (output, machine.tree.text(LAST_WORDS)))
        });
        let Ok(Some((output, words))) = ran else {
            self.gaps.insert(format!("{reference} has no program for {}", call.said()));
            return;
        };
        let code = match output.exit {
            Exit::Code(code) => code,
            Exit::Signal(_) => 137,
        };
        let (phase, kind, reason) = match code {
            0 => ("Succeeded", "Complete", "CompletionsReached"),
            _ => ("Failed", "Failed", "BackoffLimitExceeded"),
        };
        self.put(pod, |pod| {
            let state = json!({"terminated": {"exitCode": code, "message": words}});
            pod["status"] = json!({"phase": phase, "containerStatuses": [{"name": container["name"], "state": state}]});
        });
        let count = if code == 0 { "succeeded" } else { "failed" };
        self.put(job, |job| {
            job["status"] = json!({"conditions": [{"type": kind, "status": "True", "reason": reason}], count: 1});
        });
    }

    /// How many pods of a workload are ready.
    pub(super) fn ready_pods(&self, workload: &Value) -> u64 {
        self.pods_of(workload).iter().filter(|(_, pod)| pod["status"]["phase"] == "Running").count() as u64
    }

    fn pods_of(&self, workload: &Value) -> Vec<(Key, Value)> {
        let uid = &workload["metadata"]["uid"];
        let mut pods = self.of_kind("Pod");
        pods.retain(|(_, pod)| owner(pod).is_some_and(|owner| owner["uid"] == *uid));
        pods
    }

    /// A pod from a template; on the first node that its selector lets it be.
    fn pod(&self, of: &Key, workload: &Value, name: &str, more: Value) -> Value {
        let template = &workload["spec"]["template"];
        let mut labels = template["metadata"]["labels"].clone();
        if let (Value::Object(more), false) = (more, labels.is_array()) {
            more.into_iter().for_each(|(label, value)| labels[label] = value);
        }
        let mut spec = template["spec"].clone();
        let selector = spec["nodeSelector"].as_object().cloned().unwrap_or_default();
        let nodes = self.of_kind("Node");
        let fits = |node: &Value| selector.iter().all(|(label, value)| node["metadata"]["labels"][label] == *value);
        if let Some((node, _)) = nodes.iter().find(|(_, node)| fits(node)) {
            spec["nodeName"] = json!(node[3]);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": of[2],
                "labels": labels,
                "ownerReferences": [{
                    "apiVersion": workload["apiVersion"], "kind": of[0], "name": of[3],
                    "uid": workload["metadata"]["uid"], "controller": true,
                }],
            },
            "spec": spec,
        })
    }
}

/// The controller of a pod.
fn owner(pod: &Value) -> Option<&Value> {
    pod["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

/// Whether a pod is what its workload's template says now.
fn is_made_from(pod: &Value, workload: &Value) -> bool {
    let mut spec = pod["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("nodeName");
    }
    let mut wanted = workload["spec"]["template"]["spec"].clone();
    if let Some(wanted) = wanted.as_object_mut() {
        wanted.remove("nodeName");
    }
    spec == wanted
}

fn set_running(pod: &mut Value) {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let states: Vec<Value> = containers
        .map(|container| json!({"name": container["name"], "ready": true, "state": {"running": {}}}))
        .collect();
    pod["status"] = json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": states,
    });
}

/// What a container runs.
fn command(container: &Value) -> Invocation {
    let words = |field: &str| container[field].as_array().cloned().unwrap_or_default();
    let mut argv: Vec<String> =
        words("command").iter().chain(&words("args")).filter_map(Value::as_str).map(str::to_owned).collect();
    // What an image runs by itself stands nowhere.
    if argv.is_empty() {
        argv = vec!["(image)".to_owned(), container["image"].as_str().unwrap_or_default().to_owned()];
    }
    let env = container["env"].as_array().into_iter().flatten();
    let env = env.filter_map(|pair| Some((pair["name"].as_str()?.to_owned(), pair["value"].as_str()?.to_owned())));
    Invocation { argv, env: env.collect(), ..Invocation::default() }
}
