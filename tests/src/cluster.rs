//! The Kubernetes that `tests/kube-lab/lab` brought up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::outcome::Outcome;
use crate::tools::{must, must_feed, open_temp_dir, put, read, serial, tests_dir, text, wait_until};

/// A namespace of the lab's cluster, with a directory of the node for its volumes. Both go when this is dropped. A run has a cluster for
/// itself, and so has this: there is one at a time.
#[derive(Debug)]
pub struct Cluster {
    admin: PathBuf,
    namespace: String,
    root: tempfile::TempDir,
    /// Held while this lives.
    _turn: std::fs::File,
}

impl Cluster {
    /// A fresh namespace in the cluster that the environment names (`RUNBOOK_TEST_KUBECONFIG`), with both storage classes there.
    ///
    /// # Panics
    ///
    /// When there is no cluster.
    pub fn join() -> Self {
        let admin = PathBuf::from(std::env::var("RUNBOOK_TEST_KUBECONFIG").unwrap_or_else(|_| {
            panic!(
                "RUNBOOK_TEST_KUBECONFIG is not set: use `tests/run kube`, or first `eval \"$(tests/kube-lab/lab up full)\"`"
            )
        }));
        let turn = std::fs::File::create(admin.with_file_name("turn")).expect("the cluster's folder can be written to");
        turn.lock().expect("the file can be locked");
        let namespace = format!("rb-{}-{}", std::process::id(), serial());
        let root = open_temp_dir("runbook-node-", &std::env::temp_dir());
        for dir in ["old", "new1", "new2"] {
            std::fs::create_dir(root.path().join(dir)).expect("a fresh directory can be written to");
        }
        let cluster = Self { admin, namespace, root, _turn: turn };
        cluster.write_kubeconfig(&cluster.kubeconfig(), "extendedKeyUsage=clientAuth\n");
        // A test that failed after it killed a run has left its lease.
        cluster.kubectl(&["delete", "lease", "runbook", "--namespace=kube-system", "--ignore-not-found"]);
        cluster.kubectl(&["create", "namespace", cluster.namespace()]);
        // Another test may make them at the same moment: then one of the two is told that they are there.
        let classes = text(&tests_dir().join("kube/classes.yaml")).to_owned();
        wait_until("the storage classes", Duration::from_secs(60), || {
            cluster.try_kubectl(&["apply", "-f", &classes]).code == Some(0)
        });
        // Pods are refused before the namespace has it.
        wait_until("service account default", Duration::from_secs(60), || {
            cluster.try_kubectl(&["get", "serviceaccount", "default"]).code == Some(0)
        });
        cluster
    }

    /// A kubeconfig for what is tested: an administrator who has the name of the fresh namespace, so that the audit log tells its
    /// requests from all others. It works outside and inside of the node's network namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.path().join("kubeconfig")
    }

    /// The same as microk8s 1.34 hands it out: its client certificate is of X.509 version 1.
    pub fn kubeconfig_with_old_certificate(&self) -> PathBuf {
        let path = self.root.path().join("kubeconfig-old");
        self.write_kubeconfig(&path, "");
        path
    }

    /// OpenSSL 3 makes a certificate of version 3 only where it has an extension.
    fn write_kubeconfig(&self, path: &Path, extensions: &str) {
        let pki = self.admin.with_file_name("pki");
        let at = |name: &str| text(&self.root.path().join(name)).to_owned();
        let (key, request, certificate, file) = (at("user.key"), at("user.csr"), at("user.crt"), at("user.ext"));
        let subject = format!("/O=system:masters/CN={}", self.namespace);
        must(&["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
        must(&["openssl", "req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        put(Path::new(&file), extensions, 0o644);
        let serial = std::process::id().to_string();
        let (ca, ca_key) = (pki.join("ca.crt"), pki.join("ca.key"));
        let sign = ["openssl", "x509", "-req", "-sha256", "-days", "2", "-set_serial", &serial, "-in", &request];
        let with = ["-CA", text(&ca), "-CAkey", text(&ca_key), "-extfile", &file, "-out", &certificate];
        must(&[&sign[..], &with].concat());
        let mut config = read(&self.admin);
        for (field, file) in [("client-certificate-data", &certificate), ("client-key-data", &key)] {
            let pattern = Regex::new(&format!("{field}: [A-Za-z0-9+/=]+")).expect("the pattern is a constant");
            let data = must(&["base64", "-w0", file]);
            config = pattern.replace(&config, format!("{field}: {data}")).into_owned();
        }
        put(path, config, 0o600);
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
        let mut argv =
            vec!["kubectl", "--kubeconfig", text(&self.admin), "--namespace", &self.namespace, "--request-timeout=60s"];
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

    /// Waits until an object, by `kind/name`, is gone.
    ///
    /// # Panics
    ///
    /// When it is not within two minutes.
    pub fn wait_absent(&self, object: &str) {
        wait_until(&format!("{object} goes"), Duration::from_secs(120), || self.get(object).is_none());
    }

    /// What was asked of the API server with [`kubeconfig`](Self::kubeconfig), changes (dry runs too) and entries into containers
    /// alone: `verb uri`, such as `patch /api/v1/namespaces/x/persistentvolumeclaims/chime?dryRun=All`.
    ///
    /// # Panics
    ///
    /// When the audit log cannot be read.
    pub fn changes_asked(&self) -> Vec<String> {
        let lines = read(&self.admin.with_file_name("audit.log"));
        let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = records.filter(|r| r["user"]["username"] == self.namespace.as_str());
        ours.filter_map(|r| Some(format!("{} {}", r["verb"].as_str()?, r["requestURI"].as_str()?))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Grace period 0: nobody waits for the pods of a test, and the kubelet is told at once.
        let ours = format!("test={}", self.namespace);
        // The namespace first: then nobody makes new pods for those that go.
        let deletions: [&[&str]; 4] = [
            &["namespace", &self.namespace],
            &["pods", "--all", "--grace-period=0", "--force"],
            &["persistentvolumes", "-l", &ours],
            &["nodes", "-l", &ours],
        ];
        for what in deletions {
            let argv = [&["delete", "--wait=false"], what].concat();
            // The whole cluster goes soon; what could not be deleted is in nobody's way.
            drop(
                std::process::Command::new("kubectl")
                    .arg("--kubeconfig")
                    .arg(&self.admin)
                    .args(["-n", &self.namespace])
                    .args(argv)
                    .output(),
            );
        }
    }
}
