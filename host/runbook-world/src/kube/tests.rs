use runbook_model::call::PatchType;
use runbook_model::delta::comparable;
use serde_json::json;

use super::write::Patch;
use super::*;
use crate::machine::Invocation;
use crate::tree::Node;

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
fn empty_annotations_are_none() {
    let mut cluster = Cluster::default();
    cluster.add(map(&json!({}))).expect("an object");
    let before = cluster.object(&key(&name())).cloned().expect("it is there");
    let body = json!({"metadata": {"annotations": {"a": null}, "labels": {}}});
    let patch = Patch { object: &name(), kind: PatchType::Merge, body: &body, subresource: None };
    let after = cluster.patch(&patch, "we").expect("it is there");
    assert_eq!(comparable(&after), comparable(&before));
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "nothing was written");
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

/// A cluster from YAML documents, with what is in its volume `v1`, and a program that copies.
fn house(objects: &str) -> Cluster {
    let text = format!(
        "[cluster.c]\nobjects = \"\"\"{objects}\"\"\"\nvolumes.v1 = {{ \"/a\" = \"x\" }}\n[[cluster.c.program]]\nargv = [\"copy\"]\n\
         copy = {{ \"/src\" = \"/dst\" }}\nwrite = {{ \"/dev/termination-log\" = \"{{env:SAYS}}\" }}\n\
         [[cluster.c.program]]\nargv = [\"fail\"]\nexit = 2\n"
    );
    crate::file::read(&text).expect("a world").state.clusters.remove("c").expect("a cluster")
}

const OLD: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: { name: v1, annotations: { pv.kubernetes.io/provisioned-by: x } }
spec: { persistentVolumeReclaimPolicy: Delete, storageClassName: old, claimRef: { namespace: shop, name: data } }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: data, namespace: shop }
spec: { storageClassName: old, volumeName: v1 }
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: lazy }
provisioner: x
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: static }
provisioner: kubernetes.io/no-provisioner
---
";

fn object_named(kind: &str, name: &str) -> ObjectRef {
    let wide = CLUSTER_WIDE.contains(&kind);
    let group = match kind {
        "Deployment" => "apps",
        "Job" => "batch",
        _ => "",
    };
    let kind = ResourceKind { group: group.into(), version: "v1".into(), kind: kind.into() };
    ObjectRef { kind, namespace: (!wide).then(|| "shop".into()), name: name.into() }
}

fn at<'a>(cluster: &'a Cluster, kind: &str, name: &str, pointer: &str) -> Option<&'a Value> {
    cluster.object(&key(&object_named(kind, name)))?.pointer(pointer)
}

fn merge(cluster: &mut Cluster, kind: &str, name: &str, body: &Value) {
    let object = object_named(kind, name);
    let patch = Patch { object: &object, kind: PatchType::Merge, body, subresource: None };
    cluster.patch(&patch, "we").expect("it is there");
}

#[test]
fn a_claim_gets_the_volume_that_is_kept_for_it_or_one_that_is_made() {
    let mut cluster = house(OLD);
    assert_eq!(at(&cluster, "PersistentVolumeClaim", "data", "/status/phase"), Some(&json!("Bound")));
    assert_eq!(
        at(&cluster, "PersistentVolume", "v1", "/spec/claimRef/uid"),
        at(&cluster, "PersistentVolumeClaim", "data", "/metadata/uid")
    );
    for (name, class) in [("lazy", "lazy"), ("static", "static")] {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"storageClassName": class}});
        cluster.apply(&claim, false, "we").expect("is made");
        assert_eq!(at(&cluster, "PersistentVolumeClaim", name, "/status/phase"), Some(&json!("Pending")), "{class}");
    }
    // Its first consumer.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "lazy"}}]}});
    cluster.apply(&pod, false, "we").expect("is made");
    assert_eq!(at(&cluster, "PersistentVolumeClaim", "lazy", "/spec/volumeName"), Some(&json!("pvc-shop-lazy")));
    assert_eq!(at(&cluster, "PersistentVolumeClaim", "static", "/status/phase"), Some(&json!("Pending")));
}

#[test]
fn what_becomes_of_a_volume_is_its_policy_s_to_say() {
    for (policy, phase, kept) in [("Retain", Some("Released"), true), ("Delete", None, false)] {
        let mut cluster = house(OLD);
        merge(&mut cluster, "PersistentVolume", "v1", &json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
        cluster.delete(&object_named("PersistentVolumeClaim", "data"), None, false).expect("is there");
        let now = at(&cluster, "PersistentVolume", "v1", "/status/phase").and_then(Value::as_str);
        assert_eq!((now, cluster.volumes.contains_key("v1")), (phase, kept), "{policy}");
    }
    // Nobody makes what lies on it go by deleting the object that tells of it.
    let mut cluster = house(OLD);
    merge(&mut cluster, "PersistentVolume", "v1", &json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}));
    cluster.delete(&object_named("PersistentVolume", "v1"), None, false).expect("is there");
    assert_eq!(at(&cluster, "PersistentVolumeClaim", "data", "/status/phase"), Some(&json!("Lost")));
    assert!(cluster.volumes.contains_key("v1"));
}

