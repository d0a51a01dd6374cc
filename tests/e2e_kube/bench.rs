//! What these tests share: a namespace of the cluster, a world for `runbook`, and looks at both.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use runbook_tests::{Cluster, Outcome, TestEnv};
use serde_json::Value;

/// What runs in the lab's pods; the plugins' default images cannot be pulled there.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.35";

/// A namespace of the cluster, and a world in which `runbook` runs.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) env: TestEnv,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { cluster: Cluster::join(), env: TestEnv::new() }
    }

    /// A namespace with the claim `chime` of the old class, filled with [`awkward_files`](Self::awkward_files), and the Deployment
    /// that serves it.
    pub(crate) fn with_chime() -> Self {
        let bench = Self::new();
        bench.awkward_files();
        bench.cluster.apply("volumes.yaml");
        bench.cluster.apply("chime.yaml");
        bench.settle();
        bench
    }

    /// Waits until the Deployment `chime` is as it wants to be.
    pub(crate) fn settle(&self) {
        self.cluster.wait_for("deployment/chime", "is available", |d| {
            d["spec"]["replicas"] == d["status"]["availableReplicas"]
                && d["metadata"]["generation"] == d["status"]["observedGeneration"]
                && d["status"]["unavailableReplicas"].is_null()
        });
    }

    /// Directory of the node that is the volume `old`, `new1` or `new2`.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.cluster.root().join(name)
    }

    /// Fills the old volume with everything that a copy can get wrong.
    pub(crate) fn awkward_files(&self) {
        let at = |name: &str| self.volume("old").join(name);
        let put = |name: &str, content: &[u8], mode: u32, owner: u32, group: u32| {
            std::fs::create_dir_all(at(name).parent().expect("it has a folder")).expect("the volume can be written to");
            std::fs::write(at(name), content).expect("the volume can be written to");
            // Changing the owner takes mode bits away, so it comes first.
            chown(at(name), Some(owner), Some(group)).expect("root may give files away");
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("the mode can be set");
        };
        put("chime.mp3", &noise(4 << 20, 1), 0o644, 1000, 33);
        put(".hidden/.config", b"ding = dong\n", 0o600, 0, 0);
        put("www/empty", b"", 0o444, 33, 33);
        put("www/with space, \u{fc}ml\u{e4}ut and 'quotes'", b"x", 0o640, 1000, 1000);
        put("bin/tool", b"#!/bin/sh\n", 0o4755, 0, 1000);
        put("zeros", &vec![0; 1 << 20], 0o644, 0, 0);
        std::fs::hard_link(at("chime.mp3"), at("www/same.mp3")).expect("a hard link can be made");
        symlink("../chime.mp3", at("www/link")).expect("a link can be made");
        symlink("/nowhere/at/all", at("dangling")).expect("a link can be made");
        std::fs::create_dir(at("drop")).expect("a folder can be made");
        chown(at("drop"), Some(1000), Some(33)).expect("root may give files away");
        std::fs::set_permissions(at("drop"), PermissionsExt::from_mode(0o3777)).expect("the mode can be set");
        std::fs::set_permissions(at(""), PermissionsExt::from_mode(0o2775)).expect("the mode can be set");
        chown(at(""), Some(1000), Some(33)).expect("root may give files away");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let file = std::fs::File::options().write(true).open(at("www/empty")).expect("it was just made");
        file.set_modified(old).expect("the time can be set");
    }

    /// Writes a runbook whose cluster `lab` is this one, with the kubeconfig of this namespace's own user.
    pub(crate) fn runbook(&self, steps: &str) {
        self.runbook_with(&format!("kubeconfig = \"{}\"", self.cluster.kubeconfig().display()), steps);
    }

    /// The same with another cluster.
    pub(crate) fn runbook_with(&self, cluster: &str, steps: &str) {
        let steps = steps.replace("${NAMESPACE}", self.cluster.namespace()).replace("${BUSYBOX}", BUSYBOX);
        self.env.write("r.toml", format!("schema = 1\nname = \"e2e\"\n\n[clusters.lab]\n{cluster}\n{steps}"));
    }

    /// `runbook plan`.
    pub(crate) fn plan(&self) -> Outcome {
        self.env.run(&["plan", "r.toml"])
    }

    /// `runbook exec`, with a yes to every question.
    pub(crate) fn exec(&self) -> Outcome {
        self.env.run(&["exec", "r.toml", "--yes"])
    }

    /// `runbook resume`, with a yes to every question.
    pub(crate) fn resume(&self) -> Outcome {
        self.env.run(&["resume", "--yes"])
    }

    /// `runbook undo`.
    pub(crate) fn undo(&self) -> Outcome {
        self.env.run(&["undo"])
    }

    /// What was really changed with the kubeconfig of the runbook after the first `from` entries of the audit log.
    pub(crate) fn changes_since(&self, from: usize) -> Vec<String> {
        let asked = self.cluster.changes_asked().into_iter().skip(from);
        asked.filter(|line| !line.contains("dryRun=All") && !is_look(line)).collect()
    }

    /// Entries of the audit log so far.
    pub(crate) fn asked(&self) -> usize {
        self.cluster.changes_asked().len()
    }

    /// Runs `exec` once more: nothing is left to do, and nothing is done.
    pub(crate) fn exec_again_changes_nothing(&self) {
        let (before, asked) = (self.objects(), self.asked());
        let outcome = self.exec().ok();
        assert!(outcome.stdout.contains(" 0 changed, "), "{outcome}");
        assert_eq!(self.changes_since(asked), Vec::<String>::new(), "{outcome}");
        assert_same(&before, &self.objects());
    }

    /// All objects of the namespace and its volumes, by kind and name, without what their controllers report in between.
    pub(crate) fn objects(&self) -> BTreeMap<String, Value> {
        let kinds = self.cluster.kubectl(&["api-resources", "--namespaced", "--verbs=list", "-o", "name"]);
        let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
        let ours = format!("test={}", self.cluster.namespace());
        let mut objects = BTreeMap::new();
        for args in [&["get", &kinds.join(",")][..], &["get", "persistentvolumes", "-l", &ours]] {
            let list = self.cluster.kubectl(&[args, &["-o", "json"]].concat());
            let mut list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
            for object in list["items"].as_array_mut().expect("a list has items") {
                let name = format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
                let lives = ["Pod ", "ReplicaSet ", "Deployment ", "Lease "].iter().any(|kind| name.starts_with(kind));
                let object = object.as_object_mut().expect("an object");
                if lives {
                    // The kubelet and the controllers write the state of probes into it.
                    object.remove("status");
                    object["metadata"]
                        .as_object_mut()
                        .map(|meta| (meta.remove("resourceVersion"), meta.remove("managedFields")));
                }
                objects.insert(name, Value::Object(std::mem::take(object)));
            }
        }
        objects
    }

    /// What a person wrote into the objects of the namespace and its volumes, by kind and name: without what the API server counts
    /// and what controllers and runs report. Pods and their ReplicaSets come and go; their Deployments say what is to be there.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Value> {
        let lives = ["Pod ", "ReplicaSet ", "Lease ", "Endpoints ", "EndpointSlice ", "ControllerRevision ", "Event "];
        let mut objects = self.objects();
        objects.retain(|name, _| !lives.iter().any(|kind| name.starts_with(kind)));
        for object in objects.values_mut() {
            if let Some(object) = object.as_object_mut() {
                object.remove("status");
            }
            if let Some(meta) = object["metadata"].as_object_mut() {
                for counted in ["resourceVersion", "generation", "managedFields", "uid", "creationTimestamp"] {
                    meta.remove(counted);
                }
                let revision = "deployment.kubernetes.io/revision";
                meta.get_mut("annotations").and_then(Value::as_object_mut).map(|notes| notes.remove(revision));
            }
        }
        objects
    }
}

/// An entry into a container that only looks, as `volume/seed` does through pods that run.
pub(crate) fn is_look(asked: &str) -> bool {
    let looks = ["?command=sha256sum&", "?command=stat&command=-c&"];
    asked.contains("/exec?") && looks.iter().any(|look| asked.contains(look)) && !asked.contains("stdin=true")
}

/// Two looks at the same objects saw the same.
pub(crate) fn assert_same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) {
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (name, object) in before {
        assert_eq!(object, &after[name], "{name} was to stay as it was");
    }
}

/// Bytes that nothing compresses and everybody can make again.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
