//! The Kubernetes that `tests/kube-lab/lab` brought up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::outcome::Outcome;
use crate::tools::{must, must_feed, open_temp_dir, read, serial, tests_dir, text, wait_until};

/// A namespace of the lab's cluster, with a directory of the node for its volumes. Both go when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    namespace: String,
    root: tempfile::TempDir,
}

impl Cluster {
    /// A fresh namespace in the cluster that the environment names (`RUNBOOK_TEST_KUBECONFIG`), with both storage classes there.
    ///
    /// # Panics
    ///
    /// When there is no cluster.
    pub fn join() -> Self {
        let kubeconfig = std::env::var("RUNBOOK_TEST_KUBECONFIG")
            .unwrap_or_else(|_| panic!("RUNBOOK_TEST_KUBECONFIG is not set: run this by `tests/run kube`, or after `eval \"$(tests/kube-lab/lab up full)\"`"));
        let namespace = format!("rb-{}-{}", std::process::id(), serial());
        let root = open_temp_dir("runbook-node-", &std::env::temp_dir());
        for dir in ["old", "new1", "new2"] {
            std::fs::create_dir(root.path().join(dir)).expect("a fresh directory can be written to");
        }
        let cluster = Self { kubeconfig: kubeconfig.into(), namespace, root };
        cluster.kubectl(&["create", "namespace", cluster.namespace()]);
        cluster.apply("classes.yaml");
        // Pods are refused before the namespace has it.
        wait_until("service account default", Duration::from_secs(60), || {
            cluster.try_kubectl(&["get", "serviceaccount", "default"]).code == Some(0)
        });
        cluster
    }

    /// The kubeconfig of an administrator. It works outside and inside of the node's network namespace.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Name of the fresh namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the node.
    pub fn node(&self) -> String {
        std::env::var("RUNBOOK_TEST_NODE").expect("the cluster has a node: bring it up by `lab up full`")
    }

    /// Name of the network namespace that node and pods live in.
    pub fn netns(&self) -> String {
        std::env::var("RUNBOOK_TEST_NETNS").expect("the cluster has a node: bring it up by `lab up full`")
    }

    /// `config_path` of the node's containerd: `HOST:PORT/hosts.toml` below it is read at each pull.
    pub fn certs_d(&self) -> PathBuf {
        std::env::var("RUNBOOK_TEST_CERTS_D").expect("the cluster has a node: bring it up by `lab up full`").into()
    }

    /// A directory of the node (which is this computer's): `${ROOT}` of the templates, with `old`, `new1` and `new2` in it.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Applies a template of `tests/kube`.
    ///
    /// # Panics
    ///
    /// When the API server refuses it.
    pub fn apply(&self, template: &str) {
        self.apply_text(&read(&tests_dir().join("kube").join(template)));
    }

    /// Applies a manifest, with `${NAMESPACE}`, `${NODE}` and `${ROOT}` filled in.
    ///
    /// # Panics
    ///
    /// When the API server refuses it.
    pub fn apply_text(&self, manifest: &str) {
        let node = std::env::var("RUNBOOK_TEST_NODE").unwrap_or_default();
        let filled = manifest
            .replace("${NAMESPACE}", &self.namespace)
            .replace("${NODE}", &node)
            .replace("${ROOT}", text(self.root.path()));
        must_feed(&self.argv(&["apply", "-f", "-"]), filled.as_bytes());
    }

    fn argv<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut argv = vec![
            "kubectl",
            "--kubeconfig",
            text(&self.kubeconfig),
            "--namespace",
            &self.namespace,
            "--request-timeout=60s",
        ];
        argv.extend(args);
        argv
    }

    /// Runs kubectl in the namespace; gives its standard output.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        must(&self.argv(args))
    }

    /// Runs kubectl in the namespace, however it ends.
    pub fn try_kubectl(&self, args: &[&str]) -> Outcome {
        let argv = self.argv(args);
        Outcome::of(std::process::Command::new(argv[0]).args(&argv[1..]))
    }

    /// An object, by `kind/name`; none when the API server says that there is none.
    ///
    /// # Panics
    ///
    /// When the API server says anything else.
    pub fn get(&self, object: &str) -> Option<Value> {
        let out = self.kubectl(&["get", object, "--ignore-not-found", "-o", "json"]);
        (!out.trim().is_empty()).then(|| serde_json::from_str(&out).expect("kubectl prints JSON"))
    }

    /// Waits until something holds for an object.
    ///
    /// # Panics
    ///
    /// When it does not come to hold within two minutes.
    pub fn wait_for(&self, object: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_until(&format!("{object}: {what}"), Duration::from_secs(120), || {
            last = self.get(object).unwrap_or(Value::Null);
            holds(&last)
        });
        last
    }

    /// What was asked of the API server since it is up, changes and entries into containers alone, in this namespace or about
    /// objects without one: `verb uri`, such as `patch /api/v1/namespaces/x/persistentvolumeclaims/chime?dryRun=All`. Requests of
    /// the cluster's own controllers are not among them.
    ///
    /// # Panics
    ///
    /// When the audit log cannot be read.
    pub fn changes_asked(&self) -> Vec<String> {
        let log = self.kubeconfig.with_file_name("audit.log");
        let others =
            |uri: &str| uri.contains("/namespaces/rb-") && !uri.contains(&format!("/namespaces/{}", self.namespace));
        let lines = read(&log);
        let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records
            .filter_map(|r| Some(format!("{} {}", r["verb"].as_str()?, r["requestURI"].as_str()?)))
            .filter(|asked| !others(asked))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Grace period 0: nobody waits for the pods of a test, and the kubelet is told at once.
        let ours = format!("test={}", self.namespace);
        let deletions: [&[&str]; 3] = [
            &["pods", "--all", "--grace-period=0", "--force"],
            &["namespace", &self.namespace],
            &["persistentvolumes", "-l", &ours],
        ];
        for what in deletions {
            let argv = [&["delete", "--wait=false"], what].concat();
            // The whole cluster goes soon; what could not be deleted is in nobody's way.
            drop(
                std::process::Command::new("kubectl")
                    .arg("--kubeconfig")
                    .arg(&self.kubeconfig)
                    .args(["-n", &self.namespace])
                    .args(argv)
                    .output(),
            );
        }
    }
}
