use runbook_model::call::PatchType;
use serde_json::json;

use super::write::Patch;
use super::*;

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": data})
}

fn name() -> ObjectRef {
    ObjectRef::of(&map(&json!({}))).expect("a name")
}

#[test]
fn an_apply_sets_its_own_fields_and_takes_its_old_ones_back() {
    let mut cluster = Cluster::default();
    let first = cluster.apply(&map(&json!({"a": "1", "b": "1"})), false, "we").expect("is created");
    let again = cluster.apply(&map(&json!({"a": "1", "b": "1"})), false, "we").expect("is the same");
    assert_eq!(first["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"]);
    let conflict = cluster.apply(&map(&json!({"a": "2"})), false, "they");
    assert!(matches!(conflict, Err(CallError::Conflict(text)) if text.contains("data.a (managed by we)")));
    // The same value is no conflict: both manage it then.
    cluster.apply(&map(&json!({"b": "1", "c": "1"})), false, "they").expect("no conflict");
    let after = cluster.apply(&map(&json!({"a": "3"})), false, "we").expect("its own");
    assert_eq!(after["data"], json!({"a": "3", "b": "1", "c": "1"}), "b is theirs, too");
    cluster.apply(&map(&json!({"a": "4"})), true, "they").expect("is taken over");
    let after = cluster.apply(&map(&json!({"x": "1"})), false, "we").expect("no conflict");
    assert_eq!(after["data"], json!({"a": "4", "x": "1"}), "a is theirs now, and they have dropped b and c");
}

#[test]
fn what_was_there_before_is_managed_by_somebody_else() {
    let mut cluster = Cluster::default();
    cluster.add(map(&json!({"a": "1"}))).expect("an object");
    assert!(matches!(cluster.apply(&map(&json!({"a": "2"})), false, "we"), Err(CallError::Conflict(_))));
    let patched = cluster.patch(
        &Patch {
            object: &name(),
            kind: PatchType::Merge,
            body: &json!({"data": {"a": "2", "b": null}}),
            subresource: None,
        },
        "we",
    );
    assert_eq!(patched.expect("patches ask nobody")["data"], json!({"a": "2"}));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "3"}});
    let patch = Patch { object: &name(), kind: PatchType::Merge, body: &stale, subresource: None };
    assert!(matches!(cluster.patch(&patch, "we"), Err(CallError::Conflict(_))));
}

#[test]
fn absent_is_said_of_served_kinds_alone() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.get(&name()), Ok(None));
    let mut strange = name();
    strange.kind = ResourceKind { group: "x.example".into(), version: String::new(), kind: "Thing".into() };
    assert!(matches!(cluster.get(&strange), Err(CallError::NotFound(_))));
    cluster.serve("x.example", "Thing");
    assert_eq!(cluster.get(&strange), Ok(None));
    let nowhere = ObjectRef { namespace: None, ..name() };
    assert!(matches!(cluster.get(&nowhere), Err(CallError::Invalid(_))));
    let mut manifest = map(&json!({}));
    manifest["metadata"]["namespace"] = json!("nowhere");
    assert!(matches!(cluster.apply(&manifest, false, "we"), Err(CallError::NotFound(_))));
}

#[test]
fn what_belonged_to_a_deleted_object_goes_with_it() {
    let mut cluster = Cluster::default();
    let owner = cluster.apply(&map(&json!({})), false, "we").expect("is created");
    let mut child = map(&json!({}));
    child["metadata"] = json!({"name": "d", "namespace": "default", "finalizers": ["x/wait"],
        "ownerReferences": [{"uid": owner["metadata"]["uid"]}]});
    cluster.apply(&child, false, "we").expect("is created");
    let child = ObjectRef::of(&child).expect("a name");
    assert_eq!(
        cluster.delete(&name(), Some("other"), false).map_err(|e| matches!(e, CallError::Conflict(_))),
        Err(true)
    );
    assert_eq!(cluster.delete(&name(), None, false), Ok(true));
    assert!(cluster.object(&key(&name())).is_none() && cluster.object(&key(&child)).is_none());
    assert_eq!(cluster.delete(&name(), None, false), Ok(false));
}

#[test]
fn selectors_narrow_a_list() {
    let mut cluster = Cluster::default();
    for (name, app) in [("a", "web"), ("b", "db")] {
        let mut object = map(&json!({}));
        object["metadata"] = json!({"name": name, "namespace": "default", "labels": {"app": app, "all": "yes"}});
        cluster.add(object).expect("an object");
    }
    let count = |labels: &str, fields: &str| {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let selector = Selector { kind: name().kind, namespace: None, labels: text(labels), fields: text(fields) };
        cluster.list(&selector).map(|found| found.len())
    };
    assert_eq!(count("app=web", ""), Ok(1));
    assert_eq!(count("app in (web, db),all", ""), Ok(2));
    assert_eq!(count("app!=web", "metadata.name=b"), Ok(1));
    assert!(count("!app", "").is_err());
}
