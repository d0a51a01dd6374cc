//! A migration that is cut off in the middle of the copy: gone on with, it ends well; taken back, all is as it was.

use std::time::Duration;

use runbook_tests::{Tree, wait_until};
use rustix::process::Signal;

use crate::bench::{Bench, assert_same, noise};
use crate::migrate::{MOVE, assert_moved};

/// Starts a migration, and sends a signal when half a copy is on the disk.
fn cut_off(bench: &Bench, signal: Signal) -> runbook_tests::Outcome {
    // Enough that the copy, and its comparison, take their time.
    std::fs::write(bench.volume("old").join("big"), noise(192 << 20, 3)).expect("the volume can be written to");
    bench.runbook(MOVE);
    let mut running = bench.env.start(&["exec", "r.toml", "--yes"]);
    // The copying pod keeps a mark in the new volume until both sides were compared.
    let mark = bench.volume("new1").join(".runbook-migrate");
    wait_until("the copy is under way", Duration::from_secs(150), || {
        assert!(running.is_running(), "it ended before it copied anything");
        mark.exists()
    });
    running.signal(signal);
    running.wait()
}

#[test]
fn after_a_kill() {
    let bench = Bench::with_chime();
    let killed = cut_off(&bench, Signal::KILL);
    assert_eq!(killed.signal, Some(9), "{killed}");
    let was = Tree::of(bench.volume("old"));
    assert_eq!(bench.cluster.get("deployment/chime").expect("it is there")["spec"]["replicas"], 0, "nobody woke it up");
    // Nobody begins anew on top of it.
    bench.exec().code(4).stderr_has("runbook resume");
    bench.resume().ok();
    assert_moved(&bench, &was);
    bench.exec_again_changes_nothing();
}

#[test]
fn after_an_interrupt() {
    let bench = Bench::with_chime();
    let cancelled = cut_off(&bench, Signal::INT).code(6);
    let was = Tree::of(bench.volume("old"));
    // Whoever pressed Ctrl-C finds the house as it was: the workload runs on its old volume.
    bench.settle();
    assert_eq!(bench.cluster.get("deployment/chime").expect("it is there")["spec"]["replicas"], 1, "{cancelled}");
    let claim = bench.cluster.get("pvc/chime").expect("it is there");
    assert_eq!(claim["spec"]["storageClassName"], "microk8s-hostpath");
    bench.resume().ok();
    assert_moved(&bench, &was);
    bench.exec_again_changes_nothing();
}

#[test]
fn taken_back_after_a_kill() {
    let bench = Bench::with_chime();
    let before = bench.shapes();
    let killed = cut_off(&bench, Signal::KILL);
    assert_eq!(killed.signal, Some(9), "{killed}");
    let was = Tree::of(bench.volume("old"));
    bench.undo().ok();
    bench.settle();
    // A claim goes when the last pod that mounts it has gone. The lab has no provisioner, whose part it is then to do away with the
    // volume.
    bench.cluster.wait_absent("pvc/chime-mig");
    bench.cluster.kubectl(&["delete", &format!("pv/{}-new1", bench.cluster.namespace())]);
    std::fs::remove_dir_all(bench.volume("new1")).expect("the volume can be removed");
    std::fs::create_dir(bench.volume("new1")).expect("the volume can be made anew");
    bench.cluster.apply("volumes.yaml");
    assert_same(&before, &bench.shapes());
    was.assert_unchanged();
    bench.exec().ok();
    assert_moved(&bench, &was);
}
