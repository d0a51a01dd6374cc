use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::call::{ResourceKind, Target};
use crate::delta::sha256;

fn object(group: &str, kind: &str) -> ObjectRef {
    let kind = ResourceKind { group: group.into(), version: "v1".into(), kind: kind.into() };
    ObjectRef { kind, namespace: Some("d".into()), name: "c".into() }
}

fn map(uid: &str, version: &str, fields: &Value) -> Value {
    let metadata = json!({"name": "c", "namespace": "d", "uid": uid, "resourceVersion": version,
        "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "x", "n": version}]});
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "status": {"seen": version}});
    merge(&mut object, fields);
    object
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, part) in patch {
        match part {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            part => merge(&mut target[key], part),
        }
    }
}

fn recorded(live: Option<&Value>, would: Option<&Value>) -> Prior {
    Prior::Object { live: live.cloned(), would: would.cloned() }
}

fn apply(fields: &Value) -> KubeAct {
    let mut manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}});
    merge(&mut manifest, fields);
    KubeAct::Apply { manifest, force: false }
}

fn delete(kind: &ObjectRef) -> KubeAct {
    KubeAct::Delete { object: kind.clone(), options: DeleteOptions::default() }
}

/// Takes a change of `before` to `left` back where there is `now` by this time; gives the patch.
fn patch(before: &Value, left: &Value, now: &Value) -> Result<Option<Value>, Conflict> {
    let prior = recorded(Some(&map("u", "1", before)), Some(&map("u", "1", left)));
    let acts = take_back(&apply(&json!({})), &prior, Some(&map("u", "9", now)))?;
    Ok(match &acts[..] {
        [] => None,
        [KubeAct::Patch { patch_type: PatchType::Merge, patch, subresource: None, .. }] => Some(patch.clone()),
        other => panic!("{other:?}"),
    })
}

#[test]
fn only_what_was_altered_is_put_back_and_a_race_is_a_conflict() {
    for (before, left, now, expected) in [
        (json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}}), None, Some(json!({"data": {"a": "1"}}))),
        (json!({"data": {"a": "1"}}), json!({"data": {}}), None, Some(json!({"data": {"a": "1"}}))),
        (json!({"data": {}}), json!({"data": {"a": "1"}}), None, Some(json!({"data": {"a": null}}))),
        (json!({}), json!({"data": {"a": "1"}}), None, Some(json!({"data": null}))),
        // In a map that we made, others put something: it stays.
        (
            json!({}),
            json!({"data": {"a": "1"}}),
            Some(json!({"data": {"a": "1", "b": "2"}})),
            Some(json!({"data": {"a": null}})),
        ),
        // Others changed something else.
        (
            json!({"data": {"a": "1", "b": "1"}}),
            json!({"data": {"a": "2", "b": "1"}}),
            Some(json!({"data": {"a": "2", "b": "5"}, "metadata": {"labels": {"theirs": "x"}}})),
            Some(json!({"data": {"a": "1"}})),
        ),
        // It is back already.
        (json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}}), Some(json!({"data": {"a": "1"}})), None),
        (json!({}), json!({"data": {"a": "1"}}), Some(json!({})), None),
        (json!({"data": {"a": "1"}}), json!({}), Some(json!({"data": {"a": "1"}})), None),
        // Nothing was altered.
        (json!({"data": {"a": "1"}}), json!({"data": {"a": "1"}}), Some(json!({"data": {"a": "7"}})), None),
        // Lists are one value.
        (json!({"items": [1, 2]}), json!({"items": [1]}), None, Some(json!({"items": [1, 2]}))),
        // A value where there was a map, and the other way round.
        (json!({"x": {"a": 1}}), json!({"x": 5}), None, Some(json!({"x": {"a": 1}}))),
        (json!({"x": 5}), json!({"x": {"a": 1}}), None, Some(json!({"x": 5}))),
        (json!({}), json!({"m": {"a~b/c": 1}}), None, Some(json!({"m": null}))),
    ] {
        let expected = expected.map(|mut patch| {
            patch["metadata"]["resourceVersion"] = json!("9");
            patch
        });
        let found = patch(&before, &left, now.as_ref().unwrap_or(&left));
        assert_eq!(found, Ok(expected), "{before} {left} {now:?}");
    }
}

