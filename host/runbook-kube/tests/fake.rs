//! The backend against a scripted API server: what it asks, and what it makes of each answer.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::{Backend as _, CallContext, Secrets};
use runbook_kube::gate::Counts;
use runbook_kube::{ClusterAccess, KubeBackend, KubeconfigSource, Origin};
use runbook_model::call::{
    Answer, CallError, Condition, DeleteOptions, KubeAct, KubeLook, PatchType, PodUndo, Prior, Selector, Target,
    Verdict,
};
use serde_json::{Value, json};
use support::server::{Reply, Seen, Server, absent, status};
use support::{act, backend, context, home, kind, look, object, plan_context, pod};

const POD: &str = "/api/v1/namespaces/d/pods/web";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/d/deployments/web";

fn deployment() -> runbook_model::call::ObjectRef {
    object("apps", "Deployment", Some("d"), "web")
}

fn get(object: runbook_model::call::ObjectRef) -> runbook_model::call::Look {
    look(KubeLook::Get { object })
}

fn live(name: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "d", "uid": "u1", "resourceVersion": "7"}})
}

#[tokio::test]
async fn absent_is_said_only_where_the_server_said_so() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        POD => Some(absent("pods", "web")),
        "/api/v1/namespaces/d/pods/there" => Some(Reply::Json(200, live("there"))),
        "/api/v1/namespaces/d/pods/other" => Some(Reply::Json(200, live("there"))),
        "/api/v1/namespaces/d/pods/html" => Some(Reply::Text(404, "<html>not found</html>")),
        "/api/v1/namespaces/d/pods/portal" => Some(Reply::Text(200, "<html>please log in</html>")),
        "/api/v1/namespaces/d/pods/secret" => {
            Some(Reply::Json(403, status(403, "Forbidden", "pods \"secret\" is forbidden: no rule", &json!({}))))
        }
        "/api/v1/namespaces/d/pods/expired" => {
            Some(Reply::Json(401, status(401, "Unauthorized", "Unauthorized", &json!({}))))
        }
        _ => None,
    });
    let backend = backend(server.access());
    let ask = async |name: &str| backend.look(&home(), &get(pod(name)), &plan_context(10.0)).await;
    assert_eq!(ask("web").await, Ok(Answer::Object(None)));
    assert_eq!(ask("there").await, Ok(Answer::Object(Some(live("there")))));
    assert!(matches!(ask("other").await, Err(CallError::Unreachable(_))));
    assert!(matches!(ask("html").await, Err(CallError::NotFound(_))));
    assert!(
        matches!(ask("portal").await, Err(CallError::Unreachable(text)) if text.contains("not a Kubernetes API server"))
    );
    assert!(
        matches!(ask("secret").await, Err(CallError::Failed(text)) if text.contains("403") && text.contains("no rule"))
    );
    assert!(matches!(ask("expired").await, Err(CallError::Failed(text)) if text.contains("401")));
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_no_absent_object() {
    let server = Server::new(|_, _| None);
    let backend = backend(server.access());
    for (group, version, name, hint) in [
        ("openebs.io", "", "BlockDevice", "no API group openebs.io"),
        ("apps", "", "deployments", "is Deployment meant?"),
        ("batch", "v1", "CronJob", "it serves v1beta1"),
    ] {
        let mut object = object(group, name, Some("d"), "x");
        object.kind = kind(group, version, name);
        let error = backend.look(&home(), &get(object), &plan_context(10.0)).await.err();
        assert!(
            matches!(&error, Some(CallError::NotFound(text)) if text.contains("does not serve") && text.contains(hint)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn the_newest_served_version_is_taken() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        "/apis/batch/v1beta1/namespaces/d/cronjobs/x" => Some(absent("cronjobs", "x")),
        "/apis/batch/v1/namespaces/d/jobs/x" => Some(absent("jobs", "x")),
        _ => None,
    });
    let backend = backend(server.access());
    for name in ["CronJob", "Job"] {
        let object = object("batch", name, Some("d"), "x");
        assert_eq!(backend.look(&home(), &get(object), &plan_context(10.0)).await, Ok(Answer::Object(None)));
    }
}

#[tokio::test]
async fn names_cannot_lead_elsewhere() {
    let server = Server::new(|_, _| None);
    let backend = backend(server.access());
    for object in [
        pod("../../../namespaces/kube-system/secrets/x"),
        pod("web/exec"),
        object("", "Pod", Some("d/pods/x"), "y"),
        object("", "Pod", None, "web"),
        object("", "Node", Some("d"), "n1"),
        object("apps/v1/../..", "Deployment", Some("d"), "x"),
    ] {
        let error = backend.look(&home(), &get(object.clone()), &plan_context(10.0)).await;
        assert!(matches!(error, Err(CallError::Invalid(_))), "{object:?}: {error:?}");
    }
    assert!(server.lines().iter().all(|line| line == "GET /api/v1"), "{:?}", server.lines());
}

#[tokio::test]
async fn a_kubeconfig_for_another_cluster_is_refused_with_both_uids() {
    let server = Server::new(|seen, _| (seen.path == POD).then(|| Reply::Json(200, live("web"))));
    let mut access = server.access();
    access.uid = Some("uid-of-work".to_owned());
    let other = backend(access.clone());
    for _ in 0..2 {
        let error = other.look(&home(), &get(pod("web")), &plan_context(10.0)).await;
        let Err(CallError::Conflict(text)) = error else { panic!("{error:?}") };
        for part in ["another cluster", "uid-of-home", "uid-of-work", "/home/me/.kube/config"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert!(!server.lines().contains(&format!("GET {POD}")));
    access.uid = Some("uid-of-home".to_owned());
    let same = backend(access);
    assert_eq!(
        same.look(&home(), &look(KubeLook::Uid), &plan_context(10.0)).await,
        Ok(Answer::Text("uid-of-home".into()))
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_named() {
    let backend = backend(Server::down().access());
    let error = backend.look(&home(), &get(pod("web")), &plan_context(10.0)).await;
    let Err(CallError::Unreachable(text)) = error else { panic!("{error:?}") };
    assert!(text.contains("http://10.0.0.1:6443") && text.contains("connection refused"), "{text}");
}

#[tokio::test]
async fn observations_are_repeated_and_changes_are_not() {
    let server = Server::new(|seen, before| {
        if seen.path != POD {
            return None;
        }
        let broken = || Reply::Json(500, status(500, "InternalError", "etcd is electing", &json!({})));
        match (seen.method.as_str(), before) {
            ("GET", 0 | 1) => Some(broken()),
            ("GET", 2) => Some(Reply::RetryAfter(429, 1, json!({}))),
            ("GET", _) => Some(Reply::Json(200, live("web"))),
            ("PATCH", _) if seen.has("dryRun=All") && before == 0 => Some(broken()),
            ("PATCH", _) if seen.has("dryRun=All") => Some(Reply::Json(200, live("web"))),
            _ => Some(Reply::Json(503, status(503, "ServiceUnavailable", "shutting down", &json!({})))),
        }
    });
    let backend = backend(server.access());
    let started = Instant::now();
    assert_eq!(
        backend.look(&home(), &get(pod("web")), &plan_context(20.0)).await,
        Ok(Answer::Object(Some(live("web"))))
    );
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is kept to");
    let patch = act(KubeAct::Patch {
        object: pod("web"),
        patch_type: PatchType::Merge,
        patch: json!({"metadata": {"labels": {"a": "b"}}}),
        subresource: None,
    });
    let prior = backend.prior(&home(), &patch, &context(10.0)).await.unwrap();
    assert!(server.changes().is_empty());
    let error = backend.act(&home(), &patch, &prior, &context(10.0)).await;
    assert!(
        matches!(&error, Err(CallError::Unreachable(text)) if text.contains("whether the change was made cannot be said")),
        "{error:?}"
    );
    assert_eq!(server.changes().len(), 1);
}

#[tokio::test]
async fn a_conflict_names_managers_and_a_race_is_run_again() {
    let server = Server::new(|seen, before| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", DEPLOYMENT) => Some(absent("deployments", "web")),
        ("PATCH", DEPLOYMENT) if seen.has("force=false") => {
            let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"flux\" using apps/v1",
                "field": ".spec.replicas"});
            Some(Reply::Json(409, status(409, "Conflict", "Apply failed", &json!({"causes": [cause]}))))
        }
        ("PATCH", DEPLOYMENT) if before < 4 => {
            let text = "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified";
            Some(Reply::Json(409, status(409, "Conflict", text, &json!({"name": "web", "kind": "deployments"}))))
        }
        ("PATCH", DEPLOYMENT) => {
            assert_eq!(seen.media_type, "application/apply-patch+yaml");
            assert!(seen.has("fieldManager=runbook"));
            let mut made = json!({"kind": "Deployment", "metadata": {"name": "web"}});
            if !seen.has("dryRun=All") {
                made["metadata"]["resourceVersion"] = json!("9");
            }
            Some(Reply::Json(201, made))
        }
        _ => None,
    });
    let backend = backend(server.access());
    let manifest =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "d"}});
    let apply = |force| act(KubeAct::Apply { manifest: manifest.clone(), force });
    let error = backend.prior(&home(), &apply(false), &plan_context(10.0)).await;
    let Err(CallError::Conflict(text)) = error else { panic!("{error:?}") };
    assert!(text.contains(".spec.replicas by flux") && text.contains("Deployment d/web"), "{text}");
    let prior = backend.prior(&home(), &apply(true), &plan_context(10.0)).await.unwrap();
    let Prior::Object { live: None, would: Some(_) } = &prior else { panic!("{prior:?}") };
    assert!(server.changes().is_empty());
    assert_eq!(backend.act(&home(), &apply(true), &prior, &context(10.0)).await, Ok(Answer::Verdict(Verdict::Changed)));
    assert_eq!(server.changes().len(), 1);
}

