//! Runs that are killed before and after each of their changes come to the same end as one that nothing happens to, and can be taken
//! back to where they began.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runbook_model::event::Event;
use runbook_tests::{Outcome, Tree};
use serde_json::Value;

use crate::bench::{Bench, assert_same, noise};
use crate::migrate::{MOVE, assert_moved};

/// What is there before: an object that is altered, a workload, a machine of which only the object is there, and a volume with files of
/// an earlier seed.
const WORLD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: over, namespace: "${NAMESPACE}"}
data: {porch: "off", garden: "on"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: "${NAMESPACE}"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "docker.io/library/busybox:1.35", command: [sleep, "1000000"]}]
---
apiVersion: v1
kind: Node
metadata: {name: "${NAMESPACE}-spare", labels: {test: "${NAMESPACE}"}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: seeded, namespace: "${NAMESPACE}"}
spec:
  storageClassName: openebs-hostpath
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 256Mi}}
"#;

const SEED: &str = r#"
[[step]]
id = "seed"
uses = "volume/seed"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "seeded", source = "./files", remove_extra = true, image = "${BUSYBOX}" }
"#;

/// One of each kind of request that the shipped plugins make: objects that are made and altered, a patch and a scale that are put back at
/// the end of a block, and in the seeding: programs in a pod that are harmless, one that says when it is done, files that are copied in, a
/// pod that is made and deleted at the end of the step.
const STEPS: &str = r#"
[[step]]
id = "objects"
uses = "core/kube-apply"
cluster = "lab"
with = { force = true, manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: new, namespace: ${NAMESPACE}}
data: {porch: "on"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: over, namespace: ${NAMESPACE}}
data: {porch: "on"}
""" }

[[step]]
id = "maintenance"
on_failure = "hold"

[[step.do]]
id = "cordon"
uses = "core/kube-cordon"
cluster = "lab"
with = { node = "${NAMESPACE}-spare" }

[[step.do]]
id = "stop"
uses = "core/kube-scale"
cluster = "lab"
with = { namespace = "${NAMESPACE}", name = "web", replicas = 0 }
"#;

/// What `volume/seed` leaves in the volume for a later seed.
const MARKER: &str = ".runbook-seed-files.sha256";

/// What a person sees of the world.
struct Seen {
    objects: BTreeMap<String, Value>,
    files: Tree,
}

impl Bench {
    fn prepared() -> Self {
        let bench = Self::new();
        bench.cluster.apply("volumes.yaml");
        bench.cluster.apply_text(WORLD);
        bench.cluster.wait_for("deployment/web", "runs", |d| d["status"]["availableReplicas"] == 1);
        bench.files(&[("a", b"a1"), ("old/gone", b"was here")]);
        bench.runbook(SEED);
        bench.exec().ok();
        bench.files(&[("a", b"a2"), ("new/b", &noise(100_000, 7))]);
        bench.runbook(&format!("{STEPS}{}", SEED.replacen("[[step]]", "[[step.do]]", 1)));
        bench
    }

    /// What is seeded: these files and no other ones.
    fn files(&self, files: &[(&str, &[u8])]) {
        let folder = self.env.work().join("files");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("our own folder can be removed");
        }
        for (name, content) in files {
            self.env.write(&format!("files/{name}"), content);
        }
    }

    fn seeded(&self) -> PathBuf {
        self.volume("new2")
    }

    fn see(&self) -> Seen {
        let mut objects = self.shapes();
        let node = format!("node/{}-spare", self.cluster.namespace());
        let node = self.cluster.get(&node).expect("it is there");
        objects.insert("Node".to_owned(), node["spec"]["unschedulable"].clone());
        Seen { objects, files: Tree::of(self.seeded()) }
    }

    /// The changes that the last run made, in their order: as a drill names them, and in words.
    fn changes_made(&self) -> Vec<(String, String)> {
        let made = |event| match event {
            Event::Intended { instance, call, undoes: None, diff, .. } => {
                Some((format!("{}:{call}", instance.step), diff.summary))
            }
            _ => None,
        };
        self.env.run(&["show", "--json"]).ok().events().into_iter().filter_map(made).collect()
    }

    /// Runs it, and kills it before and after each of these changes; each time it is gone on with.
    fn killed_at(&self, changes: &[(String, String)]) -> Outcome {
        let mut args = vec!["exec", "r.toml", "--yes"];
        for (change, what) in changes {
            for after in ["", ":after"] {
                let point = format!("--drill-kill={change}{after}");
                let killed = self.env.run(&[&args[..], &[&point]].concat());
                assert_eq!(killed.signal, Some(9), "{point}: {killed}");
                args = vec!["resume", "--yes"];
                if what.starts_with("remove ") && after.is_empty() {
                    // It did not say that it may be done twice, and a process in a pod may still be at work: a person has to look.
                    self.resume().code(5).stderr_has("leaves no mark");
                    let next = self.env.run(&["next"]).ok();
                    let because = ["--not-done", "--because", "it is there"];
                    let [resolve, run, step] = resolve(&next)[..3] else { panic!("{next}") };
                    self.env.run(&[&[resolve, run, step], &because[..]].concat()).ok();
                }
            }
        }
        self.resume()
    }

    /// Runs it, and kills it before and after each change of these steps, whatever these are; each time it is gone on with. Gives how it
    /// ended, and how often it was killed.
    fn killed_at_every_change(&self, begin: &[&str], go_on: &[&str], steps: &[&str]) -> (Outcome, usize) {
        for kills in 0..100 {
            let after = if kills % 2 == 0 { "" } else { ":after" };
            let points: Vec<String> = steps.iter().map(|step| format!("--drill-kill={step}{after}")).collect();
            let args = if kills == 0 { begin } else { go_on };
            let args: Vec<&str> = args.iter().copied().chain(points.iter().map(String::as_str)).collect();
            let outcome = self.env.run(&args);
            if outcome.signal != Some(9) {
                return (outcome, kills);
            }
        }
        panic!("it comes to no end");
    }
}

/// The command that `runbook next` prints for what a person has done.
fn resolve(next: &Outcome) -> Vec<&str> {
    let mut lines = next.stdout.lines().filter(|line| line.contains("--done"));
    let command =
        lines.find_map(|line| line.split_once("runbook resolve ")).unwrap_or_else(|| panic!("none in {next}")).1;
    ["resolve"]
        .into_iter()
        .chain(command.split_whitespace().take_while(|word| !matches!(*word, "when" | "|")))
        .collect()
}

#[test]
fn each_kind_of_change_survives_a_kill_and_can_be_taken_back() {
    let bench = Bench::prepared();
    let before = bench.see();
    let marker = std::fs::read(bench.seeded().join(MARKER)).expect("an earlier seed left it");
    bench.exec().ok();
    let changes = bench.changes_made();
    // Two objects; cordon, stop and their ends; in the volume folders, two files, attributes, a file that goes and a marker; the note on the
    // claim; the pod, and its end.
    assert_eq!(changes.len(), 15, "{changes:?}");
    let end = bench.see();
    assert!(end.objects.contains_key("ConfigMap new") && !bench.seeded().join("old/gone").exists());

    // A file that was removed is gone; whoever has it puts it back, and into the list of what was seeded, says so, and the undo goes on.
    let undo = |go_on: &dyn Fn() -> Outcome| {
        go_on().code(5).stderr_has("old/gone");
        std::fs::write(bench.seeded().join("old/gone"), b"was here").expect("the volume can be written to");
        let next = bench.env.run(&["next"]).ok();
        bench.env.run(&resolve(&next)).ok();
        go_on().ok();
        std::fs::write(bench.seeded().join(MARKER), &marker).expect("the volume can be written to");
        bench.cluster.wait_absent("pod/runbook-seed-seeded-files");
        let undone = bench.see();
        assert_same(&before.objects, &undone.objects);
        let file = |name: &str| std::fs::read(bench.seeded().join(name)).ok();
        assert_eq!(file("a").as_deref(), Some(&b"a1"[..]));
        assert_eq!(file("old/gone").as_deref(), Some(&b"was here"[..]));
        assert_eq!(file("new/b"), None);
    };
    undo(&|| bench.undo());

    bench.killed_at(&changes).ok();
    let cut = bench.see();
    assert_same(&end.objects, &cut.objects);
    assert_eq!(end.files.differences(&cut.files), Vec::<String>::new());
    let steps = ["objects", "cordon", "stop", "seed"];
    undo(&|| {
        let (outcome, kills) = bench.killed_at_every_change(&["undo"], &["undo"], &steps);
        // The first time up to the file that cannot come back by itself, the second time all the rest.
        assert!(kills >= 6, "only {kills} kills; {outcome}");
        outcome
    });
    // Nothing of it is in doubt any more: others may use the cluster.
    bench.exec().ok();
}

#[test]
fn a_migration_survives_a_kill_at_each_change() {
    let bench = Bench::with_chime();
    let was = Tree::of(bench.volume("old"));
    bench.runbook(MOVE);
    let (outcome, kills) = bench.killed_at_every_change(&["exec", "r.toml", "--yes"], &["resume", "--yes"], &["move"]);
    outcome.ok();
    assert!(kills > 10, "only {kills} kills");
    assert_moved(&bench, &was);
    bench.exec_again_changes_nothing();
}

#[test]
fn a_run_that_died_in_its_goodbye_holds_nobody_up() {
    const SMALL: &str = r#"
[[step]]
id = "small"
uses = "core/kube-apply"
cluster = "lab"
with = { force = true, manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: small, namespace: ${NAMESPACE}}
data: {run: "{{ run.id }}"}
""" }
"#;
    let bench = Bench::new();
    let holder = || {
        let lease = bench.cluster.try_kubectl(&["get", "lease/runbook", "-n", "kube-system", "-o", "json"]);
        let lease: Option<Value> = serde_json::from_str(&lease.stdout).ok();
        lease.and_then(|lease| Some(lease["spec"]["holderIdentity"].as_str()?.to_owned()))
    };
    bench.runbook(SMALL);
    let other = runbook_tests::TestEnv::new();
    other.write("r.toml", std::fs::read(bench.env.work().join("r.toml")).expect("it was just written"));
    let killed = bench.env.run(&["exec", "r.toml", "--drill-kill", "@last"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    let first = bench.env.last_run().file_name().expect("a run has a name").to_string_lossy().into_owned();
    assert_eq!(holder(), Some(format!("{first}/1")));
    bench.env.run(&["resume"]).code(2).stderr_has("came to its end");
    // Whoever does not know it has to wait; its own controller knows that it is over.
    other.run(&["exec", "r.toml"]).code(1).stderr_has(&first).stderr_has("delete lease runbook");
    bench.exec().ok().stderr_has(&format!("the lease of lab was taken over from {first}"));
    assert_eq!(holder(), None);
    other.run(&["exec", "r.toml"]).ok();

    // Killed on the way, and given up.
    let killed = bench.env.run(&["exec", "r.toml", "--drill-kill", "small:after"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    assert!(holder().is_some());
    bench.exec().code(4).stderr_has("--abandon");
    bench.env.run(&["exec", "r.toml", "--abandon"]).ok().stderr_has("was taken over from");
    assert_eq!(holder(), None);
}
