//! What is waited for, judged on one look at the object.

use crate::call::{CallError, Condition, ObjectRef};
use serde_json::Value;

/// How an object stands to a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Met,
    /// Not now.
    NotYet {
        /// How it is instead.
        now: String,
        /// How far it is, and of how much, in replicas.
        progress: Option<(u64, u64)>,
    },
    /// It will not come.
    Never(String),
}

fn not_yet(now: impl Into<String>) -> Standing {
    Standing::NotYet { now: now.into(), progress: None }
}

/// "Deployment d/web to be rolled out".
pub fn described(object: &ObjectRef, condition: &Condition) -> String {
    match condition {
        Condition::Exists => format!("{object} to be there"),
        Condition::Absent => format!("{object} to be gone"),
        Condition::Status(kind, status) => format!("{object} to have {kind}={status}"),
        Condition::Equals(pointer, value) => format!("{object} to have {value} at {pointer}"),
        Condition::RolledOut => format!("{object} to be rolled out"),
    }
}

/// Judges an object.
///
/// # Errors
///
/// A condition that makes no sense for the kind.
pub fn standing(object: &ObjectRef, condition: &Condition, live: Option<&Value>) -> Result<Standing, CallError> {
    let Some(live) = live else {
        return Ok(if *condition == Condition::Absent { Standing::Met } else { not_yet("it is not there") });
    };
    Ok(match condition {
        Condition::Exists => Standing::Met,
        Condition::Absent => not_yet(leaving(live)),
        Condition::Status(kind, status) => has_status(live, kind, status),
        Condition::Equals(pointer, wanted) => match live.pointer(pointer) {
            Some(value) if value == wanted => Standing::Met,
            Some(value) => not_yet(format!("{pointer} is {}", short(value))),
            None => not_yet(format!("it has no {pointer}")),
        },
        Condition::RolledOut => rolled_out(object, live)?,
    })
}

/// Why an object is still there.
pub fn leaving(live: &Value) -> String {
    if live["metadata"]["deletionTimestamp"].is_null() {
        return "it is there, and nobody deleted it".to_owned();
    }
    let finalizers: Vec<&str> = ["/metadata/finalizers", "/spec/finalizers"]
        .iter()
        .filter_map(|pointer| live.pointer(pointer)?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match finalizers.is_empty() {
        true => "it is being deleted".to_owned(),
        false => format!("it is being deleted and waits for {}", finalizers.join(", ")),
    }
}

fn has_status(live: &Value, kind: &str, wanted: &str) -> Standing {
    if let Some(why) = hopeless(live, kind, wanted) {
        return Standing::Never(why);
    }
    let Some(found) = condition(live, kind) else { return not_yet(format!("it has no condition {kind} yet")) };
    let status = found["status"].as_str().unwrap_or("Unknown");
    if !status.eq_ignore_ascii_case(wanted) {
        let why = [found["reason"].as_str(), found["message"].as_str()];
        let why: Vec<&str> = why.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(": ")) };
        return not_yet(format!("{kind} is {status}{why}"));
    }
    let generation = live["metadata"]["generation"].as_u64();
    let seen = found["observedGeneration"].as_u64().or_else(|| live.pointer("/status/observedGeneration")?.as_u64());
    match (generation, seen) {
        (Some(generation), Some(seen)) if seen < generation => not_yet("its controller has not seen the last change"),
        _ => Standing::Met,
    }
}

/// Ends from which a job or a pod does not come back.
fn hopeless(live: &Value, kind: &str, wanted: &str) -> Option<String> {
    let wants = |name: &str| kind == name && wanted.eq_ignore_ascii_case("True");
    match live["kind"].as_str()? {
        "Job" if wants("Complete") || wants("SuccessCriteriaMet") => {
            let failed = condition(live, "Failed").filter(|c| c["status"] == "True")?;
            let text = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
            Some(format!("the job failed: {}: {}", text("reason"), text("message")))
        }
        "Pod" if wants("Ready") || wants("ContainersReady") => {
            let phase = live["status"]["phase"].as_str().filter(|p| matches!(*p, "Failed" | "Succeeded"))?;
            Some(format!("the pod has ended: phase {phase}"))
        }
        _ => None,
    }
}

/// A condition of `.status.conditions`.
pub fn condition<'a>(live: &'a Value, kind: &str) -> Option<&'a Value> {
    live.pointer("/status/conditions")?.as_array()?.iter().find(|c| c["type"] == kind)
}