#[tokio::test]
async fn what_others_write_in_between_is_not_taken_for_ours() {
    // A controller taints the node between the first look and the first dry run.
    const NODE: &str = "/api/v1/nodes/n1";
    let node = |version: &str, spec: Value| {
        Some(Reply::Json(
            200,
            json!({"kind": "Node", "metadata": {"name": "n1", "resourceVersion": version}, "spec": spec}),
        ))
    };
    let server = Server::new(move |seen, before| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", NODE) if before == 0 => node("1", json!({"unschedulable": true})),
        ("GET" | "PATCH", NODE) => node("2", json!({"unschedulable": true, "taints": [{"key": "t"}]})),
        _ => None,
    });
    let patch = KubeAct::Patch {
        object: object("", "Node", None, "n1"),
        patch_type: PatchType::Merge,
        patch: json!({"spec": {"unschedulable": true}}),
        subresource: None,
    };
    let prior = backend(server.access()).prior(&home(), &act(patch), &plan_context(10.0)).await.unwrap();
    let Prior::Object { live: Some(live), would: Some(would) } = prior else { panic!("{prior:?}") };
    assert_eq!(live, would);
    assert_eq!(live["spec"]["taints"], json!([{"key": "t"}]));
}

#[tokio::test]
async fn secrets_are_put_in_on_the_way_out() {
    let server = Server::new(|seen, _| match (seen.method.as_str(), seen.path.as_str()) {
        ("PATCH", "/api/v1/namespaces/d/configmaps/c") => {
            assert_eq!(seen.body["data"], json!({"url": "http://me:s3cret@h/"}));
            Some(Reply::Json(200, json!({"metadata": {"name": "c"}})))
        }
        ("GET", "/api/v1/namespaces/d/configmaps/c") => Some(absent("configmaps", "c")),
        _ => None,
    });
    let backend = backend(server.access());
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"},
        "data": {"url": {"$text": ["http://me:", {"$secret": "pw"}, "@h/"]}}});
    let secrets = Arc::new(Secrets([("pw".to_owned(), "s3cret".to_owned())].into()));
    let ctx = CallContext { secrets, ..context(10.0) };
    let apply = act(KubeAct::Apply { manifest, force: false });
    let prior = backend.prior(&home(), &apply, &ctx).await.unwrap();
    assert!(backend.act(&home(), &apply, &prior, &ctx).await.is_ok());
}

