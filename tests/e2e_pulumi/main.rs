//! `pulumi/up` with the stand-in for pulumi: what is asked of it, in what order, and what is said.

use runbook_tests::{Outcome, PulumiProject, TestEnv, Tree, cuts};
use serde_json::{Value, json};

const CLAIM: &str = "kubernetes:core/v1:PersistentVolumeClaim";
const CONFIG: &str = "kubernetes:core/v1:ConfigMap";

struct Bench {
    env: TestEnv,
    project: PulumiProject,
}

impl Bench {
    fn new() -> Self {
        let env = TestEnv::new().with_standins().var("PULUMI_CONFIG_PASSPHRASE", "correct-horse");
        let project = PulumiProject::create(&env.work().join("homeslice"));
        let bench = Self { env, project };
        bench.runbook("");
        bench
    }

    fn runbook(&self, more: &str) {
        let text = format!(
            r#"schema = 1
name = "apps"

[inputs.passphrase]
type = "secret"
from = {{ env = "PULUMI_CONFIG_PASSPHRASE" }}

[hosts.laptop]
transport = "local"

[[step]]
id = "apps"
uses = "pulumi/up"
on = "laptop"
with.project = "./homeslice"
with.stack = "prod"
with.backend_url = "{}"
with.passphrase = "{{{{ inputs.passphrase }}}}"
{more}"#,
            self.project.backend()
        );
        self.env.write("r.toml", text);
    }

    fn plan(&self) -> Outcome {
        self.env.run(&["plan", "r.toml"]).nowhere(self.project.passphrase()).nowhere("hunter2")
    }

    fn exec(&self) -> Outcome {
        self.env.run(&["exec", "r.toml", "--yes"]).nowhere(self.project.passphrase()).nowhere("hunter2")
    }

    /// A failed `exec`, with all of these words.
    fn fails(&self, parts: &[&str]) -> Outcome {
        let outcome = self.exec().code(1);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        for part in parts {
            assert!(said.contains(part), "no `{part}` in {outcome}");
        }
        outcome
    }

    /// First words of the calls since the one numbered `from`: `up`, `preview`, `stack ls` ...
    fn verbs(&self, from: usize) -> Vec<String> {
        let calls = self.project.calls().split_off(from);
        calls
            .into_iter()
            .map(|argv| argv.into_iter().take_while(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" "))
            .collect()
    }

    fn ups(&self) -> usize {
        self.verbs(0).iter().filter(|verb| *verb == "up").count()
    }

    fn done(&self) {
        let _ = self.exec().ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    }

    fn nothing_is_left_to_do(&self) {
        let (world, state, ups) = (self.project.model()["world"].clone(), self.project.state(), self.ups());
        let _ = self.exec().ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
        assert_eq!((&world, &state, ups), (&self.project.model()["world"], &self.project.state(), self.ups()));
    }

    fn world(&self) -> Value {
        self.project.model()["world"].clone()
    }
}

#[test]
fn a_preview_is_the_plan_and_the_second_run_finds_nothing() {
    let bench = Bench::new();
    let before = Tree::of(bench.env.work().join("homeslice/state"));
    let plan = bench.plan().ok().stdout_has("would change");
    before.assert_unchanged();
    assert_eq!(bench.world(), json!({}), "{plan}");
    assert!(
        !bench
            .verbs(0)
            .iter()
            .any(|verb| ["up", "refresh", "cancel", "stack select", "stack init"].contains(&verb.as_str()))
    );

    bench.done();
    let program = bench.project.model()["program"].clone();
    assert_eq!(bench.world(), program);
    assert_eq!(bench.ups(), 1);
    bench.nothing_is_left_to_do();
    let _ =
        bench.plan().ok().last_line("plan: 1 steps, 0 would change, 0 may change, 1 unchanged, 0 skipped, 0 failed");

    // No secret of the runbook or of the stack is in the journals, nor in the arguments of any process.
    let journals = bench.env.other(&["grep", "-rlE", "correct-horse|hunter2", &bench.env.xdg().display().to_string()]);
    assert_eq!(journals.stdout, "");
    assert!(bench.project.calls().iter().flatten().all(|word| !word.contains("correct-horse")));

    // Drift of the program.
    bench.project.set("program", {
        let mut program = program;
        program[PulumiProject::urn(CONFIG, "switches")]["data"] = json!("2");
        program
    });
    bench.done();
    bench.nothing_is_left_to_do();
}

