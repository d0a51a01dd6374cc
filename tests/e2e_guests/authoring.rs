//! From nothing to a running step, as an author goes.

use std::path::Path;
use std::process::Command;

use runbook_tests::{Outcome, TestEnv, tests_dir};

use crate::support::world;

/// `runbook ARGS` with the tools of this machine: what makes components lies on the path of who runs the tests.
fn author(env: &TestEnv, args: &[&str]) -> Outcome {
    let path = std::env::var("PATH").expect("there is a path");
    Outcome::of(env.command(args).env("PATH", path))
}

/// Replaces the first of the words in a file.
fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("it was made");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).expect("it is our own");
}

fn new(env: &TestEnv, language: &str) {
    author(env, &["plugin", "new", "envs", "--lang", language]).ok();
    if language == "js" {
        // What `npm ci` would fetch, as the stage has fetched it for the example, which has the same lock.
        let from = tests_dir().join("../plugins/js/homeassistant/node_modules");
        let copied = Command::new("cp").arg("-R").arg(from).arg(env.work().join("envs")).status();
        assert!(copied.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_new_project_is_tested_built_and_runs() {
    for language in ["python", "js"] {
        let env = world();
        new(&env, language);
        let tested = author(&env, &["plugin", "test", "envs"]).ok();
        assert!(tested.stderr.contains("unit tests passed"), "{tested}");
        tested.last_line("kept: 7 hold, 0 not judged, 0 broken");
        let wanted = env.dir().join("example.env");
        let given = format!("file={}", wanted.display());
        env.grant("envs/examples/settings.toml");
        let exec = ["exec", "envs/examples/settings.toml", "--var", &given];
        env.run(&exec).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
        assert_eq!(std::fs::read_to_string(&wanted).expect("it was written"), "TZ=Europe/Berlin\nPORT=8080\n");
        env.run(&exec).ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_built() {
    for (language, file, action, words) in [
        ("python", "plugin.py", "converge(\"settings\")", "action \"settings\" has no function"),
        ("js", "plugin.js", "actions: { settings:", "action \"settings\" has no function"),
    ] {
        let env = world();
        new(&env, language);
        let code = env.work().join("envs").join(file);
        edit(&code, action, &action.replace("settings", "others"));
        let out = author(&env, &["plugin", "build", "envs"]).code(1).stderr_has(words);
        assert!(out.stderr.contains("others") && out.stderr.contains("plugin.toml has no such action"), "{out}");

        let manifest = env.work().join("envs/plugin.toml");
        edit(&manifest, "0.1.0", "one");
        author(&env, &["plugin", "build", "envs"]).code(3).stderr_has("semantic version");
        let component = env.work().join("envs/build/envs.wasm");
        assert!(!component.exists(), "nothing was built");
    }
}

#[test]
fn the_runbooks_beside_the_examples_are_valid() {
    for runbook in ["plugins/python/smart/examples/disks.toml", "plugins/js/homeassistant/examples/plug.toml"] {
        let path = tests_dir().join("..").join(runbook);
        TestEnv::new().run(&["validate", &path.display().to_string()]).ok();
    }
}

#[test]
fn an_update_brings_the_sdk_back() {
    let env = world();
    author(&env, &["plugin", "new", "envs", "--lang", "python"]).ok();
    let sdk = env.work().join("envs/vendor/runbook/plugins/python/sdk/runbook_sdk/errors.py");
    let code = env.work().join("envs/plugin.py");
    let (ours, theirs) = (std::fs::read(&sdk).expect("it was made"), "# What an author wrote.\n");
    std::fs::write(&sdk, "broken").expect("it is our own");
    std::fs::write(&code, theirs).expect("it is our own");
    author(&env, &["plugin", "new", "--update", "--dir", "envs"]).ok().stderr_has("pip install -r requirements.txt");
    assert_eq!(std::fs::read(&sdk).expect("it is there"), ours);
    assert_eq!(std::fs::read_to_string(&code).expect("it is there"), theirs);
}

#[test]
fn templates_and_examples_are_built_by_the_same_tools() {
    let read =
        |path: &str| std::fs::read_to_string(tests_dir().join("..").join(path)).expect("it is in the repository");
    let template = read("host/runbook-cli/templates/python/requirements.txt");
    assert_eq!(template, read("plugins/python/smart/requirements.txt"));
    let without = template.lines().filter(|line| !line.starts_with('#') && !line.starts_with("    --hash=sha256:"));
    assert!(
        without.clone().all(|line| line.contains("==") && line.ends_with(" \\")),
        "each requirement has its hashes"
    );
    assert!(without.count() > 0, "{template}");
    let template = read("host/runbook-cli/templates/js/package-lock.json");
    let same =
        template.replace("{{name}}", "homeassistant").replace("file:vendor/runbook/plugins/js/sdk", "file:../sdk");
    assert_eq!(same, read("plugins/js/homeassistant/package-lock.json"));
}
