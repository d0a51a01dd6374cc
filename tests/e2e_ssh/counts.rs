//! What a run costs on the wire and on the disk, counted: round trips, connections, sessions, bytes, syncs. Never seconds. And that
//! what is looked at ahead of its time, which saves most of them, is not believed after a change.

use std::process::Command;
use std::time::Duration;

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{Outcome, SshHost, SshLab, TestEnv, Traffic, Tree, Wire, tests_dir};

use crate::support::{ended, runbook, text};

/// Far enough that what can go together does, however busy this computer is.
const ROUND_TRIP: Duration = Duration::from_millis(20);

const APPLIED: &str = "succeeded: 20 steps, 19 changed, 1 unchanged, 0 skipped, 0 failed";
const UNCHANGED: &str = "succeeded: 20 steps, 0 changed, 19 unchanged, 1 skipped, 0 failed";

/// The benchmark's W20 for the host h1, below /srv/w20: 20 steps of all kinds, each after the one before it.
struct W20 {
    lab: SshLab,
    env: TestEnv,
}

impl W20 {
    fn new() -> Self {
        let (lab, env) = (SshLab::start(1), TestEnv::new());
        let w20 = std::fs::read_to_string(tests_dir().join("bench/w20.toml")).expect("the benchmark has a runbook");
        env.write("w20.toml", w20);
        for n in 1..=6 {
            let lines: String = (0..n * 40)
                .map(|i| format!("queue_{n}_{i} = {i} on {{{{ host_name }}}}:{{{{ app_port }}}}\n"))
                .collect();
            env.write(&format!("files/t{n}.conf.j2"), format!("env = {{{{ env }}}} of {{{{ host_idx }}}}\n{lines}"));
        }
        env.write("files/payload.bin", payload());
        let machine = lab.host("h1").machine();
        machine.put("/srv/w20/etc/app.conf", "Option1 value1\nMaxConnections 100\n", 0o644);
        machine.put("/srv/w20/etc/hosts", "127.0.0.1 localhost\n", 0o644);
        machine.put("/srv/w20/etc/profile", "# /etc/profile\n", 0o644);
        let hosts = inventory(&lab);
        env.write("hosts.toml", hosts);
        Self { lab, env }
    }

    fn host(&self) -> &SshHost {
        self.lab.host("h1")
    }

    /// The host is as far away as the wire is long.
    fn behind(&self, wire: &Wire) {
        let near = format!("port = {}\n", self.host().port());
        self.env
            .write("hosts.toml", inventory(&self.lab).replace(&near, &format!("port = {}\n", wire.address().port())));
    }

    fn assert_converged(&self) {
        let read = |path: &str| text(&self.lab, "h1", &format!("/srv/w20/{path}"));
        assert!(read("app/conf/t6.conf").starts_with("env = prod of 1\nqueue_6_0 = 0 on h1:8443\n"));
        assert_eq!(read("etc/app.conf"), "Option1 value1\nMaxConnections 512\n");
        assert_eq!(read("etc/hosts"), "127.0.0.1 localhost\n10.0.0.7 db01.internal\n");
        assert!(read("etc/profile").contains("export APP_PORT=8443\nexport APP_ENV=prod\n"));
        assert_eq!(read("app/data/svc.state"), "running\n");
        assert_eq!(read("app/current/generated.txt"), read("app/conf/t1.conf").to_uppercase());
        let sent = std::fs::read(self.host().path("/srv/w20/app/data/payload.bin")).expect("the payload is there");
        assert!(sent == payload(), "the payload came over as it was");
    }
}

fn inventory(lab: &SshLab) -> String {
    let pin = lab.host("h1").fingerprint();
    lab.inventory(
        "root",
        &format!("host_key = \"{pin}\"\nlabels = [\"w20\"]\nvars = {{ root = \"/srv/w20\", index = 1 }}"),
    )
}

/// 1 MiB that cannot be compressed away.
fn payload() -> Vec<u8> {
    (0_u32..1 << 20).map(|i| i.wrapping_mul(2_654_435_761).rotate_left(11).to_be_bytes()[1]).collect()
}