#[test]
fn a_field_that_others_changed_is_a_conflict_with_its_pointer_and_both_values() {
    for (before, left, now, said) in [
        (
            json!({"data": {"a": "1"}}),
            json!({"data": {"a": "2"}}),
            json!({"data": {"a": "3"}}),
            r#"/data/a was left as "2" and is "3""#,
        ),
        (
            json!({"data": {"a": "1"}}),
            json!({}),
            json!({"data": {"a": "3"}}),
            r#"/data/a was left as nothing and is "3""#,
        ),
        (json!({"data": {"a": 1}}), json!({"data": {"a": 2}}), json!({}), "/data/a was left as 2 and is nothing"),
        (json!({"l": [1]}), json!({"l": [1, 2]}), json!({"l": [2, 1]}), "/l was left as [1,2] and is [2,1]"),
        (json!({"m": {"a~b/c": 1}}), json!({"m": {"a~b/c": 2}}), json!({"m": {"a~b/c": 3}}), "/m/a~0b~1c was left"),
    ] {
        let conflict = patch(&before, &left, &now).unwrap_err();
        assert!(conflict.to_string().contains(said), "{conflict}");
    }
    let long = "x".repeat(1000);
    let conflict = patch(&json!({"a": "1"}), &json!({"a": long}), &json!({"a": "3"})).unwrap_err();
    assert!(conflict.to_string().len() < 400, "{conflict}");
}

#[test]
fn values_of_a_secret_are_not_told() {
    let secret = |value: &str| json!({"kind": "Secret", "data": {"a": value}});
    let conflict = {
        let prior = recorded(Some(&map("u", "1", &secret("b2xk"))), Some(&map("u", "1", &secret("bmV3"))));
        take_back(&apply(&json!({"kind": "Secret"})), &prior, Some(&map("u", "9", &secret("dGhlaXJz")))).unwrap_err()
    };
    let text = conflict.to_string();
    assert!(text.contains("/data/a is not what was left there"), "{text}");
    assert!(!text.contains("bmV3") && !text.contains("dGhlaXJz"), "{text}");
}

#[test]
fn an_altered_object_that_is_gone_or_was_not_recorded_is_a_conflict() {
    let prior = recorded(Some(&map("u", "1", &json!({"a": 1}))), Some(&map("u", "1", &json!({"a": 2}))));
    assert!(matches!(take_back(&apply(&json!({"a": 2})), &prior, None), Err(Conflict::Gone(_))));
    let now = map("u", "2", &json!({"a": 2}));
    for prior in [Prior::None, Prior::DoneWhen(false), recorded(Some(&now), None)] {
        let conflict = take_back(&apply(&json!({"a": 2})), &prior, Some(&now));
        assert!(matches!(conflict, Err(Conflict::Unrecorded(_))), "{prior:?}");
    }
}