/// As `kubectl rollout status` judges, for what has replicas.
fn rolled_out(object: &ObjectRef, live: &Value) -> Result<Standing, CallError> {
    let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_u64);
    let status = |key: &str| number(&format!("/status/{key}")).unwrap_or(0);
    let kind = live["kind"].as_str().unwrap_or(&object.kind.kind);
    if !matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController") {
        return Err(CallError::Invalid(format!("{object} has no replicas to roll out; wait for a condition of it")));
    }
    if status("observedGeneration") < number("/metadata/generation").unwrap_or(0) {
        return Ok(not_yet("its controller has not seen the last change"));
    }
    let replicas = number("/spec/replicas").unwrap_or(1);
    let (wanted, updated, ready, old) = match kind {
        "Deployment" => {
            let old = status("replicas").saturating_sub(status("updatedReplicas"));
            (replicas, status("updatedReplicas"), status("availableReplicas"), old)
        }
        "DaemonSet" => {
            (status("desiredNumberScheduled"), status("updatedNumberScheduled"), status("numberAvailable"), 0)
        }
        "StatefulSet" => {
            // Pods below the partition stay as they are on purpose.
            let kept = number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0).min(replicas);
            let ready = number("/status/availableReplicas").unwrap_or(replicas).min(status("readyReplicas"));
            (replicas, status("updatedReplicas") + kept, ready, 0)
        }
        _ => (replicas, replicas, status("availableReplicas"), 0),
    };
    if updated >= wanted && ready >= wanted && old == 0 {
        return Ok(Standing::Met);
    }
    let mut now = format!("{ready} of {wanted} replicas available");
    if updated < wanted {
        now = format!("{now}, {updated} updated");
    }
    if old > 0 {
        now = format!("{now}, {old} old ones still there");
    }
    if live.pointer("/spec/updateStrategy/type").is_some_and(|kind| kind == "OnDelete") && updated < wanted {
        now = format!("{now} (strategy OnDelete: pods are updated when somebody deletes them)");
    }
    if live.pointer("/spec/paused").is_some_and(|paused| paused == true) {
        now = format!("{now} (its rollout is paused)");
    }
    Ok(Standing::NotYet { now, progress: Some((ready.min(updated), wanted)) })
}

/// A value for a message.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ResourceKind;
    use serde_json::json;

    fn judge(condition: &Condition, live: &Value) -> Standing {
        let kind = live["kind"].as_str().unwrap_or("Thing").to_owned();
        let kind = ResourceKind { group: String::new(), version: String::new(), kind };
        let object = ObjectRef { kind, namespace: Some("d".into()), name: "x".into() };
        standing(&object, condition, Some(live)).expect("makes sense")
    }

    fn deployment(status: &Value) -> Value {
        json!({"kind": "Deployment", "metadata": {"generation": 4}, "spec": {"replicas": 2}, "status": status})
    }

    #[test]
    fn a_rollout_counts_updated_available_and_old_replicas() {
        let done = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(judge(&Condition::RolledOut, &deployment(&done)), Standing::Met);
        for (key, value, text) in [
            ("observedGeneration", 3, "not seen the last change"),
            ("updatedReplicas", 1, "1 updated"),
            ("availableReplicas", 1, "1 of 2 replicas available"),
            ("replicas", 3, "1 old ones still there"),
        ] {
            let mut status = done.clone();
            status[key] = json!(value);
            let Standing::NotYet { now, .. } = judge(&Condition::RolledOut, &deployment(&status)) else {
                panic!("{key} does not matter");
            };
            assert!(now.contains(text), "{key}: {now}");
        }
        let none = json!({"kind": "Deployment", "metadata": {"generation": 1}, "spec": {"replicas": 0},
            "status": {"observedGeneration": 1}});
        assert_eq!(judge(&Condition::RolledOut, &none), Standing::Met);
    }

    #[test]
    fn stateful_sets_of_old_and_new_servers_roll_out() {
        let mut set = json!({"kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}},
            "status": {"observedGeneration": 1, "readyReplicas": 3, "updatedReplicas": 2}});
        assert_eq!(judge(&Condition::RolledOut, &set), Standing::Met);
        set["status"]["availableReplicas"] = json!(2);
        assert!(matches!(judge(&Condition::RolledOut, &set), Standing::NotYet { progress: Some((2, 3)), .. }));
    }

    #[test]
    fn a_status_needs_the_last_generation() {
        let ready = Condition::Status("Ready".into(), "True".into());
        let mut live = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(matches!(judge(&ready, &live), Standing::NotYet { .. }));
        live["status"]["observedGeneration"] = json!(2);
        assert_eq!(judge(&ready, &live), Standing::Met);
        live["status"]["conditions"][0] =
            json!({"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni is missing"});
        assert_eq!(judge(&ready, &live), not_yet("Ready is False (KubeletNotReady: cni is missing)"));
    }

    #[test]
    fn what_cannot_come_is_said_at_once() {
        let job = json!({"kind": "Job", "status": {"conditions": [
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many"}]}});
        let complete = Condition::Status("Complete".into(), "True".into());
        assert!(matches!(judge(&complete, &job), Standing::Never(why) if why.contains("BackoffLimitExceeded")));
        let pod = json!({"kind": "Pod", "status": {"phase": "Succeeded"}});
        assert!(matches!(judge(&Condition::Status("Ready".into(), "True".into()), &pod), Standing::Never(_)));
    }

    #[test]
    fn what_stays_says_why() {
        let live = json!({"metadata": {"deletionTimestamp": "x", "finalizers": ["kubernetes.io/pvc-protection"]}});
        let Standing::NotYet { now, .. } = judge(&Condition::Absent, &live) else { panic!("is there") };
        assert!(now.contains("pvc-protection"), "{now}");
        assert_eq!(judge(&Condition::Exists, &live), Standing::Met);
        let bound = Condition::Equals("/status/phase".into(), json!("Bound"));
        assert_eq!(judge(&bound, &live), not_yet("it has no /status/phase"));
        assert_eq!(judge(&bound, &json!({"status": {"phase": "Bound"}})), Standing::Met);
    }
}
