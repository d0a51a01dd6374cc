//! Who a host is: its key decides.

use runbook_model::event::StepOutcome;
use runbook_tests::{LOGIN_FREE, SshLab, TestEnv};

use crate::support::{assert_as_before, changes, ended, runbook};

const TOUCH: &str = "[[step]]\nid = \"touch\"\nuses = \"core/command\"\non = [\"h1\", \"h2\"]\nwith = { argv = [\"touch\", \"/srv/touched\"] }\n";

#[test]
fn a_changed_key_is_refused_with_what_to_do() {
    let (mut lab, env) = (SshLab::start(2), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", TOUCH));
    lab.host_mut("h1").stop();
    lab.host("h1").new_host_key();
    lab.host_mut("h1").start();
    let fingerprint = lab.host("h1").fingerprint();
    for verb in ["plan", "exec"] {
        let before = changes(&lab);
        let out = env.run(&[verb, "x.toml"]);
        if verb == "exec" {
            let (outcome, reason) = ended(&env.journal(), "touch", "h1");
            assert!(!outcome.is_ok(), "{out}");
            for part in
                ["its host key has changed", &fingerprint, "ssh-keygen -f", lab.host("h1").known_hosts_line().trim()]
            {
                assert!(reason.contains(part), "no `{part}` in {reason}");
            }
            assert!(!lab.host("h1").path("/srv/touched").exists(), "nothing is done on it");
            assert!(lab.host("h2").path("/srv/touched").exists(), "the other one is finished");
            let out = out.code(1);
            assert!(out.stdout.ends_with("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed\n"), "{out}");
        } else {
            assert_as_before(&lab, &before);
        }
    }
    assert_eq!(lab.host("h1").logins(), 0, "nobody even tried to log in: {}", lab.host("h1").log());
}

#[test]
fn an_unknown_key_is_refused_with_the_line_to_add() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    let known = env.write("known_hosts", lab.host("h2").known_hosts_line());
    let text = runbook(&lab, "root", "", TOUCH)
        .replace(&lab.known_hosts().display().to_string(), &known.display().to_string());
    env.write("x.toml", text);
    env.run(&["exec", "x.toml"]).code(1).stderr_has("its host key is not known");
    let (_, reason) = ended(&env.journal(), "touch", "h1");
    let line = lab.host("h1").known_hosts_line();
    assert!(reason.contains(line.trim()), "{reason}");
    assert_eq!(lab.host("h1").logins(), 0);
    // As it says: the line added, it works.
    env.write("known_hosts", lab.host("h2").known_hosts_line() + &line);
    env.run(&["exec", "x.toml"]).ok();
    assert!(lab.host("h1").path("/srv/touched").exists());
}

#[test]
fn a_pinned_key_needs_no_file() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    let nobody = env.write("known_hosts", "");
    let pinned = |pin: &str| {
        runbook(&lab, "root", &format!("host_key = \"{pin}\""), &TOUCH.replace("[\"h1\", \"h2\"]", "\"h1\""))
            .replace(&lab.known_hosts().display().to_string(), &nobody.display().to_string())
    };
    env.write("x.toml", pinned(&lab.host("h1").fingerprint()));
    env.run(&["exec", "x.toml"]).ok();
    env.write("x.toml", pinned("SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    env.run(&["exec", "x.toml"]).code(1).stderr_has("not the pinned one").stderr_has(&lab.host("h1").fingerprint());
}

#[test]
fn a_jump_host_is_checked_and_used() {
    let (lab, env) = (SshLab::start_behind_jump(2), TestEnv::new());
    env.write("x.toml", runbook(&lab, LOGIN_FREE, "become = \"sudo\"", TOUCH));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    for host in ["h1", "h2"] {
        assert!(lab.host(host).path("/srv/touched").exists());
        assert_eq!(lab.host(host).connections(), 1);
    }
    assert!(lab.host("jump").logins() >= 1);
    assert!(!lab.host("jump").path("/srv/touched").exists());
}

#[test]
fn a_jump_host_with_another_key_is_the_end_of_the_way() {
    let (mut lab, env) = (SshLab::start_behind_jump(1), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", &TOUCH.replace("[\"h1\", \"h2\"]", "\"h1\"")));
    lab.host_mut("jump").stop();
    lab.host("jump").new_host_key();
    lab.host_mut("jump").start();
    env.run(&["exec", "x.toml"]).code(1).stderr_has("jump").stderr_has("its host key has changed");
    assert_eq!(lab.host("h1").connections(), 0);
    assert!(!ended(&env.journal(), "touch", "h1").0.is_ok());
}

#[test]
fn a_host_that_is_down_is_unreachable_and_the_others_are_finished() {
    let (mut lab, env) = (SshLab::start(2), TestEnv::new());
    let two = format!(
        "{TOUCH}\n{}",
        TOUCH.replace("\"touch\"\nuses", "\"later\"\nuses").replace("/srv/touched", "/srv/later")
    );
    env.write("x.toml", runbook(&lab, "root", "", &two));
    lab.host_mut("h1").stop();
    env.run(&["exec", "x.toml"])
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed")
        .stderr_has("is the machine up");
    assert_eq!(ended(&env.journal(), "touch", "h1").0, StepOutcome::Unreachable);
    assert_eq!(ended(&env.journal(), "touch", "h2").0, StepOutcome::Changed);
    assert!(lab.host("h2").path("/srv/touched").exists() && !lab.host("h2").path("/srv/later").exists());

    // Where the step can do without it, the run goes on.
    env.write("x.toml", runbook(&lab, "root", "", &two.replace("on = [", "on_unreachable = \"skip\"\non = [")));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert!(lab.host("h2").path("/srv/later").exists());
    assert_eq!(ended(&env.journal(), "touch", "h1").0, StepOutcome::Skipped);
    // A plan says the same of it.
    let out = env.run(&["plan", "x.toml"]).ok();
    assert!(out.stdout.contains("skipped"), "{out}");
}
