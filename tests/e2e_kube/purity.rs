//! A plan changes nothing, by the API server's own word.

use runbook_tests::Tree;

use crate::bench::{Bench, assert_same, is_look, noise};

/// Objects in a namespace that is not there yet, a migration, seeds of a claim that is migrated before and of one that waits for its
/// first consumer.
const STEPS: &str = r#"
[[step]]
id = "objects"
uses = "core/kube-apply"
cluster = "lab"
with.manifest = """
apiVersion: v1
kind: Namespace
metadata: {name: ${NAMESPACE}-new}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: switches, namespace: ${NAMESPACE}-new}
data: {porch: "on"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: switches, namespace: ${NAMESPACE}}
data: {porch: "on"}
"""

[[step]]
id = "there"
uses = "core/kube-wait"
cluster = "lab"
with = { kind = "ConfigMap", namespace = "${NAMESPACE}-new", name = "switches", until = "exists" }

[[step]]
id = "move"
uses = "openebs/migrate"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "chime", image = "${BUSYBOX}" }

[[step]]
id = "sounds"
uses = "volume/seed"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "chime", source = "./chime.mp3", path = "sounds/" }

[[step]]
id = "seed"
uses = "volume/seed"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "seeded", source = "./chime.mp3" }
"#;

const CLAIM: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: seeded, namespace: "${NAMESPACE}"}
spec:
  storageClassName: openebs-hostpath
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 256Mi}}
"#;

#[test]
fn a_plan_asks_for_nothing_but_looks_and_dry_runs() {
    let bench = Bench::with_chime();
    bench.cluster.apply("cronjob.yaml");
    bench.cluster.apply_text(CLAIM);
    bench.cluster.wait_for("pvc/seeded", "is bound", |c| c["status"]["phase"] == "Bound");
    bench.env.write("chime.mp3", noise(100_000, 2));
    bench.runbook(STEPS);

    let disks = ["old", "new1", "new2"].map(|name| Tree::of(bench.volume(name)));
    let before = bench.objects();
    let outcome = bench.plan().ok();
    assert_same(&before, &bench.objects());
    for disk in disks {
        disk.assert_untouched();
    }
    assert_eq!(bench.cluster.get(&format!("namespace/{}-new", bench.cluster.namespace())), None, "{outcome}");

    let asked = bench.cluster.changes_asked();
    let wrong: Vec<_> = asked.iter().filter(|line| !line.contains("dryRun=All") && !is_look(line)).collect();
    assert!(wrong.is_empty(), "asked in a plan: {wrong:#?}");
    // It did look closely: the dry runs of the server are where its differences come from.
    assert!(
        asked.iter().any(|line| line.starts_with("patch ") && line.contains("/configmaps/switches?")),
        "{asked:#?}"
    );
    for part in ["/switches", "scale Deployment", "suspend CronJob"] {
        assert!(outcome.stdout.contains(part), "{outcome}");
    }
    assert!(outcome.stdout.lines().last().unwrap_or_default().starts_with("plan: 5 steps, "), "{outcome}");

    // The plan was true: a run does it all, and then neither a run nor a plan finds anything.
    let done = bench.exec().ok();
    assert!(done.stdout.contains("succeeded: 5 steps, "), "{done}");
    bench.settle();
    bench.exec_again_changes_nothing();
    bench.plan().ok().last_line("plan: 5 steps, 0 would change, 0 may change, 5 unchanged, 0 skipped, 0 failed");
    bench.cluster.kubectl(&["delete", "namespace", &format!("{}-new", bench.cluster.namespace()), "--wait=false"]);
}