/// What sshd and the wire counted for one run.
#[derive(Debug)]
struct Cost {
    logins: usize,
    sessions: usize,
    wire: Traffic,
}

fn cost(w20: &W20, wire: &Wire, summary: &str) -> Cost {
    let host = w20.host();
    let (logins, sessions) = (host.logins(), host.sessions());
    w20.env.run(&["exec", "w20.toml"]).ok().last_line(summary);
    // First the wire: when all has ended, sshd has written all.
    let wire = wire.traffic();
    Cost { wire, logins: host.logins() - logins, sessions: host.sessions() - sessions }
}

#[test]
fn twenty_steps_take_one_login_few_round_trips_and_no_content_that_is_there() {
    let w20 = W20::new();
    let wire = w20.host().wire(ROUND_TRIP);
    w20.behind(&wire);

    let first = cost(&w20, &wire, APPLIED);
    w20.assert_converged();
    assert!((first.wire.connections, first.logins) == (1, 1) && first.sessions <= 2, "{first:?}");
    // A step looks, changes and looks again. The rest: the shell's start, and what the payload waits for.
    assert!(first.wire.round_trips <= 3 * 20 + 5, "{first:?}");
    let size = payload().len();
    assert!((size..size + (512 << 10)).contains(&first.wire.sent), "the payload goes over once: {first:?}");

    let settled = Tree::of(w20.host().path("/srv/w20"));
    // A look that a busy computer keeps from ending within the host's patience gets a shell of its own: then it is done once more.
    let mut seconds = (0..4).map(|_| cost(&w20, &wire, UNCHANGED)).inspect(|second| {
        settled.assert_untouched();
        assert!((second.wire.connections, second.logins) == (1, 1) && second.sessions <= 2, "{second:?}");
    });
    let second = seconds.find(|second| second.sessions == 1).expect("one shell is enough for looks that are short");
    assert!(second.wire.round_trips <= 8, "{second:?}");
    assert!(second.wire.sent < 100 << 10, "an unchanged file costs a digest: {second:?}");
    assert!(second.wire.received < 100 << 10, "an unchanged file costs a digest: {second:?}");
}

/// Runs `runbook ARGS` and counts how often it had something put on the disk.
fn syncs(env: &TestEnv, args: &[&str], summary: &str) -> usize {
    let (ours, log) = (env.command(args), env.dir().join("syncs"));
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync,syncfs", "-e", "signal=none", "-o"]).arg(&log);
    traced.arg(ours.get_program()).args(ours.get_args()).current_dir(env.work());
    traced.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Outcome::of(&mut traced).ok().last_line(summary);
    let log = std::fs::read_to_string(&log).expect("strace wrote a log");
    // "812 fdatasync(9) = 0", or in two lines: "812 fdatasync(9 <unfinished ...>" and "812 <... fdatasync resumed>) = 0".
    log.lines().filter(|line| line.contains("sync(") || line.contains("syncfs(")).count()
}

#[test]
fn the_journal_waits_for_the_disk_once_for_each_change() {
    let w20 = W20::new();
    let first = syncs(&w20.env, &["exec", "w20.toml"], APPLIED);
    w20.assert_converged();
    let intended = w20.env.journal().iter().filter(|r| matches!(r.event, Event::Intended { .. })).count();
    assert!(intended >= 19, "each change is in the journal before it is made: {intended}");
    // The first and the last event; the runbook beside the journal, and the way to both; once for this installation, its key.
    const START: usize = 5;
    const KEY: usize = 2;
    assert!((intended..=intended + START + KEY).contains(&first), "{first} times for {intended} changes");

    let second = syncs(&w20.env, &["exec", "w20.toml"], UNCHANGED);
    assert_eq!(second, START, "{}", w20.env.last_run().display());
}

/// `slow` gives the engine time to look ahead at all others; each of these then meets something else than was there.
const STALE: &str = r#"
[[step]]
id = "slow"
uses = "core/command"
on = "h1"
with.argv = ["false"]
with.unless = ["sleep", "1"]

[[step]]
id = "make"
uses = "core/script"
on = "h1"
with.script = """
echo fresh > /srv/same
echo level=1 > /srv/edited
echo here > /srv/flag
rm /srv/old
echo running > /srv/state
"""

