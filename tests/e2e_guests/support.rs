//! What these tests share.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runbook_model::event::{Event, Record, StepOutcome};
use runbook_tests::{TestEnv, tests_dir};
use serde_json::Value;

/// The component of a project, by its folder from the top of the repository.
///
/// # Panics
///
/// Where nobody has built it.
pub(crate) fn built(project: &str) -> PathBuf {
    let folder = tests_dir().join("..").join(project);
    let name = folder.file_name().expect("a project has a name").to_string_lossy().into_owned();
    let component = folder.join(format!("build/{name}.wasm"));
    assert!(component.is_file(), "{} is missing: `tests/run guests` builds it", component.display());
    component
}

/// A runbook for this machine, `here`, with a plugin of this project.
pub(crate) fn runbook(project: &str, rest: &str) -> String {
    let component = built(project);
    let name = component.file_stem().expect("a component has a name").to_string_lossy();
    format!(
        "schema = 1\nname = \"guests\"\n\n[plugins]\n{name} = {:?}\n\n[hosts.here]\ntransport = \"local\"\n\n{rest}",
        component.display().to_string()
    )
}

/// Each law holds in each case of a project.
pub(crate) fn assert_keeps_the_laws(project: &str) {
    let cases = tests_dir().join("..").join(project).join("cases").display().to_string();
    let out = world().run(&["plugin", "verify", &built(project).display().to_string(), "--cases", &cases]).ok();
    let last = out.stdout.lines().last().unwrap_or_default();
    assert!(last.ends_with(" hold, 0 not judged, 0 broken"), "{out}");
}

/// Puts a program on the path of what runs in this world.
pub(crate) fn program(env: &TestEnv, name: &str, script: &str) {
    let path = programs(env).join(name);
    std::fs::create_dir_all(programs(env)).expect("a fresh directory can be written to");
    std::fs::write(&path, script).expect("a fresh directory can be written to");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is our own file");
}

fn programs(env: &TestEnv) -> PathBuf {
    env.dir().join("bin")
}

/// A world in which programs of [`program`] come first.
pub(crate) fn world() -> TestEnv {
    let env = TestEnv::new();
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs(&env).display());
    env.var("PATH", &path)
}

/// The journal of the newest run.
pub(crate) fn journal(env: &TestEnv) -> Vec<Record> {
    let folder = env.xdg().join("state/runbook/runs");
    let runs = std::fs::read_dir(folder).expect("there was a run");
    let newest = runs.map(|entry| entry.expect("our own folder").path()).max().expect("there was a run");
    let text = std::fs::read_to_string(newest.join(runbook_model::journal::FILE)).expect("a run has a journal");
    runbook_model::journal::decode(&text).unwrap_or_else(|error| panic!("{error} in {}", newest.display()))
}

/// How a step of the newest run ended: its outcome, its outputs, and why.
pub(crate) fn ended(env: &TestEnv, step: &str) -> (StepOutcome, Value, String) {
    let ended = journal(env).into_iter().rev().find_map(|record| match record.event {
        Event::StepFinished { instance, outcome, outputs, reason, .. } if instance.step == step => {
            Some((outcome, outputs, reason.unwrap_or_default()))
        }
        _ => None,
    });
    ended.expect("the step has ended")
}

/// The changes of the newest run, as `--drill-kill` names them: `STEP:CALL`.
pub(crate) fn changes(env: &TestEnv) -> Vec<String> {
    let changes = journal(env).into_iter().filter_map(|record| match record.event {
        Event::Intended { instance, call, .. } => Some(format!("{}:{call}", instance.step)),
        _ => None,
    });
    changes.collect()
}

/// The lines of a file; none where it is not there.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
