//! Changes of a real cluster: in doubt and settled, taken back, and kept from other runs. See `support/room.rs` for what it needs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use runbook_engine::backend::{Backend as _, CallContext};
use runbook_model::call::{
    Answer, CallError, Condition, DeleteOptions, Finding, KubeAct, ObjectRef, PatchType, PodUndo, Prior, SourceRef,
    Target, Verdict,
};
use runbook_model::undo_kube::{Conflict, take_back};
use serde_json::{Value, json};
use sha2::Digest as _;
use support::room::{Room, access};
use support::{act, backend, change_context, context, home, object};

impl Room {
    /// What became of a change, had its answer been lost.
    async fn settled(&self, change: &KubeAct, prior: &Prior) -> Finding {
        self.backend.settle(&home(), &act(change.clone()), prior, &context(60.0)).await.unwrap()
    }

    /// Looks, asks what became of it, acts, and asks again; gives what was there before.
    async fn made(&self, change: &KubeAct) -> Prior {
        let prior = self.prior(change.clone()).await.unwrap();
        assert_eq!(self.settled(change, &prior).await, Finding::NotDone, "{change:?}");
        let answer = self.backend.act(&home(), &act(change.clone()), &prior, &context(60.0)).await;
        assert_eq!(answer, Ok(Answer::Verdict(Verdict::Changed)), "{change:?}");
        let done = Finding::Done(Answer::Verdict(Verdict::Changed));
        assert_eq!(self.settled(change, &prior).await, done, "{change:?}");
        prior
    }

    /// Takes a change back, twice: the second time there is nothing to do.
    async fn undone(&self, change: &KubeAct, prior: &Prior, object: &ObjectRef) {
        let acts = take_back(change, prior, self.get(object.clone()).await.as_ref()).unwrap();
        assert_eq!(acts.len(), 1, "{acts:?}");
        for back in acts {
            assert_eq!(self.change(back).await, Ok(Verdict::Changed));
        }
        let again = take_back(change, prior, self.get(object.clone()).await.as_ref());
        assert_eq!(again, Ok(vec![]), "{change:?}");
    }
}

#[tokio::test]
async fn an_object_is_altered_and_put_back_around_what_others_did() {
    let Some(room) = Room::new().await else { return };
    let reference = room.object("", "ConfigMap", "c");
    let apply = |data: Value| KubeAct::Apply { manifest: room.config_map(&data), force: true };
    let merge = |patch: Value| KubeAct::Patch {
        object: reference.clone(),
        patch_type: PatchType::Merge,
        patch,
        subresource: None,
    };
    let created = apply(json!({"a": "1"}));
    let before_all = room.made(&created).await;
    let altered = apply(json!({"a": "2", "b": "1"}));
    let before = room.made(&altered).await;
    room.change(merge(json!({"data": {"theirs": "x"}, "metadata": {"labels": {"l": "y"}}}))).await.unwrap();
    assert_eq!(room.settled(&altered, &before).await, Finding::Done(Answer::Verdict(Verdict::Changed)));
    room.undone(&altered, &before, &reference).await;
    let now = room.get(reference.clone()).await.unwrap();
    assert_eq!(now["data"], json!({"a": "1", "theirs": "x"}));
    assert_eq!(now["metadata"]["labels"], json!({"l": "y"}));
    // Between the look of an undo and its patch, somebody writes: that is no silent loss.
    let patched = merge(json!({"data": {"a": "5"}}));
    let before = room.made(&patched).await;
    let acts = take_back(&patched, &before, room.get(reference.clone()).await.as_ref()).unwrap();
    room.change(merge(json!({"data": {"a": "6"}}))).await.unwrap();
    let raced = room.change(acts[0].clone()).await;
    assert!(matches!(raced, Err(CallError::Conflict(_))), "{raced:?}");
    let disputed = take_back(&patched, &before, room.get(reference.clone()).await.as_ref());
    assert!(
        matches!(&disputed, Err(Conflict::Fields { fields, .. }) if fields[0].pointer == "/data/a"),
        "{disputed:?}"
    );
    room.change(merge(json!({"data": {"a": "1"}}))).await.unwrap();
    room.undone(&created, &before_all, &reference).await;
    assert_eq!(room.get(reference.clone()).await, None);
    room.leave().await;
}

#[tokio::test]
async fn a_json_patch_in_doubt_is_told_apart_or_left_to_a_person() {
    let Some(room) = Room::new().await else { return };
    let reference = room.object("", "ConfigMap", "c");
    room.change(KubeAct::Apply { manifest: room.config_map(&json!({"a": "1"})), force: false }).await.unwrap();
    let patch = KubeAct::Patch {
        object: reference.clone(),
        patch_type: PatchType::JsonPatch,
        patch: json!([{"op": "move", "from": "/data/a", "path": "/data/b"}]),
        subresource: None,
    };
    let prior = room.made(&patch).await;
    room.undone(&patch, &prior, &reference).await;
    let other = room.prior(patch.clone()).await.unwrap();
    room.change(KubeAct::Patch {
        object: reference.clone(),
        patch_type: PatchType::Merge,
        patch: json!({"data": {"c": "x"}}),
        subresource: None,
    })
    .await
    .unwrap();
    assert!(matches!(room.settled(&patch, &other).await, Finding::Unclear(_)));
    room.leave().await;
}

