//! One runbook on several hosts.

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{SshLab, TestEnv, Tree};

use crate::support::{assert_as_before, changes, ended, runbook, stat, text};

/// Every kind of change of the core plugin, with hosts in between.
const STEPS: &str = r#"
[[step]]
id = "folder"
uses = "core/directory"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/srv/app/data", mode = "0750", owner = "rbtest", group = "rbtest" }

[[step]]
id = "config"
uses = "core/file"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/srv/app/config", content = "host = {{ host.name }}\n", mode = "0640", owner = "root", group = "rbtest" }

[[step]]
id = "level"
uses = "core/line"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/srv/app/logging", match = "^level", line = "level = loud", create = true }

[[step]]
id = "peers"
uses = "core/block"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/etc/hosts", marker = "peers", content = "192.0.2.1 one\n192.0.2.2 two" }

[[step]]
id = "current"
uses = "core/link"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/srv/app/current", target = "data" }

[[step]]
id = "no_motd"
uses = "core/absent"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/etc/motd" }

[[step]]
id = "restore"
uses = "core/command"
on = ["h1", "h2", "h3"]
SERIAL
with = { argv = ["sh", "-c", "echo restored > /srv/app/data/state"], creates = "/srv/app/data/state" }

[[step]]
id = "note"
uses = "core/line"
on = ["h1", "h2", "h3"]
SERIAL
with = { path = "/srv/app/data/state", match = "^never", line = "noted" }
"#;

fn steps(serial: &str) -> String {
    STEPS.replace("SERIAL", serial)
}

fn prepared(n: usize) -> SshLab {
    let lab = SshLab::start(n);
    for host in lab.hosts() {
        host.machine().put("/etc/motd", "welcome\n", 0o644);
    }
    lab
}

