//! The SSH lab, with OpenSSH's own client.

use std::process::Command;

use runbook_tests::{LOGIN_FREE, LOGIN_PASSWORD, LOGIN_PLAIN, Outcome, PASSWORD, SshLab, Tree};

fn ssh(lab: &SshLab, host: &str, command: &str) -> Outcome {
    Outcome::of(Command::new("ssh").arg("-F").arg(lab.ssh_config()).args(["-o", "ConnectTimeout=5", host, command]))
}

#[test]
fn hosts_have_file_systems_of_their_own_and_count_what_comes() {
    let mut lab = SshLab::start(2);
    ssh(&lab, "h1", "echo one > /etc/runbook-lab-probe; echo two > $HOSTROOT/x; echo $HOME")
        .ok()
        .stdout_has("root/home");
    assert!(!std::path::Path::new("/etc/runbook-lab-probe").exists(), "a change of a host is not one of this computer");
    assert_eq!(std::fs::read_to_string(lab.host("h1").path("/etc/runbook-lab-probe")).ok().as_deref(), Some("one\n"));
    assert!(!lab.host("h2").path("/etc/runbook-lab-probe").exists());
    assert_eq!(std::fs::read_to_string(lab.host("h1").root().join("x")).ok().as_deref(), Some("two\n"));
    assert!(lab.host("h1").changes().paths().any(|p| p.ends_with("etc/runbook-lab-probe")));
    let h1 = lab.host("h1");
    assert_eq!((h1.connections(), h1.logins(), h1.sessions()), (1, 1, 1));
    assert_eq!(lab.host("h2").connections(), 0);

    let boot = ssh(&lab, "h1", "cat /proc/sys/kernel/random/boot_id").ok().stdout;
    lab.host_mut("h1").reboot();
    let after = ssh(&lab, "h1", "cat /proc/sys/kernel/random/boot_id; cat /etc/runbook-lab-probe")
        .ok()
        .stdout_has("one")
        .stdout;
    assert!(!after.contains(boot.trim()), "a reboot changes the boot id");
}

#[test]
fn a_look_changes_nothing() {
    let lab = SshLab::start(1);
    let (layer, root) = (lab.host("h1").changes(), Tree::of(lab.host("h1").root()));
    ssh(&lab, "h1", "cat /etc/passwd > /dev/null; ls -la / > /dev/null").ok();
    assert_eq!(layer.differences(&lab.host("h1").changes()), Vec::<String>::new());
    root.assert_untouched();
}

#[test]
fn users_have_the_rights_that_they_should() {
    let lab = SshLab::start(1);
    let sudo = |user: &str, line: &str| ssh(&lab, &format!("{user}@h1"), line);
    sudo(LOGIN_FREE, "sudo -n sh -c 'id -u; echo $HOSTROOT'").ok().stdout_has("0\n").stdout_has("/root");
    sudo(LOGIN_PASSWORD, "sudo -n id").code(1).stderr_has("a password is required");
    let typed = format!("echo '{}' | sudo -S -p '' id -u", PASSWORD.replace('\'', r"'\''"));
    sudo(LOGIN_PASSWORD, &typed).ok().stdout_has("0\n");
    sudo(LOGIN_PASSWORD, "echo wrong | sudo -S -p '' id -u").code(1);
    sudo(LOGIN_PLAIN, &typed).code(1).stderr_has("not in the sudoers file");
    sudo(LOGIN_PLAIN, "id -un; pwd").ok().stdout_has("rbplain\n/home/rbplain\n");
    assert!(
        !std::fs::read_to_string("/etc/passwd").unwrap_or_default().contains(LOGIN_PLAIN),
        "the users are the machine's alone"
    );
}

#[test]
fn a_changed_key_a_stop_and_a_hang_look_as_they_do_in_life() {
    let mut lab = SshLab::start(2);
    lab.host_mut("h1").stop();
    assert!(!lab.host("h1").answers());
    ssh(&lab, "h1", "true").code(255).stderr_has("Connection refused");
    lab.host("h1").new_host_key();
    lab.host_mut("h1").start();
    ssh(&lab, "h1", "true").code(255).stderr_has("REMOTE HOST IDENTIFICATION HAS CHANGED");
    assert!(lab.host("h1").fingerprint().starts_with("SHA256:"));

    lab.host("h2").freeze();
    // The kernel accepts, and nobody answers.
    ssh(&lab, "h2", "true").code(255);
    lab.host("h2").thaw();
    ssh(&lab, "h2", "true").ok();
}

#[test]
fn what_was_started_on_a_host_ends_with_it() {
    let mut lab = SshLab::start(1);
    ssh(&lab, "h1", "setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!").ok();
    let processes = lab.host("h1").machine().processes();
    assert!(processes.len() >= 2, "{processes:?}");
    lab.host_mut("h1").stop();
    assert!(processes.iter().all(|id| !std::path::Path::new(&format!("/proc/{id}/exe")).exists()));
}

#[test]
fn hosts_behind_a_jump_host_are_reached_through_it_alone() {
    let lab = SshLab::start_behind_jump(2);
    ssh(&lab, "jump", "true").ok();
    ssh(&lab, "h2", "echo $HOSTROOT").ok().stdout_has("/h2/root");
    assert!(!lab.host("h1").answers());
    Outcome::of(Command::new("ssh").arg("-F").arg(lab.ssh_config()).args([
        "-o",
        "ProxyJump=none",
        "-o",
        "ConnectTimeout=3",
        "h1",
        "true",
    ]))
    .code(255);
    assert_eq!(lab.host("jump").logins(), 2);
}

#[test]
fn the_locked_key_needs_its_passphrase() {
    let lab = SshLab::start(1);
    let identity = format!("IdentityFile={}", lab.locked_identity().display());
    let with = |askpass: &str| {
        let script = lab.host("h1").root().join("askpass");
        std::fs::write(&script, format!("#!/bin/sh\ncat <<'E'\n{askpass}\nE\n"))
            .expect("the lab's directory can be written to");
        drop(Command::new("chmod").arg("755").arg(&script).status());
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg("/dev/null").args([
            "-o",
            &identity,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "NumberOfPasswordPrompts=1",
        ]);
        ssh.arg("-o")
            .arg(format!("UserKnownHostsFile={}", lab.known_hosts().display()))
            .env("SSH_ASKPASS", &script)
            .env("SSH_ASKPASS_REQUIRE", "force");
        let host = lab.host("h1");
        Outcome::of(ssh.args(["-p", &host.port().to_string(), &format!("root@{}", host.address()), "echo in"]))
    };
    with(PASSWORD).ok().stdout_has("in");
    with("wrong").code(255).stderr_has("Permission denied");
}
