//! `pulumi`.

use std::process::Command;

use runbook_tests::{Outcome, PulumiProject, Running, tests_dir, wait_until};
use serde_json::{Value, json};

struct Here {
    project: PulumiProject,
    _dir: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self { project: PulumiProject::create(dir.path()), _dir: dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(tests_dir().join("standins/pulumi"));
        command.args(args).arg("--cwd").arg(self.project.dir()).args(["--stack", "prod", "--non-interactive"]);
        command
            .env("PULUMI_BACKEND_URL", self.project.backend())
            .env("PULUMI_CONFIG_PASSPHRASE", self.project.passphrase());
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    fn preview(&self, more: &[&str]) -> Value {
        let out = self.run(&[&["preview", "--json"], more].concat()).ok();
        serde_json::from_str(&out.stdout).expect("a preview is one JSON document")
    }
}

fn recorded(name: &str) -> String {
    std::fs::read_to_string(tests_dir().join("standins/recorded").join(name))
        .expect("the recorded outputs are part of the project")
}

#[test]
fn a_preview_has_the_shape_of_the_recorded_one() {
    let here = Here::new();
    let p = &here.project;
    let urn = |kind: &str, name: &str| PulumiProject::urn(kind, name);
    let (switches, buttons) =
        (urn("kubernetes:core/v1:ConfigMap", "switches"), urn("kubernetes:apps/v1:Deployment", "buttons"));
    let (populate, old) = (urn("command:local:Command", "populate"), urn("kubernetes:batch/v1:CronJob", "old"));
    p.set("program", json!({ &switches: { "data": "2" }, &buttons: {}, &populate: { "triggers": "b" } }));
    p.set_state(&json!({ "resources": { &switches: { "data": "1" }, &populate: { "triggers": "a" }, &old: {} } }));
    let (mine, theirs): (Value, Value) =
        (here.preview(&[]), serde_json::from_str(&recorded("pulumi_preview_changes.json")).expect("recorded"));
    assert_eq!(mine["changeSummary"], theirs["changeSummary"]);
    let ops = |v: &Value| {
        v["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|s| (s["op"].clone(), s["urn"].clone(), s["diffReasons"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ops(&mine), ops(&theirs));
    here.run(&["preview", "--json", "--expect-no-changes"])
        .code(7)
        .stderr_has("error: no changes were expected but changes were proposed");
}

#[test]
fn up_streams_events_and_then_nothing_is_left() {
    let here = Here::new();
    let out = here.run(&["up", "--yes", "--skip-preview", "--json"]).ok();
    let events: Vec<Value> =
        out.stdout.lines().map(|l| serde_json::from_str(l).expect("an event is one line of JSON")).collect();
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], i);
    }
    assert!(events.iter().any(|e| e["summaryEvent"]["resourceChanges"]["create"] == 3), "{out}");
    assert_eq!(here.preview(&[])["changeSummary"], json!({ "same": 4 }));
    assert!(!here.project.is_locked());
    let outputs: Value = serde_json::from_str(&here.run(&["stack", "output", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(outputs, serde_json::from_str::<Value>(&recorded("pulumi_stack_output.json")).expect("recorded"));
    here.run(&["up", "--json"]).code(2).stderr_has("--yes or --skip-preview must be passed in");
}

#[test]
fn an_empty_world_is_same_until_a_refresh() {
    let here = Here::new();
    here.run(&["up", "--yes", "--skip-preview", "--json"]).ok();
    here.project.set("world", json!({}));
    assert_eq!(here.preview(&[])["changeSummary"], json!({ "same": 4 }), "the state believes that all is there");
    assert_eq!(here.preview(&["--refresh"])["changeSummary"], json!({ "create": 3, "same": 1 }));
    here.run(&["refresh", "--yes", "--skip-preview", "--json"]).ok();
    here.run(&["up", "--yes", "--skip-preview", "--json"]).ok();
    assert_eq!(here.project.model()["world"].as_object().map(serde_json::Map::len), Some(3));
}

#[test]
fn a_lock_refuses_until_it_is_cancelled() {
    let here = Here::new();
    here.project.lock(42, "laptop");
    let out = here.run(&["up", "--yes", "--skip-preview", "--json"]).code(1);
    assert_eq!(
        out.stderr.replace(&here.project.backend(), "file:///srv/pulumi-state"),
        recorded("pulumi_lock_error.txt")
    );
    here.preview(&[]); // takes no lock
    here.run(&["cancel", "--yes"]).ok();
    here.run(&["up", "--yes", "--skip-preview", "--json"]).ok();
}

#[test]
fn a_killed_run_leaves_its_lock_and_a_pending_operation() {
    let here = Here::new();
    let switches = PulumiProject::urn("kubernetes:core/v1:ConfigMap", "switches");
    here.project.set("hang", json!(switches));
    let running = Running::start(&mut here.command(&["up", "--yes", "--skip-preview", "--json"]));
    wait_until("an operation is pending", std::time::Duration::from_secs(20), || {
        here.project.state()["pending"].as_array().is_some_and(|p| !p.is_empty())
    });
    here.run(&["up", "--yes", "--skip-preview", "--json"]).code(1).stderr_has("currently locked by 1 lock(s)");
    drop(running); // SIGKILL
    here.run(&["cancel", "--yes"]).ok();
    here.project.set("hang", json!(null));
    let out = here.run(&["preview", "--json"]).ok().stderr_has("with 1 pending operations");
    let warning = recorded("pulumi_pending_ops_warning.txt")
        .replace("kubernetes:apps/v1:Deployment::chime", "kubernetes:core/v1:ConfigMap::switches");
    assert_eq!(out.stderr, warning);
    here.run(&["refresh", "--clear-pending-creates", "--yes", "--json"]).ok();
    assert_eq!(here.run(&["preview", "--json"]).ok().stderr, "");
}

#[test]
fn failures_have_the_exit_codes_of_their_era() {
    let here = Here::new();
    here.project.set("fail", json!(PulumiProject::urn("kubernetes:core/v1:PersistentVolumeClaim", "chime")));
    let out = here
        .run(&["up", "--yes", "--skip-preview", "--json"])
        .code(4)
        .stdout_has("resOpFailedEvent")
        .stdout_has("summaryEvent");
    assert!(!out.stdout.contains("cancelEvent"));
    here.project.set("version", json!("3.120.0"));
    here.run(&["up", "--yes", "--skip-preview", "--json"]).code(255);
    here.run(&["preview", "--json", "--expect-no-changes"]).code(255);
    here.run(&["version"]).ok().last_line("v3.120.0");
    here.project.set("version", json!("3.230.0"));
    Outcome::of(here.command(&["preview", "--json"]).env("PULUMI_CONFIG_PASSPHRASE", "wrong"))
        .code(2)
        .stderr_has("incorrect passphrase");
    Outcome::of(here.command(&["preview", "--json", "--stack", "test"]).arg("--stack=other"))
        .code(6)
        .stderr_has("no stack named 'other' found");
}
