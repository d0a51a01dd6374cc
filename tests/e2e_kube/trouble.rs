//! A cluster that cannot be used: what is said, and that nothing is changed.

use std::net::Ipv4Addr;

use runbook_tests::{Outcome, free_port};

use crate::bench::Bench;

const STEP: &str = r#"
[[step]]
id = "objects"
uses = "core/kube-apply"
cluster = "lab"
with.manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "switches", namespace = "${NAMESPACE}" }, data = { porch = "on" } }
"#;

fn says(outcome: &Outcome, parts: &[&str]) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for part in parts {
        assert!(said.contains(part), "no `{part}` in {outcome}");
    }
}

#[test]
fn the_wrong_cluster_is_refused_by_its_uid() {
    let bench = Bench::new();
    let kubeconfig = format!("kubeconfig = \"{}\"\n", bench.cluster.kubeconfig().display());
    let pinned = "11111111-2222-4333-8444-555555555555";
    bench.runbook_with(&format!("{kubeconfig}uid = \"{pinned}\""), STEP);
    let live = bench.cluster.get("namespace/kube-system").expect("it is there");
    let live = live["metadata"]["uid"].as_str().expect("it has one");
    for outcome in [bench.plan().code(1), bench.exec().code(1)] {
        says(&outcome, &["another cluster", pinned, live]);
    }
    assert_eq!(bench.cluster.changes_asked(), Vec::<String>::new(), "not even a dry run");
    bench.runbook_with(&format!("{kubeconfig}uid = \"{live}\""), STEP);
    bench.exec().ok();
}

/// canonical/microk8s#5447: rustls refuses to load such a certificate, kubectl and API servers take it.
#[test]
fn the_kubeconfig_of_microk8s_1_34_can_be_used() {
    let bench = Bench::new();
    let kubeconfig = bench.cluster.kubeconfig_with_old_certificate();
    bench.runbook_with(&format!("kubeconfig = \"{}\"", kubeconfig.display()), STEP);
    bench.exec().ok();
    assert!(bench.cluster.get("configmap/switches").is_some());
    assert!(bench.cluster.changes_asked().iter().any(|line| line.contains("/configmaps/switches")), "it was that user");
}

#[test]
fn a_kubeconfig_that_is_missing_or_broken_is_named() {
    let bench = Bench::new();
    bench.runbook_with("kubeconfig = \"not/here.yaml\"", STEP);
    let outcome = bench.exec();
    assert!(matches!(outcome.code, Some(1 | 3 | 4)), "{outcome}");
    says(&outcome, &["not/here.yaml"]);
    let good = std::fs::read_to_string(bench.cluster.kubeconfig()).expect("it is there");
    for (text, parts) in [
        ("clusters: [".to_owned(), &["broken.yaml"][..]),
        (String::new(), &["broken.yaml"]),
        (
            good.replace("current-context: lab", "current-context: prod"),
            &["broken.yaml", "prod", "contexts in it: lab"],
        ),
    ] {
        bench.env.write("broken.yaml", &text);
        bench.runbook_with("kubeconfig = \"broken.yaml\"", STEP);
        let outcome = bench.exec().code(1);
        says(&outcome, parts);
    }
    assert_eq!(bench.cluster.get("configmap/switches"), None);
}

#[test]
fn an_api_server_that_is_down_is_unreachable() {
    let bench = Bench::new();
    let port = free_port(Ipv4Addr::LOCALHOST);
    let kubeconfig = bench.cluster.kubeconfig();
    let cluster = format!("kubeconfig = \"{}\"\nserver = \"https://127.0.0.1:{port}\"", kubeconfig.display());
    bench.runbook_with(&cluster, STEP);
    let outcome = bench.exec().code(1);
    says(&outcome, &["unreachable", &format!("127.0.0.1:{port}"), "lab"]);
    let outcome = bench.plan();
    assert_eq!(outcome.code, Some(1), "{outcome}");
    says(&outcome, &["unreachable", &format!("127.0.0.1:{port}")]);
    let skipping = "cluster = \"lab\"\non_unreachable = \"skip\"";
    bench.runbook_with(&cluster, &STEP.replace("cluster = \"lab\"", skipping));
    bench.exec().ok().last_line("succeeded: 1 steps, 0 changed, 0 unchanged, 1 skipped, 0 failed");
}

#[test]
fn a_user_who_may_not_is_told_what() {
    let bench = Bench::new();
    bench.cluster.apply_text(
        r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: guest, namespace: "${NAMESPACE}"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: guest, namespace: "${NAMESPACE}"}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: guest, namespace: "${NAMESPACE}"}
subjects: [{kind: ServiceAccount, name: guest, namespace: "${NAMESPACE}"}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: guest}
"#,
    );
    let account =
        bench.cluster.wait_for("serviceaccount/guest", "has a token", |a| a["secrets"][0]["name"].is_string());
    let secret = account["secrets"][0]["name"].as_str().expect("it is a name").to_owned();
    let token = bench.cluster.kubectl(&["get", "secret", &secret, "-o", "go-template={{.data.token | base64decode}}"]);
    let good = std::fs::read_to_string(bench.cluster.kubeconfig()).expect("it is there");
    let (head, _) = good.split_once("users:").expect("it has users");
    let (_, contexts) = good.split_once("contexts:").expect("it has contexts");
    let guest = format!("{head}users: [{{name: admin, user: {{token: \"{token}\"}}}}]\ncontexts:{contexts}");
    bench.env.write("guest.yaml", &guest);
    bench.runbook_with("kubeconfig = \"guest.yaml\"", STEP);
    for outcome in [bench.plan().code(1), bench.exec().code(1)] {
        says(&outcome, &["configmaps \"switches\" is forbidden", "the user of the kubeconfig may not do that"]);
        let _ = outcome.nowhere(&token);
    }
    assert_eq!(bench.cluster.get("configmap/switches"), None);
    // Credentials that the API server does not know.
    bench.env.write("guest.yaml", guest.replace(&token, "no-such-token"));
    let outcome = bench.exec().code(1);
    says(&outcome, &["does not accept the credentials of the kubeconfig"]);
}