#[tokio::test]
async fn an_eviction_waits_for_the_budget_and_uses_the_served_version() {
    let budget = |cause: &str| {
        let details = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
        status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", &details)
    };
    let server = Server::new(move |seen, before| match (seen.method.as_str(), seen.path.as_str(), before) {
        ("GET", POD, _) => Some(Reply::Json(200, live("web"))),
        ("POST", "/api/v1/namespaces/d/pods/web/eviction", 0) => Some(Reply::RetryAfter(
            429,
            1,
            budget("The disruption budget web needs 2 healthy pods and has 2 currently"),
        )),
        ("POST", "/api/v1/namespaces/d/pods/web/eviction", _) => {
            assert_eq!(seen.body["apiVersion"], "policy/v1beta1");
            assert_eq!(seen.body["deleteOptions"]["preconditions"]["uid"], "u1");
            Some(Reply::Json(201, json!({"kind": "Status", "status": "Success"})))
        }
        ("GET", "/api/v1/namespaces/d/pods/stuck", _) => Some(Reply::Json(200, live("stuck"))),
        ("POST", "/api/v1/namespaces/d/pods/stuck/eviction", _) => Some(Reply::Json(429, budget("needs 1 and has 1"))),
        ("POST", "/api/v1/namespaces/d/pods/gone/eviction", _) => Some(absent("pods", "gone")),
        _ => None,
    });
    let backend = backend(server.access());
    let evict = |name: &str| act(KubeAct::Evict { pod: pod(name), timeout_ms: 2500 });
    let prior = backend.prior(&home(), &evict("web"), &plan_context(10.0)).await.unwrap();
    assert_eq!(prior, Prior::Object { live: Some(live("web")), would: None });
    assert_eq!(
        backend.act(&home(), &evict("web"), &prior, &context(10.0)).await,
        Ok(Answer::Verdict(Verdict::Changed))
    );
    let error = backend.act(&home(), &evict("stuck"), &Prior::None, &context(10.0)).await;
    assert!(matches!(&error, Err(CallError::TimedOut(text)) if text.contains("needs 1 and has 1")), "{error:?}");
    assert_eq!(
        backend.act(&home(), &evict("gone"), &Prior::None, &context(10.0)).await,
        Ok(Answer::Verdict(Verdict::Unchanged))
    );
}

