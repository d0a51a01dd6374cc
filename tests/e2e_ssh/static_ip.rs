//! `net/static-ip` on machines whose network is really made by netplan and systemd-networkd, or by NetworkManager, on a LAN where others
//! can have the address: it really goes, and comes.

use std::time::Duration;

use runbook_model::event::StepOutcome;
use runbook_tests::{LOGIN_FREE, Renderer, SshLab, TestEnv, wait_until};
use rustix::process::Signal;

use crate::support::ended;

/// Generous: what it bounds is a machine that never comes back.
const SOON: Duration = Duration::from_secs(240);
const OWN: &str = "/etc/netplan/90-runbook-eth0.yaml";
const GUARD: &str = "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg";

/// `h1` is at 1 and is to get the address that ends in 50; `h2` is its neighbour at 2. The inventory knows `h1` by `addresses`.
fn house(addresses: &[u8], with: &str, after: &str) -> (SshLab, TestEnv) {
    house_of(Renderer::Netplan, addresses, with, after)
}

fn house_of(renderer: Renderer, addresses: &[u8], with: &str, after: &str) -> (SshLab, TestEnv) {
    let (lab, env) = (SshLab::start_on_lan(2, renderer), TestEnv::new());
    write(&lab, &env, addresses, with, after);
    (lab, env)
}

pub(crate) fn write(lab: &SshLab, env: &TestEnv, addresses: &[u8], with: &str, after: &str) {
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
pub(crate) fn has(lab: &SshLab) -> Vec<u8> {
    let last = |address: &String| address.split(['.', '/']).nth(3).and_then(|last| last.parse().ok());
    let mut has: Vec<u8> = lab.lan().addresses(0).iter().filter_map(last).collect();
    has.sort_unstable();
    has
}

pub(crate) fn until_it_has(lab: &SshLab, wanted: &[u8]) {
    wait_until(&format!("h1 has {wanted:?}"), SOON, || has(lab) == wanted);
}

/// The name of the first run.
fn first_run(env: &TestEnv) -> String {
    let runs = std::fs::read_dir(env.xdg().join("state/runbook/runs")).expect("a run was begun");
    let names = runs.map(|run| run.expect("it can be read").file_name().to_string_lossy().into_owned());
    names.min().expect("a run was begun")
}

/// The files of netplan on `h1`.
pub(crate) fn files(lab: &SshLab) -> Vec<(String, String)> {
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

/// A step that shows where the run goes on.
pub(crate) const AFTER: &str = "\n[[step]]\nid = \"after\"\nuses = \"core/file\"\non = \"h1\"\nwith = { path = \"/srv/after\", content = \"here\" }\n";

#[test]
fn an_additional_address_is_taken_stays_and_goes_with_an_undo() {
    let (lab, env) = house(&[1], "", AFTER);
    lab.host("h1").machine().put("/etc/cloud/cloud.cfg", "datasource_list: [ NoCloud ]\n", 0o644);
    let wifi = "network:\n  version: 2\n  wifis:\n    wlan0:\n      access-points:\n        home:\n          password: \"open sesame\"\n";
    lab.host("h1").machine().put("/etc/netplan/60-wifi.yaml", wifi, 0o600);
    let before = files(&lab);
    env.run(&["plan", "x.toml"]).ok().stdout_has("besides");
    assert_eq!((has(&lab), files(&lab)), (vec![1], before.clone()));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
    let mode = lab.host("h1").run(&["stat", "-c", "%a %U", OWN]);
    assert_eq!(String::from_utf8_lossy(&mode.stdout), "600 root\n");
    let guard = std::fs::read_to_string(lab.host("h1").path(GUARD)).expect("cloud-init is kept from the network");
    assert_eq!(guard, "network: {config: disabled}\n");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 0 changed, 2 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
    env.run(&["undo", &first_run(&env)]).ok();
    until_it_has(&lab, &[1]);
    assert_eq!(files(&lab), before);
    assert!(!lab.host("h1").path(GUARD).exists());
    // What else stands in the files is nobody's business.
    let journal = std::fs::read_to_string(env.last_run().join("journal.jsonl")).expect("a run has a journal");
    assert!(journal.contains("60-wifi.yaml") && !journal.contains("sesame"), "{journal}");
}

#[test]
fn a_user_who_may_become_root_is_enough() {
    let (lab, env) = house(&[1], "", "");
    let text = std::fs::read_to_string(env.work().join("x.toml")).expect("it was written");
    env.write("x.toml", text.replace("user = \"root\"", &format!("user = \"{LOGIN_FREE}\"\nbecome = \"sudo\"")));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
    env.run(&["undo"]).ok();
    until_it_has(&lab, &[1]);
}

#[test]
fn a_primary_address_moves_the_machine_and_the_run_goes_on_there() {
    // The inventory knows the former address alone.
    let (lab, env) = house(&[1], "with.mode = \"primary\"", AFTER);
    let before = files(&lab);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [50]);
    assert!(lab.host("h1").path("/srv/after").exists());
    let route = lab.host("h1").run(&["ip", "route", "show", "default"]);
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    assert!(route.contains(&format!("via {}", lab.lan().at(254))), "{route}");
    let theirs = &files(&lab)[0];
    assert!(theirs.0 == "01-lan.yaml" && !theirs.1.contains(&lab.lan().at(1).to_string()), "{theirs:?}");
    // What comes later knows from the journal where the machine is.
    env.run(&["undo"]).ok();
    until_it_has(&lab, &[1]);
    assert_eq!(files(&lab), before);
    assert!(!lab.host("h1").path("/srv/after").exists());
}

#[test]
fn a_primary_address_is_found_again_by_an_inventory_that_knows_it() {
    let (lab, env) = house(&[50, 1], "with.mode = \"primary\"", "");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [50]);
}

