//! Runs against a world in memory: what is done, in which order, and how the run ends.

mod fakes;
mod journal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fakes::{Catalog, Functions, Person, World};
use runbook_engine::journal::{Journal, Start, Watcher};
use runbook_engine::run::{Ended, Engine, Header};
use runbook_engine::scope::Inputs;
use runbook_model::call::Target;
use runbook_model::event::{Event, Record, Verb};
use runbook_model::expr::HostView;
use runbook_model::redact::Redactor;
use runbook_model::state::State;
use runbook_model::summary::last_line;
use runbook_model::{diagnostic, parse};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Seen(Mutex<Vec<Record>>);

impl Watcher for Seen {
    fn record(&self, record: &Record) {
        self.0.lock().expect("sound").push(record.clone());
    }
}

struct Files(BTreeMap<String, String>);

impl parse::Files for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }
}

struct Bench {
    world: Arc<World>,
    functions: Arc<Functions>,
    included: BTreeMap<String, String>,
    approve: bool,
    cancel: CancellationToken,
    /// Where the journal is kept, if it is.
    file: Mutex<Option<(PathBuf, std::fs::File)>>,
}

struct Ran {
    ended: Ended,
    records: Vec<Record>,
    /// How often it was waited for the disk.
    syncs: u64,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            world: Arc::default(),
            functions: Arc::default(),
            included: BTreeMap::new(),
            approve: true,
            cancel: CancellationToken::new(),
            file: Mutex::default(),
        }
    }
}

const HOSTS: &str = r#"
schema = 1
name = "test"
[hosts.n1]
address = "192.0.2.1"
labels = ["all"]
[hosts.n2]
address = "192.0.2.2"
labels = ["all"]
"#;

impl Bench {
    async fn go(&self, verb: Verb, steps: &str) -> Ran {
        let text = format!("{HOSTS}{steps}");
        let catalog = Catalog::default();
        let (runbook, diagnostics) = parse::load("test.toml", &text, &Files(self.included.clone()), &catalog);
        let runbook = runbook.unwrap_or_else(|| panic!("{}", diagnostic::render_all(&diagnostics, false)));
        let seen = Arc::new(Seen::default());
        let hosts = runbook.hosts.iter().map(|h| HostView { name: h.name.clone(), ..HostView::default() }).collect();
        let file = self.file.lock().expect("sound").take();
        let journal = Journal::new(file, Start::default(), Redactor::default(), vec![Arc::clone(&seen) as _]);
        let mut shared = fakes::shared(&self.world, journal.clone());
        shared.cancel = self.cancel.clone();
        let engine = Engine {
            shared: Arc::new(shared),
            plugins: Arc::clone(&self.functions) as _,
            actions: Arc::new(catalog),
            gate: Arc::new(Person(self.approve)),
            options: fakes::options(verb),
            entered: Default::default(),
        };
        let inputs = Inputs { hosts: Arc::new(hosts), ..Inputs::default() };
        let header = Header { program: "test".into(), pid: 1, ..Header::default() };
        let ended = engine.run(&runbook, inputs, header).await.expect("the journal is written");
        let records = seen.0.lock().expect("sound").clone();
        let legal = records.iter().try_fold(State::default(), |state, record| state.next(&record.event));
        assert!(legal.is_ok(), "{legal:?}");
        if verb == Verb::Plan {
            assert_eq!(self.world.state().done, Vec::<String>::new(), "a plan changes nothing");
        }
        assert_eq!(self.world.state().violations, 0, "nothing is changed where nothing may be changed");
        Ran { ended, records, syncs: journal.syncs() }
    }

    async fn exec(&self, steps: &str) -> Ran {
        self.go(Verb::Exec, steps).await
    }

    async fn plan(&self, steps: &str) -> Ran {
        self.go(Verb::Plan, steps).await
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.world.state().done)
    }

    fn has(&self, host: &str, path: &str, content: &str) {
        let target = Target::Machine(host.to_owned());
        self.world.state().files.insert((target, path.to_owned()), content.to_owned());
    }
}

impl Ran {
    fn last_line(&self, verb: Verb) -> String {
        last_line(verb, self.ended.outcome, &self.ended.summary)
    }

    /// "a n1 changed: reason" for each instance.
    fn steps(&self) -> Vec<String> {
        self.records
            .iter()
            .filter_map(|record| match &record.event {
                Event::StepFinished { instance, outcome, reason, .. } => {
                    let outcome = serde_json::to_value(outcome).expect("a word");
                    let reason = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                    Some(format!("{instance} {}{reason}", outcome.as_str().expect("a word")))
                }
                _ => None,
            })
            .collect()
    }
}