[[step]]
id = "watched"
uses = "core/command"
on = "h1"
with.argv = ["touch", "/srv/wrong"]
with.unless = ["sh", "-c", "if test -e /srv/flag; then echo after >> /srv/looks; else echo before >> /srv/looks; false; fi"]

[[step]]
id = "same"
uses = "core/file"
on = "h1"
with = { path = "/srv/same", content = "fresh\n" }

[[step]]
id = "edited"
uses = "core/line"
on = "h1"
with = { path = "/srv/edited", match = "^level", line = "level=2" }

[[step]]
id = "guarded"
uses = "core/command"
on = "h1"
with = { argv = ["touch", "/srv/wrong"], creates = "/srv/flag" }

[[step]]
id = "again"
uses = "core/script"
on = "h1"
with = { script = "echo more > /srv/old", creates = "/srv/old" }

[[step]]
id = "state"
uses = "core/command"
on = "h1"
with = { argv = ["cat", "/srv/state"], changed_when = "never" }

[[step]]
id = "start"
uses = "core/command"
on = "h1"
when = "steps.state.outputs.stdout != 'running'"
with = { argv = ["touch", "/srv/wrong"] }
"#;

#[test]
fn what_was_seen_before_a_change_is_not_believed_after_it() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    let machine = lab.host("h1").machine();
    machine.put("/srv/old", "less\n", 0o644);
    machine.put("/srv/state", "stopped\n", 0o644);
    env.write("x.toml", runbook(&lab, "root", "", STALE));

    let out = env.run(&["exec", "x.toml"]).ok();
    let records = env.journal();
    let outcomes = ["slow", "make", "watched", "same", "edited", "guarded", "again", "state", "start"]
        .map(|step| (step, ended(&records, step, "h1").0));
    use StepOutcome::{Changed, Skipped, Unchanged};
    let expected = [
        ("slow", Unchanged),
        ("make", Changed),
        ("watched", Unchanged),
        ("same", Unchanged),
        ("edited", Changed),
        ("guarded", Unchanged),
        ("again", Changed),
        ("state", Unchanged),
        ("start", Skipped),
    ];
    assert_eq!(outcomes, expected, "{out}");
    assert_eq!(text(&lab, "h1", "/srv/edited"), "level=2\n");
    assert_eq!(text(&lab, "h1", "/srv/old"), "more\n");
    assert!(!lab.host("h1").path("/srv/wrong").exists());
    // Else this test has shown nothing: it was looked at ahead, and then once more.
    let looks = text(&lab, "h1", "/srv/looks");
    assert!(looks.starts_with("before\n") && looks.ends_with("after\n"), "{looks}");
}

/// A change, and one who has to see it.
const PAIR: &str = r#"
[[step]]
id = "set_N"
uses = "core/script"
on = "h1"
with.script = "echo N > /srv/n"
GUARD

[[step]]
id = "see_N"
uses = "core/script"
on = "h1"
with = { script = "touch /srv/wrong", unless = "test $(cat /srv/n) = N" }
"#;

#[test]
fn what_is_looked_at_while_it_changes_is_not_believed_either() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    lab.host("h1").machine().put("/srv/n", "0\n", 0o644);
    // Some changes leave at once, others after a look that takes a while.
    let pair = |n: usize| {
        let guard = if n.is_multiple_of(3) { "" } else { "with.unless = \"sleep 0.05; test $(cat /srv/n) = N\"" };
        PAIR.replace("GUARD", guard).replace('N', &n.to_string())
    };
    env.write("x.toml", runbook(&lab, "root", "", &(1..=12).map(pair).collect::<String>()));
    let out = env.run(&["exec", "x.toml"]).ok();
    let records = env.journal();
    for n in 1..=12 {
        assert_eq!(ended(&records, &format!("set_{n}"), "h1").0, StepOutcome::Changed, "{n}: {out}");
        assert_eq!(ended(&records, &format!("see_{n}"), "h1").0, StepOutcome::Unchanged, "{n}: {out}");
    }
    assert!(!lab.host("h1").path("/srv/wrong").exists());
}