#[tokio::test]
async fn a_deletion_means_the_object_that_was_seen() {
    let server = Server::new(|seen, _| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", POD) => Some(Reply::Json(200, live("web"))),
        ("DELETE", POD) => {
            assert_eq!(seen.body["preconditions"], json!({"uid": "u1"}));
            assert_eq!(
                (&seen.body["gracePeriodSeconds"], &seen.body["propagationPolicy"]),
                (&json!(0), &json!("Foreground"))
            );
            let text = "the UID in the precondition (u1) does not match the UID in record (u2)";
            Some(Reply::Json(409, status(409, "Conflict", text, &json!({"name": "web", "kind": "pods"}))))
        }
        ("GET" | "DELETE", "/api/v1/namespaces/d/pods/gone") => Some(absent("pods", "gone")),
        _ => None,
    });
    let backend = backend(server.access());
    let propagation = runbook_model::call::Propagation::Foreground;
    let options =
        |uid: Option<&str>| DeleteOptions { grace_seconds: Some(0), propagation, uid: uid.map(str::to_owned) };
    let delete = |name: &str, uid| act(KubeAct::Delete { object: pod(name), options: options(uid) });
    let prior = backend.prior(&home(), &delete("web", None), &plan_context(10.0)).await.unwrap();
    let error = backend.act(&home(), &delete("web", None), &prior, &context(10.0)).await;
    assert!(matches!(error, Err(CallError::Conflict(_))), "{error:?}");
    let error = backend.prior(&home(), &delete("web", Some("u9")), &plan_context(10.0)).await;
    assert!(matches!(error, Err(CallError::Conflict(_))), "{error:?}");
    let prior = backend.prior(&home(), &delete("gone", None), &plan_context(10.0)).await.unwrap();
    assert_eq!(prior, Prior::Object { live: None, would: None });
    assert_eq!(
        backend.act(&home(), &delete("gone", None), &prior, &context(10.0)).await,
        Ok(Answer::Verdict(Verdict::Unchanged))
    );
}