const WRITE: &str = r#"
[[step]]
id = "conf"
uses = "t/write"
on = "all"
with = { path = "/etc/x", content = "1" }
"#;

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let bench = Bench::default();
    let first = bench.exec(WRITE).await;
    assert_eq!(first.last_line(Verb::Exec), "succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(bench.done().len(), 2);
    let second = bench.exec(WRITE).await;
    assert_eq!(second.last_line(Verb::Exec), "succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    assert_eq!(bench.done(), Vec::<String>::new());
}

#[tokio::test]
async fn a_plan_sees_what_earlier_steps_planned() {
    let bench = Bench::default();
    let steps = r#"
[[step]]
id = "conf"
uses = "t/write"
on = "n1"
with = { path = "/etc/x", content = "1" }
[[step]]
id = "same"
uses = "t/write"
on = "n1"
with = { path = "/etc/x", content = "1" }
[[step]]
id = "read"
uses = "t/read"
on = "n1"
with = { path = "/etc/x" }
"#;
    let plan = bench.plan(steps).await;
    assert_eq!(plan.steps(), ["conf on n1 changed", "same on n1 unchanged", "read on n1 unchanged"]);
}

#[tokio::test]
async fn what_a_command_makes_is_unknown_in_a_plan_and_never_fails_it() {
    let bench = Bench::default();
    let steps = r#"
[[step]]
id = "make"
uses = "t/touch"
on = "n1"
with = { path = "/srv/x" }
[[step]]
id = "read"
uses = "t/read"
on = "n1"
with = { path = "/srv/x" }
[[step]]
id = "use_it"
uses = "t/write"
on = "n1"
with = { path = "/etc/y", content = "{{ steps.read.outputs.content }}" }
[[step]]
id = "elsewhere"
uses = "t/write"
on = "n2"
when = "steps.read.outputs.content == 'x'"
with = { path = "/etc/y", content = "1" }
"#;
    let plan = bench.plan(steps).await;
    assert_eq!(
        plan.last_line(Verb::Plan),
        "plan: 4 steps, 1 would change, 3 may change, 0 unchanged, 0 skipped, 0 failed"
    );
    assert!(plan.steps()[1].contains("cannot be looked at before make"), "{:?}", plan.steps());
    assert!(plan.steps()[2].contains("depends on read"), "{:?}", plan.steps());
    let exec = bench.exec(steps).await;
    assert_eq!(exec.last_line(Verb::Exec), "succeeded: 4 steps, 2 changed, 1 unchanged, 1 skipped, 0 failed");
}

#[tokio::test]
async fn a_missing_file_fails_a_plan_only_where_nothing_may_still_make_it() {
    let bench = Bench::default();
    let read = "[[step]]\nid = \"read\"\nuses = \"t/read\"\non = \"n1\"\nwith = { path = \"/srv/x\" }\n";
    let plan = bench.plan(read).await;
    assert!(plan.steps()[0].starts_with("read on n1 failed: not found"), "{:?}", plan.steps());
    let before =
        "[[step]]\nid = \"conf\"\nuses = \"t/write\"\non = \"n1\"\nwith = { path = \"/etc/x\", content = \"1\" }\n";
    let plan = bench.plan(&format!("{before}{read}")).await;
    assert!(plan.steps()[1].contains("may_change: cannot be looked at before conf"), "{:?}", plan.steps());
}

#[tokio::test]
async fn deferred_changes_run_at_their_time_also_after_a_failure() {
    let configure = |more: &str| {
        format!(
            "[[step]]\nid = \"c\"\nuses = \"t/configure\"\non = \"n1\"\nwith = {{ path = \"/etc/x\", content = \"1\"{more} }}\n"
        )
    };
    let bench = Bench::default();
    bench.exec(&configure("")).await;
    assert_eq!(bench.done(), ["n1: write /etc/x", "n1: restart"]);
    bench.exec(&configure("")).await;
    assert_eq!(bench.done(), Vec::<String>::new(), "nothing changed, so nothing is restarted");

    let bench = Bench::default();
    let failed = bench.exec(&configure(", fail = true")).await;
    assert_eq!(bench.done(), ["n1: write /etc/x", "n1: restart"]);
    assert_eq!(failed.steps(), ["c on n1 failed: as asked"]);

    let bench = Bench::default();
    let after =
        "[[step]]\nid = \"d\"\nuses = \"t/write\"\non = \"n1\"\nwith = { path = \"/etc/y\", content = \"1\" }\n";
    bench.exec(&format!("{}{after}", configure(", timing = \"block-end\""))).await;
    assert_eq!(bench.done(), ["n1: write /etc/x", "n1: write /etc/y", "n1: restart"]);
}

#[tokio::test]
async fn deferred_changes_run_although_the_run_was_cancelled() {
    let bench = Bench::default();
    bench.world.state().cancels_at = Some(("write /etc/x".into(), bench.cancel.clone()));
    let steps = "[[step]]\nid = \"c\"\nuses = \"t/configure\"\non = \"n1\"\nwith = { path = \"/etc/x\", content = \"1\", timing = \"step-end\" }\n";
    let ran = bench.exec(steps).await;
    assert_eq!(bench.done(), ["n1: write /etc/x", "n1: restart"]);
    assert!(ran.last_line(Verb::Exec).starts_with("cancelled: "), "{}", ran.last_line(Verb::Exec));
}

#[tokio::test]
async fn a_step_that_does_not_come_to_rest_has_failed() {
    let bench = Bench::default();
    let ran =
        bench.exec("[[step]]\nid = \"r\"\nuses = \"t/restless\"\non = \"n1\"\nwith = { path = \"/etc/x\" }\n").await;
    assert!(ran.steps()[0].contains("a second look would still: update /etc/x"), "{:?}", ran.steps());
    let ran = bench
        .exec("[[step]]\nid = \"w\"\nuses = \"t/write\"\non = \"n1\"\nwith = { path = \"/etc/x\", content = \"new\", wrong = \"no answer\" }\n")
        .await;
    assert!(ran.steps()[0].contains("does not serve its purpose: no answer"), "{:?}", ran.steps());
}

#[tokio::test]
async fn what_does_not_serve_its_purpose_fails_again_until_it_does() {
    let bench = Bench::default();
    let steps = "[[step]]\nid = \"w\"\nuses = \"t/write\"\non = \"n1\"\nwith = { path = \"/etc/x\", content = \"1\", wrong = \"no answer\" }\nretry = { attempts = 2, backoff = \"1ms\" }\n";
    for _ in 0..2 {
        let ran = bench.exec(steps).await;
        assert!(ran.steps()[0].contains("does not serve its purpose: no answer"), "{:?}", ran.steps());
    }
    assert_eq!(bench.done().len(), 1, "the file was written once");
}

#[tokio::test]
async fn commands_without_a_guard_repeat_and_are_not_checked() {
    let bench = Bench::default();
    let steps = "[[step]]\nid = \"t\"\nuses = \"t/touch\"\non = \"n1\"\nwith = { path = \"/x\", repeats = true }\n";
    for _ in 0..2 {
        let ran = bench.exec(steps).await;
        assert_eq!(ran.steps(), ["t on n1 changed"]);
    }
}

#[tokio::test]
async fn what_was_not_granted_is_denied_and_journalled() {
    let bench = Bench::default();
    let ran =
        bench.exec("[[step]]\nid = \"t\"\nuses = \"t/trespass\"\non = \"n1\"\nwith = { path = \"/srv/x\" }\n").await;
    assert!(ran.steps()[0].starts_with("t on n1 denied"), "{:?}", ran.steps());
    assert!(ran.records.iter().any(|record| matches!(record.event, Event::Denied { .. })));
    assert_eq!(bench.done(), Vec::<String>::new());
}

#[tokio::test]
async fn the_first_host_that_fails_stops_the_run_unless_asked_otherwise() {
    let after =
        "[[step]]\nid = \"after\"\nuses = \"t/write\"\non = \"n2\"\nwith = { path = \"/etc/y\", content = \"1\" }\n";
    let bench = Bench::default();
    bench.world.state().down.insert("n1".into());
    let ran = bench.exec(&format!("{WRITE}serial = 1\n{after}")).await;
    assert_eq!(
        ran.steps(),
        [
            "conf on n1 unreachable: unreachable: n1 does not answer",
            "conf on n2 skipped: another host did not end well",
            "after skipped: conf did not end well"
        ]
    );
    assert_eq!(ran.last_line(Verb::Exec), "failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    let ran = bench.exec(&format!("{WRITE}on_failure = \"continue\"\n{after}")).await;
    assert_eq!(ran.last_line(Verb::Exec), "failed: 2 steps, 1 changed, 0 unchanged, 0 skipped, 1 failed");
    let ran = bench.exec(&format!("{WRITE}on_unreachable = \"skip\"\n{after}")).await;
    assert_eq!(ran.last_line(Verb::Exec), "succeeded: 2 steps, 0 changed, 2 unchanged, 0 skipped, 0 failed");
}

