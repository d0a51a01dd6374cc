//! What the tests share: contexts, references, and a scripted API server behind a connector.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr, reason = "each test program uses a part of it")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{CallContext, Mark, NoRuns, Progress, Secrets};
use runbook_kube::{ClusterAccess, KubeBackend, KubeconfigSource};
use runbook_model::call::{Act, CallError, KubeAct, KubeLook, Look, ObjectRef, ResourceKind, Target};
use tokio_util::sync::CancellationToken;

pub(crate) mod room;
pub(crate) mod server;

/// The cluster of all tests.
pub(crate) fn home() -> Target {
    Target::Cluster("home".to_owned())
}

pub(crate) fn kind(group: &str, version: &str, kind: &str) -> ResourceKind {
    ResourceKind { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
}

pub(crate) fn object(group: &str, name: &str, namespace: Option<&str>, object: &str) -> ObjectRef {
    ObjectRef { kind: kind(group, "", name), namespace: namespace.map(str::to_owned), name: object.to_owned() }
}

pub(crate) fn pod(name: &str) -> ObjectRef {
    object("", "Pod", Some("d"), name)
}

pub(crate) fn look(look: KubeLook) -> Look {
    Look::Kube(look)
}

pub(crate) fn act(act: KubeAct) -> Act {
    Act::Kube(act)
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<(String, u64, Option<u64>)>>, pub(crate) Mutex<Vec<(String, String, u32)>>);

impl Progress for Told {
    fn progress(&self, message: &str, done: u64, total: Option<u64>, _: &str) {
        self.0.lock().expect("not poisoned").push((message.to_owned(), done, total));
    }

    fn line(&self, _: &str) {}

    fn took_over(&self, target: &str, run: &str, session: u32) {
        self.1.lock().expect("not poisoned").push((target.to_owned(), run.to_owned(), session));
    }
}

pub(crate) fn context(seconds: f64) -> CallContext {
    CallContext {
        deadline: Instant::now() + Duration::from_secs_f64(seconds),
        cancel: CancellationToken::new(),
        read_only: false,
        secrets: Arc::new(Secrets::default()),
        passwords: Arc::default(),
        progress: Arc::new(Told::default()),
        artifacts: PathBuf::from("/nonexistent"),
        jail: None,
        field_manager: "runbook".to_owned(),
        mark: None,
        origin: None,
        runs: Arc::new(NoRuns),
    }
}

pub(crate) fn plan_context(seconds: f64) -> CallContext {
    CallContext { read_only: true, ..context(seconds) }
}

/// Of a change of that run.
pub(crate) fn change_context(run: &str, session: u32) -> CallContext {
    let mark = Mark { run: run.to_owned(), session, record: 1, owner: "ann@laptop, pid 4711".to_owned() };
    CallContext { mark: Some(mark), ..context(60.0) }
}

/// Always the same kubeconfig.
pub(crate) struct Fixed(pub(crate) ClusterAccess);

#[async_trait]
impl KubeconfigSource for Fixed {
    async fn kubeconfig(&self, _: &str, _: &CallContext) -> Result<ClusterAccess, CallError> {
        Ok(self.0.clone())
    }
}

pub(crate) fn backend(access: ClusterAccess) -> KubeBackend {
    KubeBackend::new(Box::new(Fixed(access)))
}