#[tokio::test]
async fn lists_read_all_pages_and_start_again_when_the_server_forgot() {
    let page = |names: &[&str], next: &str| {
        let items: Vec<Value> = names.iter().map(|n| json!({"metadata": {"name": n}})).collect();
        Reply::Json(200, json!({"kind": "PodList", "metadata": {"continue": next}, "items": items}))
    };
    let server = Server::new(move |seen, before| {
        if seen.path != "/api/v1/namespaces/d/pods" {
            return None;
        }
        assert!(seen.has("labelSelector=app%3Dweb") && seen.has("limit=500"), "{}", seen.query);
        Some(match before {
            0 | 2 => page(&["a"], "to ken"),
            1 => Reply::Json(410, status(410, "Expired", "The provided continue parameter is too old", &json!({}))),
            _ => {
                assert!(seen.has("continue=to%20ken"));
                page(&["b"], "")
            }
        })
    });
    let backend = backend(server.access());
    let selector = Selector {
        kind: kind("", "", "Pod"),
        namespace: Some("d".into()),
        labels: Some("app=web".into()),
        fields: None,
    };
    let answer = backend.look(&home(), &look(KubeLook::List { selector }), &plan_context(10.0)).await;
    let Ok(Answer::Objects(found)) = answer else { panic!("{answer:?}") };
    assert_eq!(found.iter().map(|o| o["metadata"]["name"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((&found[0]["kind"], &found[0]["apiVersion"]), (&json!("Pod"), &json!("v1")));
}

#[tokio::test]
async fn nothing_hangs() {
    let server = Server::new(|seen, _| (seen.path == POD).then_some(Reply::Hang));
    let slow = backend(server.access());
    let started = Instant::now();
    let error = slow.look(&home(), &get(pod("web")), &plan_context(0.5)).await;
    assert!(matches!(&error, Err(CallError::TimedOut(text)) if text.contains("get Pod d/web")), "{error:?}");
    let ctx = context(60.0);
    let cancel = ctx.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    let error = slow.look(&home(), &get(pod("web")), &ctx).await;
    assert!(matches!(&error, Err(CallError::Failed(text)) if text.contains("cancelled")), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_wait_in_a_plan_looks_once_and_in_a_run_says_why_it_failed() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        DEPLOYMENT => Some(Reply::Json(
            200,
            json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "d", "uid": "u1", "generation": 1},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
                "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1,
                    "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"}]}}),
        )),
        "/api/v1/namespaces/d/pods" => {
            let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"nginx:nope\""});
            let pod = json!({"metadata": {"name": "web-1", "uid": "u2"},
                "status": {"containerStatuses": [{"name": "nginx", "state": {"waiting": waiting}}]}});
            Some(Reply::Json(200, json!({"items": [pod], "metadata": {}})))
        }
        "/api/v1/namespaces/d/events" if seen.query.contains("u2") => {
            let event = json!({"type": "Warning", "reason": "Failed", "message": "manifest unknown", "count": 4});
            Some(Reply::Json(200, json!({"items": [event]})))
        }
        "/api/v1/namespaces/d/events" => Some(Reply::Json(200, json!({"items": []}))),
        _ => None,
    });
    let backend = backend(server.access());
    let wait = look(KubeLook::Wait { object: deployment(), condition: Condition::RolledOut, timeout_ms: 1500 });
    let error = backend.look(&home(), &wait, &plan_context(30.0)).await;
    assert!(matches!(&error, Err(CallError::Unknown(text)) if text.contains("1 of 2 replicas available")), "{error:?}");
    assert_eq!(server.lines().iter().filter(|line| line.ends_with(DEPLOYMENT)).count(), 1);
    let started = Instant::now();
    let error = backend.look(&home(), &wait, &context(30.0)).await;
    let Err(CallError::TimedOut(text)) = error else { panic!("{error:?}") };
    for part in
        ["rolled out", "1 of 2", "ImagePullBackOff", "nginx:nope", "manifest unknown (4 times)", "Available=False"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_wait_survives_what_comes_later() {
    let server = Server::new(|seen, before| match (seen.path.as_str(), before) {
        (POD, 0) => Some(absent("pods", "web")),
        (POD, 1) => Some(Reply::Text(200, "starting")),
        (POD, _) => Some(Reply::Json(200, live("web"))),
        ("/api/v1/namespaces/d/pods", 0) => Some(Reply::Json(200, json!({"items": [live("web")], "metadata": {}}))),
        ("/api/v1/namespaces/d/pods", _) => Some(Reply::Json(200, json!({"items": [], "metadata": {}}))),
        _ => None,
    });
    let backend = backend(server.access());
    let wait = look(KubeLook::Wait { object: pod("web"), condition: Condition::Exists, timeout_ms: 10_000 });
    assert_eq!(backend.look(&home(), &wait, &context(20.0)).await, Ok(Answer::Unit));
    let selector = Selector { kind: kind("", "", "Pod"), namespace: Some("d".into()), labels: None, fields: None };
    let wait = look(KubeLook::WaitNone { selector, timeout_ms: 10_000 });
    assert_eq!(backend.look(&home(), &wait, &context(20.0)).await, Ok(Answer::Unit));
}

#[tokio::test]
async fn scaling_tells_how_many_there_were() {
    let deployment_with = |replicas: u32| json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "d"}, "spec": {"replicas": replicas}});
    let server = Server::new(move |seen, _| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", DEPLOYMENT) => Some(Reply::Json(200, deployment_with(3))),
        ("PATCH", path) if path == format!("{DEPLOYMENT}/scale") => {
            assert_eq!(seen.body, json!({"spec": {"replicas": seen.body["spec"]["replicas"]}}));
            Some(Reply::Json(200, json!({"kind": "Scale", "metadata": {"name": "web"}, "spec": seen.body["spec"]})))
        }
        _ => None,
    });
    let backend = backend(server.access());
    for (replicas, expected) in [(0, Verdict::Changed), (3, Verdict::Unchanged)] {
        let scale = act(KubeAct::Scale { object: deployment(), replicas });
        let prior = backend.prior(&home(), &scale, &plan_context(10.0)).await.unwrap();
        let would = deployment_with(replicas);
        assert_eq!(prior, Prior::Object { live: Some(deployment_with(3)), would: Some(would) });
        assert_eq!(backend.act(&home(), &scale, &prior, &context(10.0)).await, Ok(Answer::Verdict(expected)));
    }
}

