//! Runs that are killed on the way, on real hosts: resumed they come to the same end, undone they leave the hosts as they were.

use std::collections::BTreeSet;
use std::time::Duration;

use runbook_model::event::Event;
use runbook_tests::{SshLab, TestEnv, Tree, cuts, every_cut, wait_until};
use rustix::process::Signal;

use crate::support::{assert_as_before, changes, runbook, text};

const SOON: Duration = Duration::from_secs(60);

/// Each kind of change; `count` and `ledger` must happen once, and what `count` says goes into a file.
const STEPS: &str = r#"
[[step]]
id = "folders"
uses = "core/directory"
on = ["h1", "h2"]
with = { path = "/srv/app/etc", mode = "0750" }

[[step]]
id = "conf"
uses = "core/file"
on = ["h1", "h2"]
with = { path = "/srv/app/etc/conf", content = "for {{ host.name }}\n", mode = "0640" }

[[step]]
id = "motd"
uses = "core/file"
on = "h1"
with = { path = "/etc/motd", content = "recovered\n" }

[[step]]
id = "count"
uses = "core/script"
on = "h1"
with = { script = "echo once >> /srv/app/count; wc -l < /srv/app/count" }

[[step]]
id = "current"
uses = "core/link"
on = "h1"
with = { path = "/srv/app/current", target = "etc" }

[[step]]
id = "old"
uses = "core/absent"
on = "h2"
with = { path = "/srv/old" }

[[step]]
id = "guarded"
uses = "core/command"
on = "h2"
with = { argv = ["sh", "-c", "echo guarded >> /srv/guarded"], creates = "/srv/guarded" }

[[step]]
id = "ledger"
uses = "core/script"
on = "h2"
with = { script = "echo paid >> /srv/ledger" }
"#;

fn lab() -> SshLab {
    let lab = SshLab::start(2);
    for host in lab.hosts() {
        host.machine().put("/srv/old/deep/note", "keep me\n", 0o600);
        host.machine().put("/etc/motd", "welcome\n", 0o644);
    }
    lab
}

/// What the hosts have come to, apart from each other's keys.
fn end(lab: &SshLab) -> Vec<Vec<String>> {
    let empty = Tree::of("/nonexistent");
    // Passwords of the lab's users are salted.
    let own = |line: &String| !line.contains("etc/shadow");
    changes(lab).iter().map(|tree| empty.differences(tree).into_iter().filter(own).collect()).collect()
}

#[test]
fn a_killed_run_comes_to_the_same_end() {
    let (whole, env) = (lab(), TestEnv::new());
    env.write("x.toml", runbook(&whole, "root", "", STEPS));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 8 steps, 8 changed, 0 unchanged, 0 skipped, 0 failed");
    let (records, wanted) = (env.journal(), end(&whole));
    assert_eq!(text(&whole, "h1", "/srv/app/count"), "once\n");
    // `STEP:CALL:after`: the change was made, and nobody heard so.
    let after = records.iter().filter_map(|record| match &record.event {
        Event::Intended { instance, call, .. } => Some((instance.step.as_str(), *call)),
        _ => None,
    });
    let after = after.filter(|(step, _)| every_cut() || ["count", "ledger", "conf", "guarded"].contains(step));
    let after: BTreeSet<String> = after.map(|(step, call)| format!("{step}:{call}:after")).collect();
    for cut in cuts(&records).into_iter().chain(after) {
        let (lab, env) = (lab(), TestEnv::new());
        env.write("x.toml", runbook(&lab, "root", "", STEPS));
        if env.cut_and_resume(&["exec", "x.toml"], &cut) {
            assert_eq!(end(&lab), wanted, "{cut}");
        }
    }
}