#[test]
fn a_plan_of_fresh_hosts_changes_nothing_and_an_exec_makes_them_so() {
    let (lab, env) = (prepared(3), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", &steps("")));

    let (before, homes) = (changes(&lab), lab.hosts().iter().map(|h| Tree::of(h.root())).collect::<Vec<_>>());
    let out = env
        .run(&["plan", "x.toml"])
        .ok()
        .last_line("plan: 8 steps, 7 would change, 1 may change, 0 unchanged, 0 skipped, 0 failed")
        .stdout_has("cannot be looked at before restore");
    assert_as_before(&lab, &before);
    homes.iter().for_each(Tree::assert_untouched);
    assert!(out.stdout.contains("+level = loud") && out.stdout.contains("+192.0.2.2 two"), "{out}");
    // Where the server says how many sessions there are: looks share one shell.
    for host in lab.hosts() {
        assert_eq!((host.connections(), host.logins()), (1, 1), "{}", host.log());
        assert!(host.sessions() <= 4, "{}", host.log());
    }

    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 8 steps, 8 changed, 0 unchanged, 0 skipped, 0 failed");
    for host in ["h1", "h2", "h3"] {
        assert_eq!(text(&lab, host, "/srv/app/config"), format!("host = {host}\n"));
        assert_eq!(text(&lab, host, "/srv/app/logging"), "level = loud\n");
        assert_eq!(stat(&lab, host, "%a %U %G", "/srv/app/config"), "640 root rbtest");
        assert_eq!(stat(&lab, host, "%a %U %G", "/srv/app/data"), "750 rbtest rbtest");
        assert!(text(&lab, host, "/etc/hosts").ends_with("# BEGIN peers\n192.0.2.1 one\n192.0.2.2 two\n# END peers\n"));
        assert_eq!(std::fs::read_link(lab.host(host).path("/srv/app/current")).ok(), Some("data".into()));
        assert!(!lab.host(host).path("/etc/motd").exists());
        assert_eq!(text(&lab, host, "/srv/app/data/state"), "restored\nnoted\n");
    }
    for host in lab.hosts() {
        assert_eq!((host.connections(), host.logins()), (2, 2), "one connection for each run: {}", host.log());
        assert!(host.sessions() <= 8, "{}", host.log());
    }

    let settled = changes(&lab);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 8 steps, 0 changed, 8 unchanged, 0 skipped, 0 failed");
    assert_as_before(&lab, &settled);
    env.run(&["plan", "x.toml", "--detailed-exitcode"]).ok();
    assert_as_before(&lab, &settled);

    // One host is spoilt: it alone is mended.
    lab.host("h2").machine().put("/srv/app/config", "spoilt\n", 0o600);
    env.run(&["exec", "x.toml"]).ok();
    let changed: Vec<String> = env
        .journal()
        .iter()
        .filter_map(|r| match &r.event {
            Event::StepFinished { instance, outcome: StepOutcome::Changed, .. } => Some(instance.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(changed, ["config on h2"]);
    assert_as_before(&lab, &settled);
}

#[test]
fn the_outcome_is_the_same_one_by_one_and_all_at_once_and_for_one_host() {
    let relevant = |lab: &SshLab, host: &str| -> Vec<String> {
        let empty = Tree::of("/nowhere/at/all");
        // What sshd notes of itself differs, and the salt of passwords.
        let noise = ["var/log", "var/lib", "run", "tmp", "root", "etc/shadow"];
        empty
            .differences(&lab.host(host).changes())
            .into_iter()
            .filter(|line| !noise.iter().any(|n| line.starts_with(&format!("+ {n}"))))
            .collect()
    };
    let mut results = Vec::new();
    for (n, serial) in [(3, "serial = 1"), (3, "serial = 3"), (3, ""), (1, "")] {
        let (lab, env) = (prepared(n), TestEnv::new());
        let all = steps(serial);
        let all = if n == 1 { all.replace("[\"h1\", \"h2\", \"h3\"]", "\"h1\"") } else { all };
        env.write("x.toml", runbook(&lab, "root", "", &all));
        env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 8 steps, 8 changed, 0 unchanged, 0 skipped, 0 failed");
        results.push(relevant(&lab, "h1"));
    }
    assert!(results[0].iter().any(|line| line.contains("srv/app/config")), "{results:?}");
    for other in &results[1..] {
        assert_eq!(&results[0], other);
    }
}

#[test]
fn the_hosts_of_a_step_run_side_by_side() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    // The two have no disk in common, so they meet by TCP: neither ends without the other one.
    let port = runbook_tests::free_port(std::net::Ipv4Addr::LOCALHOST);
    let meet = r#"
[[step]]
id = "meet"
uses = "core/script"
on = ["h1", "h2"]
timeout = "2m"
with.args = ["{{ host.name }}", "PORT"]
with.script = """
exec python3 -c '
import socket, sys, time
name, port = sys.argv[1], int(sys.argv[2])
if name == "h1":
    socket.create_server(("127.0.0.1", port)).accept()
else:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.05)
' "$1" "$2"
"""
"#;
    env.write("x.toml", runbook(&lab, "root", "", &meet.replace("PORT", &port.to_string())));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
}

#[test]
fn a_host_that_fails_lets_the_others_finish_and_stops_the_run() {
    let (lab, env) = (SshLab::start(3), TestEnv::new());
    let steps = r#"
[[step]]
id = "first"
uses = "core/script"
on = ["h1", "h2", "h3"]
with = { script = "test {{ host.name }} != h2; touch /srv/first" }

[[step]]
id = "second"
uses = "core/command"
on = ["h1", "h2", "h3"]
with = { argv = ["touch", "/srv/second"] }
"#;
    env.write("x.toml", runbook(&lab, "root", "", steps));
    env.run(&["exec", "x.toml"]).code(1).last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed");
    let there = |host: &str, path: &str| lab.host(host).path(path).exists();
    assert!(there("h1", "/srv/first") && there("h3", "/srv/first") && !there("h2", "/srv/first"));
    assert!(["h1", "h2", "h3"].iter().all(|host| !there(host, "/srv/second")));
    assert_eq!(ended(&env.journal(), "first", "h2").0, StepOutcome::Failed);

    // One after the other: those behind the one that failed are not begun.
    env.write(
        "y.toml",
        runbook(
            &lab,
            "root",
            "",
            &steps.replace("/srv/first", "/srv/third").replace("with = { script", "serial = 1\nwith = { script"),
        ),
    );
    env.run(&["exec", "y.toml"]).code(1);
    assert!(there("h1", "/srv/third") && !there("h3", "/srv/third"));
    assert_eq!(ended(&env.journal(), "first", "h3").0, StepOutcome::Skipped);
}
