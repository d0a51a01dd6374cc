//! Journals of small runs, as the engine would write them.

use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Command, Effect, Exit, FileWant, FilesAct, Level, Outcome, Output, Prior,
    Request, Response, SourceRef, SshAct, Target, Timing, Undo, Verdict,
};
use runbook_model::event::{
    BlockEnd, Diff, Event, Instance, PluginPin, Receipt, Record, RunOutcome, Settlement, StepOutcome, StepSketch,
    Summary, VERSION, Verb,
};
use serde_json::{Value, json};

/// 2026-11-21T13:00:00Z.
const START: u64 = 1_795_266_000_000;
/// Milliseconds.
pub(crate) const SECOND: u64 = 1000;
/// Milliseconds.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// Milliseconds.
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// Records that are added one by one.
#[derive(Default)]
pub(crate) struct Journal {
    records: Vec<Record>,
    now: u64,
}

impl Journal {
    /// Time goes by.
    pub(crate) fn after(&mut self, ms: u64) -> &mut Self {
        self.now += ms;
        self
    }

    pub(crate) fn add(&mut self, event: Event) -> &mut Self {
        self.records.push(Record { seq: self.records.len() as u64 + 1, at: START + self.now, event });
        self
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.clone()
    }

    /// A run of these steps begins.
    pub(crate) fn begin(&mut self, steps: Vec<StepSketch>, rto_ms: Option<u64>) -> &mut Self {
        self.add(Event::RunStarted {
            run: "20261121-140000000-house-3fa9".into(),
            version: VERSION.into(),
            program: "0.1.0".into(),
            verb: Verb::Exec,
            runbook: "house".into(),
            file: "house.toml".into(),
            sha256: "0123456789abcdef".repeat(4),
            steps,
            plugins: vec![PluginPin { name: "core".into(), version: "0.1.0".into(), sha256: "fedcba98".repeat(8) }],
            inputs: json!({"primary_ip": "192.168.1.10", "passphrase": {"$secret": "passphrase"}}),
            pid: 1,
            boot_id: "b".into(),
            rto_ms,
        })
    }

    /// A later sitting of it begins.
    pub(crate) fn again(&mut self, verb: Verb, steps: Vec<StepSketch>) -> &mut Self {
        let before = self.records.iter().filter(|record| matches!(record.event, Event::Reopened { .. })).count();
        self.add(Event::Reopened {
            verb,
            session: before as u32 + 2,
            program: "0.1.0".into(),
            sha256: "0123456789abcdef".repeat(4),
            steps,
            plugins: Vec::new(),
            edits: Vec::new(),
            force: false,
            pid: 2,
            boot_id: "b".into(),
        })
    }

    pub(crate) fn started(&mut self, instance: &Instance, attempt: u32) -> &mut Self {
        self.add(Event::StepStarted {
            instance: instance.clone(),
            attempt,
            calls: 0,
            inputs: Value::Null,
            roles: Vec::new(),
            fingerprint: String::new(),
        })
    }

    pub(crate) fn ended(&mut self, instance: &Instance, outcome: StepOutcome, reason: Option<&str>) -> &mut Self {
        self.add(Event::StepFinished {
            instance: instance.clone(),
            outcome,
            outputs: Value::Null,
            reason: reason.map(str::to_owned),
            elapsed_ms: 0,
        })
    }

    /// A step that takes so long, and ends so without a change.
    pub(crate) fn step(&mut self, instance: &Instance, ms: u64, outcome: StepOutcome) -> &mut Self {
        self.started(instance, 1).after(ms).ended(instance, outcome, None)
    }

    /// A change leaves and comes back.
    pub(crate) fn change(&mut self, instance: &Instance, call: u32, diff: Diff, undoes: Option<u32>) -> &mut Self {
        self.intended(instance, call, diff, undoes).after(SECOND).add(Event::Changed {
            instance: instance.clone(),
            call,
            response: Ok(Answer::Verdict(Verdict::Changed)),
            elapsed_us: 5,
        })
    }

    pub(crate) fn intended(&mut self, instance: &Instance, call: u32, diff: Diff, undoes: Option<u32>) -> &mut Self {
        self.add(Event::Intended {
            instance: instance.clone(),
            call,
            request: file_request(""),
            prior: Prior::None,
            diff,
            jail: None,
            undoes,
            kept: Some("c2VhbGVk-never-shown".into()),
        })
    }