#[test]
fn an_undo_leaves_the_hosts_as_they_were() {
    let (lab, env) = (lab(), TestEnv::new());
    // Only what can be taken back.
    let steps: String = STEPS
        .split("\n[[step]]")
        .filter(|s| !s.contains("core/script") && !s.contains("core/command"))
        .filter(|s| !s.trim().is_empty())
        .map(|s| format!("\n[[step]]{s}"))
        .collect();
    env.write("x.toml", runbook(&lab, "root", "", &steps));
    let before = changes(&lab);
    env.run(&["exec", "x.toml"]).ok();
    let after = end(&lab);
    // The undo itself is killed, and undone again.
    let records = env.journal().len();
    let killed = env.run(&["undo", "--drill-kill", &format!("@{}", records + 9)]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    env.run(&["next"]).ok().stdout_has("runbook undo");
    env.run(&["undo"]).ok();
    assert_as_before(&lab, &before);
    env.run(&["undo", "--redo"]).ok();
    assert_eq!(end(&lab), after);
}

#[test]
fn what_somebody_changed_since_is_shown_and_not_overwritten() {
    let (lab, env) = (lab(), TestEnv::new());
    let steps = "[[step]]\nid = \"motd\"\nuses = \"core/file\"\non = \"h1\"\nwith = { path = \"/etc/motd\", content = \"new\\n\" }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    env.run(&["exec", "x.toml"]).ok();
    lab.host("h1").machine().put("/etc/motd", "mine\n", 0o644);
    env.run(&["undo"])
        .code(5)
        .stderr_has("/etc/motd is not as it was left")
        .last_line("stuck: 0 changes taken back, 0 left as they are");
    assert_eq!(text(&lab, "h1", "/etc/motd"), "mine\n");
    env.run(&["next"]).ok().stdout_has("motd on h1 needs you").stdout_has("runbook undo");
    env.run(&["undo", "--force"]).ok();
    assert_eq!(text(&lab, "h1", "/etc/motd"), "welcome\n");
}

#[test]
fn a_command_that_is_at_work_when_we_die_is_waited_for() {
    let (lab, env) = (lab(), TestEnv::new());
    let steps = "[[step]]\nid = \"slow\"\nuses = \"core/script\"\non = \"h1\"\nwith = { script = \"echo begun >> /srv/slow; while [ ! -e /srv/go ]; do sleep 0.1; done; echo ended >> /srv/slow; echo said\" }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it is at work", SOON, || lab.host("h1").path("/srv/slow").exists());
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal, Some(9));
    env.run(&["next"]).ok().stdout_has("in doubt: slow on h1").stdout_has("runbook resume");
    let resumed = env.start(&["resume"]);
    std::thread::sleep(Duration::from_secs(2));
    lab.host("h1").machine().put("/srv/go", "", 0o644);
    resumed.wait().ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(text(&lab, "h1", "/srv/slow"), "begun\nended\n", "it was run once");
    let said = env.journal().iter().any(|record| {
        matches!(&record.event, Event::Changed { response, .. }
        if serde_json::to_string(response).expect("JSON").contains("said"))
    });
    assert!(said, "its output was kept at the host");
}

#[test]
fn a_command_that_went_down_with_its_host_needs_a_person() {
    let (mut lab, env) = (lab(), TestEnv::new());
    let steps = "[[step]]\nid = \"slow\"\nuses = \"core/script\"\non = \"h1\"\nwith = { script = \"echo begun >> /srv/slow; sleep 1000\" }\n[[step]]\nid = \"after\"\nuses = \"core/script\"\non = \"h1\"\nwith = { script = \"touch /srv/after\" }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it is at work", SOON, || lab.host("h1").path("/srv/slow").exists());
    running.signal(Signal::KILL);
    drop(running.wait());
    // The house loses power: its processes are gone, its disk stays.
    lab.host_mut("h1").stop();
    lab.host_mut("h1").start();
    env.run(&["resume"]).code(5).stderr_has("needs you");
    assert!(!lab.host("h1").path("/srv/after").exists());
    env.run(&["exec", "x.toml"]).code(4).stderr_has("did not come to its end").stderr_has("--abandon");
    let run = env.last_run().file_name().expect("a run has a name").to_string_lossy().into_owned();
    env.run(&["resolve", &run, "slow", "--done", "--because", "I finished it"]).ok();
    env.run(&["resume"]).ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(text(&lab, "h1", "/srv/slow"), "begun\n");
    assert!(lab.host("h1").path("/srv/after").exists());
}

