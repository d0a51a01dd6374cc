//! A file and a directory on two hosts: plan, apply, again.

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{LOGIN_FREE, SshLab, TestEnv, Tree};

const STEPS: &str = r#"
[[step]]
id = "place"
uses = "core/directory"
on = ["h1", "h2"]
with = { path = "/srv/chime", mode = "0750" }

[[step]]
id = "greeting"
uses = "core/file"
on = ["h1", "h2"]
with = { path = "/srv/chime/greeting", content = "ding from {{ host.name }}\n", mode = "0640" }
"#;

fn runbook(lab: &SshLab, user: &str, more: &str) -> String {
    format!("schema = 1\nname = \"greet\"\n\n{}\n{STEPS}", lab.inventory(user, more))
}

fn changes(lab: &SshLab) -> [Tree; 2] {
    ["h1", "h2"].map(|h| lab.host(h).changes())
}

#[test]
fn a_plan_changes_nothing_and_an_exec_converges() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    env.write("greet.toml", runbook(&lab, "root", ""));

    let before = changes(&lab);
    drop(env.run(&["plan", "greet.toml"]).ok());
    for (was, is) in before.iter().zip(&changes(&lab)) {
        assert_eq!(was.differences(is), Vec::<String>::new(), "a plan changes nothing");
    }

    let out = env.run(&["exec", "greet.toml"]).ok();
    drop(out.last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed"));
    for name in ["h1", "h2"] {
        let text = std::fs::read_to_string(lab.host(name).path("/srv/chime/greeting"));
        assert_eq!(text.ok().as_deref(), Some(format!("ding from {name}\n").as_str()));
    }

    let settled = changes(&lab);
    let again = env.run(&["exec", "--json", "greet.toml"]).ok();
    let finished: Vec<StepOutcome> = again
        .events()
        .into_iter()
        .filter_map(|e| match e {
            Event::StepFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect();
    assert_eq!(finished, [StepOutcome::Unchanged; 4]);
    for (was, is) in settled.iter().zip(&changes(&lab)) {
        assert_eq!(was.differences(is), Vec::<String>::new(), "the second exec changes nothing");
    }
}

#[test]
fn sudo_gives_what_root_would() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    env.write("greet.toml", runbook(&lab, LOGIN_FREE, "become = \"sudo\""));
    drop(env.run(&["exec", "greet.toml"]).ok());
    let stat = lab.host("h2").run(&["stat", "-c", "%U %a", "/srv/chime/greeting"]);
    assert_eq!(String::from_utf8_lossy(&stat.stdout), "root 640\n");
    let again = env.run(&["exec", "greet.toml"]).ok();
    drop(again.last_line("succeeded: 2 steps, 0 changed, 2 unchanged, 0 skipped, 0 failed"));
}

#[test]
fn hosts_behind_a_jump_host_are_like_others() {
    let (lab, env) = (SshLab::start_behind_jump(2), TestEnv::new());
    env.write("greet.toml", runbook(&lab, "root", ""));
    drop(env.run(&["exec", "greet.toml"]).ok());
    assert!(lab.host("h1").path("/srv/chime/greeting").exists());
}

#[test]
fn a_changed_host_key_and_a_host_that_is_down_stop_the_run() {
    let (mut lab, env) = (SshLab::start(2), TestEnv::new());
    env.write("greet.toml", runbook(&lab, "root", ""));
    lab.host_mut("h1").stop();
    lab.host("h1").new_host_key();
    lab.host_mut("h1").start();
    let out = env.run(&["exec", "greet.toml"]).code(1).stderr_has("key");
    assert!(out.stdout.starts_with("failed: "), "{out}");
    assert!(!lab.host("h1").path("/srv/chime").exists());

    lab.host_mut("h2").stop();
    drop(env.run(&["exec", "greet.toml"]).code(1));
}