    /// A change is taken back by another one.
    pub(crate) fn undone(&mut self, instance: &Instance, call: u32, by: u32, summary: &str) -> &mut Self {
        self.add(Event::TakingBack { instance: instance.clone(), call, summary: summary.into() });
        self.change(instance, by, diff(&format!("put back what was there before `{summary}`"), None), Some(call));
        self.add(Event::TakenBack { instance: instance.clone(), call, how: "the file is as it was before".into() })
    }

    pub(crate) fn finished(&mut self, outcome: RunOutcome) -> &mut Self {
        let summary = Summary { steps: 4, ..Summary::default() };
        self.add(Event::RunFinished { outcome, summary, elapsed_ms: 0 })
    }
}

pub(crate) fn on(step: &str, host: &str) -> Instance {
    Instance { step: step.into(), host: Some(host.into()), item: None }
}

pub(crate) fn sketch(id: &str, uses: &str, hosts: &[&str]) -> StepSketch {
    StepSketch {
        id: id.into(),
        uses: uses.into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        cluster: None,
        why: None,
    }
}

pub(crate) fn diff(summary: &str, text: Option<&str>) -> Diff {
    Diff { summary: summary.into(), text: text.map(str::to_owned) }
}

fn file_request(summary: &str) -> Request {
    let act = Act::Files(FilesAct { path: "/etc/motd".into(), want: FileWant::Absent });
    let effect = Effect { summary: summary.into(), timing: Timing::BlockEnd, ..Effect::default() };
    Request { target: Target::Machine("node1".into()), call: Call::Change(Change { act, effect }) }
}

const MOTD: &str = "--- /etc/motd\n+++ /etc/motd\n@@ -1,2 +1,2 @@\n-hello\n+welcome home\n be kind\n";

fn house() -> Vec<StepSketch> {
    vec![
        StepSketch {
            why: Some("Everything below lies in it".into()),
            ..sketch("folders", "core/directory", &["node1", "node2"])
        },
        sketch("motd", "core/file", &["node1", "node2"]),
        sketch("registry", "microk8s/registry", &["node1"]),
        StepSketch { cluster: Some("home".into()), ..sketch("apps", "core/kube-apply", &[]) },
    ]
}

fn apps() -> Instance {
    Instance { step: "apps".into(), host: None, item: None }
}

/// All went well, and within the time.
pub(crate) fn succeeded() -> Vec<Record> {
    let mut journal = Journal::default();
    journal.begin(house(), Some(30 * MINUTE)).after(2 * SECOND);
    journal.step(&on("folders", "node1"), 20 * SECOND, StepOutcome::Unchanged);
    journal.started(&on("folders", "node2"), 1).after(15 * SECOND);
    journal.change(&on("folders", "node2"), 1, diff("create directory /srv/house", None), None);
    journal.ended(&on("folders", "node2"), StepOutcome::Changed, None);
    journal.started(&on("motd", "node1"), 1).started(&on("motd", "node2"), 1).after(30 * SECOND);
    journal.change(&on("motd", "node1"), 1, diff("update /etc/motd", Some(MOTD)), None);
    journal.ended(&on("motd", "node1"), StepOutcome::Changed, None).after(40 * SECOND);
    journal.ended(&on("motd", "node2"), StepOutcome::Unchanged, None);
    let registry = on("registry", "node1");
    journal.started(&registry, 1).after(MINUTE);
    let error = CallError::TimedOut("no answer from 192.168.1.10:32000 in 30s".into());
    journal.add(Event::Retrying { instance: registry.clone(), error, after_ms: 5000 }).after(5 * SECOND);
    journal.started(&registry, 2).after(7 * MINUTE);
    journal.change(&registry, 2, diff("write hosts.toml for 192.168.1.10:32000", None), None);
    journal.ended(&registry, StepOutcome::Changed, None).after(SECOND);
    journal.add(Event::Confirmed { step: "apps".into(), by: "typed".into(), approved: true });
    journal.started(&apps(), 1).after(3 * MINUTE);
    journal.change(&apps(), 1, diff("apply Deployment home/chime", None), None);
    let place = SourceRef {
        target: Target::Controller,
        path: "/srv/backup/chime.tar".into(),
        size: 4096,
        sha256: "ab".repeat(32),
    };
    let receipt =
        Receipt { kind: "backup".into(), subject: "pvc/home/chime".into(), place, made_at: START + 10 * MINUTE };
    journal.add(Event::Receipt { instance: apps(), receipt });
    journal.ended(&apps(), StepOutcome::Changed, None).finished(RunOutcome::Succeeded).records()
}

