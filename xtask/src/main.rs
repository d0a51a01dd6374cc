//! Chores of this repository that take longer than a test may.
//!
//! `cargo xtask soak [SEEDS]` looks for runs that do not come to their end:
//!
//! 1. SEEDS evenings (10,000 where left out) in the simulated world, in which calls are lost or take hours, and the process is killed and
//!    gone on with at once or days later; how many sessions, cuts and hours that were is told;
//! 2. runs on real SSH hosts, on nodes with containerd and with pulumi, killed after every record of their journals and resumed, or with their
//!    connections broken in many more places;
//! 3. runs on a real Kubernetes, killed before and after every change, resumed and taken back; and `runbooks/dr.toml`, killed after every
//!    record and resumed, which takes hours.
//! 4. every fuzz target with new inputs, ten minutes each; `cargo xtask soak fuzz [SECONDS]` does this alone.
//!
//! The second and third part need root, and what `tests/run ssh kube` installs; the fourth a nightly compiler and cargo-fuzz.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds for each fuzz target.
const FUZZING: u64 = 600;

/// Name of the cluster.
const CLUSTER: &str = "soak";

/// What makes the tests kill runs after every record.
const EVERY_CUT: &str = "RUNBOOK_SOAK_EVERY_CUT";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // None: fuzzing alone.
    let (seeds, seconds) = match args[..] {
        ["soak"] => (Some(10_000), FUZZING),
        ["soak", "fuzz"] => (None, FUZZING),
        ["soak", "fuzz", seconds] => match seconds.parse() {
            Ok(seconds) => (None, seconds),
            Err(_) => return usage(),
        },
        ["soak", seeds] => match seeds.parse() {
            Ok(seeds) => (Some(seeds), FUZZING),
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    if env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).is_err() {
        say("the repository is not where it was compiled");
        return ExitCode::FAILURE;
    }
    let simulated = || simulation(seeds.unwrap_or_default());
    let fuzzed = || fuzzing(seconds);
    let mut parts: Vec<(&str, &dyn Fn() -> bool)> = Vec::new();
    if seeds.is_some() {
        parts.extend([
            ("simulated evenings", &simulated as _),
            ("SSH hosts", &hosts as _),
            ("Kubernetes", &cluster as _),
        ]);
    }
    parts.push(("fuzzing", &fuzzed));
    let mut failed = 0;
    for (name, part) in &parts {
        let started = Instant::now();
        let well = part();
        failed += usize::from(!well);
        say(&format!("{name}: {} after {} s", if well { "well" } else { "FAILED" }, started.elapsed().as_secs()));
    }
    say(&format!("{} passed, {failed} failed", parts.len() - failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    say("usage: cargo xtask soak [SEEDS], or cargo xtask soak fuzz [SECONDS]");
    ExitCode::from(2)
}

#[allow(clippy::print_stderr, reason = "a program for developers")]
fn say(line: &str) {
    eprintln!("xtask: {line}");
}

fn ends_well(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            say(&format!("{}: {error}", command.get_program().to_string_lossy()));
            false
        }
    }
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    command.args(args);
    command
}

/// Others than last time: the first seed is the time of day.
fn simulation(seeds: u64) -> bool {
    let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    say(&format!("seeds {first} to {}", first + seeds));
    let mut tests =
        cargo(&["test", "--package", "runbook-engine", "--test", "durable", "simulation", "--", "--nocapture"]);
    ends_well(tests.env("RUNBOOK_SOAK_FIRST_SEED", first.to_string()).env("RUNBOOK_SOAK_SEEDS", seeds.to_string()))
}

fn program() -> bool {
    ends_well(&mut cargo(&["build", "--package", "runbook-cli"]))
}

fn hosts() -> bool {
    let parts = [
        ("e2e_ssh", "durable"),
        ("e2e_ssh", "wires"),
        ("e2e_registry", "killed_on_the_way"),
        ("e2e_pulumi", "killed_on_the_way"),
    ];
    program()
        && parts.iter().all(|(test, part)| {
            let args = ["test", "--package", "runbook-tests", "--features", "lab-ssh", "--test", test, part];
            ends_well(cargo(&args).env(EVERY_CUT, "1"))
        })
}

fn cluster() -> bool {
    let lab = |verb: &[&str]| ends_well(Command::new("tests/kube-lab/lab").args(verb).arg(CLUSTER));
    let tests = format!(
        "eval \"$(tests/kube-lab/lab env {CLUSTER})\" && for part in durable mishaps blocks interrupted dr; do cargo test --package runbook-tests \
         --features lab-kube --test e2e_kube $part -- --test-threads 1 || exit 1; done"
    );
    let well =
        program() && lab(&["up", "full"]) && ends_well(Command::new("sh").args(["-c", &tests]).env(EVERY_CUT, "1"));
    lab(&["down"]) && well
}

/// Each target for so many seconds. What is new goes below `target`, so that only who minimises it changes the repository's corpora.
fn fuzzing(seconds: u64) -> bool {
    let Ok(programs) = std::fs::read_dir("fuzz/libfuzzer/fuzz_targets") else { return false };
    let name = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = programs.flatten().filter_map(|program| name(&program.path())).collect();
    names.sort();
    let fuzz = |name: &str| {
        let found = format!("libfuzzer/target/soak/{name}");
        let mut run = Command::new("cargo");
        run.args(["+nightly", "fuzz", "run", "--fuzz-dir", "libfuzzer", name, &found, &format!("corpus/{name}"), "--"]);
        run.args([&format!("-max_total_time={seconds}"), "-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1"]);
        std::fs::create_dir_all(Path::new("fuzz").join(&found)).is_ok() && ends_well(run.current_dir("fuzz"))
    };
    let failed: Vec<&String> = names.iter().filter(|name| !fuzz(name)).collect();
    failed.iter().for_each(|name| say(&format!("{name}: the input is below fuzz/libfuzzer/artifacts/{name}")));
    failed.is_empty()
}
