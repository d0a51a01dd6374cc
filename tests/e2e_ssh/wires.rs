//! Wires that break while a run changes something that must be changed once: wherever that happens, the run comes to the same end, by
//! itself or by `resume`, and no command was carried out twice.
//!
//! | fault                           | exec                                      | then, with each command once                      | where |
//! |---------------------------------|-------------------------------------------|---------------------------------------------------|-------|
//! | reset, anywhere                 | succeeds, or stops with 1                 | `resume` comes to the end                         | here  |
//! | half open, from anywhere        | the same, once keepalives had no answer   | the same, while the old session still is there    | here  |
//! | a host that is far away         | succeeds                                  |                                                   | here  |
//! | any of them, in the goodbye     | succeeds                                  | the next run takes over what was not given back   | here  |
//! | host stopped or frozen          | stops with 1                              |                                                   | `broken` |
//! | journal's disk full             | stops with 7 before the next change       | `resume`: 7 while it is full, then the end        | `e2e_local/disks` |
//! | API server: 429, 5xx, 410, cut  | succeeds, or stops with 1                 | `resume` comes to the end                         | `e2e_kube/mishaps` |

use std::time::Duration;

use runbook_tests::{Fault, SshHost, SshLab, TestEnv, Traffic, Way, Wire, every_cut};

use crate::support::{runbook, text};

/// Three commands that must be run once, and whose answers come in several pieces; a file between them.
const STEPS: &str = r#"
[[step]]
id = "first"
uses = "core/script"
on = "h1"
with = { script = "echo begun; echo first >> /srv/ledger; sleep 0.2; echo ended" }

[[step]]
id = "conf"
uses = "core/file"
on = "h1"
with = { path = "/srv/conf", content = "x = 1\n" }

[[step]]
id = "second"
uses = "core/script"
on = "h1"
with = { script = "sleep 0.2; echo second >> /srv/ledger; wc -l < /srv/ledger" }

[[step]]
id = "third"
uses = "core/command"
on = "h1"
with = { argv = ["sh", "-c", "echo third >> /srv/ledger"] }
"#;

const LEDGER: &str = "first\nsecond\nthird\n";

/// A host, a wire to it, and a runbook that goes over that.
struct House {
    lab: SshLab,
    env: TestEnv,
    wire: Wire,
}

impl House {
    fn new(round_trip: Duration) -> Self {
        let (lab, env) = (SshLab::start(1), TestEnv::new());
        let host = lab.host("h1");
        let wire = host.wire(round_trip);
        // Else a connection counts as lost after a minute.
        env.write("../home/.ssh/config", "Host *\n  ServerAliveInterval 1\n");
        for (name, steps) in [("x.toml", STEPS), ("next.toml", NEXT)] {
            env.write(name, over(host, &wire, &lab, steps));
        }
        Self { lab, env, wire }
    }

    /// Runs it, and goes on as often as it takes. Gives how often that was.
    fn comes_to_its_end(&self, what: &str) -> usize {
        let mut out = self.env.run(&["exec", "x.toml"]);
        for resumed in 0..5 {
            if out.code == Some(0) {
                assert_eq!(text(&self.lab, "h1", "/srv/ledger"), LEDGER, "{what}, resumed {resumed} times: {out}");
                assert_eq!(text(&self.lab, "h1", "/srv/conf"), "x = 1\n", "{what}: {out}");
                return resumed;
            }
            assert_eq!(out.code, Some(1), "{what}, resumed {resumed} times: {out}");
            out = self.env.run(&["resume"]);
        }
        panic!("{what}: it comes to no end: {out}");
    }
}

/// What comes after it.
const NEXT: &str =
    "[[step]]\nid = \"next\"\nuses = \"core/file\"\non = \"h1\"\nwith = { path = \"/srv/next\", content = \"x\" }\n";

/// A runbook for the host, over a wire.
fn over(host: &SshHost, wire: &Wire, lab: &SshLab, steps: &str) -> String {
    let known = format!("known_hosts = \"{}\"", lab.known_hosts().display());
    let text = runbook(lab, "root", "", steps);
    let text = text.replace(&format!("port = {}\n", host.port()), &format!("port = {}\n", wire.address().port()));
    text.replace(&known, &format!("host_key = \"{}\"", host.fingerprint()))
}

/// What goes over the wire of a run that nothing happens to.
fn undisturbed() -> Traffic {
    let house = House::new(Duration::ZERO);
    assert_eq!(house.comes_to_its_end("undisturbed"), 0);
    house.wire.traffic()
}

fn breaks(fault: Fault, points: usize) {
    let all = undisturbed();
    let points = if every_cut() { 16 * points } else { points };
    let mut went_on = 0;
    for (way, bytes) in [(Way::ToServer, all.sent), (Way::ToClient, all.received)] {
        for point in 0..points {
            // Where all are tried, not always the same ones; and never the very last bytes: by then nobody listens any more.
            let shift = if every_cut() { std::process::id() as usize % (bytes / points) } else { 0 };
            let after = (bytes / points * point + shift).clamp(1, bytes * 9 / 10);
            let what = format!("{fault:?} {way:?} after {after} of {bytes} bytes");
            let house = House::new(Duration::ZERO);
            house.wire.break_after(after, way, fault);
            let resumed = house.comes_to_its_end(&what);
            went_on += resumed;
            assert!(house.wire.broke(), "{what}: it did not come to that");
            house.env.run(&["exec", "next.toml"]).ok();
            assert!(!house.lab.host("h1").path("/var/lib/runbook").exists(), "{what}: something was left behind");
        }
    }
    assert!(went_on > 0, "no run was cut off");
}

#[test]
fn a_connection_that_is_reset_anywhere() {
    breaks(Fault::Reset, 6);
}

#[test]
fn a_connection_that_is_half_open_from_anywhere() {
    breaks(Fault::Silence, 2);
}

#[test]
fn a_host_that_is_far_away() {
    assert_eq!(House::new(Duration::from_millis(700)).comes_to_its_end("slow"), 0);
}