#[test]
fn what_was_made_is_deleted_as_long_as_it_is_ours() {
    let wanted = json!({"data": {"a": "1"}});
    // The server filled something in, another one each time.
    let would = map("dry", "", &json!({"data": {"a": "1"}, "spec": {"port": 30001}}));
    let now = map("u", "4", &json!({"data": {"a": "1", "theirs": "x"}, "spec": {"port": 30002}}));
    let prior = recorded(None, Some(&would));
    let options = DeleteOptions { uid: Some("u".into()), ..DeleteOptions::default() };
    let gone = KubeAct::Delete { object: object("", "ConfigMap"), options };
    assert_eq!(take_back(&apply(&wanted), &prior, Some(&now)), Ok(vec![gone]));
    assert_eq!(take_back(&apply(&wanted), &prior, None), Ok(vec![]));
    let mut leaving = now.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(take_back(&apply(&wanted), &prior, Some(&leaving)), Ok(vec![]));
    let mut theirs = now;
    theirs["data"]["a"] = json!("2");
    let conflict = take_back(&apply(&wanted), &prior, Some(&theirs)).unwrap_err();
    assert!(conflict.to_string().contains(r#"/data/a was left as "1" and is "2""#), "{conflict}");
}

#[test]
fn what_was_deleted_is_made_again_without_what_the_server_keeps() {
    let live = map("u", "3", &json!({"data": {"a": "1"}, "metadata": {"labels": {"l": "x"}}}));
    let prior = recorded(Some(&live), None);
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": "c", "namespace": "d", "labels": {"l": "x"}}});
    let config_map = object("", "ConfigMap");
    let again = vec![KubeAct::Apply { manifest, force: true }];
    assert_eq!(take_back(&delete(&config_map), &prior, None), Ok(again));
    // It never went; somebody made the same again; it is on its way; another one is there.
    assert_eq!(take_back(&delete(&config_map), &prior, Some(&live)), Ok(vec![]));
    let mut now = map("v", "8", &json!({"data": {"a": "1"}, "metadata": {"labels": {"l": "x"}}}));
    assert_eq!(take_back(&delete(&config_map), &prior, Some(&now)), Ok(vec![]));
    now["data"]["a"] = json!("2");
    let other = take_back(&delete(&config_map), &prior, Some(&now));
    assert!(matches!(other, Err(Conflict::Replaced { uid, .. }) if uid == "v"));
    let mut leaving = live.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(matches!(take_back(&delete(&config_map), &prior, Some(&leaving)), Err(Conflict::Leaving(_))));
    // There was nothing.
    assert_eq!(take_back(&delete(&config_map), &recorded(None, None), None), Ok(vec![]));
}

#[test]
fn what_others_make_again_and_what_is_lost_for_good() {
    let controller = json!({"metadata": {"ownerReferences": [{"kind": "ReplicaSet", "controller": true}]}});
    let pod = json!({"kind": "Pod", "metadata": {"ownerReferences": [{"kind": "Node"}]}, "spec": {"nodeName": "n1"}});
    let ended = json!({"kind": "Pod", "status": {"phase": "Succeeded"}});
    let evict = KubeAct::Evict { pod: object("", "Pod"), timeout_ms: 1 };
    let back = |fields: &Value| take_back(&evict, &recorded(Some(&map("u", "1", fields)), None), None);
    assert_eq!(back(&controller), Ok(vec![]));
    assert!(matches!(back(&ended), Err(Conflict::Irreversible(why)) if why.contains("had ended")));
    let Ok(acts) = back(&pod) else { panic!("made again") };
    assert!(
        matches!(&acts[..], [KubeAct::Apply { manifest, force: true }] if manifest["spec"] == json!({})),
        "{acts:?}"
    );
    for (group, kind) in [
        ("", "Namespace"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ] {
        let prior = recorded(Some(&map("u", "1", &json!({"kind": kind}))), None);
        let lost = take_back(&delete(&object(group, kind)), &prior, None);
        assert!(matches!(lost, Err(Conflict::Irreversible(_))), "{kind}");
    }
}

#[test]
fn a_number_of_replicas_is_set_back() {
    let of =
        |replicas: u32, version: &str| map("u", version, &json!({"spec": {"replicas": replicas, "paused": false}}));
    let scale = KubeAct::Scale { object: object("apps", "Deployment"), replicas: 0 };
    let prior = recorded(Some(&of(3, "1")), Some(&of(0, "1")));
    let back = KubeAct::Scale { object: object("apps", "Deployment"), replicas: 3 };
    assert_eq!(take_back(&scale, &prior, Some(&of(0, "5"))), Ok(vec![back]));
    assert_eq!(take_back(&scale, &prior, Some(&of(3, "5"))), Ok(vec![]));
    let conflict = take_back(&scale, &prior, Some(&of(1, "5"))).unwrap_err();
    assert!(conflict.to_string().contains("/spec/replicas was left as 0 and is 1"), "{conflict}");
    assert!(matches!(take_back(&scale, &prior, None), Err(Conflict::Gone(_))));
}

#[test]
fn processes_say_themselves_what_undo_means() {
    let exec = |undo: PodUndo| KubeAct::Exec {
        pod: object("", "Pod"),
        container: Some("main".into()),
        argv: vec!["freeze".into()],
        stdin: "x".into(),
        done_when: None,
        undo,
    };
    let back = |undo| take_back(&exec(undo), &Prior::None, None);
    let Ok(acts) = back(PodUndo::Inverse(vec!["thaw".into()])) else { panic!("an inverse") };
    assert!(matches!(&acts[..], [KubeAct::Exec { argv, container: Some(c), stdin, .. }]
        if argv == &["thaw"] && c == "main" && stdin.0.is_empty()));
    assert_eq!(back(PodUndo::Harmless), Ok(vec![]));
    assert_eq!(back(PodUndo::Irreversible("gone".into())), Err(Conflict::Irreversible("gone".into())));
    assert_eq!(back(PodUndo::ByHand("thaw it".into())), Err(Conflict::ByHand("thaw it".into())));
}

#[test]
fn files_of_pods_are_put_back() {
    let source = SourceRef { target: Target::Controller, path: "/x".into(), size: 3, sha256: sha256(b"new") };
    let copy = KubeAct::CopyIn { pod: object("", "Pod"), container: None, source, path: "/data/f".into() };
    let put_back = |before: Option<&str>| {
        let before = before.map(Into::into);
        let (pod, path, left) = (object("", "Pod"), "/data/f".into(), sha256(b"new"));
        Ok(vec![KubeAct::PutBack { pod, container: None, path, before, left }])
    };
    let file = |content: &str, kept: bool| Prior::PodFile {
        sha256: Some(sha256(content.as_bytes())),
        content: kept.then(|| content.into()),
    };
    assert_eq!(take_back(&copy, &Prior::PodFile { sha256: None, content: None }, None), put_back(None));
    assert_eq!(take_back(&copy, &file("old", true), None), put_back(Some("old")));
    assert_eq!(take_back(&copy, &file("new", false), None), Ok(vec![]));
    assert_eq!(take_back(&copy, &Prior::DoneWhen(true), None), Ok(vec![]));
    assert!(
        matches!(take_back(&copy, &file("old", false), None), Err(Conflict::Irreversible(t)) if t.contains("8 MiB"))
    );
    assert!(matches!(take_back(&copy, &Prior::DoneWhen(false), None), Err(Conflict::Unrecorded(_))));
}

#[test]
fn what_looks_like_a_secret_s_name_is_not_written_back() {
    let before = json!({"data": {"a": {"$secret": "pw"}}});
    assert!(matches!(patch(&before, &json!({}), &json!({})), Err(Conflict::ByHand(_))));
    let prior = recorded(Some(&map("u", "1", &before)), None);
    assert!(matches!(take_back(&delete(&object("", "ConfigMap")), &prior, None), Err(Conflict::ByHand(_))));
}

/// Fields by their path: an independent view of an object, in which a map without fields is not there.
type Fields = BTreeMap<Vec<&'static str>, Value>;

fn built(fields: &Fields) -> Value {
    let mut object = json!({});
    for (path, value) in fields {
        let mut at = &mut object;
        for key in path {
            at = &mut at[*key];
        }
        *at = value.clone();
    }
    object
}

/// Maps without fields are left out.
fn pruned(value: &Value) -> Option<Value> {
    let Value::Object(map) = value else { return Some(value.clone()) };
    let kept: serde_json::Map<_, _> = map.iter().filter_map(|(k, v)| Some((k.clone(), pruned(v)?))).collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

fn edited(fields: &Fields, edit: &BTreeMap<Vec<&'static str>, Option<Value>>) -> Fields {
    let mut fields = fields.clone();
    for (path, value) in edit {
        match value {
            Some(value) => drop(fields.insert(path.clone(), value.clone())),
            None => drop(fields.remove(path)),
        }
    }
    fields
}

/// No path is the beginning of another.
fn path() -> impl Strategy<Value = Vec<&'static str>> {
    let key = || prop::sample::select(vec!["a", "b/~"]);
    prop_oneof![
        Just(vec!["p"]),
        key().prop_map(|k| vec!["q", k]),
        (key(), key(), key()).prop_map(|(i, j, k)| vec!["r", i, j, k]),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![(0..3).prop_map(|n| json!(n)), "[xy]".prop_map(|s| json!(s)), (0..3).prop_map(|n| json!([n, {"k": n}]))]
}

fn edit() -> impl Strategy<Value = BTreeMap<Vec<&'static str>, Option<Value>>> {
    prop::collection::btree_map(path(), prop::option::of(value()), 1..6)
}

proptest! {
    #[test]
    fn what_others_changed_elsewhere_stays(
        original in prop::collection::btree_map(path(), value(), 0..8),
        change in edit(),
        theirs in edit(),
    ) {
        let theirs = theirs.into_iter().filter(|(path, _)| !change.contains_key(path)).collect();
        let left = edited(&original, &change);
        let mut now = map("u", "9", &built(&edited(&left, &theirs)));
        if let Some(patch) = patch(&built(&original), &built(&left), &built(&edited(&left, &theirs))).unwrap() {
            merge(&mut now, &patch);
        }
        let expected = map("u", "9", &built(&edited(&original, &theirs)));
        prop_assert_eq!(pruned(&now), pruned(&expected));
    }

    #[test]
    fn what_others_changed_in_the_same_place_is_never_written_over(
        original in prop::collection::btree_map(path(), value(), 0..8),
        change in edit(),
        theirs in edit(),
    ) {
        let left = edited(&original, &change);
        let there = edited(&left, &theirs);
        let is_theirs = |path: &Vec<&'static str>| {
            original.get(path) != left.get(path)
                && there.get(path) != left.get(path)
                && there.get(path) != original.get(path)
        };
        let disputed: Vec<_> = change.keys().filter(|path| is_theirs(path)).collect();
        match patch(&built(&original), &built(&left), &built(&there)) {
            Ok(_) => prop_assert!(disputed.is_empty(), "{disputed:?}"),
            Err(conflict) => prop_assert!(!disputed.is_empty(), "{conflict}"),
        }
    }
}

#[test]
fn a_pod_that_ran_has_to_run_again_before_anything_is_taken_back_in_it() {
    let pod = object("", "Pod");
    let ready = |status: &str| json!({"kind": "Pod", "status": {"conditions": [{"type": "Ready", "status": status}]}});
    let awaited = |act: &KubeAct, live: &Value| awaited(act, &recorded(Some(live), None));
    let Some(KubeLook::Wait { object: waited, condition: Condition::Status(kind, status), .. }) =
        awaited(&delete(&pod), &ready("True"))
    else {
        panic!("it is not waited for");
    };
    assert_eq!((waited, kind.as_str(), status.as_str()), (pod.clone(), "Ready", "True"));
    // It never ran, somebody else makes it again, or it is no pod.
    assert_eq!(awaited(&delete(&pod), &ready("False")), None);
    let mut controlled = ready("True");
    controlled["metadata"]["ownerReferences"] = json!([{"controller": true}]);
    assert_eq!(awaited(&KubeAct::Evict { pod, timeout_ms: 1 }, &controlled), None);
    assert_eq!(awaited(&delete(&object("", "ConfigMap")), &map("u", "1", &json!({}))), None);
}

#[test]
fn a_volume_that_was_let_go_keeps_its_data() {
    let volume = |policy: &str, phase: &str| {
        json!({"kind": "PersistentVolume", "metadata": {"resourceVersion": "1"}, "status": {"phase": phase},
            "spec": {"persistentVolumeReclaimPolicy": policy}})
    };
    let patch = KubeAct::Patch {
        object: object("", "PersistentVolume"),
        patch_type: PatchType::Merge,
        patch: json!({}),
        subresource: None,
    };
    let back = |before: &str, phase: &str| {
        let prior = recorded(Some(&volume(before, "Bound")), Some(&volume("Retain", "Bound")));
        take_back(&patch, &prior, Some(&volume("Retain", phase)))
    };
    assert!(matches!(back("Delete", "Bound"), Ok(acts) if acts.len() == 1));
    for phase in ["Released", "Failed"] {
        let refused = back("Delete", phase);
        assert!(
            matches!(&refused, Err(Conflict::Irreversible(why)) if why.contains("data would be deleted")),
            "{refused:?}"
        );
    }
    // It was to go, and went.
    for (left, is_for_good) in [("Delete", true), ("Retain", false)] {
        let prior = recorded(Some(&volume("Retain", "Released")), Some(&volume(left, "Released")));
        let refused = take_back(&patch, &prior, None);
        assert_eq!(matches!(refused, Err(Conflict::Irreversible(_))), is_for_good, "{left}: {refused:?}");
    }
}
