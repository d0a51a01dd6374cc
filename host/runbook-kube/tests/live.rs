//! The backend against a real API server, and with pods where there is a node.
//!
//! See `support/room.rs` for what these tests need.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{Backend as _, CallContext};
use runbook_kube::{ClusterAccess, Dial, Stream};
use runbook_model::call::{
    Answer, CallError, Condition, DeleteOptions, KubeAct, KubeLook, PatchType, Prior, Selector, SourceRef, Target,
    Verdict,
};
use serde_json::{Value, json};
use sha2::Digest as _;
use support::room::{Room, access, pods_run};
use support::{act, backend, context, home, kind, look, object, plan_context};

#[tokio::test]
async fn objects_are_planned_applied_and_unchanged_after() {
    let Some(room) = Room::new().await else { return };
    let apply = |data: Value| KubeAct::Apply { manifest: room.config_map(&data), force: false };
    let reference = || room.object("", "ConfigMap", "c");
    assert_eq!(room.get(reference()).await, None);
    let prior = room.prior(apply(json!({"a": "1"}))).await.unwrap();
    let Prior::Object { live: None, would: Some(would) } = &prior else { panic!("{prior:?}") };
    assert_eq!(would["data"], json!({"a": "1"}));
    assert_eq!(room.get(reference()).await, None, "a plan changes nothing");
    assert_eq!(room.change(apply(json!({"a": "1"}))).await, Ok(Verdict::Changed));
    assert_eq!(room.change(apply(json!({"a": "1"}))).await, Ok(Verdict::Unchanged));
    assert_eq!(room.change(apply(json!({"b": "2"}))).await, Ok(Verdict::Changed));
    assert_eq!(room.get(reference()).await.unwrap()["data"], json!({"b": "2"}), "what we no longer want is taken away");

    let patch = |patch_type, patch: Value| KubeAct::Patch { object: reference(), patch_type, patch, subresource: None };
    let merge = patch(PatchType::Merge, json!({"data": {"c": "3"}}));
    let Ok(Prior::Object { live: Some(_), would: Some(would) }) = room.prior(merge.clone()).await else { panic!() };
    assert_eq!(would["data"], json!({"b": "2", "c": "3"}));
    assert_eq!(room.change(merge.clone()).await, Ok(Verdict::Changed));
    assert_eq!(room.change(merge).await, Ok(Verdict::Unchanged));
    let remove = patch(PatchType::JsonPatch, json!([{"op": "remove", "path": "/data/c"}]));
    assert_eq!(room.change(remove.clone()).await, Ok(Verdict::Changed));
    assert!(matches!(room.change(remove).await, Err(CallError::Invalid(_))));

    let delete = KubeAct::Delete { object: reference(), options: DeleteOptions::default() };
    let prior = room.prior(delete.clone()).await.unwrap();
    let Prior::Object { live: Some(_), would: None } = &prior else { panic!("{prior:?}") };
    assert_eq!(room.change(delete.clone()).await, Ok(Verdict::Changed));
    assert_eq!(room.change(delete.clone()).await, Ok(Verdict::Unchanged));
    // Another object of the same name is not what was looked at.
    room.change(apply(json!({}))).await.unwrap();
    let error = room.backend.act(&home(), &act(delete), &prior, &context(30.0)).await;
    assert!(matches!(error, Err(CallError::Conflict(_))), "{error:?}");
    room.leave().await;
}

#[tokio::test]
async fn a_conflict_names_the_other_manager() {
    let Some(room) = Room::new().await else { return };
    let manifest = room.config_map(&json!({"a": "theirs"}));
    let theirs = CallContext { field_manager: "argocd".to_owned(), ..context(30.0) };
    let apply = act(KubeAct::Apply { manifest, force: false });
    room.backend.act(&home(), &apply, &Prior::None, &theirs).await.unwrap();
    let ours = |force| KubeAct::Apply { manifest: room.config_map(&json!({"a": "ours"})), force };
    let error = room.prior(ours(false)).await;
    let Err(CallError::Conflict(text)) = error else { panic!("{error:?}") };
    assert!(text.contains("argocd") && text.contains(".data.a") && text.contains("force"), "{text}");
    assert_eq!(room.change(ours(true)).await, Ok(Verdict::Changed));
    room.leave().await;
}