#[test]
fn an_address_that_another_machine_has_is_refused_with_its_mac() {
    let (lab, env) = house(&[1], "", AFTER);
    let before = files(&lab);
    // The machine that failed has come back, or never went.
    let taken = lab.host("h2").run(&["ip", "addr", "add", &format!("{}/24", lab.lan().at(50)), "dev", "eth0"]);
    assert!(taken.status.success(), "{taken:?}");
    env.run(&["exec", "x.toml"])
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed")
        .stderr_has(&lab.lan().mac(1))
        .stderr_has("taken");
    assert_eq!((has(&lab), files(&lab)), (vec![1], before));
    // Once it is off, the same run goes on.
    let gone = lab.host("h2").run(&["ip", "addr", "flush", "dev", "eth0"]);
    assert!(gone.status.success(), "{gone:?}");
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [1, 50]);
}

#[test]
fn the_address_of_a_machine_that_failed_leads_to_the_one_that_took_it() {
    let (lab, env) = house(&[1], "", "");
    let (lan, failed) = (lab.lan(), lab.lan().at(2));
    let text = std::fs::read_to_string(env.work().join("x.toml")).expect("it was written");
    env.write("x.toml", text.replace(&lan.at(50).to_string(), &failed.to_string()));
    assert!(lab.host("h2").answers());
    assert_eq!(lan.neighbour(failed), lan.mac(1), "whom this computer believes to be there");
    lan.cable(1, false);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    // Nobody asked since: it was told.
    assert_eq!(lan.neighbour(failed), lan.mac(0));
    assert!(lab.host("h2").answers(), "another machine answers at its address");
}

#[test]
fn nothing_is_concluded_from_questions_that_could_not_be_asked() {
    let (lab, env) = house(&[1], "", "");
    // Who writes `Sent 0 probes`: an arping on an interface without a carrier. The exit code says that all is well.
    let standin = "#!/bin/sh\n[ \"$1\" != -V ] || exec /usr/bin/arping -V\nprintf 'Sent 0 probes (0 broadcast(s))\\nReceived 0 response(s)\\n'\n";
    lab.host("h1").machine().put("/usr/local/sbin/arping", standin, 0o755);
    env.run(&["exec", "x.toml"]).code(1).stderr_has("nobody can tell");
    lab.host("h1").machine().put("/usr/local/sbin/arping", "#!/bin/sh\necho 'ARPing 2.23, by Thomas Habets'\n", 0o755);
    env.run(&["exec", "--abandon", "x.toml"]).code(1).stderr_has("iputils");
    assert_eq!(has(&lab), [1]);
}

#[test]
fn a_machine_that_cannot_be_reached_afterwards_takes_it_back() {
    // In a network that nobody else is in, and whose gateway is not there.
    let elsewhere = "with.mode = \"primary\"\nwith.window = \"20s\"\nwith.gateway = \"203.0.113.1\"";
    let (lab, env) = house(&[1], elsewhere, AFTER);
    let text = std::fs::read_to_string(env.work().join("x.toml")).expect("it was written");
    env.write("x.toml", text.replace(&format!("{}/24", lab.lan().at(50)), "203.0.113.50/24"));
    let before = files(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || lab.lan().addresses(0) == ["203.0.113.50/24"]);
    running
        .wait()
        .code(1)
        .last_line("failed: 2 steps, 0 changed, 0 unchanged, 1 skipped, 1 failed")
        .stderr_has("nobody could reach h1 in time")
        .stderr_has("took it back");
    assert_eq!((has(&lab), files(&lab)), (vec![1], before));
    assert!(lab.host("h1").answers() && !lab.host("h1").path("/srv/after").exists());
    let (outcome, reason) = ended(&env.journal(), "take", "h1");
    assert_eq!(outcome, StepOutcome::Failed, "{reason}");
}