/// A step failed, and the run was undone at once.
pub(crate) fn failed_and_undone() -> Vec<Record> {
    let mut journal = Journal::default();
    journal.begin(house(), Some(30 * MINUTE)).after(SECOND);
    journal.started(&on("folders", "node1"), 1);
    journal.change(&on("folders", "node1"), 1, diff("create directory /srv/house", None), None).after(10 * SECOND);
    journal.ended(&on("folders", "node1"), StepOutcome::Changed, None);
    let motd = on("motd", "node1");
    journal.started(&motd, 1);
    journal.change(&motd, 1, diff("update /etc/motd", Some(MOTD)), None).after(20 * SECOND);
    journal.add(Event::Log {
        instance: motd.clone(),
        level: Level::Warn,
        message: "the file was edited by hand".into(),
    });
    journal.intended(&motd, 2, diff("run update-motd", None), None).after(5 * SECOND);
    let output = Output { exit: Exit::Code(3), stdout: Bytes::default(), stderr: Bytes::from("no space left") };
    let response = Ok(Answer::Outcome(Outcome::Done(output)));
    journal.add(Event::Changed { instance: motd.clone(), call: 2, response, elapsed_us: 1 });
    let why = "`update-motd` on node1: exit code 3\nno space left on device";
    journal.ended(&motd, StepOutcome::Failed, Some(why)).after(SECOND);
    journal.add(Event::TakingBack { instance: motd.clone(), call: 2, summary: "run update-motd".into() });
    journal.add(Event::TakenBack { instance: motd.clone(), call: 2, how: "its inverse was run".into() });
    journal.undone(&motd, 1, 3, "update /etc/motd").after(SECOND);
    journal.undone(&on("folders", "node1"), 1, 2, "create directory /srv/house");
    journal.ended(&on("registry", "node1"), StepOutcome::Skipped, Some("an earlier step failed"));
    journal.finished(RunOutcome::Failed).records()
}

/// Nobody can tell what became of a change; a block is open, and something waits for its end.
pub(crate) fn stuck() -> Vec<Record> {
    let mut journal = Journal::default();
    let pool = on("pool", "node1");
    let mut steps = house();
    steps.push(sketch("pool", "core/command", &["node1"]));
    journal.begin(steps, Some(10 * MINUTE)).after(SECOND).add(Event::Entered { block: "maintenance".into() });
    journal.started(&on("folders", "node1"), 1).add(Event::Deferred {
        instance: on("folders", "node1"),
        call: 1,
        request: file_request("thaw the database"),
        jail: None,
        kept: None,
    });
    journal.after(30 * SECOND).ended(&on("folders", "node1"), StepOutcome::Unchanged, None);
    journal.started(&pool, 1).after(MINUTE).intended(&pool, 1, diff("run zpool create tank", None), None);
    journal.after(11 * MINUTE);
    let error = CallError::Unreachable("the connection was lost".into());
    journal.add(Event::Lost { instance: pool.clone(), call: 1, error });
    let why = "no mark, and the machine was started anew".to_owned();
    journal.add(Event::Settled { instance: pool.clone(), call: 1, finding: Settlement::Unclear, why: why.clone() });
    let manual = vec!["zpool status tank".to_owned(), "runbook resolve house pool --done | --not-done".to_owned()];
    journal.add(Event::Stuck { instance: pool.clone(), call: Some(1), why, manual });
    journal.ended(&pool, StepOutcome::Stuck, Some("a person must say what became of it"));
    journal.finished(RunOutcome::Stuck).records()
}

