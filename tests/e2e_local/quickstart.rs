//! The shipped quickstart, as its head says that it is to be used.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use runbook_model::event::{Event, RunOutcome, StepOutcome};
use runbook_tests::{TestEnv, Tree, tests_dir};

use crate::support::{journal, outcomes, records, runs};

const FRESH: &str = "succeeded: 7 steps, 6 changed, 1 unchanged, 0 skipped, 0 failed";
const AGAIN: &str = "succeeded: 7 steps, 0 changed, 7 unchanged, 0 skipped, 0 failed";

struct Quickstart {
    env: TestEnv,
    file: String,
    scratch: PathBuf,
    var: String,
}

impl Quickstart {
    fn new() -> Self {
        let env = TestEnv::new();
        let scratch = env.dir().join("scratch");
        let file = tests_dir().join("../runbooks/quickstart.toml").display().to_string();
        Self { var: format!("scratch={}", scratch.display()), env, file, scratch }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let (verb, rest) = more.split_first().expect("a verb comes first");
        [&[*verb, &self.file, "--var", &self.var], rest].concat()
    }
}

#[test]
fn a_plan_of_a_fresh_machine_touches_nothing_and_ends_well() {
    let q = Quickstart::new();
    let (before, runbooks) = (Tree::of(q.env.dir()), Tree::of(tests_dir().join("../runbooks")));
    let out = q
        .env
        .run(&q.args(&["plan"]))
        .ok()
        .last_line("plan: 7 steps, 5 would change, 2 may change, 0 unchanged, 0 skipped, 0 failed")
        .stdout_has("cannot be looked at before data")
        .stdout_has("+GREETING=\"good evening\"");
    assert_eq!(out.stderr, "");
    let differences: Vec<String> =
        before.differences(&Tree::of(q.env.dir())).into_iter().filter(|d| !d.contains(" xdg")).collect();
    assert_eq!(differences, Vec::<String>::new());
    runbooks.assert_untouched();
    assert!(!q.scratch.exists());
    assert_eq!(runs(&q.env), Vec::<PathBuf>::new(), "a plan is no run");
    q.env.run(&q.args(&["plan", "--detailed-exitcode"])).code(10);
}

#[test]
fn the_stream_of_a_plan_has_its_end() {
    let q = Quickstart::new();
    for _ in 0..5 {
        let events = q.env.run(&q.args(&["plan", "--json"])).ok().events();
        assert!(matches!(events.last(), Some(Event::RunFinished { outcome: RunOutcome::Succeeded, .. })), "{events:?}");
    }
}

