//! Hosts that fail while something is under way.

use std::time::Duration;

use runbook_model::event::{Event, RunOutcome, StepOutcome};
use runbook_tests::{SshLab, TestEnv, wait_until};
use rustix::process::Signal;

use crate::support::{ended, runbook};

const SOON: Duration = Duration::from_secs(60);

const ENDLESS: &str = r#"
[[step]]
id = "endless"
uses = "core/script"
on = ["h1", "h2"]
TIMEOUT
with.script = """
test {{ host.name }} = h1 || exit 0
trap '' INT TERM HUP
sleep 1000 &
echo $! > /srv/child
echo $$ > /srv/new
mv /srv/new /srv/pid
while :; do sleep 1000; done
"""

[[step]]
id = "after"
uses = "core/command"
on = "h2"
with = { argv = ["touch", "/srv/after"] }
"#;

fn endless(timeout: &str) -> (SshLab, TestEnv) {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", &ENDLESS.replace("TIMEOUT", timeout)));
    (lab, env)
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z') && !rest.starts_with('X')))
}

fn assert_gone(lab: &SshLab) {
    for name in ["/srv/pid", "/srv/child"] {
        let pid = std::fs::read_to_string(lab.host("h1").path(name)).expect("the script noted its processes");
        wait_until(&format!("{name} is gone"), SOON, || !alive(&pid));
    }
}

#[test]
fn a_connection_that_is_cut_leaves_the_command_in_doubt() {
    let (mut lab, env) = endless("timeout = \"5m\"");
    let running = env.start(&["exec", "x.toml"]);
    wait_until("the script runs", SOON, || lab.host("h1").path("/srv/pid").exists());
    lab.host_mut("h1").stop();
    let out = running.wait().code(1).last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    let (outcome, reason) = ended(&env.journal(), "endless", "h1");
    assert_eq!(outcome, StepOutcome::Unreachable, "{out}");
    assert!(reason.contains("doubt") || reason.contains("not known"), "{reason}");
    assert_eq!(ended(&env.journal(), "endless", "h2").0, StepOutcome::Changed);
    assert!(!lab.host("h2").path("/srv/after").exists());
}

#[test]
fn a_command_that_never_returns_is_ended_by_the_time_of_its_step() {
    let (lab, env) = endless("timeout = \"4s\"");
    env.run(&["exec", "x.toml"])
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed")
        .stderr_has("time");
    assert_gone(&lab);
    assert_eq!(ended(&env.journal(), "endless", "h1").0, StepOutcome::Failed);
}

#[test]
fn a_cancelled_run_leaves_nothing_running_on_the_host() {
    let (lab, env) = endless("timeout = \"5m\"");
    let running = env.start(&["exec", "x.toml"]);
    wait_until("the script runs", SOON, || lab.host("h1").path("/srv/pid").exists());
    running.signal(Signal::INT);
    let out = running.wait().code(6);
    assert!(out.stdout.lines().last().is_some_and(|l| l.starts_with("cancelled: 2 steps, ")), "{out}");
    assert_gone(&lab);
    let records = env.journal();
    assert!(matches!(
        records.last().map(|r| &r.event),
        Some(Event::RunFinished { outcome: RunOutcome::Cancelled, .. })
    ));
}

#[test]
fn a_host_that_hangs_costs_its_step_and_no_more() {
    let (lab, env) = endless("timeout = \"15s\"");
    lab.host("h1").freeze();
    let out = env.run(&["exec", "x.toml"]).code(1);
    lab.host("h1").thaw();
    assert!(out.stdout.ends_with("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed\n"), "{out}");
    assert!(!ended(&env.journal(), "endless", "h1").0.is_ok());
    assert_eq!(ended(&env.journal(), "endless", "h2").0, StepOutcome::Changed);
}

#[test]
fn a_kubeconfig_that_its_host_cannot_give_is_said() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    let steps = "[clusters.home]\nkubeconfig = { host = [\"h1\"], command = [\"sh\", \"-c\", \"echo microk8s is not running >&2; exit 1\"] }\n\n\
                 [[step]]\nid = \"apply\"\nuses = \"core/kube-apply\"\ncluster = \"home\"\nwith = { manifest = { apiVersion = \"v1\", kind = \
                 \"ConfigMap\", metadata = { name = \"x\", namespace = \"default\" } } }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    let out = env
        .run(&["exec", "x.toml"])
        .code(1)
        .stderr_has("kubeconfig of home")
        .stderr_has("microk8s is not running")
        .stderr_has("h1");
    assert!(out.stdout.ends_with("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed\n"), "{out}");
    // What is no kubeconfig is said, too.
    env.write(
        "y.toml",
        runbook(&lab, "root", "", &steps.replace("echo microk8s is not running >&2; exit 1", "echo hello")),
    );
    env.run(&["exec", "y.toml"]).code(1).stderr_has("kubeconfig");
}

#[test]
fn a_reboot_is_waited_for() {
    let (mut lab, env) = (SshLab::start(1), TestEnv::new());
    // The machine has no systemd: what `reboot` does is done from outside, when it asks.
    lab.host("h1").machine().put("/usr/local/sbin/systemctl", "#!/bin/sh\ntouch /srv/asked\n", 0o755);
    lab.host("h1").machine().put("/usr/local/sbin/reboot", "#!/bin/sh\ntouch /srv/asked\n", 0o755);
    lab.host("h1").machine().put("/usr/local/sbin/shutdown", "#!/bin/sh\ntouch /srv/asked\n", 0o755);
    let steps = "[[step]]\nid = \"again\"\nuses = \"core/reboot\"\non = \"h1\"\nwith = { timeout = \"3m\" }\n\n[[step]]\nid = \"after\"\nuses = \
                 \"core/command\"\non = \"h1\"\nwith = { argv = [\"touch\", \"/srv/after\"] }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    let running = env.start(&["exec", "x.toml", "--yes"]);
    wait_until("it asks for a reboot", SOON, || lab.host("h1").machine().layer().join("srv/asked").exists());
    lab.host_mut("h1").reboot();
    running.wait().ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert!(lab.host("h1").path("/srv/after").exists());
}