#[test]
fn what_must_not_be_done_is_refused_before_anything_is() {
    let bench = Bench::new();
    bench.done();
    let (all, world, ups) = (bench.project.model()["program"].clone(), bench.world(), bench.ups());
    // The claim is not in the program any more: pulumi would delete it, and its data with it.
    let claim = PulumiProject::urn(CLAIM, "chime");
    let mut program = all.clone();
    program.as_object_mut().expect("a table").remove(&claim);
    program[PulumiProject::urn(CONFIG, "switches")]["data"] = json!("3");
    bench.project.set("program", program);
    let plan = bench.plan().code(1);
    assert!(plan.stdout.contains("chime") && plan.stdout.contains("allow_delete"), "{plan}");
    let _ = bench.fails(&["chime", "delete", "allow_delete"]);
    assert_eq!((bench.world(), bench.ups()), (world, ups), "not even the harmless part was done");

    bench.runbook(
        "with.forbid = [{ resource = \"*::switches\", ops = [\"update\"] }]\nwith.allow_delete = [\"*::chime\"]\n",
    );
    let _ = bench.fails(&["switches"]);
    assert_eq!(bench.ups(), ups);
    bench.runbook("with.expect = [\"kubernetes:apps/v1:Deployment\"]\n");
    let _ = bench.fails(&["switches"]);
    assert_eq!(bench.ups(), ups);

    bench.runbook("with.allow_delete = [\"*::chime\"]\n");
    bench.done();
    assert!(bench.world()[claim].is_null());
    bench.nothing_is_left_to_do();
}

#[test]
fn killed_on_the_way_it_comes_to_the_same_end() {
    let bench = Bench::new();
    bench.done();
    let state = bench.project.state();
    for cut in cuts(&bench.env.journal()) {
        let bench = Bench::new();
        let went_on = bench.env.cut_and_resume(&["exec", "r.toml", "--yes"], &cut);
        assert_eq!(
            (bench.world(), bench.project.state()),
            (bench.project.model()["program"].clone(), state.clone()),
            "{cut}"
        );
        assert!(!bench.project.is_locked(), "{cut}");
        if went_on {
            assert_eq!(bench.ups(), 1, "{cut}: what was at work is waited for");
        }
    }
}

/// The mistake of every recovery: the state says that all is there, and the cluster is empty.
#[test]
fn a_new_cluster_with_an_old_state_needs_a_refresh() {
    let bench = Bench::new();
    bench.done();
    bench.project.set("world", json!({}));
    bench.nothing_is_left_to_do();
    bench.runbook("with.refresh = true\n");
    let _ = bench.plan().ok().stdout_has("would change");
    assert_eq!(bench.world(), json!({}));
    bench.done();
    assert_eq!(bench.world(), bench.project.model()["program"]);
    bench.nothing_is_left_to_do();
}

#[test]
fn a_locked_stack_says_by_whom() {
    let bench = Bench::new();
    bench.project.lock(42, "elsewhere");
    let _ = bench.fails(&["locked", "mp@elsewhere", "cancel_stale_lock"]);
    bench.runbook("with.cancel_stale_lock = true\n");
    let _ = bench.fails(&["elsewhere"]);
    assert!(bench.project.is_locked(), "nobody here can know whether that process is dead");
    assert_eq!(bench.world(), json!({}));

    // A process of this machine that lives, and one that is dead.
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a kernel says its name");
    bench.project.lock(std::process::id(), here.trim());
    let _ = bench.fails(&[&std::process::id().to_string()]);
    assert!(bench.project.is_locked());
    let mut gone = std::process::Command::new("true").spawn().expect("true can be started");
    let pid = gone.id();
    gone.wait().expect("a child can be waited for");
    bench.project.lock(pid, here.trim());
    bench.done();
    assert!(!bench.project.is_locked());
    bench.nothing_is_left_to_do();
}

#[test]
fn pending_operations_are_said_and_settled_by_a_refresh() {
    let bench = Bench::new();
    let switches = PulumiProject::urn(CONFIG, "switches");
    bench.project.set_state(&json!({ "resources": {}, "pending": [switches] }));
    let _ = bench.fails(&["switches", "refresh"]);
    assert_eq!(bench.ups(), 0);
    bench.runbook("with.refresh = true\n");
    bench.done();
    assert_eq!(bench.project.state()["pending"], json!([]));
    bench.nothing_is_left_to_do();
}

#[test]
fn a_failed_operation_is_a_failed_step_that_can_be_run_again() {
    for version in ["3.230.0", "3.200.0"] {
        let bench = Bench::new();
        bench.project.set("version", json!(version));
        bench.project.set("fail", json!(PulumiProject::urn(CLAIM, "chime")));
        let _ = bench.fails(&["chime", "failed"]);
        bench.project.set("fail", Value::Null);
        bench.done();
        assert_eq!(bench.world(), bench.project.model()["program"]);
        bench.nothing_is_left_to_do();
    }
}

#[test]
fn what_is_wrong_with_project_stack_or_passphrase_is_said() {
    let bench = Bench::new();
    bench.runbook("");
    let text = std::fs::read_to_string(bench.env.work().join("r.toml")).expect("it was just written");
    bench.env.write("r.toml", text.replace("with.stack = \"prod\"", "with.stack = \"prood\""));
    let _ = bench.fails(&["prood"]);
    bench.env.write("r.toml", text.replace("{{ inputs.passphrase }}", "wrong"));
    let _ = bench.fails(&["passphrase"]);
    bench.env.write("r.toml", text.replace("./homeslice", "./homeslize"));
    let _ = bench.fails(&["homeslize"]);
    assert!(!bench.env.work().join("homeslize").exists());
    assert_eq!((bench.world(), bench.ups()), (json!({}), 0));
}
