//! Runs that are ended from outside: by a signal, by a time limit.

use std::path::Path;
use std::time::Duration;

use runbook_model::event::{Event, RunOutcome, StepOutcome};
use runbook_tests::{TestEnv, wait_until};
use rustix::process::Signal;

use crate::support::{alive, folder, journal, local, outcomes, reason};

const SOON: Duration = Duration::from_secs(60);

/// A script that notes the ids of its processes and never ends; it does not care for being asked to.
fn stubborn(scratch: &Path, step: &str) -> String {
    format!(
        "[[step]]\nid = \"stubborn\"\nuses = \"core/script\"\non = \"here\"\n{step}\nwith.script = \"\"\"\ntrap '' INT TERM HUP\n\
         sleep 1000 &\necho $! > '{dir}/child'\necho $$ > '{dir}/new'\nmv '{dir}/new' '{dir}/pid'\nwhile :; do sleep 1000; done\n\"\"\"\n\n\
         [[step]]\nid = \"after\"\nuses = \"core/command\"\non = \"here\"\nwith = {{ argv = [\"touch\", \"{dir}/after\"] }}\n",
        dir = scratch.display()
    )
}

fn assert_gone(scratch: &Path) {
    for name in ["pid", "child"] {
        let pid = std::fs::read_to_string(scratch.join(name)).expect("the script noted its processes");
        wait_until(&format!("the {name} of the script is gone"), SOON, || !alive(&pid));
    }
}

#[test]
fn a_signal_ends_what_runs_and_the_journal() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let env = TestEnv::new();
        let scratch = folder(&env, "scratch");
        env.write("long.toml", local(&stubborn(&scratch, "")));
        let running = env.start(&["exec", "long.toml"]);
        wait_until("the script runs", SOON, || scratch.join("pid").exists());
        running.signal(signal);
        let out = running.wait().code(6).stderr_has("cancelling");
        assert!(out.stdout.lines().last().is_some_and(|line| line.starts_with("cancelled: 2 steps, ")), "{out}");
        assert_gone(&scratch);
        assert!(!scratch.join("after").exists());
        let records = journal(&env);
        assert!(
            matches!(records.last().map(|r| &r.event), Some(Event::RunFinished { outcome: RunOutcome::Cancelled, .. })),
            "{records:?}"
        );
        assert_eq!(outcomes(&records)[0].1, StepOutcome::Cancelled);
    }
}

#[test]
fn a_wait_is_ended_too() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let steps = format!(
        "[[step]]\nid = \"begin\"\nuses = \"core/command\"\non = \"here\"\nwith = {{ argv = [\"touch\", \"{dir}/pid\"] }}\n\n[[step]]\nid = \
         \"wait\"\nuses = \"core/wait\"\non = \"here\"\nwith = {{ command = [\"test\", \"-e\", \"{dir}/never\"], timeout = \"1h\", interval = \"10m\" }}\n",
        dir = scratch.display()
    );
    env.write("wait.toml", local(&steps));
    let running = env.start(&["exec", "--json", "wait.toml"]);
    wait_until("the wait has begun", SOON, || {
        let Some(run) = crate::support::runs(&env).pop() else { return false };
        let text = std::fs::read_to_string(run.join("journal.jsonl")).unwrap_or_default();
        // The look came back, so that it waits now.
        text.contains("never") && text.matches("\"looked\"").count() >= 1 && text.contains("\"step\":\"wait\"")
    });
    running.signal(Signal::INT);
    let out = running.wait().code(6);
    assert!(matches!(out.events().last(), Some(Event::RunFinished { outcome: RunOutcome::Cancelled, .. })), "{out}");
}

#[test]
fn the_time_of_a_step_ends_its_command() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("long.toml", local(&stubborn(&scratch, "timeout = \"3s\"")));
    env.run(&["exec", "long.toml"]).code(1).last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    assert_gone(&scratch);
    let records = journal(&env);
    assert_eq!(outcomes(&records)[0].1, StepOutcome::Failed);
    assert!(reason(&records, "stubborn").contains("time"), "{}", reason(&records, "stubborn"));
    assert!(!scratch.join("after").exists());
}

#[test]
fn the_time_of_a_command_ends_it() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("long.toml", local(&stubborn(&scratch, "with.timeout = \"3s\"")));
    env.run(&["exec", "long.toml"]).code(1).last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    assert_gone(&scratch);
    assert!(reason(&journal(&env), "stubborn").contains("time"), "{}", reason(&journal(&env), "stubborn"));
}

#[test]
fn a_killed_run_leaves_a_journal_that_can_be_read() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("long.toml", local(&stubborn(&scratch, "")));
    let running = env.start(&["exec", "long.toml"]);
    wait_until("the script runs", SOON, || scratch.join("pid").exists());
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal, Some(9));
    let records = journal(&env);
    let in_doubt = records.iter().any(|r| matches!(r.event, Event::Intended { .. }));
    assert!(
        in_doubt && !records.iter().any(|r| matches!(r.event, Event::Changed { .. })),
        "the intent is durable before the act: {records:?}"
    );
    env.run(&["runs"]).ok().stdout_has("unfinished");
    env.run(&["show"]).ok().stdout_has("the run did not end");
    for name in ["pid", "child"] {
        let pid = std::fs::read_to_string(scratch.join(name)).expect("the script noted its processes");
        if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_failure_stops_the_run_and_says_what_failed() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let steps = format!(
        "[[step]]\nid = \"fails\"\nuses = \"core/command\"\non = \"here\"\nretry = {{ attempts = 3, backoff = \"1ms\" }}\nwith = {{ argv = \
         [\"sh\", \"-c\", \"echo try >> '{dir}/tries'; echo no such disk >&2; exit 4\"] }}\n\n[[step]]\nid = \"after\"\nuses = \
         \"core/command\"\non = \"here\"\nwith = {{ argv = [\"touch\", \"{dir}/after\"] }}\n",
        dir = scratch.display()
    );
    env.write("fails.toml", local(&steps));
    env.run(&["exec", "fails.toml"])
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed")
        .stderr_has("exit code 4")
        .stderr_has("no such disk");
    assert_eq!(std::fs::read_to_string(scratch.join("tries")).ok().as_deref(), Some("try\ntry\ntry\n"));
    assert!(!scratch.join("after").exists());
}