#[test]
fn workloads_have_pods_and_pods_hold_claims() {
    let web = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  template:
    spec:
      containers: [{ name: web, image: a, volumeMounts: [{ name: d, mountPath: /d }] }]
      volumes: [{ name: d, persistentVolumeClaim: { claimName: data } }]
";
    let mut cluster = house(&format!("{OLD}{web}"));
    let ready = |cluster: &Cluster| at(cluster, "Deployment", "web", "/status/readyReplicas").cloned();
    assert_eq!(ready(&cluster), Some(json!(2)));
    let read = cluster.read(&object_named("Pod", "web-1"), "/d/a").expect("it runs");
    assert_eq!(read.as_deref(), Some(&b"x"[..]));
    let first = at(&cluster, "Pod", "web-0", "/metadata/uid").cloned();
    cluster.delete(&object_named("Pod", "web-0"), None, false).expect("is there");
    let second = at(&cluster, "Pod", "web-0", "/metadata/uid").cloned();
    assert!(second.is_some() && second != first, "another one is made");
    merge(&mut cluster, "Deployment", "web", &json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}));
    assert_eq!(at(&cluster, "Pod", "web-0", "/spec/hostNetwork"), Some(&json!(true)));

    cluster.delete(&object_named("PersistentVolumeClaim", "data"), None, false).expect("is there");
    assert!(at(&cluster, "PersistentVolumeClaim", "data", "/metadata/deletionTimestamp").is_some(), "pods hold it");
    merge(&mut cluster, "Deployment", "web", &json!({"spec": {"replicas": 0}}));
    assert_eq!((ready(&cluster), at(&cluster, "Pod", "web-0", "")), (Some(json!(0)), None));
    assert_eq!(at(&cluster, "PersistentVolumeClaim", "data", ""), None);
    merge(&mut cluster, "Deployment", "web", &json!({"spec": {"replicas": 1}}));
    assert_eq!(ready(&cluster), Some(json!(0)), "without its claim it does not start");
    assert_eq!(at(&cluster, "Pod", "web-0", "/status/phase"), Some(&json!("Pending")));
}

#[test]
fn jobs_do_what_somebody_described() {
    let job = |command: &str| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "shop"}, "spec": {"template": {
        "spec": {
            "containers": [{"name": "c", "command": [command], "env": [{"name": "SAYS", "value": "done"}], "volumeMounts": [
                {"name": "s", "mountPath": "/src", "readOnly": true}, {"name": "d", "mountPath": "/dst"}]}],
            "volumes": [{"name": "s", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "copy"}}],
        }}}})
    };
    let copy = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "copy", "namespace": "shop"},
        "spec": {"storageClassName": "lazy"}});
    for (command, condition, said, copied) in [
        ("copy", Some("Complete"), Some("done"), true),
        ("fail", Some("Failed"), Some(""), false),
        ("strange", None, None, false),
    ] {
        let mut cluster = house(OLD);
        let waits = cluster.apply(&job(command), false, "we").expect("is made");
        assert!(waits["status"].is_null());
        assert_eq!(at(&cluster, "Pod", "j-0", "/status/phase"), Some(&json!("Pending")), "a claim is missing");
        cluster.apply(&copy, false, "we").expect("is made");
        let is = at(&cluster, "Job", "j", "/status/conditions/0/type").and_then(Value::as_str);
        let words = at(&cluster, "Pod", "j-0", "/status/containerStatuses/0/state/terminated/message");
        assert_eq!((is, words.and_then(Value::as_str)), (condition, said), "{command}");
        let there = cluster.volumes.get("pvc-shop-copy").is_some_and(|tree| tree.has("/a"));
        assert_eq!((there, cluster.gaps.is_empty()), (copied, command != "strange"), "{command}");
        cluster.delete(&object_named("Job", "j"), None, false).expect("is there");
        assert_eq!(at(&cluster, "Pod", "j-0", ""), None);
    }
}

#[test]
fn what_is_mounted_to_be_read_is_not_written() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: p, namespace: shop }
spec:
  containers: [{ name: p, volumeMounts: [{ name: d, mountPath: /d, readOnly: true }] }]
  volumes: [{ name: d, persistentVolumeClaim: { claimName: data } }]
";
    let mut cluster = house(&format!("{OLD}{pod}"));
    let pod = object_named("Pod", "p");
    cluster.within(&pod, |machine| machine.tree.put("/d/b", Node::file("y", 0o644))).expect("it runs");
    assert_eq!(cluster.read(&pod, "/d/b"), Ok(None));
    assert!(cluster.execute(&pod, &Invocation::pseudo(["none"]), false).is_err());
}