#[tokio::test]
async fn mistakes_are_explained() {
    let Some(room) = Room::new().await else { return };
    let apply = |manifest: Value| KubeAct::Apply { manifest, force: false };
    let mut nowhere = room.config_map(&json!({}));
    nowhere["metadata"]["namespace"] = json!("rb-no-such-namespace");
    let error = room.prior(apply(nowhere.clone())).await;
    assert!(matches!(&error, Err(CallError::NotFound(t)) if t.contains("rb-no-such-namespace")), "{error:?}");
    nowhere["metadata"].as_object_mut().unwrap().remove("namespace");
    let error = room.prior(apply(nowhere)).await;
    assert!(matches!(&error, Err(CallError::Invalid(t)) if t.contains("needs a namespace")), "{error:?}");
    let mut wrong = room.deployment(1);
    wrong["spec"]["replica"] = json!(1);
    let error = room.prior(apply(wrong)).await;
    assert!(matches!(&error, Err(CallError::Invalid(t)) if t.contains("replica")), "{error:?}");
    let error = room.look(KubeLook::Get { object: room.object("example.org", "Widget", "x") }).await;
    assert!(matches!(&error, Err(CallError::NotFound(t)) if t.contains("does not serve")), "{error:?}");
    let error = room.look(KubeLook::Get { object: room.object("", "pods", "x") }).await;
    assert!(matches!(&error, Err(CallError::NotFound(t)) if t.contains("is Pod meant?")), "{error:?}");
    room.leave().await;
}

#[tokio::test]
async fn lists_come_in_pages_and_by_selector() {
    let Some(room) = Room::new().await else { return };
    let make = async |n: u32| {
        let group = if n.is_multiple_of(2) { "even" } else { "odd" };
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("c{n}"), "namespace": room.namespace, "labels": {"group": group}}});
        let apply = act(KubeAct::Apply { manifest, force: false });
        room.backend.act(&home(), &apply, &Prior::None, &context(60.0)).await.unwrap();
    };
    for start in (0..520).step_by(20) {
        futures::future::join_all((start..start + 20).map(make)).await;
    }
    let list = async |labels: Option<&str>, fields: Option<&str>| {
        let selector = Selector {
            kind: kind("", "", "ConfigMap"),
            namespace: Some(room.namespace.clone()),
            labels: labels.map(str::to_owned),
            fields: fields.map(str::to_owned),
        };
        match room.look(KubeLook::List { selector }).await {
            Ok(Answer::Objects(found)) => found.len(),
            other => panic!("{other:?}"),
        }
    };
    assert!(list(None, None).await >= 520);
    assert_eq!(list(Some("group in (even)"), None).await, 260);
    assert_eq!(list(Some("group=odd"), Some("metadata.name=c7")).await, 1);
    room.leave().await;
}

#[tokio::test]
async fn identity_and_kinds() {
    let Some(room) = Room::new().await else { return };
    let Ok(Answer::Text(uid)) = room.look(KubeLook::Uid).await else { panic!("no uid") };
    let mut pinned = access().unwrap();
    pinned.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    let error = backend(pinned.clone()).look(&home(), &look(KubeLook::Uid), &plan_context(20.0)).await;
    assert!(matches!(&error, Err(CallError::Conflict(t)) if t.contains(&uid)), "{error:?}");
    pinned.uid = Some(uid.clone());
    let same = backend(pinned).look(&home(), &look(KubeLook::Uid), &plan_context(20.0)).await;
    assert_eq!(same, Ok(Answer::Text(uid)));
    // Served in another version by old and new servers: whichever there is.
    assert_eq!(room.get(room.object("batch", "CronJob", "x")).await, None);
    assert_eq!(room.get(room.object("policy", "PodDisruptionBudget", "x")).await, None);
    assert_eq!(room.get(object("storage.k8s.io", "StorageClass", None, "x")).await, None);
    room.leave().await;
}

