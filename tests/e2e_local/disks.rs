//! Disks that are full or cannot be written, of the journal and of the target. The file systems are mounted in a mount namespace
//! of the command's own.

use std::path::Path;

use runbook_tests::{Outcome, TestEnv, Tree};

use crate::support::{behind, folder, journal, local, reason};

/// Runs `runbook ARGS` after `setup`, a shell script, in a mount namespace of its own; `after` looks at what is left there.
fn mounted(env: &TestEnv, setup: &str, args: &[&str], after: &str) -> Outcome {
    let script = format!("set -e\n{setup}\nset +e\n\"$@\"; code=$?\n{after}\nexit $code");
    let unshare: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount", "--propagation", "private"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
    };
    let before = [unshare, &["sh", "-c", &script, "sh"]].concat();
    Outcome::of(&mut behind(&before, &env.command(args)))
}

fn writes(dir: &Path, size: usize) -> String {
    format!(
        "[[step]]\nid = \"first\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{dir}/first\", content = \"one\\n\" }}\n\n\
         [[step]]\nid = \"large\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{dir}/large\", content = \"\"\"{text}\"\"\" }}\n",
        dir = dir.display(),
        text = "x".repeat(size)
    )
}

#[test]
fn a_full_target_is_said_and_nothing_half_is_left() {
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    env.write("fill.toml", local(&writes(&disk, 200_000)));
    let at = disk.display();
    let setup = format!("mount -t tmpfs -o size=64k none '{at}'\necho old > '{at}/large'");
    let after = format!("echo ---; cd '{at}'; find . -type f | sort; cat large");
    let out = mounted(&env, &setup, &["exec", "fill.toml"], &after).code(1);
    assert!(out.stdout.contains("failed: 2 steps, 1 changed, 0 unchanged, 0 skipped, 1 failed\n"), "{out}");
    assert!(out.stdout.ends_with("---\n./first\n./large\nold\n"), "{out}");
    assert!(reason(&journal(&env), "large").contains("No space left on device"), "{out}");
}

#[test]
fn a_large_source_on_a_full_target() {
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    env.write("chime.bin", vec![7; 3 << 20]);
    let step = format!(
        "[[step]]\nid = \"large\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{}/large\", source = \"chime.bin\" }}\n",
        disk.display()
    );
    env.write("fill.toml", local(&step));
    let at = disk.display();
    let out = mounted(
        &env,
        &format!("mount -t tmpfs -o size=1m none '{at}'"),
        &["exec", "fill.toml"],
        &format!("echo ---; find '{at}' -type f"),
    )
    .code(1);
    assert!(out.stdout.ends_with("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed\n---\n"), "{out}");
    assert!(reason(&journal(&env), "large").contains("No space left on device"), "{out}");
}

#[test]
fn a_read_only_target_is_said() {
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    env.write("fill.toml", local(&writes(&disk, 10)));
    let at = disk.display();
    let setup = format!("mount -t tmpfs none '{at}'\nmount -o remount,ro '{at}'");
    let out = mounted(&env, &setup, &["exec", "fill.toml"], &format!("find '{at}' -type f"))
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    assert!(reason(&journal(&env), "first").contains("Read-only file system"), "{out}");
}

#[test]
fn without_a_journal_nothing_is_done() {
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    env.write("fill.toml", local(&writes(&disk, 10)));
    let before = Tree::of(&disk);
    let state = env.xdg().join("state");
    // Read-only.
    let setup = format!("mkdir -p '{0}'\nmount -t tmpfs none '{0}'\nmount -o remount,ro '{0}'", state.display());
    let out =
        mounted(&env, &setup, &["exec", "fill.toml"], "").code(7).stderr_has("journal").stderr_has("XDG_STATE_HOME");
    assert_eq!(out.stdout, "");
    before.assert_untouched();
    // No directory at all.
    let env = env.var("XDG_STATE_HOME", "/dev/null/state");
    env.run(&["exec", "fill.toml"]).code(7).stderr_has("/dev/null/state");
    before.assert_untouched();
    // A plan needs none.
    env.run(&["plan", "fill.toml"])
        .ok()
        .last_line("plan: 2 steps, 2 would change, 0 may change, 0 unchanged, 0 skipped, 0 failed");
}

#[test]
fn a_journal_that_fills_up_ends_the_run_before_the_next_change() {
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    let step = |n: usize| {
        format!(
            "[[step]]\nid = \"s{n}\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{}/f{n}\", content = \"\"\"{}\"\"\" }}\n\n",
            disk.display(),
            "x".repeat(4000)
        )
    };
    env.write("many.toml", local(&(0..20).map(step).collect::<String>()));
    let setup = format!("mkdir -p '{0}'\nmount -t tmpfs -o size=192k none '{0}'", env.xdg().join("state").display());
    let after = format!("cp -r '{}' '{}/kept'", env.xdg().join("state").display(), env.dir().display());
    let out = mounted(&env, &setup, &["exec", "many.toml"], &after)
        .code(7)
        .stderr_has("No space left on device")
        .stderr_has("journal");
    let written = std::fs::read_dir(&disk).expect("our own folder").count();
    assert!((1..20).contains(&written), "{written}: {out}");
    // What is kept can be read, and no file was written without its intent in it.
    let runs = std::fs::read_dir(env.dir().join("kept/runbook/runs")).expect("it was copied");
    let run = runs.flatten().next().expect("a run was begun").path();
    let text = std::fs::read_to_string(run.join("journal.jsonl")).expect("a run has a journal");
    let records = runbook_model::journal::decode(&text).expect("what is kept can be read");
    let intended = records.iter().filter(|r| matches!(r.event, runbook_model::event::Event::Intended { .. })).count();
    assert!(written <= intended, "{written} files, {intended} intents");
}

#[test]
fn a_run_whose_journal_filled_up_goes_on_when_there_is_space_and_does_nothing_twice() {
    const STEPS: usize = 30;
    let env = TestEnv::new();
    let disk = folder(&env, "disk");
    let ledger = disk.join("ledger");
    let step = |n: usize| {
        let script = format!("echo {n} >> {} # {}", ledger.display(), "x".repeat(4000));
        format!(
            "[[step]]\nid = \"s{n}\"\nuses = \"core/script\"\non = \"here\"\nwith = {{ script = \"{script}\" }}\n\n"
        )
    };
    env.write("many.toml", local(&(0..STEPS).map(step).collect::<String>()));
    let runs = env.xdg().join("state/runbook/runs");
    let setup = format!("mkdir -p '{0}'\nmount -t tmpfs -o size=192k none '{0}'", runs.display());
    let after = format!(
        "cp '{1}' '{1}.full'; \"$1\" resume; echo still full: $?; mount -o remount,size=64m '{0}'; \"$1\" resume; echo with space: $?",
        runs.display(),
        ledger.display()
    );
    let out = mounted(&env, &setup, &["exec", "many.toml"], &after)
        .code(7)
        .stderr_has("No space left on device")
        .stdout_has("still full: 7\n")
        .stdout_has("with space: 0\n");
    let lines = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("some steps were run");
        text.lines().map(|line| line.parse::<usize>().expect("a number")).collect::<Vec<_>>()
    };
    let before = lines(&disk.join("ledger.full")).len();
    assert!((1..STEPS).contains(&before), "{before} steps before it was full: {out}");
    assert_eq!(lines(&ledger), (0..STEPS).collect::<Vec<_>>(), "{out}");
}
