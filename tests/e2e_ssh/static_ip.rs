//! `net/static-ip` on machines whose network is really made by netplan and systemd-networkd, on a LAN where others can have the
//! address: it really goes, and comes.

use std::time::Duration;

use runbook_model::event::StepOutcome;
use runbook_tests::{SshLab, TestEnv, wait_until};

use crate::support::{ended, journal};

/// Generous: what it bounds is a machine that never comes back.
const SOON: Duration = Duration::from_secs(90);
const OWN: &str = "/etc/netplan/90-runbook-eth0.yaml";

/// `h1` is at 1 and is to get the address that ends in 50; `h2` is its neighbour at 2. The inventory knows `h1` by `addresses`.
fn house(addresses: &[u8], with: &str, after: &str) -> (SshLab, TestEnv) {
    let (lab, env) = (SshLab::start_on_lan(2), TestEnv::new());
    write(&lab, &env, addresses, with, after);
    (lab, env)
}

fn write(lab: &SshLab, env: &TestEnv, addresses: &[u8], with: &str, after: &str) {
    let addresses: Vec<String> = addresses.iter().map(|last| lab.lan().at(*last).to_string()).collect();
    let text = format!(
        "schema = 1\nname = \"takeover\"\n\n[hosts.h1]\naddresses = {addresses:?}\nuser = \"root\"\nidentity_file = {:?}\nhost_key = \"{}\"\n\n\
         [[step]]\nid = \"take\"\nuses = \"net/static-ip\"\non = \"h1\"\nwith.address = \"{}/24\"\n{with}\n{after}",
        lab.identity(),
        lab.host("h1").fingerprint(),
        lab.lan().at(50),
    );
    env.write("x.toml", text);
}

/// The last parts of the addresses that `h1` has now.
fn has(lab: &SshLab) -> Vec<u8> {
    let last = |address: &String| address.split(['.', '/']).nth(3).and_then(|last| last.parse().ok());
    let mut has: Vec<u8> = lab.lan().addresses(0).iter().filter_map(last).collect();
    has.sort_unstable();
    has
}

fn until_it_has(lab: &SshLab, wanted: &[u8]) {
    wait_until(&format!("h1 has {wanted:?}"), SOON, || has(lab) == wanted);
}

/// The files of netplan on `h1`.
fn files(lab: &SshLab) -> Vec<(String, String)> {
    let folder = lab.host("h1").path("/etc/netplan");
    let entries = std::fs::read_dir(&folder).expect("the machine is on").map(|entry| entry.expect("it can be read"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("it can be read");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn an_additional_address_is_taken_and_a_second_run_changes_nothing() {
    let (lab, env) = house(&[1], "", "");
    env.run(&["plan", "x.toml"]).ok().stdout_has("besides");
    assert_eq!(has(&lab), [1]);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
    let mode = lab.host("h1").run(&["stat", "-c", "%a %U", OWN]);
    assert_eq!(String::from_utf8_lossy(&mode.stdout), "600 root\n");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
}
