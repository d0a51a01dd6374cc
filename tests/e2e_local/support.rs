//! What these tests share.

use std::path::{Path, PathBuf};
use std::process::Command;

use runbook_model::event::{Event, Record, StepOutcome};
use runbook_tests::TestEnv;

/// A runbook with these steps for this machine, `here`.
pub(crate) fn local(steps: &str) -> String {
    format!("schema = 1\nname = \"local\"\n\n[hosts.here]\ntransport = \"local\"\n\n{steps}")
}

/// A fresh folder of the world, for steps to fill.
pub(crate) fn folder(env: &TestEnv, name: &str) -> PathBuf {
    let path = env.dir().join(name);
    std::fs::create_dir_all(&path).expect("a fresh directory can be written to");
    path
}

/// The runs that were kept, the oldest first.
pub(crate) fn runs(env: &TestEnv) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(env.xdg().join("state/runbook/runs")) else { return Vec::new() };
    let mut runs: Vec<PathBuf> = entries.map(|e| e.expect("a directory of our own can be read").path()).collect();
    runs.sort_unstable();
    runs
}

/// The journal of the only run.
pub(crate) fn journal(env: &TestEnv) -> Vec<Record> {
    let runs = runs(env);
    assert_eq!(runs.len(), 1, "{runs:?}");
    records(&runs[0])
}

/// The journal of a run.
pub(crate) fn records(run: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(run.join(runbook_model::journal::FILE)).expect("a run has a journal");
    assert!(text.ends_with('\n'), "a journal ends with a whole line");
    runbook_model::journal::decode(&text).unwrap_or_else(|e| panic!("{e} in {}", run.display()))
}

/// How each instance of a step ended, as `STEP on HOST`.
pub(crate) fn outcomes(records: &[Record]) -> Vec<(String, StepOutcome)> {
    let finished = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { instance, outcome, .. } => Some((instance.to_string(), *outcome)),
        _ => None,
    });
    finished.collect()
}

/// Why a step ended so.
pub(crate) fn reason(records: &[Record], step: &str) -> String {
    let reason = records.iter().find_map(|record| match &record.event {
        Event::StepFinished { instance, reason, .. } if instance.step == step => reason.clone(),
        _ => None,
    });
    reason.unwrap_or_else(|| panic!("step {step} ended without a reason"))
}

/// `runbook ARGS` behind another command, such as `unshare`, in the same world.
pub(crate) fn behind(before: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = inner.get_current_dir() {
        command.current_dir(dir);
    }
    command
}

/// Whether a process is there and not only waiting to be reaped.
pub(crate) fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z') && !rest.starts_with('X')))
}
