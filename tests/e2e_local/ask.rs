//! What a person must agree to, and nobody is there.

use runbook_model::event::{Event, Record};
use runbook_tests::{TestEnv, Tree};

use crate::support::{folder, journal, local, outcomes, runs};

const RUNBOOK: &str = r#"
[[step]]
id = "before"
uses = "core/command"
on = "here"
with = { argv = ["touch", "SCRATCH/before"], creates = "SCRATCH/before" }

[[step]]
id = "wipe"
uses = "core/absent"
on = "here"
confirm = { text = "Remove the old data?", type = "here" }
with = { path = "SCRATCH/old" }
"#;

fn world() -> (TestEnv, std::path::PathBuf) {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    std::fs::write(scratch.join("old"), "data").expect("our own folder");
    env.write("ask.toml", local(&RUNBOOK.replace("SCRATCH", &scratch.display().to_string())));
    (env, scratch)
}

fn confirmed(records: &[Record]) -> Vec<(String, String, bool)> {
    let confirmed = records.iter().filter_map(|record| match &record.event {
        Event::Confirmed { step, by, approved } => Some((step.clone(), by.clone(), *approved)),
        _ => None,
    });
    confirmed.collect()
}

#[test]
fn without_a_terminal_a_question_is_refused_before_anything_runs() {
    let (env, scratch) = world();
    let before = Tree::of(&scratch);
    let out = env.run(&["exec", "ask.toml"]).code(2).stderr_has("wipe").stderr_has("--approve").stderr_has("--yes");
    assert_eq!(out.stdout, "");
    before.assert_untouched();
    assert!(runs(&env).is_empty(), "no run was begun");
    // Who leaves the step out is not asked.
    env.run(&["exec", "ask.toml", "--only", "before"])
        .ok()
        .last_line("succeeded: 2 steps, 1 changed, 0 unchanged, 1 skipped, 0 failed");
    // A plan asks nothing.
    env.run(&["plan", "ask.toml"])
        .ok()
        .last_line("plan: 2 steps, 1 would change, 0 may change, 1 unchanged, 0 skipped, 0 failed");
}

#[test]
fn yes_and_approve_say_it_beforehand() {
    for (args, by) in [(&["--yes"][..], "--yes"), (&["--approve", "wipe=here"], "--approve"), (&["-y"], "--yes")] {
        let (env, scratch) = world();
        env.run(&[&["exec", "ask.toml"], args].concat())
            .ok()
            .last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
        assert!(!scratch.join("old").exists());
        assert_eq!(confirmed(&journal(&env)), [("wipe".to_owned(), by.to_owned(), true)]);
        // Nothing is due any more, so nothing is asked; still nobody is there to be asked.
        env.run(&[&["exec", "ask.toml"], args].concat())
            .ok()
            .last_line("succeeded: 2 steps, 0 changed, 2 unchanged, 0 skipped, 0 failed");
    }
}

#[test]
fn the_wrong_word_is_no_yes() {
    for wrong in ["wipe=there", "wipe", "wipe="] {
        let (env, scratch) = world();
        let out = env.run(&["exec", "ask.toml", "--approve", wrong]);
        assert_ne!(out.code, Some(0), "{out}");
        assert!(scratch.join("old").exists(), "{wrong}");
        for run in runs(&env) {
            let records = crate::support::records(&run);
            assert!(!outcomes(&records).iter().any(|(step, outcome)| step.starts_with("wipe") && outcome.is_ok()));
        }
    }
}
