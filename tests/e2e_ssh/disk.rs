//! Files on the disks of hosts: large ones, checked ones, and disks that are full.

use runbook_model::event::StepOutcome;
use runbook_tests::{LOGIN_FREE, SshLab, TestEnv};
use sha2::{Digest as _, Sha256};

use crate::support::{assert_as_before, changes, ended, runbook, stat, text};

/// Bytes that do not compress and are the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(size / 8).flatten().collect()
}

#[test]
fn a_large_file_arrives_as_it_is_and_goes_once() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    let content = noise(64 << 20);
    env.write("volume.img", &content);
    let steps = "[[step]]\nid = \"push\"\nuses = \"core/file\"\non = [\"h1\", \"h2\"]\nwith = { path = \"/srv/volume.img\", source = \"volume.img\", \
                 mode = \"0600\", owner = \"rbtest\", group = \"rbplain\" }\n";
    env.write("x.toml", runbook(&lab, LOGIN_FREE, "become = \"sudo\"", steps));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    for host in ["h1", "h2"] {
        let bytes = std::fs::read(lab.host(host).path("/srv/volume.img")).expect("it was pushed");
        assert_eq!(hex::encode(Sha256::digest(&bytes)), hex::encode(Sha256::digest(&content)));
        assert_eq!(stat(&lab, host, "%a %U %G", "/srv/volume.img"), "600 rbtest rbplain");
        let left: Vec<_> = std::fs::read_dir(lab.host(host).path("/srv"))
            .expect("it is there")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["volume.img"], "nothing else is left");
    }
    let settled = changes(&lab);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");
    assert_as_before(&lab, &settled);

    // One byte in the middle is another file.
    let mut other = content;
    other[32 << 20] ^= 1;
    env.write("volume.img", &other);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    let bytes = std::fs::read(lab.host("h2").path("/srv/volume.img")).expect("it was pushed");
    assert_eq!(Sha256::digest(&bytes), Sha256::digest(&other));
}

#[test]
fn a_file_that_its_check_refuses_leaves_the_old_one() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    lab.host("h1").machine().put("/etc/app.sh", "echo old\n", 0o644);
    let steps = |content: &str| {
        format!(
            "[[step]]\nid = \"checked\"\nuses = \"core/file\"\non = \"h1\"\nwith = {{ path = \"/etc/app.sh\", content = \"{content}\", validate = \
             [\"sh\", \"-n\", \"{{}}\"] }}\n"
        )
    };
    env.write("bad.toml", runbook(&lab, "root", "", &steps("if then\\n")));
    let before = changes(&lab);
    env.run(&["exec", "bad.toml"])
        .code(1)
        .last_line("failed: 1 steps, 0 changed, 0 unchanged, 0 skipped, 1 failed")
        .stderr_has("Syntax error");
    assert_as_before(&lab, &before);
    assert_eq!(ended(&env.journal(), "checked", "h1").0, StepOutcome::Failed);
    env.write("good.toml", runbook(&lab, "root", "", &steps("echo new\\n")));
    env.run(&["exec", "good.toml"]).ok();
    assert_eq!(text(&lab, "h1", "/etc/app.sh"), "echo new\n");
}

#[test]
fn a_full_disk_is_said_and_the_old_file_stays() {
    let (lab, env) = (SshLab::start(2), TestEnv::new());
    let machine = lab.host("h1").machine();
    assert!(machine.run(&["mkdir", "-p", "/srv/small"]).status.success());
    assert!(machine.run(&["mount", "-t", "tmpfs", "-o", "size=256k", "none", "/srv/small"]).status.success());
    machine.put("/srv/small/data", "old\n", 0o644);
    env.write("data.bin", noise(4 << 20));
    let steps = "[[step]]\nid = \"folder\"\nuses = \"core/directory\"\non = [\"h1\", \"h2\"]\nwith = { path = \"/srv/small\" }\n\n[[step]]\nid = \
                 \"push\"\nuses = \"core/file\"\non = [\"h1\", \"h2\"]\nwith = { path = \"/srv/small/data\", source = \"data.bin\" }\n";
    env.write("x.toml", runbook(&lab, "root", "", steps));
    env.run(&["exec", "x.toml"])
        .code(1)
        .last_line("failed: 2 steps, 1 changed, 0 unchanged, 0 skipped, 1 failed")
        .stderr_has("No space left on device");
    assert_eq!(text(&lab, "h1", "/srv/small/data"), "old\n");
    let left: Vec<_> = std::fs::read_dir(lab.host("h1").path("/srv/small"))
        .expect("it is there")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["data"], "nothing half is left");
    assert_eq!(ended(&env.journal(), "push", "h2").0, StepOutcome::Changed, "the other host is finished");
}

#[test]
fn special_bits_links_and_odd_names() {
    let (lab, env) = (SshLab::start(1), TestEnv::new());
    let odd = "/srv/a b$(x)'é;*";
    let steps = format!(
        "[[step]]\nid = \"sticky\"\nuses = \"core/directory\"\non = \"h1\"\nwith = {{ path = \"/srv/drop\", mode = \"1777\" }}\n\n[[step]]\nid = \
         \"odd\"\nuses = \"core/file\"\non = \"h1\"\nwith = {{ path = \"{odd}\", content = \"odd\\n\", mode = \"4755\" }}\n\n[[step]]\nid = \
         \"dangling\"\nuses = \"core/link\"\non = \"h1\"\nwith = {{ path = \"/srv/link\", target = \"../nowhere at all\" }}\n\n[[step]]\nid = \
         \"gone\"\nuses = \"core/absent\"\non = \"h1\"\nwith = {{ path = \"/srv/tree\" }}\n"
    );
    lab.host("h1").machine().put("/srv/tree/deep/file", "x", 0o600);
    env.write("x.toml", runbook(&lab, "root", "", &steps));
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 4 steps, 4 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(
        (stat(&lab, "h1", "%a", "/srv/drop"), stat(&lab, "h1", "%a", odd)),
        ("1777".to_owned(), "4755".to_owned())
    );
    assert_eq!(text(&lab, "h1", odd), "odd\n");
    assert_eq!(std::fs::read_link(lab.host("h1").path("/srv/link")).ok(), Some("../nowhere at all".into()));
    assert!(!lab.host("h1").path("/srv/tree").exists());
    let settled = changes(&lab);
    env.run(&["exec", "x.toml"]).ok().last_line("succeeded: 4 steps, 0 changed, 4 unchanged, 0 skipped, 0 failed");
    assert_as_before(&lab, &settled);
}