/// As through SSH: somebody else's connections, with TLS over them.
struct Relay(u16);

#[async_trait]
impl Dial for Relay {
    async fn dial(&self, _: &str, _: u16) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(tokio::net::TcpStream::connect(("127.0.0.1", self.0)).await?))
    }
}

#[tokio::test]
async fn the_api_is_reached_through_another_connection() {
    let Some(mut access) = access() else { return };
    let port = server_of(&access).rsplit(':').next().unwrap().parse().unwrap();
    access.via = Some(Arc::new(Relay(port)));
    // A name of the certificate that nobody resolves here.
    access.server = Some("https://kubernetes.default.svc".to_owned());
    let answer = backend(access).look(&home(), &look(KubeLook::Uid), &plan_context(20.0)).await;
    assert!(matches!(&answer, Ok(Answer::Text(uid)) if uid.len() == 36), "{answer:?}");
}

fn server_of(access: &ClusterAccess) -> String {
    access.kubeconfig.lines().find_map(|l| l.split('"').find(|p| p.starts_with("https://"))).unwrap().to_owned()
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_or_found_is_named() {
    let Some(mut access) = access() else { return };
    access.server = Some("https://127.0.0.1:1".to_owned());
    let error = backend(access.clone()).look(&home(), &look(KubeLook::Uid), &plan_context(20.0)).await;
    assert!(matches!(&error, Err(CallError::Unreachable(t)) if t.contains("https://127.0.0.1:1")), "{error:?}");
    let port = server_of(&access).rsplit(':').next().unwrap().parse().unwrap();
    access.via = Some(Arc::new(Relay(port)));
    access.server = Some("https://somebody-else.example".to_owned());
    let error = backend(access).look(&home(), &look(KubeLook::Uid), &plan_context(20.0)).await;
    assert!(matches!(&error, Err(CallError::Unreachable(t)) if t.contains("certificate")), "{error:?}");
}

#[tokio::test]
async fn scaling_and_a_rollout_that_does_not_come() {
    let Some(room) = Room::new().await else { return };
    let deployment = || room.object("apps", "Deployment", "web");
    room.change(KubeAct::Apply { manifest: room.deployment(0), force: false }).await.unwrap();
    room.wait(deployment(), Condition::RolledOut, 60.0).await.expect("nothing is rolled out at once");
    let scale = |replicas| KubeAct::Scale { object: deployment(), replicas };
    let prior = room.prior(scale(1)).await.unwrap();
    let Prior::Object { live: Some(live), would: Some(would) } = &prior else { panic!("{prior:?}") };
    assert_eq!((&live["spec"]["replicas"], &would["spec"]["replicas"]), (&json!(0), &json!(1)));
    assert_eq!(room.get(deployment()).await.unwrap()["spec"]["replicas"], json!(0));
    assert_eq!(room.change(scale(1)).await, Ok(Verdict::Changed));
    assert_eq!(room.change(scale(1)).await, Ok(Verdict::Unchanged));
    let wait = KubeLook::Wait { object: deployment(), condition: Condition::RolledOut, timeout_ms: 10_000 };
    let error = room.look(wait.clone()).await;
    assert!(matches!(&error, Err(CallError::Unknown(t)) if t.contains("waits for")), "{error:?}");
    let started = Instant::now();
    let error = room.backend.look(&home(), &look(wait), &context(30.0)).await;
    let Err(CallError::TimedOut(text)) = error else { panic!("{error:?}") };
    assert!(text.contains("0 of 1 replicas available") && text.contains("pod web-"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(20));
    if pods_run() {
        assert!(text.contains("registry.invalid/nope:1"), "{text}");
    } else {
        assert!(text.contains("FailedScheduling") || text.contains("Unschedulable"), "{text}");
    }
    room.leave().await;
}

#[tokio::test]
async fn waiting_for_what_comes_and_goes() {
    let Some(room) = Room::new().await else { return };
    let reference = || room.object("", "ConfigMap", "c");
    let manifest = room.config_map(&json!({"phase": "done"}));
    let later = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        room.change(KubeAct::Apply { manifest, force: false }).await.unwrap();
    };
    let equals = Condition::Equals("/data/phase".into(), json!("done"));
    let (waited, ()) = tokio::join!(room.wait(reference(), equals, 20.0), later);
    assert_eq!(waited, Ok(()));
    let later = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let delete = KubeAct::Delete { object: reference(), options: DeleteOptions::default() };
        room.change(delete).await.unwrap();
    };
    let (waited, ()) = tokio::join!(room.wait(reference(), Condition::Absent, 20.0), later);
    assert_eq!(waited, Ok(()));
    let error = room.wait(object("", "Namespace", None, &room.namespace), Condition::Absent, 1.0).await;
    assert!(matches!(&error, Err(CallError::TimedOut(t)) if t.contains("nobody deleted it")), "{error:?}");
    room.leave().await;
}

