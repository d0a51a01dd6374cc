//! Why something does not come: conditions, events, and what the pods behind it wait for.

use runbook_model::call::{ObjectRef, ResourceKind, Selector};
use serde_json::Value;

use crate::resource::encode;
use crate::session::{Api, Ask};

/// Lines in all: what a person reads at once.
const LINES: usize = 14;
/// Pods that are looked at.
const PODS: usize = 3;
/// Events shown for one object.
const EVENTS: usize = 3;

impl Api {
    /// Whatever can be found out, most telling first; empty where nothing can.
    pub(crate) async fn diagnose(&self, object: &ObjectRef) -> Vec<String> {
        let Ok(Some(live)) = self.get(object).await else { return Vec::new() };
        let mut lines = conditions(&live);
        lines.extend(self.events(object, &live).await);
        if live["kind"] == "Pod" {
            lines.extend(containers(&live));
        } else {
            for pod in self.pods_behind(&live).await {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let kind = ResourceKind { kind: "Pod".to_owned(), ..object.kind.clone() };
                let reference = ObjectRef { kind, namespace: object.namespace.clone(), name: name.clone() };
                let mut found = containers(&pod);
                found.extend(conditions(&pod).into_iter().filter(|line| line.contains("Unschedulable")));
                found.extend(self.events(&reference, &pod).await);
                lines.extend(found.into_iter().map(|line| format!("pod {name}: {line}")));
            }
        }
        let mut seen = std::collections::HashSet::new();
        lines.retain(|line| seen.insert(line.clone()));
        lines.truncate(LINES);
        lines
    }

    /// The last events about an object, warnings before the others.
    async fn events(&self, object: &ObjectRef, live: &Value) -> Vec<String> {
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        let fields = format!("involvedObject.name={},involvedObject.uid={uid}", object.name);
        let uri =
            format!("/api/v1/namespaces/{}/events?limit=200&fieldSelector={}", encode(namespace), encode(&fields));
        let Ok(list) = self.expect(&Ask::get(uri, format!("read the events of {object}"))).await else {
            return Vec::new();
        };
        let mut events: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
        events.sort_by_key(|event| (event["type"] == "Warning", when(event)));
        let said = |event: &&Value| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().trim().to_owned();
            let count = event["count"].as_u64().or_else(|| event.pointer("/series/count")?.as_u64()).unwrap_or(1);
            let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
            format!("event {}: {}{times}", text("reason"), text("message"))
        };
        events.iter().rev().take(EVENTS).map(said).collect()
    }

    /// The pods that a workload selects, those that are not ready first.
    async fn pods_behind(&self, live: &Value) -> Vec<Value> {
        let labels = live.pointer("/spec/selector/matchLabels").or_else(|| live.pointer("/spec/selector"));
        let Some(labels) = labels.and_then(Value::as_object).filter(|labels| !labels.is_empty()) else {
            return Vec::new();
        };
        let pairs: Option<Vec<String>> =
            labels.iter().map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
        let Some(pairs) = pairs else { return Vec::new() };
        let kind = ResourceKind { group: String::new(), version: String::new(), kind: "Pod".to_owned() };
        let namespace = live["metadata"]["namespace"].as_str().map(str::to_owned);
        let selector = Selector { kind, namespace, labels: Some(pairs.join(",")), fields: None };
        let mut pods = self.list(&selector).await.unwrap_or_default();
        let ready =
            |pod: &Value| runbook_model::condition::condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
        pods.retain(|pod| !ready(pod));
        pods.truncate(PODS);
        pods
    }
}

/// Time of an event, in the place where its age put it.
fn when(event: &Value) -> String {
    let places = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/metadata/creationTimestamp"];
    places.iter().find_map(|place| event.pointer(place)?.as_str()).unwrap_or_default().to_owned()
}

/// Conditions that say something: with a message, or not as one wishes.
fn conditions(live: &Value) -> Vec<String> {
    let list = live.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().trim().to_owned();
    list.into_iter()
        .flatten()
        .filter(|condition| {
            let good_when_false = ["Failure", "Pressure", "Unavailable", "Failed"];
            let bad_name = good_when_false.iter().any(|end| text(condition, "type").ends_with(end));
            condition["status"] != if bad_name { "False" } else { "True" }
        })
        .map(|condition| {
            let why = [text(condition, "reason"), text(condition, "message")];
            let why: Vec<String> = why.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{}={} {}", text(condition, "type"), text(condition, "status"), why.join(": ")).trim().to_owned()
        })
        .collect()
}

/// What the containers of a pod wait for, or how they ended.
fn containers(pod: &Value) -> Vec<String> {
    let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let mut lines = Vec::new();
    for status in lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten() {
        let name = status["name"].as_str().unwrap_or_default();
        for (state, word) in
            [("/state/waiting", "waits"), ("/state/terminated", "ended"), ("/lastState/terminated", "ended before")]
        {
            let Some(found) = status.pointer(state) else { continue };
            if state == "/state/terminated" && found["exitCode"] == 0 {
                continue;
            }
            let reason = found["reason"].as_str().unwrap_or_default();
            let message = found["message"].as_str().map(|m| format!(": {}", m.trim())).unwrap_or_default();
            let code = found["exitCode"].as_i64().map(|code| format!(", exit code {code}")).unwrap_or_default();
            lines.push(format!("container {name} {word}: {reason}{message}{code}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn waiting_and_ended_containers_are_told() {
        let pod = json!({"status": {"containerStatuses": [
            {"name": "web", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}},
            {"name": "db", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"reason": "Error", "exitCode": 3}}},
            {"name": "done", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}});
        assert_eq!(
            containers(&pod),
            [
                "container web waits: ImagePullBackOff: Back-off pulling image \"x\"",
                "container db waits: CrashLoopBackOff",
                "container db ended before: Error, exit code 3",
            ]
        );
    }

    #[test]
    fn only_conditions_that_trouble_are_told() {
        let live = json!({"status": {"conditions": [
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "none"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "DiskPressure", "status": "False"}, {"type": "MemoryPressure", "status": "True", "reason": "Low"}]}});
        assert_eq!(conditions(&live), ["Available=False MinimumReplicasUnavailable: none", "MemoryPressure=True Low"]);
    }
}
