//! Interpreters bring a world of their own: its files, sockets, environment, clock and chance are not this machine's.

use std::path::{Path, PathBuf};

use runbook_model::event::StepOutcome;
use runbook_tests::TestEnv;
use serde_json::json;

use crate::support::{ended, runbook, world};

const PROBES: [&str; 2] = ["probe-python", "probe-js"];

/// A world with one step, for this action of a probe.
fn probe(name: &str, action: &str, more: impl Fn(&TestEnv) -> String) -> TestEnv {
    let env = world().var("A_VARIABLE", "of this machine");
    let step = format!("[[step]]\nid = \"x\"\nuses = \"{name}/{action}\"\nallow = \"asked\"\n{}\n", more(&env));
    env.write("x.toml", runbook(&format!("tests/e2e_guests/{name}"), &step));
    env.grant("x.toml");
    env
}

fn nothing(_: &TestEnv) -> String {
    String::new()
}

fn drawn(env: &TestEnv) -> PathBuf {
    env.dir().join("drawn")
}

#[test]
fn nothing_of_this_machine_is_reached() {
    for name in PROBES {
        let env = probe(name, "ambient", nothing);
        env.run(&["exec", "x.toml"]).ok();
        assert_eq!(ended(&env, "x"), (StepOutcome::Unchanged, json!({}), String::new()), "{name}");
        assert!(!Path::new("/tmp/probe-python-was-here").exists());
    }
}

#[test]
fn time_and_chance_are_the_runs() {
    for name in PROBES {
        let mut texts = Vec::new();
        for run in 0..2 {
            let on_path = |env: &TestEnv| format!("on = \"here\"\nwith = {{ path = \"{}\" }}", drawn(env).display());
            let env = probe(name, "chance", on_path);
            // The second is killed with its change under way, and draws the same once more: another content would be another call.
            if run == 1 {
                assert_eq!(env.run(&["exec", "x.toml", "--drill-kill", "x:2:after"]).signal, Some(9));
                let resumed = env.run(&["resume"]).ok();
                assert!(!resumed.stderr.contains("differ"), "{resumed}");
            } else {
                env.run(&["exec", "x.toml"]).ok();
            }
            texts.push(std::fs::read_to_string(drawn(&env)).expect("it was written"));
        }
        let words = |run: usize| texts[run].split_whitespace().collect::<Vec<_>>();
        for (first, second) in words(0).iter().zip(words(1)) {
            assert_ne!(*first, second, "{name}: every run draws its own");
        }
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs_f64();
        let said: f64 = words(0)[0].parse().expect("a time");
        let seconds = if said > 1e11 { said / 1000.0 } else { said };
        assert!((now - seconds).abs() < 3600.0, "{name}: it is now, not when it was built: {said}");
    }
}

#[test]
fn a_mistake_is_one_failed_step_that_says_where() {
    for (name, what, place) in
        [("probe-python", "KeyError: 'nothing'", "plugin.py, line "), ("probe-js", "TypeError: ", "plugin.js:")]
    {
        let env = probe(name, "mistake", nothing);
        env.run(&["exec", "x.toml"]).code(1);
        let (outcome, _, reason) = ended(&env, "x");
        assert_eq!(outcome, StepOutcome::Failed);
        assert!(
            reason.contains("a mistake in the plugin") && reason.contains(what) && reason.contains(place),
            "{reason}"
        );
    }
}

#[test]
fn memory_has_an_end_that_is_named() {
    for name in PROBES {
        let env = probe(name, "memory", nothing);
        env.run(&["exec", "x.toml"]).code(1);
        let (outcome, _, reason) = ended(&env, "x");
        assert_eq!(outcome, StepOutcome::Failed);
        assert!(reason.contains("memory") && reason.contains("256 MiB"), "{name}: {reason}");
    }
}