#[tokio::test]
async fn a_failed_step_is_tried_again_as_often_as_it_says() {
    let flaky = |attempts: u32| {
        format!(
            "[[step]]\nid = \"f\"\nuses = \"t/flaky\"\non = \"n1\"\nwith = {{ succeeds_at = 3 }}\nretry = {{ attempts = {attempts}, backoff = \"1ms\" }}\n"
        )
    };
    assert_eq!(Bench::default().exec(&flaky(3)).await.steps(), ["f on n1 unchanged"]);
    assert_eq!(Bench::default().exec(&flaky(2)).await.steps(), ["f on n1 failed: attempt 2"]);
}

#[tokio::test]
async fn a_person_is_asked_only_where_a_change_is_due() {
    let steps = format!("{WRITE}confirm = {{ text = \"really?\" }}\n");
    let bench = Bench { approve: false, ..Bench::default() };
    let ran = bench.exec(&steps).await;
    assert_eq!(ran.last_line(Verb::Exec), "cancelled: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed");
    assert_eq!(bench.done(), Vec::<String>::new());
    for host in ["n1", "n2"] {
        bench.has(host, "/etc/x", "1");
    }
    let mut steps = bench.exec(&steps).await.steps();
    steps.sort();
    assert_eq!(steps, ["conf on n1 unchanged", "conf on n2 unchanged"], "the hosts end in any order");
}

