//! The Kubernetes lab: pods run on its node with the volumes of the templates, and pull from a registry of ours.

use std::process::Command;
use std::time::Duration;

use runbook_tests::{Cluster, Image, Outcome, Registry, wait_until};
use serde_json::Value;

fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

#[test]
fn a_pod_serves_what_is_in_the_claims_volume() {
    let cluster = Cluster::join();
    std::fs::write(cluster.root().join("old/chime.mp3"), "ding dong").expect("the node's directory can be written to");
    cluster.apply("volumes.yaml");
    cluster.apply("chime.yaml");
    cluster.wait_for("deployment/chime", "is available", |d| d["status"]["availableReplicas"] == 1);
    let claim = cluster.wait_for("pvc/chime", "is bound", |c| phase(c) == "Bound");
    assert_eq!(claim["spec"]["volumeName"], format!("{}-old", cluster.namespace()));
    let got = cluster.kubectl(&["exec", "deploy/chime", "--", "wget", "-qO-", "http://127.0.0.1:8080/chime.mp3"]);
    assert_eq!(got, "ding dong");
    let logs = cluster.kubectl(&["logs", "deploy/chime"]);
    assert!(logs.contains("url:/chime.mp3"), "{logs}");
    cluster.kubectl(&["exec", "deploy/chime", "--", "sh", "-c", "echo written > /srv/back"]);
    assert_eq!(std::fs::read_to_string(cluster.root().join("old/back")).ok().as_deref(), Some("written\n"));

    // What is asked with the kubeconfig for what is tested, and nothing else.
    let kubeconfig = cluster.kubeconfig();
    let kubectl = |args: &[&str]| {
        let outcome = Outcome::of(
            Command::new("kubectl").arg("--kubeconfig").arg(&kubeconfig).args(["-n", cluster.namespace()]).args(args),
        );
        drop(outcome.ok());
    };
    kubectl(&["get", "pods"]);
    assert_eq!(cluster.changes_asked(), Vec::<String>::new());
    kubectl(&["scale", "deployment/chime", "--replicas=1", "--dry-run=server"]);
    kubectl(&["exec", "deploy/chime", "--", "true"]);
    let asked = cluster.changes_asked();
    assert!(asked[0].starts_with("patch ") && asked[0].contains("dryRun=All"), "{asked:?}");
    assert!(asked.iter().any(|a| a.contains("/exec?")), "{asked:?}");
}

#[test]
fn a_local_volume_waits_for_its_first_consumer() {
    let cluster = Cluster::join();
    cluster.apply("volumes.yaml");
    cluster.apply("seeder.yaml");
    let pod = cluster.wait_for("pod/seeder", "has ended", |p| phase(p) == "Succeeded");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "sum\n");
    assert_eq!(std::fs::read_to_string(cluster.root().join("new2/f")).ok().as_deref(), Some("seed\n"));
}

#[test]
fn a_pod_pulls_from_a_registry_that_hosts_toml_names() {
    let cluster = Cluster::join();
    let registry = Registry::start_in(Some(&cluster.netns()));
    registry.push("app", "1", &Image::busybox(&["sleep", "1000"]));
    // A name that only hosts.toml knows: it cannot be resolved.
    let name = format!("registry-{}.invalid:5000", cluster.namespace());
    let dir = cluster.certs_d().join(&name);
    std::fs::create_dir_all(&dir).expect("the node's certs.d can be written to");
    let hosts = format!(
        "server = \"http://{e}\"\n\n[host.\"http://{e}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        e = registry.endpoint()
    );
    std::fs::write(dir.join("hosts.toml"), hosts).expect("the node's certs.d can be written to");
    cluster.kubectl(&["run", "puller", &format!("--image={name}/app:1"), "--image-pull-policy=Always"]);
    cluster.wait_for("pod/puller", "runs", |p| phase(p) == "Running");
    wait_until("the pull is reported", Duration::from_secs(30), || {
        cluster.kubectl(&["get", "events", "-o", "jsonpath={..message}"]).contains("Successfully pulled image")
    });
    drop(std::fs::remove_dir_all(dir));
}