#[test]
fn another_controller_is_kept_away_while_a_run_is_at_work() {
    let (lab, one, two) = (lab(), TestEnv::new(), TestEnv::new());
    let waits = "[[step]]\nid = \"first\"\nuses = \"core/script\"\non = \"h1\"\nwith = { script = \"touch /srv/here; while [ ! -e /srv/go ]; do sleep 0.1; done\" }\n";
    one.write("x.toml", runbook(&lab, "root", "", waits));
    let quick = "[[step]]\nid = \"other\"\nuses = \"core/file\"\non = \"h1\"\nwith = { path = \"/srv/other\", content = \"x\" }\n";
    two.write("y.toml", runbook(&lab, "root", "", quick));
    one.write("y.toml", runbook(&lab, "root", "", quick));
    let running = one.start(&["exec", "x.toml"]);
    wait_until("it is at work", SOON, || lab.host("h1").path("/srv/here").exists());
    one.run(&["exec", "y.toml"]).code(4).stderr_has("is at work on h1");
    two.run(&["exec", "y.toml"]).code(1).stderr_has("conflict");
    assert!(!lab.host("h1").path("/srv/other").exists());
    lab.host("h1").machine().put("/srv/go", "", 0o644);
    running.wait().ok();
    two.run(&["exec", "y.toml"]).ok();
    assert!(lab.host("h1").path("/srv/other").exists());
}

/// A change on each host.
const SMALL: &str = "[[step]]\nid = \"small\"\nuses = \"core/file\"\non = [\"h1\", \"h2\"]\nwith = { path = \"/srv/small\", content = \"{{ run.id }}\" }\n";

fn run_of(env: &TestEnv) -> String {
    env.last_run().file_name().expect("a run has a name").to_string_lossy().into_owned()
}

/// From which run the leases of these hosts were taken over.
fn taken_over(env: &TestEnv) -> BTreeSet<(String, String)> {
    let taken = env.journal().into_iter().filter_map(|record| match record.event {
        Event::TookOver { target, run, .. } => Some((target, run)),
        _ => None,
    });
    taken.collect()
}