#[test]
fn a_netplan_that_fails_half_way_is_taken_back_at_once() {
    let (lab, env) = house(&[1], "with.window = \"150s\"", "");
    let before = files(&lab);
    // It fails where our own file is there, and only then: it can be taken back.
    let broken = format!(
        "#!/bin/sh\n[ \"$1\" != apply ] || [ ! -e {OWN} ] || {{ rm -rf /run/systemd/system; echo no luck >&2; exit 1; }}\nexec /usr/sbin/netplan \"$@\"\n"
    );
    lab.host("h1").machine().put("/usr/local/sbin/netplan", broken, 0o755);
    env.run(&["exec", "x.toml"]).code(1).stderr_has("no luck").stderr_has("took it back");
    assert_eq!((has(&lab), files(&lab)), (vec![1], before));
}

#[test]
fn a_controller_that_dies_in_the_window_leaves_a_machine_that_takes_it_back() {
    let (lab, env) = house(&[1], "with.mode = \"primary\"\nwith.window = \"60s\"", AFTER);
    let before = files(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || has(&lab).contains(&50));
    running.signal(Signal::KILL);
    drop(running);
    until_it_has(&lab, &[1]);
    wait_until("its files are as before", SOON, || files(&lab) == before);
    assert!(lab.host("h1").answers());
    // By somebody else's hand, the address is taken meanwhile: what was heard before the crash is not believed.
    let taken = lab.host("h2").run(&["ip", "addr", "add", &format!("{}/24", lab.lan().at(50)), "dev", "eth0"]);
    assert!(taken.status.success(), "{taken:?}");
    env.run(&["resume"]).code(1).stderr_has("somebody has");
    assert_eq!((has(&lab), files(&lab)), (vec![1], before));
    let gone = lab.host("h2").run(&["ip", "addr", "flush", "dev", "eth0"]);
    assert!(gone.status.success(), "{gone:?}");
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [50]);
    assert!(lab.host("h1").path("/srv/after").exists());
}

#[test]
fn a_controller_that_dies_before_or_after_the_change_goes_on_with_it() {
    for (kill, moved) in [("take", vec![1]), ("take:after", vec![50])] {
        let (lab, env) = house(&[1], "with.mode = \"primary\"", AFTER);
        let out = env.run(&["exec", "--drill-kill", kill, "x.toml"]);
        assert_eq!(out.signal, Some(9), "{out}");
        assert_eq!(has(&lab), moved, "{kill}");
        env.run(&["resume"]).ok();
        assert_eq!(has(&lab), [50], "{kill}");
        assert!(lab.host("h1").path("/srv/after").exists());
    }
}

#[test]
fn a_primary_address_ends_a_lease_and_what_takes_it_back_asks_for_one_again() {
    let (lab, env) = house_of(Renderer::Dhcp, &[1], "with.mode = \"primary\"\nwith.window = \"60s\"", AFTER);
    let before = files(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || has(&lab) == [50]);
    running.signal(Signal::KILL);
    drop(running);
    until_it_has(&lab, &[1]);
    wait_until("its files are as before", SOON, || files(&lab) == before);
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [50]);
    let now = files(&lab);
    assert_eq!((&now[0], now.len()), (&before[0], 2), "cloud-init's own file stays as it is");
    assert!(now[1].1.contains("dhcp4: false"), "{}", now[1].1);
    env.run(&["undo"]).ok();
    until_it_has(&lab, &[1]);
    assert_eq!(files(&lab), before);
}

/// What the profile of NetworkManager says: method, addresses, gateway, name servers.
fn profile(lab: &SshLab) -> String {
    let fields = "ipv4.method,ipv4.addresses,ipv4.gateway,ipv4.dns";
    let said = lab.host("h1").run(&["nmcli", "-g", fields, "con", "show", "lan"]);
    assert!(said.status.success(), "{said:?}");
    String::from_utf8_lossy(&said.stdout).trim_end().replace('\n', " ")
}

#[test]
fn a_profile_of_networkmanager_gets_one_more_address_and_loses_it_by_an_undo() {
    let (lab, env) = house_of(Renderer::NetworkManager, &[1], "", AFTER);
    let before = profile(&lab);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(has(&lab), [1, 50]);
    assert!(profile(&lab).contains(&format!("{}/24", lab.lan().at(50))), "{}", profile(&lab));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 2 steps, 0 changed, 2 unchanged, 0 skipped, 0 failed");
    env.run(&["undo", &first_run(&env)]).ok();
    until_it_has(&lab, &[1]);
    assert_eq!(profile(&lab), before);
}

#[test]
fn a_primary_address_by_networkmanager_moves_the_machine_or_is_taken_back() {
    let (lab, env) = house_of(Renderer::NetworkManager, &[1], "with.mode = \"primary\"\nwith.window = \"60s\"", AFTER);
    let before = profile(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || has(&lab) == [50]);
    running.signal(Signal::KILL);
    drop(running);
    until_it_has(&lab, &[1]);
    wait_until("its profile is as before", SOON, || profile(&lab) == before);
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [50]);
    let lan = lab.lan();
    assert_eq!(profile(&lab), format!("manual {}/24 {} 198.51.100.53", lan.at(50), lan.at(254)));
    env.run(&["undo"]).ok();
    until_it_has(&lab, &[1]);
    assert_eq!(profile(&lab), before);
}