#[tokio::test]
async fn an_eviction_waits_for_the_disruption_budget() {
    let Some(room) = Room::new().await else { return };
    let manifest = room.pod_manifest("p", "docker.io/library/busybox:1.35");
    room.change(KubeAct::Apply { manifest, force: false }).await.unwrap();
    let evict = |timeout_ms| KubeAct::Evict { pod: room.pod("p"), timeout_ms };
    let served = room.look(KubeLook::Get { object: room.object("policy", "PodDisruptionBudget", "b") }).await;
    assert_eq!(served, Ok(Answer::Object(None)));
    if pods_run() {
        let ready = Condition::Status("Ready".into(), "True".into());
        room.wait(room.pod("p"), ready, 120.0).await.expect("the pod is ready");
        let budget = |version: &str| {
            json!({"apiVersion": format!("policy/{version}"), "kind": "PodDisruptionBudget",
                "metadata": {"name": "b", "namespace": room.namespace},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}})
        };
        if room.change(KubeAct::Apply { manifest: budget("v1"), force: false }).await.is_err() {
            room.change(KubeAct::Apply { manifest: budget("v1beta1"), force: false }).await.unwrap();
        }
        let reference = || room.object("policy", "PodDisruptionBudget", "b");
        let seen = Condition::Equals("/status/currentHealthy".into(), json!(1));
        room.wait(reference(), seen, 60.0).await.expect("the budget counts the pod");
        let error = room.change(evict(2000)).await;
        assert!(matches!(&error, Err(CallError::TimedOut(t)) if t.contains("disruption budget")), "{error:?}");
        assert!(room.get(room.pod("p")).await.is_some());
        room.change(KubeAct::Delete { object: reference(), options: DeleteOptions::default() }).await.unwrap();
    }
    assert_eq!(room.change(evict(20_000)).await, Ok(Verdict::Changed));
    room.wait(room.pod("p"), Condition::Absent, 60.0).await.expect("the pod is gone");
    assert_eq!(room.change(evict(1000)).await, Ok(Verdict::Unchanged));
    room.leave().await;
}

