//! `openebs/migrate`: a claim moves to another class with its data, and its workload with it.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use runbook_tests::{Tree, wait_until};

use crate::bench::{Bench, assert_same};

pub(crate) const MOVE: &str = r#"
[[step]]
id = "move"
uses = "openebs/migrate"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "chime", image = "${BUSYBOX}" }
"#;

/// The end of every migration of `chime`, however it came to it: `was` is what was on the old volume.
pub(crate) fn assert_moved(bench: &Bench, was: &Tree) {
    let (cluster, namespace) = (&bench.cluster, bench.cluster.namespace());
    bench.settle();
    let claim = cluster.get("pvc/chime").expect("the claim keeps its name");
    assert_eq!(claim["spec"]["storageClassName"], "openebs-hostpath");
    assert_eq!(claim["spec"]["volumeName"], format!("{namespace}-new1"));
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(claim["metadata"]["labels"]["app"], "chime");
    assert_eq!(claim["metadata"]["annotations"]["example.org/owner"], "the bell by the door");

    let copy = Tree::of(bench.volume("new1"));
    assert_eq!(was.differences(&copy), Vec::<String>::new(), "the copy differs");
    was.assert_unchanged();
    let inode = |name: &str| bench.volume("new1").join(name).metadata().expect("it was copied").ino();
    assert_eq!(inode("chime.mp3"), inode("www/same.mp3"), "a hard link is one");
    let time = bench.volume("new1").join("www/empty").metadata().expect("it was copied").mtime();
    assert_eq!(time, 1_000_000_000, "times are kept");

    let old = cluster.get(&format!("pv/{namespace}-old")).expect("the old volume is kept");
    assert_eq!(old["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(old["status"]["phase"], "Released");
    assert_eq!(old["metadata"]["annotations"]["runbook/migrated-to"], format!("{namespace}-new1"));
    let new = cluster.get(&format!("pv/{namespace}-new1")).expect("the new volume is there");
    assert_eq!(new["spec"]["persistentVolumeReclaimPolicy"], "Delete", "as it was made");

    let workload = cluster.get("deployment/chime").expect("the workload stays");
    assert!(workload["metadata"]["annotations"]["runbook/replicas-before"].is_null(), "{workload}");
    assert_eq!(cluster.get("job/runbook-migrate-chime"), None);
    assert_eq!(cluster.get("pvc/chime-mig"), None);
    let served =
        cluster.kubectl(&["exec", "deploy/chime", "--", "wget", "-qO-", "http://127.0.0.1:8080/.hidden/.config"]);
    assert_eq!(served, "ding = dong\n");
}

#[test]
fn a_claim_moves_and_its_workload_comes_back() {
    let bench = Bench::with_chime();
    let cluster = &bench.cluster;
    cluster.kubectl(&["scale", "deployment/chime", "--replicas=2"]);
    bench.settle();
    cluster.apply("cronjob.yaml");
    // Somebody suspended this one on purpose.
    let paused = std::fs::read_to_string(runbook_tests::tests_dir().join("kube/cronjob.yaml")).expect("a template");
    cluster.apply_text(
        &paused
            .replace("name: chime-check", "name: chime-paused")
            .replace("  schedule:", "  suspend: true\n  schedule:"),
    );
    let was = Tree::of(bench.volume("old"));
    bench.runbook(MOVE);

    let plan = bench.plan().ok();
    assert!(plan.stdout.contains("would change") || plan.stdout.contains("may change"), "{plan}");
    bench.exec().ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(cluster.get("deployment/chime").expect("it is there")["spec"]["replicas"], 2);
    assert_moved(&bench, &was);
    let timer = cluster.get("cronjob/chime-check").expect("it is there");
    assert_eq!(timer["spec"]["suspend"], false);
    assert!(timer["metadata"]["annotations"]["runbook/suspended-by"].is_null(), "{timer}");
    assert_eq!(cluster.get("cronjob/chime-paused").expect("it is there")["spec"]["suspend"], true);
    let asked = cluster.changes_asked();
    let patches = |name: &str| {
        asked
            .iter()
            .filter(|line| {
                line.starts_with("patch ")
                    && line.contains(&format!("/cronjobs/{name}"))
                    && !line.contains("dryRun=All")
            })
            .count()
    };
    assert_eq!((patches("chime-check"), patches("chime-paused")), (2, 0), "{asked:#?}");

    bench.exec_again_changes_nothing();

    // Later, when it was seen to be well, the old volume goes. The lab has no provisioner: its part is to delete a volume that is
    // released and says so.
    bench.runbook(&MOVE.replace("image =", "keep_old = false, image ="));
    let old = format!("pv/{}-old", cluster.namespace());
    let running = bench.env.start(&["exec", "r.toml", "--yes"]);
    wait_until("the old volume is given up", Duration::from_secs(120), || {
        cluster.get(&old).is_some_and(|v| v["spec"]["persistentVolumeReclaimPolicy"] == "Delete")
    });
    cluster.kubectl(&["delete", &old]);
    running.wait().ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    bench.exec_again_changes_nothing();
    bench.settle();
}

/// Without the claim on the new volume there would be none: the old one cannot come back.
#[test]
fn an_undo_leaves_a_claim_that_has_moved() {
    let bench = Bench::with_chime();
    let was = Tree::of(bench.volume("old"));
    bench.runbook(MOVE);
    bench.exec().ok();
    assert_moved(&bench, &was);
    bench.undo().ok();
    assert_moved(&bench, &was);
    bench.exec_again_changes_nothing();
}

#[test]
fn what_cannot_be_moved_safely_is_refused_before_anything_is_touched() {
    let bench = Bench::with_chime();
    let cluster = &bench.cluster;
    cluster.apply_text(
        r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: "${NAMESPACE}-shared", labels: {test: "${NAMESPACE}"}}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteMany]
  storageClassName: microk8s-hostpath
  claimRef: {namespace: "${NAMESPACE}", name: shared}
  hostPath: {path: "${ROOT}/shared", type: DirectoryOrCreate}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared, namespace: "${NAMESPACE}"}
spec:
  storageClassName: microk8s-hostpath
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Mi}}
"#,
    );
    cluster.wait_for("pvc/shared", "is bound", |c| c["status"]["phase"] == "Bound");

    let refused = |steps: &str, why: &[&str]| {
        bench.runbook(steps);
        let (before, asked) = (bench.objects(), bench.asked());
        for outcome in [bench.plan().code(1), bench.exec().code(1)] {
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            for part in why {
                assert!(said.contains(part), "no `{part}` in {outcome}");
            }
        }
        assert_eq!(bench.changes_since(asked), Vec::<String>::new());
        assert_same(&before, &bench.objects());
    };
    refused(
        &MOVE.replace("image =", "to_class = \"openebs-hostpth\", image ="),
        &["no storage class openebs-hostpth", "openebs-hostpath"],
    );
    refused(&MOVE.replace("image =", "from_class = \"nfs\", image ="), &["from_class", "microk8s-hostpath"]);
    refused(&MOVE.replace("image =", "size = \"1Mi\", image ="), &["1Mi is less than the 256Mi"]);
    refused(&MOVE.replace("\"chime\"", "\"shared\""), &["shared is ReadWriteMany", "on one node alone"]);
    refused(&MOVE.replace("\"chime\"", "\"chyme\""), &["chyme"]);

    cluster.apply_text(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: shell, namespace: "${NAMESPACE}"}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: shell
      image: docker.io/library/busybox:1.35
      command: [sleep, "1000000"]
      volumeMounts: [{name: data, mountPath: /srv}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: chime}}]
"#,
    );
    cluster.wait_for("pod/shell", "runs", |p| p["status"]["phase"] == "Running");
    refused(MOVE, &["pod shell belongs to no controller"]);
}