#[tokio::test]
async fn plans_change_nothing() {
    let server = Server::new(|seen: &Seen, _| match (seen.method.as_str(), seen.path.as_str()) {
        (_, DEPLOYMENT) => Some(Reply::Json(200, json!({"metadata": {"name": "web"}, "spec": {"replicas": 1}}))),
        ("PATCH", _) => Some(Reply::Json(200, json!({"metadata": {"name": "web"}}))),
        ("GET", POD) => Some(Reply::Json(200, live("web"))),
        ("GET", path) if path.ends_with("/exec") => Some(Reply::Run("v5.channel.k8s.io")),
        _ => None,
    });
    let backend = backend(server.access());
    let manifest =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "d"}});
    let source = runbook_model::call::SourceRef {
        target: Target::Controller,
        path: "/etc/hostname".into(),
        size: 1,
        sha256: "0".repeat(64),
    };
    let changes = [
        KubeAct::Apply { manifest, force: true },
        KubeAct::Patch { object: deployment(), patch_type: PatchType::Merge, patch: json!({}), subresource: None },
        KubeAct::Delete { object: deployment(), options: DeleteOptions::default() },
        KubeAct::Scale { object: deployment(), replicas: 0 },
        KubeAct::Evict { pod: pod("web"), timeout_ms: 1000 },
        KubeAct::Exec {
            pod: pod("web"),
            container: None,
            argv: vec!["touch".into(), "/nonexistent/x".into()],
            stdin: Default::default(),
            done_when: None,
            undo: PodUndo::Harmless,
        },
        KubeAct::CopyIn { pod: pod("web"), container: None, source, path: "/nonexistent/file".into() },
    ];
    for change in changes {
        let change = act(change);
        let prior = backend.prior(&home(), &change, &plan_context(10.0)).await;
        assert!(prior.is_ok(), "{change:?}: {prior:?}");
        let acted = backend.act(&home(), &change, &Prior::None, &plan_context(10.0)).await;
        assert!(matches!(acted, Err(CallError::Denied(_))), "{change:?}: {acted:?}");
    }
    assert_eq!(server.changes(), Vec::<String>::new());
    let Counts { sent, refused } = backend.traffic();
    assert_eq!(refused, 0);
    let kinds: Vec<&str> = sent.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["GET", "GET exec", "PATCH dry-run"]);
}

