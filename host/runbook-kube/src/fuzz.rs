//! What takes bytes of API servers and of those who hand out kubeconfigs, and is private otherwise, for fuzzers. No program may use it.

use runbook_model::call::{Condition, ObjectRef, Prior, ResourceKind};
use runbook_model::condition::{leaving, standing};
use runbook_model::evidence::word;
use serde_json::Value;

use crate::access::{ClusterAccess, Origin, config};

use crate::refusal::Refusal;
use crate::{diagnose, exec, objects, resource, tls};

/// A kubeconfig that a machine handed out. Gives the paths and programs of this machine that it would use.
pub async fn kubeconfig(text: &str) -> Vec<String> {
    let access = ClusterAccess {
        kubeconfig: text.to_owned(),
        origin: Origin::Machine("n1".to_owned()),
        context: None,
        server: None,
        uid: None,
        via: None,
    };
    let Ok(config) = config(&access).await else { return Vec::new() };
    let user = config.auth_info;
    let files = [user.token_file, user.client_certificate, user.client_key];
    let programs = user.exec.into_iter().filter_map(|exec| exec.command);
    files.into_iter().flatten().chain(programs).collect()
}

/// An answer of an API server, as far as its meaning goes.
pub fn answers(bytes: &[u8]) {
    for code in [400, 404, 409, 422, 429, 500] {
        let refusal = Refusal::read(code, std::str::from_utf8(bytes).ok(), bytes);
        let _ = (refusal.absent("pods", "Pod", "web"), refusal.unknown_path(), refusal.mistaken(), refusal.raced());
        let _ = refusal.into_error("get Pod d/web");
    }
    let _ = tls::is_version_1(bytes);
    let _ = serde_json::from_slice(bytes).map(|status| exec::exit_code(&status));
    let Ok(answer) = serde_json::from_slice::<Value>(bytes) else { return };
    for version in resource::versions(&answer) {
        let _ = resource::find(&answer, "apps", &version, "Deployment");
    }
    let found = resource::find(&answer, "", "v1", "Pod");
    let _ = resource::similar(&answer, "pod");
    judge(&answer);
    let _ = (diagnose::when(&answer), diagnose::conditions(&answer), diagnose::containers(&answer));
    if let Some(resource) = found {
        let _ = resource.object(Some("d"), "web");
        let _ = objects::self_describing(&answer, &resource);
    }
    let before = Prior::Object { live: Some(serde_json::json!({ "kind": "Pod" })), would: Some(answer.clone()) };
    let _ = objects::verdict(&before, &answer);
    let before = Prior::Object { live: Some(answer.clone()), would: Some(answer.clone()) };
    let _ = objects::verdict(&before, &answer);
    for nonsense in [Value::Null, Value::from("no object"), Value::from(vec![1])] {
        let _ = objects::verdict(&before, &nonsense);
    }
    let _ = word(&before, Some(&answer), "runbook");
}

fn judge(live: &Value) {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Pod"] {
        let group = if kind == "Pod" { "" } else { "apps" };
        let resource = ResourceKind { group: group.to_owned(), version: "v1".to_owned(), kind: kind.to_owned() };
        let object = ObjectRef { kind: resource, namespace: Some("d".to_owned()), name: "web".to_owned() };
        let conditions = [
            Condition::RolledOut,
            Condition::Status("Ready".to_owned(), "True".to_owned()),
            Condition::Equals("/status/phase".to_owned(), Value::Null),
        ];
        for condition in conditions {
            let _ = standing(&object, &condition, Some(live));
        }
    }
    let _ = leaving(live);
}