#[tokio::test]
async fn items_run_in_order_and_the_first_value_stays() {
    let bench = Bench::default();
    let steps = r#"
[[step]]
id = "s"
uses = "t/scale"
on = "n1"
for_each = [3, 0]
with = { replicas = "{{ item }}" }
"#;
    let ran = bench.exec(steps).await;
    let first: Vec<String> = ran
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::StepFinished { outputs, .. } => Some(outputs["first"].to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(first, ["3", "0"], "each item has values of its own");
}

#[tokio::test]
async fn an_included_runbook_runs_with_inputs_of_its_own() {
    let mut bench = Bench::default();
    let rung = r#"
schema = 1
name = "rung"
[inputs.version]
type = "string"
[vars]
path = "/opt/{{ inputs.version }}"
[[step]]
id = "mark"
uses = "t/write"
on = "n1"
with = { path = "{{ vars.path }}", content = "{{ inputs.version }}" }
"#;
    bench.included.insert("rung.toml".into(), rung.into());
    let steps = r#"
[[step]]
id = "ladder"
include = "rung.toml"
for_each = ["1.30", "1.31"]
with = { version = "{{ item }}" }
[[step]]
id = "after"
uses = "t/read"
on = "n1"
with = { path = "/opt/1.31" }
"#;
    let ran = bench.exec(steps).await;
    assert_eq!(bench.done(), ["n1: write /opt/1.30", "n1: write /opt/1.31"]);
    assert_eq!(ran.last_line(Verb::Exec), "succeeded: 2 steps, 1 changed, 1 unchanged, 0 skipped, 0 failed");
}

#[tokio::test]
async fn a_cancelled_run_ends_and_says_what_it_did_not_do() {
    let bench = Bench::default();
    let steps = format!("[[step]]\nid = \"w\"\nuses = \"t/wait\"\non = \"n1\"\n{WRITE}");
    let cancel = bench.cancel.clone();
    let (ran, ()) = tokio::join!(bench.exec(&steps), async move {
        tokio::task::yield_now().await;
        cancel.cancel();
    });
    assert!(ran.last_line(Verb::Exec).starts_with("cancelled: 2 steps"), "{}", ran.last_line(Verb::Exec));
    assert_eq!(bench.done(), Vec::<String>::new());
}

#[tokio::test]
async fn steps_with_needs_run_beside_others_and_the_outcome_is_the_same() {
    let step = |id: &str, more: &str| {
        format!(
            "[[step]]\nid = \"{id}\"\nuses = \"t/write\"\non = \"all\"\nwith = {{ path = \"/etc/{id}\", content = \"1\" }}\n{more}\n"
        )
    };
    let in_order = Bench::default();
    in_order.exec(&[step("a", ""), step("b", ""), step("c", "")].concat()).await;
    let beside = Bench::default();
    let ran =
        beside.exec(&[step("a", ""), step("b", "needs = []"), step("c", "needs = [\"a\"]\nserial = 1")].concat()).await;
    assert_eq!(ran.last_line(Verb::Exec), "succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(in_order.world.state().files, beside.world.state().files);
}
