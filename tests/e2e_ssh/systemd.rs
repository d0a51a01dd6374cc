//! A change of address on machines whose first process really is systemd, and which end what sessions leave behind: what takes it back is
//! systemd's own, so that neither the end of a session nor a reboot keeps it from doing so.

use std::time::Duration;

use runbook_tests::{Renderer, SshLab, TestEnv, wait_until};
use rustix::process::Signal;

use crate::static_ip::{AFTER, files, has, until_it_has, write};

/// Generous: what it bounds is a machine that never comes back.
const SOON: Duration = Duration::from_secs(240);

fn house(renderer: Renderer, with: &str) -> (SshLab, TestEnv) {
    let (lab, env) = (SshLab::start_on_lan_with_systemd(1, renderer), TestEnv::new());
    write(&lab, &env, &[1], with, AFTER);
    (lab, env)
}

/// What `systemctl` says on `h1`.
fn systemctl(lab: &SshLab, args: &[&str]) -> String {
    let out = lab.host("h1").run(&[&["systemctl", "--no-legend", "--plain"], args].concat());
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// The units that were made for a change on `h1`, with their states.
fn units(lab: &SshLab) -> String {
    systemctl(lab, &["list-units", "--all", "runbook-*"])
}

/// Nothing of it is left, in memory or on the disk.
fn assert_tidy(lab: &SshLab) {
    wait_until("its units are gone", SOON, || units(lab).is_empty());
    let left: Vec<_> = std::fs::read_dir(lab.host("h1").path("/etc/systemd/system"))
        .expect("it can be read")
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("runbook-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

fn confirmed(renderer: Renderer) {
    let (lab, env) = house(renderer, "with.mode = \"primary\"");
    assert_eq!(systemctl(&lab, &["show", "--property=Virtualization", "--value"]), "container-other");
    env.run(&["exec", "x.toml"]).ok();
    assert_eq!(has(&lab), [50]);
    assert!(lab.host("h1").path("/srv/after").exists());
    assert_tidy(&lab);
}

/// The controller dies as soon as the address has moved; nothing but the machine itself takes it back.
fn killed_in_the_window(renderer: Renderer) {
    let (lab, env) = house(renderer, "with.mode = \"primary\"\nwith.window = \"45s\"");
    let before = files(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || has(&lab).contains(&50));
    running.signal(Signal::KILL);
    drop(running);
    let units = units(&lab);
    assert!(units.contains("runbook-revert-") && units.contains(".timer"), "{units}");
    until_it_has(&lab, &[1]);
    wait_until("its files are as before", SOON, || files(&lab) == before);
    wait_until("it answers", SOON, || lab.host("h1").answers());
    assert_tidy(&lab);
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [50]);
    assert_tidy(&lab);
}

#[test]
fn by_networkd_it_is_confirmed() {
    confirmed(Renderer::Netplan);
}

#[test]
fn by_networkd_it_comes_back_when_nobody_confirms_it() {
    killed_in_the_window(Renderer::Netplan);
}

#[test]
fn by_networkmanager_it_is_confirmed() {
    confirmed(Renderer::NetworkManager);
}

#[test]
fn by_networkmanager_it_comes_back_when_nobody_confirms_it() {
    killed_in_the_window(Renderer::NetworkManager);
}

#[test]
fn a_reboot_in_the_window_takes_it_back() {
    let (mut lab, env) = house(Renderer::Netplan, "with.mode = \"primary\"\nwith.window = \"10m\"");
    let before = files(&lab);
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it moves", SOON, || has(&lab).contains(&50));
    running.signal(Signal::KILL);
    drop(running);
    // Its disk has the new address, and its timers are gone.
    lab.host_mut("h1").reboot();
    until_it_has(&lab, &[1]);
    wait_until("its files are as before", SOON, || files(&lab) == before);
    assert_tidy(&lab);
    env.run(&["resume"]).ok();
    assert_eq!(has(&lab), [50]);
}