/// The controller died within a step; three hours later it was gone on with, and the target was missed.
pub(crate) fn resumed() -> Vec<Record> {
    let mut journal = Journal::default();
    let motd = on("motd", "node1");
    journal.begin(house(), Some(30 * MINUTE)).after(SECOND);
    journal.step(&on("folders", "node1"), 3 * MINUTE, StepOutcome::Unchanged);
    journal.started(&motd, 1).after(MINUTE);
    journal.change(&motd, 1, diff("update /etc/motd", Some(MOTD)), None).after(MINUTE);
    journal.intended(&motd, 2, diff("run update-motd", None), None);
    let all = Instance { step: "registry".into(), host: None, item: None };
    journal.ended(&all, StepOutcome::Skipped, Some("motd did not end well"));
    // Nothing more is heard of the first sitting.
    journal.after(3 * HOUR).again(Verb::Resume, house());
    if let Some(Record { event: Event::Reopened { edits, .. }, .. }) = journal.records.last_mut() {
        edits.push("step motd: `timeout` became 10m".into());
    }
    journal.add(Event::Kept { instance: on("folders", "node1"), outcome: StepOutcome::Unchanged }).after(SECOND);
    // It goes on where it was, and is not begun anew.
    let why = "its mark says that it ended with exit code 0".to_owned();
    journal.add(Event::Settled { instance: motd.clone(), call: 2, finding: Settlement::Done, why }).after(SECOND);
    let response: Response = Ok(Answer::Verdict(Verdict::Changed));
    journal.add(Event::Changed { instance: motd.clone(), call: 2, response, elapsed_us: 1 }).after(2 * MINUTE);
    journal.ended(&motd, StepOutcome::Changed, None);
    journal.step(&on("registry", "node1"), 4 * MINUTE, StepOutcome::Unchanged);
    journal.step(&apps(), MINUTE, StepOutcome::Unchanged);
    journal.finished(RunOutcome::Succeeded).records()
}

/// A drill: a fault on purpose, a step done by hand, and on another day an undo that left something.
pub(crate) fn drill() -> Vec<Record> {
    let mut journal = Journal::default();
    let (motd, registry) = (on("motd", "node1"), on("registry", "node1"));
    journal.begin(house(), None).after(SECOND);
    journal.started(&motd, 1).change(&motd, 1, diff("update /etc/motd", Some(MOTD)), None).after(30 * SECOND);
    journal.ended(&motd, StepOutcome::Changed, None);
    journal.started(&registry, 1).after(20 * SECOND);
    journal.change(&registry, 1, diff("restart containerd", None), None);
    journal.add(Event::Drilled { instance: registry.clone(), call: 2, fault: "the change fails".into() });
    journal.ended(&registry, StepOutcome::Failed, Some("the change fails, as the drill wants it"));
    journal.finished(RunOutcome::Failed).after(10 * MINUTE).again(Verb::Done, house());
    journal.started(&registry, 2).after(2 * SECOND);
    journal.add(Event::ByHand { instance: registry.clone(), because: "edited hosts.toml by hand".into() });
    journal.ended(&registry, StepOutcome::Unchanged, Some("done by hand: edited hosts.toml by hand"));
    journal.finished(RunOutcome::Succeeded).after(20 * HOUR).again(Verb::Undo, house()).after(SECOND);
    journal.add(Event::TakingBack { instance: registry.clone(), call: 1, summary: "restart containerd".into() });
    journal.add(Event::Left { instance: registry, call: 1, why: "a restart is not taken back".into() });
    journal.undone(&motd, 1, 2, "update /etc/motd");
    journal.finished(RunOutcome::Succeeded).records()
}

