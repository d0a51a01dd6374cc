//! `for_each`, `include`, `needs`, `when`, `on_failure`, templates: carried out for real.

use std::path::PathBuf;

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{TestEnv, Tree};

use crate::support::{folder, journal, local, outcomes, reason};

fn world(steps: &str) -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("x.toml", local(&steps.replace("SCRATCH", &scratch.display().to_string())));
    (env, scratch)
}

fn names(dir: &PathBuf) -> Vec<String> {
    let tree = Tree::of(dir);
    tree.paths().filter(|p| !p.as_os_str().is_empty()).map(|p| p.display().to_string()).collect()
}

#[test]
fn a_step_for_each_element_in_order_until_one_fails() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "rungs"
uses = "core/script"
on = "here"
for_each = ["1.29", "1.30", "broken", "1.31"]
key = "item"
with = { script = "test \"$1\" != broken; touch \"SCRATCH/$1\"", args = ["{{ item }}"] }
"#,
    );
    env.run(&["exec", "x.toml"]).code(1).last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed");
    assert_eq!(names(&scratch), ["1.29", "1.30"]);
    let ended: Vec<String> = outcomes(&journal(&env)).into_iter().map(|(instance, _)| instance).collect();
    assert_eq!(ended, ["rungs[1.29] on here", "rungs[1.30] on here", "rungs[broken] on here"]);
}

#[test]
fn another_runbook_with_inputs_of_its_own() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "up"
include = "rungs/rung.toml"
for_each = ["a", "b"]
key = "item"
with = { name = "{{ item }}" }
"#,
    );
    env.write(
        "rungs/rung.toml",
        format!(
            "schema = 1\nname = \"rung\"\n[inputs.name]\ntype = \"string\"\n[[step]]\nid = \"place\"\nuses = \"core/file\"\non = \"here\"\n\
             with = {{ path = \"{}/{{{{ inputs.name }}}}\", source = \"beside.txt\" }}\n",
            scratch.display()
        ),
    );
    env.write("rungs/beside.txt", "from beside the rung\n");
    let out = env.run(&["exec", "x.toml"]);
    assert_eq!(out.code, Some(0), "{out}");
    assert_eq!(names(&scratch), ["a", "b"]);
    assert_eq!(std::fs::read_to_string(scratch.join("b")).ok().as_deref(), Some("from beside the rung\n"));
    out.last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    env.run(&["plan", "x.toml"])
        .ok()
        .last_line("plan: 1 steps, 0 would change, 0 may change, 1 unchanged, 0 skipped, 0 failed");
}

#[test]
fn steps_that_ask_for_it_run_side_by_side() {
    // Each of the two waits for what the other one makes: they end only side by side.
    let (env, scratch) = world(
        r#"
[[step]]
id = "left"
uses = "core/script"
on = "here"
needs = []
timeout = "2m"
with = { script = "touch SCRATCH/left; until test -e SCRATCH/right; do sleep 0.05; done" }

[[step]]
id = "right"
uses = "core/script"
on = "elsewhere"
needs = []
timeout = "2m"
with = { script = "touch SCRATCH/right; until test -e SCRATCH/left; do sleep 0.05; done" }

[[step]]
id = "join"
uses = "core/script"
on = "here"
needs = ["left", "right"]
with = { script = "test -e SCRATCH/left && test -e SCRATCH/right && touch SCRATCH/join" }

[hosts.elsewhere]
transport = "local"
"#,
    );
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(names(&scratch), ["join", "left", "right"]);
}

#[test]
fn what_depends_on_what_is_not_known_yet_may_change() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "ask"
uses = "core/command"
on = "here"
with = { argv = ["sh", "-c", "touch SCRATCH/asked; echo yes"] }

[[step]]
id = "follow"
uses = "core/file"
on = "here"
when = "steps.ask.outputs.stdout == 'yes'"
with = { path = "SCRATCH/followed", content = "{{ steps.ask.outputs.stdout }}\n" }

[[step]]
id = "never"
uses = "core/file"
on = "here"
when = "steps.ask.outputs.stdout == 'no'"
with = { path = "SCRATCH/never", content = "" }

[[step]]
id = "of_the_skipped"
uses = "core/file"
on = "here"
with = { path = "SCRATCH/default", content = "{{ steps.never.outcome }}" }
"#,
    );
    let before = Tree::of(&scratch);
    env.run(&["plan", "x.toml"])
        .ok()
        .stdout_has("depends on a step that has not run")
        .last_line("plan: 4 steps, 1 would change, 3 may change, 0 unchanged, 0 skipped, 0 failed");
    before.assert_untouched();
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 4 steps, 3 changed, 0 unchanged, 1 skipped, 0 failed");
    assert_eq!(names(&scratch), ["asked", "default", "followed"]);
    assert_eq!(std::fs::read_to_string(scratch.join("followed")).ok().as_deref(), Some("yes\n"));
    assert_eq!(std::fs::read_to_string(scratch.join("default")).ok().as_deref(), Some("skipped"));
}