#[test]
fn a_run_that_died_in_its_goodbye_holds_nobody_up() {
    let (lab, env, other) = (lab(), TestEnv::new(), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", STEPS));
    for env in [&env, &other] {
        env.write("small.toml", runbook(&lab, "root", "", SMALL));
    }
    let killed = env.run(&["exec", "x.toml", "--drill-kill", "@last"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    let first = run_of(&env);
    env.run(&["resume"]).code(2).stderr_has("came to its end");
    assert_eq!(text(&lab, "h1", "/srv/app/count"), "once\n");
    // Whoever does not know it has to wait.
    other.run(&["exec", "small.toml"]).code(1).stderr_has(&format!("held by the run {first}"));
    // Its own controller knows that it is over.
    env.run(&["exec", "small.toml"]).ok().stderr_has(&format!("the lease of h1 was taken over from {first}"));
    let all = ["h1", "h2"].map(|host| (host.to_owned(), first.clone()));
    assert_eq!(taken_over(&env), BTreeSet::from(all));
    assert!(!lab.host("h1").path("/var/lib/runbook").exists(), "nothing of it is left");
    other.run(&["exec", "small.toml"]).ok();

    // One that was killed in its middle and given up.
    let killed = env.run(&["exec", "x.toml", "--drill-kill", "ledger"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    let second = run_of(&env);
    env.run(&["exec", "small.toml"]).code(4).stderr_has("--abandon");
    env.run(&["exec", "small.toml", "--abandon"]).ok();
    assert!(taken_over(&env).contains(&("h1".to_owned(), second)));
    assert!(!lab.host("h1").path("/var/lib/runbook").exists(), "nothing of it is left");
}

#[test]
fn a_host_cannot_give_away_what_a_run_holds() {
    let (lab, env) = (lab(), TestEnv::new());
    env.write("small.toml", runbook(&lab, "root", "", SMALL));
    env.run(&["exec", "small.toml"]).ok();
    let over = run_of(&env);
    let says = |holder: &str| {
        lab.host("h1").machine().put("/var/lib/runbook/lock", format!("{holder} 99999999999 ann@laptop\n"), 0o600);
    };
    // A later session of it than is known here is somebody else's, as is what is no run here.
    for holder in
        [format!("{over} 2"), "20200101-000000000-other-0000 1".to_owned(), "../runs 1".to_owned(), ". 1".to_owned()]
    {
        says(&holder);
        env.run(&["exec", "small.toml"]).code(1).stderr_has("h1 is held by the run");
    }
    // What is over here is, whoever writes that it holds the host.
    says(&format!("{over} 1"));
    env.run(&["exec", "small.toml"]).ok();

    // By another way to the same host, which the locks here do not know to be the same: a run that is at work, and one that was killed.
    let wire = lab.host("h1").wire(Duration::ZERO);
    let port = |port: u16| format!("port = {port}\n");
    let alias = |text: String| {
        let text = text.replacen(&port(lab.host("h1").port()), &port(wire.address().port()), 1);
        text.replace(
            &format!("known_hosts = \"{}\"", lab.known_hosts().display()),
            &format!("host_key = \"{}\"", lab.host("h1").fingerprint()),
        )
    };
    let waits = "[[step]]\nid = \"waits\"\nuses = \"core/script\"\non = \"h1\"\nwith = { script = \"touch /srv/here; while [ ! -e /srv/go ]; do sleep 0.1; done\" }\n";
    env.write("waits.toml", runbook(&lab, "root", "", waits));
    env.write("alias.toml", alias(runbook(&lab, "root", "", &SMALL.replace("[\"h1\", \"h2\"]", "\"h1\""))));
    let running = env.start(&["exec", "waits.toml"]);
    wait_until("it is at work", SOON, || lab.host("h1").path("/srv/here").exists());
    let holder = run_of(&env);
    // A second process does not go on with it, nor does anybody take its lease.
    env.run(&["resume", &holder]).code(4).stderr_has("is at work");
    env.run(&["exec", "alias.toml"]).code(1).stderr_has("is at work on this controller");
    running.signal(Signal::KILL);
    drop(running.wait());
    env.run(&["exec", "alias.toml"]).code(1).stderr_has(&format!("`runbook resume {holder}` goes on with it"));
    lab.host("h1").machine().put("/srv/go", "", 0o644);
    env.run(&["resume", &holder]).ok();
    env.run(&["exec", "alias.toml"]).ok();
}

#[test]
fn a_drill_fails_where_it_is_told_to_and_says_so() {
    let (lab, env) = (lab(), TestEnv::new());
    env.write(
        "x.toml",
        runbook(&lab, "root", "", STEPS).replace("name = \"remote\"", "name = \"remote\"\non_failure = \"undo_step\""),
    );
    env.run(&["exec", "x.toml", "--drill-fail", "motd"]).code(1).stderr_has("a drill");
    assert_eq!(text(&lab, "h1", "/etc/motd"), "welcome\n");
    env.run(&["resume"]).ok();
    assert_eq!(text(&lab, "h1", "/etc/motd"), "recovered\n");
    let (lab, env) = (self::lab(), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", STEPS));
    env.run(&["exec", "x.toml", "--drill-unreachable", "h2"]).code(1).stderr_has("h2 does not answer (a drill)");
}

#[test]
fn a_run_is_replayed_without_its_hosts() {
    let (mut lab, env) = (lab(), TestEnv::new());
    env.write("x.toml", runbook(&lab, "root", "", STEPS));
    env.run(&["exec", "x.toml"]).ok();
    for host in ["h1", "h2"] {
        lab.host_mut(host).stop();
    }
    env.run(&["replay"]).ok().stdout_has("= count on h1").stdout_has("same: 10 attempts");
    let traced = env.run(&["replay", "--step", "conf", "--trace"]).ok();
    let traced =
        traced.stdout_has("write /srv/app/etc/conf on h2").stdout_has("files.write as root ${input.path}").stdout;
    assert!(!traced.contains("ledger"), "{traced}");
    env.run(&["replay", "--step", "nothing"]).code(2).stderr_has("nothing of a step `nothing` is recorded");
}
