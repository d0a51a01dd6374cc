//! Blocks of steps: what must not last is put back, however the block ends.

use runbook_tests::Outcome;

use crate::bench::Bench;

const WORLD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: "${NAMESPACE}"}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "docker.io/library/busybox:1.35", command: [sleep, "1000000"]}]
---
# A machine that is not there: what runs on the real one goes on.
apiVersion: v1
kind: Node
metadata: {name: "${NAMESPACE}-spare", labels: {test: "${NAMESPACE}"}}
"#;

/// `ON_FAILURE` is replaced, and so is `HOLDS`: whether the last step of the block ends well.
const BLOCK: &str = r#"
[[step]]
id = "maintenance"
on_failure = "ON_FAILURE"

[[step.do]]
id = "cordon"
uses = "core/kube-cordon"
cluster = "lab"
with = { node = "${NAMESPACE}-spare" }

[[step.do]]
id = "stop"
uses = "core/kube-scale"
cluster = "lab"
with = { namespace = "${NAMESPACE}", name = "web", replicas = 0 }

[[step.do]]
id = "note"
uses = "core/kube-apply"
cluster = "lab"
with.manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "note", namespace = "${NAMESPACE}" }, data = { before = "it had {{ steps.stop.outputs.before }}" } }

[[step.do]]
id = "check"
uses = "core/assert"
with = { that = HOLDS, message = "the disk is worn out" }
"#;

fn bench(on_failure: &str, holds: bool) -> Bench {
    let bench = Bench::new();
    bench.cluster.apply_text(WORLD);
    bench.cluster.wait_for("deployment/web", "runs", |d| d["status"]["availableReplicas"] == 2);
    bench.runbook(&BLOCK.replace("ON_FAILURE", on_failure).replace("HOLDS", &holds.to_string()));
    bench
}

impl Bench {
    /// Replicas that are wanted, whether the node takes no pods, and what was noted in the block.
    fn state(&self) -> (u64, bool, Option<String>) {
        let web = self.cluster.get("deployment/web").expect("it is there");
        let node = self.cluster.get(&format!("node/{}-spare", self.cluster.namespace())).expect("it is there");
        let note =
            self.cluster.get("configmap/note").and_then(|note| note["data"]["before"].as_str().map(str::to_owned));
        let replicas = web["spec"]["replicas"].as_u64().expect("a number");
        (replicas, node["spec"]["unschedulable"] == true, note)
    }

    /// What was changed in the cluster, in its order.
    fn order(&self) -> Vec<&'static str> {
        let name = |line: &String| {
            let parts = [("/deployments/web/scale", "scale"), ("/nodes/", "node"), ("/configmaps/note", "note")];
            parts.into_iter().find(|(part, _)| line.contains(part)).map(|(_, name)| name)
        };
        self.changes_since(0).iter().filter_map(name).collect()
    }
}

fn noted() -> Option<String> {
    Some("it had 2".to_owned())
}

#[test]
fn a_block_that_ends_well_puts_back_what_was() {
    let bench = bench("undo", true);
    let plan = bench.plan().ok();
    for part in ["web to 0", "cordon Node"] {
        assert!(plan.stdout.contains(part), "no `{part}` in {plan}");
    }
    assert_eq!(bench.order(), [""; 0], "a plan changes nothing");
    bench.exec().ok();
    assert_eq!(bench.state(), (2, false, noted()));
    // Last in, first out, and what stands between them was done meanwhile.
    assert_eq!(bench.order(), ["node", "scale", "note", "scale", "node"]);
    // It stood still: no pod of before is left.
    bench.cluster.wait_for("deployment/web", "runs again", |d| d["status"]["availableReplicas"] == 2);

    // Whoever had cordoned it before finds it cordoned.
    bench.cluster.kubectl(&["cordon", &format!("{}-spare", bench.cluster.namespace())]);
    bench.exec().ok();
    assert_eq!(bench.state(), (2, true, noted()));
}

#[test]
fn outside_of_a_block_it_is_refused() {
    let bench = Bench::new();
    bench.runbook(
        &BLOCK
            .replace("[[step]]\nid = \"maintenance\"\non_failure = \"ON_FAILURE\"\n", "")
            .replace("[[step.do]]", "[[step]]")
            .replace("HOLDS", "true"),
    );
    for outcome in [bench.exec(), bench.env.run(&["validate", "r.toml"])] {
        let outcome = outcome.code(3).stderr_has("put it into a block").stderr_has("r.toml:");
        assert_eq!(outcome.stderr.matches("must not last").count(), 2, "{outcome}");
    }
    assert_eq!(bench.cluster.changes_asked(), Vec::<String>::new());
}

#[test]
fn a_block_that_fails_is_taken_back_or_released() {
    for (on_failure, note) in [("undo", None), ("release", noted())] {
        let bench = bench(on_failure, false);
        bench.exec().code(1).stderr_has("the disk is worn out");
        assert_eq!(bench.state(), (2, false, note), "{on_failure}");
        // Nothing of it is open: a new run may begin.
        bench.exec().code(1);
        assert_eq!(bench.state().0, 2);
    }
}

/// The command that `runbook next` prints for the block.
fn release(next: &Outcome) -> Vec<String> {
    let line = next.stdout.lines().find(|line| line.contains("--release")).unwrap_or_else(|| panic!("none in {next}"));
    let command = line.split('`').nth(1).unwrap_or(line);
    command.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_block_that_is_held_waits_for_a_person() {
    let bench = bench("hold", false);
    bench.exec().code(5);
    assert_eq!(bench.state(), (0, true, noted()), "it is as the step that failed found it");
    bench.exec().code(4);
    let command = release(&bench.env.run(&["next"]).ok());
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    bench.env.run(&args).ok();
    assert_eq!(bench.state(), (2, false, noted()));
    bench.env.run(&["next"]).ok().nowhere("--release");
}

#[test]
fn a_block_that_was_cut_off_is_brought_to_its_end() {
    // Before the work in it began; and after the workload was told to stop, while nobody knows it yet.
    for point in ["note", "stop:after"] {
        let bench = bench("undo", true);
        let killed = bench.env.run(&["exec", "r.toml", "--yes", "--drill-kill", point]);
        assert_eq!(killed.signal, Some(9), "{killed}");
        assert_eq!(bench.state(), (0, true, None), "{killed}");
        bench.resume().ok();
        assert_eq!(bench.state(), (2, false, noted()));
        bench.env.run(&["next"]).ok().stdout_has("nothing is left to do");
    }
}

#[test]
fn a_block_that_was_cut_off_can_be_taken_back() {
    let bench = bench("hold", true);
    let killed = bench.env.run(&["exec", "r.toml", "--yes", "--drill-kill", "note:after"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    assert_eq!(bench.state(), (0, true, noted()));
    bench.undo().ok();
    assert_eq!(bench.state(), (2, false, None));
}
