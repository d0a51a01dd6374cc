//! The lease of a run, against a scripted API server: who gets it, who is refused, and what happens where there are none.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};

use runbook_engine::backend::{Backend as _, CallContext, Runs, Standing};
use runbook_kube::KubeBackend;
use runbook_model::call::{Answer, CallError, Finding, KubeAct, Prior, Response};
use serde_json::{Value, json};
use support::server::{Reply, Seen, Server, absent, status};
use support::{Told, act, backend, change_context, context, home, object, plan_context};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/runbook";
const MAP: &str = "/api/v1/namespaces/d/configmaps/c";

/// Keeps one lease as an API server does.
#[derive(Default)]
struct Store(Mutex<(Option<Value>, u64)>);

impl Store {
    fn answer(&self, seen: &Seen) -> Option<Reply> {
        let mut store = self.0.lock().unwrap();
        let (lease, serial) = &mut *store;
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let conflict = || Some(Reply::Json(409, status(409, "Conflict", "the object has been modified", &json!({}))));
        let put = |lease: &mut Option<Value>, serial: &mut u64| {
            *serial += 1;
            let mut new = seen.body.clone();
            new["metadata"]["resourceVersion"] = json!(serial.to_string());
            new["metadata"]["uid"] = json!("lease-uid");
            *lease = Some(new.clone());
            Some(Reply::Json(200, new))
        };
        match (seen.method.as_str(), seen.path.as_str(), &*lease) {
            ("GET", LEASE, Some(lease)) => Some(Reply::Json(200, lease.clone())),
            ("GET" | "PUT" | "DELETE", LEASE, None) => Some(absent("leases", "runbook")),
            ("POST", LEASES, None) => put(lease, serial),
            ("POST", LEASES, Some(_)) => conflict(),
            ("PUT", LEASE, Some(there)) if version(there) == version(&seen.body) => put(lease, serial),
            ("DELETE", LEASE, Some(there)) if version(there) == seen.body["preconditions"]["resourceVersion"] => {
                *lease = None;
                Some(Reply::Json(200, json!({"kind": "Status", "status": "Success"})))
            }
            ("PUT" | "DELETE", LEASE, Some(_)) => conflict(),
            _ => None,
        }
    }

    fn lease(&self) -> Option<Value> {
        self.0.lock().unwrap().0.clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut store = self.0.lock().unwrap();
        edit(store.0.as_mut().unwrap());
        store.1 += 1;
        let version = json!(store.1.to_string());
        store.0.as_mut().unwrap()["metadata"]["resourceVersion"] = version;
    }
}

fn map(seen: &Seen) -> Option<Reply> {
    let live =
        json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d", "uid": "u", "resourceVersion": "1"}});
    (seen.path == MAP).then(|| Reply::Json(200, live))
}

fn with_leases() -> (Arc<Server>, Arc<Store>) {
    let store = Arc::new(Store::default());
    let kept = Arc::clone(&store);
    (Server::new(move |seen, _| kept.answer(seen).or_else(|| map(seen))), store)
}

fn change() -> runbook_model::call::Act {
    let object = object("", "ConfigMap", Some("d"), "c");
    act(KubeAct::Delete { object, options: Default::default() })
}

async fn make(backend: &KubeBackend, ctx: CallContext) -> Response {
    backend.act(&home(), &change(), &Prior::None, &ctx).await
}

fn refused(answer: &Response) -> &str {
    let Err(CallError::Conflict(text)) = answer else { panic!("{answer:?}") };
    text
}

#[tokio::test]
async fn the_first_change_takes_it_and_the_end_gives_it_back() {
    let (server, store) = with_leases();
    let backend = backend(server.access());
    assert!(backend.prior(&home(), &change(), &plan_context(10.0)).await.is_ok());
    assert_eq!(store.lease(), None, "looks need none");
    for _ in 0..3 {
        assert!(make(&backend, change_context("r1", 1)).await.is_ok());
    }
    let lease = store.lease().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "r1/1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 900);
    assert_eq!(lease["metadata"]["annotations"]["runbook/owner"], "ann@laptop, pid 4711");
    assert_eq!(server.changes().iter().filter(|line| line.contains("leases")).count(), 1, "{:?}", server.changes());
    backend.close().await;
    assert_eq!(store.lease(), None);
    backend.close().await;
}

#[tokio::test]
async fn another_run_is_refused_with_all_that_it_needs_to_know() {
    let (server, store) = with_leases();
    let (ours, theirs) = (backend(server.access()), backend(server.access()));
    assert!(make(&theirs, change_context("r1", 1)).await.is_ok());
    let answer = make(&ours, change_context("r2", 1)).await;
    for part in [
        "cluster home",
        "r1/1",
        "ann@laptop, pid 4711",
        "until 20",
        "kubectl --namespace kube-system delete lease runbook",
    ] {
        assert!(refused(&answer).contains(part), "{answer:?}");
    }
    assert_eq!(server.changes().iter().filter(|line| line.ends_with(MAP)).count(), 1, "only theirs was made");
    let settled = ours.settle(&home(), &change(), &Prior::None, &change_context("r2", 1)).await;
    assert!(matches!(settled, Err(CallError::Conflict(_))), "{settled:?}");
    // Nothing of ours is given back.
    ours.close().await;
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r1/1");
    // Theirs died, and long ago.
    store.edit(|lease| lease["spec"]["renewTime"] = json!("2020-01-01T00:00:00.000000Z"));
    assert!(make(&ours, change_context("r2", 1)).await.is_ok());
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r2/1");
    // Theirs was not dead after all: what is not theirs stays.
    theirs.close().await;
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r2/1");
}