#[tokio::test]
async fn replicas_are_set_back_and_what_was_deleted_is_made_again() {
    let Some(room) = Room::new().await else { return };
    let reference = room.object("apps", "Deployment", "web");
    room.change(KubeAct::Apply { manifest: room.deployment(2), force: false }).await.unwrap();
    let scale = KubeAct::Scale { object: reference.clone(), replicas: 0 };
    let prior = room.made(&scale).await;
    room.undone(&scale, &prior, &reference).await;
    assert_eq!(room.get(reference.clone()).await.unwrap()["spec"]["replicas"], json!(2));
    let before = room.get(reference.clone()).await.unwrap();
    let delete = KubeAct::Delete { object: reference.clone(), options: DeleteOptions::default() };
    let prior = room.made(&delete).await;
    room.wait(reference.clone(), Condition::Absent, 60.0).await.expect("it is gone");
    room.undone(&delete, &prior, &reference).await;
    let after = room.get(reference.clone()).await.unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    room.leave().await;
}

#[tokio::test]
async fn pods_and_their_files_are_put_back() {
    let Some(room) = Room::with_pod("p").await else { return };
    let reference = room.pod("p");
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("f");
    std::fs::write(&here, "new").unwrap();
    let source = SourceRef {
        target: Target::Controller,
        path: here.to_string_lossy().into_owned(),
        size: 3,
        sha256: hex::encode(sha2::Sha256::digest(b"new")),
    };
    let copy = KubeAct::CopyIn { pod: reference.clone(), container: None, source, path: "/tmp/f".into() };
    for before in [None, Some("old\n")] {
        if before.is_some() {
            room.run("p", &["sh", "-c", "echo old > /tmp/f"], b"").await.unwrap();
        }
        let prior = room.made(&copy).await;
        let acts = take_back(&copy, &prior, None).unwrap();
        assert_eq!(room.change(acts[0].clone()).await, Ok(Verdict::Changed));
        assert_eq!(room.change(acts[0].clone()).await, Ok(Verdict::Unchanged));
        let now = room.run("p", &["sh", "-c", "cat /tmp/f || true"], b"").await.unwrap();
        assert_eq!(now.stdout.lossy(), before.unwrap_or_default());
    }
    let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let exec = KubeAct::Exec {
        pod: reference.clone(),
        container: None,
        argv: argv(&["touch", "/tmp/mark"]),
        stdin: Default::default(),
        done_when: Some(argv(&["test", "-e", "/tmp/mark"])),
        undo: PodUndo::Inverse(argv(&["rm", "/tmp/mark"])),
    };
    assert!(matches!(room.settled(&exec, &Prior::None).await, Finding::Unclear(_)));
    room.backend.act(&home(), &act(exec.clone()), &Prior::DoneWhen(false), &context(60.0)).await.unwrap();
    assert!(matches!(room.settled(&exec, &Prior::None).await, Finding::Done(_)));
    let back = take_back(&exec, &Prior::None, None).unwrap();
    room.backend.act(&home(), &act(back[0].clone()), &Prior::None, &context(60.0)).await.unwrap();
    assert_eq!(room.prior(exec).await, Ok(Prior::DoneWhen(false)));
    // A pod that nobody makes again by himself.
    let evict = KubeAct::Evict { pod: reference.clone(), timeout_ms: 20_000 };
    let prior = room.made(&evict).await;
    room.wait(reference.clone(), Condition::Absent, 60.0).await.expect("the pod is gone");
    room.undone(&evict, &prior, &reference).await;
    room.leave().await;
}

#[tokio::test]
async fn a_real_lease_is_taken_kept_from_others_and_given_back() {
    let Some(room) = Room::new().await else { return };
    let lease = || object("coordination.k8s.io", "Lease", Some("kube-system"), "runbook");
    let change = |value: &str| act(KubeAct::Apply { manifest: room.config_map(&json!({"a": value})), force: true });
    let make = async |ctx: CallContext, value: &str| {
        let backend = backend(access().unwrap());
        let answer = backend.act(&home(), &change(value), &Prior::None, &ctx).await;
        (backend, answer)
    };
    let (first, made) = make(change_context("r1", 1), "1").await;
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(room.get(lease()).await.unwrap()["spec"]["holderIdentity"], "r1/1");
    let (other, refused) = make(change_context("r2", 1), "2").await;
    let Err(CallError::Conflict(text)) = refused else { panic!("{refused:?}") };
    for part in ["r1/1", "ann@laptop", "kubectl --namespace kube-system delete lease runbook"] {
        assert!(text.contains(part), "{text}");
    }
    let (second, made) = make(change_context("r1", 2), "3").await;
    assert!(made.is_ok(), "{made:?}");
    let (earlier, refused) = make(change_context("r1", 1), "4").await;
    assert!(matches!(&refused, Err(CallError::Conflict(text)) if text.contains("session 2")), "{refused:?}");
    for backend in [first, other, earlier] {
        backend.close().await;
        assert_eq!(room.get(lease()).await.unwrap()["spec"]["holderIdentity"], "r1/2");
    }
    assert_eq!(room.get(room.object("", "ConfigMap", "c")).await.unwrap()["data"]["a"], "3");
    second.close().await;
    assert_eq!(room.get(lease()).await, None);
    room.leave().await;
}