#[tokio::test]
async fn processes_in_a_real_pod() {
    let Some(room) = Room::with_pod("p").await else { return };
    let observe = KubeLook::Exec {
        pod: room.pod("p"),
        container: None,
        argv: ["sh", "-c", "echo out; echo err >&2; exit 7"].map(str::to_owned).into(),
    };
    let answer = room.look(observe).await;
    let Ok(Answer::Pod(output)) = answer else { panic!("{answer:?}") };
    assert_eq!(
        (output.exit_code, output.stdout.lossy().as_ref(), output.stderr.lossy().as_ref()),
        (7, "out\n", "err\n")
    );
    let long = vec![b'y'; 2 << 20];
    let output = room.run("p", &["cat"], &long).await.unwrap();
    assert!(output.exit_code == 0 && output.stdout.0 == long, "{} bytes", output.stdout.0.len());
    let output = room.run("p", &["wc", "-c"], b"five!").await.unwrap();
    assert_eq!(output.stdout.lossy().trim(), "5");
    let output = room.run("p", &["printf", "%s|", "a b", "$HOME", "`id`"], b"").await.unwrap();
    assert_eq!(output.stdout.lossy(), "a b|$HOME|`id`|");
    let error = room.run("p", &["no-such-program"], b"").await;
    assert!(matches!(&error, Err(CallError::Failed(t)) if t.contains("no-such-program")), "{error:?}");
    let error = room.run("nope", &["true"], b"").await;
    assert!(matches!(&error, Err(CallError::NotFound(t)) if t.contains("nope")), "{error:?}");
    let logs = KubeLook::Logs { pod: room.pod("p"), container: Some("main".into()), lines: 5 };
    assert_eq!(room.look(logs).await, Ok(Answer::Text("hello\n".into())));
    // The pod goes while something runs in it: that is no end of the process that could be believed.
    let gone = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        room.change(KubeAct::Delete { object: room.pod("p"), options }).await.unwrap();
    };
    let (ended, ()) = tokio::join!(room.run("p", &["sleep", "50"], b""), gone);
    assert!(!matches!(&ended, Ok(output) if output.exit_code == 0), "{ended:?}");
    room.leave().await;
}

#[tokio::test]
async fn a_large_file_into_a_real_pod_and_out_again() {
    let Some(room) = Room::with_pod("p").await else { return };
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("chime.mp3");
    let content: Vec<u8> = (0..15_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&here, &content).unwrap();
    let sha256 = hex::encode(sha2::Sha256::digest(&content));
    let source = SourceRef {
        target: Target::Controller,
        path: here.to_string_lossy().into_owned(),
        size: content.len() as u64,
        sha256: sha256.clone(),
    };
    let copy = act(KubeAct::CopyIn { pod: room.pod("p"), container: None, source, path: "/tmp/a chime.mp3".into() });
    let ctx = CallContext { artifacts: dir.path().join("artifacts"), ..context(120.0) };
    let prior = room.backend.prior(&home(), &copy, &plan_context(20.0)).await.unwrap();
    assert_eq!(prior, Prior::PodFile { sha256: None, content: None });
    assert_eq!(room.backend.act(&home(), &copy, &prior, &ctx).await, Ok(Answer::Verdict(Verdict::Changed)));
    let prior = room.backend.prior(&home(), &copy, &plan_context(20.0)).await.unwrap();
    assert_eq!(prior, Prior::PodFile { sha256: Some(sha256.clone()), content: None });
    let listing = room.run("p", &["ls", "/tmp"], b"").await.unwrap();
    assert_eq!(listing.stdout.lossy(), "a chime.mp3\n");
    let out = look(KubeLook::CopyOut { pod: room.pod("p"), container: None, path: "/tmp/a chime.mp3".into() });
    let answer = room.backend.look(&home(), &out, &ctx).await;
    let Ok(Answer::Source(copied)) = answer else { panic!("{answer:?}") };
    assert_eq!((copied.size, copied.sha256), (content.len() as u64, sha256));
    assert!(std::fs::read(copied.path).unwrap() == content);
    room.leave().await;
}

#[tokio::test]
async fn a_silent_process_is_not_taken_for_dead() {
    let Some(room) = Room::with_pod("p").await else { return };
    let argv = ["sleep", "75"].map(str::to_owned).into();
    let sleep = KubeLook::Exec { pod: room.pod("p"), container: None, argv };
    let answer = room.backend.look(&home(), &look(sleep), &plan_context(100.0)).await;
    assert!(matches!(&answer, Ok(Answer::Pod(output)) if output.exit_code == 0), "{answer:?}");
    room.leave().await;
}
