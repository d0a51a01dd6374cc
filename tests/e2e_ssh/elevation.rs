//! Rights: sudo with and without a password, and none.

use runbook_model::event::StepOutcome;
use runbook_tests::{LOGIN_FREE, LOGIN_PASSWORD, LOGIN_PLAIN, PASSWORD, SshLab, TestEnv, Tree};

use crate::support::{assert_as_before, changes, ended, runbook, stat, text};

const STEPS: &str = r#"
[inputs.sudo]
type = "secret"
from = { env = "SUDO_PASSWORD" }

[[step]]
id = "file"
uses = "core/file"
on = "h1"
with = { path = "/etc/app.conf", content = "fine\n", mode = "0600" }

[[step]]
id = "who"
uses = "core/script"
on = "h1"
with = { script = "id -un > /srv/root; for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null | grep -v '^ssh-keygen ' > /srv/cmdlines" }

[[step]]
id = "me"
uses = "core/script"
on = "h1"
with = { script = "id -un > ~/me", privileged = false }
"#;

const BECOME: &str = "become = { method = \"sudo\", password = \"{{ inputs.sudo }}\" }";

/// What other tests start at the same time is seen here, too: their labs give the password to ssh-keygen, which is left out.
fn check(lab: &SshLab, user: &str) {
    assert_eq!(text(lab, "h1", "/etc/app.conf"), "fine\n");
    assert_eq!(stat(lab, "h1", "%a %U", "/etc/app.conf"), "600 root");
    assert_eq!(text(lab, "h1", "/srv/root"), "root\n");
    assert_eq!(text(lab, "h1", &format!("/home/{user}/me")), format!("{user}\n"));
    assert!(!text(lab, "h1", "/srv/cmdlines").contains(PASSWORD), "the password is in no arguments");
}

fn leaks(env: &TestEnv) -> bool {
    // Everything that was kept, in one text.
    let tree = Tree::of(env.xdg());
    tree.paths().any(|path| {
        std::fs::read(env.xdg().join(path)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("horse; staple"))
    })
}

#[test]
fn sudo_with_a_password() {
    let (lab, env) = (SshLab::start(1), TestEnv::new().var("SUDO_PASSWORD", PASSWORD));
    env.write("x.toml", runbook(&lab, LOGIN_PASSWORD, BECOME, STEPS));
    let before = changes(&lab);
    env.run(&["plan", "x.toml"]).ok();
    // sudo keeps a note of its own that somebody was lectured.
    for (host, was) in lab.hosts().iter().zip(&before) {
        let noted = was.differences(&host.changes());
        assert!(noted.iter().all(|line| line.contains("sudo")), "{noted:?}");
    }
    env.run(&["exec", "x.toml"])
        .ok()
        .last_line("succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed")
        .nowhere("horse; staple");
    check(&lab, LOGIN_PASSWORD);
    assert!(!leaks(&env));
    assert_eq!(lab.host("h1").connections(), 2, "one for the plan, one for the run");
}

#[test]
fn sudo_without_a_password() {
    let (lab, env) = (SshLab::start(1), TestEnv::new().var("SUDO_PASSWORD", "not needed"));
    env.write("x.toml", runbook(&lab, LOGIN_FREE, "become = \"sudo\"", STEPS));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed");
    check(&lab, LOGIN_FREE);
    let settled = changes(&lab);
    env.run(&["exec", "x.toml", "--only", "file"])
        .ok()
        .last_line("succeeded: 3 steps, 0 changed, 1 unchanged, 2 skipped, 0 failed");
    assert_as_before(&lab, &settled);
}

#[test]
fn a_wrong_password_none_and_no_right_are_said() {
    let lab = SshLab::start(1);
    for (user, r#become, given, says) in [
        (LOGIN_PASSWORD, BECOME, "wrong horse", "refused the password"),
        (LOGIN_PASSWORD, "become = \"sudo\"", "x", "asks for a password"),
        (LOGIN_PLAIN, BECOME, PASSWORD, "sudo"),
    ] {
        let env = TestEnv::new().var("SUDO_PASSWORD", given);
        env.write("x.toml", runbook(&lab, user, r#become, STEPS));
        let out = env
            .run(&["exec", "x.toml"])
            .code(1)
            .last_line("failed: 3 steps, 0 changed, 0 unchanged, 2 skipped, 1 failed")
            .stderr_has(says);
        assert!(!lab.host("h1").path("/etc/app.conf").exists());
        if says.contains("password") {
            assert!(out.stderr.contains("method = \"sudo\"") || out.stderr.contains("secret"), "how to mend it: {out}");
        }
        assert!(!leaks(&env));
    }
}

#[test]
fn without_rights_a_directory_of_root_cannot_be_written() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    let steps = "[[step]]\nid = \"file\"\nuses = \"core/file\"\non = \"h1\"\nwith = { path = \"/etc/app.conf\", content = \"fine\\n\" }\n";
    env.write("x.toml", runbook(&lab, LOGIN_PLAIN, "", steps));
    let before = changes(&lab);
    env.run(&["exec", "x.toml"])
        .code(1)
        .last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed")
        .stderr_has("Permission denied")
        .stderr_has("/etc/app.conf");
    assert_as_before(&lab, &before);
    assert_eq!(ended(&env.journal(), "file", "h1").0, StepOutcome::Failed);
}