#[test]
fn a_step_that_needs_what_an_earlier_one_makes_is_planned_with_it() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "place"
uses = "core/directory"
on = "here"
with = { path = "SCRATCH/a/b", mode = "0750" }

[[step]]
id = "file"
uses = "core/file"
on = "here"
with = { path = "SCRATCH/a/b/c", content = "one\ntwo\n" }

[[step]]
id = "line"
uses = "core/line"
on = "here"
with = { path = "SCRATCH/a/b/c", match = "^two", line = "three" }
"#,
    );
    env.run(&["plan", "x.toml"])
        .ok()
        .stdout_has("+three")
        .last_line("plan: 3 steps, 3 would change, 0 may change, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(names(&scratch), Vec::<String>::new());
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(std::fs::read_to_string(scratch.join("a/b/c")).ok().as_deref(), Some("one\nthree\n"));
}

#[test]
fn a_failure_that_may_be() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "fails"
uses = "core/command"
on = "here"
on_failure = "continue"
with = { argv = ["false"] }

[[step]]
id = "after"
uses = "core/command"
on = "here"
with = { argv = ["touch", "SCRATCH/after"] }

[[step]]
id = "claim"
uses = "core/assert"
with = { that = "{{ steps.fails.outcome != 'failed' }}", message = "the first step failed: look at the disk" }

[[step]]
id = "too_late"
uses = "core/command"
on = "here"
with = { argv = ["touch", "SCRATCH/too_late"] }
"#,
    );
    env.run(&["exec", "x.toml"])
        .code(1)
        .stderr_has("look at the disk")
        .last_line("failed: 4 steps, 1 changed, 0 unchanged, 1 skipped, 2 failed");
    assert_eq!(names(&scratch), ["after"]);
    assert!(reason(&journal(&env), "too_late").contains("claim"));
}

#[test]
fn a_guard_keeps_a_command_from_running_twice() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "guarded"
uses = "core/script"
on = "here"
with = { script = "echo once >> SCRATCH/log", unless = "grep -q once SCRATCH/log" }

[[step]]
id = "looks"
uses = "core/command"
on = "here"
with = { argv = ["cat", "SCRATCH/log"], changed_when = "never" }

[[step]]
id = "sees"
uses = "core/file"
on = "here"
with = { path = "SCRATCH/seen", content = "{{ steps.looks.outputs.stdout }}" }
"#,
    );
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 2 changed, 1 unchanged, 0 skipped, 0 failed");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 0 changed, 3 unchanged, 0 skipped, 0 failed");
    env.run(&["plan", "x.toml"])
        .ok()
        .last_line("plan: 3 steps, 0 would change, 0 may change, 3 unchanged, 0 skipped, 0 failed");
    assert_eq!(std::fs::read_to_string(scratch.join("log")).ok().as_deref(), Some("once\n"));
    assert_eq!(std::fs::read_to_string(scratch.join("seen")).ok().as_deref(), Some("once"));
}

#[test]
fn what_a_host_says_is_never_read_as_a_template_or_a_program() {
    let (env, scratch) = world(
        r#"
[[step]]
id = "says"
uses = "core/command"
on = "here"
with = { argv = ["printf", "%s", "{{ '{{' }} inputs.x }} $(touch SCRATCH/planted) `touch SCRATCH/planted` ' \" ;"], changed_when = "never" }

[[step]]
id = "writes"
uses = "core/file"
on = "here"
with = { path = "SCRATCH/said", content = "{{ steps.says.outputs.stdout }}" }

[[step]]
id = "hands_on"
uses = "core/script"
on = "here"
allow = "asked"
with = { script = "printf %s \"$1\" > SCRATCH/handed", args = ["{{ steps.says.outputs.stdout }}"] }
"#,
    );
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 2 changed, 1 unchanged, 0 skipped, 0 failed");
    let said = format!("{{{{ inputs.x }}}} $(touch {0}/planted) `touch {0}/planted` ' \" ;", scratch.display());
    for name in ["said", "handed"] {
        assert_eq!(std::fs::read_to_string(scratch.join(name)).ok(), Some(said.clone()), "{name}");
    }
    assert!(!scratch.join("planted").exists());
}

#[test]
fn all_hosts_of_a_label_and_no_other() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let hosts = |name: &str, label: &str| format!("[hosts.{name}]\ntransport = \"local\"\nlabels = [\"{label}\"]\n");
    let text = format!(
        "schema = 1\nname = \"x\"\n{}{}{}\n[[step]]\nid = \"mark\"\nuses = \"core/file\"\non = {{ label = \"cp\", except = \"b\" }}\nwith = \
         {{ path = \"{}/{{{{ host.name }}}}\", content = \"\" }}\n",
        hosts("a", "cp"),
        hosts("b", "cp"),
        hosts("c", "worker"),
        scratch.display()
    );
    env.write("x.toml", text);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(names(&scratch), ["a"]);
    let records = journal(&env);
    assert_eq!(outcomes(&records), [("mark on a".to_owned(), StepOutcome::Changed)]);
    assert!(matches!(&records[0].event, Event::RunStarted { steps, .. } if steps[0].hosts == ["a"]));
}