#[tokio::test]
async fn a_kubeconfig_of_the_user_may_run_a_program_for_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("bin/login");
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    let credential =
        json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}});
    std::fs::write(&helper, format!("#!/bin/sh\ncat <<'E'\n{credential}\nE\n")).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let server = Server::new(|_, _| None);
    let mut access = server.access();
    let exec =
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./bin/login, interactiveMode: IfAvailable}";
    access.kubeconfig = access.kubeconfig.replace("token: t", exec);
    access.origin = Origin::File(dir.path().join("config"));
    let answer = backend(access.clone()).look(&home(), &look(KubeLook::Uid), &plan_context(10.0)).await;
    assert_eq!(answer, Ok(Answer::Text("uid-of-home".into())));
    access.origin = Origin::Machine("n1".into());
    let error = backend(access).look(&home(), &look(KubeLook::Uid), &plan_context(10.0)).await;
    assert!(matches!(&error, Err(CallError::Invalid(text)) if text.contains("exec of u")), "{error:?}");
}

/// Hands out another kubeconfig each time.
struct Renewed(std::sync::Mutex<Vec<ClusterAccess>>);

#[async_trait::async_trait]
impl KubeconfigSource for Renewed {
    async fn kubeconfig(&self, _: &str, _: &CallContext) -> Result<ClusterAccess, CallError> {
        self.0.lock().unwrap().pop().ok_or_else(|| CallError::Failed("asked too often".to_owned()))
    }
}

#[tokio::test]
async fn a_cluster_that_was_lost_is_opened_anew() {
    let (down, up) = (Server::down(), Server::new(|_, _| None));
    let backend = KubeBackend::new(Box::new(Renewed(std::sync::Mutex::new(vec![up.access(), down.access()]))));
    let uid = async || backend.look(&home(), &look(KubeLook::Uid), &plan_context(10.0)).await;
    assert!(matches!(uid().await, Err(CallError::Unreachable(_))));
    assert!(uid().await.is_ok());
    assert!(uid().await.is_ok(), "the kubeconfig is not read each time");
}

#[tokio::test]
async fn calls_for_something_else_are_refused() {
    let backend = backend(Server::down().access());
    let error = backend.look(&Target::Machine("n1".into()), &look(KubeLook::Uid), &context(5.0)).await;
    assert!(matches!(error, Err(CallError::Invalid(_))), "{error:?}");
    let files = runbook_model::call::Look::Files(runbook_model::call::FilesLook::Stat { path: "/x".into() });
    assert!(matches!(backend.look(&home(), &files, &context(5.0)).await, Err(CallError::Invalid(_))));
}
