//! `core/kube-apply` and `core/kube-wait`.

use runbook_tests::Outcome;
use serde_json::json;

use crate::bench::Bench;

const OBJECTS: &str = r#"
[inputs.password]
type = "secret"
from = { env = "SWITCH_PASSWORD" }

[[step]]
id = "objects"
uses = "core/kube-apply"
cluster = "lab"
with.manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: switches, namespace: ${NAMESPACE}}
data: {porch: "on", hall: "off"}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: ${NAMESPACE}}
stringData: {password: "{{ inputs.password }}"}
"""

[[step]]
id = "there"
uses = "core/kube-wait"
cluster = "lab"
with = { kind = "ConfigMap", namespace = "${NAMESPACE}", name = "switches", field = "/data/porch", equals = "on" }
"#;

/// Base64 of it stands in the object.
const PASSWORD: &str = "open-sesame-4711";
const ENCODED: &str = "b3Blbi1zZXNhbWUtNDcxMQ==";

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.env = std::mem::take(&mut bench.env).var("SWITCH_PASSWORD", PASSWORD);
    bench.runbook(OBJECTS);
    bench
}

#[test]
fn objects_are_made_and_kept_as_they_should_be() {
    let bench = bench();
    let cluster = &bench.cluster;
    bench.plan().ok().stdout_has("/switches").nowhere(PASSWORD).nowhere(ENCODED);
    assert_eq!(cluster.get("configmap/switches"), None);
    let made = bench.exec().ok().nowhere(PASSWORD).nowhere(ENCODED);
    made.last_line("succeeded: 2 steps, 1 changed, 1 unchanged, 0 skipped, 0 failed");
    assert_eq!(
        cluster.get("configmap/switches").expect("it was made")["data"],
        json!({ "porch": "on", "hall": "off" })
    );
    assert_eq!(cluster.get("secret/token").expect("it was made")["data"]["password"], ENCODED);
    bench.exec_again_changes_nothing();

    // Drift: a field of ours is gone, and so is an object; a field of somebody else is theirs and stays.
    cluster.kubectl(&["patch", "configmap", "switches", "-p", r#"{"data": {"hall": null, "attic": "on"}}"#]);
    cluster.kubectl(&["delete", "secret", "token"]);
    let _ = bench.plan().ok().stdout_has("+  hall: ").nowhere(PASSWORD).nowhere(ENCODED);
    bench.exec().ok();
    let data = cluster.get("configmap/switches").expect("it is there")["data"].clone();
    assert_eq!(data, json!({ "porch": "on", "hall": "off", "attic": "on" }));
    assert_eq!(cluster.get("secret/token").expect("it is there")["data"]["password"], ENCODED);
    bench.exec_again_changes_nothing();

    // Somebody wrote another value with kubectl, which keeps it a second time in an annotation.
    let (by_hand, changed) = ("changed-by-hand", "Y2hhbmdlZC1ieS1oYW5k");
    let hidden = |outcome: Outcome| outcome.nowhere(PASSWORD).nowhere(ENCODED).nowhere(by_hand).nowhere(changed);
    cluster
        .apply_text("apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {password: changed-by-hand}\n");
    bench.runbook(&OBJECTS.replace("with.manifest", "with.force = true\nwith.manifest"));
    let _ = hidden(bench.plan().ok()).stdout_has("/token");
    let _ = hidden(bench.exec().ok());
    assert_eq!(cluster.get("secret/token").expect("it is there")["data"]["password"], ENCODED);
    let _ = hidden(bench.env.run(&["show"]).ok());
    bench.exec_again_changes_nothing();
    let _ = bench.env.run(&["plan", "r.toml", "--json"]).ok().nowhere(PASSWORD).nowhere(ENCODED);

    // Nor do the journals hold what the runbook calls a secret.
    let journals =
        bench.env.other(&["grep", "-rlE", &format!("{PASSWORD}|{ENCODED}"), &bench.env.xdg().display().to_string()]);
    assert_eq!(journals.stdout, "", "a secret is in the journal");
}

#[test]
fn fields_of_another_manager_are_a_conflict_that_names_it() {
    let bench = bench();
    bench.exec().ok();
    let theirs = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: switches}\ndata: {porch: \"off\"}\n";
    let file = bench.env.write("theirs.yaml", theirs);
    let file = file.display().to_string();
    bench.cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager=argocd", "-f", &file]);
    for outcome in [bench.plan().code(1), bench.exec().code(1)] {
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        for part in [".data.porch", "argocd", "force"] {
            assert!(said.contains(part), "no `{part}` in {outcome}");
        }
    }
    assert_eq!(bench.cluster.get("configmap/switches").expect("it is there")["data"]["porch"], "off");
    bench.runbook(&OBJECTS.replace("with.manifest", "with.force = true\nwith.manifest"));
    bench.exec().ok();
    assert_eq!(bench.cluster.get("configmap/switches").expect("it is there")["data"]["porch"], "on");
    bench.exec_again_changes_nothing();
}

#[test]
fn mistakes_in_a_manifest_are_explained() {
    let bench = bench();
    let cases = [
        ("kind: ConfigMap", "kind: ConfigMop", &["ConfigMop"][..]),
        ("apiVersion: v1\nkind: ConfigMap", "apiVersion: v7\nkind: ConfigMap", &["ConfigMap"]),
        ("data: {porch", "dota: {porch", &["dota"]),
        ("name: switches, ", "name: \"Not A Name\", ", &["Not A Name"]),
        ("namespace: ${NAMESPACE}}\ndata", "namespace: nowhere-at-all}\ndata", &["nowhere-at-all"]),
        ("data: {porch", "data: [porch", &["manifest", "line"]),
    ];
    for (from, to, parts) in cases {
        assert!(OBJECTS.contains(from), "{from}");
        bench.runbook(&OBJECTS.replacen(from, to, 1));
        let outcome = bench.exec();
        assert!(matches!(outcome.code, Some(1 | 3)), "{to}: {outcome}");
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        for part in parts {
            assert!(said.contains(part), "no `{part}` in {outcome}");
        }
    }
    assert_eq!(bench.cluster.get("configmap/switches"), None);
}

#[test]
fn a_wait_that_is_in_vain_says_why() {
    let bench = Bench::new();
    bench.cluster.apply_text(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: lame, namespace: "${NAMESPACE}"}
spec:
  selector: {matchLabels: {app: lame}}
  template:
    metadata: {labels: {app: lame}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "registry.invalid/nothing:1"}]
"#,
    );
    bench.runbook(
        r#"
[[step]]
id = "up"
uses = "core/kube-wait"
cluster = "lab"
with = { kind = "Deployment", namespace = "${NAMESPACE}", name = "lame", until = "rolled-out", timeout = "20s" }
"#,
    );
    let outcome = bench.exec().code(1);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for part in ["Deployment", "lame", "container web waits: ", "registry.invalid/nothing:1"] {
        assert!(said.contains(part), "no `{part}` in {outcome}");
    }
}
