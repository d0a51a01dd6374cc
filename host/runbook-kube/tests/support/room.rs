//! A namespace of a real cluster.
//!
//! `RUNBOOK_TEST_KUBECONFIG` names the kubeconfig of a cluster for tests; without it these tests say so and do nothing.
//! `RUNBOOK_TEST_NODE` names its node, where pods of the image `docker.io/library/busybox:1.35` run; `tests/kube-lab/lab`
//! prints both.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use runbook_engine::backend::Backend as _;
use runbook_kube::{ClusterAccess, KubeBackend, Origin};
use runbook_model::call::{
    Answer, CallError, Condition, DeleteOptions, KubeAct, KubeLook, ObjectRef, Outcome, PodOutput, PodUndo, Prior,
    Response, Verdict,
};
use serde_json::{Value, json};

use super::{act, backend, context, home, look, object, plan_context};

/// A namespace of one test.
pub(crate) struct Room {
    pub(crate) backend: KubeBackend,
    pub(crate) namespace: String,
}

pub(crate) fn access() -> Option<ClusterAccess> {
    let Some(path) = std::env::var_os("RUNBOOK_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("skipped: RUNBOOK_TEST_KUBECONFIG names no kubeconfig");
        return None;
    };
    let kubeconfig = std::fs::read_to_string(&path).expect("RUNBOOK_TEST_KUBECONFIG can be read");
    Some(ClusterAccess { kubeconfig, origin: Origin::File(path), context: None, server: None, uid: None, via: None })
}

pub(crate) fn pods_run() -> bool {
    ["RUNBOOK_TEST_NODE", "RUNBOOK_TEST_KUBE_NODE"].iter().any(|name| std::env::var_os(name).is_some())
}

impl Room {
    pub(crate) async fn new() -> Option<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let backend = backend(access()?);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("rb-{}-{serial}", std::process::id());
        let room = Self { backend, namespace: namespace.clone() };
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        assert_eq!(room.change(KubeAct::Apply { manifest, force: false }).await, Ok(Verdict::Changed));
        // Pods are refused before the account is there.
        let account = room.object("", "ServiceAccount", "default");
        room.wait(account, Condition::Exists, 60.0).await.expect("a service account");
        Some(room)
    }

    pub(crate) async fn with_pod(name: &str) -> Option<Self> {
        if !pods_run() {
            eprintln!("skipped: RUNBOOK_TEST_NODE names no node");
            return None;
        }
        let room = Self::new().await?;
        let manifest = room.pod_manifest(name, "docker.io/library/busybox:1.35");
        assert_eq!(room.change(KubeAct::Apply { manifest, force: false }).await, Ok(Verdict::Changed));
        let ready = Condition::Status("Ready".into(), "True".into());
        room.wait(room.pod(name), ready, 120.0).await.expect("the pod is ready");
        Some(room)
    }

    pub(crate) fn pod_manifest(&self, name: &str, image: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": image,
                "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "echo hello; exec sleep 3600"]}]}})
    }

    pub(crate) fn object(&self, group: &str, name: &str, object_name: &str) -> ObjectRef {
        object(group, name, Some(&self.namespace), object_name)
    }

    pub(crate) fn pod(&self, name: &str) -> ObjectRef {
        self.object("", "Pod", name)
    }

    pub(crate) async fn look(&self, call: KubeLook) -> Response {
        self.backend.look(&home(), &look(call), &plan_context(30.0)).await
    }

    pub(crate) async fn get(&self, object: ObjectRef) -> Option<Value> {
        match self.look(KubeLook::Get { object }).await {
            Ok(Answer::Object(live)) => live,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn prior(&self, change: KubeAct) -> Result<Prior, CallError> {
        self.backend.prior(&home(), &act(change), &plan_context(30.0)).await
    }

    /// As the engine does it: looks, then acts.
    pub(crate) async fn change(&self, change: KubeAct) -> Result<Verdict, CallError> {
        let change = act(change);
        let ctx = context(60.0);
        let prior = self.backend.prior(&home(), &change, &ctx).await?;
        match self.backend.act(&home(), &change, &prior, &ctx).await? {
            Answer::Verdict(verdict) => Ok(verdict),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn wait(&self, object: ObjectRef, condition: Condition, seconds: f64) -> Result<(), CallError> {
        let timeout_ms = (seconds * 1000.0) as u32;
        let wait = look(KubeLook::Wait { object, condition, timeout_ms });
        self.backend.look(&home(), &wait, &context(seconds + 10.0)).await.map(|_| ())
    }

    pub(crate) async fn run(&self, pod: &str, argv: &[&str], stdin: &[u8]) -> Result<PodOutput, CallError> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let exec = KubeAct::Exec {
            pod: self.pod(pod),
            container: None,
            argv,
            stdin: stdin.to_vec().into(),
            done_when: None,
            undo: PodUndo::Harmless,
        };
        match self.backend.act(&home(), &act(exec), &Prior::None, &context(60.0)).await? {
            Answer::Outcome(Outcome::PodDone(output)) => Ok(output),
            other => panic!("{other:?}"),
        }
    }

    /// Takes the namespace away; nobody waits for it.
    pub(crate) async fn leave(self) {
        let object = object("", "Namespace", None, &self.namespace);
        let delete = KubeAct::Delete { object, options: DeleteOptions::default() };
        assert_eq!(self.change(delete).await, Ok(Verdict::Changed));
        assert_eq!(self.backend.traffic().refused, 0);
        self.backend.close().await;
    }

    pub(crate) fn config_map(&self, data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": self.namespace}, "data": data})
    }

    pub(crate) fn deployment(&self, replicas: u32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": self.namespace},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main",
                        "image": "registry.invalid/nope:1", "command": ["sleep", "3600"]}]}}}})
    }
}
