//! The registry lab: Debian's containerd reads what stands in microk8s' directories, and really pulls.

use runbook_tests::{Generation, Image, Microk8s, Registry};
use serde_json::json;

const DATA: &str = "/var/snap/microk8s/current/args";

#[test]
fn a_pull_over_plain_http_needs_the_scheme_in_hosts_toml() {
    let registry = Registry::start();
    registry.push("app", "1", &Image::tiny());
    let nodes = Microk8s::start(2, Generation::CertsD);
    let node = nodes.lab().host("h1");
    // Not by its address: containerd takes loopback addresses for plain http by itself.
    nodes.add_name(node, "127.0.0.1", "registry.localdomain");
    let endpoint = format!("registry.localdomain:{}", registry.port());
    let image = format!("{endpoint}/app:1");

    let refused = nodes.pull(node, &image).expect_err("nobody told containerd to use plain http");
    assert!(refused.contains("server gave HTTP response to HTTPS client"), "{refused}");

    // Read at each pull: no restart.
    let hosts = format!(
        "server = \"http://{endpoint}\"\n\n[host.\"http://{endpoint}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    node.machine().put(format!("{DATA}/certs.d/{endpoint}/hosts.toml"), hosts, 0o644);
    let id = nodes.pull(node, &image).unwrap_or_else(|e| panic!("{e}"));
    assert!(id.starts_with("sha256:"), "{id}");
    let listed = node.run(&["/snap/bin/microk8s", "ctr", "images", "ls", "-q"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&image), "{listed:?}");
    assert!(nodes.calls(node).contains("ctr"));

    let missing = nodes.pull(node, &format!("{endpoint}/nothing:1")).expect_err("it was never pushed");
    assert!(missing.contains("not found"), "{missing}");
}

#[test]
fn an_old_template_lists_its_registries_and_needs_a_restart() {
    let registry = Registry::start();
    registry.push("app", "1", &Image::tiny());
    let nodes = Microk8s::start(1, Generation::Mirrors);
    let node = nodes.lab().host("h1");
    nodes.add_name(node, "127.0.0.1", "registry.localdomain");
    let endpoint = format!("registry.localdomain:{}", registry.port());
    let image = format!("{endpoint}/app:1");

    let path = node.path(format!("{DATA}/containerd-template.toml"));
    let template = std::fs::read_to_string(&path).expect("the node has a template");
    let key = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"localhost:32000\"]";
    let mirror = format!(
        "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"{endpoint}\"]\n        endpoint = [\"http://{endpoint}\"]\n      {key}"
    );
    std::fs::write(&path, template.replace(key, &mirror)).expect("the template can be written");
    nodes.pull(node, &image).expect_err("containerd has not read it yet");
    let restarted = node.run(&["snap", "restart", "microk8s.daemon-containerd"]);
    assert!(restarted.status.success(), "{restarted:?}");
    nodes.pull(node, &image).unwrap_or_else(|e| panic!("{e}"));

    // Both ways together: containerd refuses its whole CRI plugin.
    let both = std::fs::read_to_string(&path).expect("the node has a template").replace(
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n    config_path = \"${SNAP_DATA}/args/certs.d\"\n",
    );
    std::fs::write(&path, both).expect("the template can be written");
    node.run(&["snap", "restart", "microk8s.daemon-containerd"]);
    nodes.pull(node, &image).expect_err("the CRI plugin is not loaded");
    let log = nodes.containerd_log(node);
    assert!(log.contains("`mirrors` cannot be set when `config_path` is provided"), "{log}");
}

#[test]
fn snap_says_no_while_a_change_is_in_progress() {
    let nodes = Microk8s::start(1, Generation::CertsD);
    let node = nodes.lab().host("h1");
    node.machine().put("/var/lib/runbook-standins/snap-busy", "", 0o644);
    let out = node.run(&["snap", "restart", "microk8s.daemon-containerd"]);
    assert_eq!(out.status.code(), Some(10));
    nodes.set_state(node, &json!({ "status": "worker" }));
    let out = node.run(&["/snap/bin/microk8s", "status"]);
    assert_eq!(out.status.code(), Some(0), "a worker says so and exits 0");
}
