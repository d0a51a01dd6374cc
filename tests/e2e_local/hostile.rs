//! A plugin from elsewhere that reaches for more than it was granted.

use std::path::PathBuf;

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{Outcome, TestEnv, Tree, component};

use crate::support::{folder, outcomes, reason, records, runs};

struct World {
    env: TestEnv,
    inside: PathBuf,
    outside: PathBuf,
}

impl World {
    fn new() -> Self {
        let env = TestEnv::new().var("ELSEWHERE", "sesame-open-yourself");
        let (inside, outside) = (folder(&env, "inside"), folder(&env, "outside"));
        std::fs::write(outside.join("kept"), "kept: hunter2\n").expect("our own folder");
        std::os::unix::fs::symlink(&outside, inside.join("way")).expect("our own folder");
        std::fs::copy(component("hostile"), env.work().join("hostile.wasm")).expect("it was built");
        Self { env, inside, outside }
    }

    /// Runs it with all that it asks for.
    fn exec(&self, how: &str) -> Outcome {
        self.exec_with(how, "", true)
    }

    fn exec_with(&self, how: &str, allow: &str, granted: bool) -> Outcome {
        let text = format!(
            r#"schema = 1
name = "hostile"

[plugins]
hostile = "./hostile.wasm"

[inputs.elsewhere]
type = "secret"
from = {{ env = "ELSEWHERE" }}

[hosts.here]
transport = "local"

[hosts.other]
transport = "local"

[[step]]
id = "reach"
uses = "hostile/reach"
on = "here"
{allow}
with = {{ how = "{how}", inside = "{}", outside = "{}" }}
"#,
            self.inside.display(),
            self.outside.display()
        );
        self.env.write("x.toml", text);
        if granted {
            self.env.grant("x.toml");
        }
        self.env.run(&["exec", "x.toml"])
    }
}

#[test]
fn without_consent_it_does_not_run_whatever_the_step_allows() {
    let w = World::new();
    let before = Tree::of(w.env.dir());
    for allow in ["", "allow = []", "allow = \"asked\""] {
        let out =
            w.exec_with("own link", allow, false).code(4).stderr_has("hostile").stderr_has("runbook grant x.toml");
        assert_eq!(out.stdout, "");
    }
    let changed: Vec<String> = before
        .differences(&Tree::of(w.env.dir()))
        .into_iter()
        .filter(|d| !d.contains(" xdg/cache") && !d.contains("x.toml"))
        .collect();
    assert!(changed.iter().all(|d| d.starts_with("+ xdg")), "{changed:?}");
    assert!(runs(&w.env).is_empty());
}

#[test]
fn what_it_was_not_granted_is_denied_and_does_not_happen() {
    for how in [
        "parent",
        "dot",
        "absolute",
        "through a link",
        "read through a link",
        "remove through a link",
        "list through a link",
        "controller",
        "controller write",
        "metacharacter",
        "shell",
        "more arguments",
        "option",
        "as root",
        "environment",
        "observe to change",
        "for good",
        "network",
        "reboot",
    ] {
        let w = World::new();
        let (inside, outside) = (Tree::of(&w.inside), Tree::of(&w.outside));
        let out = w.exec(how);
        assert_eq!(out.code, Some(1), "{how}: {out}");
        let out = out.last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed").nowhere("hunter2");
        inside.assert_untouched();
        outside.assert_untouched();
        let records = records(&runs(&w.env)[0]);
        assert_eq!(outcomes(&records), [("reach on here".to_owned(), StepOutcome::Denied)], "{how}: {out}");
        let denied =
            records.iter().filter(|r| matches!(&r.event, Event::Denied { reason, .. } if !reason.is_empty())).count();
        assert_eq!(denied, 1, "{how}: the journal has it: {records:?}");
        let intended = records.iter().any(|r| matches!(r.event, Event::Intended { .. }));
        assert!(!intended, "{how}: nothing of it was begun");
    }
}

#[test]
fn a_link_that_it_made_itself_is_no_way_out() {
    let w = World::new();
    let outside = Tree::of(&w.outside);
    let out = w.exec("own link").code(1);
    outside.assert_untouched();
    let records = records(&runs(&w.env)[0]);
    assert_eq!(outcomes(&records)[0].1, StepOutcome::Denied, "{out}");
}

#[test]
fn a_forged_handle_is_the_end_of_it() {
    let w = World::new();
    let (inside, outside) = (Tree::of(&w.inside), Tree::of(&w.outside));
    w.exec("another host").code(1).last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed");
    inside.assert_untouched();
    outside.assert_untouched();
}

#[test]
fn a_denied_call_that_it_keeps_quiet_about_is_in_the_journal() {
    let w = World::new();
    let outside = Tree::of(&w.outside);
    drop(w.exec("swallow"));
    outside.assert_untouched();
    let records = records(&runs(&w.env)[0]);
    assert!(records.iter().any(|r| matches!(&r.event, Event::Denied { .. })), "{records:?}");
}

#[test]
fn granted_arguments_reach_the_program_as_they_are() {
    let w = World::new();
    let outside = Tree::of(&w.outside);
    let out = w.exec("literal");
    outside.assert_untouched();
    let records = records(&runs(&w.env)[0]);
    let said = records.iter().find_map(|r| match &r.event {
        Event::StepFinished { outputs, .. } => outputs["answer"].as_str().map(str::to_owned),
        _ => None,
    });
    assert_eq!(said.as_deref(), Some("$(id) `id` ; id | id > /x \\ ' \" *"), "{out}");
}

#[test]
fn a_secret_that_the_step_does_not_hold_stays_out_of_reach() {
    for how in ["secret", "secret token"] {
        let w = World::new();
        drop(w.exec(how));
        let text = std::fs::read_to_string(w.inside.join("a")).unwrap_or_default();
        assert!(!text.contains("sesame"), "{how}: the plugin was never given it: {text}");
    }
}

#[test]
fn an_argument_that_climbs_out_of_its_prefix_is_denied() {
    let w = World::new();
    let outside = Tree::of(&w.outside);
    w.exec("climbing argument").code(1).stderr_has("denied");
    outside.assert_untouched();
}

#[test]
fn the_reason_names_what_was_not_granted() {
    let w = World::new();
    drop(w.exec("shell").code(1).stderr_has("denied").stderr_has("the plugin did not ask for"));
    assert!(reason(&records(&runs(&w.env)[0]), "reach").contains("sh"));
}

#[test]
fn a_step_allows_less_than_was_granted_and_never_more() {
    let w = World::new();
    let inside = Tree::of(&w.inside);
    let less = "allow = [{ call = \"ssh.observe\" }]";
    drop(w.exec_with("own link", less, true).code(1).stderr_has("`allow` of the step does not give: a link"));
    inside.assert_untouched();
    let more = "allow = [{ call = \"ssh.change\", argv = [\"**\"] }]";
    drop(w.exec_with("shell", more, true).code(1).stderr_has("the plugin did not ask for"));
}
