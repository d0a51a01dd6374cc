//! `microk8s` and `snap`.

use std::process::Command;

use runbook_tests::{Outcome, tests_dir};
use serde_json::{Value, json};

fn call(state: &Value, argv: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::write(dir.path().join("microk8s.json"), state.to_string()).expect("a fresh directory can be written to");
    run(dir.path(), argv)
}

fn run(state: &std::path::Path, argv: &[&str]) -> Outcome {
    Outcome::of(Command::new(tests_dir().join("standins").join(argv[0])).args(&argv[1..]).env("STANDIN_STATE", state))
}

fn recorded(name: &str) -> String {
    std::fs::read_to_string(tests_dir().join("standins/recorded").join(name))
        .expect("the recorded outputs are part of the project")
}

#[test]
fn status_is_as_recorded_in_every_form_and_state() {
    let cases = [
        (json!({ "scenario": "single" }), vec![], "microk8s_status_single.txt", 0),
        (json!({ "scenario": "ha3" }), vec![], "microk8s_status_ha3.txt", 0),
        (json!({ "scenario": "ha3" }), vec!["--format", "yaml"], "microk8s_status_ha3.yaml", 0),
        (json!({ "scenario": "ha3" }), vec!["--format=short"], "microk8s_status_short.txt", 0),
        (json!({ "scenario": "ha4_standby" }), vec![], "microk8s_status_ha4_standby.txt", 0),
        (json!({ "scenario": "pre124" }), vec![], "microk8s_status_pre124.txt", 0),
        (json!({ "status": "not-ready" }), vec![], "microk8s_status_notready.txt", 1),
        (json!({ "status": "not-ready" }), vec!["--yaml"], "microk8s_status_notready.yaml", 1),
        (json!({ "status": "stopped" }), vec![], "microk8s_status_stopped.txt", 0),
        (json!({ "status": "worker" }), vec!["--wait-ready", "--timeout", "5"], "microk8s_status_worker.txt", 0),
    ];
    for (state, args, file, code) in cases {
        let out = call(&state, &[vec!["microk8s", "status"], args].concat()).code(code);
        assert_eq!(out.stdout, recorded(file), "{file}");
    }
    assert_eq!(
        call(&json!({ "status": "worker" }), &["microk8s", "kubectl", "get", "pods"]).ok().stdout,
        recorded("microk8s_kubectl_worker.txt")
    );
}

#[test]
fn waiting_ends_when_it_runs_or_when_the_time_is_over() {
    call(&json!({ "polls": 2 }), &["microk8s", "status", "--wait-ready", "--timeout", "30"])
        .ok()
        .stdout_has("microk8s is running");
    call(&json!({ "status": "not-ready" }), &["microk8s", "status", "--wait-ready", "--timeout", "1"]).code(1);
}

#[test]
fn add_ons_are_switched() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mk = |args: &[&str]| run(dir.path(), &[&["microk8s"], args].concat());
    mk(&["enable", "dns"]).ok().stdout_has("Addon core/dns is already enabled");
    mk(&["enable", "registry", "--size=40Gi"]).ok();
    mk(&["status", "-a", "registry"]).ok().last_line("enabled");
    mk(&["disable", "registry"]).ok();
    mk(&["status", "-a", "registry"]).ok().last_line("disabled");
    mk(&["enable", "nonsense"]).code(1).stdout_has("was not found in any repository");
    call(&json!({ "iscsid": false }), &["microk8s", "enable", "openebs"])
        .ok()
        .stdout_has("iscsid is not available or enabled.");
}

#[test]
fn snap_lists_what_is_installed() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    assert_eq!(run(dir.path(), &["snap", "list", "microk8s"]).ok().stdout, recorded("snap_list_microk8s.txt"));
    run(dir.path(), &["snap", "info", "microk8s"]).ok().stdout_has("tracking:     1.31/stable");
    std::fs::write(dir.path().join("snap-missing"), "").expect("a temporary directory can be written to");
    let missing = run(dir.path(), &["snap", "list", "microk8s"]).code(1);
    assert_eq!(missing.stderr, recorded("snap_list_missing.txt"));
}