#[test]
fn it_is_carried_out_and_a_second_time_finds_nothing_to_do() {
    let q = Quickstart::new();
    q.env.run(&q.args(&["exec"])).ok().last_line(FRESH);
    let read = |name: &str| std::fs::read_to_string(q.scratch.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mode = |name: &str| std::fs::metadata(q.scratch.join(name)).map(|m| m.permissions().mode() & 0o7777).ok();
    assert!(read("etc/greeter.conf").contains("GREETING=\"good evening\"\n"));
    assert_eq!(read("etc/logging.conf"), "level = info\n");
    assert_eq!(read("data/name"), "homelab\n");
    assert_eq!((mode("etc/greeter.conf"), mode("bin/greeter"), mode("etc")), (Some(0o640), Some(0o755), Some(0o755)));
    assert_eq!(std::fs::read_link(q.scratch.join("greeter")).ok(), Some("bin/greeter".into()));
    let said = q.env.other(&[&q.scratch.join("greeter").display().to_string()]).ok();
    assert_eq!(said.stdout, "good evening, homelab\n");

    let settled = Tree::of(&q.scratch);
    q.env.run(&q.args(&["exec"])).ok().last_line(AGAIN);
    settled.assert_untouched();
    q.env
        .run(&q.args(&["plan", "--detailed-exitcode"]))
        .ok()
        .last_line("plan: 7 steps, 0 would change, 0 may change, 7 unchanged, 0 skipped, 0 failed");
    settled.assert_untouched();

    q.env
        .run(&q.args(&["exec", "--var", "greeting=hello"]))
        .ok()
        .last_line("succeeded: 7 steps, 1 changed, 6 unchanged, 0 skipped, 0 failed");
    let differences = settled.differences(&Tree::of(&q.scratch));
    assert!(differences.len() == 1 && differences[0].starts_with("~ etc/greeter.conf: "), "{differences:?}");
    assert!(read("etc/greeter.conf").contains("GREETING=\"hello\"\n"));
}

#[test]
fn what_was_spoilt_is_mended_and_nothing_else_is_touched() {
    let q = Quickstart::new();
    q.env.run(&q.args(&["exec"])).ok().last_line(FRESH);
    let settled = Tree::of(&q.scratch);

    std::fs::write(q.scratch.join("bin/greeter"), "#!/bin/sh\nexit 1\n").expect("our own file");
    std::fs::set_permissions(q.scratch.join("etc"), std::fs::Permissions::from_mode(0o777)).expect("our own folder");
    std::fs::remove_file(q.scratch.join("greeter")).expect("our own link");
    let out = q.env.run(&q.args(&["exec", "--json"])).ok();
    let changed: Vec<String> = outcomes(&out.records())
        .into_iter()
        .filter(|(_, outcome)| *outcome == StepOutcome::Changed)
        .map(|(instance, _)| instance)
        .collect();
    assert_eq!(changed, ["folders[etc] on here", "program on here", "current on here"]);
    settled.assert_unchanged();

    std::fs::remove_dir_all(q.scratch.join("etc")).expect("our own folder");
    q.env.run(&q.args(&["exec"])).ok().last_line("succeeded: 7 steps, 3 changed, 4 unchanged, 0 skipped, 0 failed");
    settled.assert_unchanged();
}

#[test]
fn the_journal_is_the_users_alone_and_the_same_as_the_stream() {
    let q = Quickstart::new();
    let out = q.env.run(&q.args(&["exec", "--json"])).ok();
    assert_eq!(out.stderr, "");
    let (stream, kept) = (out.records(), journal(&q.env));
    assert_eq!(stream, kept);
    assert!(matches!(kept.last().map(|r| &r.event), Some(Event::RunFinished { outcome: RunOutcome::Succeeded, .. })));
    let run = &runs(&q.env)[0];
    let mode = |path: &std::path::Path| std::fs::metadata(path).map(|m| m.permissions().mode() & 0o7777).ok();
    assert_eq!((mode(run), mode(&run.join("journal.jsonl"))), (Some(0o700), Some(0o600)));
    // Also where the user's umask gives all to everybody.
    let line = format!("umask 0; exec \"$0\" exec {} --var '{}'", q.file, q.var);
    let program = q.env.command(&[]);
    let mut command = crate::support::behind(&["sh", "-c", &line], &program);
    drop(runbook_tests::Outcome::of(&mut command).ok());
    for run in runs(&q.env) {
        assert_eq!((mode(&run), mode(&run.join("journal.jsonl"))), (Some(0o700), Some(0o600)));
        drop(records(&run));
    }
}

#[test]
fn a_part_of_it() {
    let q = Quickstart::new();
    q.env
        .run(&q.args(&["exec", "--only", "folders,settings"]))
        .ok()
        .last_line("succeeded: 7 steps, 2 changed, 0 unchanged, 5 skipped, 0 failed");
    assert!(q.scratch.join("etc/greeter.conf").exists() && !q.scratch.join("etc/logging.conf").exists());
    q.env
        .run(&q.args(&["exec", "--from", "log_level"]))
        .ok()
        .last_line("succeeded: 7 steps, 4 changed, 1 unchanged, 2 skipped, 0 failed");
    q.env.run(&q.args(&["exec"])).ok().last_line(AGAIN);
}

#[test]
fn killed_after_any_record_it_comes_to_the_same_end() {
    let q = Quickstart::new();
    q.env.run(&q.args(&["exec"])).ok().last_line(FRESH);
    let (end, last) = (Tree::of(&q.scratch), journal(&q.env).len());
    for record in 1..last {
        std::fs::remove_dir_all(&q.scratch).expect("our own folder");
        std::fs::remove_dir_all(q.env.xdg().join("state")).expect("our own folder");
        let cut = format!("@{record}");
        let killed = q.env.run(&q.args(&["exec", "--drill-kill", &cut]));
        assert_eq!(killed.signal, Some(9), "{cut}: {killed}");
        let out = q.env.run(&["resume"]);
        // Where fewer things were said on the way, that was the last record.
        assert!(out.code == Some(0) || out.stderr.contains("came to its end"), "{cut}: {out}");
        assert_eq!(end.differences(&Tree::of(&q.scratch)), Vec::<String>::new(), "{cut}: {out}");
    }
}

#[test]
fn it_can_be_taken_back() {
    let q = Quickstart::new();
    q.env.run(&q.args(&["exec"])).ok().last_line(FRESH);
    q.env.run(&["undo"]).ok();
    assert!(!q.scratch.exists(), "nothing of it is left");
}