#[tokio::test]
async fn a_later_session_of_the_run_takes_over_and_the_earlier_is_refused() {
    let (server, store) = with_leases();
    let (first, second) = (backend(server.access()), backend(server.access()));
    assert!(make(&first, change_context("r1", 1)).await.is_ok());
    let settled = second.settle(&home(), &change(), &Prior::None, &change_context("r1", 2)).await;
    assert!(matches!(settled, Ok(Finding::Unclear(_))), "{settled:?}");
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r1/2");
    let third = backend(server.access());
    let answer = make(&third, change_context("r1", 1)).await;
    assert!(refused(&answer).contains("session 2 of this run is in charge"), "{answer:?}");
    first.close().await;
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r1/2");
}

#[tokio::test]
async fn a_race_for_it_is_run_again() {
    let store = Arc::new(Store::default());
    let kept = Arc::clone(&store);
    let server = Server::new(move |seen, before| match (seen.method.as_str(), seen.path.as_str(), before) {
        // Somebody makes one, and it goes, between our look and our write.
        ("POST", LEASES, 0) => Some(Reply::Json(409, status(409, "AlreadyExists", "already exists", &json!({})))),
        _ => kept.answer(seen).or_else(|| map(seen)),
    });
    let backend = backend(server.access());
    assert!(make(&backend, change_context("r1", 1)).await.is_ok());
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r1/1");
    // It was renewed in the background, or somebody put a label on it: still ours.
    store.edit(|lease| lease["metadata"]["labels"] = json!({"a": "b"}));
    backend.close().await;
    assert_eq!(store.lease(), None);
}

#[tokio::test]
async fn a_cluster_that_gives_none_is_changed_without() {
    for code in [403, 404] {
        let server = Server::new(move |seen, _| match seen.path.as_str() {
            LEASE | LEASES if code == 403 => {
                let text = "leases.coordination.k8s.io \"runbook\" is forbidden: no rule";
                Some(Reply::Json(403, status(403, "Forbidden", text, &json!({"name": "runbook", "kind": "leases"}))))
            }
            _ => map(seen),
        });
        let backend = backend(server.access());
        for _ in 0..2 {
            assert_eq!(
                make(&backend, change_context("r1", 1)).await.map(|answer| matches!(answer, Answer::Verdict(_))),
                Ok(true)
            );
        }
        let asked = server.lines().iter().filter(|line| line.contains("leases")).count();
        assert_eq!(asked, 1, "asked and said once ({code})");
        backend.close().await;
    }
}

#[tokio::test]
async fn without_an_answer_nothing_is_changed() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        LEASE => Some(Reply::Json(500, status(500, "InternalError", "etcd is electing", &json!({})))),
        _ => map(seen),
    });
    let backend = backend(server.access());
    let answer = make(&backend, change_context("r1", 1)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(server.changes(), Vec::<String>::new());
    // A call of the program's own, which marks nothing.
    assert!(make(&backend, context(10.0)).await.is_ok());
}

/// Knows the run `r1` up to its session 1.
struct Knows<F>(F);

impl<F: Fn() -> Standing + Send + Sync> Runs for Knows<F> {
    fn standing(&self, run: &str, session: u32) -> Standing {
        if run == "r1" && session <= 1 { (self.0)() } else { Standing::Foreign }
    }
}

async fn make_knowing(
    backend: &KubeBackend,
    told: &Arc<Told>,
    standing: impl Fn() -> Standing + Send + Sync + 'static,
) -> Response {
    let progress = Arc::clone(told) as _;
    make(backend, CallContext { runs: Arc::new(Knows(standing)), progress, ..change_context("r2", 1) }).await
}

#[tokio::test]
async fn what_a_run_holds_that_is_over_is_taken_over() {
    let (server, store) = with_leases();
    let (dead, ours, told) = (backend(server.access()), backend(server.access()), Arc::new(Told::default()));
    assert!(make(&dead, change_context("r1", 1)).await.is_ok());
    let held = store.lease();
    for (standing, words) in [
        (Standing::Foreign, "delete lease runbook"),
        (Standing::AtWork, "is at work on this controller"),
        (Standing::Unfinished, "`runbook resume r1` goes on with it"),
    ] {
        let answer = make_knowing(&ours, &told, move || standing.clone()).await;
        assert!(refused(&answer).contains(words), "{answer:?}");
        assert_eq!(store.lease(), held);
    }
    assert!(make_knowing(&ours, &told, || Standing::Over).await.is_ok());
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r2/1");
    assert_eq!(*told.1.lock().unwrap(), [("home".to_owned(), "r1".to_owned(), 1)]);
    // What is held by a later session than is known, or by who has no session, is not.
    for strange in ["r1/2", "r1", "r1/x"] {
        store.edit(|lease| lease["spec"]["holderIdentity"] = json!(strange));
        let answer = make_knowing(&backend(server.access()), &told, || Standing::Over).await;
        assert!(refused(&answer).contains(strange), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_taken_over_is_what_was_read() {
    let (server, store) = with_leases();
    let (dead, ours, told) = (backend(server.access()), backend(server.access()), Arc::new(Told::default()));
    assert!(make(&dead, change_context("r1", 1)).await.is_ok());
    // Between the look and the write somebody else has it.
    let other = Arc::clone(&store);
    let answer = make_knowing(&ours, &told, move || {
        other.edit(|lease| lease["spec"]["holderIdentity"] = json!("r5/1"));
        Standing::Over
    });
    assert!(refused(&answer.await).contains("r5/1"));
    assert_eq!(store.lease().unwrap()["spec"]["holderIdentity"], "r5/1");
    assert_eq!(*told.1.lock().unwrap(), []);
}
