//! `runs`, `show`, `schema`, `plugin inspect`, `validate`: what only looks.

use std::process::Command;

use runbook_model::event::Record;
use runbook_tests::{Outcome, TestEnv, tests_dir};
use serde_json::Value;

use crate::support::{folder, local, records, runs};

fn two_runs() -> TestEnv {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let steps = format!(
        "[[step]]\nid = \"note\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{}/note\", content = \"\\u001b[31mred\\nnew\\n\" }}\n",
        scratch.display()
    );
    env.write("good.toml", local(&steps));
    env.write(
        "bad.toml",
        local("[[step]]\nid = \"no\"\nuses = \"core/command\"\non = \"here\"\nwith = { argv = [\"false\"] }\n"),
    );
    env.run(&["exec", "good.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    env.run(&["exec", "bad.toml"]).code(1).last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed");
    env
}

#[test]
fn runs_are_listed_and_shown() {
    let env = two_runs();
    let listed = env.run(&["runs"]).ok();
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines.iter().any(|l| l.contains("succeeded")) && lines.iter().any(|l| l.contains("failed")), "{listed}");
    for line in env.run(&["runs", "--json"]).ok().stdout.lines() {
        let run: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(run["run"].is_string() && run["outcome"].is_string() && run["started"].is_u64(), "{line}");
    }
    for run in runs(&env) {
        let name = run.file_name().and_then(|n| n.to_str()).expect("names of runs are text").to_owned();
        let shown = env.run(&["show", "--json", &name]).ok();
        let kept: Vec<Record> = records(&run);
        assert_eq!(shown.records(), kept);
        let page = env.run(&["show", &name]).ok();
        assert!(page.stdout.contains("note on here") || page.stdout.contains("no on here"), "{page}");
        assert!(!page.stdout.contains('\u{1b}'), "what came from a host does not reach the terminal raw: {page}");
    }
    env.run(&["show", "no-such-run"]).code(2).stderr_has("no run begins with");
}

#[test]
fn without_runs_there_is_nothing_to_show() {
    let env = TestEnv::new();
    assert_eq!(env.run(&["runs"]).ok().stdout, "");
    env.run(&["show"]).code(2).stderr_has("runbook exec FILE");
}

#[test]
fn a_damaged_journal_is_refused_by_the_number_of_its_record() {
    let env = two_runs();
    let run = &runs(&env)[0];
    let path = run.join("journal.jsonl");
    let text = std::fs::read_to_string(&path).expect("a run has a journal");
    std::fs::write(&path, text.replacen("step_started", "step_starved", 1)).expect("our own file");
    let name = run.file_name().and_then(|n| n.to_str()).expect("names of runs are text");
    env.run(&["show", name]).code(3).stderr_has("record 2 of the journal is damaged");
    assert_eq!(env.run(&["runs"]).ok().stdout.lines().count(), 2, "one damaged journal does not hide the others");

    // A torn tail, as a crash leaves it, is no damage.
    std::fs::write(&path, &text[..text.len() - 20]).expect("our own file");
    env.run(&["show", name]).ok().stdout_has("the run did not end");
}

#[test]
fn the_schema_accepts_the_quickstart_and_refuses_mistakes() {
    let env = TestEnv::new();
    let text = env.run(&["schema"]).ok().stdout;
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    assert!(jsonschema::meta::is_valid(&schema), "the schema is a JSON Schema");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one that can be used");
    let quickstart = std::fs::read_to_string(tests_dir().join("../runbooks/quickstart.toml")).expect("it is shipped");
    let read = |text: &str| -> Value { toml::from_str(text).expect("the runbook is TOML") };
    let errors: Vec<String> =
        validator.iter_errors(&read(&quickstart)).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    for (from, to) in [
        ("on = \"here\"", "no = \"here\""),
        ("with.mode = \"0640\"", "with.mood = \"0640\""),
        ("schema = 1", "schema = \"one\""),
    ] {
        let spoilt = quickstart.replacen(from, to, 1);
        assert_ne!(spoilt, quickstart);
        assert!(!validator.is_valid(&read(&spoilt)), "`{to}` is a mistake");
    }
}

#[test]
fn plugins_can_be_looked_into_without_running_them() {
    let env = TestEnv::new();
    env.run(&["plugin", "inspect"])
        .ok()
        .stdout_has("core/file")
        .stdout_has("microk8s/registry")
        .stdout_has("pulumi/up");
    env.run(&["plugin", "inspect", "core/file"]).ok().stdout_has("files.write").stdout_has("path");
    let manifest = env.run(&["plugin", "inspect", "core", "--json"]).ok().stdout;
    let manifest: runbook_model::manifest::Manifest = serde_json::from_str(&manifest).expect("it is a manifest");
    assert_eq!(manifest.name, "core");
    let hostile = runbook_tests::component("hostile").display().to_string();
    env.run(&["plugin", "inspect", &hostile]).ok().stdout_has("hostile/reach").stdout_has("ssh.change");
    env.run(&["plugin", "inspect", "nonsense"]).code(2).stderr_has("core");
    env.run(&["plugin", "inspect", "core/nonsense"]).code(2).stderr_has("it has");
    env.write("not.wasm", "not a component");
    env.run(&["plugin", "inspect", "./not.wasm"]).code(4).stderr_has("not.wasm");
    env.run(&["plugin", "inspect", "./missing.wasm"]).code(2).stderr_has("missing.wasm");
}

#[test]
fn output_without_a_terminal_has_no_colours_and_survives_a_closed_pipe() {
    let env = two_runs();
    for args in
        [&["exec", "bad.toml"][..], &["plan", "good.toml"], &["runs"], &["show"], &["plugin", "inspect", "core"]]
    {
        let out = env.run(args);
        assert!(!out.stdout.contains('\u{1b}') && !out.stderr.contains('\u{1b}'), "{out}");
    }
    // The same on a terminal, where that is asked for.
    let program = env.command(&[]);
    let line = format!("{} plan good.toml", program.get_program().to_string_lossy());
    let on_a_terminal = |colours: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(env.work());
        script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("TERM", "xterm").env(colours, "1");
        Outcome::of(&mut script).ok().stdout
    };
    assert!(on_a_terminal("COLOURS_ARE_FINE").contains("\u{1b}[1m"));
    assert!(!on_a_terminal("NO_COLOR").contains("\u{1b}[1m"));
    let mut command = crate::support::behind(&["sh", "-c", "\"$0\" plan good.toml | true; echo after"], &program);
    Outcome::of(&mut command).ok().last_line("after");
}