/// A step that is for so many hosts; on the last of them it failed.
pub(crate) fn fleet(hosts: usize) -> Vec<Record> {
    let mut journal = Journal::default();
    let names: Vec<String> = (1..=hosts).map(|number| format!("node{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    journal.begin(vec![sketch("motd", "core/file", &names)], None);
    for (index, name) in names.iter().enumerate() {
        let outcome = if index + 1 == hosts { StepOutcome::Failed } else { StepOutcome::Unchanged };
        journal.step(&on("motd", name), SECOND, outcome);
    }
    journal.finished(RunOutcome::Failed).records()
}

/// A run with every kind of text that a report shows, each made by `text` from its name.
pub(crate) fn everything(text: &dyn Fn(&str) -> String) -> Vec<Record> {
    let mut journal = Journal::default();
    let step = Instance { step: text("step"), host: Some(text("host")), item: Some(text("item")) };
    let other = Instance { step: text("other"), host: None, item: None };
    let request = || {
        let command = Command { argv: vec![text("argv")], ..Command::default() };
        let act = Act::Ssh(SshAct::Run { pipeline: vec![command], done_when: None, undo: Undo::Harmless });
        Request {
            target: Target::Machine(text("machine")),
            call: Call::Change(Change { act, effect: Effect::default() }),
        }
    };
    let sketches = vec![
        StepSketch {
            id: text("step"),
            uses: text("uses"),
            hosts: vec![text("host"), text("host2")],
            cluster: Some(text("cluster")),
            why: Some(text("why")),
        },
        StepSketch { id: text("other"), uses: text("uses"), hosts: vec![text("host")], cluster: None, why: None },
    ];
    let plugins = vec![PluginPin { name: text("plugin"), version: text("version"), sha256: text("digest") }];
    journal.add(Event::RunStarted {
        run: text("run"),
        version: VERSION.into(),
        program: text("program"),
        verb: Verb::Exec,
        runbook: text("runbook"),
        file: text("file"),
        sha256: text("digest"),
        steps: sketches.clone(),
        plugins: plugins.clone(),
        inputs: json!({text("input"): text("value"), "list": [text("value")]}),
        pid: 1,
        boot_id: text("boot"),
        rto_ms: Some(MINUTE),
    });
    journal.after(SECOND).add(Event::Entered { block: text("block") });
    journal.started(&step, 1).started(&other, 2);
    journal.add(Event::Log { instance: step.clone(), level: Level::Warn, message: text("log") });
    journal.add(Event::Drilled { instance: step.clone(), call: 1, fault: text("fault") });
    journal.add(Event::TookOver { instance: step.clone(), target: text("target"), run: text("run"), session: 1 });
    journal.add(Event::Denied { instance: step.clone(), call: 1, request: request(), reason: text("denied") });
    journal.add(Event::Deferred { instance: step.clone(), call: 2, request: request(), jail: None, kept: None });
    let patch = format!("--- {0}\n+++ {0}\n@@ -1 +1 @@\n-{1}\n+{2}\n", text("path"), text("before"), text("after"));
    for call in 3..8 {
        journal.intended(&step, call, diff(&text("summary"), Some(&patch)), None);
    }
    let come_back =
        |call: u32, response: Response| Event::Changed { instance: step.clone(), call, response, elapsed_us: 1 };
    journal.add(come_back(3, Err(CallError::Failed(text("error")))));
    let output =
        Output { exit: Exit::Signal(text("signal")), stdout: text("out").as_str().into(), stderr: Bytes::default() };
    journal.add(come_back(4, Ok(Answer::Outcome(Outcome::Done(output)))));
    journal.add(come_back(5, Ok(Answer::Unit)));
    journal.add(come_back(6, Ok(Answer::Unit)));
    journal.add(Event::Lost { instance: step.clone(), call: 7, error: CallError::Unreachable(text("lost")) });
    let finding = Settlement::Unclear;
    journal.add(Event::Settled { instance: step.clone(), call: 7, finding, why: text("settled") });
    journal.add(Event::Diverged { instance: step.clone(), call: 7, why: text("diverged") });
    journal.add(Event::Retrying { instance: other.clone(), error: CallError::Failed(text("retry")), after_ms: 1 });
    journal.add(Event::Checked { instance: step.clone(), left: vec![text("left")] });
    journal.add(Event::Verified { instance: step.clone(), wrong: vec![text("wrong")] });
    journal.add(Event::Confirmed { step: text("asked"), by: text("by"), approved: false });
    let place =
        SourceRef { target: Target::Machine(text("machine")), path: text("path"), size: 1, sha256: text("digest") };
    let receipt = Receipt { kind: text("kind"), subject: text("subject"), place, made_at: 5 };
    journal.add(Event::Receipt { instance: step.clone(), receipt });
    journal.add(Event::ByHand { instance: other.clone(), because: text("by-hand") });
    journal.ended(&other, StepOutcome::Failed, Some(&text("other-reason")));
    journal.ended(&step, StepOutcome::Failed, Some(&text("reason")));
    journal.add(Event::Exited { block: text("block"), how: BlockEnd::Undone });
    journal.add(Event::Entered { block: text("held") });
    journal.after(SECOND).add(Event::Reopened {
        verb: Verb::Undo,
        session: 2,
        program: text("program"),
        sha256: text("digest"),
        steps: sketches,
        plugins,
        edits: vec![text("edit")],
        force: true,
        pid: 2,
        boot_id: text("boot"),
    });
    journal.add(Event::TakingBack { instance: step.clone(), call: 6, summary: text("summary") });
    journal.add(Event::Overridden { instance: step.clone(), call: 6, conflict: text("conflict") });
    journal.add(Event::TakenBack { instance: step.clone(), call: 6, how: text("how") });
    journal.add(Event::Left { instance: step.clone(), call: 5, why: text("left-why") });
    let manual = vec![text("manual")];
    journal.add(Event::Stuck { instance: step.clone(), call: Some(7), why: text("stuck"), manual });
    let because = text("resolved");
    journal.add(Event::Resolved { instance: step.clone(), call: 7, done: false, because });
    journal.add(Event::Stuck { instance: step, call: Some(3), why: text("stuck"), manual: vec![text("manual")] });
    journal.finished(RunOutcome::Stuck).records()
}
